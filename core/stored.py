"""A compressed network as a file will hold it: integer codes, scales, biases, configuration. Immutable.

A `StoredNetwork` is the only input of evaluation, ledger and export: what is evaluated is what is exported.
A quantized layer has scales and biases that float16 holds exactly; a float32 layer is left bit for bit.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import frexp

import torch
from torch import Tensor

from core.config import CompressionConfig
from core.models import Layer
from core.quantization import linear_dequantize

FORMAT = "compressed-network/2"
"""Raise it when the values of stored networks come out otherwise: what was measured before is then measured again."""


class FormatError(ValueError):
    """Not a file of ours, or a damaged one."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """One stored weight: a layer's own ("fc1.weight") or one of its two factors ("fc1.first", "fc1.second").

    values : float32 weights where bits is 32, else whole numbers q - zero_point, int16; zero where pruned
    scale : float32, broadcasts to values; None where bits is 32
    zero_point : uint8, as scale; None where the grid is symmetric
    mask : bool, True where kept; None where nothing was pruned
    """

    name: str
    values: Tensor
    bits: int
    scale: Tensor | None = None
    mask: Tensor | None = None
    zero_point: Tensor | None = None

    @property
    def count(self) -> int:
        return self.values.numel()

    @property
    def masked(self) -> int:
        """Weights that pruning removed."""
        return 0 if self.mask is None else self.count - int(torch.count_nonzero(self.mask))

    @property
    def zeros(self) -> int:
        """All zeros: those that pruning made and those that rounding made."""
        return self.count - int(torch.count_nonzero(self.values))

    def weight(self) -> Tensor:
        """The weight that is evaluated: scale * code, or the float itself."""
        return self.values if self.scale is None else linear_dequantize(self.values, self.scale)


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """tensors : one weight, or the two factors of a low-rank layer, in the order in which they are applied.

    input_scale : of the unsigned grid on which the layer's input is rounded; None where it is not
    between_scale : of the signed grid for the signal between two factors; None where it is not rounded
    """

    layer: Layer
    tensors: tuple[StoredTensor, ...]
    bias: Tensor
    input_scale: float | None = None
    between_scale: float | None = None

    @cached_property
    def content(self) -> str:
        """SHA-256 of everything that its output depends on: two layers with the same content compute the same."""
        digest = hashlib.sha256(repr((self.layer, self.input_scale, self.between_scale)).encode())
        for tensor in self.tensors:
            digest.update(repr((tuple(tensor.values.shape), tensor.bits)).encode())
            for part in (tensor.values, tensor.scale):
                digest.update(b"" if part is None else part.contiguous().numpy().tobytes())
        digest.update(self.bias.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def joined(self) -> Tensor | None:
        """The product of two factors, float32 of the layer's shape, where that is less work; else None.

        A product of rank r costs r (m + n) multiplications, the matrix m n. Factors whose signal is rounded in between
        cannot be joined.
        """
        if len(self.tensors) == 1 or self.between_scale is not None or self.weights <= self.layer.weights:
            return None
        first, second = (tensor.weight().flatten(1).double() for tensor in self.tensors)
        return (second @ first).float().reshape(self.layer.shape)

    @property
    def rank(self) -> int | None:
        return self.tensors[0].values.shape[0] if len(self.tensors) == 2 else None

    @property
    def weights(self) -> int:
        return sum(tensor.count for tensor in self.tensors)

    @property
    def sparsity(self) -> float:
        """Pruned weights / stored weights of this layer."""
        return sum(tensor.masked for tensor in self.tensors) / self.weights


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    layers: tuple[StoredLayer, ...]
    config: CompressionConfig
    baseline_sha256: str

    @property
    def parameters(self) -> int:
        """Stored weights and biases, zeros included."""
        return sum(stored.weights + stored.bias.numel() for stored in self.layers)

    @property
    def nonzero(self) -> int:
        """Parameters without the zeros among the weights."""
        return self.parameters - sum(tensor.zeros for stored in self.layers for tensor in stored.tensors)

    @property
    def sparsity(self) -> float:
        """Pruned weights / stored weights of all layers; biases are never pruned and never counted."""
        masked = sum(tensor.masked for stored in self.layers for tensor in stored.tensors)
        return masked / sum(stored.weights for stored in self.layers)


def to_half(x: Tensor) -> Tensor:
    """x rounded to float16, as float32; x itself where that would move a number by more than 2^-11 of it."""
    half = x.half().float()
    return half if bool(((half - x).abs() <= 2**-11 * x.abs()).all()) else x


def to_fixed_point(x: Tensor) -> Tensor:
    """x rounded to whole multiples k 2^e with |k| <= 2047, which float16 holds exactly, too: e as small as may be."""
    step = 2.0 ** fixed_point_exponent(x.abs().max().item())
    return (x.double() / step).round().mul(step).float()


def fixed_point_exponent(largest: float) -> int:
    """The smallest e with largest <= 2047 * 2^e; 0 for 0."""
    mantissa, exponent = frexp(largest / 2047)
    return exponent - (mantissa == 0.5)
