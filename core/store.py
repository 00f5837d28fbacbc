"""Everything under `cache/` that is a result: looked up by key, safe to delete at any time, never unpickled.

Results are rows of one SQLite file (write-ahead log); larger tensors are safetensors files named by their content.
Each row and file carries its SHA-256 sum: what does not match is set aside, counted as a miss, and made again. A disk
that is full or read-only loses the cache's help and nothing else; `Store.problem` then says so.
"""

import contextlib
import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import sha256, write_atomically

SCHEMA = 2
"""Part of every key. Raise it when the meaning of a stored result changes."""

DEFAULT_LIMIT = 2 * 1024**3
_TOUCH_SECONDS = 60.0
_TABLE = """CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL, sha256 TEXT NOT NULL,
    weights TEXT, bytes INTEGER NOT NULL, used REAL NOT NULL, kept INTEGER NOT NULL)"""


def key_of(kind: str, **parts: Any) -> str:
    """SHA-256 of everything that the result depends on: values only, defaults included, and the schema number."""
    return sha256(json.dumps({"schema": SCHEMA, "kind": kind, **parts}, sort_keys=True).encode())


def _seal(key: str, weights: str | None, payload: bytes) -> str:
    return sha256(b"\0".join([key.encode(), str(weights or "").encode(), payload]))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return path.stat().st_dev, path.stat().st_ino
    except OSError:
        return None


@dataclass(frozen=True)
class Found:
    payload: bytes
    weights: bytes | None


class Store:
    """Results under `root`. Threads and processes may share one."""

    def __init__(self, root: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.root, self.limit = root, limit
        self.problem: str | None = None
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def get(self, key: str, with_weights: bool = True) -> Found | None:
        """The entry, or None: never made, evicted, or damaged (and then set aside). Weights are read when wanted."""
        old = time.time() - _TOUCH_SECONDS
        row = self._run("SELECT payload, sha256, weights, used < ? FROM entries WHERE key = ?", old, key)
        if not row:
            return None
        payload, digest, name, unused = row[0]
        weights = self._read_weights(name) if name and with_weights else None
        whole = isinstance(payload, bytes) and _seal(key, name, payload) == digest
        if not whole or (name and with_weights and weights is None):
            self._set_aside(f"{sha256(key.encode())}.payload", payload if isinstance(payload, bytes) else b"")
            self._run("DELETE FROM entries WHERE key = ?", key)
            return None
        if unused:
            self._run("UPDATE entries SET used = ? WHERE key = ?", time.time(), key)
        return Found(payload, weights)

    def digest(self, key: str) -> str | None:
        """Tells the content of an entry from any other, without reading it; None where there is none."""
        rows = self._run("SELECT sha256 FROM entries WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def put(self, key: str, kind: str, payload: bytes, weights: bytes | None = None, kept: bool = False) -> bool:
        """Store an entry; `kept` ones are never evicted. Returns False, with `problem` set, where the disk refuses."""
        name = sha256(weights) if weights is not None else None
        try:
            if weights is not None:
                write_atomically(self._weights_path(sha256(weights)), weights)
        except OSError as error:
            self.problem = f"Results cannot be kept in {self.root}: {error.strerror or error}."
            return False
        size = len(payload) + len(weights or b"")
        row = (key, kind, payload, _seal(key, name, payload), name, size, time.time(), int(kept))
        replaced = self._run("SELECT weights FROM entries WHERE key = ?", key)
        stored = self._run("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
        if stored is None:
            return False
        self.problem = None
        self._unlink_unused(replaced)
        self._evict()
        return True

    def delete(self, key: str) -> None:
        """Remove an entry, and its weights where no other entry has the same."""
        self._unlink_unused(self._run("DELETE FROM entries WHERE key = ? RETURNING weights", key))

    def _unlink_unused(self, rows: list[Any] | None) -> None:
        """The weights that these rows named, where no entry names them any more."""
        for (name,) in rows or []:
            if name and not self._run("SELECT 1 FROM entries WHERE weights = ?", name):
                self._weights_path(name).unlink(missing_ok=True)

    def keys(self, kind: str) -> list[str]:
        """All entries of a kind, the last made first."""
        rows = self._run("SELECT key FROM entries WHERE kind = ? ORDER BY rowid DESC", kind)
        return [key for (key,) in rows or []]

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """Key and payload of all entries of a kind that are whole, in the order in which they were made. For small
        ones, which have no weights."""
        rows = self._run("SELECT key, payload, sha256 FROM entries WHERE kind = ? ORDER BY rowid", kind)
        return [(key, payload) for key, payload, digest in rows or [] if _seal(key, None, payload) == digest]

    def stamp(self, kind: str) -> object:
        """Equal as long as the entries of a kind are the same; for those that nobody gets one by one."""
        return self._run("SELECT COUNT(*), MAX(rowid), MAX(used) FROM entries WHERE kind = ?", kind)

    def keep(self, key: str) -> None:
        """From now on the entry, where there is one, is never evicted."""
        self._run("UPDATE entries SET kept = 1 WHERE key = ?", key)

    def size(self) -> int:
        """Bytes of what may be evicted: what is kept does not count against the limit."""
        rows = self._run("SELECT COALESCE(SUM(bytes), 0) FROM entries WHERE kept = 0")
        return int(rows[0][0]) if rows else 0

    def _evict(self) -> None:
        """Above the limit: what was used longest ago goes, down to nine tenths of it."""
        excess = self.size() - self.limit
        if excess <= 0:
            return
        excess += self.limit // 10
        for key, size in self._run("SELECT key, bytes FROM entries WHERE kept = 0 ORDER BY used") or []:
            if excess <= 0:
                break
            self.delete(key)
            excess -= size

    def _weights_path(self, name: str) -> Path:
        return self.root / "weights" / f"{name}.safetensors"

    def _read_weights(self, name: str) -> bytes | None:
        path = self._weights_path(name)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if sha256(content) == name:
            return content
        with contextlib.suppress(OSError):
            (self.root / "damaged").mkdir(exist_ok=True)
            path.replace(self.root / "damaged" / f"{time.time_ns()}-{path.name}")
        return None

    def _set_aside(self, name: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self.root / "damaged" / f"{time.time_ns()}-{name}", content)

    def _run(self, statement: str, *values: Any) -> list[Any] | None:
        """One short transaction. None where the database cannot be used; a damaged one is set aside and begun anew."""
        with self._lock:
            for _ in range(2):
                try:
                    with self._open() as connection:
                        return connection.execute(statement, values).fetchall()
                except UnicodeEncodeError:
                    return None  # no key of ours
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    damaged = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
                    damaged = damaged or isinstance(error, UnicodeDecodeError)
                    problem = self._begin_anew() if damaged else str(error)
                except OSError as error:
                    problem = error.strerror or str(error)
                if problem:
                    self.problem = f"Results cannot be kept in {self.root}: {problem}."
                    return None
        return None

    def _open(self) -> sqlite3.Connection:
        path = self.root / "results.sqlite"
        if self._connection is not None and _identity(path) != self._opened:  # the cache was deleted: begin anew
            self.close()
        if self._connection is None:
            self.root.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=20, check_same_thread=False)
            connection.text_factory = lambda text: text.decode(errors="replace")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            self._connection, self._opened = connection, _identity(path)
        return self._connection

    def _begin_anew(self) -> str:
        """Set the database aside; returns what stood in the way, or ""."""
        self.close()
        try:
            (self.root / "damaged").mkdir(exist_ok=True)
            for path in self.root.glob("results.sqlite*"):
                path.replace(self.root / "damaged" / f"{time.time_ns()}-{path.name}")
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
