"""The data are Fashion-MNIST's, split once, and come from the first source that has them whole."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT

from core.datasets import SplitName, fashion_mnist

SIZES = {"validation": 5_000, "calibration": 2_048, "test": 10_000}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_split_has_its_size_its_types_and_every_class_alike(name: SplitName, size: int) -> None:
    split = fashion_mnist.load(name)
    assert (split.name, len(split)) == (name, size)
    assert (split.images.shape, split.images.dtype) == ((size, 1, 28, 28), torch.uint8)
    assert split.labels.dtype == torch.int64
    counts = torch.bincount(split.labels, minlength=10)
    assert len(counts) == 10
    assert int(counts.min()) >= size // 10
    assert int(counts.max()) <= -(-size // 10)


def test_the_test_images_are_those_that_were_published() -> None:
    split = fashion_mnist.load("test")
    images = struct.pack(">4i", 0x803, 10_000, 28, 28) + split.images.numpy().tobytes()
    labels = struct.pack(">2i", 0x801, 10_000) + split.labels.numpy().astype(np.uint8).tobytes()
    assert hashlib.sha256(images).hexdigest() == fashion_mnist.SHA256["t10k-images-idx3-ubyte"]
    assert hashlib.sha256(labels).hexdigest() == fashion_mnist.SHA256["t10k-labels-idx1-ubyte"]


def test_validation_and_calibration_share_no_image() -> None:
    with np.load(fashion_mnist.SHIPPED) as file:
        validation, calibration = set(file["validation_index"].tolist()), set(file["calibration_index"].tolist())
    assert (len(validation), len(calibration)) == (5_000, 2_048)
    assert validation | calibration <= set(range(60_000))
    assert not validation & calibration


def test_training_images_are_all_but_those_of_validation(training_folder: Path) -> None:
    images, labels = fashion_mnist.full_training_set(training_folder)
    train, validation, calibration = (
        fashion_mnist.load(name, training_folder) for name in ("train", "validation", "calibration")
    )
    with np.load(fashion_mnist.SHIPPED) as file:
        held_out, calibrating = torch.from_numpy(file["validation_index"]), torch.from_numpy(file["calibration_index"])
    rest = torch.ones(60_000, dtype=torch.bool)
    rest[held_out] = False
    assert rest[calibrating].all()
    assert torch.equal(train.pictures, images[rest])
    assert torch.equal(train.labels, labels[rest])
    assert torch.equal(validation.pictures, images[held_out])
    assert torch.equal(validation.labels, labels[held_out])
    assert torch.equal(calibration.pictures, images[calibrating])
    assert torch.equal(calibration.labels, labels[calibrating])
    assert torch.bincount(train.labels).tolist() == [5_500] * 10


def test_the_shipped_file_can_be_made_again(training_folder: Path, tmp_path: Path) -> None:
    fashion_mnist.write_evaluation_images(tmp_path / "again.npz", training_folder)
    with np.load(tmp_path / "again.npz") as again, np.load(fashion_mnist.SHIPPED) as shipped:
        assert sorted(again) == sorted(shipped)
        assert all(np.array_equal(again[name], shipped[name]) for name in shipped)


def test_a_network_sees_pixels_of_mean_zero_and_deviation_one(training_folder: Path) -> None:
    images, _ = fashion_mnist.full_training_set(training_folder)
    pixels = images.numpy() / 255
    assert pixels.mean() == pytest.approx(fashion_mnist.MEAN, abs=1e-4)
    assert pixels.std() == pytest.approx(fashion_mnist.DEVIATION, abs=1e-4)
    inputs = fashion_mnist.SCALING.normalized(images[:100, None])
    assert inputs.shape == (100, 1, 28, 28)
    expected = (pixels[:100, None] - fashion_mnist.MEAN) / fashion_mnist.DEVIATION
    np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_split_is_read_once() -> None:
    assert fashion_mnist.load("validation") is fashion_mnist.load("validation")
    assert fashion_mnist.load("validation").inputs is fashion_mnist.load("validation").inputs


@pytest.mark.parametrize("content", [None, b"", b"not an archive", fashion_mnist.SHIPPED.read_bytes()[:100_000]])
def test_shipped_images_that_are_damaged_are_said_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(fashion_mnist, "SHIPPED", tmp_path / "shipped.npz")
    if content is not None:
        (tmp_path / "shipped.npz").write_bytes(content)
    with pytest.raises(fashion_mnist.DataError, match=r"shipped\.npz"):
        fashion_mnist._shipped_arrays.__wrapped__()


# The chain of sources, with four small files in the place of the large ones.


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    contents = {name: f"content of {name}\n".encode() * 50 for name in fashion_mnist.SHA256}
    monkeypatch.setattr(
        fashion_mnist, "SHA256", {name: hashlib.sha256(it).hexdigest() for name, it in contents.items()}
    )
    monkeypatch.setattr(
        fashion_mnist, "SOURCES", fashion_mnist.SOURCES[:2]
    )  # the named folder and the cache: nothing leaves the machine
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    return contents


def place(files: dict[str, bytes], folder: Path, gzipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def good(files: dict[str, bytes], folder: Path) -> bool:
    """All four files, where torchvision looks for them, and nothing else."""
    raw = folder / fashion_mnist.RAW
    return {path.name: path.read_bytes() for path in raw.iterdir()} == files if raw.is_dir() else False


Source = Callable[[Path], Iterator[Path]]


def source(folder: Path) -> tuple[str, object]:
    @contextmanager
    def given(_: Path) -> Iterator[Path]:
        yield folder

    return (f"the source {folder.name}", given)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("below", [".", "raw", "FashionMNIST/raw"])
def test_a_folder_that_a_person_names_is_taken_plain_or_gzipped(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, gzipped: bool
) -> None:
    place(files, tmp_path / "mine" / below, gzipped)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "mine"))
    said: list[str] = []
    fashion_mnist.obtain(tmp_path / "cache", said.append)
    assert good(files, tmp_path / "cache")
    assert any("FASHION_MNIST_DIR" in text for text in said)


def test_files_dropped_into_the_cache_are_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    place(files, tmp_path / "cache", gzipped=True)
    fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    assert good(files, tmp_path / "cache")


def test_what_is_there_is_not_fetched_again(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(files, tmp_path / "cache" / fashion_mnist.RAW)
    monkeypatch.setattr(fashion_mnist, "SOURCES", ())
    fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    assert good(files, tmp_path / "cache")


VICTIM = "train-images-idx3-ubyte"
DAMAGE = {
    "is other content": lambda content: gzip.compress(b"something else"),
    "lost its end": lambda content: gzip.compress(content)[:-20],
    "is not gzip": lambda content: b"<html>404 not found</html>",
    "is garbled within": lambda content: gzip.compress(content)[:12] + b"\xff" * 20 + gzip.compress(content)[32:],
    "is empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_after_a_source_whose_file_is_damaged_the_next_one_is_tried(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    bad, fine = place(files, tmp_path / "bad", gzipped=True), place(files, tmp_path / "fine", gzipped=True)
    (bad / f"{VICTIM}.gz").write_bytes(damage(files[VICTIM]))
    monkeypatch.setattr(fashion_mnist, "SOURCES", (source(bad), source(fine)))
    fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    assert good(files, tmp_path / "cache")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_by_name_and_nothing_of_it_is_kept(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    bad = place(files, tmp_path / "bad", gzipped=True)
    (bad / f"{VICTIM}.gz").write_bytes(damage(files[VICTIM]))
    monkeypatch.setattr(fashion_mnist, "SOURCES", (source(bad),))
    with pytest.raises(fashion_mnist.DataError) as refused:
        fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    assert VICTIM in str(refused.value)
    assert not list((tmp_path / "cache").rglob("*ubyte*"))


def test_a_file_damaged_in_the_cache_is_replaced(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(files, tmp_path / "cache" / fashion_mnist.RAW)
    (tmp_path / "cache" / fashion_mnist.RAW / VICTIM).write_bytes(b"half of i")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(place(files, tmp_path / "mine")))
    fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    assert good(files, tmp_path / "cache")


def test_without_any_source_the_error_names_what_was_tried_and_three_ways_out(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(fashion_mnist.DataError) as refused:
        fashion_mnist.obtain(tmp_path / "cache", lambda _: None)
    message = str(refused.value)
    assert all(title in message for title, _ in fashion_mnist.SOURCES)
    assert all(f"\n{number}. " in message for number in (1, 2, 3))
    assert all(way in message for way in ("FASHION_MNIST_DIR=", str(tmp_path / "cache"), "apt-get install"))


def test_without_any_source_everything_but_training_works(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(fashion_mnist.DataError):
        fashion_mnist.load("train", tmp_path / "cache", lambda _: None)
    assert [len(fashion_mnist.load(name)) for name in SIZES] == list(SIZES.values())


def test_two_processes_that_start_at_once_on_an_empty_cache_take_turns_and_both_end_with_good_data(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    program = f"""
import sys, time
from contextlib import contextmanager
from pathlib import Path
from core.datasets import fashion_mnist

