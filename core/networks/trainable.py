"""A network while it is compressed: its stored tensors as parameters, with their masks, bits and grids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.config import FLOAT_BITS, CompressionConfig
from core.mathematics import low_rank, quantization
from core.networks.models import Baseline, Layer, propagate
from core.networks.stored import StoredLayer, StoredNetwork, StoredTensor, to_fixed_point, to_half


class CompressedLayer(nn.Module):
    """A layer's trainable stored tensors, with their masks, bits and grids.

    weights : one parameter (dense) or two (the factors)
    columns : of the baseline's input that it still has
    masks : one per weight, or None; True where kept
    scales, zero_points : one per weight, or None; scale > 0 and learned in training, as input_scale, between_scale
    input_scale, between_scale : of the activations, (), or None
    """

    def __init__(self, layer: Layer, weights: tuple[Tensor, ...], bias: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.layer, self.columns = layer, columns
        self.weights = nn.ParameterList([nn.Parameter(weight.clone()) for weight in weights])
        self.bias = nn.Parameter(bias.clone())
        self.bits = FLOAT_BITS
        self.activation_bits: int | None = None
        self.input_scale: Tensor | None
        self.between_scale: Tensor | None
        each = [f"{kind}{i}" for i in range(len(weights)) for kind in ("mask", "scale", "zero_point")]
        for name in (*each, "input_scale", "between_scale"):
            self.register_buffer(name, None)

    def stored_names(self) -> list[str]:
        parts = ["weight"] if len(self.weights) == 1 else ["first", "second"]
        return [f"{self.layer.name}.{part}" for part in parts]

    def stored(self, name: str) -> Any:
        """A scale or the bias as a file holds it, rounded (straight-through while training); None where there is none.
        The bias of a float32 layer is not rounded."""
        tensor = getattr(self, name)
        if tensor is None or (name == "bias" and self.bits == FLOAT_BITS):
            return tensor
        rounded = to_fixed_point(tensor.detach()) if name == "bias" else to_half(tensor.detach())
        return rounded + (tensor - tensor.detach()) if torch.is_grad_enabled() else rounded

    def masked_weights(self) -> list[Tensor]:
        """w where kept, exactly 0 elsewhere: a pruned weight gets no gradient."""
        masks = [getattr(self, f"mask{i}") for i in range(len(self.weights))]
        return [w if m is None else w.masked_fill(~m, 0.0) for w, m in zip(self.weights, masks, strict=True)]

    def effective_weights(self) -> list[Tensor]:
        """The weights that act: masked, then on their integer grid (straight-through while training)."""
        weights = self.masked_weights()
        if self.bits == FLOAT_BITS:
            return weights
        rounded = []
        for i, weight in enumerate(weights):
            scale, zero_point = self.stored(f"scale{i}"), getattr(self, f"zero_point{i}")
            signed = zero_point is None
            scale = quantization.learned_step(scale, weight.numel() // scale.numel(), self.bits, signed)
            rounded.append(quantization.fake_quantize(weight, scale, self.bits, signed, zero_point))
        return rounded

    def forward(self, x: Tensor) -> Tensor:
        x = self._rounded(x, self.stored("input_scale"), signed=False)
        between = partial(self._rounded, scale=self.stored("between_scale"), signed=True)
        return propagate(self.layer, x, self.effective_weights(), self.stored("bias"), between)

    def _rounded(self, x: Tensor, scale: Tensor | None, signed: bool) -> Tensor:
        """A signal on its grid, where it has one."""
        if scale is None or self.activation_bits is None:
            return x
        scale = quantization.learned_step(scale, x[0].numel(), self.activation_bits, signed)
        return quantization.fake_quantize(x, scale, self.activation_bits, signed)

    @torch.no_grad()
    def freeze(self) -> StoredLayer:
        tensors = []
        for i, (name, weight) in enumerate(zip(self.stored_names(), self.masked_weights(), strict=True)):
            parts = (self.stored(f"scale{i}"), getattr(self, f"mask{i}"), getattr(self, f"zero_point{i}"))
            scale, mask, zero_point = (None if part is None else part.detach().cpu().clone() for part in parts)
            values = weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            if scale is not None:
                moved = 0 if zero_point is None else zero_point
                values = quantization.linear_quantize(values, scale, moved, self.bits, zero_point is None)
                values = (values - moved).to(torch.int16)
            zero_point = None if zero_point is None else zero_point.to(torch.uint8)
            tensors.append(StoredTensor(name, values, self.bits, scale, mask, zero_point))
        signals = [self.stored(name) for name in ("input_scale", "between_scale")]
        scales = [None if signal is None else signal.item() for signal in signals]
        return StoredLayer(self.layer, tuple(tensors), self.stored("bias").detach().cpu().clone(), *scales)

    def matrix(self, weights: list[Tensor]) -> Tensor:
        """The matrix that the layer applies to its input, (out, in): the weight, or the product of the factors."""
        last = low_rank.as_matrix(weights[-1])
        return last if len(weights) == 1 else last @ low_rank.as_matrix(weights[0])

    @torch.no_grad()
    def input_rms(self, second: Tensor) -> list[Tensor]:
        """sqrt(E[x^2]) of what each weight is multiplied with, broadcasting to it; between factors E[z^2] of z = F x.

        second : E[x x^T] of the baseline's input
        On the CPU, wherever the layer is.
        """
        second = second[self.columns][:, self.columns]
        first = self.weights[0].detach().cpu()
        each = [second.diagonal().sqrt().reshape(1, *first.shape[1:])]
        if len(self.weights) == 2:
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
        self.layers = nn.ModuleDict({layer.layer.name: layer for layer in layers})
        self.config, self.baseline_sha256, self.baseline = config, baseline_sha256, baseline
        self.pruning_progress = 0.0

    def replace(self, layers: Mapping[str, CompressedLayer]) -> CompressedNetwork:
        """Put other layers in the place of those with these names."""
        self.layers.update(layers)
        return self

    def named(self) -> dict[str, CompressedLayer]:
        return {name: layer for name, layer in self.layers.items() if isinstance(layer, CompressedLayer)}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def sparsities(self) -> dict[str, Any]:
        """How sparse it is now, as a whole and by layer, for the history of a training."""
        frozen = self.freeze()
        return {"sparsity": frozen.sparsity, "layers": frozen.sparsities}

    def freeze(self) -> StoredNetwork:
        layers = tuple(layer.freeze() for layer in self.named().values())
        return StoredNetwork(layers, self.config, self.baseline_sha256)


def dense(
    baseline: Baseline, columns: Mapping[str, Tensor], config: CompressionConfig, baseline_sha256: str
) -> CompressedNetwork:
    """The baseline as a network to be compressed, its layers dense and in float32.

    columns : by layer, of the input of the layer that was compressed, those that are left
    """
    tensors = baseline.tensors
    layers = [
        CompressedLayer(layer, (tensors[f"{layer.name}.weight"],), tensors[f"{layer.name}.bias"], columns[layer.name])
        for layer in baseline.layers
    ]
    return CompressedNetwork(layers, config, baseline_sha256, baseline)
