"""The assignment's experiments: each row is what the workbench measures, and the answers follow from the rows."""

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TRAINED_SHAPES, Laboratory, short_ways, untrained

from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError
from core.machinery.stopping import Stopped
from core.mathematics import costs
from core.networks.models import Baseline
from core.studies import assignment, reproduce, tuning
from core.studies.answers import AtBits, Configured, Judged, OnTestByClass


def measured(laboratory: Laboratory, row: Configured, split: str = "validation") -> Any:
    bench = Workbench(laboratory.cache)
    try:
        return bench.evaluate(laboratory.baseline, row.configuration, split)  # type: ignore[arg-type]
    finally:
        bench.turns.close()


def test_the_ladder_has_every_rung_at_every_width(laboratory: Laboratory) -> None:
    rows = laboratory.found[assignment.LADDER].rows
    assert len(rows) == len(assignment.RUNGS) * len(tuning.WIDTHS) * 2
    assert len({(row.rung, row.bits, row.activations) for row in rows}) == len(rows)
    for row in rows[::17]:
        config = CompressionConfig.from_json(row.config)
        assert config.bits == row.bits
        assert config.activation_bits == (row.bits if row.activations else None)
        result = measured(laboratory, row)
        assert (result.evaluation.accuracy, result.bytes) == (row.accuracy, row.bytes)
    for bits in (2, 3):
        best = assignment.best_rung(rows, bits)
        plain = [row for row in rows if row.activations and row.bits == bits]
        assert best.accuracy == max(row.accuracy for row in plain) > plain[0].accuracy


def test_every_number_of_bits_is_judged_before_and_after_training(laboratory: Laboratory) -> None:
    found = laboratory.found[assignment.QUANTIZATION]
    weights = sum(math.prod(shape) for shape in TRAINED_SHAPES.values())
    biases = sum(shape[0] for shape in TRAINED_SHAPES.values())
    assert [row.bits for row in found.rows] == [8, 6, 4, 3, 2]
    for row in found.rows:
        bits, before, after = row.bits, row.before, row.after
        config = CompressionConfig.from_json(after.config)
        assert config.bits == config.activation_bits == bits
        assert config.recovery == assignment.quantized_training(bits, 2)
        assert len(row.history) == config.recovery.epochs == 2 * {4: 2, 3: 3, 2: 3}.get(bits, 1)
        assert 0 <= row.kept <= config.recovery.epochs
        assert after.accuracy >= before.accuracy - 1e-3, "the network before training is an epoch like the others"
        assert CompressionConfig.from_json(before.config) == replace(config, recovery=None)
        assert before.accuracy == assignment.best_rung(found.ladder, bits).accuracy
        result = measured(laboratory, after, "test")
        assert result.evaluation.accuracy == after.test.accuracy
        assert after.test.interval[0] <= after.test.difference <= after.test.interval[1]
        recall = [own.recall for name, own in after.test.report.items() if "avg" not in name]
        assert sum(recall) / 10 == pytest.approx(after.test.accuracy)  # as many images of every class
        assert after.kb == pytest.approx((weights * bits + biases * 32) / 8 / 1024)
        assert after.bytes < after.kb * 1024
    assert found.kb == (weights + biases) * 4 / 1024


def test_the_fewest_bits_are_the_fewest_within_the_allowance() -> None:
    test = OnTestByClass(0.9, 0.3, 0.0, (0.0, 0.0), 0, 0, {})
    whole = Judged("{}", None, 0.0, 0.9, 0.3, 0.0, 1000, 1.0, 4.0, (0.0, 0.0), test)
    rows = [
        AtBits(bits, whole, whole, replace(whole, difference=-loss), None, None)
        for bits, loss in ((8, 0.0), (4, 0.002), (3, 0.012), (2, 0.1))
    ]
    assert assignment.fewest_bits(rows, 0.01) == rows[1]
    assert assignment.fewest_bits(rows, 0.2) == rows[3]
    assert assignment.fewest_bits(rows[2:], 0.01) is None


def test_bits_layer_by_layer_lose_one_at_a_time(laboratory: Laboratory) -> None:
    steps = laboratory.found[assignment.MIXED].steps
    before = CompressionConfig.from_json(steps[0].config)
    names = [name for name, _ in before.layers]
    assert [before.bits_of(name) for name in names] == [8, 8, 8, 8]
    assert before.activation_bits == 8
    for step in steps[1:]:
        config = CompressionConfig.from_json(step.config)
        lost = {name: before.bits_of(name) - config.bits_of(name) for name in names}
        assert {name for name, count in lost.items() if count} == {step.layer}
        assert lost[step.layer] == 1
        before = config
    last = measured(laboratory, steps[-1])
    assert last.evaluation.accuracy == steps[-1].accuracy
    assert steps[-1].difference <= -tuning.FAR_ENOUGH or all(before.bits_of(name) == 2 for name in names)


def test_each_layer_is_rounded_alone(laboratory: Laboratory) -> None:
    rows = laboratory.found[assignment.WIDTHS].rows
    assert len(rows) == 4 * len(tuning.WIDTHS)
    row = next(row for row in rows if (row.layer, row.bits) == ("fc3", 2))
    result = measured(laboratory, row)
    assert result.evaluation.accuracy == row.accuracy
    assert [layer.bits for layer in result.layers] == [32, 32, 2, 32]


