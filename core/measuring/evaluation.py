"""What a stored network gets right: accuracy, per class, image by image, against another network, and how fast.

Evaluation takes a `StoredNetwork` and nothing else; its weights are those that the file's codes stand for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.datasets import SAMPLE, Split
from core.machinery import devices
from core.machinery.stopping import Stopped
from core.mathematics import promise
from core.networks import inference
from core.networks.inference import Array, Part, Runner, predicted
from core.networks.models import Overflow
from core.networks.stored import BETWEEN, StoredNetwork

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


NEAR = 2.0**-17
"""Relative to its size: what float32 rounding of a sum of a thousand products may move it by."""


STEPS = 2**16 - 1
"""Of confidences from 0 to 1: they are kept in two bytes."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """predictions : uint8 (n,); confidences : float32 (n,), softmax of the predicted class, in steps of 1 / `STEPS`
    labels : int64 (n,); classes : their names

    loss : mean cross entropy, in nats
    """

    split: str
    predictions: Tensor
    confidences: Tensor
    labels: Tensor
    loss: float
    classes: tuple[str, ...]

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
        """Counts, (classes, classes): rows are true classes, columns predicted ones."""
        count = len(self.classes)
        return torch.bincount(self.labels * count + self.predictions, minlength=count**2).reshape(count, count)

    def report(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of images per class and averaged: scikit-learn's classification report."""
        from sklearn.metrics import classification_report

        table = classification_report(
            self.labels.numpy(),
            self.predictions.numpy(),
            labels=range(len(self.classes)),
            target_names=self.classes,
            output_dict=True,
            zero_division=0.0,
        )
        rows = {name: row for name, row in table.items() if isinstance(row, dict)}
        return pd.DataFrame(rows).T.rename(columns={"f1-score": "f1", "support": "images"}).astype({"images": int})

    def classification(self) -> pd.DataFrame:
        """The same row by row, as scikit-learn prints it: the classes, the accuracy, and both means. Of all images
        together precision, recall and F1-score are the accuracy. Columns class, precision, recall, F1-score, support.
        """
        report = self.report()
        report.loc["accuracy"] = [self.accuracy] * 3 + [self.images]
        report = report.loc[[*self.classes, "accuracy", *report.index[len(self.classes) : -1]]].astype({"images": int})
        return report.rename(columns={"f1": "F1-score", "images": "support"}).rename_axis("class").reset_index()

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
    def standard_error(self) -> float:
        return promise.standard_error(self.lost, self.gained, self.images)

    @property
    def interval(self) -> tuple[float, float]:
        half = Z95 * self.standard_error
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
    for index, name in enumerate(before.classes):
        of_class = before.labels == index
        was, now = before.right[of_class], after.right[of_class]
        rows.append(
            {
                "class": name,
                "images": int(of_class.sum()),
                "lost": int((was & ~now).sum()),
                "gained": int((~was & now).sum()),
                "before": int(was.sum()) / max(1, len(was)),
                "after": int(now.sum()) / max(1, len(now)),
            }
        )
    return pd.DataFrame(rows)


def flips(before: Evaluation, after: Evaluation) -> pd.DataFrame:
    """Every image whose prediction changed: index, true class, both predictions and confidences, what it means.

    `outcome` is "lost", "gained" or "still wrong"; sorted so that the largest changes of confidence come first.
    """
    return _beside(before, after, torch.nonzero(before.predictions != after.predictions).flatten())


