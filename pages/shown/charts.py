"""Pictures of figures, all in one hand: the same colour for the same thing on every page, axes with names and units."""

import math
from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from core.measuring.front import Goal
from core.palette import BASELINE, CURRENT, GAINED, LOST, NAMED_KINDS, NEUTRAL, PINNED
from core.report import tables
from core.words import NO_BREAK, plain

alt.utils.schemapi.disable_debug_mode()  # a whole chart is checked when it is drawn; its parts need not be, one by one

RUNG_COLOURS = ["#8a94a0", "#56B4E9", "#2b83c6", "#CC79A7", "#009E73", "#E69F00"]
FONT = 14
INK = {"light": "#1b2733", "dark": "#e8edf2"}
"""Of words in a chart, by the page's theme."""


Chart = alt.Chart | alt.LayerChart | alt.HConcatChart


PERCENT = f"format(100 * datum.value, '~g') + '{NO_BREAK}%'"
TENTHS = f"format(100 * datum.value, '.1f') + '{NO_BREAK}%'"
POINTS = "format(100 * datum.value, '+.1f') + ' pp'"
"""What an axis writes at a share, whole or to a tenth, and at a change of one."""


def shares(chart: alt.Chart, **digits: int) -> alt.Chart:
    """With the text of fields that are shares, as everywhere: "93.66 %". digits : by field"""
    ends = {field: f"'.{count}f') + '{NO_BREAK}%'" for field, count in digits.items()}
    return chart.transform_calculate(
        **{f"{field}_text": f"format(100 * datum.{field}, {end}" for field, end in ends.items()}
    )


def share_tooltip(field: str, title: str | None = None) -> alt.Tooltip:
    """The tooltip of a field that went through `shares`."""
    return alt.Tooltip(f"{field}_text:N", title=title or field)


def _change(chart: alt.Chart) -> alt.Chart:
    """With the text of the field `difference`, in points."""
    return chart.transform_calculate(difference_text="format(100 * datum.difference, '+.2f') + ' pp'")


CHANGE = alt.Tooltip("difference_text:N", title="change of accuracy")


def draw(chart: Chart, alt_text: str, key: str = "") -> None:
    """Show a chart with letters that reach the back row."""
    st.altair_chart(legible(chart), alt=alt_text, width="stretch", key=key or None)


def draw_again(data: pd.DataFrame, spec: dict[str, Any], alt_text: str) -> None:
    """Show new data in a chart whose description was made before: checking one takes longer than anything else on a
    page that answers each move of a slider."""
    st.vega_lite_chart(data, spec, alt=alt_text, width="stretch")


def legible(chart: Chart) -> Chart:
    """With letters that reach the back row."""
    # flush, the first and the last label would leave their ticks
    axis = {"labelFlush": False, "labelFontSize": FONT - 1, "titleFontSize": FONT, "titleFontWeight": "normal"}
    return chart.configure_axis(**axis).configure_legend(
        labelFontSize=FONT - 1, titleFontSize=FONT - 1, orient="top", title=None
    )


def described(chart: Chart) -> dict[str, Any]:
    """The description of a chart without its data, for `draw_again`."""
    return _without_data(legible(chart).to_dict())


def _without_data(spec: dict[str, Any]) -> dict[str, Any]:
    """Altair gives a chart without data one empty row, which would be drawn."""
    rest = {key: value for key, value in spec.items() if key not in ("data", "datasets")}
    return rest | {"layer": [_without_data(layer) for layer in spec["layer"]]} if "layer" in spec else rest


def class_changes(changes: pd.DataFrame, about: str) -> None:
    """Per class: images lost to the left, gained to the right."""
    sides = [changes.assign(count=sign * changes[what], what=what) for sign, what in ((-1, "lost"), (1, "gained"))]
    rows = pd.concat(sides, ignore_index=True)
    largest = rows["count"].abs().max() * 1.15
    reach = next((end for end in REACHES if end >= largest), REACHES[-1] * math.ceil(largest / REACHES[-1]))
    draw_again(rows, _class_changes(tuple(changes["class"]), reach), about)


REACHES = (5, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 600)


@st.cache_data(show_spinner=False)
def _class_changes(classes: tuple[str, ...], reach: int) -> dict[str, Any]:
    base = shares(alt.Chart(), before=1, after=1).encode(
        y=alt.Y("class:N", sort=list(classes), title=None, axis=alt.Axis(labelOverlap=False)),
        tooltip=[
            "class:N",
            "lost:Q",
            "gained:Q",
            share_tooltip("before", "recall before"),
            share_tooltip("after", "recall after"),
        ],
    )
    x = alt.X("count:Q", title="images lost (left) and gained (right)", scale=alt.Scale(domain=[-reach, reach]))
    bars = base.mark_bar(cornerRadius=2).encode(
        x=x.axis(labelExpr="abs(datum.value)"),
        color=alt.Color("what:N", scale=alt.Scale(domain=["lost", "gained"], range=[LOST, GAINED])),
    )
    shown = base.transform_filter("datum.count != 0").transform_calculate(label="abs(datum.count)")
    left = shown.transform_filter("datum.count < 0").mark_text(align="right", dx=-4, fontSize=FONT - 2, color=LOST)
    right = shown.transform_filter("datum.count > 0").mark_text(align="left", dx=4, fontSize=FONT - 2, color=GAINED)
    sides = (side.encode(x=x, text="label:Q") for side in (left, right))
    return described(alt.layer(bars, *sides).properties(height=alt.Step(26)))


