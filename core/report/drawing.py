"""The network drawn as data flows through it: each layer as thick as its bytes, grey before, coloured now."""

from typing import TYPE_CHECKING, Any, NamedTuple

from core.formats.footprint import KB
from core.palette import BASELINE, KIND_NAMES, KINDS
from core.report.plots import Picture, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 5
"""Layers in a line."""

WIDTH = 0.72
"""Of a layer, where the next begins at 1."""


class Band(NamedTuple):
    """A layer. above : its name and shape; below : its bytes in words, and what was done to it; before : bytes in
    float32; now : bytes in the file, by kind, as `palette.KINDS` has them."""

    above: tuple[str, ...]
    below: tuple[str, ...]
    before: float
    now: dict[str, int]


def network(name: str, bands: list[Band]) -> Picture:
    """Data flows from left to right; a line of the drawing goes on in the next."""
    lines = [bands[start : start + ACROSS] for start in range(0, len(bands), ACROSS)]
    thickest = max(max(band.before, sum(band.now.values())) for band in bands) / KB / 2

    def draw(figure: "Figure") -> None:
        for ax, line in zip(figure.subplots(len(lines), squeeze=False).ravel(), lines, strict=True):
            ax.set(xlim=(-0.25, max(map(len, lines)) - 0.05), ylim=(-1.75 * thickest, 1.45 * thickest))
            ax.set_axis_off()
            ax.axhline(0, color=BASELINE, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            for place, band in enumerate(line):
                _band(ax, place, band)
        kinds = [kind for kind in KINDS if any(kind in band.now for band in bands)]
        patches = [
            _patch("float32, before", BASELINE, 0.3),
            *(_patch(KIND_NAMES.get(kind, kind), KINDS[kind]) for kind in kinds),
        ]
        figure.legend(handles=patches, loc="outside upper left", ncols=4)

    return picture(name, 3.0 * len(lines) + 0.4, draw)


def _band(ax: "Axes", place: int, band: Band) -> None:
    middle, high = place + WIDTH / 2, band.before / KB / 2
    ax.bar(middle, 2 * high, WIDTH, -high, color=BASELINE, alpha=0.3, edgecolor=BASELINE, linewidth=0.8)
    low = -sum(band.now.values()) / KB / 2
    top, most = max(high, -low), max(band.now, key=lambda kind: band.now[kind])  # the thinnest layer is still a line
    for kind in (kind for kind in KINDS if band.now.get(kind)):
        thick = band.now[kind] / KB
        ax.bar(middle, thick, WIDTH, low, color=KINDS[kind], edgecolor=KINDS[kind], linewidth=0.6 * (kind == most))
        low += thick
    words: dict[str, Any] = {"ha": "center", "textcoords": "offset points", "annotation_clip": False}
    ax.annotate("\n".join(band.above), (middle, top), (0, 4), va="bottom", fontsize=9.5, **words)
    ax.annotate("\n".join(band.below), (middle, -top), (0, -5), va="top", fontsize=9, **words)


def _patch(label: str, colour: str, alpha: float = 1.0) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=alpha, label=label)
