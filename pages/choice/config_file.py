"""The configuration as a JSON file: for the command line, for a colleague, for next week; and back again."""

from __future__ import annotations

import json

import streamlit as st

from core.config import CompressionConfig, ConfigError
from core.words import plain
from pages.choice import frame, state

TAKEN = "taken_config"


def section() -> None:
    box = st.expander("This configuration as a file", icon=":material/data_object:", on_change="rerun", key="w_file")
    if not box.open:  # what is folded away is not built
        return
    with box:
        choice = state.current()
        text = json.dumps(json.loads(choice.config.to_json()), indent=1)
        left, right = st.columns(2, gap="large")
        with left:
            st.download_button(
                "Download it", text, "configuration.json", "application/json", icon=":material/download:",
                on_click="ignore",
            )  # fmt: skip
            st.code(f"python -m core evaluate --baseline {choice.baseline} --config configuration.json", "bash")
        with right:
            _taker()


def _taker() -> None:
    """A file takes the place of the configuration; one that cannot be read or does not fit changes nothing."""
    file = st.file_uploader("Take one from a file", type=["json"], key="config_upload")
    if file is None or st.session_state.get(TAKEN) == file.file_id:
        return
    bench, choice = state.workbench(), state.current()
    try:
        config = CompressionConfig.from_json(file.getvalue())
    except ConfigError as error:
        st.error(f"{plain(file.name)} was not taken, and nothing has changed. {plain(error)}")
        return
    if why := bench.refusal(choice.baseline, config):
        st.error(f"{plain(file.name)} does not fit this network, and nothing has changed. {plain(why)}")
        return
    st.session_state[TAKEN] = file.file_id
    state.choose(config=config)
    frame.draw_again()
