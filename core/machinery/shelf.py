"""What comes with the project and lies below the cache: results of long experiments, read-only, under the same keys.

One zip file: `about.json` says where and when they were made, `index.json` names every entry with its kind, the sum of
its content and whether it has weights. One that is missing or damaged holds nothing.
"""

import json
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from core.machinery.files import sha256, write_atomically

DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged zip file can raise."""

_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Entry:
    """kind : as in the store; payload, weights : its content"""

    kind: str
    payload: bytes
    weights: bytes | None = None

    def digest(self, key: str) -> str:
        return seal(key, None if self.weights is None else sha256(self.weights), self.payload)


def seal(key: str, weights: str | None, payload: bytes) -> str:
    """Tells an entry from any other, in the cache and on a shelf alike: other keys are made of it.

    weights : the SHA-256 sum of them
    """
    return sha256(b"\0".join([key.encode(), str(weights or "").encode(), payload]))


class Shelf:
    """The entries of a file that `write` made. It is read once, when something is asked for. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read: tuple[zipfile.ZipFile | None, dict[str, dict[str, Any]]] | None = None

    def get(self, key: str, with_weights: bool = True) -> Entry | None:
        """The entry, or None where there is none, or a damaged one."""
        file, index = self._opened()
        about = index.get(key)
        if file is None or about is None:
            return None
        try:
            weights = file.read(f"weights/{key}") if with_weights and about["weights"] else None
            entry = Entry(about["kind"], file.read(f"entries/{key}"), weights)
        except DAMAGE:
            return None
        return entry if not with_weights or entry.digest(key) == about["digest"] else None

    def digest(self, key: str) -> str | None:
        """Tells the content of an entry from any other; None where there is none."""
        about = self._opened()[1].get(key)
        return None if about is None else str(about["digest"])

    def names(self, kind: str | None = None) -> list[str]:
        """Of a kind, or all, in the order in which they were written."""
        return [key for key, about in self._opened()[1].items() if kind in (None, about["kind"])]

    @property
    def about(self) -> dict[str, Any]:
        """When, where and with what the results were made; nothing where there are none."""
        file, _ = self._opened()
        try:
            return {} if file is None else dict(json.loads(file.read("about.json")))
        except DAMAGE:
            return {}

    def _opened(self) -> tuple[zipfile.ZipFile | None, dict[str, dict[str, Any]]]:
        """The file in memory, some megabytes, and its index: to open it anew takes longer than to read an entry."""
        with self._lock:
            if self._read is None:
                try:
                    file = zipfile.ZipFile(BytesIO(self.path.read_bytes()))
                    self._read = file, json.loads(file.read("index.json"))
                except DAMAGE:
                    self._read = None, {}
            return self._read


def write(path: Path, entries: Mapping[str, Entry], about: Mapping[str, Any]) -> None:
    """A shelf with these entries; the same entries make the same file. Raises OSError."""
    index = {
        key: {"kind": entry.kind, "digest": entry.digest(key), "weights": entry.weights is not None}
        for key, entry in entries.items()
    }
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, text in _members(entries, index, about):
            file.writestr(zipfile.ZipInfo(name, _TIME), text, zipfile.ZIP_DEFLATED, 9)
    write_atomically(path, content.getvalue())


def _members(
    entries: Mapping[str, Entry], index: Mapping[str, Any], about: Mapping[str, Any]
) -> Iterable[tuple[str, bytes]]:
    yield "about.json", json.dumps(about).encode()
    yield "index.json", json.dumps(index).encode()
    for key, entry in entries.items():
        yield f"entries/{key}", entry.payload
        if entry.weights is not None:
            yield f"weights/{key}", entry.weights
