"""Reads a packed network and runs it, with NumPy alone: `load("network.packed").logits(images)`.

The file, in this order:
    5 bytes     "CNET" and the version, 3
    4 bytes     length of the header, little-endian, like everything here
    header      JSON, deflated (`DICTIONARY`): the network as a graph, what its layers store, in their order
                (`float_arrays`), the configuration, classes, normalization, the baseline's SHA-256 sum; without what
                is `usual`
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

MAGIC = b"CNET\x03"
"""How a file begins."""

CHECK = 16
TOTAL = 1 << 24
"""Sum of the frequencies of a model."""

ROW, COLUMN, LIKELY, AROUND = 32, 8, 12, 10
"""A row, a column is believed to be like all others with the weight of so many numbers. Classes of what a weight's
neighbours let expect, and of how large the weights around it are: octaves."""

ALONE, BELIEFS, FIRST, GROWTH = 2, (32, 128), 16, 4
"""A symbol is believed to have come 1 / ALONE times; where as much is expected, and in the same context, to come as
elsewhere, with the weight of size + BELIEFS. A model learns after FIRST integers, then when 1 / GROWTH more came."""

FREE, EACH = 1 << 16, 4096
"""A file holds at most FREE numbers, and EACH more for every byte."""

DICTIONARY = (
    b'],"shared":{"add":"","signed":["affine":{"low":0.0,"high":6.0,"clip","concatenate","average_pool","stride":[2,2]},'
    b'"bits":8,"most":127,"encoding":"float32","values":"float32","shape":[64,32],"nonzero":1,"padding":null,"bias":'
    b'"float32","groups":16,"kernel":[1,1],"name":"block3.shortcut","inputs":["block1.conv2","block2.add"],"name":'
    b'"block1.add","operation":"add"},{},{"baseline_sha256":"","classes":["T-shirt","Trouser","Pullover","Dress","Coat",'
    b'"Sandal","Shirt","Sneaker","Bag","Ankle boot"],"config":{"above_break_even":false,"activation_bits":8,'
    b'"bias_correction":false,"bits":4,"channel_score":"l1","channel_share":null,"clip":"minmax","granularity":"channel",'
    b'"layers":{"fc1":{"bits":4,"rank":6,"rank_share":null,"sparsity":null}},"low_rank_method":"svd","rank_share":null,'
    b'"recovery":{"distillation":true,"epochs":8,"learning_rate":0.05,"schedule":"iterative","seed":0},"rounding":"gptq",'
    b'"scope":"network","score":"lamp","sparsity":0.95,"symmetry":"symmetric"},"deviation":0.353,"layers":[{"bias":-12,'
    b'"weights":[{"alike":4,"pruned":true,"shape":[128,3136],"window":[7,7]}]},{"bias":-12,"weights":[{"alike":3}]},{'
    b'"bias":-11,"weights":[{"alike":4,"pruned":true}]},{"bias":-13}],"mean":0.286,"network":{"nodes":[{"channels":32,'
    b'"name":"conv1"},{"operation":"max_pool"},{},{"channels":64,"name":"conv2"},{"name":"flatten","operation":"flatten"}'
    b',{"channels":128,"name":"fc1","operation":"linear"},{},{"channels":10,"name":"fc2","operation":"linear"}],"shape":['
    b'{"channels":12,"name":"conv2"},{"operation":"max_pool"},{},{"channels":20,"name":"conv3"},{},{"channels":28,"name":'
    b'"conv6"},{},{"operation":"global_average_pool"},{"operation":"flatten"},{"channels":10,"name":"fc","operation":'
    b'"linear"}],"shape":[1,28,28]}}'
)
"""A text like most headers: what is the same in both costs nothing."""


WINDOWS = {"convolution": {"kernel": [3, 3], "padding": [1, 1, 1, 1]}, "max_pool": {"kernel": [2, 2], "stride": [2, 2]}}
NAMES = {"max_pool": "_pool", "relu": "_relu", "global_average_pool": "_mean", "flatten": "_flat"}
"""What nodes usually say; what follows the name of the node before."""


class DamagedFile(ValueError):
    """Not a packed network, or a damaged one."""


class Model:
    """How often each symbol in [0, size) came: in all, where as much was expected, and in the same context, which is
    the class of what is expected * AROUND + the class of how large the weights around are (`Decoder.values`)."""

    def __init__(self, size):
        self.size, self.counts = size, [np.zeros((n, size), np.int64) for n in (1, LIKELY, LIKELY * AROUND)]

    def learn(self, contexts, symbols):
        came = np.bincount(contexts * self.size + np.array(symbols, int), minlength=self.counts[2].size)
        came = came.reshape(LIKELY, AROUND, self.size)
        for counts, axes in zip(self.counts, ((0, 1), 1, ())):  # noqa: B905
            counts += came.sum(axes).reshape(counts.shape)

    def frequencies(self, contexts):
        """Whole numbers above 1 with sum TOTAL, (contexts, size): p = (n + b p') / (sum n + b), where p' is what the
        counts of all, then those where as much is expected, say (MacKay & Peto 1995)."""
        found, beliefs = (
            np.full((1, self.size), TOTAL // self.size),
            (max(self.size // ALONE, 1), *(self.size + belief for belief in BELIEFS)),
        )
        for every, belief, place in zip(self.counts, beliefs, (0 * contexts, contexts // AROUND, contexts)):  # noqa: B905
            counts = every[place]
            found = (counts * TOTAL + belief * found) // (counts.sum(1, keepdims=True) + belief)
        found = 2 + found * (TOTAL - 2 * self.size) // TOTAL
        found[:, 0] += TOTAL - found.sum(1)
        return found


def growing(count):
    """Between which of `count` symbols a model learns: [0, 16, 32, ..., count]."""
    ends = [0]
    while ends[-1] < count:
        ends.append(min(ends[-1] + max(FIRST, ends[-1] // GROWTH), count))
    return ends


def neighbours(columns, window):
    """Where the weights to the left, above, and between these lie in a row of windows, (3, columns); `columns` where
    there is none."""
    j, (height, width) = np.arange(columns), window
    left, above = j % width == 0, j % (height * width) < width
    places = (left, j - 1), (above, j - width), (left | above, j - width - 1)
    return np.stack([np.where(none, columns, place) for none, place in places])


def expected(left, above, corner, alike):
    """256 times a (left + above) - a^2 corner, with a = alike / 16: what a weight is expected to be in a field whose
    rows and columns are autoregressive (Habibi 1972)."""
    return 16 * alike * (left + above) - alike * alike * corner


class Decoder:
    """An asymmetric numeral system (Duda 2009), as the library constriction has it: a state of 64 bits, words of 32."""

    def __init__(self, words):
        self.words, self.state = words.tolist(), 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()

    def _take(self, lows):
        now = self.state & TOTAL - 1
        symbol = bisect_right(lows, now) - 1
        self.state = (self.state >> 24) * (lows[symbol + 1] - lows[symbol]) + now - lows[symbol]
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    def even(self, count, size):
        """Integers in [0, size), all of them as likely."""
        lows = [TOTAL * symbol // size for symbol in range(size + 1)]
        return np.array([self._take(lows) for _ in range(count)], np.int64)

    def symbols(self, contexts, size):
        """Integers in [0, size), each in a context that is known before."""
        model, ends, found = Model(size), growing(len(contexts)), []
        for start, end in zip(ends, ends[1:]):  # noqa: B905, RUF007
            block = np.array(contexts[start:end])
            found += [self._take([0, *np.cumsum(each).tolist()]) for each in model.frequencies(block)]
            model.learn(block, found[start:])
        return np.array(found, np.int64)

    def values(self, rows, columns, most, window, alike):
        """Whole numbers in [-most, most], (rows, columns). How likely each is depends on what its neighbours let
        expect, signs turned where that is negative, and on how large those before it in its row and its column are."""
        size, every, ends = 2 * most + 1, np.arange(LIKELY * AROUND), growing(rows * columns)
        model, (left, above, corner) = Model(size), neighbours(columns, window).tolist()
        found, sums, contexts, symbols, done = np.zeros((rows, columns), np.int16), np.zeros(columns), [], [], 0
        for i in range(rows):
            mean, row, total = float(sums.sum() + 1) / (i * columns + 1), [0] * (columns + 1), 0
            for j, lifted in enumerate(((sums / mean + COLUMN) / (i + COLUMN)).tolist()):
                if len(symbols) == ends[0]:
                    model.learn(np.array(contexts[done:], int), symbols[done:])
                    lows = np.pad(np.cumsum(model.frequencies(every), 1), ((0, 0), (1, 0))).tolist()
                    done = ends.pop(0)
                octave = frexp((total / mean + ROW) / (j + ROW) * lifted)[1] + AROUND // 2
                context = octave if 0 <= octave < AROUND else 0 if octave < 0 else AROUND - 1
                like = expected(row[left[j]], row[above[j]], row[corner[j]], alike) if alike else 0
                if like:
                    context += min((abs(like) >> 5).bit_length(), LIKELY - 1) * AROUND
                symbol = self._take(lows[context])
                contexts.append(context)
                symbols.append(symbol)
                if symbol != most:
                    row[j] = symbol - most if like >= 0 else most - symbol
                    total += abs(row[j])
            found[i] = row[:-1]
            sums += np.abs(found[i])
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
    """weight : (out, in / groups, height, width), at every place of the windows, of as many images at once as fit"""
    windows, groups, outputs = _windows(node, x, weight.shape[2:]), node.get("groups", 1), []
    windows = windows.transpose(0, 2, 3, 1, 4, 5)
    for part, rows in zip(np.split(windows, groups, 3), np.split(weight, groups)):  # noqa: B905
        matrix, step = rows.reshape(len(rows), -1).T, max(1, 2**25 // part[0].size)
        each = (part[start : start + step].reshape(-1, len(matrix)) @ matrix for start in range(0, len(part), step))
        outputs.append(np.concatenate(list(each)).reshape(*windows.shape[:3], -1))
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
            yield from _of(weight.get("tables", {}))
        yield layer, "bias", node["channels"], layer["bias"]
        yield from _of(layer.get("signals", {}))
        if "between" in layer:
            yield layer, "between", 1, layer["between"]
    yield from _of(header.get("signals", {}))
    yield from _of(header.get("affine", {}))


def _of(owner):
    for name, kind in sorted(owner.items()):
        yield owner, name, *((1, kind) if isinstance(kind, (str, int, np.ndarray)) else (kind[1], kind[0]))


def usual(header):
    """(record, what it usually says) of all nodes, layers and weights; each is complete when the next one is asked for.
    Where null is written, nothing is said."""
    before, channels, read, layers = "image", {"image": header["network"]["shape"][0]}, set(), iter(header["layers"])
    for node in header["network"]["nodes"]:
        yield node, {"operation": "convolution" if "channels" in node else "relu"}
        kind = node["operation"]
        yield node, WINDOWS.get(kind, {}) | ({"name": before + NAMES[kind]} if kind in NAMES else {})
        source, before = node.get("inputs", [before])[0], node["name"]
        channels[before] = node.get("channels", channels[source])
        for layer in [next(layers)] if kind in ("linear", "convolution") else []:
            new = header["config"]["activation_bits"] and source not in {"image", *header.get("shared", ())} | read
            yield layer, {"weights": [{}]} | ({"signals": {source: "float16"}} if new else {})
            read |= set(layer.get("signals", ()))
            shape = [node["channels"], channels[source] // node.get("groups", 1), *node.get("kernel", ())]
            for weight in layer["weights"]:
                yield weight, {"encoding": "integer grid", "shape": shape.copy()}
                if weight["encoding"] == "integer grid":
                    yield weight, {"bits": header["config"]["bits"] or 8}
                    most = (1 << weight["bits"] - 1) - 1
                    yield weight, {"most": most, "tables": {"scale": ["float16", weight["shape"][0]]}}


def _weighted(header):
    """The nodes of the layers."""
    return [node for node in header["network"]["nodes"] if node["operation"] in ("linear", "convolution")]


def _read(header, body):
    """A network with arrays in the place of their types, which the header keeps."""
    for record, parts in usual(header):
        for part in parts:
            if record.setdefault(part, parts[part]) is None:
                del record[part]
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
        places = [place for place, (_, _, length, _) in enumerate(arrays) for _ in range(length)]
        upper = decoder.symbols([min(place, LIKELY - 1) * AROUND for place in places], size)
        numbers = upper * 256 + decoder.even(len(places), 256)
        for owner, key, length, kind in arrays:
            now, numbers = numbers[:length], numbers[length:]
            half = now.astype("<u2").view("<f2") if kind == "float16" else (now - 2048) * 2.0**kind
            owner[key] = half.astype(np.float32)
    if any(ENCODINGS[weight["encoding"]](weight).shape != tuple(weight["shape"]) for weight in weights):
        raise ValueError("its tables do not fit its weights")
    if decoder.words or decoder.state:
        raise ValueError("it holds more than it says")


def _values(weight, decoder):
    """All values of a weight; a map of zeros, and then the others, where it is float32 and stored sparse."""
    shape, kept, most, alike = weight["shape"], weight.get("nonzero"), weight.get("most", 1), weight.get("alike", 0)
    rows, columns, window = shape[0], prod(shape[1:]), weight.get("window", shape[2:] or (1, 1))
    if not 0 <= most <= 256 or not 0 <= alike < 16 or min(window) < 1 or not 0 <= (kept or 0) < rows * columns:
        raise ValueError("it counts wrong")
    if "values" not in weight:
        return decoder.values(rows, columns, most, window, alike).reshape(shape)
    values = np.zeros((rows, columns), np.float32)
    flags = np.full(values.shape, True) if kept is None else decoder.values(rows, columns, 1, (1, 1), 0) != 0
    values[flags] = weight["values"]
    return values.reshape(shape)
