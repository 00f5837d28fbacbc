"""The smallest file of any family: networks made small from the start, instead of large ones made smaller.

Each trial is a student: a family, its widths and its bits. Where no baseline of these widths is there already, one is
trained from scratch, with the most accurate baseline for these images as its teacher (distillation, Hinton et al.
2015). Then it is trained on its grids, by the same teacher, with a rate in the loss, whose weight is chosen, too, and
in long trainings steered to the floor (`core.measuring.steering`). A student that is not accurate enough before it is
quantized is given up. Several processes may work on the same study.
"""

import contextlib
import json
import random
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from core.bench import reliance
from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig, TrainingConfig, Widths, widths_in_text
from core.formats import artifact
from core.machinery.stopping import Stopped
from core.machinery.store import key_of
from core.measuring.front import SEARCHED, Goal, Point
from core.measuring.training import Diverged, Progress
from core.networks import families
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.models import Overflow
from core.settings import techniques
from core.studies import beside, trials, variation
from core.studies.answers import Searched
from core.studies.search import confirmed, default_storage
from core.studies.space import rate_weight
from core.studies.stages.pace import Clock, Countdown
from core.studies.stages.worker import in_figures
from core.studies.teachers import best_teacher, most_accurate, teacher_of
from core.studies.trials import Sampler, in_words
from core.studies.variation import BITS, DEEPER, FACTORS, PRICES, STOPPED, TILTS, Chosen, next_choice
from core.techniques.rate_rounding import LAMBDAS
from core.words import percent

ABOUT, TITLE, STUDENT = "about", "title", "student"
"""Attributes of a trial: what is known of the making of its student, what it is called, the student before it was
compressed, as a file."""

MINUTES_EACH, LONG = 12.0, 2
"""About as long a student is trained where there is time for several; where there is time for `LONG` + 1 and more, the
last training takes `LONG` times as long, and is the best student's again."""

FLOAT_SHARE, QUANTIZED_PACE, PROBED_PACE = 0.15, 1.1, 1.15
"""Of a student's time before it is quantized; an epoch afterwards over one before; and that over one of a probe, which
has no teacher, and few images to be measured on."""

LEAST_SHARE = 0.4
"""Nobody is trained any more in less than this share of the time that is meant for each."""

LATE = 0.15
"""A worker beside this one may end its last student later by this share of the time."""

ROUNDED = 0.04
"""A student that ends late may still be rounded for this share of the time: seconds, for a few percent of the bytes."""

LEAST_EPOCHS, MOST_EPOCHS = 2, 120
"""Of either part."""

HOPELESS, TOLD_AFTER = 0.015, 5
"""Given up is who is less accurate than the floor by so much, before it is quantized, after so many epochs or more."""

FRUITLESS = 20
"""After so many trials in a row that came to nothing, what may be chosen is exhausted."""

STEERED_FROM = 40
"""The price is steered to the floor in trainings of so many epochs. In shorter ones it stays: what the learning rate's
new beginnings take, a few epochs only win back."""

BYTES_EACH = 0.22
"""Of a weight of `PLAIN` in the file, roughly: where a search for a size begins."""

STARTS: tuple[dict[str, Any], ...] = (
    {"model": "compact", "factor": 1.2},
    {"model": "residual", "factor": 0.6},
    {"model": "separable", "factor": 0.85, "bits": 4},
    {"model": "cnn", "factor": 0.5},
    {"model": "mlp", "factor": 0.5},
)
"""Where a search begins; what is not said is as `PLAIN` has it."""

READY = {"factor": 1.0, "price": 1.7e-6}
"""Where one of the first of them begins that is there already, in its family's own widths."""

RATE, READY_RATE = 0.1, 0.05
"""Peak learning rates on the grids: of who was trained for a few epochs, and of who was trained for long."""

PLAIN = {"factor": 1.0, "tilt": 1.0, "deeper": 0, "bits": 3, "price": 1.2e-6}


