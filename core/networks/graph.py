"""A network is a graph: nodes in the order in which they are computed, each reading the outputs of earlier ones.

What follows from the graph alone stands here: shapes, weighted layers, and the signals, the feature maps that are
rounded where activations are quantized. No tensor is needed for any of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

from torch import Tensor

from core.mathematics.low_rank import Window
from core.networks import encodings
from core.networks.operations import OPERATIONS, NetworkError, Node, Shape, node

IMAGE = "image"
"""What the first nodes read."""

NODES = 2_000
"""Of a network, at most."""


class BaselineError(NetworkError):
    """Tensors that are not a network that is known here; the message says which and what was expected."""


def listed(names: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


@dataclass(frozen=True)
class Layer:
    """A weighted layer: a convolution or a linear one.

    shape : of its weight, (out, in) or (out, in / groups, height, width)
    reads : shape of its input, for one image; places : where each of its weights is multiplied, for one image
    pool : whether max pooling follows it directly
    """

    node: Node
    shape: Shape
    reads: Shape
    places: int = 1
    pool: bool = False

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def kind(self) -> Literal["conv", "linear"]:
        return "conv" if len(self.shape) == 4 else "linear"

    @property
    def groups(self) -> int:
        """Into so many parts its channels are divided, each of which reads its own part of the input alone."""
        return int(self.node["groups"]) if self.kind == "conv" else 1

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n) of the weight as a matrix; a convolution is taken as out x (in / groups * height * width)."""
        return self.shape[0], prod(self.shape[1:])

    @property
    def full_rank(self) -> int:
        return min(self.matrix_shape)

    @property
    def weights(self) -> int:
        return prod(self.shape)

    @property
    def multiplications(self) -> int:
        """Multiply-accumulates for one image."""
        return self.weights * self.places

    @property
    def window(self) -> Window | None:
        """How a convolution moves over its input; None for a linear layer."""
        if self.kind == "linear":
            return None
        return Window(*(self.node[setting] for setting in Window._fields))


@dataclass(frozen=True)
class Signal:
    """A feature map that is rounded where signals are: once, and all its readers see the rounded one.

    name : that of the first of its `ends`; parts that are concatenated share one grid, and are one signal
    ends : the nodes at whose outputs it is rounded
    signed : whether it can be negative
    """

    ends: tuple[str, ...]
    signed: bool

    @property
    def name(self) -> str:
        return self.ends[0]


