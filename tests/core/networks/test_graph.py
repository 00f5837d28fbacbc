"""What follows from a network's graph alone: names, shapes, signals, and where it can be cut in two."""

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CNN_SHAPES, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import feature_maps, filled, graphs, networks, pixels

from core.config import CompressionConfig
from core.networks import chains, families, graph, models
from core.networks.compression import compress
from core.networks.graph import IMAGE, NODES, Network
from core.networks.inference import Part, Runner
from core.networks.models import Baseline, BaselineError
from core.networks.operations import NetworkError, Node, node

IMAGES = (1, 28, 28)
FAMILIES = sorted(families.families())


def conv(name: str, reads: str, channels: int = 4, **more: Any) -> Node:
    """3 x 3; it keeps the size."""
    return node(
        name, "convolution", [reads], **{"channels": channels, "kernel": (3, 3), "padding": (1, 1, 1, 1), **more}
    )


def scored(*nodes: Node, shape: tuple[int, int, int] = IMAGES) -> Network:
    """These nodes, a mean of each channel, and ten scores, "fc"."""
    mean, flat = node("mean", "global_average_pool", [nodes[-1].name]), node("flat", "flatten", ["mean"])
    return Network(shape, (*nodes, mean, flat, node("fc", "linear", ["flat"], channels=10)))


def family(name: str) -> Network:
    return families.named(name).build(IMAGES, 10)


# As JSON.


@given(graphs())
def test_json_and_back_is_the_same_network(network: Network) -> None:
    again = Network.from_record(json.loads(json.dumps(network.to_record())))
    assert again == network
    assert hash(again) == hash(network)
    assert again.signals == network.signals
    assert again.tensor_shapes == network.tensor_shapes


@given(graphs(), graphs())
def test_two_networks_are_equal_exactly_when_their_json_is(one: Network, other: Network) -> None:
    assert (one == other) == (one.to_record() == other.to_record())


@given(networks())
def test_a_file_gives_back_the_graph_and_its_tensors(baseline: Baseline) -> None:
    again = models.from_bytes(models.to_bytes(baseline), "again")
    assert again.network == baseline.network
    assert again.sha256 == baseline.sha256
    assert models.declared(models.to_bytes(baseline))[0] == baseline.network


def of(**changes: Any) -> dict[str, Any]:
    """The record of a small network, changed."""
    return {**scored(conv("conv", IMAGE), node("relu", "relu", ["conv"])).to_record(), **changes}


def changed(place: int, **changes: Any) -> dict[str, Any]:
    """The same with another node at this place: conv, relu, mean, flat, fc."""
    record = of()
    record["nodes"][place] = record["nodes"][place] | changes
    return record


