"""An export on disk, and the check that its files do what was shown.

An export is a folder: the network in one or more formats, what reads them elsewhere, `verdict.json`, which says what
they must predict for the test images, and `expected.npz`, the logits behind that.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config import FORMATS, to_arguments
from core.datasets import Datasets, Images, Split, fashion_mnist
from core.formats import interchange, packed, readers
from core.machinery.files import PROJECT, sha256, write_atomically
from core.machinery.records import Record
from core.measuring.evaluation import Evaluation, Latency
from core.networks import stored
from core.networks.encodings import FormatError
from core.networks.inference import predicted
from core.networks.stored import StoredNetwork
from core.words import percent

Array = NDArray[Any]
NETWORK_FILE, VERDICT_FILE, EXPECTED_FILE = "network.packed", "verdict.json", "expected.npz"
VERIFIED_FILE, REPORT_FILES, FIGURES = "verified.json", ("report.html", "report.md", "report.docx"), "figures"
"""What says something of an export, and is of no use beside another one."""

PORTABLE = Path(__file__).parent.parent / "portable"
SAMPLE_IMAGES = 100

READING_SECONDS, READ_PER_SECOND = 900, 1e9
"""For reading a file and running it over the test images: at least so long; longer where it takes that at so many
multiply-accumulates a second, about a third of what NumPy does on one core."""

ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
"""What NumPy and PyTorch take their number of threads from. Several threads wait for each other where other work has
the cores, and that wait would be told as the program's own time."""

TIE = 1e-4
"""Two logits are a tie where they differ by less than this share of the largest."""

ROUNDING_TIE = 0.05
"""The same, in standard deviations of the logits, where a signal on the way lies at a tie of its rounding."""


