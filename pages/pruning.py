"""The pruning laboratory: by hand, one-shot, iterative, structured; what each keeps and what it costs."""

import streamlit as st

from core.studies import assignment, tuning
from pages.choice import controls, state, terms
from pages.labs import channel_lab, pruning_lab
from pages.shown import figures, jobs, live, weights, zeros

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    controls.technique_choices("pruning")
    st.caption("They hold on Explore, too, and choose the curve that is drawn here.")
    asked = pruning_lab.controls(choice.baseline)
    allowance, sure = (asked[tuning.ONE_SHOT].get(name) for name in ("allowance", "confidence"))

st.title("Pruning")
now = live.set_on_explore(choice)
if now is not None:
    terms.say("**Zeros of every layer**, pruned ([[sparsity]], `check_sparsity`) and rounded to 0, as set on Explore:")
    zeros.table(now)
    if not now.sparsity:
        st.caption("On Explore nothing is pruned. The results below have tables of their own.")
terms.say(pruning_lab.INTRODUCTION)
pruning_lab.by_hand()

terms.heading("One-shot pruning", "How much can go at once?")
terms.say(pruning_lab.ABOUT_ONE_SHOT)
one_shot = jobs.answer_or_button(asked[tuning.ONE_SHOT], "Find the largest sparsity", ":material/search:")
if one_shot is not None:
    pruning_lab.one_shot(choice, one_shot.answers, allowance, sure)

terms.heading("Layer sensitivity", "What does the whole network lose where one layer alone is pruned?")
scan = jobs.answer_or_button(asked[tuning.SCAN], "Prune each layer alone", ":material/troubleshoot:")
if scan is not None:
    pruning_lab.sensitivity(scan.rows, allowance)

terms.heading("Iterative (gradual) pruning", "Step by step: prune a little, train, repeat.")
terms.say(pruning_lab.ABOUT_ITERATIVE)
steps = jobs.answer_or_button(asked[tuning.ITERATIVE], "Prune and train", ":material/stairs:")
if steps is not None:
    pruning_lab.iterative(choice.baseline, steps, allowance, sure)
    if one_shot is not None:
        pruning_lab.side_by_side(choice.baseline, one_shot.answers, steps)

terms.heading("Structured (channel) pruning", "Whole channels go: the network becomes smaller, and mostly faster.")
terms.say(pruning_lab.ABOUT_CHANNELS)
if state.workbench().profile(choice.baseline).channels:
    removed = jobs.answer_or_button(asked[assignment.CHANNELS], "Remove half of the channels", ":material/view_column:")
    if removed is not None:
        channel_lab.table(choice.baseline, removed.rows)
else:
    st.info("No channel of this network can be removed: no layer reads what another one puts out.")

weights.section(live.available(choice))

figures.show_code(
    None,
    "core.techniques.pruning.apply_pruning",
    "core.mathematics.pruning.keep_mask",
    "core.mathematics.pruning.lamp",
    "core.mathematics.pruning.activation",
    "core.techniques.pruning.check_sparsity",
    "core.mathematics.pruning.cubic",
    "core.networks.compression.prune_gradually",
    "core.studies.tuning.largest_one_shot",
    "core.mathematics.promise.most_lost",
    "core.mathematics.promise.optimism",
    "core.networks.narrowing.kept_channels",
    "core.networks.narrowing.remove_channels",
)
