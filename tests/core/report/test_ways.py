"""A drawing shows every way that data take through a network."""

import pytest

from core.networks import families
from core.networks.building import Plan
from core.networks.graph import Network
from core.report import drawing, ways

SHAPE = (1, 28, 28)


def family(name: str) -> Network:
    return families.named(name).build(SHAPE, 10)


@pytest.mark.parametrize("name", families.families())
def test_every_layer_and_every_join_has_a_place_of_its_own_in_order(name: str) -> None:
    graph = family(name)
    found = ways.places(graph)
    assert list(found) == [node.name for node in graph.nodes if node.weighted or node.operation in ways.SIGNS]
    assert sorted(found.values()) == list(found.values())
    assert len(set(found.values())) == len(found)
    assert ways.end(found) > max(found.values())


@pytest.mark.parametrize("name", ["mlp", "cnn", "compact", "separable"])
def test_a_chain_has_no_way_around_anything(name: str) -> None:
    graph = family(name)
    assert ways.ways(graph, ways.places(graph), 1.0).empty
    assert not ways.branches(graph)
    assert drawing.named(graph), "its lines go on, with room for figures, however many layers it has"


def test_what_is_said_beside_layers_follows_the_room_that_there_is() -> None:
    assert ways.branches(family("residual"))
    assert not drawing.named(family("residual"))
    plan = Plan(SHAPE)
    x = plan.convolution("a", plan.image, 4)
    plan.linear("fc", plan.average(plan.add("sum", x, plan.convolution("b", x, 4))), 10)
    assert ways.branches(plan.network())
    assert drawing.named(plan.network())


def test_a_residual_network_has_a_sign_for_every_addition_and_a_way_past_what_is_added() -> None:
    graph = family("residual")
    found, additions = ways.places(graph), [node for node in graph.nodes if node.operation == "add"]
    rows = ways.ways(graph, found, 2.0)
    joins = rows[rows["kind"] == "join"]
    assert joins["above"].tolist() == ["+"] * len(additions)
    shortcuts = [layer.name for layer in graph.layers if layer.name.endswith("shortcut")]
    around = rows[rows["kind"] == "way"]
    # One past the two convolutions of each block; where the shortcut has a layer, one to it, and one past it.
    assert around["way"].nunique() == len(additions) + len(shortcuts)
    assert around["low"].max() == 0
    assert around["low"].min() == -2.0 * ways.DEPTH
    for _, way in around.groupby("way"):
        assert way["left"].is_monotonic_increasing
