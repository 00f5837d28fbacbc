"""Quantization: every weight, and every signal between layers, on a grid of few integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.document.blocks import Block, Formula, Paragraph
from core.document.steps import Step, Subject, quantizes, widths
from core.settings import (
    FLOAT_BITS,
    Choice,
    Choices,
    Moment,
    Setting,
    Steps,
    Switch,
    Technique,
    Whole,
    among,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import CompressionConfig
    from core.mathematics.quantization import Clip, Compensation, Granularity, Grid, Symmetry
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.trainable import CompressedLayer, CompressedNetwork, TrainableTensor

GRANULARITIES = {"channel": "Per channel", "tensor": "Per tensor"}
SYMMETRIES = {"symmetric": "Symmetric", "asymmetric": "Asymmetric (affine)"}
CLIPS = {"minmax": "Min-max", "mse": "MSE-optimal"}
ROUNDINGS = {"nearest": "Nearest", "gptq": "GPTQ"}

HELP_BITS = """Every weight becomes an integer of this many bits: w ≈ scale · q. 8 bits cost practically nothing; below
4 it matters how the scale is chosen."""
HELP_ACTIVATIONS = """Every activation (signal between two layers) becomes an integer of this many bits, without a
sign after a ReLU. The input image keeps its own 8 bits; the ten logits at the end stay float32."""
HELP_GRANULARITY = """How many weights share a scale. *Per channel*: one scale for each output channel. *Per tensor*:
one for the whole tensor, so that the largest weight of all decides how coarse every channel is."""
HELP_SYMMETRY = """*Symmetric*: a grid around zero, integers from −(2^(b−1) − 1) to 2^(b−1) − 1, so that 2 bits are −1,
0 and 1. *Asymmetric (affine)*: all 2^b integers from the smallest to the largest weight; one of them, the zero point,
stands for 0. For weights only: activations after a ReLU do not need it."""
HELP_CLIP = """Where the grid ends. *Min-max*: at the largest number, so that nothing is clipped. *MSE-optimal*: where
the mean squared error is least; a few large numbers are clipped, and all others lie on a finer grid. For weights and
activations."""
HELP_ROUNDING = """*Nearest*: each weight goes to the nearest point of its grid. *GPTQ*: one input after the other is
rounded, and the weights that are still free make up for its error, so that the layer's **output** on real images
changes least (Frantar et al. 2023). The weights are then further away, and the network is usually better, most of all
where the range is clipped."""
HELP_BIAS = """The mean change that rounding makes to each output, over the calibration images, is subtracted from its
bias (Nagel et al. 2019)."""

LEARNED_CLIP: Clip = "mse"
"""Where grids end whose steps are about to be learned, whatever was chosen: training must not depend on where it
begins. Symmetric grids of weights begin at `quantization.first_step`, for fewer bytes at the same accuracy."""

FEWEST, MOST = 2, 8


class Quantization(Technique):
    name, title, order = "bits", "Quantization", 40
    stage = "grids"
    settings = (
        Setting(
            "bits", Whole(FEWEST, MOST), "Bits per weight", lambda bits: f"{bits}-bit weights",
            "of the weights, 2 to 8; LAYER=32: float32", HELP_BITS, metavar="B|LAYER=B", place="main",
        ),
        Setting(
            "activation_bits", Whole(FEWEST, MOST), "Bits per activation", lambda bits: f"{bits}-bit activations",
            "bits of the activations", HELP_ACTIVATIONS, link="activations", option="--activation-bits", metavar="B",
            place="beside",
        ),
        Setting(
            "granularity", Choice(GRANULARITIES), "Granularity", among("one scale {}", GRANULARITIES),
            "one scale per channel or per tensor", HELP_GRANULARITY, "channel", place="finer",
        ),
        Setting(
            "symmetry", Choice(SYMMETRIES), "Quantization scheme", among("{} quantization", SYMMETRIES),
            "quantization of weights: symmetric, or asymmetric (affine, with a zero point)", HELP_SYMMETRY,
            "symmetric", place="finer",
        ),
        Setting(
            "clip", Choice(CLIPS), "Clipping range", among("clipping {}", CLIPS),
            "clipping range: minmax (largest number) or mse (least mean squared error)", HELP_CLIP, "minmax",
            place="finer",
        ),
        Setting(
            "rounding", Choice(ROUNDINGS), "Rounding", among("rounding {}", ROUNDINGS),
            "to the nearest point, or GPTQ: the output on real inputs changes least", HELP_ROUNDING, "nearest",
            place="finer",
        ),
        Setting(
            "bias_correction", Switch(), "Bias correction", lambda yes: "bias correction",
            "bias correction: the mean change of each output goes into its bias", HELP_BIAS, False, "biascorrection",
            "--bias-correction", place="finer",
        ),
    )  # fmt: skip
    of_layer = Setting(
        "bits", Whole(FEWEST, MOST, also=(FLOAT_BITS,)), "Bits",
        lambda bits: "float32" if bits == FLOAT_BITS else f"{bits} bits", help=HELP_BITS, metavar="B|LAYER=B",
    )  # fmt: skip

    chooses = ("granularity", "bits")

    def used(self, config: CompressionConfig) -> bool:
        return self.shrinks(config) or config.activation_bits is not None

    def shrinks(self, config: CompressionConfig) -> bool:
        """Activations take no bytes."""
        return config.bits is not None or any(layer.bits not in (None, FLOAT_BITS) for _, layer in config.layers)

    def touched(self, config: CompressionConfig, network: Network) -> list[str]:
        return [layer.name for layer in network.layers if config.bits_of(layer.name) != FLOAT_BITS]

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        names, or_float = self.touched(config, network), f"or give this layer {FLOAT_BITS} bits."
        if config.rounding == "gptq":
            yield "Weights rounded together (gptq)", names, f"Round to the nearest, {or_float}"
        if config.bias_correction:
            yield "Corrected biases", names, f"Leave the biases as they are, {or_float}"

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """Grids with activation ranges of the network as it is now; then the two steps that need to know the inputs:
        weights rounded together, and biases corrected. Steps that will be learned begin where training learns them
        best, and not where `config.clip` says."""
        bits, ranges = {name: config.bits_of(name) for name in network.named()}, None
        clip = LEARNED_CLIP if moment.learns_steps else config.clip
        if config.activation_bits is not None:
            ranges = statistics.activation_ranges(network, clip, config.activation_bits)
        quantize_model(network, bits, config.activation_bits, config.granularity, ranges, config.symmetry, clip)
        quantized = [layer for name, layer in network.named().items() if bits[name] != FLOAT_BITS]
        if moment.learns_steps and config.symmetry == "symmetric":
            for layer in quantized:
                begin_steps(layer)
        for layer in quantized if not rounds_afterwards(config) else ():
            before = layer.matrix(layer.masked_weights()).clone()
            if config.rounding == "gptq":
                round_together(layer, statistics)
            if config.bias_correction:
                correct_bias(layer, before, statistics)
        return network

    def always(self, inputs_known: bool) -> dict[str, Any]:
        """The ways to round that cost no bytes. Signals are not in the file: they stay as they are."""
        known = {"rounding": "gptq", "bias_correction": True} if inputs_known else {}
        return {"clip": "mse"} | known

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        """One scale per tensor costs accuracy that training gives back, and 2 bytes less for each output channel."""
        each = {f"bits {layer.name}": Steps(FEWEST, MOST) for layer in network.layers}
        return {"granularity": tuple(GRANULARITIES), **each}

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        """Not of a layer whose weights share values (`techniques.codebook`)."""
        return not chosen.get(f"shared {layer}")

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> int | None:
        return chosen.get(f"bits {layer.name}")

    def chosen(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"granularity": chosen["granularity"]} if "granularity" in chosen else {}

    def steps(self, subject: Subject) -> Iterator[Step]:
        if quantizes(subject.rows):
            phrase = f"weights quantized ({widths(subject.rows)})"
            yield Step(phrase, "Quantization of weights", tuple(_of_weights(subject)))
        if (bits := subject.config.activation_bits) is not None:
            phrase = f"activations quantized ({bits} bits)"
            yield Step(phrase, "Quantization of activations", tuple(_of_activations(subject)))


def rounds_afterwards(config: CompressionConfig) -> bool:
    """Whether all that rounding does is left to rate-distortion rounding, because no training lies in between."""
    return bool(config.rate_rounding) and config.recovery is None


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
    `linear_quantize(w, scale, zero_point)`. Activations get scale = range / q_max, unsigned where they are never
    negative. The input image keeps its own 8 bits, the logits stay float32. All scales are parameters: training moves
    them (`quantization.fake_quantize`).

    bits : 2 to 8, or 32 for float32; one number or one per layer name
    ranges : what `Statistics.activation_ranges` found before quantization; needed where activation_bits is set
    Changes `network` in place and returns it.
    """
    from core.mathematics import quantization
    from core.networks.encodings.integer_grid import LearnedGrid
    from core.networks.stored import BETWEEN

    layers = network.named()
    chosen = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(layers, bits)
    if activation_bits is not None:
        if ranges is None:
            raise ValueError("ranges must be given where activation_bits is set: see `Statistics.activation_ranges`.")
        signed = {signal.name: signal.signed for signal in network.network.signals}
        signed |= {f"{name}{BETWEEN}": True for name in layers}
        for name, largest in ranges.items():
            scale = quantization.activation_scale(largest, activation_bits, signed[name])
            network.set_step(name, scale, activation_bits)
    for name, layer in layers.items():
        if chosen[name] == FLOAT_BITS:
            continue
        for weight in layer.weights:
            values = weight.masked().detach()
            grid = quantization.weight_grid(values, chosen[name], granularity, symmetry, clip)
            weight.encoder = LearnedGrid(chosen[name], grid)
    return network