def ledger(entries: pd.DataFrame, about: str) -> None:
    """The file's bytes: a bar per layer, its kinds of bytes side by side in it."""
    kinds = tuple(kind for kind in NAMED_KINDS if kind in set(entries["kind"]))
    draw_again(entries, _ledger(tuple(dict.fromkeys(entries["layer"])), kinds), about)


@st.cache_data(show_spinner=False)
def _ledger(order: tuple[str, ...], kinds: tuple[str, ...]) -> dict[str, Any]:
    return described(
        alt.Chart()
        .mark_bar(cornerRadius=2)
        .encode(
            y=alt.Y("layer:N", sort=list(order), title=None, axis=alt.Axis(labelOverlap=False)),
            x=alt.X("sum(KB):Q", title="KB in the file"),
            color=alt.Color(
                "kind:N", scale=alt.Scale(domain=list(kinds), range=[NAMED_KINDS[kind] for kind in kinds])
            ).legend(columns=3, symbolLimit=0),
            tooltip=[
                "layer:N",
                "kind:N",
                alt.Tooltip("bytes:Q", format=","),
                alt.Tooltip("sum(KB):Q", format=",.2f", title="KB"),
            ],
        )
        .properties(height=alt.Step(260 / max(4, len(order))))
    )


def sizes(rows: pd.DataFrame, about: str) -> None:
    """Bytes in all the ways that people count them, a point each on a logarithmic axis: columns way, bytes, label,
    kind."""
    base = alt.Chart(rows).encode(y=alt.Y("way:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)))
    kinds = ["counted", "a file"]
    low, high = rows["bytes"].min() / 1.5, rows["bytes"].max() * 4  # room for the labels
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    x = alt.X("bytes:Q", title="bytes (logarithmic)", scale=scale, axis=alt.Axis(format="~s", tickCount=4))
    tooltip = ["way:N", alt.Tooltip("bytes:Q", format=","), "label:N"]
    points = base.mark_point(filled=True, size=160, opacity=1).encode(
        x=x,
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[BASELINE, CURRENT]), title=None),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds)),
        tooltip=tooltip,
    )
    labels = base.mark_text(align="left", dx=12, fontSize=FONT - 1, color=NEUTRAL).encode(x=x, text="label:N")
    draw(alt.layer(points, labels).properties(height=alt.Step(30)), about)


LEAST_SPAN = 0.05
"""Of the accuracies over the height of a small chart: a smaller difference looks small, too."""

LOOK_HEIGHT = 104
HEIGHTS = [LOOK_HEIGHT - 6, 38]
"""Of the least and the most, in pixels: words stand above."""


@st.cache_data(show_spinner=False)
def look_ahead(low: float, high: float) -> dict[str, Any]:
    """Accuracy (points, blue; a diamond where it stands) and file size (dashed, grey) along a slider, whose ends are
    those of the chart; without data, which come with each drawing: columns x, setting, accuracy, KB, here, apart (not
    of this curve, and only near it), and of the row that is here mark and progress, in words. Points can be clicked."""
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[low, high], nice=False, padding=6))
    tooltip = ["setting:N", share_tooltip("accuracy"), alt.Tooltip("KB:Q", format=",.1f", title="KB in the file")]
    base = shares(alt.Chart(), accuracy=2).encode(x=x, tooltip=tooltip)
    scale = alt.Scale(zero=False, nice=False, range=HEIGHTS)
    accuracy = alt.Y("accuracy:Q", axis=None, scale=scale)
    place = alt.selection_point(name="place", fields=["x"], on="click", nearest=False, toggle=False, empty=False)
    size = base.mark_line(color=BASELINE, strokeWidth=1.5, strokeDash=[4, 3]).encode(
        y=alt.Y("KB:Q", axis=None, scale=alt.Scale(zero=True, nice=False, range=HEIGHTS))
    )
    line = base.transform_filter("!datum.apart").mark_line(color=CURRENT, strokeWidth=2).encode(y=accuracy)
    points = base.mark_point(filled=True, color=CURRENT, size=55, opacity=1, cursor="pointer").encode(y=accuracy)
    least = (
        alt.Chart().transform_aggregate(most="max(accuracy)").transform_calculate(floor=f"datum.most - {LEAST_SPAN}")
    )
    room = least.mark_point(opacity=0).encode(y=alt.Y("floor:Q", axis=None, scale=scale))
    here = base.transform_filter("datum.here")
    mark = here.mark_point(shape="diamond", filled=True, color=PINNED, size=150, opacity=1).encode(y=accuracy)
    curve = alt.layer(room, line, points.add_params(place).transform_filter("!datum.here"), mark)
    spans = (
        _span("accuracy", "● accuracy ", "100 * ", ".1f", " %", 0, CURRENT),
        _span("KB", "┄ file ", "", ",.1f", " KB", 14, NEUTRAL),
    )
    right = alt.Chart().transform_filter("datum.here").encode(x=alt.value("width"))
    room_for_words = alt.ExprRef("width < 175 ? 0 : 1")  # narrower, they would lie over those at the left
    words: dict[str, Any] = {"align": "right", "baseline": "top", "fontSize": FONT - 2, "opacity": room_for_words}
    named = right.mark_text(color=PINNED, **words).encode(text="mark:N", y=alt.value(0))
    progress = right.mark_text(color=NEUTRAL, **words).encode(text="progress:N", y=alt.value(14))
    chart = (
        alt.layer(size, curve, *spans, named, progress)
        .resolve_scale(y="independent")
        .properties(height=LOOK_HEIGHT, padding=0)
    )
    return _without_data(chart.to_dict(validate=False))


