"""The networks that are compressed: those that come with the project, and those that were trained or loaded here."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.bench import entries
from core.bench.errors import UnknownBaseline
from core.bench.results import Card, Profile
from core.datasets import DataError, Dataset, Datasets, SplitName
from core.machinery.files import PROJECT
from core.machinery.recent import Recent
from core.machinery.store import Store
from core.networks import families, models
from core.networks.models import Baseline, BaselineError
from core.words import one_line

SHIPPED = {
    "cnn": "CNN",
    "mlp": "MLP",
    "mlp-course": "MLP as in the course",
    "compact": "Compact",
    "residual": "Residual",
}
PRETRAINED = PROJECT / "core" / "pretrained"


def deletable(name: str) -> bool:
    """Whether it was trained or loaded here, and so can be deleted."""
    return name not in SHIPPED


class Baselines:
    """recent : memory for the networks that were used last"""

    def __init__(self, store: Store, recent: Recent, datasets: Datasets) -> None:
        self.store, self.recent, self.datasets = store, recent, datasets
        self._lock = threading.Lock()  # of the profiles
        self._profiles: dict[str, Profile] = {}

    def cards(self) -> list[Card]:
        """All baselines: the shipped ones, then what was trained or loaded here, the newest use first."""
        cards = [Card(name, title, "shipped") for name, title in SHIPPED.items()]
        for key in self.store.keys("baseline"):
            entry = self.store.get(key, with_weights=False)
            if entry is not None:
                about = json.loads(entry.payload)
                cards.append(Card(about["id"], about["title"], about["origin"]))
        return cards

    def title(self, name: str) -> str:
        return next((card.title for card in self.cards() if card.id == name), name)

    def get(self, name: str) -> Baseline:
        """By shipped name, by id, or by the path of a safetensors file. Raises UnknownBaseline, BaselineError."""
        if _is_file(name):
            return self._fitting(models.from_file(Path(name), name))
        return self.recent.made(("baseline", name), lambda: self._load(name))

    def profile(self, name: str) -> Profile:
        """Of a baseline by its name; it is loaded once for that. Raises UnknownBaseline, BaselineError."""
        with self._lock:
            known = self._profiles.get(name)
        if known is not None:
            return known
        baseline = self.get(name)
        profile = Profile(baseline.sha256, baseline.model, baseline.network, baseline.images, baseline.teacher)
        if not _is_file(name):  # which may change
            with self._lock:
                self._profiles[name] = profile
        return profile

    def by_sum(self, sha256: str) -> Baseline | None:
        """The baseline with these weights, None where there is none. sha256 : the sum, or its beginning"""
        names = (card.id for card in self.cards())
        name = next((name for name in names if self.profile(name).sha256.startswith(sha256)), None)
        return None if name is None else self.get(name)

    def teacher_sum(self, name: str) -> str:
        """How a baseline is named as a teacher."""
        return self.teacher_sums([name])[name]

    def teacher_sums(self, names: Iterable[str]) -> dict[str, str]:
        """The same of several, by their names: the beginning of a sum, longer where others begin alike."""
        known = {self.profile(card.id).sha256 for card in self.cards()}

        def brief(own: str) -> str:
            others = known - {own}
            return next(own[:n] for n in (8, 16, 64) if not any(other.startswith(own[:n]) for other in others))

        return {name: brief(self.profile(name).sha256) for name in names}

    def teacher_named(self, text: str | None) -> str | None:
        """The sum of the baseline with this name; what is no name stays as it is."""
        return self.teacher_sum(text) if text in {card.id for card in self.cards()} else text

    def about_family(self, name: str) -> str:
        """What the family of a baseline teaches; "" where it is of none, or of other widths than the family's own."""
        profile = self.profile(name)
        family, network = families.families().get(profile.model), profile.network
        if family is None or family.build(network.shape, network.classes) != network:
            return ""
        return family.about

    def dataset(self, name: str) -> Dataset:
        """That a baseline was made for. Raises UnknownBaseline, DataError."""
        return self.datasets.named(self.profile(name).images.data)

    def count(self, name: str, split: SplitName) -> int:
        """Images of a split of these."""
        return len(self.datasets.split(self.profile(name).images, split))

    def pictures(self, name: str, split: SplitName, indices: list[int]) -> NDArray[np.uint8]:
        """Of a split of these: uint8 (n, h, w) where they are grey, else (n, h, w, c)."""
        images = self.datasets.split(self.profile(name).images, split)
        picked: NDArray[np.uint8] = images.part(torch.tensor(indices, dtype=torch.long)).pictures.numpy()
        return picked

    def _load(self, name: str) -> Baseline:
        if name in SHIPPED:
            info = json.loads((PRETRAINED / f"{name}.json").read_text())
            return models.from_bytes((PRETRAINED / f"{name}.safetensors").read_bytes(), name, info)
        entry = self.store.get(f"baseline/{name}")
        if entry is not None and entry.weights is not None:
            return models.from_bytes(entry.weights, name, json.loads(entry.payload)["info"])
        known = ", ".join(card.id for card in self.cards())
        raise UnknownBaseline(f"baseline must be one of {known}, or a .safetensors file. Got {name!r} instead.")

    def add(self, baseline: Baseline, title: str, origin: str) -> str:
        """Keep a baseline; returns its id, which names its content.

        What is kept already stays as it is, for everybody, unless only now something is known of its training.
        """
        name = self._id(baseline)
        entry = self.store.get(f"baseline/{name}")  # with its weights: what is damaged is kept anew
        before = None if entry is None else json.loads(entry.payload)["origin"]
        if before == "trained" or (before is not None and origin != "trained"):
            return name
        about = {"id": name, "title": title, "origin": origin, "info": dict(baseline.info)}
        payload, weights = json.dumps(about).encode(), models.to_bytes(baseline)
        entries.keep(self.store, f"baseline/{name}", "baseline", payload, weights)
        self._forget(name)
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
        title = title_of(file_name, "loaded")
        return self.keep_loaded(self._fitting(models.from_bytes(content, title)), title)

    def keep_loaded(self, baseline: Baseline, title: str) -> str:
        """Keep a network of a person's, or find the one that is the same; returns its id."""
        shipped = (name for name in SHIPPED if self.profile(name).sha256 == baseline.sha256)
        return next(shipped, None) or self.add(baseline, title, "loaded")

    def _fitting(self, baseline: Baseline) -> Baseline:
        """Raises BaselineError where its images are not here, or are of another size."""
        try:
            dataset = self.datasets.named(baseline.images.data)
        except DataError as error:
            raise BaselineError(f"The network was made for images that are not here. {error}") from None
        if baseline.network.shape != dataset.shape:
            raise BaselineError(
                f"The network must read images of shape {dataset.shape}, those of {dataset.title}. This one reads "
                f"{baseline.network.shape}."
            )
        return baseline

    def content(self, name: str) -> bytes:
        """A baseline as a safetensors file."""
        return models.to_bytes(self.get(name))

    def adopt(self, content: bytes, about: dict[str, Any], title: str) -> str:
        """Keep a baseline that another machine trained; returns its id, which is that of what is there already where it
        is the same. about : what is known of its making"""
        baseline = models.from_bytes(content, title, about)
        for card in self.cards():
            if self.profile(card.id).sha256 == baseline.sha256:
                return card.id
        return self.add(self._fitting(baseline), title, "trained")

    def delete(self, name: str) -> None:
        self.store.delete(f"baseline/{name}")
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.recent.forget(("baseline", name))
        with self._lock:
            self._profiles.pop(name, None)


def title_of(file_name: str, otherwise: str) -> str:
    """What a network is called at first that came in a file."""
    return one_line(Path(file_name).stem)[:40].strip() or otherwise


def _is_file(name: str) -> bool:
    """Whether a baseline is named by the path of its file."""
    return name.endswith(".safetensors") and Path(name).is_file()
