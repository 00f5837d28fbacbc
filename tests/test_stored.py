"""What a file holds: the same network, whatever was set; anything else is a FormatError."""

import json
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, logits, random_tensors, statistics_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core import stored
from core.compression import Statistics, compress
from core.config import CompressionConfig
from core.models import Baseline
from core.stored import FormatError, StoredNetwork

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}
FIGURES = {"validation_accuracy": "0.9000"}


def again(network: StoredNetwork) -> StoredNetwork:
    return stored.from_tensors(stored.to_tensors(network), stored.metadata(network, FIGURES))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_what_is_read_is_what_was_written(family: str, images: Tensor, draw: st.DataObject) -> None:
    baseline = SMALL[family]
    network = compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()
    read = again(network)
    assert (read.config, read.baseline_sha256) == (network.config, baseline.sha256)
    assert (read.parameters, read.nonzero) == (network.parameters, network.nonzero)
    for mine, theirs in zip(network.layers, read.layers, strict=True):
        assert mine.layer == theirs.layer
        assert (mine.rank, mine.input_scale, mine.between_scale) == (
            theirs.rank,
            theirs.input_scale,
            theirs.between_scale,
        )
        assert torch.equal(mine.bias, theirs.bias)
        for tensor, copy in zip(mine.tensors, theirs.tensors, strict=True):
            assert (tensor.name, tensor.bits) == (copy.name, copy.bits)
            assert torch.equal(tensor.values, copy.values)
            assert torch.equal(tensor.weight(), copy.weight())
    assert torch.equal(logits(read, images), logits(network, images))


def test_a_layers_content_names_all_that_its_output_depends_on_and_nothing_else(
    baseline: Baseline, statistics: Statistics
) -> None:
    config = CompressionConfig(rank_share=0.3, above_break_even=True, sparsity=0.5, bits=4, activation_bits=6)
    network = compress(baseline, config, statistics).freeze()
    layer = network.layers[1]
    first, second = layer.tensors
    assert first.scale is not None
    assert second.scale is not None
    others = [
        replace(layer, layer=replace(layer.layer, relu=not layer.layer.relu)),
        replace(layer, layer=replace(layer.layer, pool=not layer.layer.pool)),
        replace(layer, bias=layer.bias + 1e-3),
        replace(layer, input_scale=None),
        replace(layer, between_scale=layer.between_scale * 2),
        replace(layer, tensors=(replace(first, values=-first.values), second)),
        replace(layer, tensors=(replace(first, scale=first.scale * 2), second)),
        replace(layer, tensors=(first, replace(second, scale=second.scale * 2))),
        replace(layer, tensors=(first, replace(second, bits=5))),
        network.layers[0],
    ]
    assert len({layer.content, *(other.content for other in others)}) == len(others) + 1
    without_masks = replace(layer, tensors=tuple(replace(tensor, mask=None) for tensor in layer.tensors))
    assert layer.content == without_masks.content
    assert [own.content for own in again(network).layers] == [own.content for own in network.layers]


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_of_all_values_and_a_map_with_the_nonzero_ones_the_smaller_is_written(
    family: str, images: Tensor, draw: st.DataObject
) -> None:
    baseline = SMALL[family]
    network = compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()
    arrays = stored.to_tensors(network)
    for tensor in (tensor for layer in network.layers for tensor in layer.tensors):
        own = {key.rpartition(".")[2]: array for key, array in arrays.items() if key.startswith(f"{tensor.name}.")}
        parts = [array.nbytes for kind, array in own.items() if kind not in ("scale", "zero_point")]
        n, kept = tensor.count, tensor.count - tensor.zeros
        assert sum(parts) == min(ceil(n * tensor.bits / 8), ceil(n / 8) + ceil(kept * tensor.bits / 8))


