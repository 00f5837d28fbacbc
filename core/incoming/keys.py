"""What the keys of a state dict tell: its layers, their order, their normalization, and where there is room between
them. What is not understood is refused; nothing is left out in silence.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import torch
from torch import Tensor

from core.mathematics.costs import LAYERS
from core.networks.graph import BaselineError
from core.networks.models import Tensors
from core.networks.operations import Shape

ROADS = (
    "An ONNX file of the network (torch.onnx.export), or the module itself (FILE.py:CLASS --weights FILE.pt), says "
    "what it computes and leaves nothing to guess."
)

FAMILIES = (
    "A state dict alone is read as convolutions one after another (stride 1 or 2, depthwise ones too, other groups "
    f"not), then linear layers. {ROADS}"
)

ORDERS = 10_000
"""Steps in the search for the order of layers whose keys were sorted."""

BEFORE, BEHIND, AFTER = "before the activation", "behind the activation", "behind the pooling"
"""Where a normalization stands."""

Groups = Mapping[str, Mapping[str, Tensor]]
"""Prefix -> part -> tensor."""

_PARTS = {"weight", "bias"}
_NORM_PARTS = {*_PARTS, "running_mean", "running_var", "num_batches_tracked"}

_CAUSES = {
    r"weight_g$": "weight normalization keeps a weight in two parts: remove_weight_norm(layer) joins them",
    r"weight_u$": "spectral normalization divides the weight: remove_spectral_norm(layer) does it for good",
    r"_orig$|_mask$": "torch.nn.utils.prune keeps weights and masks apart: prune.remove(layer, NAME) joins them",
    r"parametrizations": "a parametrization makes the weight anew each time: parametrize.remove_parametrizations "
    "leaves what it makes",
    r"post_process|fake_quant|observer|_packed_params|zero_point": "it was prepared for quantization by torch: only "
    "its own program knows what it computes. Save the float network",
    r"_l\d+$|in_proj": "recurrent layers and attention are not known here",
}
"""What a key is a sign of, and the way out."""


class Norm(NamedTuple):
    """A batch normalization. parts : its tensors; spots : where the names let it stand, the likeliest first"""

    name: str
    parts: Mapping[str, Tensor]
    spots: tuple[str, ...]

    @property
    def increasing(self) -> bool:
        """Whether it turns no channel around: then it may change places with max pooling."""
        return "weight" not in self.parts or bool(self.parts["weight"].min() >= 0)


@dataclass(frozen=True, eq=False)
class Link:
    """A layer of the chain. weight : (out, in) or (out, in / groups, height, width)
    room : so many steps without tensors stand between it and the next layer; None where the names do not tell
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    norm: Norm | None
    room: int | None

    @property
    def shape(self) -> Shape:
        return tuple(self.weight.shape)

    @property
    def kernel(self) -> tuple[int, int]:
        return self.shape[2], self.shape[3]


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions, then linear layers."""

    links: tuple[Link, ...]

    @property
    def convolutions(self) -> tuple[Link, ...]:
        return tuple(link for link in self.links if len(link.shape) == 4)

    @property
    def linear(self) -> tuple[Link, ...]:
        return tuple(link for link in self.links if len(link.shape) == 2)


def layers(state: Tensors) -> Chain:
    """The layers of a state dict, under their names and in their order.

    That is the order of the state dict, numbered ones of a sequence in the order of their numbers. A group with
    `running_mean` normalizes the layer right before it, or the one whose name has its number. Where a tool has sorted
    the keys, what follows what is told by numbers and widths. Raises BaselineError where that is no chain, and where
    something stands beside a weight that may change it.
    """
    groups = _groups(state)
    sorted_keys = _are_sorted(state)
    names = [name for name, group in groups.items() if "running_mean" not in group]
    if len(names) > LAYERS:
        raise BaselineError(f"This network is too large. It has {len(names):,} layers; a network may have {LAYERS}.")
    norms = _paired(groups, names, adjacent=not sorted_keys)
    names = _in_order(groups, names) if sorted_keys else names
    kinds = [groups[name]["weight"].dim() for name in names]
    if not names or kinds != sorted(kinds, reverse=True):
        raise BaselineError(
            "A network must be convolutions and then linear layers, at least one layer. Convolutions of this state "
            f"dict: {kinds.count(4)}; linear layers: {kinds.count(2)}. {FAMILIES}"
        )
    places = zip(names, [*names[1:], ""], strict=True)
    return Chain(tuple(_link(groups, name, following, norms.get(name, "")) for name, following in places))


def _link(groups: Groups, name: str, following: str, norm: str) -> Link:
    """following : the next layer, "" for none; norm : its normalization, "" for none. Raises BaselineError."""
    group, parts = groups[name], groups.get(norm, {})
    shape, bias = tuple(group["weight"].shape), group.get("bias")
    if bias is not None and tuple(bias.shape) != shape[:1]:
        raise BaselineError(f"{name}.bias must have shape {shape[:1]}. Got {tuple(bias.shape)} instead.")
    known = [tuple(parts[part].shape) for part in parts if part != "num_batches_tracked"]
    if norm and ("running_var" not in parts or set(known) != {shape[:1]}):
        raise BaselineError(f"{norm} must hold mean and variance of the {shape[0]} channels of {name}.")
    gap = _steps_between(name, norm)
    behind = _steps_between(name if gap is None else norm, following)
    if behind is not None and len(shape) == 4 and groups[following]["weight"].dim() == 2:
        behind = max(0, behind - 1)  # the flatten that stands there, too
    room = None if behind is None or not _has_gaps(groups, name) else behind + (gap or 0)
    return Link(name, group["weight"], bias, Norm(norm, parts, _spots(gap, behind)) if norm else None, room)


def _steps_between(first: str, second: str) -> int | None:
    """How many places of a sequence are between two names; None where they are not in one."""
    if not _in_sequence(second) or _parent(first) != _parent(second):
        return None
    return (_number(second) or 0) - (_number(first) or 0) - 1


def _has_gaps(groups: Groups, name: str) -> bool:
    """Whether some places of its sequence hold no tensors: then the sequence tells what stands between its layers."""
    numbers = [_number(other) or 0 for other in groups if _parent(other) == _parent(name)]
    return max(numbers) - min(numbers) >= len(numbers)


def _spots(gap: int | None, behind: int | None) -> tuple[str, ...]:
    """Where a normalization may stand. gap, behind : places between its layer and it, and between it and the next"""
    if gap is None:
        return BEFORE, BEHIND, AFTER
    if gap == 0:
        return (BEFORE,)
    return (BEHIND, *([AFTER] if gap > 1 else []), *([BEFORE] if behind else []))


def _groups(state: Tensors) -> dict[str, dict[str, Tensor]]:
    """Layers and normalizations in their order, and nothing that is not understood. Raises BaselineError."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        _check_tensor(key, tensor)
        prefix, _, part = key.rpartition(".")
        groups.setdefault(prefix, {})[part] = tensor.detach().cpu()
    for prefix, group in groups.items():
        _check_group(prefix, group, state)
    seen = {parent: place for place, parent in reversed(list(enumerate(map(_parent, groups))))}
    order = sorted(groups, key=lambda name: (seen[_parent(name)], _number(name) if _in_sequence(name) else 0))
    return {name: groups[name] for name in order}


