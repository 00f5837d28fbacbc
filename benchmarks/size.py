"""What networks weigh as files, each in all formats, in one run.

    python -m benchmarks.size [--baseline cnn|mlp] [--found FOLDER ...] [--nncodec PYTHON] [--json]

From the baseline through 8 and 4 bits without training and 90 % sparse with 4 bits, trained, to the smallest one that
the README claims; with `--found` also exports, such as `python -m core search --out FOLDER` leaves. What needs training
is trained the first time (the CNN about ten minutes on two cores) and then comes from the cache. Each packed file is
decoded again with NumPy alone and must hold the very weights.

    packed      the whole file, with scales, biases and what it says of itself
    decoder     the packed file and what decodes it with NumPy
    entropy     of the codes alone, each layer's for itself
    gzip, zstd, xz, brotli
                at their highest levels, of the same codes, one byte each, with scales, centroids and biases as float16
    NNCodec     the packed file with the codes as ISO/IEC 15938-17 writes them, in its best setting of four;
                needs a Python that has nncodec 2.1, which cannot live beside today's NumPy. Its dependent quantization
                is left out: it makes other codes, and another network
    torch.save  of the state dict with the float32 weights, zeros and all
    others      the files that Export writes
"""

import argparse
import gzip
import io
import json
import lzma
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import torch
import zstandard

from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.formats import artifact, footprint, packed
from core.networks.stored import StoredNetwork
from core.studies.assignment import RATE, RUNGS

FEW_BITS = CompressionConfig(bits=4, activation_bits=8, score="lamp", **RUNGS["+ GPTQ"])
SMALLEST = {"cnn": (0.97, 0.98), "mlp": (0.98,)}
"""Sparsities: the largest found within one point on validation, and for the CNN one that keeps 92 % on test."""


def configurations(name: str) -> dict[str, CompressionConfig]:
    def trained(sparsity: float, epochs: int) -> CompressionConfig:
        recovery = RecoveryConfig(epochs, RATE, schedule="iterative", distillation=True)
        return replace(FEW_BITS, sparsity=sparsity, recovery=recovery)

    return {
        "baseline, float32": CompressionConfig(),
        "8 bits, no training": replace(FEW_BITS, bits=8),
        "4 bits, no training": FEW_BITS,
        "90 % sparse, 4 bits, 8 epochs": trained(0.9, 8),
    } | {f"{sparsity:.0%} sparse, 4 bits, 20 epochs": trained(sparsity, 20) for sparsity in SMALLEST[name]}


def plain_bytes(network: StoredNetwork) -> bytes:
    """Codes as int8 (float32 where there are none), then tables and biases as float16, one after the other."""
    parts = []
    for layer in network.layers:
        for tensor in layer.tensors:
            parts.append(tensor.values.numpy().astype(np.int8 if tensor.coded else np.float32).tobytes())
            parts += [table.numpy().astype(np.float16).tobytes() for table in tensor.tables.values()]
        parts.append(layer.bias.numpy().astype(np.float16).tobytes())
    return b"".join(parts)


def torch_bytes(network: StoredNetwork) -> int:
    tensors = {tensor.name: tensor.weight() for layer in network.layers for tensor in layer.tensors}
    tensors |= {f"{layer.layer.name}.bias": layer.bias for layer in network.layers}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return len(buffer.getvalue())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": partial(gzip.compress, compresslevel=9),
    "zstd": partial(zstandard.compress, level=22),
    "xz": partial(lzma.compress, format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME),
    "brotli": partial(brotli.compress, quality=11, lgwin=24),
}

NNCODEC = """
import sys
import numpy as np
from nncodec.extensions import deepCABAC
from nncodec.nnc_core.hdsp.hdsp_tool import HDSP_OPTS_OFF

def size(matrices, adapted, skips_rows, scan):
    encoder = deepCABAC.Encoder()
    for codes in matrices:
        empty = (~codes.any(1)).astype(np.int32) if skips_rows else np.zeros(len(codes), np.int32)
        encoder.initCtxModels(11, adapted)
        encoder.encodeLayer(codes, 0, scan, 1, 0, skips_rows, empty, *HDSP_OPTS_OFF(), 0, 0)
    return len(encoder.finish())

held = np.load(sys.argv[1])
matrices = [np.ascontiguousarray(held[name].reshape(len(held[name]), -1)).astype(np.int32) for name in held.files]
print(min(size(matrices, *how) for how in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1))))
"""
"""A process of its own: bytes of the codes in a file of NumPy arrays, in order."""

