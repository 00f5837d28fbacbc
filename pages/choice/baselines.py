"""A baseline of one's own: trained here, loaded from a file, deleted again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core.config import ConfigError, TrainingConfig
from core.words import plain
from pages.choice import classroom, state, teacher

if TYPE_CHECKING:
    from core.bench.workbench import Card


def training_form(recipes: dict[str, TrainingConfig]) -> None:
    """Train a network of one's own, as a job."""
    with st.expander("Train one here", icon=":material/model_training:"):
        kind = st.selectbox("Recipe", list(recipes), key="train_recipe", help="Optimizer and schedule of a baseline.")
        names = state.workbench().data_names()
        data = st.selectbox("Images", list(names), _first(names), key="train_data", format_func=names.__getitem__)
        recipe = state.workbench().recipe_for(recipes[kind if kind in recipes else "cnn"], data)
        default = min(8, recipe.epochs)
        epochs = st.number_input("Epochs", 1, 200, default, key="train_epochs", help="Passes over the training images.")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="train_seed", help="The same seed repeats the same run.")
        config = replace(recipe, epochs=int(epochs), seed=int(seed))
        if st.button("Start training", type="primary", icon=":material/play_arrow:", width="stretch"):
            try:
                classroom.train(config)
            except (ConfigError, OSError) as error:
                st.error(f"The training was not started. {plain(error)}")
            teacher.heed()
        classroom.before_start(state.workbench().training_request(config))
        st.caption("It runs in a process of its own: go on exploring, close the tab, come back.")


def _first(names: dict[str, str]) -> int:
    """The place of the images of the network on the page."""
    return list(names).index(state.workbench().dataset(state.current().baseline).name)


def baseline_deleter(name: str) -> None:
    """The button that deletes what was trained or loaded here."""
    if not state.workbench().is_own(name):
        return
    why = classroom.refusal(classroom.DeleteBaseline(name))
    if st.button("Delete this baseline", icon=":material/delete:", key=f"delete_{name}", help=why):
        if classroom.delete_baseline(name):
            state.choose(baseline=state.FIRST_BASELINE)
        st.rerun()


def file_loader() -> None:
    """A person's own network from a safetensors file; a file that does not fit, or is known, changes nothing."""
    with st.expander("Load a file", icon=":material/upload:"):
        file = st.file_uploader("Baseline as safetensors", type=["safetensors"], key="upload")
        st.caption(
            "Tensors fc1.weight, fc1.bias, … (an MLP, any widths) or conv1, conv2, fc1, fc2 (a CNN), float32. A state "
            "dict of your own: `python -m core import FILE.pt --out FILE.safetensors`."
        )
        if file is None:
            return
        if st.session_state.get("loaded_file") == file.file_id:
            _say_known(st.session_state["loaded_as"])
            return
        why = classroom.refusal(classroom.Load(file.name, file.size))
        if why is not None:
            st.error(plain(why))
            teacher.ask("load")
            return
        known = {card.id: card for card in state.workbench().cards()}
        try:
            name = classroom.load(file.getvalue(), file.name)
        except (ValueError, OSError) as error:
            st.error(f"{plain(file.name)} was not loaded, and nothing has changed. {plain(error)}")
            return
        st.session_state["loaded_file"], st.session_state["loaded_as"] = file.file_id, known.get(name)
        state.choose(baseline=name)
        st.rerun()


ORIGINS = {"shipped": "which comes with the project", "trained": "trained here", "loaded": "loaded before"}


def _say_known(card: Card | None) -> None:
    """Where the weights of the file were here before it came."""
    if card is not None:
        origin = ORIGINS.get(card.origin, "known here")
        st.info(f"This is **{plain(card.title)}**, {origin}. It stays as it was.", icon=":material/recycling:")
