"""How to repeat the report, and with what it was made."""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Iterator
from urllib.parse import urlencode

from core.bench.workbench import SHIPPED
from core.config import to_arguments, to_query
from core.document.blocks import Block, Code, Heading, Paragraph, Table
from core.report.findings import Findings


def reproduce(findings: Findings, link: str) -> list[Block]:
    config = findings.test.config
    chosen = ["--baseline", findings.name, *to_arguments(config), "--format", "packed,onnx,safetensors", "--report"]
    without = ", but for what was pinned" if findings.pins else ""
    blocks: list[Block] = [
        Paragraph(f"From the project's folder this makes the files and this report again{without}:"),
        Code(shlex.join(["python", "-m", "core", "export", *chosen, "--out", "DIR"])),
    ]
    if not findings.name.endswith(".safetensors"):  # the app knows no file before it was loaded
        said = "This link opens the same in the app:" if link else "In the app, this after its address opens the same:"
        blocks += [Paragraph(said), Code(link or f"?{urlencode({'baseline': findings.name, **to_query(config)})}")]
    if findings.name not in SHIPPED:
        text = "The baseline does not come with the project: its file is needed; its SHA-256 sum is in the appendix."
        return [*blocks, Paragraph(text)]
    text = "The baseline comes with the project. It can be trained again:"
    return [*blocks, Paragraph(text), Code(f"python -m core train --baseline {findings.name} --out DIR")]


def appendix(findings: Findings) -> list[Block]:
    config, recipe = findings.test.config, findings.baseline.info.get("recipe")
    seeds = [("split of the data", "0")]
    seeds += [("training of the baseline", str(recipe["seed"]))] if recipe else []
    seeds += [("training after compression", str(config.recovery.seed))] if config.recovery else []
    sums = [
        f"{findings.baseline.sha256}  tensors of the baseline",
        *(f"{file.sha256}  {file.path}" for file in findings.files),
    ]
    return [
        Heading("Versions", 2),
        Table("With what this report was made.", ("what", "version"), tuple(_versions(findings))),
        Heading("Seeds", 2),
        Table("Of everything that is drawn at random.", ("what", "seed"), tuple(seeds)),
        Heading("SHA-256 sums", 2),
        Code("\n".join(sums)),
        Heading("Configuration", 2),
        Code(json.dumps(json.loads(config.to_json()), indent=2)),
    ]


def _versions(findings: Findings) -> Iterator[tuple[str, str]]:
    yield "machine", platform.machine()
    yield "python", platform.python_version()
    for package in ("torch", "numpy", "onnx", "onnxruntime"):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for package, version in findings.baseline.info.get("versions", {}).items():
        yield f"{package}, when the baseline was trained", version
