"""A network put down node by node, by name: `y = plan.relu(plan.convolution("conv1", x, 16))`."""

from typing import Any

from core.networks.graph import IMAGE, Network
from core.networks.operations import Node, Shape, node


class Plan:
    """Nodes in the order in which they were asked for. Each method returns the name of its node."""

    def __init__(self, shape: Shape) -> None:
        """shape : of an image, (channels, height, width)"""
        self.shape, self.nodes, self.channels = shape, list[Node](), {IMAGE: shape[0]}
        self.image = IMAGE

    def add_node(self, name: str, operation: str, *reads: str, **settings: Any) -> str:
        self.nodes.append(node(name, operation, reads, **settings))
        self.channels[name] = settings.get("channels", self.channels[reads[0]])
        return name

    def convolution(self, name: str, reads: str, channels: int, kernel: int = 3, stride: int = 1) -> str:
        """kernel : odd; the image keeps its size, or has 1 / stride of it."""
        around = (kernel // 2,) * 4
        sizes = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": around}
        return self.add_node(name, "convolution", reads, channels=channels, **sizes)

    def depthwise(self, name: str, reads: str, stride: int = 1) -> str:
        """A 3 x 3 convolution of each channel alone."""
        channels = self.channels[reads]
        sizes = {"kernel": (3, 3), "stride": (stride, stride), "padding": (1,) * 4}
        return self.add_node(name, "convolution", reads, channels=channels, groups=channels, **sizes)

    def linear(self, name: str, reads: str, channels: int) -> str:
        return self.add_node(name, "linear", reads, channels=channels)

    def relu(self, reads: str) -> str:
        return self.add_node(f"{reads}_relu", "relu", reads)

    def max_pool(self, reads: str) -> str:
        """2 x 2"""
        return self.add_node(f"{reads}_pool", "max_pool", reads, kernel=(2, 2), stride=(2, 2))

    def add(self, name: str, first: str, second: str) -> str:
        return self.add_node(name, "add", first, second)

    def average(self, reads: str) -> str:
        """Of each channel over the whole image, as features."""
        mean = self.add_node(f"{reads}_mean", "global_average_pool", reads)
        return self.add_node(f"{mean}_flat", "flatten", mean)

    def network(self) -> Network:
        """The last node puts out the scores of the classes."""
        return Network(self.shape, tuple(self.nodes))
