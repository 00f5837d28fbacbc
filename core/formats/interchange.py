"""A stored network in the formats that other tools read: ONNX, and safetensors with JSON beside it.

ONNX holds the integers themselves, followed by DequantizeLinear, or by Gather from a codebook, or the float32 weights
that they stand for.
Codes in safetensors take a byte each, whatever their bits, so that any reader of tensors can multiply them by their
scale; the file of `artifact` is smaller, and only this project reads it.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from core.config import CompressionConfig, ConfigError
from core.formats import earlier, seen
from core.mathematics.quantization import integer_range
from core.mathematics.rounding import shortest
from core.networks import encodings
from core.networks.encodings import FormatError, StoredTensor, must_be
from core.networks.graph import Layer, Network
from core.networks.inference import IR_VERSION, OPSET, Graph, Part
from core.networks.stored import BETWEEN, StoredLayer, StoredNetwork, check  # fmt: skip

FORMAT = "compressed-network/3"
"""That of a description."""

QUANTIZED = 19, 9
"""The first opset and file version with QuantizeLinear as it is used here."""

SMALLEST, LARGEST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
"""Positive float32 numbers."""


class _Named(Graph):
    """The layers as they are stored: two factors stay two products, and weights and biases bear their names."""

    narrow = False

    def __init__(self) -> None:
        super().__init__()
        self.versions = OPSET, IR_VERSION  # of the operators, and of the file

    def needs(self, opset: int, version: int) -> None:
        self.versions = max(self.versions, (opset, version))

    def named(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, tensor: StoredTensor) -> str:
        return self.named(tensor.name, tensor.weight().contiguous().numpy())

    def weights(self, stored: StoredLayer, join: bool) -> list[str | NDArray[Any]]:
        return [self.weight(tensor) for tensor in stored.tensors]

    def bias(self, stored: StoredLayer) -> str:
        return self.named(f"{stored.layer.name}.bias", stored.bias.numpy())

    def affine(self, name: str, values: NDArray[Any]) -> str:
        return self.named(name, values)


class _Integers(_Named):
    """The same with integers: codes and DequantizeLinear for weights, QuantizeLinear and its inverse for signals."""

    def __init__(self, narrow: bool) -> None:
        super().__init__()
        self.narrow, self.versions = narrow, QUANTIZED

    def add(self, operation: str, *inputs: str | NDArray[Any] | np.float32, **attributes: Any) -> str:
        if operation == "Gemm" and len(inputs) == 2:  # else ONNX Runtime 1.31 picks a kernel without uint2
            inputs = (*inputs, np.float32(0))
        return super().add(operation, *inputs, **attributes)

    def weight(self, tensor: StoredTensor) -> str:
        return tensor.onnx(self)

    def fake_quantize(self, x: str, scale: float, bits: int, signed: bool) -> str:
        """clamp(round(x / scale), q_min, q_max) * scale.

        The ends are Min and Max before rounding, and never Clip, nor nothing where QuantizeLinear would saturate by
        itself: between a product and QuantizeLinear either lets ONNX Runtime round a float32 bias, and float32 weights,
        to integers of its own.
        """
        step, zero = np.float32(scale), np.zeros((), np.int8 if signed else np.uint8)
        low, high = (np.float32(end) * step for end in integer_range(bits, signed))
        x = self.add("Min", x, high)
        x = self.add("Max", x, low) if signed else x
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, step, zero), step, zero)


def to_qdq(network: StoredNetwork, narrow: bool = False) -> bytes:
    """The network as ONNX with integers, from normalized images "x", float32 (n, c, h, w), to logits "y" (n, classes).

    narrow : codes in the narrowest type that holds them, int2 for 2 bits (opset 25), int4 for 3 and 4 (opset 21), and
        not in int8, which more tools read; unsigned types where there are zero points
    """
    return _model(_Integers(narrow), network)


def to_float_onnx(network: StoredNetwork) -> bytes:
    """The network as ONNX with float32 weights and operations; "x" and "y" as in `to_qdq`."""
    return _model(_Named(), network)


def problem_with(model: bytes) -> str:
    """Why ONNX Runtime, as it is installed here, cannot run the model on an image; "" where it can."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        _, *shape = session.get_inputs()[0].shape
        session.run(None, {"x": np.zeros((1, *shape), np.float32)})
    except Exception as error:  # the errors of ONNX Runtime have no base of their own
        return f"ONNX Runtime {onnxruntime.__version__} cannot run it: {' '.join(str(error).split()).rstrip('.')}."
    return ""


