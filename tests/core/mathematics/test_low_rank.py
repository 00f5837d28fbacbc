"""Singular values and factors, against Eckart & Young, numpy and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from core.mathematics import low_rank
from core.mathematics.low_rank import Window
from core.networks.models import product
from core.networks.operations import Node, node

SIZES = st.integers(1, 24)


def linear(channels: int) -> Node:
    return node("it", "linear", ["x"], channels=channels)


def weight_of(m: int, n: int, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


@given(SIZES, SIZES, st.integers(0, 2**31), st.data())
def test_the_squared_error_of_rank_r_is_the_sum_of_the_squares_of_what_was_dropped(
    m: int, n: int, seed: int, draw: st.DataObject
) -> None:
    weight = weight_of(m, n, seed)
    rank = draw.draw(st.integers(1, min(m, n)))
    first, second = low_rank.factorize(low_rank.decompose(weight), rank, (m, n))
    assert (first.shape, second.shape) == ((rank, n), (m, rank))
    error = (weight.double() - second.double() @ first.double()).square().sum().item()
    dropped = np.linalg.svd(weight.double().numpy(), compute_uv=False)[rank:]
    assert error == pytest.approx((dropped**2).sum(), rel=1e-4, abs=1e-8)


@given(SIZES, SIZES, st.integers(0, 2**31), st.data())
def test_no_other_factors_of_that_rank_come_closer(m: int, n: int, seed: int, draw: st.DataObject) -> None:
    weight = weight_of(m, n, seed)
    rank = draw.draw(st.integers(1, min(m, n)))
    first, second = low_rank.factorize(low_rank.decompose(weight), rank, (m, n))
    others = weight_of(rank, n, seed + 1)
    fitted = torch.linalg.lstsq(others.double().T, weight.double().T).solution.T  # the best partner of random factors
    best = (weight - second @ first).square().sum().item()
    assert best <= (weight - (fitted @ others.double())).square().sum().item() + 1e-6


@pytest.mark.parametrize("shape", [(10, 16), (16, 10), (6, 4, 3, 3), (40, 1, 5, 5)])
def test_at_full_rank_the_factors_rebuild_the_weight(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    full_rank = min(shape[0], weight[0].numel())
    first, second = low_rank.factorize(low_rank.decompose(weight), full_rank, shape)
    rebuilt = second.reshape(shape[0], full_rank) @ first.reshape(full_rank, -1)
    torch.testing.assert_close(rebuilt.reshape(shape), weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rank", [1, 3, 9])
@pytest.mark.parametrize("shape", [(12, 30), (9, 2, 3, 3), (9, 2, 5, 5)])
def test_two_factors_in_a_row_do_what_the_rebuilt_layer_does(shape: tuple[int, ...], rank: int) -> None:
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    first, second = low_rank.factorize(low_rank.decompose(weight), rank, shape)
    rebuilt = (second.reshape(shape[0], rank) @ first.reshape(rank, -1)).reshape(shape)
    x = torch.randn(5, shape[1], 8, 8) if len(shape) == 4 else torch.randn(5, shape[1])
    window = {"kernel": shape[2:], "padding": (shape[-1] // 2,) * 4}
    own = node("it", "convolution", ["x"], channels=shape[0], **window) if len(shape) == 4 else linear(shape[0])
    expected = F.conv2d(x, rebuilt, bias, padding="same") if len(shape) == 4 else F.linear(x, rebuilt, bias)
    torch.testing.assert_close(product(own, x, (first, second), bias), expected, atol=1e-4, rtol=1e-4)


def test_the_two_factors_are_equally_large() -> None:
    first, second = low_rank.factorize(low_rank.decompose(torch.randn(20, 30)), 7, (20, 30))
    torch.testing.assert_close(first.norm(dim=1), second.norm(dim=0))


@pytest.mark.parametrize("rank", [0, -1, 11])
def test_a_rank_that_the_weight_does_not_have_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"rank must be in \[1, 10\]. Got {rank} instead"):
        low_rank.factorize(low_rank.decompose(torch.randn(10, 16)), rank, (10, 16))


SPECTRA = st.lists(st.floats(0.01, 100), min_size=1, max_size=40).map(lambda values: sorted(values, reverse=True))


@given(SPECTRA, st.floats(0.01, 1))
def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it(values: list[float], energy: float) -> None:
    rank = low_rank.rank_for_energy(torch.tensor(values), energy)
    squares = np.float32(values).astype(np.float64) ** 2
    kept = [squares[: r + 1].sum() / squares.sum() for r in range(len(values))]
    assert kept[rank - 1] >= energy - 1e-9
    assert rank == 1 or kept[rank - 2] < energy + 1e-9


@pytest.mark.parametrize("shape", [(7, 5), (6, 2, 3, 3)])
def test_a_layer_rebuilt_is_the_product_of_its_factors_and_at_full_rank_itself(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    known = low_rank.decompose(weight)
    for rank in range(1, len(known.singular_values) + 1):
        first, second = low_rank.factorize(known, rank, shape)
        product = torch.einsum("or,ri->oi", second.reshape(-1, rank), first.reshape(rank, -1)).reshape(shape)
        torch.testing.assert_close(low_rank.reconstruct(known, rank, shape), product)
    torch.testing.assert_close(low_rank.reconstruct(known, rank, shape), weight, atol=1e-5, rtol=1e-5)


@given(SPECTRA)
def test_energy_rises_to_one_as_numpy_says(values: list[float]) -> None:
    energy = low_rank.cumulative_energy(torch.tensor(values)).numpy()
    squares = np.float32(values).astype(np.float64) ** 2
    np.testing.assert_allclose(energy, np.cumsum(squares) / squares.sum(), rtol=1e-9)
    assert (np.diff(energy) >= 0).all()
    assert energy[-1] == pytest.approx(1)


def test_all_of_the_energy_needs_every_singular_value_that_is_not_zero() -> None:
    assert low_rank.rank_for_energy(torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0]), 1.0) == 3


@pytest.mark.parametrize("energy", [0, -0.5, 1.01, float("nan")])
def test_an_energy_outside_0_1_is_refused(energy: float) -> None:
    with pytest.raises(ValueError, match="energy must be in"):
        low_rank.rank_for_energy(torch.ones(3), energy)


@given(st.integers(1, 200), st.integers(1, 200))
def test_break_even_is_the_largest_rank_whose_factors_hold_fewer_numbers(m: int, n: int) -> None:
    assert low_rank.break_even_rank(m, n) == max(r for r in range(max(m, n) + 1) if r * (m + n) < m * n)


@pytest.mark.parametrize(
    ("m", "n", "rank"), [(512, 512, 255), (512, 784, 309), (10, 512, 9), (64, 288, 52), (128, 3136, 122), (32, 9, 7)]
)
def test_break_even_of_the_layers_of_the_course(m: int, n: int, rank: int) -> None:
    assert low_rank.break_even_rank(m, n) == rank


@given(st.integers(1, 600), st.data())
def test_a_share_of_k_in_n_keeps_k_singular_values(n: int, draw: st.DataObject) -> None:
    k = draw.draw(st.integers(1, n))
    assert low_rank.rank_from_share(k / n, n) == k
    assert low_rank.rank_from_share(1 - (n - k) / n, n) == k


@pytest.mark.parametrize(
    ("share", "full_rank", "rank"),
    [
        (0.5, 512, 256),
        (0.2, 512, 102),
        (1 - 0.8, 512, 102),
        (1 - 0.9, 10, 1),
        (0.29, 100, 29),
        (1e-9, 512, 1),
        (1, 9, 9),
    ],
)
def test_removing_a_share_keeps_the_floor_of_the_rest_and_at_least_one(share: float, full_rank: int, rank: int) -> None:
    assert low_rank.rank_from_share(share, full_rank) == rank


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_the_condition_number_is_numpys(size: int, seed: int) -> None:
    weight = weight_of(size, size + 3, seed)
    values = low_rank.decompose(weight).singular_values
    assert low_rank.condition_number(values) == pytest.approx(np.linalg.cond(weight.double().numpy()), rel=1e-3)


def test_a_singular_matrix_has_an_infinite_condition_number() -> None:
    assert low_rank.condition_number(torch.tensor([2.0, 1.0, 0.0])) == float("inf")


@given(st.integers(1, 30), st.floats(0.1, 10))
def test_k_equal_singular_values_are_a_stable_and_an_effective_rank_of_k(k: int, value: float) -> None:
    values = torch.tensor([value] * k + [0.0, 0.0])
    assert low_rank.stable_rank(values) == pytest.approx(k)
    assert low_rank.effective_rank(values) == pytest.approx(k)


@given(SPECTRA)
def test_the_smooth_ranks_lie_between_one_and_the_number_of_singular_values(values: list[float]) -> None:
    spectrum = torch.tensor(values)
    stable, effective = low_rank.stable_rank(spectrum), low_rank.effective_rank(spectrum)
    assert 1 - 1e-6 <= stable <= effective + 1e-6 <= len(values) + 1e-5


def signals(n: int, count: int, seed: int, spread: float = 1.0) -> Tensor:
    """Correlated inputs with a mean, some of which never vary."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n, n, generator=generator) * torch.rand(n, generator=generator) ** 4
    x = torch.randn(count, n, generator=generator) @ mixing + spread * torch.randn(n, generator=generator)
    x[:, torch.rand(n, generator=generator) < 0.2] = -0.8  # as the black corners of a picture
    return x


