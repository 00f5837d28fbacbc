"""An export does what was shown: each file, read in a fresh process by what a person would read it with, predicts the
same; anything else is said."""

import json
import random
import subprocess
import venv
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import statistics_of
from torch import Tensor

from core.config import FORMATS, CompressionConfig
from core.datasets import Datasets, Scaling, Split, fashion_mnist
from core.formats import artifact, interchange, packed
from core.machinery.files import sha256, write_atomically
from core.measuring import evaluation
from core.measuring.evaluation import Evaluation
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.encodings import FormatError
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork

CONFIGS = [
    CompressionConfig(),
    CompressionConfig(sparsity=0.8),
    CompressionConfig(bits=8, activation_bits=8),
    CompressionConfig(
        rank_share=0.3, above_break_even=True, sparsity=0.5, bits=4, activation_bits=4, granularity="tensor"
    ),
    CompressionConfig(bits=2, activation_bits=2, symmetry="asymmetric"),
]
DATASETS = Datasets(Path("cache/data"))
KINDS = ["packed", "onnx", "onnx-int8", "onnx-int4", "onnx-int2", "safetensors"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Split:
    """Three hundred test images in the place of ten thousand."""
    whole = fashion_mnist.load("test")
    small = whole.part(slice(300), "test")
    load = fashion_mnist.load
    monkeypatch.setattr(fashion_mnist, "load", lambda name, *rest: small if name == "test" else load(name, *rest))
    return small


def write(network: StoredNetwork, folder: Path, test: Split, formats: tuple[str, ...] = FORMATS) -> Evaluation:
    measured = evaluation.evaluate(network, test)
    logits, ties = evaluation.logits(network, test), evaluation.rounding_ties(network, test)
    artifact.write(network, folder, artifact.Promise(test, measured, measured, measured, logits, ties), formats)
    return measured


@pytest.fixture(params=CONFIGS, ids=["nothing", "pruned", "rounded", "everything", "two bits"])
def network(request: pytest.FixtureRequest, baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, request.param, statistics).freeze()


@pytest.fixture
def exported(tmp_path: Path, cnn: Baseline, images: Tensor, few: Split) -> Path:
    network = compress(cnn, CONFIGS[3], statistics_of(cnn, images)).freeze()
    write(network, tmp_path / "export", few, ("packed",))
    return tmp_path / "export"


def test_every_file_of_an_untouched_export_verifies(network: StoredNetwork, tmp_path: Path, few: Split) -> None:
    measured = write(network, tmp_path, few)
    said: list[float] = []
    verdict = artifact.verify(tmp_path, DATASETS, lambda text, done: said.append(done))
    assert (verdict.ok, verdict.split, verdict.images) == (True, "test", 300)
    files = verdict.files
    assert said == [position / len(files) for position in range(len(files))]
    bits = [tensor.bits for layer in network.layers for tensor in layer.tensors]
    narrow = {2: ["onnx-int2"], 4: ["onnx-int4"]}.get(bits[0], [])
    assert [file.format for file in files] == [
        "packed", "onnx", *(["onnx-int8"] if bits[0] < 32 else []), *narrow, "safetensors",
    ]  # fmt: skip
    for file in files:
        content = (tmp_path / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), sha256(content))
        assert file.agreement == 1.0 or file.ties
        assert file.accuracy == pytest.approx(measured.accuracy, abs=len(file.ties) / 300)
        assert file.largest_logit_difference < 0.5 * float(evaluation.logits(network, few).std())
        assert [(timed.batch, timed.lower <= timed.median <= timed.upper) for timed in file.latency] == [
            (1, True), (250, True),
        ]  # fmt: skip
    assert files[0].bytes == len(packed.pack(network).content)
    assert verdict.notes[-1].startswith("Bits are not speed")


