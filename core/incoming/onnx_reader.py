"""An ONNX file while it is read: what each of its names stands for, and what is put down of it.

A file keeps its feature maps in an order of axes of its own: channels last, flattened, without the axes of size 1.
`Map` says in which order a tensor of the file holds the numbers of a step of the draft. So transposing and reshaping
are no steps at all, and what they do to the order of features is done once, to the columns of the next linear layer.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isclose, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor

from core.incoming.draft import Draft
from core.networks.graph import IMAGE, BaselineError
from core.networks.models import NUMBERS

DOMAINS = "", "ai.onnx"

DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError)
"""What NumPy, onnx and torch say of a file that contradicts itself."""

Array = NDArray[Any]

MOST_NUMBERS = 2**27
"""Of what a file makes of its tensors: constants that are computed, and weights, as often as they are used."""


def reason(error: Exception) -> str:
    """The first line of what it says."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@dataclass(frozen=True, eq=False)
class Graph:
    """What is read of a file.

    nodes : those that its output is computed from; constants : its stored tensors by name
    batch : how many images its input holds; None where that is left open
    array : the numbers of a tensor that a node holds
    """

    nodes: Sequence[Any]
    constants: Mapping[str, Array]
    input: str
    output: str
    opset: int
    batch: int | None
    array: Callable[[TensorProto], Array]


@dataclass(frozen=True)
class Map:
    """A feature map: the numbers of a step of the draft, in the file's order.

    axes : for each axis of the file's tensor what it runs over: "n", the images, "c", "h", "w"; "hwc" is an image that
        was flattened with its channels innermost. A letter of size 1 may be missing
    sizes : (channels, height, width); of features, (features, 1, 1), or what they were before they were flattened
    margins : zeros (above, left, below, right) around it, which the step that reads it takes into its padding
    end : the operator that was dropped here, behind which nothing but the output may stand
    """

    step: str
    axes: tuple[str, ...]
    sizes: tuple[int, int, int]
    margins: tuple[int, ...] = (0, 0, 0, 0)
    end: str = ""

    def size(self, letters: str) -> int:
        return prod(self.sizes["chw".index(each)] for each in letters)

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """The axes without the letters of size 1."""
        return tuple("".join(each for each in axis if each == "n" or self.size(each) > 1) for axis in self.axes)

    @property
    def shape(self) -> list[int]:
        """Of the file's tensor for one image."""
        return [self.size(axis.replace("n", "")) for axis in self.axes]

    @property
    def flat(self) -> bool:
        """Whether all numbers of an image lie along one axis."""
        return sum(axis not in ("", "n") for axis in self.plain) <= 1

    def ordered(self, array: Array) -> Array:
        """(k, numbers) in the file's order -> (k, channels, height, width)."""
        letters = "".join(self.axes).replace("n", "")
        letters += "".join(each for each in "chw" if each not in letters)
        order = [1 + letters.index(each) for each in "chw"]
        return array.reshape(-1, *(self.size(each) for each in letters)).transpose(0, *order)

    def __str__(self) -> str:
        names = {"n": "images", "c": "channels", "h": "height", "w": "width"}
        return "(" + ", ".join(" x ".join(names[each] for each in axis) or "1" for axis in self.axes) + ")"


@dataclass(frozen=True)
class Erf:
    """a erf(x / sqrt(2)) + b: a part of GELU, which is no step by itself."""

    x: Map
    a: float
    b: float


Value = Map | Erf | Array | None
"""What a name in the file stands for; None for an input that an operator does without."""


