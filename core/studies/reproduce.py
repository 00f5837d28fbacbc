"""The course's low-rank report, as calls of the workbench: what was published, what this run measures beside it.

The figures are the test images' verdict; nothing here is tuned on them. Every difference is paired, with an interval.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from core.bench.work import Kind
from core.bench.workbench import SHIPPED, Result, Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig
from core.datasets import fashion_mnist
from core.machinery import devices
from core.mathematics.low_rank import rank_from_share
from core.measuring import evaluation
from core.measuring.training import Progress

LOW_RANK = "low-rank report"
"""The kind of the job that runs it."""

VERSION = 1
"""Raise it when what the experiment does changes in a way that no constant shows."""

REPORT_BASELINE = "mlp-course"
REMOVED = {"50 %": 0.5, "80 %": 0.8}
"""Scenario: share of the rank that is removed."""

PUBLISHED: dict[str, dict[str, float]] = {
    "none": {"before": 0.8692, "after": 0.8691, "parameters": 932_362, "milliseconds": 0.29},
    "50 %": {"before": 0.8693, "after": 0.8875, "parameters": 932_362, "milliseconds": 0.30},
    "80 %": {"before": 0.8698, "after": 0.8866, "parameters": 774_666, "milliseconds": 0.26},
}
"""What the course's report gives: accuracy before fine-tuning and after 3 epochs of it, CPU inference time."""

BATCHES, ROUNDS = (1, 250), 9


@dataclass(frozen=True)
class Scenario:
    """published : its key in `PUBLISHED`; "" for what the report did not show."""

    title: str
    config: CompressionConfig
    published: str = ""


def scenarios() -> list[Scenario]:
    """The report's three, the same with data-aware factors, and all hidden layers instead of one."""
    found = [Scenario("none", CompressionConfig(), "none")]
    for title, removed in REMOVED.items():
        found.append(Scenario(f"{title} of fc2", _factored(removed, ["fc2"]), title))
    for title, removed in REMOVED.items():
        found.append(Scenario(f"{title} of fc2, data-aware", _factored(removed, ["fc2"], aware=True)))
    for aware in (False, True):
        words = "80 % of fc1, fc2, fc3" + (", data-aware" if aware else "")
        found.append(Scenario(words, _factored(0.8, ["fc1", "fc2", "fc3"], aware)))
    return found


def _factored(removed: float, layers: Iterable[str], aware: bool = False) -> CompressionConfig:
    """All three layers have full rank 512."""
    rank = rank_from_share(1 - removed, 512)
    method = "whitened" if aware else "svd"
    return CompressionConfig(layers=dict.fromkeys(layers, LayerConfig(rank=rank)), low_rank_method=method)


