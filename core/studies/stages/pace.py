"""How a search spends its time: how much each stage gets, how long a training may be, and how much is left."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
"""Says the time, in seconds from any beginning."""


@dataclass(frozen=True)
class Pace:
    """How the time is shared, and when a search gives up.

    scanned_until, untrained_until, brief_until : shares of the time after which the scans, the trials without training,
        and those of one epoch are over
    trainings : so many long trainings share the rest of the time, where they are shorter than `most_epochs` then
    least_epochs, later_epochs, most_epochs : at least of the first long training, of one after it, and at most of any
    fruitless : after so many trials in a row that came to nothing, what may be chosen is exhausted
    confirmation_seconds : for writing the files, reading them in fresh processes, running them over the test images
    """

    scanned_until: float = 0.1
    untrained_until: float = 0.12
    brief_until: float = 0.3
    trainings: int = 2
    least_epochs: int = 2
    later_epochs: int = 6
    most_epochs: int = 30
    fruitless: int = 50
    confirmation_seconds: float = 45.0


PACE = Pace()


@dataclass(frozen=True)
class Countdown:
    """The time of one search.

    whole : seconds, without those of the `confirmation`; until : their end, on the `clock`
    """

    whole: float
    until: float
    clock: Clock
    confirmation: float = 0.0

    @classmethod
    def of(cls, minutes: float, clock: Clock) -> "Countdown":
        """Begins now; the confirmation takes at most a quarter of it."""
        confirmation = min(PACE.confirmation_seconds, 15 * minutes)
        whole = 60 * minutes - confirmation
        return cls(whole, clock() + whole, clock, confirmation)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - self.clock()

    @property
    def done(self) -> float:
        """The share that is over, the confirmation's included, in [0, 0.99]."""
        return max(0.0, min(0.99, (self.whole - self.left) / (self.whole + self.confirmation)))

    def past(self, share: float) -> bool:
        """Whether that share of the time is over."""
        return self.left <= (1 - share) * self.whole

    def epochs(self, pace: float) -> int:
        """So many epochs of `pace` seconds there is time for, and for measuring what came of them: half an epoch."""
        return int(self.left / pace - 0.5)
