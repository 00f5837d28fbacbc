"""Processes that work on the same study beside this one, with a part of its threads each: a small network is trained
hardly faster on two cores than on one, and two of them are trained on two.

Each gets what it is asked for as a line of JSON, and works until that is done, or its input ends: so it goes where this
process goes, whatever ends it.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch

from core.machinery import devices
from core.machinery.files import PROJECT

MOST = 4
"""Processes in all: each takes about a gigabyte."""

PATIENCE = 30.0
"""Seconds for the others to end; who does not is ended."""


def workers_on(device: torch.device) -> int:
    """How many processes this machine is for: one for each thread that torch would use, where these train."""
    return min(MOST, torch.get_num_threads()) if device.type == devices.CPU else 1


@contextmanager
def helpers(asked: dict[str, Any], count: int, over: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
    """Let so many more work on what is asked for as long as this process does, and after that until it is `over`.

    asked : of `core.studies.students.help_out`; say : told of one that failed, which does no harm
    """
    threads = torch.get_num_threads()
    share = max(1, threads // (count + 1))
    with tempfile.TemporaryFile() as log:
        others = [_start({**asked, "number": number, "threads": share}, log) for number in range(1, count + 1)]
        torch.set_num_threads(share)
        try:
            yield
            while any(other.poll() is None for other in others) and not over():
                time.sleep(0.2)
        finally:
            torch.set_num_threads(threads)
            _end(others)
        if any(other.returncode for other in others):
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            say(f"A process beside this one failed: {said[-1] if said else 'it said nothing.'}")


def _start(asked: dict[str, Any], log: IO[bytes]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "core.studies.beside"]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, text=True
    )
    assert process.stdin is not None
    process.stdin.write(f"{json.dumps(asked)}\n")
    process.stdin.flush()
    return process


def _end(processes: "list[subprocess.Popen[str]]") -> None:
    """Their inputs end, and so do they."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    from core.studies import students  # which starts these

    asked, over = json.loads(sys.stdin.readline()), threading.Event()
    torch.set_num_threads(asked.pop("threads"))

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    students.help_out(**asked, should_stop=over.is_set)


if __name__ == "__main__":
    main()
