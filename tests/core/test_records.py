"""What a person chose and what was measured are records: made once, never changed; whoever holds one may rely on it."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import core

WORKING = {
    "core.studies.search.Search",
    "core.studies.students.StudentSearch",
    "core.studies.optimism.Optimist",
    "core.measuring.steering.Rate",
    "core.studies.stages.trained.LongTrainings",
    "core.studies.stages.trainer.Trainer",
    "core.machinery.turns.Ticket",
}
"""What a search remembers of its trials, and what is being waited for: these change."""
ARRAYS = ("Tensor", "ndarray", "Stored")
"""What == would compare element by element."""


def records() -> Iterator[type]:
    for file in pkgutil.walk_packages(core.__path__, "core."):
        if not file.name.startswith("core.portable.") and not file.name.endswith("__main__"):
            module = importlib.import_module(file.name)
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == file.name and dataclasses.is_dataclass(value):
                    yield value


def test_records_cannot_be_changed() -> None:
    frozen = {f"{each.__module__}.{each.__name__}": each.__dataclass_params__.frozen for each in records()}
    assert len(frozen) > 30
    assert {name for name, never_changes in frozen.items() if not never_changes} == WORKING


def test_records_that_hold_arrays_are_equal_only_to_themselves() -> None:
    holding = [
        record
        for record in records()
        if any(word in str(field.type) for field in dataclasses.fields(record) for word in ARRAYS)
    ]
    assert len(holding) > 8
    assert [record.__name__ for record in holding if record.__dataclass_params__.eq] == []
