"""The smallest file within a budget, found by trying: Optuna's trials, measured by the live engine.

Three studies, each with fewer and dearer trials than the one before. "untrained": compressed and measured, a second
each, hundreds of them; they show what each layer can bear. "brief": an epoch of training each, shapes at equal size;
before it, removed channels and low ranks look far worse than they are. "trained": the best of these shapes, as large as
the law of `next_size` says, for as many epochs as there is time for; their packed files are kept with them. Several
processes, on one machine or on many, may work on the same studies. The best is opened on the test images at the end.
"""

import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from core.bench import reliance
from core.bench.results import ExportVerdict
from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.datasets import DataError
from core.formats import artifact, footprint
from core.formats.artifact import NETWORK_FILE
from core.machinery.stopping import Stopped
from core.machinery.store import key_of
from core.measuring import training
from core.measuring.front import Goal
from core.measuring.training import Diverged, Progress
from core.networks import compression
from core.networks.encodings import FormatError
from core.networks.models import Overflow
from core.settings import techniques
from core.studies import trials
from core.studies.answers import Searched, SearchedBest
from core.studies.space import ALIKE, start
from core.studies.stages import brief, untrained
from core.studies.stages.pace import PACE, Clock, Countdown
from core.studies.stages.trained import Finished, LongTrainings
from core.studies.stages.trainer import Trainer
from core.studies.stages.worker import Worker
from core.studies.trials import Sampler, Studies, in_words
from core.techniques.codebook import FEWEST
from core.techniques.rate_rounding import LAMBDAS


class Exhausted(Exception):
    """`PACE.fruitless` trials in a row came to nothing."""


@dataclass(eq=False)
class Search:
    """The three stages, one after the other; what time no training fits into any more is for trials without it.

    guided : whether it begins at the scans and varies what is best; fruitless : trials in a row that came to nothing
    """

    worker: Worker
    trainer: Trainer
    trainings: LongTrainings
    guided: bool = True
    fruitless: int = 0

    def run(self) -> None:
        """Where there are no images to train with, the trials without training have all the time."""
        worker = self.worker
        if self.guided:
            untrained.scan(worker)
        self._look_until(PACE.untrained_until, least=len(ALIKE))
        try:
            compression.check_training(worker.network.layers)
            worker.bench.datasets.split(worker.bench.profile(worker.name).images, "train", worker.say)
        except (DataError, ConfigError) as error:
            worker.say(f"Nothing can be trained here. {error}")
            self._look_until(1)
        else:
            self._sketch_until(PACE.brief_until)
            self._train_until_the_end()
            self._look_until(1)

    def _look_until(self, share: float, least: int = 0) -> None:
        """least : so many trials even of a network that is slow to look at, while half of the time is left"""
        tried = 0
        with contextlib.suppress(Exhausted):
            while not self.worker.past(share) or (tried < least and not self.worker.past(PACE.brief_until)):
                self._try(self.worker.studies.untrained, partial(untrained.look, self.worker))
                tried += 1

    def _sketch_until(self, share: float) -> None:
        if self.guided:
            brief.begin(self.worker)
        with contextlib.suppress(Exhausted):
            while not self.worker.past(share):
                self._sketch()

    def _sketch(self) -> None:
        if self.guided:
            brief.vary(self.worker)
        self._try(self.worker.studies.brief, partial(brief.sketch, self.trainer))

    def _train_until_the_end(self) -> None:
        """Long trainings; where nothing longer fits, more of one epoch, for a search that goes on, while there are new
        ones."""
        with contextlib.suppress(Exhausted):
            while not self.worker.past(1):
                try:
                    self._try(self.worker.studies.trained, self.trainings.train_next)
                except (Exhausted, Finished):
                    if not self.trainer.may_train():
                        return
                    self._sketch()

    def _try(self, study: optuna.Study, what: Callable[[Trial], Any]) -> None:
        """Raises Exhausted, Finished."""
        self.fruitless = 0 if trials.step(study, what, Diverged, Overflow) else self.fruitless + 1
        if self.fruitless == PACE.fruitless:
            self.fruitless = 0
            raise Exhausted


def default_storage(bench: Workbench) -> str:
    return f"sqlite:///{bench.cache / 'searches.sqlite'}"


def title_of(bench: Workbench, name: str, goal: Goal) -> str:
    """Of the studies: the goal, and a hash of everything that their trials rely on."""
    wanted, profile, trained = goal.to_request(), bench.profile(name), RecoveryConfig(rate_weight=1.0)
    methods = (
        reliance.networks(profile.images)
        | reliance.files()
        | reliance.versions(each for each in techniques() if each.name in goal.techniques)
        | reliance.codes(CompressionConfig(codebook=FEWEST, rate_rounding=LAMBDAS[-1]))
        | reliance.recoveries(trained)
        | reliance.trainings(training.recipe(trained, profile.model, profile.images.data), profile.images)
    )
    always = start(bench.baseline(name).network).to_json()
    key = key_of("search", baseline=bench.baseline(name).sha256, goal=wanted, methods=methods, always=always)
    return f"{json.dumps(wanted)}, {key[:12]}"


