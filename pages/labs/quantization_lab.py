"""What is said and drawn of quantization: after training, within it, and the sensitivity of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from core.config import CompressionConfig, in_words
from core.report import tables
from core.studies import assignment
from core.studies.answers import AtBits, Judged, LayerAlone, QuantizationHalf, Rung, Step
from core.words import kilobytes, percent, plain
from pages.choice import confidence, state
from pages.shown import charts, figures, handover, jobs, live
from pages.shown.baseline_figures import MEASURES

INTRODUCTION = r"""`linear_quantize` puts every number on a grid of integers,
$q = \mathrm{clamp}(\mathrm{round}(x / s) + z)$: these are the [[quantized values]]. `linear_dequantize` says what an
integer stands for, $\hat x = s\,(q - z)$. $s$ is the [[scale]], the step of the grid, $z$ the [[zero point]]. Inside
the grid no number moves by more than $s/2$; what lies beyond its ends is clipped. The figures above, *By hand* and the
grid follow the controls at the left; the experiments below have settings of their own."""
ABOUT_LADDER = """Nothing is trained here. Each line adds one step to the line before it: a scale for every output
channel ([[granularity]]), an [[MSE-optimal]] clipping range, [[bias correction]], rounding by [[GPTQ]], and at last a
zero point ([[asymmetric quantization|asymmetric]]). On the left only the weights are quantized, on the right the
activations as well, to the same number of bits, by [[calibration]]."""
ABOUT_TRAINING = f"""The assignment: weights and activations at the same number of bits, before training (the best step
above, chosen on validation) and after it. The gradient passes the rounding by the [[straight-through estimator]].
Weights and the steps of all grids are learned ([[LSQ]]; a weight's step begins at 2·E|w|/√q_max) from the labels and,
by [[knowledge distillation]], from the baseline's predictions. {max(assignment.FEWER)} bits and fewer take more epochs
and a higher learning rate. The epoch with the best validation accuracy is kept, or the network before training where no
epoch is better."""
ABOUT_WIDTHS = """The weights of one layer are quantized (per channel, MSE-optimal, GPTQ), and everything else stays
float32."""
ABOUT_MIXED = """Where should the next byte be saved? All layers begin at 8 bits; at every step one layer loses a bit,
the one whose validation loss rises least per byte saved. Activations stay at 8 bits, weights are rounded by GPTQ,
nothing is trained."""
HELP_EPOCHS = f"Epochs of quantization-aware training at each number of bits; {assignment.longer_in_words()}."
HELP_AXIS = "Where the axis of the chart begins: at 0 %, or so far below the baseline's accuracy."
BELOW = {"0 %": None, "-12 pp": 0.12, "-4 pp": 0.04}
BEST_RUNG = "+ GPTQ"
WHAT = {False: "Weights only", True: "Weights and activations"}
DURATION = "Ten minutes for the CNN, four for the MLP, one after the other. What was run before is there at once."


def controls(baseline: str) -> dict[str, dict[str, Any]]:
    """Epochs and allowance; the requests of this page's jobs, by kind; one button for all of them."""
    confidence.allowed()
    epochs = st.number_input("Epochs", 1, 20, 4, key="w_bit_epochs", persist_state="session", help=HELP_EPOCHS)
    about: dict[str, dict[str, Any]] = {
        assignment.LADDER: {},
        assignment.WIDTHS: {"rung": BEST_RUNG},
        assignment.MIXED: {"rung": BEST_RUNG, "activations": 8},
        assignment.QUANTIZATION: {"epochs": int(epochs)},
    }
    return jobs.all_at_once(baseline, about, DURATION)


def _floor(key: str, whole: float) -> float:
    """Where a person lets the axis begin, below the baseline's accuracy. key : of the control"""
    lowest = st.segmented_control(
        "Axis from", list(BELOW), default="-12 pp", required=True, key=key, persist_state="session", help=HELP_AXIS
    )
    below = BELOW.get(lowest or "")
    return 0.0 if below is None else max(0.0, whole - below)


def ladder(baseline: str, rows: Sequence[Rung]) -> None:
    """The chart of all steps, and in words what they bring where bits are few."""
    table = pd.DataFrame(map(asdict, rows))
    table["KB"] = table["bytes"] / 1024
    whole = table["accuracy"] - table["difference"]
    reached = float(whole.iloc[0])
    floor, top = _floor("w_ladder_floor", reached), reached + 0.01
    for cell, (activations, words) in zip(st.columns(2), WHAT.items(), strict=True):
        with cell:
            st.caption(words)
            shown = table[table["activations"] == activations]
            charts.draw(charts.ladder(shown, floor, top), f"Accuracy by bits for every step: {words}")
    alike = [row for row in rows if row.activations]
    parts = []
    for bits in (4, 3, 2):
        best = assignment.best_rung(rows, bits)
        first = next(row for row in alike if (row.bits, row.rung) == (bits, "per tensor"))
        accuracies = f"from {percent(first.accuracy, 1)} to **{percent(best.accuracy, 2)}**"
        parts.append(f"at **{bits} bits** {accuracies} ({plain(best.rung)})")
    st.markdown(
        f"With weights and activations at the same bits, these steps take the accuracy {', '.join(parts)}, without any "
        f"training; the baseline has {percent(reached, 2)}."
    )
    fewest = assignment.fewest_rung(rows, confidence.allowance())
    if fewest is not None:
        config = fewest.configuration
        st.markdown(
            f"**{fewest.bits} bits** are the fewest within {100 * confidence.allowance():g} pp without training: "
            f"{percent(fewest.accuracy, 2)} on validation ({figures.points(fewest.difference)}). "
            + live.verdict_on_test(state.Choice(baseline, config), confidence.allowance())
        )
        handover.to_explore(config, "ladder")


def before_and_after(study: QuantizationHalf) -> None:
    """The assignment's chart and table, the answer in a sentence, and curves and classes at each number of bits."""
    rows = study.rows
    _chart(study)
    st.dataframe(
        pd.DataFrame(_table(study)),
        hide_index=True,
        height=35 * (3 * len(rows) + 2) + 3,
        alt="Accuracy, precision, recall, F1-score and size at every number of bits, before and after training",
        column_config=_columns(),
    )
    st.caption(
        "Precision, recall and F1-score are macro averages over the classes of the test images. `model_size_kb` is "
        "the theoretical size: weights at their bits, biases in float32, no file around them. The file is "
        "entropy-coded: the more often the same few values occur, the smaller it is."
    )
    st.markdown(_answer(study, confidence.allowance()))
    best = assignment.fewest_bits(rows, confidence.allowance())
    if best is not None:
        handover.to_explore(best.after.configuration, "trained", f"Use {best.bits} bits on Explore")
    _one_width(rows)


def _chart(study: QuantizationHalf) -> None:
    baseline = study.float32.test.accuracy
    chart = tables.bits(study)
    shown = chart[chart["low"] >= _floor("w_trained_floor", baseline)]
    charts.draw(charts.before_after(shown, baseline), "Accuracy on test by bits, before and after training")
    below = chart[~chart.index.isin(shown.index)]
    left_out = [f"{row.bits} bits, {row.when}" for row in below.itertuples()]
    st.caption(
        f"The dashed line is the baseline, {percent(baseline, 2)}; bars are 95 % intervals of the "
        "difference from it. *Min-max*: a scale per channel up to the largest number, nothing else."
        + (f" Below the axis: {', '.join(left_out)}." if left_out else "")
    )


def _table(study: QuantizationHalf) -> list[dict[str, Any]]:
    """A row for the network as it is, and for every number of bits before and after training."""
    listed = [(32, "float32", study.float32)]
    listed += [(row.bits, words, getattr(row, when)) for row in study.rows for when, words in tables.WHEN.items()]
    return [_table_row(study.kb, *each) for each in listed]


def _table_row(whole: float, bits: int, words: str, judged: Judged) -> dict[str, Any]:
    """whole : KB of the network in float32, in theory"""
    test = judged.test
    low, high = test.interval
    means = asdict(test.report["macro avg"])
    return {
        "bits": bits,
        "": words,
        "test": 100 * test.accuracy,
        "change": 100 * test.difference,
        "interval": f"{100 * low:+.2f} to {100 * high:+.2f}",
        "validation": 100 * judged.accuracy,
        **{name: 100 * means[measure] for measure, name in MEASURES.items()},
        "model_size_kb": judged.kb,
        "ratio by formula": whole / judged.kb,
        "KB": judged.bytes / 1024,
        "compression ratio": judged.compression_ratio,
    }


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    shares = ("test", "validation", *MEASURES.values())
    return {
        **{name: number(format="%.2f %%") for name in shares},
        "change": number(format="%+.2f pp", help="Against the baseline in float32, with its 95 % interval."),
        "model_size_kb": number(format="%.1f"),
        "KB": number("KB in the file", format="%.1f"),
        "ratio by formula": number(format="%.1f ×", help="`model_size_kb` of the baseline over that of this network."),
        "compression ratio": number(format="%.1f ×", help="Bytes of the baseline in float32 over bytes of the file."),
    }


def _answer(study: QuantizationHalf, allowed: float) -> str:
    """Which bits are best, with this run's figures."""
    rows = study.rows
    listed = ", ".join(
        f"{row.bits} bits {row.after.compression_ratio:.1f}× at {figures.points(row.after.test.difference)}"
        for row in rows
    )
    text = f"After training, compression ratio (of the file) and change of accuracy on the test images: {listed}. "
    free = [row.bits for row in rows if row.after.test.interval[1] >= 0]
    if free:
        text += f"Down to **{min(free)} bits** the loss on the test images cannot be told from chance. "
    best = assignment.fewest_bits(rows, allowed)
    if best is None:
        return f"{text}At no number of bits does training keep the loss within {100 * allowed:g} pp on validation."
    after, test = best.after, best.after.test
    return (
        f"{text}**{best.bits} bits are the fewest within {100 * allowed:g} pp on the validation images**, by which "
        f"bits are chosen: {percent(after.accuracy, 2)} ({figures.points(after.difference)}), {after.kb:,.1f} KB "
        f"instead of {study.kb:,.1f} by `model_size_kb`, {kilobytes(after.bytes)} in the file. On the held-out test "
        f"images: **{percent(test.accuracy, 2)}** ({figures.points(test.difference)})"
        f"{figures.over(test.difference, allowed)}. Its settings: {plain(in_words(after.configuration))}."
    )


def _one_width(rows: Sequence[AtBits]) -> None:
    """Curves of the training at one number of bits, and precision, recall and F1-score by class, before and after."""
    listed = {f"{row.bits} bits": row for row in rows}
    name = st.segmented_control(
        "Training curves and classes at", list(listed), default=list(listed)[2], required=True, key="w_width"
    )
    row = listed.get(str(name), rows[0])
    loss, accuracy = st.columns(2)
    for cell, chart in zip((loss, accuracy), charts.training_curves(pd.DataFrame(row.history)), strict=True):
        with cell:
            charts.draw(chart, f"Loss and accuracy while the network was trained at {name}")
    which = f"Epoch {row.kept} is kept." if row.kept else "No epoch was better than the start, which is kept."
    st.caption(
        f"{which} Half of the loss is the cross entropy with the labels, label smoothing included, half the distance "
        "to the baseline's predictions, so that it does not fall to 0. Where the cross entropy with the labels alone "
        "was recorded, it is dashed."
    )
    reports = {"before": row.before.test.report, "after": row.after.test.report}
    table = pd.DataFrame(
        {
            "class": label,
            **{
                f"{name}, {when}": 100 * getattr(report[label], measure)
                for measure, name in MEASURES.items()
                for when, report in reports.items()
            },
        }
        for label in reports["after"]
    )
    in_percent = st.column_config.NumberColumn(format="%.1f %%")
    st.dataframe(
        table,
        hide_index=True,
        height=35 * (len(table) + 1) + 3,
        alt=f"Precision, recall and F1-score by class at {name}, before and after training",
        column_config=dict.fromkeys(table.columns[1:], in_percent),
    )
    st.caption("On the test images; *before* is the best post-training quantization.")


def plainer(baseline: str) -> None:
    """Where the two experiments on single layers cannot do what is said above."""
    asked, bench = assignment.alike(8, BEST_RUNG), state.workbench()
    if assignment.feasible(bench, baseline, asked) != asked:
        st.caption(
            "A layer of this network has so many inputs that GPTQ and bias correction would need more memory than "
            "there is: here weights are rounded to the nearest point."
        )


def sensitivity(rows: Sequence[LayerAlone]) -> None:
    """A small chart per layer; the most and the least sensitive in words."""
    table, allowed = pd.DataFrame(map(asdict, rows)), confidence.allowance()
    charts.sensitivity(table, allowed, "Accuracy lost by rounding one layer alone, by its bits", "bits")
    loss = -table[table["bits"] == 2].set_index("layer")["difference"]
    most, least = loss.idxmax(), loss.idxmin()
    other = "" if len(loss) == 1 else f", the most; **{plain(least)}** alone {figures.costs(loss[least])}"
    st.markdown(
        f"At 2 bits **{plain(most)}** alone {figures.costs(loss[most])}{other}. The dashed line is the allowed loss of "
        f"{100 * allowed:g} pp."
    )


def mixed_beside(steps: Sequence[Step], trained: QuantizationHalf) -> None:
    """What bits of its own for every layer bring, beside the fewest bits everywhere and training."""
    bits, fewest = trained.rows[-1].bits, trained.rows[-1].after
    near = [step for step in steps if step.bytes <= fewest.bytes]
    if near:
        best = max(near, key=lambda step: step.accuracy)
        st.markdown(
            f"For comparison, {bits} bits everywhere after training: {kilobytes(fewest.bytes)}, "
            f"{percent(fewest.accuracy, 2)}. Layer by layer, with activations at 8 bits and **without any "
            f"training**: {kilobytes(best.bytes)}, **{percent(best.accuracy, 2)}**."
            + _other_grid(bits, fewest.configuration, best.configuration)
        )


def _other_grid(bits: int, everywhere: CompressionConfig, mixed: CompressionConfig) -> str:
    """Why more bits in some layers may take fewer bytes than these everywhere: the grids have fewer points."""
    if (everywhere.symmetry, mixed.symmetry) != ("asymmetric", "symmetric"):
        return ""
    return (
        f" The grids differ: {bits} bits everywhere have a zero point and {2**bits} values; layer by layer the grid is "
        f"symmetric, and {bits} bits have {2**bits - 1}. Fewer values take fewer bytes after entropy coding: such a "
        "file can be smaller although some layers have more bits."
    )
