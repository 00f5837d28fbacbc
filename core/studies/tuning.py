"""Settings chosen for a whole network, by measurement on the validation images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

from core import settings
from core.bench.work import Kind
from core.bench.workbench import Result, Workbench
from core.config import DENSE, CompressionConfig, LayerConfig, RecoveryConfig
from core.machinery.stopping import Stopped
from core.mathematics import low_rank
from core.mathematics.low_rank import Method
from core.measuring.training import Progress
from core.networks.models import Layer
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
) -> list[dict[str, Any]]:
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
) -> list[dict[str, Any]]:
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
) -> list[dict[str, Any]]:
    """At each step the one layer gets smaller whose validation loss rises least per byte that it saves.

    The steps are nested, so that any budget, of bytes or of accuracy, is answered by one of them: see `within`.

    smaller : the configuration in which one layer is a step smaller; None where it cannot be; most : how many steps
    Returns the steps, `start` first: `layer` that got smaller, and the figures of `point`.
    """
    layers = bench.baseline(name).layers
    here = bench.evaluate(name, start)
    steps, furthest = [point(here) | {"layer": ""}], 0.0
    while here.comparison.difference > -FAR_ENOUGH:
        found = []
        for layer in layers:
            if should_stop():
                raise Stopped
            config = smaller(here.config, layer)
            if config is not None:
                there = bench.evaluate(name, config)
                saved = max(here.bytes - there.bytes, 1)
                found.append(((there.evaluation.loss - here.evaluation.loss) / saved, layer.name, there))
        if not found:
            break
        _, chosen, here = min(found, key=lambda candidate: candidate[:2])
        steps.append(point(here) | {"layer": chosen})
        said = f"Step {len(steps) - 1}: {chosen} smaller, {percent(here.evaluation.accuracy, 2)}"
        walked = -here.comparison.difference / FAR_ENOUGH, (len(steps) - 1) / most if most else 0.0
        furthest = max(furthest, min(0.99, max(walked)))
        progress({"message": said, "done": furthest})
    return steps


def within(steps: list[dict[str, Any]], lost: float | None = None, size: int | None = None) -> dict[str, Any] | None:
    """The step that a budget allows: the smallest that loses at most `lost`, a fraction, of the validation images; or
    the most accurate of at most `size` bytes. Sizes that differ by less than `ALIKE` are equal. None where no step
    does."""
    fits = [
        step
        for step in steps
        if (lost is None or within_allowance(step, lost)) and (size is None or step["bytes"] <= size)
    ]
    if lost is not None:
        smallest = min((step["bytes"] for step in fits), default=0)
        fits = [step for step in fits if step["bytes"] <= smallest * (1 + ALIKE)]
    return max(fits, key=lambda step: step["accuracy"], default=None)


def largest_one_shot(
    bench: Workbench, name: str, config: CompressionConfig, allowance: float = 0.01, should_stop: Stop = lambda: False
) -> dict[str, Any]:
    """The largest sparsity on the grid of 1 / `GRID` that loses at most `allowance` of the validation images, one shot.

    Bisection finds a place where the loss passes the allowance; since a loss on so many images goes up and down by
    chance, the places above it are then tried until `LOOK_ON` in a row lose more.

    config : everything but the sparsity. Returns `sparsity`, `points` (all that were measured, by sparsity, each with
    `config`, `accuracy`, `difference`, `bytes`), and `chosen`, the place of the answer among them.
    """
    found: dict[int, dict[str, Any]] = {}

    def fits(place: int) -> bool:
        if should_stop():
            raise Stopped
        if place not in found:
            found[place] = point(bench.evaluate(name, replace(config, sparsity=place / GRID)))
        return within_allowance(found[place], allowance)

    low, high = 0, GRID
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    best, place = low, low
    while place < min(GRID, best + LOOK_ON):
        place += 1
        best = place if fits(place) else best
    fits(best)
    places = sorted(found)
    return {"sparsity": best / GRID, "points": [found[each] for each in places], "chosen": places.index(best)}


def one_shot_answers(
    bench: Workbench,
    name: str,
    allowance: float = 0.01,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[dict[str, Any]]:
    """`largest_one_shot` for every score and scope, each with its `score`, `scope` and `config`."""
    answers: list[dict[str, Any]] = []
    every = product(settings.named("score").choices, settings.named("scope").choices)
    ways = [way for way in every if not bench.refusal(name, CompressionConfig(sparsity=0.5, score=way[0]))]
    for score, scope in ways:
        progress({"message": f"{score}, threshold over the {scope}", "done": len(answers) / len(ways)})
        found = largest_one_shot(bench, name, CompressionConfig(score=score, scope=scope), allowance, should_stop)
        answers.append({"score": score, "scope": scope, **found})
    return answers


def largest_iterative(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    recovery: RecoveryConfig,
    allowance: float = 0.01,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    targets: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """The largest of `targets` (None: `TARGETS`) that loses at most `allowance` of the validation images when it is
    pruned step by step; see `hardest`. Returns `sparsity` (None where none fits) and `runs`."""
    recovery = replace(recovery, schedule="iterative")
    configs = [replace(config, sparsity=target, recovery=recovery) for target in targets or TARGETS]
    found = hardest(bench, name, configs, allowance, progress, should_stop)
    return {"sparsity": None if found["chosen"] is None else found["chosen"]["target"], "runs": found["runs"]}


def hardest(
    bench: Workbench,
    name: str,
    configs: list[CompressionConfig],
    allowance: float,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> dict[str, Any]:
    """Of configurations from the mildest to the strongest, the last that loses at most `allowance` of the validation
    images, trained where they ask for it: the middle one first, then the middle of those that its answer leaves open.

    Returns `chosen` (None where none fits) and `runs`, both as the figures of `point` and the `history` of training.
    """
    runs: dict[int, dict[str, Any]] = {}
    open_places, chosen, whole = range(len(configs)), None, len(configs).bit_length()
    while open_places:
        place = open_places[len(open_places) // 2]
        wanted = configs[place]

        def said(event: dict[str, Any], words: str = in_brief(wanted), before: int = len(runs)) -> None:
            about = {"target": words} if "figures" in event else {"message": words} if "epoch" in event else {}
            progress(event | about | ({"done": (before + event["done"]) / whole} if "done" in event else {}))

        if wanted.recovery is not None:
            bench.recover(name, wanted, said, should_stop)
        runs[place] = point(bench.evaluate(name, wanted)) | {"history": bench.history(name, wanted)}
        if within_allowance(runs[place], allowance):
            chosen, open_places = runs[place], range(place + 1, open_places.stop)
        else:
            open_places = range(open_places.start, place)
    return {"chosen": chosen, "runs": [runs[place] for place in sorted(runs)]}


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
) -> list[dict[str, Any]]:
    """What the network loses where only one layer is pruned (`SHARES`) or rounded (`WIDTHS`), nothing trained.

    config : what is not pruned or rounded about it; values : others than these
    Returns rows `layer`, the setting, and the figures of `point`.
    """
    layers, rows = bench.baseline(name).layers, []
    values = values or (SHARES if setting == "sparsity" else WIDTHS)
    for layer in layers:
        for value in values:
            if should_stop():
                raise Stopped
            alone = bench.evaluate(name, config.with_layer(layer.name, **{setting: value}))
            rows.append(point(alone) | {"layer": layer.name, setting: value})
            said = f"{layer.name} alone, {setting} {value:g}"
            progress({"message": said, "done": len(rows) / len(layers) / len(values)})
    return rows


def within_allowance(figures: dict[str, Any], allowance: float) -> bool:
    """Whether what was measured, with its `difference`, loses at most `allowance`, a fraction of the images."""
    return bool(figures["difference"] >= -allowance - 1e-12)


def best_one_shot(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the sparsest of `one_shot_answers`, with its `score` and `scope`."""
    best = max(answers, key=lambda answer: float(answer["sparsity"]))
    return {**chosen_point(best), "score": best["score"], "scope": best["scope"], "target": best["sparsity"]}


