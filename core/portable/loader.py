"""Reads a packed network and runs it, with NumPy alone: `load("network.packed").logits(images)`.

The file, in this order:
    5 bytes     "CNET" and the version, 1
    4 bytes     length of the header, little-endian, like everything here
    header      JSON, deflated (`DICTIONARY`): layers, configuration, classes, normalization, the baseline's SHA-256 sum
    raw         the float32 arrays
    words       4 bytes each: all integers, entropy-coded (`Decoder`), the last word first
    16 bytes    the first half of the SHA-256 sum of all of the above
Every probability that the words were coded with is a whole number over 2^24 and follows from what was decoded before.
"""

import hashlib
import json
import zlib
from bisect import bisect_right
from math import frexp, prod
from pathlib import Path

import numpy as np

MAGIC = b"CNET\x01"
CHECK = 16
TOTAL = 1 << 24
"""Sum of the frequencies of a model."""

ROW, COLUMN, BUCKETS = 16, 4, 64
"""A row, a column is believed to be like all others with the weight of so many numbers."""

FLOATS, FREE, EACH = 16, 1 << 16, 4096
"""Coded floats after which their model learns; a file holds at most FREE numbers, and EACH more for every byte."""

DICTIONARY = (
    b'{"baseline_sha256":"","classes":["T-shirt","Trouser","Pullover","Dress","Coat","Sandal","Shirt","Sneaker","Bag",'
    b'"Ankle boot"],"config":{"above_break_even":false,"activation_bits":4,"bias_correction":false,"bits":4,'
    b'"channel_score":"l1","channel_share":null,"clip":"minmax","granularity":"channel","layers":{},'
    b'"low_rank_method":"svd","rank_share":null,"recovery":{"distillation":true,"epochs":8,"learning_rate":0.05,'
    b'"schedule":"iterative","seed":0},"rounding":"gptq","scope":"network","score":"lamp","sparsity":0.95,'
    b'"symmetry":"symmetric"},"deviation":0.353,"layers":[{"between":null,"bias":-12,"input":null,"name":"conv1",'
    b'"pool":true,"relu":true,"shape":[32,1,3,3],"weights":[{"bits":4,"high":7,"low":-7,"name":"conv1.weight",'
    b'"nonzero":null,"scale":"float16","scales":[32,1,1,1],"shape":[32,1,3,3]}]},{"between":null,"bias":"float32",'
    b'"input":"float16","name":"fc2","pool":false,"relu":false,"shape":[10,128],"weights":[{"bits":4,"high":7,"low":'
    b'-7,"name":"fc2.first","scale":null,"shape":[10,128]},{"name":"fc2.weight"}]}],"mean":0.286,'
)
"""A text like most headers: what is the same in both costs nothing."""


class DamagedFile(ValueError):
    """Not a packed network, or a damaged one."""


def frequencies(counts, prior):
    """Whole numbers above 0 with sum TOTAL, in proportion to counts + prior / 16; counts : int64 (..., k)."""
    weights = 16 * counts + prior
    found = 1 + weights * (TOTAL - weights.shape[-1]) // weights.sum(-1, keepdims=True)
    found[..., 0] += TOTAL - found.sum(-1)
    return found


def odds(count, of, share, belief):
    """Odds of a nonzero weight where `count` of `of` were, and `share` of all are: (c + b s) / (n - c + b (1 - s))."""
    return (count + belief * share) / (of - count + belief * (1.0 - share))


