"""Jobs, whoever asks, whatever dies: one process for a request, every end remembered until it is dismissed, asked for
again or older than what is remembered."""

import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.machinery import files, jobs
from core.machinery.jobs import Jobs

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
REMEMBERED = 2


class Process:
    """What `jobs.run` does to a folder, step by step, without the work."""

    def __init__(self, command: list[str], **settings: Any) -> None:
        self.folder, self.lock, self.gone = Path(command[-1]), FileLock(Path(command[-1]) / "lock"), False
        living[self.folder.name].append(self)

    def begin(self) -> None:
        self.lock.acquire(timeout=0)
        (self.folder / "progress.jsonl").write_text('{"time": 0, "message": "Starting."}\n')

    def end(self, name: str, content: str) -> None:
        if not self.lock.is_locked:
            self.begin()
        files.write_atomically(self.folder / name, content.encode())
        self.die()

    def die(self) -> None:
        self.lock.release()
        self.gone = True
        living[self.folder.name].remove(self)

    def poll(self) -> int | None:
        return 0 if self.gone else None


living: dict[str, list[Process]] = {}


class TwoDesks(RuleBasedStateMachine):
    """Two processes of the app on one folder of jobs."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.root = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.now = 1_000.0
        living.clear()
        living.update({self.job(name): [] for name in "abcde"})
        self.patch.setattr(jobs.subprocess, "Popen", Process)
        self.patch.setattr(jobs, "REMEMBERED", REMEMBERED)
        clock = SimpleNamespace(time=lambda: self.now, time_ns=time.time_ns, sleep=time.sleep)
        self.patch.setattr(jobs, "time", clock)
        self.desks = [Jobs(self.root) for _ in range(2)]
        self.model: dict[str, tuple[str, float]] = {}  # state, and when it was submitted
        self.starter: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.patch.undo()
            shutil.rmtree(self.root)

    @staticmethod
    def job(name: str) -> str:
        return jobs.sha256(f'{{"kind": "{name}"}}'.encode())[:16]

    @rule(who=st.integers(0, 1), name=NAMES, again=st.booleans())
    def submit(self, who: int, name: str, again: bool) -> None:
        self.now += 0.01  # all within the grace of a process that was just started
        assert self.desks[who].submit({"kind": name}, lambda result: again) == self.job(name)
        state = self.model.get(name, ("", 0.0))[0]
        if state in ("queued", "running") or (state == "done" and not again):
            return
        self.model[name] = "queued", self.now
        self.starter[name] = who
        over = [other for other in self.by_age() if self.model[other][0] not in ("queued", "running")]
        for other in over[REMEMBERED:]:
            del self.model[other]

    @rule(name=NAMES, how=st.sampled_from(["begin", "done", "failed", "cancelled", "die"]))
    def process(self, name: str, how: str) -> None:
        """The newest process of a job goes a step."""
        if not living[self.job(name)] or self.model.get(name, ("", 0.0))[0] not in ("queued", "running"):
            return
        process, when = living[self.job(name)][-1], self.model[name][1]
        if how == "begin":
            if not process.lock.is_locked:
                process.begin()
            self.model[name] = "running", when
        elif how == "die":
            process.die()
            self.model[name] = "interrupted", when
            self.wait_out()
        else:
            done = how == "done"
            process.end(
                *("result.json", '{"answer": 1}') if done else ("error.json", f'{{"state": "{how}", "message": "x"}}')
            )
            self.model[name] = how, when

    def wait_out(self) -> None:
        """The grace of those that were just started is over: the others begin in time."""
        self.now += jobs.GRACE_SECONDS + 1
        for name, (state, when) in self.model.items():
            if state == "queued":
                living[self.job(name)][-1].begin()
                self.model[name] = "running", when

    @rule(who=st.integers(0, 1), name=NAMES)
    def cancel(self, who: int, name: str) -> None:
        self.desks[who].cancel(self.job(name))
        assert (self.root / self.job(name)).exists() == (name in self.model)

    @rule(who=st.integers(0, 1), name=NAMES)
    def dismiss(self, who: int, name: str) -> None:
        self.desks[who].dismiss(self.job(name))
        if self.model.get(name, ("queued", 0.0))[0] not in ("queued", "running"):
            del self.model[name]

    @rule(who=st.integers(0, 1), name=NAMES)
    def submit_to_a_full_disk(self, who: int, name: str) -> None:
        """Says so, starts nothing, and what was there is there or begins anew."""
        state = self.model.get(name, ("", 0.0))[0]
        if state in ("queued", "running", "done"):
            return

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files.os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                self.desks[who].submit({"kind": name})
        if state:
            self.model[name] = "interrupted", self.model[name][1]
            self.wait_out()

    def by_age(self) -> list[str]:
        return sorted(self.model, key=lambda name: -self.model[name][1])

    @invariant()
    def everybody_sees_what_happened(self) -> None:
        if not hasattr(self, "root"):
            return
        for desk in self.desks:
            seen = desk.all()
            assert [(status.request["kind"], status.state) for status in seen] == [
                (name, self.model[name][0]) for name in self.by_age()
            ]
            for status in seen:
                assert desk.status(status.id) == status
                assert desk.all(status.request["kind"]) == [status]
                assert (status.result == {"answer": 1}) == (status.state == "done")
                active = [when for state, when in self.model.values() if state in ("queued", "running")]
                before = sum(when < status.submitted for when in active)
                assert status.ahead == (before if status.state == "queued" else 0)

    @invariant()
    def one_process_at_most_works_on_a_request(self) -> None:
        if hasattr(self, "root"):
            for name, (state, _) in self.model.items():
                assert len(living[self.job(name)]) == (state in ("queued", "running"))

    @invariant()
    def what_is_remembered_has_a_limit(self) -> None:
        if hasattr(self, "root"):
            names = {path.name for path in self.root.iterdir() if path.is_dir()}
            assert names == {self.job(name) for name in self.model}


TwoDesks.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestTwoDesks = TwoDesks.TestCase


def test_threads_that_submit_and_dismiss_at_once_start_one_process_and_leave_it_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, wrong = threading.Semaphore(1), list[object]()
    work: list[threading.Thread] = []

    class Quick:
        """Works a moment, ends well."""

        def __init__(self, command: list[str], **settings: Any) -> None:
            self.folder = Path(command[-1])
            work.append(threading.Thread(target=self.run))
            work[-1].start()

        def run(self) -> None:
            if not alive.acquire(blocking=False):
                wrong.append("two processes of one job")
                return
            with FileLock(self.folder / "lock"):
                time.sleep(0.002)
                if not (self.folder / "request.json").exists():
                    wrong.append("a folder was removed under its process")
                files.write_atomically(self.folder / "result.json", b"{}")
                alive.release()

        def poll(self) -> None:
            return None

    monkeypatch.setattr(jobs.subprocess, "Popen", Quick)

    def act(desk: Jobs, turn: int) -> None:
        try:
            for number in range(40):
                if (number + turn) % 3:
                    desk.submit({"kind": "a"}, lambda result: True)
                else:
                    desk.dismiss(TwoDesks.job("a"))
                desk.all()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=act, args=(Jobs(tmp_path), turn)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thread in work:
        thread.join()
    assert len(work) > 1
    assert wrong == []
