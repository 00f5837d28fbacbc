"""A class on one server: so many sessions, each moving the sparsity slider every 8 to 12 seconds.

    python -m benchmarks.classroom [--sessions 30] [--seconds 180] [--search] [--json]

The sessions speak Streamlit's own protocol over websockets of their own and answer as a browser tab does: they return
the state of every widget, keep the link, hold large messages back for reuse, and rerun the fragments that ask for it.
They load no pictures and paint nothing. Half of the moves go to a few positions where others go too, half to positions
between the slider's steps, where nobody else comes. With `--search` a search of the server's works all the time.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.Slider_pb2 import Slider
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks import bare, summary
from benchmarks.server import notes, running_app
from core.bench.places import share
from core.machinery.jobs import Jobs
from core.measuring.front import SEARCH, Goal
from core.words import one_line
from core.words import percent as written

PAUSE_SECONDS = (8.0, 12.0)
PATIENCE_SECONDS = 30.0
OPENING_SECONDS = 120.0
SHARED = (30.0, 40.0, 50.0, 60.0, 65.0, 75.0, 80.0, 85.0, 90.0, 95.0)
"""Where everybody comes by, in percent."""

CACHED_RUNS = 2
"""Streamlit's global.maxCachedMessageAge: for so many runs a tab keeps a large message that it did not need."""


