"""The report to hand in: what was done, what was measured, what that says, how to repeat it.

Every figure in it was measured by the workbench or in a laboratory, or follows from the configuration in closed form;
sentences are chosen by the figures. `core.report.document` turns it into HTML, Markdown and DOCX.
"""

from collections.abc import Sequence

from core.bench.results import ExportVerdict
from core.bench.workbench import Workbench
from core.config import CompressionConfig, TrainingConfig
from core.document.blocks import NOBODY, Block, Formula, Heading, Paragraph, Report, TitleBlock, numbered
from core.report import laboratory, results, weighing
from core.report.analysis import abstract, analysis, conclusion
from core.report.appendix import appendix, reproduce
from core.report.findings import Choice, Findings, ask
from core.report.references import references
from core.report.wording import Row, listed, shape, size
from core.words import counted


def build(
    bench: Workbench,
    name: str,
    config: CompressionConfig,
    verdict: ExportVerdict | None,
    link: str = "",
    pins: Sequence[Choice] = (),
    head: TitleBlock = NOBODY,
) -> Report:
    """The report of a baseline, its laboratories, what was pinned, and a configuration of it, the final model. It opens
    the test images, as the verdict of an export does.

    verdict : of the export of this configuration, None where nothing was exported
    link : opens this configuration in the app; without it the report shows what follows the app's address
    head : who hands it in
    Raises UnknownBaseline, ConfigError, NotRecovered.
    """
    findings = ask(bench, (name, config), verdict, pins)
    done = [*_data(findings), *_baseline(findings)]
    for step in findings.steps:
        done += [Heading(step.heading, 2), *step.blocks]
    sections: dict[str, list[Block]] = {
        "Abstract": [Paragraph(abstract(findings))],
        "What was done": done,
        "Results": _results(bench, name, findings),
        "Analysis": [Paragraph(text) for text in analysis(findings)],
        "Conclusion": [Paragraph(conclusion(findings))],
        "How to reproduce": reproduce(findings, link),
    }
    sections["References"] = references(block for blocks in sections.values() for block in blocks)
    sections["Appendix"] = appendix(findings)
    everything = [block for heading, blocks in sections.items() for block in (Heading(heading), *blocks)]
    return Report(f"Compression of a neural network: {findings.title}", numbered(everything), head)


def _results(bench: Workbench, name: str, findings: Findings) -> list[Block]:
    made = [*results.baseline(findings), *laboratory.parts(bench, name, findings), *results.accuracy(findings)]
    made += [*weighing.drawn(findings), *weighing.in_theory(findings), *weighing.counted(findings)]
    return [
        *made,
        *results.curves(findings),
        *results.classes(findings),
        *results.flipped(findings),
        *results.files(findings),
    ]


def _data(findings: Findings) -> list[Block]:
    dataset, counts, (_, height, width) = findings.dataset, findings.counts, findings.dataset.shape
    (mean, *others), (deviation, *_) = findings.baseline.images.scaling
    source = f" ({dataset.source})" if dataset.source else ""
    pixels = f"{height} × {width} pixels" if height > 1 else f"signals of {width} numbers"
    about = dataset.about or ("pictures" if height > 1 else "signals")
    each = " Mean and deviation are those of the first channel; the others have their own." if others else ""
    return [
        Heading("Data", 2),
        Paragraph(
            f"{dataset.title}{source}: {about}, {pixels} of 8 bits. Of its "
            f"training images {counts['validation']:,} are set aside for validation, stratified, with seed 0; the "
            f"others train. Methods that need to know real inputs see a fixed {counts['calibration']:,} of these. "
            f"Settings are chosen on the validation images; the {counts['test']:,} test images are opened for the "
            f"verdict.{each}"
        ),
        Formula(rf"x = \frac{{\text{{pixel}} / 255 - {mean:.7g}}}{{{deviation:.7g}}}"),
    ]


def _baseline(findings: Findings) -> list[Block]:
    shapes = [f"{layer.name} {shape(layer.shape)}" for layer in findings.baseline.layers]
    what = (
        f"{findings.title} has {findings.baseline.parameters:,} weights and biases, {size(findings.baseline.bytes)} in "
        f"float32. Its weights: {listed(shapes)}."
    )
    recipe = "Nothing is known of its training."
    if "recipe" in findings.baseline.info:
        recipe = _recipe(findings.baseline.info, TrainingConfig(**findings.baseline.info["recipe"]))
    return [Heading("Baseline", 2), Paragraph(f"{what} {recipe}")]


def _recipe(info: Row, recipe: TrainingConfig) -> str:
    optimizer = "Adam" if recipe.optimizer == "adam" else "SGD (Nesterov momentum 0.9, one-cycle learning rate)"
    taught = f", taught by {recipe.teacher}" if recipe.teacher else ""
    return (
        f"It was trained on {info['training_images']:,} images for {counted(recipe.epochs, 'epoch')} by {optimizer}: "
        f"batch {recipe.batch_size}, learning rate {recipe.learning_rate:g}, weight decay {recipe.weight_decay:g}, "
        f"label smoothing {recipe.label_smoothing:g}, dropout {recipe.dropout:g}, {recipe.augmentation or 'no flips'}, "
        f"seed {recipe.seed}{taught}. Epoch {info['best_epoch']}, the best on validation, is kept."
    )
