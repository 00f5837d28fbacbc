"""What a person reads first: what this is, what to do, and what is set now."""

from __future__ import annotations

import streamlit as st

from core.config import CompressionConfig
from core.words import plain
from pages.parts import figures, presets, state, tours


def introduction(choice: state.Choice) -> None:
    """The title, two lines, the tours, and the way between the named setting and the untouched network."""
    baseline, title = state.workbench().baseline(choice.baseline), state.workbench().title(choice.baseline)
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with left:
        st.title("Explore")
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        tours.start_here()
    st.markdown(
        f"**{plain(title)}** tells ten kinds of clothes apart on pictures of 28 × 28 pixels (Fashion-MNIST); its "
        f"{baseline.parameters:,} parameters take {figures.kilobytes(baseline.bytes)}. Move a slider: the network is "
        "compressed, measured on 5,000 validation images that it never learned from, and weighed as the file that "
        "Export writes."
    )
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.markdown(f"Now: {_now(choice)}", width="content")
    untouched = state.Choice(choice.baseline, CompressionConfig())
    if choice != untouched:
        row.button("The untouched network", key="untouched", type="tertiary", icon=":material/restart_alt:",
                   on_click=state.choose, args=tuple(untouched))  # fmt: skip
    else:
        row.button("An example", key="example", type="tertiary", icon=":material/auto_fix_high:",
                   on_click=state.choose, args=(choice.baseline, state.START))  # fmt: skip


def _now(choice: state.Choice) -> str:
    """The setting by its name where it has one, else in words."""
    named = next((name for name, own in presets.PRESETS.items() if own == choice), None)
    words = plain(figures.settings(choice.config))
    return f"**{named}** ({words})" if named else words
