"""A class's server: the one door for all that changes what others see or wait for, and the word that opens it.

Visitors explore, pin, run what is short, and take back what their own session did; the rest asks for the teacher's
word, once a session. On a server without the variable `EXPLORER_TEACHER` the door is open. Pages act on the workbench
through `run`, `train`, `recover`, `search`, `export`, `cancel`, `dismiss`, `delete_baseline`, `remove` and `load`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.config import CompressionConfig, ConfigError, Device, TrainingConfig
from core.measuring.front import MOST_MINUTES, Goal
from pages.choice import state
from pages.choice.register import register
from pages.choice.state import Choice

if TYPE_CHECKING:
    from core.bench.albums import Brought
    from core.bench.workbench import JobStatus
    from core.studies.duration import Pace

Request = dict[str, Any]

WORD, MINUTES = "EXPLORER_TEACHER", "EXPLORER_MINUTES"
"""Variables: what makes a server a class's, and for how long visitors may let it work."""

MB = 1024**2
PACE_SECONDS = 30.0
"""So long it is not asked again how fast the machine is."""

SINCE = "it was another session, or yours before this page was loaded again"
IN_USE = "Another session looks at it, has it pinned, or lets the server work on it."


@dataclass(frozen=True)
class Rules:
    """What visitors of a class may do; from the environment.

    word : makes a session the teacher's; minutes : of work that is begun at once
    starts : jobs that a session may start in `within` seconds; waiting : of those, at once under way; queue : of all
    visitors'; session_bytes, server_bytes : of files that one session, and all, may load
    """

    word: str = field(repr=False)
    minutes: float = 2.0
    starts: int = 12
    within: float = 600.0
    waiting: int = 4
    queue: int = 40
    session_bytes: int = 32 * MB
    server_bytes: int = 512 * MB

    def __post_init__(self) -> None:
        if not self.word:
            raise ConfigError(f"{WORD} must be a word. Got nothing: without the variable the server is not a class's.")
        if not 0 <= self.minutes <= MOST_MINUTES:
            raise ConfigError(f"{MINUTES} must be a number in [0, {MOST_MINUTES}]. Got {self.minutes:g} instead.")


def rules() -> Rules | None:
    """Those of a class, or None where the server is not a class's. Raises ConfigError for a variable that is wrong."""
    word, minutes = os.environ.get(WORD), os.environ.get(MINUTES, f"{Rules.minutes}")
    if word is None:
        return None
    try:
        return Rules(word.strip(), float(minutes))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{MINUTES} must be a number in [0, {MOST_MINUTES}]. Got {minutes!r} instead.") from None


def limit(rule: Rules) -> float:
    """Minutes: what the teacher has set, else the server's own."""
    return rule.minutes if register().minutes is None else register().minutes


def is_teacher() -> bool:
    """Whether the word was given in this session."""
    return "teacher" in st.session_state


# Acts, and whether they are allowed.


@dataclass(frozen=True)
class Start:
    """Let the server work on these, one after the other."""

    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Stop:
    job: JobStatus


@dataclass(frozen=True)
class Dismiss:
    """Take jobs off the page that are not under way."""

    jobs: tuple[JobStatus, ...]


@dataclass(frozen=True)
class DeleteBaseline:
    name: str


@dataclass(frozen=True)
class DeletePoint:
    """What was measured, trained and exported of a configuration."""

    choice: Choice


@dataclass(frozen=True)
class Load:
    """Keep a file of so many bytes as a baseline."""

    file_name: str
    size: int


@dataclass(frozen=True)
class AddImages:
    """Keep a data set under a name, or delete it."""

    name: str


Act = Start | Stop | Dismiss | DeleteBaseline | DeletePoint | Load | AddImages


def allowed(act: Act) -> bool:
    """Whether this session may do it."""
    return refusal(act) is None


