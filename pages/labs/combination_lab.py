"""What is said and drawn of the best combination, and of the order of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from core.config import in_words
from core.measuring.front import Goal, promised
from core.studies import assignment, tuning
from core.studies.answers import BestWay, Combination, Order
from core.words import counted, kilobytes, percent, plain
from pages.choice import confidence, lesson, state
from pages.choice.state import Choice
from pages.shown import charts, figures, handover

INTRODUCTION = """[[Pruning]], [[channel pruning]] and [[quantization]], each alone and all together, at the same
allowed loss and with the same epochs of [[fine-tuning]]. Each combination has a list of configurations from the mildest
to the strongest; the strongest that stays within the allowed loss on validation is found by bisection. What counts is
the size of the real file. **The lists are short**: they compare techniques, and do not find the smallest file there is.
The pages Pruning and Quantization try more of one technique, the search on Compare more of all, low rank included. Each
configuration is trained once: near the limit chance decides which fits."""
ABOUT_ORDERS = """Each technique leaves something behind: zeros, few quantized values, a [[low rank]]. One that comes
later may destroy it. Here the three are applied to one whole weight matrix in every order, without training, beside
what this project does: factors first, then zeros and grids **on the factors**. These networks are for looking at only;
none is exported."""
HELP_EPOCHS = "Length of every training; where weights are pruned, 60 % of it prunes iteratively."


def controls(baseline: str) -> tuple[float, dict[str, Any]]:
    """The allowance, and the request of the search."""
    allowance = confidence.allowed()
    sure = confidence.asked(confidence.control("w_way_confidence"))
    epochs = st.number_input("Epochs", 2, 40, 8, key="w_way_epochs", persist_state="session", help=HELP_EPOCHS)
    st.caption("About 17 trainings: 25 minutes for the CNN on two cores, ten for the MLP. You can go on meanwhile.")
    about = {"baseline": baseline, "allowance": allowance, "epochs": int(epochs)}
    return allowance, {"kind": assignment.COMBINATION, **about, **sure}


def order_controls(baseline: str) -> dict[str, Any]:
    """The request of the order laboratory; empty where no layer can be factored."""
    bench = state.workbench()
    without = bench.left_out(baseline, "svd")
    layers = [layer for layer in bench.profile(baseline).layers if layer.name not in without]
    if not layers:
        return {}
    names = [layer.name for layer in layers]
    largest = max(range(len(layers)), key=lambda place: layers[place].weights)
    with st.expander("Order of the techniques", icon=":material/swap_vert:", expanded=True):
        layer = st.selectbox("Layer", names, largest, key=f"w_order_layer_{baseline}", persist_state="session")
        sparsity = st.slider("Sparsity", 0, 99, 90, 1, format="%d %%", key="w_order_sparsity", persist_state="session")
        bits = st.slider("Bits per weight", 2, 8, 3, 1, key="w_order_bits", persist_state="session")
        share = st.slider("Rank kept", 1, 100, 25, 1, format="%d %%", key="w_order_share", persist_state="session")
    about = {"layer": layer or names[largest], "sparsity": sparsity / 100, "bits": bits, "share": share / 100}
    return {"kind": assignment.ORDERS, "baseline": baseline, **about}


def ways(baseline: str, combination: Combination) -> None:
    """The smallest file of every combination, the best of all with its verdict, and every training as a table."""
    rows, best = combination.rows, combination.best
    if best is None:
        st.warning(f"No combination stays within {100 * combination.allowance:g} pp. Try more epochs, or allow more.")
        return
    reached = {row.title: row.chosen for row in rows if row.chosen is not None}
    chart = pd.DataFrame(
        {
            "way": way,
            "KB": chosen.bytes / 1024,
            "accuracy": chosen.accuracy,
            "best": way == best.title,
            "label": f"{chosen.bytes / 1024:,.1f} KB, {figures.points(chosen.difference)}",
        }
        for way, chosen in reached.items()
    )
    charts.draw(charts.ways(chart), "The smallest file of every combination within the allowed loss")
    missing = [row.title for row in rows if row.chosen is None]
    if missing:
        st.caption(f"Beyond the allowed loss even at its mildest: {', '.join(map(plain, missing))}.")
    alone = min((chosen.bytes for way, chosen in reached.items() if "+" not in way), default=None)
    config = best.configuration
    st.markdown(_verdict(best, alone, combination.confidence))
    _smallest_known(baseline, best, combination.allowance)
    row = st.container(horizontal=True, vertical_alignment="center")
    for label, page, icon in (("Explore", "explore", "tune"), ("Export", "export", "download")):
        if row.button(f"Take it to {label}", icon=f":material/{icon}:", key=f"take_{page}"):
            state.choose(baseline, config)
            st.switch_page(f"pages/{page}.py")
    row.caption(handover.replaced(config), width="content")
    _details(combination, best)


def _verdict(best: BestWay, alone: int | None, confidence: float | None) -> str:
    """The best combination in words. alone : bytes of the best single technique"""
    sure = "" if best.at_most is None or confidence is None else f"; {promised(best.at_most, confidence)}"
    test = best.test
    low, high = test.interval
    times = (
        f", {figures.smaller_than(alone / best.bytes)} the best single technique here"
        if alone and "+" in best.way
        else ""
    )
    return (
        f"The best combination is **{plain(best.title)}**: **{kilobytes(best.bytes)}**, "
        f"{figures.smaller_than(best.compression_ratio)} the baseline in float32{times}; "
        f"{percent(best.accuracy, 2)} on validation ({figures.points(best.difference)}){sure}. On the held-out "
        f"test images: **{percent(test.accuracy, 2)}**, {figures.points(test.difference)} "
        f"({100 * low:+.2f} to {100 * high:+.2f}). Its settings: {plain(in_words(best.configuration))}. The trained "
        "network is kept."
    )


def _smallest_known(baseline: str, best: BestWay, allowance: float) -> None:
    """Where something smaller than the best of these lists was measured within the same loss: that, and where it is."""
    known = [point for point in state.workbench().points(baseline) if not lesson.waits(Choice(baseline, point.config))]
    point = Goal(allowance=allowance).best(known)
    if point is None or point.bytes >= best.bytes:
        return
    st.markdown(
        f"It is the best of these lists, and not the smallest file that is known: of everything that was measured on "
        f"this baseline, the smallest within {100 * allowance:g} pp on validation has **{kilobytes(point.bytes)}** "
        f"({figures.points(point.difference)})."
    )
    st.page_link("pages/compare.py", label="See it on Compare", icon=":material/scatter_plot:")


def _details(combination: Combination, best: BestWay) -> None:
    """Precision, recall and F1-score of the best, and every training."""
    left, right = st.columns(2, gap="large")
    with left:
        report = pd.DataFrame({name: asdict(scores) for name, scores in best.test.report.items()}).T
        st.caption("Precision, recall and F1-score of the best combination, test images")
        report = report.drop(index=["macro avg", "weighted avg"])
        charts.draw(charts.class_report(report), "Precision, recall and F1-score by class")
    with right:
        st.caption("Every training, combination by combination")
        st.dataframe(
            pd.DataFrame(_runs(combination)),
            hide_index=True,
            height=380,
            alt="Every configuration that was trained, with its accuracy and size",
            column_config={
                "accuracy": st.column_config.NumberColumn(format="%.2f %%"),
                "change": st.column_config.NumberColumn(format="%+.2f pp"),
                "KB": st.column_config.NumberColumn("KB in the file", format="%.1f"),
            },
        )


def _runs(combination: Combination) -> list[dict[str, Any]]:
    """A row for every training; within : with the confidence, where one was asked for."""
    return [
        {
            "": tuning.in_brief(run.configuration),
            "KB": run.bytes / 1024,
            "change": 100 * run.difference,
            "within": tuning.allows(lost, combination.allowance),
            "accuracy": 100 * run.accuracy,
        }
        for row in combination.rows
        for run, lost in zip(row.runs, row.promises or [-run.difference for run in row.runs], strict=True)
    ]


def orders(rows: Sequence[Order], asked: dict[str, Any]) -> None:
    """What is left of each technique's work at the end, and which predictions change."""
    table = pd.DataFrame(
        {
            "order": row.order,
            "sparsity": 100 * row.zeros,
            "rank": row.rank,
            "values": row.levels,
            "KB": row.kb,
            "accuracy": 100 * row.accuracy,
            "lost": row.lost,
            "gained": row.gained,
            "flips if swapped": "" if row.flips is None else str(row.flips),
        }
        for row in rows
    )
    number = st.column_config.NumberColumn
    other = "Flips between this order and the same two techniques in the other order."
    st.dataframe(
        table,
        hide_index=True,
        height=35 * (len(table) + 1) + 3,
        alt="What every order of the techniques leaves: sparsity, rank, quantized values, size and flips",
        column_config={
            "order": st.column_config.TextColumn(width=310),
            "sparsity": number(format="%.1f %%", help="Of the tensors that have to be stored."),
            "rank": number(help="Of the weight."),
            "values": number(help="Different quantized values in one output channel, at most."),
            "KB": number(format="%.1f", help="Theoretical size: the least that holds this layer."),
            "accuracy": number(format="%.2f %%", help="Validation, nothing trained."),
            "lost": number(help="Images that the network had right, and now has wrong."),
            "gained": number(help="Images that it had wrong, and now has right."),
            "flips if swapped": st.column_config.TextColumn(help=other),
        },
    )
    st.markdown(_lesson(rows, asked))


def _lesson(rows: Sequence[Order], asked: dict[str, Any]) -> str:
    """What the orders teach, with this run's figures."""
    by_order = {row.order: row for row in rows}
    first, second = by_order["prune → quantize"], by_order["quantize → prune"]
    late, factored = by_order["prune → quantize → low rank"], rows[-1]
    chance = ": on a coarse grid many weights are equally small, and which of them go is chance" if second.flips else ""
    return (
        f"{plain(asked['layer'])}, sparsity {percent(asked['sparsity'], 0)}, {asked['bits']} bits. Prune, then "
        f"quantize: **{percent(first.accuracy, 2)}**; the other way round **{percent(second.accuracy, 2)}**, with "
        f"{counted(second.flips or 0, 'flip')}{chance}. "
        f"Low rank last leaves a sparsity of {percent(late.zeros, 0)} and {late.levels:,} different values: "
        f"**both earlier steps were for nothing**. On the factors all three hold, rank {factored.rank}, sparsity "
        f"{percent(factored.zeros, 0)}, {factored.levels} values: {factored.kb:.1f} KB and "
        f"{percent(factored.accuracy, 2)}, against {first.kb:.1f} KB."
    )