class Tab:
    """A session without a screen. errors : by kind; polls : reruns of fragments that asked to be run again."""

    def __init__(self, socket: ClientConnection) -> None:
        self.errors: Counter[str] = Counter()
        self.polls = 0
        self._socket = socket
        self._query, self._page = "", ""
        self._widgets: dict[str, WidgetState] = {}
        self._drawn: set[str] = set()  # widgets of the run that is under way
        self._slider = ""
        self._cached: dict[str, int] = {}  # hash of a message: the run in which it was last of use
        self._runs = 0
        self._pollers: dict[str, tuple[float, asyncio.Task[None]]] = {}
        self._wanted, self._answer = "", asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    async def open(self) -> None:
        """The page as it opens without a link, up to its first exact figure."""
        await self._ask("", OPENING_SECONDS)

    async def move(self, percent: float) -> float | None:
        """Seconds from the slider's move to the exact figure, or None where it did not come."""
        self._widgets[self._slider].double_array_value.data[:] = [percent]
        start = time.perf_counter()
        with suppress(TimeoutError, ConnectionClosed):
            await self._ask(f"sparsity {one_line(written(share(percent)))},", PATIENCE_SECONDS)
            return time.perf_counter() - start
        self.errors["unanswered"] += 1
        return None

    def leave(self) -> None:
        """Nothing that happens from now on is an error."""
        self._stop_polling()
        self._reader.cancel()

    async def _ask(self, wanted: str, patience: float) -> None:
        self._wanted, self._answer = wanted, asyncio.get_running_loop().create_future()
        await self._rerun()
        await asyncio.wait_for(self._answer, patience)

    async def _rerun(self, fragment: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self._query, self._page
        state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
        state.widget_states.widgets.extend(self._widgets.values())
        state.cached_message_hashes.extend(self._cached)
        state.context_info.timezone, state.context_info.locale = "UTC", "en-US"
        await self._socket.send(message.SerializeToString())

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for content in self._socket:
                self._take(ForwardMsg.FromString(bytes(content)))
        self.errors["closed"] += 1
        self._stop_polling()

    def _take(self, message: ForwardMsg) -> None:
        """What a tab does with a message, as far as the server can tell."""
        fragments, key = message.metadata.run.fragment_ids, message.hash
        match message.WhichOneof("type"):
            case "new_session" if not fragments:
                self._drawn.clear()
                self._stop_polling()
            case "navigation":
                self._page = message.navigation.page_script_hash
            case "page_info_changed":
                self._query = message.page_info_changed.query_string
            case "delta" if message.delta.WhichOneof("type") == "new_element":
                self._draw(message.delta.new_element)
            case "ref_hash":
                key = message.ref_hash
                if key not in self._cached:
                    self.errors["message that was not kept"] += 1
            case "auto_rerun":
                self._start_polling(message.auto_rerun.fragment_id, message.auto_rerun.interval)
            case "stop_auto_rerun":
                for fragment in message.stop_auto_rerun.fragment_ids:
                    self._stop_polling(fragment)
            case "script_finished":
                self._finish(message.script_finished)
        if message.metadata.cacheable:
            self._cached[key] = self._runs

    def _finish(self, status: int) -> None:
        if status == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            self.errors["compile error"] += 1
        if status == ForwardMsg.FINISHED_SUCCESSFULLY:
            self._widgets = {name: own for name, own in self._widgets.items() if name in self._drawn}
            self._runs += 1
            self._cached = {key: run for key, run in self._cached.items() if self._runs - run <= CACHED_RUNS}

    def _draw(self, element: Element) -> None:
        kind = element.WhichOneof("type")
        if kind == "markdown":
            body = element.markdown.body
            if "**Exact**" in body and self._wanted in body and not self._answer.done():
                self._answer.set_result(None)
        elif kind == "exception" or (kind == "alert" and element.alert.format == Alert.ERROR):
            self.errors[kind] += 1
        elif kind in ("slider", "checkbox", "selectbox", "button_group"):
            widget = getattr(element, kind)
            self._drawn.add(widget.id)
            if widget.set_value or widget.id not in self._widgets:
                self._widgets[widget.id] = _state(kind, widget)
            if kind == "slider" and widget.id.endswith("-w_sparsity"):
                self._slider = widget.id

    def _start_polling(self, fragment: str, interval: float) -> None:
        if self._pollers.get(fragment, (None,))[0] != interval:
            self._stop_polling(fragment)
            self._pollers[fragment] = interval, asyncio.create_task(self._poll(fragment, interval))

    def _stop_polling(self, fragment: str | None = None) -> None:
        for name in [fragment] if fragment is not None else list(self._pollers):
            if name in self._pollers:
                self._pollers.pop(name)[1].cancel()

    async def _poll(self, fragment: str, interval: float) -> None:
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(interval)
                self.polls += 1
                await self._rerun(fragment)


def _state(kind: str, widget: Any) -> WidgetState:
    """A widget's value as the browser sends it back: the one that the server sets, or the default."""
    state, given = WidgetState(id=widget.id), widget.set_value
    if kind == "slider" and widget.type == Slider.SLIDER:
        state.double_array_value.data.extend(widget.value if given else widget.default)
    elif kind == "slider":
        state.string_array_value.data.extend(widget.raw_value if given else _options(widget, widget.default))
    elif kind == "checkbox":
        state.bool_value = widget.value if given else widget.default
    elif kind == "selectbox":
        if widget.HasField("raw_value" if given else "default"):  # else nothing is selected
            state.string_value = widget.raw_value if given else widget.options[widget.default]
    else:
        state.string_array_value.data.extend(widget.raw_values if given else _options(widget, widget.default))
    return state


def _options(widget: Any, indices: Sequence[float]) -> list[str]:
    options = (widget.options[int(index)] for index in indices)
    return [option if isinstance(option, str) else option.content for option in options]


async def attend(tab: Tab, rng: random.Random, end: float) -> list[float]:
    """Move until the end; seconds of each move that was answered."""
    found, here = [], 0.0
    await asyncio.sleep(rng.uniform(0, PAUSE_SECONDS[1]))
    while time.monotonic() < end and not tab.errors["closed"]:
        due = time.monotonic() + rng.uniform(*PAUSE_SECONDS)
        own = rng.randrange(500, 9500) / 100 + 0.003  # off the grid of every other position
        here = rng.choice([place for place in SHARED if place != here]) if rng.random() < 0.5 else own
        seconds = await tab.move(here)
        found += [seconds] if seconds is not None else []
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return found


async def lesson(address: str, log: Any, sessions: int, seconds: float, seed: int = 0) -> dict[str, Any]:
    url = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    async with AsyncExitStack() as stack:
        tabs = []
        for _ in range(sessions):
            socket = connect(url, origin=address, subprotocols=["streamlit"], max_size=None)
            tabs.append(Tab(await stack.enter_async_context(socket)))
        await tabs[0].open()
        await asyncio.gather(*(tab.open() for tab in tabs[1:]))
        start = await asyncio.to_thread(notes, log)
        end = time.monotonic() + seconds
        moved = await asyncio.gather(
            *(attend(tab, random.Random(seed * 1000 + number), end) for number, tab in enumerate(tabs))
        )
        finish = await asyncio.to_thread(notes, log)
        for tab in tabs:
            tab.leave()
    return _figures(tabs, [one for own in moved for one in own], start, finish, seconds)


def _figures(
    tabs: list[Tab], answered: list[float], start: dict[str, Any], finish: dict[str, Any], seconds: float
) -> dict[str, Any]:
    errors = sum((tab.errors for tab in tabs), Counter())
    moves = len(answered) + errors["unanswered"]
    counts = Counter(finish["counts"])
    counts.subtract(start["counts"])
    return {
        "sessions": len(tabs),
        "seconds": seconds,
        "moves": moves,
        "exact_s": summary(answered) if answered else None,
        "from_cache": round(1 - counts["computed"] / moves, 3) if moves else None,
        "wasted": counts["wasted"],
        "errors": errors.total(),
        "errors_by_kind": dict(errors),
        "memory_mb": {"start": start["memory_mb"], "end": finish["memory_mb"]},
        "threads": {"start": start["threads"], "end": finish["threads"]},
        "counts": dict(counts),
        "polls": sum(tab.polls for tab in tabs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--search", action="store_true", help="while a search runs as a job of the same server")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="classroom-") as folder, running_app(Path(folder)) as (address, log):
        jobs = Jobs(Path(folder) / "jobs")
        if arguments.search:
            goal = Goal(allowance=0.01).to_request()
            minutes = arguments.seconds / 60 + 2
            job = jobs.submit({"kind": SEARCH, "baseline": "mlp", "goal": goal, "minutes": minutes})
        found = asyncio.run(lesson(address, log, arguments.sessions, arguments.seconds))
        if arguments.search:
            found["search"] = jobs.status(job).state
            jobs.cancel(job)
            while jobs.status(job).active:
                time.sleep(1)
    found["bare_s"] = bare("cnn", random.Random(0))
    found["p95_over_bare"] = round(found["exact_s"]["p95"] / found["bare_s"]["median"], 1) if found["exact_s"] else None
    if arguments.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        text = ", ".join(f"{name} {own}" for name, own in value.items()) if isinstance(value, dict) else value
        print(f"{key:16}{text}")


if __name__ == "__main__":
    main()
