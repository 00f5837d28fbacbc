"""Every choice of a search is a network that can be made, and the first ones follow from the scans."""

import json
import random
from typing import Any

import optuna
import pytest
from conftest import CNN_SHAPES, random_tensors
from hypothesis import given
from hypothesis import strategies as st

from core.config import CompressionConfig, ConfigError
from core.mathematics import costs, low_rank
from core.measuring.front import TECHNIQUES, techniques
from core.networks import compression, families
from core.networks.models import Baseline, costs_of
from core.studies.space import (
    CROWDED,
    SIZES,
    START,
    alike,
    configuration,
    draw,
    is_active,
    neighbour,
    recovery,
    resized,
    space,
    start,
    starts,
    taught,
    to_train,
)  # fmt: skip
from core.techniques.channels import EIGHTHS
from core.techniques.codebook import codebook_of
from core.techniques.low_rank import HALF_OCTAVES, rank_at
from core.techniques.pruning import LEAST_DENSITY, WHOLE

CNN = Baseline("small-cnn", random_tensors(CNN_SHAPES, 2))
NETWORK = CNN.network
WANTED = sum(layer.weights for layer in NETWORK.layers) / 20
"""Bytes of a file for which all shapes have enough weights, and none too many."""


def drawn(used: tuple[str, ...] = TECHNIQUES, seed: int = 0) -> dict[str, Any]:
    """The choices of one random trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return draw(study.ask(), NETWORK, used)


USED = st.sets(st.sampled_from(TECHNIQUES), min_size=1).map(lambda own: tuple(t for t in TECHNIQUES if t in own))


@given(USED, st.integers(0, 10_000))
def test_every_trial_is_a_network_that_uses_nothing_else(used: tuple[str, ...], seed: int) -> None:
    chosen = drawn(used, seed)
    config = configuration(chosen, NETWORK)
    compression.check(config, NETWORK)
    assert set(techniques(config)) <= set(used)
    assert chosen.keys() <= space(NETWORK, used).keys()
    assert all(is_active(name, chosen) for name in chosen)
    for layer in NETWORK.layers:
        if chosen.get(f"shared {layer.name}"):
            assert codebook_of(config, layer.name) == 2 ** chosen[f"centroids {layer.name}"]
        elif "bits" in used:
            assert config.bits_of(layer.name) == chosen[f"bits {layer.name}"]


@given(USED, st.floats(100, 1e6))
def test_what_is_trained_first_is_among_the_choices(used: tuple[str, ...], wanted: float) -> None:
    known, several = space(NETWORK, used), taught(NETWORK, used, wanted)
    assert several
    for own in several:
        assert all(known[name]._contains(known[name].to_internal_repr(value)) for name, value in own.items())
        assert all(is_active(name, own) for name in own)
        assert set(techniques(configuration(own, NETWORK))) <= set(used)
    assert len(several) == len({str(own) for own in several})


def test_of_what_is_trained_first_only_the_layer_that_holds_most_weights_is_factored() -> None:
    first, *_, last = (configuration(own, NETWORK) for own in taught(NETWORK, TECHNIQUES, WANTED))
    assert [name for name, layer in first.layers if layer.rank is not None] == ["fc1"]
    assert (last.layer("conv1").channels, last.layer("fc1").channels, last.layer("fc1").rank) == (2, 6, None)
    assert {first.bits_of(layer.name) for layer in NETWORK.layers} == {4}
    assert first.granularity == "tensor"


def test_the_channels_of_a_grouped_convolution_keep_a_scale_each() -> None:
    separable = families.named("separable").build((1, 28, 28), 10, ())
    assert {own["granularity"] for own in taught(separable, TECHNIQUES, 5_000)} == {"channel"}
    assert to_train({"granularity": "channel", "density": 0.5}, separable)["granularity"] == "channel"
    assert to_train({"granularity": "channel"}, NETWORK) == {"granularity": "tensor"}
    assert to_train({"density": 0.5}, NETWORK) == {"density": 0.5}, "where no bits are chosen"


def test_the_smaller_the_file_that_is_wanted_the_fewer_weights_it_begins_with() -> None:
    """As many for each byte, where there are such; rank and width say how many there are."""
    weights = sum(layer.weights for layer in NETWORK.layers)
    for wanted in (weights / 300, weights / 40, weights / 10):
        for own in taught(NETWORK, TECHNIQUES, wanted):
            shares = [own.get(f"channels {layer.name}", EIGHTHS) / EIGHTHS for layer in NETWORK.layers]
            pairs = zip(NETWORK.layers, shares, [1.0, *shares], strict=False)
            dense = sum(layer.weights * rows * columns for layer, rows, columns in pairs)
            if not any(own.get(f"factored {layer.name}") for layer in NETWORK.layers):
                assert 0.99 * CROWDED[0] <= dense / wanted <= 1.01 * CROWDED[1], (own, wanted)


@given(USED, st.integers(0, 10_000))
def test_a_search_leaves_out_what_cannot_be_known(used: tuple[str, ...], seed: int) -> None:
    """Of a network whose fc1 has too many inputs, and is too large for its singular values."""
    whole = [cost for cost in costs_of(NETWORK.layers) if cost.name != "fc1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "MOMENTS", sum(cost.moments for cost in whole))
        patch.setattr(costs, "DECOMPOSITION_SECONDS", max(cost.seconds for cost in whole))
        chosen = drawn(used, seed)
        shapes = [chosen, neighbour(chosen, NETWORK, used, random.Random(seed)), *starts(scans({}), NETWORK, used)]
        for own in (*shapes, *taught(NETWORK, used, WANTED)):
            compression.check(configuration(own, NETWORK), NETWORK)
        with pytest.raises(ConfigError):
            compression.check(START.with_layer("fc1", bits=4), NETWORK)
        compression.check(start(NETWORK).with_layer("fc1", bits=4), NETWORK)
    assert start(NETWORK) == START


def test_nothing_chosen_is_where_every_trial_starts() -> None:
    assert configuration({}, NETWORK) == START
    whole = {"narrow": False, "score": "lamp", "by layer": False, "density": 1.0, "method": "svd"}
    assert configuration(whole, NETWORK) == START, "what changes nothing does not make another configuration"
    assert techniques(START) == ()


@given(USED)
def test_where_there_is_no_time_for_each_layer_all_of_them_begin_alike(used: tuple[str, ...]) -> None:
    found = alike(NETWORK, used)
    assert len(found) == len({json.dumps(own) for own in found})
    for chosen in found:
        config = configuration(chosen, NETWORK)
        compression.check(config, NETWORK)
        assert set(techniques(config)) <= {"pruning", "bits"} & set(used)
        assert len({own.bits for _, own in config.layers}) <= 1
    if "bits" in used:
        first = configuration(found[0], NETWORK)
        assert {first.bits_of(layer.name) for layer in NETWORK.layers} == {4}
        assert first.sparsity is None


@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_resizing_multiplies_the_odds_of_staying(seed: int, factor: float) -> None:
    chosen = drawn(("pruning",), seed)
    after = resized(chosen, factor)
    for name, own in chosen.items():
        if not name.startswith("density"):
            assert after[name] == own
        elif LEAST_DENSITY < after[name] < WHOLE > own:
            assert after[name] / (1 - after[name]) == pytest.approx(factor * own / (1 - own))
        else:
            assert LEAST_DENSITY <= after[name] <= 1


def test_a_whole_layer_stays_whole_and_a_whole_network_gets_one_threshold() -> None:
    own = {"by layer": True, "score": "magnitude", "density conv1": 1.0, "density fc1": 0.2}
    assert resized(own, 0.25) == {**own, "density fc1": pytest.approx(0.0588, abs=1e-3)}
    whole = {"by layer": True, "score": "magnitude", "density conv1": 1.0, "density fc1": 1.0, "bits fc1": 4}
    after = resized(whole, 0.01)
    assert after == {"by layer": False, "score": "lamp", "density": pytest.approx(0.4975, abs=1e-3), "bits fc1": 4}


def test_ranks_halve_every_second_step_from_break_even_on() -> None:
    layer = max(NETWORK.layers, key=lambda own: own.weights)
    assert rank_at(0, layer) == low_rank.break_even_rank(*layer.matrix_shape)
    ranks = [rank_at(step, layer) for step in range(HALF_OCTAVES)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[2] == round(ranks[0] / 2)
    assert min(ranks) >= 1


def scans(lost: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Scans in which a layer loses so much at each setting, and nothing where nothing is said."""
    settings = {"sparsity": (0.5, 0.9, 0.98), "bits": (8, 4, 2), "rank": (2, 6)}
    return [
        {"layer": layer.name, setting: value, "lost": lost.get((layer.name, setting), 0.0)}
        for layer in NETWORK.layers
        for setting, values in settings.items()
        for value in values
    ]


