"""Long work on a page: what runs, how far, how long still, cancel; found again after a refresh or in a second tab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.bench.submissions import EXPORT, RECOVER, TRAIN
from core.bench.work import Trained, title_of
from core.config import CompressionConfig, TrainingConfig, in_words
from core.studies import duration, kinds, shipping
from core.studies.kinds import EXPERIMENTS
from core.studies.reproduce import LOW_RANK
from core.words import counted, percent, plain
from pages.choice import asked, classroom, frame, lesson, state, teacher
from pages.shown import charts, live

if TYPE_CHECKING:
    from core.bench.workbench import JobStatus

SHOWN = 3

SETTINGS_LETTERS = 80
"""So long the settings in a title are at most."""

DAMAGED = "What it left here is damaged, or of another version, and is not shown."


def panel(kind: str, finished: bool = True) -> None:
    """The newest jobs of a kind; polls while one is under way, and is quiet otherwise.

    finished : also those that ended well
    """
    jobs = _jobs(kind, finished)
    if not jobs:
        return
    active = any(job.active for job in jobs)
    st.fragment(_panel, run_every=1.0 if active else None)(kind, finished, active)


def answered(kind: str, **about: Any) -> Any:
    """The answer of the newest job of a kind that ended well and whose request says this, as the record that its kind
    answers with; None where there is none, or none that can be read."""
    answers = (kinds.answer(kind, job.result) for job in _done(kind, about))
    return next((answer for answer in answers if answer is not None), None)


def _done(kind: str, about: dict[str, Any]) -> Iterator[JobStatus]:
    """The jobs of a kind that ended well and whose request says this, the newest first."""
    for job in state.workbench().jobs.all(kind):
        sure = about.get("confidence") == job.request.get("confidence")  # without one it is not named
        if job.state == "done" and sure and about.items() <= job.request.items():
            yield job


def answer_or_button(request: dict[str, Any], label: str, icon: str, question: bool = True) -> Any:
    """The answer to a request, as `answered` has it: of a run here, else what came with the project, marked as such.
    Where there is none of one's own also the button that asks for it, or how far it is.

    question : in a lesson it waits for the guess
    """
    if question and lesson.waits(live.available(state.current())):
        st.caption(":material/lock: This answer waits for your guess above.")
        return None
    answer = answered(**request)
    if answer is not None:
        return answer
    if any(_done(request["kind"], request)):
        st.caption(f":material/error: {DAMAGED}")
    came = shipping.answer(state.workbench(), request)
    if not any(job.active and job.request == request for job in state.workbench().jobs.all(request["kind"])):
        with st.container(horizontal=True, vertical_alignment="center"):
            if came is not None:
                st.caption(origin(came), width="content")
                label, icon = "Run it here", ":material/replay:"
            else:
                asked.back(request, _answered(request["kind"], request.get("baseline")))
            st.button(label, icon=icon, on_click=classroom.run, args=(request,), key=f"ask_{request['kind']}")
        classroom.before_start(request)
    panel(request["kind"], finished=False)
    return None if came is None else came.result


def _answered(kind: str, baseline: str | None) -> list[dict[str, Any]]:
    """Requests of a kind that have an answer for this baseline, here or with the project."""
    bench = state.workbench()
    ended = (job.request for job in bench.jobs.all(kind) if job.state == "done")
    here = [own for own in ended if own.get("baseline") == baseline]
    came = [own for own in shipping.requests() if (own["kind"], own.get("baseline")) == (kind, baseline)]
    return [*here, *(own for own in came if shipping.answer(bench, own) is not None)]


def origin(came: shipping.Answer) -> str:
    """When, where and with what it was measured."""
    took = duration.in_words(came.made["seconds"])
    return f":material/inventory: Measured {shipping.made_in_words(came.made)}, in {took}; it comes with the project."


def all_at_once(baseline: str, about: dict[str, dict[str, Any]], caption: str) -> dict[str, dict[str, Any]]:
    """The requests of a page's jobs, by kind, and one button that asks for all of them. about : settings, by kind"""
    requests = {kind: {"kind": kind, "baseline": baseline, **asked} for kind, asked in about.items()}
    if st.button("Run everything", type="primary", icon=":material/play_arrow:", width="stretch"):
        classroom.run(*requests.values())
        frame.draw_again()
    st.caption(caption)
    classroom.before_start(*requests.values())
    return requests


def _jobs(kind: str, finished: bool) -> list[JobStatus]:
    return [job for job in state.workbench().jobs.all(kind) if finished or job.state != "done"][:SHOWN]


def _panel(kind: str, finished: bool, was_active: bool) -> None:
    teacher.heed()
    jobs = _jobs(kind, finished)
    if was_active and not any(job.active for job in jobs):
        frame.draw_again()
    for job in jobs:
        with st.container(border=True):
            _card(job)


