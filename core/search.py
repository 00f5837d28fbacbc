"""Settings chosen for a whole network, by measurement on the validation images."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from core import low_rank, pruning
from core.config import DENSE, CompressionConfig, LayerConfig, LowRankMethod, RecoveryConfig, Scope, Score
from core.jobs import Cancelled
from core.training import Progress
from core.workbench import Result, Workbench

Stop = Callable[[], bool]

ALLOCATION, ONE_SHOT, ITERATIVE, SCAN = "rank allocation", "one-shot search", "iterative search", "sensitivity scan"
"""The kinds of jobs that do it."""

SHRINK = 0.75
"""Each step of the rank allocation takes a layer to this share of its rank."""

FAR_ENOUGH = 0.2
"""The rank allocation ends where so much accuracy is lost."""

GRID = 200
"""One-shot sparsities are multiples of 1 / GRID."""

LOOK_ON = 6
"""So many places in a row must lose too much before the search for the largest sparsity ends."""

TARGETS = (0.90, 0.94, 0.95, 0.96, 0.97, 0.975, 0.98)
"""Sparsities that the iterative search may train for."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities of the sensitivity scan."""


def allocate_ranks(
    bench: Workbench,
    name: str,
    method: LowRankMethod = "whitened",
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[dict[str, Any]]:
    """Ranks for all layers, greedily: at each step the one layer gets smaller whose validation loss rises least per
    byte that it saves (a greedy form of Idelbayev & Carreira-Perpinan 2020).

    A layer's first step is from dense to its break-even rank, each further one to `SHRINK` of its rank. The steps are
    nested, so that any budget, of bytes or of accuracy, is answered by one of them: see `within`.

    Returns the steps, the dense network first: `layer`, `rank`, `config` (JSON), `accuracy`, `difference`, `loss`,
    `bytes`.
    """
    layers = {layer.name: layer for layer in bench.baseline(name).layers}
    ranks = dict.fromkeys(layers, DENSE)
    here = bench.evaluate(name, _config(ranks, method))
    steps, furthest = [_step("", DENSE, here)], 0.0
    while here.comparison.difference > -FAR_ENOUGH:
        found = []
        for layer, rank in ranks.items():
            if should_stop():
                raise Cancelled
            smaller = int(rank * SHRINK) if rank else low_rank.break_even_rank(*layers[layer].matrix_shape)
            if smaller >= 1:
                there = bench.evaluate(name, _config({**ranks, layer: smaller}, method))
                saved = max(here.bytes - there.bytes, 1)
                found.append(((there.evaluation.loss - here.evaluation.loss) / saved, layer, smaller, there))
        if not found:
            break
        _, layer, ranks[layer], here = min(found, key=lambda candidate: candidate[:3])
        steps.append(_step(layer, ranks[layer], here))
        said = f"Step {len(steps) - 1}: {layer} to rank {ranks[layer]}, {here.evaluation.accuracy:.2%}"
        furthest = max(furthest, min(0.99, -here.comparison.difference / FAR_ENOUGH))
        progress({"message": said, "done": furthest})
    return steps


def _config(ranks: dict[str, int], method: LowRankMethod) -> CompressionConfig:
    pairs = tuple((name, LayerConfig(rank=rank)) for name, rank in ranks.items())
    return CompressionConfig(layers=pairs, low_rank_method=method)


def _step(layer: str, rank: int, result: Result) -> dict[str, Any]:
    about = {"layer": layer, "rank": rank, "config": result.config.to_json(), "bytes": result.bytes}
    figures = {"accuracy": result.evaluation.accuracy, "loss": result.evaluation.loss}
    return {**about, **figures, "difference": result.comparison.difference}


def within(steps: list[dict[str, Any]], lost: float | None = None, size: int | None = None) -> dict[str, Any] | None:
    """The step that a budget allows: the smallest that loses at most `lost`, a fraction, of the validation images; or
    the most accurate of at most `size` bytes. None where no step does."""
    fits = [
        step
        for step in steps
        if (lost is None or within_allowance(step, lost)) and (size is None or step["bytes"] <= size)
    ]
    if lost is not None:
        return min(fits, key=lambda step: step["bytes"], default=None)
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
            raise Cancelled
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
    ways = list(product(get_args(Score), get_args(Scope)))
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
    pruned step by step.

    The middle one is trained first, then the middle of those that its answer leaves open. Returns `sparsity` (None
    where none fits) and `runs`: of every target that was trained the figures of `point`, and its `history`.
    """
    runs: list[dict[str, Any]] = []
    targets = targets or TARGETS
    open_targets, best = list(targets), None
    recovery = replace(recovery, schedule="iterative")
    whole = len(targets).bit_length()
    while open_targets:
        middle = len(open_targets) // 2
        wanted = replace(config, sparsity=open_targets[middle], recovery=recovery)

        def said(event: dict[str, Any], target: float = open_targets[middle], before: int = len(runs)) -> None:
            about = {"target": target} if "figures" in event else {}
            progress(event | about | ({"done": (before + event["done"]) / whole} if "done" in event else {}))

        progress({"message": f"{open_targets[middle]:.0%} sparse"})
        bench.recover(name, wanted, said, should_stop)
        runs.append(point(bench.evaluate(name, wanted)) | {"history": bench.history(name, wanted)})
        if within_allowance(runs[-1], allowance):
            best, open_targets = open_targets[middle], open_targets[middle + 1 :]
        else:
            open_targets = open_targets[:middle]
    return {"sparsity": best, "runs": sorted(runs, key=lambda run: run["target"])}


def sensitivity(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[dict[str, Any]]:
    """What the network loses where only one layer is pruned, by layer and sparsity (`SHARES`), nothing trained.

    config : what is not pruned about it. Returns rows `layer`, `sparsity`, `accuracy`, `difference`, `bytes`.
    """
    layers, rows = bench.baseline(name).layers, []
    for layer in layers:
        for share in SHARES:
            if should_stop():
                raise Cancelled
            alone = bench.evaluate(name, config.with_layer(layer.name, sparsity=share))
            rows.append(point(alone) | {"layer": layer.name, "sparsity": share})
            progress({"message": f"{layer.name}, {share:.0%} sparse", "done": len(rows) / len(layers) / len(SHARES)})
    return rows


def prune_by_hand(
    weight: NDArray[np.float64], score: Score, sparsity: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of a small matrix, what pruning leaves of it, and the mask; its inputs are taken as equally large."""
    tensor = torch.tensor(weight)
    scores = pruning.lamp(tensor) if score == "lamp" else pruning.magnitude(tensor)
    mask = pruning.keep_mask(scores, sparsity)
    return scores.numpy(), tensor.masked_fill(~mask, 0.0).numpy(), mask.numpy()


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
    return {"rows": sensitivity(bench, request["baseline"], config, report, should_stop)}


KINDS = {ALLOCATION: _allocation, ONE_SHOT: _one_shot, ITERATIVE: _iterative, SCAN: _scan}
"""Kind of a job -> what its process does."""
