"""The controls: each shows the current choice, checks what it is told, and writes the choice. Nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core import settings
from core.bench import places
from core.config import DENSE, FLOAT_BITS, CompressionConfig, ConfigError, LayerConfig
from core.measuring.front import Goal
from core.settings import Setting, Share, Switch, Weight, Whole
from core.words import plain
from pages.choice import lesson, presentation, state, terms
from pages.choice.offered import FOLLOWING
from pages.choice.presets import PRESETS

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from core.bench.workbench import LayerRow, Result
    from core.networks.graph import Layer

SMALLEST = "Smallest within 1 pp on validation"
ALL = 100
FLOAT, NONE = "float32", "none"
BIT_CHOICES: list[int | str] = [value or FLOAT for value in places.values(settings.named("bits"))]
AS_NETWORK = "as network"
STANDARD = ("channels", "rank", "sparsity", "bits")
"""Settings of a layer whose controls know what it has."""

OF_LAYER = {setting.name: setting for setting in settings.of_layer()}

HELP_PROTECT = "Layers that lose no weights to the sparsity of the whole network."
HELP_FOLLOWED = f"Activations get the same bits, as long as *{FOLLOWING}* in the sidebar is on."
HELP_ACTIVATIONS = """Round the activations, the signals between the layers, to the same number of bits, with ranges
measured on the calibration images. The input image keeps its own 8 bits."""


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
    shown = [setting for setting in _placed("main") if not lesson.hides(setting.key)]
    slots = {}
    for setting, place in zip(shown, st.columns(max(1, len(shown)), gap="medium"), strict=False):
        with place:
            control(setting)
            slots[setting.key] = st.container()
    return slots


def companions() -> None:
    """What belongs beside the sliders: how ranks are factored, and whether activations follow the bits."""
    for setting in _placed("beside"):
        if not lesson.hides(setting.key):
            (_activations if setting.name == "activation_bits" else control)(setting)


def _placed(place: str) -> list[Setting]:
    return sorted(
        (setting for setting in settings.of_network() if setting.place == place), key=lambda setting: setting.order
    )


def control(setting: Setting) -> None:
    """The control of a setting of the whole network, as its kind asks for one."""
    kind, value = setting.kind, getattr(state.current().config, setting.name)
    if isinstance(kind, Share):
        _slider(setting, kind, value)
    elif isinstance(kind, Whole):
        key = state.keep_widget(f"w_{setting.key}", _number_label(setting, value))
        follows = f"\n\n{HELP_FOLLOWED}" if setting.name == "bits" else ""
        st.select_slider(
            setting.label, _number_labels(setting, value), key=key, help=terms.of(setting) + follows,
            on_change=_write_width, args=(key, setting),
        )  # fmt: skip
    elif isinstance(kind, Weight):
        key = state.keep_widget(f"w_{setting.key}", value)
        st.select_slider(
            setting.label, sorted({*kind.shown, setting.default, value}), format_func="{:g}".format, key=key,
            help=terms.of(setting), on_change=_write_value, args=(key, setting.name),
        )  # fmt: skip
    elif isinstance(kind, Switch):
        key = state.keep_widget(f"w_{setting.key}", value)
        st.toggle(setting.label, key=key, help=terms.of(setting), on_change=_write_value, args=(key, setting.name))
    else:
        _choice(setting, value)


def _slider(setting: Setting, kind: Share, value: float | None) -> None:
    """In percent. What may not be 0 is a share that is kept, and all of it is the network as it is."""
    low, step, meant = (1, 1, places.kept) if kind.low_open else (0.0, 0.5, places.pruned)
    nothing = ALL if kind.low_open else 0
    shown = nothing if value is None else percent_of(value)
    shown = min(max(type(low)(shown), low), type(low)(ALL))  # a link may say less than a slider can show
    key = state.keep_widget(f"w_{setting.key}", shown)
    st.slider(
        setting.label, low, type(low)(ALL), step=step, key=key, help=terms.of(setting), format="%g %%",
        on_change=lambda: _write({setting.name: meant(st.session_state[key])}),
    )  # fmt: skip


def _choice(setting: Setting, value: str) -> None:
    key, labels = state.keep_widget(f"w_{setting.key}", value), setting.labels
    st.segmented_control(
        setting.label, list(labels), format_func=lambda option: labels.get(option, option), key=key, required=True,
        help=terms.of(setting), on_change=_write_value, args=(key, setting.name),
    )  # fmt: skip


def _activations(setting: Setting) -> None:
    config = state.current().config
    key = state.keep_widget("w_activations", activations_follow(config))
    apart = "" if activations_follow(config) else f" (now {config.activation_bits or FLOAT})"
    st.toggle(f"{FOLLOWING}{apart}", key=key, help=HELP_ACTIVATIONS, on_change=_write_bits)


def finer_controls() -> None:
    """Criteria, scope, granularity, and ranks above break-even, as the course has them."""
    for technique in settings.techniques():
        technique_choices(technique.name)


def technique_choices(name: str) -> None:
    """The finer settings of a technique."""
    technique = next(each for each in settings.techniques() if each.name == name)
    for setting in technique.settings:
        if setting.place == "finer":
            control(setting)
    if name == "pruning":
        _protected()


def _protected() -> None:
    config, names = state.current().config, [layer.name for layer in _layers()]
    key = state.keep_widget("w_protect", [name for name in names if config.layer(name).sparsity == 0])
    said: dict[str, Any] = {"format_func": plain, "key": key, "help": HELP_PROTECT, "on_change": _protect}
    if len(names) <= PILLS:
        st.pills("Protected from pruning", names, selection_mode="multi", **said)
    else:
        st.multiselect("Protected from pruning", names, **said)


def _layers() -> tuple[Layer, ...]:
    return state.workbench().profile(state.current().baseline).layers


def separate_bits() -> None:
    """Bits of weights and bits of activations, each by itself."""
    config = state.current().config
    for setting in (settings.named("bits"), settings.named("activation_bits")):
        value = getattr(config, setting.name)
        key = state.keep_widget(f"w_own_{setting.name}", _number_label(setting, value))
        st.select_slider(
            setting.label, _number_labels(setting, value), key=key, help=terms.of(setting), on_change=_write_own_width,
            args=(key, setting.name),
        )  # fmt: skip


def _number_labels(setting: Setting, now: int | None) -> list[int | str]:
    """Of a number's control: what it can be, what it is now, as a link may say it, and the network as it is."""
    numbers = sorted({value for value in (*places.values(setting), now) if value is not None})
    return [*numbers, _number_label(setting, None)]


