"""The packed file: a stored network in as few bytes as its values need.

`core.portable.loader` says how it is laid out, and reads it.

Each weight is stored in the way that takes fewest bytes: "dense", one value after the other; "sparse", first which ones
are not zero, then these. Two float32 factors that hold more numbers than their "product" may be stored as that.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.config import FLOAT_BITS, CompressionConfig, ConfigError
from core.datasets.fashion_mnist import CLASSES, DEVIATION, MEAN
from core.mathematics import coding
from core.networks import chains
from core.networks.graph import Layer, Network
from core.networks.operations import NetworkError
from core.networks.stored import (
    FormatError,
    StoredLayer,
    StoredNetwork,
    StoredTensor,
    check,
    fixed_point_exponent,
    must_be,
)  # fmt: skip
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
    "affine": "scales and shifts",
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
        layers.append({"name": stored.layer.name, "weights": weights, "bias": stored.bias.numpy()})
    header = _described(network, layers)
    raw = _write_floats(header, encoder, sizes)
    magic, head = _header(network, header)
    body = magic + len(head).to_bytes(4, "little") + head + raw + encoder.finish()
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


def _described(network: StoredNetwork, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The header as `core.portable.loader` describes it, with arrays in the place of their types. The scale of a signal
    is written with the first layer that reads it."""
    graph, left = network.network, dict(network.scales)
    for stored, about in zip(network.layers, layers, strict=True):
        signal = graph.signal_of(stored.layer.node.inputs[0])
        name = "" if signal is None else signal.name
        about["signals"] = {name: _one(left.pop(name))} if name in left else {}
        about["between"] = None if stored.between_scale is None else _one(stored.between_scale)
    header = {
        "baseline_sha256": network.baseline_sha256,
        "classes": CLASSES,
        "config": json.loads(network.config.to_json()),
        "deviation": DEVIATION,
        "layers": layers,
        "mean": MEAN,
        "network": graph.to_record(),
    }
    scaled = [signal for signal in graph.signals if signal.name in network.scales]
    sometimes = {
        "signals": {name: _one(scale) for name, scale in left.items()},
        "shared": {end: signal.name for signal in scaled for end in signal.ends[1:]},
        "signed": [signal.name for signal in scaled if signal.signed],
        "affine": {name: (tensor.numpy(), tensor.numel()) for name, tensor in network.affine.items()},
    }
    return header | {key: value for key, value in sometimes.items() if value}


def _one(scale: float) -> Array:
    return np.array([scale], np.float32)


def _write_floats(header: dict[str, Any], encoder: coding.Encoder, sizes: Sizes) -> bytes:
    """Replace each array of floats by its type; returns the float32 ones. Of the others the upper eight bits are much
    alike, and coded; the lower ones, eight of float16 and four of fixed-point numbers, are not."""
    raw = b""
    coded: dict[int, list[tuple[tuple[str, str, str], Array]]] = {256: [], 16: []}
    for place, owner, key, array in _arrays(header):
        kind, whole = _type(array.ravel(), place[2])
        owner[key] = (kind, array.size) if place[2] == "affine" else kind
        if whole is None:
            raw, sizes[place] = raw + array.astype("<f4").tobytes(), 32.0 * array.size
        else:
            coded[256 if kind == "float16" else 16].append((place, whole))
    for size, arrays in coded.items():
        numbers = np.concatenate([part for _, part in arrays] or [np.zeros(0, np.int64)])
        upper = np.split(numbers // size, range(loader.FLOATS, len(numbers), loader.FLOATS))
        bits = encoder.symbols(upper, 256, BYTE_PRIOR) + encoder.symbols([numbers % size], size, BYTE_PRIOR)
        for place, part in arrays:
            sizes[place] = bits * len(part) / len(numbers)
    return raw


def _arrays(header: dict[str, Any]) -> list[tuple[tuple[str, str, str], dict[str, Any], str, Array]]:
    """All arrays of floats in the order of `loader.float_arrays`: layer, tensor and kind, where it stands; array."""
    owners: dict[int, tuple[str, str, str]] = {}
    for layer in header["layers"]:
        owners[id(layer)] = layer["name"], layer["name"], ""
        owners[id(layer["signals"])] = layer["name"], layer["name"], "input"
        owners |= {id(weight): (layer["name"], weight["name"], "") for weight in layer["weights"]}
    arrays = []
    for owner, key, _, array in loader.float_arrays(header):
        other = ("", key, "input") if owner is header.get("signals") else (key.rpartition(".")[0], key, "affine")
        name, tensor, kind = owners.get(id(owner), other)
        arrays.append(((name, tensor, kind or key), owner, key, array))
    return arrays


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


def _header(network: StoredNetwork, about: dict[str, Any]) -> tuple[bytes, bytes]:
    """How the file begins, and its header: a chain is described as such, in the first version."""
    chained = bool(chains.family(network.network))
    magic = loader.FIRST if chained else loader.MAGIC
    compressor = zlib.compressobj(9, zdict=loader.DICTIONARIES[magic])
    whole = _as_chain(network, about) if chained else about
    text = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
    return magic, compressor.compress(text) + compressor.flush()


def _as_chain(network: StoredNetwork, about: dict[str, Any]) -> dict[str, Any]:
    """The header in the first version: layers one after the other, with what follows each."""
    layers = []
    for stored, described in zip(network.layers, about["layers"], strict=True):
        own = {key: value for key, value in described.items() if key != "signals"}
        own |= {"input": next(iter(described["signals"].values()), None), "shape": stored.layer.shape}
        last = stored.layer.name == network.network.output
        layers.append(own | {"pool": stored.layer.pool, "relu": not last})
    return {key: value for key, value in about.items() if key != "network"} | {"layers": layers}


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
        about, graph = read.header, Network.from_record(read.header["network"])
        named = {layer.name: layer for layer in graph.layers}
        layers = tuple(_layer(named[name], described) for name, described in read.layers.items())
        scales = {
            signal.name: float(read.grids[signal.name][0][0])
            for signal in graph.signals if signal.name in read.grids
        }  # fmt: skip
        signed = {end: read.grids[end][1] for end in sorted(read.grids)}
        must_be("The nodes with grids, and whether they are signed", signed, _signed(graph, scales))
        affine = {name: torch.from_numpy(values.copy()) for name, values in read.affine.items()}
        config = CompressionConfig.from_record(about["config"])
        network = StoredNetwork(graph, layers, config, about["baseline_sha256"], scales, affine)
        check(network)
        return network
    except (loader.DamagedFile, ConfigError, NetworkError) as error:
        raise FormatError(str(error)) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _signed(graph: Network, scales: Mapping[str, float]) -> dict[str, bool]:
    """Nodes whose outputs are rounded, and whether their grid is signed."""
    ends = {end: signal.signed for signal in graph.signals if signal.name in scales for end in signal.ends}
    return {end: ends[end] for end in sorted(ends)}


def _layer(layer: Layer, read: dict[str, Any]) -> StoredLayer:
    between = None if read["between"] is None else float(read["between"][0])
    tensors = tuple(
        StoredTensor(own["name"], values, own["bits"], scale, (values != 0) if own["nonzero"] is not None else None)
        for own in read["weights"]
        for values, scale in [(torch.from_numpy(own["values"]), _scale(own["scale"], own["scales"]))]
    )
    return StoredLayer(layer, tensors, torch.from_numpy(read["bias"].copy()), between)


def _scale(array: Array | None, shape: list[int]) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.reshape(shape).copy())
