"""Sets of images with classes: what one is, and which there are. A file for each source.

A file says DATASETS = (Dataset(...), ...), and is found here; what a person brought lies in a folder (`kept`).
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.machinery.files import sha256

SplitName = Literal["train", "validation", "calibration", "test"]
Say = Callable[[str], None]
Shape = tuple[int, int, int]

SAMPLE = 500
"""Images of a split that give the first figure."""

HELD = 64 * 2**20
"""Bytes of normalized images that a split keeps; of more it makes them again each time."""


def aloud(message: str) -> None:
    """On the terminal, beside what a command prints there for programs."""
    print(message, file=sys.stderr, flush=True)


class DataError(RuntimeError):
    """Images that cannot be had, or are none; the message says what was tried and what to do."""


class Scaling(NamedTuple):
    """What a network sees of a pixel p in 0..255: (p / 255 - mean) / deviation, one number each for every channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalized(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> float32, the same shape."""
        mean, deviation = (torch.tensor(each, device=images.device).reshape(-1, 1, 1) for each in self)
        return images.float().div_(255).sub_(mean).div_(deviation)


class Images(NamedTuple):
    """The images that a network was made for, and how it sees them: a part of what it is.

    data : name of the data set; classes : their names, in the order of the scores
    fingerprint : of the data set (`Dataset.fingerprint`)
    """

    data: str
    classes: tuple[str, ...]
    scaling: Scaling
    fingerprint: str

    def same_as(self, other: "Images") -> bool:
        """Whether two networks see the same images, whatever these are scaled to: their predictions can be paired."""
        return (self.data, self.fingerprint) == (other.data, other.fingerprint)

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "classes": list(self.classes), "scaling": [list(each) for each in self.scaling]}

    @classmethod
    def from_record(cls, record: Any) -> "Images":
        """The inverse. Raises ValueError, whatever the record is."""
        try:
            scaling = Scaling(*(tuple(map(float, each)) for each in record["scaling"]))
            texts = record["data"], record["fingerprint"], *record["classes"]
            if not all(isinstance(text, str) for text in texts) or not 2 <= len(record["classes"]) <= 256:
                raise ValueError("names that are no text, or too few of them")
            if len(scaling.mean) != len(scaling.deviation) or not all(0 < each < 1e9 for each in scaling.deviation):
                raise ValueError("deviations that are not above 0")
            if not all(abs(each) < 1e9 for each in scaling.mean):
                raise ValueError("means that are none")
            return cls(record["data"], tuple(record["classes"]), scaling, record["fingerprint"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"an incomplete description ({error})") from None


@dataclass(frozen=True, eq=False)
class Split:
    """images : uint8 (n, c, h, w); labels : int64 (n,), places in `classes`"""

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    scaling: Scaling
    _scaled: dict[Scaling, "Split"] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """Of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def scaled(self, scaling: Scaling) -> "Split":
        """The same images as a network with another scaling sees them. The last one asked for is kept."""
        if scaling == self.scaling:
            return self
        if scaling not in self._scaled:
            self._scaled.clear()
            self._scaled[scaling] = replace(self, scaling=scaling, _scaled={})
        return self._scaled[scaling]

    def part(self, chosen: slice | Tensor, name: str | None = None) -> "Split":
        """Some of the images; `name` where it is another split then."""
        images, labels = self.images[chosen], self.labels[chosen]
        return replace(self, name=name or self.name, images=images, labels=labels, _scaled={})

    @property
    def inputs(self) -> Tensor:
        """What a network sees: float32 (n, c, h, w)."""
        return self._held if self._is_small else self.scaling.normalized(self.images)

    @property
    def _is_small(self) -> bool:
        return 4 * self.images.numel() <= HELD

    @cached_property
    def _held(self) -> Tensor:
        return self.scaling.normalized(self.images)

    def seen(self, index: Any) -> NDArray[np.float32]:
        """The same of the images of these places."""
        found = self._held[index] if self._is_small else self.scaling.normalized(self.images[index])
        seen: NDArray[np.float32] = found.numpy()
        return seen

    @property
    def pictures(self) -> Tensor:
        """As people have them: uint8 (n, h, w) where they are grey, else (n, h, w, c)."""
        return self.images[:, 0] if self.images.shape[1] == 1 else self.images.permute(0, 2, 3, 1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the images and labels."""
        return sha256(self.images.contiguous().numpy().tobytes() + self.labels.numpy().tobytes())

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The order in which images are evaluated: first a fixed sample, `SAMPLE` images, of each class in proportion
        to how many it has, so that a figure with an interval can be given early; then all others."""
        shuffled = np.random.default_rng(0).permutation(len(self))
        labels, classes = self.labels.numpy()[shuffled], len(self.classes)
        seen = SAMPLE // classes * classes * np.bincount(labels, minlength=classes).cumsum() // max(1, len(self))
        counts = np.diff(seen, prepend=0)
        sample = np.concatenate([shuffled[labels == c][:count] for c, count in enumerate(counts)])
        return np.concatenate([sample, np.setdiff1d(shuffled, sample)])


@dataclass(frozen=True)
class Dataset:
    """name : as command line and links call it; title : its heading
    scaling : mean and deviation of its training pixels, for each channel
    training : images to train with
    licence, source, about : of the images; whose they are, as it is cited; what they show
    load : (name of a split, folder for what is fetched, whom to tell) -> the split. Raises DataError
    fingerprint : (that folder) -> names its validation, calibration and test images in every key. Raises DataError
    mirrors : whether a mirror image shows the same thing
    sums : SHA-256 of the files of its training images, where these are fixed; `fingerprint` names them elsewhere
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: Shape
    scaling: Scaling
    training: int
    licence: str
    source: str
    about: str
    load: Callable[[SplitName, Path, Say], Split]
    fingerprint: Callable[[Path], str]
    mirrors: bool = False
    sums: Mapping[str, str] = field(default_factory=dict)

    def images(self, folder: Path, scaling: Scaling | None = None) -> Images:
        """For a network that sees them so; scaled by their own mean and deviation where nothing else is said."""
        return Images(self.name, self.classes, scaling or self.scaling, self.fingerprint(folder))


@cache
def shipped() -> dict[str, Dataset]:
    """Those that the code knows, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [each for module in modules for each in getattr(module, "DATASETS", ())]
    return {each.name: each for each in found}


class Datasets:
    """All that there are here. folder : for what is fetched, and what people bring"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        from core.datasets import kept

        return [*shipped(), *(name for name in kept.names(self.folder) if name not in shipped())]

    def named(self, name: str) -> Dataset:
        """Raises DataError."""
        from core.datasets import kept

        if name in shipped():
            return shipped()[name]
        if name in kept.names(self.folder):
            return kept.dataset(name, self.folder)
        raise DataError(
            f"data must be one of {', '.join(self.names())}. Got {name!r} instead. Images of one's own come in with "
            f"`python -m core add-data FILE --name NAME`."
        )

    def split(self, images: Images, name: SplitName, say: Say = aloud) -> Split:
        """A split as a network made for these images sees it. Raises DataError, also where they are others here."""
        dataset = self.named(images.data)
        if dataset.fingerprint(self.folder) != images.fingerprint:
            raise DataError(
                f"{dataset.title} here holds other images than those that this network was imported for. Import it "
                f"again: `python -m core import FILE --data {images.data} --out FILE.safetensors`."
            )
        return dataset.load(name, self.folder, say).scaled(images.scaling)
