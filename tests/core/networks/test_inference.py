"""ONNX Runtime answers as plain torch does, and the same bit for bit however the work is divided."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import (
    CNN_SHAPES,
    MLP_SHAPES,
    configurations,
    logits,
    plain_forward,
    random_tensors,
    rounding_margin,
    statistics_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.datasets import fashion_mnist
from core.machinery.recent import Recent
from core.mathematics import costs, quantization
from core.measuring import evaluation
from core.networks import inference
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.graph import IMAGE
from core.networks.inference import Part, Runner, Simulated, to_onnx
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}
EVERYTHING = CompressionConfig(rank_share=0.3, above_break_even=True, sparsity=0.4, bits=5, activation_bits=6)
CONFIGS = {
    "nothing": CompressionConfig(),
    "factors": CompressionConfig(rank_share=0.4, above_break_even=True),
    "everything": EVERYTHING,
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def network(request: pytest.FixtureRequest, baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, request.param, statistics).freeze()


def operations(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


# The oracle.


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_the_outputs_are_those_of_plain_torch(family: str, images: Tensor, draw: st.DataObject) -> None:
    baseline = SMALL[family]
    network = compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()
    outputs, expected = logits(network, images), plain_forward(network, images)
    assert (outputs.shape, outputs.dtype) == ((len(images), 10), torch.float32)
    sure = rounding_margin(network, images) > 1e-3  # elsewhere a sum may fall on either side of a boundary
    assert sure.all() or network.config.activation_bits is not None
    torch.testing.assert_close(outputs[sure], expected[sure], rtol=1e-4, atol=1e-4)


def test_rounded_activations_are_on_their_grid(baseline: Baseline, statistics: Statistics, images: Tensor) -> None:
    network = compress(baseline, CompressionConfig(activation_bits=3), statistics).freeze()
    clear = rounding_margin(network, images) > 1e-3
    assert clear.sum() > 10
    torch.testing.assert_close(logits(network, images)[clear], plain_forward(network, images)[clear])
    free = replace(network, config=CompressionConfig())
    assert not torch.allclose(logits(network, images), logits(free, images), atol=1e-2)


@pytest.mark.parametrize("signed", [False, True])
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    halves=st.lists(st.integers(-600, 600), min_size=1, max_size=40),
    scale=st.floats(2.0**-100, 2.0**100, width=32),
    bits=st.integers(2, 8),
)
def test_a_signal_is_rounded_as_by_torch_bit_for_bit(
    values: list[float], halves: list[int], scale: float, bits: int, signed: bool
) -> None:
    x = torch.cat([torch.tensor(values), torch.tensor(halves) / 2 * scale])
    graph = Simulated()
    output = graph.fake_quantize("x", scale, bits, signed)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("x", output)]
    made = onnx.helper.make_graph(graph.nodes, "signal", ends[:1], ends[1:], graph.constants)
    opset = [onnx.helper.make_opsetid("", inference.OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=inference.IR_VERSION)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run([output], {"x": x.numpy()})
    assert torch.equal(torch.from_numpy(found), quantization.fake_quantize(x, scale, bits, signed))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_ranges_are_the_largest_signals_of_plain_torch(family: str, images: Tensor, draw: st.DataObject) -> None:
    baseline = SMALL[family]
    config = replace(draw.draw(configurations(baseline)), activation_bits=None)
    network = compress(baseline, config, statistics_of(baseline, images)).freeze()
    expected: dict[str, float] = {}
    plain_forward(network, images, lambda name, x, scale: expected.update({name: x.abs().max().item()}))
    ends = {signal.name for signal in network.network.signals}
    assert ends == {f"{layer.name}_relu" for layer in baseline.layers[:-1]} <= set(expected)
    assert inference.ranges(network, images.numpy()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_largest_signal_of_any_image_counts(baseline: Baseline, statistics: Statistics, images: Tensor) -> None:
    network = compress(baseline, CompressionConfig(rank_share=0.3), statistics).freeze()
    each = [inference.ranges(network, images[i : i + 1].numpy()) for i in range(len(images))]
    assert inference.ranges(network, images.numpy()) == {name: max(one[name] for one in each) for name in each[0]}


# Factors, and their product.


@pytest.mark.parametrize("activation_bits", [None, 8])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_factors_are_joined_where_they_are_more_work_and_nothing_is_rounded_between(
    baseline: Baseline, statistics: Statistics, images: Tensor, share: float, activation_bits: int | None
) -> None:
    config = CompressionConfig(rank_share=share, above_break_even=True, activation_bits=activation_bits)
    network = compress(baseline, config, statistics).freeze()
    joined = [activation_bits is None and own.weights > own.layer.weights for own in network.layers]
    assert (share == 1 and activation_bits is None) == any(joined)
    ends = [IMAGE, *network.network.cuts, network.network.output]
    for (after, up_to), own, alone in zip(pairwise(ends), network.layers, joined, strict=True):
        part = Part(network, after, up_to)
        assert [each.name for each in part.nodes if each.weighted] == [own.layer.name]
        products = [name for name in operations(to_onnx(part, bits=activation_bits)) if name in ("Conv", "Gemm")]
        assert len(products) == (1 if alone else 2)
    sure = rounding_margin(network, images) > 1e-3
    expected = plain_forward(network, images)
    torch.testing.assert_close(logits(network, images)[sure], expected[sure], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=20)
@given(share=st.floats(0.01, 1), sparsity=st.floats(0, 0.9))
def test_joined_or_not_the_outputs_are_the_same(family: str, images: Tensor, share: float, sparsity: float) -> None:
    baseline = SMALL[family]
    config = CompressionConfig(rank_share=share, above_break_even=True, sparsity=sparsity, bits=6)
    network = compress(baseline, config, statistics_of(baseline, images)).freeze()
    torch.testing.assert_close(logits(network, images), plain_forward(network, images), rtol=1e-4, atol=1e-4)


# However the work is divided.


@pytest.mark.parametrize("chunk", [1, 7, 49, 63, 64, 1000])
@pytest.mark.parametrize("cores", [1, 2])
def test_neither_the_size_of_a_chunk_nor_the_number_of_cores_changes_a_bit(
    network: StoredNetwork, images: Tensor, monkeypatch: pytest.MonkeyPatch, chunk: int, cores: int
) -> None:
    usual = logits(network, images)
    monkeypatch.setattr(costs, "CHUNK", chunk)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert torch.equal(logits(network, images), usual)


def test_the_other_images_change_no_bit_of_an_image(network: StoredNetwork, images: Tensor) -> None:
    mixed = torch.randperm(len(images))
    assert torch.equal(logits(network, images[mixed]), logits(network, images)[mixed])
    assert torch.equal(logits(network, images[5:6]), logits(network, images)[5:6])


def test_a_network_cut_in_two_gives_the_same_bit_for_bit(network: StoredNetwork, images: Tensor) -> None:
    bits, whole = network.config.activation_bits, logits(network, images).numpy()
    assert len(network.network.cuts) == len(network.layers) - 1
    for cut in network.network.cuts:
        middle = Runner(Part(network, up_to=cut), bits)(images.numpy())
        assert middle.shape[1:] == Part(network, after=cut).shape
        ends = Runner(Part(network, after=cut), bits)(middle)
        assert np.array_equal(ends, whole)


@pytest.mark.parametrize("config", [CompressionConfig(bits=4), EVERYTHING], ids=["weights 4", "everything"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_shipped_network_gives_the_same_bit_for_bit_cut_in_chunks_and_in_two(
    name: str, config: CompressionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = Workbench().network(name, config), fashion_mnist.load("validation").inputs[:120]
    usual = logits(network, images)
    test_a_network_cut_in_two_gives_the_same_bit_for_bit(network, images)
    for chunk in (1, 17, 120):
        monkeypatch.setattr(costs, "CHUNK", chunk)
        assert torch.equal(logits(network, images), usual)


# The shipped networks on all validation images.

REAL = {
    "nothing": CompressionConfig(),
    "pruned": CompressionConfig(sparsity=0.8),
    "low rank, pruned": CompressionConfig(rank_share=0.3, sparsity=0.5),
    "weights 4": CompressionConfig(bits=4),
    "weights 8, activations 8": CompressionConfig(bits=8, activation_bits=8),
    "weights 4, activations 4": CompressionConfig(bits=4, activation_bits=4),
}


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("config", REAL.values(), ids=REAL)
def test_every_validation_image_is_predicted_as_by_plain_torch(name: str, config: CompressionConfig) -> None:
    """A sum in another order may put an activation on the other side of a rounding boundary: about one image in a
    million. Such an image must be near a boundary, or a tie of the logits, in float64."""
    network, split = Workbench().network(name, config), fashion_mnist.load("validation")
    predicted = evaluation.evaluate(network, split).predictions.long()
    expected = torch.cat([plain_forward(network, x) for x in split.inputs.split(100)]).argmax(1)
    differ = (predicted != expected).nonzero().flatten()
    assert len(differ) <= (0 if config.activation_bits is None else 2)
    if len(differ):
        x = split.inputs[differ].double()
        best = plain_forward(network, x).topk(2).values
        assert ((best[:, 0] - best[:, 1] < 1e-4) | (rounding_margin(network, x) < 1e-4)).all()


def test_histograms_count_every_signal_once_and_their_last_bin_is_the_largest(mlp: Baseline, images: Tensor) -> None:
    config = CompressionConfig(activation_bits=4).with_layer("fc2", rank=5)
    network = compress(mlp, config, statistics_of(mlp, images)).freeze()
    largest = inference.ranges(network, images.numpy())
    counts = inference.histograms(network, images.numpy(), largest)
    widths = {"fc1_relu": 24, "fc2.between": 5, "fc2_relu": 20, "fc3_relu": 16}
    assert {name: int(each.sum()) for name, each in counts.items()} == {n: w * len(images) for n, w in widths.items()}
    assert all(each[-1] >= 1 and len(each) == inference.BINS for each in counts.values())
    seen: dict[str, Tensor] = {}
    plain_forward(
        compress(mlp, config, statistics_of(mlp, images)).freeze(),
        images,
        lambda name, signal, scale: seen.setdefault(name, signal) is None,
    )
    expected = torch.histc(seen["fc1_relu"].abs(), inference.BINS, 0, largest["fc1_relu"]).numpy()
    assert abs(counts["fc1_relu"] - expected).sum() <= 10  # a value on the edge of two bins may fall into either


def test_a_signal_that_is_always_zero_has_a_histogram(mlp: Baseline, images: Tensor) -> None:
    network = compress(mlp, CompressionConfig(sparsity=1), statistics_of(mlp, images)).freeze()
    network = replace(network, layers=tuple(replace(own, bias=torch.zeros_like(own.bias)) for own in network.layers))
    largest = inference.ranges(network, images.numpy())
    assert len(largest) == 3
    assert set(largest.values()) == {0.0}
    assert all(each[0] == each.sum() > 0 for each in inference.histograms(network, images.numpy(), largest).values())


def test_ranges_belong_to_a_baseline_with_its_images(images: Tensor, mlp: Baseline) -> None:
    own, recent = statistics_of(mlp, images), Recent(10**8)
    network = compress(mlp, CompressionConfig(), own)
    kept = [replace(own, of="one", recent=recent), replace(own, of="other", images=4 * images, recent=recent)]
    alone = [replace(each, recent=Recent(10**8)) for each in kept]
    found, expected = ([each.activation_ranges(network, "mse", 8) for each in several] for several in (kept, alone))
    assert found == expected
    assert found[0] != found[1]


@pytest.mark.parametrize("bits", [2, 8])
def test_a_single_layer_has_no_signals_to_round(images: Tensor, bits: int) -> None:
    one = Baseline("one", random_tensors({"fc1": (10, 784)}))
    statistics = statistics_of(one, images)
    for clip in ("minmax", "mse"):
        config = CompressionConfig(bits=bits, activation_bits=bits, clip=clip)  # type: ignore[arg-type]
        network = compress(one, config, statistics)
        assert statistics.activation_ranges(network, clip, bits) == {}  # type: ignore[arg-type]
        assert statistics.histograms(network) == {}
        assert logits(network.freeze(), images).shape == (len(images), 10)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-30, 1e-38, 1e-42, 0.0])
def test_signals_that_are_nearly_nothing_are_counted_without_a_word(size: float) -> None:
    shapes = {"fc1": (4, 784), "fc2": (10, 4)}
    baseline = Baseline("faint", {name: size * own for name, own in random_tensors(shapes).items()})
    x = torch.randn(20, 1, 28, 28)
    network = compress(baseline, CompressionConfig(), statistics_of(baseline, x)).freeze()
    counts = inference.histograms(network, x.numpy(), inference.ranges(network, x.numpy()))
    assert {name: own.sum() for name, own in counts.items()} == {"fc1_relu": 80}
