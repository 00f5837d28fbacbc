"""What is remembered stays within its limit, the latest use last, and no thread takes an answer from another."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.machinery.recent import Recent, size_of
from core.networks.models import Baseline


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (torch.zeros(3, 5), 60),
        (torch.zeros(2, dtype=torch.float64), 16),
        (np.zeros(7, np.int16), 14),
        ({"a": torch.zeros(4), "b": (np.zeros(2, np.uint8), torch.zeros(1))}, 22),
        ([torch.zeros(10)] * 3, 120),
        (Baseline("a", {"fc1.weight": torch.zeros(10, 784), "fc1.bias": torch.zeros(10)}), 4 * 10 * 785 + 16 * 64),
    ],
    ids=str,
)
def test_the_size_of_a_value_is_that_of_its_tensors(value: object, size: int) -> None:
    assert size_of(value) == size


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=40), st.integers(1, 100))
def test_the_last_used_stay_within_the_limit(uses: list[tuple[int, int]], limit: int) -> None:
    """Beside a list that is kept by hand, the last used last."""
    recent, model = Recent(limit), list[tuple[int, int]]()
    for key, size in uses:
        made: list[int] = []
        value = recent.made(key, lambda size=size, made=made: made.append(1) or np.zeros(size, np.uint8))
        known = [own for own in model if own[0] == key]
        assert bool(made) != bool(known), "made where it is not there"
        assert len(value) == (known[0][1] if known else size)
        model = [own for own in model if own[0] != key] + (known or [(key, size)])
        while sum(size for _, size in model) > limit and len(model) > 1:
            model.pop(0)
        assert recent.bytes == sum(size for _, size in model)


def test_threads_get_right_answers_however_little_is_remembered() -> None:
    recent, wrong, end = Recent(100), list[Any](), threading.Barrier(8)

    def ask(thread: int) -> None:
        random = np.random.default_rng(thread)
        end.wait(20)
        for _ in range(3_000):
            key = int(random.integers(9))
            found = recent.made(key, lambda key=key: np.full(30, key))
            if (found != key).any():
                wrong.append((key, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert recent.bytes <= 240, "one entry, which is larger than the limit"


def test_who_makes_the_same_at_once_gets_the_same() -> None:
    recent, both, found = Recent(10**6), threading.Barrier(2), list[Any]()

    def make() -> object:
        both.wait(20)  # both have looked, and found nothing
        return torch.zeros(5)

    threads = [threading.Thread(target=lambda: found.append(recent.made("key", make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found[0] is found[1]
    assert recent.bytes == 20


def test_what_cannot_be_made_is_not_remembered() -> None:
    recent = Recent(100)
    with pytest.raises(ZeroDivisionError):
        recent.made("key", lambda: 1 // 0)
    assert recent.made("key", lambda: 7) == 7


def test_what_is_forgotten_is_made_again() -> None:
    recent, made = Recent(100), iter(range(9))
    assert recent.made("key", lambda: next(made)) == recent.made("key", lambda: next(made)) == 0
    recent.forget("key")
    recent.forget("other")
    assert recent.bytes == 0
    assert recent.made("key", lambda: next(made)) == 1


def test_what_is_forgotten_while_it_is_made_is_not_remembered() -> None:
    recent = Recent(100)

    def make() -> str:
        recent.forget("key")
        return "old"

    assert recent.made("key", make) == "old"
    assert recent.made("key", lambda: "new") == "new"
