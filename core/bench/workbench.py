"""What pages and the command line ask for; the one place where results meet the cache.

A configuration that was evaluated once is never evaluated again, in any session, after any restart.
"""

import importlib
import inspect
import io
import json
import os
import platform
import shutil
import threading
import time
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from core.bench import reliance  # fmt: skip
from core.config import (
    DENSE,
    FORMATS,
    CompressionConfig,
    ConfigError,
    Device,
    LayerConfig,
    Model,
    TrainingConfig,
)  # fmt: skip
from core.datasets import fashion_mnist  # fmt: skip
from core.datasets.fashion_mnist import SplitName
from core.formats import artifact, footprint, packed  # fmt: skip
from core.formats.footprint import COUNTED, Footprint
from core.machinery import devices, jobs  # fmt: skip
from core.machinery.files import safetensors_header, sha256, trim, write_atomically
from core.machinery.recent import Recent
from core.machinery.shelf import Shelf
from core.machinery.stopping import Stopped
from core.machinery.store import KEPT_LIMIT, Store, key_of
from core.machinery.turns import Ticket, Turns, Work
from core.mathematics import low_rank, quantization  # fmt: skip
from core.mathematics.low_rank import Method
from core.measuring import evaluation, training  # fmt: skip
from core.measuring.evaluation import Comparison, Estimate, Evaluation, Latency
from core.measuring.front import SEARCH, Goal, Point, check_minutes
from core.networks import (
    calibration,
    compression,
    models,  # fmt: skip
    narrowing,
    trainable,
)
from core.networks.inference import predicted
from core.networks.models import Baseline
from core.networks.stored import FormatError, StoredLayer, StoredNetwork
from core.techniques.low_rank import rank_of  # fmt: skip
from core.words import one_line

SHIPPED = {"cnn": "CNN", "mlp": "MLP", "mlp-course": "MLP as in the course"}
PRETRAINED = Path(__file__).parent.parent / "pretrained"
SHELF = PRETRAINED / "results.zip"
"""Results of long experiments, which come with the project."""

PACKED = "packed"
"""The one tensor of a network of which only its file is here."""

_REMEMBERED = 256
_REMEMBERED_POINTS = 50_000
RECENT_BYTES = 400 * 2**20
"""Of baselines, statistics and decompositions in memory; the shipped CNN's moments alone are 80 MB."""
EXPORTS_BYTES = 500 * 2**20
"""Of exports under the cache; those that were looked at longest ago go."""
NEARLY_FULL = 0.8
"""Share of the room for kept results from which on a page warns."""
LATENCY_SECONDS = 20.0
"""After so long a latency is measured again."""


JobStatus = jobs.Status


class UnknownBaseline(KeyError):
    """No baseline of that name, neither shipped nor in the cache nor a file."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotRecovered(LookupError):
    """The configuration asks for training after compression, which was not done yet."""

    def __str__(self) -> str:
        return "This configuration was not trained yet. The button on Explore does it, and `python -m core evaluate`."


class OnlyItsFile(NotRecovered):
    """Another machine trained the network; of what its file leaves out, nothing is here."""

    def __str__(self) -> str:
        return (
            "Another machine trained this network, and only its file is here: it can be measured, compared and "
            "exported. To look inside, train it here: delete it on Compare, and use the button on Explore."
        )


ERRORS = (
    ConfigError, models.BaselineError, models.Overflow, UnknownBaseline, NotRecovered, FormatError,
    fashion_mnist.DataError, training.Diverged, devices.DeviceError, OSError,
)  # fmt: skip
"""What a person's input or machine can cause; the message says what happened and what to do."""


@dataclass(frozen=True)
class Card:
    """A baseline as a page lists it. origin : "shipped", "trained" or "loaded"."""

    id: str
    title: str
    origin: str


@dataclass(frozen=True)
class Profile:
    """What is known of a baseline without its weights: memory holds only the latest one's. sha256 : of them"""

    sha256: str
    model: Model
    layers: tuple[models.Layer, ...]


