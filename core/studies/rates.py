"""What compression costs: a rate in the loss of a training, from weak to strong, and beside pruning at equal bytes.

loss = task + lambda R, with R the bits per weight that an entropy coder spends (Shannon 1948; Oktay et al. 2020): each
lambda gives a network, and all of them a curve of accuracy against bytes. Pruning gives another: at the same bits, with
the same epochs, teacher and seeds it is the ablation, a network trained for small files without a rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from math import sqrt
from typing import Any

from core.bench import reliance
from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import SplitName, Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.machinery.stopping import Stopped
from core.mathematics import equal_size
from core.measuring.training import Progress
from core.studies.answers import AtEqualSize, RateAblation, RateCurve, Rated
from core.studies.assignment import say_part
from core.words import kilobytes, percent

Stop = Callable[[], bool]
Run = Callable[[CompressionConfig], Rated]
"""Trains a configuration and measures what it has become."""

CURVE, ABLATION = "rate against accuracy", "rate against pruning"
"""The kinds of jobs that train them."""

LAMBDAS = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Of the curve."""

STRONG = (0.03, 0.1, 0.3)
"""Of the ablation: there a rate makes files as small as pruned ones."""

SPARSITIES = 3
"""So many pruned networks for each seed."""

WIDER = 1.15
"""The smallest pruned file is to be so much smaller than the smallest with a rate, and the largest as much larger."""

APART, MOST = 0.05, 0.99
"""Sparsities of the ablation differ by at least so much, and are at most so large."""

VERSION = 1
"""Higher with every change of what is run, so that older answers are not found any more."""

PEAK = 0.03
"""Peak learning rate of all these trainings."""

BITS = (2, 3, 4)


def fixed() -> dict[str, Any]:
    """What these experiments rely on besides what is asked for."""
    recovery = RecoveryConfig(rate_weight=LAMBDAS[-1], normalization=True)
    places = [LAMBDAS, STRONG, SPARSITIES, WIDER, APART, MOST, PEAK]
    return {"version": VERSION, "places": places, **reliance.recoveries(recovery)}


def configuration(
    bench: Workbench, name: str, bits: int = 4, activation_bits: int | None = None, epochs: int = 4
) -> CompressionConfig:
    """What all have in common: bits, the teacher, and batch normalization where the network has convolutions."""
    recovery = RecoveryConfig(epochs, PEAK, distillation=True)
    config = CompressionConfig(bits=bits, activation_bits=activation_bits, clip="mse", recovery=recovery)
    normalized = replace(config, recovery=replace(recovery, normalization=True))
    convolutions = any(layer.kind == "conv" for layer in bench.baseline(name).layers)
    return normalized if convolutions and not bench.refusal(name, normalized) else config


def trained(config: CompressionConfig, sparsity: float | None = None, **training: Any) -> CompressionConfig:
    """With another share of zeros, chosen by LAMP, and other settings of the training."""
    assert config.recovery is not None
    score = "magnitude" if sparsity is None else "lamp"
    return replace(config, sparsity=sparsity, score=score, recovery=replace(config.recovery, **training))


def in_brief(config: CompressionConfig) -> str:
    """What sets a training apart from the others: "λ = 0.1", "sparsity 80 %"."""
    assert config.recovery is not None
    return f"λ = {config.recovery.rate_weight:g}" if config.sparsity is None else f"sparsity {percent(config.sparsity)}"


