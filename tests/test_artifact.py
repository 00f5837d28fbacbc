"""An export does what was shown: read back, by us and by plain numpy, it predicts the same; anything else is said."""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from conftest import logits, statistics_of
from torch import Tensor
from torch.nn import functional as F

from core import artifact, data, evaluation, footprint, stored
from core.compression import Statistics, compress
from core.config import CompressionConfig
from core.data import Split
from core.evaluation import Evaluation
from core.files import sha256
from core.models import Baseline
from core.stored import FormatError, StoredNetwork

CONFIGS = [
    CompressionConfig(),
    CompressionConfig(sparsity=0.8),
    CompressionConfig(bits=8, activation_bits=8),
    CompressionConfig(
        rank_share=0.3, above_break_even=True, sparsity=0.5, bits=4, activation_bits=4, granularity="tensor"
    ),
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Split:
    """Three hundred test images in the place of ten thousand."""
    whole = data.load("test")
    small = Split("test", whole.images[:300], whole.labels[:300])
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, *rest: small if name == "test" else load(name, *rest))
    return small


def write(network: StoredNetwork, folder: Path, test: Split) -> Evaluation:
    measured = evaluation.evaluate(network, test)
    artifact.write(network, folder, measured, measured, measured)
    return measured


@pytest.fixture(params=CONFIGS, ids=["nothing", "pruned", "rounded", "everything"])
def network(request: pytest.FixtureRequest, baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, request.param, statistics).freeze()


@pytest.fixture
def exported(tmp_path: Path, cnn: Baseline, images: Tensor, few: Split) -> Path:
    network = compress(cnn, CONFIGS[3], statistics_of(cnn, images)).freeze()
    write(network, tmp_path / "export", few)
    return tmp_path / "export"


def test_the_file_is_as_large_as_its_ledger_and_its_verdict_say(
    network: StoredNetwork, tmp_path: Path, few: Split
) -> None:
    write(network, tmp_path, few)
    (promised,) = json.loads((tmp_path / "verdict.json").read_text())["files"]
    content = (tmp_path / promised["path"]).read_bytes()
    assert len(content) == promised["bytes"] == footprint.footprint(network).total
    assert sha256(content) == promised["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.safetensors", "verdict.json"]


def test_what_is_read_back_gives_the_same_logits(
    network: StoredNetwork, tmp_path: Path, few: Split, images: Tensor
) -> None:
    write(network, tmp_path, few)
    read = artifact.read(tmp_path / "network.safetensors")
    assert torch.equal(logits(read, images), logits(network, images))
    assert read.config == network.config


def test_an_untouched_export_verifies(network: StoredNetwork, tmp_path: Path, few: Split) -> None:
    measured = write(network, tmp_path, few)
    verdict = artifact.verify(tmp_path)
    assert set(verdict) == {"ok", "split", "images", "files"}
    assert (verdict["ok"], verdict["split"], verdict["images"]) == (True, "test", 300)
    (entry,) = verdict["files"]
    assert set(entry) == {"path", "format", "bytes", "sha256", "accuracy", "agreement"}
    assert (entry["accuracy"], entry["agreement"]) == (measured.accuracy, 1.0)


def test_the_figures_travel_with_the_file(network: StoredNetwork, tmp_path: Path, few: Split) -> None:
    measured = write(network, tmp_path, few)
    with safetensors.safe_open(tmp_path / "network.safetensors", "np") as file:
        about = file.metadata()
    assert about["test_accuracy"] == f"{measured.accuracy:.4f}"
    assert about["baseline_sha256"] == network.baseline_sha256
    assert CompressionConfig.from_json(about["config"]) == network.config


# The file in other hands: safetensors, numpy and plain torch, nothing of ours.


