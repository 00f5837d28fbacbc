"""What is known of a stored network without running it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import CNN_SHAPES
from hypothesis import given
from hypothesis import strategies as st

from core.config import CompressionConfig
from core.formats import packed
from core.mathematics.rounding import fixed_point_exponent, to_fixed_point
from core.networks import chains
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.encodings import FormatError
from core.networks.encodings.float32 import Float32
from core.networks.encodings.integer_grid import IntegerGrid
from core.networks.graph import Network
from core.networks.models import Baseline
from core.networks.operations import node
from core.networks.stored import StoredLayer, StoredNetwork, check


def test_a_layers_content_names_all_that_its_output_depends_on_and_nothing_else(
    baseline: Baseline, statistics: Statistics
) -> None:
    config = CompressionConfig(rank_share=0.3, above_break_even=True, sparsity=0.5, bits=4, activation_bits=6)
    network = compress(baseline, config, statistics).freeze()
    layer = network.layers[1]
    first, second = layer.tensors
    assert isinstance(first, IntegerGrid)
    assert isinstance(second, IntegerGrid)
    others = [
        replace(layer, layer=replace(layer.layer, node=replace(layer.layer.node, name="other"))),
        replace(layer, layer=replace(layer.layer, pool=not layer.layer.pool)),
        replace(layer, bias=layer.bias + 1e-3),
        replace(layer, between_scale=None),
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
    nodes = network.network.nodes
    assert [again.content(each) for each in nodes] == [network.content(each) for each in nodes]


def test_a_nodes_content_names_its_operation_its_tensors_and_the_grid_of_its_output(
    baseline: Baseline, statistics: Statistics
) -> None:
    network = compress(baseline, CompressionConfig(bits=4, activation_bits=6), statistics).freeze()
    before = [network.content(each) for each in network.network.nodes]
    assert len(set(before)) == len(before)
    for signal in network.network.signals:
        for scales in ({**network.scales, signal.name: 2 * network.scales[signal.name]}, {}):
            moved = replace(network, scales=scales)
            now = [moved.content(each) for each in network.network.nodes]
            own = {each.name for each, old, new in zip(network.network.nodes, before, now, strict=True) if old != new}
            assert own == (set(signal.ends) if scales else set(network.network.signal_at))
    for place, layer in enumerate(network.layers):
        moved = replace(layer, bias=layer.bias + 1)
        other = replace(network, layers=(*network.layers[:place], moved, *network.layers[place + 1 :]))
        now = [other.content(each) for each in network.network.nodes]
        assert [each.name for each, old, new in zip(network.network.nodes, before, now, strict=True) if old != new] == [
            layer.layer.name
        ]


@pytest.mark.parametrize("part", ["scale", "shift"])
def test_what_is_left_of_a_normalization_is_part_of_its_nodes_content(part: str) -> None:
    network = normalized()
    affine = network.network.named["norm"]
    moved = replace(network, affine={name: own + (name == f"norm.{part}") for name, own in network.affine.items()})
    contents = [own.content(affine) for own in (network, moved, normalized())]
    assert contents[0] == contents[2] != contents[1]


def test_zeros_of_pruning_and_zeros_of_rounding_are_counted_apart(baseline: Baseline, statistics: Statistics) -> None:
    network = compress(baseline, CompressionConfig(sparsity=0.3, bits=2), statistics).freeze()
    for layer in network.layers:
        for tensor in layer.tensors:
            assert tensor.masked == int((~tensor.mask).sum())
            assert tensor.zeros == int((tensor.values == 0).sum())
    assert sum(tensor.zeros - tensor.masked for layer in network.layers for tensor in layer.tensors) > 0
    assert network.sparsity == pytest.approx(0.3, abs=1e-3)
    assert network.nonzero < network.parameters - network.sparsity * sum(layer.weights for layer in network.layers)


# What was read from a file.


def layer(shape: tuple[int, ...] = (10, 784), name: str = "fc1", **changes: Any) -> StoredLayer:
    """A layer of a chain, in float32, with something about it changed."""
    network = chains.chain(shapes_of((10, 784)) if name == "fc1" else CONVOLUTIONAL)
    whole = next(own for own in network.layers if own.name == name)
    tensors = changes.pop("tensors", None) or (Float32(f"{name}.weight", torch.ones(shape)),)
    return replace(StoredLayer(whole, tensors, torch.zeros(shape[0])), **changes)


def shapes_of(*weights: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {f"fc{place}.weight": shape for place, shape in enumerate(weights, 1)}
    return shapes | {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}


CONVOLUTIONAL = {f"{name}.{part}": shape if part == "weight" else shape[:1]
                 for name, shape in CNN_SHAPES.items() for part in ("weight", "bias")}  # fmt: skip


def stored(values: torch.Tensor, bits: int = 32, name: str = "fc1.weight") -> Any:
    return layer(tensors=(Float32(name, values, bits=bits),))


def rounded(**changes: Any) -> StoredLayer:
    """The same in four bits."""
    whole = IntegerGrid("fc1.weight", torch.ones(10, 784, dtype=torch.int16), bits=4, scale=torch.ones(10, 1))
    return layer(tensors=(replace(whole, **changes),))


def factored(first: tuple[int, int], second: tuple[int, int], names: tuple[str, ...] = ("first", "second")) -> Any:
    parts = [Float32(f"fc1.{name}", torch.ones(shape)) for name, shape in zip(names, (first, second), strict=True)]
    return layer(tensors=tuple(parts))


def network_of(*layers: StoredLayer, **changes: Any) -> StoredNetwork:
    """A network of one linear layer, of which this is stored."""
    whole = StoredNetwork(chains.chain(shapes_of((10, 784))), layers, CompressionConfig(), "")
    return replace(whole, **changes)


def convolutional(**changes: Any) -> StoredNetwork:
    """conv1, conv2, fc1, fc2."""
    network = chains.chain(CONVOLUTIONAL)
    layers = [
        StoredLayer(own, (Float32(f"{own.name}.weight", torch.ones(own.shape)),), torch.zeros(own.shape[0]))
        for own in network.layers
    ]
    return replace(StoredNetwork(network, tuple(layers), CompressionConfig(), ""), **changes)


def normalized(**changes: Any) -> StoredNetwork:
    """A convolution, and a normalization that could not be folded into it, behind its ReLU."""
    nodes = (
        node("conv", "convolution", ["image"], channels=3, kernel=(3, 3)),
        node("relu", "relu", ["conv"]),
        node("norm", "affine", ["relu"]),
        node("mean", "global_average_pool", ["norm"]),
        node("flat", "flatten", ["mean"]),
        node("fc", "linear", ["flat"], channels=10),
    )
    network = Network((1, 28, 28), nodes)
    layers = [
        StoredLayer(own, (Float32(f"{own.name}.weight", torch.ones(own.shape)),), torch.zeros(own.shape[0]))
        for own in network.layers
    ]
    affine = {"norm.scale": torch.tensor([1.0, 2.0, 3.0]), "norm.shift": torch.tensor([0.5, 0.0, -1.0])}
    return replace(StoredNetwork(network, tuple(layers), CompressionConfig(), "", {}, affine), **changes)


RIGHT = {
    "dense": network_of(layer()),
    "rounded": network_of(rounded()),
    "one step": network_of(rounded(scale=torch.ones(1, 1))),
    "two bits": network_of(rounded(bits=2)),
    "eight bits": network_of(rounded(bits=8)),
    "factors": network_of(factored((3, 784), (10, 3))),
    "a convolution": convolutional(),
    "signals": convolutional(scales={"conv1_relu": 0.5, "fc1_relu": 2.0}),
    "a normalization": normalized(scales={"norm": 0.5, "relu": 1.0}),
}
WRONG = {
    "no layers": (network_of(), "The layers"),
    "a layer too many": (network_of(layer(), layer()), "The layers"),
    "a layer of another name": (
        network_of(replace(layer(), layer=replace(layer().layer, node=node("fc2", "linear", ["flat"], channels=10)))),
        "The layers",
    ),
    "layers in another order": (convolutional(layers=convolutional().layers[::-1]), "The layers"),
    "a layer of another shape": (
        network_of(replace(layer(), layer=replace(layer().layer, shape=(10, 783)))), "The layers"
    ),
    "a pool that is none": (network_of(replace(layer(), layer=replace(layer().layer, pool=True))), "The layers"),
    "no weights": (network_of(replace(layer(), tensors=())), "weights of fc1"),
    "other weights": (network_of(stored(torch.ones(10, 784), name="fc2.weight")), "weights of fc1"),
    "smaller weights": (network_of(stored(torch.ones(10, 783))), "weights of fc1"),
    "factors that do not meet": (network_of(factored((3, 784), (10, 4))), "weights of fc1"),
    "factors of other names": (network_of(factored((3, 784), (10, 3), ("second", "first"))), "weights of fc1"),
    "a shorter bias": (network_of(layer(bias=torch.zeros(9))), "bias of fc1"),
    "no number in a bias": (network_of(layer(bias=torch.full((10,), torch.nan))), "NaN"),
    "no number in a weight": (network_of(stored(torch.full((10, 784), torch.inf))), "NaN"),
    "one bit": (network_of(rounded(bits=1)), "bits of fc1.weight"),
    "nine bits": (network_of(rounded(bits=9)), "bits of fc1.weight"),
    "true bits": (network_of(rounded(bits=True)), "bits of fc1.weight"),
    "half bits": (network_of(rounded(bits=4.0)), "bits of fc1.weight"),
    "floats in four bits": (network_of(stored(torch.ones(10, 784), 4)), "bits of fc1.weight"),
    "whole numbers as floats": (network_of(stored(torch.ones(10, 784, dtype=torch.int16))), "type of fc1.weight"),
    "steps across": (network_of(rounded(scale=torch.ones(1, 784))), "shape of the scale"),
    "a step of zero": (network_of(rounded(scale=torch.zeros(10, 1))), "above 0"),
    "a signal with a step below zero": (convolutional(scales={"conv1_relu": -1.0}), "above 0"),
    "a signal with a step that is no number": (convolutional(scales={"fc1_relu": float("nan")}), "NaN or infinity"),
    "an endless step": (network_of(layer(between_scale=float("inf"))), "NaN or infinity"),
    "a step of no signal": (convolutional(scales={"conv1": 0.5}), "scales of no signal"),
    "a step for the scores": (convolutional(scales={"fc2": 0.5}), "scales of no signal"),
    "a normalization without its numbers": (normalized(affine={}), "nodes without weights"),
    "a normalization of other width": (
        normalized(affine={"norm.scale": torch.ones(4), "norm.shift": torch.ones(3)}), "nodes without weights"
    ),
    "numbers of no normalization": (
        network_of(layer(), affine={"fc1.scale": torch.ones(10)}), "nodes without weights"
    ),
    "no number in a normalization": (
        normalized(affine={"norm.scale": torch.full((3,), torch.nan), "norm.shift": torch.ones(3)}), "NaN"
    ),
}  # fmt: skip


@pytest.mark.parametrize("network", RIGHT.values(), ids=RIGHT)
def test_a_network_of_ours_is_taken(network: StoredNetwork) -> None:
    check(network)


@pytest.mark.parametrize(("network", "named"), WRONG.values(), ids=WRONG)
def test_what_is_no_network_is_refused_by_the_name_of_what_is_wrong(network: StoredNetwork, named: str) -> None:
    with pytest.raises(FormatError, match=named) as refused:
        check(network)
    assert "\n" not in str(refused.value)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALLEST = st.integers(-(2**20), 2**20).map(lambda whole: whole * 2.0**-149)
"""Of float32, so small that the step of their grid may be less than any number."""


@given(st.lists(FLOATS, min_size=1, max_size=20) | st.lists(SMALLEST, min_size=1, max_size=20))
def test_fixed_point_numbers_need_no_more_than_float32_and_are_what_float64_makes_of_them(numbers: list[float]) -> None:
    x = torch.tensor(numbers)
    step = 2.0 ** fixed_point_exponent(x.abs().max().item())
    exact = (x.double() / step).round() * step
    assert torch.equal(to_fixed_point(x), exact.float())
    assert exact.abs().max() <= 2047 * step
    assert bool(((exact - x.double()).abs() <= step / 2).all())


@given(st.integers(-60, 60))
def test_the_exponent_is_the_smallest_that_holds_the_largest_number(exponent: int) -> None:
    edge = 2047 * 2.0**exponent
    assert fixed_point_exponent(edge) == exponent
    assert fixed_point_exponent(edge * (1 - 2**-50)) == exponent
    assert fixed_point_exponent(edge * (1 + 2**-50)) == exponent + 1
    assert fixed_point_exponent(0.0) == 0
