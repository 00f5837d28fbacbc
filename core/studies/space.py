"""What a search may choose, what the choices mean as a configuration, and where to begin. Nothing is measured here."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from core import settings
from core.config import FLOAT_BITS, CompressionConfig, LayerConfig, RecoveryConfig
from core.mathematics import costs
from core.measuring.front import TECHNIQUES, techniques
from core.networks.graph import Layer, Network
from core.networks.models import costs_of
from core.settings import Scale, Steps
from core.techniques.channels import EIGHTHS
from core.techniques.low_rank import rank_at
from core.techniques.pruning import LEAST_DENSITY, WHOLE
from core.techniques.quantization import MOST

Chosen = dict[str, Any]
"""Choices by name, as a trial has them."""

START, BLIND = (
    CompressionConfig(
        **{name: value for each in settings.techniques() for name, value in each.always(inputs_known).items()}
    )
    for inputs_known in (True, False)
)
"""What every trial has; and the same for a network of which a layer's inputs cannot be known."""


class Option(NamedTuple):
    """How a layer may be compressed. lost : accuracy, a fraction, of this layer alone; bytes : roughly"""

    lost: float
    bytes: float
    chosen: Chosen


SIZES = 16
"""So many sizes a search begins with, from a few percent of the weights on."""


def space(network: Network, used: Sequence[str] = TECHNIQUES) -> dict[str, BaseDistribution]:
    """Choices by name, for a search that may use these techniques.

    "density" is 1 - sparsity, on a logarithmic scale: of the whole network, with one threshold, or of each layer.
    "channels NAME" are eighths, "rank NAME" half octaves below the layer's break-even rank. Where a layer is not
    "factored", or the network not "narrow", there is nothing to choose of these. What needs to know the inputs of a
    layer is left out where these cannot be known, and so are the ranks of a layer that cannot be decomposed.
    """
    return {name: _distribution(choice) for name, choice in choices(network, used).items()}


def choices(network: Network, used: Sequence[str] = TECHNIQUES) -> dict[str, settings.Choices]:
    """The same as the techniques say it."""
    inputs_known = knows_inputs(network)
    offered = (each.choices(network, inputs_known) for each in settings.techniques() if each.name in used)
    return {name: choice for listed in offered for name, choice in listed.items()}


def _distribution(choice: settings.Choices) -> BaseDistribution:
    if isinstance(choice, Steps):
        return IntDistribution(choice.low, choice.high)
    if isinstance(choice, Scale):
        return FloatDistribution(choice.low, choice.high, log=True)
    return CategoricalDistribution(choice)


def start(network: Network) -> CompressionConfig:
    """What every trial of this network has."""
    return START if knows_inputs(network) else BLIND


def knows_inputs(network: Network) -> bool:
    """Whether the second moments of every layer's input fit."""
    return len(costs.known(costs_of(network.layers))) == len(network.layers)


