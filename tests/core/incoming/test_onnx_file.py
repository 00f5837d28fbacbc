"""Networks out of ONNX files: they compute what ONNX Runtime computes, or are refused in words."""

import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from core.incoming import onnx_file, onnx_reader
from core.networks.graph import BaselineError, Network
from core.networks.models import scores

NHWC = (0, 2, 3, 1)


class File:
    """An ONNX file, written node by node. dims : of its input "x"; a word leaves a size open"""

    def __init__(self, *dims: int | str, opset: int = 17) -> None:
        self.dims, self.opset = dims, opset
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.random = np.random.default_rng(0)

    def held(self, name: str, *shape: int) -> str:
        """A weight by its name, with random values."""
        return self.constant(self.random.normal(0, 0.4, shape).astype(np.float32), name)

    def constant(self, values: Any, name: str = "") -> str:
        values = np.asarray(values)
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        name = name or f"constant{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *inputs: Any, name: str = "", outputs: int = 1, domain: str = "", **given: Any) -> str:
        """The name of its first output; inputs that are not names become stored constants."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        made = [f"{operator}{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, names, made, name, domain=domain, **given))
        return made[0]

    def head(self, x: str, features: int, classes: int = 5, name: str = "fc") -> str:
        given = self.held(f"{name}.weight", classes, features), self.held(f"{name}.bias", classes)
        return self.add("Gemm", x, *given, transB=1)

    def model(self, *outputs: str, inputs: tuple[str, ...] = ("x",)) -> Any:
        said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self.dims) for name in inputs]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", said, ends, self.tensors)
        domains = {each.domain for each in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(each, 1) for each in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def content(self, *outputs: str, **options: Any) -> bytes:
        content: bytes = self.model(*outputs, **options).SerializeToString()
        return content


def session(content: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(content, options)


def agrees(
    source: bytes | Path,
    order: tuple[int, ...] = (0, 1, 2, 3),
    after: Callable[[torch.Tensor], torch.Tensor] = lambda scores: scores,
    **options: Any,
) -> Network:
    """The network, which gives the scores that ONNX Runtime computes from the file.

    order : of the axes of (n, c, h, w) in the file; after : what the file does to scores
    """
    network, tensors = onnx_file.read(source, **options)
    oracle = session(source if isinstance(source, bytes) else str(source))
    (read,) = oracle.get_inputs()
    dims = [3 if isinstance(size, str) or size is None else size for size in read.shape]
    images = torch.randn(dims[0], *network.shape)
    shaped = images.permute(order).reshape(dims[0], *dims[1:]).numpy()
    expected = torch.from_numpy(oracle.run(None, {read.name: shaped})[0]).reshape(dims[0], -1)
    assert expected.std() > 1e-3, "scores that do not vary would agree with anything"
    found = after(scores(network, tensors, images))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return network


def operations(network: Network) -> list[str]:
    return [node.operation for node in network.nodes]


# What torch's own exporter writes.


def exported(module: nn.Module, *shape: int, open_batch: bool = True, **options: Any) -> bytes:
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            for part, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.5, 2), ("weight", 0.5, 2)):
                getattr(each, part).data.uniform_(low, high)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}} if open_batch else None
        options = {"opset_version": 17, "dynamic_axes": axes, **options}
        torch.onnx.export(module.eval(), (torch.randn(1, *shape),), file, input_names=["x"], dynamo=False, **options)
    return file.getvalue()


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.avg_pool2d(self.conv1(x).sigmoid(), 2)
        x = nn.functional.avg_pool2d(self.conv2(x).sigmoid(), 2)
        return self.fc3(self.fc2(self.fc1(x.view(x.size(0), -1)).sigmoid()).sigmoid())


class Residual(nn.Module):
    """A block with normalization behind its convolution, and one with normalization before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.before, self.conv, self.drop = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.Dropout()
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.conv(self.before(x).relu())
        return self.fc(self.drop(x.mean((2, 3)))).log_softmax(1)


class Inverted(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
        )  # fmt: skip


class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.last = nn.Conv2d(12, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.squeeze(x).relu(), 3, 2, ceil_mode=True)
        x = self.last(torch.cat([self.one(x).relu(), self.three(x).relu()], 1))
        return nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)


