"""The quantization laboratory: one tensor on its grid, quantization after training, within it, and layer by layer."""

import streamlit as st

from core.studies import assignment, sharing
from pages.choice import controls, state, terms
from pages.labs import allocation, bits_table, on_grid, quantization_lab, sharing_lab
from pages.shown import figures, jobs, live

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    controls.separate_bits()
    controls.technique_choices("bits")
    st.caption("They hold on Explore, too, and for the grids that are drawn here.")
    asked = quantization_lab.controls(choice.baseline)

st.title("Quantization")
live.set_on_explore(choice)

terms.heading(
    "Bits, size and accuracy", "Weights and activations at so many bits: the answer in one table.", "quantization"
)
trained = jobs.answer_or_button(
    asked[assignment.QUANTIZATION], "Train at 8, 6, 4, 3 and 2 bits", ":material/model_training:"
)
if trained is not None:
    bits_table.table(choice.baseline, trained)

terms.say(quantization_lab.INTRODUCTION)
on_grid.by_hand(choice.config)
on_grid.section(live.available(choice))

terms.heading("Post-training quantization (PTQ), step by step", "How far do few bits go without any training?", "PTQ")
terms.say(quantization_lab.ABOUT_LADDER)
ladder = jobs.answer_or_button(asked[assignment.LADDER], "Quantize step by step", ":material/stairs:")
if ladder is not None:
    quantization_lab.ladder(choice.baseline, ladder.rows)

terms.heading("Quantization-aware training (QAT)", "Accuracy before and after training on the grid.", "QAT")
terms.say(quantization_lab.ABOUT_TRAINING)
if trained is None:
    st.caption("Nothing was trained yet: see above.")
else:
    quantization_lab.before_and_after(trained)

terms.heading("Weight sharing", "Would values of its own serve a layer better than equal steps?")
terms.say(sharing_lab.ABOUT)
asked_sharing = {"kind": sharing.SHARING, "baseline": choice.baseline}
shared = jobs.answer_or_button(asked_sharing, "Compare codebooks with grids", ":material/palette:")
if shared is not None:
    sharing_lab.table(shared)

terms.heading("Layer sensitivity", "What does the whole network lose where one layer alone is quantized?")
st.markdown(quantization_lab.ABOUT_WIDTHS)
quantization_lab.plainer(choice.baseline)
widths = jobs.answer_or_button(asked[assignment.WIDTHS], "Quantize each layer alone", ":material/troubleshoot:")
if widths is not None:
    quantization_lab.sensitivity(widths.rows)

terms.heading("Mixed precision", "Every layer has bits of its own.")
terms.say(quantization_lab.ABOUT_MIXED)
quantization_lab.plainer(choice.baseline)
mixed = jobs.answer_or_button(asked[assignment.MIXED], "Find the steps", ":material/stairs:")
if mixed is not None:
    allocation.walk(mixed.steps, "bits")
    if trained is not None:
        quantization_lab.mixed_beside(mixed.steps, trained)

figures.show_code(
    None,
    "core.mathematics.quantization.linear_quantize",
    "core.mathematics.quantization.linear_dequantize",
    "core.mathematics.quantization.scale_and_zero_point",
    "core.mathematics.quantization.weight_grid",
    "core.mathematics.quantization.fake_quantize",
    "core.mathematics.quantization.learned_step",
    "core.mathematics.quantization.gptq",
    "core.mathematics.quantization.bias_correction",
    "core.techniques.quantization.quantize_model",
    "core.mathematics.clustering.k_means",
    "core.techniques.codebook.share_weights",
    "core.formats.footprint.model_size_kb",
    "core.studies.tuning.allocate_bits",
)