def _span(field: str, name: str, times: str, form: str, unit: str, top: int, colour: str) -> alt.Chart:
    """The least and the most of a field, in words above the curve: inside it they would lie under the points."""
    least, most, span = (f"{name}_{field}" for name in ("least", "most", "span"))  # equal names would be merged
    ends = alt.Chart().transform_aggregate(**{least: f"min({field})", most: f"max({field})"})
    ends_in_words = [f"format({times}datum.{end}, '{form}')" for end in (least, most)]
    text = f"'{name}' + {ends_in_words[0]} + ' to ' + {ends_in_words[1]} + '{unit}'"
    words = ends.transform_calculate(**{span: text})
    mark = words.mark_text(align="left", baseline="top", color=colour, fontSize=FONT - 2)
    return mark.encode(text=f"{span}:N", x=alt.value(0), y=alt.value(top))


PANELS, SCREEN = 4, 12
"""Small charts of layers in a row, where there is room; and on a screen, of more layers than that."""


def by_layer(rows: pd.DataFrame, of_layer: Callable[[pd.DataFrame], alt.LayerChart], about: str) -> None:
    """A small chart per layer, on one scale, as wide as the screen lets them be; one below the other on a phone."""
    names = _on_this_screen(list(dict.fromkeys(rows["layer"])), about)
    for start in range(0, len(names), PANELS):
        for name, cell in zip(names[start : start + PANELS], st.columns(PANELS, gap="small"), strict=False):
            with cell:
                st.caption(f"**{plain(name)}**")
                draw(of_layer(rows[rows["layer"] == name]).properties(height=210), f"{about}: {name}")


def _on_this_screen(names: list[str], about: str) -> list[str]:
    """Those of the screen that was chosen, where there are more than one can show."""
    if len(names) <= SCREEN:
        return names
    screens = [names[start : start + SCREEN] for start in range(0, len(names), SCREEN)]
    words = [f"{plain(screen[0])} to {plain(screen[-1])}" for screen in screens]
    chosen = st.pills("Layers", range(len(screens)), default=0, format_func=words.__getitem__, key=about, required=True)
    return screens[chosen or 0]


def allocation(rows: pd.DataFrame) -> alt.LayerChart:
    """Accuracy by file size, step after step; the chosen one as a diamond. Columns KB, accuracy, step, chosen."""
    base = shares(alt.Chart(rows), accuracy=2).encode(
        x=alt.X("KB:Q", title="KB in the file (log)", scale=alt.Scale(type="log", nice=False, padding=12)),
        y=alt.Y(
            "accuracy:Q", title="accuracy, validation", axis=alt.Axis(labelExpr=PERCENT), scale=alt.Scale(zero=False)
        ),
        tooltip=["step", share_tooltip("accuracy"), alt.Tooltip("KB:Q", format=",.1f")],
    )
    line = base.mark_line(color=CURRENT, strokeWidth=2.5, point=alt.OverlayMarkDef(size=55, color=CURRENT))
    chosen = base.transform_filter("datum.chosen").mark_point(
        shape="diamond", filled=True, size=260, color=PINNED, opacity=1
    )
    return alt.layer(line.encode(order="KB:Q"), chosen).properties(height=300)


MINIMISED, PLAIN = "minimised", "plain cross entropy"
"""The loss of a training, and what it is without label smoothing and without a teacher."""


def training_curves(history: pd.DataFrame) -> list[alt.LayerChart]:
    """Two charts, loss and accuracy by epoch, training and validation; the cross entropy without label smoothing
    dashed beside the loss that was minimised, where the history has it."""
    curves = tables.curves(history)
    return [_loss_curves(curves), _accuracy_curves(curves)]


