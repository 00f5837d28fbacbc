"""The report of one configuration, to hand in: what was done, what was measured, what that says, how to repeat it.

Every figure in it was measured by the workbench, or follows from the configuration in closed form; sentences are chosen
by the figures. `core.report.document` turns it into HTML, Markdown and DOCX.
"""

import importlib.metadata
import json
import platform
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import hypot, prod
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd

from core import data
from core.config import FLOAT_BITS, CompressionConfig, TrainingConfig, to_arguments, to_query
from core.footprint import KB
from core.models import Baseline
from core.report import plots
from core.report.document import Block, Code, Figure, Formula, Heading, Paragraph, Report, Table, numbered
from core.report.procedure import Step, Subject, matrix_shape, percent, quantizes, steps
from core.workbench import SHIPPED, Comparison, Result, Workbench

SHOWN_FLIPS = 12
CHANCE = 0.05
"""Below this p-value a difference counts as beyond chance."""
ALLOWANCE = 0.01
"""Accuracy that the course allows a compressed network to lose."""

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Findings:
    """What the workbench answered. name : of the baseline, for a command; changes, flips : on the test images;
    mistake : the most frequent one there, true and predicted class and how often; pictures : of the first flips;
    verdict : of the export, None where there was none"""

    name: str
    title: str
    baseline: Baseline
    validation: Result
    test: Result
    steps: list[Step]
    history: list[dict[str, float]] | None
    kept: tuple[int | None, int | None]
    sizes: Mapping[str, float]
    changes: list[Row]
    flips: pd.DataFrame
    pictures: Any
    mistake: tuple[str, str, int]
    verdict: Row | None

    @property
    def files(self) -> list[Row]:
        """Of the export, without the folders of this machine."""
        own = [] if self.verdict is None else self.verdict["files"]
        return [{**file, "path": Path(file["path"]).name} for file in own]


def build(bench: Workbench, name: str, config: CompressionConfig, verdict: Row | None, link: str = "") -> Report:
    """The report of a configuration. It opens the test images, as the verdict of an export does.

    verdict : of the export of this configuration, None where nothing was exported
    link : opens this configuration in the app; without it the report shows what follows the app's address
    Raises UnknownBaseline, ConfigError, NotRecovered.
    """
    found = ask(bench, name, config, verdict)
    done = [*_data(), *_baseline(found)]
    for step in found.steps:
        done += [Heading(step.heading, 2), *step.blocks]
    results = [*_accuracy(found), *_size(found), *_curves(found), *_classes(found), *_flips(found), *_files(found)]
    sections: dict[str, list[Block]] = {
        "Abstract": [Paragraph(_abstract(found))],
        "What was done": done,
        "Results": results,
        "Analysis": [Paragraph(text) for text in map(" ".join, _analysis(found)) if text],
        "Conclusion": [Paragraph(_conclusion(found))],
        "How to reproduce": _reproduce(found, link),
        "Appendix": _appendix(found),
    }
    blocks = [block for heading, own in sections.items() for block in (Heading(heading), *own)]
    return Report(f"Compression of a neural network: {found.title}", numbered(blocks))


def ask(bench: Workbench, name: str, config: CompressionConfig, verdict: Row | None) -> Findings:
    """Everything that the report is made from; what was measured before comes from the cache."""
    validation, test, baseline = (
        bench.evaluate(name, config),
        bench.evaluate(name, config, "test"),
        bench.baseline(name),
    )
    energy = bench.outline(name, config).energy if any(row.rank for row in test.layers) else {}
    flips = bench.flips(test)
    return Findings(
        name=Path(name).name,
        title=Path(name).name if name.endswith(".safetensors") else bench.title(name),
        baseline=baseline,
        validation=validation,
        test=test,
        steps=steps(Subject(config, baseline.model, test.layers, energy)),
        history=bench.history(name, config) if config.recovery else None,
        kept=(baseline.info.get("best_epoch"), bench.kept_epoch(name, config) if config.recovery else None),
        sizes=verdict.get("sizes", bench.sizes(test)) if verdict else bench.sizes(test),
        changes=_records(bench.class_changes(test)),
        flips=flips,
        pictures=bench.images("test", flips["index"].head(SHOWN_FLIPS).tolist()),
        mistake=bench.most_confused(test),
        verdict=verdict,
    )


