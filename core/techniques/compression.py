"""From a baseline and a configuration to a compressed network; the one place that fixes the order.

Channels first, then low rank, pruning and quantization, the last two on the *stored* tensors: the factors, where a
layer is factored. Pruning a rebuilt matrix would destroy its rank and make the size a lie.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.config import (
    DENSE,
    FLOAT_BITS,
    Clip,
    CompressionConfig,
    ConfigError,
    Granularity,
    LowRankMethod,
    Scope,
    Score,
    Symmetry,
)  # fmt: skip
from core.machinery.files import sha256
from core.machinery.recent import Recent
from core.mathematics import costs, low_rank, pruning, quantization
from core.networks import inference
from core.networks.models import Baseline, Layer, Overflow, costs_of, propagate
from core.networks.stored import StoredLayer, StoredNetwork, StoredTensor, to_fixed_point, to_half
from core.techniques import channels

REMEMBERED_BYTES = 100 * 2**20
"""Of what statistics remember, unless they share a memory with others."""

SIGNAL_IMAGES = 512
"""Calibration images of which histograms of signals are taken."""

LEARNED_CLIP: Clip = "mse"
"""Where grids end whose steps are about to be learned, whatever was chosen: training must not depend on where it
begins. Symmetric grids of weights begin at `quantization.first_step`, for fewer bytes at the same accuracy."""

PRUNING_SHARE = 0.6
"""So much of an iterative training prunes; the rest trains what is left (and its bits)."""


Moments = Mapping[str, tuple[Tensor, Tensor]]
"""Layer name -> E[x], (d,), and E[x x^T], (d, d), of what its weight is multiplied with, in float64."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression needs to know of a baseline besides its weights; computed once per baseline.

    decompositions : by low-rank method and layer, made when they are asked for
    moments : of the baseline's signals for `images`, made when they are asked for
    compensations : by layer, from the moments, made when they are asked for
    images : the calibration inputs, float32 (n, 1, 28, 28), normalized
    of : the baseline's SHA-256 sum, where `recent`, what follows from these for single configurations, is shared
    """

    decompositions: Callable[[LowRankMethod], Mapping[str, low_rank.Decomposition]]
    moments: Callable[[], Moments]
    compensations: Callable[[], Mapping[str, quantization.Compensation]]
    images: Tensor
    of: str = ""
    recent: Recent = field(default_factory=lambda: Recent(REMEMBERED_BYTES))

    def means(self) -> dict[str, Tensor]:
        return {name: mean for name, (mean, _) in self.moments().items()}

    def second(self, layer: str, columns: Tensor) -> Tensor:
        """E[x x^T] of those inputs of a layer that are left; not copied where all are."""
        whole = self.moments()[layer][1]
        return whole if len(columns) == len(whole) else whole[columns][:, columns]

    def decomposition(
        self, layer: Layer, weight: Tensor, columns: Tensor, method: LowRankMethod
    ) -> low_rank.Decomposition:
        """Of a layer's weight; of what is left of it where channels were removed.

        columns : of the baseline's input that are left
        """
        whole = self.decompositions(method)[layer.name]
        if len(whole.left) == weight.shape[0] and whole.right.shape[1] == len(columns):
            return whole
        key = ("decomposition", self.of, layer.name, method, sha256(weight.contiguous().numpy().tobytes()))
        return self.recent.made(key, lambda: self._decomposed(layer, weight, columns, method))

    def _decomposed(
        self, layer: Layer, weight: Tensor, columns: Tensor, method: LowRankMethod
    ) -> low_rank.Decomposition:
        if method == "svd":
            return low_rank.decompose(weight)
        return low_rank.decompose_whitened(weight, self.means()[layer.name][columns], self.second(layer.name, columns))

    def compensation(self, layer: str, columns: Tensor) -> quantization.Compensation:
        """Of the inputs of a layer that are left."""
        whole = self.compensations()[layer]
        if len(columns) == len(whole.order):
            return whole
        key = ("compensation", self.of, layer, sha256(columns.numpy().tobytes()))
        return self.recent.made(key, lambda: quantization.compensation(self.second(layer, columns)))

    def activation_ranges(
        self, network: "CompressedNetwork", clip: Clip = "minmax", bits: int | None = None
    ) -> dict[str, float]:
        """Where the grids of activations end: at the input of each layer but the first, "NAME.input", and between its
        factors, "NAME.between". "minmax": max |x|; "mse": what has the least squared error with so many `bits`.

        With the weights as they are now; remembered, since every number of bits needs the same signals.
        """
        layers = network.freeze().layers
        largest = self._largest(layers)
        if clip == "minmax" or bits is None:
            return largest
        counts = self._counted(layers)
        return {
            name: quantization.clipped_activation(counts[name], top, bits, signed=name.endswith("between"))
            for name, top in largest.items()
        }

    def histograms(self, network: "CompressedNetwork") -> dict[str, NDArray[Any]]:
        """Of |x| where `activation_ranges` are, from 0 to the largest, over `SIGNAL_IMAGES` images."""
        return self._counted(network.freeze().layers)

    def _largest(self, layers: tuple[StoredLayer, ...]) -> dict[str, float]:
        key = ("ranges", tuple(layer.content for layer in layers))
        return self.recent.made(key, lambda: inference.ranges(layers, self.images.numpy()))

    def _counted(self, layers: tuple[StoredLayer, ...]) -> dict[str, NDArray[Any]]:
        def count() -> dict[str, NDArray[Any]]:
            return inference.histograms(layers, self.images[:SIGNAL_IMAGES].numpy(), self._largest(layers))

        return self.recent.made(("histograms", tuple(layer.content for layer in layers)), count)


def moments(baseline: Baseline, images: Tensor) -> Moments:
    """E[x] and E[x x^T] at the input of every layer where they fit (`costs.known`), from the baseline's signals for
    `images`, as many of them at a time as fit. Raises Overflow."""
    each = costs_of(baseline.layers)
    known, largest = costs.known(each), max(cost.signal for cost in each)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for x in images.split(costs.images_at_once(largest, len(images), costs.SIGNALS)):
        share = len(x) / len(images)
        for layer in baseline.layers:
            if not torch.isfinite(x).all():
                raise Overflow(f"The inputs of {layer.name}")
            if layer.name in known:
                first, second = (moment.mul_(share) for moment in low_rank.moments(x, layer.shape))
                if layer.name in found:
                    first, second = first.add_(found[layer.name][0]), second.add_(found[layer.name][1])
                found[layer.name] = first, second
            x = propagate(layer, x, [baseline.tensors[f"{layer.name}.weight"]], baseline.tensors[f"{layer.name}.bias"])
    return found


def compensations(known: Moments) -> dict[str, quantization.Compensation]:
    """What GPTQ rounding needs to know of the input of each layer, by name."""
    return {name: quantization.compensation(second) for name, (_, second) in known.items()}


def decompose(
    baseline: Baseline, method: LowRankMethod, known: Callable[[], Moments]
) -> dict[str, low_rank.Decomposition]:
    """The decomposition of each layer's weight that is `decomposable`, by name; a data-aware one asks for the
    moments."""
    layers = decomposable(baseline.layers, method)
    weights = {layer.name: baseline.tensors[f"{layer.name}.weight"] for layer in layers}
    if method == "svd":
        return {name: low_rank.decompose(weight) for name, weight in weights.items()}
    return {name: low_rank.decompose_whitened(weight, *known()[name]) for name, weight in weights.items()}


def not_decomposable(layers: Sequence[Layer], method: LowRankMethod) -> dict[str, str]:
    """Layers that are too large for a decomposition by this method, with the reason in words."""
    each = costs_of(layers)
    known = costs.known(each)
    found = {cost.name: costs.not_decomposed_in_words(cost) for cost in each if not cost.decomposes}
    if method == "whitened":
        found |= {cost.name: costs.unknown_in_words(cost) for cost in each if cost.name not in known}
    return found


def decomposable(layers: Sequence[Layer], method: LowRankMethod) -> list[Layer]:
    """All others."""
    without = not_decomposable(layers, method)
    return [layer for layer in layers if layer.name not in without]


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
        own = getattr(self, name)
        if own is None or (name == "bias" and self.bits == FLOAT_BITS):
            return own
        rounded = to_fixed_point(own.detach()) if name == "bias" else to_half(own.detach())
        return rounded + (own - own.detach()) if torch.is_grad_enabled() else rounded

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
        found = low_rank.as_matrix(weights[-1])
        return found if len(weights) == 1 else found @ low_rank.as_matrix(weights[0])

    @torch.no_grad()
    def input_rms(self, second: Tensor) -> list[Tensor]:
        """sqrt(E[x^2]) of what each weight is multiplied with, broadcasting to it; between factors E[z^2] of z = F x.

        second : E[x x^T] of the baseline's input
        On the CPU, wherever the layer is.
        """
        second = second[self.columns][:, self.columns]
        first = self.weights[0].detach().cpu()
        found = [second.diagonal().sqrt().reshape(1, *first.shape[1:])]
        if len(self.weights) == 2:
            factor = low_rank.as_matrix(first).double()
            squares = ((factor @ second) * factor).sum(1).clamp_min(0)
            found.append(squares.sqrt().reshape(1, -1, *[1] * (first.dim() - 2)))
        return [rms.float() for rms in found]


class CompressedNetwork(nn.Module):
    """A network that can still be trained; `freeze` makes it the `StoredNetwork` that is evaluated and exported."""

    def __init__(self, layers: list[CompressedLayer], config: CompressionConfig, baseline_sha256: str) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({own.layer.name: own for own in layers})
        self.config, self.baseline_sha256 = config, baseline_sha256
        self.pruned = 0.0

    def named(self) -> dict[str, CompressedLayer]:
        return {name: own for name, own in self.layers.items() if isinstance(own, CompressedLayer)}

    def forward(self, x: Tensor) -> Tensor:
        for own in self.layers.values():
            x = own(x)
        return x

    def sparsities(self) -> dict[str, Any]:
        """How sparse it is now, as a whole and by layer, for the history of a training."""
        frozen = self.freeze()
        return {"sparsity": frozen.sparsity, "layers": check_sparsity(frozen)}

    def freeze(self) -> StoredNetwork:
        return StoredNetwork(tuple(own.freeze() for own in self.named().values()), self.config, self.baseline_sha256)


def compress(
    baseline: Baseline, config: CompressionConfig, statistics: Statistics, learned: bool = False
) -> CompressedNetwork:
    """Channels, low rank, pruning, quantization, in this order. With nothing set it is the baseline, bit for bit.

    learned : its steps are about to be learned; see `quantize`
    Raises ConfigError where the configuration does not fit the baseline's layers.
    """
    network = prune(restructure(baseline, config, statistics), config, statistics)
    return quantize(network, config, statistics, learned)


def restructure(baseline: Baseline, config: CompressionConfig, statistics: Statistics) -> CompressedNetwork:
    """The first half: channels removed, then layers factored. Raises ConfigError."""
    smaller, columns = narrow(baseline, config, statistics)
    layers = [_factored(smaller, layer, columns[layer.name], config, statistics) for layer in smaller.layers]
    return CompressedNetwork(layers, config, baseline.sha256)


def narrow(baseline: Baseline, config: CompressionConfig, statistics: Statistics) -> tuple[Baseline, dict[str, Tensor]]:
    """The baseline without the channels that the configuration removes, and the input columns left in each layer."""
    check(config, baseline.layers)
    kept = channels.kept_channels(baseline, config, statistics.means)
    return channels.remove_channels(baseline, kept), channels.input_columns(baseline, kept)


def prune(
    network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, done: float = 1.0
) -> CompressedNetwork:
    """Prune as the configuration says; `done` of them, in [0, 1], while it is still on the way there."""
    own = {name: done * layer.sparsity for name, layer in config.layers if layer.sparsity is not None}
    known = statistics.moments() if config.score == "activation" else {}
    seconds = {name: second for name, (_, second) in known.items()}
    return apply_pruning(network, done * (config.sparsity or 0.0), config.scope, own, config.score, seconds)


@torch.no_grad()
def quantize(
    network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, learned: bool = False
) -> CompressedNetwork:
    """Bits as the configuration wants them, with activation ranges of the network as it is now; then the two steps
    that need to know the inputs: weights rounded together, and biases corrected.

    learned : steps begin where training learns them best, and not where `config.clip` says
    """
    bits, ranges = {name: config.bits_of(name) for name in network.named()}, None
    clip = LEARNED_CLIP if learned else config.clip
    if config.activation_bits is not None:
        ranges = statistics.activation_ranges(network, clip, config.activation_bits)
    quantize_model(network, bits, config.activation_bits, config.granularity, ranges, config.symmetry, clip)
    if learned and config.symmetry == "symmetric":
        _begin_steps(network)
    for name, own in network.named().items():
        if own.bits == FLOAT_BITS:
            continue
        before = own.matrix(own.masked_weights()).clone() if config.bias_correction else None
        if config.rounding == "gptq":
            round_together(own, statistics)
        if before is not None:
            mean, after = statistics.means()[name][own.columns], own.matrix(own.effective_weights())
            correction = quantization.bias_correction(before.cpu(), after.cpu(), mean)
            own.bias.add_(correction.to(own.bias.device))
    return network


def _begin_steps(network: CompressedNetwork) -> None:
    for own in network.named().values():
        for i, weight in enumerate(own.masked_weights() if own.bits != FLOAT_BITS else ()):
            scale = getattr(own, f"scale{i}")
            scale.copy_(quantization.first_step(weight, scale, own.bits))


@torch.no_grad()
def round_together(own: CompressedLayer, statistics: Statistics) -> None:
    """Put the weights of a quantized layer on their grids by `quantization.gptq`, in place; the second factor with what
    the first one, not rounded, gives for the baseline's inputs. Computed on the CPU, where these are known."""
    before = copy.deepcopy(own).cpu()
    first, *others = before.masked_weights()
    known = [statistics.compensation(own.layer.name, own.columns)]
    if others:
        second, factor = statistics.second(own.layer.name, own.columns), low_rank.as_matrix(first).double()
        known.append(quantization.compensation(factor @ second @ factor.T))
    for i, weight in enumerate((first, *others)):
        grid = quantization.Grid(before.stored(f"scale{i}"), getattr(before, f"zero_point{i}"))
        own.weights[i].copy_(quantization.gptq(weight, grid, own.bits, known[i], getattr(before, f"mask{i}")))


