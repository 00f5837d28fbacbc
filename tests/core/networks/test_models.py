"""Baselines: the sizes of the chains, batch normalization folded, and files of other people."""

import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, random_tensors, untrained
from own_networks import random_batch_norms
from random_networks import feature_maps
from torch import Tensor
from torch.nn import functional as F

from core.networks import chains, models
from core.networks.graph import Network
from core.networks.models import Baseline, BaselineError
from core.networks.operations import node


def plain(tensors: models.Tensors, x: Tensor) -> Tensor:
    """The textbook's forward pass, written out: convolution, ReLU, pooling; then linear layers with ReLU between."""
    names = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
    for name in names:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if weight.dim() == 4:
            x = F.max_pool2d(F.relu(F.conv2d(x, weight, bias, padding="same")), 2)
        else:
            x = F.linear(x.flatten(1), weight, bias)
            x = x if name == names[-1] else F.relu(x)
    return x


def ours(baseline: Baseline, x: Tensor) -> Tensor:
    return feature_maps(baseline, x)[baseline.network.output]


@pytest.mark.parametrize(("model", "parameters"), [("mlp", 932_362), ("cnn", 421_642)])
def test_a_folded_network_has_the_parameters_of_the_course(model: str, parameters: int) -> None:
    baseline = Baseline(model, untrained(model).folded())
    assert baseline.parameters == parameters
    assert baseline.bytes == 4 * parameters
    assert baseline.model == model


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@torch.no_grad()
def test_folding_changes_no_output(model: str) -> None:
    module = random_batch_norms(untrained(model, dropout=0.3))
    x = torch.randn(16, 1, 28, 28)
    folded = module.folded()
    torch.testing.assert_close(plain(folded, x), module(x), rtol=1e-3, atol=1e-3)


def test_layers_run_as_the_textbook_says(baseline: Baseline, images: Tensor) -> None:
    torch.testing.assert_close(ours(baseline, images), plain(baseline.tensors, images), rtol=1e-4, atol=1e-5)


def test_running_a_node_leaves_its_input_alone(baseline: Baseline, images: Tensor) -> None:
    before = images.clone()
    maps = feature_maps(baseline, images)
    assert torch.equal(images, before)
    for each in baseline.network.nodes:
        if not each.weighted:
            inputs = [maps[name].clone() for name in each.inputs]
            each.row.torch(each, *(maps[name] for name in each.inputs))
            assert all(torch.equal(maps[name], own) for name, own in zip(each.inputs, inputs, strict=True))


def operations(network: Network) -> list[str]:
    """Of its nodes, each of which reads the one before it."""
    names = ["image", *(each.name for each in network.nodes)]
    assert [each.inputs for each in network.nodes] == [(name,) for name in names[:-1]]
    return [each.operation for each in network.nodes]


@pytest.mark.parametrize(
    "widths",
    [(784, 7, 10), (784, 512, 512, 512, 10), (784, 33, 5, 8, 21, 10)],
    ids=lambda widths: "-".join(map(str, widths)),
)
def test_the_widths_of_a_chain_of_linear_layers_are_read_from_its_tensors(widths: tuple[int, ...]) -> None:
    shapes = {f"fc{i}": (widths[i], widths[i - 1]) for i in range(1, len(widths))}
    network = chains.chain(models.shapes_of(random_tensors(shapes)))
    assert {layer.name: layer.shape for layer in network.layers} == shapes
    assert operations(network) == ["flatten", *["linear", "relu"] * (len(shapes) - 1), "linear"]
    assert not any(layer.pool for layer in network.layers)
    assert {(layer.kind, layer.places) for layer in network.layers} == {("linear", 1)}


@pytest.mark.parametrize(("a", "b", "k", "hidden"), [(32, 64, 3, 128), (3, 5, 1, 4), (8, 2, 5, 77)])
def test_the_widths_of_a_convolutional_network_are_read_from_its_tensors(a: int, b: int, k: int, hidden: int) -> None:
    shapes = {"conv1": (a, 1, k, k), "conv2": (b, a, k, k), "fc1": (hidden, b * 49), "fc2": (10, hidden)}
    network = chains.chain(models.shapes_of(random_tensors(shapes)))
    layers = network.layers
    assert {layer.name: layer.shape for layer in layers} == shapes
    assert [layer.pool for layer in layers] == [True, True, False, False]
    assert operations(network) == [*["convolution", "max_pool", "relu"] * 2, "flatten", "linear", "relu", "linear"]
    assert layers[1].matrix_shape == (b, a * k * k)
    assert [layer.places for layer in layers] == [784, 196, 1, 1]


