"""What a stored network gets right: accuracy, per class, image by image, against another network, and how fast.

Evaluation takes a `StoredNetwork` and nothing else; its weights are those that the file's codes stand for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core.data import CLASSES, Split
from core.models import Layer, channels_last, propagate
from core.quantization import fake_quantize
from core.stored import StoredLayer, StoredNetwork

CHUNK = 250
"""Images at a time: their activations fit the processor's cache, which makes a chunk twice as fast as 1,000 at once."""

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


class Stopped(Exception):
    """The evaluation was asked to stop; nothing was measured."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """predictions : uint8 (n,); confidences : float32 (n,), softmax of the predicted class; labels : int64 (n,).

    loss : mean cross entropy, in nats
    """

    split: str
    predictions: Tensor
    confidences: Tensor
    labels: Tensor
    loss: float

    @cached_property
    def right(self) -> Tensor:
        return self.predictions == self.labels

    @property
    def images(self) -> int:
        return len(self.labels)

    @cached_property
    def accuracy(self) -> float:
        """Share of all images predicted right, in [0, 1]."""
        return int(self.right.sum()) / self.images

    def confusion(self) -> Tensor:
        """Counts, (10, 10): rows are true classes, columns predicted ones."""
        flat = self.labels * len(CLASSES) + self.predictions
        return torch.bincount(flat, minlength=len(CLASSES) ** 2).reshape(len(CLASSES), len(CLASSES))

    def report(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of images per class and averaged: scikit-learn's classification report."""
        from sklearn.metrics import classification_report

        table = classification_report(
            self.labels.numpy(),
            self.predictions.numpy(),
            labels=range(len(CLASSES)),
            target_names=CLASSES,
            output_dict=True,
            zero_division=0.0,
        )
        rows = {name: row for name, row in table.items() if isinstance(row, dict)}
        return pd.DataFrame(rows).T.rename(columns={"f1-score": "f1", "support": "images"}).astype({"images": int})

    def confident_mistakes(self, count: int) -> Tensor:
        """Indices of the wrong predictions, the most confident first."""
        wrong = torch.nonzero(~self.right).flatten()
        return wrong[self.confidences[wrong].argsort(descending=True, stable=True)][:count]


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same n images, paired.

    lost : right before, wrong after (b); gained : wrong before, right after (c)
    difference : (c - b) / n, a fraction; standard error sqrt(b + c - (c - b)^2 / n) / n
    interval : 95 %, difference -+ 1.96 standard errors
    p_value : exact McNemar test: of b + c flips, each direction is equally likely
    """

    images: int
    lost: int
    gained: int

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        b, c, n = self.lost, self.gained, self.images
        half = Z95 * (b + c - (c - b) ** 2 / n) ** 0.5 / n
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        from scipy.special import bdtr

        flips = self.lost + self.gained
        return min(1.0, 2 * float(bdtr(min(self.lost, self.gained), flips, 0.5))) if flips else 1.0


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Raises ValueError where the two did not see the same images."""
    if before.split != after.split or before.images != after.images:
        raise ValueError(f"before and after must be of the same split. Got {before.split} and {after.split} instead.")
    lost, gained = before.right & ~after.right, ~before.right & after.right
    return Comparison(before.images, int(lost.sum()), int(gained.sum()))


def class_changes(before: Evaluation, after: Evaluation) -> pd.DataFrame:
    """Per class: images, lost, gained, and the two recalls."""
    rows = []
    for index, name in enumerate(CLASSES):
        own = before.labels == index
        was, now = before.right[own], after.right[own]
        rows.append(
            {
                "class": name,
                "images": int(own.sum()),
                "lost": int((was & ~now).sum()),
                "gained": int((~was & now).sum()),
                "before": was.float().mean().item(),
                "after": now.float().mean().item(),
            }
        )
    return pd.DataFrame(rows)