def prune_gradually(
    network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, done: float
) -> CompressedNetwork:
    """One step of iterative pruning, when the share `done` of the training, in [0, 1], is over.

    Until `PRUNING_SHARE` the sparsity rises as `pruning.cubic`, from nothing; then it stays, the bits are set, and
    what is left of the training recovers. A weight that went stays away: its score is that of zero.
    """
    time = done / PRUNING_SHARE
    if network.pruned < 1:
        network.pruned = pruning.cubic(time)
        prune(network, config, statistics, network.pruned)
        if time >= 1:
            quantize(network, config, statistics, learned=True)
    return network


def check(config: CompressionConfig, layers: tuple[Layer, ...]) -> None:
    """Raise ConfigError for a layer that the network does not have, a rank or channels that it cannot have, and for
    what takes more memory or time than there is."""
    known = {layer.name: layer for layer in layers}
    for name, own in config.layers:
        if name not in known:
            raise ConfigError(f"layer must be one of {', '.join(known)}. Got {name!r} instead.")
        if own.rank is not None and own.rank > known[name].full_rank:
            raise ConfigError(
                f"rank of {name} must be in [1, {known[name].full_rank}], or {DENSE} for no factors. "
                f"Got {own.rank} instead."
            )
        if own.channels is not None and name == layers[-1].name:
            raise ConfigError(f"channels of {name} cannot be removed: its outputs are the classes.")
        if own.channels is not None and own.channels > known[name].shape[0]:
            raise ConfigError(f"channels of {name} must be in [1, {known[name].shape[0]}]. Got {own.channels} instead.")
    _check_costs(config, layers)