def test_the_order_of_the_tensors_in_a_file_does_not_matter(baseline: Baseline) -> None:
    shuffled = dict(sorted(baseline.tensors.items(), reverse=True))
    assert Baseline("x", shuffled).layers == baseline.layers
    assert Baseline("x", shuffled).network == baseline.network
    assert Baseline("x", shuffled).sha256 == baseline.sha256


def test_the_hash_is_that_of_the_weights_and_of_nothing_else(baseline: Baseline) -> None:
    same = Baseline("another name", {name: tensor.clone() for name, tensor in baseline.tensors.items()}, {"seed": 3})
    assert same.sha256 == baseline.sha256
    for changed in baseline.tensors:
        others = {name: tensor.clone() for name, tensor in baseline.tensors.items()}
        others[changed].view(-1)[0] += 1e-3
        assert Baseline(baseline.name, others).sha256 != baseline.sha256


def test_the_same_numbers_in_another_shape_or_under_another_name_have_another_hash() -> None:
    shapes = [{"fc1": (a, 784), "fc2": (b, a), "fc3": (10, b)} for a, b in ((1, 73), (2, 7))]
    zeros = [{name: torch.zeros_like(own) for name, own in random_tensors(each).items()} for each in shapes]
    assert len({sum(own.numel() for own in each.values()) for each in zeros}) == 1
    assert len({Baseline("it", each).sha256 for each in zeros}) == 2
    numbers = {"weight": torch.ones(10, 784), "bias": torch.zeros(10)}
    found = set()
    for name in ("a", "b"):
        flat = node("flat", "flatten", ["image"])
        network = Network((1, 28, 28), (flat, node(name, "linear", ["flat"], channels=10)))
        tensors = {f"{name}.{part}": own for part, own in numbers.items()}
        found.add(Baseline("it", tensors, graph=network).sha256)
    assert len(found) == 2


def square(**settings: tuple[int, ...]) -> Network:
    """A convolution with these settings, a mean of each channel, ten classes."""
    first = node("conv", "convolution", ["image"], channels=4, kernel=(3, 3), **settings)
    mean, flat = node("mean", "global_average_pool", ["conv"]), node("flat", "flatten", ["mean"])
    return Network((1, 28, 28), (first, mean, flat, node("fc", "linear", ["flat"], channels=10)))


def test_the_same_tensors_in_another_graph_have_another_hash_and_in_the_same_one_the_same(cnn: Baseline) -> None:
    tensors = random_tensors({"conv": (4, 1, 3, 3), "fc": (10, 4)})
    graphs = [square(), square(stride=(2, 2)), square(padding=(1, 1, 1, 1)), square(dilation=(2, 1)), square()]
    found = [Baseline("it", tensors, graph=each).sha256 for each in graphs]
    assert found[0] == found[-1]
    assert len(set(found)) == len(found) - 1
    assert Baseline("it", cnn.tensors, graph=cnn.network).sha256 == cnn.sha256, "the graph that its tensors tell"


def test_a_file_gives_back_the_same_graph() -> None:
    mine = Baseline("mine", random_tensors({"conv": (4, 1, 3, 3), "fc": (10, 4)}), graph=square(stride=(2, 1)))
    again = models.from_bytes(models.to_bytes(mine), "again")
    assert again.graph == mine.graph == again.network
    assert again.sha256 == mine.sha256
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(ours(again, x), ours(mine, x))


def test_a_file_gives_back_the_same_baseline(baseline: Baseline) -> None:
    again = models.from_bytes(models.to_bytes(baseline), "again", {"note": "kept"})
    assert again.sha256 == baseline.sha256
    assert again.layers == baseline.layers
    assert again.network == baseline.network
    assert again.info == {"note": "kept"}


def changed(shapes: dict[str, tuple[int, ...]], **tensors: Tensor | None) -> dict[str, Tensor]:
    made = random_tensors(shapes)
    for name, tensor in tensors.items():
        key = name.replace("_", ".")
        if tensor is None:
            del made[key]
        else:
            made[key] = tensor
    return made


