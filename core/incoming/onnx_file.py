"""Networks out of ONNX files: parsed, never executed; what its operators mean stands in `core.incoming.onnx_operators`.

Here: the bytes, the tensors that lie beside them, the one input and output, and in which order of axes the input holds
its images, which no file says.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from core.incoming import onnx_operators
from core.incoming.onnx_reader import DAMAGED, DOMAINS, Array, Graph, Map, reason
from core.networks.graph import IMAGE, NODES, BaselineError, Network, listed
from core.networks.models import NUMBERS, Tensors
from core.networks.operations import NetworkError, Shape

MOST_BYTES = 200 * 2**20
"""Of a file together with the data beside it."""

OPSETS = range(7, 26)
"""Versions of the operators that are known here."""

LAYOUTS = {2: ["chw"], 3: ["c w", "h w", "w c"], 4: ["c h w", "h w c"]}
"""By the number of its axes, in which order an input may hold its images, one after another; "chw" is flattened."""


class Read(NamedTuple):
    """A network as `core` knows it, and its tensors by name."""

    network: Network
    tensors: Tensors


def read(source: Path | str | bytes, external: Mapping[str, bytes] | None = None, shape: Shape | None = None) -> Read:
    """The network of an ONNX file.

    source : its path or its content; external : by file name, the data that lies beside it, before what its folder has
    shape : (channels, height, width) of the images that it is for. Needed where the file does not say it: where it
        reads images of any size, or flat features, which are channels, then rows, then columns

    Raises BaselineError with the operator, its node, the cause and the way out, whatever the file is.
    """
    try:
        with np.errstate(all="ignore"):
            return _read(source, external or {}, shape)
    except BaselineError:
        raise
    except NetworkError as error:
        raise BaselineError(str(error)) from None
    except (*DAMAGED, OSError, DecodeError) as error:
        raise BaselineError(f"This is not an ONNX file that can be read ({reason(error)}).") from None


def _read(source: Path | str | bytes, external: Mapping[str, bytes], shape: Shape | None) -> Read:
    folder = None if isinstance(source, bytes) else Path(source).parent
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size > MOST_BYTES:
        raise BaselineError(f"An ONNX file must have at most {MOST_BYTES:,} bytes. Got {size:,} instead.")
    model = onnx.load_model_from_string(source if isinstance(source, bytes) else Path(source).read_bytes())
    graph, dims = _graph(model, _Tensors(folder, external, MOST_BYTES - size))
    return _first_reading(graph, dims, shape)


class _Tensors:
    """The tensors of a file.

    folder : where what is stored beside it lies; given : the same by file name; left : bytes that it may have
    """

    def __init__(self, folder: Path | None, given: Mapping[str, bytes], left: int) -> None:
        self.folder, self.given, self.left = folder, given, left

    def array(self, tensor: TensorProto) -> Array:
        """Its numbers. Raises BaselineError."""
        try:
            if tensor.data_location == TensorProto.EXTERNAL:
                raw = self._external(tensor)
                tensor = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=raw)
            array = np.asarray(numpy_helper.to_array(tensor))
        except BaselineError:
            raise
        except (*DAMAGED, OSError) as error:
            raise BaselineError(f"The tensor {tensor.name} of this file cannot be read ({reason(error)}).") from None
        return array.astype(np.float32) if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) else array

    def _external(self, tensor: TensorProto) -> bytes:
        said = {each.key: each.value for each in tensor.external_data}
        location = PurePosixPath(said.get("location", "").replace("\\", "/"))
        if location.is_absolute() or ".." in location.parts or not location.name or ":" in str(location):
            raise BaselineError(
                f"The data of {tensor.name} must lie in the folder of its ONNX file. Got the place {location} instead."
            )
        expected = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        start, size = int(said.get("offset", 0)), int(said.get("length", expected))
        self.left -= max(size, 0)
        if start < 0 or not 0 <= size == expected or self.left < 0:
            raise BaselineError(
                f"The data of {tensor.name} must be {expected:,} bytes, and a file with all of its data at most "
                f"{MOST_BYTES:,}. Got {size:,} bytes from {start:,} of {location} instead."
            )
        content = self._content(location, start, size)
        if content is None or len(content) < size:
            raise BaselineError(
                f"Weights of this network ({tensor.name}) lie in another file, {location}, which is "
                + ("missing: give both files, under the names that they have" if content is None else "cut off: ")
                + ("" if content is None else "copy it again")
                + ". Or save the network as one file: onnx.save(onnx.load(PATH), NEW)."
            )
        return content

    def _content(self, location: PurePosixPath, start: int, size: int) -> bytes | None:
        given = self.given.get(str(location), self.given.get(location.name))
        if given is not None:
            return given[start : start + size]
        if self.folder is None or not (path := self.folder / location).is_file():
            return None
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BaselineError(f"{location} is a link out of the folder of its ONNX file. Put the data itself there.")
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)


def _graph(model: Any, tensors: _Tensors) -> tuple[Graph, list[int | None]]:
    """What is computed in it, and the sizes of its input's axes, None for an open one. Raises BaselineError."""
    if not model.graph.node:
        raise BaselineError("This is not an ONNX file that can be read (it holds no operators).")
    opset = max((each.version for each in model.opset_import if each.domain in DOMAINS), default=0)
    if opset not in OPSETS:
        raise BaselineError(
            f"The operators of an ONNX file must be of opset {OPSETS[0]} to {OPSETS[-1]}. Got {opset} instead: export "
            "the network with opset_version=18, or convert it with onnx.version_converter.convert_version."
        )
    if len(model.graph.node) > 10 * NODES:
        raise BaselineError(f"An ONNX file must have at most {10 * NODES:,} nodes. Got {len(model.graph.node):,}.")
    stored = {each.name: each for each in model.graph.initializer}
    image = _only([each for each in model.graph.input if each.name not in stored], "input")
    output = _only(model.graph.output, "output").name
    if not image.type.tensor_type.HasField("shape"):
        raise BaselineError(f"The file must say the shape of its input, {image.name}. It says none.")
    dims = [each.dim_value if each.dim_value > 0 else None for each in image.type.tensor_type.shape.dim]
    nodes = _needed(model.graph.node, output)
    read = {name for each in nodes for name in each.input}
    constants = {name: tensors.array(each) for name, each in stored.items() if name in read}
    return Graph(nodes, constants, image.name, output, opset, dims[0] if dims else None, tensors.array), dims


