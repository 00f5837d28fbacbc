"""What a person chose, in one place: a baseline and a `CompressionConfig`, in the session and in the link.

Only `choose` writes it. Widgets take their values from it before they are drawn, so undo, links and other pages need
nothing of their own.
"""

from __future__ import annotations

import gc
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import streamlit as st

from core.config import EXAMPLE, QUERY_NAMES, CompressionConfig, from_query, to_query
from core.words import counted, percent, plain
from pages.choice import frame
from pages.choice.offered import CONTROLS

if TYPE_CHECKING:
    from core.bench.workbench import Workbench

START = EXAMPLE
"""Where a person without a link begins: something true and worth a second look."""

FIRST_BASELINE = "cnn"

PINS = 4
"""Configurations that can be pinned side by side."""

STEPS = 200
"""Choices that undo remembers."""

CALM_RUNS = 4
"""Page runs until everything is imported."""

SEVERAL = 3
"""So many settings that do not fit another baseline are named in one sentence, without the reason of each."""

SWITCH_SECONDS = 0.0005
"""So soon a thread that has a chunk of images ready gets the interpreter from a page that is being drawn."""

FLUSH_SECONDS = 0.3
"""So long a start waits before it loads: imports hold the interpreter, and what is drawn could not reach the screen."""


class Choice(NamedTuple):
    baseline: str
    config: CompressionConfig


@st.cache_resource(show_spinner=False)
def workbench() -> Workbench:
    """The one workbench of this process."""
    import altair  # noqa: F401

    from core.bench.workbench import SHELF, Workbench

    bench = Workbench(priority="first", shelf=SHELF)
    bench.evaluate(FIRST_BASELINE, CompressionConfig()).evaluation.report()  # loads scikit-learn too
    sys.setswitchinterval(SWITCH_SECONDS)
    return bench


@st.cache_resource(show_spinner=False)
def _runs() -> list[str]:
    """The first page runs of this process."""
    return []


def _calm() -> None:
    """Leave what the first runs have loaded out of later garbage collections: Streamlit makes one after every run."""
    if len(_runs()) < CALM_RUNS:
        _runs().append(st.session_state["page"])
        gc.collect()
        gc.freeze()


@contextmanager
def errors_in_words() -> Iterator[None]:
    """What input or machine can cause is said, with the way out; the choice and its link stay as they are."""
    try:
        yield
    except Exception as error:
        from core.bench.workbench import ERRORS

        if not isinstance(error, ERRORS):
            raise
        st.error(plain(error), title="This could not be done", icon=":material/error:")


def open_page(page: str) -> None:
    """Load what every page needs, with words on the screen while it takes its seconds; read the link, write it."""
    if "core.bench.workbench" not in sys.modules:
        with st.empty():
            st.info("Loading PyTorch, the networks and the images. This takes a few seconds, once.", icon="spinner")
            time.sleep(FLUSH_SECONDS)
            workbench()
            st.empty()
    st.session_state["page"] = page
    _calm()
    asked = st.query_params.to_dict()
    # A link that differs from the one written last was opened by the browser's back and forward; but while a person
    # slides, the browser still sends the link of a moment ago.
    moved = not st.session_state.pop("just_chosen", False) and _own(asked) != st.session_state.get("written_link")
    if "choice" not in st.session_state or (moved and "baseline" in asked):
        _read_link(asked)
    _forget_deleted({card.id for card in workbench().cards()})
    write_link()
    if problems := _problems():
        st.warning("  \n".join(map(plain, problems)), icon=":material/link_off:")
    trouble = workbench().store.problem
    if trouble:
        st.warning(f"{plain(trouble)} Everything works, but nothing is kept.", icon=":material/save_as:")
    _say_how_full()


KEPT_KINDS = {
    "baseline": ("baseline", "", "delete those that nobody needs on Baseline"),
    "recovered": ("network", " trained after compression", "delete those on Compare"),
    "evaluation": ("measurement", " pinned or searched for", "delete points on Compare"),
    "point": ("point", " of a search", "delete points on Compare"),
}
"""What is never evicted -> one of it, what follows its name, and what to do where there is too much of it."""


def _say_how_full() -> None:
    """Before there is no room for what a person trains: what fills it, the largest first, and where to delete it."""
    from core.bench.workbench import NEARLY_FULL

    kept = workbench().kept()
    if kept.share < NEARLY_FULL:
        return
    named = [(*KEPT_KINDS.get(kind, (kind, "", "")), *taken) for kind, taken in kept.kinds.items()]
    parts = [f"{counted(count, name)}{more} ({size / 2**20:,.0f} MB)" for name, more, _, count, size in named[:3]]
    ways = list(dict.fromkeys(way for _, _, way, _, _ in named[:3] if way))
    what = "What is trained from now on may be forgotten" if kept.share >= 0.99 else "Soon there is no room for more"
    st.warning(
        "The cache keeps what was trained, loaded, pinned or searched for, and this fills "
        f"{percent(min(kept.share, 1), 0)} of its {kept.limit / 2**30:.3g} GB: {', '.join(parts)}. {what}: "
        f"{' or '.join(ways)}; or start the app with more room, COMPRESSION_KEPT_GB=8.",
        icon=":material/inventory_2:",
    )


