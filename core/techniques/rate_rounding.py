"""Rate-distortion rounding: codes that cost fewer bits, where the output hardly notices. The last step, also after a
training, which it leaves as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core.document.blocks import Formula, Paragraph
from core.document.steps import Step, Subject
from core.settings import FLOAT_BITS, Choices, Moment, Setting, Technique, Weight, techniques

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import CompressionConfig
    from core.mathematics.quantization import Compensation
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.trainable import CompressedNetwork, TrainableTensor

HIGHEST = 1.0
LAMBDAS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""What its control and a search offer."""

HELP = """After everything else, training included, each code may give way to one that the entropy coder writes in fewer
bits, where the layer's output on real images changes little for it; weights that are still free make up for the change
(as DeepCABAC rounds, Wiedemann et al. 2020, with the compensation of GPTQ). λ says how much of a layer's output, in
squares, one bit per weight of the network is worth: 0 leaves the rounding as it is, 0.03 takes a few percent of the
bytes, 0.1 many, and costs accuracy. For weights on grids."""


class RateRounding(Technique):
    name, title, order = "rate rounding", "Rate-distortion rounding", 95
    stage = "after"
    searched = alone = False
    settings = (
        Setting(
            "rate_rounding", Weight(HIGHEST, LAMBDAS), "Rate-distortion rounding (λ)",
            lambda weight: f"rate-distortion rounding {weight:g}",
            "lambda of the rounding by error and rate together, after all else; 0: none", HELP, 0.0, "rdo",
            "--rate-rounding", "LAMBDA", "finer", later=True,
        ),
    )  # fmt: skip
    chooses = ("rate rounding",)

    def used(self, config: CompressionConfig) -> bool:
        return bool(config.rate_rounding) and _quantization().shrinks(config)

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        if config.rate_rounding:
            way_out = f"Choose a lambda of 0, or give this layer {FLOAT_BITS} bits."
            yield "Weights rounded by error and rate", _quantization().touched(config, network), way_out

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """Of a trained network the weights as they act are rounded again: it was trained with these. So it makes no
        difference whether what was trained is here or only its file."""
        from core.techniques.quantization import correct_bias, round_together

        layers = network.named()
        stored = sum(weight.weight.numel() for layer in layers.values() for weight in layer.weights)
        for name, layer in layers.items():
            if config.bits_of(name) == FLOAT_BITS:
                continue
            if config.recovery is not None:
                for weight in layer.weights:
                    weight.weight.data.copy_(weight.effective())
                layer.bias.data.copy_(layer.stored_bias())
            before = layer.matrix(layer.masked_weights()).clone()
            how = partial(_rounded, layer=layer.layer, graph=network.network, rate_weight=config.rate_rounding / stored)
            round_together(layer, statistics, how)
            if config.bias_correction:
                correct_bias(layer, before, statistics)
        return network

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        return {"rate rounding": LAMBDAS} if inputs_known else {}

    def chosen(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"rate_rounding": chosen.get("rate rounding", 0.0)}

    def steps(self, subject: Subject) -> Iterator[Step]:
        if self.used(subject.config):
            weight = subject.config.rate_rounding
            yield Step(f"rounded by error and rate (λ = {weight:g})", self.title, tuple(_procedure(subject)))


def _quantization() -> Technique:
    return next(each for each in techniques() if each.name == "bits")


def _rounded(
    weight: TrainableTensor, known: Sequence[Compensation], layer: Layer, graph: Network, rate_weight: float
) -> Tensor:
    from core.mathematics.rate_rounding import rate_rounding
    from core.techniques.quantization import grid_of

    values, window = weight.masked().detach(), (1, 1)
    if values.dim() == 4:
        window = values.shape[2], values.shape[3]
    elif values.shape[1] == layer.shape[1]:  # and not the second of two factors
        window = graph.map_read(layer)
    return rate_rounding(values, grid_of(weight), weight.bits, known, rate_weight, weight.mask, window)


def _procedure(subject: Subject) -> Iterator[Paragraph | Formula]:
    text = (
        "At last the codes are rounded by error and rate together (as DeepCABAC does, Wiedemann et al. 2020): column "
        "by column, each weight goes to the point where the error of the output on real inputs x plus λ times the bits "
        "is least, and weights that are still free make up for the error, as in GPTQ (Frantar et al. 2023). "
    )
    if subject.config.recovery is not None:
        text += "W is the weight as it was trained, on its grid. "
    yield Paragraph(f"{text}B are the bits that the entropy coder spends on a layer, N all stored weights.")
    yield Formula(
        r"\min \frac{\operatorname{E} \|W x - \hat{W} x\|^2}{\operatorname{E} \|W x\|^2} + \lambda \frac{B}{N}"
    )


TECHNIQUE = RateRounding()
