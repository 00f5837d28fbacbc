"""The packed file: a stored network in as few bytes as its values need.

`core.portable.loader` says how it is laid out, and reads it.

Whole numbers are coded one after the other, zeros among them. Float32 weights are stored in the way that takes fewest
bytes: "dense", one after the other; "sparse", first which ones are not zero, then these. Two float32 factors that hold
more numbers than their "product" may be stored as that.
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

from core.config import FLOAT_BITS, CompressionConfig, ConfigError
from core.formats import earlier, seen
from core.mathematics import coding
from core.mathematics.rounding import fixed_point_exponent
from core.networks import encodings
from core.networks.encodings import FormatError, StoredTensor, must_be
from core.networks.encodings.float32 import Float32
from core.networks.graph import Layer, Network
from core.networks.operations import NetworkError
from core.networks.stored import StoredLayer, StoredNetwork, check
from core.portable import loader

Storage = Literal["dense", "sparse", "product", "factors"]
Array = NDArray[Any]
Sizes = dict[tuple[str, str, str], float]
"""Bits by layer, name and kind, in the order of the file."""

Places = dict[int, tuple[str, str, str]]
"""Layer, name and kind of what a part of the header holds, by its id; a kind of "" is the key there."""

KINDS = {
    "map": "map of zeros",
    "codes": "integer codes",
    "values": "float32 values",
    "scale": "scales",
    "centroids": "codebooks",
    "input": "scales",
    "between": "scales",
    "bias": "biases",
    "affine": "scales and shifts",
    "container": "container",
}
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
    """A weight in one way. sizes : bits, by kind; about : what the header says of its values, or the float32 ones."""

    storage: Storage
    encoder: coding.Encoder
    sizes: dict[str, float]
    about: dict[str, Any]

    @property
    def bytes(self) -> int:
        return round(sum(self.sizes.values()) / 8)


def pack(network: StoredNetwork) -> Packed:
    """The file of a network; the same bytes every time."""
    encoder, sizes, choices = coding.Encoder(), Sizes(), []
    layers: list[list[tuple[str, dict[str, Any]]]] = []
    for stored in network.layers:
        layers.append([])
        for best, choice in _cheapest(stored, network.network.map_read(stored.layer)):
            choices.append(choice)
            encoder.extend(best.encoder)
            sizes |= {(choice.layer, choice.tensor, kind): bits for kind, bits in best.sizes.items()}
            layers[-1].append((choice.tensor, best.about))
    header, places = _described(network, layers)
    raw = _write_floats(header, places, encoder, sizes)
    compressor = zlib.compressobj(9, zdict=loader.DICTIONARY)
    text = json.dumps(_brief(header), sort_keys=True, separators=(",", ":")).encode()
    head = compressor.compress(text) + compressor.flush()
    body = loader.MAGIC + len(head).to_bytes(4, "little") + head + raw + encoder.finish()
    content = body + hashlib.sha256(body).digest()[: loader.CHECK]
    return Packed(content, _ledger(sizes, len(content)), tuple(choices))


def _cheapest(stored: StoredLayer, window: tuple[int, int]) -> list[tuple[_Way, Choice]]:
    """Each stored tensor in its cheapest way; or the product of two float32 factors, where that is smaller and computes
    the same."""
    name, found = stored.layer.name, []
    for tensor in stored.tensors:
        ways = _ways(tensor, window if tensor is stored.tensors[0] else (1, 1))
        found.append((ways[0], Choice(name, tensor.name, ways[0].storage, {way.storage: way.bytes for way in ways})))
    if stored.joined is None or any(tensor.coded for tensor in stored.tensors):
        return found
    product = _ways(Float32(f"{name}.weight", stored.joined), window)[0]
    sizes: dict[Storage, int] = {"product": product.bytes, "factors": sum(way.bytes for way, _ in found)}
    smaller = sizes["product"] < sizes["factors"]
    return [(product, Choice(name, f"{name}.weight", "product", sizes))] if smaller else found


def _ways(tensor: StoredTensor, window: tuple[int, int]) -> list[_Way]:
    """The cheapest first."""
    if tensor.coded:
        ways = [_coded(tensor, window)]
    else:
        values = _matrix(tensor)
        ways = [_Way("dense", coding.Encoder(), {"values": 32.0 * values.size}, {"values": values.ravel()})]
        ways += [_sparse(values)] if tensor.zeros > SPARSE_FROM * tensor.count else []
    ways = [way._replace(about=_about(tensor) | way.about) for way in ways]
    return sorted(ways, key=lambda way: sum(way.sizes.values()))


def _matrix(tensor: StoredTensor) -> Array:
    return tensor.values.flatten(1).numpy()


def _coded(tensor: StoredTensor, window: tuple[int, int]) -> _Way:
    """Of a pruned weight, what says where it is 0 counts as the map."""
    values, shape, encoder = _matrix(tensor), tuple(tensor.values.shape), coding.Encoder()
    of = (shape[2], shape[3]) if len(shape) == 4 else window
    about: dict[str, Any] = {"most": int(np.abs(values.astype(np.int64)).max())}
    if alike := coding.likeness(values, of):
        about |= {"alike": alike} | ({"window": of} if len(shape) == 2 else {})
    costs, zeros = encoder.values(values, about["most"], of, alike)
    sizes = {"codes": float(costs.sum())}
    if tensor.mask is not None:
        about["pruned"] = True
        sizes = {"map": float(zeros.sum()), "codes": float((costs - zeros).sum())}
    return _Way("dense", encoder, sizes, about)


def _sparse(values: Array) -> _Way:
    flags, encoder = values != 0, coding.Encoder()
    kept = int(flags.sum())
    sizes = {"map": float(encoder.values(flags.astype(np.int16), 1)[0].sum()), "values": 32.0 * kept}
    return _Way("sparse", encoder, sizes, {"nonzero": kept, "values": values[flags]})


def _about(tensor: StoredTensor) -> dict[str, Any]:
    """What the header says of a tensor, however its values are written."""
    about = {"encoding": tensor.encoding, "shape": tuple(tensor.values.shape)}
    tables = {name: (table.flatten().numpy(), table.numel()) for name, table in tensor.tables.items()}
    return about | ({"bits": tensor.bits, "tables": tables} if tensor.coded else {})


def _described(network: StoredNetwork, layers: list[list[tuple[str, dict[str, Any]]]]) -> tuple[dict[str, Any], Places]:
    """The header as `core.portable.loader` describes it, with arrays in the place of their types; whose these are.

    layers : for each, what the header says of its weights, by their names
    The scale of a signal is written with the first layer that reads it.
    """
    graph, left, places, described = network.network, dict(network.scales), Places(), []
    for stored, weights in zip(network.layers, layers, strict=True):
        about: dict[str, Any] = {"weights": [each for _, each in weights], "bias": stored.bias.numpy()}
        name, signal = stored.layer.name, graph.signal_of(stored.layer.node.inputs[0])
        if signal is not None and signal.name in left:
            about["signals"] = {signal.name: _one(left.pop(signal.name))}
            places[id(about["signals"])] = name, name, "input"
        if stored.between_scale is not None:
            about["between"] = _one(stored.between_scale)
        places[id(about)] = name, name, ""
        places |= {id(part): (name, tensor, "") for tensor, each in weights for part in (each, each.get("tables"))}
        described.append(about)
    header = {
        "baseline_sha256": network.baseline_sha256,
        "config": json.loads(network.config.to_json()),
        "layers": described,
        "network": graph.to_record(),
        **seen.described(network.images),
    }
    scaled = [signal for signal in graph.signals if signal.name in network.scales]
    sometimes = {
        "signals": {name: _one(scale) for name, scale in left.items()},
        "shared": {end: signal.name for signal in scaled for end in signal.ends[1:]},
        "signed": [signal.name for signal in scaled if signal.signed],
        "affine": {name: (tensor.numpy(), tensor.numel()) for name, tensor in network.affine.items()},
    }
    return header | {key: value for key, value in sometimes.items() if value}, places


def _brief(header: dict[str, Any]) -> dict[str, Any]:
    """A header without what `loader.usual` says of it; null where it says something that is not so."""
    brief: dict[str, Any] = json.loads(json.dumps(header))
    for record, parts in reversed(list(loader.usual(brief))):
        for part, value in parts.items():
            if part not in record:
                record[part] = None
            elif record[part] == value:
                del record[part]
    return brief


def _one(scale: float) -> Array:
    return np.array([scale], np.float32)


def _write_floats(header: dict[str, Any], places: Places, encoder: coding.Encoder, sizes: Sizes) -> bytes:
    """Replace each array of floats by its type; returns the float32 ones. Of the others the upper bits are much alike,
    and coded, eight of float16 and four of fixed-point numbers; the lower eight are not."""
    raw = b""
    coded: dict[int, list[tuple[tuple[str, str, str], Array]]] = {256: [], 16: []}
    for owner, key, _, array in list(loader.float_arrays(header)):
        layer, tensor, its = places.get(id(owner)) or _of_none(header, owner, key)
        place = layer, tensor, its or key
        kind, whole = _type(array.ravel(), place[2])
        owner[key] = (kind, array.size) if isinstance(owner[key], tuple) else kind
        if whole is None:
            raw, sizes[place] = raw + array.astype("<f4").tobytes(), 32.0 * array.size
        else:
            coded[256 if kind == "float16" else 16].append((place, whole))
    for size, arrays in coded.items():
        numbers = np.concatenate([part for _, part in arrays] or [np.zeros(0, np.int64)])
        which = np.repeat(np.arange(len(arrays)), [len(part) for _, part in arrays])
        bits = encoder.symbols(numbers // 256, np.minimum(which, loader.LIKELY - 1) * loader.AROUND, size)
        bits = bits + encoder.even(numbers % 256, 256)
        for position, (place, _) in enumerate(arrays):
            sizes[place] = float(bits[which == position].sum())
    return raw


def _of_none(header: dict[str, Any], owner: dict[str, Any], key: str) -> tuple[str, str, str]:
    """The place of an array that belongs to no layer."""
    return ("", key, "input") if owner is header.get("signals") else (key.rpartition(".")[0], key, "affine")


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
        read = earlier.packed(content)
        about, graph = read.header, Network.from_record(read.header["network"])
        layers = tuple(_layer(layer, read.layers[layer.name]) for layer in graph.layers)
        scales = {
            signal.name: float(read.grids[signal.name][0][0])
            for signal in graph.signals if signal.name in read.grids
        }  # fmt: skip
        signed = {end: read.grids[end][1] for end in sorted(read.grids)}
        must_be("The nodes with grids, and whether they are signed", signed, _signed(graph, scales))
        affine = {name: torch.from_numpy(values.copy()) for name, values in read.affine.items()}
        config = CompressionConfig.from_record(about["config"])
        network = StoredNetwork(graph, layers, config, about["baseline_sha256"], scales, affine, seen.of(about))
        check(network)
        return network
    except (loader.DamagedFile, ConfigError, NetworkError) as error:
        raise FormatError(str(error)) from None
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _signed(graph: Network, scales: Mapping[str, float]) -> dict[str, bool]:
    """Nodes whose outputs are rounded, and whether their grid is signed."""
    ends = {end: signal.signed for signal in graph.signals if signal.name in scales for end in signal.ends}
    return {end: ends[end] for end in sorted(ends)}


def _layer(layer: Layer, read: dict[str, Any]) -> StoredLayer:
    parts = ("weight",) if len(read["weights"]) == 1 else ("first", "second")
    tensors = tuple(_tensor(f"{layer.name}.{part}", own) for part, own in zip(parts, read["weights"], strict=True))
    between = float(read["between"][0]) if "between" in read else None
    return StoredLayer(layer, tensors, torch.from_numpy(read["bias"].copy()), between)


def _tensor(name: str, read: dict[str, Any]) -> StoredTensor:
    values = torch.from_numpy(read["values"])
    tables = {key: torch.from_numpy(table.copy()) for key, table in read.get("tables", {}).items()}
    mask = values != 0 if "nonzero" in read or read.get("pruned") else None
    return encodings.named(read["encoding"]).of(name, values, mask, read.get("bits", FLOAT_BITS), tables)
