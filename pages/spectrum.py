"""Singular values per layer: how many directions a weight really uses, and when fewer of them save anything."""

import pandas as pd
import streamlit as st

from pages.parts import charts, controls, figures, state

choice = state.current()
bench = state.workbench()

with st.sidebar:
    controls.baseline_picker()
    percent = st.slider(
        "Energy to keep",
        50.0,
        100.0,
        95.0,
        0.5,
        format="%g %%",
        key="energy",
        bind="query-params",
        help="Energy of rank r: the squared singular values up to r over all of them (the report's cumulative "
        "variance). The rank shown is the smallest that keeps this much.",
    )
    energy = min(max(percent, 50.0), 100.0) / 100
    spectra = {layer.name: layer for layer in bench.spectrum(choice.baseline, energy)}
    names = list(spectra)
    widest = max(names, key=lambda name: spectra[name].full_rank)
    shown = st.session_state.get("spectrum_layer")
    state.keep_widget("spectrum_layer", shown if shown in names else widest)
    name = st.pills("Layer", names, key="spectrum_layer", required=True, persist_state="session")
    if st.button(f"Use rank {spectra[name].rank} for {name} on Explore", icon=":material/tune:", width="stretch"):
        state.choose(config=choice.config.with_layer(name, rank=spectra[name].rank))
        st.switch_page("pages/explore.py")

layer = spectra[name]
m, n = layer.matrix_shape
st.title("Spectrum")
figures.headline(bench.evaluate(*choice))

st.markdown(figures.spectrum_sentence(layer))
cells = st.columns(5)
for cell, (label, value, text) in zip(cells, figures.spectrum_figures(layer), strict=True):
    cell.metric(label, value, help=text, border=True)

values = pd.DataFrame(
    {"i": range(1, layer.full_rank + 1), "sigma": layer.singular_values, "energy": layer.cumulative_energy}
)
left, right = st.columns(2, gap="large")
with left:
    st.subheader(f"Singular values of {name}")
    about = f"Singular values of {name}, from {values['sigma'].iloc[0]:.3g} to {values['sigma'].iloc[-1]:.3g}"
    charts.draw(charts.singular_values(values, layer.rank, layer.break_even_rank), about)
with right:
    st.subheader("Energy kept by rank r")
    about = f"Cumulative energy of {name}; {energy:.1%} needs rank {layer.rank}, break-even is {layer.break_even_rank}"
    charts.draw(charts.cumulative_energy(values, energy, layer.rank, layer.break_even_rank), about)

st.subheader("All layers")
figures.spectrum_table(list(spectra.values()))

figures.show_code(
    None,
    "core.low_rank.decompose",
    "core.low_rank.cumulative_energy",
    "core.low_rank.rank_for_energy",
    "core.low_rank.break_even_rank",
    "core.low_rank.condition_number",
    "core.low_rank.factorize",
)
