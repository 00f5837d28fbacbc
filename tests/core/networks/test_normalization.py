"""Batch normalization by rows of pixels is torch's, outputs, gradients and running statistics."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from core.networks.normalization import EPSILON, LANES, MOMENTUM, normalize

Found = list[Tensor]


def drawn(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x with means and deviations that differ by channel, channels last; scale; shift."""
    channels = shape[1]
    spread, mean = torch.rand(channels, 1, 1) + 0.1, 3 * torch.randn(channels, 1, 1)
    x = (spread * torch.randn(shape) + mean).to(dtype).contiguous(memory_format=torch.channels_last)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    return x, torch.randn(channels, dtype=exact), torch.randn(channels, dtype=exact)


def learnt(ours: bool, x: Tensor, scale: Tensor, shift: Tensor, onto: Tensor) -> Found:
    """Output, gradients of x, scale and shift, running mean and variance after one batch."""
    own = [tensor.detach().clone().requires_grad_() for tensor in (x, scale, shift)]
    running = torch.zeros_like(scale), torch.ones_like(scale)
    if ours:
        y = normalize(own[0], *running, own[1], own[2], training=True)
    else:
        y = F.batch_norm(own[0], *running, own[1], own[2], True, MOMENTUM, EPSILON)
    (y * onto).sum().backward()
    return [y.detach(), *(tensor.grad for tensor in own if tensor.grad is not None), *running]


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5))
def test_any_shape_gives_what_torch_gives(n: int, channels: int, height: int, width: int) -> None:
    if n * height * width == 1:
        return  # torch refuses a variance of one number
    x, scale, shift = drawn((n, channels, height, width))
    onto = torch.randn_like(x)
    for found, expected in zip(learnt(True, x, scale, shift, onto), learnt(False, x, scale, shift, onto), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [12, 20, LANES])
def test_a_layer_of_a_small_network_gives_what_torch_gives(dtype: torch.dtype, channels: int) -> None:
    x, scale, shift = drawn((64, channels, 28, 28), dtype)
    onto = torch.randn_like(x)
    pairs = zip(learnt(True, x, scale, shift, onto), learnt(False, x, scale, shift, onto), strict=True)
    for found, expected in pairs:
        size = expected.abs().max().item()
        assert found.dtype == expected.dtype
        assert found.stride() == expected.stride()
        torch.testing.assert_close(
            found.float(), expected.float(), rtol=0, atol=size * (1e-4 if dtype == torch.float32 else 0.02)
        )


def test_the_running_statistics_count_where_nothing_is_trained() -> None:
    x, scale, shift = drawn((4, 12, 5, 5))
    mean, variance = torch.randn(12, dtype=torch.float64), torch.rand(12, dtype=torch.float64) + 0.5
    expected = F.batch_norm(x, mean, variance, scale, shift, False, MOMENTUM, EPSILON)
    assert torch.equal(normalize(x, mean.clone(), variance.clone(), scale, shift, training=False), expected)