def test_first_trials_spare_the_layer_that_minds() -> None:
    rows = scans({("conv2", setting): 0.5 for setting in ("sparsity", "bits", "rank")})
    found = starts(rows, NETWORK, TECHNIQUES)
    assert len(found) == len({str(chosen) for chosen in found})
    assert 4 <= len(found) <= 4 * SIZES
    known = space(NETWORK, TECHNIQUES)
    for chosen in found:
        assert chosen.keys() <= known.keys()
        assert all(known[name]._contains(known[name].to_internal_repr(own)) for name, own in chosen.items())
        compression.check(configuration(chosen, NETWORK), NETWORK)
    first = configuration(next(own for own in found if own["by layer"] and not own["narrow"]), NETWORK)
    assert first.layer("conv2").rank is None
    assert (first.layer("conv2").sparsity or 0) == 0
    assert first.layer("fc1").sparsity == 0.98
    assert first.layer("fc1").bits == 2
    assert any(chosen.get("narrow") for chosen in found)
    assert any(chosen["by layer"] is False for chosen in found)


def test_first_trials_use_what_may_be_used() -> None:
    for used in (("bits",), ("pruning",), ("low rank", "bits")):
        for chosen in starts(scans({}), NETWORK, used):
            assert set(techniques(configuration(chosen, NETWORK))) <= set(used)


def test_a_shape_is_trained_step_by_step_where_it_has_zeros() -> None:
    assert recovery(CompressionConfig(sparsity=0.9, bits=4), 7).schedule == "iterative"
    rates = [recovery(own, 2).learning_rate for own in (CompressionConfig(bits=4), CompressionConfig(rank_share=0.5))]
    assert rates == sorted(rates)
    assert recovery(CompressionConfig(bits=4), 2).schedule == "one-shot"


def test_channels_are_eighths_and_never_none() -> None:
    for eighths in range(1, EIGHTHS + 1):
        chosen = {"narrow": True, **{f"channels {layer.name}": eighths for layer in NETWORK.layers[:-1]}}
        config = configuration(chosen, NETWORK)
        for layer in NETWORK.layers[:-1]:
            own = config.layer(layer.name).channels or layer.shape[0]
            assert own == max(1, round(eighths / EIGHTHS * layer.shape[0]))
