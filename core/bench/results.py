"""What the bench answers: records, made once and never changed."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.config import CompressionConfig
from core.datasets import Images
from core.formats.artifact import Verdict
from core.formats.footprint import Footprint
from core.measuring.evaluation import Comparison, Estimate, Evaluation
from core.networks import narrowing
from core.networks.graph import Layer, Network
from core.techniques.pruning import to_prune


@dataclass(frozen=True)
class Card:
    """A baseline as a page lists it. origin : "shipped", "trained" or "loaded"."""

    id: str
    title: str
    origin: str


@dataclass(frozen=True)
class Profile:
    """What is known of a baseline without its weights: memory holds only the latest one's. sha256 : of them
    images : that it was made for; teacher : SHA-256 sum of the network that it learnt from, "" where there was none"""

    sha256: str
    model: str
    network: Network
    images: Images
    teacher: str = ""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.network.layers

    @property
    def largest(self) -> Layer:
        """The layer with most weights: what is shown before somebody has chosen one."""
        return max(self.layers, key=lambda layer: layer.weights)

    @cached_property
    def channels(self) -> dict[str, int]:
        """How many channels each layer has of which some can go; no layer that keeps them all."""
        return {name: len(group.channels) for name, group in self._groups.items()}

    def tied(self, layer: str) -> tuple[str, ...]:
        """Layers that share the layer's channels, which can only go together; itself included where any can go."""
        return self._groups[layer].layers if layer in self._groups else ()

    @cached_property
    def _groups(self) -> dict[str, narrowing.Group]:
        return narrowing.channels_of(self.network).group_of


@dataclass(frozen=True)
class LayerRow:
    """A layer of a compressed network, in figures. shape : of its weight in the baseline; channels : that stay.

    sparsity : share of pruned weights; rounded_to_zero : weights besides
    note : why it has another rank than was asked for, or ""; centroids : values in its codebooks, 0 where it has none
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    rank: int | None
    full_rank: int
    break_even_rank: int
    parameters: int
    sparsity: float
    rounded_to_zero: int
    bits: int
    bytes: int
    note: str
    centroids: int = 0

    @property
    def weights(self) -> int:
        """As they are stored, of its factors where it has some: all but a bias for each channel."""
        return self.parameters - self.channels

    @property
    def zeros(self) -> int:
        """Weights that are zero in the file: pruned, or rounded to 0."""
        return round(self.sparsity * self.weights) + self.rounded_to_zero


@dataclass(frozen=True, eq=False)
class Result:
    """A configuration, measured. seconds : of this call; cached : whether it was read instead of computed."""

    baseline_id: str
    config: CompressionConfig
    evaluation: Evaluation
    baseline: Evaluation
    comparison: Comparison
    footprint: Footprint
    layers: tuple[LayerRow, ...]
    parameters: int
    nonzero: int
    baseline_parameters: int
    sparsity: float
    theoretical_kb: float
    seconds: float
    cached: bool

    @property
    def bytes(self) -> int:
        return self.footprint.total

    @property
    def baseline_bytes(self) -> int:
        return 4 * self.baseline_parameters

    @property
    def compression_ratio(self) -> float:
        """Baseline bytes over compressed bytes."""
        return self.baseline_bytes / self.bytes

    @property
    def to_prune(self) -> int:
        """Weights that the configuration has pruning set to zero."""
        return to_prune(self.config, {layer.name: layer.weights for layer in self.layers})


@dataclass(frozen=True)
class Outline:
    """What follows from a configuration in closed form. energy : kept, by factored layer, in [0, 1].

    multiply_accumulates : for one image; products : matrix products or convolutions in a row
    """

    parameters: int
    multiply_accumulates: int
    products: int
    baseline_bytes: int
    theoretical_kb: float
    energy: dict[str, float]


@dataclass(frozen=True)
class Early:
    """What is known of a configuration before all images were seen. bytes : of the file, exact."""

    estimate: Estimate
    bytes: int
    nonzero: int


@dataclass(frozen=True)
class Spectrum:
    """A layer's singular values and what follows from them. rank : the smallest that keeps `energy`.

    random : the singular values of a matrix of random numbers of the same shape and variance, with their cumulative
        energy and the rank for `energy`
    """

    name: str
    shape: tuple[int, ...]
    matrix_shape: tuple[int, int]
    singular_values: tuple[float, ...]
    cumulative_energy: tuple[float, ...]
    energy: float
    rank: int
    share: float
    break_even_rank: int
    condition_number: float | None
    stable_rank: float
    effective_rank: float
    random: tuple[float, ...]
    random_energy: tuple[float, ...]
    random_rank: int

    @property
    def full_rank(self) -> int:
        return min(self.matrix_shape)

    @property
    def saves(self) -> bool:
        """Whether two factors of this rank hold fewer numbers than the matrix."""
        return self.rank <= self.break_even_rank

    def saving(self, rank: int) -> float:
        """1 - r (m + n) / (m n): share of the layer's numbers that two factors of rank r save; may be negative."""
        m, n = self.matrix_shape
        return 1 - self.numbers(rank) / (m * n)

    def numbers(self, rank: int) -> int:
        """r (m + n): what two factors of rank r hold."""
        return rank * sum(self.matrix_shape)


def first_layer(spectra: Sequence[Spectrum]) -> Spectrum:
    """The layer that is shown before somebody has chosen one: the middle one of those with most singular values."""
    most = max(layer.full_rank for layer in spectra)
    widest = [layer for layer in spectra if layer.full_rank == most]
    return widest[len(widest) // 2]


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """weight, near : float32, of the layer's shape; error : ||W - W_r|| / ||W||.

    picture : height and width of a row or filter that sees grey pixels; None where the layer sees none
    """

    weight: NDArray[np.float32]
    near: NDArray[np.float32]
    error: float
    picture: tuple[int, int] | None

    def pictures(self, count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """The first rows or filters of both that see pixels, uint8, grey where 0; nothing where a layer sees none."""
        if self.picture is None:
            return []
        pairs = []
        for row, near in zip(self.weight[:count], self.near[:count], strict=True):
            largest = float(np.abs(row).max()) or 1.0
            before, after = (np.clip(127.5 + 127.5 * part / largest, 0, 255).astype(np.uint8) for part in (row, near))
            pairs.append((before.reshape(self.picture), after.reshape(self.picture)))
        return pairs


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A stored tensor as a matrix, before pruning and quantization and after. kept : bool, where not pruned."""

    name: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class ExportVerdict(Verdict):
    """baseline_accuracy : on the test images, a fraction
    sizes : bytes of the network by way of counting, and of each file, by its path
    """

    baseline_accuracy: float
    sizes: dict[str, float]


@dataclass(frozen=True)
class Export:
    """folder : with all its files; verdict : what `Exports.export` returned."""

    folder: Path
    verdict: ExportVerdict

    def content(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def bundle(self) -> bytes:
        """All of it as one zip file."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
            for path in sorted(self.folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    made.write(path, f"compressed-network/{path.name}")
        return buffer.getvalue()


@dataclass(frozen=True)
class Kept:
    """What is never evicted: baselines, and what was trained, searched for or pinned. bytes : of `limit`

    kinds : kind of entry -> how many, and bytes; the largest first
    """

    limit: int
    kinds: Mapping[str, tuple[int, int]]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.kinds.values())

    @property
    def share(self) -> float:
        return self.bytes / self.limit if self.limit else 1.0
