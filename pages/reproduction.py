"""The course's low-rank report, run again: its figures, ours beside them, and what it did not show."""

import streamlit as st

from core.config import CompressionConfig
from core.studies.reproduce import LOW_RANK
from pages.choice import lesson, presentation, state, terms
from pages.choice.presets import PRESETS
from pages.labs import low_rank_report
from pages.shown import figures, jobs, live

baseline = state.Choice("mlp-course", CompressionConfig())
state.current()
with st.sidebar:
    presentation.copy_link()
    request = low_rank_report.controls()

st.title("Reproduction of the low-rank report")
live.headline(live.measured(baseline), "the baseline of the report")
terms.say(low_rank_report.INTRODUCTION)

asked = PRESETS["Report: 80 % of fc2's rank removed"]
waits = lesson.guess_form(asked)
if lesson.asks() and not waits:
    lesson.beside_guess(live.measured(asked))
report = None if waits else jobs.answered(kind=LOW_RANK)
if waits:
    st.caption(":material/lock: The report and its figures wait for your guess.")
elif report is None:
    report = jobs.answer_or_button(request, "Run it here", ":material/play_arrow:", question=False)
else:
    jobs.panel(LOW_RANK, finished=False)
if report is not None:
    st.markdown(low_rank_report.verdict(report))
    low_rank_report.accuracy(report)
    low_rank_report.table(report)
    low_rank_report.conditions(report)
    low_rank_report.latency(report)

figures.show_code(
    None,
    "core.studies.reproduce.low_rank",
    "core.studies.reproduce.conditions",
    "core.measuring.training.recover",
    "core.mathematics.low_rank.factorize",
    "core.mathematics.low_rank.decompose_whitened",
    "core.measuring.evaluation.Comparison",
)
