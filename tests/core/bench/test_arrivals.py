"""Networks of other people: on each road the predictions that they have at home, or a refusal in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from own_networks import PROGRAM, Fire, Residual, onnx_of, own_net, separable, trained
from torch import nn

import core
from core.bench.arrivals import Known, summary
from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.datasets import DataError, digits
from core.incoming import originals
from core.networks import models
from core.networks.graph import BaselineError


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / "nets.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def net(program: Path) -> nn.Module:
    return own_net()


@pytest.fixture(scope="module")
def weights(program: Path, net: nn.Module) -> Path:
    path = program.with_name("net.pt")
    torch.save({"epoch": 20, "model_state_dict": net.state_dict()}, path)
    return path


@torch.no_grad()
def at_home(net: nn.Module) -> float:
    """Its accuracy on the validation images, of numbers in [0, 1]."""
    split = digits.load("validation", Path())
    return float((net(split.images / 255).argmax(1) == split.labels).float().mean())


@pytest.mark.parametrize("road", ["module", "program", "onnx", "state"])
def test_each_road_gives_the_predictions_that_a_network_has_at_home(
    bench: Workbench, net: nn.Module, program: Path, weights: Path, tmp_path: Path, road: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_of(net))
    known = Known("digits")
    baseline = {
        "module": lambda: bench.arrivals.from_module(net, "mine", known),
        "program": lambda: bench.arrivals.from_file(f"{program}:Net", weights, "mine", known),
        "onnx": lambda: bench.arrivals.from_file(str(tmp_path / "net.onnx"), None, "mine", known),
        "state": lambda: bench.arrivals.from_file(str(weights), None, "mine", Known("digits", activation="sigmoid")),
    }[road]()
    assert baseline.info["accuracy"] == pytest.approx(at_home(net), abs=1e-6)
    assert baseline.images.scaling == ((0.0,), (1.0,)), "nobody said that it was trained on [0, 1]"
    assert baseline.info["same"] is (None if road == "state" else True)
    said = summary(baseline)
    assert "digits, 10 classes" in said
    assert "unit" in said
    again = models.from_bytes(models.to_bytes(baseline), "again")
    assert (again.images, again.sha256) == (baseline.images, baseline.sha256)


@pytest.mark.parametrize("make", [own_net, Residual, separable, Fire])
def test_a_network_on_other_images_goes_all_the_way(
    bench: Workbench, make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Every technique, an epoch of training, every format, verified on its own test images."""
    torch.manual_seed(0)
    opened = core.open_network(
        make() if make is own_net else trained(make(), epochs=6), "digits", bench=bench, scale="unit"
    )
    assert "Right for" in repr(opened)
    config = CompressionConfig(
        rank_share=0.6, above_break_even=True, sparsity=0.3, bits=6, activation_bits=8, rounding="gptq",
        recovery=RecoveryConfig(epochs=1),
    )  # fmt: skip
    table = opened.table({"all": config, "channels": CompressionConfig(channel_share=0.7)})
    assert list(table.index) == ["all", "channels"]
    assert table["bytes"].max() < 20_000
    verdict = opened.export(config, tmp_path / "out")
    assert verdict.ok
    assert verdict.images == 359
    assert {file.accuracy for file in verdict.files} == {opened.evaluate(config, "test").evaluation.accuracy}
    assert "classes of Digits" in (tmp_path / "out" / "README.md").read_text()
    assert opened.chart(table).get_xlabel() == "packed file, KB"


def test_weights_beside_an_onnx_file_are_found_or_asked_for(bench: Workbench, net: nn.Module, tmp_path: Path) -> None:
    content = onnx_of(net, "net.onnx.data")
    (tmp_path / "net.onnx").write_bytes(content)
    onnx.save(onnx.load_from_string(onnx_of(net)), tmp_path / "whole.onnx", save_as_external_data=True,
              location="net.onnx.data", size_threshold=0)  # fmt: skip
    data, known = (tmp_path / "net.onnx.data").read_bytes(), Known("digits")
    dropped = (tmp_path / "whole.onnx").read_bytes()
    by_path = bench.arrivals.from_onnx(tmp_path / "whole.onnx", "mine", known)
    by_page = bench.arrivals.from_onnx(dropped, "mine", known, {"net.onnx.data": data})
    assert by_path.sha256 == by_page.sha256
    with pytest.raises(BaselineError, match=r"net\.onnx\.data, which is missing"):
        bench.arrivals.from_onnx(dropped, "mine", known)


