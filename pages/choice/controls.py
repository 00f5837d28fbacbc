"""The controls: each shows the current choice, checks what it is told, and writes the choice. Nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.bench import places
from core.config import DENSE, FLOAT_BITS, CompressionConfig, ConfigError, TrainingConfig
from core.measuring.front import Goal
from core.words import plain
from pages.choice import classroom, lesson, presentation, state, teacher
from pages.choice.presets import PRESETS
from pages.shown import figures

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from core.bench.workbench import Card, Result

SMALLEST = "Smallest within 1 pp, of all that was measured"
ALL = 100
FLOAT = "float32"
BIT_CHOICES = [2, 3, 4, 5, 6, 7, 8, FLOAT]

HELP_CHANNELS = """The share of output channels (of a convolution) or neurons (of a linear layer) that stay, in every
layer but the last. What goes takes the next layer's columns along: no zeros remain, the network is simply smaller, and
faster. Without training afterwards the loss is large."""
HELP_RANK = """The share of each layer's singular values that is kept: W ≈ U_r Σ_r V_rᵀ, stored as two thin
factors. A layer where that would not save anything (its rank is above break-even, m·n / (m+n)) stays dense, and the
table says so. Without fine-tuning the loss is small only while most of the energy is kept: see the Spectrum page."""
HELP_METHOD = """What the factors of a given rank are nearest to. *SVD* minimises the error of the weight, ‖W − W_r‖².
*Data-aware* minimises the error of the output, E‖Wx − W_r x‖², over 2,048 training images: directions that no image
uses are given up first, and the bias makes up for the mean error. The same bytes, and at low ranks far better
accuracy."""
HELP_COURSE = """Factor a layer even where its two factors are larger than the layer itself, as the course report does.
In the report's network "50 %" saves exactly nothing."""
HELP_SPARSITY = """The share of weights that are set to zero, those with the smallest scores first: exactly round(s · n)
of them. Biases are never pruned. Expect little loss at first, then a cliff; where it lies depends on how the network
was trained."""
HELP_SCORE = """Which weights go first: those with the smallest score. *Magnitude*: |w|. *LAMP*: w² over the sum of the
w² of its layer that are not smaller, so that no layer is emptied (Lee et al. 2021). *Activation-aware (Wanda)*: |w|
times the root mean square of the input that it is multiplied with, over 2,048 training images (Sun et al. 2024)."""
HELP_SCOPE = """Where scores are compared. *Global*: one threshold over all layers, so that some lose more than others.
*Layer-wise*: each layer loses the same share. For weights and for channels."""
HELP_CHANNEL_SCORE = """Which channels go first. *L1 norm*: those with the smallest weights, mean |w| (Li et al. 2017).
*Mean activation*: those whose output is smallest over 2,048 training images."""
HELP_PROTECT = "Layers that lose no weights to the sparsity of the whole network."
HELP_OWN_CHANNELS = "How many of the layer's outputs stay. The next layer loses the columns that read the others."
HELP_OWN_SPARSITY = """It shows what the whole network's threshold does to this layer. Moving it gives the layer a share
of its own, and the threshold then counts the other layers only."""
HELP_BITS = """Every weight becomes an integer of this many bits: w ≈ scale · q. 8 bits cost practically nothing; below
4 it matters how the scale is chosen."""
HELP_ACTIVATION_BITS = """Every activation (signal between two layers) becomes an integer of this many bits, without a
sign after a ReLU. The input image keeps its own 8 bits; the ten logits at the end stay float32."""
HELP_GRANULARITY = """How many weights share a scale. *Per channel*: one scale for each output channel. *Per tensor*:
one for the whole tensor, so that the largest weight of all decides how coarse every channel is."""
HELP_SYMMETRY = """*Symmetric*: a grid around zero, integers from −(2^(b−1) − 1) to 2^(b−1) − 1, so that 2 bits are −1,
0 and 1. *Asymmetric (affine)*: all 2^b integers from the smallest to the largest weight; one of them, the zero point,
stands for 0. For weights only: activations after a ReLU do not need it."""
HELP_CLIP = """Where the grid ends. *Min-max*: at the largest number, so that nothing is clipped. *MSE-optimal*: where
the mean squared error is least; a few large numbers are clipped, and all others lie on a finer grid. For weights and
activations."""
HELP_ROUNDING = """*Nearest*: each weight goes to the nearest point of its grid. *GPTQ*: one input after the other is
rounded, and the weights that are still free make up for its error, so that the layer's **output** on real images
changes least (Frantar et al. 2023). The weights are then further away, and the network is usually better, most of all
where the range is clipped."""
HELP_BIAS = """The mean change that rounding makes to each output, over 2,048 training images, is subtracted from its
bias (Nagel et al. 2019)."""
HELP_ACTIVATIONS = """Round the activations, the signals between the layers, to the same number of bits, with ranges
measured on 2,048 calibration images. The input image keeps its own 8 bits."""


