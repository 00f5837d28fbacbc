"""Numbers on a grid, against torch's own fake quantization and the bound |x - x^| <= scale / 2."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.mathematics import low_rank, pruning, quantization
from core.mathematics.quantization import Granularity, Grid, Symmetry
from core.mathematics.rounding import to_half
from core.networks.encodings.integer_grid import LearnedGrid
from core.networks.graph import Layer
from core.networks.operations import node
from core.networks.trainable import CompressedLayer

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
    scale = quantization.weight_grid(weight, bits, granularity).scale  # type: ignore[arg-type]
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
    scale = quantization.weight_grid(weight, bits, "channel").scale
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
    codes = quantization.linear_quantize(weight, quantization.weight_grid(weight, 2, "channel").scale, 0, 2)
    assert set(codes.unique().tolist()) == {-1, 0, 1}


@given(SEEDS, BITS)
def test_the_largest_weight_of_every_channel_lies_on_the_end_of_the_grid(seed: int, bits: int) -> None:
    weight = normal((6, 4, 3, 3), seed)
    scale = quantization.weight_grid(weight, bits, "channel").scale
    codes = quantization.linear_quantize(weight, scale, 0, bits)
    assert scale.shape == (6, 1, 1, 1)
    assert (codes.abs().amax((1, 2, 3)) == quantization.integer_range(bits, signed=True)[1]).all()


def test_one_scale_per_tensor_is_the_largest_of_those_per_channel() -> None:
    weight = torch.randn(6, 4, 3, 3)
    whole = quantization.weight_grid(weight, 4, "tensor").scale
    assert whole.shape == (1, 1, 1, 1)
    assert whole.item() == quantization.weight_grid(weight, 4, "channel").scale.max().item()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_channel_of_zeros_stays_zero(granularity: str) -> None:
    weight = torch.randn(4, 9)
    weight[[0, 2]] = 0
    for w in (weight, torch.zeros(4, 9)):
        scale = quantization.weight_grid(w, 4, granularity).scale  # type: ignore[arg-type]
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


# Grids with a zero point, and clipped ones.

GRIDS = st.tuples(st.sampled_from(["channel", "tensor"]), st.sampled_from(["symmetric", "asymmetric"]))
CLIPS = st.sampled_from(["minmax", "mse"])


def rebuilt(weight: Tensor, grid: Grid, bits: int) -> Tensor:
    """By the two functions that a student finds under these names."""
    moved = 0 if grid.zero_point is None else grid.zero_point
    codes = quantization.linear_quantize(weight, grid.scale, moved, bits, signed=grid.zero_point is None)
    return quantization.linear_dequantize(codes, grid.scale, moved)


@given(SHAPES, SEEDS, BITS, GRIDS, CLIPS, st.floats(-3, 3))
def test_inside_every_grid_the_error_is_at_most_half_a_step_and_zero_stays_zero(
    shape: tuple[int, ...], seed: int, bits: int, how: tuple[Granularity, Symmetry], clip: str, shift: float
) -> None:
    weight = normal(shape, seed) + shift
    weight[0].flatten()[0] = 0
    grid = quantization.weight_grid(weight, bits, *how, clip)  # type: ignore[arg-type]
    q_min, q_max = quantization.integer_range(bits, signed=grid.zero_point is None)
    moved = torch.zeros_like(grid.scale) if grid.zero_point is None else grid.zero_point
    assert (grid.scale > 0).all()
    assert torch.equal(moved, moved.round().clamp(q_min, q_max))
    low, high = grid.scale * (q_min - moved), grid.scale * (q_max - moved)
    inside = (weight >= low) & (weight <= high)
    near = rebuilt(weight, grid, bits)
    assert ((weight - near).abs() <= grid.scale * (0.5 + 1e-4))[inside].all()
    assert not near[weight == 0].any()
    if clip == "minmax":  # the rounding of the zero point may cut half a step off
        assert ((weight - near).abs() <= grid.scale * (1 + 1e-4)).all()


@given(st.sampled_from([(7, 11), (5, 3, 3, 3)]), SEEDS, BITS, CLIPS)
def test_rounding_with_zero_points_is_torchs(shape: tuple[int, ...], seed: int, bits: int, clip: str) -> None:
    weight = normal(shape, seed) + 0.5
    grid = quantization.weight_grid(weight, bits, "channel", "asymmetric", clip)  # type: ignore[arg-type]
    assert grid.zero_point is not None
    points = grid.zero_point.flatten().to(torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, grid.scale.flatten(), points, 0, 0, 2**bits - 1)
    sure = away_from_ties(weight, grid.scale)
    seen = quantization.fake_quantize(weight, grid.scale, bits, False, grid.zero_point)
    torch.testing.assert_close(seen[sure], expected[sure])
    torch.testing.assert_close(rebuilt(weight, grid, bits), seen)


@given(SEEDS, BITS)
def test_the_asymmetric_grid_is_that_of_torchs_observer(seed: int, bits: int) -> None:
    from torch.ao.quantization.observer import PerChannelMinMaxObserver

    weight = normal((6, 40), seed) + 0.3
    observer = PerChannelMinMaxObserver(dtype=torch.quint8, quant_min=0, quant_max=2**bits - 1)
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    grid = quantization.weight_grid(weight, bits, "channel", "asymmetric")
    assert grid.zero_point is not None
    torch.testing.assert_close(grid.scale.flatten(), scale)
    assert torch.equal(grid.zero_point.flatten().int(), zero_point.int())


@given(SHAPES, SEEDS, BITS, GRIDS)
def test_clipping_has_the_least_squared_error_of_all_shares_in_every_channel(
    shape: tuple[int, ...], seed: int, bits: int, how: tuple[Granularity, Symmetry]
) -> None:
    weight = normal(shape, seed)
    others = tuple(range(how[0] == "channel", weight.dim()))

    def error(grid: Grid) -> Tensor:
        return (weight - rebuilt(weight, grid, bits)).square().sum(others)

    low, high = weight.amin(others, keepdim=True), weight.amax(others, keepdim=True)
    clipped = error(quantization.weight_grid(weight, bits, *how, "mse"))
    for share in quantization.CLIP_SHARES:
        tried = error(quantization.scale_and_zero_point(share * low, share * high, bits, how[1]))
        assert (clipped <= tried * (1 + 1e-5)).all()


@given(SEEDS, st.integers(2, 5), st.booleans())
def test_a_clipped_activation_has_the_least_error_of_all_shares(seed: int, bits: int, signed: bool) -> None:
    x = normal((20_000,), seed)
    x = x if signed else x.relu()
    largest = x.abs().max().item()
    counts = torch.histc(x.abs(), 2048, 0, largest).numpy()

    def error(end: float) -> float:
        scale = quantization.activation_scale(end, bits, signed)
        return (x - quantization.fake_quantize(x, scale, bits, signed)).square().mean().item()

    chosen = error(quantization.clipped_activation(counts, largest, bits, signed))
    assert chosen <= 1.01 * min(error(share * largest) for share in quantization.CLIP_SHARES)
    assert chosen < error(largest)
    assert quantization.clipped_activation(counts * 0, 0.0, bits, signed) == 0


@given(SEEDS, st.integers(2, 4), st.integers(6, 40), st.booleans())
def test_a_histogram_stands_for_numbers_in_the_middles_of_its_bins(
    seed: int, bits: int, bins: int, signed: bool
) -> None:
    """So that the chosen share is the best for just these numbers; those of the first bin are zeros."""
    counts = np.random.default_rng(seed).integers(1, 9, bins)
    middles = (np.arange(bins) + 0.5) * (3.0 / bins)
    middles[0] = 0
    x = torch.from_numpy(np.repeat(middles, counts)).float()

    def error(share: float) -> float:
        scale = quantization.activation_scale(share * 3.0, bits, signed)
        return float((x - quantization.fake_quantize(x, scale, bits, signed)).double().square().sum())

    chosen = quantization.clipped_activation(counts, 3.0, bits, signed)
    assert error(chosen / 3.0) == pytest.approx(min(map(error, quantization.CLIP_SHARES)), rel=1e-6)


# Learned steps.


@given(SEEDS, BITS, st.floats(0.05, 1), st.booleans())
def test_the_gradient_of_a_learned_step_is_torchs(seed: int, bits: int, step: float, signed: bool) -> None:
    x = normal((300,), seed) * 2
    q_min, q_max = quantization.integer_range(bits, signed)
    codes = x / step  # torch counts what is at most half a step outside as inside
    outside = ((codes > q_max) & (codes < q_max + 0.51)) | ((codes < q_min) & (codes > q_min - 0.51))
    x = x[away_from_ties(x, step) & ~outside]
    scale, other = (torch.tensor([step], requires_grad=True) for _ in range(2))
    learned = quantization.learned_step(scale, x.numel(), bits, signed)
    (quantization.fake_quantize(x, learned, bits, signed) * x).sum().backward()
    factor = (x.numel() * q_max) ** -0.5
    oracle = torch._fake_quantize_learnable_per_tensor_affine(x, other, torch.zeros(1), q_min, q_max, factor)
    (oracle * x).sum().backward()
    torch.testing.assert_close(scale.grad, other.grad, rtol=1e-3, atol=1e-4)


@given(SEEDS, BITS)
def test_where_rows_have_steps_of_their_own_the_gradient_of_each_is_torchs_of_that_row(seed: int, bits: int) -> None:
    whole = Layer(node("fc1", "linear", ["flatten"], channels=5), (5, 40), (40,))
    layer = CompressedLayer(whole, (normal((5, 40), seed),), torch.zeros(5), torch.arange(40))
    (own,) = layer.weights
    q_min, q_max = quantization.integer_range(bits, signed=True)
    steps = to_half(quantization.weight_grid(own.weight.detach(), bits, clip="mse").scale * 0.9)
    codes = own.weight.detach() / steps
    inside = codes.abs() < q_max - 0.01  # torch counts what is at most half a step outside as inside
    own.weight.data.mul_(inside)
    own.encoder = LearnedGrid(bits, Grid(steps.clone(), None))
    assert layer.bits == bits
    (layer.effective_weights()[0] * 3).square().sum().backward()
    other = nn.Parameter(steps.flatten().clone())
    factor = (40 * q_max) ** -0.5
    oracle = torch._fake_quantize_learnable_per_channel_affine(
        own.weight.detach(), other, torch.zeros(5), 0, q_min, q_max, factor
    )
    (oracle * 3).square().sum().backward()
    torch.testing.assert_close(own.encoder.scale.grad.flatten(), other.grad, rtol=1e-3, atol=1e-4)


@given(SEEDS, BITS, st.sampled_from(["channel", "tensor"]), st.floats(0, 1))
def test_a_learned_step_begins_at_twice_the_mean_of_what_is_not_zero(
    seed: int, bits: int, granularity: Granularity, sparsity: float
) -> None:
    weight = normal((6, 3, 3, 3), seed)
    weight = weight * pruning.keep_mask(weight.abs(), sparsity)
    weight[2] = 0
    scale = quantization.weight_grid(weight, bits, granularity).scale
    found = quantization.first_step(weight, scale, bits)
    assert found.shape == scale.shape
    rows = [weight] if granularity == "tensor" else list(weight)
    for row, old, new in zip(rows, scale.flatten(), found.flatten(), strict=True):
        kept = row[row != 0].abs()
        expected = 2 * kept.mean() / quantization.integer_range(bits, True)[1] ** 0.5 if len(kept) else old
        torch.testing.assert_close(new, torch.as_tensor(expected))
    assert (found > 0).all()


@given(st.floats(1e-6, 10), st.integers(1, 100_000), BITS)
def test_outside_of_training_a_learned_step_is_the_step_itself(step: float, count: int, bits: int) -> None:
    scale = torch.tensor(step, requires_grad=True)
    with torch.no_grad():
        assert quantization.learned_step(scale, count, bits, signed=True) is scale


# Rounding together, and biases.


def correlated(size: int, seed: int) -> Tensor:
    """E[x x^T] of inputs that go up and down together, float64."""
    x = normal((4 * size, size), seed).double() @ normal((size, size), seed + 1).double()
    return x.T @ x / len(x)


def optimal_brain_quantizer(weight: Tensor, second: Tensor, to_grid: Callable[[Tensor], Tensor]) -> Tensor:
    """One row after the other, without any factorization: after each weight the free ones move to where the error is
    least, which is solved anew."""
    damped = second + quantization.DAMPING * second.diagonal().mean() * torch.eye(len(second)).double()
    order = second.diagonal().argsort(descending=True, stable=True).tolist()
    found = weight.double().clone()
    for place, column in enumerate(order):
        free = order[place + 1 :]
        error = to_grid(found[:, [column]]) - found[:, [column]]
        found[:, [column]] += error
        if free:
            solved = torch.linalg.solve(damped[free][:, free], damped[free][:, [column]])
            found[:, free] -= error @ solved.T
    return found


@given(SEEDS, st.integers(2, 5), st.integers(2, 12))
def test_gptq_is_the_optimal_brain_quantizer(seed: int, bits: int, size: int) -> None:
    weight, second = normal((4, size), seed), correlated(size, seed)
    grid = quantization.weight_grid(weight, bits, "tensor")
    found = quantization.gptq(weight, grid, bits, quantization.compensation(second))
    expected = optimal_brain_quantizer(
        weight, second, lambda w: quantization.fake_quantize(w.float(), grid.scale, bits).double()
    )
    same = (found - expected).abs() < 1e-4
    assert same.float().mean() > 0.9  # a weight near a boundary may fall to either side, and others with it


@given(SEEDS, BITS, GRIDS, st.booleans())
def test_gptq_stays_on_the_grid_and_leaves_pruned_weights_at_zero(
    seed: int, bits: int, how: tuple[Granularity, Symmetry], sparse: bool
) -> None:
    kept = normal((6, 4, 3, 3), seed + 1) > 0 if sparse else None
    weight = normal((6, 4, 3, 3), seed)
    weight = weight if kept is None else weight * kept
    grid = quantization.weight_grid(weight, bits, *how)
    found = quantization.gptq(weight, grid, bits, quantization.compensation(correlated(36, seed)), kept)
    torch.testing.assert_close(found, rebuilt(found, grid, bits))
    assert kept is None or not found[~kept].any()


@given(SEEDS, st.integers(2, 8))
def test_without_correlation_gptq_takes_the_nearest_point(seed: int, bits: int) -> None:
    weight, second = normal((5, 30), seed), torch.diag(normal((30,), seed).double().square() + 0.1)
    grid = quantization.weight_grid(weight, bits)
    found = quantization.gptq(weight, grid, bits, quantization.compensation(second))
    assert torch.equal(found, quantization.fake_quantize(weight, grid.scale, bits))


@pytest.mark.parametrize("size", [60, 300])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_changes_the_outputs_less_than_the_nearest_points_do(bits: int, size: int) -> None:
    weight, second = normal((20, size), 1), correlated(size, 2)
    grid = quantization.weight_grid(weight, bits, "channel", "symmetric", "mse")

    def changed(other: Tensor) -> float:
        gap = (weight - other).double()
        return float(((gap @ second) * gap).sum())

    found = quantization.gptq(weight, grid, bits, quantization.compensation(second))
    assert changed(found) < 0.8 * changed(quantization.fake_quantize(weight, grid.scale, bits))


def test_gptq_needs_no_input_that_varies() -> None:
    weight, second = normal((5, 8), 3), torch.zeros(8, 8).double()
    grid = quantization.weight_grid(weight, 4)
    found = quantization.gptq(weight, grid, 4, quantization.compensation(second))
    assert torch.equal(found, quantization.fake_quantize(weight, grid.scale, 4))


@given(SEEDS, BITS)
def test_corrected_outputs_keep_their_average(seed: int, bits: int) -> None:
    weight, x = normal((7, 12), seed), normal((500, 12), seed + 1).relu()
    mean, _ = low_rank.moments(x, (7, 12))
    near = quantization.fake_quantize(weight, quantization.weight_grid(weight, bits).scale, bits)
    bias = quantization.bias_correction(weight, near, mean)
    torch.testing.assert_close((x @ near.T + bias).mean(0), (x @ weight.T).mean(0), rtol=1e-4, atol=1e-4)
