"""What a network takes - bytes, multiplications, seconds - from the shapes of its layers alone.

Nothing is made to find out: a file is judged by its header, before its tensors are read, and a setting before it is
tried. Each figure is an upper bound of what is then allocated, and no more than a few times that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

MEMORY = 2**30
"""Bytes that one step may take: of the 1.5 GB of an app, what libraries, images and pages leave."""

MOMENTS = 2**28
"""Bytes of the second moments of all layers together, which stay in memory beside the network."""

LAYERS = 100
"""Of a network: every page has a control, a row and a colour for each."""

CORES = 2
SPEED = 3e10
"""Multiply-accumulates a second, float32, on two cores that do other things besides."""

DECOMPOSED = 2.5e8
"""m n min(m, n) of a singular value decomposition a second, float64, on the same."""

EVALUATION_SECONDS, MOMENTS_SECONDS, DECOMPOSITION_SECONDS = 600.0, 300.0, 300.0
"""What a person may be asked to wait for: the 5,000 validation images; what is known of a layer's inputs and of its
weight, once ever."""

IMAGES, MOMENT_IMAGES = 5_000, 2_048
"""Of an evaluation, and of those that tell the inputs of a layer."""

EVALUATED, REWORKED = 9, 19
"""Copies of the float32 weights while a network is evaluated as it is, and while it is pruned, rounded and packed."""

CHUNK = 50
"""Images that a core evaluates at a time: their signals fit the processor's cache."""

BATCH = 128
"""Images of a training step."""

TRAINED, TRAINED_SIGNALS = 12, 3
"""Copies of the weights while a compressed network is trained (gradients, momentum, what is pruned and rounded, the
best epoch), and of the signals of a batch."""

PATCH_IMAGES, ROW_IMAGES = 128, 1024
"""Images of which the moments are taken at a time, for a convolution and for a linear layer, where they fit."""

PART, SIGNALS = 2**27, 2**29
"""Bytes of the images that are worked on at a time: of their patches or signals, and of all their signals at once."""


@dataclass(frozen=True)
class LayerCost:
    """Of one layer, m x n as a matrix. In bytes, where nothing else is said.

    places : where each weight is multiplied, for one image: pixels for a convolution, 1 elsewhere
    reads : numbers that it reads, for one image
    pool : whether its outputs are pooled
    groups : of a convolution, each of which has moments of its own
    """

    name: str
    m: int
    n: int
    places: int
    reads: int
    pool: bool
    groups: int = 1

    @property
    def weights(self) -> int:
        """4 (m n + m), in float32."""
        return 4 * (self.m * self.n + self.m)

    @property
    def multiply_accumulates(self) -> int:
        """For one image: m n at each place."""
        return self.m * self.n * self.places

    @property
    def signal(self) -> int:
        """For one image: input and output in float32, and, pooled, a quarter of it with its places, 4 + 8 bytes."""
        outputs = self.m * self.places
        return 4 * (self.reads + outputs) + (3 * outputs if self.pool else 0)

    @property
    def patches(self) -> int:
        """For one image, in float64: input, and twice the rows that a weight is multiplied with, n at each place."""
        return 8 * (self.reads + 2 * self.groups * self.n * self.places)

    @property
    def moments(self) -> int:
        """E[x] and E[x x^T] in float64: 8 (n + n n), for each group."""
        return 8 * self.groups * (self.n + self.n**2)

    @property
    def taking(self) -> int:
        """While the moments are taken: what there is, a product, its share, their sum, and rows."""
        most = ROW_IMAGES if self.places == 1 else PATCH_IMAGES
        return 9 * self.moments // 2 + images_at_once(self.patches, most, PART) * self.patches

    @property
    def decomposing(self) -> int:
        """W = U S V^T in float64: W twice, U, V, and a workspace of 4 min(m, n)^2."""
        k = min(self.m, self.n)
        return 8 * (2 * self.m * self.n + k * (self.m + self.n) + 4 * k**2)

    @property
    def whitening(self) -> int:
        """The same of W S, with the moments, S and S while it is made; and V S^-1."""
        k = min(self.m, self.n)
        return 3 * self.moments + 8 * (self.m + k) * self.n + self.decomposing

    @property
    def compensating(self) -> int:
        """Four matrices n x n: the moments, those in the order of rounding, a root and an inverse."""
        return 4 * self.moments

    @property
    def knowing(self) -> int:
        """The most of all steps that need the second moments."""
        return max(self.taking, self.whitening, self.compensating)

    @property
    def taking_seconds(self) -> float:
        """n n products in float64 at each place of each image."""
        return MOMENT_IMAGES * self.places * self.groups * self.n**2 / (SPEED / 2)

    @property
    def seconds(self) -> float:
        """Of a singular value decomposition."""
        return self.m * self.n * min(self.m, self.n) / DECOMPOSED

    @property
    def decomposes(self) -> bool:
        """Whether its singular values can be had."""
        return self.decomposing <= MEMORY and self.seconds <= DECOMPOSITION_SECONDS


