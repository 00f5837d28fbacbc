"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), in memory, split once.

60,000 training images are split, stratified, into 55,000 to train and 5,000 to validate; 2,048 of the 55,000 are the
calibration set. The 10,000 test images are opened for a verdict only. Validation, calibration and test images come
with the project; the training images are looked for where `SOURCES` says, in that order.
"""

import gzip
import os
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from core.datasets import DataError, Dataset, Images, Say, Scaling, Split, SplitName, aloud
from core.machinery.files import sha256, write_atomically

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MEAN, DEVIATION = 0.2860, 0.3530
SCALING = Scaling((MEAN,), (DEVIATION,))
"""By mean and deviation of the training pixels in [0, 1]."""

SHIPPED = Path(__file__).parent.parent / "pretrained" / "fashion-mnist-evaluation.npz"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
RAW = Path("FashionMNIST") / "raw"
"""Where torchvision's dataset expects its files, below its root."""

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the decompressed files."""


def load(name: SplitName, folder: Path = Path("cache/data"), say: Say = aloud) -> Split:
    """A split, read once per process. Only "train" may have to be fetched (into `folder`), and says so to `say`.

    Raises DataError where no source has the training images.
    """
    return _train(folder, say) if name == "train" else evaluation_splits()[name]


@cache
def _shipped_arrays() -> dict[str, NDArray[Any]]:
    try:
        with np.load(SHIPPED, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{SHIPPED} is missing or damaged ({error}). Restore it: git checkout core/pretrained."
        ) from None


@cache
def evaluation_splits() -> dict[str, Split]:
    """Validation, calibration and test: what comes with the project. Raises DataError where it was damaged."""
    arrays = {name: torch.from_numpy(array) for name, array in _shipped_arrays().items()}
    names = ("validation", "calibration", "test")
    return {name: _split(name, arrays[f"{name}_images"], arrays[f"{name}_labels"].long()) for name in names}


def _split(name: str, images: Tensor, labels: Tensor) -> Split:
    """images : uint8 (n, 28, 28)"""
    return Split(name, images.unsqueeze(1), labels, CLASSES, SCALING)


@cache
def fingerprint() -> str:
    """SHA-256 of the shipped images and labels: it names the data in every cache key."""
    return sha256("".join(split.fingerprint for split in evaluation_splits().values()).encode())


_trained: dict[Path, Split] = {}


def _train(folder: Path, say: Say) -> Split:
    """The 55,000: all training images but those that the shipped file lists as validation."""
    if folder not in _trained:
        images, labels = full_training_set(folder, say)
        keep = torch.ones(len(images), dtype=torch.bool)
        keep[torch.from_numpy(_shipped_arrays()["validation_index"])] = False
        _trained[folder] = _split("train", images[keep], labels[keep])
    return _trained[folder]


def full_training_set(folder: Path, say: Say = aloud) -> tuple[Tensor, Tensor]:
    """All 60,000 training images, uint8 (60000, 28, 28), and labels, through torchvision's dataset."""
    obtain(folder, say)
    dataset = _torchvision_datasets().FashionMNIST(root=str(folder), train=True, download=False)
    return dataset.data, dataset.targets