def _epochs(rows: pd.DataFrame, title: str, tooltip: alt.Tooltip, axis: alt.Axis) -> alt.Chart:
    chart = shares(alt.Chart(rows), value=1)
    return chart.encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="epoch"),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=axis),
        color=alt.Color("images:N", scale=alt.Scale(domain=["training", "validation"], range=[BASELINE, CURRENT])),
        tooltip=["epoch", "images", tooltip],
    )


def _loss_curves(curves: pd.DataFrame) -> alt.LayerChart:
    kinds = {"loss": MINIMISED, "cross_entropy": PLAIN}
    rows = curves.assign(loss=curves["figure"].map(kinds)).dropna(subset="loss")
    alone = rows["loss"].nunique() == 1
    title = "loss (nats)" if alone else "loss (nats), dashed: cross entropy"
    base = _epochs(rows, title, alt.Tooltip("value:Q", format=".3f", title="loss"), alt.Axis(format="~g"))
    if alone:
        return _dotted(base)
    scale = alt.Scale(domain=list(kinds.values()), range=[[1, 0], [5, 4]])
    return _dotted(base.encode(strokeDash=alt.StrokeDash("loss:N", scale=scale, legend=None), detail="loss:N"))


def _accuracy_curves(curves: pd.DataFrame) -> alt.LayerChart:
    rows = curves[curves["figure"] == "accuracy"]
    return _dotted(_epochs(rows, "accuracy", share_tooltip("value", "accuracy"), alt.Axis(labelExpr=TENTHS)))


def _dotted(base: alt.Chart) -> alt.LayerChart:
    points = base.mark_point(filled=True, size=60).encode(shape="images:N")
    return alt.layer(base.mark_line(strokeWidth=2.5), points).properties(height=260)


def class_report(report: pd.DataFrame) -> alt.Chart:
    """Precision, recall and F1-score of each class, as dots on one line. Columns precision, recall, f1, images."""
    named = report.rename(columns={"f1": "F1-score", "images": "support"}).rename_axis("class").reset_index()
    rows = named.melt(["class", "support"], ["precision", "recall", "F1-score"], "figure")
    low = max(0.0, rows["value"].min() - 0.03)
    return (
        shares(alt.Chart(rows), value=1)
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            y=alt.Y("class:N", sort=list(report.index), title=None, axis=alt.Axis(labelOverlap=False)),
            x=alt.X(
                "value:Q",
                title=None,
                axis=alt.Axis(labelExpr=PERCENT),
                scale=alt.Scale(domain=[low, 1.005], nice=False),
            ),
            color=alt.Color("figure:N", scale=alt.Scale(range=[CURRENT, PINNED, BASELINE])),
            shape="figure:N",
            tooltip=["class", "figure", share_tooltip("value"), "support"],
        )
        .properties(height=alt.Step(26))
    )


def confusion(counts: pd.DataFrame) -> alt.LayerChart:
    """True class down, predicted class across; the diagonal is left out of the colours so that mistakes show. The
    colour lets the page through, light or dark, the more the fewer they are."""
    rows = counts.rename_axis("true").reset_index().melt("true", var_name="predicted", value_name="images")
    names = list(counts.columns)
    wrong = rows["true"] != rows["predicted"]
    strong = wrong & (rows["images"] > rows["images"][wrong].max() / 2)
    rows["ink"] = np.where(strong, "white", np.where(wrong, INK.get(st.context.theme.type or "light"), CURRENT))
    base = alt.Chart(rows).encode(
        x=alt.X("predicted:N", sort=names, title="predicted", axis=alt.Axis(labelAngle=-40, labelOverlap=False)),
        y=alt.Y("true:N", sort=names, title="true", axis=alt.Axis(labelOverlap=False)),
        tooltip=["true", "predicted", "images"],
    )
    mistakes = (
        base.transform_filter("datum.true != datum.predicted")
        .mark_rect(color=LOST, stroke=NEUTRAL, strokeWidth=0.3)
        .encode(fillOpacity=alt.FillOpacity("images:Q", scale=alt.Scale(type="sqrt", range=[0, 1]), legend=None))
    )
    numbers = (
        base.transform_filter("datum.images > 0")
        .mark_text(fontSize=FONT - 3)
        .encode(text="images:Q", color=alt.Color("ink:N", scale=None))
    )
    return alt.layer(mistakes, numbers).resolve_scale(color="independent").properties(height=alt.Step(26))


