"""One way to read the layers of a state dict as a network: what its keys and shapes leave open, decided."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch

from core.config import ConfigError
from core.incoming.draft import Draft
from core.incoming.keys import BEFORE, BEHIND, Chain, Link, Norm, depthwise
from core.networks.graph import IMAGE, Network, listed
from core.networks.models import Tensors
from core.networks.operations import Shape, number

EPS = 1e-5
"""Of batch normalization: torch's own, which a state dict does not hold."""

POOLS = {"max": "max pooling", "average": "average pooling", "stride": "stride 2"}
ACTIVATIONS = {"relu": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh", "leaky_relu": "leaky ReLU", "gelu": "GELU"}
Sides = tuple[int, int, int, int]


def activation_step(activation: str) -> tuple[str, dict[str, float]]:
    """Operation and settings of "relu", or with a slope of "leaky_relu=0.2". Raises ConfigError."""
    name, equals, slope = activation.partition("=")
    if name not in ACTIVATIONS or (equals and name != "leaky_relu"):
        raise ConfigError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, leaky_relu=SLOPE, or two of them, that behind "
            f"convolutions and that behind linear layers. Got {activation!r} instead."
        )
    try:
        return name, {"slope": number(float(slope))} if equals else {}
    except ValueError:
        raise ConfigError(f"The slope of a leaky ReLU must be a number. Got {slope!r} instead.") from None


def activation_words(activation: str) -> str:
    name, settings = activation_step(activation)
    return ACTIVATIONS[name] + (f" {settings['slope']:g}" if settings else "")


