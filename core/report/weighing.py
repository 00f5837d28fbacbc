"""The part of the report on size: the network drawn, the size by the formula and why the file differs, the ledger."""

from collections.abc import Iterator, Mapping

from core.bench.workbench import LayerRow, Result
from core.config import FLOAT_BITS
from core.document.blocks import Block, Formula, Heading, Paragraph, Table
from core.document.formulas import numeral
from core.document.steps import width
from core.formats.footprint import KB
from core.report import drawing, plots, tables, ways
from core.report.findings import Findings, figure
from core.report.wording import kilobytes, percent, ratio, shape

TERMS = 4
"""Of a sum that is written out layer by layer; a longer one has a term for each number of bits."""

WEIGHTS = ("float32 values", "integer codes", "map of zeros")
"""Kinds of bytes that hold weights."""


def drawn(findings: Findings) -> list[Block]:
    """The network before and now."""
    rows = findings.test.layers
    said = "; ".join(f"{row.name} {shape(row.shape)}, {_change(row)}" for row in rows)
    graph = findings.baseline.network
    said_of_it = ["The network, as thick as its bytes: grey in float32, coloured in the file."]
    if drawing.named(graph):
        said_of_it.append(
            "Above each layer the shape of its weight, below it the size before and now, and what was done to it."
        )
    else:
        said_of_it.append("The table has each layer's figures.")
    if ways.branches(graph):
        said_of_it.append("Curves lead around layers, and meet others where a sign stands.")
    words = {row.name: (f"{row.name}\n{shape(row.shape)}", "\n".join([_change(row), *_done(row)])) for row in rows}
    picture = drawing.network("network", graph, tables.network(findings.test), words)
    return [Heading("The network drawn", 2), figure("network", " ".join(said_of_it), f"Layers. {said}.", picture)]


def _change(row: LayerRow) -> str:
    return f"{kilobytes(tables.float32_bytes(row))} → {kilobytes(row.bytes)}"


def _done(row: LayerRow) -> Iterator[str]:
    """What was done to a layer, a line for each."""
    if row.channels < row.shape[0]:
        yield f"{row.channels} of {row.shape[0]} channels"
    if row.rank:
        yield f"rank {row.rank} of {row.full_rank}"
    if row.zeros:
        yield f"{100 * row.zeros / row.weights:.1f} % zeros"
    if row.bits != FLOAT_BITS:
        yield width(row)


def in_theory(findings: Findings) -> list[Block]:
    """The formula, evaluated with this network's numbers, and where the file differs from it."""
    rows = findings.test.layers
    bits, biases = sum(row.weights * row.bits for row in rows), sum(row.channels for row in rows)
    shared = sum(row.centroids for row in rows)
    total = bits / 8 + 4 * (biases + shared)
    floats, and_shared, names, numbers = "for each bias", "", r"\text{biases}", numeral(biases)
    if shared:
        floats, and_shared = "for each bias and each value of a codebook", f", and {shared:,} values in codebooks"
        names, numbers = r"(\text{biases} + \text{centroids})", f"({numeral(biases)} + {numeral(shared)})"
    return [
        Heading("Size by the formula, and of the file", 2),
        Paragraph(
            f"In theory a network takes what its weights take at their bits, and four bytes {floats}. For this "
            f"network, whose {len(rows)} layers store {sum(row.weights for row in rows):,} weights and {biases:,} "
            f"biases{and_shared}:"
        ),
        Formula(rf"\text{{size}} = \frac{{\sum \text{{weights}} \times \text{{bits}}}}{{8}} + 4 \times {names}"),
        Formula(rf"\sum \text{{weights}} \times \text{{bits}} = {_sum(rows)} = {numeral(bits)}"),
        Formula(
            rf"\text{{size}} = \frac{{{numeral(bits)}}}{{8}} + 4 \times {numbers} = {_bytes(total)} "
            rf"\,\text{{bytes}} = {f'{total / KB:,.1f}'.replace(',', '{,}')}\,\text{{KB}}"
        ),
        *_difference(findings.test, bits / 8, 4 * biases, 4 * shared),
    ]


def _sum(rows: tuple[LayerRow, ...]) -> str:
    terms: dict[object, tuple[int, int]] = {}
    for row in rows:
        key: object = row.name if len(rows) <= TERMS else row.bits
        terms[key] = terms.get(key, (0, 0))[0] + row.weights, row.bits
    return " + ".join(rf"{numeral(count)} \times {bits}" for count, bits in terms.values())


