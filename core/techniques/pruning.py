"""Pruning: the weights with the smallest scores are zero, and stay zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.document.blocks import Block, Formula, Paragraph, Table
from core.document.steps import Step, Subject, percent, scope_in_words, share_of
from core.settings import Choice, Choices, Moment, Scale, Setting, Share, Technique, among, shares

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import CompressionConfig
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.stored import StoredNetwork
    from core.networks.trainable import CompressedLayer, CompressedNetwork

CRITERIA = {"magnitude": "Magnitude", "lamp": "LAMP", "activation": "Activation-aware (Wanda)"}
SCOPES = {"network": "Global", "layer": "Layer-wise"}

HELP_SPARSITY = """The share of weights that are set to zero, those with the smallest scores first: exactly round(s · n)
of them. Biases are never pruned. Expect little loss at first, then a cliff; where it lies depends on how the network
was trained."""
HELP_CRITERION = """Which weights go first: those with the smallest score. *Magnitude*: |w|. *LAMP*: w² over the sum
of the w² of its tensor that are not smaller, so that one global threshold empties no layer (Lee et al. 2021).
*Activation-aware (Wanda)*: |w| times the root mean square of the input that it is multiplied with, over 2,048 training
images (Sun et al. 2024, who compare it row by row; here the scope decides)."""
HELP_SCOPE = """Where scores are compared. *Global*: one threshold over all layers, so that some lose more than others.
*Layer-wise*: each layer loses the same share. For weights and for channels."""
HELP_OWN = """It shows what the whole network's threshold does to this layer. Moving it gives the layer a share
of its own, and the threshold then counts the other layers only."""

LEAST_DENSITY = 0.004
WHOLE = 0.99
"""A search leaves a layer of which so much stays as it is."""


class Pruning(Technique):
    name, title, order = "pruning", "Pruning", 30
    stage = "gradual"
    settings = (
        Setting(
            "sparsity", Share(), "Sparsity", shares("sparsity"),
            "share of weights that pruning sets to zero, in [0, 1]", HELP_SPARSITY, metavar="S|LAYER=S", place="main",
        ),
        Setting(
            "score", Choice(CRITERIA), "Pruning criterion", among("pruning criterion {}", CRITERIA),
            "pruning criterion: magnitude, LAMP or activation-aware (Wanda)", HELP_CRITERION, "magnitude",
            place="finer",
        ),
        Setting(
            "scope", Choice(SCOPES), "Scope", among("scope {}", SCOPES),
            "of pruning: network (global, one threshold) or layer (layer-wise, the same share in each)", HELP_SCOPE,
            "network", place="finer",
        ),
    )  # fmt: skip
    of_layer = Setting("sparsity", Share(), "Sparsity", shares("sparsity"), help=HELP_OWN, metavar="S|LAYER=S")

    chooses = ("score", "by layer", "density")

    def used(self, config: CompressionConfig) -> bool:
        return bool(config.sparsity) or any(layer.sparsity for _, layer in config.layers)

    def touched(self, config: CompressionConfig, network: Network) -> list[str]:
        shares_of = {layer.name: config.layer(layer.name).sparsity for layer in network.layers}
        return [name for name, share in shares_of.items() if (config.sparsity if share is None else share)]

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        if config.score == "activation":
            way_out = "Choose magnitude or lamp, or sparsity 0 for this layer."
            yield "Scores of weights by their inputs", self.touched(config, network), way_out

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """`apply_pruning` with the share that is reached so far."""
        done = moment.pruning_progress
        by_layer = {name: done * layer.sparsity for name, layer in config.layers if layer.sparsity is not None}
        layers = network.named().values() if config.score == "activation" else ()
        known = [layer for layer in layers if layer.layer.name in statistics.moments()]
        second_moments = {layer.layer.name: statistics.second(layer.layer, layer.columns) for layer in known}
        share = done * (config.sparsity or 0.0)
        return apply_pruning(network, share, config.scope, by_layer, config.score, second_moments)

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        density = Scale(LEAST_DENSITY, 1.0)
        criteria = tuple(score for score in CRITERIA if inputs_known or score != "activation")
        listed: dict[str, Choices] = {"score": criteria, "by layer": (False, True), "density": density}
        return listed | {f"density {layer.name}": density for layer in network.layers}

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        return kind != "density" or bool(layer) == chosen["by layer"]

    def chosen(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        criterion = {"score": chosen["score"]} if "score" in chosen else {}
        return {"sparsity": _sparsity(chosen.get("density"))} | criterion

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> float | None:
        return _sparsity(chosen.get(f"density {layer.name}"))

    def steps(self, subject: Subject) -> Iterator[Step]:
        if self.used(subject.config):
            yield Step(f"weights pruned by {SCORES[subject.config.score][0]}", self.title, tuple(_procedure(subject)))


def _sparsity(density: float | None) -> float | None:
    return None if density is None or density >= WHOLE else round(1 - density, 4)


def apply_pruning(
    network: CompressedNetwork,
    sparsity: float,
    scope: str = "network",
    by_layer: Mapping[str, float] | None = None,
    score: str = "magnitude",
    second_moments: Mapping[str, Tensor] | None = None,
) -> CompressedNetwork:
    """One-shot pruning: set the mask of the round(sparsity * n) weights of the smallest score to False, for good.

    A weight near zero adds little to w . x, so the smallest |w| go first (Han et al. 2015); "lamp" and "activation"
    compare better between layers and inputs (`core.mathematics.pruning`). With scope "network" all weights share one
    threshold, and a layer whose scores are small loses more of them; with scope "layer" each layer loses the same
    share. A pruned weight is 0 in every later evaluation and gets no gradient in training. Biases are never pruned.
    Where a layer is factored, its factors are pruned, together.

    sparsity : in [0, 1], the share of zeros over the layers that have none of their own in `by_layer`
    by_layer : sparsity by layer name; 0 protects a layer
    second_moments : E[x x^T] of each layer's inputs that are left, needed where the score is "activation"
    Changes `network` in place and returns it.
    """
    from core.mathematics import pruning

    layers = network.named()
    for names, share in _groups(layers, sparsity, scope, by_layer or {}):
        if share == 0 or not names:
            continue
        scores = {
            f"{name}:{i}": of_tensor
            for name in names
            for i, of_tensor in enumerate(_scores(layers[name], score, (second_moments or {}).get(name)))
        }
        for slot, mask in pruning.keep_masks(scores, share).items():
            name, _, i = slot.partition(":")
            layers[name].weights[int(i)].mask = mask.to(layers[name].bias.device)
    return network


def _groups(names: Iterable[str], share: float, scope: str, own: Mapping[str, float]) -> list[tuple[list[str], float]]:
    """Layers that share a threshold, and the share of their weights that goes. own : of a layer, where it has one"""
    free = [name for name in names if name not in own]
    groups = [(free, share)] if scope == "network" else [([name], share) for name in free]
    return groups + [([name], of_layer) for name, of_layer in own.items()]


def to_prune(config: CompressionConfig, weights: Mapping[str, int]) -> int:
    """How many weights pruning sets to zero: round(s n) for each threshold. weights : how many each layer stores"""
    own = {name: share for name in weights if (share := config.layer(name).sparsity) is not None}
    groups = _groups(weights, config.sparsity or 0.0, config.scope, own)
    return sum(round(share * sum(weights[name] for name in names)) for names, share in groups)


def _scores(layer: CompressedLayer, score: str, second_moment: Tensor | None) -> list[Tensor]:
    """Of the weights as they are now, those that went already at zero. On the CPU: not every device has float64."""
    from core.mathematics import pruning

    weights = [weight.detach().cpu() for weight in layer.masked_weights()]
    if score == "magnitude":
        return [pruning.magnitude(weight) for weight in weights]
    if score == "lamp":
        return [pruning.lamp(weight) for weight in weights]
    if second_moment is None:
        raise ValueError("second_moments must be given where the score is activation: see `Statistics.moments`.")
    return [
        pruning.activation(weight, rms) for weight, rms in zip(weights, layer.input_rms(second_moment), strict=True)
    ]


def check_sparsity(network: StoredNetwork) -> dict[str, float]:
    """Share of pruned weights in every layer: masked / stored, in [0, 1]. Zeros that rounding made do not count."""
    return network.sparsities


SCORES = {
    "magnitude": ("magnitude", "Han et al. 2015", r"\operatorname{score}(w) = |w|"),
    "lamp": ("LAMP", "Lee et al. 2021", r"\operatorname{score}(w) = \frac{w^2}{\sum_{u^2 \ge w^2} u^2}"),
    "activation": (
        "magnitude times input",
        "Wanda, Sun et al. 2024",
        r"\operatorname{score}(w) = |w| \sqrt{\operatorname{E}[x^2]}",
    ),
}
"""Name, source, formula."""


def _procedure(subject: Subject) -> Iterator[Block]:
    config, (by, source, formula) = subject.config, SCORES[subject.config.score]
    target = (
        f" The target is {share_of(config.sparsity)} of the weights, {scope_in_words(config)}."
        if config.sparsity
        else ""
    )
    yield Paragraph(
        f"Each weight is scored by {by} ({source}); those with the smallest score are set to zero and stay zero."
        f"{target} Biases are never pruned and never counted."
    )
    yield Formula(formula)
    yield Formula(r"\text{weights that go} = \operatorname{round}(\text{sparsity} \cdot n)")
    rows = []
    for row in subject.rows:
        share = config.layer(row.name).sparsity
        asked = "–" if share is None else share_of(share)
        zero, rounded = (percent(count / row.weights) for count in (row.zeros, row.rounded_to_zero))
        rows.append((row.name, asked, percent(row.sparsity), rounded, zero))
    trained = " Where of a trained network only its file is kept, all zeros count as pruned." if config.recovery else ""
    caption = f"Shares of each layer's stored weights: pruned, rounded to zero besides, and zero in the file.{trained}"
    yield Table(caption, ("layer", "asked of it alone", "pruned", "rounded to 0", "zero in the file"), tuple(rows))


TECHNIQUE = Pruning()