def _records(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


# Figures in words


def points(difference: float) -> str:
    """A difference of accuracies in percentage points."""
    return f"{100 * difference:+.2f} pp" if round(difference * 1e4) else "0.00 pp"


def size(count: float) -> str:
    return f"{count:,.0f} bytes ({count / KB:,.1f} KB)"


def p_value(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def interval(comparison: Comparison) -> str:
    low, high = comparison.interval
    return f"{100 * low:+.2f} to {100 * high:+.2f} pp"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def listed(words: list[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _p(p: float) -> str:
    return f"p {p_value(p)}" if p < 1e-4 else f"p = {p_value(p)}"


def _paired(comparison: Comparison) -> str:
    about = f"95 % interval {interval(comparison)}, exact McNemar test {_p(comparison.p_value)}"
    return f"{points(comparison.difference)} ({about})"


def _on(result: Result) -> str:
    return f"the {result.evaluation.images:,} {result.evaluation.split} images"


def _ratio(result: Result) -> str:
    ratio = result.compression_ratio
    return f"{ratio:.2f} times smaller than" if ratio >= 1 else f"{1 / ratio:.2f} times as large as"


def _checked(found: Findings) -> str:
    if found.verdict is None:
        return "Nothing was exported, so no file was read back, and nothing is said of the time that a file takes."
    where = f"the {found.verdict['images']:,} {found.verdict['split']} images"
    if found.verdict["ok"]:
        return f"Each exported file was read in a process of its own and passed the check on {where}."
    return f"The exported files did NOT pass the check on {where}; the part on files says why."


def _abstract(found: Findings) -> str:
    test, validation = found.test, found.validation
    accuracy, also = percent(test.evaluation.accuracy), percent(validation.evaluation.accuracy)
    network = f"{found.title}, a network for the {len(data.CLASSES)} classes of Fashion-MNIST,"
    if not found.steps:
        return (
            f"{network} is evaluated as it is; nothing is compressed. It is right for {accuracy} of {_on(test)} and "
            f"for {also} of {_on(validation)}. Its file has {size(test.bytes)}. {_checked(found)}"
        )
    return (
        f"{network} is compressed: {listed([step.phrase for step in found.steps])}. The file has {size(test.bytes)}, "
        f"{_ratio(test)} the {size(test.baseline_bytes)} of the float32 weights. Of {_on(test)} the compressed network "
        f"has {accuracy} right, the baseline {percent(test.baseline.accuracy)}: {_paired(test.comparison)}. Of "
        f"{_on(validation)} it has {also} right, the baseline {percent(validation.baseline.accuracy)}. "
        f"{_checked(found)}"
    )


# What was done


def _data() -> list[Block]:
    validation, test, calibration = (len(data.load(name)) for name in ("validation", "test", "calibration"))
    return [
        Heading("Data", 2),
        Paragraph(
            f"Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): grey pictures of garments, 28 × 28 pixels of 8 bits. Of its "
            f"60,000 training images {validation:,} are set aside for validation, stratified, with seed 0; "
            f"{60_000 - validation:,} train. Methods that need to know real inputs see a fixed {calibration:,} of "
            f"these. Settings are chosen on the validation images; the {test:,} test images are opened for the verdict."
        ),
        Formula(f"x = (pixel / 255 − {data.MEAN:.4f}) / {data.DEVIATION:.4f}"),
    ]


def _baseline(found: Findings) -> list[Block]:
    shapes = [f"{layer.name} {' × '.join(map(str, layer.shape))}" for layer in found.baseline.layers]
    what = (
        f"{found.title} has {found.baseline.parameters:,} weights and biases, {size(found.baseline.bytes)} in float32. "
        f"Its weights: {listed(shapes)}."
    )
    recipe = "Nothing is known of its training."
    if "recipe" in found.baseline.info:
        recipe = _recipe(found.baseline.info, TrainingConfig(**found.baseline.info["recipe"]))
    return [Heading("Baseline", 2), Paragraph(f"{what} {recipe}")]


def _recipe(info: Row, recipe: TrainingConfig) -> str:
    optimizer = "Adam" if recipe.optimizer == "adam" else "SGD (Nesterov momentum 0.9, one-cycle learning rate)"
    return (
        f"It was trained on {info['training_images']:,} images for {recipe.epochs} epochs by {optimizer}: batch "
        f"{recipe.batch_size}, learning rate {recipe.learning_rate:g}, weight decay {recipe.weight_decay:g}, label "
        f"smoothing {recipe.label_smoothing:g}, dropout {recipe.dropout:g}, {'' if recipe.flips else 'no '}horizontal "
        f"flips, seed {recipe.seed}. Epoch {info['best_epoch']}, the best on validation, is kept."
    )


# Results


def _accuracy(found: Findings) -> list[Block]:
    both = found.validation, found.test
    names = [f"{each.evaluation.split} ({each.evaluation.images:,})" for each in both]
    accuracies = [percent(each.evaluation.accuracy) for each in both]
    heading = Heading("Accuracy", 2)
    if not found.steps:
        losses = [f"{each.evaluation.loss:.4f}" for each in both]
        plain = tuple(zip(names, accuracies, losses, strict=True))
        return [heading, Table("Images predicted right; mean cross entropy.", ("images", "accuracy", "loss"), plain)]
    pairs = [each.comparison for each in both]
    columns = {
        "images": names,
        "baseline": [percent(each.baseline.accuracy) for each in both],
        "compressed": accuracies,
        "difference": [points(pair.difference) for pair in pairs],
        "95 % interval": [interval(pair) for pair in pairs],
        "lost": [f"{pair.lost:,}" for pair in pairs],
        "gained": [f"{pair.gained:,}" for pair in pairs],
        "p": [p_value(pair.p_value) for pair in pairs],
    }
    caption = (
        "Images predicted right, and the difference, paired image by image. Lost: right before, wrong after; gained: "
        "wrong before, right after; p: of the exact McNemar test."
    )
    return [
        heading,
        Table(caption, tuple(columns), tuple(zip(*columns.values(), strict=True))),
        Formula("difference = (gained − lost) / n, standard error = √(lost + gained − (gained − lost)² / n) / n"),
    ]


def _size(found: Findings) -> list[Block]:
    result, sizes, whole = found.test, found.sizes, found.test.baseline_bytes
    ways = tuple((way, f"{n:,.0f}", f"{n / KB:,.1f}", f"{whole / n:.2f}" if n else "–") for way, n in sizes.items())
    said = ", ".join(f"{way} {count:,.0f}" for way, count in sizes.items())
    compared = _figure("sizes", "The same sizes.", f"Bars of bytes: {said}.", plots.sizes("sizes", sizes))
    by_layer = ", ".join(f"{row.name} {row.bytes:,}" for row in result.layers)
    return [
        Heading("Size", 2),
        Paragraph(
            f"{result.parameters:,} weights and biases are stored; without the zeros among the weights "
            f"{result.nonzero:,} are left. The baseline has {result.baseline_parameters:,}. 1 KB is {KB:,} bytes."
        ),
        Table("Bytes in all the ways that people count them.", ("counted as", "bytes", "KB", "ratio"), ways),
        *([compared] if found.steps else []),
        _layers(result),
        _figure(
            "ledger",
            "Bytes of the file by layer and kind.",
            f"Stacked bars of bytes by kind, a bar per layer: {by_layer}.",
            plots.ledger("ledger", result.footprint.entries),
        ),
    ]


def _layers(result: Result) -> Table:
    def count(own: int) -> tuple[str, str]:
        return f"{own:,}", f"{own / KB:,.1f}"

    rows = []
    for row in result.layers:
        bits = "float32" if row.bits == FLOAT_BITS else str(row.bits)
        shape, rank = " × ".join(map(str, row.shape)), str(row.rank or "dense")
        rows.append((row.name, shape, rank, f"{row.parameters:,}", percent(row.sparsity), bits, *count(row.bytes)))
    rest = result.bytes - sum(row.bytes for row in result.layers)
    rows.append(("the file itself", *"–––––", *count(rest)))
    rows.append(("all", *"––", f"{result.parameters:,}", percent(result.sparsity), "–", *count(result.bytes)))
    header = ("layer", "weight before", "rank", "parameters", "pruned", "bits", "bytes", "KB")
    return Table("What each layer stores; the last line is the size of the file.", header, tuple(rows))


def _figure(name: str, caption: str, alt: str, drawn: plots.Picture) -> Figure:
    return Figure(name, caption, alt, drawn.svg, drawn.png)


def _curves(found: Findings) -> list[Block]:
    drawn: list[Block] = []
    histories = {
        "Training of the baseline": found.baseline.info.get("history"),
        "Training after compression": found.history,
    }
    for (what, history), kept in zip(histories.items(), found.kept, strict=True):
        if history:
            name = what.lower().replace(" ", "-")
            first, last = (percent(epoch["validation_accuracy"]) for epoch in (history[0], history[-1]))
            alt = f"Loss and accuracy by epoch; accuracy on validation {first} after the first, {last} after the last."
            images = found.validation.evaluation.images
            which = f"epoch {kept} is kept" if kept else "none was better than the network before it, which is kept"
            caption = f"{what}, with the {images:,} validation images; {which}."
            drawn.append(_figure(name, caption, alt, plots.training_curves(name, history)))
    text = (
        "Losses are those that were minimised, label smoothing, and where there is a teacher its share, included. "
        "Training figures are taken while learning, with dropout and flips where there are any, so they may lie below "
        "those on validation."
    )
    return [Heading("Training curves", 2), Paragraph(text), *drawn] if drawn else []


def _classes(found: Findings) -> list[Block]:
    on, measured = _on(found.test), found.test.evaluation
    rows = tuple(
        (str(name), percent(row["precision"]), percent(row["recall"]), percent(row["f1"]), f"{row['images']:,.0f}")
        for name, row in measured.report().iterrows()
    )
    header = ("class", "precision", "recall", "F1", "images")
    blocks: list[Block] = [Heading("Classes", 2), Table(f"Classification report, on {on}.", header, rows)]
    if found.steps:
        said = "; ".join(f"{row['class']} {percent(row['before'])}, {percent(row['after'])}" for row in found.changes)
        caption = f"Recall of each class in the baseline and in the compressed network, on {on}."
        drawn = plots.recall("recall", pd.DataFrame(found.changes))
        blocks.append(_figure("recall", caption, f"Recall before and after: {said}.", drawn))
    counts = pd.DataFrame(measured.confusion().numpy(), index=data.CLASSES, columns=data.CLASSES)
    alt = f"Counts by true and predicted class. {_mistake(found)}"
    caption = f"Confusion matrix, on {on}: how many of each class are taken for which."
    return [*blocks, _figure("confusion", caption, alt, plots.confusion("confusion", counts))]


def _flips(found: Findings) -> list[Block]:
    n, flips = found.test.evaluation.images, found.flips
    if not found.steps or flips.empty:
        return (
            [Heading("Flips", 2), Paragraph(f"None of {_on(found.test)} has another prediction.")]
            if found.steps
            else []
        )
    counts = {outcome: int((flips["outcome"] == outcome).sum()) for outcome in ("lost", "gained", "still wrong")}
    rows = tuple((what, f"{count:,}", percent(count / n)) for what, count in {**counts, "all": len(flips)}.items())
    shown = flips.head(SHOWN_FLIPS)
    said = "; ".join(f"{row['true']}: {row['before']}, then {row['after']}" for row in _records(shown))
    caption = (
        f"The {len(shown)} flips of the largest confidence, before and after together. Above each picture its class, "
        "below it what was predicted before and after, and how confidently."
    )
    return [
        Heading("Flips", 2),
        Table(f"Images with another prediction, of {_on(found.test)}.", ("outcome", "images", "share"), rows),
        _figure("flips", caption, f"Pictures of garments. {said}.", plots.flips("flips", shown, found.pictures)),
    ]


def _files(found: Findings) -> list[Block]:
    if found.verdict is None:
        return []
    rows = []
    for file in found.files:
        far = file.get("largest_logit_difference")
        shares = percent(file["accuracy"]), percent(file["agreement"])
        counts = f"{file['bytes']:,}", f"{file['bytes'] / KB:,.1f}"
        reader = file.get("reader", "–")
        rows.append((file["path"], *counts, *shares, "–" if far is None else f"{far:.2g}", reader))
    header = ("file", "bytes", "KB", "accuracy", "agreement", "difference", "read by")
    caption = (
        f"Files, each read in a process of its own, on {_on(found.test)}. Agreement: images predicted as in this "
        "report; difference: the largest of any output before the softmax."
    )
    texts = [_checked(found)]
    texts += [f"{file['path']}: {file['problem']}" for file in found.files if file.get("problem")]
    texts += [
        f"{file['path']}: {len(file['ties']):,} predictions differ, at ties that float rounding decides."
        for file in found.files
        if file.get("ties")
    ]
    said = [Paragraph(_without_folders(text)) for text in texts]
    return [Heading("Files", 2), *said, Table(caption, header, tuple(rows)), *_latencies(found)]


def _without_folders(text: str) -> str:
    """A message that names no folder of this machine."""
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\s'\"\\/]+[\\/])+", "", text)


def _latencies(found: Findings) -> list[Block]:
    rows = []
    for file in found.files:
        for own in file.get("latency", ()):
            median, lower, upper = (microseconds(own[key]) for key in ("median", "lower", "upper"))
            rows.append((file["path"], f"{own['batch']:,}", median, lower, upper, f"{own['repeats']:,}"))
    header = ("file", "images at once", "median, µs", "lower quartile", "upper quartile", "runs")
    caption = f"Time per image in microseconds, measured on this computer's {platform.machine()} processor."
    return [Table(caption, header, tuple(rows))] if rows else []


# Analysis


def _analysis(found: Findings) -> list[Iterator[str]]:
    """The sentences of each paragraph."""
    if not found.steps:
        return [iter([_mistake(found)]), _speed(found)]
    return [_bytes(found), _ranks(found), _loss(found), _agreement(found), _by_class(found), _speed(found)]


def _bytes(found: Findings) -> Iterator[str]:
    result = found.test
    before = {row.name: 4 * (prod(row.shape) + row.shape[0]) for row in result.layers}
    saved = {row.name: before[row.name] - row.bytes for row in result.layers}
    best, total = max(saved, key=lambda name: saved[name]), sum(max(0, own) for own in saved.values())
    if total > 0:
        now, share = before[best] - saved[best], percent(saved[best] / total)
        yield f"{best} saved most: {before[best]:,} bytes in float32, {now:,} in the file, {share} of all savings."
    else:
        yield "The layers take no fewer bytes than in float32: nothing was saved."
    kinds: dict[str, int] = {}
    for entry in result.footprint.entries:
        kinds[entry.kind] = kinds.get(entry.kind, 0) + entry.bytes
    kind, largest = max(kinds, key=lambda name: kinds[name]), max(result.layers, key=lambda row: row.bytes)
    shares = percent(largest.bytes / result.bytes), percent(kinds[kind] / result.bytes)
    yield f"Of the file, {largest.name} takes {shares[0]}; by kind, most are {kind}, {shares[1]}."
    theory = result.theoretical_kb * KB
    more = result.bytes - round(theory)
    why = (
        "more, since that count knows no scales and no container"
        if more > 0
        else "less, since what is frequent takes less room"
    )
    yield f"Bits × weights would give {size(theory)}; the file has {abs(more):,} bytes {why}."
    rounded = sum(row.rounded_to_zero for row in result.layers)
    if result.sparsity:
        yield f"Pruning made {percent(result.sparsity)} of the stored weights zero."
    if rounded:
        yield f"Rounding made {rounded:,} {'more ' if result.sparsity else ''}weights zero."


def _ranks(found: Findings) -> Iterator[str]:
    saving: dict[str, int] = {}
    for row in found.test.layers:
        (m, n), rank = matrix_shape(row), row.rank or 0
        if row.note:
            yield f"{row.name}: {row.note}."
        if rank > row.break_even_rank:
            yield (
                f"{row.name} has rank {rank}, above break-even ({row.break_even_rank}): {rank * (m + n):,} numbers in "
                f"two factors, {m * n:,} in the matrix. Factoring it saves nothing."
            )
        elif rank:
            saving[row.name] = m * n - rank * (m + n)
    if saving:
        yield f"The factors of {listed([*saving])} hold {sum(saving.values()):,} fewer numbers than the matrices."


def _loss(found: Findings) -> Iterator[str]:
    pair, (low, high) = found.test.comparison, found.test.comparison.interval
    if not pair.lost + pair.gained:
        yield f"None of {_on(found.test)} is right where it was wrong, or wrong where it was right."
        return
    yield f"Of {_on(found.test)} {pair.lost:,} were lost and {pair.gained:,} gained: {_paired(pair)}."
    if pair.p_value < CHANCE:
        yield f"This {'loss' if pair.difference < 0 else 'gain'} is beyond chance."
    else:
        yield (
            "This may be chance, which does not prove that nothing changed: anything from "
            f"{points(low)} to {points(high)} would fit."
        )
    lost = found.flips[found.flips["outcome"] == "lost"]["before_confidence"]
    if len(lost):
        yield f"For half of the lost images the baseline's confidence had been at most {percent(float(lost.median()))}."


def _agreement(found: Findings) -> Iterator[str]:
    """Two independent sets of images: the variances of the two differences add up."""
    pairs = found.validation.comparison, found.test.comparison
    half = hypot(*((pair.interval[1] - pair.interval[0]) / 2 for pair in pairs))
    apart = abs(pairs[0].difference - pairs[1].difference)
    if half == 0:
        yield f"The same holds for {_on(found.validation)}."
        return
    agree = "they agree" if apart <= half else "they do not agree, and test is to be believed"
    yield (
        f"On {_on(found.validation)} the change is {points(pairs[0].difference)}, {100 * apart:.2f} pp from that on "
        f"test. Chance alone keeps two such figures within {100 * half:.2f} pp, 95 times of 100: {agree}."
    )


def _by_class(found: Findings) -> Iterator[str]:
    def net(row: Row) -> int:
        return int(row["gained"]) - int(row["lost"])

    worst, best = min(found.changes, key=net), max(found.changes, key=net)
    yield _class_change(found, worst, "lost") if net(worst) < 0 else "No class lost more images than it gained."
    yield _class_change(found, best, "gained") if net(best) > 0 else "No class gained more images than it lost."
    yield "(The p of a class is ten times McNemar's, for the choice among ten classes.)"
    yield _mistake(found)


def _class_change(found: Findings, row: Row, what: str) -> str:
    p = min(1.0, len(found.changes) * Comparison(row["images"], row["lost"], row["gained"]).p_value)
    return (
        f"{row['class']} {what} most: recall {percent(row['before'])} before, {percent(row['after'])} after "
        f"({row['lost']:,} lost and {row['gained']:,} gained of {row['images']:,}), "
        f"{'beyond chance' if p < CHANCE else 'which may be chance'} ({_p(p)})."
    )


def _mistake(found: Findings) -> str:
    true, predicted, count = found.mistake
    text = f"The most frequent mistake on the test images is {true} taken for {predicted}, {count:,} times"
    before = int(found.test.baseline.confusion()[data.CLASSES.index(true), data.CLASSES.index(predicted)])
    return f"{text}; the baseline makes it {before:,} times." if found.steps else f"{text}."


def _speed(found: Findings) -> Iterator[str]:
    if len(found.files) > 1:
        smallest = min(found.files, key=lambda file: file["bytes"])
        yield f"The smallest file is {smallest['path']}, {size(smallest['bytes'])}."
    times: dict[int, dict[str, Row]] = {}
    for file in found.files:
        for own in file.get("latency", ()):
            times.setdefault(own["batch"], {})[file["path"]] = own
    for batch, taken in sorted(times.items()):
        yield from _fastest(batch, taken)
    yield from map(_without_folders, (found.verdict or {}).get("notes", ()))
    if quantizes(found.test.layers) and not times:
        least = min(row.bits for row in found.test.layers)
        how = f"nothing here computes in {least} bits" if least < 8 else "the packed file is computed in float32"
        yield f"Bits are not speed: fewer bits make a smaller file, but {how}."
    if found.test.sparsity:
        yield "Scattered zeros are not speed, either: they are multiplied like other numbers."


def _fastest(batch: int, taken: Mapping[str, Row]) -> Iterator[str]:
    ranking = sorted(taken, key=lambda path: float(taken[path]["median"]))
    if len(ranking) > 1:
        first, second = ranking[:2]
        times = microseconds(taken[first]["median"]), microseconds(taken[second]["median"])
        overlap = "" if taken[first]["upper"] < taken[second]["lower"] else ", and their quartiles overlap"
        images = "One image at a time" if batch == 1 else f"With {batch:,} images at once"
        yield f"{images}, {first} is fastest, {times[0]} µs per image; next is {second}, {times[1]} µs{overlap}."


def _conclusion(found: Findings) -> str:
    test, pair = found.test, found.test.comparison
    if not found.steps:
        accuracy = percent(test.evaluation.accuracy)
        return f"The baseline has {accuracy} of {_on(test)} right, in {size(test.bytes)}. {_checked(found)}"
    if not pair.lost + pair.gained:
        cost = "its test accuracy is that of the baseline"
    else:
        sure = "beyond chance" if pair.p_value < CHANCE else "which may be chance"
        cost = f"its test accuracy differs from the baseline's by {points(pair.difference)}, {sure}"
    inside = "within" if pair.difference >= -ALLOWANCE else "outside of"
    return (
        f"The file is {_ratio(test)} the float32 weights; {cost}. That is {inside} the one point that the course "
        f"allows to lose. {_checked(found)}"
    )


# How to repeat it


def _reproduce(found: Findings, link: str) -> list[Block]:
    config = found.test.config
    chosen = ["--baseline", found.name, *to_arguments(config), "--format", "packed,onnx,safetensors", "--report"]
    blocks: list[Block] = [
        Paragraph("From the project's folder this makes the files and this report again:"),
        Code(shlex.join(["python", "-m", "core", "export", *chosen, "--out", "DIR"])),
        Paragraph(
            "This link opens the same in the app:" if link else "In the app, this after its address opens the same:"
        ),
        Code(link or f"?{urlencode({'baseline': found.name, **to_query(config)})}"),
    ]
    if found.name not in SHIPPED:
        text = "The baseline does not come with the project: its file is needed; its SHA-256 sum is in the appendix."
        return [*blocks, Paragraph(text)]
    text = "The baseline comes with the project. It can be trained again:"
    return [*blocks, Paragraph(text), Code(f"python -m core train --baseline {found.name} --out DIR")]


def _appendix(found: Findings) -> list[Block]:
    config, recipe = found.test.config, found.baseline.info.get("recipe")
    seeds = [("split of the data", "0")]
    seeds += [("training of the baseline", str(recipe["seed"]))] if recipe else []
    seeds += [("training after compression", str(config.recovery.seed))] if config.recovery else []
    sums = [
        f"{found.baseline.sha256}  tensors of the baseline",
        *(f"{file['sha256']}  {file['path']}" for file in found.files),
    ]
    return [
        Heading("Versions", 2),
        Table("With what this report was made.", ("what", "version"), tuple(_versions(found))),
        Heading("Seeds", 2),
        Table("Of everything that is drawn at random.", ("what", "seed"), tuple(seeds)),
        Heading("SHA-256 sums", 2),
        Code("\n".join(sums)),
        Heading("Configuration", 2),
        Code(json.dumps(json.loads(config.to_json()), indent=2)),
    ]


def _versions(found: Findings) -> Iterator[tuple[str, str]]:
    yield "machine", platform.machine()
    yield "python", platform.python_version()
    for package in ("torch", "numpy", "onnx", "onnxruntime"):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for package, version in found.baseline.info.get("versions", {}).items():
        yield f"{package}, when the baseline was trained", version
