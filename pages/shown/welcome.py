"""What a person reads first: what this is, what to do, and what is set now."""

from __future__ import annotations

import streamlit as st

from core.config import CompressionConfig, in_words
from core.words import kilobytes, plain
from pages.choice import presets, state, tours
from pages.shown import live


def introduction(choice: state.Choice) -> None:
    """The title, two lines, the tours, and the way between the named setting and the untouched network."""
    row = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    row.title("Explore", width="content")
    with row:
        tours.start_here()
    if not tours.under_way():  # its step says what to look at
        st.markdown(_what_this_is(choice))
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.markdown(f"Now: {_now(choice)}", width="content")
    untouched = state.Choice(choice.baseline, CompressionConfig())
    there, label, icon = untouched, "The untouched network", "restart_alt"
    if choice == untouched:
        there, label, icon = (
            state.Choice(choice.baseline, state.START),
            f"An example: {presets.EXAMPLE}",
            "auto_fix_high",
        )
    row.button(
        label, key="untouched", type="tertiary", icon=f":material/{icon}:", on_click=state.choose, args=tuple(there)
    )


def _what_this_is(choice: state.Choice) -> str:
    bench = state.workbench()
    baseline, title, data = (
        bench.baseline(choice.baseline),
        bench.title(choice.baseline),
        bench.dataset(choice.baseline),
    )
    images = bench.count(choice.baseline, "validation")
    brought = "road" in baseline.info
    seen = "" if brought else " that it never learned from"
    doubt = " Whether it was trained on these very images its file does not say." if brought else ""
    what = "ten kinds of clothes" if data.name == "fashion-mnist" else f"{len(data.classes)} kinds of images"
    return (
        f"**{plain(title)}** tells {what} apart ({plain(data.title)}) with {baseline.parameters:,} parameters, "
        f"{kilobytes(baseline.bytes)}. Move a slider: it is compressed, measured on {images:,} images{seen}, "
        f"and weighed as a real file.{doubt}"
    )


def _now(choice: state.Choice) -> str:
    """The setting by its name where it has one, else in words; of a training only what was done."""
    named = next((name for name, preset in presets.PRESETS.items() if preset == choice), None)
    there = live.available(choice)
    coming = "" if there == choice else "; the fine-tuning that is asked for was not done yet"
    return f"**{named}**" if named else f"{plain(in_words(there.config))}{coming}"
