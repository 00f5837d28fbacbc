"""Look-ahead: beside each slider, what its other places would give, measured while nobody waits for anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import streamlit as st

from core import settings
from core.bench.places import RANKS, SPARSITIES, along, share, values
from core.config import DENSE, CompressionConfig
from core.settings import Setting, Share
from core.words import counted
from pages.choice import controls, frame, lesson, state
from pages.shown import charts

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator
    from streamlit.elements.lib.mutable_expander_container import ExpanderContainer

    from core.bench.workbench import Result

POLL_SECONDS = 1.5
POLLS_PER_SECOND = 4
"""All curves of all sessions together ask no more often than this whether a point has come."""


class Position(NamedTuple):
    """A place on a slider: where, in words, and the configuration that it means."""

    x: float
    label: str
    config: CompressionConfig


class Curve(NamedTuple):
    """The places of one slider, its ends, and where it stands. key : unique on the page."""

    key: str
    title: str
    positions: list[Position]
    low: float
    high: float
    now: float


def of_network(config: CompressionConfig) -> dict[str, Curve]:
    """The curves of the whole-network sliders, by setting: without recovery, which nobody trained there."""
    configs = along(config)
    main = (setting for setting in settings.of_network() if setting.place == "main")
    return {setting.key: _of_setting(setting, config, configs[setting.key]) for setting in main}


def _of_setting(setting: Setting, config: CompressionConfig, configs: list[CompressionConfig]) -> Curve:
    """Along a setting of the whole network: in percent where it is a share, else from choice to choice."""
    title, value, choices = settings.lower_first(setting.label), getattr(config, setting.name), values(setting)
    if isinstance(setting.kind, Share):
        nothing, low = (controls.ALL, 1) if setting.kind.low_open else (0, 0)
        shares = [nothing if value is None else round(100 * value, 6) for value in choices]
        positions = [Position(x, f"{title} {x:g} %", config) for x, config in zip(shares, configs, strict=True)]
        now = nothing if value is None else max(low, 100 * value)
        return Curve(setting.key, title, positions, low, controls.ALL, now)
    labels = [_bits_words(value or controls.FLOAT) if setting.name == "bits" else str(value) for value in choices]
    positions = [Position(i, *place) for i, place in enumerate(zip(labels, configs, strict=True))]
    return Curve(setting.key, title, positions, 0, len(choices) - 1, choices.index(value))


def of_layer(config: CompressionConfig, places: controls.LayerPlaces) -> dict[str, Curve]:
    """The curves of one layer's sliders, without recovery."""
    config, name, now, full_rank = replace(config, recovery=None), places.name, places.now, places.full_rank
    counts = sorted({max(1, round(places.channels * share / 100)) for share in RANKS})
    widths = [Position(n, counted(n, "channel"), config.with_layer(name, channels=n)) for n in counts]
    steps = sorted({DENSE, *(max(1, round(full_rank * share / 100)) for share in RANKS)})
    ranks = [Position(r, f"rank {r}" if r else "dense", config.with_layer(name, rank=r)) for r in steps]
    sparsities = [Position(s, f"{s} % sparse", config.with_layer(name, sparsity=share(s))) for s in SPARSITIES]
    bits = [
        Position(i, _bits_words(label), config.with_layer(name, bits=controls.bits_value(label)))
        for i, label in enumerate(controls.BIT_CHOICES)
    ]
    return {
        "channels": Curve(f"{name}_channels", f"channels of {name}", widths, 1, places.channels, now["channels"]),
        "rank": Curve(f"{name}_rank", f"rank of {name}", ranks, DENSE, full_rank, now["rank"]),
        "sparsity": Curve(f"{name}_sparsity", f"sparsity of {name}", sparsities, 0, 100, now["sparsity"]),
        "bits": Curve(f"{name}_bits", f"bits of {name}", bits, 0, len(controls.BIT_CHOICES) - 1, now["bits"]),
    }


