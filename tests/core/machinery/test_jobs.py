"""Long work in its own process: watched, cancelled, killed, started again, and never two heavy ones at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from core.machinery import jobs
from core.machinery.jobs import Jobs, Status

WORK = """
import os, sys, time
from pathlib import Path
from core.machinery import jobs
jobs.GRACE_SECONDS = 3

def work(request, report, should_stop):
    diary = Path(request["diary"])
    def note(text):
        with open(diary, "a") as file:
            file.write(text + "\\n")
    note(f"start {request['name']}")
    report({"message": "Working.", "pid": os.getpid(), "done": 0.25})
    if request.get("fails"):
        raise RuntimeError("The dog ate it.")
    while not Path(request["gate"]).exists():
        if should_stop():
            raise Stopped
        time.sleep(0.01)
    note(f"end {request['name']}")
    return {"answer": request["name"]}

sys.exit(jobs.run(Path(sys.argv[1]), lambda: work))
"""


class Desk:
    """Jobs whose work is to write a line, wait at a gate, and write another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, Jobs(folder / "jobs")
        self.slowness = 0.0  # seconds that the next process needs before it does anything

    def request(self, name: str, **more: object) -> dict[str, Any]:
        return {"name": name, "diary": str(self.folder / "diary"), "gate": str(self.folder / "gate"), **more}

    def submit(self, name: str, **more: object) -> str:
        return self.jobs.submit(self.request(name, **more))

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    @property
    def diary(self) -> list[str]:
        return (self.folder / "diary").read_text().splitlines() if (self.folder / "diary").exists() else []

    def wait(self, job: str, *states: str) -> Status:
        return wait_for(lambda: self.jobs.status(job), lambda status: status.state in states)

    def kill(self, status: Status) -> None:
        os.kill(next(event["pid"] for event in status.events if "pid" in event), signal.SIGKILL)

    def wait_in_queue(self, job: str) -> None:
        """Until its process waits for its turn."""
        wait_for(lambda: jobs.is_held(self.folder / "jobs" / job / "lock"), bool)


