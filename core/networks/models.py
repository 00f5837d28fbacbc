"""A baseline: a trained network as a graph and plain tensors, and how it comes out of a file and goes into one.

Batch normalization is folded once, after training: everything after that - compression, evaluation, export - sees
plain weights and biases, which is what a device runs.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from core.datasets import Images, fashion_mnist
from core.machinery.files import safetensors_header
from core.mathematics import costs
from core.mathematics.costs import LayerCost
from core.networks import chains, graph
from core.networks.graph import BaselineError as BaselineError
from core.networks.graph import Layer, Network, listed
from core.networks.operations import NetworkError, Node, Shape

HEADER_BYTES = 100 * 2**20
"""Of a safetensors file, at most: as in the library that reads it."""

NUMBERS = 2**24
"""Of one feature map for one image, at most."""

GRAPH, IMAGES = "network", "images"
"""Under which names the graph, and the images that it was made for, stand in the metadata of a baseline's file."""

Tensors = Mapping[str, Tensor]


class Overflow(ArithmeticError):
    """What a network computes is too large for float32: no figure of it would mean anything."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} are no longer numbers: what the network computes is too large for float32. Its weights, or the "
            "pixels that it was made for, have to be smaller."
        )


def channels_last(x: Tensor) -> Tensor:
    """The same images with the channels innermost in memory, which convolutions are several times faster in.

    With one channel both layouts are the same memory, and only the stride of the channels says which is meant: torch
    leaves it as it was, and the first convolution would answer in the slow layout.
    """
    _, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, (channels * height * width, 1, width * channels, channels))


def product(
    node: Node, x: Tensor, weights: Sequence[Tensor], bias: Tensor, between: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """W x + b of a weighted layer, with W = weights[-1] ... weights[0] where it is factored.

    x : (n, in, h, w) for a convolution, (n, in) for a linear layer
    weights : one weight, or two factors: (r, in, k, k) and (out, r, 1, 1), or (r, in) and (out, r)
    between : applied to the signal between two factors (its quantizer)
    """
    if len(weights) == 1:
        return node.row.torch(node, x, weights[0], bias)
    first, second = weights
    x = node.row.torch(node, x, first, None)
    x = x if between is None else between(x)
    return F.conv2d(x, second, bias) if second.dim() == 4 else F.linear(x, second, bias)


def scores(network: Network, tensors: Tensors, x: Tensor) -> Tensor:
    """What a network puts out in float32 for normalized images, (n, *shape).

    tensors : of its nodes, by name
    """

    def product(node: Node, x: Tensor) -> Tensor:
        parts = ("weight", "bias") if node.weighted else ("scale", "shift")
        return node.row.torch(node, x, *(tensors[f"{node.name}.{part}"] for part in parts))

    return graph.run(network.nodes, x, product)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A trained network: its graph, the tensors of its nodes by name, and what is known of its making.

    info : recipe, seed, history, versions and figures of the training, as in the JSON beside the weights
    graph : of a file that holds none, the chain that the names of its tensors describe (`core.networks.chains`)
    images : that it was made for, and how it sees them; of a file that says nothing, Fashion-MNIST as it is

    Raises BaselineError where the tensors are not those of the graph, or the graph is not one for these images.
    """

    name: str
    tensors: Tensors
    info: Mapping[str, Any] = field(default_factory=dict)
    graph: Network | None = None
    images: Images = field(default_factory=fashion_mnist.images)

    def __post_init__(self) -> None:
        check_shapes(self.network, shapes_of(self.tensors))
        if self.network.classes != len(self.images.classes):
            raise BaselineError(
                f"The network tells {self.network.classes} classes apart. {self.images.data} has "
                f"{len(self.images.classes)}."
            )

    @cached_property
    def network(self) -> Network:
        return chains.chain(shapes_of(self.tensors)) if self.graph is None else self.graph

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The weighted layers, in their order."""
        return self.network.layers

    @cached_property
    def model(self) -> str:
        """The family that it belongs to, as its recipe, its file or its tensors say."""
        return str(self.info.get("recipe", {}).get("model") or chains.family(self.network) or "network")

    @property
    def teacher(self) -> str:
        """The SHA-256 sum of the network from which it learnt, "" where there was none; one that had a teacher learns
        from the same when it is trained after compression."""
        return str(self.info.get("teacher_sha256", ""))

    def weight(self, layer: Layer) -> Tensor:
        return self.tensors[f"{layer.name}.weight"]

    def bias(self, layer: Layer) -> Tensor:
        return self.tensors[f"{layer.name}.bias"]

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """4 bytes a parameter (float32)."""
        return 4 * self.parameters

    @cached_property
    def sha256(self) -> str:
        """Of the graph, where the tensors alone do not tell it, of names, shapes and values, and of the images, where
        they are not Fashion-MNIST as it is: the same network has the same hash, whatever it is called."""
        digest = hashlib.sha256()
        if not chains.family(self.network):
            digest.update(_graph_text(self.network).encode())
        if self.images != fashion_mnist.images():
            digest.update(_as_text(self.images.to_record()).encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name].contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


def check_values(tensors: Tensors) -> None:
    """Raises BaselineError where a tensor holds something else than finite float32 numbers."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise BaselineError(f"{name} must hold float32 values. Got {tensor.dtype} instead.")
        if not torch.isfinite(tensor).all():
            raise BaselineError(f"{name} must hold finite values. It holds NaN or infinity.")


