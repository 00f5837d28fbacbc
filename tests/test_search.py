"""Greedy ranks: nested steps, each measured, never above break-even, and the budget's answer among them."""

import json
from itertools import pairwise
from typing import Any

import pytest

from core import low_rank, search
from core.config import CompressionConfig
from core.jobs import Cancelled
from core.workbench import Workbench


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, list[dict[str, Any]]]:
    bench = Workbench(tmp_path_factory.mktemp("search"))
    said: list[dict[str, Any]] = []
    steps = search.allocate_ranks(bench, "mlp", progress=said.append)
    shares = [event["done"] for event in said]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    bench.turns.close()
    return bench, json.loads(json.dumps(steps))


def test_each_step_takes_one_layer_further_and_is_what_the_workbench_measures(
    found: tuple[Workbench, list[dict[str, Any]]],
) -> None:
    bench, steps = found
    layers = {layer.name: layer for layer in bench.baseline("mlp").layers}
    assert steps[0]["difference"] == 0
    assert steps[-1]["difference"] <= -search.FAR_ENOUGH
    for before, after in pairwise(steps):
        old, new = (CompressionConfig.from_json(step["config"]) for step in (before, after))
        changed = [name for name in layers if old.layer(name) != new.layer(name)]
        assert changed == [after["layer"]]
        edge = low_rank.break_even_rank(*layers[after["layer"]].matrix_shape)
        assert 1 <= after["rank"] <= edge
        was = old.layer(after["layer"]).rank
        assert after["rank"] == (int(was * search.SHRINK) if was else edge)
        assert after["bytes"] < before["bytes"]
    for step in steps[:: len(steps) // 4]:
        result = bench.evaluate("mlp", CompressionConfig.from_json(step["config"]))
        assert (result.evaluation.accuracy, result.bytes) == (step["accuracy"], step["bytes"])


def test_the_first_step_is_the_cheapest_of_all_first_steps(found: tuple[Workbench, list[dict[str, Any]]]) -> None:
    bench, steps = found
    dense, costs = CompressionConfig.from_json(steps[0]["config"]), {}
    for layer in bench.baseline("mlp").layers:
        config = dense.with_layer(layer.name, rank=low_rank.break_even_rank(*layer.matrix_shape))
        result = bench.evaluate("mlp", config)
        costs[layer.name] = (result.evaluation.loss - steps[0]["loss"]) / (steps[0]["bytes"] - result.bytes)
    assert min(costs, key=costs.__getitem__) == steps[1]["layer"]


def test_the_mlp_gets_five_times_smaller_within_a_point_without_training(
    found: tuple[Workbench, list[dict[str, Any]]],
) -> None:
    _, steps = found
    step = search.within(steps, lost=0.01)
    assert step is not None
    assert steps[0]["bytes"] / step["bytes"] > 5


def test_a_budget_is_answered_by_the_best_step_that_fits_it() -> None:
    steps = [
        {"difference": d, "accuracy": 0.9 + d, "bytes": b} for d, b in ((0, 90), (0.01, 60), (-0.02, 50), (-0.01, 40))
    ]
    assert search.within(steps, lost=0.0) is steps[1]
    assert search.within(steps, lost=0.01) is steps[3]
    assert search.within(steps, size=55) is steps[3]
    assert search.within(steps, size=1_000) is steps[1]
    assert search.within(steps, size=10) is None
    assert search.within([], lost=1.0) is None


def test_a_search_that_is_cancelled_stops_at_once(bench: Workbench) -> None:
    request = {"baseline": "mlp", "method": "svd", "allowance": 0.01, "score": "magnitude"}
    for kind in (search.ALLOCATION, search.ONE_SHOT, search.SCAN):
        with pytest.raises(Cancelled):
            search.KINDS[kind](bench, request, lambda event: None, lambda: True)