def _check_costs(config: CompressionConfig, layers: tuple[Layer, ...]) -> None:
    """Raise ConfigError where a setting takes more memory or time than there is: which, of which layer, and the way
    out."""
    each = {cost.name: cost for cost in costs_of(layers)}
    known, taken = costs.known(each.values()), costs.reworking(each.values())
    if (_pruned(config, layers) or _rounded(config, layers)) and taken > costs.MEMORY:
        raise ConfigError(
            f"Pruning and rounding so many weights would take {costs.in_bytes(taken)} of memory, and "
            f"{costs.in_bytes(costs.MEMORY)} are there. Leave sparsity and bits as they are."
        )
    for name in _factored_names(config, layers):
        if not each[name].decomposes:
            raise ConfigError(f"{costs.not_decomposed_in_words(each[name])} Give {name} rank {DENSE}.")
    for what, names, way_out in _asks_for_moments(config, layers):
        for name in names:
            if name not in known:
                raise ConfigError(f"{what} cannot be had here. {costs.unknown_in_words(each[name])} {way_out}")


def check_training(layers: Sequence[Layer]) -> None:
    """Raise ConfigError where training the network after compression takes more memory than there is."""
    taken = costs.training(costs_of(layers))
    if taken > costs.MEMORY:
        raise ConfigError(
            f"Training this network would take {costs.in_bytes(taken)} of memory, in batches of {costs.BATCH} images, "
            f"and {costs.in_bytes(costs.MEMORY)} are there. Compress it without training."
        )


