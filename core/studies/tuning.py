"""Settings chosen for a whole network, by measurement on the validation images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

from core import settings
from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import Result, Workbench
from core.config import DENSE, CompressionConfig, LayerConfig, RecoveryConfig
from core.machinery.stopping import Stopped
from core.mathematics import low_rank, promise
from core.mathematics.low_rank import Method
from core.measuring.training import Progress
from core.networks.graph import Layer
from core.studies import optimism
from core.studies.answers import (
    Allocation,
    Hardest,
    IterativeSearch,
    LayerAlone,
    Measured,
    OneShot,
    OneShotSearch,
    Run,
    Sensitivity,
    Step,
)
from core.words import percent

Stop = Callable[[], bool]

ALLOCATION, ONE_SHOT, ITERATIVE, SCAN = "rank allocation", "one-shot search", "iterative search", "sensitivity scan"
"""The kinds of jobs that do it."""

VERSION = 1
"""Raise it when what these experiments do changes in a way that no constant shows."""

SHRINK = 0.75
"""Each step of the rank allocation takes a layer to this share of its rank."""

FAR_ENOUGH = 0.2
"""The rank allocation ends where so much accuracy is lost."""

ALIKE = 0.005
"""Files whose sizes differ by a smaller share are equally small."""

GRID = 200
"""One-shot sparsities are multiples of 1 / GRID."""

LOOK_ON = 6
"""So many places in a row must lose too much before the search for the largest sparsity ends."""

TARGETS = (0.90, 0.94, 0.95, 0.96, 0.97, 0.975, 0.98)
"""Sparsities that the iterative search may train for."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities of the sensitivity scan."""

WIDTHS = (8, 7, 6, 5, 4, 3, 2)
"""All numbers of bits."""