def refusal(act: Act) -> str | None:
    """Why this session may not do it, and what to do then; None where it may."""
    rule = rules()
    if rule is None or is_teacher():
        return None
    match act:
        case Start(requests):
            begun = [request for request in requests if _begins(request)]
            return _too_long(rule, begun) or _too_many(rule, len(begun))
        case Stop(job):
            return None if _is_mine(job) else f"Not yours alone: {SINCE}. The teacher's word stops it."
        case Dismiss(jobs):
            return None if all(map(_is_mine, jobs)) else f"Not yours alone: {SINCE}. The teacher's word dismisses it."
        case DeleteBaseline(name):
            return _baseline_of_others(name)
        case AddImages(name):
            return f"The images {name!r} would be everybody's. The teacher's word adds and deletes data sets."
        case DeletePoint(choice):
            return _point_of_others(choice)
        case Load(file_name, size):
            return _too_large(rule, file_name, size)


def _is_mine(job: JobStatus) -> bool:
    """Whether nobody but this session asked for it."""
    return register().owners(job.id) == {state.session()}


def _begins(request: Request) -> bool:
    """Whether asking for it would begin anything; the same request never runs twice at once."""
    from core.studies.kinds import KINDS

    again = () if KINDS[request["kind"]].repeats else ("done",)
    same = [job for job in state.workbench().jobs.all(request["kind"]) if job.request == request]
    return not any(job.state in ("queued", "running", *again) for job in same)


def _too_long(rule: Rules, begun: Sequence[Request]) -> str | None:
    from core.studies import duration

    takes, most = _expected(begun), 60 * limit(rule)
    if takes <= most:
        return None
    words = duration.in_words(takes)
    words = words if words != duration.in_words(most) else f"a little more than {_minutes(limit(rule))}"
    return f"This takes {words}; this class runs up to {_minutes(limit(rule))}: the teacher's word starts it."


def _too_many(rule: Rules, count: int) -> str | None:
    """The rate of jobs, and how many wait."""
    if not count:
        return None
    now, word = time.time(), "or at once with the teacher's word"
    recent = register().starts_since(state.session(), now - rule.within)
    free = len(recent) + count - rule.starts
    if free > 0:
        again = recent[min(free, len(recent)) - 1] + rule.within - now if recent else rule.within
        return (
            f"A visitor may start {rule.starts} pieces of work in {_minutes(rule.within / 60)}, and you have started "
            f"{len(recent)}: again in {_minutes(ceil(again / 60))}, {word}."
        )
    active = _active()
    mine = sum(state.session() in owners for owners in active)
    if mine + count > rule.waiting:
        return (
            f"Of a visitor's work {rule.waiting} pieces may wait or run at a time, and {mine} of yours do: again when "
            f"one of them has ended, {word}."
        )
    if len(active) + count > rule.queue:
        return f"{len(active)} pieces of the class's work wait already: again when some have ended, {word}."
    return None


def _active() -> list[frozenset[str]]:
    """Owners of every job under way that a session started."""
    jobs, owners = state.workbench().jobs, []
    for job, piece in register().active().items():
        try:
            active = jobs.status(job).active
        except KeyError:  # somebody dismissed it
            active = False
        if active:
            owners.append(piece.owners)
        else:
            register().ended(job)
    return owners


def _made(job: JobStatus) -> str | None:
    """The baseline that a job trained; None for other jobs, and where it has not ended well."""
    from core.studies import kinds

    answer = kinds.answer("train", job.result) if job.request["kind"] == "train" else None
    return None if answer is None else str(answer.baseline)


def _baseline_of_others(name: str) -> str | None:
    bench, me = state.workbench(), state.session()
    trained = [job for job in bench.jobs.all("train") if _made(job) == name]
    owners = register().loaders(name).union(*(register().owners(job.id) for job in trained))
    if owners != {me}:
        return f"Not loaded or trained by you alone: {SINCE}. The teacher's word deletes it."
    working = [job for job in bench.jobs.all() if job.active and job.request.get("baseline") == name]
    looking = any(choice.baseline == name for choice in register().seen_by_others(me))
    if looking or not all(map(_is_mine, working)):
        return f"{IN_USE} The teacher's word deletes it all the same."
    return None


