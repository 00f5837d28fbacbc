"""The network drawn as data flows through it: each layer as thick as its bytes, grey before, coloured now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.palette import BASELINE, NAMED_KINDS
from core.report.plots import Picture, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 5
"""Layers in a line."""

WIDTH = 0.72
"""Of a layer, where the next begins at 1."""


def network(name: str, slabs: pd.DataFrame, words: Mapping[str, tuple[str, str]]) -> Picture:
    """Data flows from left to right; a line of the drawing goes on in the next.

    slabs : as `tables.network` has them; words : by layer, above it and below it
    """
    layers = [slabs[slabs["layer"] == layer] for layer in words]
    lines = [layers[start : start + ACROSS] for start in range(0, len(layers), ACROSS)]
    thickest = slabs["high"].max()

    def draw(figure: "Figure") -> None:
        for ax, line in zip(figure.subplots(len(lines), squeeze=False).ravel(), lines, strict=True):
            ax.set(xlim=(-0.25, max(map(len, lines)) - 0.05), ylim=(-1.75 * thickest, 1.45 * thickest))
            ax.set_axis_off()
            ax.axhline(0, color=BASELINE, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            for place, layer in enumerate(line):
                _layer(ax, place + WIDTH / 2, layer, words[layer["layer"].iloc[0]])
        kinds = [kind for kind in NAMED_KINDS if kind in set(slabs["kind"])]
        patches = [_patch("float32, before", BASELINE, 0.3), *(_patch(kind, NAMED_KINDS[kind]) for kind in kinds)]
        figure.legend(handles=patches, loc="outside upper left", ncols=4)

    return picture(name, 3.0 * len(lines) + 0.4, draw)


def _layer(ax: "Axes", middle: float, slabs: pd.DataFrame, words: tuple[str, str]) -> None:
    before, now = slabs[slabs["kind"] == ""], slabs[slabs["kind"] != ""]
    ax.bar(middle, before["high"] - before["low"], WIDTH, before["low"], color=BASELINE, alpha=0.3,
           edgecolor=BASELINE, linewidth=0.8)  # fmt: skip
    for slab in now.itertuples():
        edge = 0.6 * (slab.bytes == now["bytes"].max())  # the thinnest layer is still a line
        colour = NAMED_KINDS[slab.kind]
        ax.bar(middle, slab.high - slab.low, WIDTH, slab.low, color=colour, edgecolor=colour, linewidth=edge)
    top = slabs["high"].max()
    style: dict[str, Any] = {"ha": "center", "textcoords": "offset points", "annotation_clip": False}
    ax.annotate(words[0], (middle, top), (0, 4), va="bottom", fontsize=9.5, **style)
    ax.annotate(words[1], (middle, -top), (0, -5), va="top", fontsize=9, **style)


def _patch(label: str, colour: str, alpha: float = 1.0) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=alpha, label=label)