def _asks_for_moments(config: CompressionConfig, layers: tuple[Layer, ...]) -> Iterable[tuple[str, list[str], str]]:
    """Settings that need to know a layer's inputs: in words, of which layers, and what to choose instead."""
    if config.low_rank_method == "whitened":
        names = _factored_names(config, layers)
        yield "Data-aware factors", names, f"Choose plain factors (svd), or rank {DENSE} for this layer."
    if config.score == "activation":
        names = _pruned(config, layers)
        yield "Scores of weights by their inputs", names, "Choose magnitude or lamp, or sparsity 0 for this layer."
    if config.rounding == "gptq":
        names = _rounded(config, layers)
        yield "Weights rounded together (gptq)", names, f"Round to the nearest, or give this layer {FLOAT_BITS} bits."
    if config.bias_correction:
        names = _rounded(config, layers)
        yield "Corrected biases", names, f"Leave the biases as they are, or give this layer {FLOAT_BITS} bits."
    narrowed = config.channel_share is not None or any(own.channels is not None for _, own in config.layers)
    if config.channel_score == "activation" and narrowed:
        yield "Scores of channels by what they put out", [layer.name for layer in layers[1:]], "Choose the score l1."


def _factored_names(config: CompressionConfig, layers: tuple[Layer, ...]) -> list[str]:
    """Of the layers that may get factors: whether a share of the rank saves anything is known without channels only."""
    ranks = {layer.name: config.layer(layer.name).rank for layer in layers}
    return [name for name, rank in ranks.items() if (config.rank_share if rank is None else rank) not in (None, DENSE)]


