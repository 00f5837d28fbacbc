"""The smallest file within a budget, found by trying: Optuna's trials, measured by the live engine.

Three studies, each with fewer and dearer trials than the one before. "untrained": compressed and measured, a second
each, hundreds of them; they show what each layer can bear. "brief": an epoch of training each, shapes at equal size;
before it, removed channels and low ranks look far worse than they are. "trained": the best of these shapes, as large as
the law of `next_size` says, for as many epochs as there is time for; their packed files are kept with them. Several
processes, on one machine or on many, may work on the same studies. The best is opened on the test images at the end.
"""

import contextlib
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from core.bench import reliance
from core.bench.results import ExportVerdict
from core.bench.workbench import Early, Result, Workbench
from core.config import CompressionConfig, ConfigError
from core.datasets import fashion_mnist
from core.formats import artifact
from core.formats.artifact import NETWORK_FILE
from core.machinery.stopping import Stopped
from core.machinery.store import key_of
from core.measuring.front import Goal, Point
from core.measuring.training import Diverged, Progress
from core.networks import compression
from core.networks.models import Layer, Overflow
from core.networks.stored import FormatError
from core.studies import tuning
from core.studies.answers import Searched, SearchedBest
from core.studies.space import Chosen, configuration, draw, neighbour, recovery, resized, space, start, starts
from core.studies.trials import (
    CONFIG,
    HISTORY,
    POINT,
    Sampler,
    claim,
    connect,
    finished,
    first,
    held,
    in_words,
    keep_packed,
    measured,
    open_study,
    packed_of,
    points_of,
    step,
)
from core.techniques.low_rank import rank_at
from core.words import percent

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
OCTAVES = (2, 4, 6, 8, 10)
"""What the sensitivity scans try: shares of a layer's weights, and ranks in half octaves below break-even."""

SCANNED_UNTIL, UNTRAINED_UNTIL, BRIEF_UNTIL = 0.1, 0.2, 0.5
"""Shares of the time after which the scans, the trials without training, and those of an epoch are over."""

TRAININGS = 2
"""So many trainings share the rest of the time, where they are shorter than `MOST_EPOCHS` then."""

LEAST_EPOCHS, MOST_EPOCHS = 2, 20
GAIN = 3.0
"""Until something was trained: the size within the allowance with training, below that without it, by this factor."""

EASED = 1.8
"""What a shape loses after one epoch over what it loses after ten, until it is known: the CNN, 96.3 % sparse, 1.6 and
0.9 points (validation)."""

POWER = 1.2
"""Accuracy lost falls with bytes^-POWER, after training: the CNN at 10.2, 14.2 and 38.5 KB loses 1.12, 0.80 and 0.22
points (validation)."""

STEEP = 2.4
"""The same below what fits, as a training costs more than a byte: 12.5 KB lost 0.60 points, and 8.6 KB 1.46."""

AIM = 0.93
"""Of the allowance: what a training aims at, since its outcome is not known to a tenth of a point."""

LEAST_LOST = 1e-3
"""Smaller losses are not told apart."""

APART, FAR_APART = 0.2, 1.0
"""What a shape's merit is charged for each factor e between its size and the wanted one; the second where no pruning
can make it the wanted one: fewer channels or bits alone go by no law over more than a small factor."""

NEAR = 1.5
"""A shape whose size cannot be made the wanted one within this factor is not trained: a tiny network follows another
law."""

FAR_LOST = 3.0
"""Where more than so many times the goal is lost, nothing is said of the size that the goal needs."""

PARENTS = 3
"""So many of the best shapes are varied."""

SLOWER, LEAST_RATE = 3, 0.01
"""A training that diverged is tried again with a learning rate so many times smaller, down to this."""

RESIZING_STEPS = 8

FRUITLESS = 50
"""After so many trials in a row that came to nothing, what may be chosen is exhausted."""

VARIATIONS = 20
"""So often another neighbour is tried where one changes nothing that counts."""