def _problems() -> list[str]:
    """What went wrong on the way to this choice; a page that draws itself again says it again."""
    new: list[str] = st.session_state.pop("problems", [])
    choice, said = st.session_state.get("said", (None, new))
    if new or choice != current():
        said = new
        st.session_state["said"] = current(), said
    return said


def _forget_deleted(known: set[str]) -> None:
    """A baseline may be deleted by another session."""
    for steps in ("past", "future", "pins"):
        kept = [choice for choice in st.session_state.get(steps, ()) if choice.baseline in known]
        st.session_state[steps] = tuple(kept) if steps == "pins" else kept
    if current().baseline not in known:
        st.session_state["problems"] = [f"The baseline {current().baseline} was deleted; this is the shipped CNN."]
        st.session_state["choice"] = Choice(FIRST_BASELINE, START)


def current() -> Choice:
    """The choice. Every page asks for it first: the very first run of a server that opens a page by its link is made
    by Streamlit's own page discovery, without the frame, and is then begun again with it.
    """
    if "choice" not in st.session_state:
        frame.navigation()
        frame.draw_again()
    choice: Choice = st.session_state["choice"]
    return choice


def session() -> str:
    """This browser tab until its page is loaded again, as the workbench knows it: random, and in no link."""
    if "session" not in st.session_state:
        st.session_state["session"] = uuid.uuid4().hex
    name: str = st.session_state["session"]
    return name


def choose(baseline: str | None = None, config: CompressionConfig | None = None) -> None:
    """The one writer. A setting that the new baseline's layers do not have is left out, and said."""
    old = current()
    new = Choice(baseline or old.baseline, config if config is not None else old.config)
    if new.baseline != old.baseline:
        asked = to_query(new.config)
        fitted, problems = from_query(asked, _layers(new.baseline))
        new = Choice(new.baseline, _fitting(new.baseline, fitted, problems))
        left = [f"{key}={text}" for key, text in asked.items() if key not in to_query(new.config)]
        many = f"{len(left)} settings do not fit the layers of this network, and were left out: {', '.join(left)}."
        st.session_state["problems"] = problems if len(problems) < SEVERAL else [many]
    if new != old:
        st.session_state["past"] = [*past(), old][-STEPS:]
        st.session_state["future"] = []
    _set(new)


def past() -> list[Choice]:
    """Choices before this one, the last of them last."""
    steps: list[Choice] = st.session_state.get("past", [])
    return steps


def future() -> list[Choice]:
    """Choices that were undone, the last of them last."""
    steps: list[Choice] = st.session_state.get("future", [])
    return steps


def undo() -> None:
    """Back to the choice before; its figures come from the cache."""
    if past():
        st.session_state["future"] = [*future(), current()]
        _set(st.session_state["past"].pop())


def redo() -> None:
    if future():
        st.session_state["past"] = [*past(), current()]
        _set(st.session_state["future"].pop())


def pins() -> tuple[Choice, ...]:
    """Pinned choices, in the order in which they were pinned."""
    pinned: tuple[Choice, ...] = st.session_state.get("pins", ())
    return pinned


def comparable(name: str, other: str) -> bool:
    """Whether two baselines see the same images, so that their predictions can be paired."""
    bench = workbench()
    return bench.profile(name).images.same_as(bench.profile(other).images)


def pin(choice: Choice) -> None:
    """Keep a choice for comparison, in the session and in the link."""
    if choice not in pins() and len(pins()) < PINS:
        st.session_state["pins"] = (*pins(), choice)
        workbench().keep(*choice)


def unpin(choice: Choice) -> None:
    st.session_state["pins"] = tuple(other for other in pins() if other != choice)


def _set(choice: Choice) -> None:
    st.session_state["choice"] = choice
    st.session_state["just_chosen"] = True


def write_link() -> None:
    """The address bar shows choice and pins: copied, it opens the same elsewhere."""
    query = {**_query(current()), **lesson()}
    if pins():
        query["pins"] = "*".join(map(_pin_text, pins()))
    now = st.query_params.to_dict()
    if _own(now) != query:  # at once: each write is an entry of the browser's history
        theirs = {key: text for key, text in now.items() if key not in _own(now)}
        st.query_params.from_dict({**theirs, **query})
    st.session_state["written_link"] = query


def _pin_text(choice: Choice) -> str:
    """A pin within a link: "baseline-cnn_bits-4"; a name that holds one of the signs between is written otherwise."""
    return "_".join(f"{_escaped(key)}-{text.replace('_', '%5F')}" for key, text in _query(choice).items())


def _escaped(name: str) -> str:
    return name.replace("_", "%5F").replace("-", "%2D")


def _pin(text: str) -> dict[str, str]:
    """The inverse of `_pin_text`; nothing where it is none."""
    parts = (part.split("-", 1) for part in text.split("_") if "-" in part)
    return {unquote(key): unquote(value) for key, value in parts}


