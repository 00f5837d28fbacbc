"""The network drawn as data flows through it: each layer as thick as its bytes, before compression and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd
import streamlit as st

from core.palette import BASELINE, CURRENT, NAMED_KINDS, NEUTRAL
from core.report import tables
from core.words import kilobytes, percent, plain
from pages.shown import charts

if TYPE_CHECKING:
    from core.bench.workbench import LayerRow, Result

WIDTH = 0.76
"""Of a layer, where the next begins at 1."""
HEIGHT = 210


def network(result: Result) -> None:
    """Grey: a layer's float32 bytes. In front of it: its bytes in the file, by what they hold."""
    slabs = tables.network(result)
    kinds = tuple(kind for kind in NAMED_KINDS if kind in set(slabs["kind"]))
    about = "; ".join(f"{plain(row.name)} {_now(row)}" for row in result.layers)
    ink = charts.INK.get(st.context.theme.type or "light", NEUTRAL)
    chart = _network(len(result.layers), float(slabs["high"].max()), kinds, ink)
    charts.draw_again(_in_words(slabs, result), chart, f"The network by bytes: {about}")


def _in_words(slabs: pd.DataFrame, result: Result) -> pd.DataFrame:
    """The slabs with where each stands, and the words above and below its layer."""
    words = [
        {
            "layer": row.name,
            "left": place,
            "right": place + WIDTH,
            "middle": place + WIDTH / 2,
            "above": f"{plain(row.name)}  {' × '.join(map(str, row.shape))}",
            "below": _now(row),
            "setting": _setting(row),
        }
        for place, row in enumerate(result.layers)
    ]
    shown = slabs.merge(pd.DataFrame(words), on="layer")
    return shown.assign(layer=shown["layer"].map(plain))


def _now(row: LayerRow) -> str:
    return f"{kilobytes(tables.float32_bytes(row))} → {kilobytes(row.bytes)}"


def _setting(row: LayerRow) -> str:
    """What was done to the layer, as short as a drawing needs it."""
    parts = [f"{row.channels} of {row.shape[0]} channels"] if row.channels < row.shape[0] else []
    parts += [f"rank {row.rank} of {row.full_rank}"] if row.rank else []
    parts += [f"sparsity {percent(row.sparsity, 0)}"] if row.sparsity else []
    parts += [f"{row.bits} bits"] if row.bits < 32 else []
    return ", ".join(parts) or "as trained"


@st.cache_data(show_spinner=False)
def _network(layers: int, thickest: float, kinds: tuple[str, ...], ink: str) -> dict[str, Any]:
    x = alt.Scale(domain=[-0.35, layers + 0.1], nice=False)
    y = alt.Scale(domain=[-1.5 * thickest, 1.5 * thickest], nice=False)
    base = alt.Chart().encode(
        x=alt.X("left:Q", scale=x, axis=None),
        x2="right:Q",
        y=alt.Y("low:Q", scale=y, axis=None),
        y2="high:Q",
        tooltip=["layer:N", "kind:N", alt.Tooltip("bytes:Q", format=",")],
    )
    flow = (
        alt.Chart()
        .transform_aggregate(first="min(left)", last="max(right)")
        .transform_calculate(begin="datum.first - 0.2", end="datum.last + 0.2", zero="0")
        .mark_rule(color=NEUTRAL, strokeWidth=1.5, strokeDash=[2, 3])
        .encode(x=alt.X("begin:Q", scale=x, axis=None), x2="end:Q", y=alt.Y("zero:Q", scale=y, axis=None))
    )
    before = base.transform_filter("datum.kind == ''").mark_rect(
        color=BASELINE, opacity=0.28, stroke=BASELINE, strokeWidth=1, cornerRadius=3
    )
    colours = alt.Scale(domain=list(kinds), range=[NAMED_KINDS[kind] for kind in kinds])
    least = alt.Chart().transform_filter("datum.kind == ''").transform_calculate(zero="0")
    least = least.mark_rule(color=CURRENT, strokeWidth=1.5).encode(
        x=alt.X("left:Q", scale=x, axis=None), x2="right:Q", y=alt.Y("zero:Q", scale=y, axis=None)
    )
    now = base.transform_filter("datum.kind != ''").mark_rect()
    now = now.encode(color=alt.Color("kind:N", scale=colours, legend=alt.Legend(columns=6, symbolLimit=0)))
    labels = alt.Chart().transform_filter("datum.kind == ''")
    words = [
        labels.mark_text(dy=dy, fontSize=size, fontWeight=weight, color=ink).encode(
            x=alt.X("middle:Q", scale=x, axis=None), y=alt.Y(f"{side}:Q", scale=y, axis=None), text=f"{field}:N"
        )
        for side, field, dy, size, weight in (
            ("high", "above", -9, 12, "bold"),
            ("low", "below", 11, 12, "normal"),
            ("low", "setting", 26, 11, "normal"),
        )
    ]
    chart = alt.layer(flow, before, least, now, *words).properties(height=HEIGHT)
    return charts.described(chart)
