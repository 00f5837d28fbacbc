"""Everything that was measured, accuracy against bytes, and the search for the smallest file within a budget."""

import streamlit as st

from pages.choice import controls, state, terms
from pages.labs import board, search
from pages.shown import figures, live

choice = state.current()
with st.sidebar:
    controls.baseline_picker()
    goal, minutes = search.controls(choice.baseline)
    shown = board.filters(choice.baseline)

st.title("Compare")
terms.say(
    "All networks that were measured, accuracy against file size, and their [[Pareto front]]; the search for the "
    "smallest file within an [[allowed accuracy loss]], on validation or on new images with a [[confidence level]]."
)
picked = board.picked(choice, shown)
result = live.measured(picked)
live.headline(result, live.SET_ON_EXPLORE if picked == live.available(choice) else "the picked point")
search.panel(choice.baseline, goal, minutes)
board.front(choice.baseline, picked, shown, goal)
board.about(picked)
board.against(result, shown, goal)
board.table(choice.baseline, shown, goal)

figures.show_code(
    None,
    "core.measuring.front.pareto",
    "core.measuring.front.Goal",
    "core.mathematics.promise.margin",
    "core.mathematics.promise.optimism",
    "core.studies.space.space",
    "core.studies.space.configuration",
    "core.studies.sizes.next_size",
    "core.studies.sizes.merit",
    "core.studies.stages.untrained.hopeless",
)