def _check_group(prefix: str, group: Mapping[str, Tensor], state: Tensors) -> None:
    """Raises BaselineError where it is neither a layer nor a normalization, or has more than these have."""
    more = sorted(set(group) - (_NORM_PARTS if "running_mean" in group else _PARTS))
    if more or "weight" not in group:
        _check_known(prefix, state)
    first = f"{prefix}.{next(iter(more or group))}".lstrip(".")
    if "weight" in group and more:
        raise BaselineError(
            f"{first} stands beside a weight and may change it, as a mask, a scale or an adapter does. Multiply it "
            "into the weight before the state dict is saved; leave it out where it changes nothing."
        )
    if "running_mean" not in group and ("weight" not in group or group["weight"].dim() not in (2, 4)):
        raise BaselineError(
            f"{first} belongs to no layer that is known here: it is neither linear, convolution nor batch "
            "normalization. Where the network computes without it, leave it out of the state dict."
        )
    if "running_mean" in group and group["running_mean"].dim() != 1:
        shape = tuple(group["running_mean"].shape)
        raise BaselineError(f"{prefix}.running_mean must hold a mean for each channel. Got shape {shape} instead.")
    for part in _PARTS & set(group):
        if not group[part].is_floating_point():
            raise BaselineError(
                f"{prefix}.{part} holds whole numbers ({group[part].dtype}): only its quantizer knows what they "
                "stand for. Save the float weights, or dequantize them first."
            )


def _check_known(prefix: str, state: Tensors) -> None:
    """Raises BaselineError where a key at this place is a sign of a technique that has its own way out."""
    here = [key for key in state if key.startswith(f"{prefix}." if prefix else "")]
    for sign, cause in _CAUSES.items():
        for key in here:
            if re.search(sign, key):
                raise BaselineError(f"{key} is no plain weight: {cause}.")


