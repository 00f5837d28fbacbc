"""State dicts of other people: their layers under our names, in their order, batch normalization folded into them.

What a state dict cannot tell - activations, pooling, the scale of the inputs - is taken as in `core.networks.chains`;
what it does tell is read or refused, and nothing is left out in silence.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

import torch
from torch import Tensor

from core.mathematics.costs import LAYERS
from core.networks import chains, models
from core.networks.graph import BaselineError, listed
from core.networks.models import Tensors

FAMILIES = (
    "Known are linear layers one after another, and two convolutions that keep the size of the image, without groups "
    "or strides, each with 2 x 2 pooling, before two linear layers."
)

ORDERS = 10_000
"""Steps in the search for the order of layers whose keys were sorted."""

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


def fold_batch_norm(
    weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """gamma * (W x + b - mean) / sqrt(var + eps) + beta = W' x + b' (Jacob et al. 2018, section 3.2).

    weight : (out, in, k, k) or (out, in); everything else (out,). Returns W' and b', computed in float64.
    """
    factor = gamma.double() / torch.sqrt(var.double() + eps)
    folded = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return folded.float(), ((bias.double() - mean.double()) * factor + beta.double()).float()


def fold(state: Tensors) -> dict[str, Tensor]:
    """A state dict of either family -> plain `NAME.weight` and `NAME.bias`, batch normalization folded.

    Layers are taken in the order of the state dict, numbered ones of a sequence in the order of their numbers, whatever
    they are called: 4-dimensional weights are conv1, conv2, 2-dimensional ones fc1, fc2, ...; a group with
    `running_mean` is folded into the layer right before it, or into the one whose name has its number; a missing bias
    is zero. Where a tool has sorted the keys, what follows what is told by numbers and widths. Raises BaselineError
    where that does not give a network of either family, or where something stands beside a weight that may change it.
    """
    groups = _groups(state)
    sorted_keys = _are_sorted(state)
    layers = [name for name, group in groups.items() if "running_mean" not in group]
    norms = _paired(groups, layers, adjacent=not sorted_keys)
    layers = _in_order(groups, layers) if sorted_keys else layers
    names = _renamed(groups, layers)
    folded: dict[str, Tensor] = {}
    for name, new in names.items():
        weight = groups[name]["weight"].float()
        bias = groups[name].get("bias", torch.zeros(weight.shape[0])).float()
        if name in norms:
            plain = {"weight": torch.ones_like(bias), "bias": torch.zeros_like(bias)} | groups[norms[name]]
            parts = [plain.get(part) for part in ("weight", "bias", "running_mean", "running_var")]
            if any(part is None or part.shape != bias.shape for part in parts):
                raise BaselineError(f"{norms[name]} must hold mean and variance of the {len(bias)} channels of {name}.")
            weight, bias = fold_batch_norm(weight, bias, *parts)  # type: ignore[arg-type]
        folded[f"{new}.weight"], folded[f"{new}.bias"] = weight.contiguous(), bias.contiguous()
    models.check_values(folded)
    models.check_shapes(chains.chain(models.shapes_of(folded)), models.shapes_of(folded))
    return folded


def _renamed(groups: Groups, layers: Sequence[str]) -> dict[str, str]:
    """Their names -> ours. Judged by shapes alone: a tensor may stand for far more numbers than its file holds. Raises
    BaselineError."""
    kinds = ["conv" if groups[name]["weight"].dim() == 4 else "fc" for name in layers]
    convolutions, linear = kinds.count("conv"), kinds.count("fc")
    if (convolutions and (convolutions, linear) != (2, 2)) or not layers:
        raise BaselineError(
            "A network must be linear layers alone, or two convolutions and then two linear layers. Convolutions of "
            f"this state dict: {convolutions}; linear layers: {linear}."
        )
    names = {name: f"{kinds[place]}{kinds[: place + 1].count(kinds[place])}" for place, name in enumerate(layers)}
    shapes = dict[str, tuple[int, ...]]()
    for name, new in names.items():
        shape = shapes[f"{new}.weight"] = tuple(groups[name]["weight"].shape)
        bias = tuple(groups[name]["bias"].shape) if "bias" in groups[name] else shape[:1]
        if bias != shape[:1]:
            raise BaselineError(f"{name}.bias must have shape {shape[:1]}. Got {bias} instead.")
        shapes[f"{new}.bias"] = bias
    try:
        models.check_shapes(chains.chain(shapes), shapes)
    except BaselineError as error:
        meant = listed([f"{name} is {new}" for name, new in names.items() if name != new], 6)
        raise BaselineError(f"{error} {f'({meant}.) ' if meant else ''}{FAMILIES}") from None
    return names


def _groups(state: Tensors) -> dict[str, dict[str, Tensor]]:
    """Layers and normalizations in their order, and nothing that is not understood. Raises BaselineError."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        _check_tensor(key, tensor)
        prefix, _, part = key.rpartition(".")
        groups.setdefault(prefix, {})[part] = tensor.detach().cpu()
    for prefix, group in groups.items():
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
    seen = {parent: place for place, parent in reversed(list(enumerate(map(_parent, groups))))}
    order = sorted(groups, key=lambda name: (seen[_parent(name)], _number(name) if _in_sequence(name) else 0))
    return {name: groups[name] for name in order}


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


