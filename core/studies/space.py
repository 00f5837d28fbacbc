"""What a search may choose, what the choices mean as a configuration, and where to begin. Nothing is measured here."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from core.config import FLOAT_BITS, CompressionConfig, LayerConfig, LowRankMethod, RecoveryConfig, Score
from core.mathematics import costs, low_rank
from core.measuring.front import TECHNIQUES, techniques
from core.networks.models import Layer, costs_of

Chosen = dict[str, Any]
"""Choices by name, as a trial has them."""

START = CompressionConfig(
    activation_bits=8, clip="mse", rounding="gptq", bias_correction=True, channel_score="activation",
    low_rank_method="whitened",
)  # fmt: skip
"""What every trial has: the ways to round that cost no bytes, and signals that integers can hold."""

BLIND = replace(START, rounding="nearest", bias_correction=False, channel_score="l1", low_rank_method="svd")
"""The same for a network of which a layer's inputs cannot be known (`core.mathematics.costs`)."""

LEAST_DENSITY = 0.004
WHOLE = 0.99
"""A layer of which so much stays is not pruned."""

EIGHTHS, HALF_OCTAVES, BITS = 8, 11, (2, 8)
"""Channels are searched in eighths of a layer's; ranks in half octaves below break-even, down to 1/32 of it."""

EIGHTHS_LEFT, HALF_OCTAVES_DOWN = 6, 5
"""Where a scale that did not count before begins."""

SIZES = 16
"""So many sizes a search begins with, from a few percent of the weights on."""


def space(layers: Sequence[Layer], used: Sequence[str] = TECHNIQUES) -> dict[str, BaseDistribution]:
    """Choices by name, for a search that may use these techniques.

    "density" is 1 - sparsity, on a logarithmic scale: of the whole network, with one threshold, or of each layer.
    "channels NAME" are eighths, "rank NAME" half octaves below the layer's break-even rank. Where a layer is not
    "factored", or the network not "narrow", there is nothing to choose of these. What needs to know the inputs of a
    layer is left out where these cannot be known, and so are the ranks of a layer that cannot be decomposed.
    """
    seeing, whole = sees(layers), [cost.name for cost in costs_of(layers) if cost.decomposes]
    names, found = [layer.name for layer in layers], dict[str, BaseDistribution]()
    yes_or_no, density = CategoricalDistribution((False, True)), FloatDistribution(LEAST_DENSITY, 1.0, log=True)
    if "channels" in used:
        found["narrow"] = yes_or_no
        found |= {f"channels {name}": IntDistribution(1, EIGHTHS) for name in names[:-1]}
    if "low rank" in used:
        if seeing:
            found["method"] = CategoricalDistribution(get_args(LowRankMethod))
        for name in whole:
            found |= {f"factored {name}": yes_or_no, f"rank {name}": IntDistribution(0, HALF_OCTAVES - 1)}
    if "pruning" in used:
        scores = tuple(score for score in get_args(Score) if seeing or score != "activation")
        found |= {"score": CategoricalDistribution(scores), "by layer": yes_or_no, "density": density}
        found |= {f"density {name}": density for name in names}
    if "bits" in used:
        found |= {f"bits {name}": IntDistribution(*BITS) for name in names}
    return found


def start(layers: Sequence[Layer]) -> CompressionConfig:
    """What every trial of this network has."""
    return START if sees(layers) else BLIND


def sees(layers: Sequence[Layer]) -> bool:
    """Whether the second moments of every layer's input fit."""
    return len(costs.known(costs_of(layers))) == len(layers)


