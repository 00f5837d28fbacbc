"""How images go through a stored network: its layers as an ONNX graph of float32 operations, run by ONNX Runtime.

The graph holds the operations of `models.propagate`, one for one. ONNX Runtime fuses convolution and ReLU, lays the
channels out for the processor, and releases the interpreter while it runs; its answer for an image is the same bit for
bit whatever the chunk, the number of threads, or the place where a network is cut in two.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from core.mathematics import costs
from core.mathematics.quantization import integer_range
from core.networks.models import IMAGE_SIDE, costs_of
from core.networks.stored import StoredLayer

Array = NDArray[Any]
SIGNAL_IMAGES = 500
"""Images of which signals are held at a time, where they fit."""

FAINT = 1 / float(np.finfo(np.float32).max)
"""A signal below so much for each bin counts as none: float32 has no number that would scale it."""

BINS = 2048
"""Of the histogram of a signal."""

OPSET, IR_VERSION = 17, 9
ERRORS = (state.Fail, state.InvalidGraph, state.InvalidArgument, state.RuntimeException, ValueError, RuntimeError)
"""What ONNX Runtime, NumPy and torch say of layers that do not fit together."""

IMAGE = (1, IMAGE_SIDE, IMAGE_SIDE)


class Graph:
    """Nodes and constants, in the order in which they were added; names are made here."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str | Array | np.float32, **attributes: Any) -> str:
        """The name of the node's output. An input that is not a name becomes a constant."""
        output = f"{operation}{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operation, names, [output], **attributes))
        return output

    def _constant(self, value: Array | np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def fake_quantize(self, x: str, scale: float, bits: int, signed: bool) -> str:
        """clamp(round(x / scale), q_min, q_max) * scale, as `quantization.fake_quantize`."""
        low, high = (np.float32(end) for end in integer_range(bits, signed))
        codes = self.add("Clip", self.add("Round", self.add("Div", x, np.float32(scale))), low, high)
        return self.add("Mul", codes, np.float32(scale))

    def weights(self, stored: StoredLayer, join: bool) -> list[tuple[Sequence[int], str | Array]]:
        """Shape and content of what a layer multiplies with, in this order."""
        return [(weight.shape, weight) for weight in _products(stored, join)]

    def bias(self, stored: StoredLayer) -> str | Array:
        return stored.bias.numpy()

    def layer(self, x: str, stored: StoredLayer, bits: int | None, join: bool) -> tuple[str, str]:
        """A layer: its input on its grid, one product or two, ReLU, pooling. Returns the names of the output and of
        the signal between two factors ("" where there is none)."""
        layer, between = stored.layer, ""
        if stored.input_scale is not None and bits is not None:
            x = self.fake_quantize(x, stored.input_scale, bits, signed=False)
        weights = self.weights(stored, join)
        for position, (shape, weight) in enumerate(weights):
            last = position == len(weights) - 1
            terms = (x, weight, self.bias(stored)) if last else (x, weight)
            if layer.kind == "conv":
                x = self.add("Conv", *terms, kernel_shape=shape[2:], pads=[shape[-1] // 2] * 4)
            else:
                x = self.add("Gemm", *terms, transB=1)
            if not last:
                between = x
                if stored.between_scale is not None and bits is not None:
                    x = self.fake_quantize(x, stored.between_scale, bits, signed=True)
        x = self.add("Relu", x) if layer.relu else x
        return (self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]) if layer.pool else x), between

    def chain(self, layers: Sequence[StoredLayer], bits: int | None, join: bool) -> tuple[str, dict[str, str]]:
        """Consecutive layers from the input "x"; the names of the output and, by those of `ranges`, of the signals."""
        x, noted = "x", {}
        for position, stored in enumerate(layers):
            if stored.layer.kind == "linear" and (position == 0 or layers[position - 1].layer.kind == "conv"):
                x = self.add("Flatten", x)
            if position > 0:
                noted[f"{stored.layer.name}.input"] = x
            x, between = self.layer(x, stored, bits, join)
            if between:
                noted[f"{stored.layer.name}.between"] = between
        return x, noted


def _products(stored: StoredLayer, join: bool) -> list[Array]:
    """The weights to multiply with: two factors as they are, or their product where that is less work."""
    joined = stored.joined if join else None
    weights = [tensor.weight() for tensor in stored.tensors] if joined is None else [joined]
    return [weight.contiguous().numpy() for weight in weights]


def to_onnx(
    layers: Sequence[StoredLayer],
    shape: Sequence[int] = IMAGE,
    bits: int | None = None,
    observe: Literal["largest", "signals"] | None = None,
) -> bytes:
    """The graph of consecutive layers, from their input "x" (n, *shape) to their output "y", for any n.

    bits : of the activations, where the layers have scales for them; None: they stay float32
    observe : beside "y" the signals at each layer's input ("NAME.input", but for the first), and between its factors
        ("NAME.between"), or the largest |x| of each
    """
    graph = Graph()
    x, noted = graph.chain(layers, bits, join=observe is None)
    outputs = {"y": x}
    if observe == "signals":
        outputs |= noted
    elif observe == "largest":
        outputs |= {
            name: graph.add("ReduceMax", graph.add("Abs", signal), keepdims=0) for name, signal in noted.items()
        }
    graph.nodes += [helper.make_node("Identity", [signal], [name]) for name, signal in outputs.items()]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    made = helper.make_graph(graph.nodes, "network", [entry], ends, graph.constants)
    opset = helper.make_opsetid("", OPSET)
    content: bytes = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    return content


class Runner:
    """Consecutive layers, ready to run: `runner(x)` is their output for x, float32 (n, *shape), n > 0.

    Raises one of `ERRORS` where the layers do not fit together, which happens to files that were tampered with.
    """

    def __init__(self, layers: Sequence[StoredLayer], bits: int | None = None, shape: Sequence[int] = IMAGE) -> None:
        self._session, self._at_once = _session(to_onnx(layers, shape, bits)), at_once(layers)

    def __call__(self, x: Array) -> Array:
        return np.concatenate([output for (output,) in _run(self._session, ["y"], x, self._at_once)])


def at_once(layers: Sequence[StoredLayer]) -> int:
    """So many images each core works on at a time: fewer where a layer has very many outputs."""
    most = max(cost.signal for cost in costs_of([stored.layer for stored in layers]))
    return costs.images_at_once(most, costs.CHUNK, costs.PART)


def predicted(logits: Array) -> NDArray[np.uint8]:
    """The class of each image, (n,): that of its largest score, of equal ones the first; logits : (n, classes).

    Of the scores themselves: after a softmax those that are nearly equal may be equal.
    """
    return logits.argmax(1).astype(np.uint8)


def ranges(layers: Sequence[StoredLayer], images: Array) -> dict[str, float]:
    """max |signal| over all images: at the input of each layer but the first ("NAME.input"), and between two factors
    ("NAME.between"), with float32 activations."""
    session = _session(to_onnx(layers, observe="largest"))
    names = [output.name for output in session.get_outputs()][1:]
    largest = _run(session, names, images, at_once(layers))
    return dict(zip(names, np.array(largest).max(0).tolist(), strict=True)) if names else {}


def histograms(layers: Sequence[StoredLayer], images: Array, largest: Mapping[str, float]) -> dict[str, Array]:
    """How often |signal| falls into each of `BINS` equal bins of [0, largest], for the signals of `ranges`.

    largest : what `ranges` found, for these images among others
    """
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in largest}
    for named in signals(layers, images, list(largest), bits=None):
        for name, signal in named.items():
            per_bin = BINS / largest[name] if largest[name] > BINS * FAINT else 1.0
            places = (np.abs(signal.ravel()) * per_bin).astype(np.int64).clip(0, BINS - 1)
            counts[name] += np.bincount(places, minlength=BINS)
    return counts