def decoded(path: Path) -> Callable[[Tensor], Tensor]:
    with safetensors.safe_open(path, "np") as file:
        about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    activation_bits = json.loads(about["config"])["activation_bits"]
    mean, deviation = json.loads(about["normalization"]).values()

    def codes(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
        whole = int.from_bytes(packed.tobytes(), "little")
        return np.array([whole >> (bits * i) & (2**bits - 1) for i in range(count)], dtype=np.int64)

    def weight(name: str, shape: list[int], bits: int) -> Tensor:
        count = int(np.prod(shape))
        there = np.ones(count, bool)
        if f"{name}.map" in arrays:
            there = codes(arrays[f"{name}.map"], 1, count).astype(bool)
        values = np.zeros(count, np.float32)
        if bits == 32:
            values[there] = arrays[f"{name}.values"].ravel()
        else:
            values[there] = codes(arrays[f"{name}.codes"], bits, there.sum()) - (2 ** (bits - 1) - 1)
        values = values.reshape(shape) * (1 if bits == 32 else arrays[f"{name}.scale"])
        return torch.tensor(values, dtype=torch.float32)

    def on_grid(x: Tensor, scale: float | None, low: int, high: int) -> Tensor:
        return x if scale is None else torch.clamp(torch.round(x / scale), low, high) * scale

    def run(pixels: Tensor) -> Tensor:
        x = ((pixels.float() / 255 - mean) / deviation)[:, None]
        steps = 2 ** (activation_bits or 8)
        for layer in json.loads(about["layers"]):
            x = on_grid(x, layer["input_scale"], 0, steps - 1)
            bias = torch.tensor(arrays[f"{layer['name']}.bias"])
            for i, entry in enumerate(layer["weights"]):
                last = i == len(layer["weights"]) - 1
                w = weight(entry["name"], entry["shape"], entry["bits"])
                x = F.conv2d(x, w, padding="same") if w.dim() == 4 else F.linear(x.flatten(1), w)
                if not last:
                    x = on_grid(x, layer["between_scale"], 1 - steps // 2, steps // 2 - 1)
            x = x + (bias[:, None, None] if x.dim() == 4 else bias)
            x = F.max_pool2d(x, 2) if layer["pool"] else x
            x = F.relu(x) if layer["relu"] else x
        return x

    return run


def test_a_reader_written_from_the_metadata_alone_gets_the_same_logits(
    network: StoredNetwork, tmp_path: Path, few: Split
) -> None:
    measured = write(network, tmp_path, few)
    outputs = decoded(tmp_path / "network.safetensors")(few.images)
    close = torch.isclose(outputs, logits(network, few.inputs), rtol=1e-3, atol=1e-3).all(1)
    rounded = network.config.activation_bits is not None  # there, a sum that falls on a tie may round either way
    assert close.float().mean() >= (0.9 if rounded else 1)
    assert (outputs.argmax(1) == measured.predictions).float().mean() >= (0.95 if rounded else 1)


# What is not the export that was written.


def problem(folder: Path) -> str:
    verdict = artifact.verify(folder)
    assert not verdict["ok"]
    (entry,) = verdict["files"]
    assert "\n" not in entry["problem"]
    return entry["problem"]


def test_another_network_in_the_files_place_is_found_out(exported: Path, cnn: Baseline, images: Tensor) -> None:
    other = compress(cnn, CompressionConfig(bits=2), statistics_of(cnn, images)).freeze()
    (exported / "network.safetensors").write_bytes(footprint.file_bytes(other, footprint.placeholder_figures()))
    assert "network.safetensors" in problem(exported)


def test_the_same_weights_under_other_figures_are_found_out(exported: Path) -> None:
    path = exported / "network.safetensors"
    with safetensors.safe_open(path, "np") as file:
        about = file.metadata() | {"test_accuracy": "0.9999"}
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load(path.read_bytes()), metadata=about))
    assert "SHA-256" in problem(exported)
    assert artifact.verify(exported)["files"][0]["agreement"] == 1.0


def change_verdict(folder: Path, **changes: object) -> None:
    path = folder / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_single_prediction_that_was_not_promised_is_found_out(exported: Path) -> None:
    promised = json.loads((exported / "verdict.json").read_text())["predictions"]
    change_verdict(exported, predictions=promised[:7] + str((int(promised[7]) + 1) % 10) + promised[8:])
    assert "7" in problem(exported)
    assert artifact.verify(exported)["files"][0]["agreement"] == pytest.approx(299 / 300)


def test_a_missing_file_is_found_out(exported: Path) -> None:
    (exported / "network.safetensors").unlink()
    assert problem(exported)


