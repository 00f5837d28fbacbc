"""The results of the final model and of the baseline: accuracy, training curves, classes, flips, files, times."""

import platform
import re

import pandas as pd

from core.bench.workbench import Result
from core.config import in_words
from core.document.blocks import Block, Formula, Heading, Paragraph, Table
from core.formats.footprint import KB
from core.report import plots
from core.report.findings import SHOWN_FLIPS, Findings, figure, records
from core.report.sentences import checked, on, weighs
from core.report.wording import listed, microseconds, p_value, percent, points, span


def baseline(findings: Findings) -> list[Block]:
    """The baseline's classification report and confusion matrix."""
    return [
        Heading("The baseline", 2),
        _classification(findings.whole, "baseline"),
        _confusion("confusion-baseline", "baseline", findings.confusion_before, on(findings.whole)),
    ]


def _classification(result: Result, of: str) -> Table:
    """scikit-learn's classification report; of all classes together precision and recall are the accuracy."""
    table = result.evaluation.classification()
    shares = table.columns[1:-1]
    table[shares] = table[shares].map(percent)
    table.loc[table["class"] == "accuracy", shares[:2]] = ""
    table["support"] = table["support"].map("{:,}".format)
    rows = table.itertuples(index=False, name=None)
    return Table(f"Classification report of the {of}, {on(result)}.", tuple(table), tuple(rows))


def _confusion(name: str, of: str, counts: pd.DataFrame, where: str) -> Block:
    right = ", ".join(f"{label} {counts.loc[label, label]:,}" for label in counts)
    alt = f"Counts by true and predicted class. Right: {right}."
    caption = f"Confusion matrix of the {of}, {where}: true classes down, predicted ones across."
    return figure(name, caption, alt, plots.confusion(name, counts))


def accuracy(findings: Findings) -> list[Block]:
    both = findings.validation, findings.test
    names = [f"{each.evaluation.split} ({each.evaluation.images:,})" for each in both]
    accuracies = [percent(each.evaluation.accuracy) for each in both]
    heading, what = Heading("The final model", 2), Paragraph(_final(findings))
    if not findings.steps:
        losses = [f"{each.evaluation.loss:.4f}" for each in both]
        plain = tuple(zip(names, accuracies, losses, strict=True))
        return [
            heading,
            what,
            Table("Images predicted right; mean cross entropy.", ("images", "accuracy", "loss"), plain),
        ]
    pairs = [each.comparison for each in both]
    columns = {
        "images": names,
        "baseline": [percent(each.baseline.accuracy) for each in both],
        "compressed": accuracies,
        "difference": [points(pair.difference) for pair in pairs],
        "95 % interval": [span(pair.interval) for pair in pairs],
        "lost": [f"{pair.lost:,}" for pair in pairs],
        "gained": [f"{pair.gained:,}" for pair in pairs],
        "p": [p_value(pair.p_value) for pair in pairs],
    }
    caption = (
        "Images predicted right, and the difference, paired image by image. Lost: right before, wrong after; gained: "
        "wrong before, right after; p: of the exact test of McNemar 1947."
    )
    return [
        heading,
        what,
        Table(caption, tuple(columns), tuple(zip(*columns.values(), strict=True))),
        Formula(r"\text{difference} = \frac{\text{gained} - \text{lost}}{n}"),
        Formula(
            r"\text{standard error} = \frac{1}{n} \sqrt{\text{lost} + \text{gained} - "
            r"\frac{(\text{gained} - \text{lost})^2}{n}}"
        ),
    ]


def _final(findings: Findings) -> str:
    return (
        f"The configuration that was chosen: {in_words(findings.test.config)}. {weighs(findings)} {checked(findings)}"
    )


def curves(findings: Findings) -> list[Block]:
    drawn: list[Block] = []
    histories = {
        "Training of the baseline": findings.baseline.info.get("history"),
        "Training after compression": findings.history,
    }
    for (what, history), kept in zip(histories.items(), findings.kept, strict=True):
        if history:
            name = what.lower().replace(" ", "-")
            first, last = (percent(epoch["validation_accuracy"]) for epoch in (history[0], history[-1]))
            alt = f"Loss and accuracy by epoch; accuracy on validation {first} after the first, {last} after the last."
            images = findings.validation.evaluation.images
            which = f"; epoch {kept} is kept" if kept else "; none was better than the network before it, which is kept"
            which = "" if kept is None else which  # another machine trained it
            caption = f"{what}, with the {images:,} validation images{which}."
            drawn.append(figure(name, caption, alt, plots.training_curves(name, history)))
    text = (
        "Losses are those that were minimised, label smoothing, and where there is a teacher its share, included. "
        "Training figures are taken while learning, with dropout and flips where there are any, so they may lie below "
        "those on validation."
    )
    return [Heading("Training curves", 2), Paragraph(text), *drawn] if drawn else []


