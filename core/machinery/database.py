"""One SQLite file that threads and processes share: opened when it is needed, begun anew where it was deleted, and set
aside where it is damaged, but for what is whole in it.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from core.machinery.files import replace

PATIENCE_SECONDS = 20
"""So long one process waits for another's transaction."""

FAULTS = 100
"""After so many rows in a row that cannot be read, the rest of a damaged file is given up."""

V = TypeVar("V")
Row = tuple[Any, ...]


class Database:
    """One table in one file, whose folder is made when it is needed.

    schema : statements that make the table and its indices where they are not there
    is_whole : says of a row of a damaged file whether it is as it was written
    problem : what stands in the way of using it, in words, or None
    """

    def __init__(self, path: Path, table: str, schema: str, is_whole: Callable[[Row], bool]) -> None:
        self.path, self.table, self.schema, self.is_whole = path, table, schema, is_whole
        self.problem: str | None = None
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def run(self, statement: str, *values: Any) -> list[Any] | None:
        """One statement, a transaction of its own. None where the database cannot be used."""
        return self._attempted(lambda connection: connection.execute(statement, values).fetchall())

    def transact(self, act: Callable[[sqlite3.Connection], V]) -> V | None:
        """What `act` returns, in one transaction that no other process's writing can fall into.

        None, and nothing written, where the database cannot be used or `act` meets an OSError.
        """
        return self._attempted(lambda connection: _in_transaction(connection, act))

    def _attempted(self, act: Callable[[sqlite3.Connection], V]) -> V | None:
        with self._lock:
            for _ in range(2):
                try:
                    return act(self.connection())
                except UnicodeEncodeError:
                    return None  # no key of ours
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    damaged = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
                    damaged = damaged or isinstance(error, UnicodeDecodeError)
                    self.problem = self._begin_anew() if damaged else str(error)
                except OSError as error:
                    self.problem = error.strerror or str(error)
                if self.problem:
                    return None
        return None

    def connection(self) -> sqlite3.Connection:
        """Opened where it is not. Raises sqlite3.Error, OSError."""
        if self._connection is not None and _identity(self.path) != self._opened:  # the file was deleted: begin anew
            self.close()
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=PATIENCE_SECONDS, check_same_thread=False, isolation_level=None
            )
            connection.text_factory = _lenient
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(self.schema)
            self._connection, self._opened = connection, _identity(self.path)
        return self._connection

    def _begin_anew(self) -> str:
        """Set the file aside, and put what is whole in it into a new one; returns what stood in the way, or ""."""
        self.close()
        aside = self.path.parent / "damaged" / f"{time.time_ns()}-{self.path.name}"
        try:
            aside.parent.mkdir(exist_ok=True)
            for path in self.path.parent.glob(f"{self.path.name}*"):
                replace(path, aside.with_name(path.name.replace(self.path.name, aside.name)))
        except OSError as error:
            return error.strerror or str(error)
        with contextlib.suppress(sqlite3.Error, OSError):
            for row in filter(self.is_whole, _readable(aside, self.table)):
                marks = ", ".join("?" * len(row))
                self.connection().execute(f"INSERT OR IGNORE INTO {self.table} VALUES ({marks})", row)
        return ""

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _in_transaction(connection: sqlite3.Connection, act: Callable[[sqlite3.Connection], V]) -> V:
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = act(connection)
        connection.execute("COMMIT")
        return value
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return path.stat().st_dev, path.stat().st_ino
    except OSError:
        return None


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def _readable(path: Path, table: str) -> Iterator[Row]:
    """Those rows of a damaged file that can be read."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = _lenient
        at = faults = 0
        while faults < FAULTS:
            try:
                rows = connection.execute(f"SELECT rowid, * FROM {table} WHERE rowid > ? LIMIT 1", (at,)).fetchall()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                    return
                at, faults = at + 1, faults + 1
                continue
            if not rows or rows[0][0] <= at:
                return
            faults, (at, *row) = 0, rows[0]
            yield tuple(row)
