"""A stored network <-> files on disk, and the check that the files do what was shown.

An export is a folder: `network.safetensors`, the network, and `verdict.json`, what it must do on the test images.
Other formats take their place beside the first, as further files of the same verdict.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch

from core import data, evaluation, footprint, inference, stored
from core.evaluation import Evaluation
from core.files import sha256, write_atomically
from core.stored import FormatError, StoredNetwork

_SPLITS: dict[str, data.SplitName] = {"validation": "validation", "test": "test"}
NETWORK_FILE, VERDICT_FILE = "network.safetensors", "verdict.json"


def write(
    network: StoredNetwork, directory: Path, validation: Evaluation, test: Evaluation, baseline_test: Evaluation
) -> Path:
    """Write the export; returns the path of the network's file. Raises OSError where the disk refuses."""
    figures = footprint.placeholder_figures()
    for name, measured in zip(figures, (validation, test, baseline_test), strict=True):
        figures[name] = f"{measured.accuracy:.4f}"
    content = footprint.file_bytes(network, figures)
    verdict = {
        "format": stored.FORMAT,
        "split": test.split,
        "images": test.images,
        "accuracy": test.accuracy,
        "predictions": "".join(map(str, test.predictions.tolist())),
        "config": json.loads(network.config.to_json()),
        "baseline_sha256": network.baseline_sha256,
        **figures,
        "files": [{"path": NETWORK_FILE, "format": "safetensors", "bytes": len(content), "sha256": sha256(content)}],
    }
    write_atomically(directory / NETWORK_FILE, content)
    write_atomically(directory / VERDICT_FILE, json.dumps(verdict, indent=1).encode())
    return directory / NETWORK_FILE


def read(path: Path) -> StoredNetwork:
    """The stored network of a file. Raises FormatError; nothing in the file is executed."""
    try:
        with safetensors.safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise FormatError(f"{path.name} is not a safetensors file that can be read ({error}).") from None
    return stored.from_tensors(arrays, about)


def verify(directory: Path) -> dict[str, Any]:
    """Read every file of an export, run it over the test images, compare image by image with what was promised.

    Returns `ok, split, images, files: [{path, format, bytes, sha256, accuracy, agreement}]`; a file that fails also
    says `problem`. agreement is the share of images with the promised prediction; ok needs all of them, everywhere.
    """
    try:
        promise = json.loads((directory / VERDICT_FILE).read_text())
        split = data.load(_SPLITS[promise["split"]])
        expected = np.frombuffer(promise["predictions"].encode(), np.uint8) - ord("0")
        promised = [{key: entry[key] + "" for key in ("path", "format", "sha256")} for entry in promise["files"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{directory} holds no {VERDICT_FILE} that can be read ({error}).") from None
    if len(expected) != len(split) or not promised:
        raise FormatError(f"{VERDICT_FILE} must promise {len(split)} predictions. Got {len(expected)} instead.")
    files = [_verify_file(directory, entry, split, torch.from_numpy(expected)) for entry in promised]
    ok = all(entry["agreement"] == 1.0 and "problem" not in entry for entry in files)
    return {"ok": ok, "split": split.name, "images": len(split), "files": files}


def _verify_file(
    directory: Path, promise: Mapping[str, Any], split: data.Split, expected: torch.Tensor
) -> dict[str, Any]:
    path = directory / Path(promise["path"]).name
    entry = {
        "path": path.name,
        "format": promise["format"],
        "bytes": 0,
        "sha256": "",
        "accuracy": 0.0,
        "agreement": 0.0,
    }
    try:
        content = path.read_bytes()
        entry |= {"bytes": len(content), "sha256": sha256(content)}
        measured = evaluation.evaluate(read(path), split)
    except (OSError, FormatError, *inference.ERRORS) as error:
        return entry | {"problem": str(error)}
    agreement = int((measured.predictions == expected).sum()) / len(split)
    entry |= {"accuracy": measured.accuracy, "agreement": agreement}
    if entry["sha256"] != promise["sha256"]:
        entry["problem"] = f"{path.name} is not the file that was exported (its SHA-256 sum differs)."
    elif agreement < 1.0:
        where = torch.nonzero(measured.predictions != expected).flatten()[:5].tolist()
        entry["problem"] = f"{path.name} predicts otherwise than promised, first on the test images {where}."
    return entry