def _only(found: Sequence[Any], kind: str) -> Any:
    if len(found) != 1:
        raise BaselineError(
            f"A network must have one {kind}: an image goes in, a score for each class comes out. This one has "
            f"{listed([each.name for each in found], 6) or 'none'}. onnx.utils.extract_model saves the part "
            "between one input and one output; of a classifier from scikit-learn, up to its probabilities."
        )
    return found[0]


def _needed(nodes: Sequence[Any], output: str) -> list[Any]:
    """Those that the output is computed from, in the file's order."""
    makers = {name: each for each in nodes for name in each.output if name}
    needed, left = set[str](), [output]
    while left:
        if (name := left.pop()) in makers and name not in needed:
            needed.add(name)
            left += makers[name].input
    return [each for each in nodes if needed & set(each.output)]


def _first_reading(graph: Graph, dims: Sequence[int | None], shape: Shape | None) -> Read:
    """The network with the order of the input's axes in which it can be computed. Where it can be in several, the one
    with images in gray or in colour. Raises BaselineError."""
    found, errors = dict[tuple[Shape, tuple[str, ...]], Read](), list[NetworkError]()
    for image in sorted(_inputs(dims, shape), key=lambda image: image.sizes[0] not in (1, 3)):
        if (image.sizes, image.plain) not in found:
            try:
                found[image.sizes, image.plain] = Read(*onnx_operators.network(graph, image))
            except NetworkError as error:
                errors.append(error)
    if not found:
        raise errors[0]
    likely = list(found) if len(found) == 1 else [key for key in found if key[0][0] in (1, 3)]
    if len(likely) != 1:
        shapes = " or ".join(str(sizes) for sizes, _ in found)
        raise BaselineError(f"{graph.input} may hold images of shape {shapes}. Say for which data set it is.")
    return found[likely[0]]


def _inputs(dims: Sequence[int | None], shape: Shape | None) -> list[Map]:
    """What an input of these dimensions may be."""
    given = "(" + ", ".join("any" if each is None else str(each) for each in dims) + ")"
    if len(dims) not in LAYOUTS:
        raise BaselineError(f"A network must read images, (n, channels, height, width). This one reads {given}.")
    if shape is None and (len(dims) == 2 or None in dims[1:]):
        raise BaselineError(
            f"This network reads {given}: the file does not say the channels, height and width of its images. Say for "
            "which data set it is."
        )
    maps = []
    for layout in LAYOUTS[len(dims)]:
        own = dict(zip(layout.split(), dims[1:], strict=True))
        if shape is not None and own.get("chw", 0) in (None, prod(shape)):
            own = dict(zip("chw", shape, strict=True))
        channels, height, width = (own.get(axis, 1) or (shape or ())[place] for place, axis in enumerate("chw"))
        if shape in (None, (channels, height, width)) and "chw" not in own:
            maps.append(Map(IMAGE, ("n", *layout.split()), (channels, height, width)))
    if not maps:
        raise BaselineError(f"This network reads {given}. The images that it is to be for are of shape {shape}.")
    if prod(maps[0].sizes) > NUMBERS:
        raise BaselineError(f"An image must hold at most {NUMBERS:,} numbers. This network reads {given}.")
    return maps
