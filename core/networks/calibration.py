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
from core.networks import graph, inference, models, renormalized
from core.networks.graph import Layer
from core.networks.models import Baseline, Overflow, costs_of
from core.networks.operations import Node
from core.networks.stored import StoredNetwork

if TYPE_CHECKING:
    from core.networks.trainable import CompressedLayer, CompressedNetwork

REMEMBERED_BYTES = 100 * 2**20
"""Of what statistics remember, unless they share a memory with others."""

SIGNAL_IMAGES = 512
"""Calibration images of which histograms of signals are taken."""

GROUPED = "{0} is a convolution of {1} groups, each with a small weight of its own: it is not factored."
"""Of a layer of which no singular values are taken."""

Moments = Mapping[str, tuple[Tensor, Tensor]]
"""Layer name -> E[x], (d,), and E[x x^T], (d, d), of what its weight is multiplied with, in float64; (groups, d) and
(groups, d, d) for a grouped convolution."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression needs to know of a baseline besides its weights; computed once per baseline.

    decompositions : by low-rank method and layer, made when they are asked for
    moments : of the baseline's signals for `images`, made when they are asked for
    compensations : by layer, one for each group, from the moments, made when they are asked for
    images : the calibration inputs, float32 (n, c, h, w), normalized
    of : the baseline's SHA-256 sum, where `recent`, what follows from these for single configurations, is shared
    """

    decompositions: Callable[[Method], Mapping[str, low_rank.Decomposition]]
    moments: Callable[[], Moments]
    compensations: Callable[[], Mapping[str, Sequence[quantization.Compensation]]]
    images: Tensor
    of: str = ""
    recent: Recent = field(default_factory=lambda: Recent(REMEMBERED_BYTES))

    def means(self) -> dict[str, Tensor]:
        return {name: mean for name, (mean, _) in self.moments().items()}

    def mean(self, layer: CompressedLayer) -> Tensor:
        """E[x] of those inputs of a layer that are left; of a grouped convolution, of its groups."""
        return self.moments()[layer.layer.name][0][layer.columns]

    def second(self, layer: Layer, columns: Tensor) -> Tensor:
        """E[x x^T] of the same; not copied where all are left. columns : of the baseline's input, or groups"""
        whole = self.moments()[layer.name][1]
        if len(columns) == len(whole):
            return whole
        return whole[columns] if whole.dim() == 3 else whole[columns][:, columns]

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
        return low_rank.decompose_whitened(weight, self.means()[layer.name][columns], self.second(layer, columns))

    def compensation(self, layer: Layer, columns: Tensor) -> Sequence[quantization.Compensation]:
        """Of the inputs of a layer that are left, for each of its groups."""
        whole = self.compensations()[layer.name]
        if layer.groups > 1:
            return [whole[group] for group in columns.tolist()]
        if len(columns) == len(whole[0].order):
            return whole
        key = ("compensation", self.of, layer.name, sha256(columns.numpy().tobytes()))
        return self.recent.made(key, lambda: (quantization.compensation(self.second(layer, columns)),))

    def activation_ranges(
        self, network: CompressedNetwork, clip: Clip = "minmax", bits: int | None = None
    ) -> dict[str, float]:
        """Where the grids of activations end: for each signal, by its name, and between a layer's factors,
        "LAYER.between". "minmax": max |x|; "mse": what has the least squared error with so many `bits`.

        With the weights as they are now, normalization folded; remembered, since every number of bits needs the same
        signals.
        """
        stored = renormalized.folded(network).freeze()
        largest = self._largest(stored)
        if clip == "minmax" or bits is None:
            return largest
        counts = self._counted(stored)
        unsigned = {signal.name for signal in stored.network.signals if not signal.signed}
        return {
            name: quantization.clipped_activation(counts[name], top, bits, signed=name not in unsigned)
            for name, top in largest.items()
        }

    def histograms(self, network: CompressedNetwork) -> dict[str, NDArray[Any]]:
        """Of |x| where `activation_ranges` are, from 0 to the largest, over `SIGNAL_IMAGES` images."""
        return self._counted(renormalized.folded(network).freeze())

    def _largest(self, stored: StoredNetwork) -> dict[str, float]:
        key = ("ranges", self.of, *map(stored.content, stored.network.nodes))
        return self.recent.made(key, lambda: inference.ranges(stored, self.images.numpy()))

    def _counted(self, stored: StoredNetwork) -> dict[str, NDArray[Any]]:
        def count() -> dict[str, NDArray[Any]]:
            return inference.histograms(stored, self.images[:SIGNAL_IMAGES].numpy(), self._largest(stored))

        return self.recent.made(("histograms", self.of, *map(stored.content, stored.network.nodes)), count)


def moments(baseline: Baseline, images: Tensor) -> Moments:
    """E[x] and E[x x^T] at the input of every layer where they fit (`costs.known`), from the baseline's signals for
    `images`, as many of them at a time as fit. Raises Overflow."""
    each = costs_of(baseline.layers)
    known, largest = costs.known(each), max(cost.signal for cost in each)
    layers = {layer.name: layer for layer in baseline.layers}
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def product(node: Node, x: Tensor) -> Tensor:
        if not node.weighted:
            return node.row.torch(node, x, *(baseline.tensors[f"{node.name}.{part}"] for part in ("scale", "shift")))
        layer = layers[node.name]
        if not torch.isfinite(x).all():
            raise Overflow(f"The inputs of {node.name}")
        if node.name in known:
            first, second = (moment.mul_(share) for moment in low_rank.moments(x, layer.shape, layer.window))
            if node.name in sums:
                first, second = first.add_(sums[node.name][0]), second.add_(sums[node.name][1])
            sums[node.name] = first, second
        return models.product(node, x, [baseline.weight(layer)], baseline.bias(layer))

    for x in images.split(costs.images_at_once(largest, len(images), costs.SIGNALS)):
        share = len(x) / len(images)
        graph.run(baseline.network.nodes, x, product)
    return sums


def compensations(known: Moments) -> dict[str, tuple[quantization.Compensation, ...]]:
    """What GPTQ rounding needs to know of the input of each layer, by name, for each of its groups."""
    return {
        name: tuple(quantization.compensation(each) for each in (second if second.dim() == 3 else second[None]))
        for name, (_, second) in known.items()
    }


def decompose(baseline: Baseline, method: Method, known: Callable[[], Moments]) -> dict[str, low_rank.Decomposition]:
    """The decomposition of each layer's weight that is `decomposable`, by name; a data-aware one asks for the
    moments."""
    layers = decomposable(baseline.layers, method)
    weights = {layer.name: baseline.weight(layer) for layer in layers}
    if method == "svd":
        return {name: low_rank.decompose(weight) for name, weight in weights.items()}
    return {name: low_rank.decompose_whitened(weight, *known()[name]) for name, weight in weights.items()}


def not_decomposable(layers: Sequence[Layer], method: Method) -> dict[str, str]:
    """Layers that are not decomposed by this method, with the reason in words: too large, or divided into groups."""
    each = costs_of(layers)
    known = costs.known(each)
    missing = {cost.name: costs.not_decomposed_in_words(cost) for cost in each if not cost.decomposes}
    if method == "whitened":
        missing |= {cost.name: costs.unknown_in_words(cost) for cost in each if cost.name not in known}
    return missing | {layer.name: GROUPED.format(layer.name, layer.groups) for layer in layers if layer.groups > 1}


def decomposable(layers: Sequence[Layer], method: Method) -> list[Layer]:
    """All others."""
    without = not_decomposable(layers, method)
    return [layer for layer in layers if layer.name not in without]
