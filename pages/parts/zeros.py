"""`check_sparsity`: the sparsity of every layer, and of all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

if TYPE_CHECKING:
    from core.workbench import Result


def table(results: dict[str, Result]) -> None:
    """A row for each network by its name; a column for each layer, the total first."""
    rows = [
        {
            "network": name,
            "total": 100 * result.sparsity,
            **{layer.name: 100 * layer.sparsity for layer in result.layers},
            "zeros": sum(layer["zeros"] for layer in _counts(result)),
            "weights": sum(layer["weights"] for layer in _counts(result)),
        }
        for name, result in results.items()
    ]
    shares = ["total", *(layer.name for result in results.values() for layer in result.layers)]
    in_percent = st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        alt="Share of zeros in every layer and in total",
        column_config={
            **dict.fromkeys(shares, in_percent),
            **dict.fromkeys(("zeros", "weights"), st.column_config.NumberColumn(format="localized")),
        },
    )


def _counts(result: Result) -> list[dict[str, Any]]:
    """Weights of each layer as they are stored (of its factors, where it has some), and zeros among them."""
    found = []
    for layer, biases in ((own, own.channels) for own in result.layers):
        weights = layer.parameters - biases
        found.append({"weights": weights, "zeros": round(layer.sparsity * weights)})
    return found
