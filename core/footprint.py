"""Where the bytes go: a ledger whose total is the size of the file, and the size in theory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import safetensors.numpy

from core import stored
from core.files import safetensors_header
from core.stored import StoredNetwork

KB = 1024
"""Bytes in a KB, everywhere in this project."""

KINDS = {
    "values": "float32 values",
    "codes": "integer codes",
    "scale": "scales",
    "zero_point": "zero points",
    "map": "map of zeros",
    "bias": "biases",
    "container": "container",
}


@dataclass(frozen=True)
class Entry:
    """A line of the ledger. layer is "" for what belongs to the file as a whole."""

    layer: str
    tensor: str
    kind: str
    bytes: int


@dataclass(frozen=True)
class Footprint:
    """entries : one per stored array and kind of byte; their sum is the size of the exported file, to the byte."""

    entries: tuple[Entry, ...]

    @property
    def total(self) -> int:
        return sum(entry.bytes for entry in self.entries)


def placeholder_figures() -> dict[str, str]:
    """Figures of the right width for a file that is not yet written: accuracies have four decimals, exactly."""
    return {name: "0.0000" for name in ("validation_accuracy", "test_accuracy", "baseline_test_accuracy")}


def file_bytes(network: StoredNetwork, figures: dict[str, str]) -> bytes:
    """The exported file: one safetensors file, packed codes and all, with its metadata; the same bytes every time."""
    content = safetensors.numpy.save(stored.to_tensors(network), metadata=stored.metadata(network, figures))
    header, end = safetensors_header(content)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # safetensors writes them in any order
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + ordered.ljust(end - 8) + content[end:]


def footprint(network: StoredNetwork) -> Footprint:
    """The ledger of `file_bytes(network, ...)`: what each array weighs, and the container (header and metadata)."""
    arrays = stored.to_tensors(network)
    entries = []
    for key, array in arrays.items():
        tensor, _, kind = key.rpartition(".")
        layer = tensor.split(".")[0]
        entries.append(Entry(layer, key, KINDS[kind], array.nbytes))
    whole = len(safetensors.numpy.save(arrays, metadata=stored.metadata(network, placeholder_figures())))
    container = whole - sum(entry.bytes for entry in entries)
    return Footprint((*entries, Entry("", "header", KINDS["container"], container)))


def model_size_kb(layer_sizes: Sequence[int], bits: int | Sequence[int], biases: int = 0) -> float:
    """Size in KB = (sum over layers of weights * bits + biases * 32) / 8 / 1024.

    The size in theory, as the assignment asks for it: what the weights alone need at their bits, without scales, maps
    or a file around them. A real file needs a little more; `footprint` says how much.

    layer_sizes : number of weights of each layer; bits : one number, or one per layer; biases : how many, in float32
    """
    widths = [bits] * len(layer_sizes) if isinstance(bits, int) else list(bits)
    if len(widths) != len(layer_sizes):
        raise ValueError(f"bits must be one number or {len(layer_sizes)}, one per layer. Got {len(widths)} instead.")
    return (sum(n * b for n, b in zip(layer_sizes, widths, strict=True)) + 32 * biases) / 8 / KB


def theoretical_kb(network: StoredNetwork) -> float:
    """`model_size_kb` of a stored network: its stored weights at their bits, its biases in float32."""
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    biases = sum(layer.bias.numel() for layer in network.layers)
    return model_size_kb([t.count for t in tensors], [t.bits for t in tensors], biases)