def _pruned(config: CompressionConfig, layers: tuple[Layer, ...]) -> list[str]:
    shares = {layer.name: config.layer(layer.name).sparsity for layer in layers}
    return [name for name, share in shares.items() if (config.sparsity if share is None else share)]


def _rounded(config: CompressionConfig, layers: tuple[Layer, ...]) -> list[str]:
    return [layer.name for layer in layers if config.bits_of(layer.name) != FLOAT_BITS]


def rank_of(layer: Layer, config: CompressionConfig) -> int | None:
    """The rank of a layer's two factors, or None: it stays dense.

    Its own rank, if it has one, but no more than it has left without its channels; else
    max(1, floor(rank_share * min(m, n))), unless that is above break-even, where two factors would hold no fewer
    numbers than the matrix (and `above_break_even` is not set).
    """
    own = config.layer(layer.name).rank
    if own is not None:
        return None if own == DENSE else min(own, layer.full_rank)
    if config.rank_share is None:
        return None
    rank = low_rank.rank_from_share(config.rank_share, layer.full_rank)
    saves = rank <= low_rank.break_even_rank(*layer.matrix_shape)
    return rank if saves or config.above_break_even else None


def _factored(
    smaller: Baseline, layer: Layer, columns: Tensor, config: CompressionConfig, statistics: Statistics
) -> CompressedLayer:
    weight, bias = smaller.tensors[f"{layer.name}.weight"], smaller.tensors[f"{layer.name}.bias"]
    weights: tuple[Tensor, ...] = (weight,)
    rank = rank_of(layer, config)
    if rank is not None:
        decomposition = statistics.decomposition(layer, weight, columns, config.low_rank_method)
        weights = low_rank.factorize(decomposition, rank, layer.shape)
        bias = bias + low_rank.bias_correction(decomposition, rank)
    return CompressedLayer(layer, weights, bias, columns)


