"""From a baseline and a configuration to a compressed network; the one place that fixes the order.

Low rank first, then pruning, then quantization, each on the *stored* tensors: the factors, where a layer is factored.
Pruning a rebuilt matrix would destroy its rank and make the size a lie.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core import inference, low_rank, pruning, quantization
from core.config import DENSE, FLOAT_BITS, CompressionConfig, ConfigError, Granularity, LowRankMethod, Scope
from core.models import Baseline, Layer, propagate
from core.stored import StoredLayer, StoredNetwork, StoredTensor

REMEMBERED_RANGES = 256
"""Calibrations of the latest weights that are kept: a few numbers each."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression needs to know of a baseline besides its weights; computed once per baseline.

    decompositions : by low-rank method and layer, made when they are asked for
    images : the calibration inputs, float32 (n, 1, 28, 28), normalized
    """

    decompositions: Callable[[LowRankMethod], Mapping[str, low_rank.Decomposition]]
    images: Tensor
    _ranges: dict[object, dict[str, float]] = field(default_factory=dict)

    def activation_ranges(self, network: "CompressedNetwork") -> dict[str, float]:
        """max |x| at the input of each layer but the first, "NAME.input", and between its factors, "NAME.between".

        Min-max calibration with the weights as they are now; remembered, since every number of bits needs the same.
        """
        layers = network.freeze().layers
        key = tuple(layer.content for layer in layers)
        found = self._ranges.get(key)
        if found is None:
            if len(self._ranges) >= REMEMBERED_RANGES:
                self._ranges.clear()
            found = self._ranges[key] = inference.ranges(layers, self.images.numpy())
        return found


def decompose(baseline: Baseline, method: LowRankMethod, images: Tensor) -> dict[str, low_rank.Decomposition]:
    """The decomposition of each layer's weight, by name; data-aware ones from the baseline's signals for `images`."""
    found, x = {}, images
    for layer in baseline.layers:
        weight, bias = baseline.tensors[f"{layer.name}.weight"], baseline.tensors[f"{layer.name}.bias"]
        if method == "svd":
            found[layer.name] = low_rank.decompose(weight)
            continue
        found[layer.name] = low_rank.decompose_whitened(weight, *low_rank.moments(x, layer.shape))
        x = propagate(layer, x, [weight], bias)
    return found


class CompressedLayer(nn.Module):
    """A layer's trainable stored tensors, with their masks, bits and grids.

    weights : one parameter (dense) or two (the factors)
    masks, scales : one per weight, or None; True where kept; scale > 0
    """

    def __init__(self, layer: Layer, weights: tuple[Tensor, ...], bias: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.weights = nn.ParameterList([nn.Parameter(weight.clone()) for weight in weights])
        self.bias = nn.Parameter(bias.clone())
        self.bits = FLOAT_BITS
        self.activation_bits: int | None = None
        self.input_scale: float | None = None
        self.between_scale: float | None = None
        for i in range(len(weights)):
            self.register_buffer(f"mask{i}", None)
            self.register_buffer(f"scale{i}", None)

    def stored_names(self) -> list[str]:
        parts = ["weight"] if len(self.weights) == 1 else ["first", "second"]
        return [f"{self.layer.name}.{part}" for part in parts]

    def masked_weights(self) -> list[Tensor]:
        """w where kept, exactly 0 elsewhere: a pruned weight gets no gradient."""
        masks = [getattr(self, f"mask{i}") for i in range(len(self.weights))]
        return [w if m is None else w.masked_fill(~m, 0.0) for w, m in zip(self.weights, masks, strict=True)]

    def effective_weights(self) -> list[Tensor]:
        """The weights that act: masked, then on their integer grid (straight-through while training)."""
        weights = self.masked_weights()
        if self.bits == FLOAT_BITS:
            return weights
        scales = [getattr(self, f"scale{i}") for i in range(len(weights))]
        return [quantization.fake_quantize(w, s, self.bits) for w, s in zip(weights, scales, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        if self.input_scale is not None and self.activation_bits is not None:
            x = quantization.fake_quantize(x, self.input_scale, self.activation_bits, signed=False)
        return propagate(self.layer, x, self.effective_weights(), self.bias, self._between)

    def _between(self, x: Tensor) -> Tensor:
        if self.between_scale is None or self.activation_bits is None:
            return x
        return quantization.fake_quantize(x, self.between_scale, self.activation_bits)

    @torch.no_grad()
    def freeze(self) -> StoredLayer:
        tensors = []
        for i, (name, weight) in enumerate(zip(self.stored_names(), self.masked_weights(), strict=True)):
            mask, scale = getattr(self, f"mask{i}"), getattr(self, f"scale{i}")
            values = weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            if self.bits != FLOAT_BITS:
                values = quantization.linear_quantize(values, scale.cpu(), 0, self.bits).to(torch.int8)
            on_cpu = [None if part is None else part.cpu() for part in (scale, mask)]
            tensors.append(StoredTensor(name, values, self.bits, *on_cpu))
        bias = self.bias.detach().cpu().clone()
        return StoredLayer(self.layer, tuple(tensors), bias, self.input_scale, self.between_scale)


class CompressedNetwork(nn.Module):
    """A network that can still be trained; `freeze` makes it the `StoredNetwork` that is evaluated and exported."""

    def __init__(self, layers: list[CompressedLayer], config: CompressionConfig, baseline_sha256: str) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({own.layer.name: own for own in layers})
        self.config, self.baseline_sha256 = config, baseline_sha256

    def named(self) -> dict[str, CompressedLayer]:
        return {name: own for name, own in self.layers.items() if isinstance(own, CompressedLayer)}

    def forward(self, x: Tensor) -> Tensor:
        for own in self.layers.values():
            x = own(x)
        return x

    def freeze(self) -> StoredNetwork:
        return StoredNetwork(tuple(own.freeze() for own in self.named().values()), self.config, self.baseline_sha256)


def compress(baseline: Baseline, config: CompressionConfig, statistics: Statistics) -> CompressedNetwork:
    """Low rank, then pruning, then quantization. With nothing set it is the baseline, bit for bit.

    Raises ConfigError where the configuration does not fit the baseline's layers.
    """
    check(config, baseline.layers)
    network = CompressedNetwork(
        [_factored(baseline, layer, config, statistics) for layer in baseline.layers], config, baseline.sha256
    )
    own = {name: layer.sparsity for name, layer in config.layers if layer.sparsity is not None}
    apply_pruning(network, config.sparsity or 0.0, config.scope, own)
    bits = {layer.name: config.bits_of(layer.name) for layer in baseline.layers}
    ranges = None if config.activation_bits is None else statistics.activation_ranges(network)
    return quantize_model(network, bits, config.activation_bits, config.granularity, ranges)


def check(config: CompressionConfig, layers: tuple[Layer, ...]) -> None:
    """Raise ConfigError for a layer that the network does not have, or a rank that a layer cannot have."""
    known = {layer.name: layer for layer in layers}
    for name, own in config.layers:
        if name not in known:
            raise ConfigError(f"layer must be one of {', '.join(known)}. Got {name!r} instead.")
        if own.rank is not None and own.rank > known[name].full_rank:
            raise ConfigError(
                f"rank of {name} must be in [1, {known[name].full_rank}], or {DENSE} for no factors. "
                f"Got {own.rank} instead."
            )


def rank_of(layer: Layer, config: CompressionConfig) -> int | None:
    """The rank of a layer's two factors, or None: it stays dense.

    Its own rank, if it has one; else max(1, floor(rank_share * min(m, n))), unless that is above break-even, where
    two factors would hold no fewer numbers than the matrix (and `above_break_even` is not set).
    """
    own = config.layer(layer.name).rank
    if own is not None:
        return None if own == DENSE else own
    if config.rank_share is None:
        return None
    rank = low_rank.rank_from_share(config.rank_share, layer.full_rank)
    saves = rank <= low_rank.break_even_rank(*layer.matrix_shape)
    return rank if saves or config.above_break_even else None


def _factored(baseline: Baseline, layer: Layer, config: CompressionConfig, statistics: Statistics) -> CompressedLayer:
    rank = rank_of(layer, config)
    weights: tuple[Tensor, ...] = (baseline.tensors[f"{layer.name}.weight"],)
    bias = baseline.tensors[f"{layer.name}.bias"]
    if rank is not None:
        decomposition = statistics.decompositions(config.low_rank_method)[layer.name]
        weights = low_rank.factorize(decomposition, rank, layer.shape)
        bias = bias + low_rank.bias_correction(decomposition, rank)
    return CompressedLayer(layer, weights, bias)


@torch.no_grad()
def apply_pruning(
    network: CompressedNetwork, sparsity: float, scope: Scope = "network", own: Mapping[str, float] | None = None
) -> CompressedNetwork:
    """One-shot magnitude pruning: set the mask of the round(sparsity * n) smallest |w| to False, for good.

    A weight near zero adds little to w . x, so the smallest go first (Han et al. 2015). With scope "network" all
    weights share one threshold, and a layer whose weights are small loses more of them; with scope "layer" each
    layer loses the same share. A pruned weight is 0 in every later evaluation and gets no gradient in training.
    Biases are never pruned. Where a layer is factored, its factors are pruned, together.

    sparsity : in [0, 1], the share of zeros over the layers that have none of their own in `own`
    own : sparsity by layer name. Changes `network` in place and returns it.
    """
    own = dict(own or {})
    free = [name for name in network.named() if name not in own]
    groups = [(free, sparsity)] if scope == "network" else [([name], sparsity) for name in free]
    groups += [([name], share) for name, share in own.items()]
    for names, share in groups:
        if share == 0 or not names:
            continue
        slots = {f"{name}:{i}": w for name in names for i, w in enumerate(network.named()[name].weights)}
        masks = pruning.keep_masks({slot: pruning.magnitude(w) for slot, w in slots.items()}, share)
        for slot, mask in masks.items():
            name, _, i = slot.partition(":")
            setattr(network.named()[name], f"mask{i}", mask)
    return network


def check_sparsity(network: StoredNetwork) -> dict[str, float]:
    """Share of pruned weights in every layer: masked / stored, in [0, 1]. Zeros that rounding made do not count."""
    return {stored.layer.name: stored.sparsity for stored in network.layers}


@torch.no_grad()
def quantize_model(
    network: CompressedNetwork,
    bits: int | Mapping[str, int],
    activation_bits: int | None = None,
    granularity: Granularity = "channel",
    ranges: Mapping[str, float] | None = None,
) -> CompressedNetwork:
    """Put every weight on a grid of 2^bits - 1 points, and every hidden activation on one of 2^activation_bits.

    Each weight tensor gets scale = max |w| / (2^(bits-1) - 1), per output channel or per tensor, and is stored as
    `linear_quantize(w, scale)`. Activations get scale = range / q_max, unsigned after a ReLU, signed between two
    factors. The input image keeps its own 8 bits, the logits stay float32.

    bits : 2 to 8, or 32 for float32; one number or one per layer name
    ranges : what `Statistics.activation_ranges` found before quantization; needed where activation_bits is set
    Changes `network` in place and returns it.
    """
    named = network.named()
    chosen = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(named, bits)
    if activation_bits is not None:
        if ranges is None:
            raise ValueError("ranges must be given where activation_bits is set: see `Statistics.activation_ranges`.")
        for name, own in named.items():
            own.activation_bits = activation_bits
            for kind, signed in (("input", False), ("between", True)):
                if f"{name}.{kind}" in ranges:
                    scale = quantization.activation_scale(ranges[f"{name}.{kind}"], activation_bits, signed)
                    setattr(own, f"{kind}_scale", scale)
    for name, own in named.items():
        own.bits = chosen[name]
        if own.bits == FLOAT_BITS:
            continue
        for i, weight in enumerate(own.masked_weights()):
            setattr(own, f"scale{i}", quantization.symmetric_scale(weight, own.bits, granularity))
    return network
