"""What the operators of an ONNX file compute from constants alone, by NumPy: weights, and the shapes of reshapes."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
from onnx import helper

from core.incoming.onnx_reader import Array, Reader

Constant = Callable[..., Array]
"""The reader, which stands at the node, and the node's inputs -> its output."""


def _elementwise(compute: Callable[[Array, Array], Array]) -> Constant:
    def put(reader: Reader, a: Array, b: Array) -> Array:
        reader.take(prod(np.broadcast_shapes(a.shape, b.shape)))
        return np.asarray(compute(a, b))

    return put


def _divided(a: Array, b: Array) -> Array:
    return a // b if np.result_type(a, b).kind in "iu" else a / b


def _stored(reader: Reader) -> Array:
    ((attribute, value),) = reader.attributes.items()
    if attribute == "value":
        return reader.graph.array(value)
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.array(value, kinds[attribute])


def _joined(reader: Reader, *arrays: Array) -> Array:
    reader.take(sum(each.size for each in arrays))
    return np.concatenate(arrays, reader.attributes["axis"])


def _filled(reader: Reader, shape: Array) -> Array:
    reader.take(prod(float(each) for each in shape.ravel()))
    value = reader.attributes.get("value")
    return np.full(shape.astype(np.int64), 0.0 if value is None else reader.graph.array(value).item())


def _converted(reader: Reader, array: Array) -> Array:
    """NaN, the number of images, has no whole number to stand for it."""
    kind = helper.tensor_dtype_to_np_dtype(reader.attributes["to"])
    return array if array.dtype.kind == "f" and np.isnan(array).any() else array.astype(kind)


def _gathered(reader: Reader, array: Array, places: Array) -> Array:
    if array.ndim != 1:
        raise reader.refusal("It must take numbers out of a list, as of a shape.")
    return np.asarray(array[places.astype(np.int64)])


def _sliced(reader: Reader, array: Array, *given: Array) -> Array:
    """Of a list, from `starts` to `ends`, in steps."""
    start, end, _, step = (*given, None, None, None, None)[:4]
    (first,), (last,) = (reader.integers(each, name) or [0] for each, name in ((start, "starts"), (end, "ends")))
    if array.ndim != 1:
        raise reader.refusal("It must take numbers out of a list, as of a shape.")
    return array[first : last : 1 if step is None else int(step.item())]


def _squeezed(reader: Reader, array: Array, given: Array | None = None) -> Array:
    axes = reader.integers(given, "axes")
    return np.squeeze(array, None if axes is None else tuple(axes))


def _unsqueezed(reader: Reader, array: Array, given: Array | None = None) -> Array:
    return np.expand_dims(array, tuple(reader.integers(given, "axes") or ()))


def _reshaped(reader: Reader, array: Array, shape: Array) -> Array:
    return array.reshape([array.shape[place] if size == 0 else int(size) for place, size in enumerate(shape.ravel())])


CONSTANTS: Mapping[str, Constant] = {
    "Constant": _stored,
    "ConstantOfShape": _filled,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divided),
    "Pow": _elementwise(np.power),
    "Neg": lambda reader, a: -a,
    "Sqrt": lambda reader, a: np.sqrt(a),
    "Reciprocal": lambda reader, a: 1 / a,
    "Identity": lambda reader, a: a,
    "Cast": _converted,
    "Concat": _joined,
    "Gather": _gathered,
    "Slice": _sliced,
    "Shape": lambda reader, a: np.array(a.shape)[reader.attributes.get("start", 0) : reader.attributes.get("end")],
    "Transpose": lambda reader, a: a.transpose(reader.attributes.get("perm")),
    "Flatten": lambda reader, a: a.reshape(prod(a.shape[: reader.attributes.get("axis", 1)]), -1),
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
}
