"""Who teaches in a search: the most accurate baseline for these images (distillation, Hinton et al. 2015)."""

from core.bench.workbench import Workbench
from core.config import CompressionConfig


def best_teacher(bench: Workbench, data: str) -> str:
    """The most accurate baseline for these images on validation that had no teacher itself; "" where there is none."""
    profiles = {card.id: bench.profile(card.id) for card in bench.cards()}
    names = [name for name, profile in profiles.items() if profile.images.data == data and not profile.teacher]
    return most_accurate(bench, names) or ""


def most_accurate(bench: Workbench, names: list[str]) -> str | None:
    """Of these baselines on validation; None where there is none."""
    return max(names, key=lambda name: bench.evaluate(name, CompressionConfig()).evaluation.accuracy, default=None)


def teacher_of(bench: Workbench, name: str, best: str) -> str:
    """The sum of the baseline `best` as the teacher of a network of this name; "" where that is itself, or had another
    teacher, from whom it goes on learning."""
    return "" if bench.profile(name).teacher or best in ("", name) else bench.teacher_sum(best)