BAD = {
    "an unknown operation": (changed(1, operation="softmax"), r"relu .*not known.*'softmax'.*convolution"),
    "an operation that is no text": (changed(1, operation=3), "text"),
    "an operation that is a list": (changed(1, operation=["relu"]), "text"),
    "a missing input": (changed(1, inputs=["nothing"]), r"relu must read earlier nodes. Got 'nothing'"),
    "itself": (changed(1, inputs=["relu"]), r"relu must read earlier nodes. Got 'relu'"),
    "a later node": (changed(0, inputs=["flat"]), r"conv must read earlier nodes. Got 'flat'"),
    "no input": (changed(1, inputs=[]), r"relu \(relu\) must not read 0 nodes"),
    "two inputs where one is read": (changed(1, inputs=["conv", "conv"]), r"relu \(relu\) must not read 2 nodes"),
    "an input that is no text": (changed(1, inputs=[7]), "text"),
    "inputs that are no list": (changed(1, inputs=7), "a shape and a list of nodes"),
    "a name twice": (changed(1, name="conv"), r"names of nodes must differ.*'conv'"),
    "the name of the image": (changed(1, name=IMAGE), r"names of nodes must differ.*'image'"),
    "no name": (changed(1, name=""), "names of nodes must differ"),
    "a name that is no text": (changed(1, name=1), "text"),
    "an unknown setting": (changed(1, slope=0.1), r"settings of relu \(relu\) are none. Got \['slope'\]"),
    "no channels": (changed(0, channels=0), r"channels of conv must be a whole number above 0. Got 0"),
    "channels in words": (changed(0, channels="4"), r"channels of conv must be a whole number above 0. Got '4'"),
    "a kernel of one number": (changed(0, kernel=3), r"kernel of conv must be two whole numbers above 0. Got 3"),
    "groups that do not divide": (changed(0, groups=3), r"groups of conv must divide 1 and 4. Got 3"),
    "a window larger than its input": (changed(0, kernel=[31, 3]), r"window of conv, 31 x 3, must fit its input"),
    "gaps that leave the image": (changed(0, dilation=[20, 1]), r"window of conv, 41 x 3, must fit its input"),
    "a node that is not read": (of(nodes=[*of()["nodes"][:1], {"name": "more", "operation": "relu", "inputs": [IMAGE]},
                                          {**of()["nodes"][1], "inputs": ["conv"]}, *of()["nodes"][2:]]),
                               r"Nothing reads more"),
    "an end that is an image": (of(nodes=of()["nodes"][:2]), r"relu, the last node, must put out scores. Got \(4, 28"),
    "features for a convolution": (changed(1, operation="flatten") | {}, r"mean must read images.*Got shape \(3136,\)"),
    "images for a linear layer": (changed(4, inputs=["mean"]), r"fc must read features, not images"),
    "no nodes": (of(nodes=[]), r"must have 1 to 2,000 nodes. Got 0"),
    "too many nodes": (of(nodes=[{"name": f"r{i}", "operation": "relu", "inputs": [f"r{i - 1}" if i else IMAGE]}
                                 for i in range(NODES + 1)]), r"must have 1 to 2,000 nodes. Got 2,001"),
    "an image of two sizes": (of(shape=[28, 28]), "channels, height, width"),
    "an image without rows": (of(shape=[1, 0, 28]), "channels, height, width"),
    "half a row": (of(shape=[1, 27.5, 28]), "channels, height, width"),
    "a true channel": (of(shape=[True, 28, 28]), "channels, height, width"),
    "a shape that is no list": (of(shape=28), "a shape and a list of nodes"),
    "no shape": ({"nodes": of()["nodes"]}, "a shape and a list of nodes"),
    "nodes that are none": (of(nodes=5), "a shape and a list of nodes"),
    "a node that is a number": (of(nodes=[5]), "a shape and a list of nodes"),
    "a node that is a word": (of(nodes=["ab"]), "a shape and a list of nodes"),
    "nodes by name": (of(nodes={"ab": {}}), "a shape and a list of nodes"),
    "a number that no float holds": (changed(1, operation="clip", low=10**400), r"low of relu must be a finite number"),
    "a list": ([], "a shape and a list of nodes"),
    "nothing": (None, "a shape and a list of nodes"),
    "a word": ("network", "a shape and a list of nodes"),
}  # fmt: skip


@pytest.mark.parametrize(("record", "said"), BAD.values(), ids=BAD)
def test_what_is_no_network_is_refused_in_words(record: Any, said: str) -> None:
    with pytest.raises(NetworkError, match=said) as refused:
        Network.from_record(record)
    assert "\n" not in str(refused.value)


def test_shapes_that_do_not_meet_are_refused_in_words() -> None:
    two = conv("a", IMAGE), conv("b", IMAGE, 5), conv("c", IMAGE, stride=(2, 2))
    with pytest.raises(NetworkError, match=r"sum must add inputs of one shape. Got \(4, 28, 28\) and \(5, 28, 28\)"):
        scored(*two[:2], node("sum", "add", ["a", "b"]))
    with pytest.raises(NetworkError, match=r"sum \(add\) must not read 3 nodes"):
        scored(two[0], node("sum", "add", ["a", "a", "a"]))
    with pytest.raises(NetworkError, match=r"all must join inputs of one size. Got \(4, 28, 28\) and \(4, 14, 14\)"):
        scored(two[0], two[2], node("all", "concatenate", ["a", "c"]))
    with pytest.raises(NetworkError, match=r"padding of pool must be less than its window. Got \(0, 2, 0, 0\)"):
        scored(two[0], node("pool", "max_pool", ["a"], kernel=(2, 2), padding=(0, 2, 0, 0)))


