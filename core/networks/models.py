"""The two families, `mlp` (a chain of linear layers) and `cnn` (conv, conv, linear, linear), and their layers by name.

`build` makes the module that is trained; `folding.fold` turns it into plain weights and biases, batch normalization
folded into the layer before it. Everything after that - compression, evaluation, export - sees the folded tensors as a
`Baseline`, whose layer widths are read from the tensors themselves.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import Model
from core.machinery.files import safetensors_header
from core.mathematics import costs
from core.mathematics.costs import LayerCost

IMAGE_SIDE, CLASS_COUNT = 28, 10
MLP_WIDTHS = (784, 512, 512, 512, 10)
CNN_WIDTHS = (32, 64, 128)
HEADER_BYTES = 100 * 2**20
"""Of a safetensors file, at most: as in the library that reads it."""

Tensors = Mapping[str, Tensor]


class BaselineError(ValueError):
    """Tensors that are not a network of either family; the message says which and what was expected."""


class Overflow(ArithmeticError):
    """What a network computes is too large for float32: no figure of it would mean anything."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} are no longer numbers: what the network computes is too large for float32. Its weights, or the "
            "pixels that it was made for, have to be smaller."
        )


@dataclass(frozen=True)
class Layer:
    """A compressible layer: conv (k x k, "same" padding) or linear; then 2x2 max pooling; then ReLU, where it has them.

    shape : of its weight, (out, in) or (out, in, k, k)
    """

    name: str
    shape: tuple[int, ...]
    pool: bool = False
    relu: bool = True

    @property
    def kind(self) -> Literal["conv", "linear"]:
        return "conv" if len(self.shape) == 4 else "linear"

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n) of the weight as a matrix; a convolution is taken as out x (in * k * k)."""
        return self.shape[0], prod(self.shape[1:])

    @property
    def full_rank(self) -> int:
        return min(self.matrix_shape)

    @property
    def weights(self) -> int:
        return prod(self.shape)


def channels_last(x: Tensor) -> Tensor:
    """The same images with the channels innermost in memory, which convolutions are several times faster in.

    With one channel both layouts are the same memory, and only the stride of the channels says which is meant: torch
    leaves it as it was, and the first convolution would answer in the slow layout.
    """
    _, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, (channels * height * width, 1, width * channels, channels))


def propagate(
    layer: Layer, x: Tensor, weights: Sequence[Tensor], bias: Tensor, between: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """One layer's output: relu(pool(W x + b)), with W = weights[-1] ... weights[0] where the layer is factored.

    Pooling comes before the ReLU: max and ReLU commute, and it leaves a quarter of the work.

    x : (n, in, h, w) or (n, in); a linear layer flattens images
    weights : one weight, or two factors: (r, in, k, k) and (out, r, 1, 1), or (r, in) and (out, r)
    between : applied to the signal between two factors (its quantizer)
    """
    if layer.kind == "linear" and x.dim() > 2:
        x = x.flatten(1)
    for position, weight in enumerate(weights):
        last = position == len(weights) - 1
        b = bias if last else None
        x = F.linear(x, weight, b) if layer.kind == "linear" else F.conv2d(x, weight, b, padding=weight.shape[-1] // 2)
        if between is not None and not last:
            x = between(x)
    if layer.pool:
        x = F.max_pool2d(x, 2)
    return torch.relu_(x) if layer.relu and not x.requires_grad else x.relu() if layer.relu else x


@dataclass(frozen=True, eq=False)
class Baseline:
    """A trained network as plain tensors, `NAME.weight` and `NAME.bias` per layer, and what is known of its making.

    info : recipe, seed, history, versions and figures of the training, as in the JSON beside the weights
    """

    name: str
    tensors: Tensors
    info: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        return layers_of(self.tensors)

    @property
    def model(self) -> Model:
        return "cnn" if self.layers[0].kind == "conv" else "mlp"

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """4 bytes a parameter (float32)."""
        return 4 * self.parameters

    @cached_property
    def sha256(self) -> str:
        """Of names, shapes and values: the same weights have the same hash, whatever they are called."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


def layers_of(tensors: Tensors) -> tuple[Layer, ...]:
    """The layers, in order, with their widths read from the tensors. Raises BaselineError.

    `mlp`: fc1 .. fcN, from 784 inputs to 10 classes. `cnn`: conv1, conv2 (odd square kernels), fc1, fc2.
    """
    layers = layers_of_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise BaselineError(f"{name} must hold float32 values. Got {tensor.dtype} instead.")
        if not torch.isfinite(tensor).all():
            raise BaselineError(f"{name} must hold finite values. It holds NaN or infinity.")
    return layers


