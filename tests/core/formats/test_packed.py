"""The packed file: the same network in as few bytes as its values need; anything else is refused."""

import hashlib
import json
import random
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, configurations, logits, random_tensors, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.bench.workbench import Workbench
from core.config import CompressionConfig, LayerConfig
from core.datasets.fashion_mnist import CLASSES, DEVIATION, MEAN
from core.formats import footprint, packed
from core.mathematics import coding
from core.networks.compression import compress
from core.networks.encodings import FormatError
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork
from core.portable import loader

SMALL = {name: Baseline(name, random_tensors(shapes)) for name, shapes in (("mlp", MLP_SHAPES), ("cnn", CNN_SHAPES))}


def drawn(family: str, images: Tensor, draw: st.DataObject) -> StoredNetwork:
    """A small network of the family, compressed in some way."""
    baseline = SMALL[family]
    return compress(baseline, draw.draw(configurations(baseline)), statistics_of(baseline, images)).freeze()


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=60)
@given(draw=st.data())
def test_what_is_read_is_what_was_written(family: str, images: Tensor, draw: st.DataObject) -> None:
    network = drawn(family, images, draw)
    made = packed.pack(network)
    read = packed.unpack(made.content)
    assert packed.pack(network) == made
    assert (read.config, read.baseline_sha256) == (network.config, SMALL[family].sha256)
    for mine, theirs in zip(network.layers, read.layers, strict=True):
        assert mine.layer == theirs.layer
        assert mine.between_scale == theirs.between_scale
        assert torch.equal(mine.bias, theirs.bias)
        if len(mine.tensors) == len(theirs.tensors):
            for tensor, copy in zip(mine.tensors, theirs.tensors, strict=True):
                assert (tensor.name, tensor.bits) == (copy.name, copy.bits)
                assert torch.equal(tensor.values, copy.values)
                assert torch.equal(tensor.weight(), copy.weight())
    assert torch.equal(logits(read, images), logits(network, images))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=40)
@given(draw=st.data())
def test_the_ledger_is_the_file_and_the_file_hardly_more_than_the_entropy(
    family: str, images: Tensor, draw: st.DataObject
) -> None:
    network = drawn(family, images, draw)
    made = packed.pack(network)
    assert sum(entry.bytes for entry in made.entries) == len(made.content)
    assert all(entry.bytes >= 0 for entry in made.entries)
    assert {entry.layer for entry in made.entries} == {"", *(layer.name for layer in SMALL[family].layers)}
    shared = sum(layer.centroids for layer in network.layers)  # each is a symbol whose frequency has to be learnt
    assert len(made.content) <= 1.05 * footprint.entropy_bytes(network) + 1024 + 2 * shared
    for choice in made.choices:
        assert choice.bytes[choice.storage] == min(choice.bytes.values())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("name", ["cnn", "mlp"])
@pytest.mark.parametrize(
    "config",
    [
        CompressionConfig(bits=8, activation_bits=8),
        CompressionConfig(bits=4, activation_bits=4, clip="mse"),
        CompressionConfig(bits=3, symmetry="asymmetric"),
        CompressionConfig(bits=2, granularity="tensor", clip="mse"),
        CompressionConfig(bits=4, sparsity=0.96, score="lamp", activation_bits=8),
        CompressionConfig(bits=4, sparsity=0.98, score="lamp"),
        CompressionConfig(bits=4, rank_share=0.2, activation_bits=4),
        CompressionConfig(bits=3, channel_share=0.4, sparsity=0.8),
    ],
    ids=str,
)
def test_of_a_real_network_the_file_is_hardly_more_than_the_entropy(
    bench: Workbench, name: str, config: CompressionConfig
) -> None:
    network = bench.network(name, config)
    assert len(packed.pack(network).content) <= 1.05 * footprint.entropy_bytes(network) + 1024


def test_each_weight_is_stored_in_the_cheapest_way(bench: Workbench) -> None:
    layers = {"conv1": LayerConfig(sparsity=0), "fc1": LayerConfig(bits=32, sparsity=0.9)}
    chosen = packed.pack(bench.network("cnn", CompressionConfig(bits=8, sparsity=0.9, layers=layers))).choices
    assert [choice.storage for choice in chosen] == ["dense", "dense", "sparse", "dense"], "codes hold their zeros"
    assert chosen[2].bytes["dense"] == 4 * 128 * 3136
    assert chosen[2].bytes["sparse"] < 4 * 128 * 3136 / 8


