"""The course's low-rank report, as calls of the workbench: what was published, what this run measures beside it.

The figures are the test images' verdict; nothing here is tuned on them. Every difference is paired, with an interval.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from typing import Any

from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig
from core.machinery import devices
from core.mathematics.low_rank import rank_from_share
from core.measuring import evaluation
from core.measuring.training import Progress
from core.studies.answers import (
    BeforeTraining,
    LayerCondition,
    LowRankReport,
    Paired,
    Published,
    RankCorrelations,
    Retrained,
    ScenarioRow,
    Timed,
)

LOW_RANK = "low-rank report"
"""The kind of the job that runs it."""

VERSION = 1
"""Raise it when what the experiment does changes in a way that no constant shows."""

REPORT_BASELINE = "mlp-course"
LOOKED_AT = "cnn", "mlp", REPORT_BASELINE
"""Baselines of which each layer is factored alone."""
REMOVED = {"50 %": 0.5, "80 %": 0.8}
"""Scenario: share of the rank that is removed."""

PUBLISHED = {
    "none": Published(before=0.8692, after=0.8691, parameters=932_362, milliseconds=0.29),
    "50 %": Published(before=0.8693, after=0.8875, parameters=932_362, milliseconds=0.30),
    "80 %": Published(before=0.8698, after=0.8866, parameters=774_666, milliseconds=0.26),
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
    listed = [Scenario("none", CompressionConfig(), "none")]
    for title, removed in REMOVED.items():
        listed.append(Scenario(f"{title} of fc2", _factored(removed, ["fc2"]), title))
    for title, removed in REMOVED.items():
        listed.append(Scenario(f"{title} of fc2, data-aware", _factored(removed, ["fc2"], aware=True)))
    for aware in (False, True):
        words = "80 % of fc1, fc2, fc3" + (", data-aware" if aware else "")
        listed.append(Scenario(words, _factored(0.8, ["fc1", "fc2", "fc3"], aware)))
    return listed


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
) -> LowRankReport:
    """The low-rank report on `mlp-course`: every scenario before fine-tuning and after, beside the control.

    The control is the uncompressed network, fine-tuned alike with the same seed: a gain over it is a gain of
    compression, a gain over the network before is one of training. Accuracies are fractions of the 10,000 test images,
    differences carry their 95 % interval, seconds are per image.
    """
    listed, rows = scenarios(), list[partial[ScenarioRow]]()
    control = [_recovered(CompressionConfig(), epochs, seed) for seed in range(seeds)]
    for number, scenario in enumerate(listed):
        after = []
        for seed, alike in enumerate(control):
            config = replace(scenario.config, recovery=alike.recovery)
            done = (number * seeds + seed) / (len(listed) * seeds)
            said = partial(say_which, progress, scenario.title, seed, done)
            bench.recover(REPORT_BASELINE, config, said, should_stop)
            after.append(_retrained(bench, config, alike, seed))
        rows.append(_row(bench, scenario, tuple(after)))
    progress({"message": "Time per image, condition numbers.", "done": 1.0})
    timed = latencies(bench, REPORT_BASELINE, [scenario.config for scenario in listed])
    complete = [row(latency=latency) for row, latency in zip(rows, timed, strict=True)]
    layers = conditions(bench)
    claims = RankCorrelations(*(rank_correlation(layers, claim.name) for claim in fields(RankCorrelations)))
    return LowRankReport(REPORT_BASELINE, epochs, seeds, tuple(complete), tuple(layers), claims)


def _retrained(bench: Workbench, config: CompressionConfig, control: CompressionConfig, seed: int) -> Retrained:
    """A network after fine-tuning, beside the control."""
    after, beside = (bench.evaluate(REPORT_BASELINE, each, "test") for each in (config, control))
    figures = after.evaluation
    return Retrained(seed, figures.accuracy, figures.loss, _paired(bench.compare(after, beside)))


def _row(bench: Workbench, scenario: Scenario, after: tuple[Retrained, ...]) -> "partial[ScenarioRow]":
    """A row that lacks its `latency`: the networks take turns for that at the end."""
    before = bench.evaluate(REPORT_BASELINE, scenario.config, "test")
    return partial(
        ScenarioRow,
        scenario=scenario.title,
        config=scenario.config.to_json(),
        published=PUBLISHED.get(scenario.published),
        parameters=before.parameters,
        bytes=before.bytes,
        compression_ratio=before.compression_ratio,
        before=BeforeTraining(before.evaluation.accuracy, before.evaluation.loss, _paired(before.comparison)),
        after=after,
    )


def _paired(change: evaluation.Comparison) -> Paired:
    return Paired(change.difference, change.interval, change.lost, change.gained)


def _recovered(config: CompressionConfig, epochs: int, seed: int) -> CompressionConfig:
    return replace(config, recovery=RecoveryConfig(epochs=epochs, seed=seed))


def say_which(progress: Progress, title: str, seed: int, done: float, event: dict[str, Any]) -> None:
    progress({"message": f"{title}, seed {seed}", "done": done} if "epoch" in event else event)


def latencies(bench: Workbench, name: str, configs: list[CompressionConfig]) -> list[Timed]:
    """Seconds per image by batch, on this processor and on a graphics processor where there is one.

    The networks take turns, `ROUNDS` times, and each keeps its fastest round: what else the machine does then disturbs
    all of them alike.
    """
    split, device = bench.datasets.split(bench.profile(name).images, "validation"), bench.training_device()
    networks = [bench.network(name, config) for config in configs]
    ways: dict[str, Callable[..., evaluation.Latency]] = {"": lambda i, *rest: evaluation.latency(networks[i], *rest)}
    if device.type != "cpu":
        with devices.in_words(device):
            modules = [bench.module(name, config).to(device) for config in configs]
        ways[f"{device.type} "] = lambda i, *rest: evaluation.device_latency(modules[i], *rest)
    quietest: dict[tuple[int, str], evaluation.Latency] = {}
    for _ in range(ROUNDS):
        for number, (way, timed), batch in product(range(len(networks)), ways.items(), BATCHES):
            latency, place = timed(number, split.inputs, batch, 20), (number, f"{way}{batch}")
            quietest[place] = min(quietest.get(place, latency), latency, key=lambda each: each.median)
    rows = []
    for number, config in enumerate(configs):
        outline = bench.outline(name, config)
        batches = {where: latency for (place, where), latency in quietest.items() if place == number}
        rows.append(Timed(outline.multiply_accumulates, outline.products, batches))
    return rows


def conditions(bench: Workbench, removed: float = 0.8) -> list[LayerCondition]:
    """Each layer of `LOOKED_AT`: its condition number, and what factoring it alone loses on validation.

    The report holds that a well-conditioned layer suits compression; the loss is measured at rank
    max(1, floor((1 - removed) * full rank)), so that layers of different widths lose the same share.
    """
    rows = []
    for name in LOOKED_AT:
        for layer in bench.spectrum(name):
            rank = rank_from_share(1 - removed, layer.full_rank)
            alone = bench.evaluate(name, CompressionConfig().with_layer(layer.name, rank=rank))
            kept = layer.cumulative_energy[rank - 1]
            lost = alone.comparison.difference, alone.comparison.interval
            rows.append(LayerCondition(name, layer.name, rank, kept, layer.condition_number, *lost))
    return rows


def rank_correlation(rows: Sequence[LayerCondition], figure: str) -> tuple[float, float]:
    """Spearman's rho of a figure of layers and their loss, in [-1, 1], and its p-value. figure : "condition_number" or
    "energy"; layers where it is None do not count"""
    from scipy.stats import spearmanr

    known = [row for row in rows if getattr(row, figure) is not None]
    correlation = spearmanr([getattr(row, figure) for row in known], [-row.difference for row in known])
    return float(correlation.statistic), float(correlation.pvalue)


def _low_rank(bench: Workbench, request: Request, report: Progress, stop: Callable[[], bool]) -> LowRankReport:
    return low_rank(bench, request["seeds"], request["epochs"], report, stop)


KINDS = {LOW_RANK: Kind("Low-rank report", LowRankReport, _low_rank)}