def counts(name: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a choice counts, after those before it."""
    kind, _, layer = name.partition(" ")
    if kind == "channels":
        return bool(chosen["narrow"])
    if kind == "rank":
        return bool(chosen[f"factored {layer}"])
    return kind != "density" or bool(layer) == chosen["by layer"]


def draw(trial: Trial, layers: Sequence[Layer], used: Sequence[str]) -> Chosen:
    """Let the trial choose what counts."""
    chosen: Chosen = {}
    for name, distribution in space(layers, used).items():
        if not counts(name, chosen):
            continue
        if isinstance(distribution, CategoricalDistribution):
            chosen[name] = trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            chosen[name] = trial.suggest_int(name, distribution.low, distribution.high)
        elif isinstance(distribution, FloatDistribution):
            chosen[name] = trial.suggest_float(name, distribution.low, distribution.high, log=True)
    return chosen


def configuration(chosen: Mapping[str, Any], layers: Sequence[Layer]) -> CompressionConfig:
    """What choices mean; those that change nothing are left out, so that equal networks have equal configurations."""
    own: dict[str, LayerConfig] = {}
    for layer in layers:
        name, width = layer.name, layer.shape[0]
        channels = max(1, round(chosen.get(f"channels {name}", EIGHTHS) / EIGHTHS * width))
        octaves = chosen.get(f"rank {name}")
        own[name] = LayerConfig(
            channels=channels if channels < width else None,
            rank=None if octaves is None else rank_at(octaves, layer),
            sparsity=_sparsity(chosen.get(f"density {name}")),
            bits=chosen.get(f"bits {name}"),
        )
    found = replace(start(layers), layers=tuple(own.items()), sparsity=_sparsity(chosen.get("density")))
    has = techniques(found)
    if "pruning" in has:
        found = replace(found, score=chosen["score"])
    return replace(found, low_rank_method=chosen["method"]) if "method" in chosen and "low rank" in has else found


def _sparsity(density: float | None) -> float | None:
    return None if density is None or density >= WHOLE else round(1 - density, 4)


def rank_at(octaves: int, layer: Layer) -> int:
    """So many half octaves below break-even; at least 1."""
    return max(1, round(low_rank.break_even_rank(*layer.matrix_shape) * 2 ** (-octaves / 2)))


def resized(chosen: Mapping[str, Any], factor: float) -> Chosen:
    """The same shape with fewer weights, or more: the odds of staying, d / (1 - d), times `factor`, in every layer that
    is pruned. Where each is whole, one threshold for the network prunes what has to go: it spares the small ones."""
    densities = {name: own for name, own in chosen.items() if name.startswith("density")}
    if densities and min(densities.values()) >= WHOLE:
        shape = {name: own for name, own in chosen.items() if name not in densities}
        return {**shape, "score": "lamp", "by layer": False, "density": _moved(WHOLE, factor)}
    moved = {name: own if own >= WHOLE else _moved(own, factor) for name, own in densities.items()}
    return {**chosen, **moved}


def _moved(density: float, factor: float) -> float:
    odds = factor * density / (1 - density)
    return min(WHOLE, max(LEAST_DENSITY, odds / (1 + odds)))


def neighbour(chosen: Mapping[str, Any], layers: Sequence[Layer], used: Sequence[str], dice: random.Random) -> Chosen:
    """The same choices but for one or two: another step of a scale, the other side of a switch, half or twice."""
    known = space(layers, used)
    changed: Chosen = dict(chosen)
    names = [name for name in known if name in chosen]
    for name in dice.sample(names, k=min(len(names), dice.choice((1, 2)))):
        distribution, own = known[name], chosen[name]
        if isinstance(distribution, CategoricalDistribution):
            changed[name] = dice.choice([other for other in distribution.choices if other != own])
        elif isinstance(distribution, IntDistribution):
            near = [own + step for step in (-2, -1, 1, 2)]
            changed[name] = dice.choice([value for value in near if distribution.low <= value <= distribution.high])
        elif isinstance(distribution, FloatDistribution):
            near = [own * factor for factor in (0.5, 0.7, 1.4, 2)]
            changed[name] = dice.choice([value for value in near if distribution.low <= value <= distribution.high])
    middle = {"channels": EIGHTHS_LEFT, "rank": HALF_OCTAVES_DOWN}
    shares = [own for name, own in chosen.items() if name.startswith("density")]
    for name in known:  # what counts now and did not before
        if name not in changed and counts(name, changed):
            kind = name.partition(" ")[0]
            changed[name] = middle[kind] if kind in middle else sum(shares) / len(shares)
    return {name: changed[name] for name in known if name in changed and counts(name, changed)}


def starts(rows: Sequence[Mapping[str, Any]], layers: Sequence[Layer], used: Sequence[str]) -> list[Chosen]:
    """First choices, from the sensitivity scans: for each of `SIZES` prices of a byte, every layer has the rank, the
    density and the bits whose losses alone plus price times bytes are least, as if they did not mind one another; and
    each of these narrower, and with one threshold for the whole network.

    rows : `layer`, "rank", "sparsity" or "bits" with its value, and `lost`, a fraction of the images
    """
    options = {layer.name: _options(layer, rows, used) for layer in layers}
    known, found = space(layers, used), list[Chosen]()
    for power in range(SIZES):
        price = 10 ** (-7 + power / 4)
        chosen: Chosen = {"narrow": False, "score": "magnitude", "by layer": True}
        chosen["method"] = start(layers).low_rank_method
        for each in options.values():
            chosen |= min(each, key=lambda option: option[0] + price * option[1])[2]
        weights = [(layer.weights, chosen[f"density {layer.name}"]) for layer in layers]
        share = sum(count * density for count, density in weights) / sum(count for count, _ in weights)
        width = (EIGHTHS, 6, 4)[power % 3]
        narrower = {f"channels {layer.name}": width for layer in layers[:-1]} | {"narrow": width < EIGHTHS}
        whole = {"by layer": False, "score": "lamp", "density": max(LEAST_DENSITY, share)}
        for more in (whole, {**narrower, **whole}, {}, narrower):
            every = {**chosen, **more}
            own = {name: every[name] for name in known if name in every and counts(name, every)}
            if own not in found:
                found.append(own)
    return found


def _options(layer: Layer, rows: Sequence[Mapping[str, Any]], used: Sequence[str]) -> list[tuple[float, float, Chosen]]:
    """Accuracy lost, bytes, and choices, for every rank, density and bits that the scans tried on a layer."""
    name, alone = layer.name, [row for row in rows if row["layer"] == layer.name]

    def tried(setting: str, nothing: Any) -> list[tuple[Any, float]]:
        return [(nothing, 0.0), *((row[setting], row["lost"]) for row in alone if setting in row)]

    found = []
    for octaves, a in tried("rank", None):
        numbers = layer.weights if octaves is None else rank_at(octaves, layer) * sum(layer.matrix_shape)
        factored = {f"factored {name}": octaves is not None, f"rank {name}": octaves}
        for sparsity, b in tried("sparsity", 0.0):
            for bits, c in tried("bits", None)[1:] or [(BITS[1] if "bits" in used else FLOAT_BITS, 0.0)]:
                size = numbers * _entropy(1 - sparsity, bits) / 8
                found.append((a + b + c, size, {**factored, f"density {name}": 1 - sparsity, f"bits {name}": bits}))
    return found


def _entropy(density: float, bits: int) -> float:
    """Bits of a weight that is zero with probability 1 - density, roughly: which it is, and a code if it is not."""
    which = -sum(p * math.log2(p) for p in (density, 1 - density) if p > 0)
    return which + density * (bits - 1)


def recovery(config: CompressionConfig, epochs: int) -> RecoveryConfig:
    """How a shape is trained: zeros come step by step, the baseline teaches, and the rates are those that the course's
    experiments chose on validation."""
    has = techniques(config)
    if "pruning" in has:
        return RecoveryConfig(epochs, 0.1, distillation=True, schedule="iterative")
    return RecoveryConfig(epochs, 0.1 if "channels" in has else 0.03 if "low rank" in has else 0.003, distillation=True)
