"""The search for the smallest file within a budget: asked for, under way, found."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import settings
from core.config import CompressionConfig, ConfigError
from core.measuring.front import MOST_MINUTES, SEARCH, SEARCHED, SMALL, STUDENTS, TECHNIQUES, Goal, Point
from core.studies import kinds, shipping
from core.studies.answers import Searched
from core.words import code, counted, kilobytes, percent, plain
from pages.choice import classroom, confidence, frame, lesson, state, teacher
from pages.choice.state import Choice
from pages.shown import figures, live
from pages.shown.jobs import on_another_device, origin

if TYPE_CHECKING:
    from core.bench.workbench import JobStatus

POLL_SECONDS = 1.0
FIRST_ALLOWED = 1.0
"""Percentage points that a search may lose, until somebody says otherwise."""

DATA = "fashion-mnist"
HELP_GOAL = """*Smallest*: the smallest file that loses no more than allowed on the validation images, or that is
right as often as asked. *Best*: the most accurate file of at most a given size."""
HELP_MINUTES = "How long the search takes, the check on the test images included. It can be continued afterwards."
HELP_TECHNIQUES = "What the search may use. " + "; ".join(
    f"*{technique.name}*: {technique.title}" for technique in settings.techniques() if technique.name in TECHNIQUES
)
HELP_STOP = "What was found is kept; a later search continues from there."
GOALS = {"smallest": "Smallest", "best": "Best"}
HELP_FROM = """*This network* is made smaller. *Any family*: small networks, those that are there already first, are
trained with the most accurate baseline as their teacher, and the best file is kept, whatever it is of."""
HELP_FLOOR = """How often the smallest file has to be right on the validation images; on others it may be less often,
which the check on the test images tells."""
FROM = {"baseline": "This network", "families": "Any family"}


def controls(baseline: str) -> tuple[Goal, float]:
    """What is searched for, and for how long."""
    with st.expander("Find the smallest file", icon=":material/search:", expanded=True):
        begin = st.segmented_control(
            "Begin with", list(FROM), format_func=lambda name: FROM.get(name, name), default="baseline", required=True,
            key="w_goal_from", persist_state="session", help=HELP_FROM,
        )  # fmt: skip
        return _of_families(baseline) if begin == "families" else _of_baseline()


def _minutes_control() -> float:
    most = float(MOST_MINUTES)
    return float(
        st.number_input(
            "Minutes", 0.5, most, 10.0, 1.0, key="w_goal_minutes", persist_state="session", help=HELP_MINUTES
        )
    )


def _kind_control() -> str:
    kind = st.segmented_control(
        "Goal", list(GOALS), format_func=lambda name: GOALS.get(name, name), default="smallest", required=True,
        key="w_goal", persist_state="session", help=HELP_GOAL,
    )  # fmt: skip
    return kind or "smallest"


def _size_control() -> int:
    """Bytes."""
    return int(
        float(st.number_input("At most, KB", 1.0, 10_000.0, 16.0, 1.0, key="w_goal_size", persist_state="session"))
        * 1024
    )


def _of_families(baseline: str) -> tuple[Goal, float]:
    """The floor is at first a point below what the baseline reaches."""
    floor, size = None, None
    if _kind_control() == "best":
        size = _size_control()
    else:
        whole = live.measured(Choice(baseline, CompressionConfig())).evaluation.accuracy
        least = st.number_input(
            "Accuracy at least, %", 1.0, 99.9, round(100 * whole - 1, 2), 0.1, "%.2f",
            key=f"w_goal_floor_{baseline}", persist_state="session", help=HELP_FLOOR,
        )  # fmt: skip
        floor = round(float(least) / 100, 6)
    titles = state.workbench().family_titles()
    used = st.pills(
        "Families", list(titles), selection_mode="multi", default=SMALL, format_func=titles.get,
        key="w_goal_families", persist_state="session",
    )  # fmt: skip
    wanted = tuple(name for name in titles if name in used)
    return Goal(floor=floor, size=size, families=wanted or SMALL), _minutes_control()


def _of_baseline() -> tuple[Goal, float]:
    allowance, size, sure = None, None, None
    if _kind_control() == "best":
        size = _size_control()
    else:
        st.number_input(
            "Allowed accuracy loss, pp", 0.0, 20.0, FIRST_ALLOWED, 0.1, key="w_goal_allowance",
            persist_state="session", help=confidence.ALLOWED,
        )  # fmt: skip
        allowance = allowed()
        sure = confidence.control("w_goal_confidence")
    minutes = _minutes_control()
    used = st.pills(
        "Techniques allowed", TECHNIQUES, selection_mode="multi", default=SEARCHED, key="w_goal_techniques",
        persist_state="session", help=HELP_TECHNIQUES,
    )  # fmt: skip
    return Goal(allowance, size, tuple(used) or SEARCHED, sure), float(minutes)


def allowed() -> float:
    """The allowed loss of a search, a fraction, on whatever page it is asked for."""
    return round(float(st.session_state.get("w_goal_allowance", FIRST_ALLOWED)) / 100, 6)


def jobs_of(baseline: str) -> list[JobStatus]:
    """Searches of a baseline, and over families for its images, the newest first."""
    data = state.workbench().profile(baseline).images.data
    every = (job for job in state.workbench().jobs.all() if job.request["kind"] in (SEARCH, STUDENTS))
    return [job for job in every if data == job.request.get("data") or job.request.get("baseline") == baseline]


def under_way(baseline: str) -> bool:
    return any(job.active for job in jobs_of(baseline))


def panel(baseline: str, goal: Goal, minutes: float) -> None:
    """The button; or how far the search is, and what it found; where none was here, what came with the project.
    Nothing in a lesson that asks for guesses."""
    if lesson.asks():
        return
    searches, request = jobs_of(baseline), _request(baseline, goal, minutes)
    active = any(job.active for job in searches)
    same = next((job for job in searches if Goal(**job.request["goal"]) == goal), None)
    came = shipping.answer(state.workbench(), request) if same is None else None
    if not active:
        label = "Find the smallest file" if goal.size is None else "Find the most accurate file"
        label = "Run it here" if came is not None else label
        label = f"{label}: {_minutes(minutes)}" if same is None else f"Go on for {_minutes(minutes)}"
        st.button(
            label, type="primary", icon=":material/search:", on_click=_start, args=(baseline, goal, minutes),
            key="start_search",
        )  # fmt: skip
        classroom.before_start(request)
        st.caption(f"{code(_command(baseline, goal, minutes))} does the same.")
    if came is not None:
        with st.container(border=True):
            st.caption(origin(came))
            _answer(baseline, goal, came.result)
    if searches:
        st.fragment(_panel, run_every=POLL_SECONDS if active else None)(baseline, active)


def _request(baseline: str, goal: Goal, minutes: float) -> dict[str, Any]:
    bench = state.workbench()
    if goal.families:
        return bench.students_request(bench.profile(baseline).images.data, goal, minutes)
    return bench.search_request(baseline, goal, minutes)


def _command(baseline: str, goal: Goal, minutes: float) -> str:
    """The line that searches so."""
    if goal.families:
        data = state.workbench().profile(baseline).images.data
        of = "" if data == DATA else f" --data {shlex.quote(data)}"
        aim = f"--floor {goal.floor:g}" if goal.size is None else f"--size {goal.size}"
        return f"python -m core search --families {','.join(goal.families)} {aim}{of} --minutes {minutes:g}"
    aim = f"--allowance {goal.allowance:g}" if goal.allowance is not None else f"--size {goal.size}"
    aim += "" if goal.confidence is None else f" --confidence {goal.confidence:g}"
    used = "" if goal.techniques == SEARCHED else f' --techniques "{",".join(goal.techniques)}"'
    return f"python -m core search --baseline {shlex.quote(baseline)} {aim} --minutes {minutes:g}{used}"


def _start(baseline: str, goal: Goal, minutes: float) -> None:
    st.session_state.pop("said", None)
    try:
        if goal.families:
            classroom.students(state.workbench().profile(baseline).images.data, goal, minutes)
        else:
            classroom.search(baseline, goal, minutes)
    except (ConfigError, OSError) as error:
        st.session_state["problems"] = [f"The search was not started. {error}"]


def _panel(baseline: str, was_active: bool) -> None:
    teacher.heed()
    searches = jobs_of(baseline)
    active = [job for job in searches if job.active]
    if not searches or (was_active and not active):  # another session may have dismissed it
        frame.draw_again()
    for job in active or searches[:1]:
        with st.container(border=True):
            _card(baseline, job)


def _card(baseline: str, job: JobStatus) -> None:
    goal, minutes = Goal(**job.request["goal"]), job.request["minutes"]
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.markdown(f"**{figures.sentence(goal.in_words())}**, {_minutes(minutes)}")
    if job.active:
        right.button(
            "Stop", icon=":material/stop:", on_click=classroom.cancel, args=(job,), key=f"stop_{job.id}",
            disabled=job.stopping, help=classroom.refusal(classroom.Stop(job)) or HELP_STOP,
        )  # fmt: skip
        _progress(job)
        return
    if right.button("Dismiss", type="tertiary", key=f"dismiss_{job.id}"):
        classroom.dismiss(*(other for other in jobs_of(baseline) if Goal(**other.request["goal"]) == goal))
        frame.draw_again()
    answer = kinds.answer(job.request["kind"], job.result) if job.state == "done" else None
    if answer is not None:
        _answer(baseline, goal, answer)
        return
    how = {"interrupted": "was interrupted", "cancelled": "was stopped", "done": "left a damaged answer"}.get(
        job.state, f"failed: {plain((job.error or '').rstrip('.'))}"
    )
    st.warning(f"The search {how}. What was measured is kept.", icon=":material/warning:")
    if st.button(f"Go on for {_minutes(minutes)}", icon=":material/replay:", key=f"again_{job.id}"):
        _start(baseline, goal, minutes)
        frame.draw_again()
    on_another_device(job, "Continue")


def _progress(job: JobStatus) -> None:
    ahead = f", {job.ahead} ahead" if job.ahead else ""
    left = "" if job.remaining is None else f", {_duration(job.remaining)} left"
    st.progress(job.done, f"{'Waiting' + ahead if job.state == 'queued' else plain(job.message)}{left}")
    if job.stopping:
        st.caption("It stops after this step.")
    told = next((event for event in reversed(job.events) if "trials" in event), None)
    if told is not None:
        best = told.get("best")
        said = "nothing within the goal yet" if best is None else (
            f"best so far **{kilobytes(best['bytes'])}**, {percent(best['accuracy'], 2)} "
            f"({figures.points(best['difference'])})"
        )  # fmt: skip
        st.caption(f"{counted(told['trials'], 'network')} measured, {said}")


def _minutes(count: float) -> str:
    return f"{count:g} {'minute' if count == 1 else 'minutes'}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _answer(baseline: str, goal: Goal, answer: Searched) -> None:
    best = answer.best
    if best is None:
        said = f"{counted(answer.trials, 'network')} measured. {goal.none_in_words()}"
        st.warning(f"{said} {goal.way_out_in_words()}")
        return
    choice = Choice(best.baseline or baseline, best.configuration)
    said = (
        f"{counted(answer.trials, 'network')} measured. The best: **{kilobytes(best.bytes)}**, "
        f"**{figures.smaller(best.compression_ratio)}**, {percent(best.accuracy, 2)} on validation "
        f"({figures.points(best.difference)})"
    )
    if goal.families:
        said += f"; it is a network of the family {best.family}, and the ratio is against its own float32 weights"
        said += f". The course's CNN in float32 is {best.course_ratio:,.0f}x as large" if best.course_ratio else ""
    if best.self_contained:
        said += f". With its decoder, a compressed Python program, it is {best.self_contained:,} bytes"
        said += " (Python and NumPy, which run that, are not counted)"
    if promised := goal.promised_in_words(best.at_most):
        said += f"; {promised}"
    if best.test_accuracy is None or best.test_difference is None:
        st.markdown(f"{said}. It was stopped before the check on the test images.")
    else:
        test = state.workbench().known(*choice, "test")
        change = figures.points(best.test_difference) if test is None else figures.change(test.comparison)
        st.markdown(f"{said}. On the test images: **{percent(best.test_accuracy, 2)}**, {change}.")
        if missed := goal.missed_in_words(best.test_difference, best.test_accuracy):
            st.caption(missed)
    row = st.container(horizontal=True, gap="small")
    made = state.workbench().exported(*choice)
    if made is not None and made.verdict.ok:
        row.download_button(
            f"network.packed, {best.bytes:,} bytes", made.content("network.packed"), "network.packed",
            icon=":material/download:", type="primary", on_click="ignore", key="take_packed",
        )  # fmt: skip
    if row.button("Look at it", icon=":material/visibility:", key="look_at_best"):
        if choice.baseline != baseline:
            state.choose(*choice)
        st.session_state["picked"] = choice
        frame.draw_again()  # the whole page, and not this panel alone


def in_brief(point: Point) -> str:
    """A point in a line of a list."""
    used = " + ".join(point.techniques) or "baseline"
    epochs = 0 if point.config.recovery is None else point.config.recovery.epochs
    trained = f", trained {counted(epochs, 'epoch')}" if epochs else ""
    return f"{point.bytes:,} bytes, {percent(point.accuracy, 2)}: {used}{trained}"
