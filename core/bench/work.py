"""What the process of a job does, by the kind of its request; here the kinds that are about a single network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.bench.submissions import EXPORT, RECOVER, TRAIN, Request
from core.bench.workbench import Workbench
from core.config import CompressionConfig, TrainingConfig
from core.machinery.jobs import Report
from core.machinery.stopping import Stopped

Stop = Callable[[], bool]
Run = Callable[[Workbench, Request, Report, Stop], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    title : as pages name it; run(bench, request, report, should_stop) : returns what the job answers
    origin : what it measures for, one of `front.ORIGINS`
    repeats : whether it may run again although it is done; otherwise the answer stands
    looks_up : whether it may use results that come with the project; an experiment that is run here is run
    """

    title: str
    run: Run
    origin: str = "reproduced"
    repeats: bool = False
    looks_up: bool = False


def title_of(recipe: TrainingConfig) -> str:
    """Of a baseline that is trained so."""
    return f"{recipe.model.upper()}, {recipe.epochs} epochs, seed {recipe.seed}"


def _train(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> dict[str, Any]:
    recipe = TrainingConfig(**request["config"])
    baseline = bench.train(recipe, report, should_stop)
    name = bench.add_baseline(baseline, title_of(recipe), "trained")
    return {"baseline": name, "test_accuracy": baseline.info["test_accuracy"]}


def _recover(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> dict[str, Any]:
    bench.recover(request["baseline"], CompressionConfig.from_record(request["config"]), report, should_stop)
    return {"recovered": request["baseline"]}


def _export(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> dict[str, Any]:
    name, config = request["baseline"], CompressionConfig.from_record(request["config"])

    def say(text: str, done: float) -> None:
        if should_stop():
            raise Stopped
        report({"message": text, "done": done})

    verdict = bench.export(name, config, bench.export_folder(name, config), say=say)
    bench.exports.trim()
    return verdict


KINDS = {
    TRAIN: Kind("Training", _train, "explored", repeats=True),
    RECOVER: Kind("Training after compression", _recover, "explored", repeats=True),
    EXPORT: Kind("Export", _export, "explored", repeats=True, looks_up=True),
}
