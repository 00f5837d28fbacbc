"""The frame: page config, navigation, nothing else."""

import streamlit as st

from pages.parts import frame, state

st.set_page_config(page_title="Compression explorer", page_icon="pages/parts/icon.png", layout="wide")
page = frame.navigation()
with state.errors_in_words():
    state.open_page(page.url_path)
    page.run()
