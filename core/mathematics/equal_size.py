"""Two ways to make a network smaller, compared at equal bytes, and what a few seeds can say of the difference.

Each way, trained more and less strongly, gives a curve of accuracy against bytes. Nothing is said where a curve does
not reach: only sizes within the range of all of them count.
"""

import math
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np

Curve = Sequence[tuple[float, float]]
"""Pairs of a size in bytes, above 0, and an accuracy, a fraction; in any order, at least one."""


def common_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The sizes that all curves reach, from the largest of their least to the smallest of their largest; None where
    there are none."""
    ends = [(min(size for size, _ in curve), max(size for size, _ in curve)) for curve in curves]
    low, high = max(low for low, _ in ends), min(high for _, high in ends)
    return (low, high) if low <= high else None


def accuracy_at(size: float, curve: Curve) -> float:
    """Between the two points (s_0, a_0) and (s_1, a_1) next to it, linear in the logarithm of the bytes:
    a_0 + (a_1 - a_0) log(s / s_0) / log(s_1 / s_0).

    size : within the range of the curve. Points of the same size count as their mean. Raises ValueError.
    """
    sizes = sorted({own for own, _ in curve})
    if not sizes[0] <= size <= sizes[-1]:
        raise ValueError(f"size must be in [{sizes[0]:g}, {sizes[-1]:g}]. Got {size:g} instead.")
    accuracies = [mean(accuracy for own, accuracy in curve if own == place) for place in sizes]
    return float(np.interp(math.log(size), np.log(sizes), accuracies))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean m of n values, and the ends of its 95 % interval m -+ t s / sqrt(n), where s is their standard deviation
    and t the quantile of n - 1 degrees of freedom: 4.30 for three values (Student 1908).

    values : at least two. Raises ValueError.
    """
    if len(values) < 2:
        raise ValueError(f"values must be at least two. Got {len(values)} instead.")
    from scipy.special import stdtrit

    n = len(values)
    half = float(stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
    return mean(values), mean(values) - half, mean(values) + half
