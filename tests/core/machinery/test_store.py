"""The cache helps or is quiet: nothing damaged is ever returned, nothing in it ever raises."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st

from core.machinery import files
from core.machinery import store as module
from core.machinery.files import write_atomically
from core.machinery.store import Found, Store, key_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    made = Store(root)
    yield made
    made.close()


def edit(root: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(root / "results.sqlite")
    with connection:
        connection.execute(statement, values)
    connection.close()


def aside(root: Path) -> list[Path]:
    return list((root / "damaged").iterdir()) if (root / "damaged").is_dir() else []


PARTS = st.dictionaries(
    st.sampled_from("abc"), st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), min_size=1
)


@given(PARTS, PARTS)
def test_a_key_is_that_of_its_values(a: dict, b: dict) -> None:
    same = repr(sorted(a.items())) == repr(sorted(b.items()))
    assert (key_of("x", **a) == key_of("x", **b)) == same
    assert key_of("x", **a) == key_of("x", **dict(reversed(a.items())))
    assert key_of("x", **a) != key_of("y", **a)


def test_a_key_changes_with_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x", a=1)
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    assert key_of("x", a=1) != before


@pytest.mark.parametrize("weights", [None, b"", b"weights" * 1000])
def test_what_is_put_is_found_here_and_by_another_store(store: Store, root: Path, weights: bytes | None) -> None:
    assert store.get("key") is None
    assert store.put("key", "kind", b"payload", weights)
    for reader in (store, Store(root)):
        assert reader.get("key") == Found(b"payload", weights)
        assert reader.keys("kind") == ["key"]
        assert reader.problem is None


def contents(root: Path) -> list[bytes]:
    """The contents of all files of weights, in order."""
    return sorted(path.read_bytes() for path in (root / "weights").iterdir())


def test_what_is_put_again_replaces_what_was(store: Store, root: Path) -> None:
    store.put("key", "kind", b"one", b"weights one")
    store.put("other", "kind", b"one", b"weights one")
    for payload, weights in ((b"two", b"weights two"), (b"three", b"weights two"), (b"four", b"weights four")):
        store.put("key", "kind", payload, weights)
        assert store.get("key") == Found(payload, weights)
        assert store.keys("kind") == ["key", "other"]
        assert contents(root) == sorted([b"weights one", weights]), "what no entry names is gone, what one names stays"
    store.put("key", "kind", b"five")
    assert contents(root) == [b"weights one"]


def test_what_is_deleted_is_gone(store: Store, root: Path) -> None:
    store.put("key", "kind", b"payload", b"weights")
    store.delete("key")
    assert store.get("key") is None
    assert Store(root).get("key") is None


# The limit.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The store's own time, moved by hand."""
    own = SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: own.now, time_ns=time.time_ns))
    return own


def test_above_the_limit_what_was_used_longest_ago_goes_and_what_is_kept_stays(
    root: Path, clock: SimpleNamespace
) -> None:
    store = Store(root, limit=700)
    store.put("trained", "baseline", b"x" * 3_000, kept=True)
    for number in range(6):
        clock.now += 100
        store.put(f"result {number}", "evaluation", b"x" * 100)
    clock.now += 100
    assert store.get("result 0")  # now the youngest use
    clock.now += 100
    store.put("result 6", "evaluation", b"x" * 200)
    assert store.size() <= 700
    assert store.get("trained")
    assert store.get("result 0")
    assert store.get("result 6")
    assert store.get("result 1") is None
    assert store.get("result 5")


def test_what_is_kept_survives_even_above_the_limit(root: Path) -> None:
    store = Store(root, limit=100)
    for number in range(4):
        store.put(f"trained {number}", "baseline", b"x" * 100, kept=True)
    store.put("result", "evaluation", b"x")
    assert all(store.get(f"trained {number}") for number in range(4))
    assert store.get("result") == Found(b"x", None), "what is kept takes no room from what is not"


def test_the_weights_of_what_was_evicted_are_removed_and_those_in_use_stay(root: Path) -> None:
    store = Store(root, limit=1_000)
    store.put("old", "decompositions", b"", b"a" * 900)
    store.put("kept", "baseline", b"", b"b" * 900, kept=True)
    store.put("new", "decompositions", b"", b"c" * 500)
    assert store.get("old") is None
    assert store.get("kept") == Found(b"", b"b" * 900)
    assert contents(root) == [b"b" * 900, b"c" * 500]


