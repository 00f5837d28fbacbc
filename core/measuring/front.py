"""Networks as points, bytes against accuracy, and the front: those that no other one beats. Without torch."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from core import settings
from core.config import CompressionConfig, ConfigError
from core.mathematics import promise
from core.words import percent

_SHRINKING = [technique for technique in settings.techniques() if technique.stage != "training"]

TECHNIQUES = tuple(each.name for each in _SHRINKING)
"""What can make a network smaller, in the order in which it is done."""

SEARCHED = tuple(each.name for each in _SHRINKING if each.searched)
"""Those of them that a search uses where nobody says which."""

ALONE = tuple(each.name for each in _SHRINKING if each.alone)
"""Those of them that make a network smaller without another."""

SEARCH, STUDENTS = "budget search", "students"
"""The kinds of a search's job: one that makes a baseline smaller, and one over families of small networks."""

SMALL = ("compact", "residual", "separable")
"""Families that are small from the start: those of a search that names none."""

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

    @property
    def standard_error(self) -> float:
        """Of `difference`; its 95 % interval is 2 * 1.96 of it wide."""
        return promise.error_of_interval(self.low, self.high)

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


LUCK = """the validation images tell what others will show within a few tenths of a point only, and the best of many \
looks better on them than it is."""

Optimism = Callable[[Point], float]
"""How much less a point seems to lose than it does, because it was chosen, a fraction: `core.studies.optimism`."""


def no_optimism(point: Point) -> float:
    return 0.0


