"""The operators of PyTorch's exported graphs (`aten`) as steps of a draft: one function each, in one table.

What passes between them is a step of the draft in the shape that PyTorch sees: a feature map that was flattened, or
that lost axes of size 1, has the same numbers in the same order, and becomes a `flatten` only where that is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from core.incoming.draft import Draft
from core.networks.graph import BaselineError
from core.networks.operations import OPERATIONS, Shape

NO_PADDING = (0, 0, 0, 0)


@dataclass(frozen=True)
class Value:
    """The output of a step, as PyTorch sees it.

    name : of the step; shape : without the images of a batch
    storage : of the memory that it lies in: what is changed there in place is changed for all that lie in it
    padding : zeros around it, (above, left, below, right), which the next convolution takes over
    softmax : what it went through, behind which nothing is computed
    """

    name: str
    shape: Shape
    storage: str
    padding: tuple[int, int, int, int] = NO_PADDING
    softmax: str = ""


@dataclass(frozen=True)
class Call:
    """One operator of an exported graph.

    operator : as people know it, `conv2d`; name : for the step that it becomes
    where : path of the module that calls it, "" in the outermost
    arguments : Values, tensors and plain ones, by the names of the operator's schema
    size : of its output for one image; None where it is not one output for each image
    """

    operator: str
    name: str
    where: str
    arguments: Mapping[str, Any]
    size: Shape | None

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def shape(self) -> Shape:
        if self.size is None:
            raise self.refused("the images of a batch must stay apart, along the first axis.")
        return self.size

    def refused(self, why: str) -> BaselineError:
        return BaselineError(f"{self.operator} in {self.where or 'forward'} cannot be taken over: {why}")

    def value(self, argument: str, padded: bool = False, ended: bool = False) -> Value:
        """A feature map. padded, ended : whether it may be one with padding, or one behind a softmax"""
        value = self[argument]
        if not isinstance(value, Value):
            raise self.refused(f"{argument} must come from the images.")
        if any(value.padding) and not padded:
            raise self.refused("zeros around an image are known here only directly before a convolution.")
        if value.softmax and not ended:
            raise self.refused(f"{value.softmax} is known here only at the end. Leave it out of the network.")
        return value

    def tensor(self, argument: str) -> Tensor:
        """A weight. Raises BaselineError where it is computed from the images."""
        if isinstance(self[argument], Value):
            raise self.refused(f"{argument} is computed from the images. It must be a parameter or a buffer.")
        return torch.as_tensor(self[argument])

    def bias(self) -> Tensor | None:
        return None if self["bias"] is None else self.tensor("bias")


class Reading:
    """A draft that operators add to."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._flat: dict[str, str] = {}

    def held(self, value: Value) -> Shape:
        """The shape that the step itself has."""
        return self.draft.shapes[value.name]

    def image(self, call: Call, value: Value, flat: bool) -> str:
        """The step, which puts out (channels, height, width); flat : signals, (channels, length) for PyTorch."""
        own = (*value.shape[:1], 1, *value.shape[1:]) if flat else value.shape
        if own == self.held(value):
            return value.name
        raise call.refused(
            f"it must read feature maps as they were made, of shape {self.held(value)}. Got {value.shape} instead: "
            "axes that change places or sizes between layers are not known here."
        )

    def features(self, value: Value) -> str:
        """The step, flattened where it puts out images."""
        if len(self.held(value)) == 1:
            return value.name
        if value.name not in self._flat:
            self._flat[value.name] = self.draft.add("flatten", "flatten", value.name)
        return self._flat[value.name]

    def channels(self, call: Call, value: Value) -> str:
        """The step, its first axis the one that PyTorch sees behind the batch."""
        if value.shape[:1] == self.held(value)[:1]:
            return value.name
        if len(value.shape) == 1:
            return self.features(value)
        raise call.refused(f"it reads feature maps of shape {self.held(value)} as {value.shape}.")

    def put(self, call: Call, name: str) -> Value:
        return Value(name, call.shape, name)

    def copied(self, call: Call, name: str) -> Value:
        """The same numbers at another place in memory."""
        return Value(name, call.shape, f"copy of {call.name}")

    def simple(self, call: Call, value: Value, operation: str, **settings: Any) -> Value:
        """One step for each number of a feature map."""
        return self.put(call, self.draft.add(call.name, operation, value.name, **settings))

    def affine(self, call: Call, value: Value, scale: Any, shift: Any) -> Value:
        """scale x + shift; each a number, or a tensor with one for each channel. Where it changes nothing, it
        vanishes."""
        if call.shape != value.shape:
            raise call.refused(f"it must keep the shape of its input, {value.shape}. Got {call.shape} instead.")
        parts = [torch.as_tensor(part).detach().double().cpu() for part in (scale, shift)]
        if bool((parts[0] == 1).all() and (parts[1] == 0).all()):
            return self.copied(call, value.name)
        spread = [part.expand(1, *value.shape) for part in parts]
        name, each = value.name, [_by_channel(part.reshape(self.held(value))) for part in spread]
        if None in each and len(value.shape) == 1:
            name, each = self.features(value), [part.flatten() for part in spread]
        if each[0] is None or each[1] is None:
            raise call.refused("it computes with another number for each pixel. One for each channel is known here.")
        return self.put(call, self.draft.affine(call.name, name, each[0], each[1]))

    def together(self, call: Call, operation: str, values: Sequence[Value]) -> Value:
        """Values of one shape added, or joined along their channels."""
        if operation == "add" and len({value.shape for value in values}) > 1:
            raise call.refused(f"it must add shapes that are equal. Got {values[0].shape} and {values[1].shape}.")
        if operation == "add" and len({self.held(value) for value in values}) == 1:
            names = [value.name for value in values]
        else:
            flat = len(call.shape) == 1
            names = [self.features(value) if flat else self.channels(call, value) for value in values]
        return self.put(call, self.draft.add(call.name, operation, *names))


