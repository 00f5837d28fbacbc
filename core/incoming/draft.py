"""A network while it is read: step by step under the names of its makers, with the tensors that each step brought.

What a foreign graph has and `core.networks.operations` has not is put down in other words here: a batch normalization
is folded into the layer that it alone reads, and stays an `affine` node elsewhere; names become ours; steps that
nothing reads vanish.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from core.networks import models
from core.networks.graph import IMAGE, BaselineError, Network
from core.networks.models import Tensors
from core.networks.operations import Node, Shape, node

NAME = re.compile(r"[^A-Za-z0-9_.-]+")
"""What a name may not hold."""


class Draft:
    """shape : of an image, (channels, height, width)"""

    def __init__(self, shape: Shape) -> None:
        self.nodes: dict[str, Node] = {}
        self.tensors: dict[str, Tensor] = {}
        self.shapes: dict[str, Shape] = {IMAGE: shape}

    def add(self, name: str, operation: str, *reads: str, tensors: Mapping[str, Tensor] | None = None,
            **settings: Any) -> str:  # fmt: skip
        """Put a step down; returns the name that it has here, which those that read it use.

        name : as its makers call it; made unique, and free of what names may not hold
        tensors : by part: `weight` and `bias` of a layer, `scale` and `shift` of an affine step

        Raises NetworkError where its inputs do not fit it.
        """
        name = self._unique(name)
        added = node(name, operation, reads, **settings)
        self.shapes[name] = added.row.shape(added, *(self.shapes[each] for each in reads))
        self.nodes[name] = added
        for part, tensor in (tensors or {}).items():
            self.tensors[f"{name}.{part}"] = tensor.detach().cpu()
        return name

    def convolution(self, name: str, reads: str, weight: Tensor, bias: Tensor | None, **settings: Any) -> str:
        """weight : (out, in / groups, height, width); settings : all but channels and kernel"""
        settings |= {"channels": weight.shape[0], "kernel": tuple(weight.shape[2:])}
        return self.add(name, "convolution", reads, tensors=_with_bias(weight, bias), **settings)

    def linear(self, name: str, reads: str, weight: Tensor, bias: Tensor | None) -> str:
        """weight : (out, in)"""
        return self.add(name, "linear", reads, tensors=_with_bias(weight, bias), channels=weight.shape[0])

    def normalization(
        self, name: str, reads: str, mean: Tensor, variance: Tensor, eps: float,
        gamma: Tensor | None = None, beta: Tensor | None = None,
    ) -> str:  # fmt: skip
        """Batch normalization as it is after training: gamma (x - mean) / sqrt(variance + eps) + beta."""
        scale = (variance.double() + eps).rsqrt() * (1 if gamma is None else gamma.double())
        return self.affine(name, reads, scale, (0 if beta is None else beta.double()) - mean.double() * scale)

    def affine(self, name: str, reads: str, scale: Tensor, shift: Tensor) -> str:
        """scale x + shift for each channel, (channels,) each."""
        return self.add(name, "affine", reads, tensors={"scale": scale, "shift": shift})

    def finished(self, output: str) -> tuple[Network, Tensors]:
        """The network whose scores this step puts out, and its tensors. Raises BaselineError, NetworkError."""
        needed = {output}
        for name, each in reversed(self.nodes.items()):  # those that read a step stand behind it
            needed |= set(each.inputs) if name in needed else set()
        held = dict(self.tensors)
        kept = _folded([each for name, each in self.nodes.items() if name in needed], held)
        if not kept:
            raise BaselineError("This network puts out its image: it computes nothing.")
        network = Network(self.shapes[IMAGE], tuple(kept))
        tensors = {name: held[name].float().contiguous() for name in network.tensor_shapes if name in held}
        models.check_values(tensors)
        models.check_shapes(network, models.shapes_of(tensors))
        return network, tensors

    def _unique(self, name: str) -> str:
        base = NAME.sub("_", name).strip("_.") or "node"
        taken = {*self.nodes, IMAGE}
        found, count = base, 2
        while found in taken:
            found, count = f"{base}_{count}", count + 1
        return found


def _with_bias(weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    return {"weight": weight, "bias": torch.zeros(weight.shape[0]) if bias is None else bias}


def _folded(nodes: Sequence[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """Without the `affine` steps that alone read a layer, or another such step: W' = scale W, b' = scale b + shift, in
    float64 (Jacob et al. 2018, section 3.2)."""
    readers = Counter(name for each in nodes for name in each.inputs)
    parts = {each.name: ("weight", "bias") for each in nodes if each.weighted}
    parts |= {each.name: ("scale", "shift") for each in nodes if each.operation == "affine"}
    stands_for, kept = dict[str, str](), list[Node]()
    for each in nodes:
        reads = tuple(stands_for.get(name, name) for name in each.inputs)
        if each.operation != "affine" or reads[0] not in parts or readers[each.inputs[0]] > 1:
            kept.append(replace(each, inputs=reads))
            continue
        stands_for[each.name] = layer = reads[0]
        scale, shift = (tensors[f"{each.name}.{part}"].double() for part in ("scale", "shift"))
        first, second = (f"{layer}.{part}" for part in parts[layer])
        weight, bias = tensors[first].double(), tensors[second].double()
        tensors[first] = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        tensors[second] = bias * scale + shift
    return kept
