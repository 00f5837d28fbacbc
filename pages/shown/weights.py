"""A layer's weights as a picture: what was kept, what went, and how the values are spread before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from core.config import in_words
from core.words import plain
from pages.choice import controls, state, terms
from pages.shown import charts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.bench.workbench import StoredWeight

BINS = 80
POSITIVE, NEGATIVE, ROUNDED = (43, 131, 198), (213, 94, 0), (138, 148, 160)


def section(choice: state.Choice) -> None:
    """The weights of one layer at the configuration of Explore."""
    bench = state.workbench()
    terms.heading("Sparsity mask", "The weights themselves: what was kept, what went.")
    names = [layer.name for layer in bench.baseline(choice.baseline).layers]
    key = f"weights_{choice.baseline}"
    name = controls.pick("Layer", names, key, default=names[-2:][0])
    weights = bench.weights(choice.baseline, choice.config, name if name in names else names[0])
    gone = sum(int((~weight.kept).sum()) for weight in weights)
    whole = sum(weight.kept.size for weight in weights)
    settings = plain(in_words(choice.config))
    zeros = sum(int((weight.after == 0).sum()) for weight in weights)
    rounded = (
        f", and {zeros - gone:,} of these are rounded to 0 (grey): {whole - zeros:,} are left" if zeros > gone else ""
    )
    st.markdown(
        f"**{plain(name)}** with **{settings}**: of {whole:,} weights, {whole - gone:,} are kept{rounded}. "
        "Blue is positive, orange negative, the stronger the colour the larger the weight; pruned weights are left "
        "empty."
    )
    if not gone:
        st.info("Nothing is pruned: choose a sparsity on Explore, or use one that was found above.")
    for weight in weights:
        picture = _picture(weight)
        st.image(
            picture,
            width="stretch" if picture.shape[1] > 700 else "content",
            caption=_words(weight),
            alt=f"Weights of {weight.name}",
        )
    charts.draw(charts.weight_histogram(_histogram(weights)), f"Histogram of the weights of {name}, before and after")
    without = f" After: without the {zeros:,} zeros, which would tower over the rest." if zeros else ""
    st.caption(f"Before: all weights, as trained.{without}")


def _words(weight: StoredWeight) -> str:
    rows, columns = weight.before.shape
    bands = ", in bands" if columns > 4 * rows else ""
    return f"{plain(weight.name)}: {rows} outputs down, {columns} inputs across{bands}"


def _picture(weight: StoredWeight) -> NDArray[np.uint8]:
    """Colours by sign and size, grey where a weight was rounded to 0, transparent where it went; small matrices get
    large pixels."""
    strength = np.clip(np.abs(weight.after) / (np.quantile(np.abs(weight.before), 0.99) or 1.0), 0, 1)
    colours = np.select([(weight.after > 0)[..., None], (weight.after < 0)[..., None]], [POSITIVE, NEGATIVE], ROUNDED)
    visible = np.where(weight.kept, 60 + 195 * strength, 0)
    pixels = _folded(np.dstack([colours, visible]).astype(np.uint8))
    times = max(1, min(16, 900 // pixels.shape[1]))
    return np.kron(pixels, np.ones((times, times, 1), np.uint8))


def _folded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A very wide matrix in bands one below the other, a gap between them."""
    rows, columns = pixels.shape[:2]
    width = max(4 * rows, int((4 * rows * columns) ** 0.5))
    if columns <= width:
        return pixels
    gap = max(1, rows // 16)
    bands = [pixels[:, start : start + width] for start in range(0, columns, width)]
    padded = [np.pad(band, ((0, gap), (0, width - band.shape[1]), (0, 0))) for band in bands]
    return np.concatenate(padded)[:-gap]


def _histogram(weights: list[StoredWeight]) -> pd.DataFrame:
    before = np.concatenate([weight.before.ravel() for weight in weights])
    after = np.concatenate([weight.after.ravel() for weight in weights])
    edges = np.linspace(*np.quantile(before, [0.0005, 0.9995]), BINS + 1)
    rows = []
    for when, values in (("before", before), ("after", after[after != 0])):
        counts, _ = np.histogram(values, edges)
        rows.append(pd.DataFrame({"weight": (edges[:-1] + edges[1:]) / 2, "count": counts, "when": when}))
    return pd.concat(rows)
