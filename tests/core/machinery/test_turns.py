"""One computation at a time, sessions in turn, nothing that nobody waits for; wishes when there is time."""

import random
import threading
from collections.abc import Callable
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from core.machinery import turns as module
from core.machinery.stopping import Stopped
from core.machinery.turns import Ticket, Turns

LIMIT = 20.0
"""Seconds after which a test that hangs fails; nothing here depends on how fast anything is."""


class Computation:
    """Work that does what the test says, one word at a time."""

    def __init__(self) -> None:
        self.runs = 0
        self._words: Queue[tuple[str, Any]] = Queue()
        self._answers: Queue[Any] = Queue()

    def __call__(self, should_stop: Callable[[], bool], report: Callable[[Any], None]) -> Any:
        self.runs += 1
        self._answers.put("begun")
        while True:
            word, value = self._words.get(timeout=LIMIT)
            if word == "finish":
                return value
            if word == "fail":
                raise value
            self._answers.put(should_stop() if word == "look" else report(value))

    def begins(self) -> bool:
        """Wait until it runs."""
        return self._answers.get(timeout=LIMIT) == "begun"

    def looks(self) -> bool:
        """Let it ask whether it should stop; it does not stop yet."""
        self._words.put(("look", None))
        answer: bool = self._answers.get(timeout=LIMIT)
        return answer

    def stops(self) -> bool:
        """Let it get to the end of a chunk, and stop where it should."""
        should = self.looks()
        if should:
            self.fail(Stopped())
        return should

    def report(self, first: Any) -> None:
        self._words.put(("report", first))
        self._answers.get(timeout=LIMIT)

    def finish(self, value: Any = None) -> None:
        self._words.put(("finish", value))

    def fail(self, error: BaseException) -> None:
        self._words.put(("fail", error))


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that wishes see; it stands still until the test moves it. Wishes need no quiet."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def works(count: int) -> list[Computation]:
    return [Computation() for _ in range(count)]


def value_of(turns: Turns, ticket: Ticket) -> Any:
    while not ticket.done:
        before = ticket.first
        done = turns.wait(ticket, LIMIT)
        assert done or ticket.first is not before, "nothing came"
    return ticket.result()


def settle(turns: Turns) -> None:
    """After this, everything that was finished or stopped before has been put down."""
    last = Computation()
    ticket = turns.ask("settle", object(), last)
    assert last.begins()
    last.finish()
    value_of(turns, ticket)


# One session.


def test_what_was_asked_for_is_computed_and_its_value_is_the_tickets(turns: Turns) -> None:
    (work,) = works(1)
    ticket = turns.ask("a", "key", work)
    assert (ticket.session, ticket.key) == ("a", "key")
    assert work.begins()
    assert not ticket.done
    work.finish(42)
    assert value_of(turns, ticket) == 42
    assert turns.ahead() == 0


def test_the_newest_request_of_a_session_wins(turns: Turns) -> None:
    first, second = works(2)
    old = turns.ask("a", 1, first)
    assert first.begins()
    assert not first.stops()
    new = turns.ask("a", 2, second)
    assert first.stops()
    assert second.begins()
    second.finish("new")
    assert value_of(turns, new) == "new"
    with pytest.raises(Stopped):
        old.result()


def test_of_the_moves_made_while_another_session_computes_only_the_last_is_computed(turns: Turns) -> None:
    other, *moves = works(5)
    turns.ask("b", "other", other)
    assert other.begins()
    tickets = [turns.ask("a", number, move) for number, move in enumerate(moves)]
    other.finish()
    assert moves[-1].begins()
    moves[-1].finish("last")
    assert value_of(turns, tickets[-1]) == "last"
    assert [move.runs for move in moves] == [0, 0, 0, 1]


