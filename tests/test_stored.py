"""What is known of a stored network without running it."""

from dataclasses import replace

import pytest

from core import packed
from core.compression import Statistics, compress
from core.config import CompressionConfig
from core.models import Baseline


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
    again = packed.unpack(packed.pack(network).content)
    assert [own.content for own in again.layers] == [own.content for own in network.layers]


def test_zeros_of_pruning_and_zeros_of_rounding_are_counted_apart(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(sparsity=0.3, bits=2), statistics).freeze()
    for layer in network.layers:
        for tensor in layer.tensors:
            assert tensor.masked == int((~tensor.mask).sum())
            assert tensor.zeros == int((tensor.values == 0).sum())
    assert sum(tensor.zeros - tensor.masked for layer in network.layers for tensor in layer.tensors) > 0
    assert network.sparsity == pytest.approx(0.3, abs=1e-3)
    assert network.nonzero < network.parameters - network.sparsity * sum(layer.weights for layer in network.layers)
