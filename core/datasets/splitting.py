"""Images and labels, divided once and for all: to train, to validate, to calibrate, to judge at the end."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from core.datasets import DataError, Scaling, Split, SplitName

VALIDATION, CALIBRATION, TEST = 5_000, 2_048, 10_000
"""Images, at most; of few images a fifth each is kept apart to validate and to judge."""

FEWEST = 10
"""Images of a class, at least: each split must have some."""

COUNTED = 500
"""Images whose pixels are counted at a time: counting takes 8 bytes for each."""


class Labelled(NamedTuple):
    """images : uint8 (n, c, h, w); labels : int64 (n,)"""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def divided(training: Labelled, test: Labelled | None, classes: tuple[str, ...]) -> dict[SplitName, Labelled]:
    """Stratified, seed 0; the calibration images are among those to train with. A test set that is there stays as it
    is. Raises DataError where a class has too few images."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(training.labels, minlength=len(classes))
    few = int(counts.argmin())
    if counts[few] < FEWEST:
        raise DataError(
            f"Each class must have at least {FEWEST} images to train with. {classes[few]!r} has {counts[few]}."
        )
    places = np.arange(len(training.labels))

    def taken_from(places: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        left, taken = train_test_split(places, test_size=count, stratify=training.labels[places], random_state=0)
        return np.sort(left), np.sort(taken)

    def apart(places: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return taken_from(places, max(len(classes), min(most, len(places) // 5)))

    if test is None:
        places, judged = apart(places, TEST)
        test = _taken(training, judged)
    places, validated = apart(places, VALIDATION)
    calibrated = places if len(places) < CALIBRATION + len(classes) else taken_from(places, CALIBRATION)[1]
    found: dict[SplitName, Labelled] = {"train": _taken(training, places), "validation": _taken(training, validated)}
    return found | {"calibration": _taken(training, calibrated), "test": test}


def _taken(labelled: Labelled, places: NDArray[np.int64]) -> Labelled:
    return Labelled(labelled.images[places], labelled.labels[places])


def own_scaling(images: NDArray[np.uint8]) -> Scaling:
    """Mean and deviation of the pixels in [0, 1], for each channel, in four decimals; counted, some images at a
    time. A channel of one colour has deviation 1."""
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), COUNTED):
            counts += np.bincount(images[start : start + COUNTED, channel].ravel(), minlength=256)
        values, share = np.arange(256) / 255, counts / counts.sum()
        mean = float(share @ values)
        deviation = float(share @ (values - mean) ** 2) ** 0.5
        means.append(round(mean, 4))
        deviations.append(round(deviation, 4) or 1.0)
    return Scaling(tuple(means), tuple(deviations))


def as_split(name: str, labelled: Labelled, classes: tuple[str, ...], scaling: Scaling) -> Split:
    images = torch.from_numpy(np.ascontiguousarray(labelled.images))
    return Split(name, images, torch.from_numpy(labelled.labels.astype(np.int64)), classes, scaling)
