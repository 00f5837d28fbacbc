"""How long a job will take is counted from its request, and measured on the jobs that ended here."""

import json
from dataclasses import replace
from typing import Any

import pytest
from conftest import Laboratory, leave_result

from core.bench.workbench import RECIPES, Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.measuring.front import SEARCH, STUDENTS, Goal
from core.studies import assignment, duration, rates, reproduce, tuning
from core.studies.duration import Pace, expected, in_words, pace_of, work
from core.studies.kinds import KINDS

ONCE = Pace()


def requests(name: str) -> dict[str, dict[str, Any]]:
    """One of every kind, as the pages ask for it."""
    trained = CompressionConfig(recovery=RecoveryConfig(3))
    found = {
        "train": Workbench.training_request(RECIPES["cnn"]),
        "recover": Workbench.recovery_request(name, trained),
        "export": Workbench.export_request(name, trained),
        SEARCH: Workbench.search_request(name, Goal(0.01), 2.0),
        STUDENTS: Workbench.students_request("digits", Goal(floor=0.9, families=("mlp",)), 2.0),
        reproduce.LOW_RANK: {"seeds": 3, "epochs": 3},
        tuning.ITERATIVE: {"recovery": json.loads(json.dumps(vars(assignment.iterative(8)))), "allowance": 0.01},
        assignment.CHANNELS: {"epochs": 6},
        assignment.QUANTIZATION: {"epochs": 4},
        assignment.COMBINATION: {"epochs": 8, "allowance": 0.01},
        rates.CURVE: {"bits": 4, "activation_bits": None, "epochs": 4},
        rates.ABLATION: {"bits": 4, "activation_bits": 8, "epochs": 4, "schedule": "iterative", "seeds": 3},
    }
    return {kind: {"baseline": name, **found.get(kind, {}), "kind": kind} for kind in KINDS}


@pytest.mark.parametrize("kind", requests("cnn"))
def test_every_kind_of_job_has_its_time_and_more_of_it_takes_longer(bench: Workbench, kind: str) -> None:
    small, large = requests("mlp")[kind], requests("cnn")[kind]
    seconds = expected(bench, large, ONCE)
    assert 1 < seconds < 4 * 3600
    if kind not in ("train", SEARCH, STUDENTS, reproduce.LOW_RANK):  # which say themselves which network, or how long
        assert expected(bench, small, ONCE) < seconds
    for setting in ("epochs", "seeds", "minutes"):
        if setting in large:
            assert expected(bench, {**large, setting: 2 * large[setting]}, ONCE) > 1.5 * seconds - duration.START
    if kind not in (SEARCH, STUDENTS):
        assert expected(bench, large, Pace(3, 3, 3)) == pytest.approx(3 * seconds - 2 * duration.START)


def test_every_kind_of_job_is_counted() -> None:
    assert set(duration.WORKS) == set(KINDS)


def test_a_kind_that_nobody_counts_is_refused_by_name(bench: Workbench) -> None:
    with pytest.raises(ConfigError, match=r"kind must be one of .*'magic'"):
        work(bench, {"kind": "magic"})


def test_a_search_takes_what_was_asked_for_on_any_machine(bench: Workbench) -> None:
    asked = Workbench.search_request("mlp", Goal(0.01), 2.0)
    assert expected(bench, asked, Pace(9, 9, 9)) == 120


def test_the_shipped_trainings_took_what_their_recipes_are_said_to_take(bench: Workbench) -> None:
    for name in ("cnn", "mlp"):
        took = sum(epoch["seconds"] for epoch in bench.baseline(name).info["history"])
        assert expected(bench, Workbench.training_request(RECIPES[name]), ONCE) == pytest.approx(took, rel=0.15)


