"""What is known of a stored network without running it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config import CompressionConfig
from core.formats import packed
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.models import Baseline, Layer
from core.networks.stored import FormatError, StoredLayer, StoredTensor, check, fixed_point_exponent, to_fixed_point


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


# What was read from a file.


def layer(
    shape: tuple[Any, ...] = (10, 784), name: Any = "fc1", relu: Any = False, pool: Any = False, **changes: Any
) -> StoredLayer:
    """The only layer of a network, in float32, with something about it changed."""
    whole = Layer(name, shape, pool, relu)
    tensors = changes.pop("tensors", None) or (StoredTensor(f"{name}.weight", torch.ones(shape), 32),)
    return replace(StoredLayer(whole, tensors, torch.zeros(shape[0])), **changes)


def stored(values: torch.Tensor, bits: int = 32, scale: torch.Tensor | None = None, name: str = "fc1.weight") -> Any:
    return layer(tensors=(StoredTensor(name, values, bits, scale),))


def rounded(**changes: Any) -> StoredLayer:
    """The same in four bits."""
    whole = StoredTensor("fc1.weight", torch.ones(10, 784, dtype=torch.int16), 4, torch.ones(10, 1))
    return layer(tensors=(replace(whole, **changes),))


def factored(first: tuple[int, int], second: tuple[int, int], names: tuple[str, ...] = ("first", "second")) -> Any:
    parts = [
        StoredTensor(f"fc1.{name}", torch.ones(shape), 32) for name, shape in zip(names, (first, second), strict=True)
    ]
    return layer(tensors=tuple(parts))


CONVOLUTION = layer((5, 1, 3, 3), "conv1", relu=True, pool=True)
LAST = layer((10, 5 * 14 * 14), "fc1")
RIGHT = {
    "dense": [layer()],
    "rounded": [rounded()],
    "one step": [rounded(scale=torch.ones(1, 1))],
    "two bits": [rounded(bits=2)],
    "eight bits": [rounded(bits=8)],
    "factors": [factored((3, 784), (10, 3))],
    "a convolution": [CONVOLUTION, LAST],
    "signals": [CONVOLUTION, replace(LAST, input_scale=0.5)],
}
WRONG = {
    "no layers": ([], "names of layers"),
    "a name of none": ([layer(name=3)], "names of layers"),
    "a name twice": ([CONVOLUTION, replace(LAST, layer=replace(LAST.layer, name="conv1"))], "different names"),
    "a pool of three": ([layer(pool=3)], "pool and relu"),
    "one dimension": ([layer((10,))], "shape"),
    "three dimensions": ([layer((10, 5, 5))], "shape"),
    "five dimensions": ([layer((10, 1, 3, 3, 3))], "shape"),
    "no outputs": ([layer((0, 784))], "shape"),
    "a true size": ([replace(layer(), layer=Layer("fc1", (True, 784)))], "shape"),
    "half a size": ([replace(layer(), layer=Layer("fc1", (10, 784.0)))], "shape"),  # type: ignore[arg-type]
    "an even kernel": ([layer((5, 1, 2, 2), "conv1"), LAST], "shape"),
    "an oblong kernel": ([layer((5, 1, 3, 5), "conv1"), LAST], "shape"),
    "an oblong kernel, first even": ([layer((5, 1, 2, 3), "conv1"), LAST], "shape"),
    "no weights": ([replace(layer(), tensors=())], "weights of fc1"),
    "other weights": ([stored(torch.ones(10, 784), name="fc2.weight")], "weights of fc1"),
    "smaller weights": ([stored(torch.ones(10, 783))], "weights of fc1"),
    "factors that do not meet": ([factored((3, 784), (10, 4))], "weights of fc1"),
    "factors of other names": ([factored((3, 784), (10, 3), ("second", "first"))], "weights of fc1"),
    "a shorter bias": ([layer(bias=torch.zeros(9))], "bias of fc1"),
    "no number in a bias": ([layer(bias=torch.full((10,), torch.nan))], "NaN"),
    "no number in a weight": ([stored(torch.full((10, 784), torch.inf))], "NaN"),
    "one bit": ([rounded(bits=1)], "bits of fc1.weight"),
    "nine bits": ([rounded(bits=9)], "bits of fc1.weight"),
    "true bits": ([rounded(bits=True)], "bits of fc1.weight"),
    "half bits": ([rounded(bits=4.0)], "bits of fc1.weight"),
    "no step": ([rounded(scale=None)], "has a scale"),
    "a step of none": ([stored(torch.ones(10, 784), 32, torch.ones(1, 1))], "has a scale"),
    "steps across": ([rounded(scale=torch.ones(1, 784))], "shape of the scale"),
    "a step of zero": ([rounded(scale=torch.zeros(10, 1))], "above 0"),
    "a step below zero": ([layer(input_scale=-1.0)], "above 0"),
    "an endless step": ([layer(between_scale=float("inf"))], "NaN or infinity"),
    "layers that do not meet": ([CONVOLUTION, layer((10, 5 * 14 * 13))], "does not fit"),
    "a convolution after all": ([replace(LAST, layer=replace(LAST.layer, relu=True)), CONVOLUTION], "does not fit"),
    "nine classes": ([layer((9, 784))], "outputs"),
}  # fmt: skip


@pytest.mark.parametrize("layers", RIGHT.values(), ids=RIGHT)
def test_a_network_of_ours_is_taken(layers: list[StoredLayer]) -> None:
    check(layers)


@pytest.mark.parametrize(("layers", "named"), WRONG.values(), ids=WRONG)
def test_what_is_no_network_is_refused_by_the_name_of_what_is_wrong(layers: list[StoredLayer], named: str) -> None:
    with pytest.raises(FormatError, match=named) as refused:
        check(layers)
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
