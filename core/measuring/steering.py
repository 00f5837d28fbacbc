"""How much a bit of the file counts in the loss of a training: lambda, fixed, or steered to a floor of accuracy."""

import math
from dataclasses import dataclass

BEGIN = 0.05
"""lambda at first, where a floor is asked for and nothing else is said."""

UNCHANGED, LEAST_CYCLE, CYCLES, RESTARTED = 0.7, 3, 5, 0.3
"""For this share of the training lambda is what it is at first; the rest are so many cycles, of so many epochs at
least. Before each lambda is changed, and the learning rate starts again (warm restarts, Loshchilov & Hutter 2017), with
this share of its peak."""

PER_FACTOR = 0.004
"""Accuracy above the floor, a fraction, for which lambda is multiplied by e; below it, divided."""

MOST_RAISED, MOST_LOWERED = 2.5, 2.0
"""Factors by which lambda changes at most at once."""


@dataclass
class Rate:
    """The rate in the loss of one training: task + weight * bits per stored weight.

    weight : lambda, at least 0; floor : accuracy on validation, a fraction, that the smallest network is to keep; None
        where lambda stays as it is. lambda is then the price of the constraint, found by dual ascent: it rises as long
        as the accuracy is above the floor, and falls below it.
    """

    weight: float = 0.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.floor is not None and not self.weight:
            self.weight = BEGIN

    @property
    def counts(self) -> bool:
        return self.weight > 0

    def ends(self, first: int, last: int) -> list[int]:
        """Epochs, counted from 1, after which the learning rate starts again, of a training that is from `first` on
        what it will be: none where lambda stays."""
        if self.floor is None:
            return []
        unchanged = first + round(UNCHANGED * (last - first))
        cycle = max(LEAST_CYCLE, (last - unchanged) // CYCLES)
        return list(range(unchanged, last - cycle + 1, cycle))

    def steer(self, accuracy: float) -> None:
        """Change lambda by what an end of a cycle shows."""
        if self.floor is not None:
            factor = math.exp((accuracy - self.floor) / PER_FACTOR)
            self.weight *= min(MOST_RAISED, max(1 / MOST_LOWERED, factor))

    def merit(self, epoch: dict[str, float]) -> tuple[float, ...]:
        """What the best epoch has most of: accuracy on validation; where bytes count, too, the least loss there; where
        there is a floor, the fewest bits of those that reach it, and of equals the accuracy."""
        accuracy = epoch["validation_accuracy"]
        if self.floor is not None:
            reached = accuracy >= self.floor
            return reached, -epoch["bits_per_weight"] if reached else accuracy, accuracy
        return (-epoch["validation_loss"] if self.counts else accuracy,)
