"""A promise is kept as often as it says, in worlds whose true losses are known."""

from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.mathematics import promise
from core.mathematics.promise import chosen, margin, most_lost, optimism, optimism_of_epochs, smallest, standard_error

ALLOWANCE, IMAGES, CANDIDATES, WORLDS = 0.01, 1_000, 40, 200
SIZES = np.arange(CANDIDATES, 0, -1, dtype=float)
"""Candidates from the mildest to the strongest."""


def world(dice: np.random.Generator, images: int, true: np.ndarray, alike: float = 0.5) -> np.ndarray:
    """Flips of candidates with these true losses, (m, images): 2 % gained; an image that one candidate loses, others
    are likely to lose, too."""
    common, own = dice.normal(size=(1, images)), dice.normal(size=(len(true), images))
    hardness = alike**0.5 * common + (1 - alike) ** 0.5 * own
    lost = hardness > np.array([NormalDist().inv_cdf(1 - p) for p in 0.02 + true])[:, None]
    gained = hardness < NormalDist().inv_cdf(0.02)
    return (lost.astype(np.int8) - gained).astype(np.int8)


def by_margin_alone(flips: np.ndarray) -> int | None:
    """What is chosen where nobody thinks of the luck of the best."""
    margins = [margin(error, 0.9) for error in flips.std(1) / IMAGES**0.5]
    return max((place for place, row in enumerate(flips) if row.mean() + margins[place] <= ALLOWANCE), default=None)


@cache
def rates() -> dict[str, float]:
    """How often new images kept the allowance, by the way of choosing."""
    ways: dict[str, Callable[[np.ndarray], int | None]] = {
        "plain": lambda flips: smallest(flips, SIZES, ALLOWANCE),
        "margin": by_margin_alone,
        "promise": lambda flips: smallest(flips, SIZES, ALLOWANCE, 0.9),
    }
    kept, dice = {way: [] for way in ways}, np.random.default_rng(0)
    for _ in range(WORLDS):
        true = np.sort(dice.uniform(-0.015, 0.03, CANDIDATES))
        flips = world(dice, IMAGES, true)
        for way, choose in ways.items():
            place = choose(flips)
            if place is not None:
                kept[way].append(world(dice, IMAGES, true[place : place + 1]).mean() <= ALLOWANCE + 1e-12)
    assert all(len(each) > WORLDS // 2 for each in kept.values())
    return {way: float(np.mean(each)) for way, each in kept.items()}


def test_the_best_of_many_breaks_its_word_and_a_promise_is_kept() -> None:
    plain, alone, promised = (rates()[way] for way in ("plain", "margin", "promise"))
    assert plain < 0.5
    assert promised >= 0.88
    assert promised > alone


@given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 1_000))
def test_the_standard_error_is_that_of_the_mean_of_the_flips(lost: int, gained: int, images: int) -> None:
    flips = np.array([1] * lost + [-1] * gained + [0] * (images - lost - gained))
    assert standard_error(lost, gained, images) == pytest.approx(flips.std() / images**0.5)


def test_the_margin_covers_the_difference_of_two_samples_as_often_as_it_says() -> None:
    dice, confidence, images = np.random.default_rng(1), 0.9, 1_000
    for new in (images, 4 * images):
        first, second = (dice.binomial(size, 0.05, 20_000) / size for size in (images, new))
        error = standard_error(50, 0, images)
        covered = second - first <= margin(error, confidence, images / new)
        assert covered.mean() == pytest.approx(confidence, abs=0.015)


@given(st.floats(0, 0.05), st.floats(1e-4, 0.01), st.floats(0, 0.01))
def test_more_confidence_promises_less_and_none_promises_nothing(loss: float, error: float, flattered: float) -> None:
    bounds = [most_lost(loss, error, confidence, flattered) for confidence in (0.6, 0.8, 0.9, 0.99)]
    assert bounds == sorted(bounds)
    assert bounds[0] > loss
    assert most_lost(loss, error, None, flattered) == loss


def test_the_smallest_within_its_limit_is_chosen_else_the_nearest() -> None:
    sizes, limits = np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.1, 0.3])
    losses = np.array([[0.1, 0.11, 0.4], [0.0, 0.1, 0.3], [0.5, 0.2, 0.5]])
    assert chosen(losses, sizes, limits).tolist() == [0, 1, 1]


def test_one_candidate_has_no_luck_and_many_have_more() -> None:
    dice = np.random.default_rng(2)

    def of(count: int) -> float:
        flips = world(dice, IMAGES, np.full(count, 0.01))
        return optimism(flips, SIZES[:count], np.full(count, ALLOWANCE))

    assert of(1) == 0
    few, many = (np.mean([of(count) for _ in range(20)]) for count in (2, 40))
    assert 0 <= few < many < 0.02


def test_the_optimism_of_the_selection_is_about_what_is_lost_by_it() -> None:
    """The most accurate of equally good candidates: the expected maximum of their noise, which is known here."""
    dice, true = np.random.default_rng(3), np.full(20, 0.02)
    seemed, estimated = [], []
    for _ in range(60):
        flips = world(dice, IMAGES, true)
        seemed.append(0.02 - flips.mean(1).min())
        estimated.append(optimism(flips, np.ones(20), np.full(20, -1.0)))
    assert np.mean(estimated) == pytest.approx(np.mean(seemed), rel=0.15)


def test_the_best_epoch_looks_better_where_many_are_alike() -> None:
    dice = np.random.default_rng(4)
    flat = [optimism_of_epochs(0.9 + dice.normal(0, 0.002, 12), 5_000) for _ in range(50)]
    assert np.mean(flat) == pytest.approx(0.002 * 1.63, rel=0.25)  # the expected maximum of 12 normal numbers
    assert optimism_of_epochs([0.5, 0.6, 0.7, 0.8], 5_000) < 1e-4  # only the last could be the best
    assert optimism_of_epochs([0.9], 5_000) == optimism_of_epochs([], 5_000) == 0
    assert optimism_of_epochs([0.9, 0.9, 0.9], 5_000) == 0


def test_the_seed_decides_alone() -> None:
    flips = world(np.random.default_rng(5), IMAGES, np.linspace(0, 0.02, 10))
    once, again = (optimism(flips, SIZES[:10], np.full(10, ALLOWANCE)) for _ in range(2))
    assert once == again
    assert promise.HALVINGS >= 100


def test_without_confidence_the_choice_is_what_it_always_was() -> None:
    flips = world(np.random.default_rng(6), IMAGES, np.linspace(0, 0.03, CANDIDATES))
    fits = [place for place, row in enumerate(flips) if row.sum() <= ALLOWANCE * IMAGES]
    assert smallest(flips, SIZES, ALLOWANCE) == max(fits)
    assert smallest(flips, SIZES, -1.0) is smallest(flips, SIZES, -1.0, 0.9) is None


def test_more_confidence_chooses_no_smaller_file() -> None:
    flips = world(np.random.default_rng(7), IMAGES, np.linspace(0, 0.03, CANDIDATES))
    places = [smallest(flips, SIZES, ALLOWANCE, confidence) for confidence in (None, 0.6, 0.8, 0.9, 0.95)]
    known = [-1 if place is None else place for place in places]
    assert known == sorted(known, reverse=True)
