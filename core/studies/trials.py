"""Where a search keeps its trials: Optuna studies in SQLite or in a database that many machines share.

Each configuration is tried once, whoever works on the study, and what a worker that died was holding is tried again by
another: a worker says every few seconds that it lives.
"""

import base64
import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, event, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from core.config import CompressionConfig
from core.machinery.files import sha256
from core.measuring.front import Point

HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
"""So often a worker says that it lives; after so long without a word its trial is given to another."""

RETRIES = 3
ATTEMPTS = 3
"""To connect: several machines may make the tables of a new database in the same moment."""

PIECE = 40_000
"""Characters of an attribute: some databases hold no more than 64 KB in one."""

POINT, CONFIG, HISTORY, PACKED = "point", "config", "history", "packed"
CHOSEN, SECONDS, DIVERGED = "chosen", "seconds", "diverged"
"""Attributes of a trial: what was measured, of which configuration, its training epoch by epoch, the packed file, in
"packed 0", "packed 1", ...; what was chosen, seconds of an epoch, that the training diverged."""

SCANNED = "scanned"
"""Attribute of a study: how many sensitivities its first trials come from."""

Sampler = Callable[[], optuna.samplers.BaseSampler]
"""Makes what trials are drawn by."""


class Studies(NamedTuple):
    """Of one goal, from the cheapest trials to the dearest."""

    untrained: optuna.Study
    brief: optuna.Study
    trained: optuna.Study

    def points(self) -> list[Point]:
        return [point for study in self for point in points_of(study)]


class StorageError(OSError):
    """The storage of the studies cannot be used; the message says why, and never holds the URL's password."""


class Claimed(Exception):
    """Another trial has the same configuration."""


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """What goes wrong with a storage, its database or what reads it, as a StorageError."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise StorageError(_reason(error)) from None


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error  # what SQLAlchemy said, and within it the database
    said = str(getattr(cause, "orig", None) or cause).strip() or type(error).__name__
    return f"The storage of the search cannot be used: {said.splitlines()[0]}"


def connect(url: str) -> RDBStorage:
    """The storage at a URL, made where it is new. Raises StorageError."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        return _storage(url)
    except StorageError:
        raise
    except ImportError as error:
        raise StorageError(
            f"The storage needs a driver that is not installed ({error}): install it with pip.{_instead(url)}"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ValueError, RuntimeError, OSError) as error:
        raise StorageError(f"{_reason(error).rstrip('.')}.{_instead(url)}") from None


DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
"""What people write -> what names a driver that is tested."""


