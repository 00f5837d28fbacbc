"""Ranks for the whole network within a budget: one click, the whole curve of steps, and what the budget allows."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.config import DENSE, CompressionConfig, LowRankMethod
from core.search import ALLOCATION, within
from pages.parts import charts, figures, jobs, state

HELP_LOST = "Percentage points of accuracy that may be lost on the 5,000 validation images, without any training."
HELP_SIZE = "The largest file, in KB (1,024 bytes)."


def section(method: LowRankMethod) -> None:
    """The button, the curve, and the step that a budget allows."""
    choice, bench = state.current(), state.workbench()
    st.subheader("Ranks for the whole network")
    st.markdown(
        "Where should the next byte be saved? Step by step, every layer is tried with a smaller rank, and the one "
        "whose validation loss rises least per byte saved gets it. No layer is factored above break-even."
    )
    request = {"kind": ALLOCATION, "baseline": choice.baseline, "method": method}
    answer = jobs.answered(**request)
    if answer is None:
        if st.button("Find the steps", type="primary", icon=":material/stairs:"):
            bench.jobs.submit(request)
            st.rerun()
        jobs.panel(ALLOCATION, finished=False)
        return
    steps = answer["steps"]
    left, right = st.columns(2)
    budget = left.segmented_control("Budget", ["Accuracy", "Bytes"], default="Accuracy", required=True, key="w_budget")
    if budget == "Bytes":
        size = right.number_input("At most, KB", 1, 100_000, 400, key="w_size", help=HELP_SIZE)
        step = within(steps, size=int(size * 1024))
    else:
        points = right.number_input("Lose at most, pp", 0.0, 20.0, 1.0, 0.1, key="w_lost", help=HELP_LOST)
        step = within(steps, lost=float(points) / 100)
    rows = pd.DataFrame(steps).assign(KB=[own["bytes"] / 1024 for own in steps], chosen=[own is step for own in steps])
    rows["step"] = [f"{own['layer']} to rank {own['rank']}" if own["layer"] else "dense" for own in steps]
    charts.draw(charts.allocation(rows), f"Accuracy against file size over {len(steps)} steps of smaller ranks")
    if step is None:
        st.warning("No step is within this budget: the smallest loses too much, or the budget is too small.")
        return
    config = CompressionConfig.from_json(step["config"])
    ranks = ", ".join(f"{name} {own.rank}" for name, own in config.layers if own.rank != DENSE)
    st.markdown(
        f"**{figures.kilobytes(step['bytes'])}**, {steps[0]['bytes'] / step['bytes']:.1f} times smaller, "
        f"**{step['accuracy']:.2%}** ({figures.points(step['difference'])}), without training: "
        f"{'ranks ' + ranks if ranks else 'every layer dense'}."
    )
    if st.button("Use these ranks on Explore", icon=":material/tune:"):
        state.choose(config=config)
        st.switch_page("pages/explore.py")
