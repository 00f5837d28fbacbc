"""A baseline of one's own: trained here, loaded from a file, deleted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.config import CompressionConfig, ConfigError, TrainingConfig
from core.words import percent, plain
from pages.choice import classroom, frame, state, teacher

if TYPE_CHECKING:
    from core.bench.errors import Untold

HELP_WIDTHS = "Channels or outputs of its layers, stage by stage; more or fewer layers in a stage are other networks."
HELP_FILE = """An ONNX file describes its network. So does a safetensors file that `python -m core import` or `train`
wrote; any other one holds weights only, which must be named and shaped as those of the MLP or the CNN."""
HELP_TEACHER = """Knowledge distillation (Hinton et al. 2015): half of the loss is the distance to what this network
predicts. Small networks learn more from it than from the labels alone."""


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
        config = _in_its_shape(replace(recipe, epochs=int(epochs), seed=int(seed)))
        if st.button("Start training", type="primary", icon=":material/play_arrow:", width="stretch"):
            try:
                classroom.train(config)
            except (ConfigError, OSError) as error:
                st.error(f"The training was not started. {plain(error)}")
            teacher.heed()
        classroom.before_start(state.workbench().training_request(config))
        st.caption("It runs in a process of its own: go on exploring, close the tab, come back.")


def _in_its_shape(recipe: TrainingConfig) -> TrainingConfig:
    """With other widths, and a teacher, where these are asked for; as it is where the widths are none of its family."""
    bench = state.workbench()
    own = bench.own_widths(recipe.model)
    text = st.text_input("Widths", key="train_widths", placeholder=own, help=HELP_WIDTHS)
    fitting = [card.id for card in bench.cards() if bench.profile(card.id).images.data == recipe.data]
    taught = None
    if not (recipe.shifts or recipe.erasing):
        taught = st.selectbox("Teacher", fitting, None, bench.title, key="train_teacher", help=HELP_TEACHER)
    try:
        recipe = bench.in_widths(recipe, text or "")
    except ConfigError as error:
        st.error(f"{plain(error)} It is trained in its own widths, {own}.")
    return replace(recipe, teacher=taught or "")


def _first(names: dict[str, str]) -> int:
    """The place of the images of the network on the page; the first where these were deleted."""
    data = state.workbench().profile(state.current().baseline).images.data
    return list(names).index(data) if data in names else 0


def baseline_deleter(name: str) -> None:
    """Asks before what was trained or loaded here is deleted."""
    if not state.workbench().is_own(name):
        return
    with st.popover("Delete this baseline", icon=":material/delete:"):
        st.markdown(
            f"Delete **{plain(state.workbench().title(name))}** for everybody who uses this server? Its points and "
            "what was trained from it are seen no more, unless the same weights are loaded again."
        )
        why = classroom.refusal(classroom.DeleteBaseline(name))
        if st.button("Delete it", type="primary", key=f"delete_{name}", help=why):
            if classroom.delete_baseline(name):
                state.choose(baseline=state.FIRST_BASELINE)
            frame.draw_again()


SCALES = {
    None: "Measure it",
    "dataset": "The data set's mean and deviation",
    "unit": "[0, 1]",
    "half": "[−1, 1]: mean 0.5, deviation 0.5",
    "raw": "0 to 255",
}


def file_loader() -> None:
    """A person's own network, an ONNX file with what lies beside it, or a baseline's safetensors; a file that does not
    fit, or is known, changes nothing."""
    with st.expander("Bring your own", icon=":material/upload:"):
        files = st.file_uploader(
            "ONNX, with its .data file, or safetensors of a baseline", accept_multiple_files=True, key="upload",
            type=["onnx", "data", "safetensors"], help=HELP_FILE,
        )  # fmt: skip
        whole = next((file for file in files if not file.name.endswith(".data")), None)
        is_onnx = whole is not None and whole.name.lower().endswith(".onnx")
        data, scale = _made_for() if is_onnx else (None, None)
        st.caption(
            '`torch.onnx.export(model, example, "net.onnx")`; from Keras and scikit-learn the same way. A module or a '
            "state dict: `python -m core import --help`."
        )
        if whole is None:
            return
        what = tuple(file.file_id for file in files), data, scale
        if st.session_state.get("loaded_file") == what:
            _say_arrived()
            return
        if is_onnx and not st.button("Open it", type="primary", icon=":material/file_open:", width="stretch"):
            return
        _load(whole, [file for file in files if file is not whole], data, scale, what)


def _made_for() -> tuple[str, str | None]:
    """The images that the network was made for, and what it sees of a pixel."""
    names = state.workbench().data_names()
    data = st.selectbox("Images that it was made for", list(names), _first(names), format_func=names.__getitem__)
    scale = st.selectbox(
        "Input scaling", list(SCALES), format_func=SCALES.__getitem__,
        help="What the network sees of a pixel, which no file says. It is measured on the validation images, and taken "
        "where one wins by more than three points.",
    )  # fmt: skip
    return data, scale


def _load(whole: Any, beside: Sequence[Any], data: str | None, scale: str | None, what: object) -> None:
    sizes = sum(file.size for file in (whole, *beside))
    why = classroom.refusal(classroom.Load(whole.name, sizes))
    if why is not None:
        st.error(plain(why))
        teacher.ask("load")
        return
    from core.bench.errors import Untold

    known = {card.id: card for card in state.workbench().cards()}
    try:
        if data is None:
            name = classroom.load(whole.getvalue(), whole.name)
        else:
            more = {file.name: file.getvalue() for file in beside}
            name = classroom.bring(whole.getvalue(), whole.name, more, data, scale)
    except Untold as error:
        st.error(f"{plain(whole.name)} was not loaded, and nothing has changed. " + _untold(error))
        return
    except (ValueError, RuntimeError, OSError, ArithmeticError) as error:
        st.error(f"{plain(whole.name)} was not loaded, and nothing has changed. {plain(error)}")
        return
    st.session_state["loaded_file"], st.session_state["loaded_as"] = what, known.get(name)
    st.session_state["loaded"] = state.Choice(name, CompressionConfig())
    state.choose(*st.session_state["loaded"])
    frame.draw_again()


def say_loaded() -> None:
    """That what is shown came from a file, until something else is chosen."""
    if (loaded := state.current()) != st.session_state.get("loaded"):
        return
    title = plain(state.workbench().title(loaded.baseline))
    st.success(f"**{title}** is loaded, and shown as it came. Explore compresses it.", icon=":material/upload:")


def _untold(scalings: Untold) -> str:
    """What was measured under each input scaling, and the control that says which it is."""
    figures = sorted(scalings.figures.items(), key=lambda pair: -pair[1])
    rows = "".join(f"\n- {SCALES.get(name, name)}: {percent(right, 1)}" for name, right in figures)
    return (
        "How its pixels were scaled the file does not say, and measuring does not tell. Right on validation, by input "
        f"scaling:\n{rows}\n\n{scalings.blind}Pick the one that it was made for under *Input "
        "scaling*, above."
    )


ORIGINS = {"shipped": "which comes with the project", "trained": "trained here", "loaded": "loaded before"}


def _say_arrived() -> None:
    """Where the weights of the file were here before it came; what was found out about it."""
    card = st.session_state["loaded_as"]
    if card is not None:
        origin = ORIGINS.get(card.origin, "known here")
        st.info(f"This is **{plain(card.title)}**, {origin}. It stays as it was.", icon=":material/recycling:")
