"""A compressed network as a file will hold it: integer codes, scales, biases, configuration. Immutable.

A `StoredNetwork` is the only input of evaluation, ledger and export: what is evaluated is what is exported.
`to_tensors` and `from_tensors` are the file's content, without the file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import coding
from core.config import FLOAT_BITS, CompressionConfig, ConfigError
from core.data import CLASSES, DEVIATION, MEAN
from core.models import Layer
from core.quantization import integer_range, linear_dequantize

FORMAT = "compressed-network/1"
Arrays = dict[str, NDArray[Any]]


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


def to_tensors(network: StoredNetwork) -> Arrays:
    """The arrays of the file: per weight either all values, or a 1-bit map of the nonzero ones and these alone.

    The map pays above a share of zeros of 1 / bits; whichever is smaller is taken. Codes of b bits are packed without
    gaps as unsigned numbers: value + zero_point, or value + 2^(b-1) - 1 where the grid is symmetric.
    """
    arrays: Arrays = {}
    for stored in network.layers:
        for tensor in stored.tensors:
            arrays |= _encode(tensor)
        arrays[f"{stored.layer.name}.bias"] = stored.bias.numpy()
    return arrays


def _encode(tensor: StoredTensor) -> Arrays:
    values = tensor.values.numpy()
    nonzero = values != 0
    kept = int(nonzero.sum())
    sparse = _bytes(values.size, 1) + _bytes(kept, tensor.bits) < _bytes(values.size, tensor.bits)
    arrays: Arrays = {f"{tensor.name}.map": coding.pack_bits(nonzero.ravel(), 1)} if sparse else {}
    chosen = values[nonzero] if sparse else values
    if tensor.scale is None:
        return arrays | {f"{tensor.name}.values": np.ascontiguousarray(chosen)}
    offset = _offsets(tensor.bits, None if tensor.zero_point is None else tensor.zero_point.numpy(), values.shape)
    unsigned = chosen + (offset[nonzero] if sparse else offset)
    arrays[f"{tensor.name}.codes"] = coding.pack_bits(unsigned.ravel(), tensor.bits)
    arrays[f"{tensor.name}.scale"] = tensor.scale.numpy()
    return arrays if tensor.zero_point is None else arrays | {f"{tensor.name}.zero_point": tensor.zero_point.numpy()}


def _bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def _offsets(bits: int, zero_point: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """What is added to the values of a tensor to make them unsigned."""
    offset = np.int16(integer_range(bits, signed=True)[1]) if zero_point is None else zero_point.astype(np.int16)
    return np.broadcast_to(offset, shape)


def metadata(network: StoredNetwork, figures: Mapping[str, str]) -> dict[str, str]:
    """What the file says of itself: format, structure, configuration, baseline, input and classes, figures."""
    layers = [
        {
            "name": stored.layer.name,
            "shape": stored.layer.shape,
            "pool": stored.layer.pool,
            "relu": stored.layer.relu,
            "input_scale": stored.input_scale,
            "between_scale": stored.between_scale,
            "weights": [{"name": t.name, "shape": tuple(t.values.shape), "bits": t.bits} for t in stored.tensors],
        }
        for stored in network.layers
    ]
    about = {
        "format": FORMAT,
        "layers": json.dumps(layers, separators=(",", ":")),
        "config": network.config.to_json(),
        "baseline_sha256": network.baseline_sha256,
        "normalization": json.dumps({"mean": MEAN, "deviation": DEVIATION}),
        "classes": json.dumps(CLASSES),
    }
    return about | dict(figures)


def from_tensors(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> StoredNetwork:
    """The inverse of `to_tensors` and `metadata`. Raises FormatError; masks are those of the nonzero values."""
    if about.get("format") != FORMAT:
        raise FormatError(f"The file's format must be {FORMAT}. Got {about.get('format')!r} instead.")
    try:
        layers = tuple(_decode_layer(entry, arrays) for entry in json.loads(about["layers"]))
        return StoredNetwork(layers, CompressionConfig.from_json(about["config"]), about["baseline_sha256"])
    except ConfigError as error:
        raise FormatError(f"The file's configuration cannot be read. {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise FormatError(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _decode_layer(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> StoredLayer:
    layer = Layer(entry["name"], tuple(entry["shape"]), entry["pool"], entry["relu"])
    tensors = tuple(_decode(own["name"], tuple(own["shape"]), own["bits"], arrays) for own in entry["weights"])
    bias = torch.from_numpy(np.array(arrays[f"{layer.name}.bias"]))
    scales = entry["input_scale"], entry["between_scale"]
    if not all(scale is None or (isinstance(scale, float) and 0 < scale < float("inf")) for scale in scales):
        raise FormatError(f"{layer.name}: scales of activations must be positive numbers. Got {scales} instead.")
    return StoredLayer(layer, tensors, bias, *scales)


def _decode(name: str, shape: tuple[int, ...], bits: int, arrays: Mapping[str, NDArray[Any]]) -> StoredTensor:
    count, packed_map, scale, zero_point = prod(shape), arrays.get(f"{name}.map"), None, None
    nonzero = None if packed_map is None else coding.unpack_bits(packed_map, 1, count).astype(bool)
    kept = count if nonzero is None else int(nonzero.sum())
    if bits == FLOAT_BITS:
        values = np.array(arrays[f"{name}.values"]).astype(np.float32, copy=False).ravel()
    else:
        scale, moved = torch.from_numpy(np.array(arrays[f"{name}.scale"])), arrays.get(f"{name}.zero_point")
        zero_point = None if moved is None else torch.from_numpy(np.array(moved))
        unsigned = coding.unpack_bits(arrays[f"{name}.codes"], bits, kept)
        offset = _offsets(bits, moved, shape).ravel()
        values = unsigned.astype(np.int16) - (offset if nonzero is None else offset[nonzero])
    if values.size != kept:
        raise FormatError(f"{name} must hold {kept} values. Got {values.size} instead.")
    if nonzero is not None:
        chosen, values = values, np.zeros(count, values.dtype)
        values[nonzero] = chosen
    tensor = torch.from_numpy(values).reshape(shape)
    return StoredTensor(name, tensor, bits, scale, None if nonzero is None else tensor != 0, zero_point)
