"""What the workbench answers about one configuration, before a word of the report is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.bench.results import ExportVerdict
from core.bench.workbench import NotRecovered, Result, UnknownBaseline, Workbench
from core.config import CompressionConfig
from core.datasets import Dataset, SplitName
from core.document.blocks import Figure
from core.document.steps import Step, Subject
from core.formats.artifact import CheckedFile
from core.measuring import training
from core.networks import families
from core.networks.models import Baseline
from core.report.plots import Picture
from core.report.wording import Row
from core.settings import techniques

SHOWN_FLIPS = 12

Choice = tuple[str, CompressionConfig]
"""Name of a baseline, and what is done to it."""


@dataclass(frozen=True, eq=False)
class Pin:
    """A pinned configuration. title : of its baseline; result : on validation, None where it was not trained here."""

    title: str
    config: CompressionConfig
    result: Result | None


@dataclass(frozen=True, eq=False)
class Findings:
    """What the workbench answered. name : of the baseline, for a command
    dataset : that it was made for; counts : images of its splits; whole : the baseline on the test images
    confusion, confusion_before, changes (of classes), flips : on the test images
    mistake : the most frequent one there, true and predicted class and how often; pictures : of the first flips;
    verdict : of the export, None where there was none"""

    name: str
    title: str
    baseline: Baseline
    dataset: Dataset
    counts: Mapping[str, int]
    validation: Result
    test: Result
    whole: Result
    steps: list[Step]
    history: list[dict[str, float]] | None
    kept: tuple[int | None, int | None]
    sizes: Mapping[str, float]
    confusion: pd.DataFrame
    confusion_before: pd.DataFrame
    changes: pd.DataFrame
    flips: pd.DataFrame
    pictures: Any
    mistake: tuple[str, str, int]
    verdict: ExportVerdict | None
    pins: tuple[Pin, ...]

    @property
    def files(self) -> list[CheckedFile]:
        """Of the export, without the folders of this machine."""
        files = () if self.verdict is None else self.verdict.files
        return [replace(file, path=Path(file.path).name) for file in files]


def ask(bench: Workbench, choice: Choice, verdict: ExportVerdict | None, pins: Sequence[Choice] = ()) -> Findings:
    """Everything that the report is made from; what was measured before comes from the cache."""
    name, config = choice
    validation, test, baseline = bench.evaluate(*choice), bench.evaluate(*choice, "test"), bench.baseline(name)
    energy = bench.outline(*choice).energy if any(row.rank for row in test.layers) else {}
    dataset = bench.dataset(name)
    splits: tuple[SplitName, ...] = ("validation", "calibration", "test")
    mirrored = families.mirrors(baseline.model, dataset.name)
    counts: dict[str, int] = {split: len(bench.datasets.split(baseline.images, split)) for split in splits}
    kept = bench.kept_epoch(*choice) if config.recovery else None
    learned = config.recovery is not None and kept != 0
    subject = Subject(
        config, baseline.model, test.layers, energy, training.TEMPERATURE, mirrored, counts["calibration"], learned
    )
    whole, flips = bench.evaluate(name, CompressionConfig(), "test"), bench.flips(test)
    return Findings(
        name=Path(name).name,
        title=title_of(bench, name),
        baseline=baseline,
        dataset=dataset,
        counts=counts,
        validation=validation,
        test=test,
        whole=whole,
        steps=[step for technique in techniques() for step in technique.steps(subject)],
        history=bench.history(*choice) if config.recovery else None,
        kept=(baseline.info.get("best_epoch"), kept),
        sizes=bench.sizes(test) if verdict is None else verdict.sizes,
        confusion=bench.confusion(test),
        confusion_before=bench.confusion(whole),
        changes=bench.class_changes(test),
        flips=flips,
        pictures=bench.images(name, "test", flips["index"].head(SHOWN_FLIPS).tolist()),
        mistake=bench.most_confused(test),
        verdict=verdict,
        pins=tuple(_pinned(bench, *pin) for pin in pins),
    )


def title_of(bench: Workbench, name: str) -> str:
    """Of a baseline; a file's name without its folders."""
    return Path(name).name if name.endswith(".safetensors") else bench.title(name)


def _pinned(bench: Workbench, name: str, config: CompressionConfig) -> Pin:
    try:
        return Pin(title_of(bench, name), config, bench.evaluate(name, config))
    except (NotRecovered, UnknownBaseline):
        return Pin(title_of(bench, name), config, None)


def records(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def figure(name: str, caption: str, alt: str, drawn: Picture) -> Figure:
    return Figure(name, caption, alt, drawn.svg, drawn.png)
