"""Channels that are tied: which go together in any graph, which stay, and what is left computes the same."""

from typing import Any

import pytest
import torch
import torch_pruning
from conftest import CNN_SHAPES, random_tensors, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import feature_maps, filled, networks, pixels
from torch import Tensor, nn

from core.config import CompressionConfig, ConfigError, LayerConfig
from core.networks import compression, families, graph, narrowing
from core.networks.compression import compress
from core.networks.graph import IMAGE, Network
from core.networks.models import Baseline
from core.networks.narrowing import Channels, Kept
from core.networks.operations import Node, node

FAMILIES = sorted(families.families())


def family(name: str) -> Network:
    return families.named(name).build((1, 28, 28), 10)


def inputs(baseline: Baseline, count: int) -> Tensor:
    return (pixels(baseline.network, count).float() / 255 - 0.3) / 0.35


def alive_at(network: Network, kept: Kept) -> dict[str, Tensor]:
    """By node, 1 for each of its channels that stays and 0 for each that goes; behind a flatten for each feature."""
    alive = {IMAGE: torch.ones(network.shape[0])}
    for each in network.nodes:
        first, *others = (alive[name] for name in each.inputs)
        if each.weighted:
            own = torch.isin(torch.arange(each["channels"]), kept[each.name]).float()
            depthwise = each.operation == "convolution" and each["groups"] == len(first) > 1
            assert not depthwise or torch.equal(own, first.repeat_interleave(len(own) // len(first))), "only together"
            first = own
        elif each.operation == "flatten":
            first = first.repeat_interleave(len(torch.empty(network.shapes[each.inputs[0]])[0].flatten()))
        elif each.operation == "concatenate":
            first = torch.cat([first, *others])
        assert each.operation != "add" or torch.equal(first, others[0]), "only together"
        alive[each.name] = first
    return alive


def without(network: Network, draw: st.DataObject) -> Kept:
    """Some of the channels of each group that can go; at least one stays."""
    channels = Channels(network)
    gone: list[int] = []
    for group in channels.groups:
        places = st.sets(st.integers(0, len(group.channels) - 1), max_size=len(group.channels) - 1)
        gone += group.channels[sorted(draw.draw(places))].tolist()
    stays = ~torch.isin(torch.arange(len(channels.fixed)), torch.tensor(gone, dtype=torch.long))
    return {layer.name: torch.nonzero(stays[channels.of[layer.name]]).flatten() for layer in network.layers}


def check_same(baseline: Baseline, kept: Kept, count: int = 4) -> None:
    """What is cut out gives the outputs of the network with the removed channels set to zero, at every node."""
    smaller, x = narrowing.remove_channels(baseline, kept), inputs(baseline, count)
    assert [layer.shape[0] for layer in smaller.layers] == [len(kept[layer.name]) for layer in baseline.layers]
    expected = feature_maps(baseline, x, alive_at(baseline.network, kept))[baseline.network.output]
    found = feature_maps(smaller, x)[baseline.network.output]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, expected.abs().max().item()))


@settings(max_examples=30)
@given(baseline=networks(), draw=st.data())
def test_a_random_network_without_channels_is_itself_with_these_at_zero(
    baseline: Baseline, draw: st.DataObject
) -> None:
    check_same(baseline, without(baseline.network, draw))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=2)
@given(draw=st.data())
def test_a_family_without_channels_is_itself_with_these_at_zero(name: str, draw: st.DataObject) -> None:
    baseline = filled(family(name))
    check_same(baseline, without(baseline.network, draw), 2)


@settings(max_examples=20)
@given(baseline=networks(), share=st.floats(0.01, 1), score=st.sampled_from(["l1", "activation"]),
       scope=st.sampled_from(["network", "layer"]))  # fmt: skip
def test_the_share_that_is_asked_for_stays_of_every_group(
    baseline: Baseline, share: float, score: Any, scope: Any
) -> None:
    config = CompressionConfig(channel_share=share, channel_score=score, scope=scope)
    known = statistics_of(baseline, inputs(baseline, 8))
    kept = narrowing.kept_channels(baseline, config, known.means)
    channels = Channels(baseline.network)
    for group in channels.groups:
        stay = {tuple(channels.of[name][kept[name]].unique_consecutive().tolist()) for name in group.layers}
        assert len(stay) == 1, "tied layers keep the same ones"
        count = len(next(iter(stay)))
        assert count >= 1
        assert scope == "network" or count == max(1, round(share * len(group.channels)))
    for layer in baseline.layers:
        if layer.name not in channels.group_of:
            assert len(kept[layer.name]) == layer.shape[0]
    check_same(baseline, kept)