def output_error(weight: Tensor, factors: tuple[Tensor, Tensor], x: Tensor) -> float:
    """E||W x - W_r x||^2, in float64."""
    first, second = (factor.flatten(1).double() for factor in factors)
    return (x.double() @ (weight.flatten(1).double() - second @ first).T).square().sum(1).mean().item()


@given(SIZES, SIZES, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_data_aware_factors_never_lose_more_of_the_output_than_plain_ones(
    m: int, n: int, count: int, seed: int, draw: st.DataObject
) -> None:
    weight, x = weight_of(m, n, seed), signals(n, count, seed)
    rank = draw.draw(st.integers(1, min(m, n)))
    mean, second = low_rank.moments(x, (m, n))
    aware = low_rank.decompose_whitened(weight, mean, second)
    lost = output_error(weight, low_rank.factorize(aware, rank, (m, n)), x)
    plain = output_error(weight, low_rank.factorize(low_rank.decompose(weight), rank, (m, n)), x)
    scale = (x.double() @ weight.double().T).square().sum(1).mean().item()
    assert lost <= plain + 1e-5 * scale
    dropped = aware.singular_values[rank:].double().square().sum().item()
    assert lost == pytest.approx(dropped, rel=1e-3, abs=1e-5 * scale)


@given(SIZES, SIZES, st.integers(1, 60), st.integers(0, 2**31))
def test_data_aware_factors_of_full_rank_rebuild_the_weight_whatever_the_inputs(
    m: int, n: int, count: int, seed: int
) -> None:
    weight, x = weight_of(m, n, seed), signals(n, count, seed)
    aware = low_rank.decompose_whitened(weight, *low_rank.moments(x, (m, n)))
    first, second = low_rank.factorize(aware, min(m, n), (m, n))
    torch.testing.assert_close(second @ first, weight, atol=1e-5, rtol=1e-5)
    assert not low_rank.bias_correction(aware, min(m, n)).any()


def test_inputs_that_are_all_zero_leave_the_plain_factors() -> None:
    weight = weight_of(6, 9, 0)
    mean, second = low_rank.moments(torch.zeros(5, 9), (6, 9))
    aware = low_rank.factorize(low_rank.decompose_whitened(weight, mean, second), 3, (6, 9))
    plain = low_rank.factorize(low_rank.decompose(weight), 3, (6, 9))
    torch.testing.assert_close(aware[1] @ aware[0], plain[1] @ plain[0])


def test_no_other_factors_of_that_rank_lose_less_of_the_output() -> None:
    weight, x = weight_of(12, 15, 1), signals(15, 40, 1)
    aware = low_rank.decompose_whitened(weight, *low_rank.moments(x, (12, 15)))
    best = output_error(weight, low_rank.factorize(aware, 4, (12, 15)), x)
    values, vectors = torch.linalg.eigh((x.T @ x / len(x)).double())  # the symmetric root as another way
    root = vectors @ (values.clamp_min(1e-9).sqrt()[:, None] * vectors.T)
    left, s, right = torch.linalg.svd(weight.double() @ root, full_matrices=False)
    other = (left[:, :4] * s[:4]) @ right[:4] @ torch.linalg.inv(root)
    assert best == pytest.approx((x.double() @ (weight.double() - other).T).square().sum(1).mean().item(), rel=1e-4)


def test_the_bias_gets_what_the_dropped_terms_add_on_average() -> None:
    weight, x = weight_of(10, 12, 2), signals(12, 30, 2, spread=3.0)
    aware = low_rank.decompose_whitened(weight, *low_rank.moments(x, (10, 12)))
    first, second = low_rank.factorize(aware, 3, (10, 12))
    lost = x @ (weight - second @ first).T
    torch.testing.assert_close(low_rank.bias_correction(aware, 3), lost.mean(0), atol=1e-4, rtol=1e-4)
    assert not low_rank.bias_correction(low_rank.decompose(weight), 3).any()


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 2, 5, 5)])
@pytest.mark.parametrize("count", [300, 7])
def test_the_moments_of_a_convolution_are_those_of_its_patches(shape: tuple[int, ...], count: int) -> None:
    x, weight = torch.randn(count, shape[1], 6, 6), torch.randn(shape)
    mean, second = low_rank.moments(x, shape, Window(shape[2:], padding=(shape[-1] // 2,) * 4))
    y = F.conv2d(x, weight, padding=shape[-1] // 2)
    matrix = weight.flatten(1).double()
    torch.testing.assert_close((matrix @ mean).float(), y.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    power = (matrix @ second * matrix).sum(1).float()  # E[y^2], channel by channel
    torch.testing.assert_close(power, y.square().mean((0, 2, 3)), atol=1e-3, rtol=1e-4)


@given(
    groups=st.sampled_from([1, 2, 4]), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)), padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)), rows=st.integers(1, 3), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_the_moments_of_any_convolution_are_those_of_the_patches_of_each_of_its_groups(
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    rows: int,
    seed: int,
) -> None:
    """E[y] = W E[x] and E[y^2] = diag(W E[x x^T] W^T) of what each group puts out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 4, 7, 8, generator=generator) + 0.5
    weight = torch.randn(rows * groups, 4 // groups, *kernel, generator=generator)
    mean, second = low_rank.moments(x, tuple(weight.shape), Window(kernel, stride, padding, dilation, groups))
    above, left, below, right = padding
    y = F.conv2d(F.pad(x, (left, right, above, below)), weight, None, stride, 0, dilation, groups).double()
    d = weight[0].numel()
    assert (mean.shape, second.shape) == (((d,), (d, d)) if groups == 1 else ((groups, d), (groups, d, d)))
    matrix = weight.double().reshape(groups, rows, d)
    first = torch.einsum("grd,gd->gr", matrix, mean.reshape(groups, d)).flatten()
    torch.testing.assert_close(first, y.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)
    power = torch.einsum("grd,gde,gre->gr", matrix, second.reshape(groups, d, d), matrix).flatten()
    torch.testing.assert_close(power, y.square().mean((0, 2, 3)), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("m", "n"), [(300, 300), (128, 1000), (500, 40)])
def test_a_random_matrix_has_the_singular_values_of_marchenko_and_pastur(m: int, n: int) -> None:
    measured = torch.linalg.svdvals(0.3 * weight_of(m, n, 0))
    law = low_rank.random_singular_values(m, n, 0.09)
    assert len(law) == min(m, n)
    assert (law.diff() <= 0).all()
    assert (law - measured).abs().max() < 0.03 * measured[0]
    assert law.square().sum().item() == pytest.approx(m * n * 0.09, rel=0.01)


def test_a_random_512_x_512_matrix_needs_rank_312_for_95_percent() -> None:
    assert low_rank.rank_for_energy(low_rank.random_singular_values(512, 512, 1.0), 0.95) == pytest.approx(312, abs=2)