def sparsity_curve(points: pd.DataFrame, allowance: float) -> alt.LayerChart:
    """Accuracy lost by sparsity, with the allowance and the largest sparsity within it. Columns sparsity, difference,
    accuracy, KB, chosen."""
    base = _change(shares(alt.Chart(points), sparsity=1, accuracy=2)).encode(
        x=alt.X("sparsity:Q", title="sparsity", axis=alt.Axis(labelExpr=PERCENT)),
        y=alt.Y("difference:Q", title="change of accuracy", axis=alt.Axis(labelExpr=POINTS)),
        tooltip=[
            share_tooltip("sparsity"),
            share_tooltip("accuracy"),
            CHANGE,
            alt.Tooltip("KB:Q", format=",.1f", title="KB in the file"),
        ],
    )
    line = base.mark_line(color=CURRENT, strokeWidth=2.5, point=alt.OverlayMarkDef(size=55, color=CURRENT))
    chosen = base.transform_filter("datum.chosen").mark_point(
        shape="diamond", filled=True, size=260, color=PINNED, opacity=1
    )
    return alt.layer(_allowance(allowance), line, chosen).properties(height=300)


def _allowance(allowance: float) -> alt.Chart:
    edge = alt.Chart(pd.DataFrame({"difference": [-allowance]}))
    return edge.mark_rule(color=LOST, strokeDash=[5, 4], strokeWidth=2).encode(y="difference:Q")


def sensitivity(rows: pd.DataFrame, allowance: float, about: str, setting: str = "sparsity") -> None:
    """What pruning or rounding one layer alone loses, a small chart per layer. Columns layer, the setting, difference,
    accuracy."""
    lowest = max(-6 * allowance, min(-2 * allowance, 1.1 * float(rows["difference"].min())))
    by_layer(rows, lambda layer: sensitivity_of_layer(layer, lowest, allowance, setting), about)
    least = rows.groupby("layer", sort=False)["difference"].min()
    below = [f"{plain(layer)} to {100 * change:+.1f} pp" for layer, change in least[least < lowest].items()]
    if below:
        st.caption(f"The charts end at {100 * lowest:+.0f} pp. Curves that leave them go on: {', '.join(below)}.")


def sensitivity_of_layer(rows: pd.DataFrame, lowest: float, allowance: float, setting: str) -> alt.LayerChart:
    """lowest : the least change of accuracy that is drawn"""
    form = {"labelExpr": PERCENT} if setting == "sparsity" else {"format": "d"}
    of_layer = share_tooltip("sparsity") if setting == "sparsity" else alt.Tooltip("bits:Q")
    scale = alt.Undefined if setting == "sparsity" else alt.Scale(domain=[8.3, 1.7], nice=False)
    line = (
        _change(shares(alt.Chart(rows), sparsity=1))
        .mark_line(color=CURRENT, strokeWidth=2.5, point=alt.OverlayMarkDef(color=CURRENT), clip=True)
        .encode(
            x=alt.X(f"{setting}:Q", title=f"{setting} of the layer", scale=scale).axis(**form, tickCount=3),
            y=alt.Y(
                "difference:Q",
                title="change of accuracy",
                axis=alt.Axis(labelExpr=POINTS, tickCount=5),
                scale=alt.Scale(domain=[lowest, allowance], nice=False),
            ),
            tooltip=["layer", of_layer, CHANGE],
        )
    )
    edge = alt.Chart(rows).mark_rule(color=LOST, strokeDash=[5, 4]).encode(y=alt.datum(-allowance))
    return alt.layer(line, edge)


def on_grid(bins: pd.DataFrame, points: pd.DataFrame, step: float) -> alt.LayerChart:
    """How often which number occurs, and the points of its grid; what lies beyond them is clipped. Columns of bins low,
    high, count, where; of points point."""
    bars = (
        alt.Chart(bins)
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X("low:Q", title=None, bin="binned", scale=_reach(bins, points, step)),
            x2="high:Q",
            y=alt.Y("count:Q", title="how many (√ scale)", scale=alt.Scale(type="sqrt")).axis(minExtent=60),
            color=alt.Color("where:N", scale=alt.Scale(domain=["inside", "clipped"], range=[BASELINE, LOST])),
            tooltip=[alt.Tooltip("low:Q", format=".4f"), alt.Tooltip("high:Q", format=".4f"), "count", "where"],
        )
    )
    width = 1.6 if len(points) <= 40 else 0.6
    rules = alt.Chart(points).mark_rule(color=CURRENT, strokeWidth=width, opacity=0.9, clip=True).encode(x="point:Q")
    return alt.layer(bars, rules).properties(height=200)


def rounding(rows: pd.DataFrame, bins: pd.DataFrame, points: pd.DataFrame, step: float, unit: str) -> alt.LayerChart:
    """What rounding does to each number, and half a step to either side. Columns x, change; the others as `on_grid`."""
    dots = (
        alt.Chart(rows)
        .mark_circle(size=18, opacity=0.55, color=CURRENT, clip=True)
        .encode(
            x=alt.X("x:Q", title=unit, scale=_reach(bins, points, step)),
            y=alt.Y("change:Q", title="x̂ − x").axis(minExtent=60, tickCount=4),
            tooltip=[alt.Tooltip("x:Q", format=".4f"), alt.Tooltip("change:Q", format="+.4f")],
        )
    )
    half = pd.DataFrame({"change": [-step / 2, step / 2]})
    edges = alt.Chart(half).mark_rule(color=LOST, strokeDash=[5, 4]).encode(y="change:Q")
    return alt.layer(dots, edges).properties(height=150)


