"""Long work in its own process: progress, cancel, survive a refresh. One heavy job at a time, the others queue.

A job is a folder `cache/jobs/ID/`, ID the hash of its request, so the same request is the same job for everybody:
`request.json` what to do, `progress.jsonl` one event per line, and at the end `result.json` or `error.json`. While its
process lives it holds `lock`, and `process.json` says which it is; a job without an end whose process is gone was
interrupted, and can be started again. Of those that are over, the newest `REMEMBERED` stay.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock, Timeout

from core.machinery.files import PROJECT, WINDOWS, remove, replace, sha256, write_atomically
from core.machinery.precedence import Precedence
from core.machinery.stopping import Stopped

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
Report = Callable[[dict[str, Any]], None]
Work = Callable[[dict[str, Any], Report, Callable[[], bool]], dict[str, Any]]

GRACE_SECONDS = 10.0
"""How long a process that was just started may take to hold its lock."""
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait leave the cores to the app."""

NICER = 10
"""Long work gives way by so much, on the scale of `nice`."""

AUTOGROUP = Path("/proc/self/autogroup")
"""Of Linux: the priority of this process's session."""

REMEMBERED = 200
"""So many jobs that are over are remembered."""

_ENDS = ("result.json", "error.json")
_TRACES = (*_ENDS, "progress.jsonl", "cancel", "process.json")


@dataclass(frozen=True)
class Status:
    """events : what the job reported so far; done : share of the work, in [0, 1]; remaining : seconds, once known;
    silent : seconds since the last event; stopping : whether somebody asked it to stop."""

    id: str
    request: dict[str, Any]
    state: State
    submitted: float
    events: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: str | None = None
    ahead: int = 0
    silent: float = field(default=0.0, compare=False)
    stopping: bool = False

    @property
    def done(self) -> float:
        shares = [event["done"] for event in self.events if "done" in event]
        return 1.0 if self.state == "done" else shares[-1] if shares else 0.0

    @property
    def remaining(self) -> float | None:
        timed = [event for event in self.events if event.get("done")]
        if not timed or not self.done or self.state != "running":
            return None
        elapsed = timed[-1]["time"] - self.events[0]["time"]
        return max(0.0, elapsed * (1 - self.done) / self.done - self.silent)

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def message(self) -> str:
        """The last thing that the job said in words."""
        said = [event["message"] for event in self.events if "message" in event]
        return said[-1] if said else ""


