"""What is said and shown of weight sharing, beside quantization at the same number of bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.studies import sharing
from core.words import kilobytes, percent

if TYPE_CHECKING:
    from core.studies.answers import Sharing

ABOUT = """The weights of a layer share K values, its [[codebook]], found by k-means: they lie where the weights are,
while those of a grid lie at equal steps. A file holds an index for each weight, log₂ K bits before entropy coding.
Each line compares a codebook of $2^b$ values for every tensor with the grid of $b$ bits for every output channel,
[[MSE-optimal]]. Weights only; nothing is trained."""


def table(found: Sharing) -> None:
    """A line for each number of bits, and which of the two is better at how many of them."""
    pairs = dict(zip(sharing.configurations(), zip(found.rows[::2], found.rows[1::2], strict=True), strict=True))
    rows: list[dict[str, Any]] = []
    for bits, (shared, grid) in pairs.items():
        row: dict[str, Any] = {"bits": bits, "codebook": 2**bits}
        row |= {"KB, codebook": shared.bytes / 1024, "codebook, %": 100 * shared.accuracy}
        rows.append(row | {"KB, grid": grid.bytes / 1024, "grid, %": 100 * grid.accuracy})
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        alt="Size of the file and accuracy with codebooks and with grids of the same number of bits",
        column_config={
            "bits": number(help="Of an index into the codebook, or of a code on the grid."),
            "codebook": number(help="Values that the weights of a tensor share."),
            **{name: number(format="%.1f", help="In the file.") for name in ("KB, codebook", "KB, grid")},
            **{name: number(format="%.2f %%", help="Accuracy on validation.") for name in ("codebook, %", "grid, %")},
        },
    )
    shared, grid = pairs[4]
    st.markdown(
        f"16 shared values: **{percent(shared.accuracy, 2)}** in {kilobytes(shared.bytes)}; 4 bits on a grid: "
        f"**{percent(grid.accuracy, 2)}** in {kilobytes(grid.bytes)}."
    )
