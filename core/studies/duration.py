"""How long a piece of work will take, said before it is begun: what it consists of, and how fast this machine was.

    seconds = start + pace_training * training + pace_measuring * measuring + pace_exporting * exporting

Each part is counted from the job's request, in seconds of the machine that trained the shipped baselines (two cores,
no accelerator). A pace says how many times longer jobs took here, in the middle; the 1 with which it begins counts as
one of them, so that no single odd job decides.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from itertools import permutations, product
from math import ceil, isfinite, log
from operator import add
from statistics import median
from typing import Any

from core import settings
from core.bench import submissions
from core.bench.workbench import JobStatus, UnknownBaseline, Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig, TrainingConfig
from core.datasets import Dataset
from core.datasets.fashion_mnist import FASHION_MNIST
from core.measuring.front import SEARCH, STUDENTS
from core.networks import families
from core.networks.graph import Layer
from core.studies import assignment, rates, reproduce, sharing, tuning

Request = dict[str, Any]

START = 6.0
"""Seconds in which a job's process starts and loads its libraries."""

EPOCH, EVALUATION, EXPORT = (2.5, 4.2e-6), (0.1, 1e-7), (8.0, 6e-6)
"""Seconds of an epoch over 55,000 images, of a configuration on 5,000, and of files written and read back over 10,000:
a constant and a factor of the multiply-accumulates for one image. The first repeats what the trainings of the shipped
baselines took: 20 and 6.5 s."""

QUANTIZED = 1.7
"""An epoch in which weights are seen through their rounding, over a plain one."""

TIMED = 4
"""Times per image of a network, in rounds, take as long as so many evaluations."""

DECOMPOSED = 3
"""Whole weights decomposed, and their rank counted in float64, beside each evaluation of the order laboratory."""

FROM_CACHE = 0.2
"""A job that took a smaller share of what was expected found results of earlier ones, and says nothing of the pace."""

RECENT = 30
"""So many of the newest jobs say how fast the machine is."""


