"""The network drawn as data flows through it: each layer as thick as its bytes, before compression and now, with the
ways that lead around layers, and where they meet again. A layer can be chosen by a click.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd
import streamlit as st

from core.palette import BASELINE, CURRENT, NAMED_KINDS, NEUTRAL
from core.report import tables
from core.words import kilobytes, percent, plain
from pages.choice import state
from pages.shown import charts

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.bench.workbench import LayerRow, Result
    from core.networks.graph import Network

IMAGE = "image"
"""What the first nodes read."""

WIDTH, JOIN = 0.76, 0.5
"""Of a layer, where the next begins at 1; of the place where ways meet."""

HEIGHT = 210
NAMED = 8
"""Layers whose figures all find room beneath them."""

SIGNS = {"add": "+", "concatenate": "∥"}
"""Of nodes that join several inputs."""


def network(result: Result, key: str, chosen: Callable[[str], None]) -> None:
    """Grey: a layer's float32 bytes. In front of it: its bytes in the file, by what they hold.

    key : of the chart; chosen : told the layer that was clicked
    """
    slabs, graph = tables.network(result), state.workbench().profile(result.baseline_id).network
    kinds = tuple(kind for kind in NAMED_KINDS if kind in set(slabs["kind"]))
    about = "; ".join(f"{plain(row.name)} {_now(row)}" for row in result.layers)
    ink = charts.INK.get(st.context.theme.type or "light", NEUTRAL)
    places, thickest = _places(graph), float(slabs["high"].max())
    rows = pd.concat([_in_words(slabs, result, places), _ways(graph, places, thickest)])
    chart = _network(_end(places), thickest, kinds, ink, len(result.layers) <= NAMED)
    st.vega_lite_chart(
        rows, chart, alt=f"The network by bytes: {about}", width="stretch", key=key, selection_mode="node",
        on_select=lambda: _tell(key, chosen),
    )  # fmt: skip


def _tell(key: str, chosen: Callable[[str], None]) -> None:
    picked = st.session_state[key]["selection"].get("node", [])
    if picked and picked[0].get("name"):
        chosen(picked[0]["name"])


def _places(graph: Network) -> dict[str, float]:
    """Where each layer, and each node at which ways meet, begins from the left."""
    places, x = dict[str, float](), 0.0
    for node in graph.nodes:
        if node.weighted or node.operation in SIGNS:
            places[node.name] = x
            x += 1.0 if node.weighted else JOIN
    return places


def _end(places: dict[str, float]) -> float:
    return max(places.values()) + 1.0


def _ways(graph: Network, places: dict[str, float], thickest: float) -> pd.DataFrame:
    """The signs where ways meet, and the ways that lead around something, as curves below the middle."""
    sources: dict[str, list[str]] = {IMAGE: [IMAGE]}
    rows = []
    order = list(places)
    for node in graph.nodes:
        reads = [name for read in node.inputs for name in sources[read]]
        sources[node.name] = [node.name] if node.name in places else reads
        if node.operation in SIGNS:
            middle = places[node.name] - (1 - WIDTH) + JOIN / 2
            rows.append({"kind": "join", "middle": middle, "above": SIGNS[node.operation], "low": 0.0})
        for source in reads if node.name in places else ():
            before = order.index(node.name) - 1
            if source != (order[before] if before >= 0 else IMAGE):
                rows += _around(source, node.name, graph, places, thickest)
    return pd.DataFrame(rows)


def _around(
    source: str, target: str, graph: Network, places: dict[str, float], thickest: float
) -> list[dict[str, Any]]:
    """A way from one node to another, past those between."""
    begin = -0.25 if source == IMAGE else places[source] + (WIDTH if graph.named[source].weighted else 0.1)
    end = places[target] - (0.05 if graph.named[target].weighted else (1 - WIDTH) - JOIN / 2)
    depth = 1.25 * thickest
    steps = [step / 12 for step in range(13)]
    return [
        {"kind": "way", "way": f"{source} {target}", "left": begin + (end - begin) * t, "low": -4 * t * (1 - t) * depth}
        for t in steps
    ]


def _in_words(slabs: pd.DataFrame, result: Result, places: dict[str, float]) -> pd.DataFrame:
    """The slabs with where each stands, and the words above and below its layer."""
    named = len(result.layers) <= NAMED
    words = [
        {
            "layer": row.name,
            "name": row.name,
            "left": places[row.name],
            "right": places[row.name] + WIDTH,
            "middle": places[row.name] + WIDTH / 2,
            "above": f"{plain(row.name)}  {' × '.join(map(str, row.shape))}" if named else plain(row.name),
            "below": _now(row),
            "setting": _setting(row),
        }
        for row in result.layers
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
def _network(end: float, thickest: float, kinds: tuple[str, ...], ink: str, named: bool) -> dict[str, Any]:
    scale = alt.Scale(domain=[-0.35, end + 0.1], nice=False)
    y = alt.Scale(domain=[-1.5 * thickest, 1.5 * thickest], nice=False)
    left, low = alt.X("left:Q", scale=scale, axis=None), alt.Y("low:Q", scale=y, axis=None)
    zero = alt.Y("zero:Q", scale=y, axis=None)
    told = [
        "layer:N", "kind:N", alt.Tooltip("bytes:Q", format=","), alt.Tooltip("below:N", title="float32, file"),
        alt.Tooltip("setting:N", title="now"),
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
    ways = alt.Chart().transform_filter("datum.kind == 'way'").mark_line(color=NEUTRAL, strokeWidth=1.5)
    ways = ways.encode(x=left, y=low, detail="way:N", order="left:Q")
    node = alt.selection_point(name="node", fields=["name"], on="click", toggle=False, empty=False)
    before = base.transform_filter(whole).mark_rect(
        color=BASELINE, opacity=0.28, stroke=BASELINE, strokeWidth=1, cornerRadius=3, cursor="pointer"
    )
    colours = alt.Scale(domain=list(kinds), range=[NAMED_KINDS[kind] for kind in kinds])
    least = alt.Chart().transform_filter(whole).transform_calculate(zero="0")
    least = least.mark_rule(color=CURRENT, strokeWidth=1.5).encode(x=left, x2="right:Q", y=zero)
    now = base.transform_filter("isValid(datum.name) && datum.kind != ''").mark_rect(cursor="pointer")
    now = now.encode(color=alt.Color("kind:N", scale=colours, legend=alt.Legend(columns=6, symbolLimit=0)))
    chart = alt.layer(flow, ways, before, least, now, *_words(scale, y, ink, named)).properties(height=HEIGHT)
    return charts.described(chart.add_params(node))


def _words(x: alt.Scale, y: alt.Scale, ink: str, named: bool) -> list[alt.Chart]:
    """What stands above and beneath the layers; of many layers their names alone, aslant."""
    layers = alt.Chart().transform_filter("datum.kind == '' && isValid(datum.left)")
    middle = alt.X("middle:Q", scale=x, axis=None)
    joins = alt.Chart().transform_filter("datum.kind == 'join'")
    signs = joins.mark_text(fontSize=18, fontWeight="bold", color=ink).encode(
        x=middle, y=alt.Y("low:Q", scale=y, axis=None), text="above:N"
    )
    above = {"dy": -9} if named else {"dy": -6, "dx": 2, "angle": 330, "align": "left"}
    lines = [("high", "above", {**above, "fontSize": 12, "fontWeight": "bold" if named else "normal"})]
    if named:
        lines += [("low", "below", {"dy": 11, "fontSize": 12}), ("low", "setting", {"dy": 26, "fontSize": 11})]
    texts = [
        layers.mark_text(color=ink, **style).encode(
            x=middle, y=alt.Y(f"{side}:Q", scale=y, axis=None), text=f"{field}:N"
        )
        for side, field, style in lines
    ]
    return [*texts, signs]
