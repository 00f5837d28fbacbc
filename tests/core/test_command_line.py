"""The command line: one JSON object on standard output, one line for an error, an exit status that tells."""

import csv
import html
import itertools
import json
import pickle
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MLP_SHAPES, copied, random_tensors, train_on_few
from safetensors.torch import save
from torch import nn

from core.__main__ import _print, main
from core.bench.workbench import Workbench
from core.config import CompressionConfig, TrainingConfig
from core.datasets import fashion_mnist
from core.measuring.front import SEARCHED, TECHNIQUES, Goal
from core.networks import models
from core.networks.models import Baseline
from core.studies import assignment, rates, search, students
from core.studies.answers import AtEqualSize, OneShotSearch, RateAblation, Searched, SearchedBest

Run = Callable[..., Any]
EVALUATE = [
    "baseline",
    "split",
    "images",
    "accuracy",
    "baseline_accuracy",
    "difference",
    "interval",
    "lost",
    "gained",
    "parameters",
    "nonzero",
    "baseline_parameters",
    "sparsity",
    "bytes",
    "baseline_bytes",
    "compression_ratio",
    "layers",
    "seconds",
    "cached",
]


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, but for a test that asks for one that knows the shipped baselines."""
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path / "cache"))
    if "warm" in request.fixturenames:
        copied(request.getfixturevalue("warm"), tmp_path / "cache")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must work; returns its JSON object."""

    def command(*arguments: str | Path, status: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == status
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert said.out.count("\n") == 1
        return json.loads(said.out)

    return command


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must fail; returns the one line that it says."""

    def command(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main([*map(str, arguments)]) not in (0, None)
        said = capsys.readouterr()
        assert said.out == ""
        lines = said.err.strip().splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
        assert "Traceback" not in said.err
        return lines[-1]

    return command


@pytest.fixture
def file(tmp_path: Path, mlp: Baseline) -> Path:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(models.to_bytes(mlp))
    return path


def test_evaluate_answers_with_the_keys_and_units_that_were_agreed(run: Run, file: Path, mlp: Baseline) -> None:
    answer = run("evaluate", "--baseline", file, "--sparsity", 0.5, "--bits", 4)
    assert list(answer) == EVALUATE
    assert (answer["split"], answer["images"], answer["cached"]) == ("validation", 5_000, False)
    assert answer["baseline_parameters"] == answer["parameters"] == mlp.parameters
    assert answer["nonzero"] < answer["parameters"]
    assert answer["baseline_bytes"] == 4 * mlp.parameters
    assert answer["compression_ratio"] == answer["baseline_bytes"] / answer["bytes"]
    assert answer["difference"] == pytest.approx(answer["accuracy"] - answer["baseline_accuracy"])
    assert answer["difference"] == (answer["gained"] - answer["lost"]) / answer["images"]
    assert answer["interval"][0] <= answer["difference"] <= answer["interval"][1]
    assert answer["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert [layer["name"] for layer in answer["layers"]] == [layer.name for layer in mlp.layers]


def test_a_second_call_is_answered_from_the_cache(run: Run, file: Path) -> None:
    first, again = (run("evaluate", "--baseline", file, "--bits", 3) for _ in range(2))
    assert (first.pop("cached"), again.pop("cached")) == (False, True)
    assert first | {"seconds": 0} == again | {"seconds": 0}


@pytest.mark.parametrize(
    ("options", "parameters"),
    [(["--rank", "fc2=256"], 932_362), (["--rank", "fc2=102"], 774_666), (["--sparsity", "0"], 932_362)],
)
def test_the_mlp_of_the_course_has_the_parameters_of_the_course(
    run: Run, warm: Path, options: list[str], parameters: int
) -> None:
    answer = run("evaluate", "--baseline", "mlp", *options)
    assert answer["parameters"] == parameters
    assert answer["baseline_parameters"] == 932_362
    assert "--sparsity" not in options or answer["difference"] == 0


OPTIONS = [
    ([], CompressionConfig()),
    (["--rank-share", "0.5", "--above-break-even"], CompressionConfig(rank_share=0.5, above_break_even=True)),
    (
        ["--rank", "fc1=3", "--low-rank-method", "whitened"],
        CompressionConfig(low_rank_method="whitened").with_layer("fc1", rank=3),
    ),
    (["--sparsity", "0.8", "--scope", "layer"], CompressionConfig(sparsity=0.8, scope="layer")),
    (["--bits", "4", "--granularity", "tensor"], CompressionConfig(bits=4, granularity="tensor")),
    (
        ["--bits", "4", "--bits", "fc1=8", "--bits", "fc2=32"],
        CompressionConfig(bits=4).with_layer("fc1", bits=8).with_layer("fc2", bits=32),
    ),
    (["--activation-bits", "6"], CompressionConfig(activation_bits=6)),
    (["--rank", "fc1=3", "--sparsity", "fc1=0.5"], CompressionConfig().with_layer("fc1", rank=3, sparsity=0.5)),
]


@pytest.mark.parametrize(("options", "config"), OPTIONS)
def test_options_mean_what_a_file_with_the_same_configuration_means(
    run: Run, tmp_path: Path, file: Path, options: list[str], config: CompressionConfig
) -> None:
    (tmp_path / "config.json").write_text(config.to_json())
    first = run("evaluate", "--baseline", file, *options)
    again = run("evaluate", "--baseline", file, "--config", tmp_path / "config.json")
    assert again["cached"]
    assert first["bytes"] == again["bytes"]


def test_options_change_a_configuration_from_a_file_further(run: Run, tmp_path: Path, file: Path) -> None:
    (tmp_path / "config.json").write_text(CompressionConfig(sparsity=0.5).with_layer("fc1", bits=8).to_json())
    run("evaluate", "--baseline", file, "--config", tmp_path / "config.json", "--bits", 4, "--rank", "fc1=2")
    same = ["--sparsity", 0.5, "--bits", 4, "--bits", "fc1=8", "--rank", "fc1=2"]
    assert run("evaluate", "--baseline", file, *same)["cached"]


def test_every_step_of_the_ladder_is_an_option(run: Run, file: Path, tmp_path: Path) -> None:
    config, path = CompressionConfig(bits=3, activation_bits=3), tmp_path / "config.json"
    options: list[str] = ["--bits", "3", "--activation-bits", "3"]
    for more, change in (
        (["--clip", "mse"], {"clip": "mse"}),
        (["--bias-correction"], {"bias_correction": True}),
        (["--rounding", "gptq"], {"rounding": "gptq"}),
        (["--symmetry", "asymmetric"], {"symmetry": "asymmetric"}),
    ):
        options, config = [*options, *more], replace(config, **change)
        answer = run("evaluate", "--baseline", file, *options)
        path.write_text(config.to_json())
        again = run("evaluate", "--baseline", file, "--config", path)
        assert (answer["cached"], again["cached"]) == (False, True)
        assert answer["accuracy"] == again["accuracy"]


@pytest.mark.parametrize(
    ("what", "asked", "given"),
    [
        ("quantization", "quantization_half", ("mlp", 4)),
        ("combination", "combination", ("mlp", 0.02, 8)),
        ("pruning", "pruning_half", ("mlp", 0.02, 8)),
    ],
)
def test_reproduce_runs_the_experiment_that_it_names(
    run: Run, monkeypatch: pytest.MonkeyPatch, what: str, asked: str, given: tuple[object, ...]
) -> None:
    seen: list[tuple[object, ...]] = []
    answer = OneShotSearch(())
    sure: list[dict[str, object]] = []
    monkeypatch.setattr(
        assignment, asked, lambda bench, *rest, **more: seen.append(rest[:-1]) or sure.append(more) or answer
    )
    allowed = () if what == "quantization" else ("--allowance", 0.02)
    assert run("reproduce", what, "--baseline", "mlp", *allowed) == {"answers": []}
    assert seen == [given]
    assert sure[0].get("confidence") is None
    if what != "quantization":
        run("reproduce", what, "--baseline", "mlp", "--confidence", 0.9)
        assert sure[1] == {"confidence": 0.9}


def test_reproduce_compares_a_rate_with_pruning_and_says_which_is_better(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    answer = RateAblation(0.9, (), (), AtEqualSize(4096.0, 2048.0, 8192.0, (0.01, 0.01), 0.01, (0.005, 0.015)))
    monkeypatch.setattr(
        rates, "ablation", lambda bench, name, config, seeds, progress: seen.append((name, config, seeds)) or answer
    )
    assert run("reproduce", "rate", "--baseline", "mlp", "--epochs", 2, "--seeds", 5) == answer.to_dict()
    ((name, config, seeds),) = seen
    assert (name, config.bits, config.recovery.epochs, seeds) == ("mlp", 4, 2, 5)


def test_confidence_is_asked_for_where_something_is_chosen(complaint: Run) -> None:
    assert "confidence" in complaint("reproduce", "pruning", "--confidence", "1.5")
    assert "--confidence" in complaint("reproduce", "quantization", "--confidence", "0.9")
    assert "--allowance" in complaint("reproduce", "rate", "--allowance", "0.02")
    assert "--baseline" in complaint("reproduce", "low-rank", "--baseline", "cnn")
    assert "--epochs" in complaint("reproduce", "pruning", "--epochs", "0")
    assert "--seeds" in complaint("reproduce", "low-rank", "--seeds", "0")


@pytest.mark.parametrize("allowance", ["1", "nan", "-1"])
@pytest.mark.parametrize("what", ["pruning", "combination"])
def test_an_allowance_is_a_fraction_before_anything_is_trained(
    complaint: Run, monkeypatch: pytest.MonkeyPatch, what: str, allowance: str
) -> None:
    monkeypatch.setattr("core.__main__._workbench", lambda device: pytest.fail("a workbench was made"))
    assert "allowance must be a number in [0, 1)" in complaint("reproduce", what, f"--allowance={allowance}")


def test_the_test_images_are_opened_when_asked_for(run: Run, file: Path) -> None:
    answer = run("evaluate", "--baseline", file, "--split", "test")
    assert (answer["split"], answer["images"]) == ("test", 10_000)


def test_spectrum_answers_per_layer(run: Run, file: Path, mlp: Baseline) -> None:
    answer = run("spectrum", "--baseline", file, "--energy", 0.9)
    keys = {"shape", "singular_values", "rank", "share", "break_even_rank", "condition_number"}
    for layer, found in zip(mlp.layers, answer["layers"], strict=True):
        assert keys <= set(found)
        assert tuple(found["shape"]) == layer.shape
        values = torch.linalg.svdvals(mlp.tensors[f"{layer.name}.weight"].flatten(1).double())
        assert found["singular_values"] == pytest.approx(values.tolist(), rel=1e-4)
        assert found["share"] == found["rank"] / len(values)


def test_classes_and_confusion_come_when_they_are_asked_for(run: Run, file: Path) -> None:
    answer = run("evaluate", "--baseline", file, "--bits", 3, "--classes", "--split", "test")
    counts = [row["predicted"] for row in answer["confusion"]]
    assert sum(counts[i][i] for i in range(10)) / answer["images"] == pytest.approx(answer["accuracy"])
    assert [row["class"] for row in answer["classes"]][:10] == [row["true"] for row in answer["confusion"]]
    for place, row in enumerate(answer["classes"][:10]):
        assert row["recall"] == pytest.approx(counts[place][place] / row["images"])


def test_an_export_verifies_and_a_changed_one_does_not(run: Run, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "export"
    answer = run("export", "--baseline", file, "--sparsity", 0.5, "--bits", 4, "--out", folder)
    verdict = run("verify", folder)
    assert {"ok", "split", "images", "files"} <= set(answer)
    for each in (answer, verdict):
        assert (each["ok"], each["split"], each["images"]) == (True, "test", 10_000)
        kinds = [entry["format"] for entry in each["files"]]
        assert kinds == ["packed", "onnx", "onnx-int8", "onnx-int4", "safetensors"]
        for entry in each["files"]:
            assert {"path", "format", "bytes", "sha256", "accuracy", "agreement"} <= set(entry)
            assert entry["agreement"] == 1
    entry = answer["files"][0]
    network = folder / entry["path"]
    assert network.stat().st_size == run("evaluate", "--baseline", file, "--sparsity", 0.5, "--bits", 4)["bytes"]
    content = bytearray(network.read_bytes())
    content[-1] ^= 1
    network.write_bytes(content)
    assert not run("verify", folder, status=1)["ok"]


def test_an_export_has_the_formats_and_the_report_that_were_asked_for(run: Run, tmp_path: Path, file: Path) -> None:
    answer = run("export", "--baseline", file, "--bits", 8, "--format", "packed", "--report", "--out", tmp_path / "own")
    assert [entry["format"] for entry in answer["files"]] == ["packed"]
    assert all(Path(path).is_file() for path in answer["report"])
    assert f"{answer['files'][0]['bytes']:,} bytes" in (tmp_path / "own" / "report.html").read_text()


def test_the_report_of_a_command_says_who_hands_it_in(
    run: Run, complaint: Callable[..., str], tmp_path: Path, file: Path
) -> None:
    who = {"name": "Ada <b>", "number": "0815", "partner": "Grace", "course": "Embedded AI", "date": "3 May"}
    said = [part for field, words in who.items() for part in (f"--{field}", words)]
    asked = ["export", "--baseline", file, "--bits", 8, "--format", "packed", "--out", tmp_path / "own", *said]
    run(*asked, "--report")
    page = (tmp_path / "own" / "report.html").read_text()
    for words in who.values():
        assert f"<bdi>{html.escape(words)}</bdi>" in page
    assert not (tmp_path / "own" / "verdict.json").read_text().count("Grace")
    assert "--name needs --report" in complaint(*asked)


@pytest.mark.parametrize("out", [True, False])
def test_train_keeps_what_it_trained(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: bool) -> None:
    train_on_few(monkeypatch)
    options = ["train", "--baseline", "mlp-course", "--epochs", 1, "--seed", 3]
    answer = run(*options, "--out", tmp_path / "made") if out else run(*options)
    assert answer["parameters"] == 932_362
    name = answer["path"] if out else answer["baseline"]
    assert run("evaluate", "--baseline", name, "--split", "test")["accuracy"] == answer["test_accuracy"]
    if out:
        record = json.loads((tmp_path / "made" / "mlp-course.json").read_text())
        recipe = TrainingConfig(**record["recipe"])
        assert (recipe.optimizer, recipe.epochs, recipe.seed) == ("adam", 1, 3)
        assert {"history", "versions", "test_accuracy", "sha256"} <= set(record)
        content = (tmp_path / "made" / "mlp-course.safetensors").read_bytes()
        assert models.from_bytes(content, "made").sha256 == record["sha256"] == answer["sha256"]


def test_where_nothing_can_be_written_is_said_before_a_training(
    complaint: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.txt").write_text("mine")
    monkeypatch.setattr(Workbench, "train", lambda *about: pytest.fail("it trained"))
    assert "net.txt" in complaint("train", "--baseline", "mlp", "--epochs", 1, "--out", tmp_path / "net.txt")


def test_a_network_that_cannot_be_written_is_kept_in_the_cache(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlp: Baseline
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    info = {"best_epoch": 1, "validation_accuracy": 0.1, "test_accuracy": 0.1, "seconds": 1.0, "device": "cpu"}
    monkeypatch.setattr(Workbench, "train", lambda *about: replace(mlp, info=info))
    monkeypatch.setattr("core.__main__.write_atomically", refuse)
    answer = run("train", "--baseline", "mlp", "--epochs", 1, "--out", tmp_path / "made", status=1)
    assert Workbench(tmp_path / "cache").baseline(answer["baseline"]).sha256 == mlp.sha256


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_many_configurations_are_a_row_each(run: Run, tmp_path: Path, file: Path, encoding: str) -> None:
    configs = [CompressionConfig(bits=4), CompressionConfig(sparsity=0.5)]
    (tmp_path / "configs.jsonl").write_text("\n\n".join(each.to_json() for each in configs), encoding=encoding)
    asked = ["evaluate", "--baseline", file, "--configs", tmp_path / "configs.jsonl", "--csv", tmp_path / "out.csv"]
    assert run(*asked) == {"path": str(tmp_path / "out.csv"), "rows": 2}
    with (tmp_path / "out.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [CompressionConfig.from_json(row["config"]) for row in rows] == configs
    for row, config in zip(rows, configs, strict=True):
        result = Workbench(tmp_path / "cache").evaluate(str(file), config)
        assert (int(row["bytes"]), float(row["accuracy"])) == (result.bytes, result.evaluation.accuracy)


def test_many_configurations_that_cannot_be_read_are_one_line(complaint: Run, tmp_path: Path, file: Path) -> None:
    configs = tmp_path / "configs.jsonl"
    asked = ["evaluate", "--baseline", file, "--configs", configs, "--csv", tmp_path / "out.csv"]
    assert "--csv" in complaint(*asked[:-2])
    configs.write_text('{"bits": 4}\n{"colour": 1}\n')
    assert "Line 2" in complaint(*asked)
    configs.write_bytes(b"\x80\x81")
    assert "UTF-8" in complaint(*asked)
    configs.write_text("\n")
    assert "It holds none" in complaint(*asked)
    configs.write_text('{"bits": 4}\n')
    for more in (("--bits", 4), ("--classes",)):
        assert "stand alone" in complaint(*asked, *more)
    assert not (tmp_path / "out.csv").exists()


def test_what_a_program_prints_is_no_answer(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "print('made')\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 10))\n"
        "    def forward(self, x):\n"
        "        print(x.shape)\n"
        "        return super().forward(x)\n"
    )
    asked = ["import", f"{tmp_path / 'net.py'}:Net", "--data", "digits", "--scale", "unit"]
    assert run(*asked, "--out", tmp_path / "net.safetensors")["parameters"] == 650


def test_the_network_that_came_in_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)\n"
        "        self.fc = nn.Linear(4, 10)\n"
        "    def forward(self, x):\n"
        "        x = torch.relu(self.a(x))\n"
        "        return self.fc((x + self.b(x)).mean((2, 3)))\n"
    )
    asked = ["import", f"{tmp_path / 'net.py'}:Net", "--data", "digits", "--scale", "unit"]
    assert main([*asked, "--out", str(tmp_path / "net.safetensors")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["image", "1", "x", "8", "x", "8"] in lines
    assert ["a", "convolution", "4", "x", "8", "x", "8", "36", "weights"] in lines
    (join,) = (line for line in lines if line[1:2] == ["add"])
    assert "<-" in join
    assert {"b", "a_relu"} & {name.rstrip(",") for name in join[join.index("<-") + 1 :]}
    assert ["fc", "linear", "10", "40", "weights"] in lines


def test_options_of_other_files_are_refused(complaint: Run, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08")
    out = ["--out", tmp_path / "x.safetensors"]
    assert "--pool and --activation" in complaint("import", tmp_path / "net.onnx", "--activation", "relu", *out)
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 8, 8), np.uint8), y=np.arange(40) % 2)
    assert "--size" in complaint("add-data", tmp_path / "a.npz", "--name", "mine", "--size", 9)


def test_a_teacher_is_named_as_a_baseline_or_by_its_sum(
    run: Run, complaint: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    asked = ["evaluate", "--baseline", "mlp-course", "--bits", 4, "--recover", 1, "--distill", "--recover-teacher"]
    teacher = Workbench().baseline("mlp").sha256
    named, summed = (run(*asked, text) for text in ("mlp", teacher[:8]))
    assert (named["cached"], summed["cached"]) == (False, True)
    assert named["accuracy"] == summed["accuracy"]
    assert [config.recovery.teacher for _, config in Workbench().recovered()] == [teacher[:8]]
    assert "vgg" in complaint(*asked, "vgg")


def test_without_json_a_person_can_read_it(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main([*map(str, arguments)]) == 0
        return capsys.readouterr().out

    torch.save(theirs().state_dict(), tmp_path / "theirs.pt")
    assert "fc3" in said("spectrum", "--baseline", file)
    assert "7165" in said("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours.safetensors", *GIVEN)
    told = said("export", "--baseline", file, "--format", "packed", "--out", tmp_path / "export")
    assert "network.packed" in told
    assert "True" in said("verify", tmp_path / "export")
    assert "fc3" in said("evaluate", "--baseline", file)


# Errors.


def test_errors_are_one_line_that_names_what_is_wrong(complaint: Run, tmp_path: Path, file: Path) -> None:
    def evaluate(*options: str | Path) -> str:
        return complaint("evaluate", "--baseline", file, *options)

    assert "'nothing'" in complaint("evaluate", "--baseline", "nothing")
    assert "nowhere.safetensors" in complaint("evaluate", "--baseline", tmp_path / "nowhere.safetensors")
    assert "[0, 1]" in evaluate("--sparsity", "2")
    assert "[0, 1]" in evaluate("--sparsity", "fc1=nan")
    assert "'much'" in evaluate("--sparsity", "much")
    assert "[2, 8]" in evaluate("--bits", "9")
    assert "fc9" in evaluate("--bits", "fc9=4")
    assert "LAYER=K" in evaluate("--rank", "3")
    assert "name a layer" in evaluate("--rank", "=3")
    assert "rank of fc2" in evaluate("--rank", "fc2=9999")
    assert "fc2=x" in evaluate("--rank", "fc2=x")
    assert "nowhere.json" in evaluate("--config", tmp_path / "nowhere.json")
    assert "energy" in complaint("spectrum", "--baseline", file, "--energy", "1.5")
    assert "verdict.json" in complaint("verify", tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"colour": "red"}', b"\xff\xfe\x00", b"\x80pickle"])
def test_a_configuration_file_of_another_kind_is_one_line(
    complaint: Run, tmp_path: Path, file: Path, content: bytes
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert complaint("evaluate", "--baseline", file, "--config", tmp_path / "config.json")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x80\x04\x95pickle"])
def test_a_baseline_file_of_another_kind_is_one_line(complaint: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "theirs.safetensors").write_bytes(content)
    assert "safetensors" in complaint("evaluate", "--baseline", tmp_path / "theirs.safetensors")


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["evaluate", "--split", "train"], ["evaluate", "--scope", "world"], ["train"], ["export"]],
)
def test_a_command_that_does_not_exist_explains_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: python -m core" in capsys.readouterr().err


CONTROLS = "\x1b]0;a\x07\x1b[2J\x9b31m\r\u202e\udcff"
"""A terminal that is told this renames its window, clears itself, and writes backwards."""


def test_a_terminal_is_shown_what_was_typed_and_obeys_none_of_it(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, config = tmp_path / f"{CONTROLS}.safetensors", tmp_path / "config.json"
    theirs.write_bytes(file.read_bytes())
    tensors = tmp_path / "tensors.safetensors"
    tensors.write_bytes(save({CONTROLS[:-1]: torch.zeros(1)}))
    config.write_text(json.dumps({CONTROLS: 1}))
    for arguments in (
        ("evaluate", "--baseline", theirs),
        ("evaluate", "--baseline", CONTROLS),
        ("evaluate", "--baseline", tensors),
        ("evaluate", "--baseline", file, "--config", config),
        ("evaluate", "--baseline", file, "--bits", f"{CONTROLS}=4"),
        ("evaluate", "--scope", CONTROLS),
        ("evaluate", "--unknown", CONTROLS),
        ("spectrum", "--baseline", theirs),
        ("verify", tmp_path / CONTROLS),
        (CONTROLS,),
    ):
        with suppress(SystemExit):
            main([*map(str, arguments)])
        told = "".join(capsys.readouterr())
        assert r"\x1b" in told, arguments
        assert all(letter.isprintable() or letter == "\n" for letter in told), arguments
    _print({"name": CONTROLS, "files": [{"path": CONTROLS, "reads": [{"problem": CONTROLS}]}]}, as_json=False)
    told = capsys.readouterr().out
    assert told.count(r"\x1b[2J") == 3
    assert all(letter.isprintable() or letter == "\n" for letter in told)


def test_an_export_that_cannot_be_written_is_one_line(complaint: Run, tmp_path: Path, file: Path) -> None:
    (tmp_path / "taken").write_text("a file is in the way")
    assert "taken" in complaint("export", "--baseline", file, "--out", tmp_path / "taken")


# One's own weights.


GIVEN = ("--activation", "relu", "--scale", "dataset")
"""What a state dict does not say, and untrained weights do not tell."""


def theirs() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 10)).eval()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_of_ones_own_becomes_a_baseline(run: Run, tmp_path: Path, wrapped: bool) -> None:
    state = theirs().state_dict()
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "theirs.pt")
    answer = run("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours.safetensors", *GIVEN)
    assert (answer["model"], answer["parameters"]) == ("network", 784 * 9 + 9 + 9 * 10 + 10)
    measured = run("evaluate", "--baseline", tmp_path / "ours.safetensors")
    assert (measured["parameters"], measured["accuracy"]) == (answer["parameters"], answer["accuracy"])
    assert (answer["mean"], answer["deviation"]) == ([fashion_mnist.MEAN], [fashion_mnist.DEVIATION])
    half = run("import", tmp_path / "theirs.pt", "--out", tmp_path / "half.safetensors", *GIVEN[:-1], "half")
    assert (half["mean"], half["deviation"]) == ([0.5], [0.5])
    assert run("evaluate", "--baseline", tmp_path / "half.safetensors")["accuracy"] == half["accuracy"]


def test_what_a_state_dict_does_not_say_and_images_do_not_tell_is_asked_for(
    complaint: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(theirs().state_dict(), tmp_path / "theirs.pt")
    asked = ["import", str(tmp_path / "theirs.pt"), "--out", str(tmp_path / "ours.safetensors")]
    assert main(asked) == 1
    said = capsys.readouterr().err
    assert "not more than three points ahead" in said
    assert "--scale " in said
    assert "activation must be one of" in complaint(*asked, "--activation", "x")
    assert "pool must be one of" in complaint(*asked, "--pool", "x")
    assert "scale must be one of" in complaint(*asked, "--scale", "x")
    assert "both a mean and a standard deviation" in complaint(*asked, "--mean", "0.5")
    with pytest.raises(SystemExit):
        main([*asked, "--mean", "0.5,x", "--std", "1"])
    assert "must be a list of numbers" in capsys.readouterr().err
    assert not (tmp_path / "ours.safetensors").exists()


def test_an_import_that_cannot_be_evaluated_leaves_what_was_there(complaint: Run, tmp_path: Path) -> None:
    state = {"0.weight": torch.full((10, 784), 3e37), "0.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "net.pt")
    for before in (None, b"an earlier one"):
        if before is not None:
            (tmp_path / "net.safetensors").write_bytes(before)
        said = complaint("import", str(tmp_path / "net.pt"), "--out", str(tmp_path / "net.safetensors"))
        assert "too large for float32" in said
        assert (tmp_path / "net.safetensors").exists() == (before is not None)
        assert before is None or (tmp_path / "net.safetensors").read_bytes() == before


def test_an_import_writes_over_no_input_and_nothing_that_no_command_opens(complaint: Run, tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    torch.save(theirs().state_dict(), path)
    content = path.read_bytes()
    (tmp_path / "other.safetensors").symlink_to(path)
    for out in (path, tmp_path / "other.safetensors", tmp_path / ".." / tmp_path.name / path.name):
        assert "another file" in complaint("import", path, "--out", out)
    for out in ("ours", "ours.pt", "ours.safetensor"):
        assert ".safetensors" in complaint("import", path, "--out", tmp_path / out)
    assert path.read_bytes() == content
    assert {own.name for own in tmp_path.iterdir()} == {"theirs.safetensors", "other.safetensors"}


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(complaint: Run, tmp_path: Path) -> None:
    torch.save({"fc1.weight": Attack(tmp_path / "executed")}, tmp_path / "attack.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(tmp_path / "executed")))
    for name in ("attack.pt", "plain.pt"):
        assert name in complaint("import", tmp_path / name, "--out", tmp_path / "ours.safetensors")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "ours.safetensors").exists()


NOT_A_STATE = {
    "a whole module": theirs(),
    "a tensor": torch.zeros(3),
    "a list": [torch.zeros(3)],
    "other things among the tensors": theirs().state_dict() | {"epoch": 3},
    "numbers for names": dict(enumerate(theirs().state_dict().values())),
    "nothing": {},
    "weights of no family": nn.LSTM(28, 10).state_dict(),
    "sparse weights": {"fc1.weight": torch.eye(10, 784).to_sparse(), "fc1.bias": torch.zeros(10)},
}


@pytest.mark.parametrize("content", NOT_A_STATE.values(), ids=NOT_A_STATE.keys())
def test_a_file_without_a_state_dict_of_ours_is_one_line(complaint: Run, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "theirs.pt")
    assert complaint("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_file_that_is_not_there_or_not_torchs_is_one_line(complaint: Run, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    for name in ("nowhere.pt", "text.pt"):
        assert name in complaint("import", tmp_path / name, "--out", tmp_path / "ours.safetensors")


# As a process.


def test_as_a_process_it_prints_one_json_object_and_nothing_else(
    python: Callable[..., subprocess.CompletedProcess[str]], file: Path, tmp_path: Path
) -> None:
    done = python("-m", "core", "evaluate", "--baseline", file, "--bits", 4, "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == set(EVALUATE)
    again = python("-m", "core", "evaluate", "--baseline", file, "--bits", 4, "--json")
    assert json.loads(again.stdout)["cached"]


def test_as_a_process_an_error_is_one_line_and_a_status(
    python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = python("-m", "core", "verify", tmp_path, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_random_network_is_no_better_than_it_says(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    path.write_bytes(models.to_bytes(Baseline("random", random_tensors(MLP_SHAPES, 5))))
    answer = run("evaluate", "--baseline", path, "--sparsity", 1)
    share = torch.bincount(fashion_mnist.load("validation").labels).tolist()
    assert answer["accuracy"] in [count / 5_000 for count in share]
    assert answer["nonzero"] == sum(shape[0] for shape in MLP_SHAPES.values())


def test_pareto_answers_with_the_front_of_what_was_measured(run: Run, file: Path) -> None:
    for options in ([], ["--bits", "4"], ["--bits", "2"], ["--sparsity", "0.5"]):
        run("evaluate", "--baseline", file, *options)
    answer = run("pareto", "--baseline", file)
    assert list(answer) == ["baseline", "points", "front"]
    assert answer["points"] == 4
    rows = answer["front"]
    assert [row["bytes"] for row in rows] == sorted(row["bytes"] for row in rows)
    assert [row["accuracy"] for row in rows] == sorted(row["accuracy"] for row in rows)
    keys = ["bytes", "compression_ratio", "accuracy", "difference", "interval", "techniques", "recovered", "config"]
    assert all(list(row) == keys for row in rows)
    assert run("pareto", "--baseline", "mlp-course") == {"baseline": "mlp-course", "points": 0, "front": []}


def test_search_answers_with_the_keys_that_were_agreed_and_leaves_the_file(
    run: Run, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    by_trials = itertools.count(0.0, 0.2).__next__  # its clock goes by what was tried and not by how fast
    monkeypatch.setattr(search, "run", partial(search.run, clock=by_trials))
    limits = ("--allowance", "0.05", "--minutes", "0.2", "--techniques", "bits, pruning", "--out", tmp_path / "found")
    limits += ("--storage", f"sqlite:///{tmp_path / 'trials.sqlite'}")
    answer = run("search", "--baseline", taught, *limits)
    assert list(answer) == ["trials", "best"]
    assert list(answer["best"]) == [
        "config", "bytes", "baseline_bytes", "compression_ratio", "accuracy", "baseline_accuracy", "difference",
        "test_accuracy", "test_difference", "path", "baseline", "family", "course_ratio", "self_contained",
    ]  # fmt: skip
    path = Path(answer["best"]["path"])
    assert path == tmp_path / "found" / "network.packed"
    assert path.stat().st_size == answer["best"]["bytes"]
    assert answer["best"]["difference"] >= -0.05
    assert (tmp_path / "trials.sqlite").exists()


def test_a_search_over_families_names_what_it_found(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "MOST_EPOCHS", 6)
    asked = ("--families", "compact, mlp", "--floor", "0.4", "--data", "digits", "--seed", "2", "--minutes", "0.3")
    best = run("search", *asked, "--out", tmp_path / "found")["best"]
    assert best["family"] in ("compact", "mlp")
    assert best["accuracy"] >= 0.4
    assert best["test_accuracy"] > 0.3
    assert Path(best["path"]).stat().st_size == best["bytes"]
    again = run("evaluate", "--baseline", best["baseline"], "--bits", str(best["config"]["bits"]))
    assert again["baseline_bytes"] == best["baseline_bytes"]


def test_a_search_for_a_floor_says_where_it_holds_and_that_the_test_images_miss_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SearchedBest(
        config={}, bytes=9_000, baseline_bytes=90_000, compression_ratio=10.0, accuracy=0.93, baseline_accuracy=0.94,
        difference=-0.01, test_accuracy=0.92, test_difference=-0.012, path=None, at_most=0.0105,
    )  # fmt: skip
    asked = list[Goal]()
    answer = Searched(3, found)
    monkeypatch.setattr(search, "run", lambda bench, name, goal, *rest, **more: asked.append(goal) or answer)
    assert main(["search", "--baseline", "cnn", "--floor", "0.9292", "--confidence", "0.9"]) == 0
    assert asked == [Goal(floor=0.9292, confidence=0.9)]
    said = capsys.readouterr().err
    assert "93.00 % on validation, where the floor holds." in said
    assert "with 90 % confidence at most 1.05 pp will be lost on new images" in said
    assert "On the test images 92.00 %, -1.20 pp. That is less than 92.92 %" in said


def test_the_help_of_a_search_lists_the_techniques_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    rest = " and ".join(name for name in TECHNIQUES if name not in SEARCHED)
    assert f"of {', '.join(TECHNIQUES)}; all but {rest} if not given" in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--minutes", "0"), "minutes"),
        (("--minutes", "99999"), "minutes"),
        (("--allowance", "2"), "allowance"),
        (("--size", "0"), "size"),
        (("--techniques", "magic"), "magic"),
        (("--techniques", "rate rounding"), "one of them that shrinks alone"),
        (("--confidence", "0.4"), "confidence"),
        (("--size", "9000", "--confidence", "0.9"), "confidence"),
        (("--storage", "nonsense"), "storage"),
        (("--baseline", "nobody"), "nobody"),
        (("--floor", "1.5"), "floor"),
        (("--baseline", "mlp", "--floor", "0.99"), "floor"),
        (("--families", "compact"), "--floor"),
        (("--families", "compact", "--allowance", "0.01"), "--floor"),
        (("--families", "vgg", "--floor", "0.9"), "vgg"),
        (("--families", "compact", "--floor", "0.9", "--baseline", "cnn"), "--baseline"),
        (("--families", "compact", "--floor", "0.9", "--data", "nothing"), "nothing"),
        (("--data", "digits"), "--data"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(complaint: Run, options: tuple[str, ...], named: str) -> None:
    assert named in complaint("search", *options)