def test_a_ticket_that_is_replaced_is_done_at_once_and_who_waits_for_it_is_woken(turns: Turns) -> None:
    first, second = works(2)
    old = turns.ask("a", 1, first)
    assert first.begins()
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(turns.wait(old, LIMIT)))
    waiting.start()
    new = turns.ask("a", 2, second)
    waiting.join(LIMIT)
    assert (found, old.done, new.done) == ([True], True, False)
    with pytest.raises(Stopped):
        old.result()
    assert first.stops()
    assert second.begins()
    second.finish()


def test_who_asks_again_for_what_is_running_goes_on_with_it(turns: Turns) -> None:
    (work,) = works(1)
    old = turns.ask("a", "key", work)
    assert work.begins()
    new = turns.ask("a", "key", work)
    assert not work.stops()
    work.finish("value")
    assert value_of(turns, new) == "value"
    assert old.done
    assert work.runs == 1


def test_a_computation_stops_between_chunks_when_nobody_waits_for_it(turns: Turns) -> None:
    work, after = works(2)
    ticket = turns.ask("a", "key", work)
    assert work.begins()
    assert not work.stops()
    turns.leave(ticket)
    assert isinstance(ticket.error, Stopped)
    assert work.stops()
    turns.ask("b", "after", after)
    assert after.begins()
    after.finish()
    settle(turns)
    assert (work.runs, turns.counts["stopped"]) == (1, 1)


def test_who_left_before_their_turn_is_not_served(turns: Turns) -> None:
    running, left, last = works(3)
    turns.ask("a", 1, running)
    assert running.begins()
    gone = turns.ask("b", 2, left)
    ticket = turns.ask("c", 3, last)
    turns.leave(gone)
    turns.leave(gone)
    assert turns.wait(gone)
    assert not running.stops()
    running.finish()
    assert last.begins()
    last.finish(3)
    assert value_of(turns, ticket) == 3
    assert left.runs == 0


def test_what_is_asked_for_again_while_it_stops_begins_anew(turns: Turns) -> None:
    (work,) = works(1)
    gone = turns.ask("a", "key", work)
    assert work.begins()
    turns.leave(gone)
    assert work.looks()  # it has been told to stop, and has not stopped yet
    ticket = turns.ask("a", "key", work)
    work.fail(Stopped())
    assert work.begins()
    assert not ticket.done
    work.finish("value")
    assert value_of(turns, ticket) == "value"


# Several sessions.


def test_two_sessions_that_ask_for_the_same_share_one_computation(turns: Turns) -> None:
    work, twin = works(2)
    one = turns.ask("a", "key", work)
    assert work.begins()
    two = turns.ask("b", "key", twin)
    value = object()
    work.finish(value)
    assert value_of(turns, one) is value_of(turns, two) is value
    settle(turns)
    assert (work.runs, twin.runs) == (1, 0)


def test_a_shared_computation_goes_on_until_the_last_has_left(turns: Turns) -> None:
    (work,) = works(1)
    one, two = turns.ask("a", "key", work), turns.ask("b", "key", work)
    assert work.begins()
    turns.leave(one)
    assert not work.stops()
    turns.leave(two)
    assert work.stops()


def test_leaving_an_old_request_keeps_the_newer_one_of_the_same_session(turns: Turns) -> None:
    first, second = works(2)
    old = turns.ask("a", "first", first)
    assert first.begins()
    new = turns.ask("a", "second", second)
    turns.leave(old)  # the page that was superseded says so late
    assert first.stops()
    assert second.begins()
    second.finish("second")
    assert value_of(turns, new) == "second"


def test_sessions_are_served_in_the_order_in_which_they_asked(turns: Turns) -> None:
    own = works(4)
    tickets = [turns.ask(f"session {i}", i, work) for i, work in enumerate(own)]
    for i, work in enumerate(own):
        assert work.begins()
        assert [other.runs for other in own] == [1] * (i + 1) + [0] * (3 - i)
        work.finish(i)
    assert [value_of(turns, ticket) for ticket in tickets] == [0, 1, 2, 3]