def layers_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Layer, ...]:
    """The same from the shapes alone, by name: a file's header tells them. Raises BaselineError where they are no
    network, and where it could never be evaluated here (`core.mathematics.costs`)."""
    convolutional = any(name.startswith("conv") for name in shapes)
    if convolutional:
        names = ["conv1", "conv2", "fc1", "fc2"]
    else:
        names = [f"fc{i}" for i in range(1, max(1, len(shapes) // 2) + 1)]
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if set(shapes) != expected:
        missing, extra = sorted(expected - set(shapes)), sorted(set(shapes) - expected)
        raise BaselineError(
            f"The tensors must be named {listed(sorted(expected), 8)}. "
            + (f"Missing: {listed(missing, 6)}. " if missing else "")
            + (f"Not expected: {listed(extra, 6)}. " if extra else "")
            + "Weights under other names: `python -m core import FILE.pt --out FILE.safetensors` renames them."
        )
    layers = tuple(
        Layer(name, shapes[f"{name}.weight"], pool=name.startswith("conv"), relu=name != names[-1]) for name in names
    )
    _check(layers, shapes)
    refusal = costs.too_much(costs_of(layers))
    if refusal:
        raise BaselineError(f"This network is too large. {refusal}")
    return layers


def listed(names: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def costs_of(layers: Sequence[Layer]) -> tuple[LayerCost, ...]:
    """What each of a network's layers takes."""
    used = zip(layers, weight_uses(layers), strict=True)
    return tuple(costs.layer_cost(layer.name, layer.shape, places, layer.pool) for layer, places in used)


def weight_uses(layers: Sequence[Layer]) -> list[int]:
    """How often each weight of a layer is multiplied for one image: at every pixel for a convolution, once elsewhere.

    Times the number of weights it is the number of multiply-accumulates, for two factors as for one weight.
    """
    uses, side = [], IMAGE_SIDE
    for layer in layers:
        uses.append(side**2 if layer.kind == "conv" else 1)
        side //= 2 if layer.pool else 1
    return uses


def _check(layers: tuple[Layer, ...], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Shapes that follow from one another."""
    width = 1 if layers[0].kind == "conv" else IMAGE_SIDE**2
    side = IMAGE_SIDE
    for layer in layers:
        if layer.name.startswith("conv"):
            if len(layer.shape) != 4 or layer.shape[2] != layer.shape[3] or layer.shape[2] % 2 == 0:
                raise BaselineError(
                    f"{layer.name}.weight must have shape (out, in, k, k) with odd k. Got {layer.shape} instead."
                )
        elif len(layer.shape) != 2:
            raise BaselineError(f"{layer.name}.weight must have shape (out, in). Got {layer.shape} instead.")
        if layer.shape[1] != width or 0 in layer.shape:
            raise BaselineError(f"{layer.name}.weight must have {width} inputs. Got shape {layer.shape} instead.")
        bias_shape = shapes[f"{layer.name}.bias"]
        if bias_shape != layer.shape[:1]:
            raise BaselineError(f"{layer.name}.bias must have shape {layer.shape[:1]}. Got {bias_shape} instead.")
        side //= 2 if layer.pool else 1
        width = layer.shape[0] * (side**2 if layer.name == "conv2" else 1)
    if layers[-1].shape[0] != CLASS_COUNT:
        outputs = layers[-1].shape[0]
        raise BaselineError(f"{layers[-1].name} must have {CLASS_COUNT} outputs, a class each. Got {outputs} instead.")


def build(model: Model, dropout: float = 0.0) -> nn.Sequential:
    """The module that is trained, with batch normalization (cnn) and dropout. Its layers carry the names of `Layer`."""
    parts: list[tuple[str, nn.Module]] = []
    if model == "cnn":
        first, second, hidden = CNN_WIDTHS
        for i, ins, outs in ((1, 1, first), (2, first, second)):
            parts += [
                (f"conv{i}", nn.Conv2d(ins, outs, 3, padding=1, bias=False)),
                (f"bn{i}", nn.BatchNorm2d(outs)),
                (f"pool{i}", nn.MaxPool2d(2)),
                (f"relu{i}", nn.ReLU(inplace=True)),
            ]
        widths: tuple[int, ...] = (second * (IMAGE_SIDE // 4) ** 2, hidden, CLASS_COUNT)
    else:
        widths = MLP_WIDTHS
    parts.append(("flatten", nn.Flatten()))
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        parts.append((f"fc{i}", nn.Linear(inputs, outputs)))
        if i < len(widths) - 1:
            parts += [(f"fc{i}_relu", nn.ReLU(inplace=True)), (f"fc{i}_dropout", nn.Dropout(dropout))]
    return nn.Sequential(OrderedDict(parts))


def to_bytes(baseline: Baseline) -> bytes:
    """The baseline's tensors as one safetensors file."""
    return save({name: tensor.contiguous() for name, tensor in baseline.tensors.items()})


def from_bytes(content: bytes, name: str, info: Mapping[str, Any] | None = None) -> Baseline:
    """A baseline from a safetensors file. Raises BaselineError with what is wrong; nothing in the file is executed.

    The header is judged before the tensors are read."""
    layers_of_shapes(declared_shapes(content))
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise _unreadable(error) from None
    layers_of(tensors)
    return Baseline(name, tensors, info or {})


def from_file(path: Path, name: str) -> Baseline:
    """The same from a path; what its header alone refuses is not read."""
    with path.open("rb") as file:
        start = file.read(8)
        layers_of_shapes(declared_shapes(start + file.read(min(int.from_bytes(start, "little"), HEADER_BYTES))))
    return from_bytes(path.read_bytes(), name)


def declared_shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Shapes by name, as the header of a safetensors file tells them; its tensors need not be there. Raises
    BaselineError."""
    try:
        header, _ = safetensors_header(content)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(error) from None
    if not all(type(size) is int and size >= 0 for shape in shapes.values() for size in shape):
        raise BaselineError("This is not a safetensors file that can be read (a shape that is no whole numbers).")
    if not shapes:
        raise BaselineError("This safetensors file holds no tensors.")
    return shapes


def _unreadable(error: Exception) -> BaselineError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BaselineError(f"This is not a safetensors file that can be read ({reason}).")
