"""What the figures say: abstract, analysis and conclusion. Sentences are chosen by the figures."""

from collections.abc import Iterator, Mapping
from math import hypot

from core.bench.workbench import LayerRow
from core.document.steps import matrix_shape, quantizes
from core.measuring.evaluation import Comparison, Latency
from core.palette import KIND_NAMES
from core.report.findings import Findings, records
from core.report.laboratory import ALLOWANCE
from core.report.results import without_folders
from core.report.sentences import checked, mistake, on, right, smaller, weighs
from core.report.tables import float32_bytes
from core.report.wording import Row, listed, microseconds, paired, percent, points, size, with_p
from core.words import counted

CHANCE = 0.05
"""Below this p-value a difference counts as beyond chance."""


def abstract(findings: Findings) -> str:
    test, validation = findings.test, findings.validation
    accuracy, also = percent(test.evaluation.accuracy), percent(validation.evaluation.accuracy)
    network = (
        f"{findings.title}, a network for the {len(findings.dataset.classes)} classes of {findings.dataset.title},"
    )
    if not findings.steps:
        return (
            f"{network} is evaluated as it is; nothing is compressed. It is right for {accuracy} of {on(test)} and "
            f"for {also} of {on(validation)}. Its file has {size(test.bytes)}. {checked(findings)}"
        )
    return (
        f"{network} is compressed: {listed([step.phrase for step in findings.steps])}. {weighs(findings)} Of "
        f"{on(test)} the compressed network has {accuracy} right, the baseline {percent(test.baseline.accuracy)}: "
        f"{paired(test.comparison)}. Of {on(validation)} it has {also} right, the baseline "
        f"{percent(validation.baseline.accuracy)}. {checked(findings)}"
    )


def analysis(findings: Findings) -> list[str]:
    """A paragraph each."""
    return [text for text in map(" ".join, _sentences(findings)) if text]


def _sentences(findings: Findings) -> list[Iterator[str]]:
    if not findings.steps:
        return [iter([mistake(findings)]), _speed(findings)]
    return [
        _bytes(findings),
        _ranks(findings),
        _loss(findings),
        _agreement(findings),
        _by_class(findings),
        _speed(findings),
    ]


def _bytes(findings: Findings) -> Iterator[str]:
    result = findings.test
    saved = {row.name: float32_bytes(row) - row.bytes for row in result.layers}
    rows = {row.name: row for row in result.layers}
    best, total = max(saved, key=lambda name: saved[name]), sum(max(0, count) for count in saved.values())
    if total > 0:
        was, now, share = float32_bytes(rows[best]), rows[best].bytes, percent(saved[best] / total)
        yield f"{best} saved most: {was:,} bytes in float32, {now:,} in the file, {share} of all savings."
    else:
        yield "The layers take no fewer bytes than in float32: nothing was saved."
    kinds = result.footprint.by_kind()
    kind, largest = max(kinds, key=lambda name: kinds[name]), max(result.layers, key=lambda row: row.bytes)
    shares = percent(largest.bytes / result.bytes), percent(kinds[kind] / result.bytes)
    yield f"Of the file, {largest.name} takes {shares[0]}; by kind, most are {KIND_NAMES.get(kind, kind)}, {shares[1]}."
    zeros, rounded = result.parameters - result.nonzero, sum(row.rounded_to_zero for row in result.layers)
    weights = sum(row.weights for row in result.layers)
    if zeros:
        by = f": {percent(result.sparsity)} pruned, {percent(rounded / weights)} rounded to 0" if rounded else ""
        yield f"In the file, {percent(zeros / weights)} of the weights are zero{by}."


def _ranks(findings: Findings) -> Iterator[str]:
    rows = findings.test.layers
    noted = [f"{row.name} ({row.note})" for row in rows if row.note]
    if noted:
        yield f"Not every layer has the rank that was asked for: {'; '.join(noted)}."
    above = [row for row in rows if (row.rank or 0) > row.break_even_rank]
    if above:
        yield _above(above)
    saving = {row.name: -_more(row) for row in rows if row.rank and row.rank <= row.break_even_rank}
    if saving:
        yield f"The factors of {listed([*saving])} hold {sum(saving.values()):,} fewer numbers than the matrices."


def _more(row: LayerRow) -> int:
    """What two factors hold more than the matrix: r (m + n) - m n."""
    m, n = matrix_shape(row)
    return (row.rank or 0) * (m + n) - m * n


def _above(rows: list[LayerRow]) -> str:
    """Ranks that save nothing, all of them in one sentence."""
    if len(rows) == 1:
        (row,) = rows
        m, n = matrix_shape(row)
        return (
            f"{row.name} has rank {row.rank}, above break-even ({row.break_even_rank}): {(row.rank or 0) * (m + n):,} "
            f"numbers in two factors, {m * n:,} in the matrix. Factoring it saves nothing."
        )
    ranks = listed([f"{row.name} ({row.rank} above {row.break_even_rank})" for row in rows])
    return (
        f"The ranks of {ranks} are above break-even: their factors hold {sum(map(_more, rows)):,} numbers more than "
        "the matrices. Factoring them saves nothing."
    )