@pytest.mark.parametrize(("rank", "storage"), [(200, ["product"]), (40, ["dense", "dense"])])
def test_factors_larger_than_their_product_are_stored_as_the_product(
    bench: Workbench, rank: int, storage: list[str], images: Tensor
) -> None:
    """Above break-even, 255 for a layer of 512 x 512; here 52 for conv2 of 64 x 288."""
    config = CompressionConfig(layers={"conv2": LayerConfig(rank=min(rank, 64))})
    network = bench.network("cnn", config)
    made = packed.pack(network)
    assert [choice.storage for choice in made.choices if choice.layer == "conv2"] == storage
    assert torch.equal(logits(packed.unpack(made.content), images), logits(network, images))


def test_scales_and_biases_of_quantized_layers_are_halves_and_float32_layers_are_untouched(bench: Workbench) -> None:
    network = bench.network("cnn", CompressionConfig(bits=4, activation_bits=4, layers={"fc2": LayerConfig(bits=32)}))
    for layer in network.layers[:-1]:
        for array in (layer.bias, *(tensor.scale for tensor in layer.tensors)):
            assert torch.equal(array, array.half().float())
    assert network.scales
    assert all(scale == float(np.float16(scale)) for scale in network.scales.values())
    assert torch.equal(network.layers[-1].bias, bench.baseline("cnn").tensors["fc2.bias"])


@pytest.mark.parametrize("factor", [1e-7, 1e6])
def test_numbers_that_halves_cannot_hold_stay_float32(factor: float, images: Tensor) -> None:
    tensors = {name: tensor * factor for name, tensor in SMALL["mlp"].tensors.items()}
    baseline = Baseline("far", tensors)
    network = compress(baseline, CompressionConfig(bits=8), statistics_of(baseline, images)).freeze()
    for layer in network.layers:
        original = tensors[f"{layer.layer.name}.weight"]
        step = layer.tensors[0].scale
        assert (layer.tensors[0].weight() - original).abs().max() <= 0.51 * step.max()
    assert torch.equal(logits(packed.unpack(packed.pack(network).content), images), logits(network, images))


@pytest.fixture
def network(images: Tensor) -> StoredNetwork:
    config = CompressionConfig(rank_share=0.3, sparsity=0.7, bits=4, activation_bits=4, above_break_even=True)
    return compress(SMALL["cnn"], config, statistics_of(SMALL["cnn"], images)).freeze()


def test_the_file_describes_itself(network: StoredNetwork) -> None:
    about = loader.load(packed.pack(network).content).header
    assert CompressionConfig.from_json(json.dumps(about["config"])) == network.config
    assert tuple(about["classes"]) == CLASSES
    assert (about["mean"], about["deviation"]) == (MEAN, DEVIATION)
    assert about["baseline_sha256"] == SMALL["cnn"].sha256


# Runs anywhere.


@pytest.mark.parametrize("family", ["mlp", "cnn"])
@settings(max_examples=20)
@given(draw=st.data())
def test_the_loader_computes_what_we_compute(family: str, images: Tensor, draw: st.DataObject) -> None:
    network = drawn(family, images, draw)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28)).astype(np.uint8)
    x = (torch.from_numpy(pixels).float().unsqueeze(1) / 255 - MEAN) / DEVIATION
    ours, theirs = logits(network, x).numpy(), loader.load(packed.pack(network).content).logits(pixels)
    close = np.isclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(ours).max()).all(1)
    assert close.mean() >= (0.8 if network.config.activation_bits else 1.0)  # else: ties


def test_the_loader_holds_no_more_patches_at_once_than_fit() -> None:
    x, weight = np.random.randn(40, 64, 48, 48).astype("f"), np.random.randn(4, 64, 3, 3).astype("f")
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding=1)
    tracemalloc.start()
    found = loader._convolved({"padding": (1, 1, 1, 1)}, x, weight)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert most < 4 * 9 * x.size


