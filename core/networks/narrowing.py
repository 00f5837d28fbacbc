"""Whole output channels removed: which are tied, which stay, and the smaller network that is left, without zeros.

A channel is an output of a convolution or a neuron of a linear layer. With it go its row of the weight, its bias, and
the columns of every layer that reads it: height * width of a convolution, one of a linear layer, and behind a flatten
one per pixel (a channel before `fc1` of the shipped CNN owns 49). Where an addition or a depthwise convolution ties
channels of several layers, they go together. Source: Li et al. 2017; of tied groups: Fang et al. 2023 (DepGraph).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from core.config import CompressionConfig, ConfigError
from core.mathematics import pruning
from core.mathematics.low_rank import as_matrix
from core.networks import graph
from core.networks.graph import IMAGE, Layer, Network
from core.networks.models import Baseline

Kept = Mapping[str, Tensor]
"""Layer name -> indices of the output channels that stay, rising; for every layer."""

Means = Callable[[], Mapping[str, Tensor]]
"""E[x] of what a layer's weight is multiplied with, by layer; asked for only where channels go by their activation."""


def l1(weight: Tensor) -> Tensor:
    """score of a channel = mean |w| over its row: the L1 norm, comparable between layers of one width. (out,)"""
    return as_matrix(weight).abs().mean(1)


@dataclass(frozen=True, eq=False)
class Group:
    """Layers whose outputs are the same channels, which can only go together.

    layers : their names, in their order; channels : the numbers of their channels, as in `Channels.of`
    least : so many stay: 2 where a convolution has groups, which is none any more with one
    """

    layers: tuple[str, ...]
    channels: Tensor
    least: int = 1


