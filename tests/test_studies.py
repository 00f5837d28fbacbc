"""Each configuration is tried once, whoever works on it, and what a dead worker held is tried again."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from core import studies
from core.config import CompressionConfig

PROJECT = Path(__file__).resolve().parent.parent

WORKER = """
import os, sys, time
from core import studies
from core.config import CompressionConfig

url, log, trials, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
studies.HEARTBEAT_SECONDS, studies.GRACE_SECONDS = 1, int(sys.argv[5])
study = studies.open_study(url, "shared")

def look(trial):
    config = CompressionConfig(bits=trial.suggest_int("bits", 2, 8), sparsity=trial.suggest_int("s", 0, 3) / 10)
    studies.claim(study, trial, config)
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {trial.number} {config.bits} {config.sparsity}\\n")
    time.sleep(seconds)
    return config.bits

study.optimize(look, n_trials=trials, catch=(studies.Claimed,))
"""


def worker(url: str, log: Path, trials: int, seconds: float, grace: int = 60) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, url, str(log), str(trials), str(seconds), str(grace)]
    return subprocess.Popen(command, cwd=PROJECT)


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_of(tmp_path / "deep" / "studies.sqlite")


def test_many_processes_do_no_trial_twice(url: str, tmp_path: Path) -> None:
    log, study = tmp_path / "log.txt", studies.open_study(url, "shared")
    for bits in (2, 3, 4, 5):
        study.enqueue_trial({"bits": bits, "s": 0})  # waiting trials, which everybody wants
    workers = [worker(url, log, 15, 0.01) for _ in range(3)]
    assert [each.wait(120) for each in workers] == [0, 0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    done = Counter((bits, sparsity) for _, _, bits, sparsity in lines)
    assert set(done.values()) == {1}, "a configuration was tried twice"
    assert {("2", "0.0"), ("3", "0.0"), ("4", "0.0"), ("5", "0.0")} <= done.keys()
    assert len({number for _, number, *_ in lines}) == len(lines)
    assert len({process for process, *_ in lines}) > 1
    states = Counter(trial.state for trial in studies.open_study(url, "shared").get_trials())
    assert states[TrialState.COMPLETE] == len(lines)
    assert states[TrialState.COMPLETE] + states[TrialState.FAIL] == 45
    assert not states[TrialState.WAITING]


def test_what_a_dead_worker_held_is_tried_again_by_another(url: str, tmp_path: Path) -> None:
    log, study = tmp_path / "log.txt", studies.open_study(url, "shared")
    study.enqueue_trial({"bits": 7, "s": 3})
    first = worker(url, log, 1, 600, 3)
    for _ in range(600):
        if log.exists() and log.read_text():
            break
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(20)
    time.sleep(5)
    assert worker(url, log, 2, 0, 3).wait(120) == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    again = [line for line in lines if line[2:] == ["7", "0.3"]]
    assert len(again) == 2
    assert again[0][0] == str(first.pid) != again[1][0]
    trials = studies.open_study(url, "shared").get_trials()
    assert [trial.state for trial in trials if trial.number == 0] == [TrialState.FAIL]
    repeated = next(trial for trial in trials if trial.number == int(again[1][1]))
    assert repeated.state == TrialState.COMPLETE
    assert studies.held(repeated) == CompressionConfig(bits=7, sparsity=0.3)


def test_only_what_is_done_or_in_hand_is_taken(url: str) -> None:
    study, config = studies.open_study(url, "own"), CompressionConfig(bits=3)
    late, first = study.ask(), study.ask()
    studies.claim(study, first, config)
    with pytest.raises(studies.Claimed, match="Trial 1"):
        studies.claim(study, study.ask(), config)
    with pytest.raises(studies.Claimed, match="Trial 1"):  # of a lower number, and asking later
        studies.claim(study, late, config)
    studies.claim(study, study.ask(), CompressionConfig(bits=4))
    studies.claim(studies.open_study(url, "other"), late, config)  # another study knows nothing of it
    study.tell(first, state=TrialState.FAIL)
    again = study.ask()
    studies.claim(study, again, config)
    study.tell(again, 1.0)
    with pytest.raises(studies.Claimed, match=f"Trial {again.number}"):
        studies.claim(study, study.ask(), config)


@pytest.mark.parametrize("size", [0, 1, 29_999, 30_001, 123_457])
def test_a_packed_file_is_kept_with_its_trial_to_the_byte(url: str, size: int) -> None:
    study, content = studies.open_study(url, "own"), os.urandom(size)
    trial = study.ask()
    studies.keep_packed(trial, content)
    study.tell(trial, 1.0)
    (read,) = studies.finished(studies.open_study(url, "own"))
    assert studies.packed_of(read) == content
    assert all(len(str(own)) <= studies.PIECE for own in read.user_attrs.values())


def test_a_damaged_study_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "studies.sqlite"
    study = studies.open_study(url_of(path), "own")
    study.tell(study.ask(), 1.0)
    study._storage.remove_session()
    path.write_bytes(b"this is no database at all, not even a little" * 40)
    for beside in tmp_path.glob("studies.sqlite-*"):
        beside.unlink()
    anew = studies.open_study(url_of(path), "own")
    assert not anew.get_trials()
    anew.tell(anew.ask(), 2.0)
    (aside,) = tmp_path.glob("damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "cannot be used"),
        ("nonsense://somebody:secret@nowhere/studies", "cannot be used"),
        ("postgresql://somebody:secret@127.0.0.1:1/studies", "driver|cannot be used"),
        ("sqlite:////proc/nothing/studies.sqlite", "cannot be"),
    ],
)
def test_a_storage_that_cannot_be_used_says_so_and_tells_no_password(address: str, said: str) -> None:
    with pytest.raises(OSError, match=said) as raised:
        studies.open_study(address, "own")
    assert "secret" not in str(raised.value)


def test_a_full_disk_is_no_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "folder.sqlite"
    folder.mkdir()
    with pytest.raises(studies.StorageError):
        studies.open_study(url_of(folder), "own")


def test_transactions_on_sqlite_begin_with_the_lock(url: str) -> None:
    study = studies.open_study(url, "own")
    storage = study._storage._backend
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1").fetchall()
        other = sqlite3.connect(storage.engine.url.database, timeout=0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_attributes_are_json(url: str) -> None:
    study = studies.open_study(url, "own", objectives=2)
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    trial = study.ask()
    studies.claim(study, trial, CompressionConfig(bits=2))
    assert json.loads(trial.user_attrs[studies.CONFIG])["bits"] == 2
