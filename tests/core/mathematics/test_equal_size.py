"""Curves are compared only where both are, and a mean of few values is as sure as Student's t says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core.mathematics.equal_size import accuracy_at, common_range, mean_interval

SIZES = st.floats(100, 1e6)
CURVES = st.lists(st.tuples(SIZES, st.floats(0, 1)), min_size=2, max_size=6, unique_by=lambda point: point[0])


@given(st.floats(-0.1, 0.1), st.floats(0, 1), st.lists(SIZES, min_size=2, max_size=6, unique=True), st.floats(0, 1))
def test_a_line_in_the_logarithm_of_the_bytes_is_met_everywhere(
    slope: float, start: float, sizes: list[float], share: float
) -> None:
    curve = [(size, start + slope * math.log(size)) for size in sizes]
    place = min(max(min(sizes) ** (1 - share) * max(sizes) ** share, min(sizes)), max(sizes))
    assert accuracy_at(place, curve) == pytest.approx(start + slope * math.log(place), abs=1e-9)


@given(CURVES)
def test_a_curve_goes_through_its_points(curve: list[tuple[float, float]]) -> None:
    for size, accuracy in curve:
        assert accuracy_at(size, curve) == pytest.approx(accuracy, abs=1e-9)


def test_points_of_one_size_count_as_their_mean() -> None:
    assert accuracy_at(10, [(10, 0.8), (10, 0.9), (20, 0.5)]) == pytest.approx(0.85)


def test_beyond_its_ends_a_curve_says_nothing() -> None:
    for size in (9.9, 20.1):
        with pytest.raises(ValueError, match=r"size must be in \[10, 20\]"):
            accuracy_at(size, [(20, 0.5), (10, 0.4)])


@given(CURVES, CURVES)
def test_the_common_range_is_where_every_curve_is(
    one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> None:
    found = common_range([one, other])
    inside = [size for size, _ in [*one, *other] if all(min(own)[0] <= size <= max(own)[0] for own in (one, other))]
    assert (found is None) == (not inside)
    if found is not None:
        assert found == (min(inside), max(inside))


def test_curves_that_do_not_overlap_have_no_common_range() -> None:
    assert common_range([[(1, 0.5), (2, 0.6)], [(3, 0.5), (4, 0.6)]]) is None
    assert common_range([[(1, 0.5), (3, 0.6)], [(3, 0.5), (4, 0.6)]]) == (3, 3)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_the_interval_is_that_of_a_t_test(values: list[float]) -> None:
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values))
    error = stats.sem(values)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), error) if error > 0 else (mean, mean)
    assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_three_values_have_two_degrees_of_freedom() -> None:
    mean, low, high = mean_interval([0.01, 0.02, 0.03])
    assert (mean, high - mean) == pytest.approx((0.02, 4.302653 * 0.01 / math.sqrt(3)))
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([0.5])