def telling_image(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """One image as `flips` describes it: the most confident of those that were lost, else of those that changed, else
    the one whose confidence changed most; its `outcome` is then "same"."""
    changed = flips(before, after)
    for table in (changed[changed["outcome"] == "lost"], changed):
        if len(table):
            return dict(table.iloc[0])
    most = (after.confidences - before.confidences).abs().argmax().reshape(1)
    return dict(_beside(before, after, most).iloc[0]) | {"outcome": "same"}


def _beside(before: Evaluation, after: Evaluation, changed: Tensor) -> pd.DataFrame:
    """The images of these numbers, before and after."""
    names = np.array(before.classes)
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


@dataclass(frozen=True)
class Estimate:
    """Accuracy on all N images of a split, from the n of them that were evaluated so far.

    The baseline's predictions are known for all N, so only the paired difference (c - b) / n is estimated
    (a difference estimator, Cochran 1977, chapter 7): accuracy = baseline's accuracy + (c - b) / n.
    interval : 95 %, with the finite-population correction sqrt((N - n) / (N - 1)); half a flip is added to b and c,
        so that a sample without flips is not taken for certainty (Agresti & Min 2005)
    """

    images: int
    of: int
    accuracy: float
    half_width: float

    @property
    def interval(self) -> tuple[float, float]:
        return max(0.0, self.accuracy - self.half_width), min(1.0, self.accuracy + self.half_width)


def estimate(before: Evaluation, sample: NDArray[np.int64], predictions: NDArray[np.uint8]) -> Estimate:
    """before : the baseline on the whole split; sample : indices of the images seen; predictions : of these."""
    index = torch.from_numpy(sample)
    was, now = before.right[index], torch.from_numpy(predictions) == before.labels[index]
    n, whole = len(sample), before.images
    b, c = int((was & ~now).sum()) + 0.5, int((~was & now).sum()) + 0.5
    error = (b + c - (c - b) ** 2 / (n + 2)) ** 0.5 / n
    correction = ((whole - n) / max(1, whole - 1)) ** 0.5
    return Estimate(n, whole, before.accuracy + (c - b) / n, Z95 * error * correction)


class Prefix:
    """What the first nodes of a network gave for each image, kept from one evaluation to the next.

    Where only later nodes changed, everything before them is the same as last time: the next network starts from there.
    One such place is held, the deepest of `Network.cuts` that the last two networks had in common, where it fits into
    LIMIT bytes.
    """

    LIMIT = 128 * 2**20

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()
        self._held: tuple[object, ...] = ()
        self._outputs: NDArray[np.float32] | None = None
        self._known = np.zeros(0, dtype=bool)

    def enter(self, network: StoredNetwork, split: Split) -> tuple[Callable[[NDArray[np.int64]], Array], Part]:
        """A function from indices of images to what enters the rest of the network, and that rest."""
        bits, cuts = network.config.activation_bits, network.network.cuts
        contents = ((split.fingerprint, split.scaling, bits), *_pieces(network, cuts))
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(contents, self._last, strict=False)))
        self._last = contents
        if len(self._held) < common or contents[: len(self._held)] != self._held:
            self._held, self._outputs, self._known = contents[:common], None, np.zeros(len(split), dtype=bool)
        depth = max(0, len(self._held) - 1)
        if depth == 0 or 4 * SAMPLE * prod(network.network.shapes[cuts[depth - 1]]) > self.LIMIT:
            return split.seen, Part(network)
        runner = Runner(Part(network, up_to=cuts[depth - 1]), bits)

        def enter(index: NDArray[np.int64]) -> Array:
            if self._outputs is not None and self._known[index].all():
                return self._outputs[index]
            outputs = runner(split.seen(index))
            if self._outputs is None and outputs[0].nbytes * len(split) <= self.LIMIT:
                self._outputs = np.empty((len(split), *outputs.shape[1:]), dtype=np.float32)
            if self._outputs is not None:
                self._outputs[index], self._known[index] = outputs, True
            return outputs

        return enter, Part(network, after=cuts[depth - 1])


def _pieces(network: StoredNetwork, cuts: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """What decides the outputs of the nodes up to each of the cuts, from the one before it."""
    piece: list[object] = []
    for node in network.network.nodes:
        piece.append(network.content(node))
        if node.name in cuts:
            yield tuple(piece)
            piece = []


def evaluate(
    network: StoredNetwork,
    split: Split,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[NDArray[np.int64], NDArray[np.uint8]], None] = lambda sample, predictions: None,
    prefix: Prefix | None = None,
    chunk: int = SAMPLE,
) -> Evaluation:
    """Run every image of the split, the sample first.

    should_stop : asked between chunks; Stopped is raised when it says so
    report : told once, when the sample is done and others are not: its indices and predictions
    prefix : outputs of leading layers, kept from earlier evaluations and for later ones
    Raises Stopped, Overflow.
    """
    split = split.scaled(network.images.scaling)
    enter, rest = (prefix or Prefix()).enter(network, split)
    runner = Runner(rest, network.config.activation_bits)
    outputs = np.empty((len(split), network.network.classes), dtype=np.float32)
    for start in range(0, len(split), chunk):
        if should_stop():
            raise Stopped
        index = split.order[start : start + chunk]
        outputs[index] = runner(enter(index))
        if start < SAMPLE <= start + chunk < len(split):
            seen = split.order[: start + chunk]
            report(seen, predicted(outputs[seen]))
    if not np.isfinite(outputs).all():
        raise Overflow(f"The outputs for {int((~np.isfinite(outputs)).any(1).sum()):,} of {len(split):,} images")
    scores, predictions = torch.from_numpy(outputs).log_softmax(1), torch.from_numpy(predicted(outputs))
    confidences = _in_steps(scores.gather(1, predictions.long()[:, None]).flatten().exp().mul(STEPS).round().numpy())
    loss = torch.nn.functional.nll_loss(scores, split.labels).item()
    return Evaluation(split.name, predictions, confidences, split.labels, loss, split.classes)


