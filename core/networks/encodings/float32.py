"""Weights as they are, four bytes each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from core.config import FLOAT_BITS
from core.networks.encodings import Encoder, Shape, StoredTensor, Take, Written, kept, must_be


@dataclass(frozen=True, eq=False)
class Float32(StoredTensor):
    """values : the weights, float32"""

    encoding: ClassVar[str] = "float32"
    ends: ClassVar[tuple[str, ...]] = ("",)

    def weight(self) -> Tensor:
        return self.values

    @classmethod
    def of(cls, name: str, values: Tensor, mask: Tensor | None, bits: int, tables: Mapping[str, Tensor]) -> Self:
        must_be(f"The tables of {name}", sorted(tables), [])
        return cls(name, values, mask, bits)

    def tensors(self) -> dict[str, Tensor]:
        return {"": self.values}

    @classmethod
    def taken(cls, name: str, shape: Shape, bits: int, take: Take) -> Self:
        values = take("", (torch.float32,), shape)
        return cls(name, values, kept(values), bits)

    def onnx(self, graph: Written) -> str:
        return graph.named(self.name, self.values.contiguous().numpy())

    def check(self) -> None:
        must_be(f"bits of {self.name}", self.bits, FLOAT_BITS)
        must_be(f"The type of {self.name}", self.values.dtype, torch.float32)


class Unrounded(Encoder):
    """Leaves a weight as it is."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight

    def freeze(self, name: str, weight: Tensor, mask: Tensor | None) -> Float32:
        return Float32(name, weight, mask)


ENCODING = Float32
