"""Low rank, then pruning, then quantization, on the stored tensors; nothing set is the baseline, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, logits, random_tensors, statistics_of
from hypothesis import given
from hypothesis import strategies as st
from random_networks import feature_maps, filled
from torch import Tensor
from torch.nn import functional as F

from core.config import DENSE, CompressionConfig, ConfigError, LayerConfig
from core.datasets import fashion_mnist
from core.machinery.recent import Recent
from core.mathematics import low_rank, pruning, quantization
from core.measuring import evaluation
from core.networks import calibration, compression, inference, narrowing
from core.networks.building import Plan
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.graph import IMAGE, Layer
from core.networks.models import Baseline, Overflow, product
from core.networks.operations import node
from core.networks.stored import StoredNetwork
from core.networks.trainable import CompressedNetwork
from core.techniques.codebook import codebook_of, index_bits
from core.techniques.low_rank import rank_of
from core.techniques.pruning import apply_pruning, check_sparsity
from core.techniques.quantization import quantize_model

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}


def frozen(baseline: Baseline, config: CompressionConfig, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, config, statistics).freeze()


def weights(network: StoredNetwork) -> dict[str, Tensor]:
    return {tensor.name: tensor.weight() for stored in network.layers for tensor in stored.tensors}


# Steps that are about to be learned.


@pytest.mark.parametrize("settings", [{}, {"rounding": "gptq", "bias_correction": True}, {"symmetry": "asymmetric"}])
def test_training_begins_alike_whatever_ends_were_chosen(
    baseline: Baseline, statistics: Statistics, settings: dict[str, Any]
) -> None:
    """And on grids that are those of a stored network."""
    config = CompressionConfig(sparsity=0.5, bits=3, activation_bits=4, **settings)
    states = []
    for clip in ("minmax", "mse"):
        own = replace(config, clip=clip)
        network = compress(baseline, own, statistics, learned=True)
        assert network.config == own
        chosen = compress(baseline, own, statistics)
        assert set(network.state_dict()) == set(chosen.state_dict())
        gradual = compression.restructure(baseline, own, statistics)
        compression.prune_gradually(gradual, own, statistics, 1.0)
        states += [network.state_dict(), gradual.state_dict()]
        same = all(torch.equal(tensor, chosen.state_dict()[name]) for name, tensor in network.state_dict().items())
        assert same == (clip == "mse" and own.symmetry == "asymmetric"), "where plain grids end best already"
    for other in states[1:]:
        assert all(torch.equal(tensor, states[0][name]) for name, tensor in other.items())
    if config.symmetry == "symmetric" and config.rounding == "nearest":
        for own in network.named().values():
            (weight,) = own.weights
            assert torch.equal(weight.encoder.scale, quantization.first_step(weight.masked(), weight.encoder.scale, 3))


# Iterative pruning.


@pytest.mark.parametrize("config", [CompressionConfig(sparsity=0.9, score="lamp", bits=4, activation_bits=4),
                                    CompressionConfig(sparsity=0.8, score="activation", rank_share=0.3)])  # fmt: skip
def test_step_by_step_the_zeros_grow_by_the_cubic_and_none_comes_back(
    baseline: Baseline, statistics: Statistics, images: Tensor, config: CompressionConfig
) -> None:
    network = compression.restructure(baseline, config, statistics)
    gone: dict[str, Tensor] = {}
    for done in (0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.8, 1.0):
        compression.prune_gradually(network, config, statistics, done)
        now = network.freeze()
        wanted = config.sparsity * pruning.cubic(done / compression.PRUNING_SHARE)
        assert now.sparsity == pytest.approx(wanted, abs=1 / sum(stored.weights for stored in now.layers))
        for stored in now.layers:
            for tensor in stored.tensors:
                mask = torch.ones_like(tensor.values, dtype=torch.bool) if tensor.mask is None else tensor.mask
                assert not (mask & gone.get(tensor.name, torch.zeros_like(mask))).any()
                gone[tensor.name] = ~mask
                assert (tensor.bits == 32) == (config.bits is None or done < compression.PRUNING_SHARE)
        train_a_little(network, images)
    final = network.freeze()
    assert final.sparsity == pytest.approx(config.sparsity, abs=1e-3)
    again = compress(baseline, config, statistics)
    again.load_state_dict(network.state_dict())
    assert torch.equal(logits(again.freeze(), images), logits(final, images))


# Endpoints are exact.


@pytest.mark.parametrize(
    "config",
    [
        CompressionConfig(),
        CompressionConfig(sparsity=0),
        CompressionConfig(sparsity=0, scope="layer", granularity="tensor"),
    ],
)
def test_nothing_set_is_the_baseline_bit_for_bit(
    baseline: Baseline, statistics: Statistics, config: CompressionConfig
) -> None:
    network = frozen(baseline, config, statistics)
    assert all(torch.equal(weight, baseline.tensors[name]) for name, weight in weights(network).items())
    assert all(torch.equal(stored.bias, baseline.tensors[f"{stored.layer.name}.bias"]) for stored in network.layers)
    assert network.parameters == baseline.parameters
    assert network.sparsity == 0


@pytest.mark.parametrize("method", ["svd", "whitened"])
def test_full_rank_is_the_baseline_to_rounding(
    baseline: Baseline, statistics: Statistics, images: Tensor, method: str
) -> None:
    full = CompressionConfig(rank_share=1, above_break_even=True, low_rank_method=method)
    network = frozen(baseline, full, statistics)
    assert [stored.rank for stored in network.layers] == [layer.full_rank for layer in baseline.layers]
    expected = logits(frozen(baseline, CompressionConfig(), statistics), images)
    torch.testing.assert_close(logits(network, images), expected, rtol=1e-4, atol=1e-4)


def test_sparsity_one_leaves_the_biases_alone(baseline: Baseline, statistics: Statistics, images: Tensor) -> None:
    network = frozen(baseline, CompressionConfig(sparsity=1), statistics)
    assert network.sparsity == 1
    assert network.nonzero == sum(stored.bias.numel() for stored in network.layers)
    assert torch.equal(logits(network, images), network.layers[-1].bias.expand(len(images), 10))


def test_compressing_leaves_the_baseline_as_it_was(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(rank_share=0.3, sparsity=0.5, bits=2, activation_bits=4), statistics)
    train_a_little(network, statistics.images)
    network = compress(baseline, CompressionConfig(), statistics)
    train_a_little(network, statistics.images)
    assert Baseline("again", baseline.tensors).sha256 == baseline.sha256


# The order, and what each step does to the stored tensors.


def test_the_factors_are_pruned_and_then_the_pruned_factors_are_rounded(
    baseline: Baseline, statistics: Statistics
) -> None:
    name, bits = baseline.layers[1].name, 4
    config = CompressionConfig().with_layer(name, rank=3, sparsity=0.5, bits=bits)
    layer = baseline.layers[1]
    first, second = low_rank.factorize(low_rank.decompose(baseline.tensors[f"{name}.weight"]), 3, layer.shape)
    masks = pruning.keep_masks({"first": first.abs(), "second": second.abs()}, 0.5)
    (stored,) = (stored for stored in frozen(baseline, config, statistics).layers if stored.layer.name == name)
    for tensor, factor, mask in zip(stored.tensors, (first, second), masks.values(), strict=True):
        pruned = factor * mask
        scale = quantization.weight_grid(pruned, bits).scale.half().float()
        assert tensor.bits == bits
        assert torch.equal(tensor.mask, mask)
        assert torch.equal(tensor.scale, scale)
        assert torch.equal(tensor.values, quantization.linear_quantize(pruned, scale, 0, bits))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_every_configuration_gives_the_ranks_zeros_and_bits_that_it_asks_for(
    family: str, images: Tensor, draw: st.DataObject
) -> None:
    baseline = SMALL[family]
    config = draw.draw(configurations(baseline))
    statistics = statistics_of(baseline, images)
    network = frozen(baseline, config, statistics)
    smaller, _ = narrowing.narrow(baseline, config, statistics.means)
    sparsity = check_sparsity(network)
    free = [stored for stored in network.layers if config.layer(stored.layer.name).sparsity is None]
    for stored in network.layers:
        own = config.layer(stored.layer.name)
        share = own.sparsity if own.sparsity is not None else config.sparsity if config.scope == "layer" else None
        assert own.channels is None or stored.layer.shape[0] == own.channels
        if own.rank is not None:
            assert stored.rank == (min(own.rank, stored.layer.full_rank) if own.rank != DENSE else None)
        if share is not None:
            assert sparsity[stored.layer.name] == round(share * stored.weights) / stored.weights
        shared = codebook_of(config, stored.layer.name)
        bits = index_bits(shared) if shared else config.bits_of(stored.layer.name)
        for tensor in stored.tensors:
            assert tensor.bits == bits
            assert tensor.mask is None or not tensor.values[~tensor.mask].any()
            if bits != 32 and not shared:
                symmetric = tensor.zero_point is None
                codes = tensor.values + (2 ** (bits - 1) - 1 if symmetric else tensor.zero_point)
                assert 0 <= int(codes.min()) <= int(codes.max()) <= 2**bits - 1 - symmetric
                assert torch.equal(tensor.weight(), tensor.values * tensor.scale)
        corrected = config.bias_correction and bits != 32
        if not corrected and (config.low_rank_method == "svd" or stored.rank is None):  # data-aware factors correct it
            exact = smaller.tensors[f"{stored.layer.name}.bias"]
            moved = (stored.bias - exact).abs().max()
            assert moved <= (0 if bits == 32 else exact.abs().max() * 2**-11)
    count = sum(stored.weights for stored in free)
    if config.scope == "network" and count:
        masked = sum(tensor.masked for stored in free for tensor in stored.tensors)
        assert masked == round((config.sparsity or 0) * count)


def test_one_threshold_over_the_network_leaves_the_largest_weights(baseline: Baseline, statistics: Statistics) -> None:
    network = frozen(baseline, CompressionConfig(sparsity=0.7), statistics)
    joined = torch.cat([baseline.tensors[f"{layer.name}.weight"].abs().flatten() for layer in baseline.layers])
    kept = torch.cat([tensor.mask.flatten() for stored in network.layers for tensor in stored.tensors])
    assert set(kept.nonzero().flatten().tolist()) == set(joined.topk(int(kept.sum())).indices.tolist())


def test_a_layers_own_settings_win_and_the_others_take_the_networks(baseline: Baseline, statistics: Statistics) -> None:
    first, *others = (layer.name for layer in baseline.layers)
    config = CompressionConfig(rank_share=0.2, sparsity=0.5, scope="layer", bits=4)
    config = config.with_layer(first, rank=DENSE, sparsity=0, bits=32)
    network = frozen(baseline, config, statistics)
    assert torch.equal(weights(network)[f"{first}.weight"], baseline.tensors[f"{first}.weight"])
    for stored in network.layers[1:]:
        assert stored.layer.name in others
        assert stored.sparsity == pytest.approx(0.5, abs=1 / stored.weights)
        assert {tensor.bits for tensor in stored.tensors} == {4}


# Which rank a layer gets.

SHAPES = st.one_of(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 20), st.integers(1, 8), st.just(3), st.just(3)),
)


def layer_of(shape: tuple[int, ...], name: str = "it") -> Layer:
    """With a weight of this shape."""
    if len(shape) == 2:
        return Layer(node(name, "linear", ["x"], channels=shape[0]), shape, shape[1:])
    return Layer(node(name, "convolution", ["x"], channels=shape[0], kernel=shape[2:]), shape, (shape[1], 9, 9), 49)


@given(SHAPES, st.floats(0.01, 1))
def test_a_share_of_rank_factors_a_layer_only_where_that_saves(shape: tuple[int, ...], share: float) -> None:
    layer, (m, n) = layer_of(shape), (shape[0], int(torch.tensor(shape[1:]).prod()))
    wanted = max(1, int(share * min(m, n) + 1e-9))
    rank = rank_of(layer, CompressionConfig(rank_share=share))
    assert rank == (wanted if wanted * (m + n) < m * n else None)
    assert rank_of(layer, CompressionConfig(rank_share=share, above_break_even=True)) == wanted


def test_a_layer_that_stays_dense_stays_so_bit_for_bit(baseline: Baseline, statistics: Statistics) -> None:
    network = frozen(baseline, CompressionConfig(rank_share=1), statistics)
    assert all(stored.rank is None for stored in network.layers)
    assert all(torch.equal(weight, baseline.tensors[name]) for name, weight in weights(network).items())


@given(SHAPES, st.data())
def test_a_rank_of_its_own_holds_above_break_even_and_at_full_rank(shape: tuple[int, ...], draw: st.DataObject) -> None:
    layer = layer_of(shape)
    rank = draw.draw(st.integers(1, layer.full_rank))
    own = LayerConfig(rank=rank)
    assert rank_of(layer, CompressionConfig(layers=(("it", own),))) == rank
    assert rank_of(layer, CompressionConfig(layers=(("it", own),), rank_share=0.01)) == rank


@pytest.mark.parametrize(("removed", "rank", "parameters"), [(0.5, 256, 932_362), (0.8, 102, 774_666)])
def test_the_scenarios_of_the_course_have_the_parameters_of_the_course(
    removed: float, rank: int, parameters: int
) -> None:
    layer = layer_of((512, 512), "fc2")
    config = CompressionConfig(rank_share=1 - removed, above_break_even=True)
    assert rank_of(layer, config) == rank
    assert 932_362 - 512 * 512 + rank * (512 + 512) == parameters


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"nowhere": LayerConfig(bits=4)}, ["nowhere", "fc1"]),
        ({"fc2": LayerConfig(rank=500)}, ["rank of fc2", "500", "[1, "]),
    ],
)
def test_a_configuration_of_another_network_is_refused(
    baseline: Baseline, statistics: Statistics, own: dict[str, LayerConfig], named: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        compress(baseline, CompressionConfig(layers=tuple(own.items())), statistics)
    assert all(part in str(refused.value) for part in named)


@pytest.mark.parametrize("config", [
    CompressionConfig(bits=4, rounding="gptq"), CompressionConfig(bits=3, bias_correction=True),
    CompressionConfig(rank_share=0.3, low_rank_method="whitened"), CompressionConfig(),
])  # fmt: skip
def test_weights_that_are_too_large_for_float32_are_said(
    baseline: Baseline, images: Tensor, config: CompressionConfig
) -> None:
    large = Baseline("large", {name: own * 1e30 for name, own in baseline.tensors.items()})
    split = fashion_mnist.load("validation")
    with pytest.raises(Overflow, match="too large for float32"):
        evaluation.evaluate(frozen(large, config, statistics_of(large, images)), split)


# The course's functions, one by one.


def test_apply_pruning_and_check_sparsity_agree(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(), statistics)
    name = baseline.layers[-1].name
    assert apply_pruning(network, 0.25, "layer", {name: 0.75}) is network
    shares = check_sparsity(network.freeze())
    for layer in baseline.layers:
        count = baseline.tensors[f"{layer.name}.weight"].numel()
        assert shares[layer.name] == round((0.75 if layer.name == name else 0.25) * count) / count


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_quantize_model_puts_every_layer_on_its_grid(baseline: Baseline, statistics: Statistics, bits: int) -> None:
    network = compress(baseline, CompressionConfig(), statistics)
    assert quantize_model(network, bits, bits, ranges=statistics.activation_ranges(network)) is network
    for stored in network.freeze().layers:
        (tensor,) = stored.tensors
        assert tensor.bits == bits
        original = baseline.tensors[tensor.name]
        assert ((tensor.weight() - original).abs() <= tensor.scale * (0.5 + 1e-5)).all()


LADDER = {"rounding": "gptq", "bias_correction": True}


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("sparsity", [None, 0.5])
@pytest.mark.parametrize("channels", [None, 0.6])
def test_gptq_keeps_more_of_a_layers_output_and_the_corrected_bias_its_average(
    baseline: Baseline, statistics: Statistics, rank: int | None, sparsity: float | None, channels: float | None
) -> None:
    """The layer alone, with what its input is in the baseline: also a factored, pruned or narrowed one."""
    name = baseline.layers[2].name
    config = CompressionConfig(sparsity=sparsity, channel_share=channels).with_layer(name, rank=rank)
    columns = narrowing.narrow(baseline, config, statistics.means)[1][name]
    (read,) = baseline.layers[2].node.inputs
    x = feature_maps(baseline, statistics.images)[read][:, columns]

    def outputs(**changes: object) -> Tensor:
        made = compress(baseline, replace(config.with_layer(name, bits=changes.pop("bits", 32)), **changes), statistics)
        stored, y = made.freeze().layers[2], x
        for tensor in stored.tensors:
            y = y @ tensor.weight().T
        return y + stored.bias

    exact = outputs()
    error = {way: outputs(bits=3, rounding=way) - exact for way in ("nearest", "gptq")}
    assert error["gptq"].square().mean() < error["nearest"].square().mean()
    kept = outputs(bits=3, **LADDER).mean(0)
    torch.testing.assert_close(kept, exact.mean(0), rtol=1e-3, atol=1e-3)
    assert (kept - exact.mean(0)).abs().mean() < 0.1 * error["nearest"].mean(0).abs().mean()


def test_a_mask_that_keeps_everything_changes_nothing_of_what_gptq_does(
    baseline: Baseline, statistics: Statistics
) -> None:
    name = baseline.layers[2].name
    config = CompressionConfig(bits=3, rounding="gptq").with_layer(name, rank=5)
    without, masked = (compression.restructure(baseline, config, statistics) for _ in range(2))
    for own in masked.named()[name].weights:
        own.mask = torch.ones_like(own.weight, dtype=torch.bool)
    assert len(masked.named()[name].weights) == 2
    one, other = (weights(compression.act(each, config, statistics, ("grids",)).freeze()) for each in (without, masked))
    assert all(torch.equal(weight, other[key]) for key, weight in one.items())


def test_clipped_activations_lose_less_than_those_up_to_the_largest(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(), statistics)
    whole, clipped = (statistics.activation_ranges(network, clip, 3) for clip in ("minmax", "mse"))
    assert whole.keys() == clipped.keys()
    assert all(0 < clipped[name] <= whole[name] for name in whole)
    assert set(whole) == {f"{layer.name}_relu" for layer in baseline.layers[:-1]}
    maps = feature_maps(baseline, statistics.images)
    for name in whole:
        error = {
            kind: (maps[name] - quantization.fake_quantize(maps[name], ends[name] / 7, 3, signed=False)).square().sum()
            for kind, ends in (("whole", whole), ("clipped", clipped))
        }
        assert error["clipped"] <= error["whole"] * 1.01


def test_activations_are_not_rounded_without_their_ranges(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(), statistics)
    with pytest.raises(ValueError, match="ranges"):
        quantize_model(network, 8, 8)


# Rounded activations.


def test_the_ranges_of_activations_are_remembered_across_bit_widths(
    baseline: Baseline, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, float]] = []
    ranges = inference.ranges
    monkeypatch.setattr(inference, "ranges", lambda *rest: measured.append(ranges(*rest)) or measured[-1])
    for bits in (None, 2, 4, 8):
        for activation_bits in (None, 2, 5, 8):
            config = CompressionConfig(rank_share=0.3, sparsity=0.5, bits=bits, activation_bits=activation_bits)
            network = frozen(baseline, config, statistics)
            assert set(network.scales) == (
                {signal.name for signal in network.network.signals} if activation_bits else set()
            )
            for name, scale in network.scales.items():
                assert scale == pytest.approx(measured[0][name] / (2**activation_bits - 1), rel=2**-11)
    assert len(measured) == 1
    frozen(baseline, CompressionConfig(rank_share=0.3, sparsity=0.6, activation_bits=4), statistics)
    frozen(baseline, CompressionConfig(rank_share=0.2, sparsity=0.5, activation_bits=4), statistics)
    assert len(measured) == 3


def test_remembered_ranges_are_those_that_would_be_measured(baseline: Baseline, statistics: Statistics) -> None:
    statistics = replace(statistics, recent=Recent(200))
    configs = [CompressionConfig(sparsity=share) for share in (0.1, 0.5, 0.9, 0.1, 0.9, 0.9, 0.5)]
    for config in configs:
        network = compress(baseline, config, statistics)
        expected = inference.ranges(network.freeze(), statistics.images.numpy())
        assert statistics.activation_ranges(network) == expected


def by_hand(network: StoredNetwork, exact: StoredNetwork, calibration: Tensor, x: Tensor, bits: int) -> Tensor:
    """Layer after layer, once to measure the largest signals of the unrounded network, and once to round with them."""

    def run(network: StoredNetwork, x: Tensor, scales: list[float] | None) -> tuple[Tensor, list[float]]:
        largest: list[float] = []

        def meet(signal: Tensor, signed: bool) -> Tensor:
            steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
            largest.append(float(np.float16(signal.abs().max().item() / steps)))
            if scales is None:
                return signal
            scale = scales[len(largest) - 1]
            return torch.clamp(torch.round(signal / scale), -steps if signed else 0, steps) * scale

        for position, stored in enumerate(network.layers):
            if stored.layer.kind == "linear":
                x = x.flatten(1)
            if position > 0:
                x = meet(x, signed=False)
            for i, tensor in enumerate(stored.tensors):
                bias = stored.bias if i == len(stored.tensors) - 1 else None
                weight = tensor.weight()
                x = F.conv2d(x, weight, bias, padding="same") if weight.dim() == 4 else F.linear(x, weight, bias)
                if bias is None:
                    x = meet(x, signed=True)
            x = F.max_pool2d(x, 2) if stored.layer.kind == "conv" else x
            x = x if stored is network.layers[-1] else F.relu(x)
        return x, largest

    _, scales = run(exact, calibration, None)
    return run(network, x, scales)[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rank_share", [None, 0.3])
def test_activations_are_rounded_as_a_loop_written_by_hand_does(
    baseline: Baseline, statistics: Statistics, bits: int, rank_share: float | None
) -> None:
    config = CompressionConfig(rank_share=rank_share, sparsity=0.3, bits=6, activation_bits=bits)
    exact = frozen(baseline, CompressionConfig(rank_share=rank_share, sparsity=0.3), statistics)
    network = frozen(baseline, config, statistics)
    x = fashion_mnist.load("validation").inputs[:200]
    expected = by_hand(network, exact, statistics.images, x, bits)
    close = torch.isclose(logits(network, x), expected, rtol=1e-3, atol=1e-3).all(1)
    assert close.float().mean() > 0.9  # a sum that falls on a tie may round either way, and all behind it moves
    assert not torch.allclose(expected, logits(frozen(baseline, CompressionConfig(), statistics), x), atol=1e-3)


def test_the_image_and_the_logits_are_not_rounded(baseline: Baseline, statistics: Statistics, images: Tensor) -> None:
    network = frozen(baseline, CompressionConfig(activation_bits=2), statistics)
    assert set(network.scales) == {f"{stored.layer.name}_relu" for stored in network.layers[:-1]}
    assert all(scale > 0 for scale in network.scales.values())
    assert network.scale_at(IMAGE) is None
    assert network.scale_at(network.network.output) is None
    assert logits(network, images).unique().numel() > 4 * len(images)


# Training a compressed network.

TRAINABLE = [
    CompressionConfig(sparsity=0.7),
    CompressionConfig(bits=4),
    CompressionConfig(sparsity=0.5, bits=4, granularity="tensor"),
    CompressionConfig(rank_share=0.3, above_break_even=True, sparsity=0.4, bits=3, activation_bits=6),
]


def train_a_little(network: CompressedNetwork, images: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    labels = torch.arange(len(images)) % 10
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("config", TRAINABLE)
def test_training_moves_what_is_kept_and_leaves_zeros_zero(
    baseline: Baseline, statistics: Statistics, config: CompressionConfig
) -> None:
    network = compress(baseline, config, statistics)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    train_a_little(network, statistics.images)
    assert not any(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    for stored in network.freeze().layers:
        for tensor in stored.tensors:
            assert (tensor.mask is None) == (config.sparsity is None)
            assert tensor.mask is None or not tensor.values[~tensor.mask].any()


@pytest.mark.parametrize("config", TRAINABLE)
def test_what_training_ran_is_what_the_frozen_network_runs(
    baseline: Baseline, statistics: Statistics, config: CompressionConfig
) -> None:
    network = compress(baseline, config, statistics)
    train_a_little(network, statistics.images)
    after = network.freeze()
    for stored, own in zip(after.layers, network.named().values(), strict=True):
        for tensor, acting in zip(stored.tensors, own.effective_weights(), strict=True):
            assert torch.equal(tensor.weight(), acting.detach())
    with torch.no_grad():
        expected = network(statistics.images)
    torch.testing.assert_close(logits(after, statistics.images), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(statistics.images).detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [CompressionConfig(), *TRAINABLE])
def test_what_is_frozen_no_longer_changes(
    baseline: Baseline, statistics: Statistics, images: Tensor, config: CompressionConfig
) -> None:
    network = compress(baseline, config, statistics)
    stored = network.freeze()
    before = logits(stored, images)
    train_a_little(network, images)
    assert torch.equal(logits(stored, images), before)
    assert not torch.equal(logits(network.freeze(), images), before)


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_data_aware_factors_lose_less_of_a_layers_output_and_nothing_of_its_mean(family: str, images: Tensor) -> None:
    baseline = SMALL[family]
    statistics, maps = statistics_of(baseline, images), feature_maps(baseline, images)
    for layer in baseline.layers:
        x, lost = maps[layer.node.inputs[0]], {}
        exact = product(layer.node, x, [baseline.weight(layer)], baseline.bias(layer))
        for method in ("svd", "whitened"):
            config = CompressionConfig(low_rank_method=method).with_layer(layer.name, rank=2)  # type: ignore[arg-type]
            own = compress(baseline, config, statistics).freeze().named[layer.name]
            error = product(layer.node, x, [tensor.weight() for tensor in own.tensors], own.bias) - exact
            lost[method] = error.square().mean().item()
        assert lost["whitened"] <= lost["svd"] * (1 + 1e-4) + 1e-10
        if layer.kind == "linear":
            assert error.mean(0).abs().max() < 1e-4 * exact.abs().max()


# Layers of any graph.

WINDOWS: dict[str, dict[str, Any]] = {
    "strided": {"channels": 8, "stride": (2, 1), "padding": (0, 1, 2, 1)},
    "dilated": {"channels": 8, "dilation": (2, 2), "padding": (2, 2, 2, 2)},
    "grouped": {"channels": 8, "groups": 2, "padding": (1, 1, 1, 1)},
    "depthwise": {"channels": 8, "groups": 4, "stride": (2, 2)},
}


def windowed(seed: int = 5, **settings: Any) -> Baseline:
    """conv, relu, then the layer "own" with these settings, and scores."""
    plan = Plan((2, 9, 9))
    x = plan.relu(plan.convolution("conv", plan.image, 4))
    x = plan.relu(plan.add_node("own", "convolution", x, kernel=(3, 3), **settings))
    plan.linear("fc", plan.average(x), 10)
    return filled(plan.network(), seed)


@pytest.mark.parametrize("settings", WINDOWS.values(), ids=WINDOWS)
def test_the_moments_of_a_layer_of_any_graph_are_those_of_what_it_reads(settings: dict[str, Any]) -> None:
    baseline, x = windowed(**settings), torch.randn(70, 2, 9, 9)
    maps, found = feature_maps(baseline, x), calibration.moments(baseline, x)
    assert set(found) == {"conv", "own", "fc"}
    for layer in baseline.layers:
        expected = low_rank.moments(maps[layer.node.inputs[0]], layer.shape, layer.window)
        for one, other in zip(found[layer.name], expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("symmetry", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("sparsity", [None, 0.4])
@pytest.mark.parametrize("settings", WINDOWS.values(), ids=WINDOWS)
def test_gptq_keeps_more_of_any_convolutions_output_and_the_corrected_bias_its_average(
    settings: dict[str, Any], sparsity: float | None, granularity: Any, symmetry: Any
) -> None:
    """Over a few networks: for one of few weights nearest may be better by chance."""
    error = {"nearest": 0.0, "gptq": 0.0}
    for seed in range(4):
        baseline, images = windowed(seed, **settings), torch.randn(200, 2, 9, 9)
        node = baseline.network.named["own"]
        x, statistics = feature_maps(baseline, images)["conv_relu"], statistics_of(baseline, images)
        asked = CompressionConfig(granularity=granularity, symmetry=symmetry)

        def outputs(bits: int, **changes: Any) -> Tensor:
            config = replace(asked, **changes).with_layer("own", bits=bits, sparsity=sparsity)  # noqa: B023
            own = compress(baseline, config, statistics).freeze().named["own"]  # noqa: B023
            return product(node, x, [own.tensors[0].weight()], own.bias)  # noqa: B023

        exact = outputs(32)
        for way in error:
            error[way] += (outputs(3, rounding=way) - exact).square().mean().item()
        kept = outputs(3, **LADDER).mean((0, 2, 3))
        torch.testing.assert_close(kept, exact.mean((0, 2, 3)), rtol=1e-3, atol=2e-3)
    assert error["gptq"] < error["nearest"]


@pytest.mark.parametrize("settings", [WINDOWS["grouped"], WINDOWS["depthwise"]], ids=["grouped", "depthwise"])
@pytest.mark.parametrize("sparsity", [None, 0.4])
def test_gptq_rounds_each_group_as_a_layer_of_its_own(settings: dict[str, Any], sparsity: float | None) -> None:
    baseline, images = windowed(**settings), torch.randn(60, 2, 9, 9)
    (layer,) = (own for own in baseline.layers if own.name == "own")
    x, window = feature_maps(baseline, images)["conv_relu"], layer.window
    assert window is not None
    config = CompressionConfig(rounding="gptq").with_layer("own", bits=3, sparsity=sparsity)
    found = compress(baseline, config, statistics_of(baseline, images)).freeze().named["own"].tensors[0]
    scale = quantization.weight_grid(baseline.weight(layer) * (1 if found.mask is None else found.mask), 3).scale
    assert torch.equal(found.scale, scale.half().float())
    rows, channels = layer.shape[0] // window.groups, layer.shape[1]
    for group in range(window.groups):
        own, read = slice(group * rows, (group + 1) * rows), slice(group * channels, (group + 1) * channels)
        _, second = low_rank.moments(x[:, read], (rows, *layer.shape[1:]), window._replace(groups=1))
        mask = None if found.mask is None else found.mask[own]
        weight = baseline.weight(layer)[own] * (1 if mask is None else mask)
        grid = quantization.Grid(found.scale[own], None)
        expected = quantization.gptq(weight, grid, 3, quantization.compensation(second), mask)
        torch.testing.assert_close(found.weight()[own], expected)


@pytest.mark.parametrize("settings", WINDOWS.values(), ids=WINDOWS)
def test_scores_by_inputs_are_of_what_each_weight_of_any_convolution_is_multiplied_with(
    settings: dict[str, Any],
) -> None:
    """|w| sqrt(E[x^2]), of the patches by hand; in a grouped convolution of the group's own channels."""
    baseline, images = windowed(**settings), torch.randn(50, 2, 9, 9)
    (layer,) = (own for own in baseline.layers if own.name == "own")
    window, x = layer.window, feature_maps(baseline, images)["conv_relu"]
    assert window is not None
    above, left, below, right = window.padding
    x = F.pad(x, (left, right, above, below))
    patches = F.unfold(x, window.kernel, window.dilation, 0, window.stride)
    rms = patches.square().mean((0, 2)).sqrt().reshape(window.groups, 1, -1)
    weight = baseline.weight(layer).reshape(window.groups, -1, rms.shape[-1])
    config = CompressionConfig(score="activation").with_layer("own", sparsity=0.5)
    mask = compress(baseline, config, statistics_of(baseline, images)).freeze().named["own"].tensors[0].mask
    assert mask is not None
    scores = (weight.abs() * rms).reshape(mask.shape)
    assert scores[mask].min() >= scores[~mask].max() * (1 - 1e-5)
    assert int(mask.sum()) == mask.numel() - round(0.5 * mask.numel())


def test_a_grouped_convolution_is_not_factored_and_says_so() -> None:
    baseline, images = windowed(**WINDOWS["grouped"]), torch.randn(20, 2, 9, 9)
    statistics = statistics_of(baseline, images)
    with pytest.raises(ConfigError, match=r"own is a convolution of 2 groups.*not factored. Give it rank 0"):
        compress(baseline, CompressionConfig().with_layer("own", rank=2), statistics)
    for config in (CompressionConfig(rank_share=0.5), CompressionConfig().with_layer("own", rank=DENSE)):
        assert compress(baseline, config, statistics).freeze().named["own"].rank is None
    for method in ("svd", "whitened"):
        assert set(statistics.decompositions(method)) == {"conv", "fc"}  # type: ignore[arg-type]
        assert set(calibration.not_decomposable(baseline.layers, method)) == {"own"}  # type: ignore[arg-type]
