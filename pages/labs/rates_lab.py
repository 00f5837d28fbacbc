"""What is said and drawn of a rate in the loss: accuracy against bytes, and beside pruning at equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import settings
from core.studies import duration, rates
from core.studies.answers import RateAblation, RateCurve, Rated
from core.words import kilobytes, percent, plain
from pages.choice import state, terms
from pages.shown import charts, figures, handover, jobs

ABOUT = """What does compression cost? One click trains the same network for several values of
[[λ|Lagrange multiplier]], which says how much a bit per weight of the file counts beside the accuracy. Weights move to
values that come often, and [[entropy coding]] makes the file smaller at the same number of bits."""
FORMULA = r"\text{loss} = \text{task} + \lambda R, \quad R = \frac{1}{N} \sum_{i=1}^{N} -\log_2 p(q_i)"
SOURCE = """$R$ is the [[rate]]: bits per weight that the coder spends on the quantized values $q$, by how often each
comes (Shannon 1948; in the loss: Oktay et al. 2020)."""
ABOUT_ABLATION = """Is the rate better than what was known before? The same bits, epochs and teacher, once with a rate
and once without it and [[pruned|pruning]] instead, so far that the files take about as many bytes; all with three
seeds. Accuracies are those of the test images: which epoch is kept was chosen on validation, by accuracy where there is
no rate and by the whole loss where there is one."""
HELP_BITS = "Of every weight. The rate makes the file smaller without taking any of the values away."
HELP_ACTIVATIONS = "Round the signals between the layers, too, as a device with integers needs it."
HELP_EPOCHS = "Of every training. Larger λ need more of them."
HELP_SCHEDULE = "How the network without a rate is pruned: all at once before training, or little by little within it."


def controls(baseline: str) -> dict[str, dict[str, Any]]:
    """The requests of the two jobs, by kind."""
    labels = settings.named("schedule").kind.labels
    with st.expander("Rate in the loss", icon=":material/show_chart:", expanded=True):
        bits = st.segmented_control(
            "Bits per weight",
            rates.BITS,
            default=4,
            required=True,
            key="w_rate_bits",
            persist_state="session",
            help=HELP_BITS,
        )
        activations = st.toggle(
            "Activations at 8 bits", key="w_rate_activations", persist_state="session", help=HELP_ACTIVATIONS
        )
        epochs = st.number_input("Epochs", 1, 40, 4, key="w_rate_epochs", persist_state="session", help=HELP_EPOCHS)
        schedule = st.segmented_control(
            "Pruning beside it", list(labels), default="iterative", required=True, format_func=labels.get,
            key="w_rate_schedule", persist_state="session", help=HELP_SCHEDULE,
        )  # fmt: skip
        about = {"bits": bits or 4, "activation_bits": 8 if activations else None, "epochs": int(epochs)}
        ablation = {**about, "schedule": schedule or "iterative", "seeds": 3}
        asked = {
            kind: {"kind": kind, "baseline": baseline, **each}
            for kind, each in ((rates.CURVE, about), (rates.ABLATION, ablation))
        }
        times = [duration.in_words(duration.expected(state.workbench(), request)) for request in asked.values()]
        st.caption(f"The curve takes {times[0]} here, the comparison {times[1]}. You can go on meanwhile.")
    return asked


def section(asked: dict[str, dict[str, Any]]) -> None:
    """Both experiments. asked : as `controls` has it"""
    terms.heading(
        "Rate against accuracy", "One picture of what compression costs: accuracy for bytes.", "Rate-distortion"
    )
    terms.say(ABOUT)
    st.latex(FORMULA)
    terms.say(SOURCE)
    found = jobs.answer_or_button(asked[rates.CURVE], "Train with several λ", ":material/show_chart:")
    if found is not None:
        curve(found)
    terms.heading(
        "Training with a rate against pruning, at equal file size",
        "An ablation: what does the rate itself bring?",
        "Rate",
    )
    terms.say(ABOUT_ABLATION)
    found = jobs.answer_or_button(asked[rates.ABLATION], "Compare with pruning", ":material/balance:")
    if found is not None:
        ablation(found)


def curve(found: RateCurve) -> None:
    """The picture, the table, and the file of one λ beside that without a rate."""
    rows, baseline = found.rows, found.baseline_accuracy
    ends = f"{kilobytes(rows[0].bytes)} without a rate to {kilobytes(rows[-1].bytes)}"
    chart = charts.at_sizes(_points(rows, "with a rate", baseline), baseline, "validation")
    charts.draw(chart, f"Accuracy on validation against the size of the file, from {ends}")
    st.caption(
        f"The dashed line is the baseline in float32, {percent(baseline, 2)}. Bars are 95 % intervals of the "
        "difference from it, paired, on the validation images, on which the epoch was chosen, too."
    )
    _table(rows, "rate-accuracy.csv", "Size and accuracy for each λ")
    listed = {f"{row.rate_weight:g}": row for row in rows[1:]}
    names = list(listed)
    name = st.segmented_control("λ", names, default=names[-2], required=True, key="w_rate_row")
    first, row = rows[0], listed.get(str(name), rows[-2])
    st.markdown(
        f"From λ = 0 to λ = {row.rate_weight:g} the file goes from {kilobytes(first.bytes)} to "
        f"**{kilobytes(row.bytes)}** ({first.bytes / row.bytes:.1f}×), {first.bits_per_weight:.2f} to "
        f"{row.bits_per_weight:.2f} bits per weight, and the accuracy from {percent(first.accuracy, 2)} to "
        f"**{percent(row.accuracy, 2)}** ({figures.points(row.accuracy - first.accuracy)})."
    )
    handover.to_explore(row.configuration, "rate", f"Use λ = {row.rate_weight:g} on Explore")


def ablation(found: RateAblation) -> None:
    """The answer in words, the picture of both ways, and the table."""
    st.markdown(f"**{plain(rates.verdict(found))}**")
    baseline, at = found.baseline_accuracy, found.compared
    both = [_points(found.rated, "with a rate", baseline), _points(found.pruned, "pruned", baseline)]
    place = None if at is None else at.bytes / 1024
    chart = charts.at_sizes(pd.concat(both, ignore_index=True), baseline, "test", place)
    charts.draw(chart, "Accuracy on test against the size of the file, with a rate and pruned, a line for each seed")
    said = f"The dashed line is the baseline in float32, {percent(baseline, 2)}; each seed has a line of its own."
    if at is not None:
        each = ", ".join(figures.points(difference) for difference in at.differences)
        said += (
            f" Compared at the dotted line, the middle of the sizes that all reach ({kilobytes(at.low)} to "
            f"{kilobytes(at.high)}), between two trainings linear in the logarithm of the bytes. With a rate against "
            f"pruned, seed by seed: {each}. So few seeds make the interval wide: ±4.30 standard errors."
        )
    st.caption(said)
    _table([*found.rated, *found.pruned], "rate-ablation.csv", "Size and accuracy of every training, in both ways")


def _points(rows: Sequence[Rated], way: str, baseline: float) -> pd.DataFrame:
    """As `charts.at_sizes` wants them."""
    return pd.DataFrame(
        {
            "KB": row.bytes / 1024,
            "accuracy": row.accuracy,
            "low": baseline + row.interval[0],
            "high": baseline + row.interval[1],
            "way": way,
            "seed": row.seed,
            "setting": rates.in_brief(row.configuration),
        }
        for row in rows
    )


def _table(rows: Sequence[Rated], file: str, about: str) -> None:
    """A line for each training, and the same as CSV."""
    table = pd.DataFrame(
        {
            "training": rates.in_brief(row.configuration),
            "seed": row.seed,
            "KB": row.bytes / 1024,
            "bits per weight": row.bits_per_weight,
            "pruned": 100 * row.sparsity,
            "accuracy": 100 * row.accuracy,
            "change": 100 * row.difference,
            "interval": f"{100 * row.interval[0]:+.2f} to {100 * row.interval[1]:+.2f}",
        }
        for row in rows
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        alt=about,
        column_config={
            "KB": number("KB in the file", format="%.2f"),
            "bits per weight": number(format="%.2f", help="That the file spends on its weights."),
            "pruned": number(
                format="%.1f %%", help="Sparsity. A rate rounds weights to 0 instead; these do not count."
            ),
            "accuracy": number(format="%.2f %%"),
            "change": number(format="%+.2f pp", help="Against the baseline in float32, with its 95 % interval."),
        },
    )
    st.download_button(
        "Download as CSV", table.round(4).to_csv(index=False), file, "text/csv", icon=":material/download:",
        on_click="ignore", key=f"csv_{file}",
    )  # fmt: skip
