"""Lambda rises where there is accuracy to spend, falls where there is none, and the smallest that reached is kept."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.measuring.steering import BEGIN, CYCLES, LEAST_CYCLE, MOST_LOWERED, MOST_RAISED, UNCHANGED, Rate
from core.networks import compression, families
from core.networks.compression import PRUNING_SHARE
from core.techniques.fine_tuning import STEERED_FROM


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(1e-3, 10))
def test_lambda_moves_with_the_accuracy_above_the_floor_and_never_far(
    accuracy: float, floor: float, weight: float
) -> None:
    rate = Rate(weight, floor)
    rate.steer(accuracy)
    assert (rate.weight > weight) == (accuracy > floor) or rate.weight == pytest.approx(weight)
    assert weight / MOST_LOWERED * 0.999 <= rate.weight <= weight * MOST_RAISED * 1.001


def test_without_a_floor_lambda_stays() -> None:
    rate = Rate(0.3)
    rate.steer(1.0)
    assert (rate.weight, rate.ends(0, 20)) == (0.3, [])
    assert Rate(0.0, 0.9).weight == BEGIN
    assert not Rate().counts


@given(st.integers(0, 50), st.integers(1, 60))
def test_cycles_fill_the_second_half_and_none_is_cut_short(first: int, more: int) -> None:
    ends = Rate(floor=0.9).ends(first, first + more)
    whole = [first, *ends, first + more]
    assert whole == sorted(whole)
    assert all(end >= first + UNCHANGED * more - 1 for end in ends)
    assert len(ends) <= CYCLES + 1
    assert all(later - end >= LEAST_CYCLE for end, later in zip(ends, whole[2:], strict=False))


@pytest.mark.parametrize(("schedule", "share"), [("one-shot", 0.0), ("iterative", PRUNING_SHARE)])
def test_a_floor_is_refused_where_a_training_is_too_short_to_steer(schedule: str, share: float) -> None:
    network = families.named("mlp").build((1, 28, 28), 10)
    for epochs in range(1, 101):
        config = CompressionConfig(bits=4, recovery=RecoveryConfig(epochs, schedule=schedule, floor=0.9))  # type: ignore[arg-type]
        if Rate(floor=0.9).ends(math.ceil(share * epochs), epochs):
            compression.check(config, network)
        else:
            with pytest.raises(ConfigError, match=f"floor needs at least {STEERED_FROM[schedule]} epochs"):
                compression.check(config, network)


@pytest.mark.parametrize("chosen", [{"rate_weight": 0.1}, {"floor": 0.9}])
def test_a_rate_is_refused_where_no_weight_has_one(chosen: dict[str, float]) -> None:
    network, recovery = families.named("mlp").build((1, 28, 28), 10), RecoveryConfig(9, **chosen)  # type: ignore[arg-type]
    config = CompressionConfig(sparsity=0.5, activation_bits=8, recovery=recovery)
    with pytest.raises(ConfigError, match="rate_weight and floor need bits or a codebook"):
        compression.check(config, network)
    for coded in (replace(config, codebook=8), config.with_layer("fc2", bits=4)):
        compression.check(coded, network)


def epoch(accuracy: float, bits: float, loss: float = 1.0) -> dict[str, float]:
    return {"validation_accuracy": accuracy, "bits_per_weight": bits, "validation_loss": loss}


def test_what_is_best() -> None:
    low, high, small, large = epoch(0.80, 1), epoch(0.89, 2), epoch(0.91, 2.5), epoch(0.95, 3)
    assert sorted([large, high, small, low], key=Rate(0.1, 0.9).merit) == [low, high, large, small]
    assert sorted([large, high, small, low], key=Rate().merit) == [low, high, small, large]
    assert max(epoch(0.91, 32), epoch(0.95, 32), key=Rate(0.1, 0.9).merit)["validation_accuracy"] == 0.95, "no bits"
    assert max(epoch(0.9, 3, 0.5), epoch(0.8, 1, 0.4), key=Rate(0.1).merit)["validation_accuracy"] == 0.8
