"""Numbers and their grid: a small matrix by hand, and any tensor of the network as a histogram with its points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from core import inspection
from core.config import FLOAT_BITS, CompressionConfig
from pages.parts import charts, state

START = [[0.9, -0.1, 0.4], [-0.3, 0.7, 0.2], [0.03, -0.02, 0.04]]


def by_hand(config: CompressionConfig) -> None:
    """A small matrix that a person rounds."""
    st.subheader("By hand")
    bits = config.bits or 8
    how = config.granularity, config.symmetry, config.clip
    left, middle, right = st.columns([1, 1.7, 1], gap="medium")
    with left:
        st.caption("W, yours to change")
        frame = pd.DataFrame(START, columns=list("abc"))
        given = st.data_editor(frame, hide_index=True, key="hand_numbers", width="stretch").fillna(0.0).to_numpy(float)
    codes, near, scales, zero_points = inspection.quantize_by_hand(given, bits, *how)
    with middle:
        st.caption(f"q = clamp(round(W / scale) + zero point), {bits} bits, and each row's grid")
        table = pd.DataFrame(codes, columns=list("abc"))
        table["scale"], table["zero point"] = scales, zero_points.astype(int)
        st.dataframe(table, hide_index=True, width="stretch", alt="Codes, scale and zero point of the small matrix")
    with right:
        st.caption("Ŵ = scale · (q − zero point)")
        shown = pd.DataFrame(near, columns=list("abc")).style.format("{:.3g}")
        st.dataframe(shown, hide_index=True, width="stretch", alt="The small matrix, rebuilt from its codes")
    worst = float(np.abs(given - near).max())
    st.caption(
        f"The largest error is {worst:.3g}, half a step {float(scales.max()) / 2:.3g}. The last row is small: see what "
        "one scale for the whole tensor makes of it."
    )


def section(choice: state.Choice) -> None:
    """A weight or a signal of the network: its histogram, its grid, what is clipped, what rounding changes."""
    bench = state.workbench()
    st.subheader("A tensor of the network on its grid")
    names = [name for held in inspection.parts(bench, *choice).values() for name in held]
    default = next((name for name in names if name.startswith("fc1")), names[0])
    tensor = st.pills("Tensor", names, default=default, required=True, key=f"grid_{choice.baseline}_{len(names)}")
    tensor = tensor if tensor in names else default
    is_signal = tensor.endswith((".input", ".between"))
    layer = tensor.partition(".")[0]
    if is_signal:
        found, unit = inspection.signal_on_grid(bench, *choice, tensor), f"|x|, {tensor}"
    else:
        found, unit = _weight(choice, tensor), f"weight, {tensor}"
    if found is None:
        st.info(f"{tensor} is float32: choose bits at the left, or bits of its own on Explore, to see its grid.")
        return
    bins = pd.DataFrame({"low": found.edges[:-1], "high": found.edges[1:], "count": found.counts})
    middle = (bins["low"] + bins["high"]) / 2
    beyond = (middle > found.points[-1] + found.step / 2) | (middle < found.points[0] - found.step / 2)
    bins["where"] = np.where(beyond, "clipped", "inside")
    points = pd.DataFrame({"point": found.points})
    about = f"Histogram of {tensor} with the {len(points)} points of its grid"
    charts.draw(charts.on_grid(bins, points), about)
    rows = pd.DataFrame({"x": found.before, "change": found.after - found.before})
    charts.draw(charts.rounding(rows, bins, found.step, unit), f"Change by rounding for some of {tensor}")
    left_out = "" if is_signal else " Pruned weights are left out; half a step to either side is dashed."
    st.markdown(
        f"{len(found.points)} points, {found.step:.4g} apart, 0 is code {found.zero_point}; {found.clipped:.2%} of the "
        f"numbers lie beyond its ends and are clipped. They change by **{found.error:.1%}** of their size"
        + ("." if is_signal else f" (root of the mean square), {_output(choice, layer)}")
        + left_out
    )


def _weight(choice: state.Choice, tensor: str) -> inspection.OnGrid | None:
    """One output channel's weights where each has its grid, else all."""
    bench = state.workbench()
    grids, channel = inspection.grids_of(bench, *choice, tensor), None
    if grids > 1:
        channel = int(st.slider("Output channel", 0, grids - 1, 0, key=f"channel_{tensor}_{grids}"))
    return inspection.weight_on_grid(bench, *choice, tensor, channel)


def _output(choice: state.Choice, layer: str) -> str:
    """What all grids of the layer do to its output, and what nearest rounding, or GPTQ, would do instead."""
    bench, config = state.workbench(), choice.config
    own = inspection.output_error(bench, *choice, layer)
    text = f"the **output** of all of {layer}, on real images, by **{own:.1%}**."
    if config.recovery is not None or config.bits_of(layer) == FLOAT_BITS:
        return text
    other = "nearest" if config.rounding == "gptq" else "gptq"
    changed = replace(config, rounding=other)
    beside = inspection.output_error(bench, choice.baseline, changed, layer)
    words = {"gptq": "GPTQ", "nearest": "rounding to the nearest point"}[other]
    return f"{text} With {words} it would be {beside:.1%}."
