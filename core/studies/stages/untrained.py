"""Trials without training, a second each: first what every layer alone can bear, then whole networks."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna.trial import Trial

from core.bench.workbench import Early, Result
from core.config import CompressionConfig
from core.measuring.front import Point
from core.networks.graph import Layer, Network
from core.networks.models import Overflow
from core.studies import tuning
from core.studies.space import alike, configuration, draw, space, start, starts
from core.studies.stages.pace import PACE
from core.studies.stages.worker import Worker, in_figures
from core.studies.trials import POINT, SCANNED, claim, first, points_of
from core.techniques.low_rank import rank_at
from core.words import percent

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
OCTAVES = (2, 4, 6, 8, 10)
"""What the sensitivity scans try: shares of a layer's weights, and ranks in half octaves below break-even."""

SCANS: dict[str, tuple[str, Sequence[Any]]] = {
    "pruning": ("sparsity", [1 - density for density in DENSITIES]),
    "bits": ("bits", tuning.WIDTHS),
    "low rank": ("rank", OCTAVES),
}
"""Technique -> the setting of a layer that its scan goes through, and the values."""


class Probe(NamedTuple):
    """One layer compressed alone. value : of the setting; half octaves below break-even for a rank"""

    layer: Layer
    setting: str
    value: Any


def scan(worker: Worker) -> None:
    """Enqueue first trials, from what each layer alone can bear; nothing where the study has those of as much. What
    there is no time for is left out, of every scan the same, until a later search has more."""
    study, planned = worker.studies.untrained, probes(worker.network, worker.goal.techniques)
    if study.user_attrs.get(SCANNED, -1) >= len(planned):
        return
    rows = []
    for probe in planned:
        if worker.past(PACE.scanned_until):
            break
        rows.append(alone(worker, probe))
    more = study.user_attrs.get(SCANNED, -1) < len(rows)
    if more and not worker.should_stop() and first(study, f"{len(rows)} rows"):
        study.set_user_attr(SCANNED, len(rows))
        plain = alike(worker.network, worker.goal.techniques) if len(rows) < len(planned) else []
        for chosen in [*plain, *starts(rows, worker.network, worker.goal.techniques)]:
            study.enqueue_trial(chosen)


def probes(network: Network, used: Sequence[str]) -> list[Probe]:
    """Every scan that these techniques need, all of them equally far at any moment: by the share of its scan that lies
    before a value."""
    known = space(network)
    ordered = [
        (place / len(values), Probe(layer, setting, value))
        for setting, values in (SCANS[technique] for technique in used if technique in SCANS)
        for place, value in enumerate(values)
        for layer in network.layers
        if setting != "rank" or f"rank {layer.name}" in known
    ]
    return [probe for _, probe in sorted(ordered, key=lambda pair: pair[0])]


def alone(worker: Worker, probe: Probe) -> dict[str, Any]:
    """A row of the scans: `layer`, the setting with its value, and `lost`, a fraction of the images, at least 0; all
    of it where no number comes out."""
    layer, setting, value = probe
    amount = rank_at(value, layer) if setting == "rank" else value
    config = start(worker.network).with_layer(layer.name, **{setting: amount})
    written = percent(amount) if setting == "sparsity" else f"{amount:.3g}"
    try:
        result = worker.bench.evaluate(worker.name, config)
    except Overflow as error:
        worker.say(f"{layer.name} alone, {setting} {written}: {error}")
        return {"layer": layer.name, setting: value, "lost": 1.0}
    worker.say(f"{layer.name} alone, {setting} {written}: {percent(result.evaluation.accuracy, 2)}")
    return {"layer": layer.name, setting: value, "lost": max(0.0, -result.comparison.difference)}


def look(worker: Worker, trial: Trial) -> tuple[float, float]:
    """A trial without training: log bytes and accuracy lost."""
    config = configuration(draw(trial, worker.network, worker.goal.techniques), worker.network)
    claim(worker.studies.untrained, trial, config)
    result = measure(worker, config)
    if isinstance(result, Early):  # hopeless: worth knowing where, but no point of any front
        whole = worker.bench.evaluate(worker.name, CompressionConfig()).evaluation.accuracy
        return math.log(result.bytes), whole - result.estimate.accuracy
    point = worker.bench.point_of(result)
    worker.bench.keep(worker.name, config)
    trial.set_user_attr(POINT, point.to_json())
    worker.say(f"Without training: {in_figures(point)}")
    return math.log(point.bytes), -point.difference


def measure(worker: Worker, config: CompressionConfig) -> Result | Early:
    """On all images; or on the first, where these say that a smaller or equal file is more accurate: the upper end of
    their paired interval lies below it."""
    turns = worker.bench.turns
    ticket, rivals = worker.bench.ask("search", worker.name, config), points_of(worker.studies.untrained)
    while not turns.wait(ticket, 0.1):
        early: Early | None = ticket.first
        if worker.should_stop():
            turns.leave(ticket)
        elif early is not None and hopeless(early, rivals):
            turns.leave(ticket)
            return early
    result: Result = ticket.result()
    return result


def hopeless(early: Early, rivals: Sequence[Point]) -> bool:
    """Whether a file that is no larger is surely more accurate, by the first images."""
    _, most = early.estimate.interval
    return any(rival.bytes <= early.bytes and rival.accuracy > most for rival in rivals)
