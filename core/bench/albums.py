"""Data sets as a page shows them: a few pictures of each class and what is counted; those that people bring."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets import DataError, Dataset, Datasets, Scaling, kept, reading, shipped
from core.datasets.reading import Brought
from core.datasets.splitting import own_scaling

__all__ = ["Album", "Albums", "Brought"]

PICTURES = 10
"""Of each class."""

SIDE = 28
"""Pixels: smaller pictures are enlarged to about as much."""


@dataclass(frozen=True, eq=False)
class Album:
    """classes : name, images to train with, and pictures side by side, uint8 (h, w) or (h, w, 3), of each
    shape : (channels, height, width); counts : images of each split that is known; scaling : mean and deviation
    """

    classes: tuple[tuple[str, int, NDArray[np.uint8]], ...]
    shape: tuple[int, int, int]
    counts: dict[str, int]
    scaling: Scaling


class Albums:
    def __init__(self, datasets: Datasets) -> None:
        self.datasets = datasets

    def data_names(self) -> dict[str, str]:
        """Of all data sets that can be had here, and their titles; a damaged one can be chosen and deleted."""
        return {name: self._title(name) for name in self.datasets.names()}

    def _title(self, name: str) -> str:
        try:
            return self.datasets.named(name).title
        except DataError:
            return f"{name} (damaged)"

    def album(self, name: str) -> Album:
        """Of a data set: pictures of its validation images, fetched where they are not here yet. Raises DataError."""
        dataset = self.datasets.named(name)
        split = dataset.load("validation", self.datasets.folder, lambda text: None)
        test = dataset.load("test", self.datasets.folder, lambda text: None)
        counts = {"validation": len(split), "test": len(test)}
        images, labels = split.images.numpy(), split.labels.numpy()
        return Album(_rows(images, labels, split.classes), split.shape, counts, dataset.scaling)

    def album_of(self, brought: Brought) -> Album:
        """Of what is not kept yet."""
        images, labels = brought.training
        counts = {"to train with": len(labels)} | (
            {} if brought.test is None else {"to judge by": len(brought.test[1])}
        )
        _, *sizes = images.shape
        channels, height, width = sizes
        return Album(_rows(images, labels, brought.classes), (channels, height, width), counts, own_scaling(images))

    def read_images(self, file_name: str, content: bytes, size: int | None = None) -> Brought:
        """What a file holds (`reading.from_bytes`). Raises DataError."""
        return reading.from_bytes(file_name, content, size)

    def add_images(self, brought: Brought, name: str, title: str) -> Dataset:
        """Keep it. Raises DataError, also where one of that name is here; OSError."""
        if name in kept.names(self.datasets.folder):
            raise DataError(f"{name!r} is there already. Delete it first, or choose another name.")
        return reading.add(brought, name, self.datasets.folder, title)

    def is_own_data(self, name: str) -> bool:
        """Whether somebody brought it."""
        return name not in shipped()

    def delete_images(self, name: str) -> None:
        """What networks were made for them can be measured no more."""
        if self.is_own_data(name):
            kept.delete(name, self.datasets.folder)


def _rows(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> tuple[tuple[str, int, NDArray[np.uint8]], ...]:
    return tuple(
        (name, int((labels == place).sum()), _strip(images[np.flatnonzero(labels == place)[:PICTURES]]))
        for place, name in enumerate(classes)
    )


def _strip(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures, (n, c, h, w), side by side; a signal of height 1 as a band."""
    if not len(images):
        return np.zeros((SIDE, SIDE), np.uint8)
    height = images.shape[2]
    down, across = max(1, SIDE // height), max(1, SIDE // height) if height > 1 else 1
    side_by_side = np.concatenate(list(images.repeat(down, 2).repeat(across, 3)), 2)
    strip: NDArray[np.uint8] = side_by_side[0] if len(side_by_side) == 1 else side_by_side.transpose(1, 2, 0)
    return strip