@contextmanager
def slow(folder):
    time.sleep(1)
    yield Path({str(place(files, tmp_path / "mine", gzipped=True))!r})

fashion_mnist.SHA256, fashion_mnist.SOURCES = {fashion_mnist.SHA256!r}, (("a slow source", slow),)
fashion_mnist.obtain(Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = []
    for process in both:
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints.decode()
        said.append(complaints)
    assert good(files, tmp_path / "cache")
    assert sorted(said_by_one.count(b"trying") for said_by_one in said) == [0, 1]


# torchvision beside a torch that does not fit it.

BROKEN = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
"""


def fake_torchvision(folder: Path, init: str) -> dict[str, str]:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "datasets.py").write_text("FashionMNIST = 'the dataset'\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_torchvision_whose_operators_are_missing_still_gives_its_datasets(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    environment = fake_torchvision(tmp_path, BROKEN)
    assert "torchvision::nms" in python("-c", "import torchvision.datasets", env=environment).stderr
    done = python("-c", "from core.machinery import vision; print(vision.datasets.FashionMNIST)", env=environment)
    assert done.stdout.strip() == "the dataset", done.stderr


def test_any_other_failure_of_torchvision_is_not_hidden(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    environment = fake_torchvision(tmp_path, "raise RuntimeError('no memory left')")
    done = python("-c", "from core.machinery import vision", env=environment)
    assert done.returncode != 0
    assert "no memory left" in done.stderr


def test_the_torchvision_that_is_installed_gives_its_dataset() -> None:
    from core.machinery import vision

    assert vision.datasets.FashionMNIST.__name__ == "FashionMNIST"
