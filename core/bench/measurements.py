"""Evaluations: a configuration that was evaluated once is never evaluated again, in any session, after any restart."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import Tensor

from core.bench import entries, keys, views
from core.bench.baselines import Baselines
from core.bench.networks import Networks
from core.bench.results import Early, LayerRow, Profile, Result
from core.config import CompressionConfig
from core.datasets import Datasets, Split, SplitName
from core.formats import footprint
from core.formats.footprint import Footprint
from core.machinery.files import safetensors_header
from core.machinery.recent import Recent
from core.machinery.store import Store
from core.machinery.turns import Ticket, Turns, Work
from core.measuring import evaluation
from core.measuring.evaluation import Evaluation
from core.measuring.front import Point
from core.networks import compression
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork

REMEMBERED = 256
"""Results in memory."""
REMEMBERED_POINTS = 50_000
REMEMBERED_KEYS = 2**18
"""Bytes, 64 each; each also holds a configuration, which is larger."""

SPLITS: tuple[SplitName, ...] = ("validation", "test")
"""On which networks are measured."""


class Measurements:
    """origin : what is measured for, one of `front.ORIGINS`"""

    def __init__(
        self, store: Store, baselines: Baselines, networks: Networks, turns: Turns, origin: str, datasets: Datasets
    ) -> None:
        self.store, self.baselines, self.networks, self.datasets = store, baselines, networks, datasets
        self.turns, self.origin = turns, origin
        self._lock = threading.Lock()  # of the two dictionaries; held briefly, and nothing is computed under it
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._points: dict[str, tuple[float, int] | None] = {}
        self._keys = Recent(REMEMBERED_KEYS)
        self._pinned: set[str] = set()
        self._listed: tuple[object, list[Point]] = (None, [])
        self._prefix = evaluation.Prefix()
        self._packing = ThreadPoolExecutor(1, "packing")

    # Asking

    def evaluate(self, name: str, config: CompressionConfig, split: SplitName = "validation") -> Result:
        """Compress, freeze, evaluate every image of the split; from the cache where it was done before.

        Raises UnknownBaseline, ConfigError.
        """
        start = time.perf_counter()
        ticket = self.ask(f"thread {threading.get_ident()}", name, config, split)
        return replace(self.turns.answer(ticket), seconds=time.perf_counter() - start)

    def ask(self, session: str, name: str, config: CompressionConfig, split: SplitName = "validation") -> Ticket:
        """The same without waiting: a ticket that may be done at once, and has an `Early` before its `Result`.

        A newer request takes the place of the session's last one. Raises UnknownBaseline, ConfigError.
        """
        baseline = self.baselines.get(name)
        compression.check(config, baseline.network)
        key = self.key(baseline, config, split)
        known = self._remembered(key, baseline, config, split)
        if known is not None:
            self.turns.forget(session)
            return Ticket(session, (name, key), value=known, done=True)
        return self.turns.ask(session, (name, key), partial(self._measure, key, baseline, config, split))

    def wish(self, session: str, name: str, configs: Iterable[CompressionConfig], seconds: float | None = None) -> None:
        """Evaluate these when nobody waits for anything, but for those that cannot be tried; replaces the session's
        earlier wishes. See `Turns.wish`."""
        baseline = self.baselines.get(name)
        works: dict[Hashable, Work] = {}
        for config in configs:
            if self.point(name, config) is None and not self.networks.refusal(name, config):
                key = self.key(baseline, config, "validation")
                works[name, key] = partial(self._measure, key, baseline, config, "validation")
        self.turns.wish(session, works, seconds)

    def known(self, name: str, config: CompressionConfig, split: SplitName = "validation") -> Result | None:
        """What was measured before; nothing is computed."""
        baseline = self.baselines.get(name)
        return self._remembered(self.key(baseline, config, split), baseline, config, split)

    # Without the cache

    def composed(self, name: str, weights: Mapping[str, Tensor], split: SplitName = "validation") -> Evaluation:
        """The baseline with other weights, by layer, in float32: for comparisons that no file is made of."""
        baseline = self.baselines.get(name)
        tensors = dict(baseline.tensors) | {f"{layer}.weight": weight for layer, weight in weights.items()}
        return self.uncompressed(replace(baseline, tensors=tensors), split)

    def uncompressed(self, baseline: Baseline, split: SplitName) -> Evaluation:
        """A network as it came, that is not kept here; nothing is remembered. Raises Overflow."""
        whole = self.networks.compressed(baseline, CompressionConfig())
        return evaluation.evaluate(whole, self._split(baseline, split))

    def _split(self, baseline: Baseline, split: SplitName) -> Split:
        """Of the images that a baseline was made for. Raises DataError."""
        return self.datasets.split(baseline.images, split)

    # Points: accuracy and bytes

    def point(self, name: str, config: CompressionConfig) -> tuple[float, int] | None:
        """Accuracy and bytes of what was measured before, for a curve; nothing is computed.

        Curves ask again and again: the cache is read once, also for what is not in it.
        """
        key = self.key(self.baselines.get(name), config, "validation")
        if key not in self._points:
            result = self.known(name, config)
            if result is not None:
                return result.evaluation.accuracy, result.bytes
            alone = self._point_alone(key)
            with self._lock:
                self._points.setdefault(key, alone)  # unless it came meanwhile
        return self._points.get(key)

    def _point_alone(self, key: str) -> tuple[float, int] | None:
        """Of a measurement that is not here any more, or was made elsewhere."""
        entry = self.store.get(keys.point(key))
        with suppress(ValueError, KeyError, TypeError):
            if entry is not None:
                point = Point.from_json(entry.payload.decode())
                return point.accuracy, point.bytes
        return None

    def points(self, name: str | None = None) -> list[Point]:
        """Everything that any session has measured on the validation images and the store still holds; of one baseline,
        where it is named."""
        if name is not None:
            sha256 = self.baselines.get(name).sha256
            return [point for point in self.points() if point.sha256 == sha256]
        stamp = self.store.stamp("point")
        if self._listed[0] != stamp:
            points: dict[tuple[str, CompressionConfig], Point] = {}
            for key, payload in self.store.all("point"):
                try:
                    point = Point.from_json(payload.decode())
                    points.pop((point.sha256, point.config), None)  # of what was trained again, the last
                    points[point.sha256, point.config] = point
                except (ValueError, KeyError, TypeError):
                    self.store.delete(key)  # written by another version
            self._listed = stamp, list(points.values())
        return self._listed[1]

    def point_of(self, result: Result) -> Point:
        """What Compare shows of a result."""
        (low, high), measured, name = result.comparison.interval, result.evaluation, result.baseline_id
        return Point(
            name, self.baselines.get(name).sha256, result.config, measured.accuracy, result.comparison.difference, low,
            high, measured.loss, result.bytes, result.baseline_bytes, self.origin,
        )  # fmt: skip

    # What is kept

    def key(self, baseline: Baseline | Profile, config: CompressionConfig, split: SplitName) -> str:
        """Of a measurement. What was trained is measured anew where the training left something else. A page asks for
        all places of its curves every time that it is drawn."""
        trained = self.networks.trained_digest(baseline, config)
        asked = baseline.sha256, baseline.images, config, split, trained
        return self._keys.made(asked, lambda: keys.measurement(baseline, config, split, trained))

    def point_key(self, name: str, config: CompressionConfig) -> str:
        """Under which the store has the `Point` of a configuration. Raises UnknownBaseline."""
        return keys.point(self.key(self.baselines.profile(name), config, "validation"))

    def keep(self, name: str, config: CompressionConfig) -> None:
        """What was measured of a configuration is never evicted: somebody pinned it, or searched for it."""
        key = self.key(self.baselines.get(name), config, "validation")
        self._pinned.add(key)  # it may not have been measured yet
        self.store.keep(key, keys.point(key))

    def forget(self, name: str, config: CompressionConfig) -> None:
        """What was measured of a configuration is measured anew when it is asked for."""
        baseline = self.baselines.get(name)
        measured = [self.key(baseline, config, split) for split in SPLITS]
        self.store.delete(*measured, *map(keys.point, measured))
        with self._lock:
            for key in measured:
                self._results.pop(key, None)
                self._points.pop(key, None)

    def _remembered(self, key: str, baseline: Baseline, config: CompressionConfig, split: SplitName) -> Result | None:
        """From memory, else from the cache."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return replace(self._results[key], baseline_id=baseline.name, cached=True)
        entry = self.store.get(key)
        if entry is None:
            return None
        try:
            result = self._result(baseline, config, split, *_unpack(entry.payload), cached=True)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, safetensors.SafetensorError):
            self.store.delete(key)  # written by another version
            return None
        return self._remember(key, split, result)

    def _remember(self, key: str, split: SplitName, result: Result) -> Result:
        with self._lock:
            if split == "validation":
                if len(self._points) >= REMEMBERED_POINTS:
                    self._points.clear()
                self._points[key] = result.evaluation.accuracy, result.bytes
            self._results[key] = result
            while len(self._results) > REMEMBERED:
                self._results.popitem(last=False)
        return result

    # Measuring

    def _measure(
        self, key: str, baseline: Baseline, config: CompressionConfig, split: SplitName,
        should_stop: Callable[[], bool] = lambda: False, report: Callable[[Early], None] = lambda early: None,
    ) -> Result:  # fmt: skip
        known = self._remembered(key, baseline, config, split)  # it may have been measured while this was in line
        if known is not None:
            return known
        before = None if config == CompressionConfig() else self._baseline_evaluation(baseline, split)
        stored = self.networks.compressed(baseline, config)
        ledger = self._packing.submit(footprint.footprint, stored)  # while the first images are looked at

        def first(sample: NDArray[np.int64], predictions: NDArray[np.uint8]) -> None:
            if before is not None:
                report(Early(evaluation.estimate(before, sample, predictions), ledger.result().total, stored.nonzero))

        prefix = self._prefix if before is not None else None  # baselines may be measured outside of the worker
        measured = evaluation.evaluate(stored, self._split(baseline, split), should_stop, first, prefix)
        arrays, figures = evaluation.to_arrays(measured), _figures(baseline, stored, measured, ledger.result())
        self._put(key, "evaluation", _packed(arrays, figures), self.origin == "searched")
        result = self._result(baseline, config, split, arrays, figures, cached=False)
        if split == "validation":
            self._put(key, "point", self.point_of(result).to_json().encode(), self.origin != "explored")
        return self._remember(key, split, result)

    def _put(self, key: str, kind: str, payload: bytes, kept: bool) -> None:
        """key : of the measurement; kept : besides what is pinned"""
        place = keys.point(key) if kind == "point" else key
        entries.put(self.store, place, kind, payload, kept=kept or key in self._pinned)

    def _baseline_evaluation(self, baseline: Baseline, split: SplitName) -> Evaluation:
        nothing = CompressionConfig()
        key = self.key(baseline, nothing, split)
        known = self._remembered(key, baseline, nothing, split)
        return (known or self._measure(key, baseline, nothing, split)).evaluation

    def _result(
        self,
        baseline: Baseline,
        config: CompressionConfig,
        split: SplitName,
        arrays: dict[str, Any],
        figures: dict[str, Any],
        cached: bool,
    ) -> Result:
        after = evaluation.from_arrays(arrays, self._split(baseline, split), figures["loss"])
        before = after if config == CompressionConfig() else self._baseline_evaluation(baseline, split)
        return Result(
            baseline_id=baseline.name,
            config=config,
            evaluation=after,
            baseline=before,
            comparison=evaluation.compare(before, after),
            footprint=footprint.from_dict(figures["ledger"]),
            layers=tuple(LayerRow(**{**row, "shape": tuple(row["shape"])}) for row in figures["layers"]),
            parameters=figures["parameters"],
            nonzero=figures["nonzero"],
            baseline_parameters=baseline.parameters,
            sparsity=figures["sparsity"],
            theoretical_kb=figures["theoretical_kb"],
            seconds=0.0,
            cached=cached,
        )


# A measurement in the store.


def _figures(baseline: Baseline, stored: StoredNetwork, measured: Evaluation, ledger: Footprint) -> dict[str, Any]:
    return {
        "loss": measured.loss,
        "ledger": asdict(ledger),
        "parameters": stored.parameters,
        "nonzero": stored.nonzero,
        "sparsity": stored.sparsity,
        "theoretical_kb": footprint.theoretical_kb(stored),
        "layers": [asdict(row) for row in views.layer_rows(baseline, stored, ledger)],
    }


def _packed(arrays: dict[str, Any], figures: dict[str, Any]) -> bytes:
    payload: bytes = safetensors.numpy.save(arrays, metadata={"figures": json.dumps(figures)})
    return payload


def _unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and figures."""
    header, _ = safetensors_header(payload)
    return safetensors.numpy.load(payload), json.loads(header["__metadata__"]["figures"])
