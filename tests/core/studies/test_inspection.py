"""What is drawn of a grid is the grid, and the errors are those of the tensors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CNN_SHAPES, random_tensors
from torch.nn import functional as F

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.mathematics import quantization
from core.networks import calibration
from core.networks.models import Baseline
from core.studies import inspection


@pytest.fixture
def small(bench: Workbench) -> str:
    return bench.add_baseline(Baseline("small", random_tensors(CNN_SHAPES, 4)), "small", "loaded")


@pytest.mark.parametrize("symmetry", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("channel", [None, 3])
def test_a_weights_histogram_has_every_number_and_its_grid(
    bench: Workbench, small: str, symmetry: str, channel: int | None
) -> None:
    config = CompressionConfig(bits=3, clip="mse", symmetry=symmetry, sparsity=0.3)  # type: ignore[arg-type]
    found = inspection.weight_on_grid(inspection.look(bench, small, config), "fc1.weight", channel)
    assert found is not None
    (tensor,) = next(own for own in bench.network(small, config).layers if own.layer.name == "fc1").tensors
    plain = next(own for own in bench.network(small, CompressionConfig(sparsity=0.3)).layers if own.layer.name == "fc1")
    before, after = plain.tensors[0].weight(), tensor.weight()
    if channel is not None:
        before, after = before[channel], after[channel]
        codes = (after / tensor.scale[channel]).round().unique() * tensor.scale[channel]
        assert all(np.abs(found.points - float(code)).min() < 1e-3 for code in codes)
    kept = before != 0
    assert found.counts.sum() == kept.sum()
    assert len(found.points) == (7 if symmetry == "symmetric" else 8)
    assert found.error == pytest.approx(float((before - after).norm() / before.norm()), rel=1e-5)
    assert np.diff(found.points) == pytest.approx(found.step)
    assert set(np.round(found.before, 6)) <= set(np.round(before[kept].double().numpy(), 6))


def test_a_layers_output_error_is_that_of_its_outputs(bench: Workbench, small: str) -> None:
    images = bench.statistics(bench.baseline(small)).images
    tensors, x = bench.baseline(small).tensors, images
    for layer in bench.baseline(small).layers[:2]:
        weight, bias = (tensors[f"{layer.name}.{part}"] for part in ("weight", "bias"))
        x = F.max_pool2d(F.conv2d(x, weight, bias, padding="same").relu(), 2)
    x = x.flatten(1)
    for rounding in ("nearest", "gptq"):
        config = CompressionConfig(bits=3, rounding=rounding)  # type: ignore[arg-type]
        after = next(own for own in bench.network(small, config).layers if own.layer.name == "fc1").tensors[0].weight()
        before = bench.baseline(small).tensors["fc1.weight"]
        expected = float((x @ (before - after).T).norm() / (x @ before.T).norm())
        alone = inspection.only(replace(config, rounding="nearest", activation_bits=3), "fc1", config.rounding)
        by_rate = replace(config, rounding="nearest", rate_rounding=0.3)
        assert inspection.only(by_rate, "fc1", config.rounding) == alone
        for own in (config, alone):
            first, second = (inspection.output_error(bench, small, own, "fc1") for _ in range(2))
            assert first == pytest.approx(expected, rel=1e-3)
            assert second == first, "from the cache"


def test_a_signals_histogram_is_of_what_leaves_its_node(bench: Workbench, small: str) -> None:
    config = CompressionConfig(bits=4, activation_bits=3, clip="mse").with_layer("fc1", rank=4)
    seen = inspection.look(bench, small, config)
    for signal, width in (("conv1.output", 4 * 14 * 14), ("fc1.between", 4), ("fc1.output", 12)):
        found = inspection.signal_on_grid(seen, signal)
        assert found is not None
        assert found.counts.sum() == width * calibration.SIGNAL_IMAGES
        assert 0 <= found.clipped < 0.2
        assert 0 < found.error < 1
        assert len(found.points) == (4 if signal.endswith("between") else 8)
    weights_only, signals_only = CompressionConfig(bits=4), CompressionConfig(activation_bits=4)
    assert inspection.signal_on_grid(inspection.look(bench, small, weights_only), "fc1.output") is None
    assert inspection.weight_on_grid(inspection.look(bench, small, signals_only), "fc2.weight") is None


def test_the_parts_of_a_network_are_those_that_it_has(bench: Workbench, small: str) -> None:
    config = CompressionConfig(activation_bits=3).with_layer("fc1", rank=4)
    assert inspection.parts(inspection.look(bench, small, config)) == [
        *("conv1.weight", "conv1.output", "conv2.weight", "conv2.output"),
        *("fc1.first", "fc1.second", "fc1.between", "fc1.output"),
        "fc2.weight",
    ]
    per_channel, per_tensor = CompressionConfig(bits=4), CompressionConfig(bits=4, granularity="tensor")
    seen = [inspection.look(bench, small, own) for own in (per_channel, per_tensor)]
    assert [inspection.grids_of(own, "conv2.weight") for own in seen] == [6, 1]


def test_by_hand_is_the_same_as_the_operation() -> None:
    weight = np.array([[0.9, -0.1, 0.4], [0.03, -0.02, 0.04]])
    codes, near, scale, zero_point = inspection.quantize_by_hand(weight, 4, "channel", "asymmetric", "minmax")
    rebuilt = quantization.linear_dequantize(torch.tensor(codes), torch.tensor(scale), torch.tensor(zero_point))
    assert near == pytest.approx(rebuilt.numpy(), abs=1e-6)
    assert np.abs(near - weight).max() <= scale.max()
    rms = np.array([0.01, 3.0, 1.0])
    for score, gone in (("magnitude", [3, 4, 5]), ("lamp", [3, 4, 5]), ("activation", [0, 3, 5])):
        _, pruned, kept = inspection.prune_by_hand(weight, score, 0.5, rms)  # type: ignore[arg-type]
        assert np.flatnonzero(~kept).tolist() == np.flatnonzero(pruned == 0).tolist() == gone


def test_a_trained_network_is_shown_as_it_was_trained(
    bench: Workbench, few_training_images: None, tmp_path: Path
) -> None:
    from core.config import RecoveryConfig

    config = CompressionConfig(bits=3, recovery=RecoveryConfig(1, 0.01))
    bench.recover("mlp", config)
    found = inspection.weight_on_grid(inspection.look(bench, "mlp", config), "fc3.weight", 5)
    module = bench.module("mlp", config).named()["fc3"]
    assert found is not None
    assert found.step == pytest.approx(module.weights[0].encoder.scale[5].item())
    latent, acting = module.weights[0].weight[5].detach(), module.effective_weights()[0][5].detach()
    assert found.error == pytest.approx(float((latent - acting).norm() / latent.norm()), rel=1e-4)