def low_rank(
    bench: Workbench,
    seeds: int = 3,
    epochs: int = 3,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The low-rank report on `mlp-course`: every scenario before fine-tuning and after, beside the control.

    The control is the uncompressed network, fine-tuned alike with the same seed: a gain over it is a gain of
    compression, a gain over the network before is one of training. Returns what JSON can hold; accuracies are
    fractions of the 10,000 test images, differences carry their 95 % interval, seconds are per image.
    """
    listed, rows, runs = scenarios(), [], 0
    control = [_recovered(CompressionConfig(), epochs, seed) for seed in range(seeds)]
    for scenario in listed:
        after = []
        for seed, alike in enumerate(control):
            config = replace(scenario.config, recovery=alike.recovery)
            done = partial(say_which, progress, scenario.title, seed, runs / (len(listed) * seeds))
            bench.recover(REPORT_BASELINE, config, done, should_stop)
            runs += 1
            own, other = (bench.evaluate(REPORT_BASELINE, each, "test") for each in (config, alike))
            after.append({"seed": seed, **figures(own), "over_control": difference(bench, own, other)})
        before = bench.evaluate(REPORT_BASELINE, scenario.config, "test")
        rows.append(
            {
                "scenario": scenario.title,
                "config": scenario.config.to_json(),
                "published": PUBLISHED.get(scenario.published),
                **{key: getattr(before, key) for key in ("parameters", "bytes", "compression_ratio")},
                "before": {**figures(before), "over_baseline": difference(bench, before, None)},
                "after": after,
            }
        )
    progress({"message": "Time per image, condition numbers.", "done": 1.0})
    for row, timed in zip(
        rows, latencies(bench, REPORT_BASELINE, [scenario.config for scenario in listed]), strict=True
    ):
        row["latency"] = timed
    layers = conditions(bench)
    claims = {key: rank_correlation(layers, key) for key in ("condition_number", "energy")}
    about = {"baseline": REPORT_BASELINE, "epochs": epochs, "seeds": seeds}
    return {**about, "rows": rows, "layers": layers, "rank_correlations": claims}


def _recovered(config: CompressionConfig, epochs: int, seed: int) -> CompressionConfig:
    return replace(config, recovery=RecoveryConfig(epochs=epochs, seed=seed))


def say_which(progress: Progress, title: str, seed: int, done: float, event: dict[str, Any]) -> None:
    progress({"message": f"{title}, seed {seed}", "done": done} if "epoch" in event else event)


def figures(result: Result) -> dict[str, float]:
    return {"accuracy": result.evaluation.accuracy, "loss": result.evaluation.loss}


def difference(bench: Workbench, after: Result, before: Result | None) -> dict[str, Any]:
    """Paired, image by image; against the baseline where `before` is None."""
    found = after.comparison if before is None else bench.compare(after, before)
    return {
        "difference": found.difference,
        "interval": list(found.interval),
        "lost": found.lost,
        "gained": found.gained,
    }


def latencies(bench: Workbench, name: str, configs: list[CompressionConfig]) -> list[dict[str, Any]]:
    """Seconds per image by batch, on this processor and on a graphics processor where there is one ("1", "250",
    "cuda 1", "cuda 250"), beside multiplications and products in a row.

    The networks take turns, `ROUNDS` times, and each keeps its fastest round: what else the machine does then disturbs
    all of them alike.
    """
    images, device = fashion_mnist.load("validation").inputs, bench.training_device()
    networks = [bench.network(name, config) for config in configs]
    ways: dict[str, Callable[..., evaluation.Latency]] = {"": lambda i, *rest: evaluation.latency(networks[i], *rest)}
    if device.type != "cpu":
        with devices.in_words(device):
            modules = [bench.module(name, config).to(device) for config in configs]
        ways[f"{device.type} "] = lambda i, *rest: evaluation.device_latency(modules[i], *rest)
    quietest: dict[tuple[int, str], evaluation.Latency] = {}
    for _ in range(ROUNDS):
        for number, (way, timed), batch in product(range(len(networks)), ways.items(), BATCHES):
            found, place = timed(number, images, batch, 20), (number, f"{way}{batch}")
            quietest[place] = min(quietest.get(place, found), found, key=lambda own: own.median)
    rows = []
    for number, config in enumerate(configs):
        outline = bench.outline(name, config)
        own = {where: asdict(found) for (place, where), found in quietest.items() if place == number}
        about = {"multiply_accumulates": outline.multiply_accumulates, "products": outline.products}
        rows.append({**about, "batches": own})
    return rows


def conditions(bench: Workbench, removed: float = 0.8) -> list[dict[str, Any]]:
    """Each layer of the shipped baselines: its condition number, and what factoring it alone loses on validation.

    The report holds that a well-conditioned layer suits compression; the loss is measured at rank
    max(1, floor((1 - removed) * full rank)), so that layers of different widths lose the same share.
    """
    rows = []
    for name in SHIPPED:
        for layer in bench.spectrum(name):
            rank = rank_from_share(1 - removed, layer.full_rank)
            alone = bench.evaluate(name, CompressionConfig().with_layer(layer.name, rank=rank))
            kept = layer.cumulative_energy[rank - 1]
            found = {"baseline": name, "layer": layer.name, "rank": rank, "energy": kept}
            found |= {"condition_number": layer.condition_number, "difference": alone.comparison.difference}
            rows.append(found | {"interval": list(alone.comparison.interval)})
    return rows


def rank_correlation(rows: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """Spearman's rho of `key` and the loss over the layers of `conditions`, in [-1, 1], and its p-value."""
    from scipy.stats import spearmanr

    known = [row for row in rows if row[key] is not None]
    found = spearmanr([row[key] for row in known], [-row["difference"] for row in known])
    return float(found.statistic), float(found.pvalue)


def _low_rank(bench: Workbench, request: dict[str, Any], report: Progress, stop: Callable[[], bool]) -> dict[str, Any]:
    return low_rank(bench, request["seeds"], request["epochs"], report, stop)


KINDS = {LOW_RANK: Kind("Low-rank report", _low_rank)}