# Which go together.


class Modules(nn.Module):
    """A network whose layers are modules of torch, as other tools know them."""

    def __init__(self, baseline: Baseline) -> None:
        super().__init__()
        self.network, self.own = baseline.network, dict[str, nn.Module]()
        for layer in baseline.layers:
            made: nn.Module
            if layer.window is None:
                made = nn.Linear(layer.shape[1], layer.shape[0])
            else:
                above, left, *_ = layer.window.padding
                made = nn.Conv2d(layer.reads[0], layer.shape[0], layer.window.kernel, layer.window.stride,
                                 (above, left), layer.window.dilation, layer.window.groups)  # fmt: skip
            made.load_state_dict({"weight": baseline.weight(layer), "bias": baseline.bias(layer)})
            self.own[layer.name] = made
        self.each = nn.ModuleList(self.own.values())

    def forward(self, x: Tensor) -> Tensor:
        return graph.run(self.network.nodes, x, lambda each, x: self.own[each.name](x))


def tied_by_torch_pruning(module: Modules, name: str, gone: list[int]) -> tuple[set[str], Any]:
    """The layers that lose outputs with these of one layer, and what takes them out."""
    names = {own: name for name, own in module.own.items()}
    dependencies = torch_pruning.DependencyGraph().build_dependency(module, torch.randn(1, *module.network.shape))
    layer = module.own[name]
    prune = torch_pruning.prune_linear_out_channels
    if isinstance(layer, nn.Conv2d):
        alone = layer.groups == layer.out_channels > 1
        prune = torch_pruning.prune_depthwise_conv_out_channels if alone else torch_pruning.prune_conv_out_channels
    group = dependencies.get_pruning_group(layer, prune, idxs=gone)
    outputs = {
        names[dependency.target.module]
        for dependency, _ in group
        if dependency.target.module in names and dependencies.is_out_channel_pruning_fn(dependency.handler)
    }
    return outputs, group


@pytest.mark.parametrize("name", FAMILIES)
def test_what_goes_together_is_what_torch_pruning_says(name: str) -> None:
    """Another implementation of dependency graphs (Fang et al. 2023): the same layers, and the same outputs after."""
    baseline = filled(family(name))
    groups = Channels(baseline.network).groups
    last = baseline.layers[-1].name
    assert {own for group in groups for own in group.layers} == {layer.name for layer in baseline.layers} - {last}
    x = inputs(baseline, 3)
    for group in groups:
        for layer in group.layers:
            assert tied_by_torch_pruning(Modules(baseline), layer, [0])[0] == set(group.layers)
    module, kept = Modules(baseline).eval(), {layer.name: torch.arange(layer.shape[0]) for layer in baseline.layers}
    for place, group in enumerate(groups):
        gone = list(range(place % 2, len(group.channels), 3))
        tied_by_torch_pruning(module, group.layers[0], gone)[1].prune()
        stay = torch.tensor([channel for channel in range(len(group.channels)) if channel not in gone])
        kept |= dict.fromkeys(group.layers, stay)
    smaller = narrowing.remove_channels(baseline, kept)
    for layer in smaller.layers:
        assert torch.equal(module.own[layer.name].weight, smaller.weight(layer))
        assert torch.equal(module.own[layer.name].bias, smaller.bias(layer))
    with torch.no_grad():
        found = feature_maps(smaller, x)[smaller.network.output]
        torch.testing.assert_close(found, module(x), rtol=1e-4, atol=1e-4)


def conv(name: str, reads: str, channels: int = 6, kernel: int = 3, **more: Any) -> Node:
    """It keeps the size."""
    sizes = {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4}
    return node(name, "convolution", [reads], channels=channels, **sizes, **more)


def scored(*nodes: Node, shape: tuple[int, int, int] = (2, 8, 8)) -> Network:
    """These nodes, a mean of each channel, and ten scores, "fc"."""
    mean, flat = node("mean", "global_average_pool", [nodes[-1].name]), node("flat", "flatten", ["mean"])
    return Network(shape, (*nodes, mean, flat, node("fc", "linear", ["flat"], channels=10)))


def tied(network: Network) -> list[tuple[str, ...]]:
    return [group.layers for group in Channels(network).groups]