def test_the_loader_needs_numpy_alone_and_is_short(network: StoredNetwork, tmp_path: Path) -> None:
    own = Path(loader.__file__)
    assert len(own.read_text().splitlines()) <= 430
    (tmp_path / "loader.py").write_bytes(own.read_bytes())
    (tmp_path / "network.packed").write_bytes(packed.pack(network).content)
    code = (
        "import sys, loader, numpy as np; known = set(sys.stdlib_module_names) | {'numpy', 'loader'}\n"
        "print(loader.load('network.packed').logits(np.zeros((1, 28, 28), np.uint8)).shape)\n"
        "print({name.split('.')[0] for name in sys.modules if not name.startswith('_')} - known)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    shape, others = done.stdout.splitlines()
    assert shape == "(1, 10)"
    assert not {"torch", "core", "constriction", "onnxruntime"} & set(eval(others))


# Damaged, truncated and foreign files.


def test_ten_thousand_damaged_files_are_all_refused(network: StoredNetwork) -> None:
    content, dice = packed.pack(network).content, random.Random(0)
    for turn in range(10_000):
        damaged = bytearray(content)
        where = dice.randrange(len(content))
        if turn % 5 == 0:
            del damaged[where : where + dice.randrange(1, 64)]
        elif turn % 5 == 1:
            damaged[where:where] = dice.randbytes(dice.randrange(1, 64))
        elif turn % 5 == 2:
            damaged[where : where + 8] = dice.randbytes(8)
        else:
            damaged[where] ^= 1 << dice.randrange(8)
        if damaged != content:
            with pytest.raises(FormatError):
                packed.unpack(bytes(damaged))


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()[: loader.CHECK]


def taken_apart(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a packed file, and what comes after it."""
    start = len(loader.MAGIC) + 4
    end = start + int.from_bytes(content[5:start], "little")
    about = json.loads(zlib.decompressobj(zdict=loader.DICTIONARY).decompress(content[start:end]))
    for record, parts in loader.usual(about):
        record |= {part: value for part, value in parts.items() if part not in record}
    return about, content[end : -loader.CHECK]


def put_together(about: object, body: bytes) -> bytes:
    """A packed file with its right checksum, whatever is in it."""
    compressor = zlib.compressobj(9, zdict=loader.DICTIONARY)
    text = compressor.compress(json.dumps(about).encode()) + compressor.flush()
    return sealed(loader.MAGIC + len(text).to_bytes(4, "little") + text + body)


def places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a description at which something stands: what holds it, and its key or position there."""
    items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
    for key, value in items:
        yield holder, key
        yield from places(value)


ODD: list[Any] = [None, True, -1, 0, 1, 7, 33, 2.0, 1e99, 10**400, 10**9, "", "x", [], [1], [-1, 4], [4, 4, 4, 4], {}]
ODD += [float("nan"), [[]], [{}], {"layers": 1}, "float32", "float16", -12]


def odd(about: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The same description with one thing in it changed, or gone."""
    changed = json.loads(json.dumps(about))
    holder, key = dice.choice(list(places(changed)))
    if dice.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif dice.random() < 0.3 and isinstance(holder[key], int | float):
        holder[key] += dice.choice([-1, 1, 2, 100])
    else:
        holder[key] = dice.choice(ODD)
    return changed


def is_refused(content: bytes, images: Tensor) -> bool:
    """Whether a file is refused; one that is not must hold a network that can be stored and run, of the right shape."""
    try:
        network = packed.unpack(content)
    except FormatError as error:
        said = str(error)
    else:
        packed.pack(network)
        if network.network.shape == images.shape[1:]:
            assert logits(network, images).shape == (len(images), 10)
        return False
    assert "\n" not in said
    return True


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_description_with_a_right_checksum_is_refused_or_a_network(network: StoredNetwork, images: Tensor) -> None:
    """What stands behind the compression: the header is changed before it is deflated."""
    (about, body), dice = taken_apart(packed.pack(network).content), random.Random(0)
    files = [put_together(odd(about, dice), body) for _ in range(800)]
    assert 500 < sum(is_refused(content, images[:4]) for content in files) < 800


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_codes_with_a_right_checksum_are_refused_or_a_network(network: StoredNetwork, images: Tensor) -> None:
    (about, body), dice = taken_apart(packed.pack(network).content), random.Random(0)
    for turn in range(400):
        damaged = bytearray(body)
        if turn % 4 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        elif turn % 4 == 1:
            damaged += dice.randbytes(dice.randrange(1, 9))
        else:
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        assert is_refused(put_together(about, bytes(damaged)), images[:4]) or turn % 4 > 1, "more codes, or fewer"


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_damaged_file_with_a_new_checksum_is_refused_or_a_network(network: StoredNetwork, images: Tensor) -> None:
    """Anywhere in the file, also in what is deflated."""
    content, dice = packed.pack(network).content[: -loader.CHECK], random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(content))] = dice.randrange(256)
        is_refused(sealed(bytes(damaged)), images[:4])


def table(about: Any, layer: int, weight: int) -> list[Any]:
    """Type and length of a weight's scales."""
    found: list[Any] = about["layers"][layer]["weights"][weight]["tables"]["scale"]
    return found


HOSTILE = {
    "a list": lambda about: [1],
    "text": lambda about: "network",
    "nested without end": lambda about: json.loads("[" * 900 + "]" * 900),
    "no layers": lambda about: about.update(layers=[]),
    "layers of text": lambda about: about.update(layers="conv1"),
    "no configuration": lambda about: about.pop("config") and None,
    "a configuration of another kind": lambda about: about.update(config={"colour": 1}),
    "a layer less": lambda about: about["layers"].pop() and None,
    "a layer twice": lambda about: about["layers"].append(about["layers"][0]),
    "a weight of a terabyte": lambda about: about["layers"][0]["weights"][0].update(shape=[10**6, 10**6]),
    "a weight of no size": lambda about: about["layers"][0]["weights"][0].update(shape=[0, 0, 3, 3]),
    "steps that would make a weight larger": lambda about: table(about, 2, 0).__setitem__(1, 12),
    "no step": lambda about: table(about, 2, 0).__setitem__(1, 0),
    "an unknown encoding": lambda about: about["layers"][0]["weights"][0].update(encoding="codebook"),
    "a table too many": lambda about: about["layers"][2]["weights"][0]["tables"].update(more=["float16", 1]),
    "three weights": lambda about: about["layers"][3]["weights"].extend(2 * about["layers"][3]["weights"]),
    "a weight of negative size": lambda about: about["layers"][0]["weights"][0].update(shape=[-4, -4]),
    "a weight without a shape": lambda about: about["layers"][0]["weights"][0].update(shape=None),
    "shapes of text": lambda about: about["layers"][0]["weights"][0].update(shape=["a", "b"]),
    "more nonzero weights than weights": lambda about: about["layers"][-1]["weights"][0].update(nonzero=10**9),
    "fewer nonzero weights than none": lambda about: about["layers"][-1]["weights"][0].update(nonzero=-1),
    "codes without end": lambda about: about["layers"][0]["weights"][0].update(most=10**12),
    "neighbours more than alike": lambda about: about["layers"][0]["weights"][0].update(alike=16),
    "windows of no size": lambda about: about["layers"][2]["weights"][0].update(alike=3, window=[0, 7]),
    "a scale of another type": lambda about: table(about, 0, 0).__setitem__(0, "float64"),
    "scales without end": lambda about: table(about, 0, 0).__setitem__(1, 10**12),
    "a bias of another type": lambda about: about["layers"][0].update(bias="7"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_header_that_describes_no_network_of_ours_is_refused(
    network: StoredNetwork, change: Callable[[Any], Any]
) -> None:
    about, body = taken_apart(packed.pack(network).content)
    content = put_together(change(about) or about, body)
    with pytest.raises(FormatError) as refused:
        packed.unpack(content)
    assert "\n" not in str(refused.value)


def of_one_layer(shapes: list[list[int]], kept: int | None) -> bytes:
    """A file of a hundred and some bytes that describes a layer with weights of these shapes."""
    known = {"encoding": "integer grid", "bits": 4, "most": 1, "tables": {"scale": ["float16", 1]}}
    weights = [known | {"shape": shape} | ({} if kept is None else {"nonzero": kept}) for shape in shapes]
    nodes = [{"name": "flat", "operation": "flatten"}, {"name": "fc1", "operation": "linear", "channels": 10}]
    about = {"layers": [{"weights": weights, "bias": 0}], "network": {"shape": [1, 28, 28], "nodes": nodes}}
    about |= {"config": {"activation_bits": None, "bits": 4}, "baseline_sha256": ""}
    return put_together(about, b"\1\0\0\0" * 4)


@pytest.mark.parametrize(
    ("shapes", "kept"),
    [
        ([[10**6, 10**6], [-(10**6), 10**6]], None),  # which cancel
        ([[-(10**6), -(10**6)]], None),
        ([[1 << 13, 1 << 13]], None),
        ([[1 << 13, 1 << 13]], 5),
        ([[1 << 13, 1 << 13]], 0),
        ([[10, 1 << 22], [10, 1 << 22]], 1),
        ([[10, 784], [1 << 40, 0]], None),
    ],
    ids=str,
)
def test_a_small_file_that_describes_a_large_network_is_refused_at_once(
    shapes: list[list[int]], kept: int | None
) -> None:
    """By what it describes: neither memory nor time is spent on it."""
    content = of_one_layer(shapes, kept)
    assert len(content) < 300
    tracemalloc.start()
    with pytest.raises(FormatError, match="so few bytes"):
        packed.unpack(content)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * 2**20


def test_layers_of_zeros_cost_next_to_nothing_and_are_read(bench: Workbench) -> None:
    network = bench.network("mlp", CompressionConfig(sparsity=1, bits=4))
    content = packed.pack(network).content
    assert len(content) < 4_000
    assert packed.unpack(content).nonzero == network.nonzero


@pytest.mark.parametrize(
    "content",
    [b"", b"CNET", b"CNET\x01", b"CNET\x02" + b"\0" * 99, b"CNET\x03" + b"\0" * 99, b"\x80\x04pickle", b"PK\x03"],
)
def test_a_file_of_another_kind_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        packed.unpack(content)
    with suppress(FormatError):
        packed.unpack(sealed(content))


def test_entropy_and_file_are_those_of_the_codes(network: StoredNetwork) -> None:
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    assert footprint.entropy_bytes(network) == pytest.approx(
        sum(coding.entropy(tensor.values.numpy()) for tensor in tensors) / 8
    )