WRONG = {
    "a tensor is missing": (changed(MLP_SHAPES, fc2_bias=None), ["fc2.bias"]),
    "a tensor too many": (changed(MLP_SHAPES, extra_weight=torch.ones(3)), ["extra.weight"]),
    "other names": (
        {"0.weight": torch.randn(10, 784), "0.bias": torch.randn(10)},
        ["fc1.weight", "0.weight", "import"],
    ),
    "a width that does not fit": (changed(MLP_SHAPES, fc2_weight=torch.randn(20, 25)), ["fc2.weight", "24", "25"]),
    "a bias that does not fit": (changed(MLP_SHAPES, fc2_bias=torch.randn(21)), ["fc2.bias", "20", "21"]),
    "a weight of three dimensions": (changed(MLP_SHAPES, fc1_weight=torch.randn(24, 784, 1)), ["fc1.weight"]),
    "a weight of no dimension": (changed(MLP_SHAPES, fc1_weight=torch.tensor(1.0)), ["fc1.weight"]),
    "eleven classes": (random_tensors({"fc1": (5, 784), "fc2": (11, 5)}), ["fc2", "10", "11"]),
    "no units": (random_tensors({"fc1": (3, 784), "fc2": (10, 3)}) | {"fc1.weight": torch.ones(0, 784)}, ["fc1"]),
    "inputs that are no image": (random_tensors({"fc1": (5, 100), "fc2": (10, 5)}), ["fc1.weight", "784", "100"]),
    "an even kernel": (changed(CNN_SHAPES, conv1_weight=torch.randn(4, 1, 2, 2)), ["conv1.weight", "odd"]),
    "a kernel that is not square": (changed(CNN_SHAPES, conv1_weight=torch.randn(4, 1, 3, 5)), ["conv1.weight"]),
    "three colours": (changed(CNN_SHAPES, conv1_weight=torch.randn(4, 3, 3, 3)), ["conv1.weight", "1", "3"]),
    "a convolution that is a matrix": (changed(CNN_SHAPES, conv1_weight=torch.randn(4, 9)), ["conv1.weight"]),
    "another image size behind it": (changed(CNN_SHAPES, fc1_weight=torch.randn(12, 6 * 36)), ["fc1.weight", "294"]),
    "half precision": (
        changed(MLP_SHAPES, fc1_weight=torch.randn(24, 784).half()),
        ["fc1.weight", "float32", "float16"],
    ),
    "integers": (changed(MLP_SHAPES, fc1_bias=torch.ones(24, dtype=torch.int32)), ["fc1.bias", "float32", "int32"]),
    "NaN": (changed(CNN_SHAPES, fc2_bias=torch.full((10,), torch.nan)), ["fc2.bias", "finite"]),
    "infinity": (changed(CNN_SHAPES, fc2_weight=torch.full((10, 12), torch.inf)), ["fc2.weight", "finite"]),
    "nothing": ({}, ["no tensors"]),
}


@pytest.mark.parametrize(("tensors", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_file_with_a_network_that_is_none_of_ours_is_refused_with_the_reason(
    tensors: dict[str, Tensor], named: list[str]
) -> None:
    with pytest.raises(BaselineError) as refused:
        models.from_bytes(safetensors.torch.save(tensors), "theirs")
    assert all(part in str(refused.value) for part in named), str(refused.value)


class Attack:
    """A pickle that leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\0" * 100,
        b"\xff" * 100,
        b"PK\x03\x04zip",
        b"\x08\0\0\0\0\0\0\0{}      ",
        (2**62).to_bytes(8, "little") + b"{}",
    ],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes) -> None:
    with pytest.raises(BaselineError, match="safetensors"):
        models.from_bytes(content, "theirs")


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    attack = pickle.dumps(Attack(tmp_path / "executed"))
    with pytest.raises(BaselineError):
        models.from_bytes(attack, "theirs")
    assert not (tmp_path / "executed").exists()
    pickle.loads(attack)
    assert (tmp_path / "executed").exists()  # it would have


def test_a_damaged_file_is_refused_or_another_network_but_never_another_error() -> None:
    small = Baseline("small", random_tensors({"fc1": (2, 784), "fc2": (10, 2)}))
    content = models.to_bytes(small)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(600):
        damaged = bytearray(content)
        damaged[random.randrange(header)] = random.randrange(256)
        cut = random.choice([len(content), random.randrange(len(content))])
        with suppress(BaselineError):
            models.from_bytes(bytes(damaged[:cut]), "damaged")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E8M0", "F4", "U64", "C64", "BOOL"])
def test_types_that_we_do_not_know_are_refused(dtype: str) -> None:
    small = Baseline("small", random_tensors({"fc1": (2, 784), "fc2": (10, 2)}))
    with pytest.raises(BaselineError):
        models.from_bytes(models.to_bytes(small).replace(b'"F32"', f'"{dtype}"'.encode()), "theirs")
