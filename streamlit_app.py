"""The frame: page config, navigation, nothing else."""

import streamlit as st

from pages.parts import state

st.set_page_config(page_title="Compression explorer", page_icon="pages/parts/icon.png", layout="wide")
page = st.navigation(
    [
        st.Page("pages/baseline.py", title="Baseline", icon=":material/school:"),
        st.Page("pages/spectrum.py", title="Spectrum", icon=":material/show_chart:"),
        st.Page("pages/explore.py", title="Explore", icon=":material/tune:", default=True),
        st.Page("pages/export.py", title="Export", icon=":material/download:"),
    ],
    position="top",
)
state.open_page()
page.run()
