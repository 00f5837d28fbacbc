"""Singular values per layer: how many directions a weight really uses, and when fewer of them save anything."""

import streamlit as st

from pages.choice import controls, state, terms
from pages.labs import allocation, spectra
from pages.shown import figures, live

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
st.title("Spectrum")
live.set_on_explore(choice)
with st.sidebar:
    view = spectra.sidebar()

terms.say(spectra.INTRODUCTION)
st.markdown(spectra.sentence(view))
row = st.container(horizontal=True, gap="xsmall", key="key_figures")
for width, (label, value, text) in zip(spectra.WIDTHS, spectra.key_figures(view), strict=True):
    row.metric(label, value, help=text, border=True, width=width)

spectra.curves(view)
terms.say(spectra.comparison(view))

spectra.rebuilt(view.layer)

st.subheader("All layers")
spectra.multiples(list(view.layers.values()))
spectra.table(list(view.layers.values()))

allocation.section(view.method)

figures.show_code(
    None,
    "core.studies.tuning.allocate_ranks",
    "core.mathematics.low_rank.decompose",
    "core.mathematics.low_rank.decompose_whitened",
    "core.mathematics.low_rank.random_singular_values",
    "core.mathematics.low_rank.cumulative_energy",
    "core.mathematics.low_rank.rank_for_energy",
    "core.mathematics.low_rank.break_even_rank",
    "core.mathematics.low_rank.condition_number",
    "core.mathematics.low_rank.factorize",
)
