"""What a network that came in computes: its nodes one after another, with torch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.networks import graph
from core.networks.graph import Network
from core.networks.operations import Node


@torch.no_grad()
def run(network: Network, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Its scores for images, (n, *shape)."""

    def product(node: Node, x: Tensor) -> Tensor:
        parts = ("weight", "bias") if node.weighted else ("scale", "shift")
        return node.row.torch(node, x, *(tensors[f"{node.name}.{part}"] for part in parts))

    return graph.run(network.nodes, x, product)
