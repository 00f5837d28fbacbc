"""Pictures of low rank: spectra, energies, what a rank costs and saves."""

import altair as alt
import numpy as np
import pandas as pd

from core.palette import BASELINE, CURRENT, GAINED, LOST, NEUTRAL, PINNED
from core.words import percent
from pages.shown.charts import FONT, PERCENT, TENTHS, share_tooltip, shares

SPECTRA = {"weight (SVD)": CURRENT, "output (data-aware)": GAINED, "random matrix": BASELINE}
"""Kinds of spectra and their colours; others are those of another baseline."""

OTHER_NETWORK = "#CC79A7"


def _spectra_colour(kinds: list[str]) -> alt.Color:
    colours = [SPECTRA.get(kind, OTHER_NETWORK) for kind in kinds]
    return alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=alt.Legend(columns=2))


def singular_values(values: pd.DataFrame, rank: int, break_even: int) -> alt.LayerChart:
    """sigma_i on a logarithmic axis, with the chosen rank and break-even. Columns i, sigma, kind."""
    positive, full = values[values["sigma"] > 0], int(values["i"].max())
    kinds = list(dict.fromkeys(positive["kind"]))
    line = (
        alt.Chart(positive)
        .mark_line(strokeWidth=2.5, point=full < 80)
        .encode(
            x=alt.X("i:Q", title="index i", scale=alt.Scale(domain=[0, full])),
            y=alt.Y("sigma:Q", title="singular value σᵢ (log)", scale=alt.Scale(type="log", nice=False, padding=12)),
            color=_spectra_colour(kinds),
            strokeDash=alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds)),
            tooltip=["kind", "i", alt.Tooltip("sigma:Q", format=".4g", title="σ")],
        )
    )
    return alt.layer(line, *_rank_rules(rank, break_even, full, _free_height(positive, rank))).properties(height=340)


def _free_height(values: pd.DataFrame, rank: int) -> int:
    """Pixels from the top of a chart of 340 where no curve is near this rank: below the curves where they are high."""
    logs = np.log(values["sigma"].astype(float))
    near = logs[(values["i"] - rank).abs() <= max(1.0, 0.1 * values["i"].max())]
    least, most = float(logs.min()), float(logs.max())
    high = len(near) > 0 and most > least and (float(near.max()) - least) / (most - least) > 0.75
    return 150 if high else 14


def cumulative_energy(values: pd.DataFrame, energy: float, rank: int, break_even: int) -> alt.LayerChart:
    """Energy of rank r, on the ground where r saves (green) and where it does not (red). Columns i, energy, kind."""
    full, kinds = int(values["i"].max()), list(dict.fromkeys(values["kind"]))
    edge = min(break_even, full)
    ground = []
    for start, end, colour, words in ((0, edge, GAINED, "saves"), (edge, full, LOST, "does not save")):
        zone = alt.Chart(pd.DataFrame({"start": [start], "end": [end], "middle": [(start + end) / 2]}))
        ground.append(zone.mark_rect(opacity=0.16, color=colour).encode(x="start:Q", x2="end:Q"))
        if end - start > 0.2 * full:
            words_at = zone.mark_text(color=colour, fontSize=FONT - 1, baseline="bottom")
            ground.append(words_at.encode(x="middle:Q", y=alt.datum(0.02), text=alt.value(words)))
    line = (
        shares(alt.Chart(values), energy=2)
        .mark_line(strokeWidth=2.5, point=full < 80)
        .encode(
            x=alt.X("i:Q", title="rank r", scale=alt.Scale(domain=[0, full])),
            y=alt.Y("energy:Q", title="energy kept", axis=alt.Axis(labelExpr=PERCENT), scale=alt.Scale(domain=[0, 1])),
            color=_spectra_colour(kinds),
            strokeDash=alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds)),
            tooltip=["kind", alt.Tooltip("i:Q", title="rank"), share_tooltip("energy")],
        )
    )
    wanted = alt.Chart(pd.DataFrame({"energy": [energy]})).encode(y="energy:Q")
    level = wanted.mark_rule(color=PINNED, strokeWidth=2)
    words = wanted.mark_text(color=PINNED, align="right", baseline="top", dx=-4, dy=4, fontSize=FONT - 1)
    named = words.encode(x=alt.value("width"), text=alt.value(percent(energy, 1)))
    return alt.layer(*ground, line, level, named, *_rank_rules(rank, break_even, full, 105)).properties(height=340)