def widths_for(family: Family, factor: float, tilt: float, deeper: int) -> Widths:
    """The family's own widths times factor * tilt^(stage - middle stage), to even numbers; each stage has `deeper` more
    layers, like its last one."""
    middle = (len(family.widths) - 1) / 2
    stages = []
    for place, stage in enumerate(family.widths):
        layers = [*stage, *[stage[-1]] * deeper][: max(1, len(stage) + deeper)]
        stages.append(tuple(max(2, 2 * round(width * factor * tilt ** (place - middle) / 2)) for width in layers))
    return tuple(stages)


def chosen(text: str) -> tuple[str, ...]:
    """Families of a list "compact, residual", or "all". Raises ConfigError."""
    names = list(families.families()) if text == "all" else [name.strip() for name in text.split(",")]
    return tuple(families.named(name).name for name in names)


def asked_for(options: Namespace) -> tuple[str, Goal]:
    """What a command line searches for: the name of a baseline, or of images where it names families, and the goal.
    Raises ConfigError for options that contradict one another, and for a seed that is none."""
    if options.seed is not None and not 0 <= options.seed < 2**31:
        raise ConfigError(f"seed must be in [0, {2**31 - 1}]. Got {options.seed} instead.")
    used = SEARCHED if options.techniques is None else tuple(map(str.strip, options.techniques.split(",")))
    if not options.families:
        if options.data is not None:
            raise ConfigError("--data is of --families. A baseline has its own images.")
        none = (options.allowance, options.size, options.floor) == (None, None, None)
        allowance = 0.01 if none else options.allowance
        return options.baseline or "cnn", Goal(allowance, options.size, used, options.confidence, options.floor)
    given = [f"--{name}" for name in ("baseline", "techniques") if getattr(options, name) is not None]
    if given:
        raise ConfigError(f"--families and {given[0]} exclude one another: there is no baseline to begin with.")
    if (options.floor, options.size) == (None, None):
        raise ConfigError(
            "--families needs --floor F, the accuracy that the smallest file is to have, or --size BYTES, what the "
            "most accurate one may take."
        )
    goal = Goal(options.allowance, options.size, used, options.confidence, options.floor, chosen(options.families))
    return options.data or "fashion-mnist", goal


