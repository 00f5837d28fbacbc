"""What `put` confirmed is there, or was evicted by the rules: whatever two processes do at once, whenever one dies, and
whatever the disk refuses."""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.machinery import files
from core.machinery import store as module
from core.machinery.files import sha256
from core.machinery.store import Found, Store

LIMIT, KEPT_LIMIT = 1_000, 600
KEYS = st.sampled_from("abcdef")
WEIGHTS = st.none() | st.sampled_from([b"x" * 50, b"y" * 200, b"z" * 450])
"""Few, so that entries share their files."""

ACTS = st.sampled_from(["put", "delete", "sweep"])


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass(frozen=True)
class Entry:
    found: Found
    kept: bool
    used: float

    @property
    def size(self) -> int:
        return len(self.found.payload) + len(self.found.weights or b"")


Model = dict[str, Entry]


def kept_bytes(model: Model, without: str = "") -> int:
    return sum(own.size for key, own in model.items() if own.kept and key != without)


def evicted(model: Model, spared: str) -> Model:
    """The rule: above the limit the oldest use goes first, down to nine tenths; never what was just put."""
    excess = sum(own.size for own in model.values() if not own.kept) - LIMIT
    if excess <= 0:
        return model
    excess, rest = excess + LIMIT // 10, dict(model)
    for key, own in sorted(model.items(), key=lambda item: item[1].used):
        if excess > 0 and not own.kept and key != spared:
            excess -= own.size
            del rest[key]
    return rest


