"""What a person chose and what was measured are records: made once, never changed; whoever holds one may rely on it."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import core

WORKING = {"core.studies.search.Search", "core.machinery.turns.Ticket"}
"""A worker, and what is being waited for: these change."""
ARRAYS = ("Tensor", "ndarray", "Stored")
"""What == would compare element by element."""


def records() -> Iterator[type]:
    for found in pkgutil.walk_packages(core.__path__, "core."):
        if not found.name.startswith("core.portable.") and not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for own in vars(module).values():
                if isinstance(own, type) and own.__module__ == found.name and dataclasses.is_dataclass(own):
                    yield own


def test_records_cannot_be_changed() -> None:
    found = {f"{own.__module__}.{own.__name__}": own.__dataclass_params__.frozen for own in records()}
    assert len(found) > 30
    assert {name for name, frozen in found.items() if not frozen} == WORKING


def test_records_that_hold_arrays_are_equal_only_to_themselves() -> None:
    holding = [
        own for own in records() if any(word in str(each.type) for each in dataclasses.fields(own) for word in ARRAYS)
    ]
    assert len(holding) > 8
    assert [own.__name__ for own in holding if own.__dataclass_params__.eq] == []