class Activations(nn.Module):
    """Spelled out where the opset has no operator for them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.conv((x - 0.28) / 0.35))
        x = nn.functional.hardswish(x).flatten(1)
        return self.fc(nn.functional.leaky_relu(nn.functional.hardtanh(x, -0.1, 3), 0.2))


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 5, stride=2, padding=1), nn.BatchNorm1d(4), nn.Tanh(), nn.MaxPool1d(2, padding=1),
        nn.Conv1d(4, 6, 3, dilation=2), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(18, 8), nn.BatchNorm1d(8),
        nn.ReLU(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("open_batch", [True, False])
def test_lenet(open_batch: bool) -> None:
    network = agrees(exported(LeNet(), 1, 28, 28, open_batch=open_batch))
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [node.name for node in network.nodes][:3] == ["conv1", "conv1_sigmoid", "conv1_average_pool"]


@pytest.mark.parametrize("options", [{}, {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}])
def test_normalization_is_folded_or_stays(options: dict[str, Any]) -> None:
    network = agrees(exported(Residual(), 3, 8, 8, **options), after=lambda scores: scores.log_softmax(1))
    assert operations(network).count("affine") == 1
    assert network.named["before"].operation == "affine"
    assert network.shape == (3, 8, 8)
    assert "stem" in network.named or not options


@pytest.mark.parametrize("opset", [9, 11, 17])
@pytest.mark.parametrize(
    ("module", "shape"),
    [(Inverted, (3, 16, 16)), (Fire, (3, 14, 14)), (Activations, (1, 8, 8)), (signals, (2, 40))],
)  # fmt: skip
def test_other_families(module: Callable[[], nn.Module], shape: tuple[int, ...], opset: int) -> None:
    network = agrees(exported(module(), *shape, opset_version=opset))
    assert network.shape == (shape if len(shape) == 3 else (2, 1, 40))
    kinds = operations(network)
    assert "affine" not in kinds[1:]
    if module is Activations:
        assert {"gelu", "hard_swish", "clip", "leaky_relu", "affine"} <= set(kinds)


# What other exporters write.


def test_flat_features_become_an_image_that_is_flattened() -> None:
    file = File("n", 48)
    x = file.add("Relu", file.add("Gemm", "x", file.held("fc1.weight", 20, 48), file.held("fc1.bias", 20), transB=1))
    content = file.content(file.head(x, 20))
    assert operations(agrees(content, shape=(3, 4, 4))) == ["flatten", "linear", "relu", "linear"]
    with pytest.raises(BaselineError, match=r"\(any, 48\).*Say for which data set"):
        onnx_file.read(content)
    with pytest.raises(BaselineError, match=r"\(any, 48\).*\(1, 28, 28\)"):
        onnx_file.read(content, shape=(1, 28, 28))


def test_scikit_learn() -> None:
    file = File("n", 64, opset=15)
    x = file.add("Cast", "x", name="Cast", to=TensorProto.FLOAT)
    x = file.add("Add", file.add("MatMul", x, file.held("coefficient", 64, 20), name="MatMul"), file.held("b", 1, 20))
    x = file.add("MatMul", file.add("Relu", x), file.held("coefficient1", 20, 10), name="MatMul1")
    p = file.add("Softmax", file.add("Add", x, file.held("b1", 1, 10)), axis=1)
    network = agrees(file.content(p), shape=(1, 8, 8), after=lambda scores: scores.softmax(1))
    assert [layer.name for layer in network.layers] == ["MatMul", "MatMul1"]
    assert "affine" not in operations(network)
    best = file.add("ArgMax", p, axis=1)
    assert onnx_file.read(file.content(best), shape=(1, 8, 8)).network == network
    label = file.add("ArrayFeatureExtractor", file.constant(np.arange(10)), best, name="labels", domain="ai.onnx.ml")
    with pytest.raises(BaselineError, match=r"ArrayFeatureExtractor \(node labels\).*up to its probabilities"):
        onnx_file.read(file.content(label), shape=(1, 8, 8))
    with pytest.raises(BaselineError, match=f"one output.*{label}, {p}.*scikit-learn"):
        onnx_file.read(file.content(label, p), shape=(1, 8, 8))


def keras(flatten: str, batch: int | str = "n") -> bytes:
    """A network with its channels last, as tf2onnx writes it: images scaled, normalization as Mul and Add."""
    file = File(batch, 9, 9, 3, opset=13)
    x = file.add("Transpose", file.add("Mul", "x", np.float32(1 / 2)), perm=(0, 3, 1, 2))
    x = file.add("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(0))
    x = file.add("Conv", x, file.held("net/conv/ReadVariableOp:0", 6, 3, 3, 3), name="net/conv", strides=[2, 2])
    x = file.add("Add", file.add("Mul", x, file.held("scale", 1, 6, 1, 1)), file.held("shift", 1, 6, 1, 1))
    x = file.add("Clip", x, np.float32(0), np.float32(6))
    x = file.add("Pad", x, np.array([0, 0, 1, 1, 0, 0, 0, 0]))
    x = file.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID")
    y = file.add("Transpose", x, perm=(0, 2, 3, 1))
    if flatten == "chain":
        n = file.add("Cast", file.add("Gather", file.add("Shape", y), np.array([0])), to=TensorProto.INT32)
        n = file.add("Slice", n, np.array([0]), np.array([1]), np.array([0]))
        wanted = file.add("Concat", n, np.array([-1], np.int32), axis=0)
        y = file.add("Reshape", y, file.add("Cast", wanted, to=TensorProto.INT64))
    else:
        y = file.add("Reshape", y, np.array([-1 if flatten == "constant" else 1, 54]))
    y = file.add("Add", file.add("MatMul", y, file.held("dense", 54, 7), name="net/dense/MatMul"), file.held("b", 7))
    return file.content(file.add("Softmax", file.add("MatMul", file.add("Tanh", y), file.held("logits", 7, 4))))


@pytest.mark.parametrize(("flatten", "batch"), [("chain", "n"), ("constant", "n"), ("constant", 1), ("one", 1)])
def test_keras(flatten: str, batch: int | str) -> None:
    network = agrees(keras(flatten, batch), NHWC, lambda scores: scores.softmax(1))
    assert network.shape == (3, 9, 9)
    kinds = ["affine", "convolution", "clip", "max_pool", "flatten", "linear", "tanh", "linear"]
    assert operations(network) == kinds
    assert [layer.name for layer in network.layers] == ["net_conv", "net_dense_MatMul", "fc2"]


def test_keras_gray_images_without_a_channel() -> None:
    file = File("n", 10, 8)
    x = file.add("Reshape", "x", np.array([-1, 1, 10, 8]))
    x = file.add("Sigmoid", file.add("Conv", x, file.held("w", 4, 1, 3, 3), auto_pad="SAME_LOWER", strides=[2, 1]))
    x = file.add("Squeeze", file.add("GlobalAveragePool", x), np.array([2, 3]))
    assert agrees(file.content(file.head(x, 4))).shape == (1, 10, 8)


def test_keras_signals() -> None:
    """Channels last, as images of height 1 meanwhile."""
    file = File("n", 20, 2, opset=13)
    x = file.add("Transpose", file.add("Unsqueeze", "x", np.array([1])), perm=(0, 3, 1, 2))
    x = file.add("Squeeze", file.add("Conv", x, file.held("w", 4, 2, 1, 5), pads=[0, 2, 0, 2]), np.array([2]))
    x = file.add("LeakyRelu", file.add("Add", x, file.held("b", 1, 4, 1)), alpha=0.3)
    x = file.add("Unsqueeze", x, np.array([2]))
    x = file.add("MaxPool", x, kernel_shape=[1, 2], strides=[1, 2])
    x = file.add("Transpose", file.add("Squeeze", x, np.array([2])), perm=(0, 2, 1))
    x = file.add("Add", file.add("MatMul", x, file.held("pixelwise", 4, 6)), file.held("b2", 6))
    x = file.add("ReduceMean", file.add("Relu", x), axes=[1], keepdims=0)
    network = agrees(file.content(file.head(x, 6)), (0, 3, 2, 1))
    assert network.shape == (2, 1, 20)
    assert [layer.kind for layer in network.layers] == ["conv", "conv", "linear"]


def dynamo(*dims: int | str) -> bytes:
    """As torch's newer exporter writes: names of nodes with numbers, axes as inputs, all attributes given."""
    file = File(*dims, opset=20)
    settings = {"group": 1, "auto_pad": "NOTSET", "strides": [1, 1], "dilations": [1, 1], "kernel_shape": [3, 3]}
    x = file.add("Div", file.add("Sub", "x", np.float32(0.3)), np.float32(0.7), name="node_div")
    given = file.held("0.weight", 6, 3, 3, 3), file.held("0.weight_bias", 6)
    x = file.add("Conv", x, *given, name="node_Conv_115", pads=[1] * 4, **settings)
    x = file.add("HardSwish", file.add("Gelu", x, approximate="none"))
    x = file.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], dilations=[1, 1], ceil_mode=0, storage_order=0)
    y = file.add("ReduceMean", x, np.array([-1, -2]), keepdims=0, noop_with_empty_axes=0)
    x = file.add("Reshape", x, np.array([dims[0] if isinstance(dims[0], int) else -1, 96]), allowzero=1)
    x = file.add("Concat", x, y, axis=-1)
    return file.content(file.head(file.add("Dropout", x), 102))


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_the_newer_exporter(batch: int | str) -> None:
    network = agrees(dynamo(batch, 3, 8, 8))
    assert [layer.name for layer in network.layers] == ["0", "fc"]
    assert operations(network)[:4] == ["affine", "convolution", "gelu", "hard_swish"]


