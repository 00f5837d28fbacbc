"""One process's part in a search: what every stage of it needs to know."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.measuring.front import Goal, Optimism, Point
from core.measuring.training import Progress
from core.networks.graph import Network
from core.studies.optimism import Optimist, allowed
from core.studies.stages.pace import Countdown
from core.studies.teachers import best_teacher, teacher_of
from core.studies.trials import Studies
from core.words import percent


@dataclass(frozen=True, eq=False)
class Worker:
    """name : of the baseline; dice : what variations are drawn by"""

    bench: Workbench
    name: str
    goal: Goal
    studies: Studies
    time: Countdown
    should_stop: Callable[[], bool]
    progress: Progress
    dice: random.Random = field(default_factory=random.Random)

    @property
    def network(self) -> Network:
        return self.bench.baseline(self.name).network

    @cached_property
    def teacher(self) -> str:
        """Who teaches what is trained, by its sum; "" for the baseline itself."""
        return teacher_of(self.bench, self.name, best_teacher(self.bench, self.bench.profile(self.name).images.data))

    def teachable(self, config: CompressionConfig) -> CompressionConfig:
        """With a teacher that is here: another machine may have chosen one that only it knows."""
        recovery = config.recovery
        if recovery is None or not recovery.teacher or self.bench.by_sum(recovery.teacher) is not None:
            return config
        return replace(config, recovery=replace(recovery, teacher=self.teacher))

    @property
    def scalable(self) -> bool:
        """Whether a shape can be made any size, by pruning it."""
        return "pruning" in self.goal.techniques

    @cached_property
    def _optimist(self) -> Optimist:
        return Optimist(self.bench, self.goal)

    @property
    def optimism(self) -> Optimism:
        """Of a choice among everything that was measured so far."""
        return self._optimist.of(self.studies.points())

    @property
    def allowed(self) -> float:
        """What a file may lose on validation to meet the goal: the allowance, or less where that is promised."""
        return allowed(self.goal, self.studies.points(), self.optimism)

    def past(self, share: float) -> bool:
        """Whether that share of the time is over, or the search is to stop."""
        return self.should_stop() or self.time.past(share)

    def say(self, message: str) -> None:
        """Where the search stands: what it does, how many trials, the best so far."""
        points = self.studies.points()
        best, about = self.goal.best(points, self.optimism), dict[str, Any]()
        if best is not None:
            about = {"bytes": best.bytes, "accuracy": best.accuracy, "difference": best.difference}
            about = {"best": {**about, "config": json.loads(best.config.to_json())}}
        self.progress({"message": message, "done": self.time.done, "trials": len(points), **about})


def in_figures(point: Point) -> str:
    return f"{point.bytes / 1024:.1f} KB, {percent(point.accuracy, 2)}, {100 * point.difference:+.2f} pp"
