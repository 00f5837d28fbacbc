"""Reads a packed network and runs it, with NumPy alone: `load("network.packed").logits(images)`.

The file, in this order:
    5 bytes     "CNET" and the version, 2
    4 bytes     length of the header, little-endian, like everything here
    header      JSON, deflated (`DICTIONARY`): the network as a graph, what its layers store, in their order
                (`float_arrays`), the configuration, classes, normalization, the baseline's SHA-256 sum
    raw         the float32 arrays
    words       4 bytes each: all integers, entropy-coded (`Decoder`), the last word first
    16 bytes    the first half of the SHA-256 sum of all of the above
Every probability that the words were coded with is a whole number over 2^24 and follows from what was decoded before.
"""

import hashlib
import json
import zlib
from bisect import bisect_right
from functools import reduce
from math import erf, frexp, prod
from pathlib import Path

import numpy as np

MAGIC = b"CNET\x02"
"""How a file begins."""

CHECK = 16
TOTAL = 1 << 24
"""Sum of the frequencies of a model."""

ROW, COLUMN, BUCKETS = 16, 4, 64
"""A row, a column is believed to be like all others with the weight of so many numbers."""

FLOATS, FREE, EACH = 16, 1 << 16, 4096
"""Coded floats after which their model learns; a file holds at most FREE numbers, and EACH more for every byte."""

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
    """header : what the file says of itself. layers : its layers by name, each with its `weights`, which have an
    `encoding` (`ENCODINGS`), `values`, whole numbers or float32, and `tables` that belong to these; its `bias`; and
    the scale of the signal `between` two factors, where there is one. grids : node -> scale of its output's grid, and
    whether it is signed. affine : other tensors by name."""

    def __init__(self, header, layers, grids, affine):
        self.header, self.layers, self.grids, self.affine = header, layers, grids, affine
        self.nodes = header["network"]["nodes"]
        self._last = {name: node["name"] for node in self.nodes for name in node["inputs"]}

    def logits(self, images):
        """The scores of the classes, float32 (n, classes), for images, uint8 (n, h, w), (n, c, h, w) or
        (n, h, w, c)."""
        shape, images = tuple(self.header["network"]["shape"]), np.asarray(images)
        if images.ndim == 4 and images.shape[1:] == (*shape[1:], shape[0]) != shape:
            images = images.transpose(0, 3, 1, 2)
        pixels = images.reshape(len(images), *shape).astype(np.float32) / np.float32(255)
        mean, deviation = (np.float32(self.header[part]).reshape(-1, 1, 1) for part in ("mean", "deviation"))
        x = (pixels - mean) / deviation
        return np.concatenate([self._forward(x[start : start + 100]) for start in range(0, len(x), 100)])

    def _forward(self, x):
        values, bits = {"image": x}, self.header["config"]["activation_bits"] or 1
        for node in self.nodes:
            name, inputs = node["name"], [values[name] for name in node["inputs"]]
            for read in [read for read in node["inputs"] if self._last[read] == name]:
                values.pop(read, None)
            if name in self.layers:
                x = self._product(node, inputs[0], bits)
            elif node["operation"] == "affine":
                each = (-1, *[1] * (inputs[0].ndim - 2))
                x = inputs[0] * self.affine[name + ".scale"].reshape(each)
                x = x + self.affine[name + ".shift"].reshape(each)
            else:
                x = OPERATIONS[node["operation"]](node, *inputs)
            values[name] = _on_grid(x, *self.grids.get(name, (None, False)), bits)
        return values[name]

    def _product(self, node, x, bits):
        layer = self.layers[node["name"]]
        for position, weight in enumerate(layer["weights"]):
            x = x if position == 0 else _on_grid(x, layer.get("between"), True, bits)
            values = ENCODINGS[weight["encoding"]](weight)
            x = x @ values.T if values.ndim == 2 else _convolved(node if position == 0 else {}, x, values)
        return x + layer["bias"].reshape(-1, *[1] * (x.ndim - 2))


def _on_integer_grid(weight):
    """scale * value, a scale for each output channel, or one"""
    scale = weight["tables"]["scale"]
    return weight["values"].astype(np.float32) * scale.reshape(-1, *[1] * (weight["values"].ndim - 1))


def _of_codebook(weight):
    """centroids[value + the place of the centroid 0], or of the end where none is 0"""
    table = weight["tables"]["centroids"]
    return table[weight["values"] + [*np.flatnonzero(table == 0), len(table)][0]]


ENCODINGS = {"float32": lambda weight: weight["values"], "integer grid": _on_integer_grid, "codebook": _of_codebook}
"""How the numbers of a file become a weight, float32."""


def _on_grid(x, scale, signed, bits):
    high = 2 ** (bits - signed) - 1
    return x if scale is None else np.clip(np.round(x / scale), -high if signed else 0, high) * scale


