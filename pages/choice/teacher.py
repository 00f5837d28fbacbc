"""What a class sees of its rules: what was refused, where the teacher's word is asked for, what the teacher sets."""

from __future__ import annotations

import hmac
import time

import streamlit as st

from core.measuring.front import MOST_MINUTES
from core.words import plain
from pages.choice import classroom, frame, state
from pages.choice.classroom import MB, Rules
from pages.choice.register import register

WORD_SECONDS = 0.5
"""So long the server looks at one word, and at no other meanwhile."""

LONGEST_WAIT = 60.0
"""Seconds: after each wrong word of a session the next is looked at after twice the time, up to this."""

HELP_MINUTES = f"""Work that is expected to take longer asks for your word. From 0 to {MOST_MINUTES}; it holds for all,
until the server is started again."""


def enter() -> None:
    """Of a class, on every page: who looks at what, and what was refused a moment ago."""
    if classroom.rules() is None:
        return
    register().present(state.session(), frozenset({state.current(), *state.pins()}))
    st.session_state.pop("refused_unseen", None)
    why, *where = st.session_state.get("refused", (None,))
    if why is None or where != [state.current(), st.session_state["page"]]:
        st.session_state.pop("refused", None)
        return
    if classroom.is_teacher():
        st.success("This session is the teacher's now: ask for it again.", icon=":material/co_present:")
        del st.session_state["refused"]
        return
    st.warning(plain(why), icon=":material/co_present:")
    ask("refused")


def heed() -> None:
    """In what is drawn apart from the page: draw the whole page, where something was refused."""
    if st.session_state.get("refused_unseen"):
        frame.draw_again()


def ask(place: str) -> None:
    """Where the word is written; nothing for who has given it."""
    if classroom.is_teacher():
        return
    key = f"w_word_{place}"
    with st.form(f"word_{place}", width=640):
        st.text_input("The teacher's word", type="password", key=key, max_chars=200)
        st.form_submit_button("Give the word", icon=":material/key:", on_click=_take, args=(key,), key=f"give_{place}")
        where, said = st.session_state.get("word_said", ("", ""))
        if where == key and said:
            st.error(said)
            del st.session_state["word_said"]


def _take(key: str) -> None:
    """The word leaves the session as soon as it was looked at."""
    given, rules = st.session_state[key], classroom.rules()
    st.session_state[key] = ""
    if rules is not None:
        st.session_state["word_said"] = key, _look_at(given, rules)


def _look_at(given: str, rules: Rules) -> str:
    """Make this session the teacher's, where the word is right; else what is to be said. Wrong words are counted."""
    tried, again = st.session_state.get("words", (0, 0.0))
    wait = again - time.time()
    if wait > 0:
        return f"Not looked at: the next word is in {wait:.0f} seconds."
    with register().looking:
        time.sleep(WORD_SECONDS)
        right = hmac.compare_digest(given.strip().encode(), rules.word.encode())
    if right:
        st.session_state["teacher"] = True
        return ""
    register().count_wrong_word()
    wait = min(2.0**tried, LONGEST_WAIT)
    st.session_state["words"] = tried + 1, time.time() + wait
    return f"That is not the word. The next is looked at in {wait:.0f} {'second' if wait == 1 else 'seconds'}."


def controls() -> None:
    """Of a class's server: the rules in words, and the limit, for the teacher; else where the word is given."""
    rules = classroom.rules()
    if rules is None:
        return
    now = classroom.limit(rules)
    if not classroom.is_teacher():
        st.markdown(
            f"**A class's server.** Explore and pin as you like; run what takes up to {now:g} min; stop, dismiss and "
            "delete what this session alone has started or loaded "
            f"({rules.session_bytes / MB:.0f} MB of files at most). "
            "A page that is loaded again is a new session: what it started before counts as another's. Everything else "
            "asks for the teacher's word, once."
        )
        ask("lesson")
        return
    key = state.keep_widget("w_class_minutes", float(now))
    st.number_input(
        "Minutes that visitors may run", 0.0, float(MOST_MINUTES), step=1.0, key=key, help=HELP_MINUTES,
        on_change=_set_limit, args=(key,),
    )  # fmt: skip
    wrong = register().wrong_words
    said = f" {wrong} wrong {'word was' if wrong == 1 else 'words were'} tried here." if wrong else ""
    st.caption(f"This session is the teacher's until the page is loaded again.{said}")


def _set_limit(key: str) -> None:
    minutes = float(st.session_state[key])
    if classroom.is_teacher() and 0 <= minutes <= MOST_MINUTES:
        register().minutes = minutes