class Jobs:
    """The jobs under `root` (`cache/jobs`). Threads and processes may share them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.precedence = precedence(root)
        self._processes: dict[str, tuple[float, subprocess.Popen[bytes]]] = {}  # with the time of the submission
        self._over: dict[str, tuple[object, Status]] = {}  # what does not change any more is read once

    def submit(
        self,
        request: dict[str, Any],
        again: Callable[[dict[str, Any]], bool] = lambda result: False,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Start the job, unless the same request is under way or done; an interrupted or failed one starts again.

        again : says of the result of one that is done whether it is no longer enough
        environment : of its process, besides this one's: how it is run. Which job it is the request alone decides.
        Raises OSError where the disk refuses.
        """
        text = json.dumps(request, sort_keys=True)
        job = sha256(text.encode())[:16]
        folder = self.root / job
        with self._changing():
            known = self._status(job)
            if known is not None and known.active:
                return job
            if known is not None and known.result is not None and not again(known.result):
                return job
            folder.mkdir(exist_ok=True)
            try:
                for name in _TRACES:
                    remove(folder / name)
                now = time.time()
                write_atomically(folder / "request.json", json.dumps({**request, "submitted": now}).encode())
                self._processes[job] = now, self._start(folder, environment or {})
            except OSError:
                if known is None:
                    self._remove(job)
                raise
            self._forget(job)
        return job

    @staticmethod
    def _start(folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with open(folder / "log.txt", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "core", "job", str(folder.resolve())],
                cwd=PROJECT,
                env={**os.environ, **environment, **WAITING},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Nobody else starts or dismisses a job meanwhile."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "submit.lock", timeout=30):
            yield

    def status(self, job: str) -> Status:
        """Raises KeyError where there is no such job."""
        status = self._status(job)
        if status is None:
            raise KeyError(f"There is no job {job!r}.")
        waits = status.state == "queued"
        return next((other for other in self.all() if other.id == job), status) if waits else status

    def all(self, kind: str | None = None) -> list[Status]:
        """Every job, or those of a kind, the newest first."""
        with suppress(OSError):
            names = [path.name for path in self.root.iterdir() if path.name.isalnum()]
            every = [status for name in names if (status := self._status(name)) is not None]
            times = [status.submitted for status in every if status.active]
            wanted = [status for status in every if kind is None or status.request.get("kind") == kind]
            return sorted((_in_line(status, times) for status in wanted), key=lambda status: -status.submitted)
        return []

    def cancel(self, job: str) -> None:
        """Ask the job to stop; it does so within a step. Nothing happens where there is no such job."""
        if job.isalnum() and (self.root / job / "request.json").exists():
            write_atomically(self.root / job / "cancel", b"")

    def dismiss(self, job: str) -> None:
        """Forget a job that is not under way; what it made stays in the store."""
        with self._changing():
            known = self._status(job)
            if known is not None and not known.active:
                self._remove(job)

    def _status(self, job: str) -> Status | None:
        """Without those that are ahead of it; None where there is no such job."""
        folder = self.root / job
        if not job.isalnum():
            return None
        stamp = _stamp(folder)
        if stamp is not None and self._over.get(job, (None,))[0] == stamp:
            return self._over[job][1]
        request = _read_record(folder / "request.json")
        if request is None:
            return None
        status = self._looked_at(job, folder, request)
        if stamp is not None and stamp == _stamp(folder) and status.state in ("done", "failed", "cancelled"):
            self._over[job] = stamp, status
        return status

    def _looked_at(self, job: str, folder: Path, request: dict[str, Any]) -> Status:
        submitted = _submitted(request)
        gone = self._ended(job, submitted)
        request.pop("submitted", None)
        events = _read_lines(folder / "progress.jsonl")
        result, error = _read_record(folder / "result.json"), _read_record(folder / "error.json")
        if result is not None:
            state: State = "done"
        elif error is not None:
            state = "cancelled" if error.get("state") == "cancelled" else "failed"
        elif is_held(folder / "lock"):
            state = "running" if events else "queued"
        else:
            state = "queued" if _is_new(submitted) and not gone else "interrupted"
        now = time.time()
        silent = max(0.0, now - events[-1].get("time", now)) if events else 0.0
        stopping = (folder / "cancel").exists()
        message = str(error.get("message", "")) if error and result is None else None
        return Status(job, request, state, submitted, events, result, message, 0, silent, stopping)

    def _forget(self, spared: str) -> None:
        """Remove what is over above `REMEMBERED`, the oldest first."""
        over = [status.id for status in self.all() if not status.active and status.id != spared]
        for job in over[REMEMBERED:]:
            self._remove(job)
        for path in self.root.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, job: str) -> None:
        """All at once: half a folder would be another job."""
        gone = self.root / f".gone-{job}-{time.time_ns()}"
        with suppress(OSError):
            replace(self.root / job, gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._over.pop(job, None)
        self._processes.pop(job, None)

    def _ended(self, job: str, submitted: float) -> bool:
        """Whether the process that this one started for this submission is gone; asking also lets the system forget it.
        Another may have started another."""
        when, process = self._processes.get(job, (0.0, None))
        return process is not None and process.poll() is not None and when == submitted


def _in_line(status: Status, times: Iterable[float]) -> Status:
    """A job that waits, with how many are ahead of it. times : when those under way were submitted"""
    if status.state != "queued":
        return status
    return replaced(status, ahead=sum(when < status.submitted for when in times))


def _stamp(folder: Path) -> object:
    """Tells one end of a job from any other; None while it has none."""
    for name in _ENDS:
        with suppress(OSError):
            end, request = (folder / name).stat(), (folder / "request.json").stat()
            said = (folder / "progress.jsonl").stat().st_mtime_ns if (folder / "progress.jsonl").exists() else None
            return name, end.st_mtime_ns, end.st_ino, end.st_size, request.st_mtime_ns, request.st_ino, said
    return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock; the system frees the locks of a process that dies.

    Who asks takes a shared lock for a moment, so that many may ask at once. Windows has none: there it is the process
    that the job's folder names, if it is still the same.
    """
    if fcntl is None:
        return _lives(_read_record(path.with_name("process.json")))
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def _lives(process: dict[str, Any] | None) -> bool:
    """Whether there is a process of that number that began at that time: numbers are given again."""
    try:
        return process is not None and abs(psutil.Process(process["number"]).create_time() - process["began"]) < 1
    except (psutil.Error, TypeError, KeyError, ValueError, OverflowError):
        return False


def unfinished(root: Path) -> list[tuple[Path, float]]:
    """Folders of jobs whose process is alive, or about to be, with the time of their submission."""
    jobs = []
    for path in root.glob("*/request.json"):
        folder = path.parent
        if not folder.name.isalnum() or any((folder / name).exists() for name in _ENDS):
            continue
        request = _read_record(path)
        if request is not None:
            submitted = _submitted(request)
            if _is_new(submitted) or is_held(folder / "lock"):
                jobs.append((folder, submitted))
    return jobs


def _is_new(submitted: float) -> bool:
    """Whether its process may not have begun yet. A clock that was ahead then makes nothing new."""
    return abs(time.time() - submitted) < GRACE_SECONDS


def run(folder: Path, work: Callable[[], Work]) -> int:
    """The job's process: wait for its turn, work, leave a result or an error. Returns an exit status.

    work : called when it is this job's turn, so that a waiting process has not loaded anything heavy
    """
    _stand_back()
    request = json.loads((folder / "request.json").read_text())
    submitted = _submitted(request)
    request.pop("submitted", None)

    def report(event: dict[str, Any]) -> None:
        with suppress(OSError), open(folder / "progress.jsonl", "a", encoding="utf-8") as file:  # no reason to give up
            file.write(json.dumps({"time": time.time(), **event}) + "\n")

    people = precedence(folder.parent)

    def cancelled() -> bool:
        return (folder / "cancel").exists()

    def should_stop() -> bool:
        people.give_way()
        return cancelled()

    with FileLock(folder / "lock", timeout=GRACE_SECONDS):
        try:
            process = {"number": os.getpid(), "began": psutil.Process().create_time()}
            write_atomically(folder / "process.json", json.dumps(process).encode())
            with _turn(folder, submitted, cancelled):
                report({"message": "Starting."})
                result = work()(request, report, should_stop)
            write_atomically(folder / "result.json", json.dumps(result).encode())
            return 0
        except Exception as failure:
            if cancelled():  # however the work ended itself then
                error = {"state": "cancelled", "message": "Cancelled. Nothing was kept."}
            else:
                error = {"state": "failed", "message": str(failure) or type(failure).__name__}
                print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        write_atomically(folder / "error.json", json.dumps(error).encode())
        return 1


def precedence(root: Path) -> Precedence:
    """What people wait for comes before the jobs under `root`."""
    return Precedence(root / ".waiting")


def _stand_back() -> None:
    """What people look at comes first.

    Linux shares the processors among sessions first, and nice values count among the processes of one session only: a
    process with a session of its own has to lower that as a whole.
    """
    process = psutil.Process()
    lower = psutil.BELOW_NORMAL_PRIORITY_CLASS if WINDOWS else min(process.nice() + NICER, 19)
    with suppress(psutil.Error, OSError):
        process.nice(lower)
    if hasattr(os, "getsid") and os.getsid(0) == os.getpid() and AUTOGROUP.exists():
        with suppress(OSError):
            AUTOGROUP.write_text(f"{NICER}")


@contextmanager
def _turn(folder: Path, submitted: float, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Wait until no earlier job waits, then hold the lock of the one heavy job."""
    heavy = FileLock(folder.parent / "heavy.lock")
    while not heavy.is_locked:
        if cancelled():
            raise Stopped
        if all(when >= submitted or other == folder for other, when in unfinished(folder.parent)):
            with suppress(Timeout):
                heavy.acquire(timeout=0.2)
        else:
            time.sleep(0.3)
    try:
        yield
    finally:
        heavy.release()


def _read_record(path: Path) -> dict[str, Any] | None:
    """None where there is none, or something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _submitted(request: dict[str, Any]) -> float:
    when = request.get("submitted")
    return float(when) if isinstance(when, int | float) else 0.0


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines that hold an event: the last one may still be being written. Many sessions ask for the same."""
    with suppress(OSError):
        about = path.stat()
        return _lines(path, about.st_mtime_ns, about.st_size)
    return []


@lru_cache(maxsize=32)
def _lines(path: Path, _changed: int, _size: int) -> list[dict[str, Any]]:
    events = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        with suppress(ValueError):
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict)]
