"""Laws of what comes with the project: found below the cache, never changed, never in the way of what was made here."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.machinery.files import sha256
from core.machinery.shelf import Entry, Shelf, write
from core.machinery.store import Store

NAMES = st.text("0123456789abcdef/", min_size=1, max_size=12).map(lambda text: sha256(text.encode()))
ENTRIES = st.builds(Entry, st.sampled_from(("a", "b")), st.binary(max_size=40), st.none() | st.binary(max_size=40))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    entries = {"one": Entry("a", b"payload of one", b"weights of one"), "point/two": Entry("b", b"payload of two")}
    write(tmp_path / "shelf.zip", entries, {"date": "2026-11-26"})
    return tmp_path / "shelf.zip"


@given(st.dictionaries(NAMES, ENTRIES, max_size=5))
def test_what_was_written_is_read_and_the_same_makes_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, Entry]
) -> None:
    path = tmp_path_factory.mktemp("shelves") / "shelf.zip"
    write(path, entries, {"date": "today"})
    first = path.read_bytes()
    found = Shelf(path)
    assert {key: found.get(key) for key in found.names()} == entries
    assert found.about == {"date": "today"}
    for kind in ("a", "b"):
        assert found.names(kind) == [key for key, own in entries.items() if own.kind == kind]
    write(path, entries, {"date": "today"})
    assert path.read_bytes() == first


def test_an_entry_without_its_weights(path: Path) -> None:
    assert Shelf(path).get("one", with_weights=False) == Entry("a", b"payload of one")


@pytest.mark.parametrize("at", [*range(0, 600, 7)])
def test_a_damaged_shelf_gives_what_is_whole_and_nothing_else(path: Path, at: int) -> None:
    whole, content = Shelf(path), bytearray(path.read_bytes())
    expected = {key: whole.get(key) for key in whole.names()}
    content[at % len(content)] ^= 0xFF
    path.write_bytes(content)
    damaged = Shelf(path)
    for key, entry in expected.items():
        assert damaged.get(key) in (entry, None)
    assert damaged.about in (whole.about, {"date": "2026-11-26"}, {})


def test_a_shelf_that_is_not_there_or_cut_off_is_empty(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])
    for own in (Shelf(path), Shelf(tmp_path / "none.zip"), Shelf(tmp_path)):
        assert (own.names(), own.get("one"), own.digest("one"), own.about) == ([], None, None, {})


# Below a store.


@pytest.fixture
def store(path: Path, tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", below=Shelf(path))


def test_what_was_not_made_here_comes_from_below(store: Store) -> None:
    found = store.get("one")
    assert found is not None
    assert (found.payload, found.weights) == (b"payload of one", b"weights of one")
    assert store.is_below("one")
    assert store.keys("a") == ["one"]
    assert store.all("b") == [("point/two", b"payload of two")]
    assert store.digest("one") is not None
    assert store.kept() == {}
    assert store.size() == 0


def test_what_was_made_here_comes_first_and_is_told_apart(store: Store) -> None:
    before, stamp = store.digest("one"), store.stamp("a")
    store.put("one", "a", b"made here")
    found = store.get("one")
    assert found is not None
    assert (found.payload, found.weights) == (b"made here", None)
    assert not store.is_below("one")
    assert store.digest("one") not in (before, None)
    assert store.stamp("a") != stamp
    store.put("point/two", "b", b"also here")
    assert store.keys("b") == ["point/two"]
    assert store.all("b") == [("point/two", b"also here")]


def test_what_is_deleted_is_not_seen_any_more_and_the_shelf_stays(store: Store, path: Path) -> None:
    content, stamp = path.read_bytes(), store.stamp("b")
    store.delete("one", "point/two")
    assert (store.get("one"), store.digest("one"), store.keys("a"), store.all("b")) == (None, None, [], [])
    assert store.stamp("b") != stamp
    assert path.read_bytes() == content
    store.put("one", "a", b"made anew")
    found = store.get("one")
    assert found is not None
    assert found.payload == b"made anew"


def test_a_damaged_entry_of_ones_own_gives_way_to_the_one_below(store: Store) -> None:
    store.put("one", "a", b"made here", b"weights made here")
    for file in (store.root / "weights").iterdir():
        file.write_bytes(b"damaged")
    found = store.get("one")
    assert found is not None
    assert found.weights == b"weights of one"


def test_a_shelf_is_read_by_standard_tools(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.read("entries/one") == b"payload of one"


def test_an_entry_is_sealed_on_a_shelf_as_in_the_cache(tmp_path: Path) -> None:
    """What was trained is a part of the keys of what was measured of it."""
    store = Store(tmp_path / "cache")
    for key, entry in {"one": Entry("a", b"payload"), "two": Entry("b", b"payload", b"weights")}.items():
        store.put(key, entry.kind, entry.payload, entry.weights)
        assert store.digest(key) == entry.digest(key)


def test_many_threads_read_one_shelf_each_the_right_entry(tmp_path: Path) -> None:
    entries = {str(number): Entry("a", bytes([number]) * 3000, bytes([255 - number]) * 3000) for number in range(40)}
    write(tmp_path / "shelf.zip", entries, {})
    shelf = Shelf(tmp_path / "shelf.zip")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shelf.get, [*entries] * 20))
    assert found == [*entries.values()] * 20
