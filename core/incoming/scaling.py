"""Input scaling: what a network sees of a pixel, (pixel / 255 - mean) / deviation for each channel.

It is part of a network, and no file of weights holds it: it is given by name or in numbers, or measured.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from core.config import ConfigError
from core.datasets import Scaling
from core.incoming import choosing
from core.networks import models
from core.networks.graph import BaselineError, Network
from core.networks.models import Overflow, Tensors

NAMES = ("dataset", "unit", "half", "raw")
"""Of those that have a name: the data set's own mean and deviation; [0, 1]; [-1, 1]; 0 to 255."""

CHUNK = 500
"""Images that a network sees at a time."""


@dataclass(frozen=True)
class Scale:
    """A scaling by its name; "given" for one in numbers."""

    name: str
    scaling: Scaling

    def __str__(self) -> str:
        mean, deviation = (", ".join(f"{each:.6g}" for each in own) for own in self.scaling)
        return f"{self.name}: (pixel / 255 - {mean}) / {deviation}"


def standard(own: Scaling) -> list[Scale]:
    """Those with a name, the likeliest first; of two that are the same the first. own : the data set's"""
    found = list[Scale]()
    for name in NAMES:
        each = named(name, own)
        if each.scaling not in [other.scaling for other in found]:
            found.append(each)
    return found


def named(name: str, own: Scaling) -> Scale:
    """One of `NAMES`. own : the data set's. Raises ConfigError for another name."""
    each = len(own.mean)
    known = {
        "dataset": own,
        "unit": Scaling((0.0,) * each, (1.0,) * each),
        "half": Scaling((0.5,) * each, (0.5,) * each),
        "raw": Scaling((0.0,) * each, (1 / 255,) * each),
    }
    if name not in known:
        raise ConfigError(f"scale must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    return Scale(name, known[name])


def of(mean: Sequence[float], deviation: Sequence[float], channels: int) -> Scale:
    """One in numbers, of pixels in [0, 1]: one for each channel, or one for all. Raises ConfigError."""
    means, deviations = (tuple(own) * (channels if len(own) == 1 else 1) for own in (mean, deviation))
    if not len(means) == len(deviations) == channels:
        raise ConfigError(f"mean and std must have a number for each of {channels} channels. Got {mean}, {deviation}.")
    if not all(map(math.isfinite, means)):
        raise ConfigError(f"mean must be finite numbers. Got {mean} instead.")
    if not all(math.isfinite(each) and each > 0 for each in deviations):
        raise ConfigError(f"std must be finite numbers above 0. Got {deviation} instead.")
    return Scale("given", Scaling(means, deviations))


@torch.no_grad()
def accuracy(network: Network, tensors: Tensors, scaling: Scaling, images: Tensor, labels: Tensor) -> float:
    """The share of images that it is right for. images : uint8 (n, c, h, w); labels : (n,). Raises Overflow."""
    right = 0
    for some, theirs in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        scores = models.scores(network, tensors, models.channels_last(scaling.normalized(some)))
        if not scores.isfinite().all():
            raise Overflow("The scores of this network")
        right += int(scores.argmax(1).eq(theirs).sum())
    return right / len(labels)


class Measured(NamedTuple):
    scale: Scale
    accuracy: float


class Untold(BaselineError):
    """No scaling wins; what was measured, and what to add on the command line.

    figures : accuracy by the name of the scaling; blind : as the function of that name says it
    """

    def __init__(self, figures: Mapping[Scale, float]) -> None:
        self.figures, self.blind = {each.name: right for each, right in figures.items()}, blind(figures.values())
        rows = choosing.table([(str(each), right) for each, right in figures.items()])
        super().__init__(
            f"The file does not say how pixels were scaled, and measuring does not, either:\n{rows}\n"
            f"{self.blind}Say what it was made for: {options(list(figures))}."
        )


def measured(candidates: Sequence[Scale], accuracy: Callable[[Scale], float]) -> Measured:
    """The scaling under which a network is right for the most images, where it wins by more than three points.

    accuracy : on validation images, in [0, 1]

    Raises Untold where it does not; Overflow where under none of them the network computes numbers.
    """
    figures = {each: choosing.figure(partial(accuracy, each)) for each in candidates}
    best, *others = choosing.contenders(figures)
    if figures[best] == 0:
        accuracy(best)  # tells why, where it can be told
    if not others:
        return Measured(best, figures[best])
    raise Untold(figures)


def blind(accuracies: Iterable[float]) -> str:
    """A sentence for a network that is as good under every scaling; "" for another. accuracies : one for each"""
    known = list(accuracies)
    if max(known) - min(known) > choosing.MARGIN:
        return ""
    return (
        "They are all alike within three points, as they are for a network that was not trained, or whose "
        "normalization or missing biases make it blind to the scale of its inputs. "
    )


def options(candidates: Sequence[Scale]) -> str:
    """What to add on the command line."""
    return f"--scale {'|'.join(each.name for each in candidates)}, or --mean M --std S in its own numbers"
