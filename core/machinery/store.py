"""Everything under `cache/` that is a result: looked up by key, safe to delete at any time, never unpickled.

Results are rows of one SQLite file (write-ahead log); larger tensors are safetensors files named by their content.
Each row and file carries its SHA-256 sum: what does not match is set aside, counted as a miss, and made again. A disk
that is full or read-only loses the cache's help and nothing else; `Store.problem` then says so.

Two budgets: what may be made again is evicted by last use; what is kept never is, and has room of its own. A file of
weights is put in its place by the transaction that names it, and removed by one that finds no row that does: no other
process can be about to name it.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.machinery.database import Database
from core.machinery.files import remove, replace, sha256, trim, write_atomically, written_aside
from core.machinery.shelf import Shelf, seal

SCHEMA = 2
"""Part of every key. Raise it when the meaning of a stored result changes."""

DEFAULT_LIMIT = 2 * 1024**3
KEPT_LIMIT = 2 * 1024**3
DAMAGED_LIMIT = 64 * 1024**2
"""Bytes: of what may be evicted, of what is kept, and of what was set aside."""

FORGOTTEN_SECONDS = 3600.0
"""So old a temporary file is one that nobody writes any more."""

_TOUCH_SECONDS = 60.0
_ATTEMPTS = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL, sha256 TEXT NOT NULL,
    weights TEXT, bytes INTEGER NOT NULL, used REAL NOT NULL, kept INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entries (kept, used, bytes);
CREATE INDEX IF NOT EXISTS by_kind ON entries (kind, kept, used, bytes);
CREATE INDEX IF NOT EXISTS by_weights ON entries (weights);
"""

V = TypeVar("V")


def key_of(kind: str, **parts: Any) -> str:
    """SHA-256 of everything that the result depends on: values only, defaults included, and the schema number."""
    return sha256(json.dumps({"schema": SCHEMA, "kind": kind, **parts}, sort_keys=True).encode())


@dataclass(frozen=True)
class Found:
    payload: bytes
    weights: bytes | None


