"""What compression needs of a baseline besides its weights: computed once per baseline, ever."""

import threading
from collections.abc import Callable, Mapping
from functools import partial

import torch
from safetensors.torch import load, save
from torch import Tensor

from core.bench import reliance
from core.datasets import fashion_mnist
from core.machinery.recent import Recent
from core.machinery.store import Store, key_of
from core.mathematics import low_rank, quantization
from core.mathematics.low_rank import Method
from core.networks import calibration
from core.networks.models import Baseline


class Knowledge:
    """Statistics of baselines, from memory or the cache where they were made before.

    recent : memory for what was used last
    """

    def __init__(self, store: Store, recent: Recent) -> None:
        self.store, self.recent = store, recent
        self._making = threading.RLock()  # of two threads that ask for the same, one makes it and the other waits

    def statistics(self, baseline: Baseline) -> calibration.Statistics:
        """Everything that compression asks for, each part made when it is asked for first."""
        return calibration.Statistics(
            partial(self.decompositions, baseline),
            partial(self._moments, baseline),
            partial(self._compensations, baseline),
            fashion_mnist.load("calibration").inputs,
            baseline.sha256,
            self.recent,
        )

    def decompositions(self, baseline: Baseline, method: Method) -> dict[str, low_rank.Decomposition]:
        """W = U diag(s) V^T by layer, of those where it fits; data-aware ones of the whitened weight."""
        with self._making:
            place = "decompositions", baseline.sha256, method
            return self.recent.made(place, lambda: self._decompose(baseline, method))

    def _decompose(self, baseline: Baseline, method: Method) -> dict[str, low_rank.Decomposition]:
        key = key_of("decomposition", baseline=baseline.sha256, method=method, methods=reliance.networks())
        moments = partial(self._moments, baseline)
        tensors = self._tensors("decompositions", key, lambda: _flat(calibration.decompose(baseline, method, moments)))
        parts = range(len(low_rank.Decomposition._fields))
        return {
            layer.name: low_rank.Decomposition(*(tensors[f"{layer.name}.{part}"] for part in parts))
            for layer in calibration.decomposable(baseline.layers, method)
        }

    def _moments(self, baseline: Baseline) -> calibration.Moments:
        images = fashion_mnist.load("calibration").inputs
        return self._pairs("moments", baseline, lambda: _flat(calibration.moments(baseline, images)))

    def _compensations(self, baseline: Baseline) -> dict[str, tuple[quantization.Compensation, ...]]:
        def make() -> dict[str, Tensor]:
            made = calibration.compensations(self._moments(baseline))
            return _flat({name: tuple(map(torch.stack, zip(*groups, strict=True))) for name, groups in made.items()})

        pairs = self._pairs("compensations of groups", baseline, make)
        return {name: tuple(map(quantization.Compensation, *pair)) for name, pair in pairs.items()}

    def _pairs(
        self, kind: str, baseline: Baseline, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Two tensors by layer that only the baseline and the calibration images decide; of those where they fit."""
        key = key_of(kind, baseline=baseline.sha256, methods=reliance.networks())

        def pairs() -> dict[str, tuple[Tensor, Tensor]]:
            tensors = self._tensors(kind, key, make)
            names = [layer.name for layer in baseline.layers if f"{layer.name}.0" in tensors]
            return {name: (tensors[f"{name}.0"], tensors[f"{name}.1"]) for name in names}

        with self._making:
            return self.recent.made(key, pairs)

    def _tensors(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """From the cache, else made and kept there."""
        entry = self.store.get(key)
        if entry is not None and entry.weights is not None:
            return load(entry.weights)
        tensors = {name: tensor.contiguous() for name, tensor in make().items()}
        self.store.put(key, kind, b"{}", save(tensors))
        return tensors


def _flat(by_layer: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """Tensors by "layer.place"."""
    return {f"{name}.{place}": tensor for name, parts in by_layer.items() for place, tensor in enumerate(parts)}
