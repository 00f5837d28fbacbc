"""Images divided into their splits, as files in the folder for data: what people bring, and what was fetched once.

NAME/about.json             title, classes, shape, scaling, training, licence, source, about, fingerprint
NAME/SPLIT_images.npy       uint8 (n, c, h, w); read as memory maps: only what is looked at takes memory
NAME/SPLIT_labels.npy       int64 (n,)
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.datasets import DataError, Dataset, Say, Scaling, Split, SplitName, aloud
from core.datasets.splitting import Labelled
from core.machinery.files import sha256, write_atomically

ABOUT = "about.json"
PARTS = {"title", "classes", "shape", "scaling", "training", "licence", "source", "about", "fingerprint"}
"""Of what that says."""

OPENED = 8
"""Splits that stay open."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""What a data set may be called: command line and links call it so."""


def write(
    folder: Path, name: str, title: str, classes: tuple[str, ...], scaling: Scaling,
    parts: Mapping[SplitName, Labelled], licence: str = "", source: str = "", about: str = "",
) -> Dataset:  # fmt: skip
    """Put a data set into the folder, whole or not at all; one of that name is replaced. Raises DataError, OSError."""
    if not NAME.fullmatch(name):
        raise DataError(f"name must be small letters, digits and hyphens, at most 40. Got {name!r} instead.")
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        sums: list[str] = []
        for split, part in sorted(parts.items()):
            np.save(aside / f"{split}_images.npy", np.ascontiguousarray(part.images))
            np.save(aside / f"{split}_labels.npy", part.labels.astype(np.int64))
            arrays = part.images.tobytes(), part.labels.astype(np.int64).tobytes()
            sums += map(sha256, arrays)
        described = {
            "title": title, "classes": list(classes), "shape": list(parts["train"].images.shape[1:]),
            "scaling": [list(each) for each in scaling], "training": len(parts["train"].labels), "licence": licence,
            "source": source, "about": about,
            "fingerprint": sha256("".join(sums).encode()),
        }  # fmt: skip
        write_atomically(aside / ABOUT, json.dumps(described).encode())
        shutil.rmtree(folder / name, ignore_errors=True)
        aside.replace(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return dataset(name, folder)


def names(folder: Path) -> list[str]:
    """Of all that lie in the folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{ABOUT}") if not path.parent.name.startswith("."))


def dataset(name: str, folder: Path) -> Dataset:
    """Raises DataError where it is damaged."""
    about = _about(folder / name)
    return Dataset(
        name, about["title"], tuple(about["classes"]), tuple(about["shape"]),
        Scaling(*map(tuple, about["scaling"])), about["training"], about["licence"], about["source"], about["about"],
        lambda split, folder, say: load(name, split, folder), lambda folder: _about(folder / name)["fingerprint"],
    )  # fmt: skip


def load(name: str, split: SplitName, folder: Path, say: Say = aloud) -> Split:
    """Raises DataError."""
    return _opened(folder / name, split, _about(folder / name)["fingerprint"])


@lru_cache(maxsize=OPENED)
def _opened(place: Path, split: SplitName, fingerprint: str) -> Split:
    """Once a process, until something else takes its place: what a split found out about itself stays with it."""
    about = _about(place)
    try:
        images, labels = (
            np.load(place / f"{split}_{part}.npy", mmap_mode="c", allow_pickle=False) for part in ("images", "labels")
        )
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(place, error) from None
    if images.shape != (len(labels), *about["shape"]) or images.dtype != np.uint8 or labels.dtype != np.int64:
        raise _damaged(place, f"{split} holds {images.dtype} {images.shape}")
    scaling = Scaling(*map(tuple, about["scaling"]))
    return Split(split, torch.from_numpy(images), torch.from_numpy(labels), tuple(about["classes"]), scaling)


def delete(name: str, folder: Path) -> None:
    """What is not there is not missed."""
    if NAME.fullmatch(name):
        shutil.rmtree(folder / name, ignore_errors=True)


def _about(place: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((place / ABOUT).read_text())
        missing = PARTS - set(about)
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} missing")
        return about
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(place, error) from None


def _damaged(place: Path, error: object) -> DataError:
    return DataError(f"The images in {place} are missing or damaged ({error}). Delete that folder, and add them again.")
