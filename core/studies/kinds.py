"""Every kind of job: what its process does, and what pages call it. Whoever adds a kind names it in its own module."""

from typing import Any

from core.bench import work
from core.bench.work import Kind
from core.bench.workbench import Workbench
from core.machinery.jobs import Report
from core.measuring.front import SEARCH
from core.studies import assignment, reproduce, tuning


def _search(bench: Workbench, request: work.Request, report: Report, should_stop: work.Stop) -> dict[str, Any]:
    from core.studies import search  # brings Optuna

    return search.work(bench, request, report, should_stop)


KINDS: dict[str, Kind] = {
    **work.KINDS,
    **tuning.KINDS,
    **reproduce.KINDS,
    **assignment.KINDS,
    SEARCH: Kind("Search for the smallest file", _search, "searched", repeats=True),
}
"""By the kind that a request names."""

EXPERIMENTS = {name: kind for name, kind in KINDS.items() if name not in work.KINDS}
"""Those that run many networks to answer one question."""