def wait_for(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 60
    while not good(seen := look()):
        assert time.monotonic() < end, f"still {seen}"
        time.sleep(0.02)
    return seen


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    started: list[subprocess.Popen[bytes]] = []
    popen, own = subprocess.Popen, Desk(tmp_path)

    def instead(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        assert command[:4] == [sys.executable, "-m", "core", "job"]
        started.append(
            popen([sys.executable, "-c", f"import time; time.sleep({own.slowness})\n{WORK}", command[-1]], **settings)
        )
        return started[-1]

    monkeypatch.setattr(jobs.subprocess, "Popen", instead)
    yield own
    for process in started:
        process.kill()
        process.wait()


def test_a_job_that_ends_leaves_its_result_and_what_it_said(desk: Desk) -> None:
    job = desk.submit("a")
    assert desk.jobs.status(job).state in ("queued", "running")
    assert desk.jobs.status(job).active
    running = desk.wait(job, "running")
    desk.open_gate()
    done = desk.wait(job, "done")
    assert (done.result, done.error, done.done, done.active) == ({"answer": "a"}, None, 1, False)
    assert [event["message"] for event in done.events][-1] == done.message == "Working."
    assert done.request == desk.request("a")
    assert running.id == done.id == job
    assert running.submitted == done.submitted


def test_a_job_that_fails_says_why(desk: Desk) -> None:
    failed = desk.wait(desk.submit("a", fails=True), "failed")
    assert failed.error == "The dog ate it."
    assert not failed.active


def test_a_failed_job_can_be_started_again(desk: Desk) -> None:
    job = desk.submit("a", fails=True)
    desk.wait(job, "failed")
    assert desk.submit("a", fails=True) == job
    desk.wait(job, "failed")
    assert desk.diary == ["start a"] * 2


def test_a_running_job_that_is_cancelled_stops_and_keeps_nothing(desk: Desk) -> None:
    job = desk.submit("a")
    desk.wait(job, "running")
    desk.jobs.cancel(job)
    cancelled = desk.wait(job, "cancelled")
    assert cancelled.result is None
    assert desk.diary == ["start a"]


def test_a_cancelled_job_can_be_started_again(desk: Desk) -> None:
    job = desk.submit("a")
    desk.wait(job, "running")
    desk.jobs.cancel(job)
    desk.wait(job, "cancelled")
    desk.open_gate()
    assert desk.submit("a") == job
    assert desk.wait(job, "done").result == {"answer": "a"}


def test_a_waiting_job_that_is_cancelled_never_starts(desk: Desk) -> None:
    first = desk.submit("a")
    desk.wait(first, "running")
    second = desk.submit("b")
    desk.wait_in_queue(second)
    desk.jobs.cancel(second)
    desk.wait(second, "cancelled")
    desk.open_gate()
    desk.wait(first, "done")
    assert desk.diary == ["start a", "end a"]


def test_a_job_whose_process_was_killed_is_interrupted_and_can_be_started_again(desk: Desk) -> None:
    job = desk.submit("a")
    desk.kill(desk.wait(job, "running"))
    interrupted = desk.wait(job, "interrupted")
    assert (interrupted.active, interrupted.result, interrupted.remaining) == (False, None, None)
    desk.open_gate()
    assert desk.submit("a") == job
    assert desk.wait(job, "done").result == {"answer": "a"}
    assert desk.diary == ["start a", "start a", "end a"]


def test_after_a_restart_too_a_killed_job_is_interrupted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.submit("a")
    desk.kill(desk.wait(job, "running"))
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.0)
    wait_for(lambda: Jobs(desk.jobs.root).status(job).state, lambda state: state == "interrupted")


def test_a_clock_that_was_ahead_makes_no_job_new() -> None:
    assert jobs._is_new(time.time())
    assert not jobs._is_new(time.time() + 86_400)
    assert not jobs._is_new(time.time() - 86_400)


def test_a_killed_job_lets_the_next_one_begin(desk: Desk) -> None:
    first = desk.submit("a")
    running = desk.wait(first, "running")
    second = desk.submit("b")
    desk.wait_in_queue(second)
    desk.kill(running)
    desk.wait(second, "running")
    desk.open_gate()
    desk.wait(second, "done")


def test_the_same_request_is_one_job_for_everybody(desk: Desk) -> None:
    request = desk.request("a")
    turned = dict(reversed(request.items()))
    found: list[str] = []
    asking = [
        threading.Thread(target=lambda r=r: found.append(Jobs(desk.jobs.root).submit(r))) for r in [request, turned] * 3
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(set(found)) == 1
    desk.wait(found[0], "running")
    desk.jobs.submit(request)
    desk.open_gate()
    desk.wait(found[0], "done")
    assert desk.jobs.submit(request) == found[0]
    assert desk.jobs.status(found[0]).state == "done"
    assert desk.diary == ["start a", "end a"]
    assert [status.id for status in desk.jobs.all()] == [found[0]]


def test_one_heavy_job_at_a_time_in_the_order_of_submission(desk: Desk) -> None:
    names = ["a", "b", "c", "d"]
    submitted = []
    for name in names:
        submitted.append(desk.submit(name))
        desk.wait_in_queue(submitted[-1])
    desk.wait(submitted[0], "running")
    assert [desk.jobs.status(job).state for job in submitted[1:]] == ["queued"] * 3
    assert [desk.jobs.status(job).ahead for job in submitted] == [0, 1, 2, 3]
    assert [status.request["name"] for status in desk.jobs.all()] == names[::-1]
    desk.open_gate()
    for job in submitted:
        desk.wait(job, "done")
    assert desk.diary == [f"{what} {name}" for name in names for what in ("start", "end")]


def test_a_process_that_starts_slowly_does_not_lose_its_turn(desk: Desk) -> None:
    desk.open_gate()
    desk.slowness = 1
    first = desk.submit("a")
    desk.slowness = 0
    second = desk.submit("b")
    desk.wait(second, "done")
    desk.wait(first, "done")
    assert desk.diary == ["start a", "end a", "start b", "end b"]


def test_everybody_sees_the_same_job(desk: Desk) -> None:
    job = desk.submit("a")
    desk.wait(job, "running")
    mine, theirs = desk.jobs.status(job), Jobs(desk.jobs.root).status(job)
    assert mine == theirs
    Jobs(desk.jobs.root).cancel(job)
    desk.wait(job, "cancelled")


def test_a_job_that_is_dismissed_is_forgotten_but_not_while_it_runs(desk: Desk) -> None:
    job = desk.submit("a")
    desk.wait(job, "running")
    desk.jobs.dismiss(job)
    assert desk.jobs.status(job).state == "running"
    desk.open_gate()
    desk.wait(job, "done")
    desk.jobs.dismiss(job)
    assert desk.jobs.all() == []


@pytest.mark.parametrize("job", ["", "nothing", "..", "../jobs", "/etc", "a/b"])
def test_a_job_that_does_not_exist_is_a_key_error(desk: Desk, job: str) -> None:
    with pytest.raises(KeyError):
        desk.jobs.status(job)


# Damage.


@pytest.fixture
def finished(desk: Desk) -> tuple[Desk, str]:
    desk.open_gate()
    job = desk.submit("a")
    desk.wait(job, "done")
    return desk, job


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null"])
def test_a_damaged_request_hides_its_job_and_no_other(finished: tuple[Desk, str], content: str) -> None:
    desk, job = finished
    other = desk.submit("b")
    desk.wait(other, "done")
    (desk.jobs.root / job / "request.json").write_text(content)
    assert [status.id for status in desk.jobs.all()] == [other]
    with pytest.raises(KeyError):
        desk.jobs.status(job)


@pytest.mark.parametrize("line", ["{half a li\n", "[]\n", "\x00\x00\n", '"text"\n', "no newline yet"])
def test_a_damaged_line_of_progress_is_left_out(finished: tuple[Desk, str], line: str) -> None:
    desk, job = finished
    before = desk.jobs.status(job)
    with open(desk.jobs.root / job / "progress.jsonl", "a") as file:
        file.write(line)
    assert desk.jobs.status(job) == before


ASK = """
import sys
from pathlib import Path
from core.machinery import jobs
print(sum(jobs.is_held(Path(sys.argv[1])) for _ in range(2_000)))
"""


def test_a_lock_that_nobody_holds_is_free_however_many_ask(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    command = [sys.executable, "-c", ASK, str(tmp_path / "lock")]
    others = [subprocess.Popen(command, cwd=jobs.PROJECT, stdout=subprocess.PIPE) for _ in range(2)]
    answers: list[bool] = []

    def ask() -> None:
        while any(other.poll() is None for other in others):
            answers.append(jobs.is_held(tmp_path / "lock"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers
    assert not any(answers)
    assert [int(other.communicate()[0]) for other in others] == [0, 0]


def test_what_is_over_is_read_once_and_those_that_wait_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, read = Jobs(tmp_path), list[str]()
    for number in range(60):
        folder = tmp_path / f"over{number}"
        folder.mkdir()
        (folder / "request.json").write_text(json.dumps({"kind": "old", "submitted": number}))
        (folder / "result.json").write_text("{}")
    for number in range(10):
        folder = tmp_path / f"waits{number}"
        folder.mkdir()
        (folder / "request.json").write_text(json.dumps({"kind": "new", "submitted": time.time() - 1 + number / 100}))
    assert len(own.all()) == 70
    real = jobs._read_record
    monkeypatch.setattr(jobs, "_read_record", lambda path: read.append(path.parent.name) or real(path))
    assert [status.ahead for status in own.all("new")] == list(range(9, -1, -1))
    assert not [name for name in read if name.startswith("over")]
    assert len(read) == 3 * 10, "request, result and error of each that waits"
    os.utime(tmp_path / "over7" / "result.json", ns=(1, 1))
    own.all()
    assert [name for name in read if name.startswith("over")] == ["over7"] * 3, "what changed is read again"


def test_a_job_that_is_not_there_cannot_be_cancelled_into_being(tmp_path: Path) -> None:
    for job in ("nothing", "..", "../elsewhere", ""):
        Jobs(tmp_path).cancel(job)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_does_not_end_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "request.json").write_text('{"kind": "x"}')

    def work(request: dict[str, Any], report: jobs.Report, should_stop: Callable[[], bool]) -> dict[str, Any]:
        (folder / "progress.jsonl").unlink()
        (folder / "progress.jsonl").mkdir()  # nothing can be appended to a folder
        report({"done": 0.5})
        (folder / "progress.jsonl").rmdir()
        return {"answer": 1}

    monkeypatch.setattr(jobs, "_stand_back", lambda: None)
    assert jobs.run(folder, lambda: work) == 0
    assert json.loads((folder / "result.json").read_text()) == {"answer": 1}


# Windows, by standing in for what it refuses and lacks.


def test_without_shared_locks_a_job_lives_as_long_as_the_process_that_its_folder_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those who ask take no lock that another could see."""
    monkeypatch.setattr(jobs, "fcntl", None)
    lock, named = tmp_path / "lock", tmp_path / "process.json"
    lock.touch()
    assert not jobs.is_held(lock)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    began = psutil.Process(sleeper.pid).create_time()
    named.write_text(json.dumps({"number": sleeper.pid, "began": began}))
    with FileLock(lock):
        assert jobs.is_held(lock)
    assert jobs.is_held(lock)
    named.write_text(json.dumps({"number": sleeper.pid, "began": began - 3600}))
    assert not jobs.is_held(lock), "the number was given to another process"
    named.write_text(json.dumps({"number": sleeper.pid, "began": began}))
    sleeper.kill()
    sleeper.wait()
    assert not jobs.is_held(lock)
    for content in ("", "[]", "{}", '{"number": "x", "began": 1}', '{"number": -4, "began": 1}', '{"number": 1}'):
        named.write_text(content)
        assert not jobs.is_held(lock)


def test_a_job_says_which_process_it_is(desk: Desk) -> None:
    job = desk.submit("a")
    running = desk.wait(job, "running")
    named = json.loads((desk.jobs.root / job / "process.json").read_text())
    assert named["number"] == next(event["pid"] for event in running.events if "pid" in event)
    assert psutil.Process(named["number"]).create_time() == pytest.approx(named["began"])


def test_a_job_stands_back_for_what_people_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import psutil; from core.machinery import jobs; before = psutil.Process().nice(); jobs._stand_back(); "
    code += "there = jobs.AUTOGROUP.exists(); said = jobs.AUTOGROUP.read_text().split() if there else []; "
    code += "print(before, psutil.Process().nice(), *said)"
    for alone in (True, False):
        own = [sys.executable, "-c", code]
        before, after, *group = subprocess.check_output(
            own, cwd=jobs.PROJECT, start_new_session=alone, text=True
        ).split()
        assert int(after) == min(int(before) + 10, 19)
        if group:
            assert (group[-1] == "10") == alone, "a session of its own as a whole, and no other one's"
    asked: list[int] = []
    monkeypatch.setattr(jobs, "WINDOWS", True)
    monkeypatch.setattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 16384, raising=False)
    monkeypatch.setattr(psutil.Process, "nice", lambda self, value=None: asked.append(value))
    jobs._stand_back()
    assert asked == [16384]


# What a status says.


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5).map(sorted), st.floats(1, 1000))
def test_the_remaining_time_is_in_proportion_to_what_is_done(shares: list[float], pace: float) -> None:
    events = [{"time": 50.0, "message": "Starting."}] + [{"time": 50 + pace * done, "done": done} for done in shares]
    running = Status("a", {}, "running", 0.0, events)
    assert running.done == shares[-1]
    assert running.remaining == pytest.approx(pace * (1 - shares[-1]), abs=1e-6)


def test_without_progress_the_remaining_time_is_not_known() -> None:
    assert Status("a", {}, "running", 0.0).remaining is None
    assert Status("a", {}, "running", 0.0, [{"time": 1.0, "message": "Starting.", "done": 0}]).remaining is None
    assert Status("a", {}, "interrupted", 0.0, [{"time": 1.0, "done": 0.5}]).remaining is None
    back = [{"time": 1.0, "done": 0.5}, {"time": 2.0, "done": 0.0}]
    assert Status("a", {}, "running", 0.0, back).remaining is None


# The real process.


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_process_that_waits_for_its_turn_has_loaded_nothing_heavy(tmp_path: Path) -> None:
    own = Jobs(tmp_path)
    with FileLock(tmp_path / "heavy.lock"):
        job = own.submit({"kind": "train", "config": {"model": "mlp", "epochs": 1}})
        try:
            wait_for(lambda: jobs.is_held(tmp_path / job / "lock"), bool)
            assert own.status(job).state == "queued"
            loaded = Path(f"/proc/{own._processes[job][1].pid}/maps").read_text()
        finally:
            own.cancel(job)
            cancelled = wait_for(lambda: own.status(job), lambda status: not status.active)
    assert cancelled.state == "cancelled", (tmp_path / job / "log.txt").read_text()
    assert "libtorch" not in loaded


def test_the_process_of_a_job_that_makes_no_sense_fails_with_a_message(tmp_path: Path) -> None:
    own = Jobs(tmp_path / "jobs")
    job = own.submit({"kind": "train", "config": {"model": "mlp", "epochs": -1}})
    failed = wait_for(lambda: own.status(job), lambda status: not status.active)
    assert failed.state == "failed"
    assert "epochs" in (failed.error or "")
    assert json.loads((tmp_path / "jobs" / job / "error.json").read_text())["state"] == "failed"
