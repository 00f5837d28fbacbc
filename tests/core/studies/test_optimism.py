"""How much better a choice looks than it is, from what is kept of networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import train_on_few
from hypothesis import given
from hypothesis import strategies as st

from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.measuring.front import Goal, Point, no_optimism
from core.studies import optimism, tuning
from core.studies.optimism import Optimist, allowed, contenders

SURE = Goal(allowance=0.02, confidence=0.9)


def point(size: int, lost: float, error: float = 0.002) -> Point:
    low, high = -lost - 1.96 * error, -lost + 1.96 * error
    return Point("mlp", "0", CompressionConfig(), 0.9 - lost, -lost, low, high, 0.3, size, 10**6, "searched")


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-0.01, 0.06)), max_size=30))
def test_contenders_are_what_half_of_the_images_might_choose(places: list[tuple[int, float]]) -> None:
    points = [point(size, lost) for size, lost in places]
    found = contenders(points, SURE)
    best = SURE.best(points)
    assert best is None or best in found
    assert [own.bytes for own in found] == sorted(own.bytes for own in found)
    for own in found:
        assert SURE.lost(own) <= 0.02 + 3.01 * own.standard_error


def test_what_may_be_lost_leaves_room_for_what_is_promised() -> None:
    points = [point(10, 0.01), point(9, 0.03)]
    assert allowed(Goal(allowance=0.02), points, no_optimism) == 0.02
    assert allowed(SURE, [], no_optimism) == 0.02
    margin = SURE.lost(points[0]) - 0.01
    assert allowed(SURE, points, lambda point: 0.001) == pytest.approx(0.02 - margin - 0.001)
    assert allowed(SURE, [point(10, 0.03, 0.05)], no_optimism) == 0


@pytest.fixture
def few(taught: Path, bench: Workbench) -> tuple[str, list[Any]]:
    """A small network, and what is left of it at some sparsities, near which all of them lose about as much."""
    name = bench.load_file(taught.read_bytes(), "small")
    return name, [bench.evaluate(name, CompressionConfig(sparsity=place / 100)) for place in range(50, 70, 2)]


def test_the_best_of_many_is_flattered_and_one_alone_is_not(few: tuple[str, list[Any]], bench: Workbench) -> None:
    _, results = few
    sizes, allowance = [result.bytes for result in results], -results[5].comparison.difference + 0.01
    many = optimism.of_selection(results, sizes, allowance, 0.9)
    assert 0 < many < 0.02
    assert optimism.of_selection(results[:1], sizes[:1], allowance, 0.9) == 0
    points = [bench.point_of(result) for result in results]
    goal = Goal(allowance=round(allowance, 6), confidence=0.9)
    optimist = Optimist(bench, goal)
    assert 0 <= optimist.of(points)(points[0]) < 0.02
    assert optimist.of(points)(points[0]) == Optimist(bench, goal).of(points)(points[0])
    assert optimist.of([replace(own, sha256="elsewhere") for own in points])(points[0]) == 0, "nothing is known of them"
    assert Optimist(bench, Goal(allowance=0.01)).of(points) is no_optimism


def test_the_best_epoch_is_flattered_by_those_that_could_be_kept(
    few: tuple[str, list[Any]], bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    name, config = few[0], CompressionConfig(sparsity=0.5)
    assert optimism.of_training(bench, name, config) == 0
    trained = replace(config, recovery=RecoveryConfig(epochs=2, learning_rate=0.01))
    bench.recover(name, trained)
    result = bench.evaluate(name, trained)
    accuracies = iter([[0.80, 0.81, 0.80, 0.81, 0.80, 0.81], [0.99, 0.99, 0.99, 0.80, 0.70, 0.60]])

    def history(*about: Any) -> list[dict[str, float]]:
        seen = next(accuracies)
        return [{"epoch": epoch, "validation_accuracy": accuracy} for epoch, accuracy in enumerate(seen, 1)]

    monkeypatch.setattr(bench.trainings, "history", history)
    flattered = optimism.of_training(bench, name, trained)
    assert 0.002 < flattered < 0.01
    assert result.evaluation.images == 5_000
    stepped = replace(trained, recovery=replace(trained.recovery, schedule="iterative"))
    monkeypatch.setattr(bench.measurements, "known", lambda *about: result)
    assert optimism.of_training(bench, name, stepped) < 1e-9, "the epochs while it was still being pruned do not count"


def test_confidence_asks_for_a_milder_network_and_none_for_what_it_always_was(
    few: tuple[str, list[Any]], bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    name, plain = few[0], CompressionConfig()
    before = tuning.largest_one_shot(bench, name, plain, 0.05)
    sure = tuning.largest_one_shot(bench, name, plain, 0.05, confidence=0.9)
    flattered = tuning.largest_one_shot(bench, name, plain, 0.05, confidence=0.9, selection=0.01)
    assert flattered.sparsity < sure.sparsity < before.sparsity
    assert before.at_most is None
    assert "at_most" not in before.to_dict()
    assert sure.at_most <= 0.05
    assert -sure.point.difference < sure.at_most
    recovery, targets = RecoveryConfig(epochs=2, learning_rate=0.01), (0.3, 0.5, 0.9999)
    old = tuning.largest_iterative(bench, name, plain, recovery, 0.2, targets=targets)
    new = tuning.largest_iterative(bench, name, plain, recovery, 0.2, targets=targets, confidence=0.9)
    assert old.promises == ()
    assert len(new.promises) == len(new.runs)
    assert old.at_most is None
    assert (new.at_most is None) == (new.sparsity is None)
    assert new.at_most is None or new.at_most <= 0.2
    assert all(most > -run.difference for most, run in zip(new.promises, new.runs, strict=True))
    assert (new.sparsity or 0) <= (old.sparsity or 0)
    assert type(new).from_dict(new.to_dict()) == new