@dataclass(frozen=True)
class Work:
    """What a job consists of, in seconds of the reference machine. epochs : of which `training` consists; fixed :
    seconds that are asked for as such, on any machine"""

    training: float = 0.0
    epochs: int = 0
    measuring: float = 0.0
    exporting: float = 0.0
    fixed: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(own + more for own, more in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Pace:
    """How many times longer than the reference machine this one takes."""

    training: float = 1.0
    measuring: float = 1.0
    exporting: float = 1.0


def expected(bench: Workbench, request: Request, pace: Pace | None = None) -> float:
    """Seconds that the job of a request will take once its turn has come. pace : where it is known already

    Raises ConfigError for a kind of job that is not known, UnknownBaseline.
    """
    own, pace = work(bench, request), pace or pace_of(bench)
    parts = pace.training * own.training + pace.measuring * own.measuring + pace.exporting * own.exporting
    return own.fixed or START + parts


def work(bench: Workbench, request: Request) -> Work:
    """What the job of a request consists of; at most, where that depends on what is found."""
    if request["kind"] not in WORKS:
        raise ConfigError(f"kind must be one of {', '.join(WORKS)}. Got {request['kind']!r} instead.")
    return WORKS[request["kind"]](bench, request)


def pace_of(bench: Workbench) -> Pace:
    """From the newest jobs on this machine: the seconds of each of their epochs, and how long those without training
    took in all."""
    training, measuring, exporting = list[float](), list[float](), list[float]()
    for job in bench.jobs.all()[:RECENT]:
        with suppress(ConfigError, UnknownBaseline, KeyError, TypeError, ValueError):  # of another version, or deleted
            effort = work(bench, job.request)
            if effort.epochs:
                training += [seconds * effort.epochs / effort.training for seconds in _epoch_seconds(job)]
            elif job.state == "done" and effort.measuring + effort.exporting:
                took = _whole(job) / (effort.measuring + effort.exporting)
                if took >= FROM_CACHE:
                    (exporting if effort.exporting else measuring).append(took)
    return Pace(*(median([1.0, *ratios]) for ratios in (training, measuring, exporting)))


def _whole(job: JobStatus) -> float:
    """Seconds that the work of a job took, without the loading before it: from its first step to its last, over the
    share of the work between these; 0 where it told of fewer than two."""
    told = [(event["time"], event["done"]) for event in job.events if "done" in event]
    if not told or told[-1][1] <= told[0][1]:
        return 0.0
    return float((told[-1][0] - told[0][0]) / (told[-1][1] - told[0][1]))


def _epoch_seconds(job: JobStatus) -> list[float]:
    """What the epochs of a job took, as it reported them."""
    told = [event["figures"].get("seconds") for event in job.events if "figures" in event]
    return [seconds for seconds in told if isinstance(seconds, float) and isfinite(seconds)]


def in_words(seconds: float) -> str:
    """To about a tenth: "about 40 s", "about 4 min", "about 2.5 h"."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {round(seconds / 1800) / 2:g} h"


# Parts of which jobs consist.


def _multiplications(bench: Workbench, name: str) -> int:
    """Multiply-accumulates for one image."""
    return sum(layer.multiplications for layer in bench.baseline(name).layers)


def _share(dataset: Dataset) -> float:
    """Of so many images as Fashion-MNIST has to train with."""
    return dataset.training / FASHION_MNIST.training


def _seconds(line: tuple[float, float], multiplications: float, share: float = 1.0) -> float:
    """share : of the images that the line is of"""
    constant, factor = line
    return share * (constant + factor * multiplications)


def _trained(bench: Workbench, name: str, config: CompressionConfig) -> Work:
    """One recovery, and what it has become, measured. A teacher is asked once, for about as long as an epoch takes."""
    if config.recovery is None:
        return _measured(bench, name)
    whole, share = _multiplications(bench, name), _share(bench.dataset(name))
    seconds = _seconds(EPOCH, whole * (config.channel_share or 1.0) ** 2, share)
    rounded = config.bits is not None or any(own.bits is not None for _, own in config.layers)
    seconds *= config.recovery.epochs * (QUANTIZED if rounded else 1.0)
    taught = _seconds(EPOCH, whole, share) if config.recovery.distillation else 0.0
    return Work(training=seconds + taught, epochs=config.recovery.epochs) + _measured(bench, name)


def _measured(bench: Workbench, name: str, count: float = 1) -> Work:
    return Work(measuring=count * _seconds(EVALUATION, _multiplications(bench, name), _share(bench.dataset(name))))


def _sum(works: Iterable[Work]) -> Work:
    return reduce(add, works, Work())


def _times(work: Work, count: int) -> Work:
    return _sum([work] * count)


def _halved(bench: Workbench, name: str, configs: Sequence[CompressionConfig]) -> Work:
    """`tuning.hardest`: of a list that is halved so many are trained as its length has binary digits."""
    tried = len(configs).bit_length()
    every = _sum(_trained(bench, name, config) for config in configs)
    share = tried / len(configs)
    return replace(
        every, training=every.training * share, epochs=round(every.epochs * share), measuring=every.measuring * share
    )


# What the kinds of jobs consist of.


def _train(bench: Workbench, request: Request) -> Work:
    recipe = TrainingConfig(**request["config"])
    dataset = bench.datasets.named(recipe.data)
    layers = families.named(recipe.model).build(dataset.shape, len(dataset.classes), recipe.widths).layers
    multiplications = sum(layer.multiplications for layer in layers)
    share = _share(dataset)
    measured = Work(measuring=2 * _seconds(EVALUATION, multiplications, share))
    return Work(training=recipe.epochs * _seconds(EPOCH, multiplications, share), epochs=recipe.epochs) + measured


def _recover(bench: Workbench, request: Request) -> Work:
    return _trained(bench, request["baseline"], CompressionConfig.from_record(request["config"]))


def _export(bench: Workbench, request: Request) -> Work:
    return Work(exporting=_seconds(EXPORT, _multiplications(bench, request["baseline"])))


def _low_rank(bench: Workbench, request: Request) -> Work:
    """Every scenario with every seed on the test images, the times per image, and each layer of all baselines alone."""
    name, scenarios = reproduce.REPORT_BASELINE, reproduce.scenarios()
    recovery = RecoveryConfig(epochs=request["epochs"])
    once = _sum(_trained(bench, name, replace(each.config, recovery=recovery)) for each in scenarios)
    alone = _sum(_measured(bench, own, len(bench.baseline(own).layers)) for own in reproduce.LOOKED_AT)
    return _times(once, request["seeds"]) + _measured(bench, name, (1 + TIMED) * len(scenarios)) + alone


def _channels(bench: Workbench, request: Request) -> Work:
    half = CompressionConfig(channel_share=0.5, recovery=RecoveryConfig(request["epochs"]))
    trained = len(settings.named("channel_score").choices) * len(settings.named("scope").choices)
    compared = _measured(bench, request["baseline"], (1 + TIMED) * (2 + trained))
    return _times(_trained(bench, request["baseline"], half), trained) + compared


def _ladder(bench: Workbench, request: Request) -> Work:
    return _measured(bench, request["baseline"], 2 * len(assignment.RUNGS) * len(tuning.WIDTHS))


def _quantization(bench: Workbench, request: Request) -> Work:
    """The ladder; each number of bits trained, and judged three times on two splits; the teacher is asked once."""
    name, bits = request["baseline"], assignment.ASSIGNED
    plans = [assignment.quantized_training(each, request["epochs"]) for each in bits]
    runs = [CompressionConfig(bits=8, recovery=replace(plan, distillation=False)) for plan in plans]
    taught = Work(training=_seconds(EPOCH, _multiplications(bench, name), _share(bench.dataset(name))))
    trained = _sum(_trained(bench, name, run) for run in runs)
    return _ladder(bench, request) + taught + trained + _measured(bench, name, 6 * len(bits))


def _by_layer(bench: Workbench, request: Request, values: Sequence[float]) -> Work:
    return _measured(bench, request["baseline"], len(bench.baseline(request["baseline"]).layers) * len(values))


def _greedy(bench: Workbench, name: str, steps: Iterable[int]) -> Work:
    """Each layer tried at each step. steps : how many each layer can go"""
    layers = len(bench.baseline(name).layers)
    return _measured(bench, name, 1 + layers * sum(steps))


def _mixed(bench: Workbench, request: Request) -> Work:
    return _greedy(bench, request["baseline"], [6 for _ in bench.baseline(request["baseline"]).layers])


def _allocation(bench: Workbench, request: Request) -> Work:
    """From break-even to rank 1, by a factor `tuning.SHRINK` each; most end long before that."""
    ranks = [max(tuning.low_rank.break_even_rank(*own.matrix_shape), 1) for own in _layers(bench, request)]
    steps = [1 + ceil(log(rank) / -log(tuning.SHRINK)) for rank in ranks]
    return _greedy(bench, request["baseline"], steps)


def _layers(bench: Workbench, request: Request) -> tuple[Layer, ...]:
    return bench.baseline(request["baseline"]).layers


def _one_shot(bench: Workbench, request: Request) -> Work:
    """Bisection, and about twice as many looks beyond where it ends as end the search; with a confidence twice."""
    ways = len(list(product(settings.named("score").choices, settings.named("scope").choices)))
    places = tuning.GRID.bit_length() + 2 * tuning.LOOK_ON
    return _measured(bench, request["baseline"], ways * places * (1 if request.get("confidence") is None else 2))


def _iterative(bench: Workbench, request: Request) -> Work:
    recovery = RecoveryConfig(**request["recovery"])
    configs = [CompressionConfig(sparsity=target, recovery=recovery) for target in tuning.TARGETS]
    return _halved(bench, request["baseline"], configs)


def _combination(bench: Workbench, request: Request) -> Work:
    ways = assignment.ways(request["epochs"]).values()
    return _sum(_halved(bench, request["baseline"], configs) for configs in ways)


def _rated(bench: Workbench, request: Request, trainings: int) -> Work:
    """Trainings of the rate laboratory. The teacher is asked once, for all of them together."""
    name = request["baseline"]
    config = rates.configuration(bench, name, request["bits"], request["activation_bits"], request["epochs"])
    taught = Work(training=_seconds(EPOCH, _multiplications(bench, name), _share(bench.dataset(name))))
    return taught + _times(_trained(bench, name, rates.trained(config, distillation=False)), trainings)


def _ablation(bench: Workbench, request: Request) -> Work:
    """Measured on the test images, which are twice as many; sizes are asked for as three sparsities are bisected."""
    trainings = request["seeds"] * (len(rates.STRONG) + rates.SPARSITIES)
    return _rated(bench, request, trainings) + _measured(bench, request["baseline"], trainings + 3 * 7)


def _orders(bench: Workbench, request: Request) -> Work:
    orders = sum(len(list(permutations(range(3), count))) for count in (2, 3))
    return _measured(bench, request["baseline"], DECOMPOSED * (orders + 1))


WORKS: dict[str, Callable[[Workbench, Request], Work]] = {
    submissions.TRAIN: _train,
    submissions.RECOVER: _recover,
    submissions.EXPORT: _export,
    SEARCH: lambda bench, request: Work(fixed=60.0 * request["minutes"]),
    STUDENTS: lambda bench, request: Work(fixed=60.0 * request["minutes"]),
    reproduce.LOW_RANK: _low_rank,
    assignment.CHANNELS: _channels,
    assignment.LADDER: _ladder,
    assignment.QUANTIZATION: _quantization,
    sharing.SHARING: lambda bench, request: _measured(bench, request["baseline"], 2 * len(tuning.WIDTHS)),
    rates.CURVE: lambda bench, request: _rated(bench, request, len(rates.LAMBDAS)),
    rates.ABLATION: _ablation,
    assignment.WIDTHS: lambda bench, request: _by_layer(bench, request, tuning.WIDTHS),
    assignment.MIXED: _mixed,
    assignment.COMBINATION: _combination,
    assignment.ORDERS: _orders,
    tuning.ALLOCATION: _allocation,
    tuning.ONE_SHOT: _one_shot,
    tuning.ITERATIVE: _iterative,
    tuning.SCAN: lambda bench, request: _by_layer(bench, request, tuning.SHARES),
}
"""Kind of a job -> what it consists of, by its request."""