@dataclass(eq=False)
class StudentSearch:
    """goal : with a floor, and the families that may be used; data : name of the images
    guided : whether it begins at `STARTS` and varies what is best; teacher : a baseline by its name, or ""
    workers : processes that work on it, this one included
    """

    bench: Workbench
    data: str
    goal: Goal
    study: optuna.Study
    time: Countdown
    should_stop: Callable[[], bool]
    progress: Progress
    dice: random.Random
    seed: int
    guided: bool = True
    teacher: str = ""
    workers: int = 1

    def begin(self) -> None:
        """What all workers rely on: where they begin, and what the teacher says of all images. Raises Stopped."""
        if self.guided and trials.first(self.study, "starts"):
            for start in self._starts():
                self.study.enqueue_trial(start)
        if self.teacher and self.workers > 1:
            taught = RecoveryConfig(distillation=True)
            self.bench.lessons_for(self.teacher, taught, self.should_stop, lambda event: self.say(event["message"]))

    def _starts(self) -> list[Chosen]:
        """Where several begin at once, the first of them twice, the second time surer to meet what is asked for."""
        starts = [self._begun({**PLAIN, **start}) for start in STARTS if start["model"] in self.goal.families]
        if self.workers > 1 and starts:
            place = PRICES.index(starts[0]["price"]) + (-1 if self.goal.size is None else 1)
            starts.insert(1, {**starts[0], "price": PRICES[max(0, min(place, len(PRICES) - 1))]})
        return starts

    def run(self) -> None:
        """Raises Stopped."""
        planned, fruitless = max(1, round(self.time.whole / 60 / MINUTES_EACH)), 0
        each, long = self.time.whole / planned, self.guided and planned > LONG
        while not self.should_stop() and fruitless < FRUITLESS:
            last = long and self.time.left < (LONG + 0.5) * each
            if self.guided:
                self._vary(last)
            seconds = self.time.left / (1 if last else max(1, round(self.time.left / each)))
            done = trials.step(self.study, partial(self._train, seconds, last), Diverged, Overflow, ConfigError)
            fruitless = 0 if done else fruitless + 1
            if self.time.left < LEAST_SHARE * each:
                return

    def helped(self, storage: str) -> contextlib.AbstractContextManager[None]:
        """While the other workers are at work, too, in processes of their own."""
        asked = {
            "cache": str(self.bench.cache), "data": self.data, "goal": self.goal.to_request(), "storage": storage,
            "seed": self.seed, "seconds": self.time.left, "whole": self.time.whole,
        }  # fmt: skip
        return beside.helpers(
            asked, self.workers - 1, lambda: self.should_stop() or self.time.left < -LATE * self.time.whole, self.say
        )

    def say(self, message: str) -> None:
        """Where the search stands."""
        points = trials.points_of(self.study)
        best, about = self.goal.best(points), dict[str, Any]()
        if best is not None:
            figures = {"bytes": best.bytes, "accuracy": best.accuracy, "difference": best.difference}
            about = {"best": {**figures, "baseline": best.baseline, "config": json.loads(best.config.to_json())}}
        self.progress({"message": message, "done": self.time.done, "trials": len(points), **about})

    def _train(self, seconds: float, again: bool, trial: Trial) -> float:
        """A student within so many seconds, maybe one that was trained before; what `_cost` says of it. Raises Claimed,
        Stopped, Diverged, ConfigError; TrialPruned where it is given up."""
        try:
            return self._trained(seconds, again, trial)
        except Stopped:
            trial.set_user_attr(STOPPED, True)
            raise
        except ConfigError as error:
            self.say(f"Left out: {error}")
            raise

    def _trained(self, seconds: float, again: bool, trial: Trial) -> float:
        until = self.time.clock() + seconds
        recipe, config = self._drawn(trial)
        trials.take(self.study, trial, json.dumps([recipe.to_dict(), config.to_json()]) + " again" * again)
        text = f"{families.named(recipe.model).title} {widths_in_text(recipe.widths)}"
        name, pace, rate = self._whole(recipe, FLOAT_SHARE * seconds, text)
        assert config.recovery is not None
        recovery = replace(config.recovery, learning_rate=rate, teacher=teacher_of(self.bench, name, self.teacher))
        self.bench.lessons_for(name, recovery, self.should_stop, partial(self._tell, text))  # which takes its time
        epochs = _epochs((until - self.time.clock()) / (QUANTIZED_PACE * pace))
        floor = self.goal.floor if epochs >= STEERED_FROM else None
        config = replace(config, recovery=replace(recovery, epochs=epochs, floor=floor))
        self._on_grids(name, config, f"{text}, {config.bits} bits", judged=not again)
        return self._kept(trial, name, config)

    def _on_grids(self, name: str, config: CompressionConfig, text: str, judged: bool) -> None:
        """Raises Stopped, Diverged; TrialPruned where it is judged, and outdone."""
        weights, outdone = self.bench.baseline(name).network.weights, threading.Event()

        def heard(event: dict[str, Any]) -> None:
            self._tell(text, event)
            ended = judged and "figures" in event
            if ended and variation.outdone(self.study, self.goal, weights, event):
                outdone.set()

        try:
            self.bench.recover(name, config, heard, lambda: outdone.is_set() or self.should_stop())
        except Stopped:
            if not outdone.is_set():
                raise
            self.say(f"{text} is given up: the best student was better by then.")
            raise optuna.TrialPruned from None

    def _whole(self, recipe: TrainingConfig, seconds: float, text: str) -> tuple[str, float, float]:
        """The student before it is quantized: a baseline that is there already, or one trained for so many seconds;
        about how many an epoch takes; and the learning rate for what follows. Raises Stopped, Diverged; TrialPruned
        where it is not accurate enough."""
        self.say(f"{text}: how long an epoch takes.")
        pace = PROBED_PACE * self.bench.epoch_seconds(recipe, self.should_stop)
        name, told, rate = self._ready(recipe.model, recipe.widths), True, READY_RATE
        if name is None:
            recipe = replace(recipe, epochs=_epochs(seconds / pace))
            baseline = self.bench.train(recipe, partial(self._tell, text), self.should_stop)
            name = self.bench.add_baseline(baseline, f"{text}, student", "trained")
            pace, rate = sum(epoch["seconds"] for epoch in baseline.info["history"]) / recipe.epochs, RATE
            told = recipe.epochs >= TOLD_AFTER
        accuracy = self.bench.evaluate(name, CompressionConfig()).evaluation.accuracy
        if told and self.goal.floor is not None and accuracy < self.goal.floor - HOPELESS:
            self.say(f"{text} is given up: {percent(accuracy, 2)} before it is quantized.")
            raise optuna.TrialPruned
        return name, pace, rate

    def _ready(self, model: str, widths: Widths) -> str | None:
        """The most accurate baseline with this network, and for these images, that is there already."""
        bench, dataset = self.bench, self.bench.datasets.named(self.data)
        network = families.named(model).build(dataset.shape, len(dataset.classes), widths)
        profiles = {card.id: bench.profile(card.id) for card in bench.cards()}
        same = [name for name, own in profiles.items() if own.network == network and own.images.data == self.data]
        return most_accurate(bench, same)

    def _drawn(self, trial: Trial) -> tuple[TrainingConfig, CompressionConfig]:
        """What the trial chooses; epochs are for later. Raises ConfigError for widths that the family cannot have."""
        model = trial.suggest_categorical("model", self.goal.families)
        factor, tilt = trial.suggest_categorical("factor", FACTORS), trial.suggest_categorical("tilt", TILTS)
        deeper, bits = trial.suggest_categorical("deeper", DEEPER), trial.suggest_categorical("bits", BITS)
        price = trial.suggest_categorical("price", PRICES)
        family, dataset = families.named(model), self.bench.datasets.named(self.data)
        widths, network = self._built(model, factor, tilt, deeper)
        own = next(iter(family.recipes.values()))
        recipe = TrainingConfig(
            family.name, 1, self.seed, flips=own.flips and dataset.mirrors, data=self.data, widths=widths,
            teacher=self.teacher,
        )  # fmt: skip
        rate, normalized = rate_weight(network.weights, price), family.name != "mlp"
        recovery = RecoveryConfig(1, RATE, self.seed, distillation=True, rate_weight=rate, normalization=normalized)
        return recipe, CompressionConfig(bits=bits, clip="mse", recovery=recovery)

    def _built(self, model: str, factor: float, tilt: float, deeper: int) -> tuple[Widths, Network]:
        """Raises ConfigError for widths that the family cannot have."""
        family, dataset = families.named(model), self.bench.datasets.named(self.data)
        widths = widths_for(family, factor, tilt, deeper)
        return widths, family.build(dataset.shape, len(dataset.classes), widths)

    def _begun(self, start: Chosen) -> Chosen:
        """As it is, or in its family's own widths where these are smaller, and there already; where a size is asked
        for, as wide as fits into it."""
        with contextlib.suppress(ConfigError):  # the family cannot have these images: its trial says so
            if self.goal.size is not None:
                return {**start, "factor": self._fitting(start, self.goal.size)}
            own = self._built(start["model"], 1.0, start["tilt"], start["deeper"])[0]
            if start["factor"] > 1 and self._ready(start["model"], own) is not None:
                return {**start, **READY}
        return start

    def _fitting(self, start: Chosen, size: int) -> float:
        """The factor with which it has about so many bytes. Raises ConfigError."""
        fits = FACTORS[0]
        for factor in FACTORS:
            network = self._built(start["model"], factor, start["tilt"], start["deeper"])[1]
            fits = factor if BYTES_EACH * network.weights <= size else fits
        return fits

    def _kept(self, trial: Trial, name: str, config: CompressionConfig) -> float:
        """What was trained, measured, and with its trial; see `_cost`."""
        bench = self.bench
        self.say("Trained; rounding by error and rate is tried where time is left.")
        late = -ROUNDED * self.time.whole
        point = rounded_further(bench, name, config, self.goal, lambda: self.should_stop() or self.time.left <= late)
        config = point.config
        bench.keep(name, config)
        trial.set_user_attr(trials.CONFIG, config.to_json())
        trial.set_user_attr(variation.WEIGHTS, bench.baseline(name).network.weights)
        trial.set_user_attr(ABOUT, json.dumps(dict(bench.baseline(name).info)))
        trial.set_user_attr(TITLE, bench.title(name))
        trial.set_user_attr(trials.HISTORY, json.dumps(bench.history(name, config)))
        trials.keep_bytes(trial, STUDENT, bench.baseline_file(name))
        trials.keep_bytes(trial, trials.PACKED, bench.file_of(name, config.as_trained()))  # what follows is done again
        trial.set_user_attr(trials.POINT, point.to_json())
        self.say(f"Trained: {in_figures(point)}")
        return self._cost(point)

    def _cost(self, point: Point) -> float:
        """What a search makes least. For a floor the bytes of the file; where it does not reach it, about those that
        one like it would need for that, and a tenth more. For a size the errors, a fraction; where it is larger, 1 and
        how many times."""
        goal, met = self.goal, self.goal.met_by(point)
        if goal.size is not None:
            return 1 - point.accuracy if met else 1 + point.bytes / goal.size
        short = 0.0 if met or goal.floor is None else goal.floor - point.accuracy
        return point.bytes if met else 1.1 * variation.for_the_floor(point.bytes, short)

    def _tell(self, text: str, event: dict[str, Any]) -> None:
        """An epoch, or what is done before the first."""
        if "message" in event:
            self.say(f"{text}. {event['message']}")
        if "figures" in event:
            figures = event["figures"]
            bits = f", {figures['bits_per_weight']:.2f} bits per weight" if "bits_per_weight" in figures else ""
            accuracy = percent(figures["validation_accuracy"], 2)
            self.say(f"{text}, epoch {event['epoch']} of {event['epochs']}: {accuracy}{bits}")

    def _vary(self, last: bool) -> None:
        """Enqueue what is to be tried next, unless something waits; at last the best once more."""
        if self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            return
        chosen = next_choice(self.study, self.goal, self.goal.families, self.dice, last)
        if chosen is not None:
            self.study.enqueue_trial(chosen)