def test_a_file_elsewhere_is_not_read(exported: Path) -> None:
    (exported / "network.safetensors").rename(exported.parent / "network.safetensors")
    entry = json.loads((exported / "verdict.json").read_text())["files"][0]
    change_verdict(exported, files=[entry | {"path": "../network.safetensors"}])
    assert problem(exported)


def test_a_folder_without_a_verdict_is_a_format_error(tmp_path: Path, exported: Path) -> None:
    (exported / "verdict.json").unlink()
    for folder in (exported, tmp_path / "nowhere"):
        with pytest.raises(FormatError, match=r"verdict\.json"):
            artifact.verify(folder)


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
        {"files": [{"path": 3, "format": "safetensors", "sha256": ""}]},
        {"files": [{"path": "network.safetensors"}]},
    ],
    ids=str,
)
def test_a_verdict_that_makes_no_sense_is_a_format_error(exported: Path, changes: dict[str, object]) -> None:
    change_verdict(exported, **changes)
    with pytest.raises(FormatError):
        artifact.verify(exported)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}", "\udcff"])
def test_a_verdict_that_is_no_record_is_a_format_error(exported: Path, text: str) -> None:
    (exported / "verdict.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FormatError):
        artifact.verify(exported)


def with_metadata(content: bytes, change: Callable[[dict], None]) -> bytes:
    """The same file, described otherwise."""
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])["__metadata__"]
    layers = json.loads(about["layers"])
    change(layers)
    about["layers"] = json.dumps(layers)
    return safetensors.numpy.save(safetensors.numpy.load(content), metadata=about)


HOSTILE: dict[str, Callable[[list], None]] = {
    "no layers": lambda layers: layers.clear(),
    "no weights": lambda layers: layers[0].update(weights=[]),
    "three factors": lambda layers: layers[0].update(weights=layers[0]["weights"] * 3),
    "a scale that is text": lambda layers: layers[1].update(input_scale="0.1"),
    "a scale that is a list": lambda layers: layers[1].update(input_scale=[1, 2, 3]),
    "a scale of zero": lambda layers: layers[1].update(input_scale=0),
    "a shape that is no shape": lambda layers: layers[0].update(shape=["a", "b"]),
    "a layer twice": lambda layers: layers.insert(0, layers[0]),
    "a layer less": lambda layers: layers.pop(),
    "only the convolutions": lambda layers: layers.__delitem__(slice(2, None)),
    "pooling without end": lambda layers: [layer.update(pool=True) for layer in layers],
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_describes_a_network_that_cannot_run_is_a_problem_and_no_crash(
    exported: Path, change: Callable[[list], None]
) -> None:
    path = exported / "network.safetensors"
    path.write_bytes(with_metadata(path.read_bytes(), change))
    assert problem(exported)


FOREIGN = [
    b"",
    b"{}",
    b"\x80\x04pickle",
    b"\0" * 64,
    safetensors.numpy.save({"fc1.weight": np.zeros((10, 784), np.float32)}),
]


@pytest.mark.parametrize("content", FOREIGN, ids=["empty", "json", "pickle", "zeros", "a plain safetensors file"])
def test_a_file_of_another_kind_is_a_format_error_and_a_problem(exported: Path, content: bytes) -> None:
    (exported / "network.safetensors").write_bytes(content)
    with pytest.raises(FormatError):
        artifact.read(exported / "network.safetensors")
    assert problem(exported)


def test_no_damage_to_a_file_is_ever_anything_but_a_problem(exported: Path) -> None:
    path = exported / "network.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for turn in range(500):
        damaged = bytearray(content)
        where = random.randrange(header if turn % 4 else len(content))
        if turn % 5:
            damaged[where] ^= 1 << random.randrange(8)
        elif turn % 2:
            damaged[where] = random.choice(b'0123456789"[]{}:,-.eE ntf')
        else:
            del damaged[where:]
        if damaged == content:
            continue
        path.write_bytes(damaged)
        with suppress(FormatError):
            artifact.read(path)
        assert problem(exported)


def test_reading_what_a_file_holds_needs_its_format(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}, metadata={"format": "pt"}))
    with pytest.raises(FormatError, match=stored.FORMAT):
        artifact.read(path)
