"""Numbers on a grid, against torch's own fake quantization and the bound |x - x^| <= scale / 2."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core import quantization

BITS = st.integers(2, 8)
SEEDS = st.integers(0, 2**31)
SHAPES = st.sampled_from([(7, 11), (5, 3, 3, 3), (1, 1), (4, 1)])


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def away_from_ties(x: Tensor, scale: Tensor | float) -> Tensor:
    """Where x / scale is not so close to k + 1/2 that x / scale and x * (1 / scale) may round differently."""
    return ((x / scale - (x / scale).floor()) - 0.5).abs() > 1e-4


@given(BITS)
def test_a_signed_grid_is_symmetric_and_an_unsigned_one_starts_at_zero(bits: int) -> None:
    low, high = quantization.integer_range(bits, signed=True)
    assert (low, high - low + 1) == (-high, 2**bits - 1)
    assert quantization.integer_range(bits, signed=False) == (0, 2**bits - 1)


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 32])
def test_bits_that_no_grid_has_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"bits must be in \[2, 8\]. Got {bits} instead"):
        quantization.integer_range(bits, signed=True)


@given(SHAPES, SEEDS, BITS, st.sampled_from(["channel", "tensor"]))
def test_no_weight_is_further_than_half_a_step_from_its_code(
    shape: tuple[int, ...], seed: int, bits: int, granularity: str
) -> None:
    weight = normal(shape, seed)
    scale = quantization.symmetric_scale(weight, bits, granularity)  # type: ignore[arg-type]
    codes = quantization.linear_quantize(weight, scale, 0, bits)
    low, high = quantization.integer_range(bits, signed=True)
    assert low <= int(codes.min()) <= int(codes.max()) <= high
    error = (weight - quantization.linear_dequantize(codes, scale)).abs()
    assert (error <= scale * (0.5 + 1e-5)).all()


@given(SEEDS, BITS, st.booleans(), st.floats(0.01, 1), st.integers(0, 3))
def test_inside_the_range_the_error_is_half_a_step_and_outside_the_nearest_end_is_taken(
    seed: int, bits: int, signed: bool, scale: float, zero_point: int
) -> None:
    x = normal((200,), seed) * 3
    q_min, q_max = quantization.integer_range(bits, signed)
    codes = quantization.linear_quantize(x, scale, zero_point, bits, signed)
    rebuilt = quantization.linear_dequantize(codes, scale, zero_point)
    low, high = scale * (q_min - zero_point), scale * (q_max - zero_point)
    inside = (x >= low) & (x <= high)
    assert ((x - rebuilt).abs()[inside] <= scale * (0.5 + 1e-4)).all()
    torch.testing.assert_close(rebuilt[x > high], torch.full_like(rebuilt[x > high], high))
    torch.testing.assert_close(rebuilt[x < low], torch.full_like(rebuilt[x < low], low))


@given(SEEDS, BITS, st.floats(0.01, 1), st.booleans())
def test_per_tensor_rounding_is_torchs(seed: int, bits: int, scale: float, signed: bool) -> None:
    x = normal((300,), seed) * 3
    q_min, q_max = quantization.integer_range(bits, signed)
    expected = torch.fake_quantize_per_tensor_affine(x, scale, 0, q_min, q_max)
    sure = away_from_ties(x, scale)
    codes = quantization.linear_quantize(x, scale, 0, bits, signed)
    torch.testing.assert_close(quantization.linear_dequantize(codes, scale)[sure], expected[sure])
    torch.testing.assert_close(quantization.fake_quantize(x, scale, bits, signed)[sure], expected[sure])


@given(SEEDS, BITS, st.integers(0, 3))
def test_a_zero_point_moves_the_grid_as_torchs_does(seed: int, bits: int, zero_point: int) -> None:
    x = normal((300,), seed)
    q_min, q_max = quantization.integer_range(bits, signed=False)
    expected = torch.fake_quantize_per_tensor_affine(x, 0.2, zero_point, q_min, q_max)
    codes = quantization.linear_quantize(x, 0.2, zero_point, bits, signed=False)
    sure = away_from_ties(x, 0.2)
    torch.testing.assert_close(quantization.linear_dequantize(codes, 0.2, zero_point)[sure], expected[sure])


@given(st.sampled_from([(7, 11), (5, 3, 3, 3)]), SEEDS, BITS)
def test_per_channel_rounding_is_torchs(shape: tuple[int, ...], seed: int, bits: int) -> None:
    weight = normal(shape, seed)
    scale = quantization.symmetric_scale(weight, bits, "channel")
    q_min, q_max = quantization.integer_range(bits, signed=True)
    zeros = torch.zeros(shape[0], dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale.flatten(), zeros, 0, q_min, q_max)
    sure = away_from_ties(weight, scale)
    torch.testing.assert_close(quantization.fake_quantize(weight, scale, bits)[sure], expected[sure])


def test_ties_go_to_the_even_integer() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantization.linear_quantize(x, 1.0, 0, 8).tolist() == [-2, -2, 0, 0, 2, 2]


@given(SEEDS)
def test_two_bits_are_minus_one_zero_and_one(seed: int) -> None:
    weight = normal((6, 50), seed)
    codes = quantization.linear_quantize(weight, quantization.symmetric_scale(weight, 2, "channel"), 0, 2)
    assert set(codes.unique().tolist()) == {-1, 0, 1}


@given(SEEDS, BITS)
def test_the_largest_weight_of_every_channel_lies_on_the_end_of_the_grid(seed: int, bits: int) -> None:
    weight = normal((6, 4, 3, 3), seed)
    scale = quantization.symmetric_scale(weight, bits, "channel")
    codes = quantization.linear_quantize(weight, scale, 0, bits)
    assert scale.shape == (6, 1, 1, 1)
    assert (codes.abs().amax((1, 2, 3)) == quantization.integer_range(bits, signed=True)[1]).all()


def test_one_scale_per_tensor_is_the_largest_of_those_per_channel() -> None:
    weight = torch.randn(6, 4, 3, 3)
    whole = quantization.symmetric_scale(weight, 4, "tensor")
    assert whole.shape == (1, 1, 1, 1)
    assert whole.item() == quantization.symmetric_scale(weight, 4, "channel").max().item()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_channel_of_zeros_stays_zero(granularity: str) -> None:
    weight = torch.randn(4, 9)
    weight[[0, 2]] = 0
    for w in (weight, torch.zeros(4, 9)):
        scale = quantization.symmetric_scale(w, 4, granularity)  # type: ignore[arg-type]
        assert (scale > 0).all()
        assert not quantization.fake_quantize(w, scale, 4)[w == 0].any()


@given(SEEDS, BITS, st.booleans())
def test_a_calibrated_grid_reaches_the_largest_activation(seed: int, bits: int, signed: bool) -> None:
    largest = normal((100,), seed).max().item()
    scale = quantization.activation_scale(largest, bits, signed)
    assert scale * quantization.integer_range(bits, signed)[1] == pytest.approx(largest, rel=1e-6)
    assert quantization.activation_scale(0.0, bits, signed) > 0


@given(SEEDS, BITS, st.floats(0.01, 1), st.booleans())
def test_training_sees_the_values_that_evaluation_sees(seed: int, bits: int, scale: float, signed: bool) -> None:
    x = normal((300,), seed) * 2
    seen = quantization.fake_quantize(x.clone().requires_grad_(), scale, bits, signed)
    assert torch.equal(seen.detach(), quantization.fake_quantize(x, scale, bits, signed))


@given(SEEDS, BITS, st.floats(0.01, 1), st.booleans())
def test_the_gradient_is_one_inside_the_range_and_zero_where_clipped(
    seed: int, bits: int, scale: float, signed: bool
) -> None:
    x = (normal((300,), seed) * 2).requires_grad_()
    quantization.fake_quantize(x, scale, bits, signed).sum().backward()
    q_min, q_max = quantization.integer_range(bits, signed)
    inside = (x > scale * q_min) & (x < scale * q_max)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, inside.float())