def bucket_shares(share):
    """The share of nonzero weights that each bucket is believed to have at first, times TOTAL."""
    centers = np.array([[0.625, 0.875]]) * 2.0 ** np.arange(-BUCKETS // 4, BUCKETS // 4)[:, None]
    centers = centers.ravel() * (share / (1.0 - share))
    return (TOTAL * (centers / (1.0 + centers))).astype(np.int64)


def flag_frequencies(ones, seen, believed):
    """Of a nonzero weight, by bucket, in [1, TOTAL - 1]: `ones` of `seen` were, and the belief counts eight times."""
    return np.clip((ones * TOTAL + 8 * believed) // (seen + 8), 1, TOTAL - 1)


class Decoder:
    """An asymmetric numeral system (Duda 2009), as the library constriction has it: a state of 64 bits, words of 32."""

    def __init__(self, words):
        self.words, self.state = words.tolist(), 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()

    def _take(self, low, frequency):
        self.state = (self.state >> 24) * frequency + (self.state & TOTAL - 1) - low
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def symbols(self, rows, size, prior):
        """Integers in [0, size), for each of `rows` so many; a row was coded with the counts of those before it."""
        counts, found = np.zeros(size, np.int64), []
        for length in filter(None, rows):
            low = [0, *np.cumsum(frequencies(counts, prior)).tolist()]
            row = []
            for _ in range(length):
                symbol = bisect_right(low, self.state & TOTAL - 1) - 1
                self._take(low[symbol], low[symbol + 1] - low[symbol])
                row.append(symbol)
            counts += np.bincount(row, minlength=size)
            found += row
        return np.array(found, np.int64)

    def flags(self, rows, columns, share):
        """Which weights are not zero, bool (rows, columns): rows and columns that had many before have more."""
        counts, seen, ones = np.zeros(columns, np.int64), np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.int64)
        believed, base = bucket_shares(share), share / (1.0 - share)
        found = np.zeros((rows, columns), bool)
        for i in range(rows):
            table, buckets, row, count = flag_frequencies(ones, seen, believed).tolist(), [], [], 0
            for j, column in enumerate((odds(counts, i, share, COLUMN) / base).tolist()):
                mantissa, exponent = frexp(odds(count, j, share, ROW) / base * column)
                bucket = min(max(2 * exponent + (mantissa >= 0.75) + BUCKETS // 2, 0), BUCKETS - 1)
                zeros = TOTAL - table[bucket]
                flag = (self.state & TOTAL - 1) >= zeros
                self._take(zeros if flag else 0, table[bucket] if flag else zeros)
                count += flag
                buckets.append(bucket)
                row.append(flag)
            found[i] = row
            counts += found[i]
            seen += np.bincount(buckets, minlength=BUCKETS)
            ones += np.bincount(np.array(buckets)[found[i]], minlength=BUCKETS)
        return found


class Network:
    """header : what the file says of itself. layers : those of the header, with arrays in place of types: each weight
    has `values` (whole numbers, or float32 where it was not quantized) and `scale`, each layer has `bias` and the
    scales of its signals, `input` and `between` two factors; None where there is no scale."""

    def __init__(self, header, layers):
        self.header, self.layers = header, layers
        self._weights = [[_weight(**weight) for weight in layer["weights"]] for layer in layers]

    def logits(self, images):
        """The scores of the classes, float32 (n, 10), for images, uint8 (n, 28, 28)."""
        pixels = np.asarray(images, np.float32)[:, None] / np.float32(255)
        x = (pixels - np.float32(self.header["mean"])) / np.float32(self.header["deviation"])
        return np.concatenate([self._forward(x[start : start + 100]) for start in range(0, len(x), 100)])

    def _forward(self, x):
        bits = self.header["config"]["activation_bits"] or 1
        for layer, weights in zip(self.layers, self._weights):  # noqa: B905
            x = _on_grid(x, layer["input"], 0, 2**bits - 1)
            for position, weight in enumerate(weights):
                x = x if position == 0 else _on_grid(x, layer["between"], 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
                x = _product(x, weight)
            x = x + layer["bias"].reshape(-1, *[1] * (x.ndim - 2))
            if layer["pool"]:
                n, c, h, w = x.shape
                x = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
            x = np.maximum(x, 0) if layer["relu"] else x
        return x


def _weight(values, scale, scales, **others):
    return values.astype(np.float32) * (1 if scale is None else scale.reshape(scales))


def _on_grid(x, scale, low, high):
    return x if scale is None else np.clip(np.round(x / scale), low, high) * scale


def _product(x, weight):
    """W x for a matrix (out, in); for a convolution (out, in, k, k) at every pixel, zeros around the image."""
    if weight.ndim == 2:
        return x.reshape(len(x), -1) @ weight.T
    k = weight.shape[-1]
    around = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    patches = np.lib.stride_tricks.sliding_window_view(around, (k, k), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    y = patches.reshape(-1, weight[0].size) @ weight.reshape(len(weight), -1).T
    return y.reshape(*patches.shape[:3], -1).transpose(0, 3, 1, 2)


def load(source):
    """The network of a file, a path or its bytes. Raises DamagedFile, and OSError where it cannot be read."""
    content, start = source if isinstance(source, bytes) else Path(source).read_bytes(), len(MAGIC) + 4
    if content[: len(MAGIC)] != MAGIC:
        raise DamagedFile("This is not a packed network, or one of another version.")
    if len(content) < start + CHECK or hashlib.sha256(content[:-CHECK]).digest()[:CHECK] != content[-CHECK:]:
        raise DamagedFile("The file is damaged: its checksum does not fit its content.")
    try:
        end = start + int.from_bytes(content[len(MAGIC) : start], "little")
        text = zlib.decompressobj(zdict=DICTIONARY).decompress(content[start:end], 1 << 20)
        return Network(json.loads(text), _decode(json.loads(text)["layers"], content[end:-CHECK]))
    except Exception as error:  # whatever a header that makes no sense may cause, too little memory for it included
        raise DamagedFile(f"The file is damaged: {str(error).rstrip('.')}.") from None


def float_arrays(layers):
    """(owner, key, length, content) of every array of floats, in the order of the file. The content is an array or its
    type: "float32", "float16", or a whole number e, for whole numbers from -2047 to 2047 times 2^e."""
    for layer in layers:
        for weight in layer["weights"]:
            if weight["values"] is not None:
                kept = weight["nonzero"]
                yield weight, "values", prod(weight["shape"]) if kept is None else kept, weight["values"]
            if weight["scale"] is not None:
                yield weight, "scale", prod(weight["scales"]), weight["scale"]
        yield layer, "bias", layer["shape"][0], layer["bias"]
        yield from ((layer, key, 1, layer[key]) for key in ("input", "between") if layer[key] is not None)


def _decode(layers, body):
    """Put the arrays in the place of their types."""
    weights, place, coded = [weight for layer in layers for weight in layer["weights"]], 0, {256: [], 16: []}
    lengths = [prod(weight["shape"]) for weight in weights] + [length for _, _, length, _ in float_arrays(layers)]
    sizes = [(weight["shape"], weight["scales"] or [1]) for weight in weights]
    wrong = any(min(shape) <= 0 or scales[0] not in (1, shape[0]) or prod(scales[1:]) != 1 for shape, scales in sizes)
    if wrong or min(lengths, default=0) < 0 or sum(lengths) > FREE + EACH * len(body):
        raise ValueError("so few bytes cannot hold what it describes")
    for owner, key, length, kind in float_arrays(layers):
        if kind == "float32":
            owner[key], place = np.frombuffer(body[place : place + 4 * length], "<f4", length), place + 4 * length
        else:
            coded[256 if kind == "float16" else 16].append((owner, key, length, kind))
    decoder = Decoder(np.frombuffer(body[place:], "<u4"))
    for weight in weights:
        weight["values"] = _values(weight, decoder)
    for size, arrays in coded.items():
        whole = sum(length for *_, length, _ in arrays)
        upper = decoder.symbols([min(FLOATS, whole - done) for done in range(0, whole, FLOATS)], 256, 1)
        numbers = upper * size + decoder.symbols([whole], size, 1)
        for owner, key, length, kind in arrays:
            now, numbers = numbers[:length], numbers[length:]
            half = now.astype("<u2").view("<f2") if kind == "float16" else (now - 2048) * 2.0**kind
            owner[key] = half.astype(np.float32)
    if decoder.words or decoder.state:
        raise ValueError("it holds more than it says")
    return layers


def _values(weight, decoder):
    """All values of a weight; zeros, and then the others, where it is stored sparse."""
    shape, kept, low, high = weight["shape"], weight["nonzero"], weight["low"], weight["high"]
    rows, columns = shape[0], prod(shape[1:])
    if not -256 <= low <= high <= 255 or (kept is not None and not 0 <= kept < rows * columns):
        raise ValueError("it counts wrong")
    flags = np.full((rows, columns), kept is None)
    if kept:
        flags = decoder.flags(rows, columns, kept / (rows * columns))
    chosen = weight["values"]
    if chosen is None:
        levels = np.arange(low, high + 1)
        levels = levels if kept is None else levels[levels != 0]
        chosen = levels[decoder.symbols(flags.sum(1).tolist(), len(levels), 8)].astype(np.int16)
    values = np.zeros((rows, columns), chosen.dtype)
    values[flags] = chosen
    return values.reshape(shape)