def test_a_session_that_moves_without_pause_keeps_no_other_waiting(turns: Turns) -> None:
    moves, others = works(6), works(3)
    turns.ask("a", "move 0", moves[0])
    assert moves[0].begins()
    waiting = [turns.ask(f"other {i}", f"other {i}", work) for i, work in enumerate(others)]
    turns.ask("a", "move 1", moves[1])
    assert moves[0].stops()
    for i, work in enumerate(others):
        assert work.begins()  # and not the next move, which came before the others' end
        ticket = turns.ask("a", f"move {i + 2}", moves[i + 2])
        assert not work.stops()
        work.finish(i)
    assert [value_of(turns, each) for each in waiting] == [0, 1, 2]
    assert moves[4].begins()
    moves[4].finish("last")
    assert value_of(turns, ticket) == "last"
    assert [move.runs for move in moves] == [1, 0, 0, 0, 1, 0]


def test_who_was_served_and_asks_again_comes_after_those_who_wait(turns: Turns) -> None:
    first, other, again = works(3)
    ticket = turns.ask("a", 1, first)
    turns.ask("b", 2, other)
    assert first.begins()
    first.finish()
    value_of(turns, ticket)
    turns.ask("a", 3, again)
    assert other.begins()
    assert again.runs == 0
    other.finish()
    assert again.begins()
    again.finish()


def test_as_many_are_ahead_as_computations_come_first(turns: Turns) -> None:
    running, shared, third, new = works(4)
    tickets = [
        turns.ask("a", "running", running),
        turns.ask("b", "shared", shared),
        turns.ask("c", "shared", shared),
        turns.ask("d", "third", third),
    ]
    assert running.begins()
    assert [turns.ahead(ticket) for ticket in tickets] == [0, 1, 1, 2]
    assert turns.ahead() == 3
    tickets[0] = turns.ask("a", "new", new)  # it goes to the end
    assert running.stops()
    assert shared.begins()
    assert [turns.ahead(ticket) for ticket in tickets] == [2, 0, 0, 1]
    turns.leave(tickets[3])
    assert turns.ahead(tickets[0]) == 1
    shared.finish()
    assert new.begins()
    assert turns.ahead(tickets[0]) == 0
    new.finish()
    value_of(turns, tickets[0])
    assert turns.ahead() == 0


def test_what_is_running_is_ahead_even_where_who_began_it_has_moved_on(turns: Turns) -> None:
    running, other, new = works(3)
    turns.ask("a", "running", running)
    assert running.begins()
    ticket = turns.ask("b", "other", other)
    turns.ask("c", "running", running)
    turns.ask("a", "new", new)  # a goes to the end; c, behind b, still waits for what is running
    assert not running.stops()
    ahead = turns.ahead(ticket)
    for work in (running, other, new):
        work.finish()
    value_of(turns, ticket)
    assert ahead == 1


# The first figure.


def test_who_waits_is_woken_by_the_first_figure_and_again_by_the_value(turns: Turns) -> None:
    (work,) = works(1)
    ticket = turns.ask("a", "key", work)
    assert work.begins()
    found: list[tuple[bool, Any]] = []
    seen = threading.Event()

    def wait() -> None:
        found.append((turns.wait(ticket), ticket.first))
        seen.set()
        found.append((turns.wait(ticket), ticket.value))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    for _ in range(int(100 * LIMIT)):  # a report before it waits would wake nobody: each is a new figure
        work.report(object())
        if seen.wait(0.01):
            break
    work.finish("value")
    waiting.join(LIMIT)
    assert [done for done, _ in found] == [False, True]
    assert found[0][1] is not None
    assert found[1][1] == "value"