def _number_label(setting: Setting, value: int | None) -> int | str:
    nothing = FLOAT if setting.name in ("bits", "activation_bits") else NONE
    return nothing if value is None else value


def _write_width(key: str, setting: Setting) -> None:
    if setting.name == "bits":
        _write_bits()
    else:
        _write_own_width(key, setting.name)


def _write_own_width(key: str, name: str) -> None:
    label = st.session_state[key]
    _write({name: None if label in (FLOAT, NONE) else label})


def _write_value(key: str, name: str) -> None:
    _write({name: st.session_state[key]})


def _protect() -> None:
    """Layers that were picked get a sparsity of 0 of their own; those that were let go follow the network again."""
    picked = set(st.session_state["w_protect"])

    def change(config: CompressionConfig) -> CompressionConfig:
        for name in picked:
            config = config.with_layer(name, sparsity=0.0)
        for name, of_layer in config.layers:
            if of_layer.sparsity == 0 and name not in picked:
                config = config.with_layer(name, sparsity=None)
        return config

    checked(change)


PILLS = 8
"""Layers that are shown side by side, to be picked from; more are searched in a list."""


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
    name = layer_picker(list(layers))
    if name not in layers:
        return None
    layer, chosen, profile = layers[name], choice.config.layer(name), state.workbench().profile(choice.baseline)
    width = profile.channels.get(name, 1)
    if len(tied := profile.tied(name)) > 1 and width > 1:
        st.caption(f"Its channels are tied to those of {plain(', '.join(set(tied) - {name}))}: they go together.")
    controls = {"rank": _rank_of, "sparsity": _sparsity_of, "bits": _bits_of}
    slots: dict[str, DeltaGenerator] = {}
    for setting, draw in ({"channels": _channels_of, **controls} if width > 1 else controls).items():
        draw(layer, chosen)
        slots[setting] = st.container()
    for setting in OF_LAYER.values():
        if setting.name not in STANDARD:
            _layer_number(name, setting, getattr(chosen, setting.name))
    if chosen != type(chosen)():
        st.button("Follow the network again", icon=":material/undo:", on_click=_reset, args=(name,), width="stretch")
    now = {
        "channels": layer.channels,
        "rank": layer.rank or DENSE,
        "sparsity": layer.sparsity * 100,
        "bits": BIT_CHOICES.index(bits_label(choice.config.bits_of(name))),
    }
    return LayerPlaces(name, width, layer.full_rank, now, slots)