def test_the_best_combination_is_the_smallest_that_fits(laboratory: Laboratory) -> None:
    found = laboratory.found[assignment.COMBINATION]
    rows = {row.way: row for row in found.rows}
    assert rows["channels"].chosen is None
    assert [run.target for run in rows["weights"].runs] == [0.6, 0.999]
    assert rows["weights"].chosen.target == 0.6
    assert rows["bits"].chosen.bytes < rows["weights"].chosen.bytes
    assert found.best.way == "bits"
    result = measured(laboratory, found.best, "test")
    assert result.evaluation.accuracy == found.best.test.accuracy


def test_the_ways_go_from_the_gentlest_to_the_hardest_and_fit_both_families(warm_bench: Workbench) -> None:
    for name in ("cnn", "mlp"):
        for way, configs in assignment.ways(8).items():
            plain = [replace(config, recovery=None, rounding="nearest") for config in configs[::2]]
            sizes = [warm_bench.bytes_of(name, config) for config in plain]
            assert sizes == sorted(sizes, reverse=True), (name, way)
            assert all(config.recovery is not None for config in configs)


def test_where_a_layer_has_too_many_inputs_the_experiments_do_without(
    warm_bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished = [*chain(*assignment.ways(8).values()), assignment.alike(8, "+ GPTQ")]
    assert all(assignment.feasible(warm_bench, "cnn", config) == config for config in wished)
    monkeypatch.setattr(costs, "MOMENTS", 2**20)
    smaller = Workbench(warm_bench.cache)  # a machine with less memory: what was refused before is remembered
    refused = [config for config in wished if smaller.refusal("cnn", config)]
    assert refused
    for config in refused:
        instead = assignment.feasible(smaller, "cnn", config)
        assert not smaller.refusal("cnn", instead)
        assert instead == replace(config, **assignment.PLAINER)


def test_a_later_step_destroys_what_an_earlier_one_made(laboratory: Laboratory) -> None:
    rows = {row.order: row for row in laboratory.found[assignment.ORDERS].rows}
    assert len(rows) == 13
    rank = min(TRAINED_SHAPES["fc2"]) // 4
    for order, row in rows.items():
        last = order.split(" → ")[-1]
        assert row.zeros >= 0.799 or last != "prune"
        assert row.levels <= 7 or last != "quantize"
        assert row.rank <= rank or last != "low rank"
    pruned_first, low_rank_last = rows["prune → quantize"], rows["prune → quantize → low rank"]
    assert pruned_first.zeros >= 0.799
    assert low_rank_last.zeros < 0.5
    assert low_rank_last.levels > 60
    assert rows["low rank → prune"].rank > rank
    own = rows[assignment.OWN_ORDER]
    assert (own.rank <= rank, own.zeros >= 0.799, own.levels <= 7) == (True, True, True)
    assert own.kb == min(row.kb for row in rows.values())
    assert rows["quantize → prune"].flips > 0


def test_no_order_is_tried_where_the_layer_cannot_be_factored(
    warm_bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, tried = untrained("separable"), list[Any]()
    mine = Baseline("mine", module.folded(), graph=module.network)
    name = warm_bench.add_baseline(mine, "mine", "loaded")
    monkeypatch.setattr(Workbench, "composed", lambda self, *asked: tried.append(asked))
    with pytest.raises(ConfigError, match="it is not factored"):
        assignment.orders(warm_bench, name, next(layer.name for layer in mine.layers if layer.groups > 1))
    assert not tried


def test_the_steps_are_those_of_the_laws() -> None:
    steps = assignment.order_steps(0.5, 2, 0.5)
    weight = torch.randn(8, 6)
    assert (steps["prune"](weight) == 0).sum() == 24
    assert all(len(row.unique()) <= 3 for row in steps["quantize"](weight))
    assert torch.linalg.matrix_rank(steps["low rank"](weight)) == 3


@pytest.mark.parametrize("kind", [kind for kind in assignment.KINDS if kind != assignment.CHANNELS])
def test_an_experiment_that_is_cancelled_stops_at_once(
    bench: Workbench, taught: Path, kind: str, few_training_images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "ways", short_ways)
    about = {"rung": "+ GPTQ", "activations": 8, "epochs": 1, "allowance": 0.01, "layer": "fc2"}
    request = {"baseline": str(taught), **about, "sparsity": 0.5, "bits": 4, "share": 0.5}
    with pytest.raises(Stopped):
        assignment.KINDS[kind].run(bench, request, lambda event: None, lambda: True)


@pytest.mark.usefixtures("few_training_images")
def test_the_pruning_half_is_one_report_with_its_verdict_on_test(
    bench: Workbench, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(taught)
    monkeypatch.setattr(tuning, "TARGETS", (0.6,))
    monkeypatch.setattr(reproduce, "ROUNDS", 3)
    found = assignment.pruning_half(bench, name, 0.02, epochs=2)
    assert len(found.one_shot) == 6
    best = max(found.one_shot, key=lambda answer: answer.sparsity)
    config = CompressionConfig.from_json(best.points[best.chosen].config)
    assert found.test["one-shot"].accuracy == bench.evaluate(name, config, "test").evaluation.accuracy
    whole, zeros, *halves = found.channels
    assert zeros.latency.multiply_accumulates == whole.latency.multiply_accumulates
    assert len(halves) == 4
    for row in halves:
        assert row.latency.multiply_accumulates < 0.6 * whole.latency.multiply_accumulates
        assert row.parameters < 0.6 * whole.parameters
        config = CompressionConfig.from_json(row.config)
        assert config.channel_share == 0.5
        assert bench.evaluate(name, config).evaluation.accuracy == row.after.accuracy
        before = bench.evaluate(name, replace(config, recovery=None))
        assert (before.evaluation.accuracy, before.bytes) == (row.before.accuracy, row.bytes)
