"""Networks of other people: read on one of three roads, measured, held against the original, and made a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.bench.baselines import Baselines, title_of
from core.bench.networks import Networks
from core.config import CompressionConfig, ConfigError
from core.datasets import Datasets, Split
from core.incoming import checkpoints, choosing, keys, module, onnx_file, originals, program, scaling, state_dict
from core.incoming.originals import Original
from core.incoming.scaling import Scale
from core.measuring import evaluation
from core.networks import models
from core.networks.graph import BaselineError, Network
from core.networks.models import Baseline, Tensors
from core.words import kilobytes, percent

SAMPLE = 1_000
"""Validation images on which readings and scalings are told apart."""


@dataclass(frozen=True)
class Known:
    """What a person says of a network besides its file. data : name of the images that it was made for

    scale : a name of `scaling.NAMES`; mean, std : of pixels in [0, 1], one number or one for each channel
    pool, activation : of a state dict alone (`state_dict.readings`)
    """

    data: str = "fashion-mnist"
    scale: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    pool: str | None = None
    activation: str | None = None


def summary(baseline: Baseline) -> str:
    """Accuracy, classes, input scaling and size of one that came in; "" for another."""
    if "road" not in baseline.info:
        return ""
    info = baseline.info
    same = " The original predicts the same class for each of these images, ties apart." if info["same"] else ""
    return (
        f"From {info['road']}. Right for {percent(info['accuracy'], 2)} of {info['images']:,} validation images of "
        f"{baseline.images.data}, {len(baseline.images.classes)} classes.{same} Input scaling {info['scale']}. "
        f"{baseline.parameters:,} parameters, {kilobytes(baseline.bytes)} in float32."
    )


class Arrivals:
    """What comes in is a `Baseline` whose `info` says how: `road`, `scale` (input scaling), `accuracy` on so many
    validation `images`, whether the original says the `same` (None where there is none to run), `notes`."""

    def __init__(self, baselines: Baselines, networks: Networks, datasets: Datasets) -> None:
        self.baselines, self.networks, self.datasets = baselines, networks, datasets

    def from_onnx(
        self, source: Path | bytes, name: str, known: Known, beside: Mapping[str, bytes] | None = None
    ) -> Baseline:
        """beside : by file name, what was dropped on the page with it. Raises BaselineError, DataError, ConfigError,
        OSError."""
        split = self._split(known)
        read = onnx_file.read(source, beside, split.shape)
        self._check_images(read.network, split, known)
        content, folder = (source, None) if isinstance(source, bytes) else (source.read_bytes(), source.parent)
        original = originals.of_onnx(content, originals.beside(content, beside or {}, folder), split.shape)
        return self._measured(name, "an ONNX file", read.network, read.tensors, known, original, ())

    def from_module(self, made: nn.Module, name: str, known: Known, notes: Sequence[str] = ()) -> Baseline:
        """A PyTorch module, with its weights. The same errors."""
        split = self._split(known)
        read = module.read(made, split.shape)
        self._check_images(read.network, split, known)
        original = originals.of_module(made, read.shape, read.batch)
        return self._measured(
            name, "a PyTorch module", read.network, read.tensors, known, original, (*notes, *read.notes)
        )

    def from_program(self, spec: str, weights: Path | None, name: str, known: Known) -> Baseline:
        """spec : FILE.py:NAME, which is run. The same errors."""
        loaded = program.load(spec, weights)
        return self.from_module(loaded.module, name, known, loaded.notes)

    def from_state(self, path: Path, name: str, known: Known) -> Baseline:
        """A state dict alone: its readings are measured. The same errors."""
        split = self._split(known)
        checkpoint = checkpoints.read(path)
        chain = keys.layers(checkpoint.state)
        readings = state_dict.readings(chain, split.shape, len(split.classes), known.pool, known.activation)
        some = _sample(split)

        def accuracy(network: Network, tensors: Tensors, own: Scale) -> float:
            return scaling.accuracy(network, tensors, own.scaling, some.images, some.labels)

        choice = state_dict.chosen(readings, self._candidates(known), accuracy, known.activation is not None)
        network, tensors = choice.reading.build()
        left = f"Taken: {checkpoint.box}. Left: {', '.join(checkpoint.beside) or 'nothing'}."
        notes = ([left] if checkpoint.box else []) + [
            f"Read as {choice.reading}. Measured:\n{choice.table}\nIf it was right more often at home, it computes "
            "something else: a state dict does not say what. ONNX or a module leaves nothing to guess."
        ]
        return self._measured(name, "a state dict", network, tensors, known, None, notes, choice.scale)

    def from_file(self, spec: str, weights: Path | None, name: str, known: Known) -> Baseline:
        """By the kind of file: FILE.onnx, FILE.py:NAME with its weights, else a state dict. The same errors."""
        is_program = ".py:" in spec or spec.endswith(".py")
        if (known.pool or known.activation) and (is_program or originals.is_onnx(Path(spec))):
            raise ConfigError("--pool and --activation are of a state dict, which does not say them. This file does.")
        if is_program:
            return self.from_program(spec, weights, name, known)
        if weights is not None:
            raise ConfigError("--weights are those of a program's module, FILE.py:NAME. Got another file beside them.")
        path = Path(spec)
        if originals.is_onnx(path):
            return self.from_onnx(path, name, known)
        if models.is_baseline(path):
            raise BaselineError(
                f"{spec} is a baseline already: --baseline {spec} opens it, and the page Baseline does."
            )
        return self.from_state(path, name, known)

    def bring(self, content: bytes, file_name: str, beside: Mapping[str, bytes], data: str, scale: str | None) -> str:
        """Keep a dropped ONNX file as a baseline; its id. The same errors."""
        title = title_of(file_name, "brought")
        return self.baselines.keep_loaded(self.from_onnx(content, title, Known(data, scale), beside), title)

    # What all roads share

    def _split(self, known: Known) -> Split:
        dataset = self.datasets.named(known.data)
        return self.datasets.split(dataset.images(self.datasets.folder), "validation")

    def _check_images(self, network: Network, split: Split, known: Known) -> None:
        """Raises BaselineError where the network is one for other images."""
        title, classes = self.datasets.named(known.data).title, len(split.classes)
        if network.shape != split.shape:
            raise BaselineError(
                f"The network reads images of shape {network.shape}. Those of {title} have shape {split.shape}: say "
                "with --data which ones it was made for."
            )
        if network.classes == 1:
            raise BaselineError(
                "The network puts out one number, as for a single sigmoid. Give it an output for each of the two "
                "classes, and train it with the cross entropy of both (torch.nn.CrossEntropyLoss)."
            )
        if network.classes != classes:
            raise BaselineError(
                f"The network tells {network.classes} classes apart. {title} has {classes}: say with --data which "
                "images it was made for."
            )

    def _candidates(self, known: Known) -> list[Scale]:
        """What the pixels may have been scaled by: one, where the person says it. Raises ConfigError."""
        own = self.datasets.named(known.data).scaling
        if (known.mean is None) != (known.std is None) or (known.scale is not None and known.mean is not None):
            raise ConfigError("Give either a scale by its name, or both a mean and a standard deviation.")
        if known.mean is not None and known.std is not None:
            return [scaling.of(known.mean, known.std, len(own.mean))]
        if known.scale is not None:
            return [scaling.named(known.scale, own)]
        return scaling.standard(own)

    def _measured(
        self, name: str, road: str, network: Network, tensors: Tensors, known: Known, original: Original | None,
        notes: Sequence[str], settled: Scale | None = None,
    ) -> Baseline:  # fmt: skip
        """settled : the scaling, where it was chosen already"""
        dataset, split = self.datasets.named(known.data), self._split(known)
        if settled is None:
            settled = self._measure(network, tensors, known, split)
        images = dataset.images(self.datasets.folder, settled.scaling)
        stored = self.networks.compressed(Baseline(name, tensors, {}, network, images), CompressionConfig())
        logits = evaluation.logits(stored, split)
        accuracy = float((logits.argmax(1) == split.labels.numpy()).mean())
        if original is not None:
            _check_same(original, logits, split.scaled(settled.scaling))
        doubt = choosing.doubt(accuracy, len(split.classes))
        info = {
            "road": road, "scale": str(settled), "accuracy": accuracy, "images": len(split),
            "same": None if original is None else True, "notes": [*notes, *filter(None, [doubt])],
        }  # fmt: skip
        return Baseline(name, tensors, info, network, images)

    def _measure(self, network: Network, tensors: Tensors, known: Known, split: Split) -> Scale:
        """The scaling that wins, or the one that the person says. Raises BaselineError, ConfigError."""
        candidates, some = self._candidates(known), _sample(split)

        def accuracy(own: Scale) -> float:
            return scaling.accuracy(network, tensors, own.scaling, some.images, some.labels)

        return candidates[0] if len(candidates) == 1 else scaling.measured(candidates, accuracy).scale


def _sample(split: Split) -> Split:
    """The first images in the order of evaluation."""
    return split.part(torch.from_numpy(split.order[:SAMPLE]))


def _check_same(original: Original, logits: NDArray[np.float32], split: Split) -> None:
    """Raises BaselineError where the original says another class for an image, beyond a tie of its two best."""
    theirs = np.concatenate(
        [original(split.seen(slice(start, start + SAMPLE))) for start in range(0, len(split), SAMPLE)]
    )
    if len(other := originals.disagreements(logits, theirs)):
        first = ", ".join(map(str, other[:5]))
        raise BaselineError(
            f"What was read of the file does not compute what the file does: {len(other):,} of {len(split):,} "
            f"validation images get another class, the first are {first}. This is a fault of the reading; nothing was "
            "kept. Please report the file."
        )