def _model(graph: _Named, network: StoredNetwork) -> bytes:
    """A file that `onnx.checker` finds whole, with `_about` as its metadata."""
    graph.run(Part(network), network.config.activation_bits, join=False)
    graph.nodes[-1].output[0] = "y"
    opset, version = graph.versions
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *network.network.shape])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", network.network.classes])
    made = helper.make_graph(graph.nodes, "network", [entry], [end], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in _about(network).items()}
    helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _about(network: StoredNetwork) -> dict[str, Any]:
    """What every format says of the network besides its tensors."""
    about = seen.described(network.images)
    normalization = {part: about.pop(part) for part in ("mean", "deviation")}
    config = json.loads(network.config.to_json())
    return {"config": config, "baseline_sha256": network.baseline_sha256, "normalization": normalization} | about


def to_safetensors(network: StoredNetwork) -> tuple[bytes, bytes]:
    """The tensors, and JSON that says what they are. The same network gives the same bytes.

    weight = NAME.scale * NAME.codes (int8), or NAME.scale * (NAME.codes - NAME.zero_point) (both uint8), or
    NAME.centroids[NAME.indices] (uint8), or NAME itself where it is float32. Scales, centroids and biases are float16
    where float16 holds each of them exactly, else float32.
    """
    tensors = {name: shortest(tensor) for name, tensor in network.affine.items()}
    for stored in network.layers:
        tensors[f"{stored.layer.name}.bias"] = shortest(stored.bias)
        for tensor in stored.tensors:
            tensors |= {f"{tensor.name}{end}": part for end, part in tensor.tensors().items()}
    content = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    return content, json.dumps(_described(network) | _about(network), indent=1).encode()


def _described(network: StoredNetwork) -> dict[str, Any]:
    """The network, what its layers store, and the grids of its signals: step, and the nodes at whose outputs it is."""
    layers = [
        {"name": stored.layer.name, "between_scale": stored.between_scale, "weights": _weights(stored)}
        for stored in network.layers
    ]
    grids = {
        signal.name: {"scale": network.scales[signal.name], "signed": signal.signed, "ends": signal.ends}
        for signal in network.network.signals if signal.name in network.scales
    }  # fmt: skip
    return {"format": FORMAT, "network": network.network.to_record(), "layers": layers, "signals": grids}


def _weights(stored: StoredLayer) -> list[dict[str, Any]]:
    return [
        {"name": t.name, "encoding": t.encoding, "shape": tuple(t.values.shape), "bits": t.bits} for t in stored.tensors
    ]


def from_safetensors(tensors: bytes, about: bytes) -> StoredNetwork:
    """The inverse of `to_safetensors`; masks are those of the nonzero values. Raises FormatError, nothing else."""
    left, described = _load(tensors, about)
    try:
        described = earlier.described(described)
        graph, grids = _network(described)
        named = {layer.name: layer for layer in graph.layers}
        layers = tuple(_read_layer(named[entry["name"]], entry, left) for entry in described["layers"])
        affine = {name: _take(name, (shape,), (torch.float32, torch.float16), left)
                  for name, shape in graph.affine_shapes.items()}  # fmt: skip
        for name, scale in grids.items():
            _check_scale(name, scale)
        config = CompressionConfig.from_record(described["config"])
        images = seen.of(described | described["normalization"])
        network = StoredNetwork(graph, layers, config, described["baseline_sha256"] + "", grids, affine, images)
        check(network)
        must_be("The list of tensors that no layer uses", sorted(left), [])
        return network
    except FormatError:
        raise
    except ConfigError as error:
        raise FormatError(f"The file's configuration cannot be read. {error}") from None
    except KeyError as error:
        raise FormatError(f"The file is damaged: it has no {error}.") from None
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"The file is damaged: {str(error).rstrip('.')}.") from None


