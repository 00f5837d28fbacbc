"""The parts of the report that come from the laboratories: bits, pruning, the best combination, and what was pinned.

A result is one that was measured here, the newest of its kind for the baseline; else one that came with the project;
the report says which. Where there is none, it says how to get one.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Generic, TypeVar

from core.bench.workbench import NotRecovered, Result, Workbench
from core.config import CompressionConfig, in_words
from core.document.blocks import Block, Heading, Paragraph, Table
from core.formats.footprint import KB
from core.machinery.jobs import Status
from core.measuring.front import sure
from core.report import plots, tables
from core.report.findings import Findings, Pin, figure
from core.report.sentences import smaller
from core.report.wording import kilobytes, listed, over, percent, points, pruned, ratio, share_of, span, untrained
from core.settings import label
from core.studies import assignment, kinds, shipping, tuning
from core.studies.answers import (
    BestWay,
    Combination,
    IterativeSearch,
    Judged,
    Measured,
    OneShotSearch,
    QuantizationHalf,
    Run,
)
from core.words import counted

ALLOWANCE = 0.01
"""Accuracy that the compressed network may lose."""


R = TypeVar("R")


@dataclass(frozen=True)
class Experiment(Generic[R]):
    """request : what was asked; result : the answer; origin : whether it came with the project, when it was measured,
    and on what machine."""

    request: Mapping[str, Any]
    result: R
    origin: tuple[str, str, str]


def experiment(bench: Workbench, kind: str, name: str) -> Experiment[Any] | None:
    """The newest of a kind for a baseline that was run here; else the one that came with the project; else None."""
    for job in bench.jobs.all(kind):
        answer = kinds.answer(kind, job.result) if job.state == "done" else None
        if answer is not None and job.request.get("baseline") == name:
            return Experiment(job.request, answer, _here(job))
    for request in shipping.requests():
        if (request["kind"], request.get("baseline")) == (kind, name):
            came = shipping.answer(bench, request)
            if came is not None:
                return Experiment(request, came.result, _came(came))
    return None


def _here(job: Status) -> tuple[str, str, str]:
    ended = job.events[-1]["time"] if job.events else job.submitted
    return "run here", day(date.fromtimestamp(ended)), f"that of this report, {machine()}"


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}"


def _came(came: shipping.Answer) -> tuple[str, str, str]:
    made = came.made
    libraries = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return "comes with the project", day(date.fromisoformat(made["date"])), f"{made['machine']}, {libraries}"


def day(when: date) -> str:
    return f"{when.day} {when:%B %Y}"


PAGES = {
    assignment.QUANTIZATION: "Quantization",
    tuning.ONE_SHOT: "Pruning",
    tuning.ITERATIVE: "Pruning",
    assignment.COMBINATION: "Combination",
}
"""The experiments of the report, and the page that runs them."""


def _origins(experiments: Mapping[str, Experiment[Any] | None]) -> list[Block]:
    """Where each figure of the laboratories comes from."""
    missing = "not yet", "–"
    rows = [
        (kind, *(known.origin if known else (*missing, f"the page {PAGES[kind]} runs it")))
        for kind, known in experiments.items()
    ]
    text = "Beside the configuration that was chosen, the report has what the laboratories of the app measured."
    caption = "Where the figures of the laboratories come from."
    table = Table(caption, ("experiment", "measured", "date", "machine"), tuple(rows))
    return [Heading("The laboratories", 2), Paragraph(text), table]


def _missing(what: str, page: str, title: str) -> Paragraph:
    return Paragraph(f"{what} was not measured for {title} yet: run it on the page {page}, and make this report again.")


def parts(bench: Workbench, name: str, findings: Findings) -> list[Block]:
    """Everything of the laboratories, and the pins."""
    known = {kind: experiment(bench, kind, name) for kind in PAGES}
    made = [
        *_origins(known),
        *_bits(known[assignment.QUANTIZATION], findings.title),
        *_pruning(bench, name, findings.title, known[tuning.ONE_SHOT], known[tuning.ITERATIVE]),
        *_combination(known[assignment.COMBINATION], findings.title),
    ]
    return [*made, *_pins(findings)]


# Bits


def _bits(known: Experiment[QuantizationHalf] | None, title: str) -> list[Block]:
    heading = Heading("Quantization before and after training (PTQ, QAT)", 2)
    if known is None:
        return [heading, _missing("The network at 8, 6, 4, 3 and 2 bits", "Quantization", title)]
    result, rows = known.result, known.result.rows
    widths = listed([str(row.bits) for row in rows])
    said = "; ".join(f"{row.bits} bits {percent(row.after.test.accuracy)}" for row in rows)
    drawn = plots.bits("bits", tables.bits(result), result.float32.test.accuracy)
    caption = f"Accuracy on test at {widths} bits; the dotted line is the network in float32."
    return [
        heading,
        Paragraph(_bits_words(result.epochs)),
        figure("bits", caption, f"Lines of accuracy by bits. QAT: {said}.", drawn),
        _bits_table(result),
        Paragraph(f"{untrained(rows)} {_best_bits(result)}".strip()),
    ]


def _bits_words(epochs: int) -> str:
    return (
        "Weights and activations at the same number of bits. Min-max: post-training quantization with one scale per "
        "channel, up to the largest weight. Best PTQ: post-training quantization with the best of clipping, bias "
        "correction, GPTQ and a zero point, by the validation images. QAT: that, after quantization-aware training "
        f"({counted(epochs, 'epoch')}, {assignment.longer_in_words()}) with learned scales (LSQ, Esser et al. 2020) "
        "and the baseline as teacher (distillation, Hinton et al. 2015)."
    )


def _bits_table(result: QuantizationHalf) -> Table:
    whole = result.float32
    rows: list[tuple[str, ...]] = [("32", *3 * (percent(whole.test.accuracy),), "–", "–", *_weights(whole))]
    for row in result.rows:
        test = row.after.test
        accuracies = (percent(judged.test.accuracy) for judged in (row.minmax, row.before, row.after))
        change = points(test.difference), span(test.interval).removesuffix(" pp")
        rows.append((str(row.bits), *accuracies, *change, *_weights(row.after)))
    header = ("bits", *tables.WHEN.values(), "change", "interval, pp", "KB, formula", "KB, file", "compression ratio")
    caption = (
        "Accuracy on the test images by bits. Change: after QAT against float32, paired, with its 95 % interval. Sizes "
        "are those after QAT; compression ratio: the float32 weights over the file."
    )
    return Table(caption, header, tuple(rows))


def _weights(network: Judged) -> tuple[str, str, str]:
    return f"{network.kb:,.1f}", f"{network.bytes / KB:,.1f}", ratio(network.compression_ratio, 1)


def _best_bits(result: QuantizationHalf) -> str:
    best = assignment.fewest_bits(result.rows, ALLOWANCE)
    if best is None:
        return "At no number of bits does the network after training lose at most one point on validation."
    test, means = best.after.test, best.after.test.report["macro avg"]
    return (
        f"{best.bits} bits are the fewest with which the network after training loses at most one point on the "
        f"validation images ({points(best.after.difference)}). On test it has {percent(test.accuracy)}, "
        f"{points(test.difference)}{over(test.difference, ALLOWANCE)}. Means over the classes: "
        f"precision {percent(means.precision)}, recall {percent(means.recall)}, F1-score {percent(means.f1)}."
    )


# Pruning


@dataclass(frozen=True, eq=False)
class _Way:
    """A way of pruning: its name, what was chosen on validation, and its results, None where they cannot be had."""

    name: str
    config: CompressionConfig
    validation: Result | None
    test: Result | None


def _pruning(
    bench: Workbench,
    name: str,
    title: str,
    shot: Experiment[OneShotSearch] | None,
    steps: Experiment[IterativeSearch] | None,
) -> list[Block]:
    blocks: list[Block] = [Heading("Pruning: one-shot against iterative", 2)]
    ways = []
    if shot is None:
        blocks.append(_missing("One-shot pruning", "Pruning", title))
    else:
        best = tuning.best_one_shot(shot.result.answers).point
        ways.append(_measured(bench, name, "one-shot", best.configuration))
        blocks.append(Paragraph(_one_shot_words(shot, best) + _on_test(ways[-1], shot.request["allowance"])))
    if steps is None:
        blocks.append(_missing("Iterative pruning", "Pruning", title))
    else:
        run = steps.result.chosen
        text = _iterative_words(steps, run)
        if run is not None:
            stepped = _measured(bench, name, "iterative", run.configuration)
            text += _on_test(stepped, steps.request["allowance"])
            ways += [stepped, _measured(bench, name, "one-shot", replace(stepped.config, recovery=None))]
        blocks.append(Paragraph(text))
    return [*blocks, *_ways(ways)]


def _on_test(way: _Way, allowed: float) -> str:
    """What was chosen on validation, on the test images; nothing where it cannot be had any more."""
    lost = None if way.test is None else way.test.comparison.difference
    return "" if lost is None else f" On test the change is {points(lost)}{over(lost, allowed)}."


def _measured(bench: Workbench, name: str, how: str, config: CompressionConfig) -> _Way:
    results = []
    with suppress(NotRecovered):  # a network that was trained elsewhere, or is in the cache no more
        results = [bench.evaluate(name, config), bench.evaluate(name, config, "test")]
    return _Way(pruned(how, config), config, *(results or (None, None)))


def _one_shot_words(known: Experiment[OneShotSearch], best: Measured) -> str:
    allowed = _allowed(known.request["allowance"], known.request.get("confidence"))
    return (
        "One-shot: the weights with the smallest scores go at once, and nothing is trained (Han et al. 2015). "
        f"{len(known.result.answers)} ways to choose them were tried. The sparsest that loses at most "
        f"{allowed} on the validation images: {in_words(best.configuration)} "
        f"({points(best.difference)})."
    )


def _allowed(allowance: float, confidence: float | None) -> str:
    """Accuracy that an experiment allows to lose."""
    return f"{100 * allowance:g} pp" + ("" if confidence is None else f" (with {sure(confidence)} on new images, too)")


def _iterative_words(known: Experiment[IterativeSearch], run: Run | None) -> str:
    request = known.request
    epochs = counted(request["recovery"]["epochs"], "epoch")
    allowed = _allowed(request["allowance"], request.get("confidence"))
    tried = listed([f"{share_of(each.target or 0.0)} ({points(each.difference)})" for each in known.result.runs])
    text = (
        f"Iterative: the sparsity rises while the network trains, {epochs} in all (Zhu & Gupta 2017), always by "
        f"{label('score', known.result.runs[0].configuration.score)}. "
        f"Trained for {tried}; the change on validation is in brackets. "
    )
    if run is None:
        text += f"None of them stays within {allowed}."
    else:
        text += f"The sparsest that loses at most {allowed} is {share_of(run.target or 0.0)}."
    return text


def _ways(ways: Sequence[_Way]) -> list[Block]:
    """Accuracy and size of each way, and its sparsity layer by layer."""
    known = [way for way in ways if way.validation is not None]
    gone = [way.name for way in ways if way.validation is None]
    blocks: list[Block] = [
        Paragraph(f"The network of this way is not in the cache any more, so that nothing more is said of it: {way}.")
        for way in gone
    ]
    if not known:
        return blocks
    zeros = tables.zeros({way.name: way.validation for way in known if way.validation})
    shares = zeros.pivot_table("sparsity", "layer", "way", sort=False).map(percent)
    said = "; ".join(f"{way}: {listed([f'{name} {share}' for name, share in shares[way].items()])}" for way in shares)
    rows = [*shares.itertuples(name=None)]
    rows.append(("all", *(percent(way.validation.sparsity) for way in known if way.validation)))
    return [
        *blocks,
        figure("zeros", "Sparsity by layer (check_sparsity).", f"Bars. {said}.", plots.zeros("zeros", zeros)),
        Table("Sparsity by layer (check_sparsity); last, the whole network.", ("layer", *shares), tuple(rows)),
        _ways_table(known),
        *([Paragraph(_what_training_brings(known[-2:]))] if len(ways) > 1 and len(known) == len(ways) else []),
    ]


def _ways_table(ways: Sequence[_Way]) -> Table:
    rows = []
    for way in ways:
        validation, test = way.validation, way.test
        if validation is not None and test is not None:
            pair = test.comparison
            accuracies = percent(validation.evaluation.accuracy), percent(test.evaluation.accuracy)
            change = points(pair.difference), span(pair.interval)
            file = f"{validation.bytes / KB:,.1f}"
            rows.append((way.name, percent(validation.sparsity), *accuracies, *change, file))
    header = ("way", "sparsity", "validation", "test", "change on test", "95 % interval of it", "KB, file")
    return Table("The ways of pruning side by side; changes are paired, against the baseline.", header, tuple(rows))


def _what_training_brings(pair: Sequence[_Way]) -> str:
    accuracies = [percent(way.test.evaluation.accuracy) for way in pair if way.test is not None]
    return (
        f"Equally sparse, by the same criterion, the network that was pruned step by step and trained in between has "
        f"{accuracies[0]} of the test images right; pruned at once and not trained it has {accuracies[1]}."
    )


# The best combination, and pins


def _combination(known: Experiment[Combination] | None, title: str) -> list[Block]:
    heading = Heading("The best combination", 2)
    if known is None:
        return [heading, _missing("The best combination of pruning and bits", "Combination", title)]
    best, rows, allowed = known.result.best, [], _allowed(known.result.allowance, known.result.confidence)
    for row in known.result.rows:
        chosen = row.chosen
        if chosen is None:
            rows.append((row.title, f"none within {allowed}", *"––––"))
        else:
            file, tried = f"{chosen.bytes / KB:,.1f}", str(len(row.runs))
            accuracy = percent(chosen.accuracy), points(chosen.difference)
            rows.append((row.title, in_words(chosen.configuration), file, *accuracy, tried))
    text = (
        f"Each way makes the network as small as a loss of {allowed} on the validation images lets it; all are trained."
    )
    header = ("way", "the hardest that fits", "KB, file", "validation", "change", "tried")
    caption = "The smallest file of each way; accuracy and change are those of the validation images."
    blocks: list[Block] = [heading, Paragraph(text), Table(caption, header, tuple(rows))]
    if best is None:
        return [*blocks, Paragraph(f"No way stays within {allowed}.")]
    return [*blocks, Paragraph(_best_way(best))]


def _best_way(best: BestWay) -> str:
    test = best.test
    return (
        f"The smallest is {best.title}, {kilobytes(best.bytes)}, {smaller(best.compression_ratio)} the float32 "
        f"weights. Its verdict on the test images: {percent(test.accuracy)}, {points(test.difference)} (95 % "
        f"interval {span(test.interval)}). It is {in_words(best.configuration)}."
    )


def _pins(findings: Findings) -> list[Block]:
    heading = Heading("Pinned configurations", 2)
    if not findings.pins:
        return []
    rows = [_pin_row(f"pin {number}", pin) for number, pin in enumerate(findings.pins, 1)]
    rows.append(_pin_row("final model", Pin(findings.title, findings.test.config, findings.validation)))
    header = ("network", "settings", "validation", "change", "95 % interval", "KB, file", "compression ratio")
    caption = "What was pinned, and the final model, on validation. Changes are paired, each against its own baseline."
    table = Table(caption, header, tuple(rows))
    untrained = [f"pin {number}" for number, pin in enumerate(findings.pins, 1) if pin.result is None]
    if not untrained:
        return [heading, table]
    return [heading, table, Paragraph(f"Not trained here yet, and so without figures: {listed(untrained)}.")]


def _pin_row(title: str, pin: Pin) -> tuple[str, ...]:
    result, about = pin.result, (f"{title}, {pin.title}", in_words(pin.config))
    if result is None:
        return *about, *"–––––"
    change = points(result.comparison.difference), span(result.comparison.interval)
    file = f"{result.bytes / KB:,.1f}", ratio(result.baseline_bytes, result.bytes)
    return *about, percent(result.evaluation.accuracy), *change, *file