def _check_tensor(key: object, tensor: Tensor) -> None:
    """Raises BaselineError where it is no dense tensor of real numbers with a name."""
    kind = (
        "has no name" if not isinstance(key, str)
        else "has a shape and no numbers (meta). Save the state dict of the network with its weights" if tensor.is_meta
        else f"is sparse ({tensor.layout}). Save it with .to_dense()" if tensor.layout != torch.strided
        else "holds complex numbers" if tensor.is_complex()
        else ""
    )  # fmt: skip
    if kind:
        raise BaselineError(f"A state dict must map names to dense tensors of real numbers. {key!r} {kind}.")


def _are_sorted(state: Tensors) -> bool:
    """Whether a tool has sorted the keys, as safetensors does: then a bias stands before its weight, as in no module,
    and neighbours are none."""
    return list(state) == sorted(state) and any(key.endswith(".bias") and f"{key[:-4]}weight" in state for key in state)


def _in_order(groups: Groups, names: Sequence[str]) -> list[str]:
    """Layers whose keys were sorted, as numbers in their names and widths say: each reads what the one before it gives.
    As they are where nothing fits, which their shapes then say. Raises BaselineError where more than one order does."""
    whole = sorted(names, key=_natural)
    shapes = {name: tuple(groups[name]["weight"].shape) for name in whole}
    orders = list(islice(_orders(whole, shapes, None, count()), 2))
    if len(orders) > 1:
        first, second = next(pair for pair in zip(*orders, strict=True) if len(set(pair)) > 1)
        raise BaselineError(
            f"The keys of this state dict were sorted, and nothing says whether {first} or {second} comes first: their "
            "widths allow both. Save it in the order in which its layers were declared: torch.save(model.state_dict(), "
            "FILE)."
        )
    return orders[0] if orders else sorted(whole, key=lambda name: -len(shapes[name]))


def _orders(
    names: Sequence[str], shapes: Mapping[str, Shape], before: Shape | None, steps: Iterator[int]
) -> Iterator[list[str]]:
    """Every order in which each layer reads what the one before it gives; layers whose names differ by numbers alone
    stay in the order of these. Raises BaselineError after `ORDERS` steps."""
    if next(steps) > ORDERS:
        raise BaselineError(
            "The keys of this state dict were sorted, and the widths of its layers do not tell their order. Save it in "
            "the order in which they were declared: torch.save(model.state_dict(), FILE)."
        )
    if not names:
        yield []
    for name in {_stem(name): name for name in reversed(names)}.values():  # of each kind of name the lowest number
        if before is None or _reads(shapes[name], before):
            left = [other for other in names if other != name]
            for rest in _orders(left, shapes, shapes[name], steps):
                yield [name, *rest]


def _reads(shape: Shape, before: Shape) -> bool:
    """Whether a layer can read what a layer gives. shape, before : of their weights"""
    if len(shape) == len(before):
        return shape[1] == before[0] or depthwise(shape, before[0])
    return len(shape) == 2 and bool(before[0]) and shape[1] % before[0] == 0


def depthwise(shape: Shape, channels: int) -> bool:
    """Whether a convolution, (out, 1, height, width), reads each of so many channels alone."""
    return len(shape) == 4 and shape[1] == 1 and shape[0] == channels > 1


def _stem(name: str) -> str:
    """Without its numbers."""
    return re.sub(r"\d+", "#", name)


def _natural(name: str) -> list[tuple[int, str]]:
    """For sorting: 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _in_sequence(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def _parent(name: str) -> str:
    """Of a numbered place in a sequence the sequence, of another name itself."""
    return name.rpartition(".")[0] + "." if _in_sequence(name) else name


def _number(name: str) -> int | None:
    """At the end of a name: 3 of "features.3", 2 of "bn2"."""
    digits = re.search(r"(\d+)$", name)
    return None if digits is None else int(digits[1])


def _paired(groups: Groups, names: Sequence[str], adjacent: bool) -> dict[str, str]:
    """Layer -> its normalization: the one right after it, or the one with its number. Raises BaselineError.

    names : of the layers
    adjacent : whether neighbours of the state dict are neighbours in the network; those of a sequence always are
    """
    pairs: dict[str, str] = {}
    for before, name in zip([None, *groups], groups, strict=False):
        if name in names:
            continue
        width = len(groups[name]["running_mean"])
        alike = [
            other for other in names
            if other not in pairs and _number(other) == _number(name) is not None and not _in_sequence(other)
            and len(groups[other]["weight"]) == width
        ]  # fmt: skip
        beside = before if before in names and before not in pairs else None
        if beside is not None and not adjacent and _steps_between(beside, name) is None:
            beside = None
        if beside is None or (beside not in alike and len(alike) == 1):
            if len(alike) != 1:
                raise BaselineError(
                    f"{name} is a batch normalization, and nothing says of which layer: it must stand right after it "
                    f"in the state dict, or end in the same number. {ROADS}"
                )
            beside = alike[0]
        pairs[beside] = name
    return pairs