def _loss(findings: Findings) -> Iterator[str]:
    pair, (low, high) = findings.test.comparison, findings.test.comparison.interval
    if not pair.lost + pair.gained:
        yield f"None of {on(findings.test)} is right where it was wrong, or wrong where it was right."
        return
    yield f"Of {on(findings.test)} {pair.lost:,} were lost and {pair.gained:,} gained: {paired(pair)}."
    if pair.p_value < CHANCE:
        yield f"This {'loss' if pair.difference < 0 else 'gain'} is beyond chance."
    else:
        yield (
            "This may be chance, which does not prove that nothing changed: anything from "
            f"{points(low)} to {points(high)} would fit."
        )
    lost = findings.flips[findings.flips["outcome"] == "lost"]["before_confidence"]
    if len(lost):
        yield f"For half of the lost images the baseline's confidence had been at most {percent(float(lost.median()))}."


def _agreement(findings: Findings) -> Iterator[str]:
    """Two independent sets of images: the variances of the two differences add up."""
    pairs = findings.validation.comparison, findings.test.comparison
    half = hypot(*((pair.interval[1] - pair.interval[0]) / 2 for pair in pairs))
    apart = abs(pairs[0].difference - pairs[1].difference)
    if half == 0:
        yield f"The same holds for {on(findings.validation)}."
        return
    agree = "they agree" if apart <= half else "they do not agree, and test is to be believed"
    yield (
        f"On {on(findings.validation)} the change is {points(pairs[0].difference)}, {100 * apart:.2f} pp from that on "
        f"test. Chance alone keeps two such figures within {100 * half:.2f} pp, 95 times of 100: {agree}."
    )


def _by_class(findings: Findings) -> Iterator[str]:
    def net(row: Row) -> int:
        return int(row["gained"]) - int(row["lost"])

    changes = records(findings.changes)
    worst, best = min(changes, key=net), max(changes, key=net)
    yield _class_change(findings, worst, "lost") if net(worst) < 0 else "No class lost more images than it gained."
    yield _class_change(findings, best, "gained") if net(best) > 0 else "No class gained more images than it lost."
    yield f"(The p of a class is McNemar's times {len(changes)}, for the choice among the classes.)"
    yield mistake(findings)


def _class_change(findings: Findings, row: Row, what: str) -> str:
    p = min(1.0, len(findings.changes) * Comparison(row["images"], row["lost"], row["gained"]).p_value)
    return (
        f"{row['class']} {what} most: recall {percent(row['before'])} before, {percent(row['after'])} after "
        f"({row['lost']:,} lost and {row['gained']:,} gained of {row['images']:,}), "
        f"{'beyond chance' if p < CHANCE else 'which may be chance'} ({with_p(p)})."
    )


def _speed(findings: Findings) -> Iterator[str]:
    if len(findings.files) > 1:
        smallest = min(findings.files, key=lambda file: file.bytes)
        yield f"The smallest file is {smallest.path}, {size(smallest.bytes)}."
    times: dict[int, dict[str, Latency]] = {}
    for file in findings.files:
        for latency in file.latency or ():
            times.setdefault(latency.batch, {})[file.path] = latency
    for batch, taken in sorted(times.items()):
        yield from _fastest(batch, taken)
    yield from _integers(findings)
    notes = () if findings.verdict is None else findings.verdict.notes
    told = (note for note in notes if " float32 here, " not in note)
    yield from map(without_folders, dict.fromkeys(told))
    if quantizes(findings.test.layers) and not times:
        least = min(row.bits for row in findings.test.layers)
        how = f"no program here computes in {least} bits" if least < 8 else "the packed file is computed in float32"
        yield f"Bits are not speed: fewer bits make a smaller file, but {how}."
    if findings.test.sparsity:
        yield "Scattered zeros are not speed, either: they are multiplied like other numbers."


def _integers(findings: Findings) -> Iterator[str]:
    """The times of integer ONNX files beside the float32 one's, in one sentence."""
    timed = {file.format: file.latency for file in findings.files if file.latency}
    said = []
    for kind in (kind for kind in timed if kind.startswith("onnx-")):
        for plain, integer in zip(timed.get("onnx", ()), timed[kind], strict=False):
            slower, faster = integer.lower > plain.upper, integer.upper < plain.lower
            word = "slower" if slower else "faster" if faster else "neither slower nor faster"
            times = f"{microseconds(integer.median)} against {microseconds(plain.median)} µs per image"
            said.append(f"{kind[5:]} is {word} with {counted(integer.batch, 'image')} at once ({times})")
    if said:
        yield f"Beside float32 in ONNX Runtime, {'; '.join(said)}."


def _fastest(batch: int, taken: Mapping[str, Latency]) -> Iterator[str]:
    ranking = sorted(taken, key=lambda path: taken[path].median)
    if len(ranking) > 1:
        first, second = ranking[:2]
        times = microseconds(taken[first].median), microseconds(taken[second].median)
        overlap = "" if taken[first].upper < taken[second].lower else ", and their quartiles overlap"
        images = "One image at a time" if batch == 1 else f"With {batch:,} images at once"
        yield f"{images}, {first} is fastest, {times[0]} µs per image; next is {second}, {times[1]} µs{overlap}."


def conclusion(findings: Findings) -> str:
    test, pair = findings.test, findings.test.comparison
    if not findings.steps:
        return f"The baseline has {right(findings)} right, in {size(test.bytes)}. {checked(findings)}"
    if not pair.lost + pair.gained:
        cost = "its test accuracy is that of the baseline"
    else:
        sure = "beyond chance" if pair.p_value < CHANCE else "which may be chance"
        cost = f"its test accuracy differs from the baseline's by {points(pair.difference)}, {sure}"
    inside = "within" if pair.difference >= -ALLOWANCE else "outside"
    return (
        f"The file is {smaller(test.compression_ratio)} the float32 weights; {cost}. That is {inside} "
        f"the allowed loss of {100 * ALLOWANCE:g} pp. {checked(findings)}"
    )