class Step(NamedTuple):
    """Of the network that a reading makes. part : whose tensors it has"""

    name: str
    operation: str
    settings: Mapping[str, Any]
    part: Link | Norm | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a chain.

    padding : of each convolution; halved : the convolutions behind which height and width are halved
    pool : what halves them, "max" or "average" pooling, or "stride" of the convolution itself; "none"
    averaged : whether the mean of each channel goes on to the linear layers, or all of its pixels
    activation, then : behind convolutions, and behind linear layers; active : the layers behind which they stand
    normalized : where a normalization does that may stand
        elsewhere
    """

    chain: Chain
    shape: Shape
    padding: tuple[Sides, ...]
    halved: frozenset[int]
    pool: str
    averaged: bool
    activation: str
    then: str
    active: frozenset[int]
    normalized: str

    @property
    def facets(self) -> tuple[object, ...]:
        """What readings differ in."""
        activations = self.activation, self.then, self.active
        return self.padding, self.halved, self.pool, self.averaged, *activations, self.normalized

    @cached_property
    def network(self) -> Network:
        """Before normalization is folded. Raises NetworkError where its shapes do not fit."""
        draft, _ = self._drafted(filled=False)
        return Network(self.shape, tuple(draft.nodes.values()))

    def build(self) -> tuple[Network, Tensors]:
        """Under the names of the state dict, normalization folded where it stands right behind its layer. Raises
        BaselineError where it holds something else than finite numbers."""
        draft, end = self._drafted(filled=True)
        return draft.finished(end)

    def _drafted(self, filled: bool) -> tuple[Draft, str]:
        """filled : with tensors, or shapes alone: a tensor may stand for far more numbers than its file holds"""
        draft, end = Draft(self.shape), IMAGE
        for name, operation, settings, part in self._steps():
            if filled and isinstance(part, Norm):
                held = (part.parts.get(key) for key in ("weight", "bias"))
                end = draft.normalization(name, end, part.parts["running_mean"], part.parts["running_var"], EPS, *held)
            elif filled and isinstance(part, Link):
                bias = torch.zeros(part.shape[0]) if part.bias is None else part.bias
                end = draft.add(name, operation, end, tensors={"weight": part.weight, "bias": bias}, **settings)
            else:
                end = draft.add(name, operation, end, **settings)
        return draft, end

    def _steps(self) -> Iterator[Step]:
        convolutions = len(self.chain.convolutions)
        for place, link in enumerate(self.chain.links):
            if place == convolutions:
                yield from self._flat()
            yield from self._of_link(place, link)
        if convolutions == len(self.chain.links):
            yield from self._flat()

    def _flat(self) -> Iterator[Step]:
        if self.averaged:
            yield Step("global_average", "global_average_pool", {})
        yield Step("flatten", "flatten", {})

    def _of_link(self, place: int, link: Link) -> Iterator[Step]:
        """The layer and what follows it. Max pooling and an activation that never decreases commute: the one with less
        work comes first, and two orders that compute the same are one reading. So do pooling and normalization."""
        norm = [Step(link.norm.name, "affine", {}, link.norm)] if link.norm else []
        activation = self.activation if place < len(self.chain.convolutions) else self.then
        operation, settings = activation_step(activation)
        active = [Step(f"{link.name}_{operation}", operation, settings)] if place in self.active else []
        pool = [Step(f"{link.name}_pool", f"{self.pool}_pool", {"kernel": (2, 2), "stride": (2, 2)})]
        pool = pool if place in self.halved and self.pool != "stride" else []
        pooled = pool + active if self.pool == "max" and operation != "gelu" else active + pool
        spots = link.norm.spots if link.norm else ()
        spot = self.normalized if self.normalized in spots else next(iter(spots), BEFORE)
        yield self._layer(place, link)
        if spot == BEFORE or not active:
            yield from norm + pooled
        elif spot == BEHIND and pool and self.pool == "max" and link.norm and not link.norm.increasing:
            yield from active + norm + pool
        else:
            yield from pooled + norm

    def _layer(self, place: int, link: Link) -> Step:
        channels = link.shape[0]
        if len(link.shape) == 2:
            return Step(link.name, "linear", {"channels": channels}, link)
        groups = channels if place and depthwise(link.shape, self.chain.links[place - 1].shape[0]) else 1
        step = 2 if self.pool == "stride" and place in self.halved else 1
        settings = {"kernel": link.kernel, "stride": (step, step), "padding": self.padding[place], "groups": groups}
        return Step(link.name, "convolution", {"channels": channels, **settings}, link)

    def __str__(self) -> str:
        convolutions, linear = len(self.chain.convolutions), len(self.chain.linear)
        parts = []
        if convolutions:
            parts += [f"{_many(convolutions, 'convolution')} {self._padding_words()}", self._pool_words()]
            parts += ["the mean of each channel"] if self.averaged else []
        parts += [_many(linear, "linear layer")] if linear else []
        parts += [self._activation_words()]
        loose = [link for link in self.chain.links if link.norm and len(link.norm.spots) > 1]
        parts += [f"normalization {self.normalized}"] if loose and self.active else []
        return ", ".join(parts)

    def _padding_words(self) -> str:
        padded = [any(sides) for sides in self.padding]
        if not any(padded):
            return "without padding"
        kernels = [max(link.kernel) for link in self.chain.convolutions]
        if not all(one for one, kernel in zip(padded, kernels, strict=True) if kernel > 1):
            return f"with padding around {self.chain.links[0].name} alone"
        return "with padding" if all(sides[:2] == sides[2:] for sides in self.padding) else "with padding, less above"

    def _pool_words(self) -> str:
        names = [link.name for link in self.chain.convolutions]
        if not self.halved:
            return "no pooling"
        where = (
            "each" if len(self.halved) == len(names) > 1
            else "every second" if self.halved == frozenset(range(1, len(names), 2)) and len(names) > 3
            else "it" if len(names) == 1
            else ", ".join(names[place] for place in sorted(self.halved))
        )  # fmt: skip
        return f"{POOLS[self.pool]} {'in' if self.pool == 'stride' else 'behind'} {where}"

    def _activation_words(self) -> str:
        hidden = [link.name for link in self.chain.links[:-1]]
        without = [name for place, name in enumerate(hidden) if place not in self.active]
        if not self.active:
            return "no activation"
        mixed = f", then {activation_words(self.then)}" if self.then != self.activation else ""
        return activation_words(self.activation) + mixed + (f", but not behind {listed(without, 4)}" if without else "")


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
