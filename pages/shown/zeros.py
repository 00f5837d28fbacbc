"""`check_sparsity`: the share of zeros in every layer, and in all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

if TYPE_CHECKING:
    from core.bench.workbench import Result

ALL = "all layers"


def table(result: Result) -> None:
    """A row for each layer, the total first."""
    rows = counts(result)
    zeros, weights = (sum(row[what] for row in rows) for what in ("zeros", "weights"))
    total = {"layer": ALL, "zeros": zeros, "weights": weights, "sparsity": 100 * result.sparsity}
    st.dataframe(
        pd.DataFrame([total, *rows])[["layer", "sparsity", "zeros", "weights"]],
        hide_index=True,
        alt="Share of zeros in every layer and in total",
        column_config={
            "sparsity": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
            **dict.fromkeys(("zeros", "weights"), st.column_config.NumberColumn(format="localized")),
        },
    )


def counts(result: Result) -> list[dict[str, Any]]:
    """By layer: weights as they are stored (of its factors, where it has some), zeros among them, and their share."""
    rows = []
    for layer in result.layers:
        weights = layer.parameters - layer.channels  # a bias for each channel
        zeros = round(layer.sparsity * weights)
        rows.append({"layer": layer.name, "zeros": zeros, "weights": weights, "sparsity": 100 * layer.sparsity})
    return rows
