"""Whole channels: what is cut out gives the outputs of a network whose channels were set to zero."""

import math

import pytest
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, logits, plain_forward, random_tensors, statistics_of
from hypothesis import given
from hypothesis import strategies as st
from random_networks import feature_maps
from torch import Tensor

from core.config import CompressionConfig, ConfigError, LayerConfig
from core.mathematics import low_rank
from core.networks import narrowing
from core.networks import narrowing as channels
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.graph import IMAGE, Network
from core.networks.models import Baseline

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}


def alive_at(network: Network, kept: channels.Kept) -> dict[str, Tensor]:
    """By node, 1 for each of its channels that stays and 0 for each that goes; behind a flatten for each feature."""
    alive = {IMAGE: torch.ones(network.shape[0])}
    for each in network.nodes:
        first, *others = (alive[name] for name in each.inputs)
        if each.weighted:
            first = torch.isin(torch.arange(each["channels"]), kept[each.name]).float()
        elif each.operation == "flatten":
            first = first.repeat_interleave(math.prod(network.shapes[each.inputs[0]][1:]))
        elif each.operation == "concatenate":
            first = torch.cat([first, *others])
        assert each.operation != "add" or torch.equal(first, others[0]), "only together"
        alive[each.name] = first
    return alive


def masked(baseline: Baseline, kept: channels.Kept, x: Tensor) -> Tensor:
    """The oracle: the whole network, its removed channels multiplied with zero after every node."""
    return feature_maps(baseline, x, alive_at(baseline.network, kept))[baseline.network.output]


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_the_smaller_network_puts_out_what_the_masked_one_does(
    family: str, images: Tensor, draw: st.DataObject
) -> None:
    baseline = SMALL[family]
    kept = {
        layer.name: torch.tensor(
            sorted(draw.draw(st.sets(st.integers(0, layer.shape[0] - 1), min_size=1))), dtype=torch.long
        )
        for layer in baseline.layers[:-1]
    }
    kept[baseline.layers[-1].name] = torch.arange(10)
    smaller = channels.remove_channels(baseline, kept)
    assert [layer.shape[0] for layer in smaller.layers] == [len(own) for own in kept.values()]
    stored = compress(smaller, CompressionConfig(), statistics_of(smaller, images)).freeze()
    torch.testing.assert_close(plain_forward(stored, images), masked(baseline, kept, images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(stored, images), masked(baseline, kept, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("score", ["l1", "activation"])
@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99, 1.0])
def test_the_share_that_is_asked_for_stays_and_never_nothing(
    baseline: Baseline, statistics: Statistics, score: str, scope: str, share: float
) -> None:
    config = CompressionConfig(channel_share=share, channel_score=score, scope=scope)
    kept = channels.kept_channels(baseline, config, statistics.means)
    widths = [layer.shape[0] for layer in baseline.layers[:-1]]
    counts = [len(kept[layer.name]) for layer in baseline.layers[:-1]]
    assert min(counts) >= 1
    assert len(kept[baseline.layers[-1].name]) == 10
    if scope == "layer":
        assert counts == [max(1, round(share * width)) for width in widths]
    elif min(counts) > 1:
        assert sum(counts) == sum(widths) - round((1 - share) * sum(widths))
    for own in kept.values():
        assert torch.equal(own, own.unique())


def test_all_channels_are_the_baseline_itself(baseline: Baseline, statistics: Statistics) -> None:
    widths = {layer.name: LayerConfig(channels=layer.shape[0]) for layer in baseline.layers[:-1]}
    for config in (CompressionConfig(), CompressionConfig(channel_share=1), CompressionConfig(layers=widths)):
        assert narrowing.narrow(baseline, config, statistics.means)[0] is baseline


def test_the_channels_of_the_largest_weights_stay(baseline: Baseline, statistics: Statistics) -> None:
    layer = baseline.layers[1]
    norms = baseline.tensors[f"{layer.name}.weight"].abs().flatten(1).sum(1)
    kept = channels.kept_channels(baseline, CompressionConfig().with_layer(layer.name, channels=3), statistics.means)
    assert set(kept[layer.name].tolist()) == set(norms.topk(3).indices.tolist())
    assert all(len(kept[own.name]) == own.shape[0] for own in baseline.layers if own != layer)


def test_the_channels_that_put_out_most_stay(baseline: Baseline, statistics: Statistics, images: Tensor) -> None:
    maps = feature_maps(baseline, images)
    for layer in baseline.layers[:-1]:
        x = maps[f"{layer.name}_relu"]
        if layer.name == "conv1":
            continue  # the patches of the next convolution weigh the pixels at the border less
        config = CompressionConfig(channel_score="activation").with_layer(layer.name, channels=3)
        means = x.flatten(2).mean((0, 2)) if x.dim() == 4 else x.mean(0)
        kept = channels.kept_channels(baseline, config, statistics.means)[layer.name]
        assert set(kept.tolist()) == set(means.topk(3).indices.tolist())


def test_a_layer_with_one_channel_keeps_it(images: Tensor) -> None:
    tensors = random_tensors({"conv1": (1, 1, 3, 3), "conv2": (1, 1, 3, 3), "fc1": (1, 49), "fc2": (10, 1)})
    narrow = Baseline("narrow", tensors)
    config = CompressionConfig(channel_share=0.1, rank_share=1.0, above_break_even=True, sparsity=0.5, bits=4)
    stored = compress(narrow, config, statistics_of(narrow, images)).freeze()
    assert [own.layer.shape for own in stored.layers] == [layer.shape for layer in narrow.layers]
    assert logits(stored, images).isfinite().all()


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@given(draw=st.data())
def test_every_combination_runs_and_reads_back(family: str, images: Tensor, draw: st.DataObject) -> None:
    baseline = SMALL[family]
    stored = compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()
    assert logits(stored, images).isfinite().all()
    if stored.config.activation_bits is None:
        torch.testing.assert_close(logits(stored, images), plain_forward(stored, images), rtol=1e-3, atol=1e-3)


def test_data_aware_factors_of_what_is_left_use_what_is_left_of_the_input(
    baseline: Baseline, statistics: Statistics
) -> None:
    layer = baseline.layers[2]
    config = CompressionConfig(channel_share=0.5, low_rank_method="whitened").with_layer(layer.name, rank=2)
    smaller, columns = narrowing.narrow(baseline, config, statistics.means)
    own = next(own for own in compress(baseline, config, statistics).named().values() if own.layer.name == layer.name)
    mean, second = statistics.moments()[layer.name]
    left = columns[layer.name]
    weight = smaller.tensors[f"{layer.name}.weight"]
    expected = low_rank.decompose_whitened(weight, mean[left], second[left][:, left])
    first, last = (part.weight.detach().flatten(1) for part in own.weights)
    torch.testing.assert_close(last @ first, low_rank.reconstruct(expected, 2, tuple(weight.shape)).flatten(1))


@pytest.mark.parametrize(
    ("layer", "count", "said"), [("last", 5, "classes"), ("first", 999, r"in \[1, "), ("first", 0, "at least 1")]
)
def test_channels_that_cannot_be_removed_are_refused(
    baseline: Baseline, statistics: Statistics, layer: str, count: int, said: str
) -> None:
    name = baseline.layers[-1 if layer == "last" else 0].name
    with pytest.raises(ConfigError, match=said):
        compress(baseline, CompressionConfig().with_layer(name, channels=count), statistics)


def test_a_rank_above_what_is_left_takes_what_is_left(baseline: Baseline, statistics: Statistics) -> None:
    name = baseline.layers[1].name
    config = CompressionConfig().with_layer(name, channels=2, rank=5)
    stored = next(own for own in compress(baseline, config, statistics).freeze().layers if own.layer.name == name)
    assert stored.rank == 2
