"""The door: what pages, studies and the command line ask for, by name. Each part behind it can be read alone.

baselines -> knowledge -> networks -> measurements -> trainings, exports -> submissions
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from core.bench import submissions, views
from core.bench.baselines import PRETRAINED, SHIPPED, Baselines, deletable
from core.bench.errors import ERRORS, NotRecovered, OnlyItsFile, UnknownBaseline
from core.bench.exports import VERIFIED_FILE, Exports
from core.bench.knowledge import Knowledge
from core.bench.latencies import Latencies
from core.bench.measurements import Measurements
from core.bench.networks import PACKED, Networks
from core.bench.results import (
    Card,
    Early,
    Export,
    Kept,
    LayerRow,
    Outline,
    Profile,
    Rebuilt,
    Result,
    Spectrum,
    StoredWeight,
)  # fmt: skip
from core.bench.room import NEARLY_FULL, Room, kept_limit
from core.bench.spectra import Spectra
from core.bench.submissions import Submissions
from core.bench.trainings import Trainings
from core.bench.views import source
from core.config import CompressionConfig, Device
from core.datasets.fashion_mnist import SplitName
from core.formats.footprint import COUNTED
from core.machinery import devices, jobs
from core.machinery.files import PROJECT
from core.machinery.jobs import Status as JobStatus
from core.machinery.recent import Recent
from core.machinery.shelf import Shelf
from core.machinery.store import Store
from core.machinery.turns import Ticket, Turns
from core.measuring.evaluation import Comparison, Evaluation, Latency

__all__ = [
    "COUNTED", "ERRORS", "NEARLY_FULL", "PACKED", "PRETRAINED", "SHELF", "SHIPPED", "VERIFIED_FILE", "Card",
    "Comparison", "Early", "Evaluation", "Export", "JobStatus", "Kept", "Latency", "LayerRow", "NotRecovered",
    "OnlyItsFile", "Outline", "Profile", "Rebuilt", "Result", "Spectrum", "SplitName", "StoredWeight", "Ticket",
    "UnknownBaseline", "Workbench", "cache_folder", "source",
]  # fmt: skip

SHELF = PRETRAINED / "results.zip"
"""Results of long experiments, which come with the project."""

RECENT_BYTES = 400 * 2**20
"""Of baselines, statistics and decompositions in memory; the shipped CNN's moments alone are 80 MB."""

P = ParamSpec("P")
R = TypeVar("R")


class Of(Generic[P, R]):
    """A method of a part, by a name of the bench: `bench.ask(...)` is `bench.measurements.ask(...)`."""

    def __init__(self, part: str, method: Callable[Concatenate[Any, P], R]) -> None:
        self.part, self.method = part, method

    def __get__(self, bench: object, kind: type) -> Callable[P, R]:
        if bench is None:
            return self.method  # type: ignore[return-value]
        bound: Callable[P, R] = getattr(getattr(bench, self.part), self.method.__name__)
        return bound


