"""Files that appear whole or not at all, and folders that do not grow without end."""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
"""The folder in which `python -m core` runs."""

WINDOWS = os.name == "nt"

PATIENCE_SECONDS, PAUSE_SECONDS = 2.0, 0.02
"""Windows refuses to replace or remove a file while another process reads it: so long it is tried again."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk, then rename. Raises OSError (disk full, ...)."""
    with written_aside(path, content) as temporary:
        replace(temporary, path)


@contextlib.contextmanager
def written_aside(path: Path, content: bytes) -> Iterator[Path]:
    """The content under a temporary name beside `path`, on the disk; removed if nobody has renamed it at the end.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def replace(source: Path, target: Path) -> None:
    """`os.replace`, tried again while another process has one of them open. Raises OSError."""
    _patiently(lambda: os.replace(source, target))


def remove(path: Path) -> None:
    """`os.unlink`, in the same way; a file that is not there is no error. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        _patiently(lambda: os.unlink(path))


def _patiently(act: Callable[[], None]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except PermissionError:
            if not WINDOWS or time.monotonic() > until:
                raise
        time.sleep(PAUSE_SECONDS)


def trim(folder: Path, limit: int) -> None:
    """Remove what changed longest ago in a folder, files and whole folders, until the rest has at most `limit` bytes.

    The newest stays, however large. What cannot be looked at or removed is left.
    """
    entries = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                inside = [path, *path.rglob("*")] if path.is_dir() else [path]
                size = sum(file.stat().st_size for file in inside if file.is_file())
                entries.append((path.stat().st_mtime, path, size))
    rest = sum(size for _, _, size in entries)
    for _, path, size in sorted(entries)[:-1]:
        if rest <= limit:
            break
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else remove(path)
            rest -= size


def safetensors_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where it ends: 8 bytes of length, then JSON, padded with spaces."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), end


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