def test_zeros_of_pruning_and_zeros_of_rounding_are_counted_apart(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(sparsity=0.3, bits=2), statistics).freeze()
    for layer in network.layers:
        for tensor in layer.tensors:
            assert tensor.masked == int((~tensor.mask).sum())
            assert tensor.zeros == int((tensor.values == 0).sum())
    assert sum(tensor.zeros - tensor.masked for layer in network.layers for tensor in layer.tensors) > 0
    assert network.sparsity == pytest.approx(0.3, abs=1e-3)
    assert network.nonzero < network.parameters - network.sparsity * sum(layer.weights for layer in network.layers)


def test_the_file_describes_itself(baseline: Baseline, statistics: Statistics) -> None:
    config = CompressionConfig(bits=4)
    about = stored.metadata(compress(baseline, config, statistics).freeze(), FIGURES)
    assert all(isinstance(text, str) for text in about.values())
    assert about["format"] == stored.FORMAT
    assert CompressionConfig.from_json(about["config"]) == config
    assert about["baseline_sha256"] == baseline.sha256
    assert about["validation_accuracy"] == "0.9000"
    assert len(json.loads(about["classes"])) == 10


@pytest.fixture
def file(statistics: Statistics, baseline: Baseline) -> tuple[stored.Arrays, dict[str, str]]:
    network = compress(baseline, CompressionConfig(sparsity=0.8, bits=4, activation_bits=8), statistics).freeze()
    return stored.to_tensors(network), stored.metadata(network, FIGURES)


def test_a_file_that_lacks_an_array_is_refused(file: tuple[stored.Arrays, dict[str, str]]) -> None:
    arrays, about = file
    for missing in arrays:
        if missing.endswith(".map"):  # without its map a tensor is read as one that has none, and does not fit
            assert arrays[missing].size
        with pytest.raises(FormatError):
            stored.from_tensors({name: array for name, array in arrays.items() if name != missing}, about)


def test_a_file_whose_array_has_another_length_is_refused(file: tuple[stored.Arrays, dict[str, str]]) -> None:
    arrays, about = file
    for name in arrays:
        if name.endswith((".map", ".codes")):
            for wrong in (arrays[name][:-1], np.append(arrays[name], np.uint8(0))):
                with pytest.raises(FormatError):
                    stored.from_tensors(arrays | {name: wrong}, about)


def with_layers(about: dict[str, str], **changes: object) -> dict[str, str]:
    layers = json.loads(about["layers"])
    layers[0] |= changes
    return about | {"layers": json.dumps(layers)}


HOSTILE = {
    "no format": lambda about: about | {"format": ""},
    "a later format": lambda about: about | {"format": "compressed-network/9"},
    "no metadata": lambda about: {},
    "no layers": lambda about: {key: text for key, text in about.items() if key != "layers"},
    "no configuration": lambda about: {key: text for key, text in about.items() if key != "config"},
    "layers that are no list": lambda about: about | {"layers": "7"},
    "layers that are no JSON": lambda about: about | {"layers": "[{"},
    "layers that are text": lambda about: about | {"layers": '["fc1"]'},
    "a configuration of another kind": lambda about: about | {"config": '{"colour": 1}'},
    "a layer of no name": lambda about: with_layers(about, name=None),
    "a layer of no shape": lambda about: with_layers(about, shape=None),
    "a weight of sixteen bits": lambda about: about | {"layers": about["layers"].replace('"bits":4', '"bits":16', 1)},
    "a weight of negative size": lambda about: with_layers(
        about, weights=[{"name": "fc1.weight", "shape": [-3, 784], "bits": 4}]
    ),
    "a weight of a terabyte": lambda about: with_layers(
        about,
        weights=[{"name": json.loads(about["layers"])[0]["weights"][0]["name"], "shape": [10**7, 10**7], "bits": 4}],
    ),
    "a weight of more numbers than count": lambda about: with_layers(
        about, weights=[{"name": json.loads(about["layers"])[0]["weights"][0]["name"], "shape": [10**30], "bits": 4}]
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_metadata_that_describe_no_network_of_ours_are_refused(
    file: tuple[stored.Arrays, dict[str, str]], change: object
) -> None:
    arrays, about = file
    with pytest.raises(FormatError) as refused:
        stored.from_tensors(arrays, change(about))  # type: ignore[operator]
    assert "\n" not in str(refused.value)
