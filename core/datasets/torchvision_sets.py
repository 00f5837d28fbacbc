"""Data sets that torchvision knows and fetches: divided once, and kept in the folder for data."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from core.datasets import DataError, Dataset, Say, Scaling, Shape, Split, SplitName, aloud, kept
from core.datasets.splitting import Labelled, divided

DIGITS = tuple("0123456789")
KANA = ("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _load(kind: str, name: str, split: SplitName, folder: Path, say: Say = aloud) -> Split:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if name not in kept.names(folder):
            _fetch(kind, name, folder, say)
    return kept.load(name, split, folder)


def _fetch(kind: str, name: str, folder: Path, say: Say) -> None:
    """Through torchvision, whose files may lie in the folder already. Raises DataError."""
    from core.machinery import vision

    dataset = next(each for each in DATASETS if each.name == name)
    say(f"{dataset.title}: fetching it ...")
    try:
        training, test = (
            _labelled(getattr(vision.datasets, kind)(root=str(folder), train=train, download=True))
            for train in (True, False)
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{dataset.title} could not be fetched ({reason}). Two ways out: put torchvision's files of it into "
            f"{folder}, or add it as a file: `python -m core add-data FILE.npz --name {name}-file`."
        ) from None
    kept.write(
        folder, name, dataset.title, dataset.classes, dataset.scaling, divided(training, test, dataset.classes),
        dataset.licence, dataset.source, dataset.about,
    )  # fmt: skip
    say(f"{dataset.title}: ready.")


def _labelled(found: Any) -> Labelled:
    """Of torchvision's data set in memory."""
    images = np.asarray(found.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Labelled(images, np.asarray(found.targets, dtype=np.int64))


def _fingerprint(kind: str, name: str, folder: Path) -> str:
    _load(kind, name, "validation", folder)
    return kept.dataset(name, folder).fingerprint(folder)


def _from_torchvision(
    kind: str, name: str, classes: tuple[str, ...], shape: Shape, scaling: Scaling, *rest: Any
) -> Dataset:
    """rest : training, licence, source, about, as `Dataset` has them"""
    load, fingerprint = partial(_load, kind, name), partial(_fingerprint, kind, name)
    training, licence, source, about = rest
    return Dataset(
        name,
        kind,
        classes,
        shape,
        scaling,
        training,
        licence,
        source,
        about,
        load,
        fingerprint,
        kind.startswith("CIFAR"),
    )


DATASETS = (
    _from_torchvision(
        "MNIST", "mnist", DIGITS, (1, 28, 28), Scaling((0.1307,), (0.3081,)), 55_000, "CC BY-SA 3.0",
        "LeCun, Cortes & Burges 1998", "grey pictures of written digits",
    ),
    _from_torchvision(
        "KMNIST", "kmnist", KANA, (1, 28, 28), Scaling((0.1918,), (0.3483,)), 55_000, "CC BY-SA 4.0",
        "Clanuwat et al. 2018", "grey pictures of written Japanese characters",
    ),
    _from_torchvision(
        "CIFAR10", "cifar10", OBJECTS, (3, 32, 32), Scaling((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)), 45_000,
        "not stated", "Krizhevsky 2009", "colour photographs of ten kinds of things",
    ),
    _from_torchvision(
        "CIFAR100", "cifar100", tuple(f"class {place}" for place in range(100)), (3, 32, 32),
        Scaling((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)), 45_000,
        "not stated", "Krizhevsky 2009", "colour photographs of a hundred kinds of things",
    ),
)  # fmt: skip
