"""What networks weigh as files, each in all formats, in one run.

    python -m benchmarks.size [--baseline cnn|mlp] [--json]

From the baseline through 8 and 4 bits without training and 90 % sparse with 4 bits, trained, to the smallest one that
the README claims. What needs training is trained the first time (the CNN about ten minutes on two cores) and then comes
from the cache. Each packed file is decoded again with NumPy alone and must hold the very weights.

    packed      the whole file, with scales, biases and what it says of itself
    entropy     of the codes alone, each layer's for itself
    gzip, zstd  at their highest levels, of the same codes, one byte each, with scales and biases as float16
    torch.save  of the state dict with the float32 weights, zeros and all
    others      the files that Export writes
"""

import argparse
import gzip
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zstandard

from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.formats import artifact, packed
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
    """Codes as int8 (float32 where there are none), then scales and biases as float16, one after the other."""
    parts = []
    for layer in network.layers:
        for tensor in layer.tensors:
            quantized = tensor.scale is not None
            parts.append(tensor.values.numpy().astype(np.int8 if quantized else np.float32).tobytes())
            parts += [tensor.scale.numpy().astype(np.float16).tobytes()] if tensor.scale is not None else []
        parts.append(layer.bias.numpy().astype(np.float16).tobytes())
    return b"".join(parts)


def torch_bytes(network: StoredNetwork) -> int:
    tensors = {tensor.name: tensor.weight() for layer in network.layers for tensor in layer.tensors}
    tensors |= {f"{layer.layer.name}.bias": layer.bias for layer in network.layers}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return len(buffer.getvalue())


def measure(bench: Workbench, name: str, config: CompressionConfig) -> dict[str, Any]:
    if config.recovery is not None:
        bench.recover(name, config, lambda event: None)
    validation, test = (bench.evaluate(name, config, split) for split in ("validation", "test"))
    network = bench.network(name, config)
    made, _ = artifact.files(network)
    content = made[artifact.NETWORK_FILE][1]
    for own, read in zip(network.layers, packed.unpack(content).layers, strict=True):
        assert all(torch.equal(a.weight(), b.weight()) for a, b in zip(own.tensors, read.tensors, strict=True))
    plain = plain_bytes(network)
    sizes = {"packed": len(content), "entropy": round(validation.footprint.entropy)}
    sizes |= {"gzip": len(gzip.compress(plain, 9)), "zstd": len(zstandard.compress(plain, 22))}
    sizes |= {"torch.save": torch_bytes(network)}
    sizes |= {kind: len(own) for kind, own in made.values() if kind not in ("", "packed")}
    return {
        "validation_difference": validation.comparison.difference,
        "test_accuracy": test.evaluation.accuracy,
        "test_difference": test.comparison.difference,
        "baseline_bytes": test.baseline_bytes,
        "compression_ratio": test.baseline_bytes / len(content),
        "packed_over_entropy": len(content) / sizes["entropy"],
        "gzip_over_packed": sizes["gzip"] / len(content),
        "zstd_over_packed": sizes["zstd"] / len(content),
        "bytes": sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=list(SMALLEST), default="cnn")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bench = Workbench()
    rows = {title: measure(bench, options.baseline, own) for title, own in configurations(options.baseline).items()}
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
