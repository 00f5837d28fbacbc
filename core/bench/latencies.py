"""Time per image on this machine."""

import threading
import time
from collections.abc import Hashable
from functools import partial

import torch

from core.bench.baselines import Baselines
from core.bench.networks import Networks, structure
from core.config import CompressionConfig
from core.datasets import Datasets
from core.machinery.turns import Ticket, Turns
from core.measuring import evaluation
from core.measuring.evaluation import Latency
from core.networks.models import Baseline

MEASURED_AGAIN = 20.0
"""Seconds after which a latency is measured again."""


class Latencies:
    """In memory only: another day the machine may be slower."""

    def __init__(self, baselines: Baselines, networks: Networks, turns: Turns, datasets: Datasets) -> None:
        self.baselines, self.networks, self.turns, self.datasets = baselines, networks, turns, datasets
        self._lock = threading.Lock()
        self._latencies: dict[Hashable, tuple[float, Latency]] = {}  # when it was measured last, and the quietest

    def latency(self, session: str, name: str, config: CompressionConfig, batch: int = 1) -> Ticket:
        """A ticket for the time per image on this machine, by structure: bits and scattered zeros do not change it.

        What is known is answered at once, and measured anew when there is time, after a while; the quietest of the
        measurements stands, since others may use the machine too.
        """
        baseline, chosen = self.baselines.get(name), structure(config)
        key = ("latency", baseline.sha256, chosen, batch)
        with self._lock:
            measured_at, best = self._latencies.get(key, (0.0, None))
        work = partial(self._time, key, baseline, chosen, batch)
        if best is None:
            return self.turns.ask(session, key, work)
        if time.monotonic() - measured_at > MEASURED_AGAIN:
            self.turns.wish(f"{session} latency", {key: work})
        return Ticket(session, key, value=best, done=True)

    def _time(
        self, key: Hashable, baseline: Baseline, config: CompressionConfig, batch: int, *unused: object
    ) -> Latency:
        network = self.networks.compressed(baseline, config)
        images = torch.from_numpy(self.datasets.split(baseline.images, "validation").seen(slice(batch)))
        measured = evaluation.latency(network, images, batch)
        with self._lock:
            _, best = self._latencies.get(key, (0.0, None))
            quietest = measured if best is None or measured.median < best.median else best
            self._latencies[key] = time.monotonic(), quietest
        return quietest
