"""The charts of a report, each as an SVG element for a page and as a PNG file; of the same data the same bytes.

matplotlib is loaded when the first chart is drawn.
"""

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.formats.footprint import COUNTED, KB
from core.palette import BASELINE, CURRENT, GAINED, LOST, NAMED_KINDS, PINNED
from core.report import tables
from core.words import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ON_PICTURE = "#1b2733", "#1b2734"
"""Of letters on the page, which an SVG takes from the page around it, and of those on a picture, which stay dark."""

CLASS, NUMBERED = 0.2, 30
"""Height of a class in a chart of classes, in inches at least; so many of them leave room for numbers."""

FAR_BELOW = 12
"""Points of accuracy that a chart by bits shows below the baseline."""

FAMILIES = "DejaVu Sans", "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "IPAGothic"
"""Of letters; the others, where they are installed, have what the first lacks, as the Japanese of KMNIST's classes."""

WIDTH = 7.2
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "image.interpolation": "none",
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": INK for part in ("edge", "label", "title")},
}
_ONE_AT_A_TIME = threading.Lock()  # matplotlib's settings and fonts are one for all threads


class Picture(NamedTuple):
    """svg : an element to stand in a page; png : on white."""

    svg: str
    png: bytes


def picture(name: str, height: float, draw: Callable[["Figure"], None]) -> Picture:
    """What `draw` puts on an empty figure, `height` inches high. name : of no other figure on its page."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    families = [family for family in FAMILIES if family in fontManager.get_font_names()]
    svg, png = io.StringIO(), io.BytesIO()
    with _ONE_AT_A_TIME, matplotlib.rc_context({**STYLE, "font.family": families, "svg.hashsalt": name}):
        figure = Figure((WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Picture(_element(svg.getvalue(), name), png.getvalue())


def _element(svg: str, name: str) -> str:
    """The `<svg>` element alone: no links to what defines it, names of parts its own, letters as dark as the page's."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    svg = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head) + ">" + rest
    for before in (' id="', "url(#", 'href="#'):
        svg = svg.replace(before, f"{before}{name}-")
    return svg.replace(INK, "currentColor").strip()


def training_curves(name: str, history: Sequence[Mapping[str, Any]]) -> Picture:
    """Loss and accuracy by epoch, training and validation; the share of zeros, where they came while training."""
    epochs, curves = [epoch["epoch"] for epoch in history], tables.curves(history)
    panels = [("loss", "loss", 1.0), ("accuracy", "accuracy (%)", 100.0)]
    gradual = "sparsity" in history[0]

    def draw(figure: "Figure") -> None:
        axes = np.atleast_1d(figure.subplots(1, len(panels) + gradual))
        for ax, (kind, label, factor) in zip(axes, panels, strict=False):
            for who, colour, line in (("training", BASELINE, "--"), ("validation", CURRENT, "-")):
                curve = curves[(curves["figure"] == kind) & (curves["images"] == who)]
                ax.plot(curve["epoch"], factor * curve["value"], line, color=colour, label=who, marker="o", ms=3)
            ax.set_ylabel(label)
        if gradual:
            axes[-1].plot(epochs, [100 * epoch["sparsity"] for epoch in history], color=CURRENT, marker="o", ms=3)
            axes[-1].set_ylabel("sparsity (%)")
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            if len(epochs) == 1:
                ax.set_xticks(epochs)
        axes[0].legend()

    return picture(name, 2.7, draw)


def ledger(name: str, entries: pd.DataFrame) -> Picture:
    """The file's bytes: a bar per layer, its kinds of bytes side by side in it."""
    kinds, layers = entries.pivot_table("KB", "kind", "layer", "sum", fill_value=0.0), list(entries["layer"].unique())

    def draw(figure: "Figure") -> None:
        ax, left = figure.subplots(), np.zeros(len(layers))
        for kind in (kind for kind in NAMED_KINDS if kind in kinds.index):
            sums = kinds.loc[kind, layers].to_numpy()
            ax.barh(layers, sums, left=left, color=NAMED_KINDS[kind], label=kind)
            left += sums
        for place, total in enumerate(left):
            ax.text(total, place, f" {total:,.1f}", va="center")
        ax.invert_yaxis()
        ax.set_xlabel("KB in the file")
        ax.margins(x=0.1)
        figure.legend(loc="outside upper left", ncols=4)

    return picture(name, 1.4 + 0.3 * len(layers), draw)


def sizes(name: str, ways: Mapping[str, float]) -> Picture:
    """Bytes in all the ways that people count them, a point each: a logarithmic axis has no zero for bars."""
    from matplotlib.ticker import LogLocator

    def draw(figure: "Figure") -> None:
        ax, kilobytes = figure.subplots(), [size / KB for size in ways.values()]
        ax.scatter(kilobytes, list(ways), color=[BASELINE if way in COUNTED else CURRENT for way in ways])
        for place, size in enumerate(kilobytes):
            ax.annotate(f"{size:,.1f}", (size, place), (8, 0), textcoords="offset points", va="center")
        ax.margins(y=0.2)
        ax.invert_yaxis()
        ax.set_xlabel("KB (logarithmic)")
        ax.set_xscale("log", subs=())
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:,g}")
        ax.set_xlim(right=6 * max(kilobytes))

    return picture(name, 0.8 + 0.3 * len(ways), draw)