def curve(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    lambdas: Sequence[float] = LAMBDAS,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> RateCurve:
    """A network for each lambda, on the validation images. config : as `configuration` has it"""
    run = _runs(bench, name, "validation", len(lambdas), progress, should_stop)
    rows = tuple(run(trained(config, rate_weight=weight)) for weight in lambdas)
    return RateCurve(bench.evaluate(name, CompressionConfig()).evaluation.accuracy, rows)


def ablation(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    schedule: str = "iterative",
    seeds: int = 3,
    lambdas: Sequence[float] = STRONG,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> RateAblation:
    """With a rate and without one, pruned instead, at equal bytes. Which epoch is kept is chosen on validation, by
    another measure where there is a rate: the test images, by which nothing was chosen, say which way is better.

    config : as `configuration` has it; schedule : of the pruning; seeds : 0, 1, ..., at least two
    """
    if seeds < 2:
        raise ConfigError(f"seeds must be a whole number of at least 2. Got {seeds!r} instead.")
    run = _runs(bench, name, "test", seeds * (len(lambdas) + SPARSITIES), progress, should_stop)
    rated = [run(trained(config, rate_weight=weight, seed=seed)) for seed in range(seeds) for weight in lambdas]

    def size_of(sparsity: float) -> int:
        return bench.bytes_of(name, replace(trained(config, sparsity), recovery=None))

    def pruned_to(sparsity: float, seed: int = 0) -> Rated:
        return run(trained(config, sparsity, schedule=schedule, seed=seed))

    pruned = _around([row.bytes for row in rated], size_of, pruned_to)
    shares = [row.target or 0.0 for row in pruned]
    pruned += [pruned_to(share, seed) for seed in range(1, seeds) for share in shares]
    whole = bench.evaluate(name, CompressionConfig(), "test").evaluation.accuracy
    return RateAblation(whole, tuple(rated), tuple(pruned), compared(rated, pruned))


def _runs(bench: Workbench, name: str, split: SplitName, number: int, progress: Progress, should_stop: Stop) -> Run:
    """One after the other, of so many in all."""
    places = count()
    weights = bench.baseline(name).network.weights

    def run(config: CompressionConfig) -> Rated:
        if should_stop():
            raise Stopped
        assert config.recovery is not None
        words = f"{in_brief(config)}, seed {config.recovery.seed}"
        said = partial(say_part, progress, words, next(places) / number, 1 / number)
        bench.recover(name, config, said, should_stop)
        result = bench.evaluate(name, config, split)
        kinds = result.footprint.by_kind()
        return Rated.of(
            result,
            rate_weight=config.recovery.rate_weight,
            seed=config.recovery.seed,
            interval=result.comparison.interval,
            bits_per_weight=8 * (kinds.get("integer codes", 0) + kinds.get("map of zeros", 0)) / weights,
        )

    return run


def _around(sizes: Sequence[int], size_of: Callable[[float], int], pruned_to: Callable[[float], Rated]) -> list[Rated]:
    """Pruned networks whose files lie around these sizes, the sparsest last. The one in the middle is trained first: it
    shows how the training changes the size that pruning alone would give.

    size_of : bytes at a sparsity, before training
    """
    low, high = min(sizes), max(sizes)
    middle = min(max(sparsity_for(sqrt(low * high), size_of), APART), MOST - APART)
    inside = pruned_to(middle)
    change = inside.bytes / size_of(middle)
    few, many = (sparsity_for(size / change, size_of) for size in (high * WIDER, low / WIDER))
    few, many = max(0.0, min(few, middle - APART)), min(MOST, max(many, middle + APART))
    return [pruned_to(round(few, 2)), inside, pruned_to(round(many, 2))]


def sparsity_for(size: float, size_of: Callable[[float], int]) -> float:
    """The smallest sparsity, in whole hundredths, at which a file has at most so many bytes; `MOST` where none has.

    size_of : bytes at a sparsity, which fall as it grows
    """
    low, high = 0, round(100 * MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if size_of(middle / 100) <= size else (middle + 1, high)
    return low / 100


def compared(rated: Sequence[Rated], pruned: Sequence[Rated]) -> AtEqualSize | None:
    """Both ways at one size, the geometric mean of the ends of the range that every curve reaches: the accuracy of each
    seed there, interpolated between its own trainings. None where there is no such size."""
    seeds = sorted({row.seed for row in rated})
    ours, theirs = (
        [[(float(row.bytes), row.accuracy) for row in rows if row.seed == seed] for seed in seeds]
        for rows in (rated, pruned)
    )
    reached = equal_size.common_range([*ours, *theirs])
    if reached is None:
        return None
    low, high = reached
    size = min(max(sqrt(low * high), low), high)
    differences = tuple(
        equal_size.accuracy_at(size, one) - equal_size.accuracy_at(size, other)
        for one, other in zip(ours, theirs, strict=True)
    )
    mean, *interval = equal_size.mean_interval(differences)
    return AtEqualSize(size, low, high, differences, mean, (interval[0], interval[1]))


def verdict(found: RateAblation) -> str:
    """The answer in a sentence."""
    at = found.compared
    if at is None:
        return _no_size(found)
    low, high = at.interval
    seeds = f"{len(at.differences)} seeds"
    sure = f"95 % interval {100 * low:+.2f} to {100 * high:+.2f} pp"
    if low <= 0 <= high:
        return (
            f"At {kilobytes(at.bytes)} there is no difference between a rate and pruning that {seeds} can tell: "
            f"{100 * at.mean:+.2f} pp with a rate ({sure})."
        )
    return (
        f"At {kilobytes(at.bytes)} a network trained with a rate is {100 * abs(at.mean):.2f} pp "
        f"{'more' if at.mean > 0 else 'less'} accurate than a pruned one ({seeds}, {sure})."
    )


def _no_size(found: RateAblation) -> str:
    """That nothing can be compared, and what to change."""
    rated, pruned = (sorted(row.bytes for row in rows) for rows in (found.rated, found.pruned))
    ours, theirs = (f"{kilobytes(sizes[0])} to {kilobytes(sizes[-1])}" for sizes in (rated, pruned))
    change = "Take values of λ that lie further apart."
    if rated[-1] < pruned[0]:
        change = "Take smaller values of λ."
    elif rated[0] > pruned[-1]:
        change = "Take larger values of λ, or more epochs."
    return f"No size is reached by all: with a rate the files have {ours}, pruned {theirs}. {change}"


def _asked(bench: Workbench, asked: Request) -> tuple[Workbench, str, CompressionConfig]:
    name = asked["baseline"]
    return bench, name, configuration(bench, name, asked["bits"], asked["activation_bits"], asked["epochs"])


def _curve(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> RateCurve:
    return curve(*_asked(bench, asked), progress=report, should_stop=should_stop)


def _ablation(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> RateAblation:
    ways = asked["schedule"], asked["seeds"]
    return ablation(*_asked(bench, asked), *ways, progress=report, should_stop=should_stop)


KINDS = {
    CURVE: Kind("Rate against accuracy", RateCurve, _curve),
    ABLATION: Kind("Rate against pruning at equal bytes", RateAblation, _ablation),
}