def _network(described: dict[str, Any]) -> tuple[Network, dict[str, float]]:
    """The graph, and the steps of its signals."""
    graph = Network.from_record(described["network"])
    grids = {name: (grid["signed"], tuple(grid["ends"])) for name, grid in described["signals"].items()}
    expected = {signal.name: (signal.signed, signal.ends) for signal in graph.signals if signal.name in grids}
    must_be("The grids of its signals", grids, expected)
    return graph, {name: grid["scale"] for name, grid in described["signals"].items()}


def _load(tensors: bytes, about: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        described = json.loads(about)
        if described["format"] != earlier.CHAINS:
            must_be("The file's format", described["format"], FORMAT)
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"The description must be JSON of format {FORMAT} ({error}).") from None
    try:
        return load_tensors(tensors), described
    except Exception as error:  # its own error, and whatever torch or Python say of what a header promises
        raise FormatError(f"The tensors must be a whole safetensors file ({error}).") from None


def _sizes(shape: object) -> tuple[int, ...]:
    if isinstance(shape, list) and len(shape) in (2, 4) and all(type(size) is int and size > 0 for size in shape):
        return tuple(shape)
    raise FormatError(f"A shape must be two or four positive integers. Got {shape!r} instead.")


def _check_scale(name: str, scale: object) -> None:
    if scale is not None and not (type(scale) is float and SMALLEST <= scale <= LARGEST):
        raise FormatError(f"The scale of {name} must be a positive float or null. Got {scale!r} instead.")


def _read_layer(layer: Layer, entry: Mapping[str, Any], left: dict[str, Tensor]) -> StoredLayer:
    """A layer that fits its description; its tensors are taken out of those that are left."""
    _check_scale(f"{layer.name}{BETWEEN}", entry["between_scale"])
    tensors = tuple(_read_tensor(weight, left) for weight in entry["weights"])
    bias = _take(f"{layer.name}.bias", (layer.shape[:1],), (torch.float16, torch.float32), left)
    return StoredLayer(layer, tensors, bias, entry["between_scale"])


def _read_tensor(entry: Mapping[str, Any], left: dict[str, Tensor]) -> StoredTensor:
    name, bits = entry["name"], entry["bits"]
    if type(bits) is not int:
        raise FormatError(f"bits of {name} must be an integer. Got {bits!r} instead.")

    def take(
        end: str, kinds: tuple[torch.dtype, ...], *shapes: tuple[int, ...], low: float = -LARGEST, high: float = LARGEST
    ) -> Tensor:
        return _take(f"{name}{end}", shapes, kinds, left, low, high)

    return encodings.named(entry["encoding"]).taken(name, _sizes(entry["shape"]), bits, take)


def _take(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    kinds: tuple[torch.dtype, ...],
    left: dict[str, Tensor],
    low: float = -LARGEST,
    high: float = LARGEST,
) -> Tensor:
    """A tensor of one of these shapes, of one of these types, of numbers in [low, high]; halves become float32."""
    tensor = left.pop(name)
    if tuple(tensor.shape) not in shapes:
        must_be(f"The shape of {name}", tuple(tensor.shape), shapes[0])
    if tensor.dtype not in kinds:
        raise FormatError(f"{name} must be {' or '.join(map(str, kinds))}. Got {tensor.dtype} instead.")
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    ends = tensor.min().item(), tensor.max().item()
    if not low <= ends[0] <= ends[1] <= high:
        raise FormatError(f"{name} must hold numbers in [{low}, {high}]. Got {ends[0]} to {ends[1]} instead.")
    return tensor