# Damage.


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("payload", b"other"),
        ("payload", "text"),
        ("payload", 7),
        ("sha256", "0" * 64),
        ("weights", "0" * 64),
        ("weights", "../../elsewhere"),
        ("weights", 7),
        ("used", "yesterday"),
        ("bytes", "many"),
    ],
)
def test_a_row_that_was_changed_is_a_miss_and_can_be_made_again(
    store: Store, root: Path, column: str, value: object
) -> None:
    store.put("key", "kind", b"payload", b"weights")
    edit(root, f"UPDATE entries SET {column} = ?", value)
    reader = Store(root)
    assert reader.get("key") in (None, Found(b"payload", b"weights"))
    assert reader.put("key", "kind", b"payload", b"weights")
    assert reader.get("key") == Found(b"payload", b"weights")


def test_the_result_of_another_key_is_no_answer(store: Store, root: Path) -> None:
    store.put("mine", "kind", b"my payload", b"my weights")
    store.put("theirs", "kind", b"their payload", b"their weights")
    edit(root, "DELETE FROM entries WHERE key = 'mine'")
    edit(root, "UPDATE entries SET key = 'mine'")
    assert Store(root).get("mine") is None


@pytest.mark.parametrize("content", [None, b"", b"other weights", b"weightS"])
def test_weights_that_are_not_what_their_name_says_are_set_aside(
    store: Store, root: Path, content: bytes | None
) -> None:
    store.put("key", "kind", b"payload", b"weights")
    (path,) = (root / "weights").iterdir()
    path.unlink() if content is None else path.write_bytes(content)
    assert store.get("key") is None
    assert store.keys("kind") == []
    if content is not None:
        assert content in [set_aside.read_bytes() for set_aside in aside(root)]
    store.put("key", "kind", b"payload", b"weights")
    assert store.get("key") == Found(b"payload", b"weights")


