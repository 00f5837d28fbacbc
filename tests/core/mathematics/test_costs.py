"""What a network takes is known from its shapes: never less than what is then allocated, and not many times more."""

import copy
import json
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import CNN_SHAPES, random_tensors, statistics_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from core.config import DENSE, CompressionConfig, ConfigError, LayerConfig
from core.incoming import state_dict
from core.machinery.recent import size_of
from core.mathematics import costs, low_rank, quantization
from core.mathematics.costs import LayerCost
from core.mathematics.low_rank import Window
from core.networks import calibration, chains, compression, inference, models
from core.networks.calibration import Statistics
from core.networks.graph import IMAGE, Layer, Network
from core.networks.models import Baseline, BaselineError
from core.networks.operations import Node, node

SMALL_FACTOR = 6
"""A bound is no more than so many times what is allocated."""


class Live(TorchDispatchMode):
    """peak : bytes of all tensors that were made here and alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        known = {own.untyped_storage()._cdata for own in tree_leaves((args, kwargs)) if isinstance(own, Tensor)}
        for own in tree_leaves(made):
            if isinstance(own, Tensor) and own.untyped_storage()._cdata not in known:
                storage = own.untyped_storage()
                self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))
        return made


def allocated(make: Callable[[], object]) -> int:
    with Live() as live:
        make()
    return live.peak


def within(bound: int, taken: int) -> bool:
    return taken <= bound <= SMALL_FACTOR * taken


SHAPES = st.one_of(
    st.tuples(st.integers(1, 300), st.integers(60, 300)),
    st.tuples(st.integers(1, 40), st.integers(1, 8), st.sampled_from([3, 5])).map(lambda s: (*s, s[2])),
)


def cost_and_input(shape: tuple[int, ...]) -> tuple[LayerCost, Tensor]:
    """A layer's cost, and so many images that its moments are taken of more than one part of them."""
    if len(shape) == 2:
        return costs.layer_cost("fc1", shape, 1, pool=False), torch.randn(costs.ROW_IMAGES + 1, shape[1])
    return costs.layer_cost("conv1", shape, 49, pool=True), torch.randn(costs.PATCH_IMAGES + 1, shape[1], 7, 7)


