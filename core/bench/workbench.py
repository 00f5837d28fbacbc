"""The door: what pages, studies and the command line ask for, by name; each part behind it can be read alone.

Baselines and what is known of them make networks; these are measured, trained and exported, some of it as jobs.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from core.bench import submissions, views
from core.bench.albums import Albums
from core.bench.arrivals import Arrivals
from core.bench.baselines import PRETRAINED, SHIPPED, Baselines, deletable
from core.bench.errors import ERRORS, NotRecovered, UnknownBaseline
from core.bench.exports import VERIFIED_FILE, Exports
from core.bench.knowledge import Knowledge
from core.bench.latencies import Latencies
from core.bench.measurements import Measurements
from core.bench.networks import Networks
from core.bench.pictures import Pictures
from core.bench.results import Card, Early, Export, LayerRow, Outline, Result, Spectrum, StoredWeight
from core.bench.room import NEARLY_FULL, Room, kept_limit
from core.bench.spectra import Spectra
from core.bench.submissions import Submissions
from core.bench.trainings import Trainings
from core.bench.views import source
from core.config import CompressionConfig, Device
from core.datasets import Datasets, SplitName
from core.formats.footprint import COUNTED
from core.machinery import devices, jobs
from core.machinery.files import PROJECT
from core.machinery.jobs import Status as JobStatus
from core.machinery.recent import Recent
from core.machinery.shelf import Shelf
from core.machinery.store import Store
from core.machinery.turns import Ticket, Turns
from core.measuring.evaluation import Comparison, Latency
from core.networks import families

__all__ = [
    "COUNTED", "ERRORS", "NEARLY_FULL", "PRETRAINED", "RECIPES", "SHELF", "SHIPPED", "VERIFIED_FILE", "Card",
    "Comparison", "Early", "Export", "JobStatus", "Latency", "LayerRow", "NotRecovered", "Outline", "Result",
    "Spectrum", "SplitName", "StoredWeight", "Ticket", "UnknownBaseline", "Workbench", "cache_folder", "source",
]  # fmt: skip

RECIPES = families.recipes()
"""How each baseline is trained, by name."""

SHELF = PRETRAINED / "results.zip"
"""Results of long experiments, which come with the project."""

RECENT_BYTES = 400 * 2**20
"""Of baselines, statistics and decompositions in memory; the shipped CNN's moments alone are 80 MB."""

P = ParamSpec("P")
R = TypeVar("R")