def signals(
    layers: Sequence[StoredLayer], images: Array, names: list[str], bits: int | None
) -> Iterator[dict[str, Array]]:
    """The signals of these names (see `ranges`) before they are rounded, some images at a time: all take a lot of
    memory. Nothing where no name is asked for."""
    session = _session(to_onnx(layers, bits=bits, observe="signals")) if names else None
    each = sum(cost.signal for cost in costs_of([stored.layer for stored in layers]))
    count = costs.images_at_once(each, SIGNAL_IMAGES, costs.SIGNALS)
    for start in range(0, len(images) if session else 0, count):
        chunks = _run(session, names, images[start : start + count], at_once(layers))
        yield {name: np.concatenate(parts) for name, parts in zip(names, zip(*chunks, strict=True), strict=True)}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # filling a new arena takes as long as the first 1,000 images
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, names: list[str], x: Array, count: int) -> list[list[Array]]:
    """The outputs, `count` images at a time, each time on one core: cores that work on chunks of their own never wait
    for each other, which threads inside an operation do whenever something else needs a core for a moment. Nothing
    where no name is asked for: ONNX Runtime would give all that there is."""
    if not names:
        return []
    chunks = [x[start : start + count] for start in range(0, len(x), count)]
    if len(chunks) == 1 or torch.get_num_threads() == 1:
        return [session.run(names, {"x": chunk}) for chunk in chunks]
    return list(_cores(torch.get_num_threads()).map(lambda chunk: session.run(names, {"x": chunk}), chunks))


@cache
def _cores(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "inference")
