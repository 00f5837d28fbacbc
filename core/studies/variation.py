"""What a search over families may choose of a student, and which choice is tried next: a neighbour of the best."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from core.measuring.front import Goal
from core.studies.trials import measured

FACTORS = (0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
TILTS, DEEPER, BITS = (0.7, 0.85, 1.0, 1.2), (-1, 0, 1), (2, 3, 4)
PRICES = (0.6e-6, 0.85e-6, 1.2e-6, 1.7e-6, 2.4e-6, 3.4e-6, 4.8e-6)
"""Each in ascending order: all widths times a factor; later stages narrower or wider; layers in each stage more or
less; bits of the weights; the price of a bit of the file in the loss."""

LARGER = {"factor": 1, "bits": 1, "deeper": 1, "price": -1}
"""Which way a choice goes that makes a student larger, and more accurate."""

STOPPED = "stopped"
"""Attribute of a trial that was stopped on its way, and is to be begun again."""

Chosen = dict[str, Any]


def next_choice(study: optuna.Study, goal: Goal, models: Sequence[str], dice: random.Random) -> Chosen | None:
    """What was stopped on its way; else a neighbour, never tried, of the best student that has one, larger and more
    accurate where it misses a floor, smaller where it misses a size. None where nothing around any of them is left."""
    trials = [(trial, _chosen(trial)) for trial in study.get_trials(deepcopy=False)]
    ended = [chosen for trial, chosen in trials if not trial.user_attrs.get(STOPPED)]
    for trial, chosen in trials:
        if trial.user_attrs.get(STOPPED) and chosen not in ended:
            return chosen
    ranked = sorted(measured(study), key=lambda pair: pair[0].value or 0.0)
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