class Delegate(Generic[P, R]):
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
        priority: Literal["first", "last"] | None = None,
        shelf: Path | None = None,
    ) -> None:
        """origin : what this process measures for, one of `front.ORIGINS`
        priority : "first" where people wait for what is measured; "last" in the background, which pauses for them
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
        precedence = self.jobs.precedence
        self.turns = Turns({"first": precedence.claim, "last": precedence.give_way, None: lambda: None}[priority])
        self.recent = Recent(RECENT_BYTES)

        self.datasets = Datasets(self.cache / "data")
        self.albums = Albums(self.datasets)
        self.baselines = Baselines(self.store, self.recent, self.datasets)
        self.knowledge = Knowledge(self.store, self.recent, self.datasets)
        self.spectra = Spectra(self.baselines, self.knowledge)
        self.networks = Networks(self.store, self.baselines, self.knowledge)
        self.latencies = Latencies(self.baselines, self.networks, self.turns, self.datasets)
        self.measurements = Measurements(self.store, self.baselines, self.networks, self.turns, origin, self.datasets)
        self.trainings = Trainings(
            self.store, self.baselines, self.knowledge, self.measurements, self.datasets, self.device
        )
        self.exports = Exports(self.cache / "exports", self.baselines, self.networks, self.measurements, self.datasets)
        self.arrivals = Arrivals(self.baselines, self.networks, self.datasets)
        self.own_pictures = Pictures(self.networks, self.datasets)
        self.room = Room(self.store, self.baselines, self.measurements, self.trainings)
        self.submissions = Submissions(self.jobs, self.store, self.trainings)

    cards = Delegate("baselines", Baselines.cards)
    title = Delegate("baselines", Baselines.title)
    baseline = Delegate("baselines", Baselines.get)
    profile = Delegate("baselines", Baselines.profile)
    teacher_sum = Delegate("baselines", Baselines.teacher_sum)
    teacher_sums = Delegate("baselines", Baselines.teacher_sums)
    teacher_named = Delegate("baselines", Baselines.teacher_named)
    by_sum = Delegate("baselines", Baselines.by_sum)
    about_family = Delegate("baselines", Baselines.about_family)
    add_baseline = Delegate("baselines", Baselines.add)
    load_file = Delegate("baselines", Baselines.load_file)
    baseline_file = Delegate("baselines", Baselines.content)
    adopt_baseline = Delegate("baselines", Baselines.adopt)
    bring = Delegate("arrivals", Arrivals.bring)
    delete_baseline = Delegate("baselines", Baselines.delete)
    count = Delegate("baselines", Baselines.count)
    dataset = Delegate("baselines", Baselines.dataset)
    images = Delegate("baselines", Baselines.pictures)
    is_own = staticmethod(deletable)

    data_names = Delegate("albums", Albums.data_names)
    album = Delegate("albums", Albums.album)
    album_of = Delegate("albums", Albums.album_of)
    read_images = Delegate("albums", Albums.read_images)
    add_images = Delegate("albums", Albums.add_images)
    delete_images = Delegate("albums", Albums.delete_images)
    is_own_data = Delegate("albums", Albums.is_own_data)

    statistics = Delegate("knowledge", Knowledge.statistics)

    spectrum = Delegate("spectra", Spectra.spectrum)
    left_out = Delegate("spectra", Spectra.left_out)
    rebuilt = Delegate("spectra", Spectra.rebuilt)
    config_for_energy = Delegate("spectra", Spectra.config_for_energy)

    network = Delegate("networks", Networks.network)
    module = Delegate("networks", Networks.module)
    refusal = Delegate("networks", Networks.refusal)
    outline = Delegate("networks", Networks.outline)
    weights = Delegate("networks", Networks.weights)
    file_of = Delegate("networks", Networks.file_of)
    bytes_of = Delegate("networks", Networks.bytes_of)

    latency = Delegate("latencies", Latencies.latency)

    evaluate = Delegate("measurements", Measurements.evaluate)
    ask = Delegate("measurements", Measurements.ask)
    wish = Delegate("measurements", Measurements.wish)
    known = Delegate("measurements", Measurements.known)
    composed = Delegate("measurements", Measurements.composed)
    point = Delegate("measurements", Measurements.point)
    points = Delegate("measurements", Measurements.points)
    point_of = Delegate("measurements", Measurements.point_of)
    point_key = Delegate("measurements", Measurements.point_key)
    keep = Delegate("measurements", Measurements.keep)
    forget = Delegate("measurements", Measurements.forget)

    training_device = Delegate("trainings", Trainings.training_device)
    train = Delegate("trainings", Trainings.train)
    recipe_for = Delegate("trainings", Trainings.recipe_for)
    epoch_seconds = Delegate("trainings", Trainings.epoch_seconds)
    in_widths = Delegate("trainings", Trainings.in_widths)
    lessons_for = Delegate("trainings", Trainings.lessons_for)
    recover = Delegate("trainings", Trainings.recover)
    adopt = Delegate("trainings", Trainings.adopt)
    history = Delegate("trainings", Trainings.history)
    kept_epoch = Delegate("trainings", Trainings.kept_epoch)
    recovered = Delegate("trainings", Trainings.recovered)
    came_with_the_project = Delegate("trainings", Trainings.came_with_the_project)

    export = Delegate("exports", Exports.export)
    export_folder = Delegate("exports", Exports.export_folder)
    exported = Delegate("exports", Exports.exported)

    own_picture = Delegate("own_pictures", Pictures.own_picture)
    own_taken = Delegate("own_pictures", Pictures.own_taken)

    kept = Delegate("room", Room.kept)

    submit_training = Delegate("submissions", Submissions.submit_training)
    submit_recovery = Delegate("submissions", Submissions.submit_recovery)
    submit_search = Delegate("submissions", Submissions.submit_search)
    submit_students = Delegate("submissions", Submissions.submit_students)
    submit_export = Delegate("submissions", Submissions.submit_export)
    start_again = Delegate("submissions", Submissions.start_again)
    training_request = staticmethod(submissions.training_request)
    recovery_request = staticmethod(submissions.recovery_request)
    search_request = staticmethod(submissions.search_request)
    students_request = staticmethod(submissions.students_request)
    export_request = staticmethod(submissions.export_request)
    another_device = staticmethod(submissions.another_device)

    family_titles = staticmethod(families.titles)
    own_widths = staticmethod(families.own_widths)
    compare = staticmethod(views.compare)
    class_changes = staticmethod(views.class_changes)
    flips = staticmethod(views.flips)
    telling_image = staticmethod(views.telling_image)
    confusion = staticmethod(views.confusion)
    most_confused = staticmethod(views.most_confused)
    confident_mistakes = staticmethod(views.confident_mistakes)
    sizes = staticmethod(views.sizes)

    def remove(self, name: str, config: CompressionConfig) -> None:
        """Delete what was measured, trained and exported of a configuration; a person asked for it."""
        self.exports.delete(name, config)  # while the training is here, which its folder's name holds
        self.forget(name, config)
        self.trainings.delete(name, config)
