"""Rate-distortion rounding of networks: after all else, and after a training that knows nothing of it."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import logits

from core.__main__ import _parser, configuration
from core.bench import keys
from core.bench.workbench import Workbench
from core.config import (
    CompressionConfig,
    ConfigError,
    RecoveryConfig,
    TrainingConfig,
    from_query,
    to_arguments,
    to_query,
)
from core.datasets import Split
from core.formats import footprint, interchange, packed
from core.measuring.evaluation import evaluate
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork
from core.portable import loader

PLAIN = CompressionConfig(bits=4, clip="mse", rounding="gptq", bias_correction=True)
ROUNDED = replace(PLAIN, rate_rounding=0.1)


def codes(stored: StoredNetwork) -> list[torch.Tensor]:
    return [tensor.values for layer in stored.layers for tensor in layer.tensors]


@pytest.mark.parametrize("more", [{}, {"symmetry": "asymmetric"}, {"granularity": "tensor"}, {"rank_share": 0.5}])
def test_files_are_smaller_the_larger_lambda_is(
    baseline: Baseline, statistics: Statistics, more: dict[str, object]
) -> None:
    configs = [replace(PLAIN, **more, rate_rounding=weight) for weight in (0.0, 0.05, 0.5)]
    sizes = [footprint.footprint(compress(baseline, config, statistics).freeze()).total for config in configs]
    assert sizes[2] < sizes[1] < sizes[0]


def test_a_lambda_of_nothing_leaves_every_byte(baseline: Baseline, statistics: Statistics) -> None:
    plain, none = (compress(baseline, each, statistics).freeze() for each in (PLAIN, replace(ROUNDED, rate_rounding=0)))
    assert packed.pack(plain).content == packed.pack(none).content
    float32 = compress(baseline, CompressionConfig(rate_rounding=0.1), statistics).freeze()
    assert all(layer.tensors[0].weight().equal(baseline.weight(layer.layer)) for layer in float32.layers)


def test_pruned_weights_stay_zero(baseline: Baseline, statistics: Statistics) -> None:
    before, after = (compress(baseline, replace(each, sparsity=0.6), statistics).freeze() for each in (PLAIN, ROUNDED))
    for one, other in zip(before.layers, after.layers, strict=True):
        assert torch.equal(one.tensors[0].mask, other.tensors[0].mask)
        assert not other.tensors[0].values[~other.tensors[0].mask].any()


def test_what_is_evaluated_is_what_files_hold(baseline: Baseline, statistics: Statistics, split: Split) -> None:
    stored = compress(baseline, replace(ROUNDED, activation_bits=8), statistics).freeze()
    content = packed.pack(stored).content
    read = packed.unpack(content)
    assert read.config == stored.config
    expected = evaluate(stored, split)
    assert (evaluate(read, split).predictions == expected.predictions).all()
    again = interchange.from_safetensors(*interchange.to_safetensors(stored))
    assert (evaluate(again, split).predictions == expected.predictions).all()
    read_alone = loader.load(content).logits(split.images[:50].numpy()).argmax(1)
    assert sum(read_alone == expected.predictions[:50].numpy()) > 47  # other sums in another order


def test_it_is_said_in_json_in_links_and_on_the_command_line() -> None:
    assert "rate_rounding" not in PLAIN.to_json()
    assert json.loads(ROUNDED.to_json())["rate_rounding"] == 0.1
    assert CompressionConfig.from_json(ROUNDED.to_json()) == ROUNDED
    assert to_query(ROUNDED)["rdo"] == "0.1"
    assert from_query(to_query(ROUNDED), ()) == (ROUNDED, [])
    options = _parser().parse_args(["evaluate", *to_arguments(ROUNDED)])
    assert configuration(options) == ROUNDED
    with pytest.raises(ConfigError, match="rate_rounding"):
        CompressionConfig(rate_rounding=2)


@pytest.fixture
def trained(tmp_path: object) -> tuple[Workbench, str, CompressionConfig]:
    """A small network of the digits, trained at 4 bits."""
    bench = Workbench(tmp_path)  # type: ignore[arg-type]
    small = bench.train(TrainingConfig("mlp", 12, data="digits", widths=((24,),)))
    name = bench.add_baseline(small, "small", "trained")
    config = replace(PLAIN, activation_bits=8, recovery=RecoveryConfig(2))
    bench.recover(name, config)
    return bench, name, config


def test_what_was_trained_is_rounded_at_once(
    trained: tuple[Workbench, str, CompressionConfig], tmp_path: object
) -> None:
    bench, name, config = trained
    rounded, baseline = replace(config, rate_rounding=0.2), bench.baseline(name)
    assert keys.recovery(baseline, rounded) == keys.recovery(baseline, config)
    assert keys.measurement(baseline, rounded, "test", "") != keys.measurement(baseline, config, "test", "")
    assert bench.history(name, rounded) == bench.history(name, config)
    before, after = bench.evaluate(name, config), bench.evaluate(name, rounded)
    assert after.bytes < before.bytes
    assert after.evaluation.accuracy > before.evaluation.accuracy - 0.1
    content = bench.file_of(name, rounded)
    assert len(content) == after.bytes
    assert packed.unpack(content).config == rounded
    assert torch.equal(
        logits(bench.network(name, rounded), bench.datasets.split(baseline.images, "validation").inputs[:50]),
        logits(packed.unpack(content), bench.datasets.split(baseline.images, "validation").inputs[:50]),
    )


def test_where_only_its_file_came_it_is_rounded_to_the_same(
    trained: tuple[Workbench, str, CompressionConfig], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bench, name, config = trained
    rounded = replace(config, rate_rounding=0.2)
    there = Workbench(tmp_path_factory.mktemp("there"))
    other = there.adopt_baseline(bench.baseline_file(name), dict(bench.baseline(name).info), "small")
    there.adopt(other, rounded, bench.file_of(name, config), bench.history(name, config))
    assert there.file_of(other, config) == bench.file_of(name, config)
    assert there.file_of(other, rounded) == bench.file_of(name, rounded)
