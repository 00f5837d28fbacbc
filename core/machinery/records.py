"""Records that JSON can hold: a frozen dataclass and a dictionary of the same names, in the same order."""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

Read = Callable[[Any, str], Any]
"""Makes a value of what JSON holds; the second is where that stands, for messages. Raises Damaged."""


class Damaged(ValueError):
    """What was read is no such record: the message says which field, what it must be, and what came instead."""


class Record:
    """Base class of frozen dataclasses whose fields are numbers, words, True and False, None, other dataclasses, tuples
    of these, and dictionaries by name.

    A field with a default may be missing in JSON, and is left out there where it has the default.
    `R.from_dict(record.to_dict()) == record`, and `R.from_dict(json).to_dict() == json` for what `to_dict` wrote.
    """

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; tuples are lists there."""
        return dict(_written(self))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown names are passed over. Raises Damaged."""
        kind: Any = cls
        made: Self = _reader(kind)(record, cls.__name__)
        return made


def _written(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        held = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _written(part) for field, part in held if field.default is MISSING or part != field.default}
    if isinstance(value, Mapping):
        return {name: _written(part) for name, part in value.items()}
    return [_written(part) for part in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=256)
def _reader(kind: Any) -> Read:
    """Of a type as an annotation names it."""
    if kind is Any:
        return lambda value, place: value
    if is_dataclass(kind):
        return _of_dataclass(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _of_optional(parts)
    if origin is tuple:
        return _of_list(_reader(parts[0])) if parts[-1] is Ellipsis else _of_tuple([_reader(part) for part in parts])
    if origin is dict:
        return _of_names(_reader(parts[1]))
    if kind in (int, float, str, bool):
        return _of_plain(kind)
    raise TypeError(f"A field of a record must be of a type that JSON holds. Got {kind} instead.")


def _of_dataclass(kind: Any) -> Read:
    types = get_type_hints(kind)
    readers = {field.name: _reader(types[field.name]) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, Mapping):
            raise _damaged(place, "a record", value)
        missing = sorted(needed - value.keys())
        if missing:
            raise Damaged(f"{place} must have {', '.join(missing)}.")
        return kind(**{name: each(value[name], f"{place}.{name}") for name, each in readers.items() if name in value})

    return read


def _of_optional(parts: tuple[Any, ...]) -> Read:
    """X | None"""
    (some,) = (_reader(part) for part in parts if part is not NoneType)
    return lambda value, place: None if value is None else some(value, place)


def _of_list(each: Read) -> Read:
    def read(value: Any, place: str) -> Any:
        if not isinstance(value, list | tuple):
            raise _damaged(place, "a list", value)
        return tuple(each(part, f"{place}[{number}]") for number, part in enumerate(value))

    return read


def _of_tuple(readers: list[Read]) -> Read:
    def read(value: Any, place: str) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(readers):
            raise _damaged(place, f"a list of {len(readers)}", value)
        return tuple(
            each(part, f"{place}[{number}]") for number, (each, part) in enumerate(zip(readers, value, strict=True))
        )

    return read


def _of_names(each: Read) -> Read:
    def read(value: Any, place: str) -> Any:
        if not isinstance(value, Mapping):
            raise _damaged(place, "a record", value)
        return {name: each(part, f"{place}.{name}") for name, part in value.items()}

    return read


def _of_plain(kind: type) -> Read:
    """A whole number is a float, too; True is no number."""
    kinds = (int, float) if kind is float else (kind,)

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise _damaged(place, kind.__name__, value)
        return value

    return read


def _damaged(place: str, wanted: str, value: Any) -> Damaged:
    return Damaged(f"{place} must be {wanted}. Got {reprlib.repr(value)} instead.")