def test_an_addition_ties_what_it_adds_and_a_depthwise_convolution_what_it_reads() -> None:
    assert tied(scored(conv("a", IMAGE), conv("b", "a"), node("sum", "add", ["a", "b"]), conv("c", "sum"))) == [
        ("a", "b"), ("c",)
    ]  # fmt: skip
    assert tied(scored(conv("a", IMAGE), conv("b", "a", groups=6), conv("c", "b"))) == [("a", "b"), ("c",)]
    joined = scored(conv("a", IMAGE), conv("b", IMAGE, 3), node("ab", "concatenate", ["a", "b"]), conv("c", "ab"))
    assert tied(joined) == [("a",), ("b",), ("c",)], "each part may lose its own"
    parts = conv("a", IMAGE), conv("b", IMAGE), node("ab", "concatenate", ["a", "b"])
    crossed = scored(*parts, node("ba", "concatenate", ["b", "a"]), node("sum", "add", ["ab", "ba"]), conv("c", "sum"))
    assert tied(crossed) == [("a", "b"), ("c",)], "added to each other in both orders"


def test_what_cannot_go_is_in_no_group() -> None:
    """What the image, the classes and a grouped convolution have to do with."""
    assert tied(scored(conv("a", IMAGE), conv("b", "a", groups=2), conv("c", "b"))) == [("c",)]
    assert tied(scored(conv("a", IMAGE, 2), node("sum", "add", [IMAGE, "a"]), conv("b", "sum"))) == [("b",)]
    assert tied(scored(conv("a", IMAGE, 2, groups=2), conv("b", "a"))) == [("b",)], "one channel of the image each"
    assert tied(scored(conv("a", IMAGE))) == [("a",)]
    parts = conv("a", IMAGE), conv("b", IMAGE, 3), node("ab", "concatenate", ["a", "b"]), conv("c", IMAGE, 9)
    overlapping = scored(*parts, node("sum", "add", ["ab", "c"]), conv("d", "sum"))
    assert tied(overlapping) == [("d",)], "c has the channels of two others"
    flat, two = node("flat", "flatten", [IMAGE]), [node(n, "linear", ["flat"], channels=10) for n in ("one", "two")]
    assert tied(Network((1, 6, 6), (flat, *two, node("sum", "add", ["one", "two"])))) == []


def refused(network: Network, **counts: int) -> str:
    layers = {name.replace("_", "."): LayerConfig(channels=count) for name, count in counts.items()}
    with pytest.raises(ConfigError) as error:
        compression.check(CompressionConfig(layers=layers), network)
    return str(error.value)


FIRST_STAGE = "conv", "block1.conv2", "block2.conv2"
"""Layers of the residual family whose channels meet in additions."""


def test_two_numbers_for_tied_layers_are_refused_and_one_counts_for_all() -> None:
    network = family("residual")
    said = refused(network, conv=8, block1_conv2=9)
    assert said == "channels of conv, block1.conv2 must be one number: they are tied. Got 8 of conv and 9 of block1.conv2 instead."  # fmt: skip  # noqa: E501
    baseline = filled(network)
    known = statistics_of(baseline, inputs(baseline, 8))
    for own in ({"conv": 8}, {"block1.conv2": 8}, {"conv": 8, "block1.conv2": 8}):
        config = CompressionConfig(layers={name: LayerConfig(channels=count) for name, count in own.items()})
        kept = narrowing.kept_channels(baseline, config, known.means)
        assert all(torch.equal(kept["conv"], kept[name]) for name in FIRST_STAGE)
        assert [len(kept[layer.name]) for layer in baseline.layers] == [
            8 if layer.name in FIRST_STAGE else layer.shape[0] for layer in baseline.layers
        ]


def test_channels_that_cannot_go_are_refused_with_the_reason() -> None:
    assert "channels of fc cannot be removed: its outputs are the classes" in refused(family("compact"), fc=5)
    grouped = scored(conv("a", IMAGE), conv("b", "a", groups=2), conv("c", "b"))
    for name in ("a", "b"):
        assert f"channels of {name} cannot be removed: they are tied to" in refused(grouped, **{name: 4})
    assert "grouped convolution" in refused(grouped, a=4)
    residual = scored(conv("a", IMAGE, 2), node("sum", "add", [IMAGE, "a"]))
    assert "the image" in refused(residual, a=1)
    assert "must be in [1, 6]. Got 7" in refused(scored(conv("a", IMAGE)), a=7)