def _query(choice: Choice) -> dict[str, str]:
    return {"baseline": choice.baseline, **to_query(choice.config)}


def keep_widget(key: str, value: Any) -> str:
    """Give a widget its value from the choice, unless this page shows it already; returns the key.

    A widget that comes with another page is new in the browser, which would show it at its default.
    """
    drawn = st.session_state.setdefault("drawn_on", {})
    page = st.session_state.get("page")
    if drawn.get(key) != page or st.session_state.get(key) != value:
        st.session_state[key] = value
    drawn[key] = page
    return key


def begin_widget(key: str, value: Any, of: Any) -> str:
    """Give a widget the value that it begins with, whenever what that is `of` changes; after that it keeps what a
    person sets. Returns the key."""
    began, here = st.session_state.setdefault("began", {}), (st.session_state.get("page"), of)
    if began.get(key) != here or key not in st.session_state:
        st.session_state[key] = value
    began[key] = here
    return key


LESSON = ("reveal", "hide", "present")
"""What a teacher adds to a link."""


def lesson() -> dict[str, str]:
    """What the link says for a lesson: "reveal": "0", "hide": names of controls, "present": "1"."""
    lesson_of: dict[str, str] = st.session_state.get("lesson", {})
    return lesson_of


def teach(wanted: dict[str, str]) -> None:
    st.session_state["lesson"] = wanted


def _own(query: dict[str, str]) -> dict[str, str]:
    """The part of a link that is ours to write; what other widgets bind to it stays theirs."""
    known = {"baseline", "pins", *LESSON, *QUERY_NAMES}
    return {key: text for key, text in query.items() if key in known or "." in key}


def _read_lesson(asked: dict[str, str], problems: list[str]) -> dict[str, str]:
    """What a link's lesson means; what it does not know is left out, and named in `problems`."""
    lesson = {}
    if asked.get("reveal", "1") not in ("0", "1"):
        problems.append(f"reveal must be 0 or 1; reveal={asked['reveal']} was left out.")
    elif asked.get("reveal") == "0":
        lesson["reveal"] = "0"
    if asked.get("present", "0") not in ("0", "1"):
        problems.append(f"present must be 0 or 1; present={asked['present']} was left out.")
    elif asked.get("present") == "1":
        lesson["present"] = "1"
    names = [name.strip() for name in asked.get("hide", "").split(",") if name.strip()]
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        problems.append(f"hide can be {', '.join(CONTROLS)}, not {', '.join(unknown)}.")
    known = [name for name in names if name in CONTROLS]
    return lesson | ({"hide": ",".join(known)} if known else {})


def _read_link(asked: dict[str, str]) -> None:
    problems = st.session_state.get("problems", [])
    query = _own(asked)
    st.session_state["lesson"] = _read_lesson({key: query.pop(key) for key in LESSON if key in query}, problems)
    pinned = query.pop("pins", "")
    choice = _read_choice(query, problems) if query else Choice(FIRST_BASELINE, START)
    texts = [_pin(text) for text in pinned.split("*") if text]
    if not all(texts):
        problems.append("Of the link's pins, what is no configuration was left out.")
    texts = [text for text in texts if text]
    if len(texts) > PINS:
        problems.append(f"A link can pin {PINS} configurations; {len(texts) - PINS} more were left out.")
    st.session_state["pins"] = tuple(dict.fromkeys(_read_choice(text, problems) for text in texts[:PINS]))
    st.session_state["choice"] = choice
    st.session_state["problems"] = problems


def _read_choice(query: dict[str, str], problems: list[str]) -> Choice:
    """What a link's settings mean; a bad value falls back to its default, and is named in `problems`."""
    baseline = query.get("baseline", FIRST_BASELINE)
    if baseline not in {card.id for card in workbench().cards()}:
        problems.append(f"There is no baseline {baseline!r} here; this is the shipped CNN instead.")
        baseline = FIRST_BASELINE
    config, more = from_query({k: v for k, v in query.items() if k != "baseline"}, _layers(baseline))
    config = _fitting(baseline, config, more)
    problems += more
    return Choice(baseline, config)


def _layers(baseline: str) -> list[str]:
    return [layer.name for layer in workbench().profile(baseline).layers]


def _fitting(baseline: str, config: CompressionConfig, problems: list[str]) -> CompressionConfig:
    """Without the ranks and channels that are too many for this baseline's layers; each is named in `problems`."""
    profile = workbench().profile(baseline)
    for layer in profile.layers:
        for setting, most in (("rank", layer.full_rank), ("channels", profile.channels.get(layer.name, 0))):
            value = getattr(config.layer(layer.name), setting)
            if value is not None and value > most:
                said = f"can have {setting} {most} at most" if most else f"keeps all its {setting}"
                problems.append(f"{layer.name} {said}; {layer.name}.{setting}={value} was left out.")
                config = config.with_layer(layer.name, **{setting: None})
    return config