class Channels:
    """Which channels of a network are the same: every channel has a number, and those that are tied have one together.

    of : node or image -> number of each of its output channels; behind a flatten, of each feature
    fixed : bool by number, of those that cannot go: of the image, of the classes, and of what a convolution with groups
        of several channels reads and puts out
    """

    def __init__(self, network: Network) -> None:
        self.network, self._same = network, list(range(network.shape[0]))
        of, fixed = {IMAGE: torch.arange(network.shape[0])}, [*range(network.shape[0])]
        for node in network.nodes:
            inputs, shapes = [of[name] for name in node.inputs], [network.shapes[name] for name in node.inputs]
            if node.row.channels is None:
                groups = node["groups"] if node.operation == "convolution" else 1
                of[node.name] = self._of_layer(network.shapes[node.name][0], groups, inputs[0], fixed)
            else:
                of[node.name] = node.row.channels(shapes, *inputs)
            if node.operation == "add":
                self._tie(*inputs)
        fixed += of[network.output].tolist()
        roots = torch.tensor([self._root(number) for number in range(len(self._same))])
        self.of = {name: roots[numbers] for name, numbers in of.items()}
        self.fixed = torch.zeros(len(roots), dtype=torch.bool)
        self.fixed[roots[fixed]] = True

    def _of_layer(self, outputs: int, groups: int, inputs: Tensor, fixed: list[int]) -> Tensor:
        """New ones; those of its input where a convolution is depthwise."""
        if groups > 1 and groups == len(inputs):
            return inputs.repeat_interleave(outputs // groups)
        numbers = range(len(self._same), len(self._same) + outputs)
        self._same += numbers
        fixed += [*numbers, *inputs.tolist()] if groups > 1 else []
        return torch.tensor(numbers)

    def _tie(self, first: Tensor, second: Tensor) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self._same[self._root(other)] = self._root(one)

    def _root(self, number: int) -> int:
        while self._same[number] != number:
            self._same[number] = number = self._same[self._same[number]]
        return number

    def reads(self, layer: Layer) -> Tensor:
        """The channel of each number that the layer reads, at one place of a convolution."""
        return self.of[layer.node.inputs[0]]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Of channels that can go, in the order of their first layers. All members of a group have the same channels,
        in the same order; where they overlap otherwise (an addition behind a concatenation), none can go."""
        together: list[tuple[list[str], set[int]]] = []
        for layer in self.network.layers:
            numbers = set(self.of[layer.name].tolist())
            touching = [part for part in together if part[1] & numbers]
            together = [part for part in together if part not in touching]
            names = [name for part in touching for name in part[0]]
            together.append(([*names, layer.name], numbers.union(*(part[1] for part in touching))))
        groups = []
        for names, numbers in together:
            rows = [self.of[name].unique_consecutive() for name in names]
            alike = all(torch.equal(rows[0], other) for other in rows) and len(rows[0]) == len(numbers)
            if alike and not self.fixed[rows[0]].any():
                grouped = any(layer.groups > 1 for layer in self.network.layers if layer.name in names)
                groups.append(Group(tuple(names), rows[0], 2 if grouped else 1))
        order = [layer.name for layer in self.network.layers]
        return tuple(sorted(groups, key=lambda group: order.index(group.layers[0])))

    @cached_property
    def group_of(self) -> dict[str, Group]:
        """Layer -> its group; no layer of which no channel can go."""
        return {name: group for group in self.groups for name in group.layers}

    def readers(self, group: Group) -> list[Layer]:
        """Layers whose input holds channels of the group."""
        return [layer for layer in self.network.layers if torch.isin(self.reads(layer), group.channels).any()]


@lru_cache(maxsize=32)
def channels_of(network: Network) -> Channels:
    """Found once for a network: every move of a slider asks for them."""
    return Channels(network)


def asked(group: Group, config: CompressionConfig) -> int | None:
    """The number of channels that the group's layers are to keep; None where none says one. Raises ConfigError where
    two say different ones."""
    said = {name: config.layer(name).channels for name in group.layers}
    numbers = {name: count for name, count in said.items() if count is not None}
    if len(set(numbers.values())) > 1:
        counts = " and ".join(f"{count} of {name}" for name, count in numbers.items())
        raise ConfigError(f"channels of {', '.join(numbers)} must be one number: they are tied. Got {counts} instead.")
    return next(iter(numbers.values()), None)


def kept_channels(baseline: Baseline, config: CompressionConfig, means: Means) -> Kept:
    """The channels that stay: a group's own number, else its share of `config.channel_share`, those of highest score.

    With scope "layer" every group keeps the share, with "network" one threshold is put to all scores, each divided by
    its group's mean. At least one channel stays everywhere.
    """
    channels = channels_of(baseline.network)
    kept = {layer.name: torch.arange(layer.shape[0]) for layer in baseline.layers}
    numbers = [asked(group, config) for group in channels.groups]
    if config.channel_share is None and not any(numbers):
        return kept
    share = 1.0 if config.channel_share is None else config.channel_share
    scores = [_scores(baseline, channels, group, config.channel_score, means) for group in channels.groups]
    free = [place for place, number in enumerate(numbers) if number is None]
    if config.scope == "network" and share < 1 and free:
        relative = {str(place): scores[place] / scores[place].mean().clamp_min(1e-30) for place in free}
        counts = {int(place): int(mask.sum()) for place, mask in pruning.keep_masks(relative, 1 - share).items()}
    else:
        counts = {place: round(share * len(scores[place])) for place in free}
    alive = torch.ones(len(channels.fixed), dtype=torch.bool)
    for place, (group, number) in enumerate(zip(channels.groups, numbers, strict=True)):
        count = max(group.least, counts[place] if number is None else number)
        best = scores[place].sort(descending=True, stable=True).indices[:count]
        alive[group.channels] = False
        alive[group.channels[best]] = True
    return {name: torch.nonzero(alive[channels.of[name]]).flatten() for name in kept}


def _scores(baseline: Baseline, channels: Channels, group: Group, score: str, means: Means) -> Tensor:
    """Of the channels of a group, in their order: of its layers' rows, or of what layers that read them meet."""
    if score == "l1":
        rows = [
            l1(baseline.tensors[f"{name}.weight"]).reshape(len(group.channels), -1).mean(1) for name in group.layers
        ]
        return _together(rows)
    return _together([mean_activation(channels.reads(layer), means()[layer.name], group.channels)
                      for layer in channels.readers(group)])  # fmt: skip


def mean_activation(reads: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
    """score of a channel = |E[its output]|, after ReLU and pooling, as a layer meets it that reads it.

    reads : the channel of each of the layer's inputs; mean : E[x] of what its weight is multiplied with
    wanted : channels, one score for each
    """
    every = reads.repeat_interleave(mean.numel() // len(reads))
    places = torch.nonzero(torch.isin(every, wanted)).flatten()
    position = torch.zeros(int(max(every.max(), wanted.max())) + 1, dtype=torch.long)
    position[wanted] = torch.arange(len(wanted))
    order = places[position[every[places]].argsort(stable=True)]
    return mean.flatten()[order].reshape(len(wanted), -1).mean(1).abs()


def _together(scores: Sequence[Tensor]) -> Tensor:
    """One score for channels that have several: their sum, each over its mean."""
    if len(scores) == 1:
        return scores[0]
    return torch.stack([each / each.mean().clamp_min(1e-30) for each in scores]).sum(0)


def input_columns(network: Network, kept: Kept) -> dict[str, Tensor]:
    """Layer name -> columns of its weight, as a matrix, that stay: those that read a channel that stays. Of a grouped
    convolution the groups that stay."""
    channels = channels_of(network)
    alive, columns = _alive(channels, kept), {}
    for layer in network.layers:
        stays = alive[channels.reads(layer)]
        if layer.groups > 1 and layer.groups == len(stays):
            columns[layer.name] = torch.nonzero(stays).flatten()
        elif layer.groups > 1:
            columns[layer.name] = torch.arange(layer.groups)
        else:
            owned = layer.matrix_shape[1] // len(stays)
            columns[layer.name] = torch.nonzero(stays.repeat_interleave(owned)).flatten()
    return columns


def _alive(channels: Channels, kept: Kept) -> Tensor:
    """By number of channel, whether it stays."""
    alive = torch.ones(len(channels.fixed), dtype=torch.bool)
    for name, rows in kept.items():
        alive[channels.of[name]] = False
        alive[channels.of[name][rows]] = True
    return alive


def remove_channels(baseline: Baseline, kept: Kept) -> Baseline:
    """The smaller network: rows, biases and columns of what stays, cut out of the baseline's tensors.

    It puts out what the baseline does with the removed channels set to zero. The baseline itself where all stay.
    """
    if all(len(kept[layer.name]) == layer.shape[0] for layer in baseline.layers):
        return baseline
    channels = channels_of(baseline.network)
    columns, alive = input_columns(baseline.network, kept), _alive(channels, kept)
    tensors, groups = dict[str, Tensor](), dict[str, int]()
    for layer in baseline.layers:
        rows, stay = kept[layer.name], columns[layer.name]
        weight = as_matrix(baseline.weight(layer))[rows]
        if layer.groups == 1:
            weight = weight[:, stay]
        else:
            groups[layer.name] = len(stay)
        tensors[f"{layer.name}.weight"] = weight.reshape(len(rows), -1, *layer.shape[2:])
        tensors[f"{layer.name}.bias"] = baseline.bias(layer)[rows]
    for name in baseline.network.affine_shapes:
        node = name.rpartition(".")[0]
        tensors[name] = baseline.tensors[name][alive[channels.of[node]]]
    counts = {name: len(rows) for name, rows in kept.items()}
    return replace(baseline, tensors=tensors, graph=graph.resized(baseline.network, counts, groups))


def narrow(baseline: Baseline, config: CompressionConfig, means: Means) -> tuple[Baseline, dict[str, Tensor]]:
    """The baseline without the channels that the configuration removes, and the input columns left in each layer."""
    kept = kept_channels(baseline, config, means)
    return remove_channels(baseline, kept), input_columns(baseline.network, kept)