def logits(network: StoredNetwork, split: Split) -> NDArray[np.float32]:
    """The scores of the classes, (n, classes), in the order of the split; what `evaluate` takes the largest of."""
    runner, split = Runner(network, network.config.activation_bits), split.scaled(network.images.scaling)
    return np.concatenate([runner(split.seen(slice(start, start + SAMPLE))) for start in range(0, len(split), SAMPLE)])


def rounding_ties(network: StoredNetwork, split: Split) -> NDArray[np.bool_]:
    """For which images, (n,), a signal lies so near to the middle between two points of its grid that the order in
    which floats are added decides: |x / scale - middle| <= `NEAR` max(1, |x / scale|)."""
    bits, ties = network.config.activation_bits or 0, []
    between = {f"{stored.layer.name}{BETWEEN}": stored.between_scale for stored in network.layers}
    steps = {name: np.float32(step) for name, step in (between | dict(network.scales)).items() if step is not None}
    split = split.scaled(network.images.scaling)
    chunks = (split.seen(slice(start, start + SAMPLE)) for start in range(0, len(split) if steps else 0, SAMPLE))
    for signals in (each for chunk in chunks for each in inference.signals(network, chunk, list(steps), bits)):
        near = np.zeros(len(next(iter(signals.values()))[0]), bool)
        for name, ends in signals.items():
            for signal in ends:
                codes = np.abs(signal.reshape(len(near), -1)) / steps[name]
                middle = np.abs(codes - np.floor(codes) - 0.5) <= NEAR * np.maximum(1, codes)
                near |= (middle & (codes < 2**bits)).any(1)
        ties.append(near)
    return np.concatenate(ties) if ties else np.zeros(len(split), bool)


@dataclass(frozen=True)
class Latency:
    """Seconds per image: median and quartiles over `repeats` timed calls of `batch` images, after a warm-up."""

    batch: int
    repeats: int
    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, batch: int, seconds: Sequence[float] | NDArray[np.float64]) -> "Latency":
        """seconds : per image, of each call."""
        lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
        return cls(batch, len(seconds), median, lower, upper)


def latency(network: StoredNetwork, images: Tensor, batch: int = 1, repeats: int = 60) -> Latency:
    """Time of a forward pass on this machine's processor, in float32 arithmetic, per image.

    Up to `costs.CHUNK` images run on one core, because two threads that wait for each other on a busy machine
    measure the waiting; more are cut into chunks, one to a core.

    images : normalized (n, c, h, w), n >= batch. Fewer bits and scattered zeros change nothing here: the arithmetic
    stays float32 and dense. Fewer numbers - a lower rank - do.
    """
    run, x = Runner(network, network.config.activation_bits), images[:batch].numpy()
    return _timed(lambda: run(x), batch, repeats)


@torch.inference_mode()
def device_latency(module: torch.nn.Module, images: Tensor, batch: int = 1, repeats: int = 60) -> Latency:
    """The same for a torch module where its parameters are, a graphics processor for one: the images lie there
    already, and a call ends when its answer does. Raises DeviceError."""
    device = next(module.parameters()).device
    with devices.in_words(device):
        x, wait = images[:batch].to(device), getattr(torch, device.type).synchronize

        def run() -> None:
            module(x)
            wait()

        return _timed(run, batch, repeats)


def _timed(run: Callable[[], object], batch: int, repeats: int) -> Latency:
    seconds = []
    for repeat in range(repeats + 10):
        start = time.perf_counter()
        run()
        if repeat >= 10:
            seconds.append((time.perf_counter() - start) / batch)
    return Latency.of(batch, seconds)


def _in_steps(steps: NDArray[Any]) -> Tensor:
    """Confidences of so many steps each, float32."""
    return torch.from_numpy(steps.astype(np.float32)) / STEPS


def to_arrays(evaluation: Evaluation) -> dict[str, Any]:
    """What the store keeps of an evaluation; the labels come back from the split.

    predictions : uint8 (n,); confidences : uint8 (2, n), the upper and the lower bytes of their steps: upper ones are
    much alike, and take less when they are compressed
    """
    steps = evaluation.confidences.double().mul(STEPS).round().to(torch.int64).numpy()
    confidences = np.stack([steps >> 8, steps & 255]).astype(np.uint8)
    return {"predictions": evaluation.predictions.numpy(), "confidences": confidences}


def from_arrays(arrays: dict[str, Any], split: Split, loss: float) -> Evaluation:
    """The inverse; also of entries from before, which hold float32 confidences."""
    predictions, kept = torch.from_numpy(np.array(arrays["predictions"])), np.array(arrays["confidences"])
    confidences = torch.from_numpy(kept) if kept.ndim == 1 else _in_steps(kept[0].astype("u2") << 8 | kept[1])
    return Evaluation(split.name, predictions, confidences, split.labels, loss, split.classes)