def test_an_early_model_of_the_zoo() -> None:
    """Opset 8: weights that are inputs, too, and are reshaped in the graph; a batch of one; one bias per channel."""
    file = File(1, 1, 12, 12, opset=8)
    x = file.add("Div", "x", np.float32(255))
    x = file.add("Conv", x, file.held("w", 4, 1, 5, 5), auto_pad="SAME_UPPER", dilations=[1, 1], kernel_shape=[5, 5])
    x = file.add("Relu", file.add("Add", x, file.held("b", 4, 1, 1)))
    x = file.add("MaxPool", x, kernel_shape=[3, 3], strides=[3, 3], pads=[0, 0, 0, 0], auto_pad="NOTSET")
    x = file.add("Reshape", x, np.array([1, 64]))
    weight = file.add("Reshape", file.held("Parameter193", 4, 4, 4, 10), np.array([64, 10]))
    x = file.add("Add", file.add("MatMul", x, weight, name="Times212"), file.held("Parameter194", 1, 10))
    model = file.model(x)
    for each in file.tensors:
        model.graph.input.append(helper.make_tensor_value_info(each.name, each.data_type, each.dims))
    network = agrees(model.SerializeToString())
    assert [layer.name for layer in network.layers] == ["conv1", "Times212"]


# One operator after the other.

Write = Callable[[File, str], str]


ZERO, HALF, ONE, THREE, SIX = (np.float32(each) for each in (0, 0.5, 1, 3, 6))
AROUND = np.array([0, 0, 1, 1, 0, 0, 1, 1])
"""A row and a column of padding on each side."""


def shifted_and_clipped(file: File, x: str) -> str:
    return file.add("Clip", file.add("Add", x, THREE), ZERO, SIX)


def one_and_erf(file: File, x: str) -> str:
    return file.add("Add", file.add("Erf", file.add("Div", x, np.float32(2**0.5))), ONE)


def last_and_back(file: File, x: str) -> str:
    return file.add("Transpose", file.add("Transpose", x, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2))


