"""The screen of the low-rank report: how it is started, and what its figures say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from core.studies.answers import LowRankReport, ScenarioRow
from core.studies.reproduce import BATCHES, LOW_RANK
from core.words import counted, percent, plain
from pages.choice import classroom, frame, state, terms
from pages.shown import charts, figures, low_rank_charts

INTRODUCTION = """A course report factored the middle layer of an MLP ([[low-rank factorization]]): 50 % of its rank
removed, then 80 %, each followed by three epochs of [[fine-tuning]]. It concludes that compression costs nothing and
even regularizes. Here its experiments are repeated with **several seeds**, with **the uncompressed network trained in
the same way as the [[control]]**, with [[data-aware]] factors, and with all hidden layers. Accuracies are those of the
10,000 test images: a verdict, nothing is tuned on them."""
HELP_SEEDS = "How many trainings of each scenario: with one alone, effect and chance cannot be told apart."


def controls() -> dict[str, Any]:
    """Seeds and the one button; what it asks for."""
    seeds = st.slider("Seeds", 1, 5, 3, key="report_seeds", persist_state="session", help=HELP_SEEDS)
    request = {"kind": LOW_RANK, "seeds": int(min(max(seeds, 1), 5)), "epochs": 3}
    if st.button("Run the experiments", type="primary", icon=":material/play_arrow:", width="stretch"):
        classroom.run(request)
        frame.draw_again()
    classroom.before_start(request)
    return request


def _after(row: ScenarioRow) -> float:
    """Accuracy after fine-tuning, mean over the seeds."""
    return sum(run.accuracy for run in row.after) / len(row.after)


def _over_control(row: ScenarioRow) -> float:
    """Difference from the control, mean over the seeds."""
    return sum(run.over_control.difference for run in row.after) / len(row.after)


def verdict(report: LowRankReport) -> str:
    """What this run says of the report's three claims, with its figures."""
    rows = {row.scenario: row for row in report.rows}
    control, half, most = rows["none"], rows["50 % of fc2"], rows["80 % of fc2"]
    trained = _after(control) - control.before.accuracy
    gains = [run.over_control for row in (half, most) for run in row.after]
    sure = [gain for gain in gains if gain.interval[0] > 0 or gain.interval[1] < 0]
    whole = rows["80 % of fc1, fc2, fc3, data-aware"]
    return (
        f"- **Does compression regularize?** Three epochs of training take the *uncompressed* network from "
        f"{percent(control.before.accuracy, 2)} to {percent(_after(control), 2)}, {figures.points(trained)}: that "
        f"is the gain. Against this control the factored networks are at {figures.points(_over_control(half))} "
        f"(50 %) and {figures.points(_over_control(most))} (80 %) on average; of these {len(gains)} paired "
        f"differences {len(sure)} can be told from chance.\n"
        f"- **What does 50 % save?** Nothing: {half.parameters:,} parameters of {control.parameters:,}. Rank 256 "
        "of a 512 × 512 layer is just where two factors are as large as the layer (break-even 255).\n"
        f"- **What more was possible?** All hidden layers, data-aware, 80 % removed: {whole.parameters:,} "
        f"parameters, {figures.smaller(whole.compression_ratio)}, {percent(whole.before.accuracy, 2)} before "
        f"and {percent(_after(whole), 2)} after the training, {figures.points(_over_control(whole))} "
        "against the control."
    )


def accuracy(report: LowRankReport) -> None:
    """Accuracy against compression ratio, before and after, ours and published."""
    rows = []
    for row in report.rows:
        reached = [run.accuracy for run in row.after]
        shown = {"before": [row.before.accuracy], "after": reached}
        if row.published is not None:
            shown |= {"published, before": [row.published.before], "published, after": [row.published.after]}
        for what, values in shown.items():
            point = {"scenario": row.scenario, "ratio": row.compression_ratio, "what": what}
            rows.append({**point, "accuracy": sum(values) / len(values), "low": min(values), "high": max(values)})
    st.subheader("Accuracy against compression ratio")
    about = "Accuracy against compression ratio for each scenario, before and after fine-tuning, and as published"
    charts.draw(low_rank_charts.accuracy_against_ratio(pd.DataFrame(rows)), about)
    st.caption(
        f"After {report.epochs} {'epoch' if report.epochs == 1 else 'epochs'} of fine-tuning: the mean of "
        f"{counted(report.seeds, 'seed')}, and their range as a line."
    )


def _row(row: ScenarioRow) -> dict[str, Any]:
    published = row.published
    gains = [run.over_control.difference for run in row.after]
    ends = [end for run in row.after for end in run.over_control.interval]
    return {
        "scenario": row.scenario,
        "parameters": row.parameters,
        "published parameters": None if published is None else published.parameters,
        "before": 100 * row.before.accuracy,
        "published before": None if published is None else 100 * published.before,
        "after": 100 * _after(row),
        "published after": None if published is None else 100 * published.after,
        "against control": 100 * sum(gains) / len(gains),
        "least and most": f"{100 * min(ends):+.2f} to {100 * max(ends):+.2f}",
    }


