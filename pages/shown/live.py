"""The headline while it is being measured: closed-form figures at once, then an estimate, then the exact number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.config import CompressionConfig, in_words
from core.words import percent, plain
from pages.choice import lesson, state, terms
from pages.shown import figures, zeros

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from core.bench.workbench import Early, Outline, Result, SplitName, Ticket

PATIENCE_SECONDS = 0.08
"""So long nothing is said of waiting: each word is a repainted screen, and takes time from the figure itself."""

GIVE_WAY_SECONDS = 0.01
"""So often a waiting page looks whether a newer move has come."""

PAINT_SECONDS = 0.08
"""A changed headline goes ahead of the charts by so much: what the browser gets at once, it paints at once."""

SET_ON_EXPLORE = "what is set on Explore"


def available(choice: state.Choice) -> state.Choice:
    """The choice, or what it is before recovery where that was not trained yet: a link never starts a training."""
    if choice.config.recovery is None or state.workbench().history(*choice) is not None:
        return choice
    return choice._replace(config=replace(choice.config, recovery=None))


def begin(choice: state.Choice) -> None:
    """Have a choice measured while the page is still being drawn; `measured_headline` waits for it, and says what is
    wrong with it: the controls that mend it are on the screen then."""
    from core.bench.workbench import ERRORS

    with suppress(*ERRORS):
        choice = available(choice)
        if not lesson.waits(choice):
            state.workbench().ask(state.session(), *choice)


def measured_headline(choice: state.Choice, then: Callable[[Result], None]) -> Result:
    """Draw the headline of a choice, first with what is known, at last with what was measured; returns that.

    What stood there before stays, untouched for a moment, then marked as previous, until there is something newer.
    then : draws what must never speak of another setting than the headline: it goes to the screen together with it
    """
    bench, choice = state.workbench(), available(choice)
    lesson.wait_for_guess(choice)
    ticket = bench.ask(state.session(), *choice)
    outline = bench.outline(*choice)
    last: tuple[list[figures.Figure], str] = st.session_state.get("headline") or (figures.waiting(None, outline), "…")
    cards = figures.Headline()
    cards.show(last[0])
    status = st.caption(last[1])
    with _in_line(ticket):
        if not bench.turns.wait(ticket, PATIENCE_SECONDS):
            _follow(ticket, cards, status, choice, outline)
    result: Result = ticket.result()
    images = f"{result.evaluation.images:,} validation images"
    said = (
        f":material/check_circle: **Exact**, all {images}: {plain(in_words(choice.config))}. {zeros.sentence(result)}"
    )
    status.caption(said)
    row = _with_time(cards, result)
    lesson.beside_guess(result)
    then(result)
    st.session_state["measured"], st.session_state["headline"] = result, (row, said)
    if said != last[1]:
        time.sleep(PAINT_SECONDS)
        _give_way()
    return result


def set_on_explore(choice: state.Choice) -> Result | None:
    """The headline of what Explore shows, with its name; returns it. None, and the question, where a guess comes
    first: what is no answer may follow."""
    if lesson.guess_form(available(choice)):
        return None
    result = measured(choice)
    headline(result, SET_ON_EXPLORE)
    return result


def headline(result: Result, what: str = "") -> None:
    """The five figures of what is already measured; the time may take a moment longer. what : is said of it beside its
    name, where the page does not name it"""
    lesson.wait_for_guess(state.Choice(result.baseline_id, result.config))
    if what:
        title = plain(state.workbench().title(result.baseline_id))
        how = " as trained" if result.config == CompressionConfig() else f", {plain(in_words(result.config))}"
        st.caption(f"**{title}**{how}: {what}.")
    _with_time(figures.Headline(), result)
    lesson.beside_guess(result)


def _with_time(cards: figures.Headline, result: Result) -> list[figures.Figure]:
    """Show what was measured at once, and the time per image as soon as that is known, too; what is shown at last."""
    latency = state.workbench().latency(state.session(), result.baseline_id, result.config)
    row = figures.exact(result, latency.value)
    cards.show(row)
    if latency.value is None:
        row = figures.exact(result, _answer(latency))
        cards.show(row)
    return row


def measured(choice: state.Choice, split: SplitName = "validation") -> Result:
    """A configuration without a headline of its own: one that was pinned, or what another page is about."""
    ticket = state.workbench().ask(state.session(), *available(choice), split)
    if ticket.done:
        result: Result = ticket.result()
        return result
    with st.spinner("Measuring"):
        result = _answer(ticket)
    return result


def verdict_on_test(choice: state.Choice, allowed: float | None = None) -> str:
    """The sentence on the held-out test images. allowed : what may be lost, a fraction, if anything"""
    test = measured(choice, "test")
    beyond = "" if allowed is None else figures.over(test.comparison.difference, allowed)
    return (
        f"On the held-out test images: **{percent(test.evaluation.accuracy, 2)}**, "
        f"{figures.change(test.comparison)}{beyond}."
    )


@contextmanager
def _in_line(ticket: Ticket) -> Iterator[None]:
    """However the waiting ends, by an answer or by a newer move, the ticket is not in line after it."""
    try:
        yield
    finally:
        state.workbench().turns.leave(ticket)


def _answer(ticket: Ticket) -> Any:
    """The ticket's value; a newer move may end the waiting."""
    with _in_line(ticket):
        while not state.workbench().turns.wait(ticket, GIVE_WAY_SECONDS):
            _give_way()
    return ticket.result()


def _give_way() -> None:
    st.session_state.get("choice")  # where Streamlit lets a newer move take over


def _follow(
    ticket: Ticket, cards: figures.Headline, status: DeltaGenerator, choice: state.Choice, outline: Outline
) -> None:
    """Say how things stand until the ticket is done."""
    bench, shown, said = state.workbench(), None, ""
    while not ticket.done:
        early: Early | None = ticket.first
        if early is not None and early is not shown:
            cards.show(figures.estimated(early, outline))
            low, high = early.estimate.interval
            status.caption(
                f":material/hourglass_top: **Estimate** from {early.estimate.images:,} of {early.estimate.of:,} "
                f"validation images, 95 % interval {percent(low, 1)} to {percent(high, 1)}: "
                f"{plain(in_words(choice.config))}."
            )
            shown = early
        elif early is None:
            ahead = bench.turns.ahead(ticket)
            text = f"{ahead} ahead of you" if ahead else "measuring now"
            if text != said:
                cards.show(figures.waiting(st.session_state.get("measured"), outline))
                status.caption(
                    f":material/hourglass_top: **Previous** accuracy, {text}: {plain(in_words(choice.config))}."
                )
                said = text
        bench.turns.wait(ticket, GIVE_WAY_SECONDS)
        _give_way()


def closed_form(choice: state.Choice) -> None:
    """What follows from the setting by formulas, at once; what of the file they do not know."""
    outline, method = state.workbench().outline(*choice), choice.config.low_rank_method
    kept = ", ".join(f"{plain(name)} {percent(share, 1)}" for name, share in outline.energy.items())
    energy = f" {'Energy' if method == 'svd' else 'Energy of the output'} kept: {kept}." if kept else ""
    st.caption(
        f":material/function: {terms.linked('[[Theoretical size]]')}, in closed form: **{outline.parameters:,}** "
        f"parameters, **{outline.theoretical_kb:,.1f} KB** = weights × bits + biases. It counts zeros in full; the "
        f"file stores them, and quantized values that come often, in fewer bits.{energy}"
    )
