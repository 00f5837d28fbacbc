"""Whole output channels removed: which stay, and the smaller network that is left. No zeros remain in it.

A channel is an output of a convolution or a neuron of a linear layer. With it go its row of the weight, its bias, and
the columns of the next layer that read it: k * k of a convolution, one of a linear layer, and after the last
convolution one per pixel (a channel before `fc1` of the shipped CNN owns 49). Source: Li et al. 2017.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from core.config import CompressionConfig
from core.mathematics import pruning
from core.mathematics.low_rank import as_matrix
from core.networks.models import Baseline, Layer

Kept = Mapping[str, Tensor]
"""Layer name -> indices of the output channels that stay, rising; for every layer."""


def l1(weight: Tensor) -> Tensor:
    """score of a channel = mean |w| over its row: the L1 norm, comparable between layers of one width. (out,)"""
    return as_matrix(weight).abs().mean(1)


def mean_activation(layer: Layer, following_mean: Tensor) -> Tensor:
    """score of a channel = E[its output], after ReLU and pooling, as the next layer meets it. (out,)

    following_mean : E[x] of the next layer's input, a column each, as from `low_rank.moments`
    """
    return following_mean.reshape(layer.shape[0], -1).mean(1)


def kept_channels(baseline: Baseline, config: CompressionConfig, means: Callable[[], Mapping[str, Tensor]]) -> Kept:
    """The channels that stay: a layer's own number, else its share of `config.channel_share`, those of highest score.

    With scope "layer" every layer keeps the share, with "network" one threshold is put to all scores, each divided by
    its layer's mean. At least one channel stays everywhere, and all of the last layer, which are the classes.

    means : E[x] by layer, asked for only where channels go by their activation
    """
    layers = baseline.layers
    free = [layer for layer in layers[:-1] if config.layer(layer.name).channels is None]
    kept = {layer.name: torch.arange(layer.shape[0]) for layer in layers}
    if config.channel_share is None and len(free) == len(layers) - 1:
        return kept
    scores = {
        layer.name: _scores(baseline, layer, following, config.channel_score, means)
        for layer, following in pairwise(layers)
    }
    share = 1.0 if config.channel_share is None else config.channel_share
    if config.scope == "network" and share < 1 and free:
        relative = {layer.name: scores[layer.name] / scores[layer.name].mean().clamp_min(1e-30) for layer in free}
        counts = {name: int(mask.sum()) for name, mask in pruning.keep_masks(relative, 1 - share).items()}
    else:
        counts = {layer.name: round(share * layer.shape[0]) for layer in free}
    for layer in layers[:-1]:
        asked = config.layer(layer.name).channels
        count = max(1, counts[layer.name] if asked is None else asked)
        best = scores[layer.name].sort(descending=True, stable=True).indices[:count]
        kept[layer.name] = best.sort().values
    return kept


def _scores(
    baseline: Baseline, layer: Layer, following: Layer, score: str, means: Callable[[], Mapping[str, Tensor]]
) -> Tensor:
    if score == "l1":
        return l1(baseline.tensors[f"{layer.name}.weight"])
    return mean_activation(layer, means()[following.name])


def input_columns(baseline: Baseline, kept: Kept) -> dict[str, Tensor]:
    """Layer name -> columns of its weight, as a matrix, that stay: those that read a channel that stays."""
    first = baseline.layers[0]
    columns = {first.name: torch.arange(first.matrix_shape[1])}
    for layer, following in pairwise(baseline.layers):
        owned = following.matrix_shape[1] // layer.shape[0]
        columns[following.name] = (kept[layer.name][:, None] * owned + torch.arange(owned)).flatten()
    return columns


def remove_channels(baseline: Baseline, kept: Kept) -> Baseline:
    """The smaller network: rows, biases and columns of what stays, cut out of the baseline's tensors.

    It puts out what the baseline does with the removed channels set to zero. The baseline itself where all stay.
    """
    if all(len(kept[layer.name]) == layer.shape[0] for layer in baseline.layers):
        return baseline
    columns, tensors = input_columns(baseline, kept), {}
    for layer in baseline.layers:
        rows = kept[layer.name]
        weight = as_matrix(baseline.tensors[f"{layer.name}.weight"])[rows][:, columns[layer.name]]
        tensors[f"{layer.name}.weight"] = weight.reshape(len(rows), -1, *layer.shape[2:])
        tensors[f"{layer.name}.bias"] = baseline.tensors[f"{layer.name}.bias"][rows]
    return Baseline(baseline.name, tensors)


def narrow(
    baseline: Baseline, config: CompressionConfig, means: Callable[[], Mapping[str, Tensor]]
) -> tuple[Baseline, dict[str, Tensor]]:
    """The baseline without the channels that the configuration removes, and the input columns left in each layer."""
    kept = kept_channels(baseline, config, means)
    return remove_channels(baseline, kept), input_columns(baseline, kept)