@dataclass(frozen=True)
class Network:
    """shape : of an image, (channels, height, width); nodes : the last one puts out a score for each class.

    Raises NetworkError where it cannot be computed.
    """

    shape: Shape
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_names(self.nodes)
        if len(self.shapes[self.output]) != 1:
            raise NetworkError(f"{self.output}, the last node, must put out scores. Got {self.shapes[self.output]}.")
        if unread := [each.name for each in self.nodes[:-1] if not self.readers[each.name]]:
            raise NetworkError(f"Every node must be read by another. Nothing reads {', '.join(unread[:6])}.")
        _check_tensors(self)

    @property
    def output(self) -> str:
        return self.nodes[-1].name

    @property
    def weights(self) -> int:
        """Of all layers together."""
        return sum(layer.weights for layer in self.layers)

    @property
    def classes(self) -> int:
        return self.shapes[self.output][0]

    @cached_property
    def named(self) -> dict[str, Node]:
        return {each.name: each for each in self.nodes}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Of every node's output, for one image, and of the image."""
        shapes: dict[str, Shape] = {IMAGE: self.shape}
        for each in self.nodes:
            if each.row.inputs not in (len(each.inputs), None) or not each.inputs:
                raise NetworkError(f"{each.name} ({each.operation}) must not read {len(each.inputs)} nodes.")
            shapes[each.name] = each.row.shape(each, *(shapes[name] for name in each.inputs))
        return shapes

    @cached_property
    def readers(self) -> Mapping[str, list[str]]:
        """Node or image -> nodes that read it; twice where one does so twice."""
        readers: dict[str, list[str]] = defaultdict(list)
        for each in self.nodes:
            for name in each.inputs:
                readers[name].append(each.name)
        return readers

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The weighted layers, in their order."""
        return tuple(self._layer(each) for each in self.nodes if each.weighted)

    def map_read(self, layer: Layer) -> tuple[int, int]:
        """Height and width of the map that a linear layer reads flattened, or (1, 1)."""
        before = self.named.get(layer.node.inputs[0])
        if layer.kind == "conv" or before is None or before.operation != "flatten":
            return 1, 1
        height, width = (*self.shapes[before.inputs[0]], 1, 1)[1:3]
        return height, width

    def _layer(self, each: Node) -> Layer:
        reads, puts = self.shapes[each.inputs[0]], self.shapes[each.name]
        if each.operation == "linear":
            return Layer(each, (each["channels"], *reads), reads)
        weight = each["channels"], reads[0] // each["groups"], *each["kernel"]
        followed = [self.named[reader].operation for reader in self._followers(each.name)]
        return Layer(each, weight, reads, prod(puts[1:]), "max_pool" in followed)

    @property
    def tensor_shapes(self) -> dict[str, Shape]:
        """Of all its tensors, by name: "NAME.weight" and "NAME.bias" of a layer, and `affine_shapes`."""
        shapes = dict[str, Shape]()
        for layer in self.layers:
            shapes |= {f"{layer.name}.weight": layer.shape, f"{layer.name}.bias": layer.shape[:1]}
        return shapes | self.affine_shapes

    @cached_property
    def affine_shapes(self) -> dict[str, Shape]:
        """Of what is left of normalizations that could not be folded: "NAME.scale" and "NAME.shift"."""
        names = [each.name for each in self.nodes if each.operation == "affine"]
        return {f"{name}.{part}": self.shapes[name][:1] for name in names for part in ("scale", "shift")}

    # Signals

    def _followers(self, name: str) -> Iterator[str]:
        """What is computed before the outputs of a node are rounded: the activations and the pooling behind it, as long
        as nothing else reads what is between."""
        while len(readers := self.readers[name]) == 1 and self.named[readers[0]].row.follows:
            name = readers[0]
            yield name

    @cached_property
    def grids(self) -> dict[str, str]:
        """Node -> the end of the signal on whose grid its outputs lie; "" where they are the image's own."""
        ends: dict[str, str] = {IMAGE: ""}
        for each in self.nodes:
            if each.name in ends:
                continue
            if each.row.keeps:
                inherited = [ends[name] for name in each.inputs if ends[name]]
                ends[each.name] = inherited[0] if inherited else ""
                continue
            followers = list(self._followers(each.name))
            ends |= dict.fromkeys([each.name, *followers], [each.name, *followers][-1])
        return ends

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """In their order. The scores that the network puts out are none: they stay as they are."""
        together: dict[str, list[str]] = {end: [end] for each in self.nodes if (end := self.grids[each.name])}
        for each in self.nodes:
            if each.operation == "concatenate":
                parts = [together[end] for name in each.inputs if (end := self.grids[name])]
                joined = sorted({end for part in parts for end in part}, key=list(self.shapes).index)
                together |= dict.fromkeys(joined, joined)
        scores = together.get(self.grids[self.output], [])
        groups = {tuple(ends): None for ends in together.values() if ends != scores}
        return tuple(Signal(ends, not all(self.nonnegative[end] for end in ends)) for ends in groups)

    @cached_property
    def signal_at(self) -> dict[str, Signal]:
        """Node at whose output a signal is rounded -> the signal."""
        return {end: signal for signal in self.signals for end in signal.ends}

    def signal_of(self, name: str) -> Signal | None:
        """On whose grid the outputs of a node lie; None for the image and for scores."""
        return self.signal_at.get(self.grids[name])

    @cached_property
    def nonnegative(self) -> dict[str, bool]:
        """Node -> whether its outputs are never negative."""
        known = {IMAGE: False}
        for each in self.nodes:
            known[each.name] = each.row.nonnegative(each, [known[name] for name in each.inputs])
        return known

    # Where it can be cut

    @cached_property
    def cuts(self) -> tuple[str, ...]:
        """Where a signal ends, whose output is all that later nodes read, and which no node without a weight makes
        into new numbers: such a node ONNX Runtime may compute together with the one before it. In their order."""
        last = {name: place for place, each in enumerate(self.nodes) for name in each.inputs}
        found, alive = [], last[IMAGE]
        for place, each in enumerate(self.nodes[:-1]):
            if alive <= place and each.name in self.signal_at and not self._joined[each.name]:
                found.append(each.name)
            alive = max(alive, last[each.name])
        return tuple(found)

    @cached_property
    def _joined(self) -> dict[str, bool]:
        """Node -> whether what it puts out reaches, without a weight between, one that makes new numbers of it."""
        joined: dict[str, bool] = {}
        for each in reversed(self.nodes):
            readers = [self.named[name] for name in self.readers[each.name]]
            joined[each.name] = any(not own.weighted and (own.row.makes or joined[own.name]) for own in readers)
        return joined

    def before(self, cut: str) -> tuple[Node, ...]:
        """The nodes up to this one."""
        return self.nodes[: [each.name for each in self.nodes].index(cut) + 1]

    # As JSON

    def to_record(self) -> dict[str, Any]:
        """For JSON; settings at their default are left out, and the inputs of a node that reads the one before it."""
        before = [IMAGE, *(each.name for each in self.nodes)]
        return {"shape": list(self.shape), "nodes": [_record(*pair) for pair in zip(self.nodes, before, strict=False)]}

    @classmethod
    def from_record(cls, record: Any) -> Network:
        """The inverse. Raises NetworkError, whatever the record is."""
        try:
            shape, described = tuple(record["shape"]), list(record["nodes"])
            if len(shape) != 3 or not all(type(size) is int and 1 <= size <= 2**15 for size in shape):
                raise NetworkError(f"The shape of an image must be channels, height, width. Got {shape} instead.")
            before = [IMAGE, *(each["name"] for each in described)]
            pairs = zip(described[: NODES + 1], before, strict=False)
            return cls(shape, tuple(_read({"inputs": [name], **each}) for each, name in pairs))
        except NetworkError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise NetworkError(f"A network must be a shape and a list of nodes ({error}).") from None


