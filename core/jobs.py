"""Long work in its own process: progress, cancel, survive a refresh. One heavy job at a time, the others queue.

A job is a folder `cache/jobs/ID/`, ID the hash of its request, so the same request is the same job for everybody:
`request.json` what to do, `progress.jsonl` one event per line, and at the end `result.json` or `error.json`. While its
process lives it holds `lock`; a job without an end whose lock is free was interrupted, and can be started again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from core.files import PROJECT, sha256, write_atomically

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

_ENDS = ("result.json", "error.json", "progress.jsonl", "cancel")


class Cancelled(Exception):
    """A person stopped the job."""


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
    """The jobs under `root` (`cache/jobs`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, request: dict[str, Any], environment: Mapping[str, str] | None = None) -> str:
        """Start the job, unless the same request is under way or done; an interrupted or failed one starts again.

        environment : of its process, besides this one's: how it is run. Which job it is the request alone decides.
        """
        text = json.dumps(request, sort_keys=True)
        job = sha256(text.encode())[:16]
        folder = self.root / job
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "submit.lock", timeout=30):
            if (folder / "request.json").exists() and self.status(job).state in ("queued", "running", "done"):
                return job
            for name in _ENDS:
                (folder / name).unlink(missing_ok=True)
            write_atomically(folder / "request.json", json.dumps({**request, "submitted": time.time()}).encode())
            with open(folder / "log.txt", "ab") as log:
                self._processes[job] = subprocess.Popen(
                    [sys.executable, "-m", "core", "job", str(folder.resolve())],
                    cwd=PROJECT,
                    env={**os.environ, **(environment or {}), **WAITING},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return job

    def status(self, job: str) -> Status:
        """Raises KeyError where there is no such job."""
        folder = self.root / job
        request = _read_json(folder / "request.json")
        if not isinstance(request, dict) or not job.isalnum():
            raise KeyError(f"There is no job {job!r}.")
        submitted = request.pop("submitted", 0.0)
        events = _read_lines(folder / "progress.jsonl")
        ended = self._ended(job)
        result, error = _read_json(folder / "result.json"), _read_json(folder / "error.json")
        message = error["message"] if error else None
        if result is not None:
            state: State = "done"
        elif error is not None:
            state = error["state"]
        elif is_held(folder / "lock"):
            state = "running" if events else "queued"
        else:
            state = "queued" if time.time() - submitted < GRACE_SECONDS and not ended else "interrupted"
        ahead, now = self._ahead(job, submitted, state), time.time()
        silent = max(0.0, now - events[-1].get("time", now)) if events else 0.0
        stopping = (folder / "cancel").exists()
        return Status(job, request, state, submitted, events, result, message, ahead, silent, stopping)

    def all(self, kind: str | None = None) -> list[Status]:
        """Every job, or those of a kind, the newest first; of the others nothing but the request is read."""
        found = []
        for path in self.root.glob("*/request.json"):
            request = _read_json(path)
            if kind is not None and isinstance(request, dict) and request.get("kind") != kind:
                continue
            with suppress(KeyError):
                found.append(self.status(path.parent.name))
        return sorted(found, key=lambda status: -status.submitted)

    def cancel(self, job: str) -> None:
        """Ask the job to stop; it does so within a step."""
        write_atomically(self.root / job / "cancel", b"")

    def dismiss(self, job: str) -> None:
        """Forget a job that is not under way; what it made stays in the store."""
        if not self.status(job).active:
            shutil.rmtree(self.root / job, ignore_errors=True)

    def _ahead(self, job: str, submitted: float, state: State) -> int:
        if state != "queued":
            return 0
        return sum(other.name != job and when < submitted for other, when in unfinished(self.root))

    def _ended(self, job: str) -> bool:
        """Whether a process that this one started is gone; asking also lets the system forget it."""
        process = self._processes.get(job)
        return process is not None and process.poll() is not None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock; the system frees the locks of a process that dies.

    Who asks takes a shared lock for a moment, so that many may ask at once.
    """
    try:
        if fcntl is None:
            with FileLock(path, timeout=0.1):
                return False
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except (Timeout, BlockingIOError):
        return True


def unfinished(root: Path) -> list[tuple[Path, float]]:
    """Folders of jobs whose process is alive, or about to be, with the time of their submission."""
    jobs = []
    for path in root.glob("*/request.json"):
        request = _read_json(path)
        ended = any((path.parent / name).exists() for name in ("result.json", "error.json"))
        if isinstance(request, dict) and not ended:
            submitted = float(request.get("submitted", 0.0))
            if time.time() - submitted < GRACE_SECONDS or is_held(path.parent / "lock"):
                jobs.append((path.parent, submitted))
    return jobs


def run(folder: Path, work: Callable[[], Work]) -> int:
    """The job's process: wait for its turn, work, leave a result or an error. Returns an exit status.

    work : called when it is this job's turn, so that a waiting process has not loaded anything heavy
    """
    if hasattr(os, "nice"):
        os.nice(10)
    request = json.loads((folder / "request.json").read_text())
    submitted = float(request.pop("submitted", 0.0))

    def report(event: dict[str, Any]) -> None:
        with open(folder / "progress.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **event}) + "\n")

    def should_stop() -> bool:
        return (folder / "cancel").exists()

    with FileLock(folder / "lock", timeout=GRACE_SECONDS):
        try:
            with _turn(folder, submitted, should_stop):
                report({"message": "Starting."})
                result = work()(request, report, should_stop)
            write_atomically(folder / "result.json", json.dumps(result).encode())
            return 0
        except Exception as failure:
            if should_stop():  # however the work ended itself then
                error = {"state": "cancelled", "message": "Cancelled. Nothing was kept."}
            else:
                error = {"state": "failed", "message": str(failure) or type(failure).__name__}
                print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        write_atomically(folder / "error.json", json.dumps(error).encode())
        return 1


@contextmanager
def _turn(folder: Path, submitted: float, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Wait until no earlier job waits, then hold the lock of the one heavy job."""
    heavy = FileLock(folder.parent / "heavy.lock")
    while not heavy.is_locked:
        if should_stop():
            raise Cancelled
        if all(when >= submitted or other == folder for other, when in unfinished(folder.parent)):
            with suppress(Timeout):
                heavy.acquire(timeout=0.2)
        else:
            time.sleep(0.3)
    try:
        yield
    finally:
        heavy.release()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


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
