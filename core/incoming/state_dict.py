"""A state dict alone as a network: every way in which its shapes make a chain for the images, and which one it is.

It tells neither pooling, padding, activation nor input scaling: what fits the shapes is a reading, and of several
readings the one is taken that is clearly the best on images.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations, product
from math import prod
from typing import NamedTuple

from core.config import ConfigError
from core.incoming import choosing, scaling
from core.incoming.keys import BEFORE, FAMILIES, ROADS, Chain, Link, depthwise
from core.incoming.keys import layers as layers
from core.incoming.reading import ACTIVATIONS, Reading, Sides, activation_step
from core.incoming.scaling import Scale
from core.networks import models
from core.networks.graph import BaselineError, Network, listed
from core.networks.models import Tensors
from core.networks.operations import NetworkError, Shape

WAYS = {"max": ("max",), "average": ("average",), "none": ("none", "stride")}
"""What a person may say of pooling -> what it leaves open."""

ASKED = ("leaky_relu", "gelu")
"""Activations that are taken only where a person says so."""

READINGS = 300
"""Of one chain, at most: the likeliest."""

ANYWHERE = 8
"""Up to so many convolutions, the image may be halved behind any of them."""

MEASUREMENTS = 120
"""Of accuracy, at most."""


def readings(
    chain: Chain, shape: Shape, classes: int, pool: str | None = None, activation: str | None = None
) -> list[Reading]:
    """Every reading that fits images of this shape and so many classes, the likeliest first; two that compute the same
    are one.

    shape : (channels, height, width)
    pool : "max", "average" or "none", where it is known
    activation : one of `ACTIVATIONS` where it is known, "leaky_relu=0.2", or two: "sigmoid,relu"

    Raises BaselineError where none fits, with what was expected and what would come; ConfigError.
    """
    if pool not in (None, *WAYS):
        raise ConfigError(f"pool must be one of {', '.join(WAYS)}. Got {pool!r} instead.")
    pairs = _activations(chain, activation)
    _check_widths(chain, shape, classes)
    fits, actives = _fits(chain, shape, classes, pool), _actives(chain, known=activation is not None)
    spots = list(dict.fromkeys(spot for link in chain.links if link.norm for spot in link.norm.spots)) or [BEFORE]
    found, refusal = dict[Network, Reading](), BaselineError(FAMILIES)
    for i, j, k, m in sorted(product(*(range(len(own)) for own in (fits, pairs, actives, spots))), key=sum):
        reading = Reading(chain, shape, *fits[i], *pairs[j], actives[k], spots[m])
        try:
            models.check_shapes(reading.network, reading.network.tensor_shapes)
            found.setdefault(reading.network, reading)
        except NetworkError as error:
            refusal = error if isinstance(error, BaselineError) else BaselineError(str(error))
        if len(found) == READINGS:
            break
    if not found:
        raise refusal
    return list(found.values())


def _check_widths(chain: Chain, shape: Shape, classes: int) -> None:
    """Raises BaselineError where a layer does not read what the one before it gives."""
    before: Shape = shape[:1] if chain.convolutions else (prod(shape),)
    for place, link in enumerate(chain.links):
        first_linear = place == len(chain.convolutions) > 0
        fits = link.shape[1] == before[0] or (place > 0 and depthwise(link.shape, before[0]))
        if 0 in link.shape or not (fits or first_linear):
            images = f", from images of {' x '.join(map(str, shape))}" if not place else ""
            raise BaselineError(
                f"{link.name}.weight must have {before[0]:,} inputs{images}. Got shape {link.shape} instead. {FAMILIES}"
            )
        before = link.shape
    if before[0] != classes:
        raise BaselineError(
            f"{chain.links[-1].name} must have {classes} outputs, a class each. Got {before[0]} instead."
        )


def _activations(chain: Chain, known: str | None) -> list[tuple[str, str]]:
    """Behind convolutions, and behind linear layers: the same, or where nobody has said it two that differ."""
    if known is not None:
        said = known.split(",", 1)
        for one in said:
            activation_step(one)
        return [(said[0], said[-1])]
    each = [name for name in ACTIVATIONS if name not in ASKED]
    mixed = [(first, then) for first in each for then in each if first != then]
    both = bool(chain.convolutions) and len(chain.linear) > 1
    return [(name, name) for name in each] + (mixed if both else [])


def _actives(chain: Chain, known: bool) -> list[frozenset[int]]:
    """Behind which layers the activation may stand: where the names leave room; behind all but the last; behind
    convolutions alone, which is nowhere in a network without them, unless somebody has said that there is one; and
    behind the last convolution, whose means are the scores."""
    hidden = frozenset(range(len(chain.links) - 1))
    roomy = frozenset(place for place in hidden if chain.links[place].room != 0)
    every = [roomy, hidden]
    if chain.convolutions or not known:
        every += [frozenset(place for place in roomy if place < len(chain.convolutions))]
    every += [] if chain.linear else [hidden | {len(hidden)}]
    return list(dict.fromkeys(every))


Fit = tuple[tuple[Sides, ...], frozenset[int], str, bool]
"""Padding, where halved, by what, and whether the mean of each channel goes on."""


def _fits(chain: Chain, shape: Shape, classes: int, pool: str | None) -> list[Fit]:
    """Every way from the image to what the first linear layer reads. Raises BaselineError where there is none."""
    convolutions, reads = chain.convolutions, chain.linear[0].shape[1] if chain.linear else classes
    if not convolutions:
        return [((), frozenset(), "none", False)]
    found, sizes, channels = dict[Fit, int](), dict[str, None](), convolutions[-1].shape[0]
    kinds = [kind for way, each in WAYS.items() if pool in (None, way) for kind in each]
    regular, others = _halvings(convolutions)
    options = product(enumerate(_paddings(convolutions)), enumerate(regular + others), enumerate(kinds))
    for (first, padding), (second, halved), (third, kind) in options:
        size = _size(convolutions, shape, padding, halved, kind) if bool(halved) == (kind != "none") else None
        if size is None:
            continue
        sizes[f"{size[0]} x {size[1]}"] = None
        averaged = reads == channels and size != (1, 1)
        if (averaged and halved in regular) or reads == channels * prod(size):
            found[padding, halved, kind, averaged] = first + second + third
    if not found:
        raise BaselineError(_misfit(chain, shape, reads, list(sizes), pool))
    told = [fit for fit in found if fit[2] == "stride" or all(_roomy(convolutions[place]) for place in fit[1])]
    pooled = any(kind != "stride" for _, _, kind, _ in told)
    return sorted(told if pooled else found, key=lambda fit: found[fit])


def _misfit(chain: Chain, shape: Shape, reads: int, sizes: list[str], pool: str | None) -> str:
    last, height, width = chain.convolutions[-1], *shape[1:]
    linear = f"The first linear layer, {chain.linear[0].name}, reads" if chain.linear else "The last layer must put out"
    narrowed = f" with --pool {pool}" if pool else ""
    return (
        f"{linear} {reads:,} numbers, and {last.name} puts out {last.shape[0]} channels: from images of {height} x "
        f"{width} these can be {listed(sizes, 12)} large{narrowed}, with a padding that keeps their size or none, "
        f"stride 1 or 2 and 2 x 2 pooling. None of these gives so many. {ROADS}"
    )


def _roomy(link: Link) -> bool:
    """Whether an activation and a pooling have room behind it."""
    return link.room is None or link.room >= 2


def _paddings(convolutions: Sequence[Link]) -> list[tuple[Sides, ...]]:
    """Ways that public networks use: the size is kept by all convolutions, by none, or by the first alone. Around an
    even kernel torch's padding="same" puts less above, and kernel // 2 as much."""
    same = tuple(((h - 1) // 2, (w - 1) // 2, h // 2, w // 2) for h, w in (link.kernel for link in convolutions))
    half = tuple((h // 2, w // 2, h // 2, w // 2) for h, w in (link.kernel for link in convolutions))
    none = ((0, 0, 0, 0),) * len(convolutions)
    return list(dict.fromkeys([same, none, same[:1] + none[1:], half, half[:1] + none[1:]]))


def _halvings(convolutions: Sequence[Link]) -> tuple[list[frozenset[int]], list[frozenset[int]]]:
    """Behind which convolutions the image may be halved: as public networks do it, and in any other way."""
    number, places = len(convolutions), range(len(convolutions))
    widths = [*(link.shape[0] for link in convolutions), 0]
    regular = [
        [place for place in places if convolutions[place].room is not None and _roomy(convolutions[place])],
        places, places[:-1], places[1::2], places[-1:],
        [place for place in places if widths[place + 1] != widths[place]], [],
    ]  # fmt: skip
    others = [each for size in places for each in combinations(places, size)] if number <= ANYWHERE else []
    first = dict.fromkeys(map(frozenset[int], regular))
    return list(first), [each for each in map(frozenset[int], others) if each not in first]


def _size(
    convolutions: Sequence[Link], shape: Shape, padding: Sequence[Sides], halved: frozenset[int], kind: str
) -> tuple[int, int] | None:
    """(height, width) of what the last convolution and its pooling put out; None where nothing is left."""
    height, width = shape[1:]
    for place, (link, (above, left, below, right)) in enumerate(zip(convolutions, padding, strict=True)):
        step, part = (2, 1) if kind == "stride" else (1, 2)
        step, part = (step, part) if place in halved else (1, 1)
        height = ((height + above + below - link.kernel[0]) // step + 1) // part
        width = ((width + left + right - link.kernel[1]) // step + 1) // part
        if min(height, width) < 1:
            return None
    return height, width


Pair = tuple[Reading, Scale]
"""What one measurement is of."""


class Choice(NamedTuple):
    """What was taken. table : what was measured, best first"""

    reading: Reading
    scale: Scale
    accuracy: float
    table: str


def chosen(
    readings: Sequence[Reading],
    scales: Sequence[Scale],
    accuracy: Callable[[Network, Tensors, Scale], float],
    told: bool,
) -> Choice:
    """The reading and the scaling that are the best on images, where they win by more than three points.

    told : whether somebody has said the activation; without that no network is taken that has one, since a ReLU and a
        leaky one are seldom points apart, and slopes are without number
    accuracy : on validation images, in [0, 1]; asked at most `MEASUREMENTS` times. Where there are more pairs than
        that, the likeliest are measured, then always the one that differs in the fewest ways from the best so far

    Raises BaselineError with what was measured and what to add where nothing wins; Overflow where no reading computes
    numbers.
    """
    places = sorted(product(range(len(readings)), range(len(scales))), key=sum)
    pairs = [(readings[place], scales[other]) for place, other in places]
    figures = dict[Pair, float]()

    def measure(pair: Pair) -> float:
        return accuracy(*pair[0].build(), pair[1])

    while len(figures) < min(len(pairs), MEASUREMENTS):
        left = [pair for pair in pairs if pair not in figures]
        if len(figures) >= MEASUREMENTS // 4:
            best = max(figures, key=lambda pair: figures[pair])
            left.sort(key=lambda pair: _differences(pair, best))
        figures[left[0]] = choosing.figure(partial(measure, left[0]))
    best, *others = choosing.contenders(figures)
    if figures[best] == 0:
        measure(best)  # tells why, where it can be told
    rows = choosing.table([(f"{reading}; {each}", right) for (reading, each), right in figures.items()])
    untold = not told and bool(best[0].active)
    if not others and not untold:
        return Choice(*best, figures[best], rows)
    why = "the best is not more than three points ahead" if others else "activations are seldom points apart"
    raise BaselineError(
        "A state dict does not say what its network computes between its layers, and measuring does not, either: "
        f"{why}.\n{rows}\n{_advice([best, *others], figures, untold)}"
    )


def _differences(one: Pair, other: Pair) -> int:
    facets = zip((*one[0].facets, one[1]), (*other[0].facets, other[1]), strict=True)
    return sum(own != theirs for own, theirs in facets)


def _advice(alike: Sequence[Pair], figures: Mapping[Pair, float], untold: bool) -> str:
    """What to add, by what the best of them differ in.

    alike : the best, and those beside it; untold : whether an activation has to be said at any rate
    """
    scales = [each for each in dict.fromkeys(each for _, each in figures) if each in {own for _, own in alike}]
    pools = {reading.pool for reading, _ in alike}
    activations = {(reading.activation, reading.then) for reading, _ in alike}
    asks = [
        f"--pool {'|'.join(WAYS)}" if len(pools) > 1 else "",
        f"--activation {'|'.join(ACTIVATIONS)}, leaky_relu=SLOPE, or two" if untold or len(activations) > 1 else "",
        scaling.options(scales) if len(scales) > 1 else "",
    ]
    known = [right for (reading, _), right in figures.items() if reading is alike[0][0]]
    words, said = scaling.blind(known) if len(scales) > 1 else "", "; ".join(filter(None, asks))
    return f"{words}Say what is known of it: {said}. {ROADS}" if said else f"{words}{ROADS}"