def test_each_format_is_read_in_a_process_of_its_own(
    fresh_processes: None, tmp_path: Path, cnn: Baseline, images: Tensor, few: Split
) -> None:
    """Two exports have all formats between them; what one process says is what this one finds."""
    seen: dict[str, str] = {}
    for config in (CONFIGS[3], CONFIGS[4]):
        write(compress(cnn, config, statistics_of(cnn, images)).freeze(), tmp_path, few)
        promised = json.loads((tmp_path / "verdict.json").read_text())["files"]
        fresh = [entry for entry in promised if entry["format"] not in seen]
        change_verdict(tmp_path, files=fresh)
        verdict = artifact.verify(tmp_path, DATASETS)
        assert verdict.ok
        seen |= {file.format: str(file.reader) for file in verdict.files}
        assert [file.bytes for file in verdict.files] == [entry["bytes"] for entry in fresh]
    assert sorted(seen) == sorted(KINDS)
    assert {reader.split()[0] for reader in seen.values()} == {"NumPy", "ONNX", "PyTorch"}
    (tmp_path / "network.packed").write_bytes(b"CNET")
    change_verdict(tmp_path, files=[entry for entry in promised if entry["format"] == "packed"])
    assert problem(tmp_path) == "network.packed: This is not a packed network, or one of another version."


