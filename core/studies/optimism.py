"""How much better a choice looks than it is, from what is kept of networks: which images each has right, and the
accuracy after each epoch. The test images are not asked. The mathematics is `core.mathematics.promise`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from core.bench.workbench import Result, Workbench
from core.config import CompressionConfig
from core.mathematics import promise
from core.measuring.front import Goal, Optimism, Point, no_optimism
from core.networks import compression

MOST = 128
"""Candidates that the choice is made of again, the likeliest first."""

SURE = 3.0
"""By more standard errors half of the images does not change what the others say: it strays from all of them by one."""


def of_selection(results: Sequence[Result], sizes: Sequence[float], allowance: float, confidence: float) -> float:
    """Of the smallest of these networks that loses at most `allowance` with this confidence, a fraction.

    sizes : what it is the smallest of, one for each network, all of which saw the same images
    """
    if len(results) < 2:
        return 0.0
    flips = np.stack(
        [result.baseline.right.numpy().astype(np.int8) - result.evaluation.right.numpy() for result in results]
    )
    margins = [promise.margin(result.comparison.standard_error, confidence) for result in results]
    return promise.optimism(flips.astype(np.int8), np.array(sizes, float), allowance - np.array(margins))


def of_training(bench: Workbench, name: str, config: CompressionConfig) -> float:
    """Of the best epoch of a recovery, a fraction; 0 where nothing was trained, or its epochs are not known here."""
    history = bench.history(name, config) if config.recovery is not None else None
    known = bench.known(name, config)
    if not history or known is None or config.recovery is None:
        return 0.0
    settled = compression.PRUNING_SHARE if config.recovery.schedule == "iterative" else 0.0
    kept = [epoch for epoch in history if epoch["epoch"] / len(history) > settled]
    return promise.optimism_of_epochs([epoch["validation_accuracy"] for epoch in kept], known.evaluation.images)


def most_lost(bench: Workbench, name: str, result: Result, confidence: float, selection: float) -> float:
    """What a network loses at most on new images. selection : the optimism of having picked it"""
    flattered = selection + of_training(bench, name, result.config)
    change = result.comparison
    return promise.most_lost(-change.difference, change.standard_error, confidence, flattered)


@dataclass(eq=False)
class Optimist:
    """Knows of points how much better they look, for a goal; what it found out once it remembers."""

    bench: Workbench
    goal: Goal
    _selections: dict[tuple[Point, ...], float] = field(default_factory=dict)
    _trainings: dict[Point, float] = field(default_factory=dict)

    def of(self, points: Iterable[Point]) -> Optimism:
        """For a choice among these points. Those whose predictions are not here, or on other images, count for
        nothing."""
        if self.goal.confidence is None:
            return no_optimism
        rivals = tuple(contenders(points, self.goal))
        if rivals not in self._selections:
            self._selections[rivals] = self._selection(rivals, self.goal.confidence)
        selection = self._selections[rivals]
        return lambda point: selection + self._training(point)

    def _selection(self, rivals: Iterable[Point], confidence: float) -> float:
        names = self._names
        found = (self.bench.known(names[point.sha256], point.config) for point in rivals if point.sha256 in names)
        results = [result for result in found if result is not None]
        alike = [result for result in results if result.evaluation.images == results[0].evaluation.images]
        return of_selection(alike, [result.bytes for result in alike], self.goal.allowance or 0.0, confidence)

    def _training(self, point: Point) -> float:
        if point not in self._trainings:
            name = self._names.get(point.sha256) if point.recovered else None
            self._trainings[point] = 0.0 if name is None else of_training(self.bench, name, point.config)
        return self._trainings[point]

    @cached_property
    def _names(self) -> dict[str, str]:
        """Of the baselines that are known here, by their weights."""
        return {self.bench.profile(card.id).sha256: card.id for card in self.bench.cards()}


def contenders(points: Iterable[Point], goal: Goal) -> list[Point]:
    """Those that half of the images might choose: no larger than what surely meets the goal, and not surely beyond it;
    at most `MOST`, the smallest files first."""
    likely: list[tuple[float, Point]] = []
    for point in sorted(points, key=lambda point: (point.bytes, -point.accuracy)):
        over, error = goal.lost(point) - (goal.allowance or 0.0), point.standard_error
        if over <= SURE * error:
            likely.append((over / max(error, 1e-9), point))
        if over <= -SURE * error:
            break
    return sorted(
        (point for _, point in sorted(likely, key=lambda pair: pair[0])[:MOST]), key=lambda point: point.bytes
    )


def allowed(goal: Goal, points: Sequence[Point], optimism: Optimism) -> float:
    """What a network may lose on validation so that the goal is met, about: the allowance less what the promise adds to
    the loss of the point that is nearest to it."""
    allowance = goal.allowance or 0.0
    if goal.confidence is None:
        return allowance
    near = min(points, key=lambda point: abs(goal.lost(point) - allowance), default=None)
    return allowance if near is None else max(0.0, allowance - goal.lost(near, optimism) - near.difference)