def test_a_feature_map_of_more_numbers_than_there_is_room_for_is_refused_in_words() -> None:
    network = scored(node("all", "concatenate", [IMAGE] * 25_000), node("pool", "max_pool", ["all"], kernel=(28, 28)))
    with pytest.raises(BaselineError, match=r"all must put out at most 16,777,216 numbers. Got shape \(25000, 28"):
        models.check_shapes(network, network.tensor_shapes)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda own: st.lists(own, max_size=3) | st.dictionaries(st.text(max_size=5), own, max_size=3),
)


@given(place=st.integers(0, 4), key=st.sampled_from(["name", "operation", "inputs", "channels", "kernel", "groups"]),
       junk=JUNK, whole=JUNK)  # fmt: skip
def test_whatever_a_record_says_it_is_a_network_or_refused(place: int, key: str, junk: Any, whole: Any) -> None:
    for record in (changed(place, **{key: junk}), of(nodes=junk), of(shape=junk), whole):
        try:
            made = Network.from_record(record)
        except NetworkError as refused:
            assert str(refused)  # noqa: PT017 - what it is may be either
        else:
            assert Network.from_record(json.loads(json.dumps(made.to_record()))) == made


@given(networks(), st.data())
def test_tensors_that_are_not_those_of_the_graph_are_refused_by_name(baseline: Baseline, draw: st.DataObject) -> None:
    tensors = dict(baseline.tensors)
    name = draw.draw(st.sampled_from(sorted(tensors)))
    without = {key: own for key, own in tensors.items() if key != name}
    for wrong in (without, {**tensors, name: torch.zeros(*tensors[name].shape, 1)}, {**tensors, "more": tensors[name]}):
        with pytest.raises(BaselineError) as refused:
            Baseline("wrong", wrong, graph=baseline.network)
        assert ("more" if "more" in wrong else name) in str(refused.value)


# Chains are graphs that the names of their tensors tell.


@given(graphs())
def test_no_other_graph_is_taken_for_a_chain(network: Network) -> None:
    kind = chains.family(network)
    if kind:
        assert chains.chain(network.tensor_shapes) == network
        assert Baseline("it", filled(network).tensors).network == network


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_a_network_for_any_images_and_classes(name: str) -> None:
    for shape, classes in (((1, 28, 28), 10), ((3, 32, 32), 7)):
        network = families.named(name).build(shape, classes)
        assert (network.shape, network.classes) == (shape, classes)
        maps = feature_maps(filled(network), torch.randn(2, *shape))
        assert maps[network.output].shape == (2, classes)
    assert chains.family(family(name)) == (name if name in ("mlp", "cnn") else "")


# Signals.


def ends_of(network: Network) -> list[tuple[tuple[str, ...], bool]]:
    return [(signal.ends, signal.signed) for signal in network.signals]


def test_a_layer_is_rounded_behind_what_follows_it_and_unsigned_behind_a_relu() -> None:
    network = scored(conv("conv", IMAGE), node("pool", "max_pool", ["conv"], kernel=(2, 2)),
                     node("relu", "relu", ["pool"]))  # fmt: skip
    assert ends_of(network) == [(("relu",), False), (("mean",), False)]
    assert [network.signal_of(name).name for name in ("conv", "pool", "relu", "mean", "flat")] == [
        *["relu"] * 3, *["mean"] * 2
    ]  # fmt: skip
    assert network.signal_of(IMAGE) is None
    assert network.signal_of("fc") is None, "scores stay as they are"


