"""Predict, then see: figures that wait for a guess, and controls that a teacher leaves out. Both are in the link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.config import CompressionConfig, in_words
from core.words import kilobytes, percent, plain
from pages.choice import frame, state, teacher
from pages.choice.offered import CONTROLS

if TYPE_CHECKING:
    from streamlit.elements.lib.mutable_expander_container import ExpanderContainer

    from core.bench.workbench import Result

HELP_GUESS = """Each new setting then shows its figures only after a guess of its accuracy, and of its size if you
like, was written: `?reveal=0`. Guesses last until the page is loaded again."""
HELP_PRESENT = """Large type, one picture a screen, for a projector: `?present=1`. At the bottom are a switch for the
sidebar and the button that ends it."""
HELP_HIDE = """Left out of the pages for whoever opens the link: `?hide=rank,bits`. What a link sets still holds. Leave
out *Teacher mode itself*, too, or a class can switch the guessing off: you keep it until you load the page again."""


def hides(name: str) -> bool:
    """Whether the link leaves a control out. How a layer is factored goes with its rank."""
    hidden = state.lesson().get("hide", "").split(",")
    return name in hidden or (name == "method" and "rank" in hidden)


def asks() -> bool:
    """Whether figures wait for a guess."""
    return state.lesson().get("reveal") == "0"


def waits(choice: state.Choice) -> bool:
    """Whether the figures of a choice wait for a guess; those of the uncompressed network are in the question."""
    return asks() and choice.config != CompressionConfig() and choice not in _guesses()


def folded(name: str, icon: str, key: str) -> ExpanderContainer | None:
    """An expander of that control's name; None where the link leaves it out."""
    return None if hides(name) else st.expander(CONTROLS[name], icon=icon, key=key, on_change="rerun")


def controls() -> None:
    """What a class will see; the link has it at once. Who leaves this box out keeps it, to take that back."""
    if hides("lesson") and "teaches" not in st.session_state:
        return
    box = st.expander("Teacher mode", icon=":material/co_present:", key="w_lesson", on_change="rerun")
    if not box.open:
        return
    with box:
        now = state.lesson()
        key = state.keep_widget("w_reveal", asks())
        st.toggle("Ask for a guess first", key=key, help=HELP_GUESS, on_change=_teach)
        key = state.keep_widget("w_hide", [name for name in now.get("hide", "").split(",") if name in CONTROLS])
        st.multiselect(
            "Leave out", list(CONTROLS), format_func=lambda name: CONTROLS.get(name, name), key=key, help=HELP_HIDE,
            on_change=_teach,
        )  # fmt: skip
        key = state.keep_widget("w_present", now.get("present") == "1")
        st.toggle("Presentation", key=key, help=HELP_PRESENT, on_change=_teach)
        teacher.controls()


def _teach() -> None:
    """What the controls say now is what the link says."""
    st.session_state["teaches"] = True
    ask, left_out, shown = (st.session_state[key] for key in ("w_reveal", "w_hide", "w_present"))
    wanted = ({"reveal": "0"} if ask else {}) | ({"hide": ",".join(left_out)} if left_out else {})
    state.teach(wanted | ({"present": "1"} if shown else {}))


def wait_for_guess(choice: state.Choice) -> None:
    """Where the link asks for guesses: nothing more of the page until one was written for this choice."""
    if guess_form(choice):
        st.stop()


def guess_form(choice: state.Choice) -> bool:
    """Whether a guess is waited for; the form asks for it."""
    if not waits(choice):
        return False
    before = state.workbench().evaluate(choice.baseline, CompressionConfig())
    with st.form("guess", width=640):
        st.markdown(
            f"**What do you expect** of {plain(in_words(choice.config))}? Uncompressed, the network is right "
            f"for {percent(before.evaluation.accuracy, 1)} of the validation images and takes "
            f"{kilobytes(before.baseline_bytes)}. Write a guess; then you see both."
        )
        left, right = st.columns(2)
        accuracy = left.number_input("Accuracy, %", 0.0, 100.0, None, 0.5, key="w_guess_accuracy")
        size = right.number_input("File, KB", 0.0, None, None, 1.0, key="w_guess_size")
        sent = st.form_submit_button("Show me", type="primary", icon=":material/visibility:")
    if sent and accuracy is not None:
        _guesses()[choice] = float(accuracy) / 100, None if size is None else float(size)
        frame.draw_again()
    if sent:
        st.warning("Write what accuracy you expect; the size may stay empty.", icon=":material/edit:")
    return True


def beside_guess(result: Result) -> None:
    """The guess and the measurement, side by side; and how near all guesses of this session were."""
    guess = _guesses().get(state.Choice(result.baseline_id, result.config))
    if guess is None or not asks():
        return
    accuracy, size = guess
    measured = result.evaluation.accuracy
    said = f"You guessed **{percent(accuracy, 1)}**; it is right for **{percent(measured, 2)}** "
    said += f"({100 * (measured - accuracy):+.1f} pp)."
    if size is not None:
        said += f" You guessed **{size:,.1f} KB**; the file has **{result.bytes / 1024:,.1f} KB**."
    known = [(guess, state.workbench().point(*choice)) for choice, (guess, _) in _guesses().items()]
    errors = [abs(point[0] - guess) for guess, point in known if point is not None]
    if len(errors) > 1:
        said += f" Your {len(errors)} guesses were {100 * sum(errors) / len(errors):.1f} pp off on average."
    st.info(said, icon=":material/psychology_alt:")


def _guesses() -> dict[state.Choice, tuple[float, float | None]]:
    guesses: dict[state.Choice, tuple[float, float | None]] = st.session_state.setdefault("guesses", {})
    return guesses
