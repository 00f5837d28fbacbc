"""From a result to Explore: the configuration goes along, and what it replaces is said."""

from __future__ import annotations

import streamlit as st

from core.config import CompressionConfig, in_words
from core.words import plain
from pages.choice import state


def to_explore(config: CompressionConfig, key: str, label: str = "Use it on Explore") -> None:
    """The button, and beside it what it replaces. key : unique on the page"""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button(label, icon=":material/tune:", key=f"use_{key}"):
            state.choose(config=config)
            st.switch_page("pages/explore.py")
        st.caption(replaced(config), width="content")


def replaced(config: CompressionConfig) -> str:
    """What is set now, and would then be replaced."""
    now = state.current().config
    if now == config:
        return "Explore shows it already."
    if now == CompressionConfig():
        return ""
    return f"This replaces {plain(in_words(now))}; Undo brings that back."