def _instead(url: str) -> str:
    """What to write in the place of a URL that is often meant otherwise, or ""; never the URL's password."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return f" Write sqlite:///{scheme.removeprefix('sqlite:').lstrip('/')} for a file." if "@" not in url else ""
    return f" Write {DRIVERS[scheme]}:// in the place of {scheme}://." if scheme in DRIVERS else ""


def open_study(
    storage: str | RDBStorage, title: str, objectives: int = 1, sampler: Sampler | None = None
) -> optuna.Study:
    """The study of this title, made where it is new; all objectives are minimised. Raises StorageError.

    storage : of `connect`, or its URL
    """
    storage = connect(storage) if isinstance(storage, str) else storage
    with in_words():
        return optuna.create_study(
            storage=storage,
            study_name=title,
            directions=["minimize"] * objectives,
            load_if_exists=True,
            sampler=None if sampler is None else sampler(),
        )


def _storage(url: str) -> RDBStorage:
    """Raises what SQLAlchemy raises, StorageError."""
    path = make_url(url).database if url.startswith("sqlite") else None
    if path is None:
        for _ in range(ATTEMPTS):
            with contextlib.suppress(DBAPIError):
                return _connected(url, {"pool_pre_ping": True})
            time.sleep(1)
        return _connected(url, {"pool_pre_ping": True})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # tables are made by one process
        _set_aside_if_damaged(Path(path))
        return _connected(url, {"connect_args": {"timeout": 60}})


def _connected(url: str, how: dict[str, Any]) -> RDBStorage:
    storage = RDBStorage(
        url,
        engine_kwargs=how,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
    )
    if storage.engine.name == "sqlite":
        event.listen(storage.engine, "connect", _prepare)
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()
    CLAIMS.metadata.create_all(storage.engine)
    return storage


def _prepare(connection: Any, _: object) -> None:
    """SQLite locks no rows: each transaction takes the whole file from its beginning, so that no two processes can take
    the same waiting trial."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _set_aside_if_damaged(path: Path) -> None:
    """Studies that cannot be read are begun anew; the file stays beside them."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    except sqlite3.OperationalError as error:
        raise StorageError(f"{path} cannot be opened: {error}.") from None
    except sqlite3.DatabaseError:
        for part in (path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")):
            if part.exists():
                part.replace(part.with_name(f"damaged-{time.time_ns()}-{part.name}"))


CLAIMS = Table(
    "claims",
    MetaData(),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("config", String(64), primary_key=True),
    Column("trial", Integer, nullable=False),
)
"""Which trial of a study has a configuration, by its SHA-256."""


def claim(study: optuna.Study, trial: Trial, config: CompressionConfig) -> None:
    """Take a configuration for this trial, however long it is trained: see `take`."""
    trial.set_user_attr(CONFIG, config.to_json())
    take(study, trial, replace(config, recovery=None).to_json())


def take(study: optuna.Study, trial: Trial, what: str) -> None:
    """Raises Claimed where another trial has it, done or in hand; one that failed, or whose worker died, gives it to
    the first that asks."""
    if first(study, what, trial.number):
        return
    engine, here = _engine(study), (CLAIMS.c.study == study._study_id) & (CLAIMS.c.config == sha256(what.encode()))
    with engine.begin() as connection:
        holder = connection.execute(select(CLAIMS.c.trial).where(here)).scalar_one()
    if study.get_trials(deepcopy=False)[holder].state != TrialState.FAIL:
        raise Claimed(f"Trial {holder} has the same.")
    with engine.begin() as connection:
        taken = connection.execute(
            CLAIMS.update().where(here, CLAIMS.c.trial == holder).values(trial=trial.number)
        ).rowcount
    if not taken:
        raise Claimed("Another trial took the same over just now.")


def first(study: optuna.Study, what: str, trial: int = -1) -> bool:
    """Whether nobody else has asked this of the study: of those that ask at once the database lets one."""
    place = {"study": study._study_id, "config": sha256(what.encode())}
    with contextlib.suppress(IntegrityError), _engine(study).begin() as connection:
        connection.execute(CLAIMS.insert().values(**place, trial=trial))
        return True
    return False


def step(study: optuna.Study, what: Callable[[Trial], Any], *caught: type[Exception]) -> bool:
    """One trial; whether it came to a value: not where another has its configuration, where it raised what is `caught`,
    or where this worker was silent for so long that the trial was given to another."""
    states = list[TrialState]()
    try:
        study.optimize(
            what,
            n_trials=1,
            catch=(Claimed, optuna.exceptions.UpdateFinishedTrialError, *caught),
            callbacks=[lambda _, trial: states.append(trial.state)],
        )
    except UnboundLocalError as error:  # Optuna's own, while it handles that the storage is gone
        reason = error.__context__ or error
        raise reason from reason.__cause__
    except (ValueError, AssertionError) as error:
        if not str(error).startswith(("Cannot tell a ", "Should not reach")):  # what has ended is not ended again
            raise
    return states == [TrialState.COMPLETE]


def _engine(study: optuna.Study) -> Engine:
    """Of the study's storage, which Optuna wraps."""
    storage: Any = getattr(study._storage, "_backend", study._storage)
    engine: Engine = storage.engine
    return engine


def held(trial: Trial | FrozenTrial) -> CompressionConfig | None:
    """The configuration that a trial has taken; a trial that is tried again has it from the beginning."""
    text = trial.user_attrs.get(CONFIG)
    return None if text is None else CompressionConfig.from_json(text)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def measured(study: optuna.Study) -> list[tuple[FrozenTrial, Point]]:
    """Trials whose configuration was measured on all images."""
    return [(trial, _point(trial.user_attrs[POINT])) for trial in finished(study) if POINT in trial.user_attrs]


@lru_cache(maxsize=10_000)
def _point(text: str) -> Point:
    return Point.from_json(text)


def points_of(study: optuna.Study) -> list[Point]:
    return [point for _, point in measured(study)]


def keep_bytes(trial: Trial, name: str, content: bytes) -> None:
    """Keep a file with its trial."""
    text = base64.b64encode(content).decode()
    for place, start in enumerate(range(0, len(text), PIECE)):
        trial.set_user_attr(f"{name} {place}", text[start : start + PIECE])


def kept_bytes(trial: FrozenTrial, name: str) -> bytes:
    """The file that was kept with a trial under this name."""
    count = sum(each.startswith(f"{name} ") for each in trial.user_attrs)
    return base64.b64decode("".join(trial.user_attrs[f"{name} {place}"] for place in range(count)))