def test_the_same_network_twice_is_one_and_stays_as_it_was(bench: Workbench, net: nn.Module) -> None:
    first = bench.bring(onnx_of(net), "a.onnx", {}, "digits", None)
    assert bench.bring(onnx_of(net), "b.onnx", {}, "digits", "unit") == first
    assert bench.bring(onnx_of(net), "b.onnx", {}, "digits", "half") != first, "which sees other numbers"
    assert bench.title(first) == "a"
    assert bench.dataset(first).name == "digits"


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "other images": ({}, BaselineError, r"\(1, 1, 8, 8\).*\(1, 28, 28\)"),
    "no such data set": ({"data": "letters"}, DataError, "data must be one of"),
    "no such scale": ({"data": "digits", "scale": "tiny"}, ConfigError, "scale must be one of"),
    "half a scaling": ({"data": "digits", "mean": [0.1]}, ConfigError, "both a mean and a standard deviation"),
    "two means": ({"data": "digits", "mean": [0.1, 0.2], "std": [1.0]}, ConfigError, "each of 1 channels"),
}  # fmt: skip


@pytest.mark.parametrize(("known", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_words(
    bench: Workbench, net: nn.Module, known: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        bench.arrivals.from_onnx(onnx_of(net), "mine", Known(**known))


def test_a_network_for_other_classes_is_refused_by_both_numbers(bench: Workbench) -> None:
    seven = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(BaselineError, match=r"7 classes apart\. Digits has 10"):
        bench.arrivals.from_module(seven, "mine", Known("digits"))


def test_a_reading_that_computes_something_else_is_never_kept(
    bench: Workbench, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a reader may get wrong: the original has the last word."""
    monkeypatch.setattr(
        originals, "of_module", lambda *about: lambda images: np.roll(np.eye(10)[[3] * len(images)], 1, 1)
    )
    with pytest.raises(BaselineError, match=r"does not compute what the file does: \d+ of 287"):
        bench.arrivals.from_module(net, "mine", Known("digits"))


def test_ties_of_the_two_best_scores_are_no_disagreement() -> None:
    scores = np.array([[1.0, 1.00001, 0], [1, 2, 0], [0, 0, 3]])
    assert originals.disagreements(scores, np.array([[2.0, 1, 0], [1, 2, 0], [0, 9, 3]])).tolist() == [2]
    assert originals.disagreements(scores, np.array([0, 1, 2])).tolist() == [], "classes instead of scores"


def test_an_untrained_network_comes_in_with_a_warning(bench: Workbench, net: nn.Module) -> None:
    torch.manual_seed(3)
    fresh = type(net)()
    baseline = bench.arrivals.from_module(fresh, "mine", Known("digits", scale="unit"))
    assert "never trained" in " ".join(baseline.info["notes"])


def test_scalings_that_are_alike_are_asked_for(bench: Workbench) -> None:
    """Scores without biases grow with the images, and the largest stays the largest."""
    blind = trained(nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), epochs=4)
    with pytest.raises(BaselineError, match=r"(?s)does not say how pixels were scaled.*--scale"):
        bench.arrivals.from_module(blind, "mine", Known("digits"))
    assert bench.arrivals.from_module(blind, "mine", Known("digits", scale="unit")).info["accuracy"] > 0.7


def test_a_baseline_is_known_for_what_it_is(bench: Workbench, net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(models.to_bytes(bench.arrivals.from_module(net, "mine", Known("digits", scale="unit"))))
    with pytest.raises(BaselineError, match="is a baseline already"):
        bench.arrivals.from_file(str(path), None, "again", Known("digits", activation="sigmoid"))
    safetensors.torch.save_file({key: own.contiguous() for key, own in net.state_dict().items()}, path)
    assert not models.is_baseline(path)
