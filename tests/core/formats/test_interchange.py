"""Other tools read what was evaluated: ONNX Runtime and ONNX's own reference answer the same, codes are as small as
their bits, safetensors gives back every bit, and what is not such a file is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, random_tensors, rounding_margin, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor
from torch.nn import functional as F

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.datasets import Split, fashion_mnist
from core.formats.interchange import from_safetensors, problem_with, to_float_onnx, to_qdq, to_safetensors
from core.measuring import evaluation
from core.networks.compression import compress
from core.networks.encodings import FormatError
from core.networks.inference import Runner
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}
CONFIGS = {
    "nothing": CompressionConfig(),
    "weights 4": CompressionConfig(bits=4),
    "activations 8": CompressionConfig(activation_bits=8),
    "8": CompressionConfig(bits=8, activation_bits=8),
    "6": CompressionConfig(bits=6, activation_bits=6),
    "4": CompressionConfig(bits=4, activation_bits=4),
    "3": CompressionConfig(bits=3, activation_bits=3),
    "2": CompressionConfig(bits=2, activation_bits=2),
    "8 asymmetric": CompressionConfig(bits=8, symmetry="asymmetric"),
    "2 asymmetric": CompressionConfig(bits=2, activation_bits=4, symmetry="asymmetric"),
    "4 a tensor": CompressionConfig(bits=4, activation_bits=8, granularity="tensor"),
    "low rank": CompressionConfig(rank_share=0.8, above_break_even=True, bits=5, activation_bits=6),
    "low rank, 2 asymmetric": CompressionConfig(rank_share=0.5, bits=2, activation_bits=8, symmetry="asymmetric"),
    "low rank, floats": CompressionConfig(rank_share=0.6, above_break_even=True, activation_bits=8),
    "channels, pruned": CompressionConfig(channel_share=0.7, sparsity=0.5, bits=4, activation_bits=8),
}


@cache
def shipped(name: str, config: CompressionConfig) -> StoredNetwork:
    return Workbench().network(name, config)


def small(family: str, config: CompressionConfig, images: Tensor) -> StoredNetwork:
    return compress(SMALL[family], config, statistics_of(SMALL[family], images)).freeze()


def run(model: bytes, x: Tensor, optimized: bool = True) -> Tensor:
    """Logits by ONNX Runtime as anyone would call it, or with its optimizations switched off."""
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["y"], {"x": x.numpy()})[0])


def initializers(model: bytes) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load_from_string(model).graph.initializer}


# What ONNX Runtime makes of it.


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_shipped_network_predicts_as_it_was_evaluated(name: str, config: CompressionConfig, split: Split) -> None:
    """With its optimizations, too: they must not round what was not rounded."""
    network = shipped(name, config)
    expected = evaluation.evaluate(network, split).predictions.long()
    models = [to_qdq(network), to_qdq(network, narrow=True), to_float_onnx(network)]
    for model, optimized in [(models[0], False), *((model, True) for model in models)]:
        assert problem_with(model) == ""
        differ = run(model, split.inputs, optimized).argmax(1) != expected
        # a sum in another order may put an activation on the other side of a rounding boundary
        assert int(differ.sum()) <= (0 if config.activation_bits is None else 1)


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=25)
@given(draw=st.data(), narrow=st.booleans())
def test_any_network_gives_the_logits_of_its_float_graph(
    family: str, images: Tensor, draw: st.DataObject, narrow: bool
) -> None:
    network = small(family, draw.draw(configurations(SMALL[family])), images)
    sure = rounding_margin(network, images) > 1e-3
    expected = torch.from_numpy(Runner(network, network.config.activation_bits)(images.numpy()))
    for model in (to_qdq(network, narrow), to_float_onnx(network)):
        torch.testing.assert_close(run(model, images)[sure], expected[sure], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("config", [CONFIGS["4"], CONFIGS["2 asymmetric"], CONFIGS["low rank"]])
def test_the_reference_of_onnx_gives_the_same_logits(
    family: str, config: CompressionConfig, narrow: bool, images: Tensor
) -> None:
    network, few = small(family, config, images), images[:12]
    model = to_qdq(network, narrow)
    sure = rounding_margin(network, few) > 1e-3
    (outputs,) = ReferenceEvaluator(onnx.load_from_string(model)).run(["y"], {"x": few.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs)[sure], run(model, few)[sure], rtol=1e-4, atol=1e-4)


def test_neither_biases_nor_float_weights_are_rounded_by_the_runtime(images: Tensor) -> None:
    """Coarse grids, and biases between their points: rounding them would be seen."""
    for config in (CONFIGS["2"], CompressionConfig(activation_bits=2)):
        network = small("mlp", config, images)
        odd = [replace(own, bias=own.bias + 0.37) for own in network.layers]
        odd_network = replace(network, layers=tuple(odd))
        sure = rounding_margin(odd_network, images) > 1e-3
        model = to_qdq(odd_network)
        torch.testing.assert_close(run(model, images)[sure], run(model, images, optimized=False)[sure])


# What the file holds.

TYPES = {
    (2, "symmetric"): TensorProto.INT2,
    (2, "asymmetric"): TensorProto.UINT2,
    (3, "symmetric"): TensorProto.INT4,
    (4, "asymmetric"): TensorProto.UINT4,
    (5, "symmetric"): TensorProto.INT8,
    (8, "asymmetric"): TensorProto.UINT8,
}


@pytest.mark.parametrize(("bits", "symmetry"), TYPES)
def test_codes_have_the_narrowest_type_and_stand_for_the_weights(bits: int, symmetry: Any, images: Tensor) -> None:
    network = small("cnn", CompressionConfig(bits=bits, symmetry=symmetry), images)
    wide = TensorProto.INT8 if symmetry == "symmetric" else TensorProto.UINT8
    for narrow, kind in ((True, TYPES[bits, symmetry]), (False, wide)):
        found = initializers(to_qdq(network, narrow))
        for tensor in (tensor for own in network.layers for tensor in own.tensors):
            codes, scale, moved = (found.get(f"{tensor.name}.{part}") for part in ("codes", "scale", "zero_point"))
            assert codes.data_type == kind
            assert (moved is None) == (symmetry == "symmetric")
            assert moved is None or moved.data_type == kind
            each = (-1, *[1] * (tensor.values.dim() - 1))
            q, s, z = (0 if part is None else onnx.numpy_helper.to_array(part) for part in (codes, scale, moved))
            z = z if moved is None else z.astype(np.float32).reshape(each)
            assert np.array_equal((q.astype(np.float32) - z) * s.reshape(each), tensor.weight().numpy())


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_no_weight_is_stored_as_a_float_and_the_file_is_as_small_as_its_bits(name: str) -> None:
    sizes = {}
    for bits, width in ((8, 8), (4, 4), (3, 4), (2, 2)):
        network = shipped(name, CompressionConfig(bits=bits))
        model = to_qdq(network, narrow=True)
        sizes[bits] = len(model)
        floats = [t for t in initializers(model).values() if t.data_type == TensorProto.FLOAT]
        assert all(len(tensor.dims) <= 1 for tensor in floats)
        weights = sum(own.weights for own in network.layers)
        rest = sum(4 * 2 * own.bias.numel() for own in network.layers)  # biases and scales
        assert weights * width / 8 + rest < len(model) < weights * width / 8 + rest + 5000
    assert sizes[4] < 0.6 * sizes[8]
    assert sizes[2] < 0.6 * sizes[4]


@pytest.mark.parametrize("to_onnx", [to_qdq, to_float_onnx])
def test_factors_stay_two_products_where_they_are_more_work(
    to_onnx: Callable[[StoredNetwork], bytes], images: Tensor
) -> None:
    network = small("cnn", CompressionConfig(rank_share=1, above_break_even=True, bits=8), images)
    products = [n.op_type for n in onnx.load_from_string(to_onnx(network)).graph.node if n.op_type in ("Conv", "Gemm")]
    assert products == ["Conv"] * 4 + ["Gemm"] * 4


@pytest.mark.parametrize("to_onnx", [to_qdq, to_float_onnx])
def test_a_model_is_whole_and_says_what_it_is(to_onnx: Callable[[StoredNetwork], bytes], images: Tensor) -> None:
    network = small("mlp", CONFIGS["low rank"], images)
    content = to_onnx(network)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert CompressionConfig.from_json(about["config"]) == network.config
    assert about["baseline_sha256"] == network.baseline_sha256
    assert json.loads(about["classes"]) == list(fashion_mnist.CLASSES)
    assert json.loads(about["normalization"]) == {"mean": fashion_mnist.MEAN, "deviation": fashion_mnist.DEVIATION}
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    assert content == to_onnx(network)


def test_the_image_is_never_rounded(images: Tensor) -> None:
    graph = onnx.load_from_string(to_qdq(small("cnn", CONFIGS["4"], images))).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == 3
    assert next(node.op_type for node in graph.node if "x" in node.input) == "Conv"


def test_a_model_that_the_runtime_cannot_run_is_explained() -> None:
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["n", 1, 28, 28]) for name in ("x", "y")]
    unknown = helper.make_graph([helper.make_node("Unheard", ["x"], ["y"])], "g", ends[:1], ends[1:])
    for model in (b"", b"no model", helper.make_model(unknown).SerializeToString()):
        text = problem_with(model)
        assert text.startswith(f"ONNX Runtime {onnxruntime.__version__} cannot run it: ")
        assert text.endswith(".")
        assert "\n" not in text


# safetensors.


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_safetensors_give_back_every_bit(family: str, images: Tensor, draw: st.DataObject) -> None:
    network = small(family, draw.draw(configurations(SMALL[family])), images)
    tensors, about = to_safetensors(network)
    read = from_safetensors(tensors, about)
    assert (read.config, read.baseline_sha256) == (network.config, network.baseline_sha256)
    assert [own.content for own in read.layers] == [own.content for own in network.layers]
    for own, known in zip(read.layers, network.layers, strict=True):
        for tensor, stored in zip(own.tensors, known.tensors, strict=True):
            assert tensor.values.dtype == stored.values.dtype
            moved, known_moved = (getattr(each, "zero_point", None) for each in (tensor, stored))
            assert (moved is None) == (known_moved is None)
            assert moved is None or torch.equal(moved, known_moved)
            zeros = stored.values == 0
            assert torch.equal(tensor.mask, ~zeros) if zeros.any() else tensor.mask is None
    assert to_safetensors(read) == (tensors, about)


def test_halves_are_written_only_where_they_are_exact(images: Tensor) -> None:
    network = small("mlp", CompressionConfig(bits=4), images)
    first, *others = network.layers
    (tensor,) = first.tensors
    for number, kind in ((0.125, torch.float16), (0.1, torch.float32), (1e6, torch.float32)):
        own = replace(tensor, scale=torch.full_like(tensor.scale, number))
        changed = replace(first, tensors=(own,), bias=torch.full_like(first.bias, number))
        content, about = to_safetensors(replace(network, layers=(changed, *others)))
        found = safetensors.torch.load(content)
        assert found["fc1.weight.scale"].dtype == found["fc1.bias"].dtype == kind
        assert from_safetensors(content, about).layers[0].content == changed.content


@pytest.mark.parametrize("config", [CONFIGS["8 asymmetric"], CONFIGS["channels, pruned"], CONFIGS["low rank, floats"]])
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_plain_torch_reads_it(family: str, config: CompressionConfig, images: Tensor) -> None:
    network = small(family, replace(config, activation_bits=None), images)
    content, about = to_safetensors(network)

    t, layers, nodes = (
        safetensors.torch.load(content),
        json.loads(about)["layers"],
        json.loads(about)["network"]["nodes"],
    )
    q = {n[:-6]: t[n].float() - t.get(n[:-5] + "zero_point", torch.zeros(1)) for n in t if n.endswith(".codes")}
    t |= {n: q[n] * t[f"{n}.scale"] for n in q}
    net = {e["name"]: ([t[w["name"]] for w in e["weights"]], t[e["name"] + ".bias"].float()) for e in layers}

    x = images
    for node in nodes:
        weights, bias = net.get(node["name"], ([], None))
        for i, w in enumerate(weights):
            b = bias if i == len(weights) - 1 else None
            x = F.conv2d(x, w, b, padding="same") if w.dim() == 4 else F.linear(x, w, b)
        others = {"max_pool": lambda x: F.max_pool2d(x, 2), "relu": F.relu, "flatten": lambda x: x.flatten(1)}
        x = x if weights else others[node["operation"]](x)

    torch.testing.assert_close(x, run(to_float_onnx(network), images), rtol=1e-4, atol=1e-4)


# What is no such file.

FILE = CompressionConfig(rank_share=0.4, bits=4, activation_bits=6, symmetry="asymmetric").with_layer("fc2", bits=32)


@pytest.fixture
def file(images: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, about = to_safetensors(small("cnn", FILE, images))
    return safetensors.torch.load(tensors), json.loads(about)


def read(tensors: dict[str, Tensor], about: object) -> StoredNetwork:
    return from_safetensors(safetensors.torch.save(tensors), json.dumps(about).encode())


def test_a_tensor_that_is_missing_unknown_or_of_another_shape_or_type_is_refused(
    file: tuple[dict[str, Tensor], dict[str, Any]],
) -> None:
    tensors, about = file
    read(tensors, about)
    with pytest.raises(FormatError, match="no layer uses"):
        read(tensors | {"more": torch.ones(1)}, about)
    for name, tensor in tensors.items():
        with pytest.raises(FormatError):
            read({other: value for other, value in tensors.items() if other != name}, about)
        shapes = [tensor[:-1].clone(), tensor[..., None], tensor.flatten()[:0]]
        for wrong in (*shapes, tensor.double(), tensor.to(torch.int32)):
            with pytest.raises(FormatError):
                read(tensors | {name: wrong}, about)
        if tensor.is_floating_point():
            for number in (float("nan"), float("inf"), *((0.0, -1.0) if name.endswith("scale") else ())):
                with pytest.raises(FormatError, match="must hold numbers"):
                    read(tensors | {name: torch.full_like(tensor, number)}, about)
        elif name.endswith(("codes", "zero_point")):
            with pytest.raises(FormatError, match="must hold numbers"):
                read(tensors | {name: torch.full_like(tensor, 16)}, about)


def test_a_symmetric_code_beyond_its_range_is_refused(images: Tensor) -> None:
    content, about = to_safetensors(small("mlp", CompressionConfig(bits=2), images))
    tensors = safetensors.torch.load(content)
    for code in (2, -2):
        with pytest.raises(FormatError, match=r"numbers in \[-1, 1\]"):
            read(tensors | {"fc1.weight.codes": torch.full_like(tensors["fc1.weight.codes"], code)}, json.loads(about))


ODD: list[Any] = [None, True, -1, 0, 33, 2.0, 1e99, 10**400, "", "x", [], [1], [-1, 4], [4, 4, 4, 4], {}, float("nan")]
ODD += [[[]], [{}], [None], {"layers": 1}]


def test_a_description_with_an_odd_value_is_refused_or_still_a_network(
    file: tuple[dict[str, Tensor], dict[str, Any]], images: Tensor
) -> None:
    tensors, about = file
    content = safetensors.torch.save(tensors)
    places = [(about, key) for key in about]
    places += [(entry, key) for entry in about["layers"] for key in entry]
    places += [(own, key) for entry in about["layers"] for own in entry["weights"] for key in own]
    places += [(own, key) for own in about["signals"].values() for key in own]
    harmless = {"scale", "between_scale", "baseline_sha256"}
    for holder, key in places:
        true = holder[key]
        for odd in [value for value in ODD if value != true]:
            holder[key] = odd
            try:
                network = from_safetensors(content, json.dumps(about).encode())
            except FormatError:
                continue
            assert key in harmless or (key in ("config", "signals") and odd == {})
            assert problem_with(to_qdq(network)) == ""
        holder[key] = true
        kept = holder.pop(key)
        with pytest.raises(FormatError):
            read(tensors, about)
        holder[key] = kept


def test_bytes_that_are_no_file_are_refused(images: Tensor) -> None:
    tensors, about = to_safetensors(small("mlp", FILE, images))
    wrong: list[tuple[bytes, bytes]] = [(tensors[:end], about) for end in (0, 7, 8, 100, len(tensors) - 1)]
    wrong += [(tensors, about[:end]) for end in (0, 1, 100, len(about) - 1)]
    wrong += [
        (tensors + b"0", about),
        (about, tensors),
        (tensors, b"[" * 100_000),
        (tensors, b"null"),
        (tensors, b"[]"),
    ]
    wrong += [(tensors, about.replace(b"network/3", b"network/1"))]
    wrong += [(tensors, about.replace(b'"Trouser",', b"")), (tensors, about.replace(b'"mean"', b'"man"'))]
    wrong += [(tensors, about.replace(b'"activation_bits": 6', b'"activation_bits": 99'))]
    for pair in wrong:
        with pytest.raises(FormatError, match=r"\.$"):
            from_safetensors(*pair)


@pytest.fixture(scope="session")
def whole(images: Tensor) -> tuple[bytes, bytes]:
    return to_safetensors(small("cnn", FILE, images))


@settings(max_examples=200)
@given(which=st.integers(0, 1), place=st.integers(0, 2999), flip=st.integers(1, 255))
def test_a_flipped_byte_near_the_front_gives_a_network_or_a_format_error(
    whole: tuple[bytes, bytes], which: int, place: int, flip: int
) -> None:
    pair = list(map(bytearray, whole))
    pair[which][place % len(pair[which])] ^= flip
    try:
        network = from_safetensors(*map(bytes, pair))
    except FormatError:
        return
    assert problem_with(to_qdq(network)) == ""