def beside_sliders(result: Result, below: dict[str, DeltaGenerator], by_layer: ExpanderContainer | None) -> None:
    """The curves of the whole network, and those of a layer where its sliders are open."""
    standing = result.evaluation.accuracy, result.bytes, result.config.recovery is not None
    if by_layer is not None and by_layer.open:
        with by_layer:
            places = controls.layer_controls(result)
        if places is not None:
            layer_curves = of_layer(result.config, places)
            for setting, place in places.slots.items():
                with place:
                    draw(layer_curves[setting], standing)
    for setting, curve in of_network(result.config).items():
        if setting in below:
            with below[setting]:
                draw(curve, standing)


def draw(curve: Curve, standing: tuple[float, int, bool]) -> None:
    """The curve with what is known of it; polls while points are missing. None in a lesson that asks for guesses.

    standing : accuracy and bytes here, and whether they were trained, which the curve is not
    """
    if lesson.asks():
        return
    bench, choice = state.workbench(), state.current()
    allowed = [place for place in curve.positions if not bench.refusal(choice.baseline, place.config)]
    curve = curve._replace(positions=allowed)
    missing = any(bench.point(choice.baseline, place.config) is None for place in allowed)
    interval = max(POLL_SECONDS, bench.turns.wishing / POLLS_PER_SECOND) if missing else None
    st.fragment(_draw, run_every=interval)(curve, standing, interval)


def _draw(curve: Curve, standing: tuple[float, int, bool], interval: float | None) -> None:
    if st.session_state.pop("jumped", False):
        frame.draw_again()
    bench, choice = state.workbench(), state.current()
    rows, missing = [], []
    for position in curve.positions:
        point = bench.point(choice.baseline, position.config)
        if point is None:
            missing.append(position)
        else:
            label = f"{position.label}, not trained" if standing[-1] else position.label
            rows.append(_row(position.x, label, *point))
    missing.sort(key=lambda position: abs(position.x - curve.now))
    wished = [position.config for position in missing]
    bench.wish(f"{state.session()} {curve.key}", choice.baseline, wished, 3 * (interval or POLL_SECONDS))
    if interval is not None and not missing:
        frame.draw_again()  # the last point came: polling ends with the next run of the page
    trained = standing[-1]
    progress = "curve: not trained" if trained else ""
    if missing:
        progress = f"{len(rows)} of {len(curve.positions)} points"
    here = _row(curve.now, "you are here", *standing)
    rows.append(here | {"mark": "◆ trained" if trained else "◆ here", "progress": progress})
    jumps = st.session_state.get("jumps", 0)  # a chart that was clicked comes back without its selection
    key = f"curve_{curve.key}_{jumps}"
    st.vega_lite_chart(
        pa.Table.from_pylist(sorted(rows, key=lambda row: row["x"])),
        charts.look_ahead(curve.low, curve.high),
        key=key,
        on_select=lambda: _jump(key, curve),
        selection_mode="place",
        alt=f"Accuracy and file size along {curve.title}, {len(rows) - 1} of {len(curve.positions)} points measured",
    )


def _row(x: float, label: str, accuracy: float, size: int, apart: bool = False) -> dict[str, Any]:
    about = {"here": label == "you are here", "apart": apart, "mark": None, "progress": None}
    return {"x": x, "setting": label, "accuracy": accuracy, "KB": size / 1024, **about}


def _jump(key: str, curve: Curve) -> None:
    """Go where a point was clicked."""
    picked = st.session_state[key]["selection"].get("place", [])
    x = picked[0].get("x") if picked else None
    target = next((position for position in curve.positions if position.x == x), None)
    if target is not None:
        state.choose(config=replace(target.config, recovery=state.current().config.recovery))
        st.session_state["jumps"] = st.session_state.get("jumps", 0) + 1
        st.session_state["jumped"] = True


def _bits_words(label: int | str) -> str:
    return label if isinstance(label, str) else f"{label} bits"
