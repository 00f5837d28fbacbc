"""Processes that work on a study beside this one: they bring students, end with it, and one that fails is told of."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core.bench.workbench import Workbench
from core.config import RecoveryConfig, TrainingConfig
from core.machinery.files import PROJECT
from core.measuring.front import Goal
from core.studies import beside, students, trials
from core.studies.students import PRICES

GOAL = Goal(floor=0.5, families=("mlp",))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    bench = Workbench(tmp_path)
    recipe = TrainingConfig("mlp", 3, data="digits", widths=((64,),))
    bench.add_baseline(bench.train(recipe), "own", "trained")
    return bench


def test_two_processes_train_students_of_one_study(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "MOST_EPOCHS", 4)
    here: list[int] = []
    train = students.StudentSearch._train

    def noted(search: students.StudentSearch, seconds: float, again: bool, trial: Any) -> float:
        here.append(trial.number)
        return train(search, seconds, again, trial)

    monkeypatch.setattr(students.StudentSearch, "_train", noted)
    threads = torch.get_num_threads()
    answer = students.run(bench, "digits", GOAL, 0.7, seed=0, workers=2)
    assert torch.get_num_threads() == threads
    assert answer.best is not None
    study = trials.open_study(
        trials.connect(students.default_storage(bench)), students.title_of(bench, "digits", GOAL), 1, None
    )
    assert {trial.number for trial in study.get_trials()} > set(here), "another process had some"
    first = sorted(study.get_trials(), key=lambda trial: trial.number)[:2]
    assert [PRICES.index(trial.params["price"]) for trial in first] == [
        PRICES.index(students.PLAIN["price"]), PRICES.index(students.PLAIN["price"]) - 1
    ]  # fmt: skip
    assert bench.lessons_for(bench.cards()[-1].id, RecoveryConfig(distillation=True), bool, print) is not None


def test_one_that_fails_does_no_harm_and_is_told_of() -> None:
    said: list[str] = []
    with beside.helpers({"cache": "nowhere"}, 1, lambda: False, said.append):
        pass
    (text,) = said
    assert "failed" in text
    assert "help_out" in text, "the last line that it wrote"


def test_it_ends_when_the_process_that_asked_is_gone(tmp_path: Path) -> None:
    """Without a word, as after a power cut."""
    asked = {
        "cache": str(tmp_path), "data": "digits", "goal": GOAL.to_request(), "seed": 0, "seconds": 600, "whole": 600,
        "storage": students.default_storage(Workbench(tmp_path)), "number": 1, "threads": 1,
    }  # fmt: skip
    code = (
        "import json, os, sys, tempfile; from core.studies import beside; "
        "other = beside._start(json.loads(sys.argv[1]), tempfile.TemporaryFile()); print(other.pid, flush=True); "
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(asked)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(2)
    assert _lives(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 120
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    """Whether it does; one that nobody has asked how it ended does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
