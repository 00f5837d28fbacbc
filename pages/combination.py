"""The best combination of pruning, channels and bits within an allowance, and in which order the steps should come."""

import streamlit as st

from pages.parts import combination_lab, controls, figures, jobs, live, state

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    allowance, request = combination_lab.controls(choice.baseline)
    order = combination_lab.order_controls(choice.baseline)

st.title("Combination")
live.set_on_explore(choice)

st.subheader("The smallest network within an allowance")
st.markdown(combination_lab.INTRODUCTION)
found = jobs.asked(request, "Find the best combination", ":material/join_inner:")
if found is not None:
    combination_lab.ways(choice.baseline, found)

st.subheader("In which order?")
st.markdown(combination_lab.ABOUT_ORDERS)
orders = jobs.asked(order, "Try every order", ":material/swap_vert:")
if orders is not None:
    combination_lab.orders(orders["rows"], order)

figures.show_code(
    None,
    "core.assignment.ways",
    "core.assignment.combination",
    "core.tuning.hardest",
    "core.assignment.order_steps",
    "core.assignment.orders",
    "core.compression.compress",
    "core.compression.prune_gradually",
)