def begin_steps(layer: CompressedLayer) -> None:
    """Steps of a layer's grids where LSQ begins to learn them."""
    from core.mathematics import quantization
    from core.networks.encodings.integer_grid import LearnedGrid

    for weight in layer.weights:
        if isinstance(grid := weight.encoder, LearnedGrid):
            grid.scale.data.copy_(quantization.first_step(weight.masked().detach(), grid.scale.data, grid.bits))


def correct_bias(layer: CompressedLayer, before: Tensor, statistics: Statistics) -> None:
    """Put into a layer's bias what its outputs lost on average, in place: see `quantization.bias_correction`.

    before : the matrix that it applied before its weights were rounded
    """
    from core.mathematics import quantization

    after = layer.matrix(layer.effective_weights())
    correction = quantization.bias_correction(before.cpu(), after.cpu(), statistics.mean(layer))
    layer.bias.add_(correction.to(layer.bias.device))


def round_together(
    layer: CompressedLayer,
    statistics: Statistics,
    rounding: Callable[[TrainableTensor, Sequence[Compensation]], Tensor] | None = None,
) -> None:
    """Put the weights of a quantized layer on their grids by `quantization.gptq`, in place; the second factor with what
    the first one, not rounded, gives for the baseline's inputs. Computed on the CPU, where these are known.

    rounding : another way, of a weight and of what is known of its inputs, for each group of its rows
    """
    from core.mathematics import low_rank, quantization

    before = copy.deepcopy(layer).cpu()
    known = [statistics.compensation(layer.layer, layer.columns)]
    if len(before.weights) == 2:
        second = statistics.second(layer.layer, layer.columns)
        factor = low_rank.as_matrix(before.weights[0].masked().detach()).double()
        known.append([quantization.compensation(factor @ second @ factor.T)])
    for weight, now, each in zip(before.weights, layer.weights, known, strict=True):
        now.weight.data.copy_((rounding or _rounded)(weight, each))