def step_controls() -> None:
    """Undo, redo, pin, and the scenarios of the course."""
    row = st.container(horizontal=True, gap="small")
    row.button("Undo", icon=":material/undo:", on_click=state.undo, disabled=not state.past(), width="stretch")
    row.button("Redo", icon=":material/redo:", on_click=state.redo, disabled=not state.future(), width="stretch")
    choice = state.current()
    full = len(state.pins()) >= state.PINS
    row.button(
        "Pin",
        icon=":material/push_pin:",
        on_click=state.pin,
        args=(choice,),
        disabled=full or choice in state.pins(),
        help=f"Keep this configuration beside the next ones, in the link too; {state.PINS} at most.",
        width="stretch",
    )
    if lesson.hides("scenarios"):
        return
    st.selectbox(
        "Scenario",
        [SMALLEST, *PRESETS],
        index=None,
        placeholder="Go to a scenario of the course",
        key="w_preset",
        on_change=_go_to_preset,
        label_visibility="collapsed",
    )


def _go_to_preset() -> None:
    """Choose a scenario; the box is empty again, so that the same one can be chosen twice."""
    name = st.session_state["w_preset"]
    st.session_state["w_preset"] = None
    if name in PRESETS:
        state.choose(*PRESETS[name])
    if name == SMALLEST:
        best = Goal(allowance=0.01).best(state.workbench().points(state.current().baseline))
        if best is not None:
            state.choose(config=best.config)


def baseline_picker() -> None:
    """Which network everything is about."""
    titles = {card.id: card.title for card in state.workbench().cards()}
    key = state.keep_widget("w_baseline", state.current().baseline)
    st.selectbox(
        "Baseline",
        list(titles),
        format_func=lambda name: titles.get(name, name),
        key=key,
        on_change=lambda: None if _polled() else state.choose(baseline=st.session_state[key]),
        help="The trained network that is compressed: shipped with the project, trained here, or loaded from a file.",
    )
    presentation.copy_link()


def network_controls() -> dict[str, DeltaGenerator]:
    """The sliders of the whole network, side by side where there is room; returns the place below each, for its
    curve."""
    shown = [name for name in SLIDERS if not lesson.hides(name)]
    slots = {}
    for name, place in zip(shown, st.columns(max(1, len(shown)), gap="medium"), strict=False):
        with place:
            SLIDERS[name](state.current().config)
            slots[name] = st.container()
    return slots


def companions() -> None:
    """How ranks are factored, and whether activations follow the bits."""
    for name, draw in (("method", _method), ("activations", _activations)):
        if not lesson.hides(name):
            draw(state.current().config)


def _rank(config: CompressionConfig) -> None:
    share = ALL if config.rank_share is None else round(config.rank_share * 100)
    _slider("Rank kept", "w_rank", share, 1, ALL, HELP_RANK, lambda v: {"rank_share": places.kept(v)})


def _method(config: CompressionConfig) -> None:
    _choice("Low-rank objective", "w_method", config.low_rank_method, figures.METHODS, "low_rank_method", HELP_METHOD)