Row = Callable[[Reading, Call], Value]


def _by_channel(part: Tensor) -> Tensor | None:
    """(channels,) of (channels, ...) where the numbers of a channel are equal."""
    flat = part.reshape(len(part), -1)
    return flat[:, 0].clone() if bool((flat == flat[:, :1]).all()) else None


def _pair(sizes: Any, flat: bool, neutral: int) -> tuple[int, int]:
    """(vertical, horizontal) of a number, of [both], of [vertical, horizontal], or, flat, of [horizontal]."""
    sizes = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    return (neutral, sizes[-1]) if flat else (sizes[0], sizes[-1])


def _sides(padding: Any, flat: bool) -> tuple[int, int, int, int]:
    rows, columns = _pair(padding, flat, 0)
    return rows, columns, rows, columns


# Layers.


def _convolution(reading: Reading, call: Call) -> Value:
    value, weight, flat = call.value("input", padded=True), call.tensor("weight"), call.operator == "conv1d"
    x = reading.image(call, value, flat)
    weight = weight.unsqueeze(2) if flat else weight
    stride, dilation = _pair(call["stride"], flat, 1), _pair(call["dilation"], flat, 1)
    if call["padding"] == "same":
        rows, columns = (gap * (size - 1) for gap, size in zip(dilation, weight.shape[2:], strict=True))
        padding = rows // 2, columns // 2, rows - rows // 2, columns - columns // 2
    else:
        padding = NO_PADDING if call["padding"] == "valid" else _sides(call["padding"], flat)
    around = tuple(map(sum, zip(padding, value.padding, strict=True)))
    name = reading.draft.convolution(
        call.name, x, weight, call.bias(), stride=stride, padding=around, dilation=dilation, groups=call["groups"]
    )
    return reading.put(call, name)


def _fully_connected(reading: Reading, call: Call, value: Value, weight: Tensor, bias: Tensor | None) -> Value:
    if value.shape[-1:] != (prod(value.shape),) or weight.dim() != 2:
        raise call.refused(
            f"it must read features, (n, features). Got {('n', *value.shape)} instead: a flatten, x.flatten(1), makes "
            "them of images, and a 1 x 1 convolution is a linear layer at each pixel."
        )
    return reading.put(call, reading.draft.linear(call.name, reading.features(value), weight, bias))


def _linear(reading: Reading, call: Call) -> Value:
    return _fully_connected(reading, call, call.value("input"), call.tensor("weight"), call.bias())


