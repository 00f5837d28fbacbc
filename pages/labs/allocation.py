"""Settings layer by layer within a budget: one click, the whole curve of greedy steps, and what the budget allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import streamlit as st

from core.config import DENSE
from core.studies.answers import Step
from core.studies.tuning import ALLOCATION, within
from core.words import kilobytes, percent, plain
from pages.choice import state, terms
from pages.shown import charts, figures, handover, jobs

HELP_LOST = "How many percentage points of accuracy may be lost on the validation images, without any training."
HELP_SIZE = "The largest file, in KB (1,024 bytes)."


def section(method: str) -> None:
    """Ranks: the button, the curve, and the step that a budget allows."""
    terms.heading("Rank allocation", "A rank for each layer of the whole network, within a budget.", "low rank")
    st.markdown(
        "Where should the next byte be saved? At each step every layer is tried with a smaller rank, and the one whose "
        "validation loss rises least per byte saved gets it. No layer is factored above break-even."
    )
    request = {"kind": ALLOCATION, "baseline": state.current().baseline, "method": method}
    answer = jobs.answer_or_button(request, "Find the steps", ":material/stairs:")
    if answer is not None:
        walk(answer.steps, "rank")


def walk(steps: Sequence[Step], setting: str) -> None:
    """The curve of all steps, and the one that a budget allows. setting : what gets smaller, "rank" or "bits"."""
    left, right = st.columns(2)
    budget = left.segmented_control(
        "Budget", ["Accuracy", "Bytes"], default="Accuracy", required=True, key=f"w_budget_{setting}"
    )
    if budget == "Bytes":
        size = right.number_input(
            "At most, KB", 1, 100_000, 400, key=f"w_size_{setting}", help=HELP_SIZE, persist_state="session"
        )
        step = within(steps, size=int(size * 1024))
    else:
        points = right.number_input(
            "Allowed accuracy loss, pp", 0.0, 20.0, 1.0, 0.1, key=f"w_lost_{setting}", help=HELP_LOST,
            persist_state="session",
        )  # fmt: skip
        step = within(steps, lost=float(points) / 100)
    rows = pd.DataFrame(map(asdict, steps)).assign(
        KB=[each.bytes / 1024 for each in steps],
        chosen=[each is step for each in steps],
        step=[_words(each, setting) for each in steps],
    )
    charts.draw(charts.allocation(rows), f"Accuracy against file size over {len(steps)} steps of smaller {setting}")
    if step is None:
        smallest = min(each.bytes for each in steps)
        st.warning(f"No step is within this budget; the smallest has {kilobytes(smallest)}.")
        return
    config = step.configuration
    chosen = {name: getattr(layer, setting) for name, layer in config.layers}
    listed = ", ".join(f"{plain(name)} {value}" for name, value in chosen.items() if value != DENSE)
    ratio = figures.smaller_than(state.workbench().baseline(state.current().baseline).bytes / step.bytes)
    st.markdown(
        f"**{kilobytes(step.bytes)}** ({step.bytes:,} bytes), {ratio} the float32 baseline, "
        f"**{percent(step.accuracy, 2)}** ({figures.points(step.difference)}), without training; "
        f"{f'{setting} by layer: ' + listed if listed else 'every layer dense'}."
    )
    handover.to_explore(config, setting)


def _words(step: Step, setting: str) -> str:
    if not step.layer:
        return "the beginning"
    return f"{step.layer}: {setting} {getattr(step.configuration.layer(step.layer), setting)}"
