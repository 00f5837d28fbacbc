"""Masks: exact counts, ties included, and the same weights as torch.nn.utils.prune takes."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import prune

from core.mathematics import pruning

SHARES = st.floats(0, 1)
TIED = arrays("float32", array_shapes(max_dims=3, max_side=9), elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, math.inf]))


@given(TIED, SHARES)
def test_exactly_the_rounded_share_goes_ties_included(scores: NDArray, sparsity: float) -> None:
    mask = pruning.keep_mask(torch.from_numpy(scores), sparsity)
    assert mask.dtype == torch.bool
    assert mask.shape == scores.shape
    assert int((~mask).sum()) == round(sparsity * scores.size)


@given(TIED, SHARES)
def test_nothing_that_goes_scores_higher_than_what_stays(scores: NDArray, sparsity: float) -> None:
    mask = pruning.keep_mask(torch.from_numpy(scores), sparsity).numpy()
    assert mask.all() or not mask.any() or scores[~mask].max() <= scores[mask].min()


@given(st.integers(1, 40), SHARES)
def test_of_equal_scores_the_first_go(count: int, sparsity: float) -> None:
    drop = round(sparsity * count)
    assert pruning.keep_mask(torch.ones(count), sparsity).tolist() == [False] * drop + [True] * (count - drop)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (7, 5), (3, 2, 3, 3)])
def test_sparsity_zero_keeps_all_and_sparsity_one_keeps_none(shape: tuple[int, ...]) -> None:
    scores = torch.randn(shape)
    assert pruning.keep_mask(scores, 0).all()
    assert not pruning.keep_mask(scores, 1).any()


@pytest.mark.parametrize("sparsity", [-0.01, 1.01, math.nan])
def test_a_sparsity_outside_0_1_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\]"):
        pruning.keep_mask(torch.ones(3), sparsity)


@pytest.mark.parametrize("sparsity", [0, 0.5, 1])
def test_scores_that_are_no_numbers_are_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        pruning.keep_mask(torch.tensor([1.0, math.nan, 2.0]), sparsity)


@given(TIED)
def test_lamp_is_the_square_over_those_of_its_tensor_that_are_not_smaller(weight: NDArray) -> None:
    weight = weight[np.isfinite(weight)]
    scores = pruning.lamp(torch.from_numpy(weight)).tolist()
    for value, score in zip(weight.tolist(), scores, strict=True):
        not_smaller = sum(other**2 for other in weight.tolist() if other**2 >= value**2)
        assert score == pytest.approx(value**2 / not_smaller if not_smaller else 0.0)


def test_lamp_never_empties_a_layer_that_magnitude_would() -> None:
    weights = {"large": torch.randn(30, 30), "small": torch.randn(5, 5) / 100}
    kept = {
        name: pruning.keep_masks({layer: score(weight) for layer, weight in weights.items()}, 0.95)["small"].sum()
        for name, score in (("magnitude", pruning.magnitude), ("lamp", pruning.lamp))
    }
    assert kept["magnitude"] == 0 < kept["lamp"]


@pytest.mark.parametrize(
    "score", [pruning.magnitude, pruning.lamp, lambda w: pruning.activation(w, w.new_ones(w.shape[1]))]
)
@given(sparsity=st.sampled_from([0.0, 0.3, 1.0]), rows=st.integers(1, 4), same=st.booleans())
def test_with_every_score_the_endpoints_are_exact(score: Any, sparsity: float, rows: int, same: bool) -> None:
    weight = torch.ones(rows, 5) if same else torch.randn(rows, 5)
    mask = pruning.keep_mask(score(weight), sparsity)
    assert int((~mask).sum()) == round(sparsity * weight.numel())


def test_what_meets_nothing_goes_first() -> None:
    weight, rms = torch.tensor([[5.0, 0.1], [3.0, -0.2]]), torch.tensor([[0.0, 1.0]])
    assert torch.equal(pruning.activation(weight, rms), torch.tensor([[0.0, 0.1], [0.0, 0.2]]))


def test_the_schedule_begins_with_nothing_ends_with_all_and_goes_fastest_first() -> None:
    assert pruning.cubic(0) == 0
    assert pruning.cubic(1) == pruning.cubic(1.5) == 1
    steps = [pruning.cubic(t / 10) for t in range(11)]
    gains = [after - before for before, after in pairwise(steps)]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0
    assert pruning.cubic(0.5) == pytest.approx(0.875)


def distinct(*shape: int, seed: int) -> torch.Tensor:
    """Weights of either sign, no two of the same magnitude."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape)
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return ((torch.randperm(count, generator=generator) + 1) * signs).float().reshape(shape) / count


@given(SHARES, st.integers(0, 1000))
def test_one_layer_loses_the_weights_that_torch_prunes(sparsity: float, seed: int) -> None:
    module = nn.Linear(9, 7)
    module.weight.data = distinct(7, 9, seed=seed)
    mask = pruning.keep_mask(pruning.magnitude(module.weight.detach()), sparsity)
    prune.l1_unstructured(module, "weight", amount=round(sparsity * 63))
    assert torch.equal(mask, module.weight_mask.bool())


@given(SHARES, st.integers(0, 1000))
def test_several_layers_share_the_threshold_that_torch_takes(sparsity: float, seed: int) -> None:
    values = distinct(4 * 1 * 9 + 6 * 8, seed=seed)
    conv, linear = nn.Conv2d(1, 4, 3), nn.Linear(8, 6)
    conv.weight.data, linear.weight.data = values[:36].reshape(4, 1, 3, 3), values[36:].reshape(6, 8)
    masks = pruning.keep_masks(
        {"conv": pruning.magnitude(conv.weight.detach()), "linear": pruning.magnitude(linear.weight.detach())}, sparsity
    )
    parameters = [(conv, "weight"), (linear, "weight")]
    prune.global_unstructured(parameters, prune.L1Unstructured, amount=round(sparsity * 84))
    assert torch.equal(masks["conv"], conv.weight_mask.bool())
    assert torch.equal(masks["linear"], linear.weight_mask.bool())


def test_one_threshold_takes_more_where_the_weights_are_small() -> None:
    masks = pruning.keep_masks({"small": torch.rand(100), "large": torch.rand(100) + 1}, 0.5)
    assert not masks["small"].any()
    assert masks["large"].all()
