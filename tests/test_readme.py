"""What the README says is done: its Python is run, its commands are those that are used."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PROJECT
from own_networks import own_net

from core import glossary
from core.bench.workbench import SHIPPED, Workbench
from core.config import CompressionConfig, LayerConfig
from core.formats import artifact, footprint
from core.machinery.files import write_atomically

README = (PROJECT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = next(line for line in README.splitlines() if line.endswith("-m pytest"))
    used = (PROJECT / ".ci" / "run").read_text().splitlines()[-1]
    assert used.replace("install -q --no-compile ", "install ") == command


def test_the_glossary_has_every_term_that_the_readme_says_it_has() -> None:
    told = README.partition("The terms, which the page **Glossary** has")[2].partition("\n\nWhat you choose")[0]
    terms = re.findall(r"\*([^*]+)\*:", told)
    assert len(terms) > 10
    for term in terms:
        assert glossary.find(term)


def test_the_networks_that_come_along_are_told_as_they_are(bench: Workbench) -> None:
    for name, title in SHIPPED.items():
        baseline = bench.baseline(name)
        validation, test = (f"{100 * baseline.info[f'{split}_accuracy']:.2f} %" for split in ("validation", "test"))
        epochs = baseline.info["recipe"]["epochs"]
        assert f"| {title} | {baseline.parameters:,} | {validation} | {test} | {epochs} |" in README


def test_the_smallest_file_is_told_with_its_decoder() -> None:
    (told,) = re.findall(r"The ([\d,]+) bytes are ([\d,]+) with the decoder, ([\d,]+)", README)
    alone, together, decoder = (int(number.replace(",", "")) for number in told)
    assert alone + decoder == together
    assert decoder == pytest.approx(footprint.decoder_bytes(), rel=0.02)


def test_the_notebook_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = next(code for code in PYTHON if "Workbench" in code)
    names: dict[str, Any] = {}
    exec(notebook, names)
    assert f"{names['result'].evaluation.accuracy}" in capsys.readouterr().out
    assert len([line for line in notebook.splitlines() if line]) <= 10


def test_the_lines_for_a_network_of_ones_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_training_images: None
) -> None:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    own = next(code for code in PYTHON if "open_network" in code)
    names: dict[str, Any] = {"model": own_net()}
    exec(own, names)
    assert list(names["table"].index) == ["8 bits", "half of it", "trained"]
    assert names["table"]["bytes"].max() < 10_000


@pytest.mark.parametrize(
    ("baseline", "config"),
    [
        ("cnn", CompressionConfig(sparsity=0.9, bits=4, activation_bits=4, rank_share=0.4)),
        ("cnn", CompressionConfig(bits=3, layers={"conv2": LayerConfig(rank=20), "fc2": LayerConfig(bits=32)})),
        ("cnn", CompressionConfig(sparsity=0.8, bits=2, symmetry="asymmetric", rounding="gptq", clip="mse")),
        ("mlp", CompressionConfig(sparsity=0.7)),
        ("mlp", CompressionConfig(codebook=16, layers={"fc2": LayerConfig(rank=20), "fc3": LayerConfig(codebook=0)})),
    ],
)
def test_an_exported_file_read_by_the_readmes_lines_has_the_weights_that_were_measured(
    warm_bench: Workbench, baseline: str, config: CompressionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = artifact.files(warm_bench.network(baseline, config), ["safetensors"])
    for path, (_, content) in made.items():
        write_atomically(tmp_path / "exported" / path, content)
    (reader,) = (code for code in PYTHON if "load_file" in code)
    assert "core" not in re.findall(r"^(?:from|import) (\w+)", reader, re.MULTILINE)
    assert len([line for line in reader.splitlines() if line and not line.startswith("import")]) == 7
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(reader, names)
    tensors = [tensor for layer in warm_bench.network(baseline, config).layers for tensor in layer.tensors]
    assert set(names["weights"]) == {tensor.name for tensor in tensors}
    assert all(torch.equal(names["weights"][tensor.name], tensor.weight()) for tensor in tensors)
