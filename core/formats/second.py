"""Packed files of version 2, which begin with "CNET" and 2, as a network of this one's loader: the coder as it was.

A weight is stored "dense", one value after the other with the counts of the rows before, or "sparse": first which
values are not zero (`_Decoder.flags`), then these. Everything else is as `core.portable.loader` says.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from math import frexp, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.portable.loader import CHECK, EACH, ENCODINGS, FREE, TOTAL, DamagedFile, Decoder, Network, float_arrays

Array = NDArray[Any]

SECOND = b"CNET\x02"
"""How a packed file of the second version begins."""

ROW, COLUMN, BUCKETS, FLOATS = 16, 4, 64, 16

DICTIONARY = (
    b'],"shared":{"add":"","signed":["affine":{"concatenate","operation":"clip","low":0.0,"high":6.0,'
    b'"average_pool","groups":16,"stride":[2,2]},{"channels":64,"inputs":["block3.add_relu"],"kernel":[1,1],"name":'
    b'"block3.shortcut","operation":"convolution","stride":[2,2]},{"inputs":["block1.conv2","block2.conv2","block2.add"'
    b',"conv_relu"],"name":"block1.add","operation":"add"},{"name":"block1.add_relu","operation":"relu"},{"channels":16,'
    b'"name":"block1.pointwise","operation":"convolution"},{"name":"average","operation":"global_average_pool"},{"name":'
    b'"flatten","operation":"flatten"},{"channels":10,"name":"fc","operation":"linear"}],"shape":[1,28,28]}}'
    b'{"baseline_sha256":"","classes":["T-shirt","Trouser","Pullover","Dress","Coat","Sandal","Shirt","Sneaker","Bag",'
    b'"Ankle boot"],"config":{"above_break_even":false,"activation_bits":8,"bias_correction":false,"bits":null,'
    b'"channel_score":"l1","channel_share":null,"clip":"minmax","granularity":"channel","layers":{"fc1":{"bits":4,'
    b'"rank":6,"rank_share":null,"sparsity":null}},"low_rank_method":"svd","rank_share":null,"recovery":{"distillation":'
    b'true,"epochs":8,"learning_rate":0.05,"schedule":"iterative","seed":0},"rounding":"gptq","scope":"network","score":'
    b'"lamp","sparsity":0.95,"symmetry":"symmetric"},"deviation":0.353,"layers":[{"bias":"float32","weights":[{'
    b'"encoding":"float32","shape":[32,1,3,3],"values":"float32"}]},{"bias":-12,"weights":[{"bits":4,"encoding":'
    b'"integer grid","high":7,"low":-7,"shape":[32,1,3,3],"tables":{"scale":["float16",32]}}]},{"bias":-10,"signals":{'
    b'"conv1_relu":"float16"},"weights":[{"bits":4,"encoding":"integer grid","high":7,"low":-7,"nonzero":1,"shape":['
    b'64,32,3,3],"tables":{"scale":["float16",64]}}]},{"bias":-13,"signals":{"fc1_relu":"float16"},"weights":[{"bits":4,'
    b'"encoding":"integer grid","high":7,"low":-7,"nonzero":9,"shape":[10,128],"tables":{"scale":["float16",10]}}]}],'
    b'"mean":0.286,"network":{"nodes":[{"name":"flatten","operation":"flatten"},{"channels":512,"name":"fc1",'
    b'"operation":"linear"},{"name":"fc1_relu","operation":"relu"},{"channels":512,"name":"fc2","operation":"linear"},{'
    b'"name":"fc2_relu","operation":"relu"},{"channels":512,"name":"fc3","operation":"linear"},{"name":"fc3_relu",'
    b'"operation":"relu"},{"channels":10,"name":"fc4","operation":"linear"}],"shape":[1,28,28]}}],"mean":0.286,'
    b'"network":{"nodes":[{"channels":32,"kernel":[3,3],"name":"conv1","operation":"convolution","padding":[1,1,1,1]},{'
    b'"kernel":[2,2],"name":"conv1_pool","operation":"max_pool","stride":[2,2]},{"name":"conv1_relu","operation":"relu"}'
    b',{"channels":64,"kernel":[3,3],"name":"conv2","operation":"convolution","padding":[1,1,1,1]},{"kernel":[2,2],'
    b'"name":"conv2_pool","operation":"max_pool","stride":[2,2]},{"name":"conv2_relu","operation":"relu"},{"name":'
    b'"flatten","operation":"flatten"},{"channels":128,"name":"fc1","operation":"linear"},{"name":"fc1_relu","operation"'
    b':"relu"},{"channels":10,"name":"fc2","operation":"linear"}],"shape":[1,28,28]}}'
)


def _frequencies(counts: Array, prior: int) -> Array:
    """Whole numbers above 0 with sum TOTAL, in proportion to counts + prior / 16; counts : int64 (..., k)."""
    weights = 16 * counts + prior
    found = 1 + weights * (TOTAL - weights.shape[-1]) // weights.sum(-1, keepdims=True)
    found[..., 0] += TOTAL - found.sum(-1)
    return found


def _odds(count: Any, of: Any, share: float, belief: int) -> Any:
    """Odds of a nonzero weight where `count` of `of` were, and `share` of all are: (c + b s) / (n - c + b (1 - s))."""
    return (count + belief * share) / (of - count + belief * (1.0 - share))


def _bucket_shares(share: float) -> Array:
    """The share of nonzero weights that each bucket is believed to have at first, times TOTAL."""
    centers = np.array([[0.625, 0.875]]) * 2.0 ** np.arange(-BUCKETS // 4, BUCKETS // 4)[:, None]
    centers = centers.ravel() * (share / (1.0 - share))
    return (TOTAL * (centers / (1.0 + centers))).astype(np.int64)


def _flag_frequencies(ones: Array, seen: Array, believed: Array) -> Array:
    """Of a nonzero weight, by bucket, in [1, TOTAL - 1]: `ones` of `seen` were, and the belief counts eight times."""
    return np.clip((ones * TOTAL + 8 * believed) // (seen + 8), 1, TOTAL - 1)


class _Decoder(Decoder):
    """As it was: a row of symbols is coded with the counts of the rows before it."""

    def counted(self, rows: Sequence[int], size: int, prior: int) -> Array:
        """Integers in [0, size), for each of `rows` so many; a row was coded with the counts of those before it."""
        counts, found = np.zeros(size, np.int64), []
        for length in filter(None, rows):
            low = [0, *np.cumsum(_frequencies(counts, prior)).tolist()]
            row = [self._take(low) for _ in range(length)]
            counts += np.bincount(row, minlength=size)
            found += row
        return np.array(found, np.int64)

    def flags(self, rows: int, columns: int, share: float) -> Array:
        """Which weights are not zero, bool (rows, columns): rows and columns that had many before have more."""
        counts, seen, ones = np.zeros(columns, np.int64), np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.int64)
        believed, base = _bucket_shares(share), share / (1.0 - share)
        found = np.zeros((rows, columns), bool)
        for i in range(rows):
            table, buckets, row, count = _flag_frequencies(ones, seen, believed).tolist(), [], [], 0
            for j, column in enumerate((_odds(counts, i, share, COLUMN) / base).tolist()):
                mantissa, exponent = frexp(_odds(count, j, share, ROW) / base * column)
                bucket = min(max(2 * exponent + (mantissa >= 0.75) + BUCKETS // 2, 0), BUCKETS - 1)
                flag = bool(self._take([0, TOTAL - table[bucket], TOTAL]))
                count += flag
                buckets.append(bucket)
                row.append(flag)
            found[i] = row
            counts += found[i]
            seen += np.bincount(buckets, minlength=BUCKETS)
            ones += np.bincount(np.array(buckets)[found[i]], minlength=BUCKETS)
        return found


def load(content: bytes) -> Network:
    """The network of a file. Raises DamagedFile."""
    start = len(SECOND) + 4
    if len(content) < start + CHECK or hashlib.sha256(content[:-CHECK]).digest()[:CHECK] != content[-CHECK:]:
        raise DamagedFile("The file is damaged: its checksum does not fit its content.")
    try:
        end = start + int.from_bytes(content[len(SECOND) : start], "little")
        text = zlib.decompressobj(zdict=DICTIONARY).decompress(content[start:end], 1 << 20)
        return _read(json.loads(text), content[end:-CHECK])
    except Exception as error:  # whatever a header that makes no sense may cause, too little memory for it included
        raise DamagedFile(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _weighted(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the layers."""
    return [node for node in header["network"]["nodes"] if node["operation"] in ("linear", "convolution")]