def is_active(name: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a choice counts, after those before it."""
    for technique in settings.techniques():
        for kind in technique.chooses:
            if name == kind or name.startswith(f"{kind} "):
                return technique.is_active(kind, name[len(kind) + 1 :], chosen)
    return True


def draw(trial: Trial, network: Network, used: Sequence[str]) -> Chosen:
    """Let the trial choose what counts."""
    chosen: Chosen = {}
    for name, distribution in space(network, used).items():
        if not is_active(name, chosen):
            continue
        if isinstance(distribution, CategoricalDistribution):
            chosen[name] = trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            chosen[name] = trial.suggest_int(name, distribution.low, distribution.high)
        elif isinstance(distribution, FloatDistribution):
            chosen[name] = trial.suggest_float(name, distribution.low, distribution.high, log=True)
    return chosen


def configuration(chosen: Mapping[str, Any], network: Network) -> CompressionConfig:
    """What choices mean; those that change nothing are left out, so that equal networks have equal configurations."""
    every = settings.techniques()
    by_layer = [
        (layer.name, LayerConfig(**{t.of_layer.name: t.chosen_of(layer, chosen) for t in every if t.of_layer}))
        for layer in network.layers
    ]
    whole = replace(start(network), layers=tuple(by_layer))
    asked = replace(whole, **{name: value for each in every for name, value in each.chosen(chosen).items()})
    wanted = (each.chosen(chosen) for each in every if each.shrinks(asked))
    return replace(whole, **{name: value for chosen_of_it in wanted for name, value in chosen_of_it.items()})


def resized(chosen: Mapping[str, Any], factor: float) -> Chosen:
    """The same shape with fewer weights, or more: the odds of staying, d / (1 - d), times `factor`, in every layer that
    is pruned. Where each is whole, one threshold for the network prunes what has to go: it spares the small ones."""
    densities = {name: value for name, value in chosen.items() if name.startswith("density")}
    if densities and min(densities.values()) >= WHOLE:
        shape = {name: value for name, value in chosen.items() if name not in densities}
        return {**shape, "score": "lamp", "by layer": False, "density": _moved(WHOLE, factor)}
    moved = {name: d if d >= WHOLE else _moved(d, factor) for name, d in densities.items()}
    return {**chosen, **moved}


def _moved(density: float, factor: float) -> float:
    """The density whose odds are `factor` times those of this one, in [LEAST_DENSITY, WHOLE]."""
    odds = factor * density / (1 - density)
    return min(WHOLE, max(LEAST_DENSITY, odds / (1 + odds)))


def neighbour(chosen: Mapping[str, Any], network: Network, used: Sequence[str], dice: random.Random) -> Chosen:
    """The same choices but for one or two: another step of a scale, the other side of a switch, half or twice."""
    known = space(network, used)
    changed: Chosen = dict(chosen)
    names = [name for name in known if name in chosen]
    for name in dice.sample(names, k=min(len(names), dice.choice((1, 2)))):
        changed[name] = _another(known[name], chosen[name], dice)
    offered = choices(network, used)
    shares = [value for name, value in chosen.items() if name.startswith("density")]
    for name in known:  # what counts now and did not before
        if name not in changed and is_active(name, changed):
            changed[name] = _beginning(offered[name], shares)
    return {name: changed[name] for name in known if name in changed and is_active(name, changed)}


def _another(distribution: BaseDistribution, value: Any, dice: random.Random) -> Any:
    """A value near this one, and never the same."""
    if isinstance(distribution, CategoricalDistribution):
        return dice.choice([other for other in distribution.choices if other != value])
    if isinstance(distribution, IntDistribution):
        near = [value + step for step in (-2, -1, 1, 2)]
        return dice.choice([other for other in near if distribution.low <= other <= distribution.high])
    if isinstance(distribution, FloatDistribution):
        near = [value * factor for factor in (0.5, 0.7, 1.4, 2)]
        return dice.choice([other for other in near if distribution.low <= other <= distribution.high])
    return value


def _beginning(choice: settings.Choices, shares: Sequence[float]) -> Any:
    """Where a choice begins that did not count before: a density at the mean of those that did."""
    if isinstance(choice, Steps):
        return (choice.low + choice.high) // 2 if choice.begin is None else choice.begin
    if isinstance(choice, Scale):
        return sum(shares) / len(shares) if shares else choice.high
    return choice[0]


ALIKE = ((4, 1.0), (3, 1.0), (4, 0.5), (2, 1.0), (3, 0.5), (4, 0.2))
"""Bits and density of all layers."""


def alike(network: Network, used: Sequence[str]) -> list[Chosen]:
    """First choices where there is no time to look at each layer alone: the same for all of them, nothing factored, no
    channel removed."""
    known, first = space(network, used), list[Chosen]()
    for bits, density in ALIKE:
        every = {name: own.choices[0] for name, own in known.items() if isinstance(own, CategoricalDistribution)}
        every |= {name: bits for name in known if name.startswith("bits ")}
        _add(first, known, every | {"score": "lamp", "density": density})
    return first


def _add(first: list[Chosen], known: Iterable[str], every: Chosen) -> None:
    """To first choices, of these choices those that count, unless they are there."""
    counting = {name: every[name] for name in known if name in every and is_active(name, every)}
    if counting not in first:
        first.append(counting)


def starts(rows: Sequence[Mapping[str, Any]], network: Network, used: Sequence[str]) -> list[Chosen]:
    """First choices, from the sensitivity scans: for each of `SIZES` prices of a byte, every layer has the rank, the
    density and the bits whose losses alone plus price times bytes are least, as if they did not mind one another; and
    each of these narrower, and with one threshold for the whole network.

    rows : `layer`, "rank", "sparsity" or "bits" with its value, and `lost`, a fraction of the images
    """
    options = [_options(layer, rows, used) for layer in network.layers]
    known, first = space(network, used), list[Chosen]()
    for power in range(SIZES):
        chosen = _cheapest(options, 10 ** (-7 + power / 4), network)
        whole = {"by layer": False, "score": "lamp", "density": max(LEAST_DENSITY, _density(chosen, network))}
        width = (EIGHTHS, 6, 4)[power % 3]
        narrower = _narrowed(known, width, width)
        for more in (whole, {**narrower, **whole}, {}, narrower):
            _add(first, known, {**chosen, **more})
    return first


TAUGHT = (
    *((width, width, 4) for width in (8, 6, 5)),
    *((first, later, None) for first, later in ((6, 6), (4, 4), (3, 3), (4, 2), (2, 2), (2, 1))),
)
"""Eighths of the channels, of the first layer and of later ones, and half octaves below the break-even rank."""

TAUGHT_BITS, LARGE = 4, 0.1
"""Bits of all weights; a share of them, from which on a layer is large."""

CROWDED = (4, 32)
"""So many weights for each byte of the file that is wanted: of fewer each counts too much to be pruned, and of more the
file says above all where those are that are left. The MLP ended with 8,985 bytes and 90.66 % on validation from 113,000
weights, with 8,314 and 90.36 % from 134,000, and with 6,936 and 89.18 % from 334,000."""


def taught(network: Network, used: Sequence[str], wanted: float) -> list[Chosen]:
    """First choices for trials that are trained, which those without training cannot show: pruned, at `TAUGHT_BITS`
    with one scale for each tensor, for each width and rank of `TAUGHT`, the layers that hold a `LARGE` share of the
    weights factored; those that are neither too `CROWDED` nor too empty, if there are such. How much is pruned follows
    from the size that is wanted.

    wanted : bytes
    """
    known, first = space(network, used), list[Chosen]()
    crowded = {shape: _stored(network, known, *shape) / wanted for shape in TAUGHT}
    fitting = [shape for shape in TAUGHT if CROWDED[0] <= crowded[shape] <= CROWDED[1]]
    for width, later, octaves in fitting or TAUGHT:
        every: Chosen = {"method": start(network).low_rank_method, "score": "lamp", "by layer": False, "density": 0.2}
        every |= {"granularity": "channel", **_narrowed(known, width, later)}
        factored = _factored(network, known, octaves)
        for name in (layer.name for layer in network.layers):
            every |= {f"factored {name}": name in factored, f"rank {name}": octaves}
            every |= {f"shared {name}": False, f"bits {name}": TAUGHT_BITS}
        _add(first, known, to_train(every, network))
    return first


def to_train(chosen: Chosen, network: Network) -> Chosen:
    """The same shape, for a trial that is trained: with one scale for each tensor.

    Training makes up for that: the pruned CNN has 93.04 % on validation after 14 epochs either way, and at 7 KB its
    files are 0.3 KB apart. The channels of a grouped convolution are too far apart for a scale in common.
    """
    if "granularity" not in chosen or any(layer.groups > 1 for layer in network.layers):
        return chosen
    return {**chosen, "granularity": "tensor"}


def _factored(network: Network, known: Iterable[str], octaves: int | None) -> dict[str, int]:
    """The ranks of the large layers in such a first choice, by their names."""
    if octaves is None:
        return {}
    large = LARGE * network.weights
    able = (layer for layer in network.layers if f"rank {layer.name}" in known)
    return {layer.name: rank_at(octaves, layer) for layer in able if layer.weights >= large}


def _stored(network: Network, known: Iterable[str], width: int, later: int, octaves: int | None) -> float:
    """About so many weights are stored, zeros too: of each matrix rows and columns stay, but all inputs and outputs of
    the network."""
    ranks, count, stored = _factored(network, known, octaves), len(network.layers), 0.0
    shares = [each / EIGHTHS if "narrow" in known else 1.0 for each in (width, *[later] * (count - 2))][: count - 1]
    for layer, columns_left, rows_left in zip(network.layers, (1.0, *shares), (*shares, 1.0), strict=True):
        rows, columns = rows_left * layer.matrix_shape[0], columns_left * layer.matrix_shape[1]
        stored += ranks[layer.name] * (rows + columns) if layer.name in ranks else rows * columns
    return stored


def _narrowed(known: Iterable[str], width: int, later: int) -> Chosen:
    """So many eighths of the channels of the first layer, and of those after it."""
    names = [name for name in known if name.startswith("channels ")]
    eighths = {name: later if place else width for place, name in enumerate(names)}
    return {"narrow": min(eighths.values(), default=EIGHTHS) < EIGHTHS, **eighths}


def _cheapest(options: Sequence[Sequence[Option]], price: float, network: Network) -> Chosen:
    """For every layer the option with the least loss + price * bytes; price : accuracy lost per byte."""
    chosen: Chosen = {"narrow": False, "score": "magnitude", "by layer": True, "granularity": "channel"}
    chosen |= {f"shared {layer.name}": False for layer in network.layers}
    chosen["method"] = start(network).low_rank_method
    for of_layer in options:
        chosen |= min(of_layer, key=lambda option: option.lost + price * option.bytes).chosen
    return chosen


def _density(chosen: Chosen, network: Network) -> float:
    """Of the whole network, where each layer has its density."""
    weights = [(layer.weights, chosen[f"density {layer.name}"]) for layer in network.layers]
    return float(sum(count * density for count, density in weights) / sum(count for count, _ in weights))


def _options(layer: Layer, rows: Sequence[Mapping[str, Any]], used: Sequence[str]) -> list[Option]:
    """Every rank, density and bits that the scans tried on a layer; their losses add up."""
    name, alone = layer.name, [row for row in rows if row["layer"] == layer.name]

    def tried(setting: str, nothing: Any) -> list[tuple[Any, float]]:
        return [(nothing, 0.0), *((row[setting], row["lost"]) for row in alone if setting in row)]

    options = []
    for octaves, by_rank in tried("rank", None):
        numbers = layer.weights if octaves is None else rank_at(octaves, layer) * sum(layer.matrix_shape)
        factored = {f"factored {name}": octaves is not None, f"rank {name}": octaves}
        for sparsity, by_zeros in tried("sparsity", 0.0):
            for bits, by_bits in tried("bits", None)[1:] or [(MOST if "bits" in used else FLOAT_BITS, 0.0)]:
                size = numbers * _entropy(1 - sparsity, bits) / 8
                chosen = {**factored, f"density {name}": 1 - sparsity, f"bits {name}": bits}
                options.append(Option(by_rank + by_zeros + by_bits, size, chosen))
    return options


def _entropy(density: float, bits: int) -> float:
    """Bits of a weight that is zero with probability 1 - density, roughly: which it is, and a code if it is not."""
    which = -sum(p * math.log2(p) for p in (density, 1 - density) if p > 0)
    return which + density * (bits - 1)


def rate_weight(weights: int, price: float) -> float:
    """lambda, by the price of a bit of the file in the loss: price times the stored weights, since lambda is per bit of
    every weight."""
    return round(min(10.0, price * weights), 4)


def recovery(config: CompressionConfig, epochs: int, teacher: str = "") -> RecoveryConfig:
    """How a shape is trained: zeros come step by step, the baseline teaches, or whoever is named, and the rates are
    those that the course's experiments chose on validation."""
    has, taught = techniques(config), {"distillation": True, "teacher": teacher}
    if "pruning" in has:
        return RecoveryConfig(epochs, 0.1, schedule="iterative", **taught)
    return RecoveryConfig(epochs, 0.1 if "channels" in has else 0.03 if "low rank" in has else 0.003, **taught)
