"""Trains what a trial has chosen, measures it, and keeps with the trial what another machine needs of it."""

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import Trial

from core.config import CompressionConfig
from core.measuring.front import Point
from core.measuring.training import Diverged
from core.studies.stages.shapes import shape
from core.studies.stages.worker import Worker
from core.studies.trials import CONFIG, HISTORY, PACKED, POINT, SECONDS, keep_bytes
from core.words import percent

SLOWER, LEAST_RATE = 3, 0.01
"""A training that diverged is tried again with a learning rate so many times smaller, down to this."""


@dataclass(eq=False)
class Trainer:
    """paces : seconds of an epoch here, by shape, as far as they are known"""

    worker: Worker
    paces: dict[CompressionConfig, float] = field(default_factory=dict)

    def train(self, trial: Trial, config: CompressionConfig) -> Point:
        """Raises Diverged where it does so even at `LEAST_RATE`, Stopped."""
        bench, name, asked = self.worker.bench, self.worker.name, config.recovery
        assert asked is not None
        known = bench.history(name, config) is not None
        try:
            bench.recover(name, config, self._tell, self.worker.should_stop)
        except Diverged:
            rate = asked.learning_rate / SLOWER
            if rate < LEAST_RATE:
                raise
            return self.train(trial, self._slower(trial, config, rate))
        history = bench.history(name, config) or []
        pace = sum(epoch["seconds"] for epoch in history) / asked.epochs
        if not known:
            self.paces[shape(config)] = pace
        return self._kept(trial, config, history, pace)

    def _slower(self, trial: Trial, config: CompressionConfig, rate: float) -> CompressionConfig:
        """The same with another learning rate, in the time that is left; the trial has that from now on."""
        self.worker.say(f"Diverged; again with a learning rate of {rate:.2g}.")
        assert config.recovery is not None
        config = self.in_time(replace(config, recovery=replace(config.recovery, learning_rate=rate)))
        trial.set_user_attr(CONFIG, config.to_json())
        return config

    def _kept(self, trial: Trial, config: CompressionConfig, history: list[dict[str, Any]], pace: float) -> Point:
        """What was trained, measured, and with its trial."""
        bench, name = self.worker.bench, self.worker.name
        point = bench.point_of(bench.evaluate(name, config))
        bench.keep(name, config)
        keep_bytes(trial, PACKED, bench.file_of(name, config.as_trained()))
        trial.set_user_attr(SECONDS, pace)
        trial.set_user_attr(HISTORY, json.dumps(history))
        trial.set_user_attr(POINT, point.to_json())
        return point

    def _tell(self, event: dict[str, Any]) -> None:
        if "message" in event:
            self.worker.say(event["message"])
        if "figures" in event and event["epochs"] > 1:
            accuracy = event["figures"]["validation_accuracy"]
            self.worker.say(f"Training, epoch {event['epoch']} of {event['epochs']}: {percent(accuracy, 2)}")

    def in_time(self, config: CompressionConfig) -> CompressionConfig:
        """With fewer epochs where another worker, or a higher learning rate, had more time for them."""
        asked, pace = config.recovery, self.paces.get(shape(config), max(self.paces.values(), default=0.0))
        if asked is None or not pace:
            return config
        epochs = max(1, min(asked.epochs, self.worker.time.epochs(pace)))
        return replace(config, recovery=replace(asked, epochs=epochs))

    def may_train(self) -> bool:
        """Whether there is time for an epoch, of the slowest shape; not as long as nothing was trained here."""
        return self.worker.time.epochs(max(self.paces.values(), default=math.inf)) >= 1
