"""How images go through a stored network: an ONNX graph of float32 operations, run by ONNX Runtime.

It holds the operations of the network's nodes, one for one. ONNX Runtime fuses convolution and ReLU, lays the channels
out for the processor, and releases the interpreter while it runs; its answer for an image is the same bit for bit
whatever the chunk, the number of threads, or the place of `Network.cuts` where a network is cut in two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from core.mathematics import costs
from core.mathematics.quantization import integer_range
from core.networks.graph import IMAGE, Network
from core.networks.models import costs_of
from core.networks.operations import Node, Shape
from core.networks.stored import BETWEEN, StoredLayer, StoredNetwork

Array = NDArray[Any]
SIGNAL_IMAGES = 500
"""Images of which signals are held at a time, where they fit."""

FAINT = 1 / float(np.finfo(np.float32).max)
"""A signal below so much for each bin counts as none: float32 has no number that would scale it."""

BINS = 2048
"""Of the histogram of a signal."""

SEEN = "seen "
"""Before the name of a signal that is put out besides."""

OPSET, IR_VERSION = 17, 9
ERRORS = (state.Fail, state.InvalidGraph, state.InvalidArgument, state.RuntimeException, ValueError, RuntimeError)
"""What ONNX Runtime, NumPy and torch say of layers that do not fit together."""


class Graph:
    """An ONNX graph: nodes and constants, in the order in which they were added; names are made here."""

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

    def weights(self, stored: StoredLayer, join: bool) -> list[str | Array]:
        """What a layer multiplies with, in this order: two factors, or their product where that is less work."""
        joined = stored.joined if join else None
        weights = [tensor.weight() for tensor in stored.tensors] if joined is None else [joined]
        return [weight.contiguous().numpy() for weight in weights]

    def bias(self, stored: StoredLayer) -> str | Array:
        return stored.bias.numpy()

    def affine(self, name: str, values: Array) -> str | Array:
        return values

    def layer(self, x: str, stored: StoredLayer, bits: int | None, join: bool) -> tuple[str, str]:
        """W x + b, one product or two. Returns the names of the output and of the signal between two factors ("" where
        there is none)."""
        node, weights = stored.layer.node, self.weights(stored, join)
        if len(weights) == 1:
            return node.row.onnx(self, node, x, weights[0], self.bias(stored)), ""
        between = x = node.row.onnx(self, node, x, weights[0])
        if stored.between_scale is not None and bits is not None:
            x = self.fake_quantize(x, stored.between_scale, bits, signed=True)
        if stored.layer.kind == "conv":
            return self.add("Conv", x, weights[1], self.bias(stored), kernel_shape=[1, 1], pads=[0] * 4), between
        return self.add("Gemm", x, weights[1], self.bias(stored), transB=1), between

    def run(
        self, part: Part, bits: int | None, join: bool, also: Callable[[str, str], None] = lambda name, output: None
    ) -> str:
        """The nodes of a part of a network, from its input "x"; the name of the last one's output.

        also : told the name of each signal before it is rounded, "NODE" at whose output it is, or "LAYER.between"
        """
        network, names = part.network, {part.after: "x"}
        for node in _fused(network.network, part.nodes):
            inputs = [names[name] for name in node.inputs]
            if node.weighted:
                names[node.name], between = self.layer(inputs[0], network.named[node.name], bits, join)
                if between:
                    also(f"{node.name}{BETWEEN}", between)
            else:
                names[node.name] = node.row.onnx(self, node, *inputs, *self._affine(network, node))
            if (signal := network.network.signal_at.get(node.name)) is not None:
                also(node.name, names[node.name])
                if (scale := network.scale_at(node.name)) is not None and bits is not None:
                    names[node.name] = self.fake_quantize(names[node.name], scale, bits, signal.signed)
        return names[part.nodes[-1].name]

    def _affine(self, network: StoredNetwork, node: Node) -> Iterator[str | Array]:
        if node.operation == "affine":
            each = (-1, *[1] * (len(network.network.shapes[node.name]) - 1))
            for name in (f"{node.name}.scale", f"{node.name}.shift"):
                yield self.affine(name, network.affine[name].reshape(each).numpy())


class Simulated(Graph):
    """The graph that is evaluated: what a signal is rounded to is the same bit for bit, in two passes over it and not
    four."""

    def fake_quantize(self, x: str, scale: float, bits: int, signed: bool) -> str:
        """The codes are integers of eight bits, which QuantizeLinear rounds and saturates to."""
        step, zero = np.float32(scale), np.zeros((), np.int8 if signed else np.uint8)
        ends = integer_range(bits, signed)
        codes = self.add("QuantizeLinear", x, step, zero)
        if ends != (0, np.iinfo(np.uint8).max):
            codes = self.add("Clip", codes, *(np.array(end, zero.dtype) for end in ends))
        return self.add("DequantizeLinear", codes, step, zero)


@dataclass(frozen=True, eq=False)
class Part:
    """Some of a network's nodes, which read one feature map alone: the image, or a node's output.

    after : a node of `Network.cuts`, behind which they begin; up_to : the last of them. All, if not said otherwise.
    """

    network: StoredNetwork
    after: str = IMAGE
    up_to: str = ""

    @property
    def shape(self) -> Shape:
        """Of what it reads, for one image."""
        return self.network.network.shapes[self.after]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        network = self.network.network
        first = 0 if self.after == IMAGE else len(network.before(self.after))
        return network.before(self.up_to or network.output)[first:]

    @property
    def most(self) -> int:
        """Bytes of the signals of one image, at the layer that has most."""
        names = {node.name for node in self.nodes}
        layers = [stored.layer for stored in self.network.layers if stored.layer.name in names]
        return max((cost.signal for cost in costs_of(layers)), default=1)


def _fused(network: Network, nodes: Sequence[Node]) -> list[Node]:
    """The same nodes, each ReLU before a max pooling that stands directly between it and its input, for they commute:
    ONNX Runtime computes a convolution and its ReLU as one."""
    swapped = list(nodes)
    for place, (pool, relu) in enumerate(pairwise(nodes)):
        alone = network.readers[pool.name] == [relu.name]
        if (pool.operation, relu.operation) == ("max_pool", "relu") and alone:
            first = replace(relu, name=pool.name, inputs=pool.inputs)
            swapped[place : place + 2] = [first, replace(pool, name=relu.name, inputs=(first.name,))]
    return swapped


def to_onnx(part: Part, bits: int | None = None, observe: Literal["largest", "signals"] | None = None) -> bytes:
    """The graph of a part of a network, from its input "x" (n, *shape) to its output "y", for any n.

    bits : of the activations, where the network has scales for them; None: they stay float32
    observe : beside "y" its signals before they are rounded, "seen NODE" and "seen LAYER.between", or the largest |x|
        of each, of every channel of an image or of all
    """
    graph, noted = Simulated(), dict[str, str]()
    outputs = {"y": graph.run(part, bits, join=observe is None, also=noted.__setitem__)}
    for name, signal in noted.items() if observe is not None else ():
        outputs[f"{SEEN}{name}"] = _largest(graph, part, name, signal) if observe == "largest" else signal
    graph.nodes += [helper.make_node("Identity", [signal], [name]) for name, signal in outputs.items()]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *part.shape])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    made = helper.make_graph(graph.nodes, "network", [entry], ends, graph.constants)
    opset = helper.make_opsetid("", OPSET)
    content: bytes = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    return content


def _largest(graph: Graph, part: Part, name: str, signal: str) -> str:
    """Of a feature map for each channel of an image: a pooling reads them as a convolution lays them out."""
    network = part.network.network
    size = signal if network.nonnegative.get(name) else graph.add("Abs", signal)
    spatial = len(network.shapes[name.removesuffix(BETWEEN)]) == 3
    return graph.add("GlobalMaxPool", size) if spatial else graph.add("ReduceMax", size, keepdims=0)


class Runner:
    """A network or a part of it, ready to run: `runner(x)` is its output for x, float32 (n, *shape), n > 0.

    Raises one of `ERRORS` where its layers do not fit together, which happens to files that were tampered with.
    """

    def __init__(self, part: StoredNetwork | Part, bits: int | None = None) -> None:
        part = Part(part) if isinstance(part, StoredNetwork) else part
        self._session, self._at_once = _session(to_onnx(part, bits)), at_once(part)

    def __call__(self, x: Array) -> Array:
        return np.concatenate([output for (output,) in _run(self._session, ["y"], x, self._at_once)])


def at_once(part: Part) -> int:
    """So many images each core works on at a time: fewer where a layer has very many outputs."""
    return costs.images_at_once(part.most, costs.CHUNK, costs.PART)


def predicted(logits: Array) -> NDArray[np.uint8]:
    """The class of each image, (n,): that of its largest score, of equal ones the first; logits : (n, classes).

    Of the scores themselves: after a softmax those that are nearly equal may be equal.
    """
    return logits.argmax(1).astype(np.uint8)


def ranges(network: StoredNetwork, images: Array) -> dict[str, float]:
    """max |x| of each signal over all images, by its name, and between two factors ("LAYER.between"), with float32
    activations."""
    part = Part(network)
    session = _session(to_onnx(part, observe="largest"))
    if not (ends := _observed(session)):
        return {}
    chunks, largest = _run(session, ends, images, at_once(part)), dict[str, float]()
    for end, parts in zip(ends, zip(*chunks, strict=True), strict=True):
        name, value = _signal(network, end), max(float(values.max()) for values in parts)
        largest[name] = max(value, largest.get(name, value))
    return largest


def _observed(session: onnxruntime.InferenceSession) -> list[str]:
    """The outputs that are signals."""
    return [output.name for output in session.get_outputs() if output.name.startswith(SEEN)]


def _signal(network: StoredNetwork, seen: str) -> str:
    """The name of the signal that is put out as this."""
    name, at = seen.removeprefix(SEEN), network.network.signal_at
    return at[name].name if name in at else name


def histograms(network: StoredNetwork, images: Array, largest: Mapping[str, float]) -> dict[str, Array]:
    """How often |signal| falls into each of `BINS` equal bins of [0, largest], for the signals of `ranges`.

    largest : what `ranges` found, for these images among others
    """
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in largest}
    for named in signals(network, images, list(largest), bits=None):
        for name, parts in named.items():
            per_bin = BINS / largest[name] if largest[name] > BINS * FAINT else 1.0
            for signal in parts:
                places = (np.abs(signal.ravel()) * per_bin).astype(np.int64).clip(0, BINS - 1)
                counts[name] += np.bincount(places, minlength=BINS)
    return counts


def signals(
    network: StoredNetwork, images: Array, names: list[str], bits: int | None
) -> Iterator[dict[str, list[Array]]]:
    """The signals of these names (see `ranges`) before they are rounded, at each of their ends, some images at a time:
    all take a lot of memory. Nothing where no name is asked for."""
    part = Part(network)
    session = _session(to_onnx(part, bits=bits, observe="signals")) if names else None
    each = sum(cost.signal for cost in costs_of(network.network.layers))
    count = costs.images_at_once(each, SIGNAL_IMAGES, costs.SIGNALS)
    wanted = [] if session is None else [end for end in _observed(session) if _signal(network, end) in names]
    for start in range(0, len(images) if session else 0, count):
        chunks = _run(session, wanted, images[start : start + count], at_once(part))
        found: dict[str, list[Array]] = {name: [] for name in names}
        for end, parts in zip(wanted, zip(*chunks, strict=True), strict=True):
            found[_signal(network, end)].append(np.concatenate(parts))
        yield found


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # filling a new arena takes as long as the first 1,000 images
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # else it may round weights and biases, too
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