class TwoProcesses(RuleBasedStateMachine):
    """Two stores on one folder, and what should be in it."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="store-"))
        self.model: Model = {}
        self.now = 1_000_000.0
        self.own_time = module.time
        module.time = SimpleNamespace(time=lambda: self.now, time_ns=time.time_ns)  # type: ignore[assignment]
        self.stores = [Store(self.root, LIMIT, KEPT_LIMIT) for _ in range(2)]

    def teardown(self) -> None:
        if hasattr(self, "root"):
            module.time = self.own_time
            for store in self.stores:
                store.close()
            shutil.rmtree(self.root)

    def inserted(self, key: str, found: Found, kept: bool) -> Model | None:
        """What should be there when a put has its row; None where its budget has no room."""
        size = len(found.payload) + len(found.weights or b"")
        room = kept_bytes(self.model, key) + size <= KEPT_LIMIT
        if (kept and not room) or (not kept and size > LIMIT):
            return None
        stays = room and (kept or (key in self.model and self.model[key].kept))
        rest = {other: own for other, own in self.model.items() if other != key}
        return rest | {key: Entry(found, stays, self.now)}

    def after_put(self, key: str, found: Found, kept: bool) -> Model | None:
        model = self.inserted(key, found, kept)
        return None if model is None else evicted(model, key)

    @rule(who=st.integers(0, 1), key=KEYS, size=st.integers(0, 250), weights=WEIGHTS, kept=st.booleans())
    def put(self, who: int, key: str, size: int, weights: bytes | None, kept: bool) -> None:
        self.now += 100
        found = Found(os.urandom(size), weights)
        expected = self.after_put(key, found, kept)
        assert self.stores[who].put(key, "kind", found.payload, weights, kept) == (expected is not None)
        assert (self.stores[who].problem is None) == (expected is not None)
        self.model = self.model if expected is None else expected

    @rule(who=st.integers(0, 1), key=KEYS)
    def get(self, who: int, key: str) -> None:
        self.now += 100
        own = self.model.get(key)
        assert self.stores[who].get(key) == (None if own is None else own.found)
        if own is not None:
            self.model[key] = replace(own, used=self.now)

    @rule(who=st.integers(0, 1), key=KEYS)
    def delete(self, who: int, key: str) -> None:
        self.stores[who].delete(key)
        self.model.pop(key, None)

    @rule(who=st.integers(0, 1), key=KEYS)
    def keep(self, who: int, key: str) -> None:
        own = self.model.get(key)
        room = own is None or own.kept or kept_bytes(self.model) + own.size <= KEPT_LIMIT
        assert self.stores[who].keep(key) == room
        if own is not None and room:
            self.model[key] = replace(own, kept=True)

    @rule(who=st.integers(0, 1), key=KEYS)
    def release(self, who: int, key: str) -> None:
        self.stores[who].release(key)
        if key in self.model:
            self.model[key] = replace(self.model[key], kept=False)
        self.model = evicted(self.model, "")

    def act(self, what: str, who: int, key: str, weights: bytes | None) -> None:
        if what == "put":
            self.put(who, key, 10, weights, False)
        elif what == "delete":
            self.delete(who, key)
        else:
            self.stores[who].sweep()

    @rule(who=st.integers(0, 1), key=KEYS, weights=WEIGHTS.filter(bool), other=KEYS, what=ACTS, kept=st.booleans())
    def put_while_another_acts(
        self, who: int, key: str, weights: bytes, other: str, what: str, kept: bool
    ) -> None:  # fmt: skip
        """The weights are written, and no row names them yet; then there is one, and nothing is tidied up yet."""
        store, aside, found = self.stores[who], module.written_aside, Found(b"payload", weights)

        @contextmanager
        def written(path: Path, content: bytes) -> Iterator[Path]:
            with aside(path, content) as source:
                patch.setattr(module, "written_aside", aside)
                self.act(what, 1 - who, other, weights)
                yield source

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "written_aside", written)
            done = store.put(key, "kind", found.payload, weights, kept)
        expected = self.after_put(key, found, kept)
        assert done == (expected is not None)
        self.model = self.model if expected is None else expected

    @rule(who=st.integers(0, 1), key=KEYS, weights=WEIGHTS, other=KEYS, what=ACTS)
    def put_and_be_overtaken(self, who: int, key: str, weights: bytes | None, other: str, what: str) -> None:
        """The row is there, and before it is tidied up another process acts."""
        self.now += 100
        store, found = self.stores[who], Found(b"payload", weights)
        tidy, expected = store._unlink_unused, self.inserted(key, found, False)
        assert expected is not None

        def overtaken(names: Any) -> None:
            store._unlink_unused = tidy  # type: ignore[method-assign]
            self.model = expected
            self.act(what, 1 - who, other, weights)
            tidy(names)

        store._unlink_unused = overtaken  # type: ignore[method-assign]
        assert store.put(key, "kind", found.payload, weights)
        self.model = evicted(self.model, key)

    @rule(
        who=st.integers(0, 1), key=KEYS, weights=WEIGHTS, kept=st.booleans(),
        at=st.sampled_from(["fsync", "replace", "replaced", "unlink"]),
    )  # fmt: skip
    def put_and_die(self, who: int, key: str, weights: bytes | None, kept: bool, at: str) -> None:
        """The process is killed on the way; another one begins in its place."""
        self.now += 100
        before, found = dict(self.model), Found(os.urandom(30), weights)
        expected = self.after_put(key, found, kept)
        died = self.dying(at, lambda: self.stores[who].put(key, "kind", found.payload, weights, kept))
        if not died and expected is not None:
            self.model = expected
        if died:
            self.stores[who] = Store(self.root, LIMIT, KEPT_LIMIT)
            self.stores[who].sweep()
            there = self.there()
            assert there.get(key, (None, False))[0] in ({before[key].found} if key in before else {None}) | {found}
            if expected is not None and there.get(key, (None, False))[0] == found:
                self.model = expected
            self.resynchronize(set(before) - {key})

    @rule(who=st.integers(0, 1), key=KEYS)
    def delete_and_die(self, who: int, key: str) -> None:
        if self.dying("unlink", lambda: self.stores[who].delete(key)):
            self.stores[who] = Store(self.root, LIMIT, KEPT_LIMIT)
            self.stores[who].sweep()
        self.model.pop(key, None)

    def dying(self, at: str, act: Callable[[], object]) -> bool:
        """Whether the process came to this step, and so died there."""
        dead: list[str] = []

        def step(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def instead(*arguments: Any) -> Any:
                if dead or at == name:
                    dead.append(name)
                    raise Killed
                value = real(*arguments)
                if at == f"{name}d":
                    dead.append(name)
                    raise Killed
                return value

            return instead

        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "replace", "unlink"):
                patch.setattr(files.os, name, step(name, getattr(os, name)))
            try:
                act()
            except Killed:
                return True
        return False

    @rule(who=st.integers(0, 1), key=KEYS, weights=WEIGHTS.filter(bool), kept=st.booleans())
    def put_where_no_file_can_be_written(self, who: int, key: str, weights: bytes, kept: bool) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files.os, "fsync", full)
            assert not self.stores[who].put(key, "kind", b"payload", weights, kept)
        assert "No space left" in (self.stores[who].problem or "")

    @rule(who=st.integers(0, 1), key=KEYS, weights=WEIGHTS, kept=st.booleans())
    def put_where_the_database_cannot_grow(self, who: int, key: str, weights: bytes | None, kept: bool) -> None:
        """SQLite's own error of a full disk, at the row: what has no row leaves no file."""
        store = self.stores[who]
        store.size()
        connection = store._database.connection()
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
        store.limit = store.kept_limit = 10**9
        try:
            assert not store.put(key, "kind", bytes(200_000), weights, kept)
            assert "full" in (store.problem or "")
            assert self.names() == {sha256(own.found.weights) for own in self.model.values() if own.found.weights}
        finally:
            store.limit, store.kept_limit = LIMIT, KEPT_LIMIT
            connection.execute("PRAGMA max_page_count = 1000000")

    def there(self) -> dict[str, tuple[Found | None, bool]]:
        """What really lies in the folder, by key: None where a row names weights that are not there."""
        if not (self.root / "results.sqlite").exists():
            return {}
        connection = sqlite3.connect(self.root / "results.sqlite")
        rows = connection.execute("SELECT key, payload, weights, kept FROM entries").fetchall()
        connection.close()
        found: dict[str, tuple[Found | None, bool]] = {}
        for key, payload, name, kept in rows:
            path = self.root / "weights" / f"{name}.safetensors"
            whole = name is None or (path.is_file() and sha256(path.read_bytes()) == name)
            weights = None if name is None or not whole else path.read_bytes()
            found[key] = Found(payload, weights) if whole else None, bool(kept)
        return found

    def names(self) -> set[str]:
        """Of all files of weights; a process that died may have left temporary ones for an hour."""
        names = [path.stem for path in self.root.glob("weights/*") if not path.name.startswith(".tmp-")]
        return set(names)

    def resynchronize(self, keys: set[str]) -> None:
        """After several acts at once: what is kept is there, nothing is another's, and what went may be evicted."""
        there = self.there()
        for key in keys & set(self.model):
            if self.model[key].kept:
                assert there[key] == (self.model[key].found, True)
        self.model = {key: own for key, own in self.model.items() if key in there}

    @invariant()
    def what_was_confirmed_is_there_or_was_evicted_by_the_rules(self) -> None:
        if hasattr(self, "root"):
            expected = {key: (own.found, own.kept) for key, own in self.model.items()}
            assert self.there() == expected

    @invariant()
    def sizes_stay_under_their_limits(self) -> None:
        if hasattr(self, "root"):
            assert sum(own.size for own in self.model.values() if not own.kept) <= LIMIT
            assert kept_bytes(self.model) <= KEPT_LIMIT
            assert self.stores[0].size() == sum(own.size for own in self.model.values() if not own.kept)
            assert sum(size for _, size in self.stores[1].kept().values()) == kept_bytes(self.model)

    @invariant()
    def nothing_is_orphaned(self) -> None:
        if hasattr(self, "root") and (self.root / "weights").is_dir():
            self.stores[0].sweep()
            named = {sha256(own.found.weights) for own in self.model.values() if own.found.weights is not None}
            assert self.names() == named


TwoProcesses.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestTwoProcesses = TwoProcesses.TestCase
