"""Laws of what comes with the project: the code would still make it, the pages ask for it, and it is not mixed up."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.bench import keys
from core.bench.knowledge import SINGULAR_VALUES
from core.bench.networks import PACKED
from core.bench.workbench import SHELF, SHIPPED, Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.machinery import shelf
from core.machinery.shelf import Shelf
from core.mathematics import rate
from core.measuring import training
from core.measuring.front import SEARCH, STUDENTS, Point
from core.studies import assignment, inspection, rates, reproduce, shipping, tuning
from core.studies.kinds import KINDS

MOST_BYTES = 3 * 2**20
AGAIN = "The code would not make these results any more: `python -m core ship` makes them anew."


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """An app that nobody has used yet."""
    return Workbench(tmp_path_factory.mktemp("fresh"), shelf=SHELF)


def answers(bench: Workbench) -> list[shipping.Answer]:
    found = [shipping.answer(bench, request) for request in shipping.requests()]
    assert None not in found, AGAIN
    return [own for own in found if own is not None]


# What is there.


def test_everything_is_there_and_as_the_code_would_make_it(bench: Workbench) -> None:
    assert len(answers(bench)) == len(shipping.requests())
    assert SHELF.stat().st_size <= MOST_BYTES
    named = {shipping.key(bench, request) for request in shipping.requests()}
    assert set(Shelf(SHELF).names(shipping.ANSWER)) == named, AGAIN


def test_every_other_entry_is_found_by_what_it_is_of(bench: Workbench) -> None:
    own = Shelf(SHELF)
    trained = {keys.recovery(bench.profile(name), config) for name, config in bench.recovered()}
    assert set(own.names("recovered")) == trained, AGAIN
    points = {bench.point_key(point.baseline, point.config) for point in bench.points()}
    assert set(own.names("point")) == points, AGAIN
    for name in SHIPPED:
        for split in ("validation", "test"):
            assert bench.known(name, CompressionConfig(), split) is not None, AGAIN  # type: ignore[arg-type]
    listed = {
        bench.measurements.key(bench.profile(point.baseline), point.config, "validation") for point in bench.points()
    }
    listed |= {bench.measurements.key(bench.profile(point.baseline), point.config, "test") for point in bench.points()}
    assert set(own.names("evaluation")) <= listed, AGAIN


def test_what_pages_show_at_first_is_there_and_comes_out_the_same(bench: Workbench, tmp_path: Path) -> None:
    shipping._open(bench)
    own, again = Shelf(SHELF), Workbench(tmp_path)
    for kind in (SINGULAR_VALUES, inspection.OUTPUT_ERROR):
        assert set(bench.store.keys(kind)) == set(own.names(kind)), AGAIN
        assert all(bench.store.is_below(key) for key in bench.store.keys(kind)), AGAIN
    for name in SHIPPED:
        for one, other in zip(bench.spectrum(name), again.spectrum(name), strict=True):
            assert one.singular_values == pytest.approx(other.singular_values, rel=1e-4, abs=1e-6)
            assert (one.rank, one.random_rank) == (other.rank, other.random_rank)


def test_what_is_said_of_where_it_was_made_names_no_machine() -> None:
    about = Shelf(SHELF).about
    assert set(about) == {"machine", "versions", "date", "answers", "entries"}
    assert set(about["versions"]) == set(shipping.LIBRARIES)


def test_every_network_that_a_page_offers_opens_and_is_what_its_answer_says(bench: Workbench) -> None:
    for answer in answers(bench):
        for name, config in shipping._chosen(answer):
            point = next(own for own in bench.points(name) if own.config == config)
            assert len(bench.file_of(name, config)) == point.bytes
            assert bench.came_with_the_project(name, config)


ONE_WAY = {"score": ("lamp",), "scope": ("network", "layer")}
"""Of the one-shot search's six ways, those that are run again: a criterion by both scopes."""
TWO_WIDTHS = (4, 3)
"""Of the ladder's widths; all its steps are."""


