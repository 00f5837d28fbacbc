"""Trials of one epoch, shapes compared at equal size: removed channels and low ranks look far worse without it than
they are."""

import json
import statistics
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from core.config import CompressionConfig
from core.studies.space import configuration, draw, neighbour, recovery, taught, to_train
from core.studies.stages.shapes import merit_of, near, resize, wanted_size
from core.studies.stages.trainer import Trainer
from core.studies.stages.worker import Worker, in_figures
from core.studies.trials import CHOSEN, claim, first, held, measured

PARENTS = 3
"""So many of the best shapes are varied."""

UNTRAINED = "bytes before training"
"""Of a trial, where its user attributes say it."""

VARIATIONS = 20
"""So often another neighbour is tried where one changes nothing that counts."""


def sketch(trainer: Trainer, trial: Trial) -> float:
    """A trial of one epoch, of a shape at the wanted size; its merit."""
    worker = trainer.worker
    wanted = wanted_size(worker)
    config = worker.teachable(held(trial) or _drawn(worker, trial, wanted))
    claim(worker.studies.brief, trial, config)
    point = trainer.train(trial, config)
    worker.say(f"After an epoch: {in_figures(point)}")
    return merit_of(worker, point, wanted)


def _drawn(worker: Worker, trial: Trial, wanted: float) -> CompressionConfig:
    """What the trial draws, brought to the wanted size. Raises TrialPruned where it cannot be."""
    grown = statistics.median(_grown(worker) or [1.0])
    chosen, size = resize(worker, draw(trial, worker.network, worker.goal.techniques), wanted / grown)
    trial.set_user_attr(CHOSEN, json.dumps(chosen))
    trial.set_user_attr(UNTRAINED, size)
    if not near(worker, grown * size, wanted):
        raise optuna.TrialPruned
    config = configuration(chosen, worker.network)
    return replace(config, recovery=recovery(config, 1, worker.teacher))


def _grown(worker: Worker) -> list[float]:
    """How many times larger the files of these trials came out than they would have been without training."""
    known = measured(worker.studies.brief)
    return [point.bytes / trial.user_attrs[UNTRAINED] for trial, point in known if UNTRAINED in trial.user_attrs]


def begin(worker: Worker) -> None:
    """Enqueue what is `taught`, then, for each set of techniques, the best shape without training; one worker does."""
    if not first(worker.studies.brief, "sketches"):
        return
    wanted = wanted_size(worker)
    for chosen in taught(worker.network, worker.goal.techniques, wanted):
        worker.studies.brief.enqueue_trial(chosen)
    best: dict[tuple[str, ...], tuple[float, FrozenTrial]] = {}
    for trial, point in measured(worker.studies.untrained):
        if point.bytes < wanted and not near(worker, point.bytes, wanted):
            continue  # it could hardly be made larger
        ranked = merit_of(worker, point, wanted), trial
        best[point.techniques] = min(best.get(point.techniques, ranked), ranked, key=lambda pair: pair[0])
    for _, trial in sorted(best.values(), key=lambda pair: pair[0]):
        worker.studies.brief.enqueue_trial(to_train(trial.params, worker.network))


def vary(worker: Worker) -> None:
    """Enqueue a neighbour of one of the best shapes, unless something waits."""
    study = worker.studies.brief
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return
    parents = _parents(worker)
    if not parents:
        return
    chosen = json.loads(worker.dice.choice(parents).user_attrs[CHOSEN])
    for _ in range(VARIATIONS):
        other = neighbour(chosen, worker.network, worker.goal.techniques, worker.dice)
        if configuration(other, worker.network) != configuration(chosen, worker.network):
            study.enqueue_trial(other)
            return


def _parents(worker: Worker) -> list[FrozenTrial]:
    """Those of the best shapes, near the wanted size where there are such."""
    known, wanted = measured(worker.studies.brief), wanted_size(worker)
    of_about_the_size = [pair for pair in known if near(worker, pair[1].bytes, wanted)]
    ranked = sorted(of_about_the_size or known, key=lambda pair: merit_of(worker, pair[1], wanted))
    return [trial for trial, _ in ranked[:PARENTS]]
