"""State dicts as people bring them: out of their file, out of the box that a training script put them in, and out of
what pruning, weight normalization and quantization made of their weights.

Nothing of a file is executed. What holds no state dict is refused with what it is by all signs, and the way to one.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.networks.graph import BaselineError, listed

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
    boxes = next(filter(None, ([key for key, own in held.items() if _is_box(own, depth)] for depth in range(3))), [])
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
    inner = unbox(held[boxes[0]], where)
    box = f"{boxes[0]}.{inner.box}" if inner.box else str(boxes[0])
    return Checkpoint(inner.state, box, (*beside, *inner.beside))


def _is_box(held: Any, depth: int) -> bool:
    """Whether it is a state dict with a weight in it, in so many boxes."""
    if not isinstance(held, Mapping):
        return False
    if depth:
        return any(_is_box(own, depth - 1) for key, own in held.items() if isinstance(key, str))
    return _is_state(held) and any(own.dim() > 1 for own in held.values())


def _is_state(held: Mapping[Any, Any]) -> bool:
    """Whether it is names and tensors; nothing at all is, too."""
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in held.items())


# To the keys of a module.

PREFIXES = "module.", "_orig_mod.", "model.", "net."
"""What parallel training, torch.compile and training scripts put before every key."""

LEFT = re.compile(
    r"(^|\.)(total_ops|total_params|n_averaged|num_batches_tracked)$"
    r"|^[^.]*(metric|criterion|acc|accuracy|loss|auroc|f1|precision|recall|confmat)[^.]*\."
)
"""Keys of counters, profilers, metrics and losses, which belong to no network where the module has none of them."""


class Fitted(NamedTuple):
    """left : keys that belong to no network; notes : what was done to the others, in sentences"""

    state: dict[str, Tensor]
    left: tuple[str, ...]
    notes: tuple[str, ...]


def fitted(state: Mapping[str, Tensor], expected: AbstractSet[str]) -> Fitted:
    """A state dict under the keys of a module: prefixes stripped, and weights multiplied out where the module does not
    do it itself. What is missing or left over is for the caller to judge.

    expected : keys of the module. Raises BaselineError where a weight is computed in a way that is not known here.
    """
    left = [key for key in state if LEFT.search(key) and not _expected(key, expected)]
    held = {key: tensor for key, tensor in state.items() if key not in left}
    while prefix := _prefix(held, expected):
        held = {key.removeprefix(prefix): tensor for key, tensor in held.items()}
    held, multiplied = multiplied_out(held, expected)
    notes = [f"Multiplied out: {listed(multiplied, 6)}."] if multiplied else []
    if quantized := [key for key, tensor in held.items() if tensor.is_quantized]:
        held |= {key: _dequantized(key, held[key]) for key in quantized}
        notes.append(f"Quantized, and taken as the numbers that they stand for: {listed(quantized, 6)}.")
    return Fitted(held, tuple(left), tuple(notes))


def _expected(key: str, expected: AbstractSet[str]) -> bool:
    """Whether a module has this key, with any prefix."""
    while key not in expected:
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            return False
        key = key.removeprefix(prefix)
    return True


def _prefix(state: Mapping[str, Tensor], expected: AbstractSet[str]) -> str:
    """Before all keys of the state dict, and before none of the module's."""
    for prefix in PREFIXES:
        mine = any(key.startswith(prefix) for key in expected)
        if state and not mine and all(key.startswith(prefix) and key != prefix for key in state):
            return prefix
    return ""


def _dequantized(key: str, tensor: Tensor) -> Tensor:
    if tensor.qscheme() not in (torch.per_tensor_affine, torch.per_channel_affine):
        raise BaselineError(f"{key} is quantized in a way that is not known here, {tensor.qscheme()}. {SAVE}")
    return tensor.dequantize()


def multiplied_out(
    state: Mapping[str, Tensor], expected: AbstractSet[str] = frozenset()
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights as they are computed with, and the names of those that were kept in parts (`PARTS`).

    expected : keys that stay as they are. Raises BaselineError for other parametrizations, spectral normalization too.
    """
    held, made = dict(state), list[str]()
    for key in state:
        for pattern, other, whole, product in PARTS:
            found = re.match(pattern, key)
            if not found or key in expected or key not in held:
                continue
            second, name = found.expand(other).lstrip("."), found.expand(whole).lstrip(".")
            if second in held and second not in expected - {name}:
                held[name] = product(key, held.pop(key), held.pop(second))
                made.append(name)
    for sign, cause in UNKNOWN.items():
        if key := next((key for key in held if re.search(sign, key) and key not in expected), ""):
            raise BaselineError(f"{key} is a part of a weight that is computed anew each time: {cause}. {SAVE}")
    return held, made


def _masked(key: str, weight: Tensor, mask: Tensor) -> Tensor:
    """weight * mask, in either order."""
    if weight.shape != mask.shape:
        raise BaselineError(f"{key} must have the shape of what it masks, {mask.shape}. Got {weight.shape} instead.")
    return weight * mask


def _weight_norm(key: str, direction: Tensor, size: Tensor) -> Tensor:
    """g v / |v|, with the norm over all axes but that of g (Salimans & Kingma 2016)."""
    if size.dim() not in (0, direction.dim()) or size.numel() != max(size.shape, default=1):
        raise BaselineError(f"{key} must come with one size for each output. Got shape {tuple(size.shape)} instead.")
    axes = [axis for axis in range(size.dim()) if size.shape[axis] > 1] or [0]
    others = tuple(axis for axis in range(direction.dim()) if size.dim() == 0 or axis not in axes)
    norm = torch.linalg.vector_norm(direction.double(), dim=others, keepdim=size.dim() > 0)
    whole: Tensor = direction.double() * size.double() / norm
    return whole.to(direction.dtype)


PARTS: tuple[tuple[str, str, str, Callable[[str, Tensor, Tensor], Tensor]], ...] = (
    (r"(.+)_orig$", r"\1_mask", r"\1", _masked),
    (r"(.+)_v$", r"\1_g", r"\1", _weight_norm),
    (
        r"((?:.+\.)?)parametrizations\.(\w+)\.original1$", r"\1parametrizations.\2.original0", r"\1\2",
        _weight_norm,
    ),
    (r"(.+)_mask$", r"\1", r"\1", _masked),
    (r"((?:.+\.)?)mask$", r"\1weight", r"\1weight", _masked),
)  # fmt: skip
"""A key, the one that it is multiplied with, and the key of both together: torch.nn.utils.prune; weight normalization,
old and new; masks beside weights."""

UNKNOWN = {
    r"_u$|parametrizations\..*\._u$": "spectral normalization divides it. remove_spectral_norm(layer), or "
    "parametrize.remove_parametrizations(layer, 'weight'), does so for good",
    r"parametrizations\.": "parametrize.remove_parametrizations(layer, 'weight') leaves what it makes",
}
"""What a key is a sign of that is not multiplied out here, and the way out."""