def _sparsity(config: CompressionConfig) -> None:
    _slider(
        "Sparsity",
        "w_sparsity",
        _percent(config.sparsity),
        0.0,
        100.0,
        HELP_SPARSITY,
        lambda v: {"sparsity": places.pruned(v)},
        step=0.5,
    )


def _bits(config: CompressionConfig) -> None:
    key = state.keep_widget("w_bits", config.bits or FLOAT)
    st.select_slider("Bits per weight", BIT_CHOICES, key=key, help=HELP_BITS, on_change=_write_bits)


def _activations(config: CompressionConfig) -> None:
    key = state.keep_widget("w_activations", activations_follow(config))
    own = "" if activations_follow(config) else f" (now {config.activation_bits or FLOAT})"
    st.toggle(f"Activations at the same bits{own}", key=key, help=HELP_ACTIVATIONS, on_change=_write_bits)


def _channels(config: CompressionConfig) -> None:
    share = ALL if config.channel_share is None else round(config.channel_share * 100)
    _slider("Channels kept", "w_channels", share, 1, ALL, HELP_CHANNELS, lambda v: {"channel_share": places.kept(v)})


SLIDERS: dict[str, Callable[[CompressionConfig], None]] = {
    "rank": _rank,
    "sparsity": _sparsity,
    "bits": _bits,
    "channels": _channels,
}


def finer_controls() -> None:
    """Criteria, scope, granularity, and ranks above break-even, as the course has them."""
    config = state.current().config
    pruning_choices()
    _choice(
        "Channel criterion",
        "w_channelscore",
        config.channel_score,
        figures.CHANNEL_SCORES,
        "channel_score",
        HELP_CHANNEL_SCORE,
    )
    names = [layer.name for layer in state.workbench().baseline(state.current().baseline).layers]
    key = state.keep_widget("w_protect", [name for name in names if config.layer(name).sparsity == 0])
    st.pills(
        "Protected from pruning", names, selection_mode="multi", format_func=plain, key=key, help=HELP_PROTECT,
        on_change=_protect,
    )  # fmt: skip
    quantization_choices()
    key = state.keep_widget("w_course", config.above_break_even)
    st.toggle(
        "Factor above break-even too",
        key=key,
        help=HELP_COURSE,
        on_change=lambda: _write({"above_break_even": bool(st.session_state[key])}),
    )


def quantization_choices() -> None:
    """Which grid, and how numbers get onto it."""
    config = state.current().config
    _choice("Granularity", "w_granularity", config.granularity, figures.GRANULARITIES, "granularity", HELP_GRANULARITY)
    _choice("Quantization scheme", "w_symmetry", config.symmetry, figures.SYMMETRIES, "symmetry", HELP_SYMMETRY)
    _choice("Clipping range", "w_clip", config.clip, figures.CLIPS, "clip", HELP_CLIP)
    _choice("Rounding", "w_rounding", config.rounding, figures.ROUNDINGS, "rounding", HELP_ROUNDING)
    key = state.keep_widget("w_bias", config.bias_correction)
    st.toggle(
        "Bias correction",
        key=key,
        help=HELP_BIAS,
        on_change=lambda: _write({"bias_correction": bool(st.session_state[key])}),
    )


def separate_bits() -> None:
    """Bits of weights and bits of activations, each by itself."""
    config = state.current().config
    for label, setting, text in (
        ("Bits per weight", "bits", HELP_BITS),
        ("Bits per activation", "activation_bits", HELP_ACTIVATION_BITS),
    ):
        key = state.keep_widget(f"w_own_{setting}", getattr(config, setting) or FLOAT)
        st.select_slider(label, BIT_CHOICES, key=key, help=text, on_change=_write_own_bits, args=(key, setting))


def _write_own_bits(key: str, setting: str) -> None:
    label = st.session_state[key]
    _write({setting: None if label == FLOAT else label})


def pruning_choices() -> None:
    """Which weights go first, and where their scores are compared."""
    config = state.current().config
    _choice("Pruning criterion", "w_score", config.score, figures.SCORES, "score", HELP_SCORE)
    _choice("Scope", "w_scope", config.scope, figures.SCOPES, "scope", HELP_SCOPE)