@pytest.mark.parametrize(
    ("operation", "more", "signed"),
    [("relu", {}, False), ("sigmoid", {}, False), ("clip", {"low": 0.0}, False), ("clip", {"low": -1.0}, True),
     ("leaky_relu", {}, True), ("tanh", {}, True), ("hard_swish", {}, True), ("gelu", {}, True)],
)  # fmt: skip
def test_a_signal_is_signed_exactly_where_it_may_be_below_0(operation: str, more: dict[str, Any], signed: bool) -> None:
    network = scored(conv("conv", IMAGE), node("act", operation, ["conv"], **more))
    assert ends_of(network) == [(("act",), signed), (("mean",), signed)]
    again = scored(conv("conv", IMAGE), node("relu", "relu", ["conv"]), node("act", operation, ["relu"], **more))
    assert again.nonnegative["act"] == (operation != "clip" or not signed), "of what is never negative already"


def test_an_activation_of_one_of_two_readers_is_behind_the_rounding() -> None:
    network = scored(conv("conv", IMAGE), node("relu", "relu", ["conv"]), node("sig", "sigmoid", ["conv"]),
                     node("sum", "add", ["relu", "sig"]))  # fmt: skip
    assert ends_of(network) == [(("conv",), True), (("sig",), False), (("sum",), False), (("mean",), False)]
    assert network.signal_of("relu") == network.signal_at["conv"], "its points are points of the same grid"


def test_an_addition_is_one_signal_and_its_inputs_have_their_own() -> None:
    network = scored(conv("a", IMAGE), conv("b", IMAGE), node("sum", "add", ["a", "b"]), node("relu", "relu", ["sum"]))
    assert ends_of(network) == [(("a",), True), (("b",), True), (("relu",), False), (("mean",), False)]


def test_parts_that_are_joined_share_one_signal_which_is_signed_where_one_is() -> None:
    parts = conv("a", IMAGE), node("ra", "relu", ["a"]), conv("b", IMAGE), node("rb", "relu", ["b"]), conv("c", IMAGE)
    network = scored(*parts, node("ab", "concatenate", ["ra", "rb"]), node("abc", "concatenate", ["ab", "c"]))
    assert ends_of(network) == [(("ra", "rb", "c"), True), (("mean",), True)]
    assert {network.signal_of(name).name for name in ("a", "ra", "b", "rb", "c", "ab", "abc")} == {"ra"}
    alone = scored(*parts[:4], node("ab", "concatenate", ["ra", "rb"]))
    assert ends_of(alone) == [(("ra", "rb"), False), (("mean",), False)]


def test_scores_are_no_signal_whatever_they_are_made_of() -> None:
    flat = node("flat", "flatten", [IMAGE])
    one, two = (node(name, "linear", ["flat"], channels=5) for name in ("one", "two"))
    for last in (node("scores", "concatenate", ["one", "two"]), node("scores", "add", ["one", "two"])):
        network = Network(IMAGES, (flat, one, two, last))
        expected = [] if last.operation == "concatenate" else [(("one",), True), (("two",), True)]
        assert ends_of(network) == expected
    soft = Network(IMAGES, (flat, one, node("scores", "sigmoid", ["one"])))
    assert soft.signals == ()


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_signals_of_a_chain_are_its_relus(name: str) -> None:
    network = family(name)
    assert ends_of(network) == [((f"{layer.name}_relu",), False) for layer in network.layers[:-1]]
    assert network.cuts == tuple(f"{layer.name}_relu" for layer in network.layers[:-1])


@given(graphs())
def test_every_new_number_is_on_one_grid_but_for_the_scores(network: Network) -> None:
    ends = [end for signal in network.signals for end in signal.ends]
    assert len(set(ends)) == len(ends)
    scores = network.grids[network.output]
    for each in network.nodes:
        signal = network.signal_of(each.name)
        assert signal is None or signal.signed or network.nonnegative[network.grids[each.name]]
        if each.row.makes or each.row.follows:
            assert (signal is None) <= (network.grids[each.name] in (scores, ""))
    for each in network.nodes:
        if each.operation == "concatenate":
            shared = {network.signal_of(name) for name in each.inputs if network.grids[name]}
            assert len(shared) <= 1