def chosen_point(answer: dict[str, Any]) -> dict[str, Any]:
    """The figures of what `largest_one_shot` found."""
    found: dict[str, Any] = answer["points"][answer["chosen"]]
    return found


def chosen_run(found: dict[str, Any]) -> dict[str, Any] | None:
    """The run that `largest_iterative` found; None where no target fits."""
    return next((run for run in found["runs"] if run["target"] == found["sparsity"]), None)


def point(result: Result) -> dict[str, Any]:
    """A configuration's figures, as JSON can hold them. target : the sparsity that was asked for"""
    about = {"config": result.config.to_json(), "target": result.config.sparsity, "sparsity": result.sparsity}
    measured = {"accuracy": result.evaluation.accuracy, "loss": result.evaluation.loss}
    return about | measured | {"difference": result.comparison.difference, "bytes": result.bytes}


def _allocation(bench: Workbench, request: dict[str, Any], report: Progress, should_stop: Stop) -> dict[str, Any]:
    return {"steps": allocate_ranks(bench, request["baseline"], request["method"], report, should_stop)}


def _one_shot(bench: Workbench, request: dict[str, Any], report: Progress, should_stop: Stop) -> dict[str, Any]:
    return {"answers": one_shot_answers(bench, request["baseline"], request["allowance"], report, should_stop)}


def _iterative(bench: Workbench, request: dict[str, Any], report: Progress, should_stop: Stop) -> dict[str, Any]:
    config, recovery = CompressionConfig(score=request["score"]), RecoveryConfig(**request["recovery"])
    return largest_iterative(bench, request["baseline"], config, recovery, request["allowance"], report, should_stop)


def _scan(bench: Workbench, request: dict[str, Any], report: Progress, should_stop: Stop) -> dict[str, Any]:
    config = CompressionConfig(score=request["score"])
    return {"rows": sensitivity(bench, request["baseline"], config, "sparsity", report, should_stop)}


KINDS = {
    ALLOCATION: Kind("Rank allocation", _allocation),
    ONE_SHOT: Kind("One-shot pruning", _one_shot),
    ITERATIVE: Kind("Iterative pruning", _iterative),
    SCAN: Kind("Layer sensitivity to pruning", _scan),
}
