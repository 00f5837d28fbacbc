"""A compressed network as a file will hold it: integer codes, scales, biases, configuration. Immutable.

A `StoredNetwork` is the only input of evaluation, ledger and export: what is evaluated is what is exported.
A quantized layer has scales and biases that float16 holds exactly; a float32 layer is left bit for bit.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from core.config import CompressionConfig
from core.datasets import Images, fashion_mnist
from core.machinery.files import sha256
from core.networks.encodings import FormatError, StoredTensor, must_be
from core.networks.graph import Layer, Network
from core.networks.operations import Node

FORMAT = "compressed-network/2"
"""Raise it when the values of stored networks come out otherwise: what was measured before is then measured again."""

CENTROIDS = "centroids"
"""The table of values that weights share (`encodings.codebook`)."""

BETWEEN = ".between"
"""After a layer's name: the signal between its two factors."""


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """tensors : one weight, or the two factors of a low-rank layer, in the order in which they are applied.

    between_scale : of the signed grid for the signal between two factors; None where it is not rounded
    """

    layer: Layer
    tensors: tuple[StoredTensor, ...]
    bias: Tensor
    between_scale: float | None = None

    @cached_property
    def content(self) -> str:
        """SHA-256 of everything that its output depends on: two layers with the same content compute the same."""
        digest = hashlib.sha256(repr((self.layer, self.between_scale)).encode())
        for tensor in self.tensors:
            digest.update(repr((tensor.encoding, tuple(tensor.values.shape), tensor.bits, *tensor.tables)).encode())
            for part in (tensor.values, *tensor.tables.values()):
                digest.update(part.contiguous().numpy().tobytes())
        digest.update(self.bias.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def joined(self) -> Tensor | None:
        """The product of two factors, float32 of the layer's shape, where that is less work; else None.

        A product of rank r costs r (m + n) multiplications, the matrix m n. Factors whose signal is rounded in between
        cannot be joined.
        """
        if len(self.tensors) == 1 or self.between_scale is not None or self.weights <= self.layer.weights:
            return None
        first, second = (tensor.weight().flatten(1).double() for tensor in self.tensors)
        return (second @ first).float().reshape(self.layer.shape)

    @property
    def rank(self) -> int | None:
        return self.tensors[0].values.shape[0] if len(self.tensors) == 2 else None

    @property
    def weights(self) -> int:
        return sum(tensor.count for tensor in self.tensors)

    @property
    def centroids(self) -> int:
        """Values in its codebooks; 0 where it has none."""
        return sum(tensor.tables[CENTROIDS].numel() for tensor in self.tensors if CENTROIDS in tensor.tables)

    @property
    def sparsity(self) -> float:
        """Pruned weights / stored weights of this layer."""
        return sum(tensor.masked for tensor in self.tensors) / self.weights


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """network : its graph, as it is without the channels that were removed
    layers : the weighted ones, in their order
    affine : the tensors of other nodes, "NAME.scale" and "NAME.shift", float32
    scales : signal -> step of the grid on which it is rounded; of none where signals stay float32
    images : that it was made for, and how it sees them
    """

    network: Network
    layers: tuple[StoredLayer, ...]
    config: CompressionConfig
    baseline_sha256: str
    scales: Mapping[str, float] = field(default_factory=dict)
    affine: Mapping[str, Tensor] = field(default_factory=dict)
    images: Images = field(default_factory=fashion_mnist.images)

    @cached_property
    def named(self) -> dict[str, StoredLayer]:
        return {stored.layer.name: stored for stored in self.layers}

    @property
    def parameters(self) -> int:
        """Stored weights and biases, zeros included."""
        others = sum(tensor.numel() for tensor in self.affine.values())
        return others + sum(stored.weights + stored.bias.numel() for stored in self.layers)

    @property
    def nonzero(self) -> int:
        """Parameters without the zeros among the weights."""
        return self.parameters - sum(tensor.zeros for stored in self.layers for tensor in stored.tensors)

    @property
    def sparsity(self) -> float:
        """Pruned weights / stored weights of all layers; biases are never pruned and never counted."""
        masked = sum(tensor.masked for stored in self.layers for tensor in stored.tensors)
        return masked / sum(stored.weights for stored in self.layers)

    @property
    def sparsities(self) -> dict[str, float]:
        """The same of each layer, by name."""
        return {stored.layer.name: stored.sparsity for stored in self.layers}

    def scale_at(self, node: str) -> float | None:
        """The step of the grid on which a node's output is rounded; None where it is not."""
        signal = self.network.signal_at.get(node)
        return None if signal is None else self.scales.get(signal.name)

    def content(self, node: Node) -> tuple[object, ...]:
        """What decides what the node puts out for given inputs: of two nodes with the same content it is the same."""
        tensors = [
            sha256(self.affine[f"{node.name}.{part}"].numpy().tobytes())
            for part in ("scale", "shift") if f"{node.name}.{part}" in self.affine
        ]  # fmt: skip
        signal = self.network.signal_at.get(node.name)
        grid = None if signal is None else (signal.signed, self.scales.get(signal.name))
        weights = self.named[node.name].content if node.weighted else None
        return node, weights, grid, *tensors


def check(network: StoredNetwork) -> None:
    """Raises FormatError where what was read from a file is no network: tensors that are not those of its graph,
    numbers that are none. The network is not run."""
    must_be("The number of its classes", len(network.images.classes), network.network.classes)
    graph = network.network
    must_be("The layers", [stored.layer for stored in network.layers], list(graph.layers))
    for stored in network.layers:
        _check_layer(stored)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.affine.items()}
    must_be("The tensors of nodes without weights", shapes, graph.affine_shapes)
    unknown = sorted(set(network.scales) - {signal.name for signal in graph.signals})
    must_be("The list of scales of no signal", unknown, [])
    _check_numbers("The network", [*network.affine.values()], [torch.tensor(step) for step in network.scales.values()])


def _check_layer(stored: StoredLayer) -> None:
    layer, name = stored.layer, stored.layer.name
    rank = stored.rank or 0
    factors = {"first": (rank, *layer.shape[1:]), "second": (layer.shape[0], rank, *(1,) * len(layer.shape[2:]))}
    expected = {"weight": layer.shape} if len(stored.tensors) == 1 else factors
    shapes = {tensor.name: tuple(tensor.values.shape) for tensor in stored.tensors}
    must_be(f"The weights of {name}", shapes, {f"{name}.{part}": shape for part, shape in expected.items()})
    for tensor in stored.tensors:
        tensor.check()
    must_be(f"The shape of the bias of {name}", tuple(stored.bias.shape), layer.shape[:1])
    steps = [] if stored.between_scale is None else [torch.tensor(stored.between_scale)]
    _check_numbers(name, [stored.bias, *(tensor.weight() for tensor in stored.tensors)], steps)


def _check_numbers(name: str, numbers: Sequence[Tensor], steps: Sequence[Tensor]) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in (*numbers, *steps)):
        raise FormatError(f"{name} must hold numbers. It holds NaN or infinity.")
    if not all(bool((step > 0).all()) for step in steps):
        raise FormatError(f"Scales of {name} must be numbers above 0.")
