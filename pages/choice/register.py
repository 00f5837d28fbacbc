"""A class's register: which session started, loaded and looks at what. In memory alone, as long as the server runs.

A session is a random name that Streamlit's session state holds and nobody else sees; a page that is loaded again is a
new one, and what the earlier one did then belongs to nobody here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from pages.choice.state import Choice

SOMEBODY = ""
"""Whoever started or loaded what was there before: by a command, or while another server ran."""

PRESENT_SECONDS = 3600.0
"""So long a session that nobody moves is taken to look at what it showed last."""


@dataclass(frozen=True)
class Piece:
    """A job: its request, the sessions that asked for it, and whether it was under way when somebody last looked."""

    request: dict[str, Any]
    owners: frozenset[str]
    active: bool = True


class Register:
    """lock : held by whoever decides and acts, so that two sessions cannot both use what is left of a budget; looking :
    by whoever looks at a word.

    minutes : what the teacher set instead of the server's own limit; wrong_words : how many were tried
    """

    def __init__(self) -> None:
        self.lock, self.looking = threading.RLock(), threading.Lock()
        self.minutes: float | None = None
        self.wrong_words = 0
        self._pieces: dict[str, Piece] = {}
        self._starts: defaultdict[str, list[float]] = defaultdict(list)
        self._loaded: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._present: dict[str, tuple[float, frozenset[Choice]]] = {}

    def count_wrong_word(self) -> None:
        with self.lock:
            self.wrong_words += 1

    def started(self, session: str, job: str, request: dict[str, Any], joined: bool) -> None:
        """joined : whether the same job was under way already; it is then everybody's who asked for it."""
        known = self._pieces.get(job)
        before = known.owners if known is not None else frozenset({SOMEBODY})
        self._pieces[job] = Piece(request, before | {session} if joined else frozenset({session}))
        if not joined:
            self._starts[session].append(time.time())

    def starts_since(self, session: str, moment: float) -> list[float]:
        """When the session started jobs since then, the oldest first; earlier ones are forgotten."""
        self._starts[session] = [when for when in self._starts[session] if when > moment]
        return self._starts[session]

    def owners(self, job: str) -> frozenset[str]:
        known = self._pieces.get(job)
        return frozenset({SOMEBODY}) if known is None else known.owners

    def owners_of(self, request: dict[str, Any]) -> frozenset[str]:
        """Of the job that was asked for in these words, also when it is dismissed."""
        owners = [piece.owners for piece in self._pieces.values() if piece.request == request]
        return frozenset().union(*owners) if owners else frozenset({SOMEBODY})

    def active(self) -> dict[str, Piece]:
        """Jobs by id that were under way when somebody last looked."""
        return {job: piece for job, piece in self._pieces.items() if piece.active}

    def ended(self, job: str) -> None:
        self._pieces[job] = replace(self._pieces[job], active=False)

    def loaded(self, session: str, name: str, size: int, was_here: bool) -> None:
        """A baseline came from a session's file of so many bytes, or from its training, which counts for nothing."""
        if was_here and name not in self._loaded:
            self._loaded[name][SOMEBODY] += 0
        self._loaded[name][session] = max(size, self._loaded[name][session])

    def loaders(self, name: str) -> frozenset[str]:
        """Sessions whose file or training it is; nobody where that is not known."""
        return frozenset(self._loaded.get(name, ()))

    def bytes_of(self, session: str) -> int:
        """Of the files that it loaded and that were not deleted since."""
        return sum(bytes_of.get(session, 0) for bytes_of in self._loaded.values())

    def deleted(self, name: str) -> None:
        self._loaded.pop(name, None)

    def present(self, session: str, choices: frozenset[Choice]) -> None:
        """What a session looks at: its choice, and what it pinned."""
        now = time.time()
        self._present = {session: seen for session, seen in self._present.items() if now - seen[0] < PRESENT_SECONDS}
        self._present[session] = now, choices

    def seen_by_others(self, session: str) -> frozenset[Choice]:
        return frozenset().union(*(choices for other, (_, choices) in self._present.items() if other != session))


@st.cache_resource(show_spinner=False)
def register() -> Register:
    """The one register of this process."""
    return Register()