def _protect() -> None:
    """Layers that were picked get a sparsity of 0 of their own; those that were let go follow the network again."""
    picked = set(st.session_state["w_protect"])

    def change(config: CompressionConfig) -> CompressionConfig:
        for name in picked:
            config = config.with_layer(name, sparsity=0.0)
        for name, own in config.layers:
            if own.sparsity == 0 and name not in picked:
                config = config.with_layer(name, sparsity=None)
        return config

    _checked(change)


class LayerPlaces(NamedTuple):
    """A layer's sliders: where they stand, and the place below each, for its curve. channels, full_rank : at most"""

    name: str
    channels: int
    full_rank: int
    now: dict[str, float]
    slots: dict[str, DeltaGenerator]


def layer_controls(result: Result) -> LayerPlaces | None:
    """One layer on its own: each control follows the whole network until it is touched."""
    choice = state.current()
    layers = {layer.name: layer for layer in result.layers}
    name = st.pills("Layer", list(layers), default=next(iter(layers)), format_func=plain, key="w_layer", required=True)
    if name not in layers:
        return None
    layer, own = layers[name], choice.config.layer(name)
    help_rank = f"{DENSE} leaves the layer dense. Break-even is {layer.break_even_rank}: at most that saves anything."
    slots: dict[str, DeltaGenerator] = {}
    width = 1 if name == result.layers[-1].name else layer.shape[0]
    if width > 1:
        chosen = own.channels, layer.channels
        _layer_slider(name, "channels", *chosen, 1, width, 1, "%d", HELP_OWN_CHANNELS, int)
        slots["channels"] = st.container()
    rank = None if own.rank is None else min(own.rank, layer.full_rank)
    _layer_slider(name, "rank", rank, layer.rank or DENSE, DENSE, layer.full_rank, 1, "%d", help_rank, int)
    slots["rank"] = st.container()
    share = None if own.sparsity is None else _percent(own.sparsity)
    follows = round(layer.sparsity * 200) / 2  # what the one threshold does to this layer, on the slider's grid
    _layer_slider(name, "sparsity", share, follows, 0.0, 100.0, 0.5, "%g %%", HELP_OWN_SPARSITY, places.share)
    slots["sparsity"] = st.container()
    bits = _bits_label(choice.config.bits_of(name))
    key, value = _following(name, "bits", None if own.bits is None else bits, bits)
    st.select_slider(
        _layer_label(name, "bits", own.bits),
        BIT_CHOICES,
        **value,
        key=key,
        help=HELP_BITS,
        on_change=lambda: _touch(key, value, name, "bits", bits_value),
    )
    slots["bits"] = st.container()
    if own != type(own)():
        st.button("Follow the network again", icon=":material/undo:", on_click=_reset, args=(name,), width="stretch")
    now = {
        "channels": layer.channels,
        "rank": layer.rank or DENSE,
        "sparsity": layer.sparsity * 100,
        "bits": BIT_CHOICES.index(bits),
    }
    return LayerPlaces(name, width, layer.full_rank, now, slots)


def _layer_label(layer: str, setting: str, own: object) -> str:
    return f"{setting.capitalize()} of {plain(layer)}{'' if own is None else ' · own'}"


def _following(layer: str, setting: str, own: Any, follows: Any) -> tuple[str, dict[str, Any]]:
    """Key and value of a layer's widget. While it follows the network it is a new widget for each value that it
    follows: were one widget moved by the program, the browser could send its old value as if a person had chosen it.
    """
    if own is None:
        return f"w_{layer}_{setting}_as_network_{follows}", {"value": follows}
    return state.keep_widget(f"w_{layer}_{setting}", own), {}


