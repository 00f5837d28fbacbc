"""Images in files as people have them: each way in, and what is wrong with a file, in words."""

import gzip
import io
import os
import re
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from core.datasets import DataError, Datasets, reading
from core.datasets.reading import from_bytes, read

DICE = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return DICE.integers(0, 256, shape, np.uint8)


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def keras(shape: tuple[int, ...] = (8, 9), count: int = 60, **changes: Any) -> bytes:
    labels = np.arange(count) % 3
    arrays = {"x_train": pixels(count, *shape), "y_train": labels, "x_test": pixels(12, *shape), "y_test": labels[:12]}
    return archive(**{name: array for name, array in (arrays | changes).items() if array is not None})


def test_a_keras_archive() -> None:
    images = pixels(60, 8, 9)
    brought = from_bytes("mine.npz", keras(x_train=images))
    assert np.array_equal(brought.training.images[:, 0], images)
    assert brought.test is not None
    assert brought.test.images.shape == (12, 1, 8, 9)
    assert brought.classes == ("0", "1", "2")


def test_a_medmnist_archive_whose_validation_images_are_divided_anew() -> None:
    content = archive(
        train_images=pixels(40, 28, 28, 3), train_labels=np.arange(40)[:, None] % 2,
        val_images=pixels(20, 28, 28, 3), val_labels=np.arange(20)[:, None] % 2,
        test_images=pixels(10, 28, 28, 3), test_labels=np.arange(10)[:, None] % 2,
    )  # fmt: skip
    brought = from_bytes("m.npz", content)
    assert brought.training.images.shape == (60, 3, 28, 28)
    assert brought.training.labels.shape == (60,)


LAYOUTS = {
    (60, 8, 9): (1, 8, 9), (60, 8, 9, 1): (1, 8, 9), (60, 1, 8, 9): (1, 8, 9), (60, 12, 10, 3): (3, 12, 10),
    (60, 3, 12, 10): (3, 12, 10), (60, 64): (1, 1, 64),
}  # fmt: skip


@pytest.mark.parametrize(("given_shape", "found"), LAYOUTS.items(), ids=map(str, LAYOUTS))
def test_channels_first_last_or_none(given_shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    images = pixels(*given_shape)
    brought = from_bytes("x.npz", archive(x=images, y=np.arange(60) % 2))
    assert brought.training.images.shape[1:] == found
    channels_last = len(given_shape) == 4 and given_shape[3] in (1, 3)
    expected = images.transpose(0, 3, 1, 2) if channels_last else images.reshape(60, *found)
    assert np.array_equal(brought.training.images, expected)


def test_numbers_in_0_1_and_one_hot_labels() -> None:
    images = pixels(60, 8, 8)
    content = archive(x_train=images / np.float32(255), y_train=np.eye(4)[np.arange(60) % 4], classes=list("abcd"))
    brought = from_bytes("x.npz", content)
    assert np.array_equal(brought.training.images[:, 0], images)
    assert np.array_equal(brought.training.labels, np.arange(60) % 4)
    assert brought.classes == tuple("abcd")


REFUSED = {
    "no arrays of these names": (archive(a=pixels(3, 8, 8)), "named as one of.*It holds a"),
    "normalized": (keras(x_train=DICE.normal(size=(60, 8, 9))), "x_train must hold pixels of 8 bits.*before they"),
    "16 bits": (keras(x_train=np.full((60, 8, 9), 4000, np.uint16)), "uint8 in 0..255. Got uint16"),
    "too large": (keras((120, 20)), "8 to 96 pixels.*120 x 20"),
    "too small": (keras((4, 20)), "8 to 96 pixels.*4 x 20"),
    "one class": (keras(y_train=np.zeros(60, int), y_test=np.zeros(12, int)), "2 to 256 classes. Got 1"),
    "labels that are fractions": (keras(y_train=np.linspace(0, 1, 60)), "y_train must be whole numbers"),
    "labels below 0": (keras(y_train=np.arange(60) % 3 - 1), "must be in 0..255. Got -1"),
    "labels that are no classes": (keras(y_train=np.arange(60) % 3 * 10**9), "in 0..255. Got 2000000000"),
    "labels without end": (keras(y_train=np.where(np.arange(60), 1, np.inf)), "in 0..255. Got inf"),
    "several labels": (keras(y_train=np.ones((60, 3))), "y_train must say one class"),
    "more labels": (keras(y_train=np.arange(61) % 3), "must hold as many. Got 60 and 61"),
    "shapes that differ": (keras(x_test=pixels(12, 9, 9)), "one shape"),
    "four channels": (keras((8, 8, 4)), "1 or 3 channels"),
    "too few names": (keras(classes=["a", "b"]), "Labels must be below 2"),
    "names that are no text": (keras(classes=["a", "\udcff", "c"]), r"must be text.*Got '\\udcff'"),
    "names of two lines": (keras(classes=["a", "b\nb", "c"]), "of one line"),
    "objects": (archive(x_train=np.array([{}]), y_train=np.array([0])), "plain arrays"),
    "cut off": (keras()[:-900], "must be a .npz file"),
    "no archive": (b"hello", "must be a .npz file"),
    "empty": (b"", "must be a .npz file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_bytes("mine.npz", content)


@given(st.integers(0, 2**31), st.data())
def test_damage_is_said_and_never_raised(place: int, data: st.DataObject) -> None:
    content = bytearray(keras(count=30))
    content[place % len(content)] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            from_bytes("mine.npz", damaged)
        except DataError as error:
            assert re.search(r"[a-z]", str(error))  # noqa: PT017


def idx(array: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def test_a_folder_of_idx_files_plain_or_gzipped(tmp_path: Path) -> None:
    images, labels = pixels(40, 10, 12), np.arange(40) % 4
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:8])))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:8]))
    brought = read(tmp_path)
    assert np.array_equal(brought.training.images[:, 0], images)
    assert brought.test is not None
    assert np.array_equal(brought.test.labels, labels[:8])
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz is no IDX file"):
        read(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="must hold train_labels as IDX"):
        read(tmp_path)