def _bytes(total: float) -> str:
    whole = numeral(int(total))
    return whole if total == int(total) else f"{whole}{f'{total % 1:.3f}'.rstrip('0')[1:]}"


def _difference(result: Result, weights: float, biases: float, shared: float) -> list[Block]:
    kinds = result.footprint.by_kind()
    held = sum(kinds.get(kind, 0) for kind in WEIGHTS)
    pairs = {
        "weights": (weights, held),
        "biases": (biases, kinds.get("biases", 0)),
        "scales of the grids": (0.0, kinds.get("scales", 0)),
        "codebooks": (shared, kinds.get("codebooks", 0)),
        "scales and shifts of normalization": (0.0, kinds.get("scales and shifts", 0)),
        "header, names, configuration": (0.0, kinds.get("container", 0)),
        "all": (weights + biases + shared, result.bytes),
    }
    rows = tuple(
        (what, f"{formula:,.0f}", f"{file:,}", _signed(file - formula))
        for what, (formula, file) in pairs.items()
        if formula or file
    )
    caption = "Bytes by the formula and in the file; the last line is the size of the file."
    table = Table(caption, ("what", "formula", "file", "difference"), rows)
    return [Paragraph(" ".join(_reasons(result, weights - held, biases, kinds))), table]


def _signed(count: float) -> str:
    return f"{count:+,.0f}" if round(count) else "0"


def _reasons(result: Result, fewer: float, biases: float, kinds: Mapping[str, int]) -> Iterator[str]:
    """fewer : bytes of weights that the file saves; biases : bytes of them by the formula"""
    yield "The formula and the file differ, and the table says where."
    if result.sparsity and fewer > 0:
        yield "The formula counts a zero like any other weight; the file does not store zeros one by one."
    if kinds.get("integer codes"):
        yield "The quantized values are entropy-coded, so that frequent values take fewer bits than rare ones."
    if kinds.get("biases", 0) < biases:
        yield "Biases of quantized layers are stored in fewer than 32 bits."
    scales = "neither the scales of the grids nor" if kinds.get("scales") else "nothing of"
    yield f"The formula knows {scales} the header that tells a reader what the bytes mean."


def counted(findings: Findings) -> list[Block]:
    """Every way of counting, and what each layer takes."""
    result, whole = findings.test, findings.test.baseline_bytes
    sizes = dict(sorted(findings.sizes.items(), key=lambda way: -way[1]))
    ways = tuple((way, f"{n:,.0f}", f"{n / KB:,.1f}", ratio(whole, n)) for way, n in sizes.items())
    said = ", ".join(f"{way} {count:,.0f}" for way, count in sizes.items())
    compared = figure("sizes", "The same sizes.", f"Points by bytes: {said}.", plots.sizes("sizes", sizes))
    by_layer = ", ".join(f"{row.name} {row.bytes:,}" for row in result.layers)
    drawn = plots.ledger("ledger", result.footprint.table())
    alt = f"Stacked bars of bytes by kind, a bar per layer: {by_layer}."
    return [
        Heading("File size by layer", 2),
        Paragraph(
            f"{result.parameters:,} weights and biases are stored; without the zeros among the weights "
            f"{result.nonzero:,} are left. The baseline has {result.baseline_parameters:,}. 1 KB is {KB:,} bytes."
        ),
        Table(
            "Bytes in all the ways that people count them.", ("counted as", "bytes", "KB", "compression ratio"), ways
        ),
        *([compared] if findings.steps else []),
        _layers(result),
        figure("ledger", "Bytes of the file by layer and kind.", alt, drawn),
    ]


def _layers(result: Result) -> Table:
    def count(size: int) -> tuple[str, str]:
        return f"{size:,}", f"{size / KB:,.1f}"

    rows = []
    for row in result.layers:
        bits, rank = "float32" if row.bits == FLOAT_BITS else str(row.bits), str(row.rank or "dense")
        zero = percent(row.zeros / row.weights)
        rows.append((row.name, shape(row.shape), rank, f"{row.parameters:,}", zero, bits, *count(row.bytes)))
    rest = result.bytes - sum(row.bytes for row in result.layers)
    rows.append(("the file itself", *"–––––", *count(rest)))
    zero = percent((result.parameters - result.nonzero) / sum(row.weights for row in result.layers))
    rows.append(("all", *"––", f"{result.parameters:,}", zero, "–", *count(result.bytes)))
    header = ("layer", "weight before", "rank", "parameters", "pruned or rounded to 0", "bits", "bytes", "KB")
    return Table("What each layer stores; the last line is the size of the file.", header, tuple(rows))