def recall(name: str, changes: pd.DataFrame) -> Picture:
    """Recall of each class before and after, joined by a line in the colour of what happened."""

    def draw(figure: "Figure") -> None:
        ax, places = figure.subplots(), np.arange(len(changes))
        before, after = (100 * changes[column].to_numpy() for column in ("before", "after"))
        ax.hlines(places, before, after, color=np.where(after < before, LOST, GAINED), linewidth=2, zorder=1)
        ax.scatter(before, places, color=BASELINE, label="baseline")
        ax.scatter(after, places, color=CURRENT, label="compressed", zorder=3)
        ax.set_yticks(places, changes["class"])
        ax.invert_yaxis()
        ax.grid(axis="x", color=BASELINE, alpha=0.3)
        ax.set_xlabel("recall (%)")
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, max(3.4, CLASS * len(changes)), draw)


def confusion(name: str, counts: pd.DataFrame) -> Picture:
    """Counts: true classes down, predicted ones across; the shade is by the root, so that mistakes show, too."""

    def draw(figure: "Figure") -> None:
        ax, values = figure.subplots(), counts.to_numpy()
        shades = np.sqrt(values / max(1, values.max()))
        ax.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(values):
            if count and len(counts) <= NUMBERED:
                colour = "#ffffff" if shades[row, column] > 0.6 else ON_PICTURE
                ax.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
        ax.set_xticks(range(len(counts)), list(counts.columns), rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(counts)), list(counts.index))
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")

    return picture(name, max(4.6, CLASS * len(counts)), draw)


def flips(name: str, table: pd.DataFrame, images: NDArray[np.uint8], across: int = 6) -> Picture:
    """Pictures of the images of `table`, one each: the true class above, what was predicted before and after below."""
    down = -(-len(table) // across)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for ax, image, row in zip(axes, images, table.to_dict("records"), strict=False):
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=255, aspect="auto" if len(image) == 1 else "equal")
            ax.set_title(row["true"], fontsize=9)
            words = [f"{row[when]} {percent(row[f'{when}_confidence'], 0)}" for when in ("before", "after")]
            colour = {"lost": LOST, "gained": GAINED}.get(row["outcome"], BASELINE)
            ax.set_xlabel(f"{words[0]}\n→ {words[1]}\n{row['outcome']}", fontsize=8)
            for spine in ax.spines.values():
                spine.set(visible=True, color=colour, linewidth=2)
            ax.set(xticks=[], yticks=[])
        for ax in axes[len(table) :]:
            ax.set_axis_off()

    return picture(name, 2.0 * down, draw)


def bits(name: str, rows: pd.DataFrame, baseline: float) -> Picture:
    """Accuracy by bits, one line per time; what lies far below is named at the edge. Columns bits, when, accuracy."""
    floor = 100 * baseline - FAR_BELOW

    def draw(figure: "Figure") -> None:
        ax = figure.subplots()
        words: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 8, "ha": "right"}
        styles = zip((BASELINE, PINNED, CURRENT), ("x--", "s-.", "o-"), strict=True)
        for (when, line), (colour, mark) in zip(rows.groupby("when", sort=False), styles, strict=True):
            accuracies = 100 * line["accuracy"]
            ax.plot(line["bits"].astype(str), accuracies, mark, color=colour, label=when, markersize=5)
            for place, accuracy in enumerate(accuracies):
                if accuracy < floor:
                    ax.annotate(f"↓ {accuracy:.1f}", (place, floor), color=INK, **words)
        ax.axhline(100 * baseline, color=INK, linewidth=0.8, linestyle=":", label="float32")
        ax.set_ylim(max(floor, ax.get_ylim()[0]), 100 * baseline + 2)
        ax.set_xlabel("bits of weights and activations")
        ax.set_ylabel("accuracy on test (%)")
        ax.grid(axis="y", color=BASELINE, alpha=0.3)
        figure.legend(loc="outside upper left", ncols=4)

    return picture(name, 2.9, draw)


def zeros(name: str, rows: pd.DataFrame) -> Picture:
    """Share of zeros in each layer, a bar per way of pruning. Columns layer, way, sparsity."""
    layers, ways = rows["layer"].unique(), rows["way"].unique()

    def draw(figure: "Figure") -> None:
        ax, places = figure.subplots(), np.arange(len(layers))
        thick = 0.8 / len(ways)
        for number, (way, layer) in enumerate(rows.groupby("way", sort=False)):
            where = places + (number - (len(ways) - 1) / 2) * thick
            colour, hatch = ((BASELINE, ""), (CURRENT, ""), (PINNED, "//"))[number % 3]
            shares = 100 * layer["sparsity"]
            drawn = ax.barh(where, shares, thick, color=colour, label=way, hatch=hatch)
            ax.bar_label(drawn, [f"{share:.1f}" for share in shares], padding=2, fontsize=7.5)
        ax.set_yticks(places, layers)
        ax.invert_yaxis()
        ax.set_xlim(0, 112)
        ax.set_xticks(range(0, 101, 20))
        ax.set_xlabel("sparsity of the layer (%)")
        figure.legend(loc="outside upper left", ncols=3)

    return picture(name, 1.1 + 0.2 * len(ways) * len(layers), draw)
