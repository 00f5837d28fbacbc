"""Exports: files of a network, each read again in a process of its own."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.bench import views
from core.bench.baselines import Baselines
from core.bench.measurements import Measurements
from core.bench.networks import Networks
from core.bench.results import Export, ExportVerdict, Result
from core.config import FORMATS, CompressionConfig
from core.datasets import Datasets
from core.formats import artifact, footprint
from core.formats.artifact import VERIFIED_FILE
from core.machinery.files import sha256, trim, write_atomically
from core.measuring import evaluation
from core.networks.inference import predicted
from core.networks.stored import StoredNetwork

EXPORTS_BYTES = 500 * 2**20
"""Of exports that are kept; those that were looked at longest ago go."""


class Exports:
    """root : the folder of those that a page offers"""

    def __init__(
        self, root: Path, baselines: Baselines, networks: Networks, measurements: Measurements, datasets: Datasets
    ) -> None:
        self.root, self.baselines, self.networks, self.measurements = root, baselines, networks, measurements
        self.datasets = datasets

    def export(
        self,
        name: str,
        config: CompressionConfig,
        directory: Path,
        formats: Sequence[str] = FORMATS,
        say: Callable[[str, float], None] = lambda text, done: None,
    ) -> ExportVerdict:
        """Write the network in these formats; each file is read in a process of its own and run over the test images.

        Raises NotRecovered, OSError where the disk refuses, ValueError for an unknown format.
        """
        network = self.networks.network(name, config)
        promise, test = self._promise(name, config, network)
        if directory.parent == self.root:  # nobody's but ours, whatever was left of an earlier try
            shutil.rmtree(directory, ignore_errors=True)
        notes = artifact.write(network, directory, promise, formats)
        read = artifact.verify(directory, self.datasets, say)
        sizes = views.sizes(test)
        if (directory / "network.safetensors").is_file():
            content = zlib.compress((directory / "network.safetensors").read_bytes(), 9)
            sizes["zip of the safetensors file"] = len(content)
        sizes |= {file.path: file.bytes for file in read.files if file.format != "packed"}
        verdict = ExportVerdict(
            read.ok, read.split, read.images, read.files, (*notes, *read.notes), test.baseline.accuracy, sizes
        )
        write_atomically(directory / VERIFIED_FILE, json.dumps(verdict.to_dict()).encode())
        return verdict

    def _promise(self, name: str, config: CompressionConfig, network: StoredNetwork) -> tuple[artifact.Promise, Result]:
        """What its files must answer, and the result on the test images."""
        split = self.datasets.split(network.images, "test")
        logits, ties = evaluation.logits(network, split), evaluation.rounding_ties(network, split)
        test = self.measurements.evaluate(name, config, "test")
        same = np.array_equal(predicted(logits), test.evaluation.predictions.numpy())
        if not same or test.footprint != footprint.footprint(network):  # measured with other versions of the libraries
            self.measurements.forget(name, config)
            test = self.measurements.evaluate(name, config, "test")
        validation = self.measurements.evaluate(name, config)
        title = self.datasets.named(network.images.data).title
        measured = validation.evaluation, test.evaluation, test.baseline
        return artifact.Promise(split, *measured, logits, ties, title), test

    def export_folder(self, name: str, config: CompressionConfig) -> Path:
        """Where the page keeps the export of a configuration."""
        return self.root / self.measurements.key(self.baselines.get(name), config, "test")[:16]

    def exported(self, name: str, config: CompressionConfig) -> Export | None:
        """The export of a configuration with its verdict, if it was made here and its files are still the same."""
        folder = self.export_folder(name, config)
        try:
            verdict = ExportVerdict.from_dict(json.loads((folder / VERIFIED_FILE).read_text()))
            same = all(sha256((folder / file.path).read_bytes()) == file.sha256 for file in verdict.files)
            os.utime(folder)  # it was looked at
            return Export(folder, verdict) if same and verdict.files else None
        except (OSError, ValueError):  # it is not there, or is damaged
            return None

    def delete(self, name: str, config: CompressionConfig) -> None:
        shutil.rmtree(self.export_folder(name, config), ignore_errors=True)

    def trim(self) -> None:
        """Delete those that were looked at longest ago, where all together are too large."""
        trim(self.root, EXPORTS_BYTES)
