"""Greedy ranks: nested steps, each measured, never above break-even, and the budget's answer among them."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from conftest import train_on_few

from core.bench.workbench import Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig
from core.machinery.stopping import Stopped
from core.mathematics import low_rank
from core.networks.models import Baseline
from core.studies import tuning
from core.studies.answers import Step


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, list[Step]]:
    bench = Workbench(tmp_path_factory.mktemp("tuning"))
    said: list[dict[str, Any]] = []
    steps = tuning.allocate_ranks(bench, "mlp", progress=said.append)
    shares = [event["done"] for event in said]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    bench.turns.close()
    return bench, steps


def test_each_step_takes_one_layer_further_and_is_what_the_workbench_measures(
    found: tuple[Workbench, list[Step]],
) -> None:
    bench, steps = found
    layers = {layer.name: layer for layer in bench.baseline("mlp").layers}
    assert steps[0].difference == 0
    assert steps[-1].difference <= -tuning.FAR_ENOUGH
    for before, after in pairwise(steps):
        old, new = (CompressionConfig.from_json(step.config) for step in (before, after))
        changed = [name for name in layers if old.layer(name) != new.layer(name)]
        assert changed == [after.layer]
        edge = low_rank.break_even_rank(*layers[after.layer].matrix_shape)
        was, now = (config.layer(after.layer).rank for config in (old, new))
        assert 1 <= now <= edge
        assert now == (int(was * tuning.SHRINK) if was else edge)
        assert after.bytes < before.bytes
    for step in steps[:: len(steps) // 4]:
        result = bench.evaluate("mlp", CompressionConfig.from_json(step.config))
        assert (result.evaluation.accuracy, result.bytes) == (step.accuracy, step.bytes)


def test_the_first_step_is_the_cheapest_of_all_first_steps(found: tuple[Workbench, list[Step]]) -> None:
    bench, steps = found
    dense, costs = CompressionConfig.from_json(steps[0].config), {}
    for layer in bench.baseline("mlp").layers:
        config = dense.with_layer(layer.name, rank=low_rank.break_even_rank(*layer.matrix_shape))
        result = bench.evaluate("mlp", config)
        costs[layer.name] = (result.evaluation.loss - steps[0].loss) / (steps[0].bytes - result.bytes)
    assert min(costs, key=costs.__getitem__) == steps[1].layer


def test_the_mlp_gets_five_times_smaller_within_a_point_without_training(found: tuple[Workbench, list[Step]]) -> None:
    _, steps = found
    step = tuning.within(steps, lost=0.01)
    assert step is not None
    assert steps[0].bytes / step.bytes > 5


def test_a_budget_is_answered_by_the_best_step_that_fits_it() -> None:
    steps = [
        Step("{}", None, 0.0, 0.9 + d, 0.3, d, size, "fc1")
        for d, size in ((0, 90), (0.01, 60), (-0.02, 50), (-0.01, 40))
    ]
    assert tuning.within(steps, lost=0.0) is steps[1]
    assert tuning.within(steps, lost=0.01) is steps[3]
    assert tuning.within(steps, size=55) is steps[3]
    assert tuning.within(steps, size=1_000) is steps[1]
    assert tuning.within(steps, size=10) is None
    assert tuning.within([], lost=1.0) is None


@pytest.mark.parametrize("score", ["magnitude", "lamp"])
def test_the_largest_sparsity_is_within_the_allowance_and_what_follows_is_not(
    found: tuple[Workbench, list[Step]], score: str
) -> None:
    bench, config = found[0], CompressionConfig(score=score)
    answer = tuning.largest_one_shot(bench, "mlp", config, allowance=0.01)
    points = {round(point.target * tuning.GRID): point for point in answer.points}
    best = round(answer.sparsity * tuning.GRID)
    assert points[best] is answer.point
    assert points[best].difference >= -0.01
    for place in range(best + 1, min(tuning.GRID, best + tuning.LOOK_ON) + 1):
        assert points[place].difference < -0.01
    result = bench.evaluate("mlp", replace(config, sparsity=answer.sparsity))
    assert (result.evaluation.accuracy, result.bytes) == (points[best].accuracy, points[best].bytes)
    assert answer.sparsity > 0.4


def test_an_allowance_of_everything_takes_every_weight(bench: Workbench) -> None:
    answer = tuning.largest_one_shot(bench, "mlp", CompressionConfig(), allowance=1.0)
    assert answer.sparsity == 1.0
    assert answer.point.sparsity == 1.0


def test_the_scan_prunes_each_layer_alone(bench: Workbench) -> None:
    said: list[dict[str, Any]] = []
    rows = tuning.sensitivity(bench, "mlp", CompressionConfig(), "sparsity", said.append)
    assert len(rows) == 4 * len(tuning.SHARES)
    row = next(row for row in rows if (row.layer, row.sparsity) == ("fc3", 0.9))
    alone = bench.evaluate("mlp", CompressionConfig(layers={"fc3": LayerConfig(sparsity=0.9)}))
    assert (row.accuracy, row.bytes) == (alone.evaluation.accuracy, alone.bytes)
    assert said[-1]["done"] == 1


def test_the_iterative_search_trains_the_middle_first_and_keeps_every_round(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    recovery, said = RecoveryConfig(epochs=2, learning_rate=0.01), []
    targets = (0.3, 0.5, 0.9999)
    answer = tuning.largest_iterative(bench, "mlp", CompressionConfig(), recovery, 0.05, said.append, targets=targets)
    assert [run.target for run in answer.runs] == [0.5, 0.9999]
    assert answer.sparsity == 0.5
    shares = [event["done"] for event in said if "done" in event]
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    for run in answer.runs:
        assert len(run.history) == 2
        assert run.history[-1]["sparsity"] == run.sparsity == pytest.approx(run.target, abs=1e-5)
        assert run.history[0]["sparsity"] < run.target
        measured = bench.evaluate("mlp", CompressionConfig.from_json(run.config))
        assert measured.evaluation.accuracy == run.accuracy
        assert measured.config.recovery.schedule == "iterative"
    worst = tuning.largest_iterative(bench, "mlp", CompressionConfig(), recovery, 0.0, targets=(0.9999,))
    assert worst.sparsity is None


def test_a_search_that_is_cancelled_stops_at_once(bench: Workbench) -> None:
    request = {"baseline": "mlp", "method": "svd", "allowance": 0.01, "score": "magnitude"}
    for kind in (tuning.ALLOCATION, tuning.ONE_SHOT, tuning.SCAN):
        with pytest.raises(Stopped):
            tuning.KINDS[kind].run(bench, request, lambda event: None, lambda: True)


def test_where_nothing_can_get_smaller_the_walk_ends(
    bench: Workbench, mlp: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little was lost by then."""
    monkeypatch.setattr(tuning, "FAR_ENOUGH", 2.0)
    name = bench.add_baseline(mlp, "small", "loaded")
    steps = tuning.allocate_bits(bench, name, CompressionConfig())
    config = CompressionConfig.from_json(steps[-1].config)
    assert {config.bits_of(layer.name) for layer in mlp.layers} == {2}
    assert len(steps) == 1 + 6 * len(mlp.layers)
