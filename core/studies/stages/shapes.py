"""A shape is all of a configuration but how dense it is and how it is trained: which size it should have, how good it
is there, and how it is brought to that size."""

import math
from collections.abc import Iterable
from dataclasses import replace

from core.config import CompressionConfig
from core.measuring.front import Point
from core.studies.sizes import LAW, aimed_loss, at_loss, balanced, merit
from core.studies.space import Chosen, configuration, resized
from core.studies.stages.worker import Worker
from core.studies.trials import points_of


def shape(config: CompressionConfig) -> CompressionConfig:
    """The configuration without how dense it is and how it is trained."""
    layers = tuple((name, replace(layer, sparsity=None)) for name, layer in config.layers)
    return replace(config, layers=layers, sparsity=None, recovery=None)


def wanted_size(worker: Worker) -> float:
    """Bytes at which shapes are compared: of the file that is searched for, as far as that is known."""
    goal, studies = worker.goal, worker.studies
    if goal.size is not None:
        return _below(goal.size, points_of(studies.trained))
    lost = aimed_loss(worker.allowed)
    for study, lost_then in ((studies.trained, lost), (studies.brief, lost * LAW.eased)):
        sizes = _sizes_at(worker, lost_then, points_of(study))
        if sizes:
            return min(sizes)
    best = goal.best(points_of(studies.untrained), worker.optimism)
    return best.bytes / LAW.gain if best is not None else LAW.unknown_size


def _below(most: int, trained: Iterable[Point]) -> float:
    """A little less than a size, and less by as much as trained files came out too large."""
    return most / LAW.close**2 / max([1.0, *(point.bytes / most for point in trained)])


def _sizes_at(worker: Worker, lost: float, points: Iterable[Point]) -> list[float]:
    """Bytes at which each shape would lose `lost`, of those that lose about as much; where nothing may be pruned, the
    law does not reach far below, either."""
    least = -1.0 if worker.scalable else lost / LAW.far_lost
    losses = [(point.bytes, -point.difference) for point in points]
    return [at_loss(size, loss, lost) for size, loss in losses if least <= loss <= LAW.far_lost * lost]


def merit_of(worker: Worker, point: Point, wanted: float) -> float:
    """The `merit` of a shape, where it was measured; far from its size nothing is said where nothing may be pruned."""
    if worker.scalable:
        return merit(point.bytes, -point.difference, wanted)
    least = worker.allowed * LAW.eased / LAW.far_lost
    return merit(point.bytes, -point.difference, wanted, LAW.far_apart, max(least, LAW.least_lost))


def near(worker: Worker, size: float, wanted: float) -> bool:
    """Whether a shape has about the wanted size, and no more than the most; where nothing may be pruned to make it so,
    any has."""
    if worker.goal.size is not None and size > worker.goal.size:
        return False
    return not worker.scalable or wanted / LAW.near <= size <= wanted * LAW.near


def size_of(worker: Worker, chosen: Chosen) -> int:
    """Bytes before training, rounded in the plain way, which is soon done: other roundings have about as many."""
    return worker.bench.bytes_of(worker.name, _plain(configuration(chosen, worker.network)))


def stored_weights(worker: Worker, config: CompressionConfig) -> int:
    """How many numbers a file has codes of, zeros too."""
    layers = worker.bench.network(worker.name, _plain(config)).layers
    return sum(tensor.values.numel() for layer in layers for tensor in layer.tensors)


def _plain(config: CompressionConfig) -> CompressionConfig:
    return replace(config, rounding="nearest", bias_correction=False, clip="minmax", recovery=None)


def resize(worker: Worker, chosen: Chosen, size: float) -> tuple[Chosen, float]:
    """The same shape at so many bytes before training, as far as its densities can do that, and how many it has."""
    if not any(name.startswith("density") for name in chosen):
        return chosen, size_of(worker, chosen)

    def excess(log_factor: float) -> float:
        return math.log(size_of(worker, resized(chosen, math.exp(log_factor))) / size)

    log_factor, over = balanced(excess)
    return resized(chosen, math.exp(log_factor)), size * math.exp(over)