def allocate_ranks(
    bench: Workbench,
    name: str,
    method: Method = "whitened",
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[Step]:
    """Ranks for all layers, by `greedy` steps (a greedy form of Idelbayev & Carreira-Perpinan 2020): a layer's first
    step is from dense to its break-even rank, each further one to `SHRINK` of its rank. Layers that are too large for
    the method stay dense."""
    without = bench.left_out(name, method)

    def smaller(config: CompressionConfig, layer: Layer) -> CompressionConfig | None:
        now = config.layer(layer.name).rank
        rank = int(now * SHRINK) if now else low_rank.break_even_rank(*layer.matrix_shape)
        return config.with_layer(layer.name, rank=rank) if rank >= 1 and layer.name not in without else None

    dense = {layer.name: LayerConfig(rank=DENSE) for layer in bench.baseline(name).layers}
    start = CompressionConfig(layers=tuple(dense.items()), low_rank_method=method)
    return greedy(bench, name, start, smaller, progress, should_stop)


def allocate_bits(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[Step]:
    """Bits for all layers, by `greedy` steps: from 8 in each, at every step one of them loses one.

    config : how the numbers are rounded, and what is done besides
    """

    def smaller(config: CompressionConfig, layer: Layer) -> CompressionConfig | None:
        bits = config.bits_of(layer.name) - 1
        return config.with_layer(layer.name, bits=bits) if bits >= 2 else None

    start, layers = config, bench.baseline(name).layers
    for layer in layers:
        start = start.with_layer(layer.name, bits=8)
    return greedy(bench, name, start, smaller, progress, should_stop, most=6 * len(layers))


def greedy(
    bench: Workbench,
    name: str,
    start: CompressionConfig,
    smaller: Callable[[CompressionConfig, Layer], CompressionConfig | None],
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    most: int | None = None,
) -> list[Step]:
    """At each step the one layer gets smaller whose validation loss rises least per byte that it saves.

    The steps are nested, so that any budget, of bytes or of accuracy, is answered by one of them: see `within`.

    smaller : the configuration in which one layer is a step smaller; None where it cannot be; most : how many steps
    Returns the steps, `start` first.
    """
    layers = bench.baseline(name).layers
    here = bench.evaluate(name, start)
    steps, furthest = [Step.of(here, layer="")], 0.0
    while here.comparison.difference > -FAR_ENOUGH:
        candidates = []
        for layer in layers:
            if should_stop():
                raise Stopped
            config = smaller(here.config, layer)
            if config is not None:
                there = bench.evaluate(name, config)
                saved = max(here.bytes - there.bytes, 1)
                candidates.append(((there.evaluation.loss - here.evaluation.loss) / saved, layer.name, there))
        if not candidates:
            break
        _, chosen, here = min(candidates, key=lambda candidate: candidate[:2])
        steps.append(Step.of(here, layer=chosen))
        said = f"Step {len(steps) - 1}: {chosen} smaller, {percent(here.evaluation.accuracy, 2)}"
        walked = -here.comparison.difference / FAR_ENOUGH, (len(steps) - 1) / most if most else 0.0
        furthest = max(furthest, min(0.99, max(walked)))
        progress({"message": said, "done": furthest})
    return steps


def within(steps: Sequence[Step], lost: float | None = None, size: int | None = None) -> Step | None:
    """The step that a budget allows: the smallest that loses at most `lost`, a fraction, of the validation images; or
    the most accurate of at most `size` bytes. Sizes that differ by less than `ALIKE` are equal. None where no step
    does."""
    fits = [
        step
        for step in steps
        if (lost is None or within_allowance(step, lost)) and (size is None or step.bytes <= size)
    ]
    if lost is not None:
        smallest = min((step.bytes for step in fits), default=0)
        fits = [step for step in fits if step.bytes <= smallest * (1 + ALIKE)]
    return max(fits, key=lambda step: step.accuracy, default=None)


def largest_one_shot(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    allowance: float = 0.01,
    should_stop: Stop = lambda: False,
    confidence: float | None = None,
    selection: float = 0.0,
) -> OneShot:
    """The largest sparsity on the grid of 1 / `GRID` that loses at most `allowance` of the validation images, one shot.

    Bisection finds a place where the loss passes the allowance; since a loss on so many images goes up and down by
    chance, the places above it are then tried until `LOOK_ON` in a row lose more.

    config : everything but the sparsity
    confidence : the allowance is to hold on new images, too, as `promise.most_lost` says; None: only on these
    selection : with a confidence, the optimism of the best of all that is compared with this
    """
    results: dict[int, Result] = {}

    def lost(place: int) -> float:
        if should_stop():
            raise Stopped
        if place not in results:
            results[place] = bench.evaluate(name, replace(config, sparsity=place / GRID))
        change = results[place].comparison
        return promise.most_lost(-change.difference, change.standard_error, confidence, selection)

    low, high = 0, GRID
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allows(lost(middle), allowance) else (low, middle)
    best, place = low, low
    while place < min(GRID, best + LOOK_ON):
        place += 1
        best = place if allows(lost(place), allowance) else best
    most = lost(best)
    places = sorted(results)
    points = tuple(Measured.of(results[place]) for place in places)
    at_most = None if confidence is None else most
    return OneShot(config.score, config.scope, best / GRID, points, places.index(best), at_most)


def one_shot_answers(
    bench: Workbench,
    name: str,
    allowance: float = 0.01,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    confidence: float | None = None,
) -> list[OneShot]:
    """`largest_one_shot` for every score and scope. With a confidence all are looked for once to learn how flattering
    it is to be the best of so many, and once more with that."""
    every = product(settings.named("score").choices, settings.named("scope").choices)
    ways = [
        CompressionConfig(score=score, scope=scope)
        for score, scope in every
        if not bench.refusal(name, CompressionConfig(sparsity=0.5, score=score))
    ]

    def look(selection: float, start: float = 0.0, share: float = 1.0) -> list[OneShot]:
        answers: list[OneShot] = []
        for way in ways:
            said = f"{way.score}, threshold over the {way.scope}"
            progress({"message": said, "done": start + share * len(answers) / len(ways)})
            answers.append(largest_one_shot(bench, name, way, allowance, should_stop, confidence, selection))
        return answers

    if confidence is None:
        return look(0.0)
    answers = look(0.0, share=0.5)
    tried = [bench.evaluate(name, point.configuration) for answer in answers for point in answer.points]
    selection = optimism.of_selection(tried, [1 - result.sparsity for result in tried], allowance, confidence)
    return look(selection, 0.5, 0.5)


def largest_iterative(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    recovery: RecoveryConfig,
    allowance: float = 0.01,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    targets: tuple[float, ...] | None = None,
    confidence: float | None = None,
) -> IterativeSearch:
    """The largest of `targets` (None: `TARGETS`) that loses at most `allowance` of the validation images when it is
    pruned step by step; see `hardest`."""
    recovery = replace(recovery, schedule="iterative")
    configs = [replace(config, sparsity=target, recovery=recovery) for target in targets or TARGETS]
    reached = hardest(bench, name, configs, allowance, progress, should_stop, confidence)
    return IterativeSearch(None if reached.chosen is None else reached.chosen.target, reached.runs, reached.promises)


def hardest(
    bench: Workbench,
    name: str,
    configs: list[CompressionConfig],
    allowance: float,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    confidence: float | None = None,
) -> Hardest:
    """Of configurations from the mildest to the strongest, the last that loses at most `allowance` of the validation
    images, trained where they ask for it: the middle one first, then the middle of those that its answer leaves open.

    confidence : the allowance is to hold on new images, too; what each promises depends on how many were tried
    """
    runs: dict[int, Run] = {}
    promises: list[float] = []
    best, open_places, whole = -1, range(len(configs)), len(configs).bit_length()
    while open_places:
        place = open_places[len(open_places) // 2]
        wanted = configs[place]

        def said(event: dict[str, Any], words: str = in_brief(wanted), before: int = len(runs)) -> None:
            about = {"target": words} if "figures" in event else {"message": words} if "epoch" in event else {}
            done = {"done": min(1.0, (before + event["done"]) / whole)} if "done" in event else {}
            progress(event | about | done)

        if wanted.recovery is not None:
            bench.recover(name, wanted, said, should_stop)
        history = bench.history(name, wanted)
        runs[place] = Run.of(bench.evaluate(name, wanted), history=None if history is None else tuple(history))
        places = sorted(runs)
        tried = [(bench.evaluate(name, configs[place]), float(-place)) for place in places]
        promises = losses(bench, name, tried, allowance, confidence)
        best = max((place for place, lost in zip(places, promises, strict=True) if allows(lost, allowance)), default=-1)
        open_places = range(best + 1, min((place for place in runs if place > best), default=len(configs)))
    every = tuple(runs[place] for place in sorted(runs))
    return Hardest(runs.get(best), every, () if confidence is None else tuple(promises))


def losses(
    bench: Workbench, name: str, tried: Sequence[tuple[Result, float]], allowance: float, confidence: float | None
) -> list[float]:
    """What counts against the allowance, where of these the smallest that fits is chosen: the loss on validation, or
    what is lost at most with the confidence. tried : each with what it is the smallest in"""
    if confidence is None:
        return [-result.comparison.difference for result, _ in tried]
    results, sizes = [result for result, _ in tried], [size for _, size in tried]
    flattered = optimism.of_selection(results, sizes, allowance, confidence)
    return [optimism.most_lost(bench, name, result, confidence, flattered) for result in results]


def in_brief(config: CompressionConfig) -> str:
    """What it asks of the whole network: channels, sparsity, bits."""
    asked = [f"{percent(config.channel_share, 0)} of the channels"] if config.channel_share is not None else []
    asked += [f"sparsity {percent(config.sparsity, 1)}"] if config.sparsity is not None else []
    asked += [f"{config.bits} bits"] if config.bits is not None else []
    return ", ".join(asked)


def sensitivity(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    setting: Literal["sparsity", "bits"] = "sparsity",
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    values: Sequence[float] | None = None,
) -> list[LayerAlone]:
    """What the network loses where only one layer is pruned (`SHARES`) or rounded (`WIDTHS`), nothing trained.

    config : what is not pruned or rounded about it; values : others than these
    """
    layers, rows = bench.baseline(name).layers, list[LayerAlone]()
    values = values or (SHARES if setting == "sparsity" else WIDTHS)
    for layer in layers:
        for value in values:
            if should_stop():
                raise Stopped
            alone = bench.evaluate(name, config.with_layer(layer.name, **{setting: value}))
            row = LayerAlone.of(alone, layer=layer.name)
            rows.append(replace(row, bits=int(value)) if setting == "bits" else replace(row, sparsity=value))
            said = f"{layer.name} alone, {setting} {value:g}"
            progress({"message": said, "done": len(rows) / len(layers) / len(values)})
    return rows


def within_allowance(row: Measured, allowance: float) -> bool:
    """Whether what was measured loses at most `allowance`, a fraction of the images."""
    return allows(-row.difference, allowance)


def allows(lost: float, allowance: float) -> bool:
    """Whether a loss is at most the allowance; images are counted, and not floats."""
    return lost <= allowance + 1e-12


def best_one_shot(answers: Sequence[OneShot]) -> OneShot:
    """The sparsest of `one_shot_answers`."""
    return max(answers, key=lambda answer: answer.sparsity)


def _allocation(bench: Workbench, request: Request, report: Progress, should_stop: Stop) -> Allocation:
    return Allocation(tuple(allocate_ranks(bench, request["baseline"], request["method"], report, should_stop)))


def _one_shot(bench: Workbench, request: Request, report: Progress, should_stop: Stop) -> OneShotSearch:
    return OneShotSearch(
        tuple(
            one_shot_answers(
                bench, request["baseline"], request["allowance"], report, should_stop, request.get("confidence")
            )
        )
    )


def _iterative(bench: Workbench, request: Request, report: Progress, should_stop: Stop) -> IterativeSearch:
    config, recovery = CompressionConfig(score=request["score"]), RecoveryConfig(**request["recovery"])
    return largest_iterative(
        bench, request["baseline"], config, recovery, request["allowance"], report, should_stop,
        confidence=request.get("confidence"),
    )  # fmt: skip


def _scan(bench: Workbench, request: Request, report: Progress, should_stop: Stop) -> Sensitivity:
    config = CompressionConfig(score=request["score"])
    return Sensitivity(tuple(sensitivity(bench, request["baseline"], config, "sparsity", report, should_stop)))


KINDS = {
    ALLOCATION: Kind("Rank allocation", Allocation, _allocation),
    ONE_SHOT: Kind("One-shot pruning", OneShotSearch, _one_shot),
    ITERATIVE: Kind("Iterative pruning", IterativeSearch, _iterative),
    SCAN: Kind("Layer sensitivity to pruning", Sensitivity, _scan),
}