def _reach(bins: pd.DataFrame, points: pd.DataFrame, step: float) -> alt.Scale:
    """All numbers, and all points of their grid."""
    low = min(bins["low"].min(), points["point"].min() - step / 2)
    return alt.Scale(domain=[low, max(bins["high"].max(), points["point"].max() + step / 2)], nice=False, zero=False)


def ladder(rows: pd.DataFrame, floor: float, top: float) -> alt.LayerChart:
    """Accuracy by bits for every rung. Columns bits, accuracy, rung, KB."""
    order = list(dict.fromkeys(rows["rung"]))
    base = shares(alt.Chart(rows), accuracy=2).encode(
        x=alt.X("bits:Q", scale=alt.Scale(domain=[8.2, 1.8], nice=False)).axis(format="d", tickMinStep=1),
        y=alt.Y("accuracy:Q", title="accuracy, validation", scale=alt.Scale(domain=[floor, top])).axis(
            labelExpr=PERCENT
        ),
        color=alt.Color("rung:N", scale=alt.Scale(domain=order, range=RUNG_COLOURS)).legend(columns=2),
        tooltip=["rung", "bits", share_tooltip("accuracy"), alt.Tooltip("KB:Q", format=",.1f")],
    )
    shape = alt.Shape("rung:N", scale=alt.Scale(domain=order))
    points = base.mark_point(filled=True, size=70, clip=True).encode(shape=shape)
    return alt.layer(base.mark_line(strokeWidth=2, clip=True), points).properties(height=380)


def before_after(rows: pd.DataFrame, baseline: float) -> alt.LayerChart:
    """Accuracy by bits before and after training, with intervals. Columns bits, accuracy, low, high, when, KB."""
    order = list(dict.fromkeys(rows["when"]))
    base = shares(alt.Chart(rows), accuracy=2, low=2, high=2).encode(
        x=alt.X("bits:O", title="bits of weights and activations", sort="descending", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("when:N", sort=order),
        color=alt.Color("when:N", scale=alt.Scale(domain=order, range=[BASELINE, CURRENT, GAINED])),
        tooltip=["when", "bits", share_tooltip("accuracy"), share_tooltip("low"),
                 share_tooltip("high"), alt.Tooltip("KB:Q", format=",.1f")],
    )  # fmt: skip
    y = alt.Y("accuracy:Q", title="accuracy, test", axis=alt.Axis(labelExpr=PERCENT), scale=alt.Scale(zero=False))
    spans = base.mark_rule(strokeWidth=3).encode(y=y, y2="high:Q").transform_calculate(accuracy="datum.low")
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=y, shape=alt.Shape("when:N", scale=alt.Scale(domain=order))
    )
    edge = alt.Chart().mark_rule(color=BASELINE, strokeDash=[5, 4]).encode(y=alt.datum(baseline))
    return alt.layer(edge, spans, points, data=rows).properties(height=320)


def at_sizes(rows: pd.DataFrame, baseline: float, images: str, place: float | None = None) -> alt.LayerChart:
    """Accuracy against the size of the file, a line for each way and seed, with the intervals of the points. Columns
    KB, accuracy, low, high, way, seed, setting, which stands at the points where there is one way alone.

    baseline : its accuracy, dashed; place : KB at which the ways are compared, dotted
    """
    listed = list(dict.fromkeys(rows["way"]))
    colours = alt.Scale(domain=listed, range=[CURRENT, GAINED][: len(listed)])
    size = alt.Scale(type="log", nice=False, padding=24)
    base = shares(alt.Chart(rows), accuracy=2, low=2, high=2).encode(
        x=alt.X("KB:Q", title="KB in the file (logarithmic)", scale=size, axis=alt.Axis(format=",~g")),
        color=alt.Color("way:N", scale=colours),
        detail="seed:N",
        tooltip=["way", "setting", "seed", alt.Tooltip("KB:Q", format=",.2f"), share_tooltip("accuracy"),
                 share_tooltip("low"), share_tooltip("high")],
    )  # fmt: skip
    y = alt.Y("accuracy:Q", title=f"accuracy, {images}", axis=alt.Axis(labelExpr=TENTHS), scale=alt.Scale(zero=False))
    spans = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=y, y2="high:Q")
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=y, shape=alt.Shape("way:N", scale=alt.Scale(domain=listed))
    )
    layers = [spans.transform_calculate(accuracy="datum.low"), base.mark_line(strokeWidth=2).encode(y=y, order="KB:Q")]
    once = alt.Chart(rows.head(1))
    edges = [once.mark_rule(color=BASELINE, strokeDash=[5, 4]).encode(y=alt.datum(baseline))]
    if place is not None:
        edges.append(once.mark_rule(color=NEUTRAL, strokeDash=[2, 3], strokeWidth=2).encode(x=alt.datum(place)))
    words = base.mark_text(align="left", dx=10, dy=12, fontSize=FONT - 2, color=NEUTRAL).encode(y=y, text="setting:N")
    return alt.layer(*edges, *layers, points, *([words] if len(listed) == 1 else [])).properties(height=340)