@settings(max_examples=20)
@given(SHAPES)
@example((5, 1500))
def test_each_step_allocates_what_its_cost_says_and_no_more(shape: tuple[int, ...]) -> None:
    (cost, x), weight = cost_and_input(shape), torch.randn(shape)
    window = Window(shape[2:], padding=(shape[2] // 2,) * 4) if len(shape) == 4 else None
    mean, second = low_rank.moments(x, shape, window)
    known = size_of((mean, second))
    assert known == cost.moments
    assert within(cost.taking, allocated(lambda: low_rank.moments(x, shape, window)))
    assert within(cost.decomposing, allocated(lambda: low_rank.decompose(weight)))
    assert within(cost.whitening, known + allocated(lambda: low_rank.decompose_whitened(weight, mean, second)))
    assert within(cost.compensating, known + allocated(lambda: quantization.compensation(second)))
    assert cost.knowing == max(cost.taking, cost.whitening, cost.compensating)


@settings(max_examples=30)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 3, 11]), st.integers(1, 60))
def test_the_signals_of_a_layer_take_what_its_cost_says(a: int, b: int, k: int, images: int) -> None:
    """With the pooling behind it: ReLU needs nothing that pooling did not."""
    kernel = {"kernel": (k, k), "padding": (k // 2,) * 4}
    conv, pool = node("conv1", "convolution", [IMAGE], channels=b, **kernel), node("pool", "max_pool", ["conv1"], **TWO)
    pooled = Network((a, 28, 28), (conv, pool, node("scores", "flatten", ["pool"])))
    for network in (pooled, Network((a, 1, 1), (flatten(), linear(b)))):
        (layer,) = network.layers
        (cost,) = models.costs_of(network.layers)
        x = torch.empty((images, *layer.reads), device="meta")
        weight, bias = (torch.empty(shape, device="meta") for shape in (layer.shape, layer.shape[:1]))

        def run(x: Tensor, layer: Layer = layer, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            y = models.product(layer.node, x, [weight], bias)
            return pool.row.torch(pool, y) if layer.pool else y

        assert within(images * cost.signal, 4 * x.numel() + allocated(partial(run, x)))


TWO = {"kernel": (2, 2), "stride": (2, 2)}


def flatten() -> Node:
    return node("flatten", "flatten", [IMAGE])


def linear(channels: int) -> Node:
    return node("fc1", "linear", ["flatten"], channels=channels)


@given(
    shape=st.tuples(st.sampled_from([4, 8]), st.integers(8, 20), st.integers(8, 20)), channels=st.sampled_from([4, 12]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2, 4]), padding=st.tuples(*[st.integers(0, 2)] * 4),
)  # fmt: skip
def test_a_convolution_costs_what_torch_counts(
    shape: tuple[int, int, int],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    groups: int,
    padding: tuple[int, int, int, int],
) -> None:
    settings = {"channels": channels, "kernel": kernel, "stride": stride, "groups": groups, "padding": padding}
    flat = node("flatten", "flatten", ["conv"])
    network = Network(shape, (node("conv", "convolution", [IMAGE], **settings), flat))
    ((layer,), (cost,)) = network.layers, models.costs_of(network.layers)
    x, weight, bias = torch.randn(1, *shape), torch.randn(layer.shape), torch.randn(layer.shape[0])
    with FlopCounterMode(display=False) as counter:
        y = models.product(layer.node, x, [weight], bias)
    assert cost.multiply_accumulates == counter.get_total_flops() / 2
    assert cost.weights == 4 * (weight.numel() + bias.numel())
    assert cost.signal == 4 * (x.numel() + y.numel())
    assert cost.moments == size_of(low_rank.moments(x, layer.shape, layer.window))


@pytest.mark.parametrize("config", [{}, {"bits": 4, "activation_bits": 4, "rank_share": 0.9, "above_break_even": True}])
@pytest.mark.parametrize("shapes", [CNN_SHAPES, {"fc1": (300, 784), "fc2": (200, 300), "fc3": (10, 200)}])
def test_training_allocates_what_its_cost_says_and_no_more(
    monkeypatch: pytest.MonkeyPatch, shapes: dict[str, tuple[int, ...]], config: dict[str, Any]
) -> None:
    baseline, images = Baseline("it", random_tensors(shapes)), torch.randn(costs.BATCH, 1, 28, 28)
    network = compression.compress(baseline, CompressionConfig(**config), statistics_of(baseline, images[:32]))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)

    def steps() -> None:
        copy.deepcopy(network.state_dict())  # of the best epoch
        for _ in range(2):
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()

    bound = costs.training(models.costs_of(baseline.layers))
    weights = 4 * sum(own.numel() for own in network.parameters())
    assert within(bound, weights + allocated(steps))
    monkeypatch.setattr(costs, "MEMORY", bound - 1)
    with pytest.raises(ConfigError, match=r"Training this network would take .* are there. Compress it without"):
        compression.check_training(baseline.layers)
    monkeypatch.setattr(costs, "MEMORY", bound)
    compression.check_training(baseline.layers)


SIZES = st.integers(1, 2**40) | st.integers(0, 3) | st.integers(1, 300)


@st.composite
def declared(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Shapes of either family that follow from one another, however large; sometimes one of them does not."""
    if draw(st.booleans()):
        a, b, h, k = draw(SIZES), draw(SIZES), draw(SIZES), 2 * draw(st.integers(0, 2**20)) + 1
        weights = {"conv1": (a, 1, k, k), "conv2": (b, a, k, k), "fc1": (h, 49 * b), "fc2": (10, h)}
    else:
        widths = [784, *draw(st.lists(SIZES, max_size=6)), 10]
        weights = {f"fc{i}": (widths[i], widths[i - 1]) for i in range(1, len(widths))}
    shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    if draw(st.booleans()):
        shapes[draw(st.sampled_from(sorted(shapes)))] = tuple(draw(st.lists(SIZES, max_size=5)))
    return shapes


def header(shapes: dict[str, Any]) -> bytes:
    """Of a safetensors file; its tensors are not there."""
    said = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text


@given(declared())
def test_a_header_is_judged_without_making_anything(shapes: dict[str, tuple[int, ...]]) -> None:
    content, tracing = header(shapes), tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        with Live() as live:
            assert models.declared(content)[0] is None, "its tensors' names alone tell the network"
            layers = chains.chain(shapes).layers
        each = models.costs_of(layers)
        assert costs.evaluating(each) <= costs.MEMORY
        assert costs.evaluation_seconds(each) <= costs.EVALUATION_SECONDS
        assert 4 * sum(layer.weights for layer in layers) < costs.MEMORY
    except BaselineError:
        with pytest.raises(BaselineError):
            models.from_bytes(content, "theirs")
    assert live.peak == 0
    assert tracemalloc.get_traced_memory()[1] < 2**22
    if not tracing:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[10.0, 784.0], [10, True], [10, -784], ["10", "784"], "ab", {"10": 1}, [[10], 784]])
def test_a_shape_is_whole_numbers(shape: Any) -> None:
    with pytest.raises(BaselineError, match="not a safetensors file"):
        models.declared(header({"fc1.weight": shape, "fc1.bias": [10]}))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda own: st.lists(own, max_size=3) | st.dictionaries(st.text(max_size=5), own, max_size=3),
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["fc1.weight", "fc1.bias", "__metadata__", "x"]), JUNK) | JUNK)
def test_whatever_a_header_says_it_is_a_network_or_refused(said: Any) -> None:
    text = json.dumps(said).encode()
    with pytest.raises(BaselineError):
        models.from_bytes(len(text).to_bytes(8, "little") + text, "theirs")
    with pytest.raises(BaselineError):
        models.from_bytes(header({"fc1.weight": said, "fc1.bias": [10]}), "theirs")


TOO_LARGE = {
    "units": {"fc1": (2**30, 784), "fc2": (10, 2**30)},
    "channels in a small file": {"conv1": (10**6, 1, 1, 1), "conv2": (1, 10**6, 1, 1), "fc1": (1, 49), "fc2": (10, 1)},
    "a kernel": {"conv1": (1, 1, 3, 3), "conv2": (1, 1, 2**15 + 1, 2**15 + 1), "fc1": (1, 49), "fc2": (10, 1)},
    "multiplications": {"conv1": (4000, 1, 61, 61), "conv2": (1, 4000, 61, 61), "fc1": (1, 49), "fc2": (10, 1)},
    "layers": {f"fc{i}": (10, 784 if i == 1 else 10) for i in range(1, costs.LAYERS + 2)},
}


@pytest.mark.parametrize("weights", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_could_never_be_evaluated_is_refused_by_its_header(weights: dict[str, tuple[int, ...]]) -> None:
    """In words: how much, how much there is, and the way out."""
    shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    with pytest.raises(BaselineError, match=r"too large. .*\d.*(are|may have|and).*\d"):
        models.from_bytes(header(shapes), "theirs")


def test_a_tensor_that_stands_for_more_numbers_than_its_file_holds_is_judged_by_its_shape() -> None:
    state = {"a.weight": torch.zeros(1, 1).expand(2**32, 784), "b.weight": torch.zeros(1, 1).expand(10, 2**32)}
    with Live() as live, pytest.raises(BaselineError, match="too large"):
        state_dict.readings(state_dict.layers(state), chains.SHAPE, chains.CLASSES)
    assert live.peak < 2**20


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, cnn: Baseline) -> Statistics:
    """Of a network whose fc1 has more inputs than can be known."""
    known = [cost for cost in models.costs_of(cnn.layers) if cost.name != "fc1"]
    monkeypatch.setattr(costs, "MOMENTS", sum(cost.moments for cost in known))
    images = torch.randn(40, 1, 28, 28)
    moments = calibration.moments(cnn, images)
    assert set(moments) == {"conv1", "conv2", "fc2"} == costs.known(models.costs_of(cnn.layers))
    return Statistics(
        lambda method: calibration.decompose(cnn, method, lambda: moments),
        lambda: moments,
        lambda: calibration.compensations(moments),
        images,
    )


ASKS = {
    "data-aware": (
        CompressionConfig(rank_share=0.5, low_rank_method="whitened"),
        [{"low_rank_method": "svd"}, {"layers": {"fc1": LayerConfig(rank=DENSE)}}],
    ),
    "scores by inputs": (
        CompressionConfig(sparsity=0.5, score="activation"),
        [{"score": "lamp"}, {"score": "magnitude"}, {"layers": {"fc1": LayerConfig(sparsity=0.0)}}],
    ),
    "gptq": (
        CompressionConfig(bits=4, rounding="gptq"),
        [{"rounding": "nearest"}, {"layers": {"fc1": LayerConfig(bits=32)}}],
    ),
    "biases": (
        CompressionConfig(bits=4, bias_correction=True),
        [{"bias_correction": False}, {"layers": {"fc1": LayerConfig(bits=32)}}],
    ),
    "channels": (CompressionConfig(channel_share=0.5, channel_score="activation"), [{"channel_score": "l1"}]),
}


@pytest.mark.parametrize(("config", "ways_out"), ASKS.values(), ids=ASKS)
def test_what_needs_to_know_more_inputs_than_fit_is_refused_and_each_way_out_is_one(
    blind: Statistics, cnn: Baseline, config: CompressionConfig, ways_out: list[dict[str, Any]]
) -> None:
    with pytest.raises(ConfigError, match=r"fc1 has 294 inputs.*294 x 294 numbers: .* MB") as refused:
        compression.compress(cnn, config, blind)
    assert any(word in str(refused.value) for word in ("Choose", "Round", "Leave"))
    for changes in ways_out:
        made = CompressionConfig.from_record(json.loads(config.to_json()) | json.loads(json.dumps(_plain(changes))))
        compression.compress(cnn, made, blind).freeze()


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    layers = {name: vars(own) for name, own in changes.get("layers", {}).items()}
    return changes | ({"layers": layers} if layers else {})


@pytest.mark.parametrize("method", ["svd", "whitened"])
def test_a_layer_that_is_too_large_for_its_singular_values_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, cnn: Baseline, method: Any
) -> None:
    most = max(cost.seconds for cost in models.costs_of(cnn.layers))
    monkeypatch.setattr(costs, "DECOMPOSITION_SECONDS", most * 0.99)
    assert set(calibration.not_decomposable(cnn.layers, method)) == {"fc1"}
    assert [layer.name for layer in calibration.decomposable(cnn.layers, method)] == ["conv1", "conv2", "fc2"]
    with pytest.raises(ConfigError, match=r"singular values of fc1, 12 x 294.*rank 0"):
        compression.check(CompressionConfig(rank_share=0.5), cnn.network)
    compression.check(CompressionConfig(rank_share=0.5, layers={"fc1": LayerConfig(rank=DENSE)}), cnn.network)


def test_more_weights_than_can_be_pruned_and_rounded_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch, cnn: Baseline
) -> None:
    monkeypatch.setattr(costs, "MEMORY", costs.reworking(models.costs_of(cnn.layers)) - 1)
    for config in (CompressionConfig(bits=4), CompressionConfig(layers={"fc1": LayerConfig(sparsity=0.5)})):
        with pytest.raises(ConfigError, match=r"so many weights would take .* are there"):
            compression.check(config, cnn.network)
    compression.check(CompressionConfig(), cnn.network)


def test_moments_of_some_images_at_a_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch, cnn: Baseline) -> None:
    images = torch.randn(37, 1, 28, 28)
    whole = calibration.moments(cnn, images)
    signal = max(cost.signal for cost in models.costs_of(cnn.layers))
    monkeypatch.setattr(costs, "SIGNALS", 10 * signal)
    monkeypatch.setattr(costs, "PART", 10 * signal)
    for name, parts in calibration.moments(cnn, images).items():
        for own, other in zip(parts, whole[name], strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("part", [1, 10**6])
def test_fewer_images_at_a_time_give_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, cnn: Baseline, part: int
) -> None:
    config = CompressionConfig(bits=6, activation_bits=6)
    images = torch.randn(60, 1, 28, 28)
    network, images = compression.compress(cnn, config, statistics_of(cnn, images)).freeze(), images.numpy()
    usual, top = inference.Runner(network, 6)(images), inference.ranges(network, images)
    counted = inference.histograms(network, images, top)
    monkeypatch.setattr(costs, "PART", part)
    monkeypatch.setattr(costs, "SIGNALS", part)
    assert inference.at_once(inference.Part(network)) < costs.CHUNK
    assert (inference.Runner(network, 6)(images) == usual).all()
    assert inference.ranges(network, images) == top
    assert {name: own.tolist() for name, own in inference.histograms(network, images, top).items()} == {
        name: own.tolist() for name, own in counted.items()
    }


def test_layers_with_few_inputs_are_known_first() -> None:
    layers = [costs.layer_cost(f"fc{n}", (10, n), 1, pool=False) for n in (4000, 10, 4000, 3000)]
    assert costs.known(layers) == {"fc10", "fc3000", "fc4000"}
    large = costs.layer_cost("fc1", (10, 2000 * 121), 196, pool=False)
    assert costs.known([large]) == set()
    assert "242,000 x 242,000" in costs.unknown_in_words(large)
    assert "1.0 GB are there" in costs.unknown_in_words(large)
    slow = costs.layer_cost("conv2", (10, 450, 3, 3), 196, pool=True)
    assert slow.knowing < costs.MEMORY
    assert costs.known([slow]) == set()
    assert re.search(r"4,050 x 4,050 numbers.*about \d+ minutes, and 5 are the most", costs.unknown_in_words(slow))


def test_the_shipped_networks_have_room_for_everything() -> None:
    shapes = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "fc1": (128, 3136), "fc2": (10, 128)}
    for weights in (shapes, {"fc1": (512, 784), "fc2": (512, 512), "fc3": (10, 512)}, CNN_SHAPES):
        each = models.costs_of(Baseline("it", random_tensors(weights)).layers)
        assert costs.known(each) == set(weights)
        assert all(cost.decomposes for cost in each)
        assert costs.reworking(each) < costs.MEMORY