def _matmul(reading: Reading, call: Call) -> Value:
    weight = call.tensor("mat2" if "mat2" in call.arguments else "other")
    return _fully_connected(reading, call, call.value("self"), weight.t() if weight.dim() == 2 else weight, None)


def _addmm(reading: Reading, call: Call) -> Value:
    weight, bias = call.tensor("mat2").t() * call["alpha"], call.tensor("self") * call["beta"]
    return _fully_connected(reading, call, call.value("mat1"), weight, bias.expand(len(weight)))


def _batch_norm(reading: Reading, call: Call) -> Value:
    value = call.value("input")
    if call["training"] or call["running_mean"] is None:
        raise call.refused("it takes mean and variance of each batch. Train it with track_running_stats=True.")
    name = reading.draft.normalization(
        call.name, reading.channels(call, value), call.tensor("running_mean"), call.tensor("running_var"), call["eps"],
        call["weight"], call.bias(),
    )  # fmt: skip
    return reading.put(call, name)


# Arithmetic.


def _sum(reading: Reading, call: Call, first: Any, second: Any, factor: float) -> Value:
    """first + factor second, each a feature map, a number or a tensor."""
    if not isinstance(second, Value):
        return reading.affine(call, first, 1.0, torch.as_tensor(second).double() * factor)
    if not isinstance(first, Value):
        return reading.affine(call, second, factor, first)
    if factor != 1:
        second = reading.affine(replace(call, size=second.shape), second, factor, 0.0)
    return reading.together(call, "add", [first, second])


def _maps(call: Call, *arguments: str) -> list[Any]:
    """Arguments, of which those from the images may be computed with."""
    return [call.value(each) if isinstance(call[each], Value) else call[each] for each in arguments]


def _add(reading: Reading, call: Call) -> Value:
    first, second = _maps(call, "self", "other")
    return _sum(reading, call, first, second, float(call.arguments.get("alpha", 1)))


def _sub(reading: Reading, call: Call) -> Value:
    first, second = _maps(call, "self", "other")
    return _sum(reading, call, first, second, -float(call.arguments.get("alpha", 1)))


def _rsub(reading: Reading, call: Call) -> Value:
    second, first = _maps(call, "self", "other")
    return _sum(reading, call, first, second, -float(call.arguments.get("alpha", 1)))


def _mul(reading: Reading, call: Call) -> Value:
    first, second = _maps(call, "self", "other")
    if isinstance(first, Value) and isinstance(second, Value):
        raise call.refused(
            "two feature maps are multiplied, as gates, attention and squeeze-and-excitation do. An addition or a "
            "concatenation can stand in its place."
        )
    value, scale = (first, second) if isinstance(first, Value) else (second, first)
    return reading.affine(call, value, scale, 0.0)


def _div(reading: Reading, call: Call) -> Value:
    if call.arguments.get("rounding_mode") is not None:
        raise call.refused("it rounds.")
    return reading.affine(call, call.value("self"), 1 / call.tensor("other").double(), 0.0)


def _neg(reading: Reading, call: Call) -> Value:
    return reading.affine(call, call.value("self"), -1.0, 0.0)


def _cat(reading: Reading, call: Call) -> Value:
    values = [replace(call, arguments={"tensors": each}).value("tensors") for each in call["tensors"]]
    if call["dim"] % (len(call.shape) + 1) != 1:
        raise call.refused(f"it must join along the channels, axis 1. Got axis {call['dim']} instead.")
    return reading.together(call, "concatenate", values) if len(values) > 1 else values[0]


# Pooling.


def _windows(reading: Reading, call: Call) -> tuple[str, dict[str, Any], bool]:
    """(step, its window, whether windows reach over the edge: with ceil_mode the last ones do)"""
    flat = call.operator.endswith("1d")
    x = reading.image(call, call.value("self"), flat)
    kernel, stride = (_pair(call[each] or call["kernel_size"], flat, 1) for each in ("kernel_size", "stride"))
    above, left, below, right = _sides(call["padding"], flat)
    (height, width), (rows, columns) = reading.draft.shapes[x][1:], _pair(call.shape[1:], flat, 1)
    down = max(0, (rows - 1) * stride[0] + kernel[0] - height - above - below)
    over = max(0, (columns - 1) * stride[1] + kernel[1] - width - left - right)
    around = (above, left, below + down, right + over)
    return x, {"kernel": kernel, "stride": stride, "padding": around}, bool(down or over)


