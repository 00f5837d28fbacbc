"""The steps by which a configuration changes a network, in words, formulas and tables: each technique says its own.

Only what follows from the configuration in closed form, and the layers as they were counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core import words
from core.document.blocks import Block
from core.settings import FLOAT_BITS

if TYPE_CHECKING:
    from core.bench.workbench import LayerRow
    from core.config import CompressionConfig


@dataclass(frozen=True)
class Subject:
    """What the steps were done to. rows : the layers as they are now; energy : kept, by factored layer, in [0, 1];
    temperature : of a distillation; mirrored : whether images are in training; calibration_images : how many
    learned : whether a training learned the steps of the grids."""

    config: CompressionConfig
    model: str
    rows: tuple[LayerRow, ...]
    energy: Mapping[str, float]
    temperature: float
    mirrored: bool
    calibration_images: int
    learned: bool


@dataclass(frozen=True)
class Step:
    """phrase : for a list of steps in a sentence; blocks : under the heading of the step."""

    phrase: str
    heading: str
    blocks: tuple[Block, ...]


def percent(share: float) -> str:
    """What was counted."""
    return words.percent(share, 2)


def share_of(share: float) -> str:
    """What was asked for: 70 %, 97.5 %."""
    return words.percent(round(share, 4))


def width(row: LayerRow) -> str:
    """How a layer's weights are kept, in words."""
    if row.centroids:
        return f"{row.centroids} shared values"
    return "float32" if row.bits == FLOAT_BITS else f"{row.bits} bits"


def widths(rows: tuple[LayerRow, ...]) -> str:
    """The same of all layers."""
    said = {row.name: width(row) for row in rows}
    if len(set(said.values())) == 1:
        return said[rows[0].name]
    return ", ".join(f"{name} {width}" for name, width in said.items())


def quantizes(rows: tuple[LayerRow, ...]) -> bool:
    """Whether weights of one of these layers lie on a grid."""
    return any(row.bits != FLOAT_BITS and not row.centroids for row in rows)


def matrix_shape(row: LayerRow) -> tuple[int, int]:
    """(m, n) of a layer as it is now, from what it stores: m n weights, or r (m + n) in two factors."""
    return row.channels, row.weights // row.channels if row.rank is None else row.weights // row.rank - row.channels


def scope_in_words(config: CompressionConfig) -> str:
    return "globally, by one threshold" if config.scope == "network" else "layer-wise, the same share in each"
