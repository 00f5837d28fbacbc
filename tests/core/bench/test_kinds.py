"""Every kind of job is in one registry, by which jobs are run and pages name them."""

import subprocess
from collections.abc import Callable

import pytest

from core.bench import work
from core.measuring.front import ORIGINS, SEARCH, STUDENTS
from core.studies import assignment, rates, reproduce, sharing, shipping, tuning
from core.studies.kinds import EXPERIMENTS, KINDS


def test_a_kind_is_declared_once_and_has_a_title_of_its_own() -> None:
    parts = (
        work.KINDS,
        tuning.KINDS,
        reproduce.KINDS,
        assignment.KINDS,
        sharing.KINDS,
        rates.KINDS,
        (SEARCH, STUDENTS),
    )
    assert len(KINDS) == sum(map(len, parts))
    titles = {kind.title for kind in KINDS.values()}
    assert len(titles) == len(KINDS)
    assert "" not in titles


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_measures_says_what_it_was_measured_for(name: str) -> None:
    assert KINDS[name].origin in ORIGINS
    assert (KINDS[name].origin == "explored") == (name not in EXPERIMENTS)


def test_of_an_experiment_the_answer_stands_and_is_not_looked_up() -> None:
    """A search can always go on."""
    assert {name for name, kind in EXPERIMENTS.items() if kind.repeats} == {SEARCH, STUDENTS}
    assert not any(kind.looks_up for kind in EXPERIMENTS.values())


def test_what_comes_with_the_project_are_experiments() -> None:
    assert {str(request["kind"]) for request in shipping.requests()} <= set(EXPERIMENTS)


def test_only_a_search_needs_the_library_that_searches(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = python("-c", "import sys, core.studies.kinds; print('optuna' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
