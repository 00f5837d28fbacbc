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

ABOUT = """Weights and activations are quantized, both to so many bits; 32 bits are the network as it is. *Min-max PTQ*
is the simplest way without any training, *best PTQ* the best one. Accuracies are those of the test images. Choices (the
best PTQ, the epoch that is kept, the fewest bits within an allowed loss) are made on the validation images: these are
other images, so that near the limit the two changes may lie on different sides of it."""
HELP_MINMAX = "Post-training quantization (PTQ) with one scale per channel, up to the largest weight, and nothing else."
HELP_BEST = """The best PTQ by the validation images: with clipping, bias correction, GPTQ or a zero point as well. See
*Post-training quantization, step by step*."""


def table(baseline: str, study: QuantizationHalf) -> None:
    """A row for the network as it is, and for every number of bits; accuracies are those of the test images."""
    rows = [_row(32, study.float32)]
    rows += [_row(row.bits, row.after, row.before, row.minmax) for row in study.rows]
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="",
        height=35 * (len(rows) + 1) + 3,
        alt="Size by formula, size of the file and accuracy at 32, 8, 6, 4, 3 and 2 bits, before and after training",
        column_config={
            "bits": number(help="Of weights and activations."),
            "KB by formula": number(
                format="%.1f", help="Theoretical size, `model_size_kb`: weights × bits / 8 + 4 × biases."
            ),
            "KB in the file": number(format="%.1f", help="Of the trained network, as Export writes it."),
            "compression ratio": number(
                format="%.1f ×", help="Bytes of the baseline in float32 over bytes of the file; not by the formula."
            ),
            "min-max PTQ": number(format="%.2f %%", help=HELP_MINMAX),
            "best PTQ": number(format="%.2f %%", help=HELP_BEST),
            "QAT": number(format="%.2f %%", help="After quantization-aware training, below."),
            "change on test": number(format="%+.2f pp", help="After QAT, against the baseline in float32."),
            "change on validation": number(
                format="%+.2f pp", help="The same on the validation images, by which bits are chosen."
            ),
        },
    )
    st.caption(ABOUT)
    if untrained := wording.untrained(study.rows):
        st.caption(untrained)
    _formula(baseline, study)


def _row(bits: int, last: Judged, before: Judged | None = None, plain: Judged | None = None) -> dict[str, Any]:
    """last : the network after training; before, plain : by the best PTQ, and by min-max alone"""

    def accuracy(judged: Judged | None) -> float | None:
        return None if judged is None else 100 * judged.test.accuracy

    return {
        "bits": bits,
        "KB by formula": last.kb,
        "KB in the file": last.bytes / 1024,
        "compression ratio": last.compression_ratio,
        "min-max PTQ": accuracy(plain),
        "best PTQ": accuracy(before),
        "QAT": accuracy(last),
        "change on test": None if before is None else 100 * last.test.difference,
        "change on validation": None if before is None else 100 * last.difference,
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