def test_everyone_who_waits_gets_the_first_figure_and_who_comes_later_too(turns: Turns) -> None:
    work, other = works(2)
    tickets = [turns.ask(session, "key", work) for session in ("a", "b")]
    aside = turns.ask("c", "other", other)
    assert work.begins()
    work.report("early")
    late = turns.ask("d", "key", work)
    assert [ticket.first for ticket in (*tickets, late)] == ["early"] * 3
    assert not late.done
    work.finish("value")
    assert value_of(turns, late) == "value"
    assert other.begins()
    assert (aside.first, turns.ask("e", "other", other).first) == (None, None)
    other.finish()


# Errors.


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)], ids=["an error", "an exit"])
def test_an_error_reaches_all_who_waited_and_the_next_is_served(turns: Turns, error: BaseException) -> None:
    failing, other = works(2)
    tickets = [turns.ask(session, "failing", failing) for session in ("a", "b")]
    after = turns.ask("c", "other", other)
    assert failing.begins()
    failing.fail(error)
    for ticket in tickets:
        with pytest.raises(type(error)) as raised:
            value_of(turns, ticket)
        assert raised.value is error
    assert other.begins()
    other.finish("fine")
    assert value_of(turns, after) == "fine"


def test_what_failed_may_be_asked_for_again(turns: Turns) -> None:
    (work,) = works(1)
    for _ in range(2):
        ticket = turns.ask("a", "key", work)
        assert work.begins()
        work.fail(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            value_of(turns, ticket)
    assert work.runs == 2


# Wishes.


def test_wishes_are_fulfilled_one_by_one_when_nobody_waits(turns: Turns, clock: SimpleNamespace) -> None:
    own = works(3)
    turns.wish("a", dict(enumerate(own)))
    for work in own:
        assert work.begins()
        assert not work.stops()
        work.finish()
    settle(turns)
    assert [work.runs for work in own] == [1, 1, 1]
    assert turns.counts["wished"] == 3


def test_a_request_comes_before_wishes_and_the_one_that_ran_is_taken_up_again(
    turns: Turns, clock: SimpleNamespace
) -> None:
    wished, later, asked = works(3)
    turns.wish("a", {"wished": wished, "later": later})
    assert wished.begins()
    assert not wished.stops()
    ticket = turns.ask("b", "asked", asked)
    assert wished.stops()
    assert asked.begins()
    asked.finish("now")
    assert value_of(turns, ticket) == "now"
    assert wished.begins()
    wished.finish()
    assert later.begins()
    later.finish()
    settle(turns)
    assert (wished.runs, later.runs, asked.runs) == (2, 1, 1)


def test_a_request_for_what_is_being_wished_joins_it(turns: Turns, clock: SimpleNamespace) -> None:
    wished, other = works(2)
    turns.wish("a", {"key": wished})
    assert wished.begins()
    wished.report("early")
    ticket = turns.ask("b", "key", wished)
    turns.ask("c", "other", other)
    assert ticket.first == "early"
    assert not wished.stops()
    wished.finish("value")
    assert value_of(turns, ticket) == "value"
    assert other.begins()
    other.finish()
    settle(turns)
    assert (wished.runs, turns.counts["wished"]) == (1, 0)  # and it is no wish any more


def test_what_was_asked_for_and_computed_is_wished_for_no_more(turns: Turns, clock: SimpleNamespace) -> None:
    asked, other = works(2)
    ticket = turns.ask("a", "key", asked)
    assert asked.begins()
    turns.wish("b", {"key": asked, "other": other})
    asked.finish()
    value_of(turns, ticket)
    assert other.begins()
    other.finish()
    settle(turns)
    assert (asked.runs, other.runs) == (1, 1)


def test_newer_wishes_replace_a_sessions_older_ones(turns: Turns, clock: SimpleNamespace) -> None:
    running, kept, dropped, new = works(4)
    turns.wish("a", {"running": running, "kept": kept, "dropped": dropped})
    assert running.begins()
    turns.wish("a", {"kept": kept, "new": new})
    assert running.stops()
    for work in (kept, new):
        assert work.begins()
        work.finish()
    settle(turns)
    assert (running.runs, dropped.runs) == (1, 0)


def test_a_session_without_wishes_has_none(turns: Turns, clock: SimpleNamespace) -> None:
    running, next_one = works(2)
    turns.wish("a", {"running": running, "next": next_one})
    assert running.begins()
    turns.wish("a", {})
    assert running.stops()
    settle(turns)
    assert next_one.runs == 0


def test_sessions_wishes_take_turns(turns: Turns, clock: SimpleNamespace) -> None:
    asked, *own = works(5)
    ticket = turns.ask("c", "asked", asked)
    assert asked.begins()
    turns.wish("a", {"a1": own[0], "a2": own[2]})
    turns.wish("b", {"b1": own[1], "b2": own[3]})
    asked.finish()
    value_of(turns, ticket)
    for count, work in enumerate(own, 1):
        assert work.begins()
        assert sum(other.runs for other in own) == count
        work.finish()


def test_a_wish_that_is_not_repeated_expires(turns: Turns, clock: SimpleNamespace) -> None:
    running, never = works(2)
    turns.wish("a", {"running": running, "never": never})
    assert running.begins()
    clock.now += module.WISH_SECONDS - 1
    assert not running.stops()
    clock.now += 2
    assert running.stops()
    settle(turns)
    settle(turns)
    assert (running.runs, never.runs) == (1, 0)


def test_a_wish_that_is_repeated_stands(turns: Turns, clock: SimpleNamespace) -> None:
    running, later = works(2)
    for _ in range(4):
        turns.wish("a", {"running": running, "later": later})
        clock.now += module.WISH_SECONDS - 1
    assert running.begins()
    assert not running.stops()
    running.finish()
    assert later.begins()
    later.finish()


def test_a_wish_stands_for_so_long_as_the_module_says(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    (never,) = works(1)
    monkeypatch.setattr(module, "WISH_SECONDS", -1.0)
    turns.wish("a", {"never": never})
    settle(turns)
    settle(turns)
    assert never.runs == 0


def test_wishes_wait_until_nobody_has_asked_for_anything_for_a_while(
    turns: Turns, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    (wished,) = works(1)
    settle(turns)
    for _ in range(3):
        turns.wish("a", {"wished": wished})
        clock.now += 0.009
        settle(turns)  # what is asked for meanwhile comes first, and then it is as long again
    assert wished.runs == 0
    clock.now += 0.02
    assert wished.begins()
    wished.finish()


def test_a_wish_that_fails_is_given_up_and_the_next_is_fulfilled(turns: Turns, clock: SimpleNamespace) -> None:
    failing, fine = works(2)
    turns.wish("a", {"failing": failing, "fine": fine})
    assert failing.begins()
    failing.fail(ValueError("no"))
    assert fine.begins()
    fine.finish()
    settle(turns)
    assert (failing.runs, fine.runs) == (1, 1)


# The thread, and what is counted.


def test_the_thread_ends_when_there_is_nothing_to_do_and_another_begins(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    threads = []
    for _ in range(2):
        before = set(threading.enumerate())
        (work,) = works(1)
        ticket = turns.ask("a", "key", work)
        assert work.begins()
        (thread,) = set(threading.enumerate()) - before
        work.finish("value")
        assert value_of(turns, ticket) == "value"
        thread.join(LIMIT)
        assert not thread.is_alive()
        threads.append(thread)
    assert len(set(threads)) == 2


def test_one_thread_does_all_the_work(turns: Turns) -> None:
    before = set(threading.enumerate())
    own = works(3)
    tickets = [turns.ask(f"session {i}", i, work) for i, work in enumerate(own)]
    for work, ticket in zip(own, tickets, strict=True):
        assert work.begins()
        assert len(set(threading.enumerate()) - before) == 1
        work.finish()
        value_of(turns, ticket)


def test_what_is_closed_gives_up_everything_and_can_be_asked_again(turns: Turns, clock: SimpleNamespace) -> None:
    running, waiting, wished, later = works(4)
    turns.close()  # nothing has begun
    before = set(threading.enumerate())
    turns.ask("a", "running", running)
    assert running.begins()
    (thread,) = set(threading.enumerate()) - before
    turns.ask("b", "waiting", waiting)
    turns.wish("c", {"wished": wished})
    closing = threading.Thread(target=turns.close)
    closing.start()
    while not running.looks():  # it may look before it is closed
        pass
    assert closing.is_alive()  # until what runs has stopped
    running.fail(Stopped())
    closing.join(LIMIT)
    assert not closing.is_alive()
    assert not thread.is_alive()
    assert (waiting.runs, wished.runs, turns.ahead()) == (0, 0, 0)
    ticket = turns.ask("a", "later", later)
    assert later.begins()
    later.finish("later")
    assert value_of(turns, ticket) == "later"


def test_what_was_computed_stopped_wished_and_wasted_is_counted(turns: Turns, clock: SimpleNamespace) -> None:
    computed, stopped, wished, wasted, failed = works(5)
    ticket = turns.ask("a", "computed", computed)
    assert computed.begins()
    computed.finish()
    value_of(turns, ticket)
    assert turns.counts == {"computed": 1}

    ticket = turns.ask("a", "stopped", stopped)
    assert stopped.begins()
    turns.leave(ticket)
    assert stopped.stops()
    ticket = turns.ask("a", "wasted", wasted)
    assert wasted.begins()
    assert turns.counts == {"computed": 1, "stopped": 1}
    turns.leave(ticket)
    wasted.finish()  # it had no time to notice

    turns.wish("a", {"wished": wished})
    assert wished.begins()
    assert turns.counts == {"computed": 1, "stopped": 1, "wasted": 1}
    ticket = turns.ask("b", "failed", failed)
    assert wished.stops()
    assert failed.begins()
    failed.fail(ValueError("no"))
    assert wished.begins()
    assert turns.counts == {"computed": 2, "stopped": 2, "wasted": 1}
    wished.finish()
    settle(turns)
    assert turns.counts == {"computed": 3, "stopped": 2, "wasted": 1, "wished": 1}


def test_whatever_many_sessions_do_at_once_each_gets_what_it_asked_for_last(turns: Turns) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def work_for(key: int) -> module.Work:
        def work(should_stop: Callable[[], bool], report: Callable[[Any], None]) -> int:
            nonlocal at_once, most
            with lock:
                at_once, most = at_once + 1, max(most, at_once + 1)
            try:
                for chunk in range(4):
                    if should_stop():
                        raise Stopped
                    report((key, chunk))
            finally:
                with lock:
                    at_once -= 1
            return -key

        return work

    wrong: list[object] = []

    def live(session: str, seed: int) -> None:
        own = random.Random(seed)
        for _ in range(60):
            key = own.randrange(1, 9)
            ticket = turns.ask(session, key, work_for(key))
            turns.wish(session, {wish: work_for(wish) for wish in own.sample(range(20, 30), own.randrange(3))})
            if own.random() < 0.4:
                continue
            if own.random() < 0.2:
                turns.leave(ticket)
                continue
            if value_of(turns, ticket) != -key or (ticket.first is not None and ticket.first[0] != key):
                wrong.append((ticket, key))
        ticket = turns.ask(session, 99, work_for(99))
        wrong.extend([] if value_of(turns, ticket) == -99 else [ticket])

    sessions = [threading.Thread(target=live, args=(f"session {seed}", seed)) for seed in range(6)]
    for thread in sessions:
        thread.start()
    for thread in sessions:
        thread.join(3 * LIMIT)
    assert not any(thread.is_alive() for thread in sessions)
    assert wrong == []
    assert most == 1
    assert turns.ahead() == 0