PARTS = "weight", "first", "second"
"""What a weight of a layer may be called: its own, or one of two factors."""


def _check_tensors(network: Network) -> None:
    """Raises NetworkError where two tensors would bear one name in a file."""
    if not network.affine_shapes:
        return
    ends = {end for encoding in encodings.encodings().values() for end in encoding.ends}
    weights = {f"{layer.name}.{part}{end}" for layer in network.layers for part in PARTS for end in ends}
    stored = weights | {f"{layer.name}.bias" for layer in network.layers}
    if twice := sorted(stored & set(network.affine_shapes)):
        raise NetworkError(
            f"{twice[0]} must be the name of one tensor. It would be that of two: name a node otherwise."
        )


def _check_names(nodes: Sequence[Node]) -> None:
    known = {IMAGE}
    if not 1 <= len(nodes) <= NODES:
        raise NetworkError(f"A network must have 1 to {NODES:,} nodes. Got {len(nodes):,} instead.")
    for each in nodes:
        if not each.name or each.name in known:
            raise NetworkError(f"The names of nodes must differ, and none is {IMAGE!r}. Got {each.name!r} twice.")
        if missing := [name for name in each.inputs if name not in known]:
            raise NetworkError(f"{each.name} must read earlier nodes. Got {missing[0]!r} instead.")
        known.add(each.name)


def _record(each: Node, before: str) -> dict[str, Any]:
    rules = OPERATIONS[each.operation].settings
    chosen = {name: value for name, value in each.settings if value != rules[name][1]}
    inputs = {} if each.inputs == (before,) else {"inputs": list(each.inputs)}
    return {"name": each.name, "operation": each.operation, **inputs, **chosen}


def _read(record: dict[str, Any]) -> Node:
    name, operation, inputs = record.pop("name"), record.pop("operation"), record.pop("inputs")
    if not all(isinstance(text, str) for text in (name, operation, *inputs)):
        raise NetworkError(f"Names of nodes and operations must be text. Got {name!r} instead.")
    return node(name, operation, inputs, **record)


def run(
    nodes: Iterable[Node],
    x: Tensor,
    product: Callable[[Node, Tensor], Tensor],
    rounded: Callable[[str, Tensor], Tensor] = lambda name, x: x,
) -> Tensor:
    """What the last of these nodes puts out for images, (n, *shape); what no later node reads is let go.

    product : of a node that has tensors, for its input; rounded : a node's output on its grid, where it has one
    """
    nodes, values = list(nodes), {IMAGE: x}
    last = {name: place for place, each in enumerate(nodes) for name in each.inputs}
    for place, each in enumerate(nodes):
        inputs = [values[name] for name in each.inputs]
        has_tensors = each.weighted or each.operation == "affine"
        x = product(each, *inputs) if has_tensors else each.row.torch(each, *inputs)
        values[each.name] = rounded(each.name, x)
        for name in each.inputs:
            if last[name] == place:
                values.pop(name, None)
    return values[nodes[-1].name]


def resized(network: Network, channels: Mapping[str, int], groups: Mapping[str, int]) -> Network:
    """The same network with other numbers of output channels, and of groups, by layer."""
    changed = []
    for each in network.nodes:
        settings = dict(each.settings)
        settings |= {"channels": channels[each.name]} if each.name in channels else {}
        settings |= {"groups": groups[each.name]} if each.name in groups else {}
        changed.append(replace(each, settings=tuple(settings.items())))
    return Network(network.shape, tuple(changed))