@pytest.mark.parametrize("kind", [tuning.ONE_SHOT, assignment.LADDER])
def test_a_short_one_comes_out_the_same_when_it_is_run_again(
    bench: Workbench, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = next(own for own in shipping.requests() if own["kind"] == kind and own["baseline"] == "mlp")
    came = shipping.answer(bench, request)
    assert came is not None, AGAIN
    if kind == tuning.ONE_SHOT:
        expected = {"answers": [own.to_dict() for own in came.result.answers if own.score in ONE_WAY["score"]]}
        monkeypatch.setattr(tuning.settings, "named", lambda name: SimpleNamespace(choices=ONE_WAY[name]))
    else:
        expected = {"rows": [own.to_dict() for own in came.result.rows if own.bits in TWO_WIDTHS]}
        monkeypatch.setattr(tuning, "WIDTHS", TWO_WIDTHS)
    again = KINDS[kind].run(Workbench(tmp_path), request, lambda event: None, lambda: False).to_dict()
    assert again.keys() == expected.keys()
    before, after = (list(measured(answer)) for answer in (expected, again))
    assert before
    assert [own["config"] for own in before] == [own["config"] for own in after]
    for one, other in zip(before, after, strict=True):
        error = sqrt(one["accuracy"] * (1 - one["accuracy"]) / 5000)
        assert abs(one["accuracy"] - other["accuracy"]) <= 4 * error
        assert one["bytes"] == pytest.approx(other["bytes"], rel=0.01)


def measured(result: Any) -> Iterator[dict[str, Any]]:
    """Everything in an answer that has an accuracy and a size."""
    if isinstance(result, dict):
        if {"config", "accuracy", "bytes"} <= set(result):
            yield result
        result = list(result.values())
    if isinstance(result, list):
        for own in result:
            yield from measured(own)


# When it holds.


@pytest.mark.parametrize(
    ("of", "name", "value"),
    [
        (assignment, "VERSION", 99),
        (assignment, "GENTLE", 0.5),
        (assignment, "RUNGS", {"one": {}}),
        (tuning, "VERSION", 99),
        (tuning, "SHARES", (0.5,)),
        (tuning, "GRID", 7),
        (reproduce, "VERSION", 99),
        (reproduce, "REMOVED", {"30 %": 0.3}),
        (training, "VERSION", 99),
        (training, "TEMPERATURE", 99.0),
    ],
)
def test_a_change_of_the_code_makes_them_unfindable(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, of: Any, name: str, value: Any
) -> None:
    request = next(own for own in shipping.requests() if own["kind"] == assignment.QUANTIZATION)
    before = shipping.key(bench, request)
    monkeypatch.setattr(of, name, value)
    if name == "RUNGS":
        monkeypatch.setattr(assignment, "ways", lambda: {})
    assert shipping.key(bench, request) != before
    assert shipping.answer(bench, request) is None


@pytest.mark.parametrize(
    ("module", "constant", "value", "kinds"),
    [
        (assignment, "GENTLE", 0.5, [assignment.QUANTIZATION, assignment.COMBINATION]),
        (rates, "PEAK", 0.1, [rates.CURVE, rates.ABLATION]),
        (rate, "PRIOR", 0.25, [rates.CURVE, rates.ABLATION, STUDENTS]),
    ],
)
def test_what_only_some_experiments_rely_on_says_nothing_of_the_others(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, module: Any, constant: str, value: float, kinds: list[str]
) -> None:
    before = {own["kind"]: shipping.key(bench, own) for own in shipping.requests()}
    monkeypatch.setattr(module, constant, value)
    after = {own["kind"]: shipping.key(bench, own) for own in shipping.requests()}
    assert [kind for kind in before if before[kind] != after[kind]] == kinds


def test_every_request_has_a_key_of_its_own(bench: Workbench) -> None:
    requests = shipping.requests()
    others = [{**own, "epochs": 3} for own in requests if "epochs" in own]
    assert len({shipping.key(bench, own) for own in requests}) == len(requests)
    assert not {shipping.key(bench, own) for own in requests} & {
        shipping.key(bench, own) for own in others if own not in requests
    }


def test_what_was_never_shipped_has_no_answer(bench: Workbench) -> None:
    assert shipping.answer(bench, {"kind": assignment.LADDER, "baseline": "mlp-course"}) is None
    assert shipping.answer(bench, {"kind": assignment.LADDER, "baseline": "somebody's own"}) is None


# Beside what is made here.


def test_a_training_of_ones_own_takes_the_place(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    name, config = next((name, config) for name, config in bench.recovered() if name == "cnn")
    before = bench.evaluate(name, config)
    network = bench.network(name, CompressionConfig())
    from core.formats import packed

    content = packed.pack(network).content
    weights = shelf.Entry("recovered", b"", None)
    assert weights.weights is None
    bench.trainings.keep(name, config, {"history": []}, _as_packed(content))
    after = bench.evaluate(name, config)
    assert not bench.came_with_the_project(name, config)
    assert after.bytes != before.bytes
    bench.remove(name, config)


def _as_packed(content: bytes) -> bytes:
    import torch
    from safetensors.torch import save

    return save({PACKED: torch.frombuffer(bytearray(content), dtype=torch.uint8)})


def test_a_command_and_an_experiment_do_not_look_it_up(tmp_path: Path) -> None:
    plain = Workbench(tmp_path)
    assert plain.recovered() == []
    assert shipping.answer(plain, shipping.requests()[0]) is None
    assert plain.history("cnn", CompressionConfig(bits=4, recovery=RecoveryConfig())) is None


def test_points_that_came_along_say_so(bench: Workbench) -> None:
    points: list[Point] = bench.points("cnn")
    assert points
    assert {own.origin for own in points} == {"shipped"}
    searched = next(own for own in answers(bench) if own.request["kind"] == SEARCH)
    best = searched.result.best.configuration
    assert best in [own.config for own in points]


def test_trainings_that_are_done_already_do_not_make_the_time_that_is_said_shorter(tmp_path: Path) -> None:
    bench, asked = Workbench(tmp_path), {"kind": "one-shot search", "baseline": "cnn"}
    assert [shipping._longest(bench, asked, seconds) for seconds in (30, 2, 31)] == [30, 30, 31]
    assert shipping._longest(bench, {**asked, "baseline": "mlp"}, 2) == 2


def test_one_kind_can_be_run_anew_and_the_others_stay_as_they_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, ran, kept = Workbench(tmp_path, shelf=SHELF), list[str](), list[shipping.Answer]()
    requests = [own for own in shipping.requests() if own.get("baseline") == "mlp"]
    results = {own["kind"]: shipping.answer(bench, own).result for own in requests}  # type: ignore[union-attr]

    def run(kind: str, *asked: Any) -> Any:
        ran.append(kind)
        return results[kind]

    monkeypatch.setattr(shipping, "requests", lambda: requests)
    monkeypatch.setattr(shipping, "_entries", lambda bench, clean, answers: kept.extend(answers) or {})
    for request in requests:
        kind = request["kind"]
        monkeypatch.setitem(KINDS, kind, replace(KINDS[kind], run=partial(run, kind)))
    shipping.ship(bench, tmp_path / "results.zip", again=[assignment.LADDER])
    assert ran == [assignment.LADDER]
    assert [own.request for own in kept] == requests
    with pytest.raises(ConfigError, match="again must be of codebooks beside grids, one-shot"):
        shipping.ship(bench, tmp_path / "results.zip", again=["ladders"])