class Reader:
    """One reading of a file, node by node.

    image : in which order its input holds the images
    values : by name, what the nodes before have put out; origins : of constants, the stored tensors that they come from
    bases : of steps of the draft, the layers that they follow; nonnegative : whether they are never negative
    scaled : step -> (x, a, b) where it is a x + b, with two numbers; flattened : step -> the same as features
    """

    node: Any
    attributes: dict[str, Any]

    def __init__(self, graph: Graph, image: Map) -> None:
        self.graph, self.draft = graph, Draft(image.sizes)
        self.values: dict[str, Value] = {"": None, **graph.constants, graph.input: image}
        self.origins = {name: name for name in graph.constants}
        self.bases, self.nonnegative = {IMAGE: IMAGE}, dict[str, bool]()
        self.scaled, self.flattened = dict[str, tuple[str, float, float]](), dict[str, str]()
        self.counts, self.room = Counter[str](), float(MOST_NUMBERS)

    def refusal(self, why: str) -> BaselineError:
        where = self.node.name or "that makes " + ", ".join(self.node.output)
        return BaselineError(f"{self.node.op_type} (node {where}) cannot be read. {why}")

    # What an operator asks of its inputs

    def map(self, x: Value, margins: bool = False, view: bool = False) -> Map:
        """A feature map. margins : zeros may be around it; view : nothing but its axes is used"""
        if isinstance(x, Erf):
            raise self.refusal("It reads a part of GELU, which is known as x (1 + erf(x / sqrt(2))) / 2 alone.")
        if not isinstance(x, Map):
            raise self.refusal("What it reads must be computed from the image. It is a constant.")
        if x.end and not view:
            raise self.refusal(f"It reads the output of {x.end}, which must stand at the end of a network.")
        if any(x.margins) and not margins:
            raise self.refusal("It reads the output of Pad, whose zeros only Conv and AveragePool take into padding.")
        return x

    def image(self, x: Value, margins: bool = False) -> Map:
        """A feature map with the axes in the order of ONNX: images, channels, height, width; or without height."""
        x = self.map(x, margins)
        expected = {3: ("n", "c", "w"), 4: ("n", "c", "h", "w")}.get(len(x.axes), ())
        if not expected or any(own not in ("", axis) for own, axis in zip(x.plain, expected, strict=True)):
            raise self.refusal(f"It must read (images, channels, height, width), or signals without height. Got {x}.")
        if len(self.draft.shapes[x.step]) == 1:
            raise self.refusal("It must read an image. What it reads was flattened, or comes out of a linear layer.")
        return x

    def constant(self, array: Value, what: str) -> Array:
        if not isinstance(array, np.ndarray):
            raise self.refusal(f"Its {what} must be stored in the file, not computed from the image.")
        return array

    def number(self, array: Value, attribute: str, default: float) -> float:
        """Of an input, or, in earlier opsets, of an attribute."""
        if array is None:
            return float(self.attributes.get(attribute, default))
        return float(self.constant(array, attribute).item())

    def integers(self, array: Value, attribute: str) -> list[int] | None:
        if array is None:
            return self.attributes.get(attribute)
        return [int(each) for each in self.constant(array, attribute).ravel()]

    def axes(self, x: Map, given: Sequence[int]) -> list[int]:
        """Places of axes, counted from the first."""
        if any(not -len(x.axes) <= each < len(x.axes) for each in given):
            raise self.refusal(f"Its axes must be from {-len(x.axes)} to {len(x.axes) - 1}. Got {list(given)} instead.")
        return [each % len(x.axes) for each in given]

    def take(self, numbers: float) -> None:
        """Before so many are made. Raises BaselineError."""
        self.room -= numbers
        if not self.room >= 0:
            raise self.refusal(f"Weights and constants must be at most {MOST_NUMBERS:,} numbers, as they are used.")

    def tensor(self, array: Array) -> Tensor:
        self.take(array.size)
        return torch.tensor(np.asarray(array, np.float32))

    # What it puts down

    def add(self, operation: str, *reads: str, **settings: Any) -> str:
        base = self.bases[reads[0]]
        name = operation if base == IMAGE else f"{base}_{operation}"
        return self.put(self.draft.add(name, operation, *reads, **settings), base)

    def put(self, step: str, base: str) -> str:
        """What is known of a step that the draft has."""
        if prod(self.draft.shapes[step]) > NUMBERS:
            raise self.refusal(f"It must put out at most {NUMBERS:,} numbers. Got {self.draft.shapes[step]} instead.")
        node = self.draft.nodes[step]
        signs = [self.nonnegative.get(name, False) for name in node.inputs]
        self.bases[step], self.nonnegative[step] = base, node.row.nonnegative(node, signs)
        return step

    def sizes(self, step: str) -> tuple[int, int, int]:
        channels, height, width = (*self.draft.shapes[step], 1, 1)[:3]
        return channels, height, width

    def mapped(self, step: str, x: Map) -> Map:
        """What a step computed from a map that `image` gave."""
        return Map(step, ("n", "c", "h", "w") if len(x.axes) == 4 else ("n", "c", "w"), self.sizes(step))

    def flat(self, x: Map) -> str:
        """The step as features."""
        if len(self.draft.shapes[x.step]) == 1:
            return x.step
        if x.step not in self.flattened:
            self.flattened[x.step] = self.add("flatten", x.step)
        return self.flattened[x.step]

    def layer(self, kind: str) -> str:
        """The name of a layer: that of its weight, without ".weight"; or its node's; or its place."""
        self.counts[kind] += 1
        stored = self.origins.get(self.node.input[1], "")
        name = stored.removesuffix(".weight")
        return name if name != stored else self.node.name or f"{kind}{self.counts[kind]}"

    def vectors(self, x: Map, *constants: Array) -> tuple[Map, list[Tensor]]:
        """Constants as they are broadcast to a map, with a number for each channel of its step. The step of a flattened
        map is flattened, too, where its features have numbers of their own."""
        shape, grids = x.shape, []
        for each in constants:
            try:
                full = np.broadcast_to(each.reshape((1,) * (len(shape) - each.ndim) + each.shape), shape)
            except ValueError:
                raise self.refusal(f"Its constant must fit {x}, {shape}. Got shape {each.shape} instead.") from None
            grids.append(x.ordered(np.asarray(full, np.float64).reshape(1, -1))[0])
        alike = all(np.array_equal(grid, np.broadcast_to(grid[:, :1, :1], grid.shape)) for grid in grids)
        if not alike and not x.flat:
            raise self.refusal("Its constant must be one number for each channel. It differs between pixels.")
        x = x if alike else replace(x, step=self.flat(x))
        features = len(self.draft.shapes[x.step]) == 1
        self.take(len(grids) * self.draft.shapes[x.step][0])
        return x, [torch.tensor(grid.ravel() if features else grid[:, 0, 0].copy()) for grid in grids]

    def affine(self, x: Map, scale: Array | float, shift: Array | float) -> Map:
        """scale x + shift, broadcast as NumPy does; no step where that is x, or what the step before was made of."""
        scale, shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
        single = scale.size == shift.size == 1
        if single:
            a, b = scale.item(), shift.item()
            before, its_scale, its_shift = self.scaled.get(x.step, (x.step, 1.0, 0.0))
            if isclose(a * its_scale, 1, rel_tol=1e-6) and a * its_shift + b == 0:
                return replace(x, step=before)
        y, (scales, shifts) = self.vectors(x, scale, shift)
        base = self.bases[y.step]
        name = "affine" if base == IMAGE else f"{base}_affine"
        step = self.put(self.draft.affine(name, y.step, scales, shifts), base)
        if single:
            self.scaled[step] = x.step, a, b
        return replace(y, step=step)
