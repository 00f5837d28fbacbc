"""What the process of a job does, by the kind of its request; here the kinds that are about a single network."""

from collections.abc import Callable
from dataclasses import dataclass

from core.bench.results import ExportVerdict
from core.bench.submissions import EXPORT, RECOVER, TRAIN, Request
from core.bench.workbench import Workbench
from core.config import CompressionConfig, TrainingConfig, widths_in_text
from core.machinery.jobs import Report, Work
from core.machinery.records import Record
from core.machinery.stopping import Stopped
from core.networks import families
from core.words import counted

Stop = Callable[[], bool]
Run = Callable[[Workbench, Request, Report, Stop], Record]


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    title : as pages name it; run(bench, request, report, should_stop) : returns an `answer`
    origin : what it measures for, one of `front.ORIGINS`
    repeats : whether it may run again although it is done; otherwise the answer stands
    looks_up : whether it may use results that come with the project; an experiment that is run here is run
    """

    title: str
    answer: type[Record]
    run: Run
    origin: str = "reproduced"
    repeats: bool = False
    looks_up: bool = False

    def work(self, bench: Workbench) -> Work:
        """What a job's process does, with the answer as JSON holds it."""
        return lambda request, report, should_stop: self.run(bench, request, report, should_stop).to_dict()


@dataclass(frozen=True)
class Trained(Record):
    """baseline : the name under which it is kept; test_accuracy : a fraction of the test images"""

    baseline: str
    test_accuracy: float


@dataclass(frozen=True)
class Recovered(Record):
    """recovered : the baseline whose compressed network was trained"""

    recovered: str


def title_of(recipe: TrainingConfig) -> str:
    """Of a baseline that is trained so."""
    widths = f" {widths_in_text(recipe.widths)}" if recipe.widths else ""
    taught = f", student of {recipe.teacher}" if recipe.teacher else ""
    return (
        f"{families.named(recipe.model).title}{widths}, {counted(recipe.epochs, 'epoch')}, seed {recipe.seed}{taught}"
    )


def _train(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> Trained:
    recipe = TrainingConfig(**request["config"])
    baseline = bench.train(recipe, report, should_stop)
    name = bench.add_baseline(baseline, title_of(recipe), "trained")
    return Trained(name, baseline.info["test_accuracy"])


def _recover(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> Recovered:
    bench.recover(request["baseline"], CompressionConfig.from_record(request["config"]), report, should_stop)
    return Recovered(request["baseline"])


def _export(bench: Workbench, request: Request, report: Report, should_stop: Stop) -> ExportVerdict:
    name, config = request["baseline"], CompressionConfig.from_record(request["config"])

    def say(text: str, done: float) -> None:
        if should_stop():
            raise Stopped
        report({"message": text, "done": done})

    verdict = bench.export(name, config, bench.export_folder(name, config), say=say)
    bench.exports.trim()
    return verdict


KINDS = {
    TRAIN: Kind("Training", Trained, _train, "explored", repeats=True),
    RECOVER: Kind("Training after compression", Recovered, _recover, "explored", repeats=True),
    EXPORT: Kind("Export", ExportVerdict, _export, "explored", repeats=True, looks_up=True),
}