def test_a_large_network_has_longer_to_be_read(
    fresh_processes: None, exported: Path, few: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its multiply-accumulates take, and never less than a small one has."""
    given = list[float]()

    def read(command: list[str], timeout: float, **about: object) -> None:
        given.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(artifact.subprocess, "run", read)
    for rate in (1e9, 1.0):
        monkeypatch.setattr(artifact, "READ_PER_SECOND", rate)
        assert problem(exported) == f"network.packed: it was not read within {given[-1]:.0f} seconds."
    layers = artifact.read(exported / "network.packed").network.layers
    work = sum(layer.weights * layer.places for layer in layers)
    assert set(given) == {900, work * len(few)}


def test_what_is_read_back_is_the_network(network: StoredNetwork, tmp_path: Path, few: Split) -> None:
    write(network, tmp_path, few)
    wanted = evaluation.logits(network, few)
    for name in ("network.packed", "network.safetensors"):
        read = artifact.read(tmp_path / name)
        assert np.array_equal(evaluation.logits(read, few), wanted)
        assert read.config == network.config


def test_an_export_of_an_earlier_version_is_verified(tmp_path: Path, few: Split) -> None:
    earlier = Path(__file__).parent / "earlier"
    write(artifact.read(earlier / "network.packed"), tmp_path, few, ("packed", "safetensors"))
    files = json.loads((tmp_path / "verdict.json").read_text())["files"]
    for name in ("network.packed", "network.safetensors", "network.json"):
        content = (earlier / name).read_bytes()
        assert content != (tmp_path / name).read_bytes() or name == "network.safetensors"
        (tmp_path / name).write_bytes(content)
        files = [entry | {"sha256": sha256(content)} if entry["path"] == name else entry for entry in files]
    change_verdict(tmp_path, files=files)
    verdict = artifact.verify(tmp_path, DATASETS)
    assert (verdict.ok, len(verdict.files)) == (True, 2)


def test_only_what_is_asked_for_is_written_and_what_an_earlier_export_left_goes(
    network: StoredNetwork, tmp_path: Path, few: Split
) -> None:
    write(network, tmp_path, few)
    write(network, tmp_path, few, ("safetensors",))
    assert {path.name for path in tmp_path.iterdir()} >= {"network.safetensors", "network.json", "plain_torch.py"}
    assert not list(tmp_path.glob("*.packed")) + list(tmp_path.glob("*.onnx"))
    assert [file.format for file in artifact.verify(tmp_path, DATASETS).files] == ["safetensors"]


def test_a_file_that_is_no_exports_is_never_written_over(network: StoredNetwork, tmp_path: Path, few: Split) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "network_of_mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"README\.md"):
        write(network, tmp_path, few)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "network_of_mine.txt"}
    (tmp_path / "README.md").unlink()
    write(network, tmp_path, few)
    write(network, tmp_path, few, ("onnx",))
    assert (tmp_path / "network_of_mine.txt").read_text() == "mine"
    assert not (tmp_path / "predict.py").exists()


def test_a_try_that_failed_stands_in_nobodys_way(
    network: StoredNetwork, tmp_path: Path, few: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == "network.onnx":
            raise OSError(28, "No space left on device")
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            write(network, tmp_path, few)
    with suppress(FormatError):
        assert not artifact.verify(tmp_path, DATASETS).ok
    write(network, tmp_path, few)
    assert artifact.verify(tmp_path, DATASETS).ok


@pytest.mark.parametrize("name", ["report.docx", "verified.json", "figures/mine.png"])
def test_what_says_something_of_another_export_goes_and_what_is_somebodys_own_stays(
    network: StoredNetwork, tmp_path: Path, few: Split, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=name.split("/")[0]):
        write(network, tmp_path, few, ("packed",))
    assert (tmp_path / name).read_text() == "mine"
    (tmp_path / "earlier").mkdir()
    write(network, tmp_path / "earlier", few, ("packed",))
    for left in (artifact.VERIFIED_FILE, *artifact.REPORT_FILES):
        (tmp_path / "earlier" / left).write_text("of the first")
    write(network, tmp_path / "earlier", few, ("packed",))
    assert not {artifact.VERIFIED_FILE, *artifact.REPORT_FILES} & {
        path.name for path in (tmp_path / "earlier").iterdir()
    }


@pytest.mark.parametrize("formats", [("packed",), ("onnx",), ("safetensors",)])
def test_the_readme_of_an_export_speaks_of_the_files_that_are_there(
    tmp_path: Path, cnn: Baseline, images: Tensor, few: Split, formats: tuple[str, ...]
) -> None:
    scaled = replace(cnn, images=cnn.images._replace(scaling=Scaling((0.0,), (1 / 255,))))
    write(compress(scaled, CONFIGS[2], statistics_of(cnn, images)).freeze(), tmp_path, few, formats)
    text = (tmp_path / "README.md").read_text()
    assert ("python predict.py" in text) == (tmp_path / "predict.py").exists() == (formats == ("packed",))
    assert ("network.onnx" in text) == (tmp_path / "network.onnx").exists() == (formats == ("onnx",))
    assert "/ 0.00392156863" in text, "all digits that float32 has"


@pytest.mark.parametrize("formats", [(), ("pickle",), ("packed", "onnx-int8")])
def test_a_format_that_there_is_not_is_refused(network: StoredNetwork, formats: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="format must be packed, onnx, safetensors"):
        artifact.files(network, formats)


def test_what_the_runtime_cannot_run_is_said_and_not_written(
    cnn: Baseline, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = compress(cnn, CompressionConfig(bits=2), statistics_of(cnn, images)).freeze()
    monkeypatch.setattr(interchange, "problem_with", lambda model: "ONNX Runtime 0.1 cannot run it: no int2.")
    made, notes = artifact.files(network)
    assert "network-int2.onnx" not in made
    assert "network-int8.onnx" in made
    assert "no int2" in notes[0]


# The download in other hands: a new environment that has NumPy and nothing else.


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment in which only NumPy can be imported."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = next(
        path
        for path in ((folder / "venv" / "bin" / "python"), folder / "venv" / "Scripts" / "python.exe")
        if path.exists()
    )
    packages = Path(np.__file__).parent.parent
    own = next((folder / "venv").glob("lib*/python*/site-packages"), folder / "venv" / "Lib" / "site-packages")
    for path in packages.glob("numpy*"):
        (own / path.name).symlink_to(path)
    return python


def test_predict_needs_numpy_alone_and_finds_what_was_promised(
    cnn: Baseline, images: Tensor, tmp_path: Path, few: Split, elsewhere: Path
) -> None:
    measured = write(compress(cnn, CONFIGS[3], statistics_of(cnn, images)).freeze(), tmp_path, few)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([elsewhere, *command], cwd=tmp_path, capture_output=True, text=True)

    assert run("-c", "import torch").returncode
    done = run("predict.py")
    assert done.returncode == 0, done.stderr
    assert "100 of 100 images" in done.stdout
    np.save(tmp_path / "mine.npy", few.images[:7].numpy())
    lines = run("predict.py", "mine.npy").stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        fashion_mnist.CLASSES[i] for i in measured.predictions[:7].tolist()
    ]
    np.save(tmp_path / "mine.npy", few.inputs[:7, 0].numpy())
    done = run("predict.py", "mine.npy")
    assert (done.returncode, "must be uint8 (n, 28, 28)" in done.stderr, done.stdout) == (2, True, "")
    sample = dict(np.load(tmp_path / "sample.npz"))
    sample["predictions"][3] = (sample["predictions"][3] + 1) % 10
    np.savez(tmp_path / "sample.npz", **sample)
    done = run("predict.py")
    assert (done.returncode, "99 of 100" in done.stdout) == (1, True)


# What is not the export that was written.


def problem(folder: Path) -> str:
    verdict = artifact.verify(folder, DATASETS)
    assert not verdict.ok
    (file,) = verdict.files
    assert file.problem is not None
    assert "\n" not in file.problem
    return file.problem


def test_another_network_in_the_files_place_is_found_out(exported: Path, cnn: Baseline, images: Tensor) -> None:
    other = compress(cnn, CompressionConfig(bits=2), statistics_of(cnn, images)).freeze()
    (exported / "network.packed").write_bytes(packed.pack(other).content)
    assert "network.packed" in problem(exported)


def change_verdict(folder: Path, **changes: object) -> None:
    path = folder / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def promise(folder: Path, logits: np.ndarray) -> None:
    """Other logits in the place of those that were promised, and what follows from them."""
    np.savez(folder / "expected.npz", logits=logits, ties=np.load(folder / "expected.npz")["ties"])
    digest = sha256((folder / "expected.npz").read_bytes())
    change_verdict(folder, predictions="".join(map(str, logits.argmax(1))), expected_sha256=digest)


def test_promises_that_contradict_each_other_are_a_format_error(exported: Path) -> None:
    promised = json.loads((exported / "verdict.json").read_text())["predictions"]
    change_verdict(exported, predictions=promised[:7] + str((int(promised[7]) + 1) % 10) + promised[8:])
    with pytest.raises(FormatError, match="other predictions"):
        artifact.verify(exported, DATASETS)
    change_verdict(exported, predictions=promised)
    promise(exported, np.zeros((300, 9), np.float32))
    with pytest.raises(FormatError, match="must hold logits"):
        artifact.verify(exported, DATASETS)


def test_a_single_prediction_that_was_not_promised_is_found_out(exported: Path, few: Split) -> None:
    logits = np.load(exported / "expected.npz")["logits"]
    sure = int(np.diff(np.sort(logits)[:, -2:])[:, 0].argmax())
    logits[sure] = np.roll(logits[sure], 1)
    promise(exported, logits)
    assert f"the first are [{sure}]" in problem(exported)
    assert artifact.verify(exported, DATASETS).files[0].agreement == pytest.approx(299 / 300)


def test_a_disagreement_at_a_tie_is_reported_and_no_problem(exported: Path) -> None:
    logits = np.load(exported / "expected.npz")["logits"]
    first = int(logits[5].argmax())
    logits[5, (first + 1) % 10] = logits[5, first] + np.abs(logits[5]).max() * 1e-6
    promise(exported, logits)
    verdict = artifact.verify(exported, DATASETS)
    assert (verdict.ok, verdict.files[0].ties) == (True, (5,))
    assert verdict.files[0].agreement == pytest.approx(299 / 300)


def test_a_missing_file_is_found_out(exported: Path) -> None:
    (exported / "network.packed").unlink()
    assert problem(exported)


def test_a_file_elsewhere_is_not_read(exported: Path) -> None:
    (exported / "network.packed").rename(exported.parent / "network.packed")
    entry = json.loads((exported / "verdict.json").read_text())["files"][0]
    change_verdict(exported, files=[entry | {"path": "../network.packed"}])
    assert problem(exported)


@pytest.mark.parametrize("name", ["verdict.json", "expected.npz"])
def test_a_folder_without_its_promise_is_a_format_error(tmp_path: Path, exported: Path, name: str) -> None:
    (exported / name).unlink()
    for folder in (exported, tmp_path / "nowhere"):
        with pytest.raises(FormatError, match=r"verdict\.json"):
            artifact.verify(folder, DATASETS)


def test_other_expected_logits_are_a_format_error(exported: Path) -> None:
    (exported / "expected.npz").write_bytes(b"PK")
    with pytest.raises(FormatError, match=r"expected\.npz"):
        artifact.verify(exported, DATASETS)


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "everything"},
        {"split": ["test"]},
        {"split": None},
        {"predictions": ""},
        {"predictions": "12"},
        {"predictions": 12},
        {"predictions": None},
        {"files": []},
        {"files": None},
        {"files": [3]},
        {"files": [{}]},
        {"files": [{"path": 3, "format": "packed", "sha256": ""}]},
        {"files": [{"path": "network.packed"}]},
    ],
    ids=str,
)
def test_a_verdict_that_makes_no_sense_is_a_format_error(exported: Path, changes: dict[str, object]) -> None:
    change_verdict(exported, **changes)
    with pytest.raises(FormatError):
        artifact.verify(exported, DATASETS)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}", "\udcff"])
def test_a_verdict_that_is_no_record_is_a_format_error(exported: Path, text: str) -> None:
    (exported / "verdict.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FormatError):
        artifact.verify(exported, DATASETS)


FOREIGN = [b"", b"{}", b"\x80\x04pickle", b"\0" * 64]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_a_problem_whatever_reads_it(exported: Path, kind: str) -> None:
    for content in FOREIGN[:: len(FOREIGN) if kind != "packed" else 1]:
        (exported / "network.packed").write_bytes(content)
        change_verdict(exported, files=[{"path": "network.packed", "format": kind, "sha256": sha256(content)}])
        assert problem(exported)


def test_a_damaged_file_is_a_problem_and_never_a_crash(exported: Path) -> None:
    path, dice = exported / "network.packed", random.Random(0)
    content = path.read_bytes()
    for turn in range(20):
        damaged = bytearray(content)
        damaged[dice.randrange(len(content))] ^= 1 << turn % 8
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            artifact.read(path)
        if turn < 3:
            assert problem(exported)


@pytest.mark.parametrize("content", FOREIGN, ids=["empty", "json", "pickle", "zeros"])
@pytest.mark.parametrize("name", ["network.packed", "network.safetensors"])
def test_reading_a_file_of_another_kind_is_a_format_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for about in (None, b"", content, b'{"format": "pt"}'):
        with suppress(OSError):
            (tmp_path / "network.json").unlink()
        if about is not None:
            (tmp_path / "network.json").write_bytes(about)
        with pytest.raises(FormatError):
            artifact.read(tmp_path / name)


def entry(kind: str, times: list[tuple[float, float, float]]) -> artifact.CheckedFile:
    timed = tuple(
        evaluation.Latency(batch, 9, median, low, high)
        for batch, (low, median, high) in zip((1, 250), times, strict=True)
    )
    return artifact.CheckedFile(kind, kind, 1, "", 0.9, 1.0, latency=timed)


def test_the_remarks_say_slower_only_beyond_the_spread() -> None:
    plain = entry("onnx", [(1e-4, 1.1e-4, 1.2e-4), (1e-5, 1.1e-5, 1.2e-5)])
    said = artifact.remarks([plain, entry("onnx-int8", [(2e-4, 2.1e-4, 2.2e-4), (1e-5, 1.15e-5, 1.3e-5)])])
    times = "210 (200 to 220) against 110 (100 to 120) µs per image, median and quartiles"
    assert said[0] == f"int8 is slower than float32 here, 1 image at a time: {times}."
    assert "cannot be told apart from float32 here, 250 images at a time: 12 (10 to 13) against" in said[1]
    assert "faster than" in artifact.remarks([plain, entry("onnx-int4", [(5e-5, 6e-5, 7e-5), (1e-5, 1e-5, 1e-5)])])[0]
    assert artifact.remarks([]) == []
    alone = entry("packed", [(9e-4, 9.2e-4, 9.9e-4), (1e-3, 1.1e-3, 1.2e-3)])
    assert artifact.remarks([alone, plain])[0].startswith(
        "On one core NumPy takes about 8.4 times as long as ONNX Runtime"
    )


def test_every_companion_is_explained() -> None:
    assert {path.name for path in artifact.PORTABLE.glob("*.py")} - {"__init__.py"} <= set(artifact._ABOUT)
