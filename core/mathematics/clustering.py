"""One-dimensional k-means: the K numbers that stand for many with the least squared error."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GROUPS = 512
"""So many groups of neighbours are put into clusters exactly; as many numbers, or fewer, each by itself."""

FINE = 4096
"""Quantiles from which the density of more numbers is estimated."""

STEPS = 500
"""Of Lloyd's algorithm at most; it ends where nothing moves any more."""


def k_means(numbers: Array, count: int, keeps_zero: bool = False) -> Array:
    """Centroids c_1 < .. < c_K of the least sum_i min_k (x_i - c_k)^2, or nearly so.

    In one dimension each cluster is an interval. Of at most `GROUPS` numbers the best intervals are found exactly, by
    dynamic programming (Wang & Song 2011); of more, those of so many groups of neighbours, and Lloyd's algorithm goes
    on from there: each centroid becomes the mean of the numbers that are nearest to it, again and again (Lloyd 1982).
    Running sums of the sorted numbers give all means of a step in O(K log n). Deterministic. Of at most K different
    numbers these are the centroids.

    numbers : (n,), n >= 1; count : K, at least 1, and 2 where zero is kept
    keeps_zero : exactly 0 is one of the K, wherever the numbers lie
    Returns (K,) or fewer, ascending, float64. Raises ValueError.
    """
    if count < 1 + keeps_zero:
        raise ValueError(f"count must be at least {1 + keeps_zero}. Got {count} instead.")
    different = np.unique(np.append(numbers, 0.0) if keeps_zero else numbers)
    if len(different) <= count:
        return different + 0.0
    x = np.sort(numbers.astype(np.float64))
    sums = np.stack([np.concatenate([[0.0], np.cumsum(x**power)]) for power in range(3)])
    return _lloyd(x, sums, _partition(sums, _groups(x), count), keeps_zero)


def nearest(numbers: Array, centroids: Array) -> NDArray[np.int64]:
    """The place of the centroid nearest to each number, of equals the lower one; centroids : ascending."""
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, numbers)


def _groups(x: Array) -> NDArray[np.int64]:
    """Where groups of neighbours end, from 0 to n. Of many numbers they are as dense as centroids should be, in
    proportion to the cube root of the density (Panter & Dite 1951). x : ascending"""
    if len(x) <= GROUPS:
        return np.arange(len(x) + 1)
    fine = np.quantile(x, np.linspace(0, 1, min(FINE, len(x))))
    grown = np.concatenate([[0.0], np.cumsum(np.diff(fine) ** (2 / 3))])  # the integral of density^(1/3), but a factor
    ends = np.interp(np.linspace(0, grown[-1], GROUPS + 1)[1:-1], grown, fine)
    return np.unique(np.concatenate([[0], np.searchsorted(x, ends), [len(x)]]))


def _partition(sums: Array, ends: NDArray[np.int64], count: int) -> Array:
    """Means of the K intervals of groups with the least sum of squared errors: the best k of the first i groups are
    the best k - 1 of the first j and one of the rest, with the best j."""
    held, total, squares = (each[ends][None, :] - each[ends][:, None] for each in sums)
    error = np.where(held > 0, (squares - total**2 / held.clip(1)).clip(0), np.inf)  # of groups i to j in one cluster
    best, parents = error[0], list[NDArray[np.int64]]()
    for _ in range(min(count, len(ends) - 1) - 1):
        whole = best[:, None] + error
        parents.append(whole.argmin(0))
        best = whole.min(0)
    places = [len(ends) - 1]
    for parent in reversed(parents):
        places.append(int(parent[places[-1]]))
    chosen = [0, *reversed(places)]
    return np.array([total[i, j] / held[i, j] for i, j in pairwise(chosen)])


def _lloyd(x: Array, sums: Array, centroids: Array, keeps_zero: bool) -> Array:
    """From these centroids to where each is the mean of its numbers; one without any stays, and a zero that is kept."""
    zero = [int(np.abs(centroids).argmin())] if keeps_zero else []
    for _ in range(STEPS):
        centroids[zero] = 0.0
        ends = np.searchsorted(x, (centroids[1:] + centroids[:-1]) / 2)
        held, total, _ = np.diff(sums[:, [0, *ends, len(x)]])
        moved = np.where(held > 0, total / held.clip(1), centroids)
        moved[zero] = 0.0
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.unique(centroids)