def classes(findings: Findings) -> list[Block]:
    """The compressed network's classification report, recall before and after, and confusion matrix."""
    if not findings.steps:
        return []
    where, recalls = on(findings.test), records(findings.changes)
    said = "; ".join(f"{row['class']} {percent(row['before'])}, {percent(row['after'])}" for row in recalls)
    caption = f"Recall of each class in the baseline and in the compressed network, {where}."
    drawn = plots.recall("recall", findings.changes)
    return [
        Heading("Classes", 2),
        _classification(findings.test, "compressed network"),
        figure("recall", caption, f"Recall before and after: {said}.", drawn),
        _confusion("confusion", "compressed network", findings.confusion, where),
    ]


OUTCOMES = {"lost": "lost", "gained": "gained", "still wrong": "wrong before and after, as another class"}
"""An outcome of flips, and what the report calls it."""


def flipped(findings: Findings) -> list[Block]:
    n, flips = findings.test.evaluation.images, findings.flips
    if not findings.steps:
        return []
    if flips.empty:
        return [Heading("Flips", 2), Paragraph(f"None of {on(findings.test)} has another prediction.")]
    counts = [(called, int((flips["outcome"] == outcome).sum())) for outcome, called in OUTCOMES.items()]
    rows = tuple((called, f"{count:,}", percent(count / n)) for called, count in [*counts, ("all", len(flips))])
    shown = flips.head(SHOWN_FLIPS)
    said = "; ".join(f"{row['true']}: {row['before']}, then {row['after']}" for row in records(shown))
    caption = (
        f"The {len(shown)} flips of the largest confidence, before and after together. Above each picture its class, "
        "below it what was predicted before and after, and how confidently."
    )
    return [
        Heading("Flips", 2),
        Table(f"Images with another prediction, of {on(findings.test)}.", ("outcome", "images", "share"), rows),
        figure("flips", caption, f"Pictures. {said}.", plots.flips("flips", shown, findings.pictures)),
    ]


def files(findings: Findings) -> list[Block]:
    if findings.verdict is None:
        return []
    rows = []
    for file in findings.files:
        far = file.largest_logit_difference
        shares = percent(file.accuracy), percent(file.agreement)
        counts = f"{file.bytes:,}", f"{file.bytes / KB:,.1f}"
        rows.append((file.path, *counts, *shares, "–" if far is None else f"{far:.2g}", file.reader or "–"))
    header = ("file", "bytes", "KB", "accuracy", "agreement", "difference", "read by")
    caption = (
        f"Files, each read in a process of its own, on {on(findings.test)}. Agreement: images predicted as in this "
        "report; difference: the largest of any output before the softmax."
    )
    texts = [checked(findings)]
    texts += [f"{file.path}: {file.problem}" for file in findings.files if file.problem]
    texts += _ties(findings)
    said = [Paragraph(without_folders(text)) for text in texts]
    return [Heading("Files", 2), *said, Table(caption, header, tuple(rows)), *_latencies(findings)]


def _ties(findings: Findings) -> list[str]:
    """One sentence for all files that predict the same images otherwise."""
    alike: dict[int, list[str]] = {}
    for file in findings.files:
        if file.ties:
            alike.setdefault(len(file.ties), []).append(file.path)
    return [
        f"{listed(paths)}: {count:,} predictions differ{' in each' if len(paths) > 1 else ''}, at ties that float "
        "rounding decides."
        for count, paths in alike.items()
    ]


def without_folders(text: str) -> str:
    """A message that names no folder of this machine."""
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\s'\"\\/]+[\\/])+", "", text)


def _latencies(findings: Findings) -> list[Block]:
    rows = []
    for file in findings.files:
        for latency in file.latency or ():
            times = (microseconds(seconds) for seconds in (latency.median, latency.lower, latency.upper))
            rows.append((file.path, f"{latency.batch:,}", *times, f"{latency.repeats:,}"))
    header = ("file", "images at once", "median, µs", "lower quartile", "upper quartile", "runs")
    caption = f"Time per image in microseconds, measured on this computer's {platform.machine()} processor."
    return [Table(caption, header, tuple(rows))] if rows else []
