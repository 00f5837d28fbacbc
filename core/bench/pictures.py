"""Pictures of a person's own: made what a network sees, and what it takes them for before and after compression."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from core.bench.networks import Networks
from core.config import CompressionConfig
from core.datasets import DataError, Datasets, Images
from core.datasets.reading import picture_of
from core.networks.inference import Runner
from core.networks.stored import StoredNetwork

MARGIN = 0.1
"""Of the side of a drawing, left free around it."""

Picture = NDArray[np.uint8]
"""(channels, height, width)"""


class Taken(NamedTuple):
    """name : of the class that a network takes a picture for; sure : its softmax, in [0, 1]"""

    name: str
    sure: float


class Pictures:
    def __init__(self, networks: Networks, datasets: Datasets) -> None:
        self.networks, self.datasets = networks, datasets

    def own_picture(self, name: str, content: bytes, file_name: str, drawn: bool = False) -> Picture:
        """A photo or a drawing as the images of a baseline are: its middle square, so wide and high, grey where they
        are; inverted where its background is light and theirs is dark.

        drawn : bright on dark, and cut to what was drawn
        Raises DataError, UnknownBaseline.
        """
        baseline = self.networks.baselines.profile(name)
        channels, height, width = baseline.network.shape
        pixels = picture_of(file_name, content, None, grey=channels == 1)
        if drawn:
            pixels = _cut_out(pixels)
        fitted = _fitted(pixels, height, width)
        if channels == 1 and not drawn:
            fitted = _as_bright(fitted, _border(self._some(baseline.images)))
        return np.ascontiguousarray(np.broadcast_to(fitted, (channels, height, width)))

    def _some(self, images: Images) -> NDArray[np.uint8]:
        return self.datasets.split(images, "calibration").images[:200].numpy()

    def own_taken(self, name: str, config: CompressionConfig, pictures: Sequence[Picture]) -> list[tuple[Taken, Taken]]:
        """What the baseline and the compressed network take each picture for. Raises NotRecovered, ConfigError."""
        networks = (self.networks.network(name, CompressionConfig()), self.networks.network(name, config))
        pixels = torch.from_numpy(np.stack(pictures))
        return list(zip(*(_taken(network, pixels) for network in networks), strict=True))


def _taken(network: StoredNetwork, pixels: torch.Tensor) -> list[Taken]:
    x = network.images.scaling.normalized(pixels).numpy()
    scores = torch.from_numpy(Runner(network, network.config.activation_bits)(x)).softmax(1)
    return [Taken(network.images.classes[int(row.argmax())], float(row.max())) for row in scores]


def _fitted(pixels: Picture, height: int, width: int) -> Picture:
    """The middle of a picture, scaled to this size."""
    from PIL import Image, ImageOps

    grey = len(pixels) == 1
    picture = Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0))
    made = np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS), np.uint8)
    return made[None] if grey else made.transpose(2, 0, 1)


def _cut_out(pixels: Picture) -> Picture:
    """The square around what is not dark, with a margin. Raises DataError where nothing is."""
    rows, columns = np.nonzero(pixels.max(0) > 40)
    if not len(rows):
        raise DataError("Nothing is drawn yet.")
    middle = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    half = int(max(int(np.ptp(rows)), int(np.ptp(columns)), 8) * (0.5 + MARGIN)) + 1
    around = np.pad(pixels, ((0, 0), (half, half), (half, half)))
    return around[:, middle[0] : middle[0] + 2 * half, middle[1] : middle[1] + 2 * half]


def _border(images: NDArray[Any]) -> float:
    """The middle brightness of the pixels around images (..., h, w)."""
    edges = [images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]]
    return float(np.median(np.concatenate([edge.ravel() for edge in edges])))


def _as_bright(picture: Picture, background: float) -> Picture:
    """Inverted where its background is light and theirs is dark, or the other way round; then as far from black,
    which a dark background is, to white as it goes."""
    own = _border(picture)
    turned = 255 - picture if (own > 127) != (background > 127) else picture
    low, high = _border(turned) if background <= 127 else float(turned.min()), float(turned.max())
    if high - low < 16:
        return turned
    return ((turned - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)
