"""Move rank, sparsity and bits; see the measured accuracy and the size of the real file at once."""

from functools import cache
from typing import TYPE_CHECKING

import streamlit as st

from pages.choice import config_file, controls, layer_table, lesson, state, terms
from pages.labs import recovery
from pages.shown import charts, curves, drawing, figures, live, own_picture, pinned, welcome

if TYPE_CHECKING:
    from core.bench.workbench import Result

choice = state.current()
live.begin(choice)
with st.sidebar:
    controls.step_controls()
    controls.baseline_picker()
    controls.companions()
    by_layer = lesson.folded("layers", ":material/layers:", "w_by_layer")
    finer = lesson.folded("finer", ":material/settings:", "w_finer")
    if finer is not None and finer.open:  # what is folded away is not built
        with finer:
            controls.finer_controls()
    training = lesson.folded("training", ":material/fitness_center:", "w_training")
    if training is not None and training.open:
        with training:
            recovery.controls()
    lesson.controls()

welcome.introduction(choice)
headline = st.container()
below = controls.network_controls()
if by_layer is not None and by_layer.open and lesson.waits(live.available(choice)):  # layers are set before a guess
    curves.beside_sliders(live.measured(choice), {}, by_layer)
left, right = st.columns([4, 1], gap="medium")
picture, image, verdict = left.container(), right.container(), st.container()
with left:
    live.closed_form(choice)
bench = state.workbench()
class_changes = cache(bench.class_changes)  # the sentence and the chart speak of the same


def at_once(result: "Result") -> None:
    """What goes to the screen together with the headline."""
    with verdict:
        terms.say(figures.verdict_sentence(result, class_changes(result)))


with headline:
    result = live.measured_headline(choice, at_once)
with picture:
    drawing.network(result, "drawing_explore", controls.open_layer)
with image:
    figures.one_image(result)
changes = class_changes(result)
recovery.panel(result)

others = pinned.side_by_side(result)
against = pinned.choose_reference(others)
changes, flips = bench.class_changes(result, against) if against else changes, bench.flips(result, against)

left, right = st.columns(2, gap="large")
with left:
    terms.heading("Images lost and gained per class", term="flip")
    if len(flips):
        worst = changes.loc[(changes["lost"] - changes["gained"]).idxmax()]
        about = f"Images lost and gained per class; the largest net loss is {worst['class']}"
        charts.class_changes(changes, about)
    else:
        st.info("No prediction changed: nothing lost, nothing gained.", icon=":material/balance:")
with right:
    terms.heading("File size by layer")
    figures.layer_table(result)
    if not lesson.hides("layers"):
        layer_table.section(result)

own_picture.section(result)
config_file.section()

terms.heading("Changed predictions")
figures.flip_browser(result.baseline_id, flips)

figures.show_code(
    result,
    "core.networks.compression.compress",
    "core.techniques.pruning.apply_pruning",
    "core.mathematics.pruning.keep_mask",
    "core.techniques.quantization.quantize_model",
    "core.mathematics.quantization.linear_quantize",
    "core.measuring.evaluation.evaluate",
    "core.measuring.evaluation.Comparison",
)

curves.beside_sliders(result, below, by_layer)