def ways(rows: pd.DataFrame) -> alt.LayerChart:
    """The smallest file of each way, a point each: a logarithmic axis has no zero where bars could begin. Columns way,
    KB, accuracy, best, label."""
    base = shares(alt.Chart(rows), accuracy=2).encode(
        y=alt.Y("way:N", title=None, sort="-x", axis=alt.Axis(labelLimit=260)),
        x=alt.X("KB:Q", title="KB in the smallest file within the allowed loss (log)", scale=alt.Scale(type="log")),
        tooltip=["way", alt.Tooltip("KB:Q", format=",.1f"), share_tooltip("accuracy")],
    )
    points = base.mark_point(filled=True, size=200, opacity=1).encode(
        color=alt.condition("datum.best", alt.value(PINNED), alt.value(CURRENT)),
        shape=alt.condition("datum.best", alt.value("diamond"), alt.value("circle")),
    )
    words = base.mark_text(align="left", dx=12, fontSize=FONT - 1, color=NEUTRAL).encode(text=alt.Text("label:N"))
    return alt.layer(points, words).properties(height=alt.Step(38))


TARGET_COLOURS = [CURRENT, PINNED, GAINED, LOST, "#CC79A7", NEUTRAL]
"""Light enough for a dark page, and dark enough for a light one."""


def rounds(rows: pd.DataFrame) -> alt.LayerChart:
    """Iterative pruning round by round: accuracy, and the sparsity it had then as the size of the point. Columns epoch,
    accuracy, sparsity, target."""
    order = list(dict.fromkeys(rows["target"]))
    base = shares(alt.Chart(rows), sparsity=1, accuracy=2).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="round (an epoch each)"),
        y=alt.Y(
            "accuracy:Q", title="accuracy, validation", axis=alt.Axis(labelExpr=TENTHS), scale=alt.Scale(zero=False)
        ),
        color=alt.Color("target:N", scale=alt.Scale(domain=order, range=TARGET_COLOURS)),
        tooltip=["target", "epoch", share_tooltip("sparsity"), share_tooltip("accuracy")],
    )
    points = base.mark_point(filled=True, size=70).encode(shape=alt.Shape("target:N", scale=alt.Scale(domain=order)))
    return alt.layer(base.mark_line(strokeWidth=2.5), points).properties(height=280)


def layer_sparsity(rows: pd.DataFrame) -> alt.Chart:
    """Sparsity of each layer, a bar for each way. Columns layer, sparsity, way, kept."""
    ways = list(dict.fromkeys(rows["way"]))
    return (
        shares(alt.Chart(rows), sparsity=1)
        .mark_bar(cornerRadius=2)
        .encode(
            y=alt.Y("layer:N", sort=list(dict.fromkeys(rows["layer"])), title=None),
            yOffset=alt.YOffset("way:N", sort=ways),
            x=alt.X("sparsity:Q", title="sparsity", axis=alt.Axis(labelExpr=PERCENT), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("way:N", scale=alt.Scale(domain=ways, range=[CURRENT, PINNED, BASELINE])),
            tooltip=["layer", "way", share_tooltip("sparsity"), alt.Tooltip("kept:Q", format=",")],
        )
        .properties(height=alt.Step(18))
    )


def density_over_epochs(rows: pd.DataFrame) -> alt.LayerChart:
    """Share of weights that each layer still has, by epoch. Columns epoch, layer, density."""
    order = list(dict.fromkeys(rows["layer"]))
    base = shares(alt.Chart(rows), density=1).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="epoch"),
        y=alt.Y("density:Q", title="weights left", axis=alt.Axis(labelExpr=PERCENT), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("layer:N", scale=alt.Scale(domain=order, range=[CURRENT, PINNED, GAINED, "#CC79A7"])),
        tooltip=["layer", "epoch", share_tooltip("density")],
    )
    points = base.mark_point(filled=True, size=60).encode(shape=alt.Shape("layer:N", scale=alt.Scale(domain=order)))
    return alt.layer(base.mark_line(strokeWidth=2.5), points).properties(height=260)


def weight_histogram(rows: pd.DataFrame) -> alt.Chart:
    """How many weights have which value, before and after. Columns weight, count, when."""
    return (
        alt.Chart(rows)
        .mark_area(opacity=0.55, interpolate="step", line=True)
        .encode(
            x=alt.X("weight:Q", title="weight"),
            y=alt.Y("count:Q", title="weights", stack=None),
            color=alt.Color("when:N", scale=alt.Scale(domain=["before", "after"], range=[BASELINE, CURRENT])),
            tooltip=["when", alt.Tooltip("weight:Q", format=".3f"), alt.Tooltip("count:Q", format=",")],
        )
        .properties(height=260)
    )


