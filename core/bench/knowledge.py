"""What compression needs of a baseline besides its weights: computed once per baseline, ever."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby

import torch
from safetensors.torch import load, save
from torch import Tensor

from core.bench import reliance
from core.datasets import Datasets
from core.machinery.recent import Recent
from core.machinery.store import Store, key_of
from core.mathematics import low_rank, quantization
from core.mathematics.low_rank import Method
from core.networks import calibration
from core.networks.models import Baseline

SINGULAR_VALUES = "singular values"
"""The kind of entry in the store."""


class Knowledge:
    """Statistics of baselines, from memory or the cache where they were made before.

    recent : memory for what was used last
    """

    def __init__(self, store: Store, recent: Recent, datasets: Datasets) -> None:
        self.store, self.recent, self.datasets = store, recent, datasets
        self._making = threading.RLock()  # of two threads that ask for the same, one makes it and the other waits

    def statistics(self, baseline: Baseline) -> calibration.Statistics:
        """Everything that compression asks for, each part made when it is asked for first."""
        return calibration.Statistics(
            partial(self.decompositions, baseline),
            partial(self._moments, baseline),
            partial(self._compensations, baseline),
            self._images(baseline),
            baseline.sha256,
            self.recent,
        )

    def _images(self, baseline: Baseline) -> Tensor:
        """Of calibration, as the baseline sees them. Raises DataError."""
        return self.datasets.split(baseline.images, "calibration").inputs

    def decompositions(self, baseline: Baseline, method: Method) -> dict[str, low_rank.Decomposition]:
        """W = U diag(s) V^T by layer, of those where it fits; data-aware ones of the whitened weight."""
        make = partial(calibration.decompose, baseline, method, partial(self._moments, baseline))
        parts = self._parts("decomposition", baseline, make, method=method)
        return {name: low_rank.Decomposition(*tensors) for name, tensors in parts.items()}

    def singular_values(self, baseline: Baseline, method: Method) -> dict[str, Tensor]:
        """Those of the decompositions, by layer, without their vectors: few enough numbers to come with the project."""

        def make() -> dict[str, tuple[Tensor, ...]]:
            return {name: (own.singular_values,) for name, own in self.decompositions(baseline, method).items()}

        parts = self._parts(SINGULAR_VALUES, baseline, make, method=method)
        return {name: values for name, (values,) in parts.items()}

    def _moments(self, baseline: Baseline) -> calibration.Moments:
        make = partial(calibration.moments, baseline, self._images(baseline))
        return {name: (first, second) for name, (first, second) in self._parts("moments", baseline, make).items()}

    def _compensations(self, baseline: Baseline) -> dict[str, tuple[quantization.Compensation, ...]]:
        def make() -> dict[str, tuple[Tensor, ...]]:
            made = calibration.compensations(self._moments(baseline))
            return {name: tuple(map(torch.stack, zip(*groups, strict=True))) for name, groups in made.items()}

        parts = self._parts("compensations of groups", baseline, make)
        return {name: tuple(map(quantization.Compensation, *pair)) for name, pair in parts.items()}

    def _parts(
        self, kind: str, baseline: Baseline, make: Callable[[], Mapping[str, tuple[Tensor, ...]]], **of: str
    ) -> dict[str, tuple[Tensor, ...]]:
        """Tensors by layer, of those where they fit, that only the baseline, the calibration images and `of` decide."""
        key = key_of(kind, baseline=baseline.sha256, methods=reliance.networks(baseline.images), **of)

        def parts() -> dict[str, tuple[Tensor, ...]]:
            """From the cache, else made and kept there."""
            if (entry := self.store.get(key)) and entry.weights is not None:
                return _by_layer(load(entry.weights))
            tensors = _flat(make())
            self.store.put(key, kind, b"{}", save(tensors))
            return _by_layer(tensors)

        with self._making:
            return self.recent.made(key, parts)


def _flat(by_layer: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """Tensors by "layer.place"."""
    return {f"{name}.{place}": own.contiguous() for name, parts in by_layer.items() for place, own in enumerate(parts)}


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """As they were before they were flat."""
    layers = groupby(sorted(tensors), lambda place: place.rpartition(".")[0])
    return {name: tuple(tensors[place] for place in places) for name, places in layers}
