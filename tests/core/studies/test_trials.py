"""Each configuration is tried once, whoever works on it, and what a dead worker held is tried again."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from conftest import PROJECT, free_port
from optuna.trial import TrialState
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from core.config import CompressionConfig, RecoveryConfig
from core.studies import trials

WORKER = """
import os, sys, time
from core.studies import trials
from core.config import CompressionConfig

url, log, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
trials.HEARTBEAT_SECONDS, trials.GRACE_SECONDS = 1, int(sys.argv[5])
study = trials.open_study(url, "shared")

def look(trial):
    config = CompressionConfig(bits=trial.suggest_int("bits", 2, 8), sparsity=trial.suggest_int("s", 0, 3) / 10)
    trials.claim(study, trial, config)
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {trial.number} {config.bits} {config.sparsity}\\n")
    time.sleep(seconds)
    return config.bits

study.optimize(look, n_trials=count, catch=(trials.Claimed,))
"""


def worker(url: str, log: Path, trials: int, seconds: float, grace: int = 60) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, url, str(log), str(trials), str(seconds), str(grace)]
    return subprocess.Popen(command, cwd=PROJECT)


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def program(name: str, *folders: str) -> str:
    """The path of a database's program. Skips the test where it is not installed, but not in CI."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *folders]))
    if found is None:
        assert not os.environ.get("CI"), f"The test needs {name}, and a CI run must not skip it."
        pytest.skip(f"no {name} here: install PostgreSQL and MariaDB")
    return found