@dataclass(frozen=True)
class Goal:
    """What is searched for: the smallest file that loses at most `allowance` of the accuracy, or that is right at least
    as often as `floor` says, or the most accurate one of at most `size` bytes. Exactly one of the three is given.

    allowance : a fraction of the validation images, in [0, 1); size : bytes, at least 1
    techniques : those of TECHNIQUES that may be used, one of ALONE among them
    confidence : in (0.5, 1), with an allowance, or a floor that becomes one (`of_baseline`): it is to hold on as many
        new images, too, with this probability, as `promise.most_lost` says; None: on the validation images that are
        looked at, and others may lose more
    floor : accuracy on the validation images, in (0, 1)
    families : with a floor or a size: networks of these families are trained small; (): a baseline is made smaller
    """

    allowance: float | None = None
    size: int | None = None
    techniques: tuple[str, ...] = SEARCHED
    confidence: float | None = None
    floor: float | None = None
    families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if [self.allowance, self.size, self.floor].count(None) != 2:
            raise ConfigError("A search needs an allowance, a floor or a size, one of them.")
        if self.floor is not None and not 0 < self.floor < 1:
            raise ConfigError(f"floor must be a number in (0, 1). Got {self.floor!r} instead.")
        if self.families and self.allowance is not None:
            raise ConfigError("families need a floor or a size, which do not depend on a baseline.")
        check_allowance(self.allowance)
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size must be an integer at least 1. Got {self.size!r} instead.")
        unknown = [name for name in self.techniques if name not in TECHNIQUES]
        if unknown or not set(ALONE) & set(self.techniques):
            some = f"some of {', '.join(TECHNIQUES)}, and one of them that shrinks alone: {', '.join(ALONE)}"
            raise ConfigError(f"techniques must be {some}. Got {self.techniques!r} instead.")
        check_confidence(self.confidence)
        if self.confidence is not None and (self.size is not None or self.families):
            raise ConfigError(
                "confidence needs a baseline, and its loss or a floor: it is of a loss, image by image. An accuracy "
                "alone is another where images are harder for every network."
            )
        object.__setattr__(self, "families", tuple(self.families))
        object.__setattr__(self, "techniques", tuple(name for name in TECHNIQUES if name in self.techniques))

    def to_request(self) -> dict[str, Any]:
        """As JSON can hold it; `Goal(**request)` is the goal again. Without a confidence it is what it always was."""
        asked = {"allowance": self.allowance, "size": self.size, "techniques": list(self.techniques)}
        later = {"confidence": self.confidence, "floor": self.floor, "families": list(self.families) or None}
        return asked | {name: value for name, value in later.items() if value is not None}

    def of_baseline(self, accuracy: float) -> "Goal":
        """A floor as what a baseline of this accuracy may lose. Raises ConfigError where it is less accurate itself."""
        if self.floor is None:
            return self
        if self.floor > accuracy:
            raise ConfigError(f"floor must be at most the baseline's accuracy, {accuracy:.4f}. Got {self.floor}.")
        return replace(self, floor=None, allowance=round(accuracy - self.floor, 9))

    def lost(self, point: Point, optimism: Optimism = no_optimism) -> float:
        """What counts against the allowance: the loss on validation, or what is lost at most with the confidence."""
        flattered = 0.0 if self.confidence is None else optimism(point)
        return promise.most_lost(-point.difference, point.standard_error, self.confidence, flattered)

    def met_by(self, point: Point, optimism: Optimism = no_optimism) -> bool:
        if self.size is not None:
            return point.bytes <= self.size
        if self.floor is not None:
            return point.accuracy >= self.floor
        return self._allows(self.lost(point)) and self._allows(self.lost(point, optimism))  # the dearer question last

    def _allows(self, lost: float) -> bool:
        return self.allowance is None or lost <= self.allowance + 1e-12

    def best(self, points: Iterable[Point], optimism: Optimism = no_optimism) -> Point | None:
        """Of those that meet it; None where none does."""
        fits = (point for point in points if self.met_by(point, optimism))
        return min(fits, key=lambda point: self._place(point, met=True), default=None)

    def ranked(self, points: Iterable[Point], optimism: Optimism = no_optimism) -> list[Point]:
        """Those that meet it first, the best of them before the others; then those that are nearest to meeting it."""
        return sorted(points, key=lambda point: self._place(point, self.met_by(point, optimism)))

    def _place(self, point: Point, met: bool) -> tuple[float, ...]:
        if met == (self.size is None):
            return not met, point.bytes, -point.accuracy
        return not met, -point.accuracy, point.bytes

    def in_words(self) -> str:
        if self.size is not None:
            return f"the most accurate file{self._of} of at most {self._most}"
        return f"the smallest file{self._of} that {self._asked}"

    def none_in_words(self) -> str:
        """That nothing meets it."""
        none = f"No network{self._of}" if self.families else "None"
        return f"{none} {self._asked}."

    def way_out_in_words(self) -> str:
        """What to do where nothing meets it."""
        confidence = "" if self.confidence is None else ", a lower confidence"
        if self.floor is not None:
            return f"Ask for a lower floor{confidence}, or give it more time."
        if self.size is not None:
            return "Allow more bytes, or give it more time."
        return f"Allow a larger loss{confidence}, or give it more time."

    def missed_in_words(self, difference: float, accuracy: float) -> str:
        """That other images than those of the search lose more than the allowance, or are right less often than the
        floor; nothing where they are not. accuracy, difference : on these, fractions"""
        if self.floor is not None and accuracy < self.floor:
            return f"That is less than {percent(self.floor, 2)}: {LUCK} A higher floor leaves a margin."
        if self.allowance is None or self._allows(-difference):
            return ""
        beyond = f"That is more than {100 * (self.allowance or 0):g} pp: "
        if self.confidence is not None:
            return f"{beyond}a promise with {sure(self.confidence)} breaks about as often as the rest says."
        return f"{beyond}{LUCK} A smaller allowance leaves a margin, and so does a choice with confidence."

    def promised_in_words(self, most: float | None) -> str:
        """What is promised of new images, where something is. most : what is lost there at most, a fraction"""
        return "" if most is None or self.confidence is None else promised(most, self.confidence)

    @property
    def _of(self) -> str:
        return f" of {', '.join(self.families)}" if self.families else ""

    @property
    def _held(self) -> str:
        return "" if self.confidence is None else f" with {sure(self.confidence)}"

    @property
    def _asked(self) -> str:
        """Of a file, what it does that meets the goal."""
        if self.size is not None:
            return f"has at most {self._most}"
        if self.floor is not None:
            return f"is right for {percent(self.floor, 2)} of the validation images{self._held}"
        return f"loses at most {100 * (self.allowance or 0):g} pp{self._held}"

    @property
    def _most(self) -> str:
        size = self.size or 0
        return f"{size:,} bytes" if size % 1024 else f"{size // 1024:,} KB"


def sure(confidence: float) -> str:
    return f"{100 * confidence:g} % confidence"


def promised(most: float, confidence: float) -> str:
    """The promise in words. most : what is lost at most, a fraction"""
    return f"with {sure(confidence)} at most {100 * max(0.0, most):.2f} pp will be lost on new images"


def check_allowance(allowance: float | None) -> None:
    """None, or in [0, 1). Raises ConfigError."""
    if allowance is not None and not 0 <= allowance < 1:
        raise ConfigError(f"allowance must be a number in [0, 1). Got {allowance!r} instead.")


def check_confidence(confidence: float | None) -> None:
    """None, or in (0.5, 1): with less, the bound would lie below the loss itself. Raises ConfigError."""
    if confidence is not None and not 0.5 < confidence < 1:
        raise ConfigError(f"confidence must be a number in (0.5, 1). Got {confidence!r} instead.")


def check_minutes(minutes: float) -> None:
    """How long a search may take: in (0, `MOST_MINUTES`]. Raises ConfigError."""
    if not 0 < minutes <= MOST_MINUTES:
        raise ConfigError(f"minutes must be in (0, {MOST_MINUTES}]. Got {minutes:g} instead.")