UNKNOWN_SIZE = 1e5
"""Wanted, while nothing meets the goal."""

CLOSE = 1.03
"""Sizes whose ratio is smaller are not told apart."""

CONFIRMATION_SECONDS = 45.0
"""Writing the files, reading them in fresh processes, running them over the test images."""


Clock = Callable[[], float]
"""Says the time, in seconds from any beginning."""

DIVERGED, SCANNED = "diverged", "scanned"
"""Attributes: of a trial whose training diverged; of a study, how many sensitivities its first trials come from."""


class Finished(Exception):
    """There is nothing more to train, or no time for it."""


class Exhausted(Exception):
    """`FRUITLESS` trials in a row came to nothing."""


class Studies(NamedTuple):
    """Of one goal, from the cheapest trials to the dearest."""

    untrained: optuna.Study
    brief: optuna.Study
    trained: optuna.Study

    def points(self) -> list[Point]:
        return [point for study in self for point in points_of(study)]


def next_size(tried: Sequence[tuple[int, float]], allowance: float) -> float | None:
    """At how many bytes the next training should be tried; None where what fits and what does not are `CLOSE`.

    Accuracy lost falls as a power of the bytes, lost = c bytes^-k: between the smallest file that fits and the largest
    below it that does not, through both; below them with k = `STEEP`, above with `POWER`, through the nearest.

    tried : bytes and accuracy lost, a fraction, of what was trained; not empty
    """
    fits = [size for size, lost in tried if lost <= allowance]
    fails = [pair for pair in tried if pair[1] > allowance and (not fits or pair[0] < min(fits))]
    goal = AIM * max(allowance, LEAST_LOST)
    if not fails or not fits:
        size, lost = min(tried) if fits else max(fails)
        if fits:
            return max(size / 2, min(at_loss(size, lost, goal, STEEP), size / CLOSE**2))
        return min(4 * size, max(at_loss(size, lost, goal), size * CLOSE**2))
    (low, more), (high, less) = max(fails), min(pair for pair in tried if pair[1] <= allowance)
    if high / low < CLOSE:
        return None
    slope = max(0.3, math.log(more / max(less, LEAST_LOST / 10)) / math.log(high / low))
    wanted, edge = low * (more / goal) ** (1 / slope), (high / low) ** 0.2
    return min(high / edge, max(low * edge, wanted))


def at_loss(size: float, lost: float, goal: float, power: float = POWER) -> float:
    """Bytes at which a shape that loses `lost` at `size` would lose `goal`: lost falls as bytes^-power."""
    return size * (max(lost, LEAST_LOST) / goal) ** (1 / power)


def merit(point: Point, wanted: float, apart: float = APART, least: float = LEAST_LOST) -> float:
    """How good a shape is at any size, the smaller the better: log bytes + log lost / POWER, which is the same wherever
    it is tried on its curve, and a charge for trying it far from the wanted size, where the curve is not known.

    apart : the charge for a factor e; least : losses below are not told apart, a fraction
    """
    lost = max(-point.difference, least)
    return math.log(point.bytes) + math.log(lost) / POWER + apart * abs(math.log(point.bytes / wanted))


