"""Every kind of training on the best device of this machine and on the CPU, side by side in one run.

    python -m benchmarks.devices [--baseline cnn|mlp] [--epochs 1] [--precisions] [--json]

With `--precisions` the CPU in float32 and in bfloat16, whichever of the two it would choose.

Seconds of a training, and the accuracy on validation of what it left, which the CPU measures for both. Where there is
no other device the CPU stands alone. What follows from the baseline, its decompositions and moments, is made before
the clock starts; what a teacher says of the images is part of the training that learns from it.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from core.bench.workbench import RECIPES, Workbench, cache_folder
from core.config import CompressionConfig, RecoveryConfig
from core.datasets import fashion_mnist
from core.machinery import devices
from core.measuring import training
from core.studies.assignment import RUNGS


def configurations(epochs: int) -> dict[str, CompressionConfig]:
    once, stepwise = RecoveryConfig(epochs), RecoveryConfig(max(2, epochs), schedule="iterative")
    taught, few_bits = replace(once, distillation=True), CompressionConfig(bits=4, activation_bits=8, **RUNGS["+ GPTQ"])
    return {
        "uncompressed": CompressionConfig(recovery=once),
        "90 % sparse": CompressionConfig(sparsity=0.9, recovery=once),
        "90 % sparse, step by step, 4 bits": replace(few_bits, sparsity=0.9, score="lamp", recovery=stepwise),
        "rank 30 %, data-aware": CompressionConfig(rank_share=0.3, low_rank_method="whitened", recovery=once),
        "half the channels": CompressionConfig(channel_share=0.5, recovery=once),
        "2 bits, with a teacher": replace(few_bits, bits=2, activation_bits=2, recovery=taught),
    }


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, epochs: int, device: str) -> dict[str, dict[str, float]]:
    """Kind of training -> seconds and accuracy on this device."""
    with tempfile.TemporaryDirectory(prefix="devices-") as folder:
        bench, rows = Workbench(Path(folder), device=device), dict[str, dict[str, float]]()  # type: ignore[arg-type]
        made = list[Any]()
        seconds = timed(lambda: made.append(bench.train(replace(RECIPES[name], epochs=epochs))))
        rows["from scratch"] = {"seconds": seconds, "accuracy": made[0].info["validation_accuracy"]}
        for title, config in configurations(epochs).items():
            bench.network(name, replace(config, recovery=None))
            seconds = timed(lambda config=config: bench.recover(name, config))  # type: ignore[misc]
            rows[title] = {"seconds": seconds, "accuracy": bench.evaluate(name, config).evaluation.accuracy}
        bench.turns.close()
        bench.store.close()
    return rows


def columns(name: str, epochs: int, precisions: bool) -> dict[str, dict[str, dict[str, float]]]:
    """What is told, by device, or by precision of the CPU."""
    if not precisions:
        return {device: measure(name, epochs, device) for device in dict.fromkeys((devices.chosen().type, devices.CPU))}
    found = {}
    for title, is_half in (("float32", False), ("bfloat16", True)):
        with patch.object(training, "fast_bfloat16", lambda device, is_half=is_half: is_half):
            found[title] = measure(name, epochs, devices.CPU)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=["cnn", "mlp"], default="cnn")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precisions", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fashion_mnist.obtain(cache_folder() / "data")
    os.environ.setdefault("FASHION_MNIST_DIR", str(cache_folder() / "data"))
    found = columns(options.baseline, options.epochs, options.precisions)
    if options.json:
        print(json.dumps(found))
        return
    if len(found) == 1:
        print(f"The CPU alone: this machine has no other device, or {devices.VARIABLE} chose it.")
    print(f"{'':36}" + "".join(f"{title:>10}{'':>10}" for title in found))
    for title in next(iter(found.values())):
        cells = "".join(f"{rows[title]['seconds']:>8.1f} s{rows[title]['accuracy']:>10.2%}" for rows in found.values())
        print(f"{title:36}{cells}")


if __name__ == "__main__":
    main()
