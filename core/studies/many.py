"""Many configurations at once: read from a file, a row each in a table."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from core.bench.workbench import Result, SplitName, Workbench
from core.config import CompressionConfig, ConfigError
from core.measuring.training import Progress

COLUMNS = (
    "baseline", "split", "images", "accuracy", "baseline_accuracy", "difference", "low", "high", "parameters",
    "nonzero", "sparsity", "bytes", "compression_ratio", "config",
)  # fmt: skip


def read(path: Path) -> list[CompressionConfig]:
    """Of a file with one configuration as JSON a line. Raises ConfigError, which names the line, OSError."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # what Windows writes, too
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} must be text in UTF-8.") from None
    configs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                configs.append(CompressionConfig.from_json(line))
            except ConfigError as error:
                raise ConfigError(f"Line {number} of {path}: {error}") from None
    if not configs:
        raise ConfigError(f"{path} must hold one configuration as JSON a line. It holds none.")
    return configs


def write(
    bench: Workbench,
    name: str,
    configs: Sequence[CompressionConfig],
    split: SplitName,
    file: IO[str],
    progress: Progress,
    told: Callable[[int, dict[str, Any]], None],
) -> None:
    """A row for each, as soon as it is known: what was measured before an error stays. file : opened without newlines;
    told : of each its number and `summary`"""
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for place, config in enumerate(configs, 1):
        if config.recovery is not None:
            bench.recover(name, config, progress)
        row = summary(bench.evaluate(name, config, split), split)
        row |= {"low": row["interval"][0], "high": row["interval"][1], "config": config.to_json()}
        writer.writerow({column: row[column] for column in COLUMNS})
        file.flush()
        told(place, row)


def summary(result: Result, split: str) -> dict[str, Any]:
    """A result for a table or JSON: fractions, bytes, seconds."""
    return {
        "baseline": result.baseline_id,
        "split": split,
        "images": result.evaluation.images,
        "accuracy": result.evaluation.accuracy,
        "baseline_accuracy": result.baseline.accuracy,
        "difference": result.comparison.difference,
        "interval": list(result.comparison.interval),
        "lost": result.comparison.lost,
        "gained": result.comparison.gained,
        "parameters": result.parameters,
        "nonzero": result.nonzero,
        "baseline_parameters": result.baseline_parameters,
        "sparsity": result.sparsity,
        "bytes": result.bytes,
        "baseline_bytes": result.baseline_bytes,
        "compression_ratio": result.compression_ratio,
        "layers": [asdict(layer) for layer in result.layers],
        "seconds": result.seconds,
        "cached": result.cached,
    }