CODES = ("integer codes", "map of zeros")
"""Kinds of bytes of the ledger that NNCodec writes in its own way."""


def nncodec_bytes(network: StoredNetwork, python: str) -> int | None:
    """None where a weight has no codes, or a codebook's."""
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    if any("scale" not in tensor.tables for tensor in tensors):
        return None
    kinds = footprint.footprint(network).by_kind()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "codes.npz"
        np.savez(file, **{tensor.name: tensor.values.numpy() for tensor in tensors})
        done = subprocess.run([python, "-c", NNCODEC, str(file)], capture_output=True, text=True, check=True)
    return sum(kinds.values()) - sum(kinds.get(kind, 0) for kind in CODES) + int(done.stdout.split()[-1])


def sizes(network: StoredNetwork, nncodec: str | None) -> dict[str, int]:
    """Bytes by way. The packed file is read again, and must hold the very weights."""
    made, _ = artifact.files(network)
    content = made[artifact.NETWORK_FILE][1]
    for own, read in zip(network.layers, packed.unpack(content).layers, strict=True):
        assert all(torch.equal(a.weight(), b.weight()) for a, b in zip(own.tensors, read.tensors, strict=True))
    plain = plain_bytes(network)
    found = {"packed": len(content), "decoder": len(content) + footprint.decoder_bytes()}
    found |= {"entropy": round(footprint.entropy_bytes(network))}
    found |= {way: len(pack(plain)) for way, pack in PACKERS.items()}
    with_nncodec = nncodec_bytes(network, nncodec) if nncodec else None
    found |= {} if with_nncodec is None else {"NNCodec": with_nncodec}
    found |= {"torch.save": torch_bytes(network)}
    return found | {kind: len(own) for kind, own in made.values() if kind not in ("", "packed")}


def measure(bench: Workbench, name: str, config: CompressionConfig, nncodec: str | None) -> dict[str, Any]:
    if config.recovery is not None:
        bench.recover(name, config, lambda event: None)
    validation, test = (bench.evaluate(name, config, split) for split in ("validation", "test"))
    found = sizes(bench.network(name, config), nncodec)
    return {
        "validation_difference": validation.comparison.difference,
        "test_accuracy": test.evaluation.accuracy,
        "test_difference": test.comparison.difference,
        "baseline_bytes": test.baseline_bytes,
        "compression_ratio": test.baseline_bytes / found["packed"],
        "packed_over_entropy": found["packed"] / found["entropy"],
        "gzip_over_packed": found["gzip"] / found["packed"],
        "zstd_over_packed": found["zstd"] / found["packed"],
        "bytes": found,
    }


def exported(folder: Path, nncodec: str | None) -> dict[str, Any]:
    """The same of an export, its accuracy as its verdict has it."""
    network = packed.unpack((folder / artifact.NETWORK_FILE).read_bytes())
    verdict = json.loads((folder / artifact.VERDICT_FILE).read_text())
    layers = [stored.layer for stored in network.layers]
    found, whole = sizes(network, nncodec), 4 * sum(layer.weights + layer.shape[0] for layer in layers)
    return {
        "test_accuracy": verdict["test_accuracy"],
        "test_difference": verdict["test_accuracy"] - verdict["baseline_test_accuracy"],
        "compression_ratio": whole / found["packed"],
        "bytes": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=list(SMALLEST), default="cnn")
    parser.add_argument("--found", nargs="+", type=Path, default=[], metavar="FOLDER", help="exports, weighed besides")
    parser.add_argument("--nncodec", metavar="PYTHON", help="a Python that has nncodec")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bench = Workbench()
    name, python = options.baseline, options.nncodec
    rows = {title: measure(bench, name, own, python) for title, own in configurations(name).items()}
    rows |= {f"found: {folder.name}": exported(folder, python) for folder in options.found}
    if options.json:
        print(json.dumps(rows))
        return
    ways = dict.fromkeys(way for row in rows.values() for way in row["bytes"])
    print(f"{'':32}{'test':>8}{'change':>8}{'ratio':>8}" + "".join(f"{way:>12}" for way in ways))
    for title, row in rows.items():
        sizes = "".join(f"{row['bytes'].get(way, '-'):>12,}" if way in row["bytes"] else f"{'-':>12}" for way in ways)
        figures = f"{row['test_accuracy']:>8.2%}{100 * row['test_difference']:>+8.2f}{row['compression_ratio']:>8.1f}"
        print(f"{title:32}{figures}{sizes}")


if __name__ == "__main__":
    main()