@contextlib.contextmanager
def server(folder: Path, user: str | None, make: list[str], serve: list[str], stop: signal.Signals) -> Iterator[None]:
    """A database server with its data in a new folder."""
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)
    quiet: dict[str, Any] = {"user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(make, check=True, timeout=120, **quiet)
    process = subprocess.Popen(serve, **quiet)
    try:
        yield
        assert process.poll() is None, "the server ended"
    finally:
        process.send_signal(stop)
        process.wait(30)


def answering(url: str) -> Engine:
    """Of a server that has just been started."""
    engine = create_engine(url, connect_args={"connect_timeout": 2}, isolation_level="AUTOCOMMIT")
    for _ in range(300):
        with contextlib.suppress(SQLAlchemyError):
            engine.connect().close()
            return engine
        time.sleep(0.1)
    raise AssertionError(f"{engine.url.drivername} does not answer")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    own = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    initdb, postgres, port = program("initdb", *own), program("postgres", *own), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to be run by root
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        data = Path(home) / "data"
        make = [initdb, "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync"]
        serve = [postgres, "-D", str(data), "-p", str(port), "-k", str(data), "-h", "127.0.0.1"]
        with server(data, user, make, serve, signal.SIGINT):
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def mysql() -> Iterator[str]:
    install, mariadbd, port = program("mariadb-install-db"), program("mariadbd"), free_port()
    with tempfile.TemporaryDirectory() as home:
        data = Path(home) / "data"
        common = ["--no-defaults", f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
        make = [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        serve = [mariadbd, *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={data}/own.sock"]
        with server(data, None, make, serve, signal.SIGTERM):
            yield f"mysql+pymysql://root@127.0.0.1:{port}/"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a new, empty database, for what is the same on all of them."""
    return url_of(tmp_path / "deep" / "studies.sqlite")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def each_url(request: pytest.FixtureRequest, url: str) -> str:
    """Of a new, empty database of each kind: each has its own way of locking, and its own limits."""
    if request.param == "sqlite":
        return url
    address, name = request.getfixturevalue(request.param), f"studies_{time.time_ns()}"
    first = answering(address + ("postgres" if request.param == "postgresql" else ""))
    with first.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    first.dispose()
    return str(address + name)


def test_many_processes_do_no_trial_twice(each_url: str, tmp_path: Path) -> None:
    log, study = tmp_path / "log.txt", trials.open_study(each_url, "shared")
    for bits in (2, 3, 4, 5):
        study.enqueue_trial({"bits": bits, "s": 0})  # waiting trials, which everybody wants
    workers = [worker(each_url, log, 15, 0.01) for _ in range(3)]
    assert [each.wait(120) for each in workers] == [0, 0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    done = Counter((bits, sparsity) for _, _, bits, sparsity in lines)
    assert set(done.values()) == {1}, "a configuration was tried twice"
    assert {("2", "0.0"), ("3", "0.0"), ("4", "0.0"), ("5", "0.0")} <= done.keys()
    assert len({number for _, number, *_ in lines}) == len(lines)
    assert len({process for process, *_ in lines}) > 1
    states = Counter(trial.state for trial in trials.open_study(each_url, "shared").get_trials())
    assert states[TrialState.COMPLETE] == len(lines)
    assert states[TrialState.COMPLETE] + states[TrialState.FAIL] == 45
    assert not states[TrialState.WAITING]


def test_several_begin_on_an_empty_database_at_once(each_url: str, tmp_path: Path) -> None:
    workers = [worker(each_url, tmp_path / "log.txt", 2, 0) for _ in range(3)]
    assert [each.wait(120) for each in workers] == [0] * 3
    assert len(trials.open_study(each_url, "shared").get_trials()) == 6


def test_what_a_dead_worker_held_is_tried_again_by_another(each_url: str, tmp_path: Path) -> None:
    log, study = tmp_path / "log.txt", trials.open_study(each_url, "shared")
    study.enqueue_trial({"bits": 7, "s": 3})
    first = worker(each_url, log, 1, 600, 2)
    for _ in range(600):
        if log.exists() and log.read_text():
            break
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(20)
    time.sleep(3)
    assert worker(each_url, log, 2, 0, 2).wait(120) == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    again = [line for line in lines if line[2:] == ["7", "0.3"]]
    assert len(again) == 2
    assert again[0][0] == str(first.pid) != again[1][0]
    done = trials.open_study(each_url, "shared").get_trials()
    assert [trial.state for trial in done if trial.number == 0] == [TrialState.FAIL]
    repeated = next(trial for trial in done if trial.number == int(again[1][1]))
    assert repeated.state == TrialState.COMPLETE
    assert trials.held(repeated) == CompressionConfig(bits=7, sparsity=0.3)


def test_only_what_is_done_or_in_hand_is_taken(each_url: str) -> None:
    study, config = trials.open_study(each_url, "own"), CompressionConfig(bits=3)
    late, first = study.ask(), study.ask()
    trials.claim(study, first, config)
    with pytest.raises(trials.Claimed, match="Trial 1"):
        trials.claim(study, study.ask(), config)
    with pytest.raises(trials.Claimed, match="Trial 1"):  # of a lower number, and asking later
        trials.claim(study, late, config)
    trials.claim(study, study.ask(), CompressionConfig(bits=4))
    trials.claim(trials.open_study(each_url, "other"), late, config)  # another study knows nothing of it
    with pytest.raises(trials.Claimed, match="Trial 1"):  # however long it is trained
        trials.claim(study, study.ask(), replace(config, recovery=RecoveryConfig(epochs=7)))
    study.tell(first, state=TrialState.FAIL)
    again = study.ask()
    trials.claim(study, again, config)
    study.tell(again, 1.0)
    with pytest.raises(trials.Claimed, match=f"Trial {again.number}"):
        trials.claim(study, study.ask(), config)


def test_a_trial_that_was_given_to_another_meanwhile_is_no_error(each_url: str) -> None:
    study = trials.open_study(each_url, "own")

    def lose(trial: optuna.Trial) -> float:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return 1.0

    def lose_and_write(trial: optuna.Trial) -> float:
        lose(trial)
        trial.set_user_attr("late", True)
        return 1.0

    def wrong(trial: optuna.Trial) -> float:
        raise ValueError("Cannot be.")

    assert not trials.step(study, lose)
    assert not trials.step(study, lose_and_write)
    assert trials.step(study, lambda trial: 1.0)
    assert not trials.step(study, wrong, ValueError)
    with pytest.raises(ValueError, match="Cannot be"):
        trials.step(study, wrong)


def test_of_those_that_ask_one_is_first(each_url: str) -> None:
    study, other = trials.open_study(each_url, "own"), trials.open_study(each_url, "other")
    assert [trials.first(study, "sketches"), trials.first(study, "sketches")] == [True, False]
    assert trials.first(other, "sketches")
    assert trials.first(study, "rows")


def test_a_packed_file_is_kept_with_its_trial_to_the_byte(each_url: str) -> None:
    study, contents = trials.open_study(each_url, "own"), [os.urandom(n) for n in (0, 1, 29_999, 30_001, 123_457)]
    for content in contents:
        trial = study.ask()
        trials.keep_bytes(trial, trials.PACKED, content)
        study.tell(trial, 1.0)
    read = trials.finished(trials.open_study(each_url, "own"))
    assert [trials.kept_bytes(trial, trials.PACKED) for trial in read] == contents
    assert all(len(str(own)) <= trials.PIECE for trial in read for own in trial.user_attrs.values())


def test_a_damaged_study_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "studies.sqlite"
    study = trials.open_study(url_of(path), "own")
    study.tell(study.ask(), 1.0)
    study._storage.remove_session()
    path.write_bytes(b"this is no database at all, not even a little" * 40)
    for beside in tmp_path.glob("studies.sqlite-*"):
        beside.unlink()
    anew = trials.open_study(url_of(path), "own")
    assert not anew.get_trials()
    anew.tell(anew.ask(), 2.0)
    (aside,) = tmp_path.glob("damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nonsense", "cannot be used.*Write sqlite:///nonsense for a file"),
        ("study.db", "Write sqlite:///study.db for a file"),
        ("sqlite:study.db", "Write sqlite:///study.db for a file"),
        ("somebody:secret@nowhere", "cannot be used"),
        ("postgres://somebody:secret@127.0.0.1:1/studies", r"Write postgresql\+psycopg:// in the place of postgres://"),
        ("mysql://somebody:secret@127.0.0.1:1/studies", r"Write mysql\+pymysql:// in the place of mysql://"),
        ("mariadb://somebody:secret@127.0.0.1:1/studies", r"Write mysql\+pymysql:// in the place of mariadb://"),
        ("nonsense://somebody:secret@nowhere/studies", "cannot be used"),
        ("postgresql://somebody:secret@127.0.0.1:1/studies", "driver|cannot be used"),
        ("sqlite:////proc/nothing/studies.sqlite", "cannot be"),
    ],
)
def test_a_storage_that_cannot_be_used_says_so_and_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    monkeypatch.setattr(trials, "time", SimpleNamespace(sleep=lambda seconds: None, time_ns=time.time_ns))
    with pytest.raises(OSError, match=said) as raised:
        trials.open_study(wrong, "own")
    assert "secret" not in str(raised.value)


def test_a_full_disk_is_no_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "folder.sqlite"
    folder.mkdir()
    with pytest.raises(trials.StorageError):
        trials.open_study(url_of(folder), "own")


def test_transactions_on_sqlite_begin_with_the_lock(tmp_path: Path) -> None:
    study = trials.open_study(url_of(tmp_path / "studies.sqlite"), "own")
    storage = study._storage._backend
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1").fetchall()
        other = sqlite3.connect(storage.engine.url.database, timeout=0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_attributes_are_json(url: str) -> None:
    study = trials.open_study(url, "own", objectives=2)
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    trial = study.ask()
    trials.claim(study, trial, CompressionConfig(bits=2))
    assert json.loads(trial.user_attrs[trials.CONFIG])["bits"] == 2