def _read(header: dict[str, Any], body: bytes) -> Network:
    """A network with arrays in the place of their types, which the header keeps."""
    nodes = header["network"]["nodes"]
    for before, node in zip([{"name": "image"}, *nodes], nodes):  # noqa: B905
        node.setdefault("inputs", [before["name"]])
    if len(_weighted(header)) != len(header["layers"]):
        raise ValueError("it has other layers than its network")
    text = json.dumps(header)
    _decode(header, body)
    layers = {node["name"]: layer for node, layer in zip(_weighted(header), header["layers"])}  # noqa: B905
    signals = header.get("signals", {}).copy()
    for layer in layers.values():
        signals |= layer.get("signals", {})
    ends = {name: name for name in signals} | header.get("shared", {})
    grids = {end: (signals[name], name in header.get("signed", ())) for end, name in ends.items()}
    return Network(json.loads(text), layers, grids, header.get("affine", {}))


def _decode(header: dict[str, Any], body: bytes) -> None:
    """Put the arrays in the place of their types."""
    weights, place = [weight for layer in header["layers"] for weight in layer["weights"]], 0
    arrays = list(float_arrays(header))
    coded: dict[int, list[Any]] = {256: [], 16: []}
    lengths = [prod(weight["shape"]) for weight in weights] + [length for _, _, length, _ in arrays]
    wrong = any(min(weight["shape"]) <= 0 or weight["encoding"] not in ENCODINGS for weight in weights)
    if wrong or min(lengths, default=0) < 0 or sum(lengths) > FREE + EACH * len(body):
        raise ValueError("so few bytes cannot hold what it describes")
    for owner, key, length, kind in arrays:
        if kind == "float32":
            owner[key], place = np.frombuffer(body[place : place + 4 * length], "<f4", length), place + 4 * length
        else:
            coded[256 if kind == "float16" else 16].append((owner, key, length, kind))
    decoder = _Decoder(np.frombuffer(body[place:], "<u4"))
    for weight in weights:
        weight["values"] = _values(weight, decoder)
    for size, arrays in coded.items():
        whole = sum(length for *_, length, _ in arrays)
        upper = decoder.counted([min(FLOATS, whole - done) for done in range(0, whole, FLOATS)], 256, 1)
        numbers = upper * size + decoder.counted([whole], size, 1)
        for owner, key, length, kind in arrays:
            now, numbers = numbers[:length], numbers[length:]
            half = now.astype("<u2").view("<f2") if kind == "float16" else (now - 2048) * 2.0**kind
            owner[key] = half.astype(np.float32)
    if any(ENCODINGS[weight["encoding"]](weight).shape != tuple(weight["shape"]) for weight in weights):
        raise ValueError("its tables do not fit its weights")
    if decoder.words or decoder.state:
        raise ValueError("it holds more than it says")


def _values(weight: dict[str, Any], decoder: _Decoder) -> Array:
    """All values of a weight; zeros, and then the others, where it is stored sparse."""
    shape, kept, low, high = weight["shape"], weight.get("nonzero"), weight.get("low", 0), weight.get("high", 0)
    rows, columns = shape[0], prod(shape[1:])
    if not -256 <= low <= high <= 255 or (kept is not None and not 0 <= kept < rows * columns):
        raise ValueError("it counts wrong")
    flags = np.full((rows, columns), kept is None)
    if kept:
        flags = decoder.flags(rows, columns, kept / (rows * columns))
    chosen = weight.get("values")
    if chosen is None:
        levels = np.arange(low, high + 1)
        levels = levels if kept is None else levels[levels != 0]
        chosen = levels[decoder.counted(flags.sum(1).tolist(), len(levels), 8)].astype(np.int16)
    values = np.zeros((rows, columns), chosen.dtype)
    values[flags] = chosen
    return values.reshape(shape)
