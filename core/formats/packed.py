"""The packed file: a stored network in as few bytes as its values need.

`core.portable.loader` says how it is laid out, and reads it.

Each weight is stored in the way that takes fewest bytes: "dense", one value after the other; "sparse", first which ones
are not zero, then these. Two float32 factors that hold more numbers than their "product" may be stored as that.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.config import FLOAT_BITS, CompressionConfig, ConfigError
from core.datasets.fashion_mnist import CLASSES, DEVIATION, MEAN
from core.mathematics import coding
from core.networks.models import Layer
from core.networks.stored import FormatError, StoredLayer, StoredNetwork, StoredTensor, check, fixed_point_exponent
from core.portable import loader

Storage = Literal["dense", "sparse", "product", "factors"]
Array = NDArray[Any]
Sizes = dict[tuple[str, str, str], float]
"""Bits by layer, name and kind, in the order of the file."""

KINDS = {
    "map": "map of zeros",
    "codes": "integer codes",
    "values": "float32 values",
    "scale": "scales",
    "input": "scales",
    "between": "scales",
    "bias": "biases",
    "container": "container",
}
VALUE_PRIOR, BYTE_PRIOR = 8, 1
"""How often, in sixteenths, each value counts before it came once."""

SPARSE_FROM = 1 / 16
"""With fewer zeros than this a map of them never pays."""


@dataclass(frozen=True)
class Entry:
    """A line of the ledger. layer is "" for what belongs to the file as a whole."""

    layer: str
    tensor: str
    kind: str
    bytes: int


@dataclass(frozen=True)
class Choice:
    """How a weight is stored, and what that and the other ways take, in bytes without scales."""

    layer: str
    tensor: str
    storage: Storage
    bytes: dict[Storage, int]


class Packed(NamedTuple):
    """content : the file; entries : all its bytes; choices : one per stored weight."""

    content: bytes
    entries: tuple[Entry, ...]
    choices: tuple[Choice, ...]


class _Way(NamedTuple):
    """A weight in one way. sizes : bits, by kind; chosen : the float32 values to write, None where they are coded."""

    storage: Storage
    encoder: coding.Encoder
    sizes: dict[str, float]
    about: dict[str, Any]
    chosen: Array | None

    @property
    def bytes(self) -> int:
        return round(sum(self.sizes.values()) / 8)


def pack(network: StoredNetwork) -> Packed:
    """The file of a network; the same bytes every time."""
    encoder, choices, layers = coding.Encoder(), [], []
    sizes: Sizes = {}
    for stored in network.layers:
        weights = []
        for best, choice in _cheapest(stored):
            choices.append(choice)
            encoder.extend(best.encoder)
            sizes |= {(choice.layer, choice.tensor, kind): bits for kind, bits in best.sizes.items()}
            weights.append(best.about | {"values": best.chosen})
        layers.append(_about_layer(stored, weights))
    raw = _write_floats(layers, encoder, sizes)
    head = _header(network, layers)
    body = loader.MAGIC + len(head).to_bytes(4, "little") + head + raw + encoder.finish()
    content = body + hashlib.sha256(body).digest()[: loader.CHECK]
    return Packed(content, _ledger(sizes, len(content)), tuple(choices))


def _cheapest(stored: StoredLayer) -> list[tuple[_Way, Choice]]:
    """Each stored tensor in its cheapest way; or the product of two float32 factors, where that is smaller and computes
    the same."""
    name, found = stored.layer.name, []
    for tensor in stored.tensors:
        ways = _ways(tensor)
        found.append((ways[0], Choice(name, tensor.name, ways[0].storage, {way.storage: way.bytes for way in ways})))
    if stored.joined is None or any(tensor.bits != FLOAT_BITS for tensor in stored.tensors):
        return found
    product = _ways(StoredTensor(f"{name}.weight", stored.joined, FLOAT_BITS))[0]
    sizes: dict[Storage, int] = {"product": product.bytes, "factors": sum(way.bytes for way, _ in found)}
    smaller = sizes["product"] < sizes["factors"]
    return [(product, Choice(name, f"{name}.weight", "product", sizes))] if smaller else found


def _ways(tensor: StoredTensor) -> list[_Way]:
    """The cheapest first."""
    ways = [_dense(tensor), *([_sparse(tensor)] if tensor.zeros > SPARSE_FROM * tensor.count else [])]
    return sorted(ways, key=lambda way: sum(way.sizes.values()))


def _matrix(tensor: StoredTensor) -> Array:
    return tensor.values.flatten(1).numpy()


def _dense(tensor: StoredTensor) -> _Way:
    values, encoder = _matrix(tensor), coding.Encoder()
    if tensor.bits == FLOAT_BITS:
        return _Way("dense", encoder, {"values": 32.0 * values.size}, _about(tensor, 0, 0, None), values.ravel())
    low, high = int(values.min()), int(values.max())
    bits = encoder.symbols(list(values - low), high - low + 1, VALUE_PRIOR)
    return _Way("dense", encoder, {"codes": bits}, _about(tensor, low, high, None), None)


def _sparse(tensor: StoredTensor) -> _Way:
    values, encoder = _matrix(tensor), coding.Encoder()
    flags = values != 0
    kept = int(flags.sum())
    sizes = {"map": encoder.flags(flags, kept / values.size) if kept else 0.0}
    if tensor.bits == FLOAT_BITS:
        sizes["values"] = 32.0 * kept
        return _Way("sparse", encoder, sizes, _about(tensor, 0, 0, kept), values[flags])
    low, high = int(values.min()), int(values.max())
    chosen = values[flags]
    places = chosen - low - (chosen > 0)  # among the whole numbers from low to high without 0
    rows = np.split(places, np.cumsum(np.count_nonzero(flags, 1))[:-1])
    sizes["codes"] = encoder.symbols(rows, high - low, VALUE_PRIOR) if kept else 0.0
    return _Way("sparse", encoder, sizes, _about(tensor, low, high, kept), None)


def _about(tensor: StoredTensor, low: int, high: int, kept: int | None) -> dict[str, Any]:
    scale = None if tensor.scale is None else tensor.scale.numpy()
    about = {"name": tensor.name, "shape": tuple(tensor.values.shape), "bits": tensor.bits, "nonzero": kept}
    return about | {"low": low, "high": high, "scale": scale, "scales": None if scale is None else scale.shape}


def _about_layer(stored: StoredLayer, weights: list[dict[str, Any]]) -> dict[str, Any]:
    layer = stored.layer
    signals = {"input": stored.input_scale, "between": stored.between_scale}
    arrays = {key: None if scale is None else np.array([scale], np.float32) for key, scale in signals.items()}
    about = {"name": layer.name, "shape": layer.shape, "pool": layer.pool, "relu": layer.relu, "weights": weights}
    return about | {"bias": stored.bias.numpy()} | arrays


def _write_floats(layers: list[dict[str, Any]], encoder: coding.Encoder, sizes: Sizes) -> bytes:
    """Replace each array of floats by its type; returns the float32 ones. Of the others the upper eight bits are much
    alike, and coded; the lower ones, eight of float16 and four of fixed-point numbers, are not."""
    raw = b""
    coded: dict[int, list[tuple[tuple[str, str, str], Array]]] = {256: [], 16: []}
    for owner, key, length, array in loader.float_arrays(layers):
        place = owner["name"].split(".")[0], owner["name"], key
        kind, whole = _type(array.ravel(), key)
        owner[key] = kind
        if whole is None:
            raw, sizes[place] = raw + array.astype("<f4").tobytes(), 32.0 * length
        else:
            coded[256 if kind == "float16" else 16].append((place, whole))
    for size, arrays in coded.items():
        numbers = np.concatenate([part for _, part in arrays] or [np.zeros(0, np.int64)])
        upper = np.split(numbers // size, range(loader.FLOATS, len(numbers), loader.FLOATS))
        bits = encoder.symbols(upper, 256, BYTE_PRIOR) + encoder.symbols([numbers % size], size, BYTE_PRIOR)
        for place, part in arrays:
            sizes[place] = bits * len(part) / len(numbers)
    return raw


def _type(array: Array, key: str) -> tuple[str | int, Array | None]:
    """What an array of floats is written as, without loss, and the whole numbers in [0, 65536) or [0, 4096)."""
    if key == "bias":
        exponent = fixed_point_exponent(float(np.abs(array).max()))
        whole = array.astype(np.float64) * 2.0**-exponent
        if np.array_equal(whole, np.round(whole)):
            return exponent, whole.astype(np.int64) + 2048
    elif key != "values":
        with np.errstate(over="ignore"):
            half = array.astype("<f2")
        if np.array_equal(half, array):
            return "float16", half.view("<u2").astype(np.int64)
    return "float32", None


def _header(network: StoredNetwork, layers: list[dict[str, Any]]) -> bytes:
    about = {
        "baseline_sha256": network.baseline_sha256,
        "classes": CLASSES,
        "config": json.loads(network.config.to_json()),
        "deviation": DEVIATION,
        "layers": layers,
        "mean": MEAN,
    }
    compressor = zlib.compressobj(9, zdict=loader.DICTIONARY)
    text = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    return compressor.compress(text) + compressor.flush()


def _ledger(sizes: Sizes, total: int) -> tuple[Entry, ...]:
    """Whole bytes: each part gets what it moves the rounded sum by; what is left is the container."""
    entries, before, bits = [], 0, 0.0
    for (layer, tensor, kind), size in sizes.items():
        bits += size
        entries.append(Entry(layer, tensor, KINDS[kind], round(bits / 8) - before))
        before = round(bits / 8)
    return (*entries, Entry("", "header and checksum", KINDS["container"], total - before))


def unpack(content: bytes) -> StoredNetwork:
    """The inverse of `pack`. Raises FormatError; masks are those of the nonzero values."""
    try:
        read = loader.load(content)
        about = read.header
        layers = tuple(_layer(layer) for layer in read.layers)
        check(layers)
        config = CompressionConfig.from_record(about["config"])
        return StoredNetwork(layers, config, about["baseline_sha256"])
    except (loader.DamagedFile, ConfigError) as error:
        raise FormatError(str(error)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _layer(read: dict[str, Any]) -> StoredLayer:
    layer = Layer(read["name"], tuple(read["shape"]), read["pool"], read["relu"])
    scales = [None if read[key] is None else float(read[key][0]) for key in ("input", "between")]
    tensors = tuple(
        StoredTensor(own["name"], values, own["bits"], scale, (values != 0) if own["nonzero"] is not None else None)
        for own in read["weights"]
        for values, scale in [(torch.from_numpy(own["values"]), _scale(own["scale"], own["scales"]))]
    )
    return StoredLayer(layer, tensors, torch.from_numpy(read["bias"].copy()), *scales)


def _scale(array: Array | None, shape: list[int]) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.reshape(shape).copy())
