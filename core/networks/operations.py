"""The table of operations: what a node of a network may compute.

A row says of one operation its settings, the shape of its output, its form in torch and in ONNX, which channels of its
inputs its outputs are, and what it does to a grid of integers. `core.portable.loader` is the second, independent form
of the same table, in NumPy alone; a test runs every row through all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, ...]
"""Of what passes between nodes, for one image: (channels, height, width), or (features,)."""

LARGEST = 2**53
"""Of a size, and of a number in a setting."""


class NetworkError(ValueError):
    """Not a network that can be computed; the message says which node, and what was expected."""


class Graph(Protocol):
    """What an ONNX graph is written with; see `core.networks.inference.Graph`."""

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str: ...


# Settings: what each may be. A value comes from a file; what is none of these raises ValueError.


def count(value: Any) -> int:
    """A whole number from 1."""
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise ValueError("a whole number above 0")
    return value


def pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal), from 1."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("two whole numbers above 0")
    return count(value[0]), count(value[1])


def sides(value: Any) -> tuple[int, int, int, int]:
    """Rows and columns around an image: (above, left, below, right), from 0."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ValueError("four whole numbers")
    above, left, below, right = (count(each + 1) - 1 if type(each) is int else count(each) for each in value)
    return above, left, below, right


def number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not abs(value) <= LARGEST:
        raise ValueError("a finite number")
    return float(value)


def flag(value: Any) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise ValueError("true or false")
    return value


NEEDED = object()
"""The default of a setting that has none."""

Rule = tuple[Callable[[Any], Any], Any]
"""What a setting may be, and its default."""