def _max_pool(reading: Reading, call: Call) -> Value:
    if set(_pair(call["dilation"], False, 1)) != {1}:
        raise call.refused("its window has gaps. Known are pools with dilation 1.")
    x, window, _ = _windows(reading, call)
    return reading.put(call, reading.draft.add(call.name, "max_pool", x, **window))


def _average_pool(reading: Reading, call: Call) -> Value:
    if call.arguments.get("divisor_override") is not None:
        raise call.refused("divisor_override is not known here.")
    x, window, over_the_edge = _windows(reading, call)
    if over_the_edge:
        raise call.refused("with ceil_mode its last windows reach over the edge. Use ceil_mode=False, or padding.")
    counts = call["count_include_pad"]
    return reading.put(call, reading.draft.add(call.name, "average_pool", x, **window, counts_padding=counts))


def _pooled(reading: Reading, call: Call, name: str, kernel: tuple[int, int], mean: bool) -> Value:
    """One number for each window, which lie beside one another."""
    if kernel == (1, 1):
        return reading.copied(call, name)
    if mean and kernel == reading.draft.shapes[name][1:]:
        return reading.put(call, reading.draft.add(call.name, "global_average_pool", name))
    pool = "average_pool" if mean else "max_pool"
    return reading.put(call, reading.draft.add(call.name, pool, name, kernel=kernel, stride=kernel))


