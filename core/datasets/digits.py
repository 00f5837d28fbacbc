"""The digits of scikit-learn (Alpaydin & Kaynak 1998): 1,797 written digits, 8 x 8 pixels in 17 greys. They come with
that library: nothing is fetched."""

from functools import cache
from pathlib import Path

import numpy as np

from core.datasets import Dataset, Say, Scaling, Split, SplitName, aloud
from core.datasets.splitting import Labelled, as_split, divided
from core.machinery.files import sha256

CLASSES = tuple("0123456789")
SCALING = Scaling((0.3049,), (0.3756,))
"""By mean and deviation of the training pixels in [0, 1]."""


@cache
def _splits() -> dict[SplitName, Split]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    parts = divided(Labelled(images, labels.astype(np.int64)), None, CLASSES)
    return {name: as_split(name, part, CLASSES, SCALING) for name, part in parts.items()}


def load(name: SplitName, folder: Path, say: Say = aloud) -> Split:
    return _splits()[name]


@cache
def fingerprint(folder: Path) -> str:
    return sha256("".join(split.fingerprint for split in _splits().values()).encode())


DIGITS = Dataset(
    "digits", "Digits", CLASSES, (1, 8, 8), SCALING, 1_151, "CC BY 4.0",
    "Alpaydin & Kaynak 1998", "grey pictures of digits, written by 43 people",
    load, fingerprint,
)  # fmt: skip
DATASETS = (DIGITS,)
