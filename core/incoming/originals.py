"""The network as it came, run where it is at home: ONNX Runtime, or PyTorch. What was read of it must agree with it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.networks.graph import BaselineError
from core.networks.operations import Shape

Array = NDArray[Any]
Original = Callable[[Array], Array]
"""Normalized images, float32 (n, c, h, w) -> what it puts out, (n, classes), or the classes themselves, (n,)."""

TIE, TIE_HALF, TIE_BRAIN = 1e-4, 4e-3, 2e-2
"""Two scores are a tie where they differ by less than this share of the largest: float rounding may decide; and where
the original computes in float16, or in bfloat16, whose steps are 2^-10 and 2^-7."""

CHUNK = 250


def of_onnx(content: bytes, external: Mapping[str, bytes], shape: Shape) -> Original:
    """By ONNX Runtime. external : by file name, the data that lies beside it. Raises BaselineError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if external:
        options.add_external_initializers_from_files_in_memory(
            list(external), list(external.values()), [len(each) for each in external.values()]
        )
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of ONNX Runtime have no base of their own
        raise BaselineError(f"ONNX Runtime cannot run the file: {_line(error)}.") from None
    entry = session.get_inputs()[0]
    kind = {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(entry.type, np.float32)
    sizes = [each if isinstance(each, int) and each > 0 else None for each in entry.shape]

    def run(images: Array) -> Array:
        found = []
        for some in _chunks(arranged(images, sizes, shape), sizes[0]):
            try:
                found.append(np.asarray(session.run(None, {entry.name: some.astype(kind)})[0]))
            except Exception as error:
                raise BaselineError(f"ONNX Runtime cannot run the file on an image: {_line(error)}.") from None
        return np.concatenate(found)[: len(images)]

    return run


def of_module(module: nn.Module, shape: Shape, batch: int | None) -> Original:
    """By PyTorch. shape : of an image as the module takes it; batch : how many at once, None for any"""
    parameter = next(module.parameters(), torch.zeros(0))

    @torch.no_grad()
    def run(images: Array) -> Array:
        was = module.training
        module.eval()
        try:
            parts = [torch.from_numpy(part).reshape(-1, *shape) for part in _chunks(images, batch)]
            outputs = [unboxed(module(part.to(parameter.device, parameter.dtype))) for part in parts]
        finally:
            module.train(was)
        return torch.cat(outputs).float().cpu().numpy()[: len(images)]

    return run


def unboxed(output: Any) -> Any:
    """A module's scores, which may lie in a dictionary, a list or a tuple."""
    while isinstance(output, Mapping | list | tuple):
        values = output.values() if isinstance(output, Mapping) else output
        output = next(each for each in values if each is not None)
    return output


def arranged(images: Array, sizes: Sequence[int | None], shape: Shape) -> Array:
    """Images (n, c, h, w) in the order of axes that an input of these sizes wants."""
    channels, height, _ = shape
    ways = {
        2: [images.reshape(len(images), -1)],
        3: [images[:, 0], images[:, :, 0], images[:, :, 0].transpose(0, 2, 1)],
        4: [images, images.transpose(0, 2, 3, 1)],
    }
    fits = {3: [channels == 1, height == 1, height == 1]}.get(len(sizes), [True, True])
    for way, fit in zip(ways.get(len(sizes), []), fits, strict=False):
        if fit and all(wanted in (None, size) for wanted, size in zip(sizes[1:], way.shape[1:], strict=True)):
            return np.ascontiguousarray(way)
    raise BaselineError(f"The file reads inputs of shape {tuple(sizes)}. The images are of shape {shape}.")


def _chunks(images: Array, batch: int | None) -> list[Array]:
    """Of as many as it wants; the last is filled up with its last image where their number is fixed."""
    size = batch or CHUNK
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    if batch and len(parts[-1]) < batch:
        parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], batch - len(parts[-1]), 0)])
    return parts


def disagreements(scores: Array, theirs: Array) -> NDArray[np.int64]:
    """Images for which the original says another class, beyond a tie of the two best scores.

    scores : ours, (n, classes); theirs : (n, classes), with axes of size 1 behind them or none, or classes, (n,)
    """
    theirs = theirs.reshape(len(theirs), -1)
    said = theirs.argmax(1) if theirs.shape[1] > 1 else theirs[:, 0]
    second, first = np.sort(scores, 1)[:, -2:].T
    tie = first - second <= _tie(theirs) * np.abs(scores).max(1)
    return np.flatnonzero((scores.argmax(1) != said) & ~tie)


def _tie(theirs: Array) -> float:
    """By what the scores of the original are rounded to; of classes nothing can be told."""
    if theirs.shape[1] == 1 or theirs.dtype == np.float64:
        return TIE
    wide = theirs.astype(np.float32)
    if not (wide.view(np.uint32) & 0xFFFF).any():
        return TIE_BRAIN
    with np.errstate(over="ignore"):
        return TIE_HALF if np.array_equal(wide.astype(np.float16), wide) else TIE


def is_onnx(path: Path) -> bool:
    """By its ending, or its first byte; a safetensors file may begin so, too, and then has a brace. Raises OSError."""
    with path.open("rb") as file:
        begins = file.read(9)
    return path.suffix.lower() == ".onnx" or (begins[:1] == b"\x08" and begins[8:] != b"{")


def beside(content: bytes, given: Mapping[str, bytes], folder: Path | None = None) -> dict[str, bytes]:
    """The files that hold data of an ONNX file, by the place that it names: of those that were given, by their names,
    and of its folder."""
    import onnx

    graph = onnx.load_model_from_string(content).graph
    attributes = (attribute for node in graph.node for attribute in node.attribute)
    tensors = [*graph.initializer, *(each.t for each in attributes if each.HasField("t"))]
    places = {each.value for tensor in tensors for each in tensor.external_data if each.key == "location"}
    found = {place: given[name] for place in places for name in (place, Path(place).name) if name in given}
    if folder is not None:
        paths = {place: folder / place for place in places - found.keys()}
        found |= {place: path.read_bytes() for place, path in paths.items() if path.is_file()}
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