@dataclass(frozen=True)
class LayerRow:
    """A layer of a compressed network, in figures. shape : of its weight in the baseline; channels : that stay.

    note : why it has another rank than was asked for, or ""
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    rank: int | None
    full_rank: int
    break_even_rank: int
    parameters: int
    sparsity: float
    rounded_to_zero: int
    bits: int
    bytes: int
    note: str


@dataclass(frozen=True, eq=False)
class Result:
    """A configuration, measured. seconds : of this call; cached : whether it was read instead of computed."""

    baseline_id: str
    config: CompressionConfig
    evaluation: Evaluation
    baseline: Evaluation
    comparison: Comparison
    footprint: Footprint
    layers: tuple[LayerRow, ...]
    parameters: int
    nonzero: int
    baseline_parameters: int
    sparsity: float
    theoretical_kb: float
    seconds: float
    cached: bool

    @property
    def bytes(self) -> int:
        return self.footprint.total

    @property
    def baseline_bytes(self) -> int:
        return 4 * self.baseline_parameters

    @property
    def compression_ratio(self) -> float:
        """Baseline bytes over compressed bytes."""
        return self.baseline_bytes / self.bytes


@dataclass(frozen=True)
class Outline:
    """What follows from a configuration in closed form. energy : kept, by factored layer, in [0, 1].

    multiply_accumulates : for one image; products : matrix products or convolutions in a row
    """

    parameters: int
    multiply_accumulates: int
    products: int
    baseline_bytes: int
    theoretical_kb: float
    energy: dict[str, float]


@dataclass(frozen=True)
class Early:
    """What is known of a configuration before all images were seen. bytes : of the file, exact."""

    estimate: Estimate
    bytes: int
    nonzero: int


@dataclass(frozen=True)
class Spectrum:
    """A layer's singular values and what follows from them. rank : the smallest that keeps `energy`.

    random : the singular values of a matrix of random numbers of the same shape and variance, with their cumulative
        energy and the rank for `energy`
    """

    name: str
    shape: tuple[int, ...]
    matrix_shape: tuple[int, int]
    singular_values: tuple[float, ...]
    cumulative_energy: tuple[float, ...]
    energy: float
    rank: int
    share: float
    break_even_rank: int
    condition_number: float | None
    stable_rank: float
    effective_rank: float
    random: tuple[float, ...]
    random_energy: tuple[float, ...]
    random_rank: int

    @property
    def full_rank(self) -> int:
        return min(self.matrix_shape)

    @property
    def saves(self) -> bool:
        """Whether two factors of this rank hold fewer numbers than the matrix."""
        return self.rank <= self.break_even_rank

    def saving(self, rank: int) -> float:
        """1 - r (m + n) / (m n): share of the layer's numbers that two factors of rank r save; may be negative."""
        m, n = self.matrix_shape
        return 1 - self.numbers(rank) / (m * n)

    def numbers(self, rank: int) -> int:
        """r (m + n): what two factors of rank r hold."""
        return rank * sum(self.matrix_shape)


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """weight, near : float32, of the layer's shape; error : ||W - W_r|| / ||W||."""

    weight: NDArray[np.float32]
    near: NDArray[np.float32]
    error: float

    def pictures(self, count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """The first rows or filters of both that see pixels, uint8, grey where 0; nothing where a layer sees none."""
        shape = self.weight.shape
        if shape[1] not in (1, models.IMAGE_SIDE**2):
            return []
        side = int(self.weight[0].size ** 0.5)
        pairs = []
        for own, near in zip(self.weight[:count], self.near[:count], strict=True):
            largest = float(np.abs(own).max()) or 1.0
            old, new = (np.clip(127.5 + 127.5 * part / largest, 0, 255).astype(np.uint8) for part in (own, near))
            pairs.append((old.reshape(side, side), new.reshape(side, side)))
        return pairs


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A stored tensor as a matrix, before pruning and quantization and after. kept : bool, where not pruned."""

    name: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    kept: NDArray[np.bool_]


VERIFIED_FILE = "verified.json"


@dataclass(frozen=True)
class Export:
    """folder : with all its files; verdict : what `Workbench.export` returned."""

    folder: Path
    verdict: dict[str, Any]

    def content(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def bundle(self) -> bytes:
        """All of it as one zip file."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
            for path in sorted(self.folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    made.write(path, f"compressed-network/{path.name}")
        return buffer.getvalue()


def cache_folder() -> Path:
    """The folder COMPRESSION_CACHE, else `cache/` of the project."""
    return Path(os.environ.get("COMPRESSION_CACHE") or jobs.PROJECT / "cache")


def kept_limit() -> int:
    """Bytes of what is never evicted: COMPRESSION_KEPT_GB, else 2 GB. Raises ConfigError."""
    asked = os.environ.get("COMPRESSION_KEPT_GB")
    if not asked:
        return KEPT_LIMIT
    with suppress(ValueError, OverflowError):
        if (limit := int(float(asked) * 2**30)) > 0:
            return limit
    raise ConfigError(f"COMPRESSION_KEPT_GB must be a number of gigabytes above 0. Got {asked!r} instead.")


@dataclass(frozen=True)
class Kept:
    """What is never evicted: baselines, and what was trained, searched for or pinned. bytes : of `limit`

    kinds : kind of entry -> how many, and bytes; the largest first
    """

    limit: int
    kinds: Mapping[str, tuple[int, int]]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.kinds.values())

    @property
    def share(self) -> float:
        return self.bytes / self.limit if self.limit else 1.0


class Workbench:
    """One per process. `cache` may be shared with other processes, and deleted at any time."""

    def __init__(
        self,
        cache: Path | None = None,
        origin: str = "explored",
        device: Device | None = None,
        turn: Literal["first", "last"] | None = None,
        shelf: Path | None = None,
    ) -> None:
        """origin : what this process measures for, one of `front.ORIGINS`
        turn : "first" where people wait for what is measured, "last" where that pauses for them
        shelf : results that came from elsewhere, `SHELF`; they lie below the cache
        device : that trains; if none is named, as `devices.chosen` finds it when something is trained

        Raises DeviceError where the device is not here.
        """
        self.origin = origin
        self.device = None if device is None else devices.chosen(device)
        self.cache = Path(cache) if cache is not None else cache_folder()
        below = None if shelf is None else Shelf(shelf)
        self.store = Store(self.cache, kept_limit=kept_limit(), below=below)
        self.store.sweep()
        self.jobs = jobs.Jobs(self.cache / "jobs")
        self._lock = threading.Lock()  # of the dictionaries below; held briefly, and nothing is computed under it
        self._decomposing = threading.RLock()  # decompositions are made once
        self._profiles: dict[str, Profile] = {}
        self._recent = Recent(RECENT_BYTES)
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._latencies: dict[object, tuple[float, Latency]] = {}
        self._points: dict[str, tuple[float, int] | None] = {}
        self._kept: set[str] = set()
        self._looked_through: Mapping[str, tuple[int, int]] = {}
        self._taught: tuple[str, training.Lessons | None] = "", None
        self._listed: tuple[object, list[Point]] = (None, [])
        self._prefix = evaluation.Prefix()
        self._packing = ThreadPoolExecutor(1, "packing")
        people = self.jobs.precedence
        self.turns = Turns({"first": people.claim, "last": people.give_way, None: lambda: None}[turn])

    # Baselines

    def cards(self) -> list[Card]:
        """All baselines: the shipped ones, then what was trained or loaded here, the newest use first."""
        cards = [Card(name, title, "shipped") for name, title in SHIPPED.items()]
        for key in self.store.keys("baseline"):
            found = self.store.get(key, with_weights=False)
            if found is not None:
                about = json.loads(found.payload)
                cards.append(Card(about["id"], about["title"], about["origin"]))
        return cards

    def title(self, name: str) -> str:
        return next((card.title for card in self.cards() if card.id == name), name)

    def is_own(self, name: str) -> bool:
        """Whether it was trained or loaded here, and so can be deleted."""
        return name not in SHIPPED

    def baseline(self, name: str) -> Baseline:
        """By shipped name, by id, or by the path of a safetensors file. Raises UnknownBaseline, BaselineError."""
        if _is_file(name):
            return models.from_file(Path(name), name)
        return self._recent.made(("baseline", name), lambda: self._load_baseline(name))

    def profile(self, name: str) -> Profile:
        """Of a baseline by its name; it is loaded once for that. Raises UnknownBaseline, BaselineError."""
        with self._lock:
            known = self._profiles.get(name)
        if known is not None:
            return known
        baseline = self.baseline(name)
        found = Profile(baseline.sha256, baseline.model, baseline.layers)
        if not _is_file(name):  # which may change
            with self._lock:
                self._profiles[name] = found
        return found

    def _load_baseline(self, name: str) -> Baseline:
        if name in SHIPPED:
            info = json.loads((PRETRAINED / f"{name}.json").read_text())
            return models.from_bytes((PRETRAINED / f"{name}.safetensors").read_bytes(), name, info)
        found = self.store.get(f"baseline/{name}")
        if found is not None and found.weights is not None:
            return models.from_bytes(found.weights, name, json.loads(found.payload)["info"])
        known = ", ".join(card.id for card in self.cards())
        raise UnknownBaseline(f"baseline must be one of {known}, or a .safetensors file. Got {name!r} instead.")

    def add_baseline(self, baseline: Baseline, title: str, origin: str) -> str:
        """Keep a baseline; returns its id, which names its content.

        What is kept already stays as it is, for everybody, unless only now something is known of its training.
        """
        name = self._id(baseline)
        found = self.store.get(f"baseline/{name}")  # with its weights: what is damaged is kept anew
        kept = None if found is None else json.loads(found.payload)["origin"]
        if kept == "trained" or (kept is not None and origin != "trained"):
            return name
        about = {"id": name, "title": title, "origin": origin, "info": dict(baseline.info)}
        self._keep(f"baseline/{name}", "baseline", json.dumps(about).encode(), models.to_bytes(baseline))
        self._forget_baseline(name)
        return name

    def _id(self, baseline: Baseline) -> str:
        """Longer where the weights of another network begin alike: somebody may have made them so."""
        short, long = (f"{baseline.model}-{baseline.sha256[:letters]}" for letters in (8, 64))
        try:
            return short if self.profile(short).sha256 == baseline.sha256 else long
        except UnknownBaseline:
            return short

    def load_file(self, content: bytes, file_name: str) -> str:
        """Keep a person's safetensors file as a baseline, or find the one that has the same weights, shipped or kept
        here, which stays as it is; returns its id. Raises BaselineError, and then nothing has changed."""
        title = one_line(Path(file_name).stem)[:40].strip() or "loaded"
        baseline = models.from_bytes(content, title)
        shipped = (name for name in SHIPPED if self.profile(name).sha256 == baseline.sha256)
        return next(shipped, None) or self.add_baseline(baseline, title, "loaded")

    def delete_baseline(self, name: str) -> None:
        self.store.delete(f"baseline/{name}")
        self._forget_baseline(name)

    def _forget_baseline(self, name: str) -> None:
        self._recent.forget(("baseline", name))
        with self._lock:
            self._profiles.pop(name, None)

    # Evaluation

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
        baseline = self.baseline(name)
        compression.check(config, baseline.layers)
        key = self._key(baseline, config, split)
        known = self._remembered(key, baseline, config, split)
        if known is not None:
            self.turns.forget(session)
            return Ticket(session, (name, key), value=known, done=True)
        return self.turns.ask(session, (name, key), partial(self._measure, key, baseline, config, split))

    def wish(self, session: str, name: str, configs: Iterable[CompressionConfig], seconds: float | None = None) -> None:
        """Evaluate these when nobody waits for anything, but for those that cannot be tried; replaces the session's
        earlier wishes. See `Turns.wish`."""
        baseline = self.baseline(name)
        works: dict[Hashable, Work] = {}
        for config in configs:
            if self.point(name, config) is None and not self.refusal(name, config):
                key = self._key(baseline, config, "validation")
                works[name, key] = partial(self._measure, key, baseline, config, "validation")
        self.turns.wish(session, works, seconds)

    def known(self, name: str, config: CompressionConfig, split: SplitName = "validation") -> "Result | None":
        """What was measured before; nothing is computed."""
        baseline = self.baseline(name)
        return self._remembered(self._key(baseline, config, split), baseline, config, split)

    def point(self, name: str, config: CompressionConfig) -> tuple[float, int] | None:
        """Accuracy and bytes of what was measured before, for a curve; nothing is computed.

        Curves ask again and again: the cache is read once, also for what is not in it.
        """
        place = self._key(self.baseline(name), config, "validation")
        if place not in self._points:
            found = self.known(name, config)
            if found is not None:
                return found.evaluation.accuracy, found.bytes
            alone = self._point_alone(place)
            with self._lock:
                self._points.setdefault(place, alone)  # unless it came meanwhile
        return self._points.get(place)

    def _point_alone(self, place: str) -> tuple[float, int] | None:
        """Of a measurement that is not here any more, or was made elsewhere."""
        found = self.store.get(f"point/{place}")
        with suppress(ValueError, KeyError, TypeError):
            if found is not None:
                point = Point.from_json(found.payload.decode())
                return point.accuracy, point.bytes
        return None

    def points(self, name: str | None = None) -> list[Point]:
        """Everything that any session has measured on the validation images and the store still holds; of one baseline,
        where it is named."""
        if name is not None:
            sha256 = self.baseline(name).sha256
            return [point for point in self.points() if point.sha256 == sha256]
        stamp = self.store.stamp("point")
        if self._listed[0] != stamp:
            found: dict[tuple[str, CompressionConfig], Point] = {}
            for key, payload in self.store.all("point"):
                try:
                    point = Point.from_json(payload.decode())
                    found.pop((point.sha256, point.config), None)  # of what was trained again, the last
                    found[point.sha256, point.config] = point
                except (ValueError, KeyError, TypeError):
                    self.store.delete(key)  # written by another version
            self._listed = stamp, list(found.values())
        return self._listed[1]

    def keep(self, name: str, config: CompressionConfig) -> None:
        """What was measured of a configuration is never evicted: somebody pinned it, or searched for it."""
        key = self._key(self.baseline(name), config, "validation")
        self._kept.add(key)  # it may not have been measured yet
        self.store.keep(key, f"point/{key}")

    def remove(self, name: str, config: CompressionConfig) -> None:
        """Delete what was measured, trained and exported of a configuration; a person asked for it."""
        shutil.rmtree(self.export_folder(name, config), ignore_errors=True)
        self.forget(name, config)
        self.store.delete(self._recovery_key(self.baseline(name), config))

    def forget(self, name: str, config: CompressionConfig) -> None:
        """What was measured of a configuration is measured anew when it is asked for."""
        baseline = self.baseline(name)
        splits: tuple[SplitName, ...] = ("validation", "test")
        keys = [self._key(baseline, config, split) for split in splits]
        self.store.delete(*keys, *(f"point/{key}" for key in keys))
        with self._lock:
            for key in keys:
                self._results.pop(key, None)
                self._points.pop(key, None)

    def outline(self, name: str, config: CompressionConfig) -> Outline:
        """What follows from the configuration in closed form, before anything is measured."""
        baseline, statistics = self.baseline(name), self.statistics(self.baseline(name))
        smaller, columns = narrowing.narrow(baseline, config, statistics.means)
        layers, energy, sizes = smaller.layers, {}, []
        for layer in layers:
            rank = rank_of(layer, config)
            sizes.append(layer.weights if rank is None else rank * sum(layer.matrix_shape))
            if rank is not None:
                weight = smaller.tensors[f"{layer.name}.weight"]
                found = statistics.decomposition(layer, weight, columns[layer.name], config.low_rank_method)
                energy[layer.name] = float(low_rank.cumulative_energy(found.singular_values)[rank - 1])
        biases = sum(layer.shape[0] for layer in layers)
        bits = [config.bits_of(layer.name) for layer in layers]
        macs = sum(size * uses for size, uses in zip(sizes, models.weight_uses(layers), strict=True))
        kilobytes = footprint.model_size_kb(sizes, bits, biases)
        return Outline(sum(sizes) + biases, macs, len(sizes) + len(energy), baseline.bytes, kilobytes, energy)

    def _key(self, baseline: Baseline | Profile, config: CompressionConfig, split: SplitName) -> str:
        """Of a measurement. What was trained is measured anew where the training left something else."""
        trained = self.store.digest(self._recovery_key(baseline, config)) if config.recovery is not None else None
        about = {"baseline": baseline.sha256, "config": json.loads(config.to_json()), "trained": trained}
        return key_of("evaluation", split=split, methods=reliance.networks(), **about)

    def point_key(self, name: str, config: CompressionConfig) -> str:
        """Under which the store has the `Point` of a configuration. Raises UnknownBaseline."""
        return f"point/{self._key(self.profile(name), config, 'validation')}"

    def _remembered(self, key: str, baseline: Baseline, config: CompressionConfig, split: SplitName) -> Result | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return replace(self._results[key], baseline_id=baseline.name, cached=True)
        found = self.store.get(key)
        if found is None:
            return None
        try:
            result = self._result(baseline, config, split, *_unpack(found.payload), cached=True)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, safetensors.SafetensorError):
            self.store.delete(key)  # written by another version
            return None
        return self._remember(key, baseline, split, result)

    def _measure(
        self,
        key: str,
        baseline: Baseline,
        config: CompressionConfig,
        split: SplitName,
        should_stop: Callable[[], bool] = lambda: False,
        report: Callable[[Early], None] = lambda early: None,
    ) -> Result:
        known = self._remembered(key, baseline, config, split)  # it may have been measured while this was in line
        if known is not None:
            return known
        before = None if config == CompressionConfig() else self._baseline_evaluation(baseline, split)
        stored = self._compressed(baseline, config)
        ledger = self._packing.submit(footprint.footprint, stored)  # while the first images are looked at

        def first(sample: NDArray[np.int64], predictions: NDArray[np.uint8]) -> None:
            if before is not None:
                report(Early(evaluation.estimate(before, sample, predictions), ledger.result().total, stored.nonzero))

        prefix = self._prefix if before is not None else None  # baselines may be measured outside of the worker
        measured = evaluation.evaluate(stored, fashion_mnist.load(split), should_stop, first, prefix)
        figures = {
            "loss": measured.loss,
            "ledger": asdict(ledger.result()),
            "parameters": stored.parameters,
            "nonzero": stored.nonzero,
            "sparsity": stored.sparsity,
            "theoretical_kb": footprint.theoretical_kb(stored),
            "layers": _layer_rows(baseline, stored, ledger.result()),
        }
        arrays = evaluation.to_arrays(measured)
        payload = safetensors.numpy.save(arrays, metadata={"figures": json.dumps(figures)})
        self._put(key, "evaluation", payload, kept=key in self._kept or self.origin == "searched")
        result = self._result(baseline, config, split, arrays, figures, cached=False)
        if split == "validation":
            point = self.point_of(result).to_json().encode()
            self._put(f"point/{key}", "point", point, kept=key in self._kept or self.origin != "explored")
        return self._remember(key, baseline, split, result)

    def point_of(self, result: Result) -> Point:
        """What Compare shows of a result."""
        (low, high), measured = result.comparison.interval, result.evaluation
        name = result.baseline_id
        return Point(
            name, self.baseline(name).sha256, result.config, measured.accuracy, result.comparison.difference, low, high,
            measured.loss, result.bytes, result.baseline_bytes, self.origin,
        )  # fmt: skip

    def _baseline_evaluation(self, baseline: Baseline, split: SplitName) -> Evaluation:
        nothing = CompressionConfig()
        key = self._key(baseline, nothing, split)
        found = self._remembered(key, baseline, nothing, split) or self._measure(key, baseline, nothing, split)
        return found.evaluation

    def _result(
        self,
        baseline: Baseline,
        config: CompressionConfig,
        split: SplitName,
        arrays: dict[str, Any],
        figures: dict[str, Any],
        cached: bool,
    ) -> Result:
        own = evaluation.from_arrays(arrays, fashion_mnist.load(split), figures["loss"])
        before = own if config == CompressionConfig() else self._baseline_evaluation(baseline, split)
        return Result(
            baseline_id=baseline.name,
            config=config,
            evaluation=own,
            baseline=before,
            comparison=evaluation.compare(before, own),
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

    def _remember(self, key: str, baseline: Baseline, split: SplitName, result: Result) -> Result:
        with self._lock:
            if split == "validation":
                if len(self._points) >= _REMEMBERED_POINTS:
                    self._points.clear()
                self._points[key] = result.evaluation.accuracy, result.bytes
            self._results[key] = result
            while len(self._results) > _REMEMBERED:
                self._results.popitem(last=False)
        return result

    def network(self, name: str, config: CompressionConfig) -> StoredNetwork:
        """The stored network of a configuration: what evaluation measures and export writes."""
        return self._compressed(self.baseline(name), config)

    def module(self, name: str, config: CompressionConfig) -> trainable.CompressedNetwork:
        """The same as a torch module, which can be trained and moved to another device."""
        return self._module(self.baseline(name), config)

    def _compressed(self, baseline: Baseline, config: CompressionConfig) -> StoredNetwork:
        if config.recovery is not None:
            trained = self._trained(baseline, config)
            if PACKED in trained:
                return packed.unpack(trained[PACKED].numpy().tobytes())
        return self._module(baseline, config).freeze()

    def _module(self, baseline: Baseline, config: CompressionConfig) -> trainable.CompressedNetwork:
        network = compression.compress(baseline, config, self.statistics(baseline))
        if config.recovery is not None:
            trained = self._trained(baseline, config)
            if PACKED in trained:
                raise OnlyItsFile
            network.load_state_dict(trained)
        return network

    def _trained(self, baseline: Baseline, config: CompressionConfig) -> dict[str, Tensor]:
        """What a recovery left: the module's tensors, or its packed file, where another machine trained it."""
        found = self.store.get(self._recovery_key(baseline, config))
        if found is None or found.weights is None:
            raise NotRecovered
        return load(found.weights)

    # Recovery: training after compression

    @staticmethod
    def _recovery_key(baseline: Baseline | Profile, config: CompressionConfig) -> str:
        recipe = None if config.recovery is None else training.recipe(config.recovery, baseline.model)
        about = {"baseline": baseline.sha256, "config": json.loads(config.to_json()), "methods": reliance.networks()}
        return key_of("recovered", training=None if recipe is None else reliance.trainings(recipe), **about)

    def history(self, name: str, config: CompressionConfig) -> list[dict[str, float]] | None:
        """The epochs of a recovery, as `training.Trained` has them; None where it was not trained yet."""
        return self._of_recovery(name, config).get("history")

    def kept_epoch(self, name: str, config: CompressionConfig) -> int | None:
        """Which epoch of a recovery was the best on validation, and is kept; 0 for the network before training."""
        return self._of_recovery(name, config).get("best_epoch")

    def _of_recovery(self, name: str, config: CompressionConfig) -> dict[str, Any]:
        found = self.store.get(self._recovery_key(self.baseline(name), config), with_weights=False)
        return {} if found is None else json.loads(found.payload)

    def came_with_the_project(self, name: str, config: CompressionConfig) -> bool:
        """Whether a recovery is there that was not done here."""
        key = self._recovery_key(self.baseline(name), config)
        return self.store.digest(key) is not None and self.store.is_below(key)

    def recover(
        self,
        name: str,
        config: CompressionConfig,
        progress: training.Progress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train a compressed network as `config.recovery` says, and keep it. Nothing is done where it was done before.

        Raises ConfigError, DataError, Stopped, Diverged, DeviceError.
        """
        baseline = self.baseline(name)
        compression.check(config, baseline.layers)
        if config.recovery is None:
            raise ConfigError("recovery must be given. Got None instead.")
        compression.check_training(baseline.layers)
        if self.history(name, config) is not None:
            return
        statistics, meanwhile, before = self.statistics(baseline), None, None
        if config.recovery.schedule == "iterative":
            network = compression.restructure(baseline, config, statistics)
            step = partial(compression.prune_gradually, network, config, statistics)
            meanwhile = training.Meanwhile(step, compression.PRUNING_SHARE, network.sparsities)
        else:
            before = compression.compress(baseline, config, statistics)
            network = compression.compress(baseline, config, statistics, learned=True)
        images = fashion_mnist.load("train", self.cache / "data", lambda text: progress({"message": text}))
        trained = training.recover(
            network, config.recovery, baseline.model, images, fashion_mnist.load("validation"),
            self._lessons(baseline, should_stop) if config.recovery.distillation else None, progress, should_stop,
            self.training_device(), meanwhile, before,
        )  # fmt: skip
        state = {key: tensor.contiguous() for key, tensor in trained.module.state_dict().items()}
        about = {"history": trained.history, "best_epoch": trained.best_epoch, "before": trained.before}
        self._keep_recovered(name, config, about, save(state))

    def _keep_recovered(self, name: str, config: CompressionConfig, about: dict[str, Any], weights: bytes) -> None:
        about |= {"baseline": name, "config": json.loads(config.to_json())}
        self.forget(name, config)  # what an earlier training left was measured
        self._keep(self._recovery_key(self.baseline(name), config), "recovered", json.dumps(about).encode(), weights)

    def _keep(self, key: str, kind: str, payload: bytes, weights: bytes | None = None) -> None:
        """As `_put`, for what nobody wants to lose. Raises OSError where the disk refuses."""
        if not self._put(key, kind, payload, weights, kept=True):
            raise OSError(self.store.problem or "The cache cannot be written.")

    def _put(self, key: str, kind: str, payload: bytes, weights: bytes | None = None, kept: bool = False) -> bool:
        """Where there is no room for more of what is kept, it is stored like any result; the pages say so."""
        put = self.store.put
        return (kept and put(key, kind, payload, weights, kept=True)) or put(key, kind, payload, weights)

    def kept(self) -> Kept:
        """How full the room for what is kept is. What is of no use today is no longer kept when it is nearly full."""
        kinds = self.store.kept()
        if Kept(self.store.kept_limit, kinds).share >= NEARLY_FULL and kinds != self._looked_through:
            self.store.release(*self._outdated())
            kinds = self._looked_through = self.store.kept()
        return Kept(self.store.kept_limit, kinds)

    def _outdated(self) -> list[str]:
        """Keys of what relies on methods, or on a baseline, that are no longer so."""
        current = {self._recovery_key(self.profile(name), config) for name, config in self.recovered()}
        found = [key for key in self.store.keys("recovered") if key not in current]
        for key, payload in self.store.all("point"):
            try:
                point = Point.from_json(payload.decode())
                outdated = key != self.point_key(point.baseline, point.config)
            except (ValueError, KeyError, TypeError):  # of another version; UnknownBaseline
                outdated = True
            if outdated:
                found += [key, key.removeprefix("point/")]
        return found

    def _lessons(self, baseline: Baseline, should_stop: Callable[[], bool]) -> training.Lessons:
        """Of the last baseline in memory: seconds once, and a third off every epoch."""
        if self._taught[0] != baseline.sha256:
            teacher = compression.compress(baseline, CompressionConfig(), self.statistics(baseline))
            images, validation = fashion_mnist.load("train", self.cache / "data"), fashion_mnist.load("validation")
            mirrored = training.mirrors(baseline.model)
            found = training.teach(teacher, mirrored, images, validation, self.training_device(), should_stop)
            self._taught = baseline.sha256, found
        assert self._taught[1] is not None
        return self._taught[1]

    def file_of(self, name: str, config: CompressionConfig) -> bytes:
        """The packed file."""
        return packed.pack(self.network(name, config)).content

    def bytes_of(self, name: str, config: CompressionConfig) -> int:
        """Of the packed file; nothing is evaluated."""
        return footprint.footprint(self.network(name, config)).total

    def adopt(
        self,
        name: str,
        config: CompressionConfig,
        content: bytes,
        history: list[dict[str, Any]] | None,
        best_epoch: int | None = None,
    ) -> None:
        """Keep the packed file of a network that another machine trained. Raises FormatError where it is another's."""
        baseline, found = self.baseline(name), packed.unpack(content)
        if (found.baseline_sha256, found.config) != (baseline.sha256, config):
            raise FormatError("The file holds another network than its trial says.")
        weights = save({PACKED: torch.frombuffer(bytearray(content), dtype=torch.uint8)})
        self._keep_recovered(name, config, {"history": history, "best_epoch": best_epoch}, weights)

    def recovered(self) -> list[tuple[str, CompressionConfig]]:
        """Baseline and configuration of every network that was trained after compression, the last made first; not of
        one whose baseline is gone, or that relies on what is no longer so."""
        found = []
        for key in self.store.keys("recovered"):
            entry = self.store.get(key, with_weights=False)
            about = json.loads(entry.payload) if entry is not None else {}
            with suppress(KeyError):  # of an entry of another version, or UnknownBaseline
                name, config = about["baseline"], CompressionConfig.from_record(about["config"])
                if key == self._recovery_key(self.profile(name), config):
                    found.append((name, config))
        return found

    def submit_recovery(self, name: str, config: CompressionConfig) -> str:
        """Recover in a process of its own; returns the job's id."""

        def gone(result: dict[str, Any]) -> bool:
            return self.history(name, config) is None or self.came_with_the_project(name, config)

        return self.jobs.submit(self.recovery_request(name, config), gone)

    @staticmethod
    def recovery_request(name: str, config: CompressionConfig) -> dict[str, Any]:
        """What the job of a recovery is asked for."""
        return {"kind": "recover", "baseline": name, "config": json.loads(config.to_json())}

    @staticmethod
    def another_device(job: JobStatus) -> Device | None:
        """Where a job can start again that its device failed: the CPU; None where it was no device's fault."""
        return "cpu" if job.state == "failed" and devices.failed(job.events) not in (None, "cpu") else None

    def start_again(self, job: JobStatus, device: Device | None = None) -> str:
        """Start a job that did not end well once more, on a device of its own if one is named; returns its id, which is
        the same. Raises OSError."""
        return self.jobs.submit(job.request, environment={} if device is None else {devices.VARIABLE: device})

    def statistics(self, baseline: Baseline) -> calibration.Statistics:
        """What compression needs of a baseline besides its weights; computed once per baseline, ever."""
        return calibration.Statistics(
            partial(self.decompositions, baseline),
            partial(self._moments, baseline),
            partial(self._compensations, baseline),
            fashion_mnist.load("calibration").inputs,
            baseline.sha256,
            self._recent,
        )

    def _moments(self, baseline: Baseline) -> calibration.Moments:
        images = fashion_mnist.load("calibration").inputs
        return self._pairs("moments", baseline, lambda: _flat(calibration.moments(baseline, images)))

    def _compensations(self, baseline: Baseline) -> dict[str, quantization.Compensation]:
        def make() -> dict[str, Tensor]:
            return _flat(calibration.compensations(self._moments(baseline)))

        found = self._pairs("compensations", baseline, make)
        return {name: quantization.Compensation(*pair) for name, pair in found.items()}

    def _pairs(
        self, kind: str, baseline: Baseline, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Two tensors by layer that only the baseline and the calibration images decide; of those where they fit."""
        key = key_of(kind, baseline=baseline.sha256, methods=reliance.networks())

        def pairs() -> dict[str, tuple[Tensor, Tensor]]:
            tensors = self._tensors(kind, key, make)
            names = [layer.name for layer in baseline.layers if f"{layer.name}.0" in tensors]
            return {name: (tensors[f"{name}.0"], tensors[f"{name}.1"]) for name in names}

        with self._decomposing:
            return self._recent.made(key, pairs)

    def _tensors(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """From the cache, else made and kept there."""
        found = self.store.get(key)
        if found is not None and found.weights is not None:
            return load(found.weights)
        tensors = {name: tensor.contiguous() for name, tensor in make().items()}
        self.store.put(key, kind, b"{}", save(tensors))
        return tensors

    def decompositions(self, baseline: Baseline, method: Method) -> dict[str, low_rank.Decomposition]:
        """By layer, of those where they fit; from memory or the cache where they were made before."""
        with self._decomposing:
            place = "decompositions", baseline.sha256, method
            return self._recent.made(place, lambda: self._decompose(baseline, method))

    def _decompose(self, baseline: Baseline, method: Method) -> dict[str, low_rank.Decomposition]:
        key = key_of("decomposition", baseline=baseline.sha256, method=method, methods=reliance.networks())
        known = partial(self._moments, baseline)
        tensors = self._tensors("decompositions", key, lambda: _flat(calibration.decompose(baseline, method, known)))
        parts = range(len(low_rank.Decomposition._fields))
        return {
            layer.name: low_rank.Decomposition(*(tensors[f"{layer.name}.{part}"] for part in parts))
            for layer in calibration.decomposable(baseline.layers, method)
        }

    def latency(self, session: str, name: str, config: CompressionConfig, batch: int = 1) -> Ticket:
        """A ticket for the time per image on this machine, by structure: bits and scattered zeros do not change it.

        What is known is answered at once, and measured anew when there is time, after a while; the quietest of the
        measurements stands, since others may use the machine too.
        """
        baseline, structure = self.baseline(name), _structure(config)
        key = ("latency", baseline.sha256, structure, batch)
        with self._lock:
            measured_at, best = self._latencies.get(key, (0.0, None))
        work = partial(self._time, key, baseline, structure, batch)
        if best is None:
            return self.turns.ask(session, key, work)
        if time.monotonic() - measured_at > LATENCY_SECONDS:
            self.turns.wish(f"{session} latency", {key: work})
        return Ticket(session, key, value=best, done=True)

    def _time(
        self, key: Hashable, baseline: Baseline, structure: CompressionConfig, batch: int, *unused: object
    ) -> Latency:
        network = self._compressed(baseline, structure)
        measured = evaluation.latency(network, fashion_mnist.load("validation").inputs, batch)
        with self._lock:
            _, best = self._latencies.get(key, (0.0, None))
            quietest = measured if best is None or measured.median < best.median else best
            self._latencies[key] = time.monotonic(), quietest
        return quietest

    def class_changes(self, result: Result, against: Result | None = None) -> pd.DataFrame:
        """Per class: images, lost, gained, recall before and after; against the baseline or another configuration."""
        return evaluation.class_changes(against.evaluation if against else result.baseline, result.evaluation)

    def flips(self, result: Result, against: Result | None = None) -> pd.DataFrame:
        """Every image whose prediction the configuration changed; against the baseline or another configuration."""
        return evaluation.flips(against.evaluation if against else result.baseline, result.evaluation)

    @staticmethod
    def telling_image(result: Result) -> dict[str, Any]:
        """One image of the validation split, before and after: see `evaluation.telling_image`."""
        return evaluation.telling_image(result.baseline, result.evaluation)

    def weights(self, name: str, config: CompressionConfig, layer: str) -> list[StoredWeight]:
        """What a layer stores, one weight or two factors, and the same before pruning, quantization and training."""
        whole = replace(_structure(config), low_rank_method=config.low_rank_method)
        now, was = (
            next(stored for stored in self.network(name, each).layers if stored.layer.name == layer).tensors
            for each in (config, whole)
        )
        found = []
        for own, before in zip(now, was, strict=True):
            old, new = (low_rank.as_matrix(tensor.weight()).numpy() for tensor in (before, own))
            kept = np.ones(old.shape, bool) if own.mask is None else low_rank.as_matrix(own.mask).numpy()
            found.append(StoredWeight(own.name, old, new, kept))
        return found

    def composed(
        self, name: str, weights: Mapping[str, Tensor], split: SplitName = "validation"
    ) -> evaluation.Evaluation:
        """The baseline with other weights, by layer, in float32: for comparisons that no file is made of."""
        baseline = self.baseline(name)
        tensors = dict(baseline.tensors) | {f"{layer}.weight": weight for layer, weight in weights.items()}
        return self.uncompressed(Baseline(name, tensors), split)

    def uncompressed(self, baseline: Baseline, split: SplitName) -> evaluation.Evaluation:
        """A network as it came, that is not kept here; nothing is remembered. Raises Overflow."""
        return evaluation.evaluate(self._compressed(baseline, CompressionConfig()), fashion_mnist.load(split))

    def compare(self, result: Result, against: Result) -> Comparison:
        """`result` after, `against` before, image by image."""
        return evaluation.compare(against.evaluation, result.evaluation)

    def confusion(self, result: Result) -> pd.DataFrame:
        """Counts: true classes down, predicted ones across."""
        return pd.DataFrame(
            result.evaluation.confusion().numpy(), index=fashion_mnist.CLASSES, columns=fashion_mnist.CLASSES
        )

    def most_confused(self, result: Result) -> tuple[str, str, int]:
        """The most frequent error: true class, predicted class, how many."""
        counts = self.confusion(result).stack()
        true, predicted = counts[[a != b for a, b in counts.index]].idxmax()
        return true, predicted, int(counts[true, predicted])

    def confident_mistakes(self, result: Result, count: int) -> pd.DataFrame:
        """The most confident errors: index, true, predicted, confidence."""
        own = result.evaluation
        index = own.confident_mistakes(count)
        names = np.array(fashion_mnist.CLASSES)
        columns = {"true": names[own.labels[index]], "predicted": names[own.predictions[index].long()]}
        return pd.DataFrame({"index": index, **columns, "confidence": own.confidences[index]})

    def images(self, split: SplitName, indices: list[int]) -> NDArray[np.uint8]:
        """Pictures of a split, uint8 (n, 28, 28)."""
        picked: NDArray[np.uint8] = fashion_mnist.load(split).images[torch.tensor(indices, dtype=torch.long)].numpy()
        return picked

    # Spectra

    def spectrum(self, name: str, energy: float = 0.95, method: Method = "svd") -> list[Spectrum]:
        """Singular values of each layer where they can be had, and the rank that keeps `energy` of the sum of their
        squares. What `left_out` names is not among them."""
        baseline = self.baseline(name)
        found = self.decompositions(baseline, method)
        layers = [layer for layer in baseline.layers if layer.name in found]
        return [_spectrum(layer, found[layer.name].singular_values, energy) for layer in layers]

    def left_out(self, name: str, method: Method) -> dict[str, str]:
        """Layers that are too large for this kind of singular values, and why, in a sentence each."""
        return calibration.not_decomposable(self.baseline(name).layers, method)

    def refusal(self, name: str, config: CompressionConfig) -> str:
        """Why a configuration cannot be tried on this network, in words; "" where it can."""
        try:
            compression.check(config, self.baseline(name).layers)
        except ConfigError as error:
            return str(error)
        return ""

    def rebuilt(self, name: str, layer: str, rank: int, method: Method = "svd") -> "Rebuilt":
        """A layer's weight beside its reconstruction of rank `rank`. Raises ConfigError where `left_out` names it."""
        baseline = self.baseline(name)
        if layer in (reasons := self.left_out(name, method)):
            raise ConfigError(reasons[layer])
        weight = baseline.tensors[f"{layer}.weight"]
        near = low_rank.reconstruct(self.decompositions(baseline, method)[layer], rank, tuple(weight.shape))
        return Rebuilt(weight.numpy(), near.numpy(), ((weight - near).norm() / weight.norm()).item())

    def config_for_energy(
        self, name: str, energy: float, method: Method = "svd", above_break_even: bool = False
    ) -> CompressionConfig:
        """Each layer at the rank that keeps `energy`; one where that saves nothing stays dense, unless asked for."""
        chosen = {
            layer.name: LayerConfig(rank=layer.rank if layer.saves or above_break_even else DENSE)
            for layer in self.spectrum(name, energy, method)
        }
        return CompressionConfig(layers=tuple(chosen.items()), low_rank_method=method)

    # Training and other long work

    def training_device(self) -> torch.device:
        """That of this workbench, else as `devices.chosen`. Raises ConfigError, DeviceError."""
        return self.device or devices.chosen()

    def train(
        self,
        config: TrainingConfig,
        progress: training.Progress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Baseline:
        """Train a baseline, then evaluate it once on the test images. Raises DataError, Stopped, Diverged,
        DeviceError."""
        validation = fashion_mnist.load("validation")
        images = fashion_mnist.load("train", self.cache / "data", lambda text: progress({"message": text}))
        device = self.training_device()
        progress({"message": f"Training on {device.type}."})
        baseline = training.train_baseline(config, images, validation, progress, should_stop, device)
        test = self.uncompressed(baseline, "test")
        figures = {"test_accuracy": test.accuracy, "test_loss": test.loss, "test_images": test.images}
        return replace(baseline, info={**baseline.info, **figures, "machine": platform.machine()})

    def submit_training(self, config: TrainingConfig) -> str:
        """Train in a process of its own; returns the job's id. The same recipe is the same job."""
        request = self.training_request(config)
        return self.jobs.submit(request, lambda result: self.store.digest(f"baseline/{result.get('baseline')}") is None)

    @staticmethod
    def training_request(config: TrainingConfig) -> dict[str, Any]:
        """What the job of a training is asked for."""
        return {"kind": "train", "config": config.to_dict()}

    def submit_search(self, name: str, goal: Goal, minutes: float) -> str:
        """Search in a process of its own, or go on with an earlier search; returns the job's id. Raises ConfigError."""
        return self.jobs.submit(self.search_request(name, goal, minutes), lambda result: True)

    @staticmethod
    def search_request(name: str, goal: Goal, minutes: float) -> dict[str, Any]:
        """What the job of a search is asked for. Raises ConfigError."""
        check_minutes(minutes)
        return {"kind": SEARCH, "baseline": name, "goal": goal.to_request(), "minutes": minutes}

    def work(self, request: dict[str, Any], report: jobs.Report, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """What a job's process does."""
        if request["kind"] == "recover":
            wanted = CompressionConfig.from_record(request["config"])
            self.recover(request["baseline"], wanted, report, should_stop)
            return {"recovered": request["baseline"]}
        if request["kind"] == "export":
            wanted, name = CompressionConfig.from_record(request["config"]), request["baseline"]

            def say(text: str, done: float) -> None:
                if should_stop():
                    raise Stopped
                report({"message": text, "done": done})

            verdict = self.export(name, wanted, self.export_folder(name, wanted), say=say)
            trim(self.cache / "exports", EXPORTS_BYTES)
            return verdict
        config = TrainingConfig(**request["config"])
        baseline = self.train(config, report, should_stop)
        title = f"{config.model.upper()}, {config.epochs} epochs, seed {config.seed}"
        return {
            "baseline": self.add_baseline(baseline, title, "trained"),
            "test_accuracy": baseline.info["test_accuracy"],
        }

    # Export

    def export(
        self,
        name: str,
        config: CompressionConfig,
        directory: Path,
        formats: Sequence[str] = FORMATS,
        say: Callable[[str, float], None] = lambda text, done: None,
    ) -> dict[str, Any]:
        """Write the network in these formats; each file is read in a process of its own and run over the test images.
        Returns the verdict, as `artifact.verify`.

        Raises NotRecovered, OSError where the disk refuses, ValueError for an unknown format.
        """
        network, split = self.network(name, config), fashion_mnist.load("test")
        logits, ties = evaluation.logits(network, split), evaluation.rounding_ties(network, split)
        test = self.evaluate(name, config, "test")
        same = np.array_equal(predicted(logits), test.evaluation.predictions.numpy())
        if not same or test.footprint != footprint.footprint(network):  # measured with other versions of the libraries
            self.forget(name, config)
            test = self.evaluate(name, config, "test")
        validation = self.evaluate(name, config)
        promise = artifact.Promise(validation.evaluation, test.evaluation, test.baseline, logits, ties)
        notes = artifact.write(network, directory, promise, formats)
        verdict = artifact.verify(directory, say)
        verdict["notes"] = notes + verdict["notes"]
        verdict |= {"baseline_accuracy": test.baseline.accuracy, "sizes": self.sizes(test)}
        if (directory / "network.safetensors").is_file():
            content = zlib.compress((directory / "network.safetensors").read_bytes(), 9)
            verdict["sizes"]["zip of the safetensors file"] = len(content)
        files = {entry["path"]: entry["bytes"] for entry in verdict["files"] if entry["format"] != "packed"}
        verdict["sizes"] |= files
        write_atomically(directory / VERIFIED_FILE, json.dumps(verdict).encode())
        return verdict

    def submit_export(self, name: str, config: CompressionConfig) -> str:
        """Export, or export again, in a process of its own, to where `exported` finds it; returns the job's id."""
        return self.jobs.submit(self.export_request(name, config), lambda result: True)

    @staticmethod
    def export_request(name: str, config: CompressionConfig) -> dict[str, Any]:
        """What the job of an export is asked for."""
        return {"kind": "export", "baseline": name, "config": json.loads(config.to_json())}

    def exported(self, name: str, config: CompressionConfig) -> "Export | None":
        """The export of a configuration with its verdict, if it was made here and its files are still the same."""
        folder = self.export_folder(name, config)
        try:
            verdict = json.loads((folder / VERIFIED_FILE).read_text())
            same = all(sha256((folder / entry["path"]).read_bytes()) == entry["sha256"] for entry in verdict["files"])
            os.utime(folder)  # it was looked at
            return Export(folder, verdict) if same and verdict["files"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def sizes(self, result: Result) -> dict[str, float]:
        """Bytes, counted in every usual way."""
        theory, entropy = result.theoretical_kb * footprint.KB, result.footprint.entropy
        ways = dict(zip(COUNTED, (result.baseline_bytes, theory, entropy), strict=True))
        return ways | {"packed file": result.bytes}

    def export_folder(self, name: str, config: CompressionConfig) -> Path:
        """Where the page keeps the export of a configuration."""
        return self.cache / "exports" / self._key(self.baseline(name), config, "test")[:16]


def source(path: str) -> str:
    """The source text of a function or class of core, by its dotted name: "core.mathematics.low_rank.factorize"."""
    module, _, name = path.rpartition(".")
    return inspect.getsource(getattr(importlib.import_module(module), name))


def _is_file(name: str) -> bool:
    """Whether a baseline is named by the path of its file."""
    return name.endswith(".safetensors") and Path(name).is_file()


def _structure(config: CompressionConfig) -> CompressionConfig:
    """What the time of a forward pass depends on: channels and ranks. Bits and scattered zeros do not change it."""
    layers = tuple((name, replace(own, sparsity=None, bits=None)) for name, own in config.layers)
    chosen = CompressionConfig(layers, config.channel_share, config.channel_score, config.rank_share)
    scope = chosen.scope if config.channel_share is None else config.scope
    return replace(chosen, above_break_even=config.above_break_even, scope=scope)


def _flat(by_layer: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
    return {f"{name}.{part}": tensor for name, parts in by_layer.items() for part, tensor in enumerate(parts)}


def _layer_rows(baseline: Baseline, stored: StoredNetwork, ledger: Footprint) -> list[dict[str, Any]]:
    rows = []
    for layer, own in zip(baseline.layers, stored.layers, strict=True):
        break_even = low_rank.break_even_rank(*own.layer.matrix_shape)
        row = LayerRow(
            name=layer.name,
            shape=layer.shape,
            channels=own.layer.shape[0],
            rank=own.rank,
            full_rank=own.layer.full_rank,
            break_even_rank=break_even,
            parameters=own.weights + own.bias.numel(),
            sparsity=own.sparsity,
            rounded_to_zero=sum(tensor.zeros - tensor.masked for tensor in own.tensors),
            bits=own.tensors[0].bits,
            bytes=sum(entry.bytes for entry in ledger.entries if entry.layer == layer.name),
            note=_rank_note(own, stored.config, break_even),
        )
        rows.append(asdict(row))
    return rows


def _rank_note(own: StoredLayer, config: CompressionConfig, break_even: int) -> str:
    asked, full = config.layer(own.layer.name).rank, own.layer.full_rank
    if asked is not None:
        return f"rank {asked} was asked for: {full} are left without its channels" if asked > full else ""
    if own.rank is not None or config.rank_share is None:
        return ""
    wanted = low_rank.rank_from_share(config.rank_share, full)
    return f"stays dense: rank {wanted} is above break-even, {break_even}"


def _spectrum(layer: models.Layer, values: Tensor, energy: float) -> Spectrum:
    rank = low_rank.rank_for_energy(values, energy)
    condition = low_rank.condition_number(values)
    variance = values.double().square().sum().item() / layer.weights  # ||W||_F^2 / (m n)
    random = low_rank.random_singular_values(*layer.matrix_shape, variance)
    return Spectrum(
        name=layer.name,
        shape=layer.shape,
        matrix_shape=layer.matrix_shape,
        singular_values=tuple(values.tolist()),
        cumulative_energy=tuple(low_rank.cumulative_energy(values).tolist()),
        energy=energy,
        rank=rank,
        share=rank / layer.full_rank,
        break_even_rank=low_rank.break_even_rank(*layer.matrix_shape),
        condition_number=condition if condition < float("inf") else None,
        stable_rank=low_rank.stable_rank(values),
        effective_rank=low_rank.effective_rank(values),
        random=tuple(random.tolist()),
        random_energy=tuple(low_rank.cumulative_energy(random).tolist()),
        random_rank=low_rank.rank_for_energy(random, energy),
    )


def _unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and figures of a stored evaluation."""
    header, _ = safetensors_header(payload)
    return safetensors.numpy.load(payload), json.loads(header["__metadata__"]["figures"])
