"""Rounding by error and rate: GPTQ where a bit is worth nothing, never worse than what it began with, and fewer bits
the more a bit is worth."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.mathematics import coding, quantization
from core.mathematics.quantization import Compensation, Granularity, Grid, Symmetry
from core.mathematics.rate_rounding import codes_of, objective, rate_rounding

SEEDS, BITS = st.integers(0, 1000), st.integers(2, 6)
LAMBDAS = st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2])
GRIDS = st.tuples(st.sampled_from(["channel", "tensor"]), st.sampled_from(["symmetric", "asymmetric"]))


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(size: int, seed: int) -> Compensation:
    """Of inputs that go up and down together."""
    x = (normal((4 * size, size // 2 + 1), seed) @ normal((size // 2 + 1, size), seed + 1)).double()
    return quantization.compensation(x.T @ x / len(x) + 0.1 * torch.eye(size).double())


def given_weight(seed: int, sparse: bool = False, size: int = 36) -> tuple[Tensor, Tensor | None]:
    weight = normal((8, size), seed)
    kept = normal((8, size), seed + 5) > 0.3 if sparse else None
    return (weight if kept is None else weight * kept), kept


def bits_of(rounded: Tensor, grid: Grid) -> float:
    return coding.entropy(codes_of(rounded, grid.scale))


@given(SEEDS, BITS, GRIDS, st.booleans())
def test_where_a_bit_is_worth_nothing_it_is_gptq(
    seed: int, bits: int, how: tuple[Granularity, Symmetry], sparse: bool
) -> None:
    (weight, kept), known = given_weight(seed, sparse), inputs(36, seed)
    grid = quantization.weight_grid(weight, bits, *how)
    expected = quantization.gptq(weight, grid, bits, known, kept)
    assert torch.equal(rate_rounding(weight, grid, bits, [known], 0.0, kept), expected)


@given(SEEDS, BITS, GRIDS, st.booleans(), LAMBDAS)
def test_it_is_never_worse_than_nearest_rounding_and_gptq_and_stays_on_the_grid(
    seed: int, bits: int, how: tuple[Granularity, Symmetry], sparse: bool, rate_weight: float
) -> None:
    (weight, kept), known = given_weight(seed, sparse), [inputs(36, seed)]
    grid = quantization.weight_grid(weight, bits, *how)
    found = rate_rounding(weight, grid, bits, known, rate_weight, kept)
    again = quantization.fake_quantize(found, grid.scale, bits, grid.zero_point is None, grid.zero_point)
    torch.testing.assert_close(found, again)
    assert kept is None or not found[~kept].any()
    nearest = quantization.fake_quantize(weight, grid.scale, bits, grid.zero_point is None, grid.zero_point)
    for other in (nearest, quantization.gptq(weight, grid, bits, known[0], kept)):
        least = objective(weight, other, grid.scale, known, rate_weight)
        assert objective(weight, found, grid.scale, known, rate_weight) <= least


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_more_a_bit_is_worth_the_fewer_there_are_and_the_larger_the_error(bits: int, sparse: bool) -> None:
    (weight, kept), known = given_weight(3, sparse, 128), [inputs(128, 4)]
    grid = quantization.weight_grid(weight, bits, "channel", "symmetric", "mse")
    found = [rate_rounding(weight, grid, bits, known, own, kept) for own in (0, 1e-5, 4e-5, 2e-4)]
    spent = [bits_of(each, grid) for each in found]
    lost = [quantization.output_energy(weight - each, known) for each in found]
    assert all(after <= 1.02 * before for before, after in pairwise(spent))
    assert all(after >= before for before, after in pairwise(lost[1:]))  # the first is GPTQ
    assert spent[-1] < 0.8 * spent[0]


def test_weights_on_their_grid_stay_where_a_bit_is_worth_little() -> None:
    weight, _ = given_weight(1)
    grid = quantization.weight_grid(weight, 4)
    trained = quantization.fake_quantize(weight, grid.scale, 4)
    assert torch.equal(rate_rounding(trained, grid, 4, [inputs(36, 1)], 1e-9), trained)


@given(SEEDS, LAMBDAS)
def test_groups_of_rows_have_inputs_of_their_own(seed: int, rate_weight: float) -> None:
    """Where there is one group it is the whole; with more, each error counts by its own inputs."""
    weight, _ = given_weight(seed)
    known = [inputs(36, seed + place) for place in range(4)]
    grid = quantization.weight_grid(weight, 4)
    parts = [
        quantization.gptq(rows, Grid(step, None), 4, own)
        for rows, step, own in zip(weight.chunk(4), grid.scale.chunk(4), known, strict=True)
    ]
    assert torch.equal(rate_rounding(weight, grid, 4, known, 0.0), torch.cat(parts))
    found = rate_rounding(weight, grid, 4, known, rate_weight)
    assert objective(weight, found, grid.scale, known, rate_weight) <= objective(
        weight, torch.cat(parts), grid.scale, known, rate_weight
    )


@given(SEEDS)
def test_the_energy_of_outputs_is_that_of_the_inputs_seen(seed: int) -> None:
    weight, x = normal((5, 12), seed), normal((400, 12), seed + 1).double()
    second = x.T @ x / len(x)
    damped = second + quantization.DAMPING * second.diagonal().mean() * torch.eye(12)
    expected = ((weight.double() @ damped) * weight.double()).sum()
    assert quantization.output_energy(weight, [quantization.compensation(second)]) == pytest.approx(
        float(expected), rel=1e-3
    )
