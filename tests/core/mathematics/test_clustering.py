"""One-dimensional k-means: never worse than scikit-learn's, and exact where that can be tried."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans

from core.mathematics import clustering
from core.mathematics.clustering import Array, k_means, nearest

NUMBERS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-4, 4, width=32))
COUNTS = st.integers(2, 9)


def error(numbers: Array, centroids: Array) -> float:
    """By its definition: sum min_k (x - c_k)^2."""
    return float(((numbers[:, None] - centroids) ** 2).min(1).sum())


def drawn(kind: str, count: int, seed: int = 0) -> Array:
    dice = np.random.default_rng(seed)
    return dice.normal(size=count) if kind == "normal" else dice.laplace(size=count) ** 3


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
@pytest.mark.parametrize("size", [300, 3000])
@pytest.mark.parametrize("count", [4, 16, 64])
def test_it_is_never_worse_than_scikit_learn(kind: str, size: int, count: int) -> None:
    numbers = drawn(kind, size)
    reference = KMeans(count, n_init=3, random_state=0).fit(numbers[:, None])
    assert error(numbers, k_means(numbers, count)) <= reference.inertia_ * (1 + 1e-9)


@given(arrays(np.float64, st.integers(1, 9), elements=st.floats(-4, 4, width=16)), st.integers(1, 4))
def test_of_a_few_numbers_no_other_intervals_are_better(numbers: Array, count: int) -> None:
    x = np.sort(numbers)
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(x, cuts))
        for parts in range(1, min(count, len(x)) + 1) for cuts in combinations(range(1, len(x)), parts - 1)
    )  # fmt: skip
    assert error(numbers, k_means(numbers, count)) == pytest.approx(best, abs=1e-9)


@given(NUMBERS, COUNTS, st.booleans())
def test_centroids_ascend_are_no_more_than_asked_and_may_hold_zero(numbers: Array, count: int, zero: bool) -> None:
    centroids = k_means(numbers, count, keeps_zero=zero)
    assert 1 <= len(centroids) <= count
    assert (np.diff(centroids) > 0).all()
    assert not zero or 0.0 in centroids.tolist()
    assert np.array_equal(centroids, k_means(numbers[::-1], count, keeps_zero=zero))


@given(NUMBERS, COUNTS)
def test_so_many_centroids_as_different_numbers_are_these(numbers: Array, more: int) -> None:
    different = np.unique(numbers)
    centroids = k_means(numbers, len(different) + more)
    assert np.array_equal(centroids[nearest(numbers, centroids)], numbers)


@given(NUMBERS, COUNTS)
def test_each_centroid_is_the_mean_of_what_is_nearest_to_it(numbers: Array, count: int) -> None:
    centroids = k_means(numbers, count)
    places = nearest(numbers, centroids)
    for place in np.unique(places):
        assert numbers[places == place].mean() == pytest.approx(centroids[place], abs=1e-9)
    assert error(numbers, centroids) == pytest.approx(((numbers - centroids[places]) ** 2).sum(), abs=1e-9)


@pytest.mark.parametrize("count", [2, 5, 16])
def test_twice_the_centroids_are_better_and_a_zero_that_is_kept_costs(count: int) -> None:
    numbers = drawn("normal", clustering.GROUPS * 4) + 0.3
    alone, kept = (error(numbers, k_means(numbers, count, keeps_zero=zero)) for zero in (False, True))
    assert error(numbers, k_means(numbers, 2 * count)) < alone <= kept


@pytest.mark.parametrize(("count", "zero"), [(0, False), (-1, False), (1, True)])
def test_too_few_centroids_are_refused(count: int, zero: bool) -> None:
    with pytest.raises(ValueError, match=f"count must be at least {1 + zero}. Got {count} instead"):
        k_means(np.ones(3), count, keeps_zero=zero)
