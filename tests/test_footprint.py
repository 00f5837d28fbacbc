"""Bytes: the ledger ends at the size of a file, and the size in theory is the one of the assignment."""

import pytest
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, random_tensors, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core import footprint
from core.compression import Statistics, compress
from core.config import CompressionConfig
from core.models import Baseline

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=40)
@given(draw=st.data())
def test_the_ledger_adds_up_to_the_file_whatever_its_figures(family: str, images: Tensor, draw: st.DataObject) -> None:
    baseline = SMALL[family]
    network = compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()
    figures = {name: f"{draw.draw(st.floats(0, 1)):.4f}" for name in footprint.placeholder_figures()}
    ledger = footprint.footprint(network)
    assert ledger.total == len(footprint.file_bytes(network, figures))
    assert all(entry.bytes >= 0 for entry in ledger.entries)
    assert {entry.layer for entry in ledger.entries} == {"", *(layer.name for layer in baseline.layers)}


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_take_their_bits_and_scales_and_biases_four_bytes_each(
    baseline: Baseline, statistics: Statistics, bits: int
) -> None:
    network = compress(baseline, CompressionConfig(bits=bits), statistics).freeze()
    ledger = footprint.footprint(network).entries
    for layer in baseline.layers:
        size = {entry.kind: entry.bytes for entry in ledger if entry.layer == layer.name}
        count, outputs = baseline.tensors[f"{layer.name}.weight"].numel(), layer.shape[0]
        if footprint.KINDS["map"] not in size:
            assert size[footprint.KINDS["codes"]] == -(-count * bits // 8)
        assert size[footprint.KINDS["scale"]] == size[footprint.KINDS["bias"]] == 4 * outputs


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
