"""Which size of file to try next, from how much accuracy other sizes lost: functions of numbers.

The law behind them: a shape that is pruned to fewer bytes and trained loses more accuracy, as a power of its size,

    lost = c bytes^-k

with a constant c of the shape's and k = `LAW.power`. Sizes are bytes of the packed file; losses are fractions of the
images, baseline accuracy - accuracy, negative where the compressed network is the more accurate one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """The figures of the law, as they were measured on the shipped CNN (validation), and what a search makes of them.

    power : k after training: at 10.2, 14.2 and 38.5 KB the CNN loses 1.12, 0.80 and 0.22 points
    steep : k below the smallest file that fits, where a training that fails costs more than a byte, unless less than
        half of the goal is lost: below 10,152 bytes, which lost 0.48 points, 8,701 lost 0.52, 8,008 1.20, 7,529 0.80
        and 7,301 more than 1, one training each
    aim : share of the allowance that a training aims at, since its outcome is not known to a tenth of a point
    least_lost : losses below this fraction are not told apart
    close : sizes whose ratio is smaller are not told apart
    most_smaller, most_larger : the next size lies within these factors of what was tried, where that all fits, or none
    least_slope : the smallest k that two trainings may show; less is noise
    margin : the next size keeps away from two that were tried by this power of their ratio
    eased : what a shape loses after one epoch over what it loses after a long training: about 3 of the CNN, and 6 of
        the MLP
    gain : until something was trained: smallest size that fits without training over smallest size with it; of the CNN
        42 and 6.3 KB, of the MLP 54 and 9 KB
    unknown_size : bytes, the size that is wanted while nothing meets the goal
    far_lost : where more than so many times the goal is lost, nothing is said of the size that the goal needs
    apart : charge on a shape's merit for each factor e between its size and the wanted one
    far_apart : the same where no pruning can make it the wanted one: with fewer channels or bits alone, the loss
        follows no law over more than a small factor
    near : a shape that cannot be brought within this factor of the wanted size is not trained: a tiny network follows
        another law
    """

    power: float = 1.2
    steep: float = 2.4
    aim: float = 0.93
    least_lost: float = 1e-3
    close: float = 1.03
    most_smaller: int = 3
    most_larger: int = 4
    least_slope: float = 0.3
    margin: float = 0.2
    eased: float = 3.0
    gain: float = 6.0
    unknown_size: float = 1e5
    far_lost: float = 3.0
    apart: float = 0.2
    far_apart: float = 1.0
    near: float = 1.5


LAW = Law()

RESIZING_STEPS = 8
LARGEST_CHANGE = 9.0
"""Of the logarithm of a factor: the odds that a weight stays change by at most e^9, about 8,000 times."""


def aimed_loss(allowance: float) -> float:
    """The loss that a training aims at: `LAW.aim` times the allowance, which counts as at least `LAW.least_lost`."""
    return LAW.aim * max(allowance, LAW.least_lost)


def at_loss(size: float, lost: float, goal: float, power: float = LAW.power) -> float:
    """Bytes at which a shape that loses `lost` at `size` would lose `goal`: size (lost / goal)^(1 / power)."""
    return size * (max(lost, LAW.least_lost) / goal) ** (1 / power)


def merit(size: float, lost: float, wanted: float, apart: float = LAW.apart, least: float = LAW.least_lost) -> float:
    """How good a shape is at any size, the smaller the better:

        log size + log lost / k + apart |log(size / wanted)|

    The first two are the same wherever a shape is tried on its curve; the last is a charge for trying it far from the
    wanted size, where the curve is not known.

    apart : the charge for a factor e; least : losses below are not told apart, a fraction
    """
    return math.log(size) + math.log(max(lost, least)) / LAW.power + apart * abs(math.log(size / wanted))


def next_size(tried: Sequence[tuple[int, float]], allowance: float) -> float | None:
    """At how many bytes the next training should be tried: between the smallest file that fits and the largest below it
    that does not. None where their ratio is below `LAW.close`.

    tried : bytes and accuracy lost, a fraction, of what was trained; not empty
    """
    goal = aimed_loss(allowance)
    fits = min((pair for pair in tried if pair[1] <= allowance), default=None)
    if fits is None:
        return _larger(*max(tried), goal)
    fails = max((pair for pair in tried if pair[0] < fits[0]), default=None)
    return _smaller(*fits, goal) if fails is None else _between(fails, fits, goal)


def _smaller(size: int, lost: float, goal: float) -> float:
    """Below the smallest, where all that was tried fits: by the steep law, or the other where less than half of the
    goal is lost; at most to a third."""
    power = LAW.steep if 2 * lost > goal else LAW.power
    return max(size / LAW.most_smaller, min(at_loss(size, lost, goal, power), size / LAW.close**2))


def _larger(size: int, lost: float, goal: float) -> float:
    """Above the largest, where nothing that was tried fits: by the law, at most four times as large."""
    return min(LAW.most_larger * size, max(at_loss(size, lost, goal), size * LAW.close**2))


def _between(fails: tuple[int, float], fits: tuple[int, float], goal: float) -> float | None:
    """Where the power law through both loses `goal`, k = log(lost ratio) / log(size ratio), a margin away from each."""
    (low, more), (high, less) = fails, fits
    if high / low < LAW.close:
        return None
    slope = max(LAW.least_slope, math.log(more / max(less, LAW.least_lost / 10)) / math.log(high / low))
    wanted, edge = low * (more / goal) ** (1 / slope), (high / low) ** LAW.margin
    return min(high / edge, max(low * edge, wanted))


def balanced(excess: Callable[[float], float]) -> tuple[float, float]:
    """Where an increasing function is about zero, and its value there: the secant rule, kept inside a bracket that
    shrinks with every step. It ends where |value| < log `LAW.close`, or after `RESIZING_STEPS`.

    excess : log(size / wanted size), of the logarithm of a factor, in [-`LARGEST_CHANGE`, `LARGEST_CHANGE`]
    """
    place, over = 0.0, excess(0.0)
    low, high = (-LARGEST_CHANGE, 0.0) if over > 0 else (0.0, LARGEST_CHANGE)
    step = -over
    for _ in range(RESIZING_STEPS):
        if abs(over) < math.log(LAW.close):
            break
        then, was = place, over
        place = min(high - 0.05 * (high - low), max(low + 0.05 * (high - low), place + step))
        over = excess(place)
        low, high = (low, place) if over > 0 else (place, high)
        slope = (over - was) / (place - then)
        step = -over / slope if slope > 0.05 else -4 * over
    return place, over
