"""The assignment's table: bits, size by the formula, size of the file, accuracy before and after training."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core.config import CompressionConfig
from core.report import wording
from core.studies.answers import Judged, QuantizationHalf
from core.words import kilobytes
from pages.choice import state

FORMULA = r"\text{size} = \frac{1}{8}\sum_{\ell} n_\ell\, b_\ell \;+\; 4 \sum_{\ell} m_\ell \quad\text{bytes}"


def table(baseline: str, study: QuantizationHalf) -> None:
    """A row for the network as it is, and for every number of bits; accuracies are those of the test images."""
    rows = [_row(32, study.float32, None, None, study.kb)]
    rows += [_row(row.bits, row.after, row.before, row.minmax, study.kb) for row in study.rows]
    number = st.column_config.NumberColumn
    shares = {name: number(format="%.2f %%") for name in ("min-max", "before training", "after training")}
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="",
        height=35 * (len(rows) + 1) + 3,
        alt="Size by formula, size of the file and accuracy at 32, 8, 6, 4, 3 and 2 bits, before and after training",
        column_config={
            **shares,
            "bits": number(help="Of weights and activations."),
            "KB by formula": number(
                format="%.1f", help="Theoretical size, `model_size_kb`: weights × bits / 8 + 4 × biases."
            ),
            "KB in the file": number(format="%.1f", help="Of the trained network, as Export writes it."),
            "ratio": number(
                format="%.1f ×", help="Theoretical compression ratio: the formula at 32 bits over that at these bits."
            ),
            "min-max": number(
                format="%.2f %%", help="PTQ with a scale per channel up to the largest weight, nothing else."
            ),
            "before training": number(format="%.2f %%", help="The best post-training quantization (PTQ), below."),
            "after training": number(format="%.2f %%", help="Quantization-aware training (QAT), below."),
            "change": number(format="%+.2f pp", help="After training, against the baseline in float32."),
        },
    )
    if untrained := wording.untrained(study.rows):
        st.caption(untrained)
    _formula(baseline, study)


def _row(bits: int, last: Judged, before: Judged | None, plain: Judged | None, whole: float) -> dict[str, Any]:
    """whole : KB of the network in float32, by the formula"""

    def accuracy(judged: Judged | None) -> float | None:
        return None if judged is None else 100 * judged.test.accuracy

    return {
        "bits": bits,
        "KB by formula": last.kb,
        "KB in the file": last.bytes / 1024,
        "min-max": accuracy(plain),
        "before training": accuracy(before),
        "after training": accuracy(last),
        "change": None if before is None else 100 * last.test.difference,
        "ratio": whole / last.kb,
    }


def _formula(baseline: str, study: QuantizationHalf) -> None:
    """The formula, worked out at one number of bits, and why the file differs from it."""
    layers = state.workbench().baseline(baseline).layers
    weights, biases = sum(layer.weights for layer in layers), sum(layer.shape[0] for layer in layers)
    row = next((row for row in study.rows if row.bits == 4), study.rows[0])
    bits = row.bits
    size = state.workbench().outline(baseline, CompressionConfig(bits=bits)).theoretical_kb
    left, right = st.columns([2, 3], vertical_alignment="center")
    left.latex(FORMULA)
    right.markdown(
        f"$n_\\ell$ weights at $b_\\ell$ bits and $m_\\ell$ biases in float32 in layer $\\ell$. At {bits} bits: "
        f"({weights:,} × {bits} / 8 + 4 × {biases:,}) / 1,024 = **{size:,.1f} KB**. The file has "
        f"**{kilobytes(row.after.bytes)}**: the formula gives every weight its {bits} bits, the file codes "
        "frequent values in fewer (entropy coding), and it also holds the scales, a header and a checksum."
    )