def obtain(folder: Path, say: Say = aloud) -> None:
    """Put the four checked IDX files where torchvision expects them below `folder`, from the first source that works.

    Two processes that start at once take turns; each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if _complete(folder / RAW):
            return
        tried = []
        for title, source in SOURCES:
            say(f"Fashion-MNIST: trying {title} ...")
            try:
                with source(folder) as files:
                    _install(files, folder / RAW)
                say(f"Fashion-MNIST: training images ready (from {title}).")
                return
            except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                tried.append(
                    f"- {title}: {str(error).strip().splitlines()[-1] if str(error) else type(error).__name__}"
                )
    raise DataError(
        "The training images of Fashion-MNIST could not be found; everything but training works without them.\n"
        "Tried:\n" + "\n".join(tried) + "\nThree ways out:\n"
        "1. download the four files of Fashion-MNIST elsewhere and name their folder: FASHION_MNIST_DIR=FOLDER;\n"
        f"2. copy them into {folder / RAW};\n"
        "3. on Debian or Ubuntu: apt-get install dataset-fashion-mnist."
    )


def _complete(raw: Path) -> bool:
    return all((raw / name).is_file() and sha256((raw / name).read_bytes()) == sha for name, sha in SHA256.items())


def _install(source: Path, raw: Path) -> None:
    """Decompress, check and place each file; a file with the wrong content is refused by name."""
    contents = {name: _read(source, name) for name in SHA256}
    for name, content in contents.items():
        if sha256(content) != SHA256[name]:
            raise ValueError(f"{name} in {source} is damaged (its SHA-256 sum is not Fashion-MNIST's)")
    for name, content in contents.items():
        if (raw / name).is_file() and sha256((raw / name).read_bytes()) == SHA256[name]:
            continue
        write_atomically(raw / name, content)


def _read(source: Path, name: str) -> bytes:
    for folder in (source, source / RAW, source / "raw"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
        if (folder / f"{name}.gz").is_file():
            try:
                return gzip.decompress((folder / f"{name}.gz").read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(f"{name}.gz in {folder} is damaged ({error})") from None
    raise FileNotFoundError(f"no {name} or {name}.gz in {source}")


# The sources, in order. Each is a context that yields a folder with the four files, plain or gzipped.


@contextmanager
def _named_folder(folder: Path) -> Iterator[Path]:
    named = os.environ.get("FASHION_MNIST_DIR")
    if not named:
        raise FileNotFoundError("FASHION_MNIST_DIR is not set")
    yield Path(named)


@contextmanager
def _cache_folder(folder: Path) -> Iterator[Path]:
    yield folder


@contextmanager
def _debian_folder(folder: Path) -> Iterator[Path]:
    yield DEBIAN_FOLDER


@contextmanager
def _torchvision_download(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as root:
        _torchvision_datasets().FashionMNIST(root=root, train=True, download=True)
        yield Path(root)


@contextmanager
def _debian_package(folder: Path) -> Iterator[Path]:
    """The Debian package, fetched and unpacked without root: private lists and archives below `folder`."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FileNotFoundError("this system has no apt-get")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        private = Path(name).resolve()
        for part in ("lists/partial", "archives/partial"):
            (private / part).mkdir(parents=True)
        settings = ["-o", f"Dir::State::Lists={private / 'lists'}", "-o", f"Dir::Cache={private}"]
        settings += ["-o", f"Dir::Cache::Archives={private / 'archives'}", "-o", "APT::Sandbox::User="]
        for action in (["update"], ["download", "dataset-fashion-mnist"]):
            done = subprocess.run(
                ["apt-get", "-q", *settings, *action], cwd=private, capture_output=True, text=True, timeout=300
            )
            if done.returncode:
                raise RuntimeError((done.stderr or done.stdout).strip() or f"apt-get {action[0]} failed")
        package = next(iter(private.glob("*.deb")), None)
        if package is None:
            raise FileNotFoundError("apt-get brought no dataset-fashion-mnist package")
        subprocess.run(["dpkg-deb", "-x", str(package), str(private / "unpacked")], check=True, capture_output=True)
        yield private / "unpacked" / DEBIAN_FOLDER.relative_to("/")


SOURCES = (
    ("the folder FASHION_MNIST_DIR", _named_folder),
    ("the cache", _cache_folder),
    ("the installed Debian package", _debian_folder),
    ("torchvision's download", _torchvision_download),
    ("the Debian package, without installing it", _debian_package),
)


def _torchvision_datasets() -> Any:
    """Imported when needed: the app starts without torchvision."""
    from core.machinery import vision

    return vision.datasets


def write_evaluation_images(path: Path, folder: Path, say: Say = aloud) -> None:
    """Make the file that ships: validation, calibration and test images, from the full data set, stratified, seed 0."""
    from sklearn.model_selection import train_test_split

    images, labels = full_training_set(folder, say)
    everything = np.arange(len(labels))
    train, validation = train_test_split(everything, test_size=5_000, stratify=labels, random_state=0)
    _, calibration = train_test_split(train, test_size=2_048, stratify=labels[train], random_state=0)
    test = _torchvision_datasets().FashionMNIST(root=str(folder), train=False, download=False)
    arrays = {"validation_index": np.sort(validation), "calibration_index": np.sort(calibration)}
    for name, index in (("validation", arrays["validation_index"]), ("calibration", arrays["calibration_index"])):
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = (
            images[index].numpy(),
            labels[index].numpy().astype(np.uint8),
        )
    arrays["test_images"], arrays["test_labels"] = test.data.numpy(), test.targets.numpy().astype(np.uint8)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


FASHION_MNIST = Dataset(
    "fashion-mnist", "Fashion-MNIST", CLASSES, (1, 28, 28), SCALING, 55_000, "MIT",
    "Xiao et al. 2017", "grey pictures of garments",
    lambda name, folder, say: load(name, folder, say), lambda folder: fingerprint(), True, SHA256,
)  # fmt: skip
DATASETS = (FASHION_MNIST,)


@cache
def images() -> Images:
    """For a network of before networks said which images they see."""
    return FASHION_MNIST.images(SHIPPED.parent)
