"""The next size lies where the power law says that the answer is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.studies import sizes
from core.studies.sizes import LAW

SIZES = st.floats(1e6, 1e8)


@given(SIZES, st.floats(2e-3, 0.3), st.floats(2e-3, 0.3))
def test_a_shape_on_its_curve_has_the_same_merit_everywhere(size: float, lost: float, goal: float) -> None:
    there = sizes.at_loss(size, lost, goal)
    assert sizes.at_loss(there, goal, lost) == pytest.approx(size)
    charge = LAW.apart * abs(math.log(there / size))
    assert sizes.merit(there, goal, size) - charge == pytest.approx(sizes.merit(size, lost, size))


@given(st.floats(4e3, 1e5), st.floats(0.6, 2.5), st.floats(0.005, 0.05))
def test_the_next_size_finds_the_allowance_on_a_power_law(edge: float, power: float, allowance: float) -> None:
    def lost(size: float) -> float:
        return LAW.aim * allowance * (edge / size) ** power

    tried = [(round(edge * 2.5), lost(edge * 2.5))]
    for _ in range(12):
        size = sizes.next_size(tried, allowance)
        if size is None:
            break
        assert all(size != pytest.approx(was, rel=1e-3) for was, _ in tried), "no size is tried twice"
        tried.append((round(size), lost(size)))
    smallest = min(size for size, loss in tried if loss <= allowance)
    assert edge * 0.85 < smallest < edge * 1.1


@given(st.lists(st.tuples(st.integers(1_000, 100_000), st.floats(0, 0.3)), min_size=1, max_size=8))
def test_the_next_size_lies_where_the_answer_may_be(tried: list[tuple[int, float]]) -> None:
    size = sizes.next_size(tried, 0.01)
    fits = [was for was, lost in tried if lost <= 0.01]
    below = [was for was, lost in tried if lost > 0.01 and (not fits or was < min(fits))]
    if size is not None:
        assert not fits or size < min(fits)
        assert not below or size > max(below)
    else:
        assert min(fits) / max(below) < LAW.close


@given(st.floats(-8, 8), st.floats(0.2, 3))
def test_the_secant_rule_brings_a_power_law_to_its_size(root: float, power: float) -> None:
    place, over = sizes.balanced(lambda log_factor: power * (log_factor - root))
    assert over == pytest.approx(power * (place - root))
    assert abs(over) < math.log(LAW.close)


@pytest.mark.parametrize("far", [-1, 1])
def test_what_cannot_be_reached_is_left_at_the_end_of_the_bracket(far: int) -> None:
    place, over = sizes.balanced(lambda log_factor: log_factor - 20 * far)
    assert place * far > 0.9 * sizes.LARGEST_CHANGE
    assert over * far < 0
