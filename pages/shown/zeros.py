"""Zeros of every layer, and of all of them together: pruned (`check_sparsity`), rounded to 0, and both, as the file has
them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.words import percent

if TYPE_CHECKING:
    from core.bench.workbench import Result

ALL = "all layers"
UNSEEN = 0.0005
"""A smaller share is 0.0 %."""


def table(result: Result) -> None:
    """A row for each layer, the total first; in words what it leaves open."""
    rows = [total(result), *counts(result)]
    for row in rows:
        row["zero in the file"] = 100 * row["zeros"] / row["weights"]
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows)[["layer", "zero in the file", "zeros", "pruned", "rounded to 0", "weights"]],
        hide_index=True,
        alt="Zeros of every layer and in total: pruned, rounded to 0, and both",
        column_config={
            "zero in the file": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
            "zeros": number(format="localized", help="Weights that are zero in the file: pruned, or rounded to 0."),
            "pruned": number(format="localized", help="Set to zero by the sparsity mask, and kept there."),
            "rounded to 0": number(format="localized", help="Kept by the mask, and nearest to 0 of all points."),
            "weights": number(format="localized", help="As they are stored: of factors, where a layer has some."),
        },
    )
    said = sentence(result)
    if not told_apart(result):
        said += (
            " Only the file of this trained network is kept. It says which weights are zero and not why, so that the "
            "two are known in total alone: what was asked of pruning, and what is zero beyond it."
        )
    if said:
        st.caption(said.strip())


def sentence(result: Result) -> str:
    """Where rounding adds zeros: how many there are, and where they come from; "" where it adds none that can be seen.
    "**97.0 %** of the weights are zero: 70.0 % pruned, 27.0 % rounded to 0." """
    row = total(result)
    zero, pruned, rounded = (row[what] / row["weights"] for what in ("zeros", "pruned", "rounded to 0"))
    if rounded < UNSEEN:
        return ""
    by = f"{percent(pruned, 1)} pruned, {percent(rounded, 1)} rounded to 0" if pruned else "rounded to 0, none pruned"
    return f"**{percent(zero, 1)}** of the weights are zero: {by}."


def counts(result: Result) -> list[dict[str, Any]]:
    """By layer: weights as they are stored, zeros among them, and by what these are zero; None where only a file could
    tell, which does not."""
    apart = told_apart(result)
    return [
        {
            "layer": layer.name,
            "zeros": layer.zeros,
            "pruned": layer.zeros - layer.rounded_to_zero if apart else None,
            "rounded to 0": layer.rounded_to_zero if apart else None,
            "weights": layer.weights,
        }
        for layer in result.layers
    ]


def total(result: Result) -> dict[str, Any]:
    """The same of all layers together, where what was asked of pruning tells the two apart."""
    zeros, weights = sum(layer.zeros for layer in result.layers), sum(layer.weights for layer in result.layers)
    pruned = result.to_prune
    return {"layer": ALL, "zeros": zeros, "pruned": pruned, "rounded to 0": zeros - pruned, "weights": weights}


def told_apart(result: Result) -> bool:
    """Whether the layers say what was pruned in each: a trained network of which only its file is kept has one mask for
    all zeros, which is larger than what was asked of pruning."""
    masked = sum(layer.zeros - layer.rounded_to_zero for layer in result.layers)
    return masked == result.to_prune