def cache_folder() -> Path:
    """The folder COMPRESSION_CACHE, else `cache/` of the project."""
    return Path(os.environ.get("COMPRESSION_CACHE") or PROJECT / "cache")


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
        self.device = None if device is None else devices.chosen(device)
        self.cache = Path(cache) if cache is not None else cache_folder()
        below = None if shelf is None else Shelf(shelf)
        self.store = Store(self.cache, kept_limit=kept_limit(), below=below)
        self.store.sweep()
        self.jobs = jobs.Jobs(self.cache / "jobs")
        people = self.jobs.precedence
        self.turns = Turns({"first": people.claim, "last": people.give_way, None: lambda: None}[turn])
        self.recent = Recent(RECENT_BYTES)

        self.baselines = Baselines(self.store, self.recent)
        self.knowledge = Knowledge(self.store, self.recent)
        self.spectra = Spectra(self.baselines, self.knowledge)
        self.networks = Networks(self.store, self.baselines, self.knowledge)
        self.latencies = Latencies(self.baselines, self.networks, self.turns)
        self.measurements = Measurements(self.store, self.baselines, self.networks, self.turns, origin)
        self.trainings = Trainings(
            self.store, self.baselines, self.knowledge, self.measurements, self.cache / "data", self.device
        )
        self.exports = Exports(self.cache / "exports", self.baselines, self.networks, self.measurements)
        self.room = Room(self.store, self.baselines, self.measurements, self.trainings)
        self.submissions = Submissions(self.jobs, self.store, self.trainings)

    cards, title = Of("baselines", Baselines.cards), Of("baselines", Baselines.title)
    baseline, profile = Of("baselines", Baselines.get), Of("baselines", Baselines.profile)
    add_baseline, load_file = Of("baselines", Baselines.add), Of("baselines", Baselines.load_file)
    delete_baseline, is_own = Of("baselines", Baselines.delete), staticmethod(deletable)

    statistics = Of("knowledge", Knowledge.statistics)
    decompositions = Of("knowledge", Knowledge.decompositions)
    spectrum, rebuilt = Of("spectra", Spectra.spectrum), Of("spectra", Spectra.rebuilt)
    left_out, config_for_energy = Of("spectra", Spectra.left_out), Of("spectra", Spectra.config_for_energy)

    network, module = Of("networks", Networks.network), Of("networks", Networks.module)
    weights, outline = Of("networks", Networks.weights), Of("networks", Networks.outline)
    file_of, bytes_of = Of("networks", Networks.file_of), Of("networks", Networks.bytes_of)
    refusal = Of("networks", Networks.refusal)
    latency = Of("latencies", Latencies.latency)

    evaluate, ask = Of("measurements", Measurements.evaluate), Of("measurements", Measurements.ask)
    wish, known = Of("measurements", Measurements.wish), Of("measurements", Measurements.known)
    point, points = Of("measurements", Measurements.point), Of("measurements", Measurements.points)
    point_of, point_key = Of("measurements", Measurements.point_of), Of("measurements", Measurements.point_key)
    keep, forget = Of("measurements", Measurements.keep), Of("measurements", Measurements.forget)
    composed = Of("measurements", Measurements.composed)
    uncompressed = Of("measurements", Measurements.uncompressed)

    train, recover = Of("trainings", Trainings.train), Of("trainings", Trainings.recover)
    history, kept_epoch = Of("trainings", Trainings.history), Of("trainings", Trainings.kept_epoch)
    recovered, adopt = Of("trainings", Trainings.recovered), Of("trainings", Trainings.adopt)
    came_with_the_project = Of("trainings", Trainings.came_with_the_project)
    training_device = Of("trainings", Trainings.training_device)

    export, exported = Of("exports", Exports.export), Of("exports", Exports.exported)
    export_folder = Of("exports", Exports.export_folder)
    kept = Of("room", Room.kept)

    submit_training = Of("submissions", Submissions.submit_training)
    submit_recovery = Of("submissions", Submissions.submit_recovery)
    submit_search = Of("submissions", Submissions.submit_search)
    submit_export = Of("submissions", Submissions.submit_export)
    start_again = Of("submissions", Submissions.start_again)
    another_device = staticmethod(submissions.another_device)
    training_request = staticmethod(submissions.training_request)
    recovery_request = staticmethod(submissions.recovery_request)
    export_request = staticmethod(submissions.export_request)
    search_request = staticmethod(submissions.search_request)

    compare, class_changes = staticmethod(views.compare), staticmethod(views.class_changes)
    flips, telling_image = staticmethod(views.flips), staticmethod(views.telling_image)
    confusion, most_confused = staticmethod(views.confusion), staticmethod(views.most_confused)
    confident_mistakes = staticmethod(views.confident_mistakes)
    images, sizes = staticmethod(views.images), staticmethod(views.sizes)

    def remove(self, name: str, config: CompressionConfig) -> None:
        """Delete what was measured, trained and exported of a configuration; a person asked for it."""
        self.exports.delete(name, config)  # while the training is here, which its folder's name holds
        self.forget(name, config)
        self.trainings.delete(name, config)
