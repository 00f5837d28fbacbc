"""The rate is the entropy at whole numbers, and pulls towards what comes often."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from core.mathematics.rate import PRIOR, code_lengths, smooth_bits

numbers = st.lists(st.integers(-3, 3), min_size=1, max_size=300)


@given(numbers)
def test_code_lengths_are_those_of_a_distribution(values: list[int]) -> None:
    lengths = code_lengths(torch.tensor(values), -3, 3)
    assert torch.exp2(-lengths).sum().item() == pytest.approx(1, abs=1e-5)
    often, rarely = max(set(values), key=values.count), min(set(values), key=values.count)
    assert lengths[often + 3] <= lengths[rarely + 3]


@given(numbers)
def test_at_whole_numbers_the_rate_is_the_cross_entropy_with_the_smoothed_counts(values: list[int]) -> None:
    counts = np.bincount(np.array(values) + 3, minlength=7)
    expected = len(values) * (entropy(counts, base=2) + entropy(counts, counts + PRIOR, base=2))
    bits = smooth_bits(torch.tensor(values, dtype=torch.float32), -3, 3)
    assert bits.item() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_between_two_numbers_it_is_linear_and_pulls_to_the_frequent_one() -> None:
    many = torch.zeros(100)
    near = torch.tensor([0.25], requires_grad=True)
    smooth_bits(torch.cat([many, near, torch.ones(3)]), 0, 1).backward()
    lengths = code_lengths(torch.cat([many, torch.zeros(1), torch.ones(3)]), 0, 1)
    assert near.grad is not None
    assert near.grad.item() == pytest.approx((lengths[1] - lengths[0]).item(), rel=1e-5)
    assert near.grad.item() > 0


@pytest.mark.parametrize("beyond", [-9.0, 9.0])
def test_beyond_the_ends_nothing_pulls(beyond: float) -> None:
    x = torch.tensor([beyond, 0.0, 0.0], requires_grad=True)
    smooth_bits(x, -1, 1).backward()
    assert x.grad is not None
    assert x.grad[0] == 0


def test_larger_steps_are_cheaper() -> None:
    weights, step = torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5, requires_grad=True)
    smooth_bits(weights / step, -7, 7).backward()
    assert step.grad is not None
    assert step.grad < 0
