"""Tables that a page and the report draw, each in its own way: of one result the same figures in both."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.formats.footprint import KB
from core.palette import KIND_NAMES, KINDS
from core.words import counted

if TYPE_CHECKING:
    from core.bench.workbench import LayerRow, Result
    from core.networks.graph import Network
    from core.studies.answers import Judged, QuantizationHalf


def float32_bytes(row: "LayerRow") -> int:
    """Of a layer's weights and biases before compression."""
    return 4 * (prod(row.shape) + row.shape[0])


def network(result: "Result") -> pd.DataFrame:
    """The network as thick as its bytes, around a middle line: of each layer a slab of what it takes in float32, whose
    kind is "", and slabs of what it takes in the file, kind upon kind. Columns layer, kind, low, high (KB), bytes."""
    slabs: list[tuple[str, str, float, float, int]] = []
    for row in result.layers:
        before, now = float32_bytes(row), result.footprint.by_kind(row.name)
        slabs.append((row.name, "", -before / KB / 2, before / KB / 2, before))
        low = -sum(now.values()) / KB / 2
        for kind in (kind for kind in KINDS if now.get(kind)):
            slabs.append((row.name, KIND_NAMES.get(kind, kind), low, low + now[kind] / KB, now[kind]))
            low += now[kind] / KB
    return pd.DataFrame(slabs, columns=["layer", "kind", "low", "high", "bytes"])


def curves(history: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """A training epoch by epoch, on training and on validation images. Columns epoch, images, figure (loss, accuracy,
    and where it was recorded cross_entropy), value."""
    epochs = pd.DataFrame(history)
    named = epochs.columns[epochs.columns.str.match("(?:training|validation)_")]
    rows = epochs.melt("epoch", list(named))
    rows[["images", "figure"]] = rows.pop("variable").str.split("_", n=1, expand=True)
    return rows


def zeros(ways: Mapping[str, "Result"]) -> pd.DataFrame:
    """Zeros of each layer in networks that were pruned in several ways. Columns layer, way, sparsity, kept."""
    rows = [
        (row.name, way, row.sparsity, round(row.parameters * (1 - row.sparsity)))
        for way, result in ways.items()
        for row in result.layers
    ]
    return pd.DataFrame(rows, columns=["layer", "way", "sparsity", "kept"])


WHEN = {"minmax": "min-max", "before": "best PTQ", "after": "QAT"}
"""Of a row by bits: field, and what it is called."""


def bits(experiment: "QuantizationHalf") -> pd.DataFrame:
    """Accuracy on the test images by bits, with the 95 % interval of its difference from the baseline. Columns bits,
    when, accuracy, low, high, KB."""
    whole = experiment.float32.test.accuracy
    rows = []
    for row in experiment.rows:
        for field, when in WHEN.items():
            judged: Judged = getattr(row, field)
            low, high = (whole + end for end in judged.test.interval)
            rows.append((row.bits, when, judged.test.accuracy, low, high, judged.bytes / KB))
    return pd.DataFrame(rows, columns=["bits", "when", "accuracy", "low", "high", "KB"])


def as_lines(graph: "Network") -> list[str]:
    """A network drawn in text, for a terminal: a line for each node, name, operation, what it puts out, its weights,
    and what it reads where that is not the node before."""
    rows, before = [("image", "", " x ".join(map(str, graph.shape)), "", "")], "image"
    weights = {layer.name: layer.weights for layer in graph.layers}
    for node in graph.nodes:
        reads = "" if node.inputs == (before,) else f"<- {', '.join(node.inputs)}"
        count = counted(weights[node.name], "weight") if node.name in weights else ""
        shape = " x ".join(map(str, graph.shapes[node.name]))
        rows.append((node.name, node.operation.replace("_", " "), shape, count, reads))
        before = node.name
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