def _windows(node, x, kernel, around=0.0):
    """All windows, (n, channels, rows, columns, height, width), of an image with numbers around it."""
    above, left, below, right = node.get("padding", (0, 0, 0, 0))
    (down, along), (every, each) = node.get("stride", (1, 1)), node.get("dilation", (1, 1))
    x = np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)), constant_values=around)
    reach = every * (kernel[0] - 1) + 1, each * (kernel[1] - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    return windows[:, :, ::down, ::along, ::every, ::each]


def _convolved(node, x, weight):
    """weight : (out, in / groups, height, width), at every place of the windows"""
    windows, groups, outputs = _windows(node, x, weight.shape[2:]), node.get("groups", 1), []
    windows = windows.transpose(0, 2, 3, 1, 4, 5)
    for part, rows in zip(np.split(windows, groups, 3), np.split(weight, groups)):  # noqa: B905
        y = part.reshape(-1, rows[0].size) @ rows.reshape(len(rows), -1).T
        outputs.append(y.reshape(*windows.shape[:3], -1))
    return np.concatenate(outputs, 3).transpose(0, 3, 1, 2)


def _pooled(node, x, join, around=0.0):
    """`join` of all numbers in each window."""
    windows, (height, width) = _windows(node, x, node["kernel"], around), node["kernel"]
    return reduce(join, (windows[..., i, j] for i in range(height) for j in range(width)))


def _average(node, x):
    counted = np.ones_like(x[:1, :1]) if not node.get("counts_padding", True) else None
    size = np.float32(prod(node["kernel"])) if counted is None else _pooled(node, counted, np.add)
    return _pooled(node, x, np.add) / size


OPERATIONS = {
    "add": lambda node, x, y: x + y,
    "concatenate": lambda node, *x: np.concatenate(x, 1),
    "flatten": lambda node, x: x.reshape(len(x), -1),
    "max_pool": lambda node, x: _pooled(node, x, np.maximum, -np.inf),
    "average_pool": _average,
    "global_average_pool": lambda node, x: x.mean((2, 3), keepdims=True),
    "relu": lambda node, x: np.maximum(x, 0),
    "clip": lambda node, x: np.clip(x, np.float32(node.get("low", 0)), np.float32(node.get("high", 6))),
    "leaky_relu": lambda node, x: np.where(x < 0, x * np.float32(node.get("slope", 0.01)), x),
    "sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "tanh": lambda node, x: np.tanh(x),
    "hard_swish": lambda node, x: x * np.clip(x / np.float32(6) + np.float32(0.5), 0, 1),
    "gelu": lambda node, x: x * np.vectorize(lambda z: 0.5 + 0.5 * erf(z / 2**0.5), otypes="f")(x),
}
"""What a node computes that has no tensors."""


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
        return _read(json.loads(text), content[end:-CHECK])
    except Exception as error:  # whatever a header that makes no sense may cause, too little memory for it included
        raise DamagedFile(f"The file is damaged: {str(error).rstrip('.')}.") from None


def float_arrays(header):
    """(owner, key, length, content) of every array of floats, in the order of the file. The content is an array or its
    type: "float32", "float16", or a whole number e, for whole numbers from -2047 to 2047 times 2^e."""
    for layer, node in zip(header["layers"], _weighted(header)):  # noqa: B905
        for weight in layer["weights"]:
            if "values" in weight:
                yield weight, "values", weight.get("nonzero", prod(weight["shape"])), weight["values"]
            yield from _of_tables(weight.get("tables", {}))
        yield layer, "bias", node["channels"], layer["bias"]
        yield from _of_signals(layer)
        if "between" in layer:
            yield layer, "between", 1, layer["between"]
    yield from _of_signals(header)
    yield from _of_tables(header.get("affine", {}))


def _of_tables(owner):
    yield from ((owner, name, length, kind) for name, (kind, length) in sorted(owner.items()))


def _of_signals(owner):
    yield from ((owner["signals"], name, 1, kind) for name, kind in sorted(owner.get("signals", {}).items()))


def _weighted(header):
    """The nodes of the layers."""
    return [node for node in header["network"]["nodes"] if node["operation"] in ("linear", "convolution")]


def _read(header, body):
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


def _decode(header, body):
    """Put the arrays in the place of their types."""
    weights, place = [weight for layer in header["layers"] for weight in layer["weights"]], 0
    coded, arrays = {256: [], 16: []}, list(float_arrays(header))
    lengths = [prod(weight["shape"]) for weight in weights] + [length for _, _, length, _ in arrays]
    wrong = any(min(weight["shape"]) <= 0 or weight["encoding"] not in ENCODINGS for weight in weights)
    if wrong or min(lengths, default=0) < 0 or sum(lengths) > FREE + EACH * len(body):
        raise ValueError("so few bytes cannot hold what it describes")
    for owner, key, length, kind in arrays:
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
    if any(ENCODINGS[weight["encoding"]](weight).shape != tuple(weight["shape"]) for weight in weights):
        raise ValueError("its tables do not fit its weights")
    if decoder.words or decoder.state:
        raise ValueError("it holds more than it says")


def _values(weight, decoder):
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
        chosen = levels[decoder.symbols(flags.sum(1).tolist(), len(levels), 8)].astype(np.int16)
    values = np.zeros((rows, columns), chosen.dtype)
    values[flags] = chosen
    return values.reshape(shape)