def _rounded(weight: TrainableTensor, known: Sequence[Compensation]) -> Tensor:
    """known : of its inputs, for each group of its rows"""
    from core.mathematics import quantization

    return quantization.gptq_in_groups(weight.masked().detach(), grid_of(weight), weight.bits, known, weight.mask)


def grid_of(weight: TrainableTensor) -> Grid:
    """The grid of a quantized weight, its steps as a file holds them."""
    from core.mathematics.quantization import Grid
    from core.networks.encodings.integer_grid import LearnedGrid

    grid = weight.encoder
    assert isinstance(grid, LearnedGrid)
    return Grid(grid.stored_scale().detach(), grid.zero_point)


def _of_weights(subject: Subject) -> Iterator[Block]:
    config, learned, symmetric = subject.config, subject.learned, subject.config.symmetry == "symmetric"
    per = "output channel" if config.granularity == "channel" else "tensor"
    grid, ends = ("a symmetric", "max |w|") if symmetric else ("an asymmetric", "the smallest and the largest w")
    text = (
        f"Weights lie on {grid} grid of integers, {widths(subject.rows)}, with one scale s per {per} and "
        "a zero point z (Jacob et al. 2018). "
    )
    reach = f"The grid reaches to {ends}. " if config.clip == "minmax" else "Where it ends is chosen (clipping). "
    weights = "Before training, weights" if learned else "Weights"
    text += "Training learned s (LSQ, Esser et al. 2020), beginning where it stands below. " if learned else reach
    if config.rounding == "nearest":
        text += "Each weight goes to the nearest point. "
    else:
        text += f"{weights} are rounded so that their errors cancel on real inputs x (GPTQ, Frantar et al. 2023). "
    if config.bias_correction:
        text += "What rounding changes on average is put into the biases (Nagel et al. 2019). "
    yield Paragraph(f"{text}Scales are rounded to float16, biases to twelve bits of a step of their layer's.")
    yield Formula(
        r"q = \operatorname{clamp}(\operatorname{round}(w / s) + z, q_{\min}, q_{\max}), \quad \hat{w} = s\,(q - z)"
    )
    if learned and symmetric:
        yield Formula(r"s_0 = \frac{2 \operatorname{E} |w|}{\sqrt{q_{\max}}}, \quad |w| > 0, \quad z = 0")
    elif symmetric:
        yield Formula(r"s = \frac{\max |w|}{2^{b - 1} - 1}, \quad z = 0")
    else:
        yield Formula(r"s = \frac{\max w - \min w}{2^b - 1}, \quad z = \operatorname{round}({-\min w} / s)")
    if not symmetric if learned else config.clip == "mse":
        yield Paragraph("Clipping takes that share c of the range with the least squared error:")
        yield Formula(r"\min_c \sum (w - \hat{w})^2, \quad c \in \{1, 0.98, \ldots, 0.12\}")
    if config.rounding == "gptq":
        yield Paragraph("Rounding goes column by column, towards the least error of the output:")
        yield Formula(r"\min \operatorname{E} \|W x - \hat{W} x\|^2")
    if config.bias_correction:
        yield Paragraph("Correction of the biases:")
        yield Formula(r"\text{bias} \leftarrow \text{bias} + (W - \hat{W}) \operatorname{E}[x]")


def _of_activations(subject: Subject) -> Iterator[Block]:
    from core.networks import calibration

    config, count = subject.config, subject.calibration_images
    top = "top is the largest x"
    if subject.learned or config.clip == "mse":
        top = f"top is where the squared error is least, by the histograms of {calibration.SIGNAL_IMAGES} of them"
    yield Paragraph(
        f"What enters a layer is rounded to {config.activation_bits} bits, one scale per tensor, unsigned after a ReLU "
        f"and signed between two factors. Ranges come from {count:,} training images, before the weights are "
        f"quantized: {top}. The input image keeps its own 8 bits, the outputs stay float32."
    )
    yield Formula(
        r"\hat{x} = s \cdot \operatorname{clamp}(\operatorname{round}(x / s), 0, 2^a - 1), "
        r"\quad s = \frac{\text{top}}{2^a - 1}"
    )


TECHNIQUE = Quantization()
