"""The best combination of pruning, channels and bits within an allowed loss, a rate in the loss beside pruning, and in
which order the steps come."""

import streamlit as st

from pages.choice import controls, state, terms
from pages.labs import combination_lab, rates_lab
from pages.shown import figures, jobs, live

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    allowance, request = combination_lab.controls(choice.baseline)
    asked = rates_lab.controls(choice.baseline)
    order = combination_lab.order_controls(choice.baseline)

st.title("Combination")
live.set_on_explore(choice)

terms.heading(
    "Best combination within an allowed accuracy loss",
    "Pruning, channel pruning and quantization, alone and together: the smallest file of each.",
    "allowed accuracy loss",
)
terms.say(combination_lab.INTRODUCTION)
combination = jobs.answer_or_button(request, "Find the best combination", ":material/join_inner:")
if combination is not None:
    combination_lab.ways(choice.baseline, combination)

rates_lab.section(asked)

st.subheader("Order of the techniques")
terms.say(combination_lab.ABOUT_ORDERS)
if not order:
    st.info("No layer of this network can be factored.", icon=":material/block:")
orders = jobs.answer_or_button(order, "Try every order", ":material/swap_vert:") if order else None
if orders is not None:
    combination_lab.orders(orders.rows, order)

figures.show_code(
    None,
    "core.studies.assignment.ways",
    "core.studies.assignment.combination",
    "core.studies.tuning.hardest",
    "core.mathematics.rate.smooth_bits",
    "core.studies.rates.ablation",
    "core.mathematics.equal_size.accuracy_at",
    "core.mathematics.equal_size.mean_interval",
    "core.studies.assignment.order_steps",
    "core.studies.assignment.orders",
    "core.networks.compression.compress",
    "core.networks.compression.prune_gradually",
)