ROWS: dict[str, tuple[list[str], Write]] = {
    "relu": (["relu"], lambda f, x: f.add("Clip", x, ZERO)),
    "relu, by its ends": (["relu"], lambda f, x: f.add("Clip", x, ZERO, np.float32(3e38))),
    "clip, one end": (["clip"], lambda f, x: f.add("Clip", x, "", HALF)),
    "leaky relu": (["leaky_relu"], lambda f, x: f.add("PRelu", x, np.full((4, 1, 1), 0.3))),
    "hard sigmoid": (["tanh", "affine", "clip"], lambda f, x: f.add("HardSigmoid", f.add("Tanh", x), alpha=0.7)),
    "hard swish of a hard sigmoid": (
        ["hard_swish"], lambda f, x: f.add("Mul", x, f.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    ),
    "hard swish": (["hard_swish"], lambda f, x: f.add("Div", f.add("Mul", x, shifted_and_clipped(f, x)), SIX)),
    "hard swish, otherwise": (
        ["hard_swish"],
        lambda f, x: f.add("Mul", f.add("Div", shifted_and_clipped(f, x), SIX), x),
    ),
    "gelu": (["gelu"], lambda f, x: f.add("Mul", f.add("Mul", x, one_and_erf(f, x)), HALF)),
    "gelu, half of x": (["gelu"], lambda f, x: f.add("Mul", f.add("Mul", x, HALF), one_and_erf(f, x))),
    "gelu, half of the rest": (["gelu"], lambda f, x: f.add("Mul", f.add("Mul", HALF, one_and_erf(f, x)), x)),
    "minus": (["tanh", "affine"], lambda f, x: f.add("Neg", f.add("Tanh", x))),
    "from a constant": (["tanh", "affine"], lambda f, x: f.add("Sub", f.held("c", 4, 1, 1), f.add("Tanh", x))),
    "nothing": ([], lambda f, x: f.add("Identity", f.add("Mul", x, ONE))),
    "sum of three": (["tanh", "add", "add"], lambda f, x: f.add("Sum", x, f.add("Tanh", x), x)),
    "channels last and back": (["tanh"], lambda f, x: f.add("Tanh", last_and_back(f, x))),
    "padding that does not count": (
        ["average_pool"], lambda f, x: f.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 0, 1, 2]),
    ),
    "padding that counts": (
        ["average_pool"],
        lambda f, x: f.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1),
    ),
    "padding before a mean": (
        ["average_pool"], lambda f, x: f.add("AveragePool", f.add("Pad", x, AROUND), kernel_shape=[3, 3]),
    ),
    "padding before a maximum of what is not negative": (
        ["relu", "max_pool"],
        lambda f, x: f.add("MaxPool", f.add("Pad", f.add("Relu", x), AROUND), kernel_shape=[3, 3]),
    ),
    "features added to a map": (
        ["flatten", "linear", "add"],
        lambda f, x: f.add("Add", f.add("Flatten", x), f.head(f.add("Flatten", x), 144, 144, "more")),
    ),
    "added features": (
        ["tanh", "add"],
        lambda f, x: f.add("Add", f.add("Flatten", x), f.add("Reshape", f.add("Tanh", x), np.array([0, -1]))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_an_operator(row: str) -> None:
    file = File("n", 2, 6, 6)
    x = file.add("Conv", "x", file.held("conv.weight", 4, 2, 3, 3), file.held("conv.bias", 4), pads=[1] * 4)
    expected, write = ROWS[row]
    kinds = operations(agrees(file.content(file.head(file.add("Flatten", write(file, x)), 144))))
    assert kinds == ["convolution", *expected, *["flatten"] * ("flatten" not in expected), "linear"]


@pytest.mark.parametrize(
    "settings",
    [
        {"group": 2, "pads": [0, 1, 2, 0], "dilations": [2, 1], "strides": [1, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"auto_pad": "VALID", "group": 4},
    ],
)
def test_windows(settings: dict[str, Any]) -> None:
    file = File("n", 4, 9, 10)
    x = file.add("Conv", "x", file.held("w", 8, 4 // settings.get("group", 1), 3, 2), **settings)
    agrees(file.content(file.add("Flatten", file.add("GlobalMaxPool", x))))
    agrees(file.content(file.add("Flatten", x)))


@pytest.mark.parametrize("size", range(7, 13))
@pytest.mark.parametrize(
    ("kernel", "pads"), [(3, [0, 0, 0, 0]), (3, [1, 1, 1, 1]), (3, [0, 0, 1, 1]), (2, [1, 1, 1, 1])]
)
def test_the_last_window_of_max_pooling_may_end_outside(size: int, kernel: int, pads: list[int]) -> None:
    file = File("n", 1, size, size)
    x = file.add("Conv", "x", file.held("w", 3, 1, 2, 2))
    x = file.add("MaxPool", x, kernel_shape=[kernel, kernel], strides=[2, 2], pads=pads, ceil_mode=1)
    agrees(file.content(file.add("Flatten", x)))


def test_weights_may_be_computed_from_constants_and_held_in_half_precision() -> None:
    file = File("n", 1, 4, 4)
    weight = file.add("Cast", file.constant(np.float16(file.random.normal(size=(3, 16))), "head.weight"), to=1)
    weight = file.add("Mul", file.add("Transpose", weight, perm=(1, 0)), file.add("Sqrt", np.float32(4)))
    bias = file.add("Constant", value=numpy_helper.from_array(np.array([[1, 2, 3]], np.float32)))
    x = file.add("Gemm", file.add("Flatten", "x"), weight, bias, alpha=0.5, beta=2.0)
    assert [layer.name for layer in agrees(file.content(x)).layers] == ["head"]


def test_normalization_of_features_that_were_flattened_channels_last() -> None:
    file = File("n", 3, 4, 2)
    x = file.add("Conv", "x", file.held("w", 3, 3, 1, 1))
    x = file.add("Flatten", file.add("Transpose", file.add("Relu", x), perm=(0, 2, 3, 1)))
    norm = [np.abs(file.random.normal(size=24)) + 0.1 for _ in range(4)]
    x = file.add("BatchNormalization", x, *norm, epsilon=0.01)
    network = agrees(file.content(file.head(file.add("Add", x, file.held("more", 24)), 24)))
    assert operations(network) == ["convolution", "relu", "flatten", "affine", "linear"]


def test_input_scaling_is_one_step_at_the_image() -> None:
    file = File("n", 3, 4, 4)
    x = file.add("Div", file.add("Cast", "x", to=TensorProto.FLOAT), np.float32(2))
    x = file.add("Sub", x, np.array([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1))
    x = file.add("Div", x, np.array([0.5, 0.6, 0.7]).reshape(3, 1, 1))
    network, tensors = onnx_file.read(file.content(tail := file.head(file.add("Flatten", x), 48)))
    agrees(file.content(tail))
    assert operations(network) == ["affine", "flatten", "linear"]
    torch.testing.assert_close(tensors["affine.scale"], 0.5 / torch.tensor([0.5, 0.6, 0.7]))


@pytest.mark.parametrize(("opset", "axis"), [(9, {}), (12, {"axis": 1}), (13, {"axis": 1})])
def test_scores_may_have_axes_of_size_1(opset: int, axis: dict[str, int]) -> None:
    file = File(1, 3, 6, 6, opset=opset)
    x = file.add("GlobalAveragePool", file.add("Conv", "x", file.held("w", 4, 3, 3, 3)))
    network = agrees(file.content(file.add("Softmax", x, **axis)), after=lambda scores: scores.softmax(1))
    assert operations(network)[-1] == "flatten"


def test_sizes_that_are_left_open_are_those_of_the_data_set() -> None:
    file = File("n", 3, "h", "w")
    x = file.add("GlobalAveragePool", file.add("Conv", "x", file.held("w", 5, 3, 3, 3)))
    content = file.content(file.add("Flatten", x))
    assert onnx_file.read(content, shape=(3, 8, 9)).network.shape == (3, 8, 9)
    for shape in (None, (1, 8, 9)):
        with pytest.raises(BaselineError, match=r"\(any, 3, any, any\)"):
            onnx_file.read(content, shape=shape)


def test_the_order_of_axes_is_told_by_the_data_set_where_the_network_does_not() -> None:
    file = File("n", 4, 5, 6)
    content = file.content(file.head(file.add("Flatten", "x"), 120))
    with pytest.raises(BaselineError, match=r"\(4, 5, 6\) or \(6, 4, 5\). Say for which data set"):
        onnx_file.read(content)
    agrees(content, shape=(4, 5, 6))
    agrees(content, NHWC, shape=(6, 4, 5))


# Refusals: operator, node, cause, way out.

REFUSED: dict[str, tuple[Write, str]] = {
    "slice": (
        lambda f, x: f.add("Slice", x, *map(np.array, ([0], [2], [1])), name="cut"),
        r"Slice \(node cut\).*Parts of",
    ),
    "split": (
        lambda f, x: f.add("Split", x, outputs=2, axis=1),
        r"Split \(node that makes Split1_0, Split1_1\).*Parts of",
    ),
    "power": (lambda f, x: f.add("Pow", x, np.float32(3), name="p"), r"Pow \(node p\).*nn\.GELU"),
    "silu": (lambda f, x: f.add("Mul", x, f.add("Sigmoid", x), name="m"), r"Mul \(node m\).*SiLU.*Known are HardSwish"),
    "other hard swish": (lambda f, x: f.add("Mul", x, f.add("HardSigmoid", x)), "two feature maps"),
    "difference": (
        lambda f, x: f.add("Sub", x, f.add("Relu", x), name="s"),
        r"Sub \(node s\).*Known are Add and Concat",
    ),
    "gelu by tanh": (lambda f, x: f.add("Gelu", x, approximate="tanh", name="g"), r"Gelu \(node g\).*exact GELU"),
    "erf": (lambda f, x: f.add("Erf", x, name="e"), r"Erf \(node e\).*part of GELU"),
    "part of gelu": (lambda f, x: f.add("Relu", one_and_erf(f, x), name="r"), r"Relu \(node r\).*part of GELU"),
    "softmax between": (
        lambda f, x: f.add("Relu", f.add("Softmax", f.add("Flatten", x)), name="r"),
        "output of Softmax",
    ),
    "softmax of pixels": (lambda f, x: f.add("Softmax", x, axis=1, name="s"), r"Softmax \(node s\).*over the classes"),
    "recurrent": (lambda f, x: f.add("LSTM", x, x, x, name="l", hidden_size=3), r"LSTM \(node l\).*Recurrent"),
    "quantized": (
        lambda f, x: f.add("QuantizeLinear", x, np.float32(1), np.int8(0), name="q"),
        "save the float network",
    ),
    "quantized weights": (
        lambda f, x: f.add("Conv", x, f.add("DequantizeLinear", np.ones((4, 4, 1, 1), np.int8), ONE, name="d")),
        r"DequantizeLinear \(node d\).*save the float network",
    ),
    "quantized layer": (
        lambda f, x: f.add("QLinearConv", x, name="q"),
        r"QLinearConv \(node q\).*save the float network",
    ),
    "another domain": (
        lambda f, x: f.add("FusedConv", x, name="f", domain="com.microsoft"),
        "FusedConv.*com.microsoft",
    ),
    "unheard of": (lambda f, x: f.add("Foo", x, name="f"), r"Foo \(node f\).*not known here. Known are Relu"),
    "mirrored padding": (
        lambda f, x: f.add("Pad", x, AROUND, mode="reflect", name="p"),
        r"Pad \(node p\).*zeros",
    ),
    "padding with ones": (
        lambda f, x: f.add("Pad", x, AROUND, np.float32(1), name="p"),
        r"Pad \(node p\).*zeros",
    ),
    "an edge that is cut off": (lambda f, x: f.add("Pad", x, -AROUND, name="p"), "cutting off an edge"),
    "padded channels": (lambda f, x: f.add("Pad", x, np.array([0, 1, 0, 0, 0, 1, 0, 0]), name="p"), "height and width"),
    "padding before others": (
        lambda f, x: f.add("Relu", f.add("Pad", x, AROUND), name="r"),
        r"Relu \(node r\).*only Conv and AveragePool",
    ),
    "padding before a maximum": (
        lambda f, x: f.add("MaxPool", f.add("Pad", x, AROUND), kernel_shape=[2, 2]),
        "only Conv and AveragePool",
    ),
    "gaps": (lambda f, x: f.add("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2], name="m"), "dilations must be 1"),
    "last mean outside": (
        lambda f, x: f.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, name="a"),
        r"AveragePool \(node a\).*ceil_mode=0",
    ),
    "padding that counts and does not": (
        lambda f, x: f.add("AveragePool", f.add("Pad", x, AROUND), kernel_shape=[3, 3], pads=[1] * 4, name="a"),
        r"AveragePool \(node a\).*count its own padding",
    ),
    "slopes": (lambda f, x: f.add("PRelu", x, f.held("s", 4, 1, 1), name="p"), r"PRelu \(node p\).*one number"),
    "mean of channels": (
        lambda f, x: f.add("ReduceMean", x, axes=[1], name="r"),
        r"ReduceMean \(node r\).*height and wid",
    ),
    "mean of rows": (lambda f, x: f.add("ReduceMean", x, axes=[2], name="r"), "both and nothing else"),
    "numbers for pixels": (
        lambda f, x: f.add("Mul", x, f.held("c", 4, 6, 6), name="m"),
        r"Mul \(node m\).*between pixels",
    ),
    "larger constants": (lambda f, x: f.add("Add", x, f.held("c", 2, 4, 6, 6), name="m"), r"Got shape \(2, 4, 6, 6\)"),
    "computed weights": (
        lambda f, x: f.add("Conv", x, f.add("Relu", x), name="c"),
        r"Conv \(node c\).*weight must be stored in the file",
    ),
    "turned": (
        lambda f, x: f.add("Gemm", f.add("Flatten", x), f.held("w", 4, 4), transA=1, name="g"),
        "transA must be 0",
    ),
    "shuffled": (
        lambda f, x: f.add("Reshape", x, np.array([-1, 2, 2, 6, 6]), name="r"),
        r"Reshape \(node r\).*cannot be divided",
    ),
    "images joined": (lambda f, x: f.add("Reshape", x, np.array([4, -1]), name="r"), "images of a batch apart"),
    "flattened batch": (lambda f, x: f.add("Flatten", x, axis=2, name="f"), "axis=1"),
    "rows joined": (lambda f, x: f.add("Concat", x, x, axis=2, name="c"), r"Concat \(node c\).*join channels"),
    "columns joined": (
        lambda f, x: f.add("Concat", *[f.add("GlobalAveragePool", x)] * 2, axis=3, name="c"),
        r"Concat \(node c\).*one shape, or features",
    ),
    "unlike orders": (
        lambda f, x: f.add("Add", f.add("Flatten", x), f.add("Flatten", f.add("Transpose", x, perm=(0, 2, 3, 1)))),
        "one shape, or features",
    ),
    "unlike shapes": (
        lambda f, x: f.add("Add", x, f.add("GlobalAveragePool", x), name="a"),
        r"Add \(node a\).*one shape",
    ),
    "in training": (
        lambda f, x: f.add("BatchNormalization", x, *[np.ones(4)] * 4, training_mode=1, name="b", outputs=3),
        r"BatchNormalization \(node b\).*eval",
    ),
    "dropped": (
        lambda f, x: f.add("Dropout", x, np.float32(0.5), np.array(True), name="d"),
        r"Dropout \(node d\).*eval",
    ),
    "whole numbers": (
        lambda f, x: f.add("Cast", x, to=TensorProto.INT32, name="c"),
        r"Cast \(node c\).*floating-point",
    ),
    "features as image": (
        lambda f, x: f.add("Reshape", f.head(f.add("Flatten", x), 144, 16), np.array([-1, 1, 4, 4])),
        "cannot be divided",
    ),
    "too small": (
        lambda f, x: f.add("Conv", x, f.held("w", 4, 4, 7, 7), name="c"),
        r"Conv \(node c\) cannot be read. The window of c, 7 x 7, must fit its input, \(4, 6, 6\)",
    ),
    "other channels": (lambda f, x: f.add("Conv", x, f.held("w", 4, 3, 1, 1), name="c"), "must read 3 channels. Got 4"),
    "other features": (
        lambda f, x: f.add("MatMul", f.add("Flatten", x), f.held("w", 9, 4), name="m"),
        r"144\].*\(9, 4\)",
    ),
    "pixels as features": (lambda f, x: f.add("MatMul", x, f.held("w", 6, 4), name="m"), r"MatMul \(node m\).*Flatten"),
    "channels last": (
        lambda f, x: f.add("MaxPool", f.add("Transpose", x, perm=(0, 2, 3, 1)), kernel_shape=[2, 2], name="m"),
        r"MaxPool \(node m\).*Got \(images, height, width, channels\)",
    ),
    "unknown name": (lambda f, x: f.add("Relu", "nowhere", name="r"), r"Relu \(node r\).*reads nowhere"),
    "a constant": (lambda f, x: f.add("Relu", np.ones(4), name="r"), r"Relu \(node r\).*It is a constant"),
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED)
def test_a_refusal(row: str) -> None:
    file = File("n", 2, 6, 6, opset=20 if "gelu" in row else 17)
    x = file.add("Conv", "x", file.held("conv.weight", 4, 2, 3, 3), pads=[1] * 4)
    write, message = REFUSED[row]
    with pytest.raises(BaselineError, match=message) as raised:
        onnx_file.read(file.content(file.add("GlobalAveragePool", write(file, x))))
    assert type(raised.value) is BaselineError


def test_a_network_has_one_input_and_one_output() -> None:
    file = File("n", 1, 4, 4)
    x = file.head(file.add("Flatten", "x"), 16)
    with pytest.raises(BaselineError, match=r"one input.*This one has x, mask"):
        onnx_file.read(file.content(x, inputs=("x", "mask")))
    with pytest.raises(BaselineError, match=f"one output.*This one has {x}, x"):
        onnx_file.read(file.content(x, "x"))
    with pytest.raises(BaselineError, match=r"one output.*none"):
        onnx_file.read(file.content())


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_single_score_is_refused_with_the_form_of_two(sigmoid: bool) -> None:
    file = File("n", 1, 4, 4)
    x = file.head(file.add("Flatten", "x"), 16, 1)
    with pytest.raises(BaselineError, match=r"single score z.*weights 0 and w.*scores 0 and z of two classes"):
        onnx_file.read(file.content(file.add("Sigmoid", x) if sigmoid else x))


@pytest.mark.parametrize(("opset", "known"), [(6, False), (7, True), (25, True), (26, False)])
def test_opsets(opset: int, known: bool) -> None:
    file = File("n", 1, 4, 4, opset=opset)
    content = file.content(file.head(file.add("Flatten", "x"), 16))
    if known:
        onnx_file.read(content)
        return
    with pytest.raises(BaselineError, match=f"opset 7 to 25. Got {opset}.*opset_version=18"):
        onnx_file.read(content)


def test_what_is_not_a_network_at_all(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 a zip", b"version https://git-lfs.github.com/spec/v1", bytes(100)):
        with pytest.raises(BaselineError, match="not an ONNX file that can be read"):
            onnx_file.read(content)
    for path in (tmp_path, tmp_path / "none.onnx", "a\0b"):
        with pytest.raises(BaselineError, match="not an ONNX file that can be read"):
            onnx_file.read(path)
    file = File("n", 1, 4, 4, 4)
    with pytest.raises(BaselineError, match=r"must read images.*\(any, 1, 4, 4, 4\)"):
        onnx_file.read(file.content(file.add("Relu", "x")))
    file.dims = None  # type: ignore[assignment]
    with pytest.raises(BaselineError, match="must say the shape of its input, x"):
        onnx_file.read(file.content("Relu0_0"))
    file.dims = ("n", 1, 4, 4)
    with pytest.raises(BaselineError, match=r"one score for each class. It is \(images, channels, height, width\)"):
        onnx_file.read(file.content("Relu0_0"))
    file.dims = ("n", 2**12, 2**12, 2**12)
    with pytest.raises(BaselineError, match="at most 16,777,216 numbers"):
        onnx_file.read(file.content("Relu0_0"))


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 1000)
    (tmp_path / "net.onnx").write_bytes(bytes(1001))
    for source in (bytes(1001), tmp_path / "net.onnx"):
        with pytest.raises(BaselineError, match=r"at most 1,000 bytes. Got 1,001"):
            onnx_file.read(source)
    path = beside(tmp_path)
    assert path.stat().st_size < 1000
    with pytest.raises(BaselineError, match="a file with all of its data at most 1,000"):
        onnx_file.read(path)


@pytest.mark.parametrize("operator", ["filled", "added", "joined", "used"])
def test_a_small_file_that_would_become_large(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_reader, "MOST_NUMBERS", 10_000)
    file = File("n", 1, 4, 4)
    x, one = file.add("Flatten", "x"), file.constant(np.ones((1, 80)))
    if operator == "filled":
        x = file.add("Add", x, file.add("ConstantOfShape", np.array([2**40, 2**40])))
    elif operator == "added":
        x = file.add("Add", x, file.add("Add", np.ones((160, 1)), one))
    elif operator == "joined":
        for _ in range(10):
            one = file.add("Concat", one, one, axis=1)
        x = file.add("Add", x, one)
    else:
        weight = file.held("w", 16, 16)
        for _ in range(50):
            x = file.add("Gemm", x, weight)
    with pytest.raises(BaselineError, match="must be at most 10,000 numbers"):
        onnx_file.read(file.content(file.head(x, 16)))


# Data beside the file.


def beside(folder: Path, location: str = "net.onnx.data") -> Path:
    file = File("n", 1, 8, 8)
    x = file.add("Relu", file.add("Gemm", file.add("Flatten", "x"), file.held("fc1.weight", 9, 64), transB=1))
    model = file.model(file.head(x, 9))
    onnx.save(model, str(folder / "net.onnx"), save_as_external_data=True, size_threshold=0, location="net.onnx.data")
    if location != "net.onnx.data":
        model = onnx.load(str(folder / "net.onnx"), load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = location
        (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_weights_may_lie_beside_the_file(tmp_path: Path) -> None:
    path = beside(tmp_path)
    network = agrees(path)
    content, data = path.read_bytes(), (tmp_path / "net.onnx.data").read_bytes()
    (tmp_path / "net.onnx.data").unlink()
    found, tensors = onnx_file.read(content, {"net.onnx.data": data})
    assert found == network
    assert tensors["fc1.weight"].abs().sum() > 0
    for source, others in ((path, {}), (content, {}), (content, {"other.data": data})):
        with pytest.raises(
            BaselineError, match=r"fc1.weight.*another file, net.onnx.data, which is missing: give both"
        ):
            onnx_file.read(source, others)
    with pytest.raises(BaselineError, match=r"net.onnx.data, which is cut off"):
        onnx_file.read(content, {"net.onnx.data": data[:100]})


@pytest.mark.parametrize("location", ["/etc/passwd", "../net.onnx.data", "a/../../b", "..\\b", "C:\\b", "", "."])
def test_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "net.onnx.data").write_bytes(bytes(10_000))
    (tmp_path / "in").mkdir()
    path = beside(tmp_path / "in", location)
    for source in (path, path.read_bytes()):
        with pytest.raises(BaselineError, match=r"must lie in the folder of its ONNX file"):
            onnx_file.read(source, {"net.onnx.data": bytes(10_000), "passwd": bytes(10_000), "b": bytes(10_000)})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = beside(tmp_path / "in")
    (tmp_path / "in" / "net.onnx.data").rename(tmp_path / "secret")
    (tmp_path / "in" / "net.onnx.data").symlink_to(tmp_path / "secret")
    with pytest.raises(BaselineError, match=r"net.onnx.data is a link out of the folder"):
        onnx_file.read(path)
    (tmp_path / "secret").rename(tmp_path / "in" / "data")
    (tmp_path / "in" / "net.onnx.data").unlink()
    (tmp_path / "in" / "net.onnx.data").symlink_to("data")
    agrees(path)


@pytest.mark.parametrize(("key", "value"), [("offset", "-1"), ("length", "7"), ("offset", "many"), ("length", "-8")])
def test_data_of_another_size_is_refused(tmp_path: Path, key: str, value: str) -> None:
    path = beside(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    for each in model.graph.initializer[0].external_data:
        each.value = value if each.key == key else each.value
    with pytest.raises(BaselineError, match=r"fc1.weight (must be|of this file)"):
        onnx_file.read(model.SerializeToString(), {"net.onnx.data": bytes(10_000)})


# Whatever the bytes.

SEEDS = [keras("chain"), dynamo("n", 3, 8, 8)]


def survives(content: bytes) -> None:
    with suppress(BaselineError):
        onnx_file.read(content, {"net.onnx.data": bytes(64)})


@given(st.data())
@settings(max_examples=100)
def test_damaged_bytes_raise_nothing_but_a_refusal(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(content[:end]))


NUMBERS = st.sampled_from([-(2**62), -2, -1, 0, 1, 2, 3, 7, 2**31, 2**62])


@given(st.data())
@settings(max_examples=150)
def test_contradictions_raise_nothing_but_a_refusal(data: st.DataObject) -> None:
    model = onnx.load_model_from_string(data.draw(st.sampled_from(SEEDS)))
    graph = model.graph
    names = [
        "",
        "x",
        *(name for each in graph.node for name in each.output),
        *(each.name for each in graph.initializer),
    ]
    kinds = sorted(
        {each.op_type for each in graph.node} | {"Sum", "Squeeze", "Unsqueeze", "ReduceMax", "ArgMax", "Erf"}
    )
    for _ in range(data.draw(st.integers(1, 3))):
        node, tensor = data.draw(st.sampled_from(list(graph.node))), data.draw(st.sampled_from(list(graph.initializer)))
        place = data.draw(st.integers(0, max(len(node.input) - 1, 0)))
        match data.draw(
            st.sampled_from(["kind", "input", "attribute", "dims", "type", "input dims", "drop", "external"])
        ):
            case "kind":
                node.op_type = data.draw(st.sampled_from(kinds))
            case "input" if node.input:
                node.input[place] = data.draw(st.sampled_from(names))
            case "attribute" if node.attribute:
                name = data.draw(st.sampled_from(list(node.attribute))).name
                values = data.draw(NUMBERS | st.lists(NUMBERS, max_size=5) | st.just("SAME") | st.just(float("nan")))
                kept = [each for each in node.attribute if each.name != name]
                del node.attribute[:]
                node.attribute.extend(kept)
                if values != []:
                    node.attribute.append(helper.make_attribute(name, values))
            case "dims" if tensor.dims:
                tensor.dims[-1] = data.draw(NUMBERS)
            case "type":
                tensor.data_type = data.draw(st.integers(0, 30))
            case "input dims":
                dims = graph.input[0].type.tensor_type.shape.dim
                dims[data.draw(st.integers(0, len(dims) - 1))].dim_value = data.draw(NUMBERS)
            case "drop" if node.input:
                del node.input[place]
            case "external":
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value="net.onnx.data")
    survives(model.SerializeToString())