TRAINED_COLOURS = {"not trained": NEUTRAL, "trained": CURRENT}
SHAPES = ["circle", "triangle-up", "square", "cross", "triangle-down", "triangle-right", "triangle-left", "wedge"]
"""Of points, by what they are; pins are diamonds."""
GREY = alt.Legend(symbolFillColor=NEUTRAL, symbolStrokeColor=NEUTRAL)
"""Of shapes alone: black ones cannot be seen in the dark."""


def front(rows: pd.DataFrame, goal: Goal, baseline: float, about: str, key: str, on_select: Callable[[], None]) -> None:
    """Accuracy against file size, with the front as steps, intervals of what is on it, the baseline and the goal.
    Columns KB, accuracy, low, high, change, ratio, kind, by, from, settings, front, picked, pin, model, family, id,
    first (of one row alone). Shapes are families where there are several, else trained or not. Points can be clicked:
    the selection "place" has their `id`."""
    floor = math.floor(200 * min(float(rows["accuracy"].min()), baseline - 0.012)) / 200
    top = math.ceil(200 * max(float(rows["accuracy"].max()), baseline) + 0.4) / 200
    spec = _front(floor, top, goal, baseline, tuple(sorted(set(rows["family"]))))
    st.vega_lite_chart(rows, spec, key=key, on_select=on_select, selection_mode="place", width="stretch", alt=about)


@st.cache_data(show_spinner=False)
def _front(floor: float, top: float, goal: Goal, baseline: float, families: tuple[str, ...]) -> dict[str, Any]:
    scale = alt.Scale(type="log", nice=False, padding=20)
    x = alt.X("KB:Q", title="KB in the file (logarithmic)", scale=scale, axis=alt.Axis(format=",~g"))
    scale = alt.Scale(domain=[floor, top], nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy, validation", axis=alt.Axis(labelExpr=TENTHS), scale=scale)
    kinds = list(TRAINED_COLOURS)
    told, shaped = ("family", list(families)) if len(families) > 1 else ("kind", kinds)
    legend = GREY if told == "family" else alt.Undefined
    tooltip = [
        alt.Tooltip("KB:Q", format=",.1f"), share_tooltip("accuracy"),
        alt.Tooltip("change:Q", format="+.2f", title="change, pp"),
        alt.Tooltip("ratio:Q", format=".1f", title="compression ratio"), "by:N", "kind:N", "from:N", "model:N",
        "family:N", "settings:N",
    ]  # fmt: skip
    place = alt.selection_point(name="place", fields=["id"], on="click", nearest=False, toggle=False, empty=False)
    base = shares(alt.Chart(), accuracy=2).encode(x=x, tooltip=tooltip)
    points = base.mark_point(filled=True, cursor="pointer").encode(
        y=y,
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=list(TRAINED_COLOURS.values()))),
        shape=alt.Shape(f"{told}:N", scale=alt.Scale(domain=shaped, range=SHAPES[: len(shaped)]), legend=legend),
        size=alt.condition("datum.front", alt.value(110), alt.value(36)),
        opacity=alt.condition("datum.front", alt.value(1), alt.value(0.6)),
    )
    best = base.transform_filter("datum.front")
    steps = best.mark_line(color=PINNED, strokeWidth=2, interpolate="step-after").encode(y=y)
    spans = best.mark_rule(strokeWidth=1.5, color=NEUTRAL, opacity=0.6, clip=True)
    spans = spans.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    here = base.transform_filter("datum.picked").mark_point(size=420, strokeWidth=3, color=LOST).encode(y=y)
    pins = base.transform_filter("datum.pin != ''")
    mark = pins.mark_point(shape="diamond", filled=True, size=220, color=PINNED, opacity=1).encode(y=y)
    name = pins.mark_text(dy=-16, fontSize=FONT - 1, fontWeight="bold", color=PINNED).encode(y=y, text="pin:N")
    once = alt.Chart().transform_filter("datum.first")
    lines = [once.mark_rule(color=BASELINE, strokeWidth=1.5).encode(y=alt.YDatum(baseline, scale=scale))]
    edge = once.mark_rule(color=LOST, strokeDash=[5, 4], strokeWidth=2)
    if goal.size is None:
        least = baseline - (goal.allowance or 0) if goal.floor is None else goal.floor
        lines.append(edge.encode(y=alt.YDatum(least, scale=scale)))
    else:
        lines.append(edge.encode(x=alt.XDatum((goal.size or 0) / 1024)))
    chart = alt.layer(*lines, steps, spans, here, mark, points.add_params(place), name)  # what is clicked lies on top
    return described(chart.properties(height=430))