def test_what_is_counted_is_what_the_experiments_did(laboratory: Laboratory) -> None:
    bench, found = Workbench(laboratory.cache), laboratory.found
    about = {"baseline": laboratory.baseline, "epochs": 2}
    one = duration._measured(bench, laboratory.baseline).measuring

    def evaluations(kind: str) -> float:
        return work(bench, {"kind": kind, **about}).measuring / one

    assert evaluations(assignment.LADDER) == pytest.approx(len(found[assignment.LADDER].rows))
    assert evaluations(assignment.WIDTHS) == pytest.approx(len(found[assignment.WIDTHS].rows))
    assert evaluations(assignment.ORDERS) == pytest.approx(duration.DECOMPOSED * len(found[assignment.ORDERS].rows))
    layers = len(bench.baseline(laboratory.baseline).layers)
    assert evaluations(assignment.MIXED) >= layers * (len(found[assignment.MIXED].steps) - 1)
    epochs = sum(len(row.history) for row in found[assignment.QUANTIZATION].rows)
    assert work(bench, {"kind": assignment.QUANTIZATION, **about}).epochs == epochs
    bench.turns.close()


def test_a_combination_is_counted_as_it_halves_its_lists(bench: Workbench) -> None:
    asked = requests("mlp")[assignment.COMBINATION]
    runs = sum(len(configs).bit_length() for configs in assignment.ways(8).values())
    assert 0.8 < work(bench, asked).epochs / (8 * runs) < 1.1


def leave_job(bench: Workbench, request: dict[str, Any], events: list[dict[str, Any]]) -> None:
    folder = leave_result(bench.cache, request, {})
    (folder / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_epochs_that_took_long_here_make_every_training_longer(bench: Workbench) -> None:
    asked = requests("mlp")["recover"]
    own = work(bench, asked)
    told = [{"time": 10.0 * epoch, "figures": {"seconds": 3 * own.training / own.epochs}} for epoch in range(1, 4)]
    leave_job(bench, asked, told)
    assert pace_of(bench).training == pytest.approx(3)
    assert pace_of(bench).measuring == pace_of(bench).exporting == 1
    other = requests("cnn")[assignment.QUANTIZATION]
    assert expected(bench, other) > 2.5 * expected(bench, other, ONCE)


def lasted(seconds: float) -> list[dict[str, Any]]:
    """Events of a job that loaded for a minute, and then worked for so long."""
    steps = [(60 + share * seconds, share) for share in (0.0, 0.5, 0.9)]
    return [{"time": 0.0, "message": "Starting."}, *({"time": at, "done": share} for at, share in steps)]


def test_work_that_took_long_here_makes_its_kind_longer_and_one_odd_job_decides_nothing(bench: Workbench) -> None:
    ladder, export = requests("mlp")[assignment.LADDER], requests("mlp")["export"]
    for count in range(2):
        leave_job(bench, ladder, lasted(4 * work(bench, ladder).measuring))
        assert pace_of(bench).measuring == pytest.approx((2.5, 4)[count])
    for _ in range(2):
        leave_job(bench, export, lasted(2 * work(bench, export).exporting))
    assert pace_of(bench).exporting == pytest.approx(2)
    assert pace_of(bench).training == 1


def test_what_was_found_in_the_cache_says_nothing_of_the_pace(bench: Workbench) -> None:
    asked = requests("mlp")[assignment.LADDER]
    for events in (lasted(0.01 * work(bench, asked).measuring), [{"time": 0.0}, {"time": 9.0, "done": 1.0}], []):
        leave_job(bench, asked, events)
        assert pace_of(bench) == ONCE


def test_jobs_that_cannot_be_counted_are_left_out(bench: Workbench) -> None:
    for request in ({"kind": "magic"}, {"kind": "recover", "baseline": "gone", "config": {}}, {"kind": "train"}):
        leave_job(bench, request, [{"time": 0.0, "figures": {"seconds": 5.0}}])
    assert pace_of(bench) == ONCE


def test_times_are_said_to_about_a_tenth() -> None:
    said = {1: "5 s", 42: "40 s", 89: "90 s", 119: "2 min", 240: "4 min", 3000: "50 min", 5500: "1.5 h", 8000: "2 h"}
    assert {seconds: in_words(seconds) for seconds in said} == {key: f"about {words}" for key, words in said.items()}


def test_a_longer_recovery_with_bits_and_a_teacher_takes_longer(bench: Workbench) -> None:
    plain = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(3))
    harder = [replace(plain, bits=4), replace(plain, recovery=RecoveryConfig(3, distillation=True))]
    smaller = replace(plain, channel_share=0.5)
    seconds = [expected(bench, Workbench.recovery_request("cnn", own), ONCE) for own in (smaller, plain, *harder)]
    assert seconds[0] < seconds[1] < min(seconds[2:])
