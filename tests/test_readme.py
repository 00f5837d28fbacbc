"""What the README says is done: its Python is run, its commands are those that are used."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from core import data
from core.config import CompressionConfig, LayerConfig
from core.workbench import Workbench

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = next(line for line in README.splitlines() if line.endswith("-m pytest"))
    used = (PROJECT / ".ci" / "run").read_text().splitlines()[-1]
    assert used.replace("install -q -r", "install -r") == command


def test_the_notebook_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = next(code for code in PYTHON if "Workbench" in code)
    names: dict[str, Any] = {}
    exec(notebook, names)
    assert f"{names['measured'].accuracy}" in capsys.readouterr().out
    assert len([line for line in notebook.splitlines() if line]) <= 10


@pytest.mark.parametrize(
    ("baseline", "config"),
    [
        ("cnn", CompressionConfig(sparsity=0.9, bits=4, activation_bits=4, rank_share=0.4)),
        ("cnn", CompressionConfig(bits=3, layers={"conv2": LayerConfig(rank=20), "fc2": LayerConfig(bits=32)})),
        ("cnn", CompressionConfig(sparsity=0.8, bits=2, symmetry="asymmetric", rounding="gptq", clip="mse")),
        ("mlp", CompressionConfig(sparsity=0.7)),
    ],
)
def test_an_exported_file_read_by_the_readmes_lines_gives_the_same_predictions(
    baseline: str, config: CompressionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = Workbench().export(baseline, config, tmp_path / "exported")
    assert verdict["ok"]
    reader = next(code for code in PYTHON if "safe_open" in code)
    assert "core" not in re.findall(r"^(?:from|import) (\w+)", reader, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(reader, names)
    split = data.load("test")
    with torch.inference_mode():
        predictions = torch.cat([names["network"](x).argmax(1) for x in split.inputs.split(500)])
    promised = json.loads((tmp_path / "exported" / "verdict.json").read_text())["predictions"]
    agreement = (predictions == torch.tensor([int(digit) for digit in promised])).float().mean().item()
    assert agreement > 0.999
    accuracy = (predictions == split.labels).float().mean().item()
    assert accuracy == pytest.approx(verdict["files"][0]["accuracy"], abs=1e-3)
