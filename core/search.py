"""Settings chosen for a whole network, by measurement on the validation images."""

from collections.abc import Callable
from typing import Any

from core import low_rank
from core.config import DENSE, CompressionConfig, LayerConfig, LowRankMethod
from core.jobs import Cancelled
from core.workbench import Result, Workbench

ALLOCATION = "rank allocation"
"""The kind of a job that does it."""

SHRINK = 0.75
"""Each step takes a layer to this share of its rank."""

FAR_ENOUGH = 0.2
"""The allocation ends where so much accuracy is lost."""


def allocate_ranks(
    bench: Workbench,
    name: str,
    method: LowRankMethod = "whitened",
    progress: Callable[[dict[str, Any]], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
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
        if (lost is None or step["difference"] >= -lost - 1e-12) and (size is None or step["bytes"] <= size)
    ]
    if lost is not None:
        return min(fits, key=lambda step: step["bytes"], default=None)
    return max(fits, key=lambda step: step["accuracy"], default=None)


def work(
    bench: Workbench, request: dict[str, Any], report: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """What the process of a job of this kind does."""
    return {"steps": allocate_ranks(bench, request["baseline"], request["method"], report, should_stop)}