def rounded_further(
    bench: Workbench, name: str, config: CompressionConfig, goal: Goal, should_stop: Callable[[], bool] = lambda: False
) -> Point:
    """What was trained, its codes rounded by error and rate (`mathematics.rate_rounding`) with the lambda of `LAMBDAS`
    that serves the goal best; as it was trained where a smaller file cannot serve it better. Nothing is trained
    again."""
    tried = [bench.point_of(bench.evaluate(name, config))]
    if goal.met_by(tried[0]) == (goal.size is not None):
        return tried[0]
    for weight in LAMBDAS:
        if should_stop():
            break
        tried.append(bench.point_of(bench.evaluate(name, replace(config, rate_rounding=weight))))
    return goal.ranked(tried)[0]


def _epochs(wanted: float) -> int:
    return max(LEAST_EPOCHS, min(MOST_EPOCHS, int(wanted)))


def title_of(bench: Workbench, data: str, goal: Goal) -> str:
    """Of the study: the goal, and a hash of everything that its trials rely on."""
    images = bench.datasets.named(data).images(bench.datasets.folder)
    methods = (
        reliance.networks(images)
        | reliance.files()
        | reliance.versions(techniques())
        | reliance.students(goal.floor)
        | reliance.trainings(TrainingConfig(goal.families[0], 1, data=data), images)
    )
    wanted = goal.to_request()
    return f"{data}, {json.dumps(wanted)}, {key_of('students', data=data, goal=wanted, methods=methods)[:12]}"


