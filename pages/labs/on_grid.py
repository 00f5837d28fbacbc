"""Numbers and their grid: a small matrix by hand, and any tensor of the network as a histogram with its points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.config import FLOAT_BITS, CompressionConfig
from core.studies import inspection
from core.words import percent, plain
from pages.choice import controls, state, terms
from pages.shown import charts

START = [[0.9, -0.1, 0.4], [-0.3, 0.7, 0.2], [0.03, -0.02, 0.04]]


def by_hand(config: CompressionConfig) -> None:
    """A small matrix that a person rounds."""
    st.subheader("By hand")
    bits = config.bits or 8
    how = config.granularity, config.symmetry, config.clip
    left, middle, right = st.columns([1, 2.1, 1], gap="medium")
    with left:
        st.caption("W, yours to change")
        frame = pd.DataFrame(START, columns=list("abc"))
        given = st.data_editor(frame, hide_index=True, key="hand_numbers", width="stretch").fillna(0.0).to_numpy(float)
    codes, near, scales, zero_points = inspection.quantize_by_hand(given, bits, *how)
    with middle:
        st.caption(f"q = clamp(round(W / scale) + zero point), {bits} bits, each to the nearest point")
        table = pd.DataFrame(codes, columns=list("abc"))
        table["scale"], table["zero point"] = scales, zero_points.astype(int)
        float_dust = np.isclose(given, near, rtol=1e-12, atol=0)
        table["largest error"] = np.where(float_dust, 0, np.abs(given - near)).max(1)
        st.dataframe(
            table,
            hide_index=True,
            width="stretch",
            alt="Codes, scale, zero point and largest error of each row of the small matrix",
            column_config=dict.fromkeys(("scale", "largest error"), st.column_config.NumberColumn(format="%.4g")),
        )
    with right:
        st.caption("Ŵ = scale · (q − zero point)")
        shown = pd.DataFrame(near, columns=list("abc")).style.format("{:.4g}")
        st.dataframe(shown, hide_index=True, width="stretch", alt="The small matrix, rebuilt from its codes")
    text = "No error is larger than half the scale of its row, unless the number was clipped."
    if np.array_equal(given, START) and config.granularity == "tensor":
        text += f" One scale for all three rows turns the small last row into {', '.join(map(str, codes[2].tolist()))}."
    elif np.array_equal(given, START):
        text += " The numbers in the last row are small: see what one scale for the whole tensor makes of them."
    st.caption(text)


def section(choice: state.Choice) -> None:
    """A weight or a signal of the network: its histogram, its grid, what is clipped, what rounding changes."""
    terms.heading("Quantization grid", "A tensor of the network, and the points that it is rounded to.", "quantization")
    seen = inspection.look(state.workbench(), *choice)
    names = inspection.parts(seen)
    largest = state.workbench().profile(choice.baseline).largest.name
    default = next((name for name in names if name.startswith(f"{largest}.")), names[0])
    key = f"grid_{choice.baseline}_{len(names)}"
    tensor = controls.pick("Tensor", names, key, default=default)
    tensor = tensor if tensor in names else default
    is_signal = tensor.endswith((inspection.OUTPUT, inspection.BETWEEN))
    layer = tensor.rpartition(".")[0]
    channel = None if is_signal else _channel(seen, tensor)
    if is_signal:
        found, unit = inspection.signal_on_grid(seen, tensor), f"|x|, {tensor}"
    else:
        found, unit = inspection.weight_on_grid(seen, tensor, channel), f"weight, {tensor}"
    if found is None:
        st.info(f"{plain(tensor)} lies on no grid: choose bits on the left, or for its layer on Explore.")
        return
    bins = pd.DataFrame({"low": found.edges[:-1], "high": found.edges[1:], "count": found.counts})
    middle = (bins["low"] + bins["high"]) / 2
    beyond = (middle > found.points[-1] + found.step / 2) | (middle < found.points[0] - found.step / 2)
    bins["where"] = np.where(beyond, "clipped", "inside")
    points = pd.DataFrame({"point": found.points})
    about = f"Histogram of {tensor} with the {len(points)} points of its grid"
    charts.draw(charts.on_grid(bins, points, found.step), about)
    rows = pd.DataFrame({"x": found.before, "change": found.after - found.before})
    charts.draw(charts.rounding(rows, bins, points, found.step, unit), f"Change by rounding for some of {tensor}")
    what = "activations" if is_signal else "weights of this channel" if channel is not None else "weights"
    st.markdown(
        f"{len(found.points)} points, {found.step:.4g} apart (the scale); 0 is the integer {found.zero_point}. "
        f"{percent(found.clipped, 2)} of the numbers lie more than half a step beyond the outermost ones. The {what} "
        f"change by **{percent(found.error, 1)}** of their size (root of the mean "
        f"square){'' if is_signal else _output(choice, seen, layer)}."
    )
    if not is_signal:
        st.caption(
            f"Pruned weights are left out. Below: {len(found.before):,} of the weights; half a step to either side is "
            "dashed."
        )


def _channel(seen: inspection.Rounded, tensor: str) -> int | None:
    """Which output channel is looked at, where each has its grid."""
    grids = inspection.grids_of(seen, tensor)
    return None if grids == 1 else int(st.slider("Output channel", 0, grids - 1, 0, key=f"channel_{tensor}_{grids}"))


def _output(choice: state.Choice, seen: inspection.Rounded, layer: str) -> str:
    """What all grids of the layer do to its output, and what nearest rounding, or GPTQ, would do instead."""
    config, bench = choice.config, state.workbench()
    if not inspection.has_output_error(bench, choice.baseline, layer):
        return ""
    error = inspection.output_error(bench, choice.baseline, config, layer, seen)
    text = f"; the **output** of the whole layer {plain(layer)}, on real images, by **{percent(error, 1)}**"
    if config.recovery is not None or config.bits_of(layer) == FLOAT_BITS:
        return text
    other: str = "nearest" if config.rounding == "gptq" else "gptq"
    changed = inspection.only(config, layer, other)
    beside = inspection.output_error(bench, choice.baseline, changed, layer)
    words = {"gptq": "GPTQ", "nearest": "rounding to the nearest point"}[other]
    return f"{text}. With {words} it would be {percent(beside, 1)}"
