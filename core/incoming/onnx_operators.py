"""What the operators of an ONNX file mean: a table, one small function each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from math import isclose, prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from core.incoming.onnx_constants import CONSTANTS
from core.incoming.onnx_reader import DAMAGED, DOMAINS, Array, Erf, Graph, Map, Reader, Value, reason
from core.networks.graph import BaselineError, Network
from core.networks.models import Tensors
from core.networks.operations import LARGEST, NetworkError

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)

# Operators: the reader, which stands at the node, and the node's inputs. First those that are rows of our table.

Operator = Callable[..., Value]


def _activation(operation: str, **attributes: tuple[str, float]) -> Operator:
    """attributes : by the name of the setting, that of the attribute and its default"""

    def put(reader: Reader, x: Value) -> Map:
        x = reader.map(x)
        settings = {name: reader.number(None, *attribute) for name, attribute in attributes.items()}
        return replace(x, step=reader.add(operation, x.step, **settings))

    return put


def _clip(reader: Reader, x: Value, low: Value = None, high: Value = None) -> Map:
    x = reader.map(x)
    lowest = max(reader.number(low, "min", -LARGEST), -float(LARGEST))
    highest = min(reader.number(high, "max", LARGEST), float(LARGEST))
    if (lowest, highest) == (0, LARGEST):
        return replace(x, step=reader.add("relu", x.step))
    return replace(x, step=reader.add("clip", x.step, low=lowest, high=highest))


def _prelu(reader: Reader, x: Value, slope: Value) -> Map:
    x, slopes = reader.map(x), reader.constant(slope, "slope")
    reader.vectors(x, slopes)  # which must fit
    if slopes.min() != slopes.max():
        raise reader.refusal("Its slope must be one number for all channels, as of a leaky ReLU. It differs.")
    return replace(x, step=reader.add("leaky_relu", x.step, slope=float(slopes.max())))


def _hard_sigmoid(reader: Reader, x: Value) -> Map:
    scale, shift = reader.number(None, "alpha", 0.2), reader.number(None, "beta", 0.5)
    x = reader.affine(reader.map(x), scale, shift)
    return replace(x, step=reader.add("clip", x.step, low=0.0, high=1.0))


def _gelu(reader: Reader, x: Value) -> Map:
    x = reader.map(x)
    if reader.attributes.get("approximate", b"none") != b"none":
        raise reader.refusal("Its tanh approximation is not known here. Known is the exact GELU, with erf.")
    return replace(x, step=reader.add("gelu", x.step))


def _erf(reader: Reader, x: Value) -> Erf:
    x = reader.map(x)
    before, scale, shift = reader.scaled.get(x.step, (x.step, 1.0, 0.0))
    if not isclose(scale, 0.5**0.5, rel_tol=1e-4) or shift:
        raise reader.refusal("It is known as a part of GELU alone, x (1 + erf(x / sqrt(2))) / 2.")
    return Erf(replace(x, step=before), 1.0, 0.0)


def _window(reader: Reader, x: Map, kernel: Sequence[int]) -> dict[str, Any]:
    """The settings of a convolution or pooling. What has one spatial axis gets height 1; padding holds the margins."""
    get, rank = reader.attributes.get, len(kernel)
    if rank != len(x.axes) - 2:
        raise reader.refusal(f"Its window must have {len(x.axes) - 2} sizes. Got {list(kernel)} instead.")
    ones, zeros = [1] * (2 - rank), [0] * (2 - rank)
    size, stride, gap = ([*ones, *each] for each in (kernel, get("strides", [1] * rank), get("dilations", [1] * rank)))
    mode, margins = get("auto_pad", b"NOTSET").decode(), np.array(x.margins)
    room = np.array(x.sizes[1:]) + margins[:2] + margins[2:]
    if mode.startswith("SAME"):
        reach = np.array(gap) * (np.array(size) - 1) + 1
        total = np.maximum((-(-room // stride) - 1) * stride + reach - room, 0)
        less, more = total // 2, total - total // 2
        own = np.concatenate([less, more] if mode == "SAME_UPPER" else [more, less])
    else:
        pads = [0] * 2 * rank if mode == "VALID" else list(get("pads", [0] * 2 * rank))
        own = np.array([*zeros, *pads[:rank], *zeros, *pads[rank:]])
    padding = tuple(int(each) for each in own + margins)
    return {"kernel": tuple(size), "stride": tuple(stride), "dilation": tuple(gap), "padding": padding}


def _convolution(reader: Reader, x: Value, weight: Value, bias: Value = None) -> Map:
    x, weights = reader.image(x, margins=True), reader.constant(weight, "weight")
    window = _window(reader, x, weights.shape[2:])
    shaped = weights.reshape(*weights.shape[:2], *window.pop("kernel"))
    biases = None if bias is None else reader.tensor(reader.constant(bias, "bias"))
    groups = reader.attributes.get("group", 1)
    if x.sizes[0] != groups * weights.shape[1]:
        raise reader.refusal(f"It must read {groups * weights.shape[1]} channels. Got {x.sizes[0]} instead.")
    name = reader.layer("conv")
    step = reader.draft.convolution(name, x.step, reader.tensor(shaped), biases, groups=groups, **window)
    return reader.mapped(reader.put(step, step), x)


def _pooling(reader: Reader, x: Map) -> tuple[dict[str, Any], bool]:
    """Settings of a pooling, with further padding for a last window that begins in the image and ends outside of it
    (ceil_mode); and whether there is one."""
    window = _window(reader, x, reader.attributes["kernel_shape"])
    if window.pop("dilation") != (1, 1):
        raise reader.refusal("Its dilations must be 1. A window with gaps is known for Conv alone.")
    padding, more = list(window["padding"]), [0, 0]
    exact = reader.attributes.get("auto_pad", b"NOTSET").startswith(b"SAME") or not reader.attributes.get("ceil_mode")
    for axis in () if exact else (0, 1):
        size, step, before = x.sizes[1 + axis], window["stride"][axis], padding[axis]
        left = size + before + padding[2 + axis] - window["kernel"][axis]
        if (start := -(-left // step) * step) < size + before:
            more[axis] = start - left
    window["padding"] = (*padding[:2], padding[2] + more[0], padding[3] + more[1])
    return window, any(more)


def _max_pool(reader: Reader, x: Value) -> Map:
    nonnegative = isinstance(x, Map) and reader.nonnegative.get(x.step, False)  # then zeros around it change no maximum
    x = reader.image(x, margins=nonnegative)
    window, _ = _pooling(reader, x)
    return reader.mapped(reader.add("max_pool", x.step, **window), x)


def _average_pool(reader: Reader, x: Value) -> Map:
    x = reader.image(x, margins=True)
    window, more = _pooling(reader, x)
    counts = bool(reader.attributes.get("count_include_pad", 0))
    if more:
        raise reader.refusal("With ceil_mode=1 its last window ends outside of the image. Export it with ceil_mode=0.")
    if any(x.margins) and window["padding"] != x.margins and not counts:
        raise reader.refusal("It must count its own padding as it counts the zeros of the Pad before it.")
    counts = counts or any(x.margins) or not any(window["padding"])
    return reader.mapped(reader.add("average_pool", x.step, counts_padding=counts, **window), x)


def _global_pool(operation: str) -> Operator:
    def put(reader: Reader, x: Value) -> Map:
        x = reader.image(x)
        return reader.mapped(_pooled(reader, operation, x), x)

    return put


def _pooled(reader: Reader, operation: str, x: Map) -> str:
    """One number for each channel."""
    settings = {"kernel": x.sizes[1:]} if operation == "max_pool" else {}
    return reader.add(operation, x.step, **settings)


def _reduced(operation: str) -> Operator:
    def put(reader: Reader, x: Value, given: Value = None) -> Map:
        x = reader.map(x)
        axes = reader.axes(x, reader.integers(given, "axes") or range(len(x.axes)))
        over = sorted("".join(x.plain[axis] for axis in axes))
        if over != [each for each in "hw" if x.size(each) > 1] or len(reader.draft.shapes[x.step]) == 1:
            raise reader.refusal(f"It must reduce height and width, both and nothing else. Got axes {axes} of {x}.")
        step, keep = _pooled(reader, operation, x), reader.attributes.get("keepdims", 1)
        kept = ["" if place in axes else axis for place, axis in enumerate(x.axes) if keep or place not in axes]
        return Map(step, tuple(kept), reader.sizes(step))

    return put


def _linear(reader: Reader, x: Value, weight: Array, bias: Array | None = None) -> Map:
    """weight : (out, in); along the last axis of x. For each pixel, where that holds its channels"""
    x = reader.map(x)
    if weight.ndim != 2 or not x.axes or weight.shape[1] != x.shape[-1]:
        raise reader.refusal(f"Its weight must fit {x}, {x.shape}. Got {weight.shape[::-1]} instead.")
    biases = None if bias is None else reader.tensor(bias)
    if not x.flat and x.plain[-1] == "c" and len(reader.draft.shapes[x.step]) == 3:
        pixelwise = reader.tensor(weight[:, :, None, None])
        step = reader.draft.convolution(reader.layer("conv"), x.step, pixelwise, biases)
    elif any(axis not in ("", "n") for axis in x.plain[:-1]) or x.axes[-1] == "n":
        raise reader.refusal(f"It must read features, not images: a Flatten makes them. Got {x}, {x.shape}.")
    else:
        columns = x.ordered(weight).reshape(len(weight), -1)
        step = reader.draft.linear(reader.layer("fc"), reader.flat(x), reader.tensor(columns), biases)
    return Map(reader.put(step, step), (*x.axes[:-1], "c"), reader.sizes(step))


def _gemm(reader: Reader, x: Value, weight: Value, bias: Value = None) -> Map:
    weights, get = reader.constant(weight, "weight"), reader.attributes.get
    if get("transA", 0):
        raise reader.refusal("transA must be 0: what it reads is a row of features for each image.")
    weights = (weights if get("transB", 0) else weights.T) * np.float32(get("alpha", 1.0))
    if bias is None:
        return _linear(reader, x, weights)
    biases = np.float32(get("beta", 1.0)) * reader.constant(bias, "bias")
    return _linear(reader, x, weights, np.broadcast_to(biases, (1, len(weights)))[0])


def _matmul(reader: Reader, x: Value, weight: Value) -> Map:
    x = reader.map(x)
    return _linear(reader, x, reader.constant(weight, "weight").T)


def _normalization(reader: Reader, x: Value, *constants: Value) -> Map:
    x = reader.map(x)
    if reader.attributes.get("training_mode", 0) or not reader.attributes.get("spatial", 1):
        raise reader.refusal("It must use the mean and variance that were stored: export the network after eval().")
    along = [-1 if place == 1 else 1 for place in range(len(x.axes))]
    arrays = [reader.constant(each, "constants").reshape(along) for each in constants]
    x, (gamma, beta, mean, variance) = reader.vectors(x, *arrays)
    eps, name = reader.number(None, "epsilon", 1e-5), reader.layer("norm")
    step = reader.draft.normalization(name, x.step, mean, variance, eps, gamma, beta)
    return replace(x, step=reader.put(step, reader.bases[x.step]))


# Arithmetic: of a map and constants an affine step; of two maps an addition, or an activation that is spelled out.

AFFINE: Mapping[str, Callable[[Array], tuple[Array | float, Array | float]]] = {
    "Add": lambda c: (1.0, c), "Sub": lambda c: (1.0, -c), "Mul": lambda c: (c, 0.0), "Div": lambda c: (1 / c, 0.0)
}  # fmt: skip
"""x + c, x - c, x c, x / c as scale and shift."""


def _arithmetic(operator: str, reader: Reader, a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray) and operator != "Div":
        a, b, operator = b, a, "Sub from" if operator == "Sub" else operator
    if not isinstance(b, np.ndarray):
        return _together(operator, reader, a, b)
    constant = np.asarray(b, np.float64)
    scale, shift = (-1.0, constant) if operator == "Sub from" else AFFINE[operator](constant)
    if isinstance(a, Erf):
        return Erf(a.x, a.a * np.asarray(scale).item(), a.b * np.asarray(scale).item() + np.asarray(shift).item())
    return reader.affine(reader.map(a), scale, shift)


def _together(operator: str, reader: Reader, a: Value, b: Value) -> Map:
    """Two feature maps."""
    if operator == "Mul":
        for x, gate in ((a, b), (b, a)):
            if isinstance(x, Map) and (found := _gated(reader, reader.map(x), gate)):
                return found
        raise reader.refusal(
            "It multiplies two feature maps, as attention, squeeze and excitation, SiLU and the tanh form of GELU do. "
            "Known are HardSwish, x clip(x + 3, 0, 6) / 6, and GELU, x (1 + erf(x / sqrt(2))) / 2."
        )
    if operator != "Add":
        raise reader.refusal("Both of its inputs are computed from the image. Known are Add and Concat of such.")
    x, y = reader.map(a), reader.map(b)
    if (x.plain, x.sizes) != (y.plain, y.sizes):
        x, y = _features(reader, x, y)
    if len(x.axes) != len(y.axes):
        raise reader.refusal(f"Its inputs must have as many axes. Got {x} and {y}.")
    if len({len(reader.draft.shapes[each.step]) for each in (x, y)}) > 1:
        x, y = (replace(each, step=reader.flat(each)) for each in (x, y))
    return replace(x, step=reader.add("add", x.step, y.step))


def _features(reader: Reader, *maps: Map) -> list[Map]:
    """Flattened maps as features, which they are where the file keeps the order of channels, rows, columns."""
    for x in maps:
        last = x.plain[-1]
        if any(axis not in ("", "n") for axis in x.plain[:-1]) or [*last] != sorted(last) or "n" in last:
            said = " and ".join(f"{each}, {each.shape}" for each in maps)
            raise reader.refusal(f"Its inputs must be of one shape, or features. Got {said}.")
    return [Map(reader.flat(x), (*x.axes[:-1], "c"), (prod(x.sizes), 1, 1)) for x in maps]


def _gated(reader: Reader, x: Map, gate: Value) -> Map | None:
    """x times a part of an activation that is a function of x: HardSwish, or GELU."""
    for step, scale, shift in ((x.step, 1.0, 0.0), reader.scaled.get(x.step, ("", 1.0, 0.0))):
        operation, found, factor = _gate(reader, gate, step)
        if operation and not shift and found.plain == x.plain:
            return reader.affine(replace(x, step=reader.add(operation, step)), scale * factor, 0.0)
    return None


def _gate(reader: Reader, gate: Value, x: str) -> tuple[str, Map, float]:
    """Operation, map and f, where x times the gate is f times an activation of the step x; "" for none."""
    if isinstance(gate, Erf):
        known = gate.x.step == x and isclose(gate.a, gate.b, rel_tol=1e-5)
        return "gelu" if known else "", gate.x, 2 * gate.a
    found = reader.map(gate)
    step, scale, shift = reader.scaled.get(found.step, (found.step, 1.0, 0.0))
    clip = reader.draft.nodes.get(step)
    if clip is None or clip.operation != "clip" or shift:
        return "", found, 1.0
    before, a, b = reader.scaled.get(clip.inputs[0], ("", 1.0, 0.0))
    same = a > 0 and np.allclose((b / a, clip["low"] / a, clip["high"] / a), (3, 0, 6), rtol=1e-5, atol=1e-6)
    return "hard_swish" if before == x and same else "", found, 6 * scale * a


def _sum(reader: Reader, *inputs: Value) -> Value:
    return reduce(partial(_arithmetic, "Add", reader), inputs)


def _concatenate(reader: Reader, *inputs: Value) -> Map:
    maps = [reader.map(x) for x in inputs]
    first = maps[0]
    (axis,) = reader.axes(first, [reader.attributes["axis"]])
    others = [("", *(own for place, own in enumerate(x.plain) if place != axis)) for x in maps]
    channels = all(x.plain[axis] in ("", "c") for x in maps) and any("c" in (x.plain[axis], x.axes[axis]) for x in maps)
    images = all(len(reader.draft.shapes[x.step]) == 3 for x in maps)
    if channels and images and len(set(others)) == 1 and "c" not in others[0]:
        step = reader.add("concatenate", *(x.step for x in maps))
        axes = tuple("c" if place == axis else own for place, own in enumerate(first.plain))
    elif axis == len(first.axes) - 1:
        step = reader.add("concatenate", *(x.step for x in _features(reader, *maps)))
        axes = (*first.axes[:-1], "c")
    else:
        raise reader.refusal(f"It must join channels, or features. Got axis {axis} of {', '.join(map(str, maps))}.")
    return Map(step, axes, reader.sizes(step))


# Views: what only says in another order, or in other axes, what is there.


def _viewed(reader: Reader, x: Map, axes: Sequence[str]) -> Map:
    """A batch of one image may be without its axis meanwhile."""
    if "n" not in axes and axes[:1] == [""] and reader.graph.batch == 1:
        axes = ["n", *axes[1:]]
    return replace(x, axes=tuple(axes))


def _reshape(reader: Reader, x: Value, given: Value = None) -> Map:
    x = reader.map(x, view=True)
    kept = [np.nan if axis == "n" else size for axis, size in zip(x.axes, x.shape, strict=True)]
    wanted = enumerate(reader.constant(given, "shape").ravel().tolist())
    target, batch = [kept[place] if size == 0 else size for place, size in wanted], reader.graph.batch
    said = f"Got ({', '.join('n' if np.isnan(each) else f'{each:g}' for each in target)}) for {x}, {x.shape}."
    total, first, rest, lead = prod(x.sizes), target[0], target[1:], ["n"]
    if not (np.isnan(first) or first in (batch, 1) or (first == -1 and prod(rest) == total)):
        rest, lead = target, []
        if batch != 1:
            raise reader.refusal(f"It must keep the images of a batch apart. {said}")
    if rest.count(-1) == 1:
        known = prod(each for each in rest if each != -1)
        rest = [total // known if each == -1 else each for each in rest]
    letters, axes = "".join(x.plain).replace("n", ""), list[str]()
    for size in rest:
        count = next((k for k in range(len(letters) + 1) if x.size(letters[:k]) == size), None)
        if count is None:
            raise reader.refusal(f"It must flatten, or undo that: channels and features cannot be divided. {said}")
        axes, letters = [*axes, letters[:count]], letters[count:]
    if letters:
        raise reader.refusal(f"It must keep all numbers of an image. {said}")
    return _viewed(reader, x, [*lead, *axes])


def _flatten(reader: Reader, x: Value) -> Map:
    x = reader.map(x, view=True)
    (axis,) = reader.axes(x, [reader.attributes.get("axis", 1)])
    if x.axes[0] != "n" or any(x.plain[1:axis]) or (axis == 0 and reader.graph.batch != 1):
        raise reader.refusal(f"It must flatten each image: axis=1. Got axis {axis} of {x}.")
    return _viewed(reader, x, ["n", "".join(x.axes[1:])])


def _squeeze(reader: Reader, x: Value, given: Value = None) -> Map:
    x, one = reader.map(x, view=True), reader.graph.batch == 1
    single = [place for place, axis in enumerate(x.plain) if axis == "" or (axis == "n" and one)]
    axes = reader.axes(x, reader.integers(given, "axes") or single)
    if not set(axes) <= set(single):
        raise reader.refusal(f"It must drop axes of size 1. Got {axes} of {x}, {x.shape}.")
    return _viewed(reader, x, [axis for place, axis in enumerate(x.axes) if place not in axes])


def _unsqueeze(reader: Reader, x: Value, given: Value = None) -> Map:
    x = reader.map(x, margins=True, view=True)
    places = reader.integers(given, "axes") or []
    rank, left = len(x.axes) + len(places), list(x.axes)
    new = {place % rank for place in places}
    return _viewed(reader, x, ["" if place in new else left.pop(0) for place in range(rank)])


def _transpose(reader: Reader, x: Value) -> Map:
    x = reader.map(x, margins=True, view=True)
    order = reader.attributes.get("perm", list(range(len(x.axes)))[::-1])
    if sorted(order) != list(range(len(x.axes))):
        raise reader.refusal(f"perm must order {len(x.axes)} axes. Got {list(order)} instead.")
    return _viewed(reader, x, [x.axes[place] for place in order])


def _identity(reader: Reader, x: Value, *others: Value) -> Value:
    return x


def _dropout(reader: Reader, x: Value, ratio: Value = None, training: Value = None) -> Map:
    if training is not None and reader.constant(training, "training_mode").any():
        raise reader.refusal("It drops numbers at random: export the network after eval().")
    return reader.map(x, margins=True, view=True)


def _cast(reader: Reader, x: Value) -> Map:
    x = reader.map(x, margins=True, view=True)
    if reader.attributes["to"] not in FLOATS and not x.end:
        raise reader.refusal("It must make floating-point numbers: what is rounded to whole ones is not known here.")
    return x


def _shape(reader: Reader, x: Value) -> Array:
    """NaN stands for the number of images."""
    x = reader.map(x)
    sizes = [np.nan if axis == "n" else size for axis, size in zip(x.axes, x.shape, strict=True)]
    return np.array(sizes[reader.attributes.get("start", 0) : reader.attributes.get("end")])


def _pad(reader: Reader, x: Value, pads: Value = None, value: Value = None, axes: Value = None) -> Map:
    x = reader.map(x, margins=True)
    places = reader.axes(x, reader.integers(axes, "axes") or range(len(x.axes)))
    sizes = np.array(reader.integers(pads, "pads")).reshape(2, len(places)).T
    if reader.attributes.get("mode", b"constant") != b"constant" or reader.number(value, "value", 0.0):
        raise reader.refusal("It must pad with zeros: nothing else is known here.")
    if sizes.min(initial=0) < 0:
        raise reader.refusal("It must pad with a number of zeros of at least 0: cutting off an edge is not known here.")
    around = {"h": np.array(x.margins[::2]), "w": np.array(x.margins[1::2])}
    for axis, added in zip((x.axes[place] for place in places), sizes, strict=True):
        if any(added) and axis not in around:
            raise reader.refusal(f"It must pad height and width, not {axis or 'an axis of size 1'} of {x}.")
        if any(added):
            around[axis] = around[axis] + added
    return replace(x, margins=tuple(int(each) for pair in zip(*around.values(), strict=True) for each in pair))


def _end(axis: int) -> Operator:
    """What puts scores in the form of probabilities, or says the largest. axis : the default"""

    def put(reader: Reader, x: Value) -> Map:
        x, operator = reader.map(x, view=True), reader.node.op_type
        early = operator != "ArgMax" and reader.graph.opset < 13
        (place,) = reader.axes(x, [reader.attributes.get("axis", 1 if early else axis)])
        over = "".join(x.plain[place:] if early else x.plain[place])
        if "n" in over or over != "".join(x.plain).replace("n", ""):
            raise reader.refusal(f"It must go over the classes, at the end of a network. Got axis {place} of {x}.")
        return replace(x, end=operator)

    return put


OPERATORS: Mapping[str, Operator] = {
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "HardSwish": _activation("hard_swish"),
    "LeakyRelu": _activation("leaky_relu", slope=("alpha", 0.01)),
    "Clip": _clip,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "Erf": _erf,
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _normalization,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool("global_average_pool"),
    "GlobalMaxPool": _global_pool("max_pool"),
    "ReduceMean": _reduced("global_average_pool"),
    "ReduceMax": _reduced("max_pool"),
    **{operator: partial(_arithmetic, operator) for operator in AFFINE},
    "Neg": lambda reader, x: reader.affine(reader.map(x), -1.0, 0.0),
    "Sum": _sum,
    "Concat": _concatenate,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Shape": _shape,
    "Pad": _pad,
    "Softmax": _end(-1),
    "LogSoftmax": _end(-1),
    "ArgMax": _end(0),
}

# What is not known, and what can stand in its place.

_QUANTIZED = "A network that was quantized is not read: save the float network, and quantize it here."
_PART = "Parts of a feature map cannot be taken, nor its channels shuffled: build the network from whole ones."
_RECURRENT = "Recurrent layers and attention are not known here: known are networks of convolutions and linear layers."
_OWN = "What is normalized by the image itself cannot be computed before: train the network with batch normalization."
_CURVE = "Use ReLU, leaky ReLU, sigmoid, tanh, HardSwish or GELU."
_FLOW = "What a network does must not depend on its image: export it with fixed shapes."
WAYS_OUT: Mapping[str, str] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Attention", "Einsum"), _RECURRENT),
    **dict.fromkeys(("Slice", "Split", "Gather", "DepthToSpace", "SpaceToDepth", "Tile", "Expand", "TopK"), _PART),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "LpNormalization"), _OWN
    ),
    **dict.fromkeys(("Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Swish", "ThresholdedRelu"), _CURVE),
    **dict.fromkeys(("If", "Loop", "Scan", "Where", "NonZero"), _FLOW),
    "Pow": "Of powers none is known: for the tanh approximation of GELU use the exact GELU, nn.GELU().",
    "ConvTranspose": "Feature maps cannot grow here: known is Conv.",
    **dict.fromkeys(("Resize", "Upsample"), "Feature maps cannot grow here: scale the images before."),
}


def _way_out(operator: str, domain: str) -> str:
    """Of an operator that is not known."""
    if domain == "ai.onnx.ml":
        return "Operators of scikit-learn are not known here: save the part of the network up to its probabilities."
    if any(word in operator.lower() for word in ("quant", "qlinear", "qgemm", "integer")):
        return _QUANTIZED
    if domain not in DOMAINS:
        return f"Operators of {domain} are not known here: export the network with the operators of ONNX alone."
    return f"It is not known here. {WAYS_OUT.get(operator, 'Known are ' + ', '.join(OPERATORS) + '.')}"


def network(graph: Graph, image: Map) -> tuple[Network, Tensors]:
    """What a file computes, and its tensors. image : in which order its input holds the images

    Raises BaselineError, NetworkError.
    """
    reader = Reader(graph, image)
    for node in graph.nodes:
        reader.node = node
        try:
            reader.values[node.output[0]] = _computed(reader)
        except BaselineError:
            raise
        except NetworkError as error:
            raise reader.refusal(str(error)) from None
        except DAMAGED as error:
            raise reader.refusal(f"Its inputs and attributes do not fit one another ({reason(error)}).") from None
    return reader.draft.finished(_scores(reader))


def _computed(reader: Reader) -> Value:
    """What the node at which the reader stands puts out."""
    node, operator = reader.node, reader.node.op_type
    if node.domain not in DOMAINS or operator not in {*OPERATORS, *CONSTANTS}:
        raise reader.refusal(_way_out(operator, node.domain))
    if missing := [name for name in node.input if name not in reader.values]:
        raise reader.refusal(f"It reads {missing[0]}, which no node before it puts out.")
    reader.attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    inputs = [reader.values[name] for name in node.input]
    arrays = {name: each for name, each in zip(node.input, inputs, strict=True) if isinstance(each, np.ndarray)}
    if operator in CONSTANTS and all(each is None or isinstance(each, np.ndarray) for each in inputs):
        largest = max(arrays, key=lambda name: arrays[name].size, default="")
        reader.origins[node.output[0]] = reader.origins.get(largest, "")
        found = np.asarray(CONSTANTS[operator](reader, *inputs))
        reader.take(found.size)
        return found
    if operator not in OPERATORS:
        raise reader.refusal(_way_out(operator, ""))
    return OPERATORS[operator](reader, *inputs)


def _scores(reader: Reader) -> str:
    """The step that puts out a score for each class."""
    name, x = reader.graph.output, reader.values.get(reader.graph.output)
    if not isinstance(x, Map) or any(x.margins):
        raise BaselineError(f"The output, {name}, must be scores that are computed from an image. It is not.")
    if prod(x.sizes) == 1:
        raise BaselineError(
            f"The output, {name}, must be one score for each class. It is a single score z, as for a sigmoid: give the "
            "last linear layer two outputs, with the weights 0 and w and the biases 0 and b. They are the scores 0 and "
            "z of two classes."
        )
    order = np.arange(prod(x.sizes))
    if not x.flat or x.axes[-1] == "n" or not np.array_equal(x.ordered(order).ravel(), order):
        raise BaselineError(f"The output, {name}, must be one score for each class. It is {x}, {x.sizes}.")
    return reader.flat(x)