def _layer_slider(
    layer: str,
    setting: str,
    own: float | None,
    follows: float,
    low: float,
    high: float,
    step: float,
    form: str,
    text: str,
    to_config: Callable[[float], float],
) -> None:
    key, value = _following(layer, setting, own, follows)
    st.slider(
        _layer_label(layer, setting, own),
        low,
        high,
        **value,
        step=step,
        key=key,
        help=text,
        format=form,
        on_change=lambda: _touch(key, value, layer, setting, to_config),
    )


def _slider(
    label: str,
    key: str,
    value: float,
    low: float,
    high: float,
    text: str,
    change: Callable[[float], dict[str, Any]],
    step: float = 1,
) -> None:
    key = state.keep_widget(key, min(max(type(low)(value), low), high))  # a link may say less than a slider can show
    st.slider(
        label,
        low,
        high,
        step=type(low)(step),
        key=key,
        help=text,
        format="%g %%",
        on_change=lambda: _write(change(st.session_state[key])),
    )


def _choice(label: str, key: str, value: str, names: dict[str, str], setting: str, text: str | None = None) -> None:
    key = state.keep_widget(key, value)
    st.segmented_control(
        label,
        list(names),
        format_func=lambda option: names.get(option, option),
        key=key,
        required=True,
        help=text,
        on_change=lambda: _write({setting: st.session_state[key]}),
    )


def _percent(share: float | None) -> float:
    return round((share or 0.0) * 100, 6)


def _bits_label(bits: int) -> int | str:
    return FLOAT if bits == FLOAT_BITS else bits


def bits_value(label: int | str) -> int:
    return FLOAT_BITS if label == FLOAT else int(label)


def activations_follow(config: CompressionConfig) -> bool:
    return config.activation_bits == config.bits


def _write_bits() -> None:
    config = state.current().config
    label = st.session_state.get("w_bits", config.bits or FLOAT)
    alike = st.session_state.get("w_activations", activations_follow(config))  # one of the two may be left out
    _write(bits_settings(config, label, alike))


def bits_settings(config: CompressionConfig, label: int | str, alike: bool) -> dict[str, Any]:
    """What a place on the slider of bits means. alike : activations at the same bits; else they keep bits of their own,
    where they have some."""
    bits = None if label == FLOAT else label
    own = None if activations_follow(config) else config.activation_bits
    return {"bits": bits, "activation_bits": bits if alike else own}


def _write(changes: dict[str, Any]) -> None:
    _checked(lambda config: replace(config, **changes))


def _polled() -> bool:
    """Whether only a fragment runs: the browser asked for it by itself, with what its widgets showed when it did. A
    person's move runs the whole page; one that a poll reports is of a moment ago, and would undo a newer choice."""
    context = get_script_run_ctx()
    return context is not None and bool(context.fragment_ids_this_run)


def _checked(change: Callable[[CompressionConfig], CompressionConfig]) -> None:
    """Check and write; a value outside its range (a widget's bounds are the browser's courtesy) changes nothing."""
    if _polled():
        return
    try:
        state.choose(config=change(state.current().config))
    except (ConfigError, TypeError) as error:
        st.session_state["problems"] = [str(error)]


def _touch(key: str, follows: dict[str, Any], layer: str, setting: str, to_config: Callable[[Any], Any]) -> None:
    """Give a layer a setting of its own. A widget that was only drawn may report the value that it follows."""
    value = st.session_state[key]
    if value != follows.get("value"):
        _checked(lambda config: config.with_layer(layer, **{setting: to_config(value)}))


def _reset(name: str) -> None:
    config = state.current().config
    state.choose(config=replace(config, layers=tuple(pair for pair in config.layers if pair[0] != name)))


def training_form(recipes: dict[str, TrainingConfig]) -> None:
    """Train a network of one's own, as a job."""
    with st.expander("Train one here", icon=":material/model_training:"):
        kind = st.selectbox("Recipe", list(recipes), key="train_recipe", help="Optimizer and schedule of a baseline.")
        recipe = recipes[kind if kind in recipes else "cnn"]
        default = min(8, recipe.epochs)
        epochs = st.number_input("Epochs", 1, 200, default, key="train_epochs", help="Passes over 55,000 images.")
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
