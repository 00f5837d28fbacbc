"""Long trainings: the best shapes, each as large as the law of sizes and losses says and for as many epochs as there is
time for."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial, Trial, TrialState

from core.config import CompressionConfig, RecoveryConfig
from core.measuring.front import Point, techniques
from core.measuring.training import Diverged
from core.studies.sizes import LAW, next_size
from core.studies.space import Chosen, configuration, rate_weight, recovery
from core.studies.stages.pace import PACE
from core.studies.stages.shapes import merit_of, near, resize, shape, size_of, stored_weights, wanted_size
from core.studies.stages.trainer import Trainer
from core.studies.stages.worker import Worker, in_figures
from core.studies.trials import CHOSEN, DIVERGED, SECONDS, claim, held, measured, points_of

PRICE = 6e-7
"""Of a bit of the file in the loss of a long training, where nothing may be pruned: there it is what makes a file
smaller. Beside pruning it brings no better curve, its epochs take longer, and the size is hard to foresee: the CNN has
93.04 % on validation after 14 epochs both with 6,908 bytes, priced, one scale for each tensor, and with 7,248 bytes
without a price, one for each channel, 0.3 KB more of scales."""

TURNS = 3
"""One of so many long trainings is of a new shape: the first of a shape rarely has the size that it should have had."""

Candidate = tuple[FrozenTrial, Point]
"""A trial whose shape may be trained, and what it was measured to be."""


def _coded(config: CompressionConfig) -> bool:
    """Whether there are weights that can have a price."""
    return not {"bits", "codebook"}.isdisjoint(techniques(config))


class Finished(Exception):
    """There is nothing more to train, or no time for it."""


@dataclass(eq=False)
class LongTrainings:
    """rounds : long trainings of this run"""

    trainer: Trainer
    rounds: int = 0

    @property
    def worker(self) -> Worker:
        return self.trainer.worker

    def train_next(self, trial: Trial) -> float:
        """A long training; one that another worker did not end, or the next that is worth it. Its merit. Raises
        Finished, Diverged."""
        config = held(trial)
        if config is None:
            chosen, config = self.plan()
            trial.set_user_attr(CHOSEN, json.dumps(chosen))
        config = self.trainer.in_time(self.worker.teachable(config))
        claim(self.worker.studies.trained, trial, config)
        try:
            point = self.trainer.train(trial, config)
        except Diverged:
            trial.set_user_attr(DIVERGED, True)
            raise
        self.rounds += 1
        self.worker.say(f"Trained: {in_figures(point)}")
        return merit_of(self.worker, point, wanted_size(self.worker))

    def plan(self) -> tuple[Chosen, CompressionConfig]:
        """The next long training: of the best shape that has had none yet, then twice of the best that has had one, at
        another size, and so on. Where no other size is worth a training, only of a new shape, a little smaller than the
        best file. Raises Finished."""
        worker = self.worker
        old = measured(worker.studies.trained)
        size = self.next_bytes([point for _, point in old])
        if size is None:
            size, old = self.below_the_best(), []
        started = self.started()
        new = self.untried(started)
        for trial, point in self.in_turns(new, old, len(started)):
            chosen, expected = self.at_size(trial, point, size)
            config = configuration(chosen, worker.network)
            if config not in started and near(worker, expected, size):
                return chosen, replace(config, recovery=self.rated(config, self.epochs(trial, point)))
        raise Finished

    def rated(self, config: CompressionConfig, epochs: int) -> RecoveryConfig:
        """How a shape is trained for long: with a rate in the loss, too, where its weights are coded and not pruned."""
        asked = recovery(config, epochs, self.worker.teacher)
        if self.worker.scalable or not _coded(config):
            return asked
        return replace(asked, rate_weight=rate_weight(stored_weights(self.worker, config), PRICE))

    def next_bytes(self, done: Sequence[Point]) -> float | None:
        """How large the next file should be, after those that were trained: smaller than what meets the goal without
        that; None where nothing is left to try."""
        goal, studies = self.worker.goal, self.worker.studies
        if goal.allowance is None:
            return wanted_size(self.worker)
        tried = [(point.bytes, -point.difference) for point in done]
        size = next_size(tried, self.worker.allowed) if tried else wanted_size(self.worker)
        without_it = goal.best([*points_of(studies.untrained), *points_of(studies.brief)], self.worker.optimism)
        return size if size is None or without_it is None else min(size, without_it.bytes / LAW.close**2)

    def below_the_best(self) -> float:
        """Bytes, a little less than the smallest file that meets the goal has. Raises Finished."""
        best = self.worker.goal.best(self.worker.studies.points(), self.worker.optimism)
        if best is None:  # it was, until more candidates made the promise dearer
            raise Finished
        return best.bytes / LAW.close

    def started(self) -> list[CompressionConfig]:
        """What was trained for long, is being trained, or diverged; without how."""
        trials = self.worker.studies.trained.get_trials(deepcopy=False)
        return [
            replace(config, recovery=None)
            for trial in trials
            if trial.state in (TrialState.RUNNING, TrialState.COMPLETE) or DIVERGED in trial.user_attrs
            if (config := held(trial)) is not None
        ]

    def untried(self, started: Iterable[CompressionConfig]) -> list[Candidate]:
        """The brief trials of shapes that no long training has begun with."""
        shapes = set(map(shape, started))
        return [pair for pair in measured(self.worker.studies.brief) if shape(pair[1].config) not in shapes]

    def in_turns(self, new: list[Candidate], old: list[Candidate], trainings: int) -> list[Candidate]:
        """The best of each first; the new ones before the old ones in one of `TURNS` trainings."""
        wanted = wanted_size(self.worker)
        new, old = (sorted(pool, key=lambda pair: merit_of(self.worker, pair[1], wanted)) for pool in (new, old))
        return [*new, *old] if trainings % TURNS == 0 else [*old, *new]

    def at_size(self, trial: FrozenTrial, point: Point, size: float) -> tuple[Chosen, float]:
        """The choices of a trial, brought to a size after training, and the bytes that are expected: training changes
        them by the same factor as it did last time."""
        chosen = json.loads(trial.user_attrs[CHOSEN])
        grown = point.bytes / size_of(self.worker, chosen)
        chosen, untrained = resize(self.worker, chosen, size / grown)
        return chosen, grown * untrained

    def epochs(self, trial: FrozenTrial, point: Point) -> int:
        """Of the next training: the time that is left, shared with those after it. Raises Finished."""
        paces, time = self.trainer.paces, self.worker.time
        pace = paces.get(shape(point.config)) or max([float(trial.user_attrs[SECONDS]), *paces.values()])
        least = PACE.later_epochs if self.rounds else PACE.least_epochs
        for sharing in (max(1, PACE.trainings - self.rounds), 1):
            epochs = min(PACE.most_epochs, time.epochs(pace) // sharing)
            if epochs >= least:
                return epochs
        raise Finished