@dataclass(frozen=True)
class CheckedFile(Record):
    """A file of an export, read in a fresh process.

    accuracy : on the test images; agreement : the share of them with the promised prediction
    largest_logit_difference : from what was promised; None, as `ties`, `reader` and `latency`, where it was not read
    ties : images that it predicts otherwise only because two classes were equal but for float rounding
    reader : which program read it; problem : why the check failed
    """

    path: str
    format: str
    bytes: int
    sha256: str
    accuracy: float
    agreement: float
    largest_logit_difference: float | None = None
    ties: tuple[int, ...] | None = None
    reader: str | None = None
    latency: tuple[Latency, ...] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Verdict(Record):
    """ok : no file has a problem; images : how many of the split; notes : what the times mean, in plain words"""

    ok: bool
    split: str
    images: int
    files: tuple[CheckedFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Promise:
    """What every file of an export must do on the test images, `split`.

    title : of their data set
    logits : float32 (n, classes); ties : bool (n,), where a signal lies so near to the middle between two points of its
    grid that float rounding decides
    """

    split: Split
    validation: Evaluation
    test: Evaluation
    baseline_test: Evaluation
    logits: Array
    ties: Array
    title: str = fashion_mnist.FASHION_MNIST.title


def files(network: StoredNetwork, formats: Sequence[str] = FORMATS) -> tuple[dict[str, tuple[str, bytes]], list[str]]:
    """path -> (format, content) of each network file, and in plain words what could not be made.

    Raises ValueError for a format that there is not.
    """
    unknown = set(formats) - set(FORMATS)
    if unknown or not formats:
        raise ValueError(f"format must be {', '.join(FORMATS)}. Got {', '.join(sorted(unknown)) or 'none'} instead.")
    made: dict[str, tuple[str, bytes]] = {}
    notes = []
    if "packed" in formats:
        made[NETWORK_FILE] = "packed", packed.pack(network).content
    if "onnx" in formats:
        made["network.onnx"] = "onnx", interchange.to_float_onnx(network)
        coded = [tensor for layer in network.layers for tensor in layer.tensors if tensor.coded]
        bits = [tensor.bits for tensor in coded if stored.CENTROIDS not in tensor.tables]  # an index takes a byte
        narrow = "int2" if min(bits, default=8) == 2 else "int4"
        if coded:
            made["network-int8.onnx"] = "onnx-int8", interchange.to_qdq(network)
        if min(bits, default=8) <= 4:
            content = interchange.to_qdq(network, narrow=True)
            problem = interchange.problem_with(content)
            if problem:
                notes.append(f"No ONNX file with {narrow} weights: {problem} The int8 file holds the same codes.")
            else:
                made[f"network-{narrow}.onnx"] = f"onnx-{narrow}", content
    if "safetensors" in formats:
        tensors, about = interchange.to_safetensors(network)
        made["network.safetensors"] = "safetensors", tensors
        made["network.json"] = "", about
    return made, notes


def write(network: StoredNetwork, directory: Path, promise: Promise, formats: Sequence[str] = FORMATS) -> list[str]:
    """Write the export; returns what could not be made. An earlier export in the same folder is replaced, nothing else.

    Raises OSError where the disk refuses, FileExistsError where a file of the same name is no export's.
    """
    made, notes = files(network, formats)
    expected = _npz(logits=promise.logits, ties=promise.ties)
    verdict = {
        "format": stored.FORMAT,
        "split": promise.test.split,
        "images": promise.test.images,
        "validation_accuracy": promise.validation.accuracy,
        "test_accuracy": promise.test.accuracy,
        "baseline_test_accuracy": promise.baseline_test.accuracy,
        "predictions": _in_text(promise.test.predictions.numpy(), len(network.images.classes)),
        "images_of": network.images.to_record(),
        "expected_sha256": sha256(expected),
        "config": json.loads(network.config.to_json()),
        "baseline_sha256": network.baseline_sha256,
        "files": [
            {"path": path, "format": kind, "bytes": len(content), "sha256": sha256(content)}
            for path, (kind, content) in made.items()
            if kind
        ],
    }
    beside = {path: content for path, (_, content) in made.items()} | _companions(promise, made, network)
    beside |= {EXPECTED_FILE: expected, VERDICT_FILE: json.dumps(verdict, indent=1).encode()}
    check_directory(directory)
    for path in (VERIFIED_FILE, *REPORT_FILES, *set(_ABOUT) - set(beside)):  # of an earlier export
        (directory / path).unlink(missing_ok=True)
    for path in (VERDICT_FILE, *beside):  # whatever happens from here on, the folder is an export's
        write_atomically(directory / path, beside[path])
    return notes


def check_directory(directory: Path) -> None:
    """Raises FileExistsError where an export would write over files of no export."""
    ours = (*_ABOUT, "README.md", EXPECTED_FILE, VERIFIED_FILE, *REPORT_FILES, FIGURES)
    taken = [path for path in ours if (directory / path).exists()]
    if taken and not (directory / VERDICT_FILE).exists():
        raise FileExistsError(f"{directory} already holds {', '.join(taken)}, of no export. Choose an empty folder.")


def _in_text(predictions: Array, classes: int) -> str:
    """A figure for each image; two, hexadecimal, where there are more than ten classes."""
    return "".join(map(str, predictions)) if classes <= 10 else predictions.astype(np.uint8).tobytes().hex()


def _from_text(text: str, classes: int) -> Array:
    if classes <= 10:
        return np.frombuffer(text.encode(), np.uint8) - ord("0")
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def _companions(promise: Promise, made: Mapping[str, tuple[str, bytes]], network: StoredNetwork) -> dict[str, bytes]:
    """What reads the files elsewhere, with the first test images and what must come out for them."""
    names = [name for path, name in _READ_BY.items() if path in made]
    companions = {name: (PORTABLE / name).read_bytes() for group in names for name in group}
    split, n = promise.split, SAMPLE_IMAGES
    sample = {"images": split.pictures[:n].numpy(), "labels": split.labels[:n].numpy().astype(np.uint8)}
    predictions = promise.test.predictions[:n].numpy()
    companions["sample.npz"] = _npz(**sample, predictions=predictions, logits=promise.logits[:n])
    said = _sizes(network)
    lines = [f"- `{path}`: {_ABOUT[path].format(size=len(content))}" for path, (_, content) in made.items()]
    lines += [f"- `{name}`: {_ABOUT[name].format(**said)}" for name in companions]
    text = _README.format(
        **said,
        running=_RUNNING.format(sample=len(split.labels[:n])) if NETWORK_FILE in made else "",
        onnx=_ONNX.format(**said) if "network.onnx" in made else "",
        count=len(split.classes),
        data=promise.title,
        files="\n".join(lines),
        accuracy=percent(promise.test.accuracy, 2),
        images=promise.test.images,
        baseline=percent(promise.baseline_test.accuracy, 2),
        config=" ".join(to_arguments(network.config)) or "nothing",
        classes=", ".join(split.classes),
    )
    return companions | {"README.md": text.encode()}


def _sizes(network: StoredNetwork) -> dict[str, str]:
    """Shapes and the scaling, as its companions' descriptions say them."""
    channels, height, width = network.network.shape
    grey = channels == 1
    mean, deviation = (f"{each[0]:.9g}" if grey else str(list(each)) for each in network.images.scaling)
    return {
        "pixels": f"({height}, {width})" if grey else f"({height}, {width}, {channels})",
        "batch": f"(n, {height}, {width})" if grey else f"(n, {height}, {width}, {channels})",
        "input": f"(n, {channels}, {height}, {width})",
        "scores": f"(n, {network.network.classes})",
        "mean": mean,
        "deviation": deviation,
        "as_input": '["images"][:, None]' if grey else '["images"].transpose(0, 3, 1, 2)',
        "each": "" if grey else ".reshape(3, 1, 1)",
    }


_READ_BY = {NETWORK_FILE: ("loader.py", "predict.py"), "network.safetensors": ("plain_torch.py",)}

# Every file that an export may hold besides its promise and its README.
_ABOUT = {
    "network.packed": "the network, entropy-coded, {size:,} bytes. `python predict.py` runs it with NumPy alone.",
    "network.onnx": "the network in float32 operations, {size:,} bytes, for ONNX Runtime and other ONNX tools.",
    "network-int8.onnx": "its integer weights as int8, indices into codebooks as uint8, with QuantizeLinear, "
    "DequantizeLinear and Gather, {size:,} bytes.",
    "network-int4.onnx": "the same with its narrow weights as int4, {size:,} bytes.",
    "network-int2.onnx": "the same with its narrow weights as int2 and int4, {size:,} bytes.",
    "network.safetensors": "integer codes, one byte each, scales, codebooks and biases, {size:,} bytes.",
    "network.json": "layers, configuration, class names and normalization of `network.safetensors`.",
    "loader.py": "reads `network.packed`: `loader.load(path).logits(images)`, uint8 {batch} -> float32 {scores}.",
    "predict.py": "checks the sample; names the classes of images in a .npy file, uint8 {batch}.",
    "plain_torch.py": "reads `network.safetensors` (torch, safetensors): `network, about = plain_torch.load(path)`.",
    "sample.npz": "the first test images with their labels, and the predictions and logits that were promised.",
}

_README = """# A compressed network

It tells the {count} classes of {data} apart. It is right for {accuracy} of the {images:,} test images;
the network before compression for {baseline}. What was done to it: `{config}`.
{running}
{files}
- `verdict.json`: the promise, the class that every file must predict for each test image, and the whole configuration.
- `expected.npz`: the logits behind it, and the images in which a signal lies at a tie of its rounding.
- `verified.json`: the answer, what a fresh process found with each file: accuracy, agreement, time per image.

Networks in ONNX and PyTorch see a pixel p in 0..255 as (p / 255 - {mean}) / {deviation}, float32 {input}.
{onnx}
The classes, in order: {classes}.
"""

_RUNNING = """
```
pip install numpy         # any Python from 3.9
python predict.py         # {sample} images of the test set, compared with what was promised
```
"""

_ONNX = """
```python
import numpy, onnxruntime  # pip install onnxruntime

images = numpy.load("sample.npz"){as_input}
x = (images / numpy.float32(255) - numpy.float32({mean}){each}) / numpy.float32({deviation}){each}
logits = onnxruntime.InferenceSession("network.onnx").run(["y"], {{"x": x}})[0]
```
"""


def _npz(**arrays: Array) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read(path: Path) -> StoredNetwork:
    """The stored network of a packed file, or of a safetensors file with its JSON beside it. Raises FormatError."""
    try:
        content = path.read_bytes()
        if path.suffix != ".safetensors":
            return packed.unpack(content)
        return interchange.from_safetensors(content, path.with_suffix(".json").read_bytes())
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read ({error.strerror or error}).") from None


def verify(directory: Path, datasets: Datasets, say: Callable[[str, float], None] = lambda text, done: None) -> Verdict:
    """Read every file of an export in a process of its own with what a person would read it with, run it over the test
    images, compare image by image with what was promised.

    say : is told what is being read, and the share of the files that is done
    Raises FormatError where there is no promise, DataError where its test images are not here.
    """
    promised, expected, split = _read_promise(directory, datasets)
    checked, patience = [], _patience(directory / NETWORK_FILE, len(split))
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images.npy"
        np.save(images, split.images.numpy())
        for done, entry in enumerate(promised):
            text = f"Reading {entry['path']} in a process of its own, running all {len(split):,} test images"
            say(text, done / len(promised))
            path = directory / Path(entry["path"]).name
            checked.append(_verify_file(path, entry, images, split, expected, patience))
    ok = all(file.problem is None for file in checked)
    return Verdict(ok, split.name, len(split), tuple(checked), tuple(remarks(checked)))


def _patience(path: Path, images: int) -> float:
    """Seconds that a file of this network may take with so many images."""
    try:
        layers = read(path).network.layers
    except FormatError:
        return READING_SECONDS
    return max(READING_SECONDS, images * sum(layer.multiplications for layer in layers) / READ_PER_SECOND)


def _read_promise(directory: Path, datasets: Datasets) -> tuple[list[dict[str, str]], dict[str, Array], Split]:
    try:
        promise = json.loads((directory / VERDICT_FILE).read_text())
        if promise["format"] != stored.FORMAT or promise["split"] != "test":
            raise ValueError(f"it is of {promise['format']!r}, on {promise['split']!r} images")
        promised = [{key: entry[key] + "" for key in ("path", "format", "sha256")} for entry in promise["files"]]
        images_of = Images.from_record(promise["images_of"]) if "images_of" in promise else fashion_mnist.images()
        predictions = _from_text(promise["predictions"], len(images_of.classes))
        expected = _read_npz(directory / EXPECTED_FILE, promise["expected_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{directory} holds no {VERDICT_FILE} with its {EXPECTED_FILE} ({error}).") from None
    split = datasets.split(images_of, "test")
    images = len(split)
    if len(predictions) != images or not promised:
        raise FormatError(f"{VERDICT_FILE} must promise {images} predictions. Got {len(predictions)} instead.")
    if expected["logits"].shape != (images, len(split.classes)) or expected["ties"].shape != (images,):
        raise FormatError(f"{EXPECTED_FILE} must hold logits and ties of {images} images.")
    if not np.array_equal(predicted(expected["logits"]), predictions):
        raise FormatError(f"{VERDICT_FILE} promises other predictions than the logits of {EXPECTED_FILE}.")
    return promised, expected, split


def _read_npz(path: Path, expected_sha256: str) -> dict[str, Array]:
    content = path.read_bytes()
    if sha256(content) != expected_sha256:
        raise ValueError(f"{path.name} is not the one that was exported")
    with np.load(path) as arrays:
        return {name: arrays[name] for name in ("logits", "ties")}


def _verify_file(
    path: Path, promise: Mapping[str, str], images: Path, split: Split, expected: Mapping[str, Array], patience: float
) -> CheckedFile:
    file = CheckedFile(path.name, promise["format"], 0, "", accuracy=0.0, agreement=0.0)
    try:
        content = path.read_bytes()
        file = replace(file, bytes=len(content), sha256=sha256(content))
        measured = _read_elsewhere(promise["format"], path, images, len(split.classes), patience)
    except OSError as error:
        return replace(file, problem=f"{path.name} cannot be read ({error.strerror or error}).")
    except FormatError as error:
        return replace(file, problem=f"{path.name}: {error}")
    predictions, difference = predicted(measured["logits"]), np.abs(measured["logits"] - expected["logits"]).max()
    other = np.flatnonzero(predictions != predicted(expected["logits"]))
    excused = [int(index) for index in other if _is_tie(expected["logits"], expected["ties"], int(index))]
    where = sorted(set(other.tolist()) - set(excused))
    problem = None
    if file.sha256 != promise["sha256"]:
        problem = f"{path.name} is not the file that was exported (its SHA-256 sum differs)."
    elif where:
        problem = (
            f"{path.name} predicts {len(where)} test images otherwise than promised, beyond rounding at a tie; the "
            f"first are {where[:5]}."
        )
    return replace(
        file,
        accuracy=float((predictions == split.labels.numpy()).mean()),
        agreement=1 - len(other) / len(split),
        largest_logit_difference=float(difference) if np.isfinite(difference) else None,
        ties=tuple(excused),
        reader=str(measured["tool"]),
        latency=tuple(Latency.of(batch, measured[f"batch_{batch}"]) for batch in readers.BATCHES),
        problem=problem,
    )


def _read_elsewhere(kind: str, path: Path, images: Path, classes: int, patience: float) -> dict[str, Array]:
    """What `core.formats.readers` finds in a fresh process within so many seconds. Raises FormatError with what that
    said."""
    out = images.with_name("out.npz")
    out.unlink(missing_ok=True)
    problem = _in_fresh_process(kind, path.resolve(), images, out, patience)
    if problem or not out.exists():
        raise FormatError(problem or "it could not be read.")
    with np.load(out) as arrays:
        measured = {name: arrays[name] for name in arrays.files}
    if measured["logits"].shape != (len(np.load(images, mmap_mode="r")), classes):
        raise FormatError(f"its logits must be one for each image and class. Got {measured['logits'].shape} instead.")
    return measured


def _in_fresh_process(kind: str, path: Path, images: Path, out: Path, patience: float) -> str:
    """`readers.run` in a process that knows nothing of this one, on one core; returns what went wrong, or ""."""
    command = [sys.executable, "-m", "core.formats.readers", kind, *map(str, (path, images, out))]
    env = os.environ | ONE_CORE
    try:
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return f"it was not read within {patience:.0f} seconds."
    return (done.stderr.strip() or "it could not be read.").splitlines()[-1] if done.returncode else ""


def _is_tie(logits: Array, ties: Array, index: int) -> bool:
    """Whether float rounding alone may decide between the two best classes of an image."""
    second, first = np.sort(logits[index])[-2:]
    slack = ROUNDING_TIE * float(logits.std()) if ties[index] else 0.0
    return bool(first - second <= max(TIE * float(np.abs(logits[index]).max()), slack))


def remarks(files: Sequence[CheckedFile]) -> list[str]:
    """What the times mean, in plain words."""
    timed = {file.format: file.latency for file in files if file.latency is not None}
    said = []
    if "packed" in timed and "onnx" in timed:
        pairs = zip(timed["packed"], timed["onnx"], strict=True)
        ratio = [float(f"{numpy_alone.median / onnx.median:.2g}") for numpy_alone, onnx in pairs]
        said.append(
            f"On one core NumPy takes about {ratio[0]:g} times as long as ONNX Runtime for one image, {ratio[-1]:g} "
            "times for each of 250: the packed file is small and needs no more than Python and NumPy; it is not made "
            "for speed."
        )
    for kind in (kind for kind in timed if kind.startswith("onnx-")):
        for plain, integer in zip(timed.get("onnx", ()), timed[kind], strict=False):
            images = f"{integer.batch} image" + "s" * (integer.batch > 1)
            times = f"{_in_words(integer)} against {_in_words(plain)} µs per image, median and quartiles"
            slower, faster = integer.lower > plain.upper, integer.upper < plain.lower
            word = "is slower than" if slower else "is faster than" if faster else "cannot be told apart from"
            said.append(f"{kind[5:]} {word} float32 here, {images} at a time: {times}.")
    if timed:
        said.append("Bits are not speed: no program here computes in fewer than 8; fewer bits make a smaller file.")
    return said


def _in_words(latency: Latency) -> str:
    """Microseconds."""
    low, middle, high = (f"{1e6 * seconds:,.0f}" for seconds in (latency.lower, latency.median, latency.upper))
    return f"{middle} ({low} to {high})"
