"""A network while it is compressed: its stored tensors as parameters, with their masks, bits and grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.config import FLOAT_BITS, CompressionConfig
from core.mathematics import low_rank, quantization
from core.mathematics.rounding import straight_through, to_fixed_point, to_half
from core.networks import graph, models
from core.networks.encodings import Encoder, StoredTensor
from core.networks.encodings.float32 import Unrounded
from core.networks.graph import Layer, Network, Signal
from core.networks.models import Baseline
from core.networks.operations import Node
from core.networks.stored import BETWEEN, StoredLayer, StoredNetwork


def key(name: str) -> str:
    """A name as torch takes it for a part of a module: without dots, and none of a module's own names."""
    return f"of {name.replace('~', '~0').replace('.', '~1')}"


def name_of(parameter: str) -> str:
    """The layer or signal that a parameter belongs to, by its name in `named_parameters`; itself where it has none."""
    parts = [part for part in parameter.split(".") if part.startswith("of ")]
    return parts[0].removeprefix("of ").replace("~1", ".").replace("~0", "~") if parts else parameter


class Step(nn.Module):
    """The step of a signal's grid, () float32 and learned in training, with the bits that the signal has on it."""

    def __init__(self, step: float, bits: int, signed: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(step))
        self.bits, self.signed = bits, signed

    def stored(self) -> Tensor:
        return straight_through(self.scale, to_half(self.scale.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """The signal on its grid."""
        scale = quantization.learned_step(self.stored(), x[0].numel(), self.bits, self.signed)
        return quantization.fake_quantize(x, scale, self.bits, self.signed)


class TrainableTensor(nn.Module):
    """One stored tensor as it is trained: a layer's weight, or one of its two factors.

    weight : float32
    mask : bool, True where kept; None where nothing is pruned
    encoder : how it will be stored, and acts: at first as it is
    """

    mask: Tensor | None
    encoder: Encoder

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.encoder = nn.Parameter(weight.clone()), Unrounded()
        self.register_buffer("mask", None)

    @property
    def bits(self) -> int:
        return self.encoder.bits

    def masked(self) -> Tensor:
        """w where kept, exactly 0 elsewhere: a pruned weight gets no gradient."""
        return self.weight if self.mask is None else self.weight.masked_fill(~self.mask, 0.0)

    def effective(self) -> Tensor:
        """The weight that acts: masked, then as it is stored (straight-through while training)."""
        return self.encoder.forward(self.masked())

    def rescale(self, factor: Tensor) -> None:
        """Multiply the rows, and how they are stored, by these numbers > 0, (out,): every code stays as it is."""
        each = factor.reshape(-1, *[1] * (self.weight.dim() - 1))
        self.weight.mul_(each)
        self.encoder.rescale(each)

    def rate(self) -> Tensor:
        """Bits that its values will take, smooth."""
        return self.encoder.rate(self.masked())

    @torch.no_grad()
    def freeze(self, name: str) -> StoredTensor:
        mask = None if self.mask is None else self.mask.cpu().clone()
        values = self.masked().detach().cpu().clone(memory_format=torch.contiguous_format)
        return self.encoder.freeze(name, values, mask)


class CompressedLayer(nn.Module):
    """A weighted layer's stored tensors.

    tensors : one (dense) or two (the factors)
    columns : of the baseline's input that it still has; of a grouped convolution its groups
    between : the grid of the signal between two factors; None where it is not rounded
    norm : normalization behind it while it is trained (`core.networks.renormalized`); None otherwise
    """

    between: Step | None
    norm: nn.Module | None

    def __init__(self, layer: Layer, weights: tuple[Tensor, ...], bias: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.layer, self.columns = layer, columns
        self.tensors = nn.ModuleList([TrainableTensor(weight) for weight in weights])
        self.bias = nn.Parameter(bias.clone())
        self.register_module("between", None)
        self.register_module("norm", None)

    @property
    def weights(self) -> list[TrainableTensor]:
        """The tensors by their own type."""
        return [tensor for tensor in self.tensors if isinstance(tensor, TrainableTensor)]

    @property
    def bits(self) -> int:
        return self.weights[0].bits

    def stored_names(self) -> list[str]:
        parts = ["weight"] if len(self.tensors) == 1 else ["first", "second"]
        return [f"{self.layer.name}.{part}" for part in parts]

    def stored_bias(self) -> Tensor:
        """As a file holds it, rounded; that of a float32 layer is not."""
        return self.bias if self.bits == FLOAT_BITS else straight_through(self.bias, to_fixed_point(self.bias.detach()))

    def masked_weights(self) -> list[Tensor]:
        return [weight.masked() for weight in self.weights]

    def effective_weights(self) -> list[Tensor]:
        return [weight.effective() for weight in self.weights]

    def forward(self, x: Tensor) -> Tensor:
        y = models.product(self.layer.node, x, self.effective_weights(), self.stored_bias(), self.between)
        normalized: Tensor = y if self.norm is None else self.norm(y)
        return normalized

    @torch.no_grad()
    def freeze(self) -> StoredLayer:
        tensors = tuple(tensor.freeze(name) for name, tensor in zip(self.stored_names(), self.weights, strict=True))
        between = None if self.between is None else self.between.stored().item()
        return StoredLayer(self.layer, tensors, self.stored_bias().detach().cpu().clone(), between)

    def matrix(self, weights: list[Tensor]) -> Tensor:
        """The matrix that the layer applies to its input, (out, in): the weight, or the product of the factors."""
        last = low_rank.as_matrix(weights[-1])
        return last if len(weights) == 1 else last @ low_rank.as_matrix(weights[0])

    @torch.no_grad()
    def input_rms(self, second: Tensor) -> list[Tensor]:
        """sqrt(E[x^2]) of what each weight is multiplied with, broadcasting to it; between factors E[z^2] of z = F x.

        second : E[x x^T] of the inputs that are left, of a grouped convolution for each group
        On the CPU, wherever the layer is.
        """
        first = self.weights[0].weight.detach().cpu()
        if self.layer.groups > 1:
            rms = second.diagonal(dim1=1, dim2=2).sqrt().repeat_interleave(len(first) // self.layer.groups, 0)
            return [rms.reshape(first.shape).float()]
        each = [second.diagonal().sqrt().reshape(1, *first.shape[1:])]
        if len(self.tensors) == 2:
            factor = low_rank.as_matrix(first).double()
            squares = ((factor @ second) * factor).sum(1).clamp_min(0)
            each.append(squares.sqrt().reshape(1, -1, *[1] * (first.dim() - 2)))
        return [rms.float() for rms in each]


class CompressedNetwork(nn.Module):
    """A network that can still be trained; `freeze` makes it the `StoredNetwork` that is evaluated and exported.

    baseline : what its layers were made from, without the channels that were removed
    baseline_sha256 : of the one that was compressed, with all channels
    """

    def __init__(
        self, layers: list[CompressedLayer], config: CompressionConfig, baseline_sha256: str, baseline: Baseline
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({key(layer.layer.name): layer for layer in layers})
        self.affine = nn.ParameterDict()
        for name, shape in baseline.network.affine_shapes.items():
            self.affine[key(name)] = nn.Parameter(baseline.tensors[name].reshape(shape).clone())
        self.signals = nn.ModuleDict()
        self.config, self.baseline_sha256, self.baseline = config, baseline_sha256, baseline
        self.pruning_progress = 0.0

    @property
    def network(self) -> Network:
        return self.baseline.network

    def replace(self, layers: Mapping[str, CompressedLayer]) -> CompressedNetwork:
        """Put other layers in the place of those with these names."""
        self.layers.update({key(name): layer for name, layer in layers.items()})
        return self

    def named(self) -> dict[str, CompressedLayer]:
        return {layer.layer.name: layer for layer in self.layers.values() if isinstance(layer, CompressedLayer)}

    def set_step(self, name: str, step: float, bits: int) -> None:
        """The grid of a signal, or of that between two factors, "NAME.between"."""
        device = next(self.parameters()).device
        layer = name.removesuffix(BETWEEN)
        if name.endswith(BETWEEN) and layer in self.named():
            self.named()[layer].between = Step(step, bits, signed=True).to(device)
            return
        signed = next(signal.signed for signal in self.network.signals if signal.name == name)
        self.signals[key(name)] = Step(step, bits, signed).to(device)

    def step(self, signal: Signal) -> Step | None:
        """The grid of a signal; None where it is not rounded."""
        step = dict(self.signals.items()).get(key(signal.name))
        return step if isinstance(step, Step) else None

    def forward(self, x: Tensor) -> Tensor:
        return graph.run(self.network.nodes, x, self._product, self._rounded)

    def _product(self, node: Node, x: Tensor) -> Tensor:
        if node.weighted:
            output: Tensor = self.layers[key(node.name)](x)
            return output
        return node.row.torch(node, x, *(self.affine[key(f"{node.name}.{part}")] for part in ("scale", "shift")))

    def _rounded(self, name: str, x: Tensor) -> Tensor:
        signal = self.network.signal_at.get(name)
        step = None if signal is None else self.step(signal)
        return x if step is None else step.forward(x)

    def rate(self) -> Tensor:
        """Bits per stored weight that a coder will spend, smooth: () float32, in [0, 32]."""
        weights = [weight for layer in self.named().values() for weight in layer.weights]
        bits = torch.stack([weight.rate() for weight in weights]).sum()
        return bits / sum(weight.weight.numel() for weight in weights)

    def sparsities(self) -> dict[str, Any]:
        """How sparse it is now, as a whole and by layer, for the history of a training."""
        frozen = self.freeze()
        return {"sparsity": frozen.sparsity, "layers": frozen.sparsities}

    @torch.no_grad()
    def freeze(self) -> StoredNetwork:
        layers = tuple(layer.freeze() for layer in self.named().values())
        steps = {signal.name: self.step(signal) for signal in self.network.signals}
        scales = {name: step.stored().item() for name, step in steps.items() if step is not None}
        affine = {name: self.affine[key(name)].detach().cpu().clone() for name in self.network.affine_shapes}
        return StoredNetwork(
            self.network, layers, self.config, self.baseline_sha256, scales, affine, self.baseline.images
        )


def dense(
    baseline: Baseline, columns: Mapping[str, Tensor], config: CompressionConfig, baseline_sha256: str
) -> CompressedNetwork:
    """The baseline as a network to be compressed, its layers dense and in float32.

    columns : by layer, of the input of the layer that was compressed, those that are left
    """
    layers = [
        CompressedLayer(layer, (baseline.weight(layer),), baseline.bias(layer), columns[layer.name])
        for layer in baseline.layers
    ]
    return CompressedNetwork(layers, config, baseline_sha256, baseline)
