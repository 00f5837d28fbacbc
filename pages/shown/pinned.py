"""What was pinned, beside what is chosen now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.config import in_words
from core.words import kilobytes, percent, plain
from pages.choice import lesson, state
from pages.shown import figures, live

if TYPE_CHECKING:
    from core.bench.workbench import Result
    from core.config import CompressionConfig

BASELINE = "the baseline"


def side_by_side(result: Result) -> dict[str, Result]:
    """A card for each pinned configuration; returns by name the results of those that were judged by the same images.
    Nothing where nothing is pinned."""
    others: dict[str, Result] = {}
    if not state.pins():
        return others
    st.subheader("Pinned")
    cells = st.columns(state.PINS)
    for number, (cell, choice) in enumerate(zip(cells, state.pins(), strict=False), 1):
        with cell.container(border=True):
            if lesson.waits(live.available(choice)):
                st.markdown(f"{_title(number, choice, choice.config)}  \nIt waits for your guess: **Go**.")
            else:
                other = live.measured(choice)
                if state.comparable(result.baseline_id, choice.baseline):
                    others[f"pin {number}"] = other
                _figures(number, choice, other, result)
            _buttons(number, choice)
    st.page_link("pages/compare.py", label="How far are they from the best of all?", icon=":material/scatter_plot:")
    return others


def _title(number: int, choice: state.Choice, config: CompressionConfig) -> str:
    before = "" if config == choice.config else ", **not trained here yet**"
    return (
        f"**:orange[Pin {number}]** · {plain(state.workbench().title(choice.baseline))}  \n"
        f"{plain(in_words(config))}{before}"
    )


def _figures(number: int, choice: state.Choice, other: Result, now: Result) -> None:
    """A pinned configuration, with the change from it to what is chosen now."""
    st.markdown(
        f"{_title(number, choice, other.config)}  \n"
        f"**{percent(other.evaluation.accuracy, 2)}** · **{kilobytes(other.bytes)}** · "
        f"{other.compression_ratio:.1f}×  \n{_from_here(choice, other, now)}"
    )


def _from_here(choice: state.Choice, other: Result, now: Result) -> str:
    if not state.comparable(now.baseline_id, choice.baseline):
        images = state.workbench().profile(choice.baseline).images.data
        return f"Judged by other images ({plain(images)}): not compared with what is chosen now."
    change = state.workbench().compare(now, other)
    step = figures.UNMOVED if change.lost == change.gained == 0 else figures.points(change.difference)
    sure = " (a real change)" if figures.is_sure(change) else ""
    return f"From here to now: {step}{sure}, file × {now.bytes / other.bytes:.2f}"


def _buttons(number: int, choice: state.Choice) -> None:
    row = st.container(horizontal=True, gap="small")
    row.button("Go", key=f"go_{number}", on_click=state.choose, args=tuple(choice), help="Choose this configuration.")
    row.button(
        "Remove",
        key=f"unpin_{number}",
        on_click=state.unpin,
        args=(choice,),
        help="Take it off the board and the link.",
    )


def choose_reference(others: dict[str, Result]) -> Result | None:
    """What classes and flips are compared with: the baseline, or a pinned configuration."""
    if not others:
        return None
    picked = st.segmented_control(
        "Classes and flips: now, compared with", [BASELINE, *others], default=BASELINE, required=True, key="w_against"
    )
    return others.get(picked or BASELINE)
