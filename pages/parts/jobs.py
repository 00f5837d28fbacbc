"""Long work on a page: what runs, how far, how long still, cancel; found again after a refresh or in a second tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from core.config import TrainingConfig
from pages.parts import charts, state

if TYPE_CHECKING:
    from core.workbench import JobStatus

SHOWN = 3


def panel() -> None:
    """The newest jobs; polls while one is under way, and is quiet otherwise."""
    jobs = state.workbench().jobs.all()[:SHOWN]
    if not jobs:
        return
    active = any(job.active for job in jobs)
    st.fragment(_panel, run_every=1.0 if active else None)(active)


def _panel(was_active: bool) -> None:
    jobs = state.workbench().jobs.all()[:SHOWN]
    if was_active and not any(job.active for job in jobs):
        st.rerun()
    for job in jobs:
        with st.container(border=True):
            _card(job)


def _card(job: JobStatus) -> None:
    recipe = TrainingConfig(**job.request["config"])
    title = f"{recipe.model.upper()}, {recipe.epochs} epochs, seed {recipe.seed}"
    left, right = st.columns([4, 1], vertical_alignment="center")
    history = pd.DataFrame([event["figures"] for event in job.events if "figures" in event])
    if job.state == "queued":
        left.progress(0.0, f"**{title}** waits: {job.ahead or 'no'} other {'job' if job.ahead == 1 else 'jobs'} ahead.")
    elif job.state == "running":
        left.progress(job.done, f"**{title}** · {_pace(job)}")
    elif job.state == "done" and job.result is not None:
        test = job.result["test_accuracy"]
        left.markdown(f":material/check_circle: **{title}** is trained: {_best(history)}, {test:.2%} on test.")
    else:
        left.markdown(f":material/error: **{title}** was {job.state}. {job.error or 'Its process is gone.'}")
    _buttons(job, right)
    if len(history) and job.state != "done":
        description = f"Loss and accuracy over {len(history)} epochs of training"
        loss, accuracy = st.columns(2)
        for cell, chart in zip((loss, accuracy), charts.training_curves(history), strict=True):
            with cell:
                charts.draw(chart, description)


def _pace(job: JobStatus) -> str:
    figures = [event["figures"] for event in job.events if "figures" in event]
    if not any("done" in event for event in job.events):
        return job.message or "starting"
    now = f"epoch {min(len(figures) + 1, job.request['config']['epochs'])}"
    if figures:
        now += f", {figures[-1]['validation_accuracy']:.2%} on validation so far"
    if job.remaining is not None:
        seconds = int(job.remaining)
        now += f", about {seconds // 60} min {seconds % 60:02d} s left"
    return now


def _best(history: pd.DataFrame) -> str:
    return f"{history['validation_accuracy'].max():.2%} on validation" if len(history) else "ready"


def _buttons(job: JobStatus, place: st.delta_generator.DeltaGenerator) -> None:
    bench = state.workbench()
    if job.active:
        place.button(
            "Cancel", key=f"cancel_{job.id}", icon=":material/stop:", on_click=bench.jobs.cancel, args=(job.id,)
        )
    elif job.state == "done" and job.result is not None:
        chosen = job.result["baseline"]
        if place.button("Use it", key=f"use_{job.id}", type="primary", disabled=state.current().baseline == chosen):
            state.choose(baseline=chosen)
            st.rerun()
    elif place.button("Start again", key=f"again_{job.id}", icon=":material/replay:"):
        bench.submit_training(TrainingConfig(**job.request["config"]))
        st.rerun()
    if not job.active and place.button("Dismiss", key=f"dismiss_{job.id}", type="tertiary"):
        bench.jobs.dismiss(job.id)
        st.rerun()
