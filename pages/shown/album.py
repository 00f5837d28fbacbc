"""A data set on a page: a few pictures of each class, what is counted, and what the pixels are like."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from core.words import one_line

if TYPE_CHECKING:
    from core.bench.albums import Album

MOST_ROWS = 10
"""Before the table scrolls."""


def draw(album: Album, key: str) -> None:
    """key : tells this table from others of the page"""
    channels, height, width = album.shape
    kind = "grey" if channels == 1 else "colour"
    counts = ", ".join(f"{count:,} {name}" for name, count in album.counts.items())
    mean, deviation = (" / ".join(f"{each:.4f}" for each in part) for part in album.scaling)
    st.markdown(
        f"**{len(album.classes)} classes**, {height} × {width} pixels, {kind}. Images: {counts}. Of the pixels in "
        f"[0, 1]: mean {mean}, standard deviation {deviation}."
    )
    rows = [
        {"class": one_line(name), "images": count, "pictures": _as_url(strip)} for name, count, strip in album.classes
    ]
    st.dataframe(
        pd.DataFrame(rows),
        column_config={"pictures": st.column_config.ImageColumn(width="large")},
        hide_index=True,
        row_height=40,
        height=40 * min(MOST_ROWS, len(rows)) + 40,
        key=f"album_{key}",
        alt=f"Pictures of each of the {len(rows)} classes",
    )


def _as_url(strip: np.ndarray) -> str:  # type: ignore[type-arg]
    """A picture inside of the page."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