@dataclass(frozen=True)
class Node:
    """One step of a network. inputs : names of the nodes that it reads, `graph.IMAGE` for the image
    settings : those of its operation, all of them, in their order
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, setting: str) -> Any:
        return self._by_name[setting]

    @cached_property
    def _by_name(self) -> dict[str, Any]:
        return dict(self.settings)

    @property
    def row(self) -> Operation:
        return OPERATIONS[self.operation]

    @property
    def weighted(self) -> bool:
        """Whether it multiplies with a weight: what rank, sparsity, bits and channels are set for."""
        return self.row.weighted


def node(name: str, operation: str, inputs: Sequence[str], **settings: Any) -> Node:
    """A node, its settings completed by their defaults. Raises NetworkError."""
    if operation not in OPERATIONS:
        raise NetworkError(
            f"{name} is of an operation that is not known here, {operation!r}. Known are {', '.join(OPERATIONS)}."
        )
    rules = OPERATIONS[operation].settings
    if unknown := sorted(set(settings) - set(rules)):
        raise NetworkError(f"The settings of {name} ({operation}) are {', '.join(rules) or 'none'}. Got {unknown}.")
    complete = []
    for setting, (rule, default) in rules.items():
        value = settings.get(setting, default)
        if value is NEEDED:
            raise NetworkError(f"{setting} of {name} must be given.")
        try:
            complete.append((setting, rule(value)))
        except ValueError as error:
            raise NetworkError(f"{setting} of {name} must be {error}. Got {value!r} instead.") from None
    return Node(name, operation, tuple(inputs), tuple(complete))


@dataclass(frozen=True, eq=False)
class Operation:
    """A row of the table.

    shape : (node, *shapes of its inputs) -> shape of its output. Raises NetworkError
    torch : (node, *inputs) -> output; a weighted one, and `affine`, also get their two tensors
    onnx : (graph, node, *names of inputs) -> name of its output; the same
    channels : (shapes of its inputs, *channels of its inputs) -> those of its output; None where they are new ones.
        Channels are whole numbers, one for each output of a feature map: where two are equal, they are the same channel
    inputs : how many; None for two or more
    weighted : whether rank, sparsity, bits and channels are set for it
    makes : whether its outputs are new numbers, which are rounded where signals are quantized
    follows : whether it is computed before that rounding where it stands directly behind such a node
    keeps : whether its outputs lie on the grid of its inputs
    nonnegative : (node, whether its inputs are never negative) -> whether its output is never negative
    """

    shape: Callable[..., Shape]
    torch: Callable[..., Tensor]
    onnx: Callable[..., str]
    settings: Mapping[str, Rule] = field(default_factory=dict)
    channels: Callable[..., Tensor] | None = lambda shapes, *channels: channels[0]
    inputs: int | None = 1
    weighted: bool = False
    makes: bool = False
    follows: bool = False
    keeps: bool = False
    nonnegative: Callable[[Node, Sequence[bool]], bool] = lambda node, inputs: all(inputs)


# Shapes.


def _same(node: Node, shape: Shape) -> Shape:
    return shape


def _clipped(node: Node, shape: Shape) -> Shape:
    if node["low"] >= node["high"]:
        raise NetworkError(f"low of {node.name} must be below high. Got {node['low']} and {node['high']} instead.")
    return shape


def _image(node: Node, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise NetworkError(f"{node.name} must read images, (channels, height, width). Got shape {shape} instead.")
    return shape


def _windows(node: Node, shape: Shape) -> tuple[int, int]:
    """How many windows fit below and beside one another: (size + padding - dilation (kernel - 1) - 1) / stride + 1."""
    _, height, width = _image(node, shape)
    above, left, below, right = node["padding"]
    dilation = node["dilation"] if "dilation" in dict(node.settings) else (1, 1)
    sizes = height + above + below, width + left + right
    reach = [gap * (size - 1) + 1 for gap, size in zip(dilation, node["kernel"], strict=True)]
    places = [(size - long) // step + 1 for size, long, step in zip(sizes, reach, node["stride"], strict=True)]
    if min(places) < 1:
        raise NetworkError(f"The window of {node.name}, {reach[0]} x {reach[1]}, must fit its input, {shape}.")
    return places[0], places[1]


def _convolved(node: Node, shape: Shape) -> Shape:
    places, groups = _windows(node, shape), node["groups"]
    if shape[0] % groups or node["channels"] % groups:
        raise NetworkError(f"groups of {node.name} must divide {shape[0]} and {node['channels']}. Got {groups}.")
    return node["channels"], *places


def _pooled(node: Node, shape: Shape) -> Shape:
    above, left, below, right = node["padding"]
    if max(above, below) >= node["kernel"][0] or max(left, right) >= node["kernel"][1]:
        raise NetworkError(f"The padding of {node.name} must be less than its window. Got {node['padding']} instead.")
    return shape[0], *_windows(node, shape)


def _linear(node: Node, shape: Shape) -> Shape:
    if len(shape) != 1:
        raise NetworkError(f"{node.name} must read features, not images. Got shape {shape}; a flatten makes them.")
    return (node["channels"],)


def _alike(node: Node, *shapes: Shape) -> Shape:
    if len(set(shapes)) > 1:
        raise NetworkError(f"{node.name} must add inputs of one shape. Got {' and '.join(map(str, shapes))} instead.")
    return shapes[0]


def _joined(node: Node, *shapes: Shape) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1:
        raise NetworkError(f"{node.name} must join inputs of one size. Got {' and '.join(map(str, shapes))} instead.")
    return sum(shape[0] for shape in shapes), *shapes[0][1:]


# Torch: x is (n, *shape).


def _around(node: Node, x: Tensor, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """Padding that torch can do itself, or the image padded with `value`."""
    above, left, below, right = node["padding"]
    if (above, left) == (below, right):
        return x, (above, left)
    return F.pad(x, (left, right, above, below), value=value), (0, 0)


def _convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, padding = _around(node, x)
    settings = node["stride"], padding, node["dilation"], node["groups"]
    if node["groups"] > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # the gradient: six times
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x.float(), weight, bias, *settings)
    return F.conv2d(x, weight, bias, *settings)


def _max_pool(node: Node, x: Tensor) -> Tensor:
    above, left, below, right = node["padding"]
    if max(above, below) * 2 > node["kernel"][0] or max(left, right) * 2 > node["kernel"][1]:
        return F.max_pool2d(F.pad(x, (left, right, above, below), value=-torch.inf), node["kernel"], node["stride"])
    x, padding = _around(node, x, -torch.inf)
    return F.max_pool2d(x, node["kernel"], node["stride"], padding)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    """Mean of a window; of what lies in the image where padding does not count."""
    above, left, below, right = node["padding"]
    around = (left, right, above, below)
    mean = F.avg_pool2d(F.pad(x, around), node["kernel"], node["stride"])
    if node["counts_padding"] or not any(around):
        return mean
    return mean / F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), around), node["kernel"], node["stride"])


def _scaled(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    each = (-1, *[1] * (x.dim() - 2))
    return x * scale.reshape(each) + shift.reshape(each)


# ONNX: names in, a name out.


def _windowed(node: Node) -> dict[str, Any]:
    return {"kernel_shape": node["kernel"], "strides": node["stride"], "pads": node["padding"]}


def _onnx_convolution(graph: Graph, node: Node, x: str, weight: Any, *bias: Any) -> str:
    settings = {"dilations": node["dilation"]} if node["dilation"] != (1, 1) else {}
    settings |= {"group": node["groups"]} if node["groups"] > 1 else {}
    settings |= {"strides": node["stride"]} if node["stride"] != (1, 1) else {}
    return graph.add("Conv", x, weight, *bias, kernel_shape=node["kernel"], pads=node["padding"], **settings)


def _onnx_max_pool(graph: Graph, node: Node, x: str) -> str:
    pads = {"pads": node["padding"]} if any(node["padding"]) else {}
    return graph.add("MaxPool", x, kernel_shape=node["kernel"], strides=node["stride"], **pads)


def _onnx_affine(graph: Graph, node: Node, x: str, scale: Any, shift: Any) -> str:
    return graph.add("Add", graph.add("Mul", x, scale), shift)


def _onnx_gelu(graph: Graph, node: Node, x: str) -> str:
    normal = graph.add("Add", graph.add("Erf", graph.add("Mul", x, np.float32(0.5**0.5))), np.float32(1))
    return graph.add("Mul", graph.add("Mul", x, normal), np.float32(0.5))


def _onnx(operation: str, **attributes: Any) -> Callable[..., str]:
    return lambda graph, node, *names: graph.add(operation, *names, **attributes)


# Channels.


def _flat_channels(shapes: Sequence[Shape], channels: Tensor) -> Tensor:
    """Each channel once for every pixel."""
    return channels.repeat_interleave(prod(shapes[0][1:]))


def _activation(
    form: Callable[[Node, Tensor], Tensor],
    onnx: Callable[..., str],
    keeps: bool = False,
    nonnegative: Callable[[Node, Sequence[bool]], bool] = lambda node, inputs: all(inputs),
    **settings: Rule,
) -> Operation:
    shape = _clipped if {"low", "high"} <= set(settings) else _same
    return Operation(shape, form, onnx, settings, follows=True, keeps=keeps, nonnegative=nonnegative)


_WINDOW: dict[str, Rule] = {"kernel": (pair, NEEDED), "stride": (pair, (1, 1)), "padding": (sides, (0, 0, 0, 0))}

OPERATIONS: dict[str, Operation] = {
    "convolution": Operation(
        _convolved, _convolve, _onnx_convolution,
        {"channels": (count, NEEDED), **_WINDOW, "dilation": (pair, (1, 1)), "groups": (count, 1)},
        channels=None, weighted=True, makes=True, nonnegative=lambda node, inputs: False,
    ),
    "linear": Operation(
        _linear,
        lambda node, x, weight, bias: F.linear(x, weight, bias),
        lambda graph, node, *names: graph.add("Gemm", *names, transB=1),
        {"channels": (count, NEEDED)},
        channels=None, weighted=True, makes=True, nonnegative=lambda node, inputs: False,
    ),
    "affine": Operation(_same, _scaled, _onnx_affine, makes=True, nonnegative=lambda node, inputs: False),
    "add": Operation(_alike, lambda node, *x: sum(x[1:], x[0]), _onnx("Add"), inputs=2, makes=True),
    "concatenate": Operation(
        _joined, lambda node, *x: torch.cat(x, 1), _onnx("Concat", axis=1),
        channels=lambda shapes, *channels: torch.cat(channels), inputs=None, keeps=True,
    ),
    "flatten": Operation(
        lambda node, shape: (prod(shape),), lambda node, x: x.flatten(1), _onnx("Flatten"),
        channels=_flat_channels, keeps=True,
    ),
    "max_pool": Operation(_pooled, _max_pool, _onnx_max_pool, _WINDOW, follows=True, keeps=True),
    "average_pool": Operation(
        _pooled, _average_pool,
        lambda graph, node, x: graph.add("AveragePool", x, **_windowed(node), count_include_pad=node["counts_padding"]),
        _WINDOW | {"counts_padding": (flag, True)}, makes=True,
    ),
    "global_average_pool": Operation(
        lambda node, shape: (_image(node, shape)[0], 1, 1), lambda node, x: x.mean((2, 3), keepdim=True),
        _onnx("GlobalAveragePool"), makes=True,
    ),
    "relu": _activation(lambda node, x: x.relu(), _onnx("Relu"), keeps=True, nonnegative=lambda node, inputs: True),
    "clip": _activation(
        lambda node, x: x.clamp(node["low"], node["high"]),
        lambda graph, node, x: graph.add("Clip", x, np.float32(node["low"]), np.float32(node["high"])),
        nonnegative=lambda node, inputs: node["low"] >= 0, low=(number, 0.0), high=(number, 6.0),
    ),
    "leaky_relu": _activation(
        lambda node, x: F.leaky_relu(x, node["slope"]),
        lambda graph, node, x: graph.add("LeakyRelu", x, alpha=node["slope"]), slope=(number, 0.01),
    ),
    "sigmoid": _activation(lambda node, x: x.sigmoid(), _onnx("Sigmoid"), nonnegative=lambda node, inputs: True),
    "tanh": _activation(lambda node, x: x.tanh(), _onnx("Tanh")),
    "hard_swish": _activation(lambda node, x: F.hardswish(x), _onnx("HardSwish")),
    "gelu": _activation(lambda node, x: F.gelu(x), _onnx_gelu),
}  # fmt: skip
