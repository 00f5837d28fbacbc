"""What a file leaves open is measured: when one way of taking a network is clearly the best, and how it is told."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from core.networks.models import Overflow
from core.words import percent

MARGIN = 0.03
"""By so much the best must be ahead: accuracies, fractions. Less is chance of the images, or of the network."""

SHOWN = 8
"""Rows of a table, at most."""

One = TypeVar("One")


def figure(measure: Callable[[], float]) -> float:
    """The accuracy that is measured, in [0, 1]; 0 where what the network computes is no longer numbers."""
    try:
        return measure()
    except Overflow:
        return 0.0


def contenders(figures: Mapping[One, float]) -> list[One]:
    """The best, and all that are not more than `MARGIN` behind it, best first. The best is taken where it is alone."""
    order = sorted(figures, key=lambda one: -figures[one])
    return [one for one in order if figures[order[0]] - figures[one] <= MARGIN + 1e-9]


def table(rows: Sequence[tuple[str, float]]) -> str:
    """What was measured, best first, a line each."""
    order = sorted(rows, key=lambda row: -row[1])
    lines = [f"  {percent(accuracy, 1):>7}  {words}" for words, accuracy in order[:SHOWN]]
    return "\n".join(lines + ([f"  and {len(order) - SHOWN:,} more, below that"] if len(order) > SHOWN else []))


def doubt(accuracy: float, classes: int) -> str:
    """A warning for a network that is right less often than twice chance, of few classes than halfway from chance to
    always; "" for another."""
    if accuracy >= min(2 / classes, (1 + 1 / classes) / 2):
        return ""
    return (
        f"It is right for {percent(accuracy, 1)} of the images, and guessing among {classes:,} classes is right for "
        f"{percent(1 / classes, 1)}: this network was made for other images, other classes or another input scaling, "
        "it computes something else than was read, or it was never trained."
    )
