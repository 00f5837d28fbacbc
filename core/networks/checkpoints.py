"""State dicts as people bring them: out of their file, and out of the box that a training script put them in.

Nothing of a file is executed. What holds no state dict is refused with what it is by all signs, and the way to one.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.networks.models import BaselineError

SAVE = "Where the network is at home, save its tensors alone: torch.save(model.state_dict(), FILE)."

BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS: the file itself was not fetched. `git lfs pull` does that.",
    b"<": "a web page, as a download leaves that asked for something first. Download it again.",
    b"\x89HDF": f"an HDF5 file, as Keras writes. {SAVE}",
    b"\x08": f"an ONNX file by all signs. {SAVE}",
    b"\x80\x04\x95": f"a file of Python objects that torch.save did not write. {SAVE}",
}
"""How files begin that torch does not read, and what they are."""


class Checkpoint(NamedTuple):
    """box : under which key of the file the state dict was, "" where it was the file itself; beside : what else was
    there, and was left."""

    state: dict[str, Tensor]
    box: str
    beside: tuple[str, ...]


def read(path: Path) -> Checkpoint:
    """The state dict of a file that torch.save or safetensors wrote. Raises BaselineError, OSError."""
    with path.open("rb") as file:
        begins = file.read(64).lstrip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BaselineError(f"{path} holds no plain state dict: {_reason(path, begins, str(error))}") from None
    return unbox(held, str(path))


def _reason(path: Path, begins: bytes, error: str) -> str:
    """Why torch would not read the file, and what to do instead."""
    known = next((text for start, text in BEGINNINGS.items() if begins.startswith(start)), None)
    if known is not None:
        return f"it is {known}"
    unsafe = re.search(r"Unsupported global: GLOBAL (\S+\.\S+)|Unsupported class (\S+\.\S+)", error)
    if unsafe:
        name = unsafe[1] or unsafe[2]
        return f"it needs {name}, a piece of the program that wrote it, and programs are not run here. {SAVE}"
    names = _members(path)
    if any(name.endswith("constants.pkl") for name in names):
        return f"it is a TorchScript archive. Open it with torch.jit.load, and save its tensors alone. {SAVE}"
    if any(name.endswith((".npy", ".npz")) for name in names):
        return f"it is an archive of NumPy arrays. {SAVE}"
    if names and not any(name.endswith("data.pkl") for name in names):
        return f"it is another archive, an exported program for one. {SAVE}"
    first = next((line for line in error.splitlines() if line.strip()), "nothing that torch.load knows")
    said = re.sub(r"\x1b\[\d+m", "", first).split(". ")[0].rstrip(".")
    return f"it is damaged, cut off, or of another kind ({said}). Copy or download it again. {SAVE}"


def _members(path: Path) -> list[str]:
    """Names in a zip archive; nothing where the file is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return []


def unbox(held: Any, where: str) -> Checkpoint:
    """A state dict that is one, or the only one among the values of a dict. Raises BaselineError."""
    if isinstance(held, Mapping) and _is_state(held):
        return Checkpoint(dict(held), "", ())
    if not isinstance(held, Mapping):
        raise BaselineError(
            f"{where} must hold a state dict, names and tensors. It holds a {type(held).__name__}. {SAVE}"
        )
    boxes = [key for key, value in held.items() if isinstance(value, Mapping) and value and _is_state(value)]
    if len(boxes) > 1:
        raise BaselineError(
            f"{where} holds several networks: {', '.join(map(str, boxes))}. Save the one that is meant alone: "
            f"torch.save(checkpoint[{boxes[0]!r}], OTHER)."
        )
    tensors = any(isinstance(value, Tensor) and value.dim() > 1 for value in held.values())
    if not boxes or tensors:
        other = next((f"{key} is a {type(v).__name__}" for key, v in held.items() if not isinstance(v, Tensor)), "")
        raise BaselineError(
            f"{where} must hold a state dict, names and tensors and nothing else. {other}: a quantized layer keeps its "
            f"weights so, and a training its progress. {SAVE}"
        )
    beside = tuple(str(key) for key in held if key != boxes[0])
    return Checkpoint(dict(held[boxes[0]]), str(boxes[0]), beside)


def _is_state(held: Mapping[Any, Any]) -> bool:
    """Whether it is names and tensors; nothing at all is, too."""
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in held.items())
