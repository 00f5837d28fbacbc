"""Take it home: the smallest file, what else can be made of it, and the verdict of fresh processes."""

import streamlit as st

from core.config import in_words
from core.words import plain
from pages.choice import controls, state, terms
from pages.labs import exported, hand_in
from pages.shown import charts, figures, live

state.current()
with st.sidebar:
    controls.baseline_picker()
    st.page_link("pages/explore.py", label="Change the configuration", icon=":material/tune:")

bench = state.workbench()
st.title("Export")
wanted = exported.picker(state.current())
choice = live.available(wanted)
result = live.measured(choice)
live.headline(result)
title, settings = plain(bench.title(choice.baseline)), plain(in_words(choice.config))
terms.say(
    f"**{title}** with **{settings}**. The packed file has exactly **{result.bytes:,} bytes** ([[entropy coding]]). "
    "Export writes it with its loader, ONNX and safetensors; then each file is read in a process of its own by what "
    "you would read it with, and run over all [[test]] images. They were held out, and nothing was chosen by them: "
    "look once, and do not tune by what you see."
)
if choice != wanted:
    st.warning("This is the network **before** recovery: its training was not done yet. Explore has the button.")

made = exported.asked(choice)
if made is not None:
    exported.verdict(made, result)
    if made.verdict.ok:
        exported.downloads(made)
hand_in.section(choice, made.verdict if made is not None and made.verdict.ok else None)

terms.heading("Compression ratio", "What it weighs, in every way of counting.")
exported.sizes(result, made)

terms.heading("File size by layer", "What the packed file holds.")
left, right = st.columns([1.2, 1], gap="large")
with left:
    entries = result.footprint.table()
    charts.ledger(entries, f"Bytes of the file by layer and kind, {result.bytes:,} in all")
with right:
    exported.storage(result, entries)

figures.show_code(
    result,
    "core.formats.packed.pack",
    "core.mathematics.coding.Encoder",
    "core.portable.loader.Decoder",
    "core.formats.interchange.to_qdq",
    "core.formats.artifact.verify",
    "core.formats.footprint.model_size_kb",
    command="export --report --out DIR",
)
