"""The network drawn as data flows through it: each layer as thick as its bytes, grey before, coloured now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.palette import BASELINE, NAMED_KINDS
from core.report import ways
from core.report.plots import Picture, picture
from core.report.ways import NAMED, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from core.networks.graph import Network

ACROSS = 5
"""Layers in a line."""


def named(graph: "Network") -> bool:
    """Whether every layer has its figures beside it: there is room for them in the lines of a chain, and in the one
    line of a network with branches where it is short."""
    return not ways.branches(graph) or len(graph.layers) <= NAMED


def network(name: str, graph: "Network", slabs: pd.DataFrame, words: Mapping[str, tuple[str, str]]) -> Picture:
    """Data flows from left to right. A line of a long chain goes on in the next; ways that meet again are drawn whole.

    slabs : as `tables.network` has them; words : by layer, above it and below it
    """
    places = ways.places(graph)
    thickest = float(slabs["high"].max())
    around = ways.ways(graph, places, thickest)
    names, branched, told = list(words), ways.branches(graph), named(graph)
    across = len(names) if branched else ACROSS
    lines = [names[start : start + across] for start in range(0, len(names), across)]
    length = ways.end(places) if branched else min(ways.end(places), ACROSS)

    def draw(figure: "Figure") -> None:
        for ax, line in zip(figure.subplots(len(lines), squeeze=False).ravel(), lines, strict=True):
            ax.set(xlim=(-0.25, length - 0.05), ylim=(-1.75 * thickest, 1.45 * thickest))
            ax.set_axis_off()
            ax.axhline(0, color=BASELINE, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            for layer in line:
                middle = places[layer] - places[line[0]] + WIDTH / 2
                _layer(ax, middle, slabs[slabs["layer"] == layer])
                if told:
                    _figures(ax, middle, slabs[slabs["layer"] == layer]["high"].max(), *words[layer])
                else:  # aslant, all in a line, or they would meet
                    _write(ax, layer, middle, thickest, 4, fontsize=8, rotation=60)
            if branched:
                _around(ax, around)
        kinds = [kind for kind in NAMED_KINDS if kind in set(slabs["kind"])]
        patches = [_patch("float32, before", BASELINE, 0.3), *(_patch(kind, NAMED_KINDS[kind]) for kind in kinds)]
        figure.legend(handles=patches, loc="outside upper left", ncols=4)

    return picture(name, 3.0 * len(lines) + 0.4, draw)


def _around(ax: "Axes", around: pd.DataFrame) -> None:
    """The ways that lead around layers, and the signs where they meet."""
    for _, way in around[around["kind"] == "way"].groupby("way"):
        ax.plot(way["left"], way["low"], color=BASELINE, linewidth=1.2, zorder=0)
    for join in around[around["kind"] == "join"].itertuples():
        ax.text(join.middle, join.low, join.above, ha="center", va="center", fontsize=13, fontweight="bold")


def _layer(ax: "Axes", middle: float, slabs: pd.DataFrame) -> None:
    before, now = slabs[slabs["kind"] == ""], slabs[slabs["kind"] != ""]
    ax.bar(middle, before["high"] - before["low"], WIDTH, before["low"], color=BASELINE, alpha=0.3,
           edgecolor=BASELINE, linewidth=0.8)  # fmt: skip
    for slab in now.itertuples():
        edge = 0.6 * (slab.bytes == now["bytes"].max())  # the thinnest layer is still a line
        colour = NAMED_KINDS[slab.kind]
        ax.bar(middle, slab.high - slab.low, WIDTH, slab.low, color=colour, edgecolor=colour, linewidth=edge)


def _figures(ax: "Axes", middle: float, top: float, above: str, below: str) -> None:
    _write(ax, above, middle, top, 4, fontsize=9.5)
    _write(ax, below, middle, -top, -5, fontsize=9)


def _write(ax: "Axes", text: str, middle: float, at: float, away: int, **style: Any) -> None:
    """Words above or below a layer. away : points from its edge"""
    ax.annotate(
        text, (middle, at), (0, away), ha="center", va="bottom" if away > 0 else "top", textcoords="offset points",
        annotation_clip=False, **style,
    )  # fmt: skip


def _patch(label: str, colour: str, alpha: float = 1.0) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=alpha, label=label)
