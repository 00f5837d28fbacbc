"""Who teaches in a search: the most accurate baseline for these images (distillation, Hinton et al. 2015)."""

from core.bench.workbench import UnknownBaseline, Workbench
from core.config import CompressionConfig
from core.datasets import DataError
from core.networks.models import BaselineError, Overflow


def best_teacher(bench: Workbench, data: str) -> str:
    """The most accurate baseline for these images on validation that had no teacher itself; "" where there is none."""
    profiles = {card.id: bench.profile(card.id) for card in bench.cards()}
    names = [name for name, profile in profiles.items() if profile.images.data == data and not profile.teacher]
    return most_accurate(bench, names) or ""


def most_accurate(bench: Workbench, names: list[str]) -> str | None:
    """Of these baselines on validation; None where there is none. What cannot be evaluated is passed over: its images
    were replaced by others of the same name, or its scores are too large."""
    accuracies = {name: _accuracy(bench, name) for name in names}
    return max((name for name in names if accuracies[name] >= 0), key=accuracies.__getitem__, default=None)


def _accuracy(bench: Workbench, name: str) -> float:
    """-1 where there is none."""
    try:
        return bench.evaluate(name, CompressionConfig()).evaluation.accuracy
    except (BaselineError, DataError, Overflow, UnknownBaseline):
        return -1.0


def teacher_of(bench: Workbench, name: str, best: str) -> str:
    """The sum of the baseline `best` as the teacher of a network of this name; "" where that is itself, or had another
    teacher, from whom it goes on learning."""
    return "" if bench.profile(name).teacher or best in ("", name) else bench.teacher_sum(best)