def _adaptive_pool(reading: Reading, call: Call) -> Value:
    flat = call.operator.endswith("1d")
    x = reading.image(call, call.value("self"), flat)
    size, wanted = reading.draft.shapes[x][1:], _pair(call["output_size"], flat, 1)
    if any(own % each for own, each in zip(size, wanted, strict=True)):
        raise call.refused(f"its windows must be of one size. From {tuple(size)} to {wanted} they are not.")
    return _pooled(reading, call, x, (size[0] // wanted[0], size[1] // wanted[1]), "avg" in call.operator)


def _over_pixels(reading: Reading, call: Call) -> Value:
    """Mean or maximum over height, width, or both."""
    value, dims = call.value("self"), call.arguments.get("dim")
    held, axes = reading.held(value), sorted(dim % (len(value.shape) + 1) - 1 for dim in dims or ())
    if len(held) == 3 and held[:1] == value.shape[:1] and axes == list(range(1, len(value.shape))) and axes:
        kernel = held[1], held[2]
    elif held == value.shape and axes in ([1], [2]):
        kernel = (held[1], 1) if axes == [1] else (1, held[2])
    else:
        raise call.refused(f"it must go over height and width, dim=(2, 3). Got {dims} for {('n', *value.shape)}.")
    return _pooled(reading, call, value.name, kernel, call.operator == "mean")


# What changes shapes, or nothing.


def _reshape(reading: Reading, call: Call) -> Value:
    value = call.value("self", ended=True)
    if prod(call.shape) != prod(value.shape):
        raise call.refused(f"it makes {('n', *call.shape)} of {('n', *value.shape)}.")
    return replace(value, shape=call.shape)


def _permute(reading: Reading, call: Call) -> Value:
    value = call.value("self", ended=True)
    order = list(range(len(value.shape) + 1))
    if "dims" in call.arguments:
        order = [dim % len(order) for dim in call["dims"]]
    else:
        first, second = call["dim0"] % len(order), call["dim1"] % len(order)
        order[first], order[second] = second, first
    kept = [axis for axis in order if axis == 0 or value.shape[axis - 1] > 1]
    if kept != sorted(kept):
        raise call.refused("axes change places. Known are images as (n, channels, height, width) from end to end.")
    return replace(value, shape=call.shape)


def _vanish(reading: Reading, call: Call) -> Value:
    return call.value(next(iter(call.arguments)), padded=True, ended=True)


def _copy(reading: Reading, call: Call) -> Value:
    value = _vanish(reading, call)
    return replace(value, storage=reading.copied(call, value.name).storage)


def _convert(reading: Reading, call: Call) -> Value:
    dtype = call.arguments.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        raise call.refused(f"it makes numbers of type {dtype}.")
    return _vanish(reading, call)


def _dropout(reading: Reading, call: Call) -> Value:
    if call["train"] and call["p"]:
        raise call.refused(
            "it drops in evaluation, too: F.dropout does unless it is told. Write F.dropout(x, training=self.training)."
        )
    return _vanish(reading, call)


def _part(reading: Reading, call: Call) -> Value:
    value = call.value("self", padded=True, ended=True)
    if call.shape != value.shape or call.arguments.get("step", 1) != 1:
        raise call.refused(
            f"it makes {('n', *call.shape)} of {('n', *value.shape)}. Feature maps are read whole here: a layer of its "
            "own for each part, or a layer with a stride, can stand in its place."
        )
    return value


def _pad(reading: Reading, call: Call) -> Value:
    value, pads = call.value("self"), list(call["pad"])
    mode, filled = call.arguments.get("mode", "constant"), call.arguments.get("value") or 0
    if not any(pads):
        return reading.copied(call, value.name)
    axes = 2 * (len(value.shape) - 1)
    if mode != "constant" or filled or min(pads) < 0 or any(pads[axes:]) or axes not in (2, 4):
        raise call.refused("only zeros around height and width are known here, directly before a convolution.")
    reading.image(call, value, flat=axes == 2)
    left, right, above, below = [*pads[:axes], 0, 0][:4]
    return replace(value, padding=(above, left, below, right))


def _softmax(reading: Reading, call: Call) -> Value:
    value = call.value("self")
    axis = call["dim"] % (len(value.shape) + 1)
    if axis == 0 or value.shape[axis - 1] != prod(value.shape):
        raise call.refused(f"it must go over the classes at the end. Got {('n', *value.shape)}, dim={call['dim']}.")
    return replace(value, softmax=call.operator, storage=call.name)


# Activations.


def _activation(operation: str, **settings: Any) -> Row:
    return lambda reading, call: reading.simple(call, call.value(next(iter(call.arguments))), operation, **settings)


def _clip(reading: Reading, call: Call) -> Value:
    value = call.value("self")
    low, high = (call.arguments.get(each, call.arguments.get(f"{each}_val")) for each in ("min", "max"))
    if low == 0 and high is None:
        return reading.simple(call, value, "relu")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise call.refused("it must have both a lower and an upper bound, or be ReLU, which has 0 below.")
    return reading.simple(call, value, "clip", low=low, high=high)


def _leaky_relu(reading: Reading, call: Call) -> Value:
    return reading.simple(call, call.value("self"), "leaky_relu", slope=call["negative_slope"])


def _prelu(reading: Reading, call: Call) -> Value:
    slope = call.tensor("weight")
    if slope.numel() != 1:
        raise call.refused("it has a slope for each channel. With one for all, nn.PReLU(1), it is a leaky ReLU.")
    return reading.simple(call, call.value("self"), "leaky_relu", slope=float(slope))


def _gelu(reading: Reading, call: Call) -> Value:
    if call["approximate"] != "none":
        raise call.refused("its approximation is not known here. Use GELU(approximate='none').")
    return reading.simple(call, call.value("self"), "gelu")


def _threshold(reading: Reading, call: Call) -> Value:
    if (call["threshold"], call["value"]) != (0, 0):
        raise call.refused("known is a threshold of 0 with 0 below it, which is ReLU.")
    return reading.simple(call, call.value("self"), "relu")


def _of(row: Row, *operators: str) -> dict[str, Row]:
    return dict.fromkeys(operators, row)


ROWS: dict[str, Row] = {
    **_of(_convolution, "conv1d", "conv2d"),
    "linear": _linear,
    **_of(_matmul, "matmul", "mm"),
    "addmm": _addmm,
    "batch_norm": _batch_norm,
    "add": _add,
    **_of(_sub, "sub", "subtract"),
    "rsub": _rsub,
    **_of(_mul, "mul", "multiply"),
    **_of(_div, "div", "divide", "true_divide"),
    **_of(_neg, "neg", "negative"),
    **_of(_cat, "cat", "concat", "concatenate"),
    **_of(_max_pool, "max_pool1d", "max_pool2d"),
    **_of(_average_pool, "avg_pool1d", "avg_pool2d"),
    **_of(_adaptive_pool, "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    **_of(_over_pixels, "mean", "amax"),
    **_of(_reshape, "flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as"),
    **_of(_permute, "permute", "transpose"),
    **_of(_vanish, "contiguous", "detach", "alias"),
    "clone": _copy,
    **_of(_convert, "to", "_to_copy", "type_as"),
    **_of(_dropout, "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
    **_of(_part, "slice", "expand", "expand_as", "narrow"),
    **_of(_pad, "pad", "constant_pad_nd"),
    **_of(_softmax, "softmax", "log_softmax"),
    "relu": _activation("relu"),
    "relu6": _activation("clip"),
    **_of(_clip, "hardtanh", "clamp", "clip", "clamp_min"),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "hardswish": _activation("hard_swish"),
    "gelu": _gelu,
    "threshold": _threshold,
}
"""Operator -> what it is here. One that works in place bears the same name with `_` behind it."""

_OF_THE_BATCH = {"view", "reshape", "unflatten", "expand", "slice"}
"""Operators that may be told how many images there are."""

_ACTIVATION = "ReLU, leaky ReLU, hard-swish, GELU, tanh or sigmoid can stand in its place"
_RECURRENT = "convolutions over the signal can stand in place of recurrent layers"
_ATTENTION = "convolutions can stand in place of attention"
_PART = "feature maps are read whole here; a layer of its own for each part can stand in its place"
_RESIZED = "feature maps only get smaller here; images can be resized before they come to the network"
_VOLUME = "known are images and signals"

HINTS: dict[str, str] = {
    "silu": "hard-swish or ReLU can stand in its place",
    "mish": "hard-swish or ReLU can stand in its place",
    **dict.fromkeys(("elu", "selu", "celu", "softplus", "hardsigmoid", "log_sigmoid", "rrelu", "glu"), _ACTIVATION),
    **dict.fromkeys(
        ("layer_norm", "group_norm", "instance_norm", "rms_norm"), "batch normalization can stand in its place"
    ),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"), _RECURRENT),
    **dict.fromkeys(("scaled_dot_product_attention", "_native_multi_head_attention", "bmm", "baddbmm"), _ATTENTION),
    **dict.fromkeys(("select", "index", "chunk", "split", "split_with_sizes", "unbind", "tensor_split"), _PART),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "pixel_shuffle", "pixel_unshuffle"), _RESIZED),
    **dict.fromkeys(
        ("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"), _RESIZED
    ),
    **dict.fromkeys(("conv3d", "max_pool3d", "avg_pool3d", "adaptive_avg_pool3d"), _VOLUME),
    "wrap_with_autocast": "forward must compute without torch.autocast",
    "embedding": "the network must read images, numbers and not positions in a table",
    "channel_shuffle": "a convolution without groups can stand in its place",
    "stack": "torch.cat along the channels, or an addition, can stand in its place",
    "sum": "a mean can stand in its place; feature maps are added with +",
    "max": "torch.amax(x, (2, 3)), or max pooling, can stand in its place",
    "maximum": "ReLU and max pooling are the only maxima that are known here",
    "einsum": "a linear layer or a convolution can stand in its place",
    "item": "what is computed must not depend on the numbers in the images",
}
"""Operators that are not known here -> what can be done."""


def apply(reading: Reading, call: Call, by_batch: bool) -> Value:
    """The step that an operator becomes. by_batch : whether an argument says how many images there are

    Raises BaselineError where it is not known, with what can stand in its place.
    """
    row = ROWS.get(call.operator)
    if row is None:
        hint = HINTS.get(call.operator, f"known are {', '.join(OPERATIONS)}")
        raise BaselineError(f"{call.operator} in {call.where or 'forward'} is not known here: {hint}.")
    if by_batch and call.operator not in _OF_THE_BATCH:
        raise call.refused("it computes with the number of images in a batch.")
    return row(reading, call)