def energy_of_layer(values: pd.DataFrame, energy: float) -> alt.LayerChart:
    """Energy by share of the rank. Columns layer, share, energy; break_even as a share."""
    line = (
        shares(alt.Chart(values), share=1, energy=2)
        .mark_line(color=CURRENT, strokeWidth=2.5)
        .encode(
            x=alt.X("share:Q", title="rank r / full rank", axis=alt.Axis(labelExpr=PERCENT, tickCount=3)).scale(
                domain=[0, 1]
            ),
            y=alt.Y("energy:Q", title="energy kept", axis=alt.Axis(labelExpr=PERCENT, tickCount=3)).scale(
                domain=[0, 1]
            ),
            tooltip=["layer", share_tooltip("share"), share_tooltip("energy")],
        )
    )
    level = alt.Chart(values).mark_rule(color=PINNED).encode(y=alt.datum(energy))
    edge = alt.Chart(values).mark_rule(color=NEUTRAL, strokeDash=[5, 4]).encode(x="max(break_even):Q")
    return alt.layer(line, level, edge)


def _rank_rules(rank: int, break_even: int, full: int, top: int) -> tuple[alt.Chart, ...]:
    """Two dashed lines with their names, each on the side that is away from the other line, where there is room."""
    rules = []
    for row, (i, other, words, colour) in enumerate(
        ((rank, break_even, "rank", PINNED), (break_even, rank, "break-even", NEUTRAL))
    ):
        place = alt.Chart(pd.DataFrame({"i": [i]})).encode(x="i:Q")
        rules.append(place.mark_rule(color=colour, strokeDash=[5, 4], strokeWidth=2))
        left = (i <= other and i > 0.25 * full) or i > 0.75 * full
        name = place.mark_text(
            color=colour, align="right" if left else "left", dx=-6 if left else 6, fontSize=FONT - 1, fontWeight="bold"
        )
        rules.append(name.encode(y=alt.value(top + 18 * row), text=alt.value(f"{words} {i}")))
    return tuple(rules)


def accuracy_against_ratio(rows: pd.DataFrame) -> alt.LayerChart:
    """Accuracy by compression ratio, before and after fine-tuning, ours and published. Columns ratio, accuracy, low,
    high, what, scenario."""
    kinds = {
        "before": BASELINE, "after": CURRENT, "published, before": "#CC79A7", "published, after": PINNED
    }  # fmt: skip
    order = [kind for kind in dict.fromkeys([*kinds, *rows["what"]]) if kind in set(rows["what"])]
    colours = [kinds.get(kind, CURRENT) for kind in order]
    base = shares(alt.Chart(rows), accuracy=2).encode(
        x=alt.X("ratio:Q", title="compression ratio, baseline bytes / file bytes", scale=alt.Scale(zero=False)),
        color=alt.Color("what:N", scale=alt.Scale(domain=order, range=colours)).legend(columns=2),
        tooltip=["scenario", "what", share_tooltip("accuracy"), alt.Tooltip("ratio:Q", format=".2f")],
    )
    y = alt.Y("accuracy:Q", title="accuracy, test", axis=alt.Axis(labelExpr=TENTHS), scale=alt.Scale(zero=False))
    spans = base.mark_rule(strokeWidth=2).encode(y=y, y2="high:Q").transform_calculate(accuracy="datum.low")
    points = base.mark_point(filled=True, size=110, opacity=0.9).encode(
        y=y, shape=alt.Shape("what:N", scale=alt.Scale(domain=order))
    )
    return alt.layer(spans, points).properties(height=380)


def conditions(rows: pd.DataFrame) -> alt.LayerChart:
    """Loss of factoring a layer alone by its condition number. Columns network, name, rank, condition_number,
    loss."""
    base = shares(alt.Chart(rows), loss=2).encode(
        x=alt.X("condition_number:Q", title="condition number σ_max / σ_min (log)", scale=alt.Scale(type="log")),
        color=alt.Color("network:N", scale=alt.Scale(range=[CURRENT, PINNED, GAINED])),
        tooltip=["name", alt.Tooltip("condition_number:Q", format=",.3g"), share_tooltip("loss"), "rank"],
    )
    y = alt.Y("loss:Q", title="accuracy lost", axis=alt.Axis(labelExpr=PERCENT))
    points = base.mark_point(filled=True, size=110).encode(y=y, shape="network:N")
    names = base.mark_text(align="left", dx=9, dy=-6, fontSize=FONT - 2).encode(y=y, text="name:N")
    return alt.layer(points, names).properties(height=380)