def table(report: LowRankReport) -> None:
    """Every scenario, the published figures beside ours."""
    in_percent = st.column_config.NumberColumn(format="%.2f %%")
    published_percent = st.column_config.NumberColumn("published", format="%.2f %%")
    st.dataframe(
        pd.DataFrame(map(_row, report.rows)),
        hide_index=True,
        alt="Scenarios with parameters and accuracies, ours and published",
        placeholder="–",
        column_config={
            "parameters": st.column_config.NumberColumn(format="localized"),
            "published parameters": st.column_config.NumberColumn("published", format="localized"),
            **dict.fromkeys(("before", "after"), in_percent),
            **dict.fromkeys(("published before", "published after"), published_percent),
            "against control": st.column_config.NumberColumn(
                format="%+.2f pp", help="Mean over seeds, paired by seed."
            ),
            "least and most": st.column_config.TextColumn(help="The ends of all 95 % intervals, over the seeds."),
        },
    )


def conditions(report: LowRankReport) -> None:
    """Condition number against measured loss, and what the ranks of both say."""
    layers = pd.DataFrame(map(asdict, report.layers))
    layers["loss"], layers["name"] = -layers["difference"], layers["layer"]
    layers["network"] = layers["baseline"].map(state.workbench().title)
    terms.heading("Condition number and loss", "Does it tell which layer can be compressed?", "condition number")
    rho, p = report.rank_correlations.condition_number
    energy, _ = report.rank_correlations.energy
    holds = "as the report claims" if rho > 0 else "the opposite of what the report claims"
    sure = "" if p < 0.05 else ", which is too little to tell from chance"
    st.markdown(
        f"The report claims that well-conditioned layers suit compression. Of each layer of the CNN and both MLPs, "
        f"80 % of the rank was removed: the rank correlation of condition number and loss is **{rho:+.2f}** "
        f"(p = {p:.3f}){sure}. A larger condition number goes with {'more' if rho > 0 else 'less'} loss: **{holds}**. "
        "It is near 1 where all directions count alike, as in the small layers, whose few directions are all needed. "
        f"The rank correlation of the energy kept and the loss is {energy:+.2f}."
    )
    about = "Accuracy lost by factoring each layer alone, against its condition number"
    charts.draw(low_rank_charts.conditions(layers.dropna(subset="condition_number")), about)


def _times(row: ScenarioRow) -> dict[str, Any]:
    about = {"scenario": row.scenario, "multiply-accumulates": row.latency.multiply_accumulates}
    times: dict[str, Any] = {}
    for where, timed in row.latency.batches.items():
        times[f"batch {where}"] = 1e6 * timed.median
        times[f"spread {where}"] = f"{1e6 * timed.lower:.1f} to {1e6 * timed.upper:.1f}"
    published = None if row.published is None else row.published.milliseconds
    return {**about, "products": row.latency.products, **times, "published": published}


def _slower(row: ScenarioRow, dense: ScenarioRow) -> list[str]:
    """Where it is slower than the dense network, beyond the quartiles, without more arithmetic."""
    if row is dense or row.latency.multiply_accumulates > dense.latency.multiply_accumulates:
        return []
    before = dense.latency.batches
    return [
        f"{row.scenario} at batch {where}"
        for where, timed in row.latency.batches.items()
        if timed.lower > before[where].upper
    ]


def latency(report: LowRankReport) -> None:
    """Time per image beside the arithmetic, and where less arithmetic is not faster."""
    terms.heading("Latency", "Time per image.")
    dense = report.rows[0]
    slower = [place for row in report.rows for place in _slower(row, dense)]
    microseconds = st.column_config.NumberColumn(format="%.1f µs")
    st.dataframe(
        pd.DataFrame(map(_times, report.rows)),
        hide_index=True,
        alt="Time per image of each scenario, at batch 1 and 250, with multiply-accumulates",
        placeholder="–",
        column_config={
            "multiply-accumulates": st.column_config.NumberColumn(format="localized", help="For one image."),
            "products": st.column_config.NumberColumn(help="Matrix products in a row: a factored layer has two."),
            **dict.fromkeys((f"batch {where}" for where in dense.latency.batches), microseconds),
            "published": st.column_config.NumberColumn(
                format="%.2f ms", help="Inference time on a CPU that the course's report gives, for an unknown batch."
            ),
        },
    )
    st.caption("The networks take turns, nine times, and each shows its fastest round: median and quartiles.")
    told = f"**Slower than dense** without more arithmetic: {', '.join(map(plain, slower))}. " if slower else ""
    on_gpu = len(dense.latency.batches) > len(BATCHES)
    whole, small = (4 * report.rows[place].parameters / 1024 for place in (0, -1))
    st.markdown(
        told
        + "At batch 1 most of the time goes into reading the weights: fewer parameters are fewer bytes to fetch. At "
        "batch 250 it goes into the products themselves, and two thin ones use the processor less well than one square "
        "one. On a **GPU** one more product is one more kernel launch, some microseconds, which is more than these "
        "layers take to compute: a factored network should be slower there unless batches are large "
        f"({'measured above' if on_gpu else 'there is no GPU here'}). On an **embedded device** without a cache for "
        "the whole network the bytes decide: each weight is fetched from flash once per image, so that time follows "
        f"size, {whole:,.0f} KB against {small:,.0f} KB in float32 (reasoned from the counts, not measured)."
    )