def _in_order(groups: Groups, layers: Sequence[str]) -> list[str]:
    """Layers whose keys were sorted, as numbers in their names and widths say: each reads what the one before it gives.
    As they are where nothing fits, which their shapes then say. Raises BaselineError where more than one order does."""
    whole = sorted(layers, key=_natural)
    shapes = {name: tuple(groups[name]["weight"].shape) for name in whole}
    convolutions = sorted((name for name in whole if len(shapes[name]) == 4), key=lambda name: shapes[name][1] != 1)
    linear = [name for name in whole if len(shapes[name]) == 2]
    if len(linear) > LAYERS:
        return whole
    side = chains.SHAPE[1]
    inputs = shapes[convolutions[-1]][0] * (side // 4) ** 2 if convolutions else side**2
    orders = list(islice(_orders(linear, shapes, inputs, count()), 2))
    alike = [name for name in convolutions if shapes[name][1] == 1 and _stem(name) != _stem(convolutions[0])]
    if len(orders) > 1 or alike:
        first, second = next(pair for pair in zip(*orders, strict=True) if len(set(pair)) > 1) if orders[1:] else alike
        raise BaselineError(
            f"The keys of this state dict were sorted, and nothing says whether {first} or {second} comes first: their "
            "widths allow both. Save it in the order in which its layers were declared: torch.save(model.state_dict(), "
            "FILE)."
        )
    return convolutions + (orders[0] if orders else linear)


def _orders(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], width: int, steps: Iterator[int]
) -> Iterator[list[str]]:
    """Every order in which each layer reads what the one before it gives, from so many inputs to the classes; layers
    whose names differ by numbers alone stay in the order of these. Raises BaselineError after `ORDERS` steps."""
    if next(steps) > ORDERS:
        raise BaselineError(
            "The keys of this state dict were sorted, and the widths of its layers do not tell their order. Save it in "
            "the order in which they were declared: torch.save(model.state_dict(), FILE)."
        )
    if not names and width == chains.CLASSES:
        yield []
    for name in {_stem(name): name for name in reversed(names)}.values():  # of each kind of name the lowest number
        if shapes[name][1] == width:
            left = [other for other in names if other != name]
            for rest in _orders(left, shapes, shapes[name][0], steps):
                yield [name, *rest]


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


def _paired(groups: Groups, layers: Sequence[str], adjacent: bool) -> dict[str, str]:
    """Layer -> its normalization: the one right after it, or the one with its number. Raises BaselineError.

    adjacent : whether neighbours of the state dict are neighbours in the network; those of a sequence always are
    """
    pairs: dict[str, str] = {}
    names = list(groups)
    for place, name in enumerate(names):
        if name in layers:
            continue
        before = names[place - 1] if place and names[place - 1] in layers else None
        if before is not None and not adjacent and not (_in_sequence(name) and _parent(before) == _parent(name)):
            before = None
        width = len(groups[name]["running_mean"])
        alike = [
            other for other in layers
            if other not in pairs and _number(other) == _number(name) is not None and not _in_sequence(other)
            and len(groups[other]["weight"]) == width
        ]  # fmt: skip
        if before is None or (before not in alike and len(alike) == 1):
            if len(alike) != 1:
                raise BaselineError(
                    f"{name} is a batch normalization, and nothing says of which layer: it must stand right after it "
                    "in the state dict, or end in the same number."
                )
            before = alike[0]
        elif (
            _in_sequence(name)
            and _parent(before) == _parent(name)
            and (_number(name) or 0) - (_number(before) or 0) > 1
        ):
            raise BaselineError(
                f"{name} is a batch normalization, and something stands between {before} and it, an activation by all "
                "signs: only one right after its layer can be folded into it."
            )
        pairs[before] = name
    return pairs