@dataclass(eq=False)
class Search:
    """A worker's part of a search.

    whole : seconds, without those of the `confirmation`; until : their end, on the `clock`
    guided : whether it begins at the scans and varies what is best
    paces : seconds of an epoch here, by shape; rounds : trainings of this run; fruitless : trials in a row
    """

    bench: Workbench
    name: str
    goal: Goal
    studies: Studies
    whole: float
    until: float
    should_stop: Callable[[], bool]
    progress: Progress
    confirmation: float = 0.0
    guided: bool = True
    paces: dict[CompressionConfig, float] = field(default_factory=dict)
    rounds: int = 0
    fruitless: int = 0
    dice: random.Random = field(default_factory=random.Random)
    clock: Clock = time.monotonic

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.bench.baseline(self.name).layers

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - self.clock()

    @property
    def scalable(self) -> bool:
        """Whether a shape can be made any size, by pruning it."""
        return "pruning" in self.goal.techniques

    def merit(self, point: Point, wanted: float) -> float:
        if self.scalable:
            return merit(point, wanted)
        least = (self.goal.allowance or 0.0) * EASED / FAR_LOST
        return merit(point, wanted, FAR_APART, max(least, LEAST_LOST))

    def past(self, share: float) -> bool:
        """Whether that much of the time is over, or everything."""
        return self.should_stop() or self.left <= (1 - share) * self.whole

    def say(self, message: str) -> None:
        """Where the search stands: what it does, how many trials, the best so far."""
        points = self.studies.points()
        best, about = self.goal.best(points), dict[str, Any]()
        if best is not None:
            about = {"bytes": best.bytes, "accuracy": best.accuracy, "difference": best.difference}
            about = {"best": {**about, "config": json.loads(best.config.to_json())}}
        done = max(0.0, min(0.99, (self.whole - self.left) / (self.whole + self.confirmation)))
        self.progress({"message": message, "done": done, "trials": len(points), **about})

    # Without training

    def scan(self) -> None:
        """Enqueue first trials, from what each layer alone can bear; nothing where the study has those of as much. What
        there is no time for is left out, of every scan the same, until a later search has more."""
        study = self.studies.untrained
        shares = [1 - density for density in DENSITIES]
        scans: dict[str, tuple[str, Sequence[Any]]] = {
            "pruning": ("sparsity", shares), "bits": ("bits", tuning.WIDTHS), "low rank": ("rank", OCTAVES)
        }  # fmt: skip
        places = [
            (place / len(values), setting, values[place], layer)
            for setting, values in (scans[name] for name in self.goal.techniques if name in scans)
            for place in range(len(values))
            for layer in self.layers
            if setting != "rank" or f"rank {layer.name}" in space(self.layers)
        ]
        if study.user_attrs.get(SCANNED, -1) >= len(places):
            return
        rows = []
        for _, setting, value, layer in sorted(places, key=lambda place: place[0]):
            if self.past(SCANNED_UNTIL):
                break
            rows.append(self._alone(layer, setting, value))
        more = study.user_attrs.get(SCANNED, -1) < len(rows)
        if more and not self.should_stop() and first(study, f"{len(rows)} rows"):
            study.set_user_attr(SCANNED, len(rows))
            for chosen in starts(rows, self.layers, self.goal.techniques):
                study.enqueue_trial(chosen)

    def _alone(self, layer: Layer, setting: str, value: Any) -> dict[str, Any]:
        own = {setting: rank_at(value, layer) if setting == "rank" else value}
        result = self.bench.evaluate(self.name, start(self.layers).with_layer(layer.name, **own))
        said = percent(own[setting]) if setting == "sparsity" else f"{own[setting]:.3g}"
        self.say(f"{layer.name} alone, {setting} {said}: {percent(result.evaluation.accuracy, 2)}")
        return {"layer": layer.name, setting: value, "lost": max(0.0, -result.comparison.difference)}

    def look(self, trial: Trial) -> tuple[float, float]:
        """A trial without training: log bytes and accuracy lost."""
        config = configuration(draw(trial, self.layers, self.goal.techniques), self.layers)
        claim(self.studies.untrained, trial, config)
        found = self.seen(config)
        if isinstance(found, Early):  # hopeless: worth knowing where, but no point of any front
            whole = self.bench.evaluate(self.name, CompressionConfig()).evaluation.accuracy
            return math.log(found.bytes), whole - found.estimate.accuracy
        point = self.bench.point_of(found)
        self.bench.keep(self.name, config)
        trial.set_user_attr(POINT, point.to_json())
        self.say(f"Without training: {in_figures(point)}")
        return math.log(point.bytes), -point.difference

    def seen(self, config: CompressionConfig) -> Result | Early:
        """All images; or the first, where these say that a smaller or equal file is more accurate: the upper end of
        their paired interval lies below it."""
        ticket, rivals = self.bench.ask("search", self.name, config), points_of(self.studies.untrained)
        while not self.bench.turns.wait(ticket, 0.1):
            early: Early | None = ticket.first
            if self.should_stop():
                self.bench.turns.leave(ticket)
            elif early is not None and hopeless(early, rivals):
                self.bench.turns.leave(ticket)
                return early
        found: Result = ticket.result()
        return found

    # An epoch each

    def sketch(self, trial: Trial) -> float:
        """A trial of one epoch, of a shape at the wanted size; its merit."""
        wanted = self.wanted()
        config = held(trial)
        if config is None:
            chosen, size = self.resize(draw(trial, self.layers, self.goal.techniques), wanted)
            trial.set_user_attr("chosen", json.dumps(chosen))
            if not self.near(size, wanted):
                raise optuna.TrialPruned
            config = configuration(chosen, self.layers)
            config = replace(config, recovery=recovery(config, 1))
        claim(self.studies.brief, trial, config)
        point = self.train(trial, config)
        self.say(f"After an epoch: {in_figures(point)}")
        return self.merit(point, wanted)

    def wanted(self) -> float:
        """Bytes at which shapes are compared: of the file that is searched for, as far as that is known."""
        if self.goal.size is not None:
            over = [point.bytes / self.goal.size for point in points_of(self.studies.trained)]
            return self.goal.size / CLOSE**2 / max([1.0, *over])
        goal = AIM * max(self.goal.allowance or 0.0, LEAST_LOST)
        for study, lost in ((self.studies.trained, goal), (self.studies.brief, goal * EASED)):
            known = [(point.bytes, -point.difference) for point in points_of(study)]
            least = -1.0 if self.scalable else lost / FAR_LOST
            found = [at_loss(size, own, lost) for size, own in known if least <= own <= FAR_LOST * lost]
            if found:
                return min(found)
        best = self.goal.best(points_of(self.studies.untrained))
        return best.bytes / GAIN if best is not None else UNKNOWN_SIZE

    def near(self, size: float, wanted: float) -> bool:
        """Whether a shape has about the wanted size, and no more than the most; where nothing may be pruned to make it
        so, any has."""
        if self.goal.size is not None and size > self.goal.size:
            return False
        return not self.scalable or wanted / NEAR <= size <= wanted * NEAR

    def begin_sketches(self) -> None:
        """Enqueue, for each set of techniques, the best shape without training; one worker does."""
        if not first(self.studies.brief, "sketches"):
            return
        best: dict[tuple[str, ...], tuple[float, FrozenTrial]] = {}
        wanted = self.wanted()
        for trial, point in measured(self.studies.untrained):
            if point.bytes < wanted and not self.near(point.bytes, wanted):
                continue  # it could hardly be made larger
            own = self.merit(point, wanted), trial
            best[point.techniques] = min(best.get(point.techniques, own), own, key=lambda pair: pair[0])
        for _, trial in sorted(best.values(), key=lambda pair: pair[0]):
            self.studies.brief.enqueue_trial(trial.params)

    def vary(self) -> None:
        """Enqueue a neighbour of one of the best shapes."""
        wanted = self.wanted()
        known = [pair for pair in measured(self.studies.brief) if self.near(pair[1].bytes, wanted)]
        known = known or measured(self.studies.brief)
        parents = sorted(known, key=lambda pair: self.merit(pair[1], wanted))[:PARENTS]
        if parents:
            chosen = json.loads(self.dice.choice(parents)[0].user_attrs["chosen"])
            for _ in range(VARIATIONS):
                other = neighbour(chosen, self.layers, self.goal.techniques, self.dice)
                if configuration(other, self.layers) != configuration(chosen, self.layers):
                    self.studies.brief.enqueue_trial(other)
                    return

    def size_of(self, chosen: Chosen) -> int:
        """Bytes before training, rounded in the plain way, which is soon done: other roundings have about as many."""
        config = replace(configuration(chosen, self.layers), rounding="nearest", bias_correction=False, clip="minmax")
        return self.bench.bytes_of(self.name, config)

    def resize(self, chosen: Chosen, size: float) -> tuple[Chosen, float]:
        """The same shape at so many bytes before training, as far as its densities can do that, and how many it has: by
        the secant rule on log bytes over the log of the factor, in a bracket."""
        if not any(name.startswith("density") for name in chosen):
            return chosen, self.size_of(chosen)

        def excess(factor: float) -> float:
            return math.log(self.size_of(resized(chosen, math.exp(factor))) / size)

        place, over = 0.0, excess(0.0)
        low, high = (-9.0, 0.0) if over > 0 else (0.0, 9.0)
        step = -over
        for _ in range(RESIZING_STEPS):
            if abs(over) < math.log(CLOSE):
                break
            then, was = place, over
            place = min(high - 0.05 * (high - low), max(low + 0.05 * (high - low), place + step))
            over = excess(place)
            low, high = (low, place) if over > 0 else (place, high)
            slope = (over - was) / (place - then)
            step = -over / slope if slope > 0.05 else -4 * over
        return resized(chosen, math.exp(place)), size * math.exp(over)

    # As many epochs as there is time for

    def finish(self, trial: Trial) -> float:
        """A long training; one that another worker did not end, or the next that is worth it."""
        config = held(trial)
        if config is None:
            chosen, config = self.plan()
            trial.set_user_attr("chosen", json.dumps(chosen))
        config = self.in_time(config)
        claim(self.studies.trained, trial, config)
        try:
            point = self.train(trial, config)
        except Diverged:
            trial.set_user_attr(DIVERGED, True)
            raise
        self.rounds += 1
        self.say(f"Trained: {in_figures(point)}")
        return self.merit(point, self.wanted())

    def plan(self) -> tuple[Chosen, CompressionConfig]:
        """The next long training: in turns the best shape of the brief ones that was not trained yet, and the best that
        was, at another size; where that is no longer worth it, a new one, a little smaller than the best. Raises
        Finished."""
        wanted, long = self.wanted(), measured(self.studies.trained)
        size = self.next_bytes([point for _, point in long])
        started = [
            replace(own, recovery=None)
            for trial in self.studies.trained.get_trials(deepcopy=False)
            if trial.state in (TrialState.RUNNING, TrialState.COMPLETE) or DIVERGED in trial.user_attrs
            if (own := held(trial)) is not None
        ]
        shapes = set(map(shape, started))
        fresh = [pair for pair in measured(self.studies.brief) if shape(pair[1].config) not in shapes]
        if size is None:
            size, long = min(point.bytes for point in self.studies.points() if self.goal.met_by(point)) / CLOSE, []
        pools = [sorted(pool, key=lambda pair: self.merit(pair[1], wanted)) for pool in (fresh, long)]
        before, after = reversed(pools) if len(started) % 2 else pools
        for trial, point in [*before, *after]:
            chosen = json.loads(trial.user_attrs["chosen"])
            grown = point.bytes / self.size_of(chosen)
            chosen, bare = self.resize(chosen, size / grown)
            config = configuration(chosen, self.layers)
            if config not in started and self.near(grown * bare, size):
                return chosen, replace(config, recovery=recovery(config, self.epochs(trial, point)))
        raise Finished

    def epochs(self, trial: FrozenTrial, point: Point) -> int:
        """Of the next training: the time that is left, shared with those after it. Raises Finished."""
        known = self.paces.get(shape(point.config))
        pace = known or max([float(trial.user_attrs["seconds"]), *self.paces.values()])
        least = LEAST_EPOCHS if not self.rounds else MOST_EPOCHS // 3
        for rounds in (max(1, TRAININGS - self.rounds), 1):
            epochs = min(MOST_EPOCHS, self.affordable(pace) // rounds)
            if epochs >= least:
                return epochs
        raise Finished

    def affordable(self, pace: float) -> int:
        """So many epochs there is time for, and for measuring what came of them."""
        return int(self.left / pace - 0.5)

    def in_time(self, config: CompressionConfig) -> CompressionConfig:
        """With fewer epochs where another worker, or a higher learning rate, had more time for them."""
        asked, pace = config.recovery, self.paces.get(shape(config), max(self.paces.values(), default=0.0))
        if asked is None or not pace:
            return config
        return replace(config, recovery=replace(asked, epochs=max(1, min(asked.epochs, self.affordable(pace)))))

    def next_bytes(self, done: Sequence[Point]) -> float | None:
        """How large the next file should be, after those that were trained: smaller than what meets the goal without
        that; None where nothing is left to try."""
        if self.goal.allowance is None:
            return self.wanted()
        tried = [(point.bytes, -point.difference) for point in done]
        size = next_size(tried, self.goal.allowance) if tried else self.wanted()
        cheaper = self.goal.best([*points_of(self.studies.untrained), *points_of(self.studies.brief)])
        return size if size is None or cheaper is None else min(size, cheaper.bytes / CLOSE**2)

    def train(self, trial: Trial, config: CompressionConfig) -> Point:
        """Recover, measure, and keep with the trial what another machine needs of it."""
        asked = config.recovery
        assert asked is not None
        known = self.bench.history(self.name, config) is not None
        try:
            self.bench.recover(self.name, config, self._trained_on, self.should_stop)
        except Diverged:
            rate = asked.learning_rate / SLOWER
            if rate < LEAST_RATE:
                raise
            self.say(f"Diverged; again with a learning rate of {rate:.2g}.")
            config = self.in_time(replace(config, recovery=replace(asked, learning_rate=rate)))
            trial.set_user_attr(CONFIG, config.to_json())
            return self.train(trial, config)
        history = self.bench.history(self.name, config) or []
        pace = sum(epoch["seconds"] for epoch in history) / asked.epochs
        if not known:
            self.paces[shape(config)] = pace
        point = self.bench.point_of(self.bench.evaluate(self.name, config))
        self.bench.keep(self.name, config)
        keep_packed(trial, self.bench.file_of(self.name, config))
        trial.set_user_attr("seconds", pace)
        trial.set_user_attr(HISTORY, json.dumps(history))
        trial.set_user_attr(POINT, point.to_json())
        return point

    def _trained_on(self, event: dict[str, Any]) -> None:
        if "message" in event:
            self.say(event["message"])
        if "figures" in event and event["epochs"] > 1:
            accuracy = event["figures"]["validation_accuracy"]
            self.say(f"Training, epoch {event['epoch']} of {event['epochs']}: {percent(accuracy, 2)}")

    # All of it

    def run(self) -> None:
        """The three stages; where there are no images to train with, the first one has all the time."""
        if self.guided:
            self.scan()
        self._look_until(UNTRAINED_UNTIL)
        try:
            compression.check_training(self.layers)
            fashion_mnist.load("train", self.bench.cache / "data", self.say)
        except (fashion_mnist.DataError, ConfigError) as error:
            self.say(f"Nothing can be trained here. {error}")
            self._look_until(1)
        else:
            self._train_until_the_end()

    def _try(self, study: optuna.Study, what: Callable[[Trial], Any]) -> None:
        """Raises Exhausted, Finished."""
        self.fruitless = 0 if step(study, what, Diverged, Overflow) else self.fruitless + 1
        if self.fruitless == FRUITLESS:
            self.fruitless = 0
            raise Exhausted

    def _look_until(self, share: float) -> None:
        with contextlib.suppress(Exhausted):
            while not self.past(share):
                self._try(self.studies.untrained, self.look)

    def _sketch(self) -> None:
        waiting = self.studies.brief.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if self.guided and not waiting:
            self.vary()
        self._try(self.studies.brief, self.sketch)

    def _train_until_the_end(self) -> None:
        """Sketches, then long trainings; more sketches, for a search that goes on, where nothing longer fits."""
        if self.guided:
            self.begin_sketches()
        with contextlib.suppress(Exhausted):
            while not self.past(BRIEF_UNTIL):
                self._sketch()
        while not self.past(1):
            try:
                self._try(self.studies.trained, self.finish)
            except (Exhausted, Finished):
                if self.affordable(max(self.paces.values(), default=math.inf)) < 1:
                    return
                self._sketch()


def shape(config: CompressionConfig) -> CompressionConfig:
    """All of a configuration but how dense it is and how it is trained."""
    layers = tuple((name, replace(own, sparsity=None)) for name, own in config.layers)
    return replace(config, layers=layers, sparsity=None, recovery=None)


def hopeless(early: Early, rivals: Sequence[Point]) -> bool:
    """Whether a file that is no larger is surely more accurate, by the first images."""
    _, most = early.estimate.interval
    return any(rival.bytes <= early.bytes and rival.accuracy > most for rival in rivals)


def in_figures(point: Point) -> str:
    return f"{point.bytes / 1024:.1f} KB, {percent(point.accuracy, 2)}, {100 * point.difference:+.2f} pp"


def default_storage(bench: Workbench) -> str:
    return f"sqlite:///{bench.cache / 'searches.sqlite'}"


def open_studies(bench: Workbench, name: str, goal: Goal, url: str, sampler: Sampler) -> Studies:
    """The same baseline, methods and goal are the same studies, for every process that opens them."""
    wanted = json.dumps(goal.to_request())
    about = key_of("search", baseline=bench.baseline(name).sha256, goal=goal.to_request(), methods=reliance.networks())
    title = f"{wanted}, {about[:12]}"
    storage = connect(url)
    return Studies(
        open_study(storage, f"{title}, untrained", 2, sampler),
        open_study(storage, f"{title}, brief", 1, sampler),
        open_study(storage, f"{title}, trained"),
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
    confirmation = min(CONFIRMATION_SECONDS, 15 * minutes)
    whole = 60 * minutes - confirmation
    if out is not None:
        artifact.check_directory(out)
    until = clock() + whole
    studies = open_studies(bench, name, goal, storage or default_storage(bench), draws)
    search = Search(
        bench, name, goal, studies, whole, until, should_stop, progress, confirmation, guided=sampler is None,
        dice=random.Random(seed), clock=clock,
    )  # fmt: skip
    with in_words():
        adopt(bench, name, studies)
        with contextlib.suppress(Stopped, Finished, Exhausted):
            search.run()
        adopt(bench, name, studies)
        points, verdict = studies.points(), None
        best = goal.best(points)
        if best is not None and not should_stop():
            search.say("Confirming the best on the test images.")
            out = out or bench.export_folder(name, best.config)
            verdict = bench.export(name, best.config, out)
    return Searched(len(points), None if best is None else _answer(bench, name, best.config, out, verdict))


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
    )
    if verdict is None or out is None:
        return answer
    file = verdict.files[0]
    if file.problem is not None:
        raise FormatError(file.problem)
    change = file.accuracy - verdict.baseline_accuracy
    return replace(answer, test_accuracy=file.accuracy, test_difference=change, path=str(out / NETWORK_FILE))


def adopt(bench: Workbench, name: str, studies: Studies) -> None:
    """Take what other workers trained into this machine's store: it can be opened and exported here."""
    for study in (studies.brief, studies.trained):
        for trial in finished(study):
            config = held(trial)
            if config is not None and bench.history(name, config) is None:
                bench.adopt(name, config, packed_of(trial), json.loads(trial.user_attrs[HISTORY]))
                bench.evaluate(name, config)


def work(bench: Workbench, asked: dict[str, Any], report: Progress, should_stop: Callable[[], bool]) -> Searched:
    """What the job of a search does."""
    return run(bench, asked["baseline"], Goal(**asked["goal"]), asked["minutes"], None, report, should_stop)