def open_studies(bench: Workbench, name: str, goal: Goal, url: str, sampler: Sampler) -> Studies:
    """The same baseline, methods and goal are the same studies, for every process that opens them."""
    title, storage = title_of(bench, name, goal), trials.connect(url)
    return Studies(
        trials.open_study(storage, f"{title}, untrained", 2, sampler),
        trials.open_study(storage, f"{title}, brief", 1, sampler),
        trials.open_study(storage, f"{title}, trained"),
    )


def run(
    bench: Workbench,
    name: str,
    goal: Goal,
    minutes: float,
    storage: str | None = None,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    sampler: Sampler | None = None,
    out: Path | None = None,
    seed: int | None = None,
    clock: Clock = time.monotonic,
) -> Searched:
    """Search for so many minutes, the confirmation included; what an earlier search for the same goal found counts.

    storage : an Optuna storage URL, `default_storage` where not given
    sampler : makes what the trials are drawn by, without a beginning at the scans and without variations of the best
    out : where the files of the best go; where Export looks for them, if not given
    seed : of what is drawn; one process with a seed repeats itself as far as its clock does
    clock : says the time in seconds
    Where it was stopped, nothing was confirmed on test. Raises StorageError, UnknownBaseline, ConfigError, FormatError
    (the file does not hold what was promised).
    """
    draws = sampler or partial(optuna.samplers.TPESampler, seed=seed, multivariate=True, group=True)
    if out is not None:
        artifact.check_directory(out)
    goal = goal.of_baseline(bench.evaluate(name, CompressionConfig()).evaluation.accuracy)
    countdown = Countdown.of(minutes, clock)
    studies = open_studies(bench, name, goal, storage or default_storage(bench), draws)
    worker = Worker(bench, name, goal, studies, countdown, should_stop, progress, random.Random(seed))
    trainer = Trainer(worker)
    search = Search(worker, trainer, LongTrainings(trainer), guided=sampler is None)
    with in_words():
        adopt(bench, name, studies)
        with contextlib.suppress(Stopped):
            search.run()
        adopt(bench, name, studies)
        points, optimism = studies.points(), worker.optimism
        best = goal.best(points, optimism)
        if best is None:
            return Searched(len(points), None)
        answer = confirmed(bench, name, best.config, out, worker.say, should_stop)
    most = None if goal.confidence is None else goal.lost(best, optimism)
    return Searched(len(points), replace(answer, at_most=most))


def confirmed(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    out: Path | None,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> SearchedBest:
    """The best of a search, its files written and opened on the test images unless it is to stop. Raises FormatError
    where the file does not hold what was promised."""
    if should_stop():
        return _answer(bench, name, config, None, None)
    say("Confirming the best on the test images.")
    out = out or bench.export_folder(name, config)
    verdict = bench.export(name, config, out)
    for file in verdict.files[1:]:
        if file.problem is not None:
            say(f"{file.path} did not pass its check: {file.problem}")
    return _answer(bench, name, config, out, verdict)


COURSE = "cnn"
"""The course's network, beside whose float32 bytes a file of any network is small."""


def _answer(
    bench: Workbench, name: str, config: CompressionConfig, out: Path | None, verdict: ExportVerdict | None
) -> SearchedBest:
    """Of the network as it is here, whoever else trained it."""
    best = bench.point_of(bench.evaluate(name, config))
    answer = SearchedBest(
        config=json.loads(best.config.to_json()),
        bytes=best.bytes,
        baseline_bytes=best.baseline_bytes,
        compression_ratio=best.compression_ratio,
        accuracy=best.accuracy,
        baseline_accuracy=best.accuracy - best.difference,
        difference=best.difference,
        test_accuracy=None,
        test_difference=None,
        path=None,
        baseline=name,
        family=bench.profile(name).model,
        course_ratio=_beside_the_course(bench, name, best.bytes),
        self_contained=best.bytes + footprint.decoder_bytes(),
    )
    if verdict is None or out is None:
        return answer
    file = verdict.files[0]
    if file.problem is not None:
        raise FormatError(file.problem)
    change = file.accuracy - verdict.baseline_accuracy
    return replace(answer, test_accuracy=file.accuracy, test_difference=change, path=str(out / NETWORK_FILE))


def _beside_the_course(bench: Workbench, name: str, size: int) -> float | None:
    """None for other images."""
    course = bench.profile(COURSE)
    same = bench.profile(name).images.data == course.images.data
    return 4 * sum(layer.weights + layer.shape[0] for layer in course.layers) / size if same else None


def adopt(bench: Workbench, name: str, studies: Studies) -> None:
    """Take what other workers trained into this machine's store: it can be opened and exported here."""
    for study in (studies.brief, studies.trained):
        for trial in trials.finished(study):
            config = trials.held(trial)
            if config is not None and bench.history(name, config) is None:
                history = json.loads(trial.user_attrs[trials.HISTORY])
                bench.adopt(name, config, trials.kept_bytes(trial, trials.PACKED), history)
                bench.evaluate(name, config)


def work(bench: Workbench, asked: dict[str, Any], report: Progress, should_stop: Callable[[], bool]) -> Searched:
    """What the job of a search does."""
    return run(bench, asked["baseline"], Goal(**asked["goal"]), asked["minutes"], None, report, should_stop)