@torch.no_grad()
def apply_pruning(
    network: CompressedNetwork,
    sparsity: float,
    scope: Scope = "network",
    own: Mapping[str, float] | None = None,
    score: Score = "magnitude",
    seconds: Mapping[str, Tensor] | None = None,
) -> CompressedNetwork:
    """One-shot pruning: set the mask of the round(sparsity * n) weights of the smallest score to False, for good.

    A weight near zero adds little to w . x, so the smallest |w| go first (Han et al. 2015); "lamp" and "activation"
    compare better between layers and inputs (`core.mathematics.pruning`). With scope "network" all weights share one
    threshold, and a layer whose scores are small loses more of them; with scope "layer" each layer loses the same
    share. A pruned weight is 0 in every later evaluation and gets no gradient in training. Biases are never pruned.
    Where a layer is factored, its factors are pruned, together.

    sparsity : in [0, 1], the share of zeros over the layers that have none of their own in `own`
    own : sparsity by layer name; 0 protects a layer
    seconds : E[x x^T] at each layer's input, needed where the score is "activation"
    Changes `network` in place and returns it.
    """
    own = dict(own or {})
    free = [name for name in network.named() if name not in own]
    groups = [(free, sparsity)] if scope == "network" else [([name], sparsity) for name in free]
    groups += [([name], share) for name, share in own.items()]
    for names, share in groups:
        if share == 0 or not names:
            continue
        scores = {
            f"{name}:{i}": own_score
            for name in names
            for i, own_score in enumerate(_scores(network.named()[name], score, (seconds or {}).get(name)))
        }
        for slot, mask in pruning.keep_masks(scores, share).items():
            name, _, i = slot.partition(":")
            own_layer = network.named()[name]
            setattr(own_layer, f"mask{i}", mask.to(own_layer.bias.device))
    return network


def _scores(own: CompressedLayer, score: Score, second: Tensor | None) -> list[Tensor]:
    """Of the weights as they are now, those that went already at zero. On the CPU: not every device has float64."""
    weights = [weight.cpu() for weight in own.masked_weights()]
    if score == "magnitude":
        return [pruning.magnitude(weight) for weight in weights]
    if score == "lamp":
        return [pruning.lamp(weight) for weight in weights]
    if second is None:
        raise ValueError("seconds must be given where the score is activation: see `Statistics.moments`.")
    return [pruning.activation(weight, rms) for weight, rms in zip(weights, own.input_rms(second), strict=True)]


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
    symmetry: Symmetry = "symmetric",
    clip: Clip = "minmax",
) -> CompressedNetwork:
    """Put every weight on a grid of 2^bits points (one less where it is symmetric), and every hidden activation on one
    of 2^activation_bits.

    Each weight tensor gets the grid of `quantization.weight_grid`, per output channel or per tensor, and is stored as
    `linear_quantize(w, scale, zero_point)`. Activations get scale = range / q_max, unsigned after a ReLU, signed
    between two factors. The input image keeps its own 8 bits, the logits stay float32. All scales are parameters:
    training moves them (`quantization.fake_quantize`).

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
                    setattr(own, f"{kind}_scale", nn.Parameter(torch.tensor(scale, device=own.bias.device)))
    for name, own in named.items():
        own.bits = chosen[name]
        if own.bits == FLOAT_BITS:
            continue
        for i, weight in enumerate(own.masked_weights()):
            grid = quantization.weight_grid(weight, own.bits, granularity, symmetry, clip)
            setattr(own, f"scale{i}", nn.Parameter(grid.scale))
            setattr(own, f"zero_point{i}", grid.zero_point)
    return network
