"""Where a search keeps its trials: Optuna studies in SQLite or in a database that many machines share.

Each configuration is tried once, whoever works on the study, and what a worker that died was holding is tried again by
another: a worker says every few seconds that it lives.
"""

import base64
import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event, make_url
from sqlalchemy.exc import SQLAlchemyError

from core.config import CompressionConfig
from core.front import Point

HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
"""So often a worker says that it lives; after so long without a word its trial is given to another."""

RETRIES = 3
PIECE = 40_000
"""Characters of an attribute: some databases hold no more than 64 KB in one."""

POINT, CONFIG, HISTORY, PACKED = "point", "config", "history", "packed"
"""Attributes of a trial; a packed file lies in "packed 0", "packed 1", ..."""


Sampler = Callable[[], optuna.samplers.BaseSampler]
"""Makes what trials are drawn by."""


class StorageError(OSError):
    """The storage of the studies cannot be used; the message says why, and never holds the URL's password."""


class Claimed(Exception):
    """Another trial has the same configuration."""


def open_study(url: str, title: str, objectives: int = 1, sampler: Sampler | None = None) -> optuna.Study:
    """The study of this title, made where it is new; all objectives are minimised. Raises StorageError."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        return optuna.create_study(
            storage=_storage(url),
            study_name=title,
            directions=["minimize"] * objectives,
            load_if_exists=True,
            sampler=None if sampler is None else sampler(),
        )
    except ImportError as error:
        raise StorageError(
            f"The storage needs a driver that is not installed ({error}): install it with pip."
        ) from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ValueError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StorageError(f"The storage of the search cannot be used: {reason}") from None


def _storage(url: str) -> RDBStorage:
    """Raises what SQLAlchemy raises, StorageError."""
    local = url.startswith("sqlite")
    if local and (path := make_url(url).database):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _set_aside_if_damaged(Path(path))
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if local else {"pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
    )
    if local:
        event.listen(storage.engine, "connect", _prepare)
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()
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
        for part in path.parent.glob(f"{path.name}*"):
            part.replace(part.with_name(f"damaged-{time.time_ns()}-{part.name}"))


def claim(study: optuna.Study, trial: Trial, config: CompressionConfig) -> None:
    """Take a configuration for this trial. Raises Claimed where an earlier trial has it, done or in hand.

    Everybody writes first and looks then, so of two that take the same at once the later one sees the earlier one.
    """
    own = config.to_json()
    trial.set_user_attr(CONFIG, own)
    for other in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE)):
        if other.number < trial.number and other.user_attrs.get(CONFIG) == own:
            raise Claimed(f"Trial {other.number} has the same configuration.")


def held(trial: Trial | FrozenTrial) -> CompressionConfig | None:
    """The configuration that a trial has taken; a trial that is tried again has it from the beginning."""
    text = trial.user_attrs.get(CONFIG)
    return None if text is None else CompressionConfig.from_json(text)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def measured(study: optuna.Study) -> list[tuple[FrozenTrial, Point]]:
    """Trials whose configuration was measured on all images."""
    return [(own, _point(own.user_attrs[POINT])) for own in finished(study) if POINT in own.user_attrs]


@lru_cache(maxsize=10_000)
def _point(text: str) -> Point:
    return Point.from_json(text)


def points_of(study: optuna.Study) -> list[Point]:
    return [point for _, point in measured(study)]


def keep_packed(trial: Trial, content: bytes) -> None:
    """Keep a packed file with its trial."""
    text = base64.b64encode(content).decode()
    for place, start in enumerate(range(0, len(text), PIECE)):
        trial.set_user_attr(f"{PACKED} {place}", text[start : start + PIECE])


def packed_of(trial: FrozenTrial) -> bytes:
    """The packed file that was kept with a trial."""
    count = sum(name.startswith(f"{PACKED} ") for name in trial.user_attrs)
    return base64.b64decode("".join(trial.user_attrs[f"{PACKED} {place}"] for place in range(count)))
