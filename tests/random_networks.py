"""Small networks of any shape, for laws that hold for every graph; and what each of their nodes puts out."""

from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from core.datasets import fashion_mnist
from core.networks import graph, models
from core.networks.graph import IMAGE, Network
from core.networks.models import Baseline
from core.networks.operations import OPERATIONS, Node, node


@torch.no_grad()
def feature_maps(baseline: Baseline, x: Tensor, alive: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What every node of a baseline puts out for images, and the images.

    alive : by node, what its output is multiplied with, (channels,): zero for a channel that is as good as gone
    """
    maps = {IMAGE: x}

    def product(node: Node, *inputs: Tensor) -> Tensor:
        if node.weighted:
            layer = next(layer for layer in baseline.layers if layer.name == node.name)
            return models.product(node, *inputs, [baseline.weight(layer)], baseline.bias(layer))
        return node.row.torch(node, *inputs, *(baseline.tensors[f"{node.name}.{part}"] for part in ("scale", "shift")))

    def seen(name: str, y: Tensor) -> Tensor:
        if alive is not None:
            y = y * alive[name].reshape(-1, *[1] * (y.dim() - 2))
        maps[name] = y
        return y

    graph.run(baseline.network.nodes, x, product, seen)
    return maps


class Drawn:
    """A network that is being drawn: its nodes so far, their shapes, and the end that the next step reads."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, int, int], wide: int = 1) -> None:
        self.wide = wide
        self.draw, self.nodes, self.shapes, self.end = draw, list[Node](), {IMAGE: shape}, IMAGE

    @property
    def shape(self) -> Any:
        return self.shapes[self.end]

    def put(self, operation: str, *others: str, reads: str = "", **settings: Any) -> str:
        """A node that reads the end and others; it is the new end."""
        made = node(f"{operation}{len(self.nodes)}", operation, [reads or self.end, *others], **settings)
        self.shapes[made.name] = made.row.shape(made, *(self.shapes[name] for name in made.inputs))
        self.nodes.append(made)
        self.end = made.name
        return made.name

    def step(self, operation: str) -> None:
        """One more operation, with settings that fit."""
        if operation in ("convolution", "max_pool", "average_pool", "add", "concatenate"):
            getattr(self, operation)()
            return
        settings: dict[str, Any] = {}
        if operation == "clip":
            low = self.draw(st.sampled_from([-1.0, 0.0, 0.25]))
            settings = {"low": low, "high": low + self.draw(st.sampled_from([0.5, 6.0]))}
        elif operation == "leaky_relu":
            settings = {"slope": self.draw(st.sampled_from([0.01, 0.2, -0.5]))}
        self.put(operation, **settings)

    def window(self, dilated: bool) -> dict[str, Any]:
        """That fits the image; with less padding than a window where it is not dilated."""
        _, *sizes = self.shape
        kernel = [self.draw(st.integers(1, min(3, size))) for size in sizes]
        stride = [self.draw(st.integers(1, 2)) for _ in sizes]
        most = [2, 2] if dilated else [size - 1 for size in kernel]
        most = [0 if size == 1 else up_to for size, up_to in zip(sizes, most, strict=True)]
        padding = [self.draw(st.integers(0, most[side % 2])) for side in range(4)]
        settings: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        if dilated:
            reach = [(size - 1) // max(1, own - 1) for size, own in zip(sizes, kernel, strict=True)]
            settings["dilation"] = [self.draw(st.integers(1, max(1, min(2, most)))) for most in reach]
        return settings

    def convolution(self) -> None:
        channels = self.shape[0]
        kind = self.draw(st.sampled_from(["plain", "depthwise", "grouped"]))
        groups = {"plain": 1, "depthwise": channels, "grouped": 2 if channels % 2 == 0 else 1}[kind]
        each = self.draw(st.integers(1, 2 if kind == "depthwise" else 4)) * (self.wide if groups == 1 else 1)
        self.put("convolution", channels=groups * each, groups=groups, **self.window(dilated=True))

    def max_pool(self) -> None:
        self.put("max_pool", **self.window(dilated=False))

    def average_pool(self) -> None:
        self.put("average_pool", **self.window(dilated=False), counts_padding=self.draw(st.booleans()))

    def add(self) -> None:
        """With what there was before, of the same shape, or with a convolution of it."""
        before, shape = self.end, self.shape
        alike = [name for name, own in self.shapes.items() if own == shape and name != before]
        if alike and self.draw(st.booleans()):
            self.put("add", self.draw(st.sampled_from(alike)))
            return
        self.beside(before, shape[0])
        self.put("add", before)

    def concatenate(self) -> None:
        """With what there was before, of the same size, or with a convolution of it."""
        before, shape = self.end, self.shape
        most = 12 * self.wide - shape[0]
        alike = [name for name, own in self.shapes.items() if own[1:] == shape[1:] and own[0] <= most]
        if alike and self.draw(st.booleans()):
            self.put("concatenate", self.draw(st.sampled_from(alike)))
            return
        self.beside(before, self.draw(st.integers(1, 3)) * self.wide)
        self.put("concatenate", before)

    def beside(self, reads: str, channels: int) -> None:
        """A convolution that keeps the size, sometimes with a ReLU."""
        kernel = self.draw(st.sampled_from([1, 3]))
        settings = {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4}
        self.put("convolution", reads=reads, channels=channels, **settings)
        if self.draw(st.booleans()):
            self.put("relu")

    def scores(self, classes: int) -> None:
        """Sometimes with another linear layer before."""
        self.put("flatten")
        if self.draw(st.booleans()):
            self.put("linear", channels=self.draw(st.integers(1, 8)))
            self.put(self.draw(st.sampled_from(["relu", "tanh", "leaky_relu"])))
        self.put("linear", channels=classes)

    def network(self) -> Network:
        return Network(self.shapes[IMAGE], tuple(self.nodes))


STEPS = sorted(set(OPERATIONS) - {"flatten", "linear"})


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Of small images; of height 1 where they are signals of one dimension."""
    height = draw(st.sampled_from([1, 0, 0, 0]))
    return draw(st.integers(1, 3)), height or draw(st.integers(6, 12)), draw(st.integers(6, 12))


@st.composite
def graphs(draw: st.DrawFn, operation: str = "", classes: int = 10, shape: Any = None, wide: int = 1) -> Network:
    """A network of 2 to 6 steps and its scores. operation : one that is among them; wide : divides the channels of its
    convolutions without groups: of 8, ONNX Runtime lays them out in blocks"""
    drawn = Drawn(draw, shape or draw(shapes()), wide)
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=6))
    if operation in STEPS:
        steps[draw(st.integers(0, len(steps) - 1))] = operation
    for step in steps:
        drawn.step(step)
    drawn.scores(classes)
    return drawn.network()


@st.composite
def networks(draw: st.DrawFn, operation: str = "", classes: int = 10, shape: Any = None, wide: int = 1) -> Baseline:
    """The same with tensors, as after a training: weights that keep signals of size 1, biases that are not zero."""
    network = draw(graphs(operation, classes, shape, wide))
    return filled(network, draw(st.integers(0, 2**16)))


def filled(network: Network, seed: int = 0) -> Baseline:
    """Random tensors for a network."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in network.tensor_shapes.items():
        part = name.rpartition(".")[2]
        size = {"weight": (2 / prod(shape[1:])) ** 0.5, "bias": 0.1, "scale": 0.5, "shift": 0.3}[part]
        tensors[name] = torch.randn(shape, generator=generator) * size + (part == "scale")
    images = fashion_mnist.images()
    if network.classes != len(images.classes):
        images = images._replace(classes=tuple(f"class {place}" for place in range(network.classes)))
    return Baseline("random", tensors, graph=network, images=images)


def pixels(network: Network, count: int, seed: int = 0) -> Tensor:
    """Images, uint8 (n, channels, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *network.shape), generator=generator, dtype=torch.uint8)