def open_layer(name: str) -> None:
    """Show a layer's own settings, beside those of the network."""
    st.session_state["w_layer"], st.session_state["w_by_layer"] = name, True


def layer_picker(names: list[str], key: str = "w_layer") -> str | None:
    """One of the layers: as pills, or, where there are many, from a list that can be searched."""
    if st.session_state.get(key) not in names:
        st.session_state[key] = names[0]
    return pick("Layer", names, key)


def pick(label: str, names: list[str], key: str, **more: Any) -> str | None:
    """One of several names: all of them side by side, or, where they are many, from a list that can be searched."""
    if len(names) <= PILLS:
        return st.pills(label, names, format_func=plain, key=key, required=True, **more)
    if "default" in more:
        more["index"] = names.index(more.pop("default"))
    return st.selectbox(label, names, format_func=plain, key=key, **more)


def _channels_of(layer: LayerRow, chosen: LayerConfig) -> None:
    span = 1, layer.shape[0], 1, "%d"
    tied = state.workbench().profile(state.current().baseline).tied(layer.name)
    said = [state.current().config.layer(name).channels for name in tied]
    own = next((count for count in said if count is not None), chosen.channels)
    _layer_slider(layer.name, "channels", own, layer.channels, *span, terms.of(OF_LAYER["channels"]), int)


def _rank_of(layer: LayerRow, chosen: LayerConfig) -> None:
    words = f"{DENSE} leaves the layer dense. Only ranks up to {layer.break_even_rank} (break-even) make it smaller."
    words += f"\n\n{terms.explained('break-even rank')}"
    rank = None if chosen.rank is None else min(chosen.rank, layer.full_rank)
    _layer_slider(layer.name, "rank", rank, layer.rank or DENSE, DENSE, layer.full_rank, 1, "%d", words, int)


def _sparsity_of(layer: LayerRow, chosen: LayerConfig) -> None:
    share = None if chosen.sparsity is None else percent_of(chosen.sparsity)
    follows = round(layer.sparsity * 200) / 2  # what the one threshold does to this layer, on the slider's grid
    span = 0.0, 100.0, 0.5, "%g %%"
    _layer_slider(layer.name, "sparsity", share, follows, *span, terms.of(OF_LAYER["sparsity"]), places.share)


def _bits_of(layer: LayerRow, chosen: LayerConfig) -> None:
    bits = bits_label(state.current().config.bits_of(layer.name))
    key, value = _following(layer.name, "bits", None if chosen.bits is None else bits, bits)
    st.select_slider(
        _layer_label(layer.name, "bits", chosen.bits), BIT_CHOICES, **value, key=key, help=terms.of(OF_LAYER["bits"]),
        on_change=lambda: _touch(key, value, layer.name, "bits", bits_value),
    )  # fmt: skip


