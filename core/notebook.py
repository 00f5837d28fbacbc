"""A person's own network in a notebook: `core.open_network(module)`, then what-ifs as a table and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from core.bench.arrivals import Known, summary
from core.bench.workbench import Result, Workbench
from core.config import CompressionConfig, ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("accuracy", "difference", "bytes", "compression_ratio", "parameters", "nonzero", "sparsity")
"""Of a table: fractions, bytes, counts."""


class OpenNetwork:
    """A network that came in, and the workbench that measures it. name : by which the workbench knows it"""

    def __init__(self, bench: Workbench, name: str) -> None:
        self.bench, self.name = bench, name

    def __repr__(self) -> str:
        return summary(self.bench.baseline(self.name)) or self.bench.title(self.name)

    @property
    def layers(self) -> list[str]:
        """Names of the layers that rank, sparsity, bits and channels are set for."""
        return [layer.name for layer in self.bench.profile(self.name).layers]

    def evaluate(self, config: CompressionConfig | None = None, split: Any = "validation", **settings: Any) -> Result:
        """Measure a configuration, `evaluate(sparsity=0.5, bits=4)`; trained first where it has a recovery.

        Raises ConfigError, DataError.
        """
        config = CompressionConfig(**settings) if config is None else config
        if config.recovery is not None:
            self.bench.recover(self.name, config)
        return self.bench.evaluate(self.name, config, split)

    def table(self, configs: Mapping[str, CompressionConfig] | Sequence[CompressionConfig]) -> pd.DataFrame:
        """A row for each: accuracy on validation, its difference, bytes of the packed file, ratio. The same errors."""
        named = configs if isinstance(configs, Mapping) else {f"{place}": own for place, own in enumerate(configs, 1)}
        rows = {}
        for name, config in named.items():
            result = self.evaluate(config)
            values = result.evaluation.accuracy, result.comparison.difference, result.bytes, result.compression_ratio
            rows[name] = dict(zip(COLUMNS, (*values, result.parameters, result.nonzero, result.sparsity), strict=True))
        return pd.DataFrame.from_dict(rows, orient="index")

    def chart(self, table: pd.DataFrame) -> Axes:
        """Accuracy in percent against kilobytes, a point for each row of `table`; the network itself as a line."""
        from matplotlib import pyplot

        figure, axes = pyplot.subplots()
        kilobytes, percents = table["bytes"] / 1024, 100 * table["accuracy"]
        axes.scatter(kilobytes, percents)
        for name, x, y in zip(table.index, kilobytes, percents, strict=True):
            axes.annotate(str(name), (x, y), xytext=(4, 4), textcoords="offset points")
        whole = 100 * self.bench.evaluate(self.name, CompressionConfig()).evaluation.accuracy
        axes.axhline(whole, linestyle="--", linewidth=1, label=f"before compression, {whole:.2f} %")
        axes.set(xlabel="packed file, KB", ylabel="accuracy on validation, %", xscale="log")
        axes.legend()
        figure.tight_layout()
        return axes

    def export(self, config: CompressionConfig, directory: str | Path) -> Any:
        """Write the files, and verify each in a process of its own; the verdict. Raises OSError, NotRecovered."""
        return self.bench.export(self.name, config, Path(directory))


def open_network(
    network: nn.Module | str | Path, data: str = "fashion-mnist", *, weights: str | Path | None = None,
    scale: str | None = None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
    pool: str | None = None, activation: str | None = None, name: str = "mine", bench: Workbench | None = None,
) -> OpenNetwork:  # fmt: skip
    """Open a network of one's own.

    network : a PyTorch module with its weights; or the path of an ONNX file, of a state dict, of one of our
        safetensors files, or "FILE.py:NAME" with `weights`
    data : name of the images that it was made for; scale, mean, std : what it sees of a pixel, measured if not given
    pool, activation : of a state dict alone

    Raises BaselineError, DataError, ConfigError with the cause and the way out.
    """
    bench = Workbench() if bench is None else bench
    known = Known(data, scale, mean, std, pool, activation)
    if isinstance(network, nn.Module):
        baseline = bench.arrivals.from_module(network, name, known)
    elif str(network).endswith(".safetensors"):
        if known != Known() or weights is not None:
            raise ConfigError("A safetensors file of ours says its images and scaling itself: give it alone.")
        return OpenNetwork(bench, bench.load_file(Path(network).read_bytes(), Path(network).name))
    else:
        path = None if weights is None else Path(weights)
        baseline = bench.arrivals.from_file(str(network), path, name, known)
    return OpenNetwork(bench, bench.add_baseline(baseline, name, "loaded"))
