"""The network drawn as data flows through it: each layer as thick as its bytes, before compression and now, with the
ways that lead around layers, and where they meet again. A layer can be chosen by a click.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd
import streamlit as st

from core.document import steps
from core.palette import BASELINE, NAMED_KINDS, NEUTRAL
from core.report import tables, ways
from core.report.ways import NAMED, WIDTH
from core.words import kilobytes, one_line, percent
from pages.choice import state
from pages.shown import charts

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.bench.workbench import LayerRow, Result

HEIGHT = 210

NARROW = "width < 420"
"""A phone, as Vega says it: there the words are smaller, sizes take two lines, and settings stand in the tooltip."""


def network(result: Result, key: str, chosen: Callable[[str], None]) -> None:
    """Grey: a layer's float32 bytes. In front of it: its bytes in the file, by what they hold.

    key : of the chart; chosen : told the layer that was clicked
    """
    slabs, graph = tables.network(result), state.workbench().profile(result.baseline_id).network
    kinds = tuple(kind for kind in NAMED_KINDS if kind in set(slabs["kind"]))
    about = "; ".join(f"{one_line(row.name)} {_now(row)}" for row in result.layers)
    ink = charts.INK.get(st.context.theme.type or "light", NEUTRAL)
    places, thickest = ways.places(graph), float(slabs["high"].max())
    times = {layer.name: layer.places for layer in graph.layers}
    rows = pd.concat([_in_words(slabs, result, places, times), ways.ways(graph, places, thickest)])
    chart = _network(ways.end(places), thickest, kinds, ink, len(result.layers) <= NAMED)
    st.vega_lite_chart(
        rows, chart, alt=f"The network by bytes: {about}", width="stretch", key=key, selection_mode="node",
        on_select=lambda: _tell(key, chosen),
    )  # fmt: skip


def _tell(key: str, chosen: Callable[[str], None]) -> None:
    picked = st.session_state[key]["selection"].get("node", [])
    if picked and picked[0].get("name"):
        chosen(picked[0]["name"])


def _in_words(slabs: pd.DataFrame, result: Result, places: dict[str, float], times: dict[str, int]) -> pd.DataFrame:
    """The slabs with where each stands, the words above and below its layer, and what the layer is now.

    times : by layer, how often each of its weights is multiplied for an image
    """
    named = len(result.layers) <= NAMED
    words = {
        row.name: {
            "layer": one_line(row.name),
            "name": row.name,
            "left": places[row.name],
            "right": places[row.name] + WIDTH,
            "middle": places[row.name] + WIDTH / 2,
            "top": slabs["high"].max(),
            "above": f"{one_line(row.name)}\n{' × '.join(map(str, row.shape))}" if named else one_line(row.name),
            "below": _now(row),
            "setting": _setting(row),
            "shape": _shape(row),
            "weights": row.weights,
            "MACs": row.weights * times[row.name],
        }
        for row in result.layers
    }
    return pd.DataFrame([slab | words[slab["layer"]] for slab in slabs.to_dict("records")])


def _now(row: LayerRow) -> str:
    return f"{kilobytes(tables.float32_bytes(row))} → {kilobytes(row.bytes)}"


def _shape(row: LayerRow) -> str:
    """Of its weight as it is now, or of its two factors."""
    m, n = steps.matrix_shape(row)
    if row.rank:
        return f"{m} × {row.rank} and {row.rank} × {n}"
    kernel = row.shape[2:]
    return " × ".join(map(str, (m, n // prod(kernel), *kernel)))


def _setting(row: LayerRow) -> str:
    """What was done to the layer, as short as a drawing needs it."""
    parts = [f"{row.channels} of {row.shape[0]} channels"] if row.channels < row.shape[0] else []
    parts += [f"rank {row.rank} of {row.full_rank}"] if row.rank else []
    parts += [f"{percent(row.zeros / row.weights, 0)} zeros"] if row.zeros else []
    parts += [steps.width(row)] if row.bits < 32 else []
    return ", ".join(parts) or "as trained"


@st.cache_data(show_spinner=False)
def _network(end: float, thickest: float, kinds: tuple[str, ...], ink: str, named: bool) -> dict[str, Any]:
    scale = alt.Scale(domain=[-0.35, end + 0.1], nice=False)
    y = alt.Scale(domain=[-1.5 * thickest, 1.5 * thickest], nice=False)
    left, low = alt.X("left:Q", scale=scale, axis=None), alt.Y("low:Q", scale=y, axis=None)
    zero = alt.Y("zero:Q", scale=y, axis=None)
    told = [
        "layer:N", "kind:N", alt.Tooltip("bytes:Q", format=","), alt.Tooltip("below:N", title="float32, file"),
        alt.Tooltip("setting:N", title="now"), "shape:N", alt.Tooltip("weights:Q", format=","),
        alt.Tooltip("MACs:Q", title="MACs for an image", format=","),
    ]  # fmt: skip
    base = alt.Chart().encode(x=left, x2="right:Q", y=low, y2="high:Q", tooltip=told)
    whole = "datum.kind == '' && isValid(datum.left)"
    flow = (
        alt.Chart()
        .transform_filter(whole)
        .transform_aggregate(first="min(left)", last="max(right)")
        .transform_calculate(begin="datum.first - 0.2", end="datum.last + 0.2", zero="0")
        .mark_rule(color=NEUTRAL, strokeWidth=1.5, strokeDash=[2, 3])
        .encode(x=alt.X("begin:Q", scale=scale, axis=None), x2="end:Q", y=zero)
    )
    around = alt.Chart().transform_filter("datum.kind == 'way'").mark_line(color=NEUTRAL, strokeWidth=1.5)
    around = around.encode(x=left, y=low, detail="way:N", order="left:Q")
    node = alt.selection_point(name="node", fields=["name"], on="click", toggle=False, empty=False)
    before = base.transform_filter(whole).mark_rect(
        color=BASELINE, opacity=0.28, stroke=BASELINE, strokeWidth=1, cornerRadius=3, cursor="pointer"
    )
    colours = alt.Scale(domain=list(kinds), range=[NAMED_KINDS[kind] for kind in kinds])
    colour = alt.Color("kind:N", scale=colours, legend=alt.Legend(columns=6, symbolLimit=0, symbolType="square"))
    held = "isValid(datum.name) && datum.kind != ''"
    most = alt.Chart().transform_filter(held).transform_joinaggregate(most="max(bytes)", groupby=["name"])
    least = most.transform_filter("datum.bytes == datum.most").transform_calculate(zero="0")
    least = least.mark_rule(strokeWidth=1.5).encode(x=left, x2="right:Q", y=zero, color=colour)
    now = base.transform_filter(held).mark_rect(cursor="pointer").encode(color=colour)
    chart = alt.layer(flow, around, before, least, now, *_words(scale, y, ink, named)).properties(height=HEIGHT)
    return charts.described(chart.add_params(node))


def _words(x: alt.Scale, y: alt.Scale, ink: str, named: bool) -> list[alt.Chart]:
    """What stands above and beneath the layers; of many layers their names alone, aslant."""
    layers = alt.Chart().transform_filter("datum.kind == '' && isValid(datum.left)")
    layers = layers.transform_calculate(
        below=f"{NARROW} ? replace(datum.below, ' → ', '\\n→ ') : datum.below", setting=f"{NARROW} ? '' : datum.setting"
    )
    middle = alt.X("middle:Q", scale=x, axis=None)
    joins = alt.Chart().transform_filter("datum.kind == 'join'")
    signs = joins.mark_text(fontSize=18, fontWeight="bold", color=ink).encode(
        x=middle, y=alt.Y("low:Q", scale=y, axis=None), text="above:N"
    )
    above: dict[str, Any] = {"dy": -25, "lineBreak": "\n", "lineHeight": 15}  # it goes on downwards
    above = above if named else {"dy": -6, "dx": 2, "angle": 330, "align": "left"}
    size = alt.ExprRef(f"{NARROW} ? 10 : 13")
    above |= {"fontSize": size, "fontWeight": "bold" if named else "normal"}
    lines = [("high" if named else "top", "above", above)]
    if named:
        sizes = {"dy": 12, "fontSize": size, "lineBreak": "\n", "lineHeight": 12}
        lines += [("low", "below", sizes), ("low", "setting", {"dy": 27, "fontSize": 11})]
    texts = [
        layers.mark_text(color=ink, **style).encode(
            x=middle, y=alt.Y(f"{side}:Q", scale=y, axis=None), text=f"{field}:N"
        )
        for side, field, style in lines
    ]
    return [*texts, signs]
