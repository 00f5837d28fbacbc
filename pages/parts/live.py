"""The headline while it is being measured: closed-form figures at once, then an estimate, then the exact number."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import streamlit as st

from core.config import to_query
from pages.parts import figures, state

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from core.workbench import Early, Outline, Result, Ticket

PATIENCE_SECONDS = 0.08
"""So long nothing is said of waiting: each word is a repainted screen, and takes time from the figure itself."""

GIVE_WAY_SECONDS = 0.01
"""So often a waiting page looks whether a newer move has come."""


def session() -> str:
    """This browser tab, as the workbench knows it."""
    if "session" not in st.session_state:
        st.session_state["session"] = uuid.uuid4().hex
    name: str = st.session_state["session"]
    return name


def measured_headline(choice: state.Choice) -> Result:
    """Draw the headline of a choice, first with what is known, at last with what was measured; returns that.

    What stood there before stays, untouched for a moment, then marked as previous, until there is something newer.
    """
    bench = state.workbench()
    ticket = bench.ask(session(), *choice)
    outline = bench.outline(*choice)
    last: tuple[list[figures.Figure], str] = st.session_state.get("headline") or (figures.waiting(None, outline), "…")
    board = figures.Board(last[0])
    st.caption(_closed_form(outline))
    status = st.caption(last[1])
    try:
        if not bench.turns.wait(ticket, PATIENCE_SECONDS):
            _follow(ticket, board, status, choice)
    finally:
        bench.turns.leave(ticket)
    result: Result = ticket.result()
    latency = bench.latency(session(), *choice)
    row = figures.exact(result, latency.value)
    board.show(row)
    said = f":material/check_circle: **Exact**, all {result.evaluation.images:,} validation images: {settings(choice)}."
    status.caption(said)
    st.session_state["measured"], st.session_state["headline"] = result, (row, said)
    if not latency.done:
        _wait(latency)
        board.show(figures.exact(result, latency.value))
    return result


def measured(choice: state.Choice) -> Result:
    """A configuration that stands beside the chosen one; waits without words, and gives way to a newer move."""
    bench = state.workbench()
    ticket = bench.ask(session(), *choice)
    try:
        if not ticket.done:
            with st.spinner("Measuring what was pinned"):
                _wait(ticket)
    finally:
        bench.turns.leave(ticket)
    result: Result = ticket.result()
    return result


def _follow(ticket: Ticket, board: figures.Board, status: DeltaGenerator, choice: state.Choice) -> None:
    """Say how things stand until the ticket is done."""
    bench, outline, shown, said = state.workbench(), state.workbench().outline(*choice), None, ""
    while not ticket.done:
        early: Early | None = ticket.first
        if early is not None and early is not shown:
            board.show(figures.estimated(early, outline))
            low, high = early.estimate.interval
            status.caption(
                f":material/hourglass_top: **Estimate** from {early.estimate.images:,} of {early.estimate.of:,} "
                f"validation images, 95 % interval {low:.1%} to {high:.1%}: {settings(choice)}."
            )
            shown = early
        elif early is None:
            ahead = bench.turns.ahead(ticket)
            text = f"{ahead} ahead of you" if ahead else "measuring now"
            if text != said:
                board.show(figures.waiting(st.session_state.get("measured"), outline))
                status.caption(f":material/hourglass_top: **Previous** accuracy, {text}: {settings(choice)}.")
                said = text
        bench.turns.wait(ticket, GIVE_WAY_SECONDS)
        st.session_state.get("choice")  # where Streamlit lets a newer move take over


def _wait(ticket: Ticket) -> None:
    while not state.workbench().turns.wait(ticket, GIVE_WAY_SECONDS):
        st.session_state.get("choice")


def settings(choice: state.Choice) -> str:
    """A choice in a few words."""
    own = ", ".join(f"{key} {text}" for key, text in to_query(choice.config).items())
    return own or "nothing set, the baseline"


def _closed_form(outline: Outline) -> str:
    energy = ", ".join(f"{name} {share:.1%}" for name, share in outline.energy.items()) or "100 %, no layer is factored"
    return (
        f":material/function: In closed form: **{outline.parameters:,}** parameters, "
        f"**{outline.theoretical_kb:,.1f} KB** = weights × bits + biases, energy kept {energy}."
    )
