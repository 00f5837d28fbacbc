"""Every row of the table of operations computes the same in torch, in ONNX Runtime and in NumPy alone."""

from typing import Any

import pytest
import torch
from conftest import logits, rounding_margin, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import STEPS, feature_maps, filled, graphs, networks, pixels
from torch import Tensor

from core.config import CompressionConfig
from core.datasets.fashion_mnist import DEVIATION, MEAN
from core.formats import packed
from core.networks.compression import compress
from core.networks.graph import Network
from core.networks.models import Baseline
from core.networks.operations import OPERATIONS, NetworkError, node
from core.portable import loader, plain_torch

FEW = settings(max_examples=5)


def inputs(images: Tensor) -> Tensor:
    return (images.float() / 255 - MEAN) / DEVIATION


def test_there_is_a_random_network_for_every_row() -> None:
    assert {*STEPS, "flatten", "linear"} == set(OPERATIONS)


def test_the_readers_know_every_row() -> None:
    with_tensors = {name for name, row in OPERATIONS.items() if row.weighted} | {"affine"}
    for reader in (loader, plain_torch):
        assert set(reader.OPERATIONS) | with_tensors == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
@FEW
@given(draw=st.data())
def test_torch_onnx_runtime_and_numpy_compute_the_same(operation: str, draw: st.DataObject) -> None:
    baseline = draw.draw(networks(operation))
    assert operation in {each.operation for each in baseline.network.nodes}
    images = pixels(baseline.network, 5)
    x = inputs(images)
    expected = feature_maps(baseline, x)[baseline.network.output]
    network = compress(baseline, CompressionConfig(), statistics_of(baseline, x))
    close = {"rtol": 1e-4, "atol": 1e-4 * max(1.0, expected.abs().max().item())}
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, **close)
    stored = network.freeze()
    torch.testing.assert_close(logits(stored, x), expected, **close)
    read = loader.load(packed.pack(stored).content).logits(images.numpy())
    torch.testing.assert_close(torch.from_numpy(read), expected, **close)


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=2)
@given(draw=st.data(), bits=st.sampled_from([4, 8]))
def test_with_rounded_signals_they_compute_the_same(operation: str, draw: st.DataObject, bits: int) -> None:
    baseline = draw.draw(networks(operation))
    images = pixels(baseline.network, 12)
    x = inputs(images)
    network = compress(baseline, CompressionConfig(bits=8, activation_bits=bits), statistics_of(baseline, x))
    stored = network.freeze()
    sure = rounding_margin(stored, x) > 1e-3
    expected = logits(stored, x)[sure]
    close = {"rtol": 1e-3, "atol": 1e-3 * max(1.0, expected.abs().max().item() if sure.any() else 0.0)}
    with torch.no_grad():
        torch.testing.assert_close(network(x)[sure], expected, **close)
    read = loader.load(packed.pack(stored).content).logits(images.numpy())
    torch.testing.assert_close(torch.from_numpy(read)[sure], expected, **close)


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=5)
@given(draw=st.data())
def test_shapes_by_the_table_are_those_of_torch(operation: str, draw: st.DataObject) -> None:
    baseline: Baseline = draw.draw(networks(operation))
    maps = feature_maps(baseline, inputs(pixels(baseline.network, 2)))
    assert {name: (2, *shape) for name, shape in baseline.network.shapes.items()} == {
        name: tuple(own.shape) for name, own in maps.items()
    }


@given(graphs())
def test_what_is_said_never_to_be_negative_never_is(network: Any) -> None:
    baseline = filled(network)
    maps = feature_maps(baseline, inputs(pixels(network, 4)))
    for name, never in network.nonnegative.items():
        assert not never or maps[name].min() >= 0


@given(graphs())
def test_what_keeps_a_grid_puts_out_points_of_it(network: Any) -> None:
    """Whole numbers stay whole numbers, and the largest never grows."""
    for each in network.nodes:
        if each.row.keeps:
            x = [torch.randint(-7, 8, (2, *network.shapes[name])).float() for name in each.inputs]
            y = each.row.torch(each, *x)
            assert torch.equal(y, y.round())
            assert y.abs().max() <= max(own.abs().max() for own in x)


SETTINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown setting": ("relu", {"slope": 0.1}, "slope"),
    "none where one is needed": ("linear", {}, "channels of it must be given"),
    "no channels": ("linear", {"channels": 0}, "whole number above 0. Got 0"),
    "half a channel": ("linear", {"channels": 2.5}, "whole number above 0. Got 2.5"),
    "true channels": ("linear", {"channels": True}, "Got True"),
    "channels in words": ("linear", {"channels": "ten"}, "Got 'ten'"),
    "channels without end": ("linear", {"channels": 2**64}, "whole number above 0. Got 18446744073709551616"),
    "a kernel of one number": ("max_pool", {"kernel": 3}, "two whole numbers"),
    "a kernel of three": ("max_pool", {"kernel": [3, 3, 3]}, "two whole numbers"),
    "a kernel in words": ("max_pool", {"kernel": "33"}, "two whole numbers"),
    "an empty kernel": ("max_pool", {"kernel": [0, 3]}, "whole number above 0"),
    "padding of two": ("max_pool", {"kernel": [3, 3], "padding": [1, 1]}, "four whole numbers"),
    "padding below zero": ("max_pool", {"kernel": [3, 3], "padding": [0, 0, -1, 0]}, "padding of it"),
    "half a padding": ("max_pool", {"kernel": [3, 3], "padding": [0, 0, 0.5, 0]}, "padding of it"),
    "a stride of nothing": ("max_pool", {"kernel": [3, 3], "stride": [1, 0]}, "stride of it"),
    "a low end that is none": ("clip", {"low": float("nan")}, "finite number"),
    "a high end without end": ("clip", {"high": float("inf")}, "finite number"),
    "a slope in words": ("leaky_relu", {"slope": "0.1"}, "finite number"),
    "a slope too large": ("leaky_relu", {"slope": 1e30}, "finite number"),
    "a true slope": ("leaky_relu", {"slope": True}, "finite number"),
    "a slope that no float holds": ("leaky_relu", {"slope": 10**400}, "finite number"),
    "a flag of one": ("average_pool", {"kernel": [2, 2], "counts_padding": 1}, "true or false"),
}


def test_the_ends_of_a_clip_are_not_crossed() -> None:
    nodes = node("it", "clip", ["image"], low=2.0, high=1.0), node("flat", "flatten", ["it"])
    with pytest.raises(NetworkError, match="low of it must be below high"):
        Network((1, 2, 2), (*nodes, node("fc", "linear", ["flat"], channels=3)))


@pytest.mark.parametrize(("operation", "given_settings", "said"), SETTINGS.values(), ids=SETTINGS)
def test_settings_of_another_kind_are_refused_in_words(
    operation: str, given_settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(NetworkError) as refused:
        node("it", operation, ["image"], **given_settings)
    assert said in str(refused.value)
    assert "it" in str(refused.value)


def test_an_operation_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NetworkError, match=r"'softmax'.*convolution.*gelu"):
        node("it", "softmax", ["image"])
