"""Laws of precedence: long work pauses while somebody waits, and never for good."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.machinery import precedence as module
from core.machinery.precedence import CLAIM_SECONDS, LEAST_SECONDS, LONGEST_SECONDS, LOOK_SECONDS, Precedence
from core.machinery.turns import Turns


class Clock:
    """Both clocks; sleeping moves them on, and what is due meanwhile happens."""

    def __init__(self, mark: Path) -> None:
        self.now, self.mark = 1000.0, mark
        self.until = 0.0  # so long somebody waits

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        if self.now < self.until:
            self.mark.parent.mkdir(exist_ok=True)
            self.mark.touch()
            os.utime(self.mark, (self.now, self.now))
        return self.now + 0.001

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(tmp_path / "jobs" / ".waiting")
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def people(clock: Clock) -> Precedence:
    return Precedence(clock.mark)


def test_nobody_waits_nothing_pauses(people: Precedence, clock: Clock) -> None:
    people.give_way()
    assert clock.now == 1000.0


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_long_work_pauses_while_somebody_waits_and_a_moment_longer(
    people: Precedence, clock: Clock, seconds: float
) -> None:
    clock.until = clock.now + seconds
    people.give_way()
    assert clock.now - 1000.0 == pytest.approx(seconds + CLAIM_SECONDS, abs=2 * LOOK_SECONDS)


def test_long_work_goes_on_a_little_however_many_wait(people: Precedence, clock: Clock) -> None:
    clock.until, worked = clock.now + 100.0, 0.0
    while clock.now < 1100.0:
        before = clock.now
        people.give_way()
        assert clock.now - before <= LONGEST_SECONDS + LOOK_SECONDS
        clock.now += 0.01
        worked += 0.01
    share = LEAST_SECONDS / (LEAST_SECONDS + LONGEST_SECONDS)
    assert worked == pytest.approx(100 * share, rel=0.1)


@given(st.integers(-(10**9), 10**9), st.sampled_from((1, 1000)))
def test_a_claim_of_another_time_is_none(tmp_path_factory: pytest.TempPathFactory, steps: int, finer: int) -> None:
    mark, away = tmp_path_factory.mktemp("marks") / "waiting", steps / 1000 / finer
    mark.touch()
    os.utime(mark, (1e9 + away, 1e9 + away))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", SimpleNamespace(time=lambda: 1e9, monotonic=lambda: 0.0))
        assert Precedence(mark).claimed == (-CLAIM_SECONDS < mark.stat().st_mtime - 1e9 <= 0)


def test_a_claim_reaches_other_processes_and_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "jobs" / ".waiting"
    assert not Precedence(mark).claimed
    touched = []
    monkeypatch.setattr(Path, "touch", lambda self: touched.append(open(self, "wb").close()))
    people = Precedence(mark)
    for _ in range(1000):
        people.claim()
    assert Precedence(mark).claimed
    assert 1 <= len(touched) < 100


def test_where_nothing_can_be_written_all_goes_on(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("no folder")
    people = Precedence(tmp_path / "jobs" / ".waiting")
    people.claim()
    assert not people.claimed
    people.give_way()


def test_turns_say_so_while_somebody_waits_and_not_for_a_wish() -> None:
    said: list[str] = []
    turns = Turns(lambda: said.append("waits"))
    wished = threading.Event()

    def wish(should_stop: object, report: object) -> None:
        assert not should_stop()  # type: ignore[operator]
        wished.set()

    turns.wish("a", {"wish": wish})
    assert wished.wait(30)
    assert said == []

    def work(should_stop: object, report: object) -> int:
        before = len(said)
        assert before >= 1, "before it begins"
        assert not should_stop()  # type: ignore[operator]
        return len(said) - before

    assert turns.answer(turns.ask("a", "real", work)) == 1, "and between its chunks"
    turns.close()
