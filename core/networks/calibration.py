"""What compression needs to know of a baseline besides its weights: what its layers meet on real images, and what
follows from that. Asked for when it is needed, computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from core.machinery.files import sha256
from core.machinery.recent import Recent
from core.mathematics import costs, low_rank, quantization
from core.mathematics.low_rank import Method
from core.mathematics.quantization import Clip
from core.networks import inference
from core.networks.models import Baseline, Layer, Overflow, costs_of, propagate
from core.networks.stored import StoredLayer

if TYPE_CHECKING:
    from core.networks.trainable import CompressedNetwork

REMEMBERED_BYTES = 100 * 2**20
"""Of what statistics remember, unless they share a memory with others."""

SIGNAL_IMAGES = 512
"""Calibration images of which histograms of signals are taken."""

Moments = Mapping[str, tuple[Tensor, Tensor]]
"""Layer name -> E[x], (d,), and E[x x^T], (d, d), of what its weight is multiplied with, in float64."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression needs to know of a baseline besides its weights; computed once per baseline.

    decompositions : by low-rank method and layer, made when they are asked for
    moments : of the baseline's signals for `images`, made when they are asked for
    compensations : by layer, from the moments, made when they are asked for
    images : the calibration inputs, float32 (n, 1, 28, 28), normalized
    of : the baseline's SHA-256 sum, where `recent`, what follows from these for single configurations, is shared
    """

    decompositions: Callable[[Method], Mapping[str, low_rank.Decomposition]]
    moments: Callable[[], Moments]
    compensations: Callable[[], Mapping[str, quantization.Compensation]]
    images: Tensor
    of: str = ""
    recent: Recent = field(default_factory=lambda: Recent(REMEMBERED_BYTES))

    def means(self) -> dict[str, Tensor]:
        return {name: mean for name, (mean, _) in self.moments().items()}

    def second(self, layer: str, columns: Tensor) -> Tensor:
        """E[x x^T] of those inputs of a layer that are left; not copied where all are."""
        whole = self.moments()[layer][1]
        return whole if len(columns) == len(whole) else whole[columns][:, columns]

    def decomposition(self, layer: Layer, weight: Tensor, columns: Tensor, method: Method) -> low_rank.Decomposition:
        """Of a layer's weight; of what is left of it where channels were removed.

        columns : of the baseline's input that are left
        """
        whole = self.decompositions(method)[layer.name]
        if len(whole.left) == weight.shape[0] and whole.right.shape[1] == len(columns):
            return whole
        key = ("decomposition", self.of, layer.name, method, sha256(weight.contiguous().numpy().tobytes()))
        return self.recent.made(key, lambda: self._decomposed(layer, weight, columns, method))

    def _decomposed(self, layer: Layer, weight: Tensor, columns: Tensor, method: Method) -> low_rank.Decomposition:
        if method == "svd":
            return low_rank.decompose(weight)
        return low_rank.decompose_whitened(weight, self.means()[layer.name][columns], self.second(layer.name, columns))

    def compensation(self, layer: str, columns: Tensor) -> quantization.Compensation:
        """Of the inputs of a layer that are left."""
        whole = self.compensations()[layer]
        if len(columns) == len(whole.order):
            return whole
        key = ("compensation", self.of, layer, sha256(columns.numpy().tobytes()))
        return self.recent.made(key, lambda: quantization.compensation(self.second(layer, columns)))

    def activation_ranges(
        self, network: CompressedNetwork, clip: Clip = "minmax", bits: int | None = None
    ) -> dict[str, float]:
        """Where the grids of activations end: at the input of each layer but the first, "NAME.input", and between its
        factors, "NAME.between". "minmax": max |x|; "mse": what has the least squared error with so many `bits`.

        With the weights as they are now; remembered, since every number of bits needs the same signals.
        """
        layers = network.freeze().layers
        largest = self._largest(layers)
        if clip == "minmax" or bits is None:
            return largest
        counts = self._counted(layers)
        return {
            name: quantization.clipped_activation(counts[name], top, bits, signed=name.endswith("between"))
            for name, top in largest.items()
        }

    def histograms(self, network: CompressedNetwork) -> dict[str, NDArray[Any]]:
        """Of |x| where `activation_ranges` are, from 0 to the largest, over `SIGNAL_IMAGES` images."""
        return self._counted(network.freeze().layers)

    def _largest(self, layers: tuple[StoredLayer, ...]) -> dict[str, float]:
        key = ("ranges", tuple(layer.content for layer in layers))
        return self.recent.made(key, lambda: inference.ranges(layers, self.images.numpy()))

    def _counted(self, layers: tuple[StoredLayer, ...]) -> dict[str, NDArray[Any]]:
        def count() -> dict[str, NDArray[Any]]:
            return inference.histograms(layers, self.images[:SIGNAL_IMAGES].numpy(), self._largest(layers))

        return self.recent.made(("histograms", tuple(layer.content for layer in layers)), count)


def moments(baseline: Baseline, images: Tensor) -> Moments:
    """E[x] and E[x x^T] at the input of every layer where they fit (`costs.known`), from the baseline's signals for
    `images`, as many of them at a time as fit. Raises Overflow."""
    each = costs_of(baseline.layers)
    known, largest = costs.known(each), max(cost.signal for cost in each)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for x in images.split(costs.images_at_once(largest, len(images), costs.SIGNALS)):
        share = len(x) / len(images)
        for layer in baseline.layers:
            if not torch.isfinite(x).all():
                raise Overflow(f"The inputs of {layer.name}")
            if layer.name in known:
                first, second = (moment.mul_(share) for moment in low_rank.moments(x, layer.shape))
                if layer.name in sums:
                    first, second = first.add_(sums[layer.name][0]), second.add_(sums[layer.name][1])
                sums[layer.name] = first, second
            x = propagate(layer, x, [baseline.tensors[f"{layer.name}.weight"]], baseline.tensors[f"{layer.name}.bias"])
    return sums


def compensations(known: Moments) -> dict[str, quantization.Compensation]:
    """What GPTQ rounding needs to know of the input of each layer, by name."""
    return {name: quantization.compensation(second) for name, (_, second) in known.items()}


def decompose(baseline: Baseline, method: Method, known: Callable[[], Moments]) -> dict[str, low_rank.Decomposition]:
    """The decomposition of each layer's weight that is `decomposable`, by name; a data-aware one asks for the
    moments."""
    layers = decomposable(baseline.layers, method)
    weights = {layer.name: baseline.tensors[f"{layer.name}.weight"] for layer in layers}
    if method == "svd":
        return {name: low_rank.decompose(weight) for name, weight in weights.items()}
    return {name: low_rank.decompose_whitened(weight, *known()[name]) for name, weight in weights.items()}


def not_decomposable(layers: Sequence[Layer], method: Method) -> dict[str, str]:
    """Layers that are too large for a decomposition by this method, with the reason in words."""
    each = costs_of(layers)
    known = costs.known(each)
    missing = {cost.name: costs.not_decomposed_in_words(cost) for cost in each if not cost.decomposes}
    if method == "whitened":
        missing |= {cost.name: costs.unknown_in_words(cost) for cost in each if cost.name not in known}
    return missing


def decomposable(layers: Sequence[Layer], method: Method) -> list[Layer]:
    """All others."""
    without = not_decomposable(layers, method)
    return [layer for layer in layers if layer.name not in without]