def _point_of_others(choice: Choice) -> str | None:
    asked = state.workbench().recovery_request(*choice)
    if choice.config.recovery is None:
        return "What was measured is everybody's. The teacher's word deletes it."
    if register().owners_of(asked) != {state.session()}:
        return f"Not trained for you alone: {SINCE}. The teacher's word deletes it."
    if choice in register().seen_by_others(state.session()):
        return f"{IN_USE} The teacher's word deletes it all the same."
    return None


def _too_large(rule: Rules, file_name: str, size: int) -> str | None:
    """Whether a file is within what one session, and all of them, may keep."""
    bench = state.workbench()
    mine = register().bytes_of(state.session())
    loaded = sum(bench.baseline(card.id).bytes for card in bench.cards() if card.origin == "loaded")
    for who, kept, most in (("you", mine, rule.session_bytes), ("the class", loaded, rule.server_bytes)):
        if kept + size > most:
            return (
                f"{file_name} has {size / MB:,.1f} MB and was not loaded, and nothing has changed: {who} may keep "
                f"{most / MB:,.0f} MB of files here, and {kept / MB:,.1f} MB are taken. Delete one first (at the foot "
                "of this page, while it is chosen), load a smaller one, or ask for the teacher's word."
            )
    return None


# The door.


def _through(act: Act, do: Callable[[], Any]) -> bool:
    """Do what is allowed, and return whether it was; what is not allowed is said on the page.

    On a server that is not a class's nothing is asked and nothing is written down.
    """
    if rules() is None:
        do()
        return True
    with register().lock:
        why = refusal(act)
        if why is None:
            do()
            st.session_state.pop("refused", None)
            return True
    st.session_state["refused"] = why, state.current(), st.session_state.get("page")
    st.session_state["refused_unseen"] = True
    return False


def _start(requests: Sequence[Request], submit: Callable[[], Sequence[str]]) -> bool:
    """submit : what begins the work; returns the jobs' ids"""
    if rules() is None:
        submit()
        return True

    def begin() -> None:
        known = state.workbench().jobs
        joined = [
            any(job.active and job.request == request for job in known.all(request["kind"])) for request in requests
        ]
        begun = list(map(_begins, requests))
        for job, request, joins, begins in zip(submit(), requests, joined, begun, strict=True):
            if begins or joins:
                register().started(state.session(), job, request, joins)

    return _through(Start(tuple(requests)), begin)


def run(*requests: Request) -> bool:
    """Start the experiments of a laboratory."""
    return _start(requests, lambda: list(map(_submit, requests)))


def _submit(request: Request) -> str:
    """An answer stands, unless it is damaged."""
    from core.studies import kinds

    return state.workbench().jobs.submit(request, lambda result: kinds.answer(request["kind"], result) is None)


def train(config: TrainingConfig) -> bool:
    """Train a baseline. Raises ConfigError, OSError."""
    bench = state.workbench()
    return _start([bench.training_request(config)], lambda: [bench.submit_training(config)])


def recover(baseline: str, config: CompressionConfig) -> bool:
    """Train a compressed network."""
    bench = state.workbench()
    return _start([bench.recovery_request(baseline, config)], lambda: [bench.submit_recovery(baseline, config)])


def search(baseline: str, goal: Goal, minutes: float) -> bool:
    """Search for the smallest file. Raises ConfigError, OSError."""
    bench = state.workbench()
    asked = bench.search_request(baseline, goal, minutes)
    return _start([asked], lambda: [bench.submit_search(baseline, goal, minutes)])


def students(data: str, goal: Goal, minutes: float) -> bool:
    """Search over families. Raises ConfigError, OSError."""
    bench = state.workbench()
    asked = bench.students_request(data, goal, minutes)
    return _start([asked], lambda: [bench.submit_students(data, goal, minutes)])