def layer_cost(
    name: str, shape: tuple[int, ...], places: int, pool: bool, groups: int = 1, reads: int | None = None
) -> LayerCost:
    """shape : of its weight, (out, in) or (out, in / groups, height, width); reads : as many numbers as it has places,
    in each channel, where nothing else is said"""
    return LayerCost(
        name, shape[0], prod(shape[1:]), places, shape[1] * groups * places if reads is None else reads, pool, groups
    )


def images_at_once(each: int, most: int, within: int) -> int:
    """As many as fit, at least one. each : bytes of one; most : where there is room for all of them"""
    return max(1, min(most, within // max(each, 1)))


def evaluating(layers: Sequence[LayerCost]) -> int:
    """Copies of the weights, and on each core the signals of some images, at the layer that has most."""
    signal = max(layer.signal for layer in layers)
    return EVALUATED * sum(layer.weights for layer in layers) + CORES * images_at_once(signal, CHUNK, PART) * signal


def reworking(layers: Iterable[LayerCost]) -> int:
    """While a network is pruned, rounded and packed."""
    return REWORKED * sum(layer.weights for layer in layers)


def training(layers: Iterable[LayerCost], batch: int = BATCH) -> int:
    """While a compressed network is trained: copies of the weights, and the signals of a batch at every layer."""
    every = list(layers)
    signals = TRAINED_SIGNALS * batch * sum(layer.signal for layer in every)
    return TRAINED * sum(layer.weights for layer in every) + signals


def evaluation_seconds(layers: Iterable[LayerCost]) -> float:
    """Of all validation images."""
    return IMAGES * sum(layer.multiply_accumulates for layer in layers) / SPEED


def known(layers: Iterable[LayerCost]) -> frozenset[str]:
    """Names of the layers whose second moments fit, alone and together: of those with few inputs first."""
    names, total = set[str](), 0
    for layer in sorted(layers, key=lambda layer: layer.n):
        total += layer.moments
        if layer.knowing <= MEMORY and total <= MOMENTS and layer.taking_seconds <= MOMENTS_SECONDS:
            names.add(layer.name)
    return frozenset(names)


def too_much(layers: Sequence[LayerCost]) -> str:
    """Why a network can never be evaluated here, with the number and the limit; "" where it can."""
    taken, seconds = evaluating(layers), evaluation_seconds(layers)
    if len(layers) > LAYERS:
        return f"It has {len(layers):,} layers; a network may have {LAYERS}."
    if taken > MEMORY:
        largest = max(layers, key=lambda layer: EVALUATED * layer.weights + CORES * layer.signal)
        return (
            f"Evaluating it would take {in_bytes(taken)} of memory, and {in_bytes(MEMORY)} are there for it. Most of "
            f"it goes to {largest.name}: {largest.m:,} x {largest.n:,} weights, at {largest.places:,} places of an "
            "image. Bring a network with fewer channels or units."
        )
    if seconds > EVALUATION_SECONDS:
        return (
            f"Evaluating it on {IMAGES:,} images would take about {seconds / 60:,.0f} minutes on {CORES} cores, and "
            f"{EVALUATION_SECONDS / 60:.0f} are the most. Bring a network with fewer channels or units."
        )
    return ""


def unknown_in_words(layer: LayerCost) -> str:
    """Why the second moments of a layer's input are not taken."""
    text = f"{layer.name} has {layer.n:,} inputs, and their second moments are {layer.n:,} x {layer.n:,} numbers: "
    if layer.knowing > MEMORY:
        return text + f"using them would take {in_bytes(layer.knowing)} of memory, and {in_bytes(MEMORY)} are there."
    if layer.taking_seconds > MOMENTS_SECONDS:
        return text + (
            f"taking them would last about {layer.taking_seconds / 60:,.0f} minutes, and "
            f"{MOMENTS_SECONDS / 60:.0f} are the most."
        )
    return text + (
        f"{in_bytes(layer.moments)} beside those of the other layers, and all together may have {in_bytes(MOMENTS)}."
    )


def not_decomposed_in_words(layer: LayerCost) -> str:
    """Why a layer's singular values are not computed."""
    return (
        f"The singular values of {layer.name}, {layer.m:,} x {layer.n:,}, would take {in_bytes(layer.decomposing)} of "
        f"memory and about {layer.seconds / 60:,.1f} minutes; {in_bytes(MEMORY)} and {DECOMPOSITION_SECONDS / 60:.0f} "
        "minutes are the most."
    )


def in_bytes(count: int) -> str:
    """1,536 MB or 436.3 GB, of 2^20 and 2^30 bytes."""
    return f"{count / 2**30:,.1f} GB" if count >= 2**30 else f"{max(1, round(count / 2**20)):,} MB"
