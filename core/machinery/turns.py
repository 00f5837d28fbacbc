"""Whose turn it is: one computation at a time in this process, and nothing that nobody waits for.

A session has one request at a time; a newer one takes its place. Sessions take turns, and those that ask for the same
share one computation, which stops between chunks as soon as none of them waits any more. When nobody waits for
anything, wishes are fulfilled - what a page would like to know - and given up at once for any real request.
"""

import atexit
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from core.machinery.stopping import Stopped

Work = Callable[[Callable[[], bool], Callable[[Any], None]], Any]
"""work(should_stop, report) -> value; raises Stopped when should_stop() says so; report(first) is an early figure."""

WISH_SECONDS = 6.0
"""So long a wish stands unless it is repeated: a page that was closed wishes for nothing."""

QUIET_SECONDS = 0.4
"""A wish waits until nobody has asked for anything for so long: what was just answered is being drawn."""

IDLE_SECONDS = 30.0
"""After so long without work the thread ends; the next request starts another."""


@dataclass(eq=False)
class Ticket:
    """A session's request. first : an early figure, where there is one; value or error : when it is done."""

    session: str
    key: Hashable
    first: Any = None
    value: Any = None
    error: BaseException | None = None
    done: bool = False

    def result(self) -> Any:
        """The value; raises what the computation raised. Only when done."""
        if self.error is not None:
            raise self.error
        return self.value


class Turns:
    """counts : computed, stopped and wished computations, and wasted ones, whose result nobody waited for.
    between : called while somebody waits, before the computation and between its chunks"""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self.between = between
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._waiting: dict[str, Ticket] = {}  # by session, in the order of their turns
        self._work: dict[Hashable, Work] = {}
        self._wishes: dict[str, tuple[float, dict[Hashable, Work]]] = {}
        self._running: Hashable = None
        self._first: Any = None
        self._thread: threading.Thread | None = None
        self._asked_at = 0.0
        self._closed = False

    def ask(self, session: str, key: Hashable, work: Work) -> Ticket:
        """Put a request in line, in the place of the session's last one. A session whose computation was already
        running goes to the end: who moves without pause must not keep the others waiting."""
        with self._changed:
            old, ticket = self._waiting.get(session), Ticket(session, key)
            self._asked_at = time.monotonic()
            if old is not None and old.key == self._running != key:
                del self._waiting[session]
            if old is not None:
                self._drop(old)
            self._waiting[session], self._work[key] = ticket, work
            if key == self._running:
                ticket.first = self._first
            self._wake()
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; a newer one of the same session stays in line."""
        with self._changed:
            if self._waiting.get(ticket.session) is ticket:
                self._drop(self._waiting.pop(ticket.session))

    def forget(self, session: str) -> None:
        """The session waits for nothing: its newest question was answered without a computation."""
        with self._changed:
            if session in self._waiting:
                self._drop(self._waiting.pop(session))

    def wish(self, session: str, works: Mapping[Hashable, Work], seconds: float | None = None) -> None:
        """What the session would like to know when there is time, the first first; replaces its last wishes.

        seconds : how long the wishes stand unless they are repeated; WISH_SECONDS where not given
        """
        with self._changed:
            if works:
                self._wishes[session] = time.monotonic() + (seconds or WISH_SECONDS), dict(works)
                self._wake()
            else:
                self._wishes.pop(session, None)

    @property
    def wishing(self) -> int:
        """How many have open wishes."""
        return len(self._wishes)

    def wait(self, ticket: Ticket, seconds: float | None = None) -> bool:
        """Wait until the ticket is done, or has a first figure that it had not; whether it is done."""
        with self._changed:
            had = ticket.first
            self._changed.wait_for(lambda: ticket.done or ticket.first is not had, seconds)
            return ticket.done

    def answer(self, ticket: Ticket) -> Any:
        """Wait for the value, however long; raises what the computation raised."""
        while not self.wait(ticket):
            pass
        return ticket.result()

    def ahead(self, ticket: Ticket | None = None) -> int:
        """How many computations come before this one, the running one included; before a new one, without ticket."""
        with self._changed:
            keys = [other.key for other in self._waiting.values()]
            before = set(takewhile(lambda key: ticket is None or key != ticket.key, keys))
            if self._running in keys and (ticket is None or self._running != ticket.key):
                before.add(self._running)
            return len(before)

    def close(self) -> None:
        """Give up everything, and wait for the running computation to stop: a process must not end in the midst of it.

        Called when the process ends.
        """
        with self._changed:
            self._closed, thread = True, self._thread
            for ticket in self._waiting.values():
                self._drop(ticket)
            self._waiting.clear()
            self._wishes.clear()
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _drop(self, ticket: Ticket) -> None:
        ticket.error, ticket.done = Stopped(), True
        self._changed.notify_all()

    def _wake(self) -> None:
        if self._thread is None:
            self._closed = False
            atexit.register(self.close)
            self._thread = threading.Thread(target=self._serve, name="evaluation", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _quiet_in(self) -> float:
        return self._asked_at + QUIET_SECONDS - time.monotonic()

    def _next(self) -> tuple[Hashable, Work] | None:
        for ticket in self._waiting.values():
            return ticket.key, self._work[ticket.key]
        now = time.monotonic()
        self._wishes = {session: wish for session, wish in self._wishes.items() if wish[0] > now and wish[1]}
        for session, (_, works) in self._wishes.items():
            key = next(iter(works))
            self._wishes[session] = self._wishes.pop(session)  # its next turn comes after all others'
            return key, works[key]
        return None

    def _unwanted(self, key: Hashable) -> bool:
        with self._changed:
            asked = any(ticket.key == key for ticket in self._waiting.values())
            now = time.monotonic()
            wished = any(until > now and key in wished_for for until, wished_for in self._wishes.values())
            waiting = bool(self._waiting)
        if waiting:
            self.between()
        return not asked and (waiting or not wished)

    def _report(self, key: Hashable, first: Any) -> None:
        with self._changed:
            self._first = first
            for ticket in self._waiting.values():
                if ticket.key == key:
                    ticket.first = first
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._wishes, IDLE_SECONDS)
                while self._wishes and not self._waiting and (rest := self._quiet_in()) > 0:
                    self._changed.wait(rest)
                turn = self._next()
                if turn is None:
                    self._thread = None
                    atexit.unregister(self.close)
                    return
                self._running, self._first = turn[0], None
            self._compute(*turn)

    def _compute(self, key: Hashable, work: Work) -> None:
        value, error = None, None
        try:
            self._unwanted(key)
            value = work(partial(self._unwanted, key), partial(self._report, key))
        except BaseException as raised:
            error = raised
        with self._changed:
            self._running = None
            served = [ticket for ticket in self._waiting.values() if ticket.key == key]
            wished = [keys for _, keys in self._wishes.values() if key in keys]
            self.counts[self._outcome(error, bool(served), bool(wished))] += 1
            for keys in wished:
                if served or not isinstance(error, Stopped):
                    del keys[key]
            if isinstance(error, Stopped):
                served = []  # asked for again just now: it stays in line
            for ticket in served:
                ticket.value, ticket.error, ticket.done = value, error, True
                del self._waiting[ticket.session]
            self._work = {ticket.key: self._work[ticket.key] for ticket in self._waiting.values()}
            self._changed.notify_all()

    @staticmethod
    def _outcome(error: BaseException | None, served: bool, wished: bool) -> str:
        if isinstance(error, Stopped):
            return "stopped"
        return "computed" if served else "wished" if wished else "wasted"