def test_idx_parts_of_any_name_are_told_apart_and_never_mixed(tmp_path: Path) -> None:
    parts = {"train": pixels(40, 10, 12), "test": pixels(20, 10, 12)}
    for part, images in parts.items():
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(images)) % 4))
    brought = read(tmp_path)
    assert brought.test is not None
    assert np.array_equal(brought.test.images[:, 0], parts["test"])
    assert np.array_equal(brought.training.images[:, 0], parts["train"])
    (tmp_path / "emnist-letters-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(parts["train"])))
    assert len(read(tmp_path).training.labels) == 40, "the same file, packed"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "emnist-digits-train-images-idx3-ubyte").write_bytes(idx(parts["train"]))
    with pytest.raises(DataError, match=r"one data set at a time.*both hold its train_images"):
        read(tmp_path)


def test_an_idx_file_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BYTES", 2_000)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((40, 10, 12)))))
    with pytest.raises(DataError, match="holds more than 2,000 bytes"):
        read(tmp_path)


def picture(size: tuple[int, int], colour: Any, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def album(tmp_path: Path, size: tuple[int, int] = (12, 10)) -> Path:
    for part in ("train", "test"):
        for label, colour in (("dog", (200, 0, 0)), ("cat", (0, 200, 0))):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(12):
                (tmp_path / part / label / f"{number}.png").write_bytes(picture(size, colour))
    return tmp_path


def test_a_folder_of_pictures_in_folders_of_their_classes(tmp_path: Path) -> None:
    brought = read(album(tmp_path))
    assert brought.classes == ("cat", "dog")
    assert brought.training.images.shape == (24, 3, 10, 12)
    assert brought.test is not None
    assert brought.training.images[brought.training.labels == 1][0, :, 0, 0].tolist() == [200, 0, 0]


def test_grey_pictures_stay_grey_and_become_colour_among_colours(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(picture((9, 9), 77, "L"))
    assert read(tmp_path).training.images.shape == (2, 1, 9, 9)
    (tmp_path / "a" / "2.png").write_bytes(picture((9, 9), (1, 2, 3)))
    assert read(tmp_path).training.images.shape == (3, 3, 9, 9)


def test_pictures_of_several_sizes_are_asked_for_one(tmp_path: Path) -> None:
    album(tmp_path)
    (tmp_path / "train" / "dog" / "large.png").write_bytes(picture((40, 30), (200, 0, 0)))
    with pytest.raises(DataError, match=r"several sizes.*--size"):
        read(tmp_path)
    assert read(tmp_path, size=16).training.images.shape == (25, 3, 16, 16)


def test_a_zip_file_of_a_folder_is_read_as_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path in sorted(album(tmp_path).rglob("*.png")):
            zipped.write(path, path.relative_to(tmp_path))
    zipped_one, folder = from_bytes("album.zip", buffer.getvalue()), read(tmp_path)
    assert np.array_equal(zipped_one.training.images, folder.training.images)
    assert zipped_one.classes == folder.classes


def zipped(replaced: dict[bytes, bytes], *names: str) -> bytes:
    """A grey picture under each name; within the archive these bytes are others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, picture((9, 9), 77, "L"))
    content = buffer.getvalue()
    for before, after in replaced.items():
        assert len(before) == len(after)
        content = content.replace(before, after)
    return content


@pytest.mark.parametrize(
    ("written", "name"),
    [(b"Schl__ssel", "Schlüssel".encode()), (b"Schl_ssel", "Schlüssel".encode("cp437"))], ids=["Info-ZIP", "DOS"],
)  # fmt: skip
def test_a_zip_file_says_its_classes_as_who_packed_it_saw_them(written: bytes, name: bytes) -> None:
    content = zipped({written: name}, f"{written.decode()}/1.png", "dog/1.png")
    assert from_bytes("album.zip", content).classes == ("Schlüssel", "dog")
    assert from_bytes("album.zip", zipped({}, "Schlüssel/1.png", "می\u200cخواهم/1.png")).classes[0] == "Schlüssel"


def test_an_accent_is_one_letter_however_it_was_written(tmp_path: Path) -> None:
    for form, name in (("NFC", "1"), ("NFD", "2")):
        folder = tmp_path / unicodedata.normalize(form, "café")
        folder.mkdir()
        (folder / f"{name}.png").write_bytes(picture((9, 9), 77, "L"))
    (tmp_path / "tea").mkdir()
    (tmp_path / "tea" / "1.png").write_bytes(picture((9, 9), 77, "L"))
    assert read(tmp_path).classes == (unicodedata.normalize("NFC", "café"), "tea")


def test_a_name_of_a_folder_that_is_no_text_is_refused(tmp_path: Path) -> None:
    try:
        for name in (b"caf\xe9", b"tea"):
            (tmp_path / os.fsdecode(name)).mkdir()
            (tmp_path / os.fsdecode(name) / "1.png").write_bytes(picture((9, 9), 77, "L"))
    except (OSError, UnicodeError):
        pytest.skip("this file system has names of text only")
    with pytest.raises(DataError, match=r"must be text.*Got 'caf\\udce9'"):
        read(tmp_path)


def test_linked_folders_are_read_and_never_without_end(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(picture((9, 9), 77, "L"))
        (chosen / label).symlink_to(tmp_path / label)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "up").symlink_to(chosen)
    brought = read(chosen)
    assert (brought.classes, len(brought.training.labels)) == (("cat", "dog"), 2)
    (chosen / "fish").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"fish cannot be read"):
        read(chosen)


@pytest.mark.parametrize("ending", ["jfif", "tif", "TIFF"])
def test_other_endings_of_pictures_are_read(tmp_path: Path, ending: str) -> None:
    for label in ("cat", "fish"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / label / f"1.{ending}", "JPEG" if ending == "jfif" else "TIFF")
    assert read(tmp_path).classes == ("cat", "fish")


def test_a_class_without_a_picture_that_can_be_read_is_named(tmp_path: Path) -> None:
    (album(tmp_path) / "train" / "fish" / "new").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "all.csv").write_text("beside the parts, and no class")
    assert read(tmp_path).classes == ("cat", "dog")
    (tmp_path / "train" / "fish" / "new" / "1.heic").write_bytes(b"a picture of another kind")
    with pytest.raises(DataError, match=r"None of the files in train/fish is one: save them as PNG"):
        read(tmp_path)


def test_what_a_mac_or_a_notebook_adds_is_no_picture(tmp_path: Path) -> None:
    buffer, names = io.BytesIO(), ("__MACOSX/a/._1.png", "b/.ipynb_checkpoints/1.png", ".hidden/1.png")
    with zipfile.ZipFile(buffer, "w") as zipped:
        for label in ("a", "b"):
            zipped.writestr(f"{label}/1.png", picture((9, 9), 77, "L"))
        for name in names:
            zipped.writestr(name, b"no picture")
    assert from_bytes("album.zip", buffer.getvalue()).classes == ("a", "b")
    with zipfile.ZipFile(buffer) as zipped:
        zipped.extractall(tmp_path)
    assert read(tmp_path).classes == ("a", "b")


LAYERED = {
    "unlabelled pictures to judge by": ("train/cat/1", "train/dog/1", "test/1"),
    "classes in the names": ("train/cat.1", "test/1"),
    "parts below classes": ("cat/train/1", "cat/test/1", "dog/train/1"),
}


@pytest.mark.parametrize("names", LAYERED.values(), ids=LAYERED)
def test_a_folder_that_says_what_pictures_are_for_is_no_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(picture((9, 9), 77, "L"))
    with pytest.raises(DataError, match=r"(train|test)/CLASS/..: (train|test) says what"):
        read(tmp_path)


@pytest.mark.parametrize("names", [("car/1", "train/1"), ("train/car/1", "train/train/1", "test/train/1")])
def test_a_class_may_be_called_train(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(picture((9, 9), 77, "L"))
    assert read(tmp_path).classes == ("car", "train")


@pytest.mark.parametrize("number", [200, 4_000])
def test_a_picture_of_16_bits_is_never_clipped(tmp_path: Path, number: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((9, 9), number, np.uint16)).save(buffer, "PNG")
    if number > 255:
        with pytest.raises(DataError, match=r"1.png must have 8 bits a pixel. It has numbers from 4000 to 4000"):
            reading.picture_of("1.png", buffer.getvalue(), None)
    else:
        assert (reading.picture_of("1.png", buffer.getvalue(), None) == number).all()


def test_a_picture_that_is_too_large_is_never_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album(tmp_path, (200, 150))
    vast = picture((8_001, 8_000), 0, "1")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
        with pytest.raises(DataError, match=r"at most 9,216 pixels. It has 150 x 200.*--size"):
            read(tmp_path)
        for size in (None, 32):
            with pytest.raises(DataError, match=r"vast.png must have at most 64,000,000 pixels. It has 8,000 x 8,001"):
                reading.picture_of("vast.png", vast, size)
    assert read(tmp_path, 32).training.images.shape == (24, 3, 32, 32)


def test_pictures_that_swell_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BYTES", 10 * 3 * 32 * 32)
    with pytest.raises(DataError, match="at most 30,720 bytes"):
        read(album(tmp_path), 32)


def test_a_bad_picture_is_named(tmp_path: Path) -> None:
    album(tmp_path)
    (tmp_path / "train" / "dog" / "bad.png").write_bytes(b"\x89PNG no")
    with pytest.raises(DataError, match=r"bad.png is no picture"):
        read(tmp_path)


def test_what_is_not_there_or_holds_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="It holds neither"):
        read(tmp_path)


def test_images_that_lie_class_by_class_are_mixed(tmp_path: Path) -> None:
    """A training begins anywhere, and calibration and statistics take the first of them."""
    dataset = reading.add(from_bytes("x.npz", keras(count=300, y_train=np.repeat([0, 1, 2], 100))), "mine", tmp_path)
    for name in ("train", "calibration"):
        split = Datasets(tmp_path).split(dataset.images(tmp_path), name)  # type: ignore[arg-type]
        assert set(split.labels[:30].tolist()) == {0, 1, 2}


def test_what_was_brought_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    dataset = reading.add(from_bytes("x.npz", keras()), "mine", tmp_path, "My own")
    assert (dataset.title, dataset.shape) == ("My own", (1, 8, 9))
    split = Datasets(tmp_path).split(dataset.images(tmp_path), "test")
    assert len(split) == 12
    with pytest.raises(DataError, match="known already"):
        reading.add(from_bytes("x.npz", keras()), "digits", tmp_path)