def _layer_number(layer: str, setting: Setting, value: Any) -> None:
    """What a further technique lets a layer do differently; nothing chosen is as the network does."""
    options = [AS_NETWORK, *(label for label in _number_labels(setting, value) if label not in (FLOAT, NONE))]
    key = state.keep_widget(f"w_{layer}_{setting.name}", AS_NETWORK if value is None else value)

    def write() -> None:
        label = st.session_state[key]
        checked(lambda config: config.with_layer(layer, **{setting.name: None if label == AS_NETWORK else label}))

    st.select_slider(
        _layer_label(layer, setting.name, value), options, key=key, help=terms.of(setting), on_change=write
    )


def _layer_label(layer: str, setting: str, chosen: object) -> str:
    return f"{setting.capitalize()} of {plain(layer)}{'' if chosen is None else ' · own'}"


def _following(layer: str, setting: str, chosen: Any, follows: Any) -> tuple[str, dict[str, Any]]:
    """Key and value of a layer's widget. While it follows the network it is a new widget for each value that it
    follows: were one widget moved by the program, the browser could send its old value as if a person had chosen it.
    """
    if chosen is None:
        return f"w_{layer}_{setting}_as_network_{follows}", {"value": follows}
    return state.keep_widget(f"w_{layer}_{setting}", chosen), {}


def _layer_slider(
    layer: str,
    setting: str,
    chosen: float | None,
    follows: float,
    low: float,
    high: float,
    step: float,
    form: str,
    text: str,
    to_config: Callable[[float], float],
) -> None:
    key, value = _following(layer, setting, chosen, follows)
    st.slider(
        _layer_label(layer, setting, chosen),
        low,
        high,
        **value,
        step=step,
        key=key,
        help=text,
        format=form,
        on_change=lambda: _touch(key, value, layer, setting, to_config),
    )


def percent_of(share: float) -> float:
    """As a slider or a cell shows it."""
    return round(share * 100, 6)


def bits_label(bits: int) -> int | str:
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
    apart = None if activations_follow(config) else config.activation_bits
    return {"bits": bits, "activation_bits": bits if alike else apart}


def _write(changes: dict[str, Any]) -> None:
    checked(lambda config: replace(config, **changes))


def _polled() -> bool:
    """Whether only a fragment runs: the browser asked for it by itself, with what its widgets showed when it did. A
    person's move runs the whole page; one that a poll reports is of a moment ago, and would undo a newer choice."""
    context = get_script_run_ctx()
    return context is not None and bool(context.fragment_ids_this_run)


def checked(change: Callable[[CompressionConfig], CompressionConfig]) -> None:
    """Check and write; a value outside its range (a widget's bounds are the browser's courtesy) changes nothing, nor
    does one with which the network can no longer be made."""
    if _polled():
        return
    refusal, (name, old) = state.workbench().refusal, state.current()
    try:
        new = change(old)
        if (why := refusal(name, new)) and not refusal(name, old):
            raise ConfigError(why)
        state.choose(config=new)
    except (ConfigError, TypeError) as error:
        st.session_state["problems"] = [str(error)]


def _touch(key: str, follows: dict[str, Any], layer: str, setting: str, to_config: Callable[[Any], Any]) -> None:
    """Give a layer a setting of its own. A widget that was only drawn may report the value that it follows."""
    value = st.session_state[key]
    if value != follows.get("value"):
        checked(lambda config: with_own(config, layer, setting, to_config(value)))


def with_own(config: CompressionConfig, layer: str, setting: str, value: Any) -> CompressionConfig:
    """With a setting of a layer of its own, None for that of the network; without the numbers of channels of layers
    that are tied to this one, since what is set for it holds for them."""
    for other in state.workbench().profile(state.current().baseline).tied(layer) if setting == "channels" else ():
        config = config.with_layer(other, channels=None)
    return config.with_layer(layer, **{setting: value})


def _reset(name: str) -> None:
    config = state.current().config
    state.choose(config=replace(config, layers=tuple(pair for pair in config.layers if pair[0] != name)))