def export(baseline: str, config: CompressionConfig) -> bool:
    """Write files, and verify them."""
    bench = state.workbench()
    return _start([bench.export_request(baseline, config)], lambda: [bench.submit_export(baseline, config)])


def again(job: JobStatus, device: Device | None = None) -> bool:
    """Start a job that did not end well once more, on a device of its own if one is named."""
    return _start([job.request], lambda: [state.workbench().start_again(job, device)])


def cancel(job: JobStatus) -> bool:
    return _through(Stop(job), lambda: state.workbench().jobs.cancel(job.id))


def dismiss(*jobs: JobStatus) -> bool:
    """What a training left stays that of who asked for it."""

    def forget() -> None:
        for job in jobs:
            owners, made = register().owners(job.id), _made(job)
            if made and owners == {state.session()}:
                register().loaded(state.session(), made, 0, was_here=False)
            state.workbench().jobs.dismiss(job.id)

    return _through(Dismiss(jobs), forget)


def delete_baseline(name: str) -> bool:
    def delete() -> None:
        state.workbench().delete_baseline(name)
        register().deleted(name)

    return _through(DeleteBaseline(name), delete)


def remove(choice: Choice) -> bool:
    """Delete what was measured, trained and exported of a configuration."""
    return _through(DeletePoint(choice), lambda: state.workbench().remove(*choice))


def add_images(brought: Brought, name: str, title: str) -> bool:
    """Keep what was brought as a data set. Raises DataError, OSError."""
    return _through(AddImages(name), lambda: state.workbench().add_images(brought, name, title))


def delete_images(name: str) -> bool:
    """Delete a data set that was brought."""
    return _through(AddImages(name), lambda: state.workbench().delete_images(name))


def load(content: bytes, file_name: str) -> str | None:
    """Keep a file as a baseline; its id, or None where it was not allowed. Raises BaselineError, OSError."""
    bench, loaded = state.workbench(), list[str]()

    def keep() -> None:
        here = {card.id for card in bench.cards()}
        loaded.append(bench.load_file(content, file_name))
        register().loaded(state.session(), loaded[0], len(content), loaded[0] in here)

    _through(Load(file_name, len(content)), keep)
    return loaded[0] if loaded else None


def bring(content: bytes, file_name: str, beside: Mapping[str, bytes], data: str, scale: str | None) -> str | None:
    """Read an ONNX file, hold it against the original, and keep it as a baseline; its id, or None where it was not
    allowed. Raises BaselineError, DataError, ConfigError, OSError."""
    bench, brought = state.workbench(), list[str]()
    size = len(content) + sum(map(len, beside.values()))

    def keep() -> None:
        here = {card.id for card in bench.cards()}
        brought.append(bench.bring(content, file_name, beside, data, scale))
        register().loaded(state.session(), brought[0], size, brought[0] in here)

    _through(Load(file_name, size), keep)
    return brought[0] if brought else None


# How long it takes.


def _expected(requests: Sequence[Request]) -> float:
    """Seconds that all of these take."""
    from core.studies import duration

    return sum(duration.expected(state.workbench(), request, _pace()) for request in requests)


@st.cache_resource(show_spinner=False, ttl=PACE_SECONDS)
def _pace() -> Pace:
    from core.studies import duration

    return duration.pace_of(state.workbench())


def before_start(*requests: Request) -> None:
    """In a class: how long it will take, beside its button; and why it will not be begun, where that is so."""
    from core.studies import duration

    begun = [request for request in requests if _begins(request)] if rules() is not None else []
    if not begun:
        return
    why = refusal(Start(tuple(requests)))
    said = duration.in_words(_expected(begun))
    yours = "" if is_teacher() else " What you start is yours to stop until this page is loaded again."
    st.caption(f":material/schedule: {why or f'{said[0].upper()}{said[1:]}.{yours}'}")


def _minutes(count: float) -> str:
    return f"{count:g} min"
