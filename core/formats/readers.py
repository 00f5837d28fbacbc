"""What a person would read an exported file with, in a process that knows nothing of the app: NumPy and the loader that
comes with the file, ONNX Runtime, or plain PyTorch.

`python -m core.formats.readers FORMAT FILE IMAGES.npy OUT.npz` runs the file over all images; OUT holds the
`logits`, the name of the `tool`, and seconds per image, `batch_1` and `batch_250`, one for each repeat.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[Array], Array]
"""uint8 (n, c, h, w) -> logits, float32 (n, classes)."""

BATCHES = {1: 60, 250: 12}
"""Repeats for each size of batch, after a few to warm up."""


def with_numpy(path: Path) -> tuple[Run, str]:
    from core.formats import earlier

    return earlier.packed(path.read_bytes()).logits, f"NumPy {np.__version__}"


def with_onnxruntime(path: Path) -> tuple[Run, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # as NumPy and PyTorch have
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["normalization"])

    def run(images: Array) -> Array:
        return session.run(["y"], {"x": _normalized(images, about)})[0]

    return run, f"ONNX Runtime {onnxruntime.__version__}"


def with_torch(path: Path) -> tuple[Run, str]:
    import torch

    from core.formats import earlier
    from core.portable import plain_torch

    tensors, about = plain_torch.read(path)
    network = plain_torch.network_of(tensors, earlier.described(about))

    @torch.inference_mode()
    def run(images: Array) -> Array:
        return network(torch.from_numpy(_normalized(images, about["normalization"]))).numpy()

    return run, f"PyTorch {torch.__version__.split('+')[0]}"


def _normalized(images: Array, about: dict[str, Any]) -> Array:
    mean, deviation = (np.asarray(about[part], np.float32).reshape(-1, 1, 1) for part in ("mean", "deviation"))
    return (images.astype(np.float32) / np.float32(255) - mean) / deviation


READERS = {"packed": with_numpy, "safetensors": with_torch}
"""By format; every other one is ONNX."""


def read(kind: str, path: Path, images: Array) -> dict[str, Any]:
    """Everything that OUT holds."""
    run, tool = READERS.get(kind, with_onnxruntime)(path)
    measured: dict[str, Any] = {"tool": tool}
    measured["logits"] = np.concatenate([run(images[start : start + 250]) for start in range(0, len(images), 250)])
    for batch, repeats in BATCHES.items():
        seconds = []
        for repeat in range(repeats + 3):
            start = time.perf_counter()
            run(images[:batch])
            if repeat >= 3:
                seconds.append((time.perf_counter() - start) / batch)
        measured[f"batch_{batch}"] = np.array(seconds)
    return measured


def run(kind: str, path: Path, images: Path, out: Path) -> str:
    """Write OUT; what went wrong instead, in one line, or ""."""
    try:
        np.savez(out, **read(kind, path, np.load(images)))
    except Exception as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], *map(Path, sys.argv[2:])) or None)
