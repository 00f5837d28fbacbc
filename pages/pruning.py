"""The pruning laboratory: by hand, in one shot, step by step, whole channels; what each keeps and what it costs."""

import streamlit as st

from core import assignment, tuning
from pages.parts import channel_lab, controls, figures, jobs, live, pruning_lab, state, weights, zeros

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    controls.pruning_choices()
    st.caption("For Explore, and for the curve that is drawn here.")
    asked = pruning_lab.controls(choice.baseline)

st.title("Pruning")
now = live.set_on_explore(choice)
if now is not None:
    st.markdown("**Zeros in every layer** (`check_sparsity`), as set on Explore:")
    zeros.table({"set on Explore": now})
st.markdown(pruning_lab.INTRODUCTION)
pruning_lab.by_hand()

st.subheader("One shot: how much can go at once?")
st.markdown(pruning_lab.ABOUT_ONE_SHOT)
one_shot = jobs.asked(asked[tuning.ONE_SHOT], "Find the largest sparsity", ":material/search:")
if one_shot is not None:
    pruning_lab.one_shot(choice, one_shot["answers"], asked[tuning.ONE_SHOT]["allowance"])

st.subheader("Which layer is most sensitive?")
st.markdown(pruning_lab.ABOUT_SCAN)
scan = jobs.asked(asked[tuning.SCAN], "Prune each layer alone", ":material/troubleshoot:")
if scan is not None:
    pruning_lab.sensitivity(scan["rows"], asked[tuning.ONE_SHOT]["allowance"])

st.subheader("Step by step: prune a little, train, repeat")
st.markdown(pruning_lab.ABOUT_ITERATIVE)
steps = jobs.asked(asked[tuning.ITERATIVE], "Train step by step", ":material/stairs:")
if steps is not None:
    pruning_lab.iterative(choice.baseline, steps, asked[tuning.ITERATIVE]["allowance"])
    if one_shot is not None:
        pruning_lab.side_by_side(choice.baseline, one_shot["answers"], steps)

st.subheader("Whole channels: smaller, and faster")
st.markdown(pruning_lab.ABOUT_CHANNELS)
removed = jobs.asked(asked[assignment.CHANNELS], "Remove half of the channels", ":material/view_column:")
if removed is not None:
    channel_lab.table(choice.baseline, removed["rows"])

weights.section(live.available(choice))

figures.show_code(
    None,
    "core.compression.apply_pruning",
    "core.pruning.keep_mask",
    "core.pruning.lamp",
    "core.pruning.activation",
    "core.compression.check_sparsity",
    "core.pruning.cubic",
    "core.compression.prune_gradually",
    "core.tuning.largest_one_shot",
    "core.channels.kept_channels",
    "core.channels.remove_channels",
)
