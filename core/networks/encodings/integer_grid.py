"""Weights on an integer grid: w = scale * (q - zero_point), see `core.mathematics.quantization`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from core.mathematics import quantization, rate
from core.mathematics.quantization import integer_range
from core.mathematics.rounding import shortest, straight_through, to_half
from core.networks.encodings import Encoder, FormatError, Shape, StoredTensor, Take, Written, kept, must_be

SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
"""The smallest positive float32 number."""

# By the width of a stored integer: its signed and unsigned type in ONNX; the first opset and file version of these.
TYPES = {
    2: (TensorProto.INT2, TensorProto.UINT2),
    4: (TensorProto.INT4, TensorProto.UINT4),
    8: (TensorProto.INT8, TensorProto.UINT8),
}
VERSIONS = {2: (25, 13), 4: (21, 10), 8: (19, 9)}


@dataclass(frozen=True, eq=False)
class IntegerGrid(StoredTensor):
    """values : q - zero_point, whole numbers
    scale : float32 > 0, broadcasts to the values: one for each output channel, or one for all
    zero_point : uint8, as scale; None where the grid is symmetric. A packed file does not keep it
    """

    encoding: ClassVar[str] = "integer grid"
    ends: ClassVar[tuple[str, ...]] = (".codes", ".scale", ".zero_point")

    scale: Tensor = field(kw_only=True)
    zero_point: Tensor | None = field(default=None, kw_only=True)

    def weight(self) -> Tensor:
        return quantization.linear_dequantize(self.values, self.scale)

    @property
    def tables(self) -> dict[str, Tensor]:
        return {"scale": self.scale}

    @classmethod
    def of(cls, name: str, values: Tensor, mask: Tensor | None, bits: int, tables: Mapping[str, Tensor]) -> Self:
        must_be(f"The tables of {name}", sorted(tables), ["scale"])
        return cls(name, values, mask, bits, scale=tables["scale"].reshape(-1, *[1] * (values.dim() - 1)))

    def tensors(self) -> dict[str, Tensor]:
        kind = torch.int8 if self.zero_point is None else torch.uint8
        tensors = {".codes": self._codes().to(kind), ".scale": shortest(self.scale)}
        return tensors if self.zero_point is None else tensors | {".zero_point": self.zero_point}

    def _codes(self) -> Tensor:
        """q, int16."""
        return self.values if self.zero_point is None else self.values + self.zero_point

    @classmethod
    def taken(cls, name: str, shape: Shape, bits: int, take: Take) -> Self:
        """Whether it has zero points follows from the type of its codes: these are unsigned."""
        ones = (1,) * (len(shape) - 1)
        codes = take(".codes", (torch.int8, torch.uint8), shape)
        unsigned = codes.dtype == torch.uint8
        low, high = integer_range(bits, signed=not unsigned)
        scale = take(".scale", (torch.float16, torch.float32), (shape[0], *ones), (1, *ones), low=SMALLEST)
        if not low <= codes.min() <= codes.max() <= high:
            raise FormatError(f"{name}.codes must hold numbers in [{low}, {high}]. It holds others.")
        values, zero_point = codes.to(torch.int16), None
        if unsigned:
            zero_point = take(".zero_point", (torch.uint8,), tuple(scale.shape), low=low, high=high)
            values = values - zero_point
        return cls(name, values, kept(values), bits, scale=scale, zero_point=zero_point)

    def onnx(self, graph: Written) -> str:
        """Codes and DequantizeLinear, with one scale per output channel, or one for all where there is only one."""
        width = next(bits for bits in TYPES if bits >= self.bits) if graph.narrow else 8
        graph.needs(*VERSIONS[width])
        kind = helper.tensor_dtype_to_np_dtype(TYPES[width][self.zero_point is not None])
        each: tuple[int, ...] = (-1,) if self.scale.numel() > 1 else ()
        parts = {"codes": self._codes().numpy().astype(kind), "scale": self.scale.reshape(each).numpy()}
        if self.zero_point is not None:
            parts["zero_point"] = self.zero_point.reshape(each).numpy().astype(kind)
        names = [graph.named(f"{self.name}.{part}", values) for part, values in parts.items()]
        return graph.add("DequantizeLinear", *names, **({"axis": 0} if each else {}))

    def encoder(self) -> LearnedGrid:
        """The grid on which its values lie. Where its file did not keep the zero points, they are the lowest that count
        them all."""
        low = self.values.amin(tuple(place for place in range(self.values.dim()) if self.scale.shape[place] == 1), True)
        signed = self.zero_point is None and int(self.values.abs().max()) <= integer_range(self.bits, signed=True)[1]
        zero_point = (
            None if signed else (-low).clamp_min(0).float() if self.zero_point is None else self.zero_point.float()
        )
        return LearnedGrid(self.bits, quantization.Grid(self.scale.clone(), zero_point))

    def check(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 8:
            raise FormatError(f"bits of {self.name} must be in [2, 8]. Got {self.bits!r} instead.")
        each = (1 if self.scale.numel() == 1 else self.values.shape[0], *(1,) * (self.values.dim() - 1))
        must_be(f"The shape of the scale of {self.name}", tuple(self.scale.shape), each)
        if not bool((self.scale > 0).all()):
            raise FormatError(f"Scales of {self.name} must be numbers above 0.")


class LearnedGrid(Encoder):
    """A grid whose step is learned (LSQ, Esser et al. 2020).

    scale : > 0, broadcasts to the weight, and is rounded to float16 where it is used
    zero_point : whole numbers of the same shape; None where the grid is symmetric
    """

    zero_point: Tensor | None

    def __init__(self, bits: int, grid: quantization.Grid) -> None:
        super().__init__()
        self.bits, self.scale = bits, nn.Parameter(grid.scale)
        self.register_buffer("zero_point", grid.zero_point)

    @property
    def signed(self) -> bool:
        return self.zero_point is None

    def stored_scale(self) -> Tensor:
        """The step as a file holds it."""
        return straight_through(self.scale, to_half(self.scale.detach()))

    def _step(self, weight: Tensor) -> Tensor:
        """The step, that learns as slowly as LSQ says."""
        scale = self.stored_scale()
        return quantization.learned_step(scale, weight.numel() // scale.numel(), self.bits, self.signed)

    def forward(self, weight: Tensor) -> Tensor:
        return quantization.fake_quantize(weight, self._step(weight), self.bits, self.signed, self.zero_point)

    def rescale(self, factor: Tensor) -> None:
        """Only of a grid with a scale for each row."""
        self.scale.mul_(factor)

    def rate(self, weight: Tensor) -> Tensor:
        """Of w / scale, which larger steps lower, too."""
        low, high = integer_range(self.bits, self.signed)
        moved = 0 if self.zero_point is None else self.zero_point
        return rate.smooth_bits(weight / self._step(weight) + moved, low, high)

    def freeze(self, name: str, weight: Tensor, mask: Tensor | None) -> IntegerGrid:
        scale = self.stored_scale().detach().cpu().clone()
        zero_point = None if self.zero_point is None else self.zero_point.cpu().clone()
        moved = 0 if zero_point is None else zero_point
        codes = quantization.linear_quantize(weight, scale, moved, self.bits, self.signed)
        zero_point = None if zero_point is None else zero_point.to(torch.uint8)
        values = (codes - moved).to(torch.int16)
        return IntegerGrid(name, values, mask, self.bits, scale=scale, zero_point=zero_point)


ENCODING = IntegerGrid
