"""What a search over families may choose of a student, which choice is tried next: a neighbour of the best, and who is
not worth the rest of its training."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from core.measuring.front import Goal
from core.studies.trials import HISTORY, first, measured

FACTORS = (0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
TILTS, DEEPER, BITS = (0.7, 0.85, 1.0, 1.2), (-1, 0, 1), (2, 3, 4)
PRICES = (0.6e-6, 0.85e-6, 1.2e-6, 1.7e-6, 2.4e-6, 3.4e-6, 4.8e-6)
"""Each in ascending order: all widths times a factor; later stages narrower or wider; layers in each stage more or
less; bits of the weights; the price of a bit of the file in the loss."""

LARGER = {"factor": 1, "bits": 1, "deeper": 1, "price": -1}
"""Which way a choice goes that makes a student larger, and more accurate."""

STOPPED, WEIGHTS = "stopped", "weights"
"""Attributes of a trial: that it was stopped on its way, and is to be begun again; how many weights its student has."""

PER_FACTOR = 0.01
"""Accuracy, a fraction, that a student wins with e times its bytes, roughly."""

JUDGED, BEHIND = (0.5, 0.7), 1.5
"""Between these shares of its training on the grids, given up is who has cost so many times what the best student had
by then: half of the time is saved, and a good one may still be behind by 0.4 points, which is a factor of e^0.4. Later
the price of some is steered, and their learning rate begins anew: then nothing can be compared."""

Chosen = dict[str, Any]


def next_choice(
    study: optuna.Study, goal: Goal, models: Sequence[str], dice: random.Random, last: bool = False
) -> Chosen | None:
    """What was stopped on its way; at last the best student once more, for the next worker one that differs from it in
    price or width; else a neighbour, never tried, of the best that has one, larger and more accurate where it misses a
    floor, smaller where it misses a size. None where nothing around any of them is left."""
    trials = [(trial, _chosen(trial)) for trial in study.get_trials(deepcopy=False)]
    ended = [chosen for trial, chosen in trials if not trial.user_attrs.get(STOPPED)]
    for trial, chosen in trials:
        if trial.user_attrs.get(STOPPED) and chosen not in ended:
            return chosen
    ranked = sorted(measured(study), key=lambda pair: pair[0].value or 0.0)
    if last and ranked:
        best = dict(ranked[0][0].params)
        every = neighbours(best, models)
        near = (each for each in every if each["price"] != best["price"] or each["factor"] != best["factor"])
        for again in (best, *near):
            if first(study, f"again {sorted(again.items())}"):
                return again
    ways = [(trial, 0 if goal.met_by(point) else 1 if goal.size is None else -1) for trial, point in ranked]
    for trial, way in [*ways, *((trial, 0) for trial, _ in ranked)]:
        fresh = [each for each in neighbours(trial.params, models, way) if each not in ended]
        if fresh:
            return dice.choice(fresh)
    return None


def _chosen(trial: FrozenTrial) -> Chosen:
    """What it drew, or is to draw."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def neighbours(chosen: Chosen, models: Sequence[str], way: int = 0) -> Iterator[Chosen]:
    """The same choices but for one, which is the next larger or smaller, or another family. way : 1 where the student
    is to be larger, and more accurate, -1 where smaller, 0 for all"""
    values: dict[str, Sequence[Any]] = {
        "model": models, "factor": FACTORS, "tilt": TILTS, "deeper": DEEPER, "bits": BITS, "price": PRICES,
    }  # fmt: skip
    for name, every in values.items():
        place = every.index(chosen[name])
        near = set(range(len(every))) - {place} if name == "model" else {place - 1, place + 1} & set(range(len(every)))
        aimed = {place + way * LARGER[name]} if name in LARGER else set()
        yield from ({**chosen, name: every[at]} for at in sorted(near & aimed if way else near))


def for_the_floor(size: float, short: float) -> float:
    """What a student needs about that has all of a floor of accuracy: size e^(short / `PER_FACTOR`), short : what it
    lacks, a fraction."""
    return size * math.exp(max(0.0, short) / PER_FACTOR)


def outdone(study: optuna.Study, goal: Goal, weights: int, event: dict[str, Any]) -> bool:
    """Whether a training on the grids has cost `BEHIND` times what the best student's had by the same share of it: bits
    for a floor, errors for a size.

    weights : of the student; event : its last epoch, with "figures"
    """
    share, ended = event["epoch"] / event["epochs"], measured(study)
    best, point = min(ended, key=lambda pair: pair[0].value or 0.0, default=(None, None))
    if best is None or point is None or WEIGHTS not in best.user_attrs or not JUDGED[0] <= share <= JUDGED[1]:
        return False  # nobody has ended, or in an earlier version
    if goal.floor is None and not goal.met_by(point):
        return False
    history = json.loads(best.user_attrs[HISTORY])
    then = history[max(0, round(share * len(history)) - 1)]
    before = _cost(then, best.user_attrs[WEIGHTS], goal.floor)
    return _cost(event["figures"], weights, goal.floor) > BEHIND * before


def _cost(figures: dict[str, Any], weights: int, floor: float | None) -> float:
    """Of an epoch."""
    accuracy = figures["validation_accuracy"]
    if floor is None:
        return float(1 - accuracy)
    return for_the_floor(figures["bits_per_weight"] * weights, floor - accuracy)