def help_out(
    cache: str,
    data: str,
    goal: dict[str, Any],
    storage: str,
    seed: int,
    seconds: float,
    whole: float,
    number: int,
    should_stop: Callable[[], bool],
) -> None:
    """What a process beside another does, the `number`-th, whose search has so many seconds left of the `whole`: work
    on its study."""
    bench, wanted = Workbench(Path(cache), "searched", "cpu", "last"), Goal(**goal)

    def stopped() -> bool:
        bench.jobs.precedence.give_way()
        return should_stop()

    draws = partial(optuna.samplers.TPESampler, seed=seed + number, multivariate=True)
    study = trials.open_study(trials.connect(storage), title_of(bench, data, wanted), 1, draws)
    time_left = Countdown(whole, time.monotonic() + seconds, time.monotonic)
    dice = random.Random(f"{seed} {number}")
    found = StudentSearch(
        bench, data, wanted, study, time_left, stopped, lambda event: None, dice, seed, True,
        best_teacher(bench, data),
    )  # fmt: skip
    with contextlib.suppress(Stopped):
        found.run()


def run(
    bench: Workbench,
    data: str,
    goal: Goal,
    minutes: float,
    storage: str | None = None,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    sampler: Sampler | None = None,
    out: Path | None = None,
    seed: int | None = None,
    clock: Clock = time.monotonic,
    workers: int | None = None,
) -> Searched:
    """Search for so many minutes, the confirmation included; the same arguments as `search.run`.

    data : name of the images; goal : with a floor, and families
    workers : processes on this machine, this one included; as many as it is for, if not given
    Raises StorageError, DataError, ConfigError, FormatError (the file does not hold what was promised).
    """
    if out is not None:
        artifact.check_directory(out)
    seed = 0 if seed is None else seed
    draws = sampler or partial(optuna.samplers.TPESampler, seed=seed, multivariate=True)
    countdown, storage = Countdown.of(minutes, clock), storage or default_storage(bench)
    study = trials.open_study(trials.connect(storage), title_of(bench, data, goal), 1, draws)
    workers = beside.workers_on(bench.training_device()) if workers is None else workers
    found = StudentSearch(
        bench, data, goal, study, countdown, should_stop, progress, random.Random(seed), seed, sampler is None,
        best_teacher(bench, data), workers if sampler is None else 1,
    )  # fmt: skip
    with in_words():
        adopt(bench, study)
        with contextlib.suppress(Stopped):
            found.begin()
            with found.helped(storage):
                found.run()
        adopt(bench, study)
        points = trials.points_of(study)
        best = goal.best(points)
        if best is None:
            return Searched(len(points), None)
        answer = confirmed(bench, best.baseline, best.config, out, found.say, should_stop)
    return Searched(len(points), answer)


def adopt(bench: Workbench, study: optuna.Study) -> None:
    """Take what other workers trained into this machine's store: it can be opened and exported here."""
    for trial, _ in trials.measured(study):
        config = CompressionConfig.from_json(trial.user_attrs[trials.CONFIG])
        about, title = json.loads(trial.user_attrs[ABOUT]), trial.user_attrs[TITLE]
        name = bench.adopt_baseline(trials.kept_bytes(trial, STUDENT), about, title)
        if bench.history(name, config) is None:
            history = json.loads(trial.user_attrs[trials.HISTORY])
            bench.adopt(name, config, trials.kept_bytes(trial, trials.PACKED), history)
            bench.evaluate(name, config)


def work(bench: Workbench, asked: dict[str, Any], report: Progress, should_stop: Callable[[], bool]) -> Searched:
    """What the job of such a search does."""
    goal = Goal(**asked["goal"])
    return run(bench, asked["data"], goal, asked["minutes"], None, report, should_stop, seed=asked["seed"])