def flips(before: Evaluation, after: Evaluation) -> pd.DataFrame:
    """Every image whose prediction changed: index, true class, both predictions and confidences, what it means.

    `outcome` is "lost", "gained" or "still wrong"; sorted so that the largest changes of confidence come first.
    """
    changed = torch.nonzero(before.predictions != after.predictions).flatten()
    names = np.array(CLASSES)
    was, now = before.right[changed].numpy(), after.right[changed].numpy()
    table = pd.DataFrame(
        {
            "index": changed.numpy(),
            "true": names[before.labels[changed]],
            "before": names[before.predictions[changed].long()],
            "before_confidence": before.confidences[changed].numpy(),
            "after": names[after.predictions[changed].long()],
            "after_confidence": after.confidences[changed].numpy(),
            "outcome": np.where(was, "lost", np.where(now, "gained", "still wrong")),
        }
    )
    order = (table["before_confidence"] + table["after_confidence"]).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class _Step:
    """A layer, ready to run: weights rebuilt once, in the memory layout that convolutions are fast in."""

    layer: Layer
    weights: tuple[Tensor, ...]
    bias: Tensor
    at_input: Callable[[Tensor], Tensor] | None
    between: Callable[[Tensor], Tensor] | None

    def __call__(self, x: Tensor) -> Tensor:
        if self.at_input is not None:
            x = self.at_input(x)
        return propagate(self.layer, x, self.weights, self.bias, self.between)


def _ready(stored: StoredLayer, activation_bits: int | None) -> _Step:
    layout = torch.channels_last if stored.layer.kind == "conv" else torch.contiguous_format
    weights = tuple(tensor.weight().contiguous(memory_format=layout) for tensor in stored.tensors)

    def grid(scale: float | None, signed: bool) -> Callable[[Tensor], Tensor] | None:
        if scale is None or activation_bits is None:
            return None
        return partial(fake_quantize, scale=scale, bits=activation_bits, signed=signed)

    return _Step(stored.layer, weights, stored.bias, grid(stored.input_scale, False), grid(stored.between_scale, True))


def forward(network: StoredNetwork) -> Callable[[Tensor], Tensor]:
    """A function from normalized images (n, 1, 28, 28) to logits (n, 10), float32."""
    steps = [_ready(stored, network.config.activation_bits) for stored in network.layers]

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        x = channels_last(x)
        for step in steps:
            x = step(x)
        return x

    return run


def evaluate(
    network: StoredNetwork, split: Split, should_stop: Callable[[], bool] = lambda: False, chunk: int = CHUNK
) -> Evaluation:
    """Run every image of the split. `should_stop` is asked between chunks; Stopped is raised when it says so."""
    run, logits = forward(network), []
    for x in split.inputs.split(chunk):
        if should_stop():
            raise Stopped
        logits.append(run(x))
    scores = torch.cat(logits).log_softmax(1)
    best = scores.max(1)
    loss = torch.nn.functional.nll_loss(scores, split.labels).item()
    return Evaluation(split.name, best.indices.to(torch.uint8), best.values.exp(), split.labels, loss)


@dataclass(frozen=True)
class Latency:
    """Seconds per image: median and quartiles over `repeats` timed calls of `batch` images, after a warm-up."""

    batch: int
    repeats: int
    median: float
    lower: float
    upper: float


def latency(network: StoredNetwork, images: Tensor, batch: int = 1, repeats: int = 60) -> Latency:
    """Time of a forward pass on one core of this machine, in float32 arithmetic, per image.

    One core, because two threads that wait for each other on a busy machine measure the waiting.

    images : normalized (n, 1, 28, 28), n >= batch. Fewer bits and scattered zeros change nothing here: the arithmetic
    stays float32 and dense. Fewer numbers - a lower rank - do.
    """
    run, x, threads = forward(network), images[:batch], torch.get_num_threads()
    seconds = []
    torch.set_num_threads(1)
    try:
        for repeat in range(repeats + 10):
            start = time.perf_counter()
            run(x)
            if repeat >= 10:
                seconds.append((time.perf_counter() - start) / batch)
    finally:
        torch.set_num_threads(threads)
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return Latency(batch, repeats, median, lower, upper)


def to_arrays(evaluation: Evaluation) -> dict[str, Any]:
    """What the store keeps of an evaluation; the labels come back from the split."""
    return {"predictions": evaluation.predictions.numpy(), "confidences": evaluation.confidences.numpy()}


def from_arrays(arrays: dict[str, Any], split: Split, loss: float) -> Evaluation:
    predictions, confidences = (torch.from_numpy(np.array(arrays[k])) for k in ("predictions", "confidences"))
    return Evaluation(split.name, predictions, confidences, split.labels, loss)
