"""Networks as points, bytes against accuracy, and the front: those that no other one beats. Standard library only."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core import settings
from core.config import CompressionConfig, ConfigError

TECHNIQUES = tuple(technique.name for technique in settings.techniques() if technique.stage != "training")
"""What can make a network smaller, in the order in which it is done."""

SEARCHED = tuple(each.name for each in settings.techniques() if each.stage != "training" and each.searched)
"""Those of them that a search uses where nobody says which."""

SEARCH = "budget search"
"""The kind of a search's job."""

MOST_MINUTES = 600

ORIGINS = ("explored", "reproduced", "searched", "shipped")
"""How a network came to be measured: on a page or by a command, in an experiment of the course, in a search, or before
it came with the project."""


@dataclass(frozen=True)
class Point:
    """A configuration as it was measured on the validation images.

    sha256 : of the baseline's weights; baseline : the name under which it was asked for
    difference, low, high : accuracy - baseline accuracy, with its 95 % interval (paired), fractions
    bytes : of the packed file; origin : one of ORIGINS
    """

    baseline: str
    sha256: str
    config: CompressionConfig
    accuracy: float
    difference: float
    low: float
    high: float
    loss: float
    bytes: int
    baseline_bytes: int
    origin: str

    @property
    def techniques(self) -> tuple[str, ...]:
        return techniques(self.config)

    @property
    def recovered(self) -> bool:
        """Whether it was trained after compression."""
        return self.config.recovery is not None

    @property
    def compression_ratio(self) -> float:
        """Baseline bytes over compressed bytes."""
        return self.baseline_bytes / self.bytes

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "config": json.loads(self.config.to_json())})

    @classmethod
    def from_json(cls, text: str) -> "Point":
        """Raises ValueError, KeyError or TypeError for what is no point."""
        record: dict[str, Any] = json.loads(text)
        return cls(**{**record, "config": CompressionConfig.from_record(record["config"])})


def techniques(config: CompressionConfig) -> tuple[str, ...]:
    """Which of TECHNIQUES a configuration uses; nothing for the baseline itself. Activations take no bytes."""
    return tuple(technique.name for technique in settings.techniques() if technique.shrinks(config))


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other one dominates, the smallest file first; of equals the first.

    a dominates b where bytes_a <= bytes_b and accuracy_a >= accuracy_b, and one of the two is strict (Pareto).
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bytes, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def behind(front: Sequence[Point], point: Point) -> float:
    """How much more accurate a file of the front is that is no larger, a fraction; 0 on the front.

    front : as `pareto` returns it, of points that `point` is one of
    """
    return front[bisect_right(front, point.bytes, key=lambda other: other.bytes) - 1].accuracy - point.accuracy


@dataclass(frozen=True)
class Goal:
    """What is searched for: the smallest file that loses at most `allowance` of the accuracy, or the most accurate one
    of at most `size` bytes. Exactly one of the two is given.

    allowance : a fraction of the validation images, in [0, 1); size : bytes, at least 1
    techniques : those of TECHNIQUES that may be used
    """

    allowance: float | None = None
    size: int | None = None
    techniques: tuple[str, ...] = SEARCHED

    def __post_init__(self) -> None:
        if (self.allowance is None) == (self.size is None):
            raise ConfigError("A search needs an allowance or a size, one of the two.")
        if self.allowance is not None and not 0 <= self.allowance < 1:
            raise ConfigError(f"allowance must be a number in [0, 1). Got {self.allowance!r} instead.")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size must be an integer at least 1. Got {self.size!r} instead.")
        unknown = [name for name in self.techniques if name not in TECHNIQUES]
        if unknown or not self.techniques:
            raise ConfigError(f"techniques must be some of {', '.join(TECHNIQUES)}. Got {self.techniques!r} instead.")
        object.__setattr__(self, "techniques", tuple(name for name in TECHNIQUES if name in self.techniques))

    def to_request(self) -> dict[str, Any]:
        """As JSON can hold it; `Goal(**request)` is the goal again."""
        return {"allowance": self.allowance, "size": self.size, "techniques": list(self.techniques)}

    def met_by(self, point: Point) -> bool:
        return self._allows(point.difference) if self.size is None else point.bytes <= self.size

    def _allows(self, difference: float) -> bool:
        return self.allowance is None or difference >= -self.allowance - 1e-12

    def best(self, points: Iterable[Point]) -> Point | None:
        """Of those that meet it; None where none does."""
        return min(filter(self.met_by, points), key=self._place, default=None)

    def ranked(self, points: Iterable[Point]) -> list[Point]:
        """Those that meet it first, the best of them before the others; then those that are nearest to meeting it."""
        return sorted(points, key=self._place)

    def _place(self, point: Point) -> tuple[float, ...]:
        met = self.met_by(point)
        if met == (self.allowance is not None):
            return not met, point.bytes, -point.accuracy
        return not met, -point.accuracy, point.bytes

    def in_words(self) -> str:
        if self.allowance is not None:
            return f"the smallest file that loses at most {100 * self.allowance:g} pp"
        return f"the most accurate file of at most {self._most}"

    def none_in_words(self) -> str:
        """That nothing meets it."""
        if self.allowance is not None:
            return f"None loses at most {100 * self.allowance:g} pp."
        return f"None has at most {self._most}."

    def missed_in_words(self, difference: float) -> str:
        """That other images than those of the search lose more than the allowance; nothing where they do not."""
        if self._allows(difference):
            return ""
        return (
            f"That is more than {100 * (self.allowance or 0):g} pp: the validation images tell what others will lose "
            "within a few tenths of a point only. A smaller allowance leaves a margin."
        )

    @property
    def _most(self) -> str:
        size = self.size or 0
        return f"{size:,} bytes" if size % 1024 else f"{size // 1024:,} KB"


def check_minutes(minutes: float) -> None:
    """How long a search may take: in (0, `MOST_MINUTES`]. Raises ConfigError."""
    if not 0 < minutes <= MOST_MINUTES:
        raise ConfigError(f"minutes must be in (0, {MOST_MINUTES}]. Got {minutes:g} instead.")
