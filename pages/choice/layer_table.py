"""The settings of all layers in one table; what is empty there follows the whole network."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.settings import Setting, Share, Whole
from pages.choice import controls, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.bench.workbench import LayerRow, Result
    from core.config import CompressionConfig, LayerConfig

MOST: dict[str, Callable[[LayerRow], int]] = {
    "channels": lambda layer: layer.shape[0],
    "rank": lambda layer: layer.full_rank,
}
"""As much of a setting as a layer has."""

HELP = """What is empty follows the whole network. Zeros are in percent; rank 0 leaves a layer dense. Channels that are
tied to others change together with these. Cells can be copied, pasted over several layers, and emptied by Delete."""


def section(result: Result) -> None:
    """A table that writes the choice: what a person changes in it is measured at once."""
    table = st.expander("Set all layers in one table", icon=":material/table_edit:", on_change="rerun", key="w_table")
    if not table.open:
        return
    choice, layers = state.current(), list(result.layers)
    rows = pd.DataFrame([_row(layer, choice.config.layer(layer.name)) for layer in layers])
    key = f"w_layers_{hashlib.sha256(repr(choice).encode()).hexdigest()[:12]}"  # another choice, another table
    with table:
        st.caption(HELP)
        st.data_editor(
            rows, hide_index=True, disabled=["layer"], key=key, column_config=_columns(layers),
            placeholder="", alt="Settings of every layer", on_change=lambda: _write(key, layers),
        )  # fmt: skip


def _numbers() -> dict[str, Setting]:
    """The settings of a layer that are numbers."""
    return {name: own for name, own in controls.OF_LAYER.items() if isinstance(own.kind, Share | Whole)}


def _row(layer: LayerRow, chosen: LayerConfig) -> dict[str, Any]:
    """A layer's own settings, as the table shows them."""
    row: dict[str, Any] = {"layer": layer.name}
    for name, setting in _numbers().items():
        value = getattr(chosen, name)
        if value is not None and isinstance(setting.kind, Share):
            value = controls.percent_of(value)
        row[name] = str(controls.bits_label(value)) if name == "bits" and value else value
    return row


def _columns(layers: list[LayerRow]) -> dict[str, Any]:
    columns: dict[str, Any] = {"layer": st.column_config.TextColumn("layer", pinned=True)}
    for name, setting in _numbers().items():
        if name == "bits":
            options = [str(label) for label in controls.BIT_CHOICES]
            columns[name] = st.column_config.SelectboxColumn(name, options=options, help=setting.help)
        elif isinstance(setting.kind, Share):
            columns[name] = st.column_config.NumberColumn(
                f"{name}, %", min_value=0.0, max_value=100.0, help=setting.help
            )
        elif isinstance(setting.kind, Whole):
            most = max(map(MOST[name], layers)) if name in MOST else setting.kind.high
            columns[name] = st.column_config.NumberColumn(
                name, min_value=min((setting.kind.low, *setting.kind.also)), max_value=most, step=1, help=setting.help
            )
    return columns


def _write(key: str, layers: list[LayerRow]) -> None:
    """Every cell that was changed, as one step that Undo takes back."""

    def change(config: CompressionConfig) -> CompressionConfig:
        for place, cells in st.session_state[key]["edited_rows"].items():
            layer = layers[int(place)]
            for name, cell in cells.items():
                config = controls.with_own(config, layer.name, name, _value(layer, name, cell))
        return config

    controls.checked(change)


def _value(layer: LayerRow, name: str, cell: Any) -> Any:
    """Of a cell, as a configuration has it, and at most what the layer has; None where it is empty."""
    if cell is None:
        return None
    if name == "bits":
        return controls.bits_value(cell)
    if isinstance(controls.OF_LAYER[name].kind, Share):
        return cell / 100
    return min(int(cell), MOST[name](layer)) if name in MOST else int(cell)