def _title(job: JobStatus) -> str:
    kind = job.request["kind"]
    if kind == LOW_RANK:
        return f"The low-rank report, {counted(job.request['seeds'], 'seed')}"
    if kind == TRAIN:
        return title_of(TrainingConfig(**job.request["config"]))
    name = plain(state.workbench().title(job.request["baseline"]))
    if kind in EXPERIMENTS:
        return f"{EXPERIMENTS[kind].title}, {name}"
    settings = in_words(CompressionConfig.from_record(job.request["config"]))
    if len(settings) > SETTINGS_LETTERS:  # the page has them all
        settings = settings[:SETTINGS_LETTERS].rpartition(", ")[0] + ", …"
    settings = plain(settings)
    return f"Export of {name}: {settings}" if kind == EXPORT else f"{name}: {settings}"


def _card(job: JobStatus) -> None:
    title, answer = _title(job), _trained(job)
    left, right = st.columns([4, 1], vertical_alignment="center")
    trained = _measured(job)
    history = pd.DataFrame([event["figures"] for event in trained if event.get("target") == trained[-1].get("target")])
    if job.state == "queued":
        left.progress(0.0, f"**{title}** waits: {job.ahead or 'no'} other {'job' if job.ahead == 1 else 'jobs'} ahead.")
    elif job.state == "running":
        left.progress(job.done, f"**{title}** · {_pace(job)}")
    elif answer is not None:
        test = percent(answer.test_accuracy, 2)
        left.markdown(f":material/check_circle: **{title}** is trained: {_best(history)}, {test} on test.")
    elif job.state == "done":
        left.markdown(f":material/error: **{title}**: {DAMAGED}")
    else:
        how = "failed" if job.state == "failed" else f"was {job.state}"
        left.markdown(f":material/error: **{title}** {how}. {plain(job.error or 'Its process is gone.')}")
    _buttons(job, right)
    if len(history) and job.state != "done":
        description = f"Loss and accuracy over {counted(len(history), 'epoch')} of training"
        loss, accuracy = st.columns(2)
        for cell, chart in zip((loss, accuracy), charts.training_curves(history), strict=True):
            with cell:
                charts.draw(chart, description)
        if "layers" in history:
            rows = [
                {"epoch": row.epoch, "layer": name, "density": 1 - sparsity}
                for row in history.itertuples()
                for name, sparsity in row.layers.items()
            ]
            charts.draw(charts.density_over_epochs(pd.DataFrame(rows)), "Share of weights left in every layer")


def _trained(job: JobStatus) -> Trained | None:
    """What the training of a baseline left; None where it has not ended, or is damaged."""
    answer = kinds.answer(job.request["kind"], job.result) if job.state == "done" else None
    return answer if isinstance(answer, Trained) else None


def _pace(job: JobStatus) -> str:
    if not any("done" in event for event in job.events):
        return plain(job.message) or "starting"
    now, epochs = plain(job.message), [event for event in job.events if "epoch" in event]
    if epochs:
        last = epochs[-1]
        named = [event["message"] for event in epochs if "message" in event]
        now = f"epoch {min(last['epoch'] + ('figures' in last), last['epochs'])} of {last['epochs']}"
        now = f"{plain(named[-1])}, {now}" if named else now
    measured = [event["figures"] for event in _measured(job) if "epoch" in event]
    if measured:
        now += f", {percent(measured[-1]['validation_accuracy'], 2)} on validation so far"
    if job.remaining is not None:
        seconds = int(job.remaining)
        now += f", about {seconds // 60} min {seconds % 60:02d} s left"
    return now


def _measured(job: JobStatus) -> list[dict[str, Any]]:
    """Its events with figures; none where these wait for a guess."""
    if lesson.asks() and job.request["kind"] == RECOVER:
        return []
    return [event for event in job.events if "figures" in event]


def _best(history: pd.DataFrame) -> str:
    return f"{percent(history['validation_accuracy'].max(), 2)} on validation" if len(history) else "ready"


def on_another_device(job: JobStatus, label: str) -> None:
    """What starts a job again on another device, the CPU, where the one that it ran on failed it; else nothing."""
    other = state.workbench().another_device(job)
    if other is not None and st.button(
        f"{label} on the {other.upper()}", key=f"other_{job.id}", icon=":material/memory:", type="primary"
    ):
        classroom.again(job, other)
        frame.draw_again()


def _buttons(job: JobStatus, place: st.delta_generator.DeltaGenerator) -> None:
    if job.active:
        place.button(
            "Cancel", key=f"cancel_{job.id}", icon=":material/stop:", on_click=classroom.cancel, args=(job,),
            help=classroom.refusal(classroom.Stop(job)),
        )  # fmt: skip
    elif (answer := _trained(job)) is not None:
        chosen = state.current().baseline == answer.baseline
        if place.button("Use it", key=f"use_{job.id}", type="primary", disabled=chosen):
            state.choose(baseline=answer.baseline)
            frame.draw_again()
    elif job.state != "done":
        if place.button("Start again", key=f"again_{job.id}", icon=":material/replay:"):
            classroom.again(job)
            frame.draw_again()
        on_another_device(job, "Start again")
    if not job.active and place.button("Dismiss", key=f"dismiss_{job.id}", type="tertiary"):
        classroom.dismiss(job)
        frame.draw_again()