# Where a network can be cut in two.


def test_a_residual_block_is_cut_between_blocks_alone() -> None:
    network = family("residual")
    assert all(".conv1" not in cut for cut in network.cuts), "beside it goes what is added"
    assert {"block2.add_relu", "block4.add_relu", "block6.add_relu_mean"} <= set(network.cuts)
    assert "block1.add_relu" not in network.cuts, "it is added again as it is"


def check_cuts(baseline: Baseline, bits: int | None, count: int = 6) -> list[str]:
    """Cuts at which the two halves give other bits than the whole."""
    x = (pixels(baseline.network, count).float() / 255 - 0.3) / 0.35
    config = CompressionConfig(activation_bits=bits)
    network, images = compress(baseline, config, statistics_of(baseline, x)).freeze(), x.numpy()
    whole, wrong = Runner(network, bits)(images), []
    for cut in network.network.cuts:
        first, rest = Part(network, up_to=cut), Part(network, after=cut)
        assert (*first.nodes, *rest.nodes) == network.network.nodes
        if not np.array_equal(Runner(rest, bits)(Runner(first, bits)(images)), whole):
            wrong.append(cut)
    return wrong


@settings(max_examples=25)
@given(baseline=networks() | networks(wide=8), bits=st.sampled_from([None, 4]))
def test_cut_in_two_at_any_of_its_cuts_a_network_gives_the_same_bit_for_bit(
    baseline: Baseline, bits: int | None
) -> None:
    assert not check_cuts(baseline, bits)


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_cut_in_two_gives_the_same_bit_for_bit(name: str, bits: int | None) -> None:
    assert family(name).cuts
    assert not check_cuts(filled(family(name)), bits)


@given(graphs())
def test_behind_a_cut_nothing_before_it_is_read(network: Network) -> None:
    places = {each.name: place for place, each in enumerate(network.nodes)}
    for cut in network.cuts:
        before = {IMAGE, *(each.name for each in network.before(cut))} - {cut}
        assert not before & {name for each in network.nodes[places[cut] + 1 :] for name in each.inputs}
    assert [places[cut] for cut in network.cuts] == sorted(places[cut] for cut in network.cuts)


@given(graphs())
def test_nodes_are_let_go_when_nobody_reads_them_any_more(network: Network) -> None:
    """And what is run again gives the same."""
    baseline = filled(network)
    x = torch.randn(2, *network.shape)
    assert torch.equal(feature_maps(baseline, x)[network.output], feature_maps(baseline, x)[network.output])
    assert graph.resized(network, {}, {}) == network
    for one, other in pairwise(network.nodes):
        assert one.name != other.name
    assert re.fullmatch(r"[a-z_]+\d+", network.output)


def test_a_chain_in_a_file_needs_no_graph() -> None:
    chain = chains.chain({f"{name}.{part}": shape if part == "weight" else shape[:1]
                          for name, shape in CNN_SHAPES.items() for part in ("weight", "bias")})  # fmt: skip
    assert models.declared(models.to_bytes(Baseline("it", filled(chain).tensors)))[0] is None
    assert models.declared(models.to_bytes(filled(chain)))[0] == chain


def test_a_graph_of_many_nodes_is_cut_like_any_other() -> None:
    """Where nothing with a weight stands between, too: a file may hold as many nodes as it likes."""
    nodes = [node("flat", "flatten", ["image"]), node("first", "linear", ["flat"], channels=4)]
    for place in range(1_500):
        nodes.append(node(f"relu{place}", "relu", [nodes[-1].name]))
    network = Network((1, 2, 2), (*nodes, node("last", "linear", [nodes[-1].name], channels=3)))
    assert network.cuts == ("relu1499",)