def test_a_grouped_convolution_loses_no_channels_and_what_stands_behind_it_does() -> None:
    network = scored(conv("a", IMAGE), conv("b", "a", groups=2), conv("c", "b"))
    baseline = filled(network)
    known = statistics_of(baseline, inputs(baseline, 8))
    stored = compress(baseline, CompressionConfig(channel_share=0.5), known).freeze()
    assert [own.layer.shape for own in stored.layers] == [(6, 2, 3, 3), (6, 3, 3, 3), (3, 6, 3, 3), (10, 3)]
    assert [own.layer.groups for own in stored.layers] == [1, 2, 1, 1]


def test_a_depthwise_convolution_loses_groups_with_its_channels() -> None:
    baseline = filled(family("separable"))
    known = statistics_of(baseline, inputs(baseline, 8))
    stored = compress(baseline, CompressionConfig(channel_share=0.25, scope="layer"), known).freeze()
    for own in stored.layers:
        if "depthwise" in own.layer.name:
            assert own.layer.groups == own.layer.shape[0] == stored.network.shapes[own.layer.node.inputs[0]][0]
            assert own.layer.shape[1] == 1


def test_the_channels_of_the_smallest_rows_of_all_tied_layers_go() -> None:
    """Each layer's scores over their mean, added."""
    baseline = filled(family("residual"), 3)
    known = statistics_of(baseline, inputs(baseline, 8))
    rows = [baseline.tensors[f"{name}.weight"].abs().flatten(1).mean(1) for name in FIRST_STAGE]
    score = sum(row / row.mean() for row in rows)
    kept = narrowing.kept_channels(baseline, CompressionConfig().with_layer("conv", channels=5), known.means)
    assert set(kept["block1.conv2"].tolist()) == set(score.topk(5).indices.tolist())


def test_what_a_reader_meets_on_average_is_the_score_of_an_activation() -> None:
    """Behind a mean over the image it is that mean."""
    baseline = filled(family("compact"), 4)
    x = inputs(baseline, 32)
    known = statistics_of(baseline, x)
    means = feature_maps(baseline, x)["conv6_relu"].mean((0, 2, 3))
    config = CompressionConfig(channel_score="activation").with_layer("conv6", channels=7)
    kept = narrowing.kept_channels(baseline, config, known.means)
    assert set(kept["conv6"].tolist()) == set(means.topk(7).indices.tolist())


def test_the_columns_that_are_left_are_those_of_the_channels_that_stay() -> None:
    """Behind a flatten one for each pixel."""
    baseline = Baseline("cnn", random_tensors(CNN_SHAPES))
    kept = {layer.name: torch.arange(layer.shape[0]) for layer in baseline.layers} | {"conv2": torch.tensor([1, 4])}
    columns = narrowing.input_columns(baseline.network, kept)
    assert columns["fc1"].tolist() == [*range(49, 98), *range(196, 245)]
    assert columns["conv2"].tolist() == list(range(36))
    assert columns["fc2"].tolist() == list(range(12))


@pytest.mark.parametrize("asked", [
    {"rank_share": 0.9, "above_break_even": True}, {"rank_share": 0.5, "low_rank_method": "whitened"},
    {"sparsity": 0.5, "score": "activation"}, {"bits": 3, "rounding": "gptq"}, {"bits": 3, "bias_correction": True},
    {"bits": 3, "rounding": "gptq", "sparsity": 0.5, "symmetry": "asymmetric", "granularity": "tensor"},
])  # fmt: skip
def test_a_depthwise_convolution_keeps_two_channels_or_more(asked: dict[str, Any]) -> None:
    """With one it would have no groups any more, and what is known of its inputs is known by group."""
    network = scored(conv("a", IMAGE), conv("b", "a", groups=6), node("r", "relu", ["b"]), conv("c", "r"))
    baseline = filled(network)
    known = statistics_of(baseline, inputs(baseline, 8))
    for config in (
        CompressionConfig(**asked).with_layer("a", channels=2), CompressionConfig(**asked, channel_share=0.01)
    ):  # fmt: skip
        own = compress(baseline, config, known).freeze().named["b"]
        assert own.layer.shape == (2, 1, 3, 3)
        assert own.rank is None, "it is not factored, however few channels it has"
    with pytest.raises(ConfigError, match=r"channels of b must be in \[2, 6\]. Got 1 instead"):
        compress(baseline, CompressionConfig(**asked).with_layer("b", channels=1), known)
