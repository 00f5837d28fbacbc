"""Weights that share a few values: w = centroids[q], see `core.mathematics.clustering` (Han et al. 2016)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from core.mathematics import rate
from core.mathematics.clustering import k_means
from core.mathematics.rounding import shortest, straight_through
from core.networks.encodings import Encoder, FormatError, Shape, StoredTensor, Take, Written, kept, must_be

MOST = 256
"""Centroids of a codebook at most: an index fits in a byte."""

HALF = 2.0**-11
"""A table is stored in float16 where that moves no centroid by more than this share of the largest."""


@dataclass(frozen=True, eq=False)
class Codebook(StoredTensor):
    """values : q - origin, whole numbers; origin is the place of the centroid 0, or K where none is 0
    bits : of an index, ceil(log2 K) for the K that was asked for
    centroids : (K,), float32, ascending
    """

    encoding: ClassVar[str] = "codebook"
    ends: ClassVar[tuple[str, ...]] = (".indices", ".centroids")

    centroids: Tensor = field(kw_only=True)

    def weight(self) -> Tensor:
        return self.centroids[self._indices()]

    @property
    def tables(self) -> dict[str, Tensor]:
        return {"centroids": self.centroids}

    @classmethod
    def of(cls, name: str, values: Tensor, mask: Tensor | None, bits: int, tables: Mapping[str, Tensor]) -> Self:
        must_be(f"The tables of {name}", sorted(tables), ["centroids"])
        return cls(name, values, mask, bits, centroids=tables["centroids"])

    def tensors(self) -> dict[str, Tensor]:
        return {".indices": self._indices().to(torch.uint8), ".centroids": shortest(self.centroids)}

    def _indices(self) -> Tensor:
        """q, int64."""
        return self.values.long() + origin(self.centroids)

    @classmethod
    def taken(cls, name: str, shape: Shape, bits: int, take: Take) -> Self:
        indices = take(".indices", (torch.uint8,), shape)
        sizes = ((count,) for count in range(MOST, 0, -1))
        centroids = take(".centroids", (torch.float16, torch.float32), *sizes)
        values = (indices.long() - origin(centroids)).to(torch.int16)
        return cls(name, values, kept(values), bits, centroids=centroids)

    def onnx(self, graph: Written) -> str:
        """Indices, a byte each, and Gather from the table; it wants indices of 32 bits."""
        indices = graph.named(f"{self.name}.indices", self._indices().numpy().astype(np.uint8))
        table = graph.named(f"{self.name}.centroids", self.centroids.numpy())
        return graph.add("Gather", table, graph.add("Cast", indices, to=TensorProto.INT32))

    def check(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 8:
            raise FormatError(f"bits of {self.name} must be in [1, 8]. Got {self.bits!r} instead.")
        must_be(f"The type of {self.name}", self.values.dtype, torch.int16)
        count = self.centroids.numel()
        if self.centroids.dim() != 1 or not 1 <= count <= 2**self.bits:
            raise FormatError(f"{self.name} must have 1 to {2**self.bits} centroids. Got {count} instead.")
        if not bool((self.centroids.diff() > 0).all()):
            raise FormatError(f"Centroids of {self.name} must be numbers in ascending order.")
        indices = self._indices()
        if not 0 <= int(indices.min()) <= int(indices.max()) < count:
            raise FormatError(f"{self.name} must hold places in its table of {count} centroids. It holds others.")


def origin(centroids: Tensor) -> int:
    """The place that is written as 0: that of the centroid 0; behind the last where none is 0."""
    zeros = torch.nonzero(centroids == 0).flatten().tolist()
    return int(zeros[0]) if zeros else centroids.numel()


class LearnedCodebook(Encoder):
    """A codebook whose centroids are learned; each weight goes to the nearest, wherever both have moved.

    free : (K,), or (K - 1,) where 0 is kept as a centroid that stays; in any order
    """

    def __init__(self, weight: Tensor, count: int, keeps_zero: bool) -> None:
        """weight : pruned already; count : K, of [2, 256]; the beginning is `k_means`, of the weights that are not 0
        where zero is kept."""
        super().__init__()
        self.bits, self.keeps_zero = (count - 1).bit_length(), keeps_zero
        numbers = weight.detach().cpu().double().flatten().numpy()
        numbers = numbers[numbers != 0] if keeps_zero else numbers
        found = k_means(numbers, count, keeps_zero=keeps_zero) if len(numbers) else np.zeros(1)
        found = found[found != 0] if keeps_zero else found
        free = np.pad(found, (0, count - keeps_zero - len(found)), "edge" if len(found) else "constant")
        self.free = nn.Parameter(torch.from_numpy(free).float().to(weight.device))

    def table(self) -> Tensor:
        """All centroids as a file holds them, ascending; some may be equal."""
        free = straight_through(self.free, to_table(self.free.detach()))
        every = torch.cat([free, free.new_zeros(1)]) if self.keeps_zero else free
        return every.sort().values

    def forward(self, weight: Tensor) -> Tensor:
        """The nearest centroid. Its gradient goes to the weight, straight through (Bengio et al. 2013), and to the
        centroid, which gets the sum over its weights (Han et al. 2016), divided by n / K, the weights that a centroid
        has on average: it moves about as their mean does."""
        table = self.table()
        if torch.is_grad_enabled() and table.requires_grad:
            factor = len(table) / weight.numel()
            table.register_hook(lambda gradient: gradient * factor)
        return straight_through(weight, table[nearest(weight.detach(), table.detach())])

    def rate(self, weight: Tensor) -> Tensor:
        """Of the places in the table, between two of them by how far a weight is from the one to the other."""
        table = self.table().detach()
        if len(table) < 2:
            return super().rate(weight) * 0
        below = torch.bucketize(weight.detach().contiguous(), table[1:-1])
        apart = (table[below + 1] - table[below]).clamp_min(torch.finfo(table.dtype).tiny)
        return rate.smooth_bits(below + (weight - table[below]) / apart, 0, len(table) - 1)

    def freeze(self, name: str, weight: Tensor, mask: Tensor | None) -> Codebook:
        """Centroids that no weight has are left out."""
        table = self.table().detach().cpu().unique() + 0.0
        used, indices = nearest(weight, table).unique(return_inverse=True)
        centroids = table[used]
        values = (indices - origin(centroids)).to(torch.int16)
        return Codebook(name, values, mask, self.bits, centroids=centroids)


def nearest(weight: Tensor, centroids: Tensor) -> Tensor:
    """The place of the centroid nearest to each weight, of equals the lower one; centroids : ascending."""
    return torch.bucketize(weight.contiguous(), (centroids[1:] + centroids[:-1]) / 2)


def to_table(centroids: Tensor) -> Tensor:
    """Rounded to float16, as float32; as they are where that would move one too far (`HALF`)."""
    half = centroids.half().float()
    return half if bool(((half - centroids).abs() <= HALF * centroids.abs().max()).all()) else centroids


ENCODING = Codebook
