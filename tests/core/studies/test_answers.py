"""Laws of what the studies answer: a record is the JSON that was stored, no more and no less; damage is said."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CourseReport, Laboratory
from hypothesis import given
from hypothesis import strategies as st

from core.bench.workbench import SHELF, Workbench
from core.machinery.records import Damaged, Record
from core.machinery.shelf import Shelf
from core.measuring.evaluation import Latency
from core.measuring.front import SEARCH, STUDENTS
from core.studies import assignment, kinds, reproduce, shipping

REQUESTS = shipping.requests()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What comes with the project, as JSON, by the place of its request."""
    bench, shelf = Workbench(tmp_path_factory.mktemp("fresh"), shelf=SHELF), Shelf(SHELF)
    entries = {number: shelf.get(shipping.key(bench, request)) for number, request in enumerate(REQUESTS)}
    return {number: json.loads(entry.payload)["result"] for number, entry in entries.items() if entry is not None}


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=lambda number: str(REQUESTS[number]["kind"]))
def test_what_comes_with_the_project_is_written_back_as_it_was(shipped: dict[int, dict[str, Any]], number: int) -> None:
    kind, stored = REQUESTS[number]["kind"], shipped[number]
    record = kinds.KINDS[kind].answer.from_dict(stored)
    assert json.dumps(record.to_dict()) == json.dumps(stored)
    assert kinds.answer(kind, stored) == record


def test_every_answer_of_a_study_comes_back_from_json(laboratory: Laboratory, course_report: CourseReport) -> None:
    made = [*laboratory.found.items(), (reproduce.LOW_RANK, course_report.found)]
    assert len(made) == len(assignment.KINDS)
    for kind, answer in made:
        text = json.dumps(answer.to_dict(), allow_nan=False)
        assert kinds.answer(kind, json.loads(text)) == answer
        assert json.dumps(kinds.answer(kind, json.loads(text)).to_dict()) == text


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every name in an answer; of a list its first entry stands for all. Not within what a training decides."""
    if isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))
    if isinstance(value, dict):
        for name, part in value.items():
            yield (*path, name)
            if name not in ("history", "config"):
                yield from places(part, (*path, name))


def changed(answer: Any, path: tuple[Any, ...], wrong: object = None) -> Any:
    """The same without what is at the path, or with something else there."""
    name, rest = path[0], path[1:]
    if isinstance(answer, list):
        return [changed(answer[0], rest, wrong), *answer[1:]]
    kept = answer if rest or wrong is not None else {key: part for key, part in answer.items() if key != name}
    return {**kept, **({name: changed(answer[name], rest, wrong)} if rest else {name: wrong} if wrong else {})}


def may_be_missing(kind: str, path: tuple[Any, ...]) -> bool:
    """What not every answer says; and one of many by name: of a class, a layer, or how many images."""
    by_name = len(path) > 1 and path[-2] in ("batches", "report") and isinstance(path[-1], str)
    later = ("at_most", "baseline", "family", "course_ratio", "self_contained")
    if kind in (SEARCH, STUDENTS) and path[-1] in later:
        return True
    return by_name or path[-1] == "flips" or (kind, path[-1]) == (assignment.WIDTHS, "bits")


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=lambda number: str(REQUESTS[number]["kind"]))
def test_an_answer_that_lacks_a_field_or_has_a_wrong_type_is_damaged(
    shipped: dict[int, dict[str, Any]], number: int
) -> None:
    kind, stored = REQUESTS[number]["kind"], shipped[number]
    found = list(places(stored))
    assert found
    for path in found:
        for wrong in (None, object()):
            if wrong is None and may_be_missing(kind, path):
                continue
            damaged = changed(stored, path, wrong)
            with pytest.raises(Damaged, match=str(path[-1])):
                kinds.KINDS[kind].answer.from_dict(damaged)
            assert kinds.answer(kind, damaged) is None


def test_what_is_no_record_at_all_is_damaged() -> None:
    for wrong in ([], "rows", 3, {"rows": 3}, {"rows": [3]}):
        assert kinds.answer(assignment.LADDER, wrong) is None  # type: ignore[arg-type]
    assert kinds.answer(assignment.LADDER, None) is None


# The mechanism.


@dataclass(frozen=True)
class Part(Record):
    size: int
    share: float | None
    note: str | None = None


@dataclass(frozen=True)
class Whole(Record):
    name: str
    done: bool
    ends: tuple[float, float]
    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    timed: Latency
    rest: dict[str, Any]
    best: Part | None


NUMBERS = st.floats(allow_nan=False) | st.integers(-9, 9)
PARTS = st.builds(Part, st.integers(), st.none() | NUMBERS, st.none() | st.text())
WHOLES = st.builds(
    Whole,
    st.text(),
    st.booleans(),
    st.tuples(NUMBERS, NUMBERS),
    st.lists(PARTS, max_size=3).map(tuple),
    st.dictionaries(st.text(), PARTS, max_size=3),
    st.builds(Latency, st.integers(), st.integers(), NUMBERS, NUMBERS, NUMBERS),
    st.dictionaries(st.text(), st.lists(st.integers()) | st.text(), max_size=3),
    st.none() | PARTS,
)


@given(WHOLES)
def test_a_record_comes_back_from_json_and_is_written_the_same(whole: Whole) -> None:
    text = json.dumps(whole.to_dict())
    assert Whole.from_dict(json.loads(text)) == whole
    assert json.dumps(Whole.from_dict(json.loads(text)).to_dict()) == text


def test_a_field_with_a_default_is_left_out_and_one_that_may_be_none_is_not() -> None:
    assert Part(3, None).to_dict() == {"size": 3, "share": None}
    assert Part.from_dict({"size": 3, "share": None, "later": 5}) == Part(3, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": 3}, "Whole.name must be str. Got 3 instead."),
        ({"done": 1}, "Whole.done must be bool. Got 1 instead."),
        ({"ends": [1]}, "Whole.ends must be a list of 2. Got [1] instead."),
        ({"parts": [{"size": True, "share": 0}]}, "Whole.parts[0].size must be int. Got True instead."),
        ({"parts": [{"size": 1.0, "share": 0}]}, "Whole.parts[0].size must be int. Got 1.0 instead."),
        ({"by_name": {"a": {"size": 1, "share": "all"}}}, "Whole.by_name.a.share must be float. Got 'all' instead."),
        ({"by_name": []}, "Whole.by_name must be a record. Got [] instead."),
        ({"best": {}}, "Whole.best must have share, size."),
        ({"timed": 3}, "Whole.timed must be a record. Got 3 instead."),
    ],
)
def test_a_message_names_the_field_what_it_must_be_and_what_came(changed: dict[str, Any], said: str) -> None:
    whole = Whole("a", True, (0, 1), (), {}, Latency(1, 1, 0.0, 0.0, 0.0), {}, None).to_dict()
    with pytest.raises(Damaged) as error:
        Whole.from_dict({**whole, **changed})
    assert str(error.value) == said


def test_a_type_that_json_does_not_hold_is_refused_when_the_record_is_first_read() -> None:
    @dataclass(frozen=True)
    class Odd(Record):
        path: Path

    with pytest.raises(TypeError, match="of a type that JSON holds"):
        Odd.from_dict({"path": "a"})
