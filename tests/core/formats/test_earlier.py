"""Files of earlier versions, made when these were written: a network with factors, zeros, and layers in 4, 8 and 32
bits, and what it predicted for the first test images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.datasets import fashion_mnist
from core.formats import artifact, earlier, interchange, packed, readers
from core.formats import second as earlier_second
from core.networks.encodings import FormatError
from core.portable import loader

FOLDER = Path(__file__).parent / "earlier"
PACKED, TENSORS = FOLDER / "network.packed", FOLDER / "network.safetensors"
SECOND, GRAPH = FOLDER / "second.packed", FOLDER / "second-graph.packed"
"""The same network as a file of version 2, and one of the family compact in 3 bits."""


@pytest.fixture(scope="module")
def images() -> np.ndarray[Any, Any]:
    return fashion_mnist.load("test").images[:500].numpy()


@pytest.mark.parametrize(
    ("path", "reader", "predictions"),
    [
        (PACKED, readers.with_numpy, "predictions.txt"),
        (TENSORS, readers.with_torch, "predictions.txt"),
        (SECOND, readers.with_numpy, "predictions.txt"),
        (GRAPH, readers.with_numpy, "second-graph.txt"),
    ],
    ids=["packed", "safetensors", "second", "second-graph"],
)
def test_it_predicts_what_it_predicted(path: Path, reader: Any, predictions: str, images: np.ndarray[Any, Any]) -> None:
    run, _ = reader(path)
    known = (FOLDER / predictions).read_text().strip()
    assert "".join(map(str, run(images).argmax(1).tolist())) == known


def test_both_files_hold_the_same_network_and_become_files_of_this_version() -> None:
    assert PACKED.read_bytes()[:5] == earlier.FIRST
    network, other = artifact.read(PACKED), artifact.read(TENSORS)
    assert [layer.content for layer in network.layers] == [layer.content for layer in other.layers]
    assert (network.network, network.scales, network.config) == (other.network, other.scales, other.config)
    assert {layer.rank is None for layer in network.layers} == {True, False}
    assert {tensor.bits for layer in network.layers for tensor in layer.tensors} == {4, 8, 32}
    again = packed.pack(network).content
    assert again[:5] == loader.MAGIC
    assert len(again) < len(PACKED.read_bytes()), "the header alone differs, and is shorter"
    assert [layer.content for layer in packed.unpack(again).layers] == [layer.content for layer in network.layers]
    assert interchange.from_safetensors(*interchange.to_safetensors(network)).network == network.network


def test_files_of_the_second_version_hold_what_they_held_and_become_smaller_ones() -> None:
    first, second, graph = (artifact.read(path) for path in (PACKED, SECOND, GRAPH))
    assert [layer.content for layer in first.layers] == [layer.content for layer in second.layers]
    for path, network in ((SECOND, second), (GRAPH, graph)):
        again = packed.pack(network).content
        assert (path.read_bytes()[:5], again[:5]) == (earlier_second.SECOND, loader.MAGIC)
        assert len(again) < len(path.read_bytes())
        read = packed.unpack(again)
        assert [layer.content for layer in read.layers] == [layer.content for layer in network.layers]
        assert (read.network, read.scales, read.config) == (network.network, network.scales, network.config)


@pytest.mark.parametrize("path", [PACKED, SECOND, GRAPH], ids=["first", "second", "graph"])
def test_a_damaged_one_is_refused_in_words(path: Path) -> None:
    content = path.read_bytes()
    for wrong in (content[:-1], content[:20], content[:5], content[:99] + b"?" + content[100:]):
        with pytest.raises(FormatError, match=r"damaged"):
            packed.unpack(wrong)


def test_a_damaged_description_is_refused() -> None:
    tensors, about = TENSORS.read_bytes(), json.loads((FOLDER / "network.json").read_text())
    for change in ({"layers": None}, {"layers": about["layers"][:-1]}, {"layers": [{}]}):
        with pytest.raises(FormatError):
            interchange.from_safetensors(tensors, json.dumps(about | change).encode())