class Store:
    """Results under `root`. Threads and processes may share one.

    limit : bytes of what may be evicted; kept_limit : of what is kept
    below : what is found where nothing was made here; it is never changed, and what is deleted here is not seen there
        any more as long as this process lives
    """

    def __init__(
        self, root: Path, limit: int = DEFAULT_LIMIT, kept_limit: int = KEPT_LIMIT, below: Shelf | None = None
    ) -> None:
        self.root, self.limit, self.kept_limit, self.below = root, limit, kept_limit, below
        self._unseen: set[str] = set()
        self.problem: str | None = None
        self._database = Database(root / "results.sqlite", "entries", _SCHEMA, _is_whole)

    def get(self, key: str, with_weights: bool = True) -> Found | None:
        """The entry, or None: never made, evicted, or damaged (and then set aside). Weights are read when wanted."""
        for _ in range(_ATTEMPTS):  # it may be replaced between a look at its row and one at its weights
            old = time.time() - _TOUCH_SECONDS
            row = self._run("SELECT payload, sha256, weights, used < ? FROM entries WHERE key = ?", old, key)
            if not row:
                return self._from_below(key, with_weights)
            payload, digest, name, unused = row[0]
            try:
                weights = self._read_weights(name) if name and with_weights else None
            except OSError:
                return None  # the disk refuses for now
            whole = isinstance(payload, bytes) and seal(key, name, payload) == digest
            if whole and not (name and with_weights and weights is None):
                if unused:
                    self._run("UPDATE entries SET used = ? WHERE key = ?", time.time(), key)
                return Found(payload, weights)
            if self._run("DELETE FROM entries WHERE key = ? AND sha256 IS ? RETURNING key", key, digest):
                self._set_aside(f"{sha256(key.encode())}.payload", payload if isinstance(payload, bytes) else b"")
        return self._from_below(key, with_weights)

    def _from_below(self, key: str, with_weights: bool = True) -> Found | None:
        if self.below is None or key in self._unseen:
            return None
        entry = self.below.get(key, with_weights)
        return None if entry is None else Found(entry.payload, entry.weights)

    def is_below(self, key: str) -> bool:
        """Whether the entry, if there is one, was not made here."""
        return self._run("SELECT 1 FROM entries WHERE key = ?", key) == []

    @property
    def about_below(self) -> dict[str, Any]:
        """When, where and with what the entries below were made; nothing where there are none."""
        return {} if self.below is None else self.below.about

    def digest(self, key: str) -> str | None:
        """Tells the content of an entry from any other, without reading it; None where there is none."""
        rows = self._run("SELECT sha256 FROM entries WHERE key = ?", key)
        if rows or self.below is None or key in self._unseen:
            return str(rows[0][0]) if rows else None
        return self.below.digest(key)

    def put(self, key: str, kind: str, payload: bytes, weights: bytes | None = None, kept: bool = False) -> bool:
        """Store an entry, whole or not at all. A kept one is never evicted, nor is what takes its place, as long as
        there is room for it.

        Returns False, with `problem` set and nothing changed, where the disk refuses or its budget has no room.
        """
        size = len(payload) + len(weights or b"")
        if not kept and size > self.limit:
            self.problem = f"Results of {size:,} bytes are not kept in {self.root}: its limit is {self.limit:,}."
            return False
        try:
            if weights is None:
                return self._put(key, kind, payload, size, kept)
            name = sha256(weights)
            with written_aside(self._weights_path(name), weights) as source:
                return self._put(key, kind, payload, size, kept, name, source)
        except OSError as error:
            self.problem = f"Results cannot be kept in {self.root}: {error.strerror or error}."
            return False

    def _put(
        self, key: str, kind: str, payload: bytes, size: int, kept: bool,
        name: str | None = None, source: Path | None = None,
    ) -> bool:  # fmt: skip
        row = (key, kind, payload, seal(key, name, payload), name, size, time.time())

        def insert(connection: sqlite3.Connection) -> tuple[bool, list[Any]]:
            """Whether it has room, and the weights that the key had before."""
            before = connection.execute("SELECT weights, kept FROM entries WHERE key = ?", (key,)).fetchall()
            room = _kept_bytes(connection, key) + size <= self.kept_limit
            if kept and not room:
                return False, []
            if source is not None and name is not None and source.exists():  # at a second attempt it is in its place
                replace(source, self._weights_path(name))
            stays = room and (kept or any(old[1] == 1 for old in before))
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, int(stays)))
            return True, [old[0] for old in before]

        done = self._transact(insert)
        if done is None:
            self._unlink_unused([name])
            return False
        if not done[0]:
            self.problem = f"What is kept in {self.root} fills its {self.kept_limit:,} bytes: delete some of it."
            return False
        self.problem = None
        self._unlink_unused(done[1])
        self._evict(key)
        return True

    def delete(self, *keys: str) -> None:
        """Remove entries, and their weights where no other entry has the same."""
        self._unseen.update(key for key in keys if self.below is not None and self.below.digest(key) is not None)
        self._remove("DELETE FROM entries WHERE key = ? RETURNING weights", keys)

    def _remove(self, statement: str, keys: Iterable[str]) -> None:
        gone = [self._run(statement, key) or [] for key in keys]
        self._unlink_unused([name for rows in gone for (name,) in rows])

    def _unlink_unused(self, names: Iterable[Any]) -> None:
        """The files of these weights, where no entry names them any more."""
        wanted = {name for name in names if isinstance(name, str) and name.isalnum()}

        def unlink(connection: sqlite3.Connection) -> None:
            for name in wanted:
                if not connection.execute("SELECT 1 FROM entries WHERE weights = ?", (name,)).fetchall():
                    with contextlib.suppress(OSError):  # the next sweep will
                        remove(self._weights_path(name))

        if wanted:
            self._transact(unlink)

    def sweep(self) -> None:
        """Remove weights that no entry names, forgotten temporary files, and what was set aside above its limit."""

        def unlink(connection: sqlite3.Connection) -> None:
            named = {f"{name}.safetensors" for (name,) in connection.execute("SELECT weights FROM entries")}
            for path in (self.root / "weights").iterdir():
                being_written = path.name.startswith(".tmp-") and _age(path) < FORGOTTEN_SECONDS
                if path.name not in named and not being_written:
                    with contextlib.suppress(OSError):
                        remove(path)

        if (self.root / "weights").is_dir():
            self._transact(unlink)
        trim(self.root / "damaged", DAMAGED_LIMIT)

    def keys(self, kind: str) -> list[str]:
        """All entries of a kind, the last made first; those from below at last."""
        rows = self._run("SELECT key FROM entries WHERE kind = ? ORDER BY rowid DESC", kind)
        keys = [key for (key,) in rows or []]
        return keys + [key for key in reversed(self._below(kind)) if key not in keys]

    def _below(self, kind: str) -> list[str]:
        return [] if self.below is None else [key for key in self.below.names(kind) if key not in self._unseen]

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """Key and payload of all entries of a kind that are whole, in the order in which they were made, those from
        below first. For small ones, which have no weights."""
        rows = self._run("SELECT key, payload, sha256 FROM entries WHERE kind = ? ORDER BY rowid", kind)
        here = {key: payload for key, payload, digest in rows or [] if seal(key, None, payload) == digest}
        below = {key: self._from_below(key) for key in self._below(kind) if key not in here}
        return [(key, entry.payload) for key, entry in below.items() if entry is not None] + list(here.items())

    def stamp(self, kind: str) -> object:
        """Equal as long as the entries of a kind are the same; for those that nobody gets one by one."""
        rows = self._run("SELECT COUNT(*), MAX(rowid), MAX(used) FROM entries WHERE kind = ?", kind)
        return rows, len(self._unseen)

    def keep(self, *keys: str) -> bool:
        """From now on these entries, where they are there, are never evicted; False where their budget has no room."""
        these = f"key IN ({', '.join('?' * len(keys))})"

        def mark(connection: sqlite3.Connection) -> bool:
            new = f"SELECT COALESCE(SUM(bytes), 0) FROM entries WHERE kept = 0 AND {these}"
            if _kept_bytes(connection) + connection.execute(new, keys).fetchone()[0] > self.kept_limit:
                return False
            connection.execute(f"UPDATE entries SET kept = 1 WHERE {these}", keys)
            return True

        return bool(self._transact(mark))

    def release(self, *keys: str) -> None:
        """From now on these entries may be evicted."""
        for key in keys:
            self._run("UPDATE entries SET kept = 0 WHERE key = ?", key)
        self._evict()

    def size(self) -> int:
        """Bytes of what may be evicted: what is kept does not count against the limit."""
        rows = self._run("SELECT COALESCE(SUM(bytes), 0) FROM entries WHERE kept = 0")
        return int(rows[0][0]) if rows else 0

    def kept(self) -> dict[str, tuple[int, int]]:
        """Of what is never evicted, how many entries and how many bytes, by kind; the largest first."""
        rows = self._run("SELECT kind, COUNT(*), SUM(bytes) FROM entries WHERE kept = 1 GROUP BY kind ORDER BY 3 DESC")
        return {kind: (count, size) for kind, count, size in rows or []}

    def _evict(self, spared: str = "") -> None:
        """Above the limit: what was used longest ago goes, down to nine tenths of it; not what was just put."""
        excess = self.size() - self.limit
        if excess <= 0:
            return
        excess += self.limit // 10
        gone = []
        by_use = "SELECT key, CAST(bytes AS INTEGER) FROM entries WHERE kept = 0 ORDER BY used, rowid"
        for key, size in self._run(by_use) or []:
            if excess <= 0:
                break
            if key != spared:
                gone.append(key)
                excess -= size
        # what was pinned meanwhile stays
        self._remove("DELETE FROM entries WHERE key = ? AND kept = 0 RETURNING weights", gone)

    def _weights_path(self, name: str) -> Path:
        return self.root / "weights" / f"{name}.safetensors"

    def _read_weights(self, name: str) -> bytes | None:
        """None where they are not there, or not what their name says. Raises OSError where the disk refuses."""
        path = self._weights_path(name)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            return None
        if sha256(content) == name:
            return content
        with contextlib.suppress(OSError):
            (self.root / "damaged").mkdir(exist_ok=True)
            replace(path, self.root / "damaged" / f"{time.time_ns()}-{path.name}")
        return None

    def _set_aside(self, name: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self.root / "damaged" / f"{time.time_ns()}-{name}", content)
        trim(self.root / "damaged", DAMAGED_LIMIT)

    def _run(self, statement: str, *values: Any) -> list[Any] | None:
        return self._heeded(self._database.run(statement, *values))

    def _transact(self, act: Callable[[sqlite3.Connection], V]) -> V | None:
        return self._heeded(self._database.transact(act))

    def _heeded(self, answer: V | None) -> V | None:
        if answer is None and self._database.problem:
            self.problem = f"Results cannot be kept in {self.root}: {self._database.problem}."
            self._database.problem = None
        return answer

    def close(self) -> None:
        self._database.close()


def _is_whole(row: tuple[Any, ...]) -> bool:
    """Of an entry: whether its seal is right."""
    key, _, payload, digest, weights, *_ = row
    return isinstance(key, str) and isinstance(payload, bytes) and seal(key, weights, payload) == digest


def _kept_bytes(connection: sqlite3.Connection, without: str = "") -> int:
    """Of what is kept, `without` what has this key."""
    total = "SELECT COALESCE(SUM(bytes), 0) FROM entries WHERE kept = 1 AND key != ?"
    return int(connection.execute(total, (without,)).fetchone()[0])


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
