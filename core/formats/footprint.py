"""Where the bytes go: a ledger whose total is the size of the packed file, the entropy, and the size in theory."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from core.formats.packed import Choice, Entry, pack
from core.mathematics import coding
from core.networks.stored import StoredNetwork
from core.palette import KIND_NAMES
from core.portable import loader

KB = 1024
"""Bytes in a KB, everywhere in this project."""


COUNTED = ("float32 baseline", "bits × weights", "entropy")
"""Ways to count bytes that are no file."""


@dataclass(frozen=True)
class Footprint:
    """entries : one per stored array and kind of byte; their sum is the size of the packed file, to the byte.

    choices : how each weight is stored, and what the other ways would take
    entropy : bytes of all codes at their empirical entropy, float32 weights at their 4 bytes
    """

    entries: tuple[Entry, ...]
    choices: tuple[Choice, ...] = ()
    entropy: float = 0.0

    @property
    def total(self) -> int:
        return sum(entry.bytes for entry in self.entries)

    def by_kind(self, layer: str | None = None) -> dict[str, int]:
        """Bytes by what they hold, of a layer or of the whole file."""
        kinds: dict[str, int] = {}
        for entry in self.entries:
            if layer in (None, entry.layer):
                kinds[entry.kind] = kinds.get(entry.kind, 0) + entry.bytes
        return kinds

    def table(self) -> pd.DataFrame:
        """Columns layer ("file" for what belongs to none), tensor, kind (as somebody reads it), bytes, KB."""
        rows = [
            (e.layer or "file", e.tensor, KIND_NAMES.get(e.kind, e.kind), e.bytes, e.bytes / KB) for e in self.entries
        ]
        return pd.DataFrame(rows, columns=["layer", "tensor", "kind", "bytes", "KB"])


def from_dict(ledger: Mapping[str, Any]) -> Footprint:
    """A ledger that `dataclasses.asdict` took apart."""
    entries = tuple(Entry(**entry) for entry in ledger["entries"])
    return Footprint(entries, tuple(Choice(**choice) for choice in ledger["choices"]), ledger["entropy"])


@cache
def decoder_bytes() -> int:
    """Of what reads a packed file and runs it with NumPy, `core.portable.loader`, deflated: a file and its decoder are
    all that a network needs."""
    return len(zlib.compress(Path(loader.__file__).read_bytes(), 9))


def footprint(network: StoredNetwork) -> Footprint:
    """The ledger of the packed file, from packing it."""
    packed = pack(network)
    return Footprint(packed.entries, packed.choices, entropy_bytes(network))


def entropy_bytes(network: StoredNetwork) -> float:
    """Sum over the stored weights of n H / 8, with H the empirical entropy of its codes in bits, or 32."""
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    return sum(coding.entropy(t.values.numpy()) / 8 if t.coded else 4.0 * t.count for t in tensors)


def model_size_kb(layer_sizes: Sequence[int], bits: int | Sequence[int], biases: int = 0, centroids: int = 0) -> float:
    """Size in KB = (sum over layers of weights * bits + (biases + centroids) * 32) / 8 / 1024.

    The size in theory, as the assignment asks for it: what the weights alone need at their bits, without scales, maps
    or a file around them. A real file needs a little more; `footprint` says how much.

    layer_sizes : number of weights of each layer; bits : one number, or one per layer, log2 K where the weights share
        K values; biases, centroids : how many, in float32, the latter in all codebooks (Han et al. 2016)
    """
    widths = [bits] * len(layer_sizes) if isinstance(bits, int) else list(bits)
    if len(widths) != len(layer_sizes):
        raise ValueError(f"bits must be one number or {len(layer_sizes)}, one per layer. Got {len(widths)} instead.")
    return (sum(n * b for n, b in zip(layer_sizes, widths, strict=True)) + 32 * (biases + centroids)) / 8 / KB


def theoretical_kb(network: StoredNetwork) -> float:
    """`model_size_kb` of a stored network: its stored weights at their bits, its biases and codebooks in float32."""
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    biases = sum(layer.bias.numel() for layer in network.layers)
    centroids = sum(layer.centroids for layer in network.layers)
    return model_size_kb([t.count for t in tensors], [t.bits for t in tensors], biases, centroids)
