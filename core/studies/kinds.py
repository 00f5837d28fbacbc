"""Every kind of job: what its process does, and what pages call it. Whoever adds a kind names it in its own module."""

from collections.abc import Mapping
from typing import Any

from core.bench import work
from core.bench.work import Kind
from core.bench.workbench import Workbench
from core.machinery.jobs import Report
from core.machinery.records import Damaged
from core.measuring.front import SEARCH, STUDENTS
from core.studies import assignment, rates, reproduce, sharing, tuning
from core.studies.answers import Searched


def _search(bench: Workbench, request: work.Request, report: Report, should_stop: work.Stop) -> Searched:
    from core.studies import search  # brings Optuna

    return search.work(bench, request, report, should_stop)


def _students(bench: Workbench, request: work.Request, report: Report, should_stop: work.Stop) -> Searched:
    from core.studies import students

    return students.work(bench, request, report, should_stop)


KINDS: dict[str, Kind] = {
    **work.KINDS,
    **tuning.KINDS,
    **reproduce.KINDS,
    **assignment.KINDS,
    **sharing.KINDS,
    **rates.KINDS,
    SEARCH: Kind("Search for the smallest file", Searched, _search, "searched", repeats=True),
    STUDENTS: Kind("Search over families", Searched, _students, "searched", repeats=True),
}
"""By the kind that a request names."""

EXPERIMENTS = {name: kind for name, kind in KINDS.items() if name not in work.KINDS}
"""Those that run many networks to answer one question."""


def answer(kind: str, result: Mapping[str, Any] | None) -> Any:
    """The result of a finished job as the record that its kind answers with (`Kind.answer`); None where there is none,
    or where it is damaged or another version's."""
    try:
        return None if result is None else KINDS[kind].answer.from_dict(result)
    except Damaged:
        return None
