"""Bytes: the ledger ends at the size of a file, and the size in theory is the one of the assignment."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import palette
from core.config import CompressionConfig
from core.formats import footprint, packed
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.models import Baseline


def test_the_ledger_is_that_of_the_packed_file_also_after_a_time_in_the_cache(
    baseline: Baseline, statistics: Statistics
) -> None:
    network = compress(baseline, CompressionConfig(bits=4, sparsity=0.8), statistics).freeze()
    ledger, made = footprint.footprint(network), packed.pack(network)
    assert (ledger.total, ledger.entries, ledger.choices) == (len(made.content), made.entries, made.choices)
    assert ledger.total == sum(ledger.by_kind().values()) == ledger.table()["bytes"].sum()
    for layer, rows in ledger.table().groupby("layer"):
        assert rows["bytes"].sum() == sum(ledger.by_kind("" if layer == "file" else str(layer)).values())
    assert footprint.from_dict(json.loads(json.dumps(asdict(ledger)))) == ledger


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_take_no_more_than_their_bits(baseline: Baseline, statistics: Statistics, bits: int) -> None:
    network = compress(baseline, CompressionConfig(bits=bits), statistics).freeze()
    ledger = footprint.footprint(network)
    codes = sum(entry.bytes for entry in ledger.entries if entry.kind in ("integer codes", "map of zeros"))
    weights = sum(layer.weights for layer in network.layers)
    assert ledger.entropy <= weights * bits / 8
    assert codes <= weights * bits / 8 * 1.05 + 8


def test_a_float32_network_takes_four_bytes_a_parameter_and_a_header(
    baseline: Baseline, statistics: Statistics
) -> None:
    ledger = footprint.footprint(compress(baseline, CompressionConfig(), statistics).freeze())
    assert baseline.bytes < ledger.total < baseline.bytes + 1024
    assert {entry.kind for entry in ledger.entries} == {"float32 values", "biases", "container"}


def test_the_size_of_the_courses_cnn_by_hand() -> None:
    layers = [288, 18_432, 401_408, 1_280]
    assert footprint.model_size_kb(layers, 32) == 421_408 * 4 / 1024
    assert footprint.model_size_kb(layers, 8) == 421_408 / 1024
    assert footprint.model_size_kb(layers, 4) == footprint.model_size_kb(layers, 8) / 2
    assert footprint.model_size_kb(layers, [8, 8, 2, 8], biases=234) == (20_000 + 401_408 / 4 + 4 * 234) / 1024


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(2, 32)), min_size=1, max_size=8), st.integers(0, 1000))
def test_the_size_in_theory_is_the_sum_over_the_layers(layers: list[tuple[int, int]], biases: int) -> None:
    bits = sum(count * width for count, width in layers) + 32 * biases
    assert footprint.model_size_kb([n for n, _ in layers], [b for _, b in layers], biases) == pytest.approx(bits / 8192)


def test_one_number_of_bits_per_layer_is_needed() -> None:
    with pytest.raises(ValueError, match=r"bits must be one number or 3, one per layer\. Got 2 instead"):
        footprint.model_size_kb([1, 2, 3], [8, 8])


def test_the_size_in_theory_of_a_network_is_that_of_its_stored_weights(
    baseline: Baseline, statistics: Statistics
) -> None:
    def theory(config: CompressionConfig) -> float:
        return footprint.theoretical_kb(compress(baseline, config, statistics).freeze())

    assert theory(CompressionConfig()) * 1024 == baseline.bytes
    assert theory(CompressionConfig(sparsity=0.9)) * 1024 == baseline.bytes
    biases = sum(layer.shape[0] for layer in baseline.layers)
    assert theory(CompressionConfig(bits=4)) * 1024 == (baseline.parameters - biases) / 2 + 4 * biases


def test_every_kind_of_bytes_has_a_colour() -> None:
    assert set(packed.KINDS.values()) == set(palette.KINDS)