@pytest.mark.parametrize("content", [b"garbage " * 1_000, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_database_that_is_none_is_set_aside_and_begun_anew(root: Path, content: bytes) -> None:
    root.mkdir()
    (root / "results.sqlite").write_bytes(content)
    store = Store(root)
    assert store.get("key") is None
    assert store.put("key", "kind", b"payload")
    assert store.get("key") == Found(b"payload", None)
    assert content in [path.read_bytes() for path in aside(root)]


def test_no_damage_to_the_database_gives_a_wrong_answer_or_an_error(root: Path) -> None:
    whole = Store(root)
    expected = {f"key {number}": Found(bytes([number]) * 300, None) for number in range(20)}
    for key, found in expected.items():
        whole.put(key, "kind", found.payload)
    whole.close()
    content = (root / "results.sqlite").read_bytes()
    for turn in range(300):
        damaged = bytearray(content)
        for _ in range(random.choice([1, 5, 100])):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        other = root.parent / f"cache {turn}"
        other.mkdir()
        (other / "results.sqlite").write_bytes(damaged[: random.choice([len(damaged), random.randrange(len(damaged))])])
        store = Store(other)
        for key, found in expected.items():
            assert store.get(key) in (None, found)
        store.keys("kind")
        store.size()
        assert store.put("new", "kind", b"new") or store.problem
        store.close()


def test_a_question_that_makes_no_sense_costs_no_answer(store: Store, root: Path) -> None:
    store.put("trained", "baseline", b"payload", b"weights", kept=True)
    with contextlib.suppress(Exception):
        store.get(object())  # type: ignore[arg-type]
    assert store.get("trained") == Found(b"payload", b"weights")
    assert not aside(root)


# A disk that refuses.


def test_a_folder_that_cannot_be_made_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    store = Store(tmp_path / "cache")
    assert store.get("key") is None
    assert not store.put("key", "kind", b"payload", b"weights")
    assert str(tmp_path / "cache") in (store.problem or "")
    assert not store.put("key", "kind", b"payload")
    assert (store.keys("kind"), store.size()) == ([], 0)


def test_a_full_disk_is_a_problem_until_there_is_room_again(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert not store.put("key", "kind", b"payload", b"weights")
        assert "No space left" in (store.problem or "")
        assert store.get("key") is None
    assert store.put("key", "kind", b"payload", b"weights")
    assert store.problem is None


def test_a_database_that_cannot_be_set_aside_is_a_problem_and_no_error(root: Path) -> None:
    root.mkdir()
    (root / "results.sqlite").write_bytes(b"garbage " * 1_000)
    (root / "damaged").write_text("a file is in the way")
    store = Store(root)
    assert store.get("key") is None
    assert not store.put("key", "kind", b"payload")
    assert store.problem


def test_a_cache_that_was_deleted_is_made_again(store: Store, root: Path) -> None:
    store.put("key", "kind", b"payload", b"weights")
    shutil.rmtree(root)
    assert store.get("key") is None
    assert store.put("key", "kind", b"payload", b"weights"), store.problem
    assert store.get("key") == Found(b"payload", b"weights")
    assert Store(root).get("key") == Found(b"payload", b"weights")


def test_a_cache_that_was_deleted_and_made_again_by_another_is_shared_again(store: Store, root: Path) -> None:
    store.put("old", "kind", b"payload")
    shutil.rmtree(root)
    other = Store(root)
    assert other.put("theirs", "kind", b"payload")
    assert store.put("mine", "kind", b"payload"), store.problem
    assert [store.get(key) is not None for key in ("old", "theirs", "mine")] == [False, True, True]
    assert [other.get(key) is not None for key in ("old", "theirs", "mine")] == [False, True, True]


# Several at once, and some of them killed.

WRITER = """
import sys
from pathlib import Path
from core.machinery.store import Store
store, name, count = Store(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for number in range(count):
    weights = f"{name} {number} ".encode() * 500
    assert store.put(f"{name} {number % 50}", "kind", weights[:200], weights), store.problem
    print(number, flush=True)
"""


def start_writer(root: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(root), name, str(count)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_process_that_is_killed_while_it_writes_leaves_a_readable_store(root: Path) -> None:
    for turn in range(6):
        writer = start_writer(root, "victim", 10**9)
        assert writer.stdout is not None
        for _ in range(3 + turn):
            writer.stdout.readline()
        time.sleep(random.random() / 20)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        store = Store(root)
        keys = store.keys("kind")
        assert keys
        for key in keys:
            found = store.get(key)
            assert found is not None
            assert found.weights is not None
            assert found.weights.startswith(key.split()[0].encode())
            assert found.weights[:200] == found.payload
        assert store.put("after", "other", b"payload")
        assert store.problem is None
        assert not aside(root)
        store.close()


def test_processes_and_threads_that_write_at_once_lose_nothing(root: Path) -> None:
    writers = [start_writer(root, name, 40) for name in ("one", "two")]
    store = Store(root)
    threads = [
        threading.Thread(target=lambda n=n: [store.put(f"thread {n} {i}", "kind", b"x") for i in range(20)])
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        _, complaints = writer.communicate(timeout=120)
        assert writer.returncode == 0, complaints.decode()
    assert store.problem is None
    assert len(store.keys("kind")) == 2 * 40 + 3 * 20
    assert all(store.get(key) for key in store.keys("kind"))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, b"before")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space left"):
                write_atomically(path, b"after")
        assert path.read_bytes() == b"before"
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("refusals", [0, 1, 3])
@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_what_another_process_reads_is_replaced_and_removed_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, refusals: int
) -> None:
    """Windows refuses both while somebody reads the file; elsewhere a refusal is one."""
    path, real, asked = tmp_path / "file", getattr(os, step), list[object]()

    def busy(*paths: object) -> None:
        if Path(str(paths[-1])) == path:
            asked.append(step)
            if len(asked) <= refusals:
                raise PermissionError(13, "The process cannot access the file because it is being used by another")
        real(*paths)

    def act() -> None:
        write_atomically(path, b"after") if step == "replace" else files.remove(path)

    path.write_bytes(b"before")
    monkeypatch.setattr(files, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(os, step, busy)
    if refusals:
        with pytest.raises(PermissionError):
            act()
        assert path.read_bytes() == b"before"
        asked.clear()
    monkeypatch.setattr(files, "WINDOWS", True)
    act()
    assert len(asked) == refusals + 1
    assert list(tmp_path.iterdir()) == ([path] if step == "replace" else [])
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(os, step, lambda *_: (_ for _ in ()).throw(PermissionError(13, "for good")))
    path.write_bytes(b"before")
    with pytest.raises(PermissionError, match="for good"):
        act()


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=8), st.integers(0, 800))
def test_a_folder_is_trimmed_by_age_and_the_newest_stays(sizes: list[tuple[int, bool]], limit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for age, (size, nested) in enumerate(sizes):
            path = root / str(age)
            if nested:
                path.mkdir()
            (path / "inside" if nested else path).write_bytes(bytes(size))
            os.utime(path, (1_000 - age, 1_000 - age))
        files.trim(root, limit)
        left = sorted(int(path.name) for path in root.iterdir())
        assert left == list(range(len(left))), "what is left is the newest"
        assert sum(size for size, _ in sizes[: len(left)]) <= limit or len(left) == 1
        if len(left) < len(sizes):
            assert sum(size for size, _ in sizes[: len(left) + 1]) > limit
        files.trim(root / "nothing of that name", limit)


# Budgets.


def test_what_is_larger_than_the_limit_is_refused_in_words(root: Path) -> None:
    store = Store(root, limit=1_000)
    store.put("small", "kind", b"x")
    assert not store.put("large", "kind", bytes(1_001))
    assert "limit is 1,000" in (store.problem or "")
    assert store.get("large") is None
    assert store.get("small")
    assert store.put("large", "kind", bytes(1_000)), "and what fits stays, however little room is left beside it"
    assert store.get("large")


def test_what_is_kept_has_a_budget_of_its_own_and_put_tells_the_truth(root: Path) -> None:
    store = Store(root, limit=1_000, kept_limit=500)
    assert store.put("one", "recovered", bytes(300), kept=True)
    assert not store.put("two", "recovered", bytes(300), kept=True)
    assert "delete some of it" in (store.problem or "")
    assert store.get("two") is None
    assert store.put("two", "recovered", bytes(300)), "it can be stored like any result"
    assert not store.keep("two")
    assert store.kept() == {"recovered": (1, 300)}
    store.release("one")
    assert store.keep("two")
    assert store.put("two", "recovered", bytes(310)), "what takes its place is kept as well"
    assert store.kept() == {"recovered": (1, 310)}


def test_of_a_damaged_database_what_is_whole_is_saved(store: Store, root: Path) -> None:
    for number in range(200):
        store.put(f"key {number}", "kind", bytes([number]) * 1_500, b"weights %d" % number, kept=True)
    store.close()
    content = bytearray((root / "results.sqlite").read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xaa" * 4096
    (root / "results.sqlite").write_bytes(content)
    again = Store(root)
    for number in range(200):
        again.get(f"key {number}")
    again.sweep()
    found = [again.get(f"key {number}") for number in range(200)]
    whole = [Found(bytes([number]) * 1_500, b"weights %d" % number) for number in range(200)]
    assert all(own is None or own == expected for own, expected in zip(found, whole, strict=True))
    assert sum(own is not None for own in found) > 150
    assert again.put("new", "kind", b"new")


def test_a_store_that_reads_while_another_replaces_never_loses_the_new_entry(root: Path) -> None:
    """Between a look at a row and one at its weights both may have gone for better ones."""
    store, other = Store(root), Store(root)
    store.put("key", "kind", b"one", b"weights one")
    real = store._read_weights

    def overtaken(name: str) -> bytes | None:
        store._read_weights = real  # type: ignore[method-assign]
        other.put("key", "kind", b"two", b"weights two")
        return real(name)

    store._read_weights = overtaken  # type: ignore[method-assign]
    assert store.get("key") == Found(b"two", b"weights two")
    assert other.get("key") == Found(b"two", b"weights two")


def test_a_disk_that_refuses_to_read_for_now_costs_no_entry(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("key", "kind", b"payload", b"weights")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "in use")))
        assert store.get("key") is None
    assert store.get("key") == Found(b"payload", b"weights")


def test_all_of_a_kind_come_in_the_order_in_which_they_were_made_and_damaged_ones_do_not(
    store: Store, root: Path
) -> None:
    assert store.all("point") == []
    stamps = [store.stamp("point")]
    for number in range(5):
        store.put(f"key {number}", "point", b"%d" % number)
        store.put(f"other {number}", "evaluation", b"more")
        stamps.append(store.stamp("point"))
    assert store.all("point") == [(f"key {number}", b"%d" % number) for number in range(5)]
    edit(root, "UPDATE entries SET payload = ? WHERE key = ?", b"17", "key 2")
    assert [key for key, _ in store.all("point")] == ["key 0", "key 1", "key 3", "key 4"]
    store.delete("key 4")
    store.put("key 5", "point", b"another in its place")
    stamps.append(store.stamp("point"))
    assert len({str(stamp) for stamp in stamps}) == len(stamps), "a stamp tells that something came or went"


def test_what_is_kept_while_others_are_evicted_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root, limit=10_000)
    store.put("pinned", "evaluation", bytes(4_000))
    remove = store._remove

    def late(statement: str, keys: Any) -> None:
        store.keep("pinned")
        remove(statement, keys)

    monkeypatch.setattr(store, "_remove", late)
    for number in range(20):
        store.put(f"key {number}", "evaluation", bytes(4_000))
    assert store.get("pinned") is not None
    assert store.get("key 0") is None
    store.close()


def test_what_was_kept_later_is_not_evicted(root: Path) -> None:
    store = Store(root, limit=10_000)
    store.put("pinned", "evaluation", bytes(4_000))
    store.keep("pinned")
    store.keep("nothing of that name")
    for number in range(20):
        store.put(f"key {number}", "evaluation", bytes(4_000))
    assert store.get("pinned") is not None
    assert store.get("key 0") is None
    store.close()