def shapes_of(tensors: Tensors) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_shapes(network: Network, shapes: Mapping[str, Shape]) -> None:
    """Raises BaselineError where tensors of these shapes are not those of the network, and where it could never be
    evaluated here (`core.mathematics.costs`)."""
    expected = network.tensor_shapes
    if missing := sorted(set(expected) - set(shapes)):
        raise BaselineError(f"The network has no tensors for {listed(missing, 6)}.")
    if extra := sorted(set(shapes) - set(expected)):
        raise BaselineError(f"No node of the network has the tensors {listed(extra, 6)}.")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise BaselineError(f"{name} must have shape {shape}. Got {shapes[name]} instead.")
    if not network.layers:
        raise BaselineError("This network has no weights at all.")
    if refusal := costs.too_much(costs_of(network.layers)):
        raise BaselineError(f"This network is too large. {refusal}")
    for name, shape in network.shapes.items():
        if numbers(shape) > NUMBERS:
            raise BaselineError(f"{name} must put out at most {NUMBERS:,} numbers. Got shape {shape} instead.")


def costs_of(layers: Sequence[Layer]) -> tuple[LayerCost, ...]:
    """What each of a network's layers takes."""
    return tuple(
        costs.layer_cost(layer.name, layer.shape, layer.places, layer.pool, layer.groups, numbers(layer.reads))
        for layer in layers
    )


def numbers(shape: Shape) -> int:
    """How many a feature map of this shape holds."""
    return prod(shape)


def to_bytes(baseline: Baseline) -> bytes:
    """The baseline as one safetensors file: its tensors, and in the metadata, as JSON, its graph and the images that it
    was made for; neither where a file without says the same."""
    tensors = {name: tensor.contiguous() for name, tensor in baseline.tensors.items()}
    metadata = {} if baseline.graph is None else {GRAPH: _graph_text(baseline.graph)}
    if baseline.images != fashion_mnist.images():
        metadata[IMAGES] = _as_text(baseline.images.to_record())
    return save(tensors, metadata or None)


def _graph_text(network: Network) -> str:
    return _as_text(network.to_record())


def _as_text(record: object) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def from_bytes(content: bytes, name: str, info: Mapping[str, Any] | None = None) -> Baseline:
    """A baseline from a safetensors file. Raises BaselineError with what is wrong; nothing in the file is executed.

    The header is judged before the tensors are read."""
    network, images = declared(content)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise _unreadable(error) from None
    check_values(tensors)
    return Baseline(name, tensors, info or {}, network, images)


def from_file(path: Path, name: str) -> Baseline:
    """The same from a path; what its header alone refuses is not read."""
    with path.open("rb") as file:
        start = file.read(8)
        declared(start + file.read(min(int.from_bytes(start, "little"), HEADER_BYTES)))
    return from_bytes(path.read_bytes(), name)


def is_baseline(path: Path) -> bool:
    """Whether a file is a safetensors file of ours that says its graph. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(8)
        try:
            return GRAPH in _header(start + file.read(min(int.from_bytes(start, "little"), HEADER_BYTES)))[1]
        except BaselineError:
            return False


def declared(content: bytes) -> tuple[Network | None, Images]:
    """The graph that the header of a safetensors file describes, None where its tensors' names alone do; and the images
    that it was made for. The tensors need not be there. Raises BaselineError, also where they do not fit the graph or
    could never be evaluated here."""
    shapes, metadata = _header(content)
    network = _described(metadata[GRAPH]) if GRAPH in metadata else None
    check_shapes(chains.chain(shapes) if network is None else network, shapes)
    try:
        images = Images.from_record(json.loads(metadata[IMAGES])) if IMAGES in metadata else fashion_mnist.images()
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(error) from None
    return network, images


def _header(content: bytes) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shapes of the tensors by name, and the metadata."""
    try:
        header, _ = safetensors_header(content)
        metadata = dict(header.pop("__metadata__", {}))
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(error) from None
    if not all(type(size) is int and size >= 0 for shape in shapes.values() for size in shape):
        raise BaselineError("This is not a safetensors file that can be read (a shape that is no whole numbers).")
    if not shapes:
        raise BaselineError("This safetensors file holds no tensors.")
    return shapes, metadata


def _described(text: str) -> Network:
    try:
        return Network.from_record(json.loads(text))
    except NetworkError as error:
        raise BaselineError(f"The file's network cannot be computed. {error}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> BaselineError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    reason = "its header is no JSON" if isinstance(error, json.JSONDecodeError) else reason
    return BaselineError(f"This is not a safetensors file that can be read ({reason}).")
