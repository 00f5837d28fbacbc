"""Places worth a visit: the scenarios of the course, one click away."""

from dataclasses import replace

from core.config import CompressionConfig, LayerConfig
from core.studies.assignment import ITERATIVE, alike, iterative
from pages.choice.state import START, Choice


def _middle(rank: int) -> CompressionConfig:
    """The report factors the middle one of its three hidden layers."""
    return CompressionConfig(layers={"fc2": LayerConfig(rank=rank)})


EXAMPLE = "70 % sparse, 6 bits"
"""The setting with which a person begins, `START`."""

PRESETS: dict[str, Choice] = {
    f"Example: CNN, {EXAMPLE}": Choice("cnn", START),
    "CNN as trained": Choice("cnn", CompressionConfig()),
    "Assignment: one-shot pruning, 80 %": Choice("cnn", CompressionConfig(sparsity=0.8)),
    "Assignment: iterative pruning, 97.5 %": Choice("cnn", replace(ITERATIVE, sparsity=0.975, recovery=iterative(8))),
    "Assignment: 8 bits": Choice("cnn", alike(8)),
    "Assignment: 6 bits": Choice("cnn", alike(6)),
    "Assignment: 4 bits": Choice("cnn", alike(4)),
    "Assignment: 2 bits": Choice("cnn", alike(2)),
    "3 bits, clipped and rounded by GPTQ": Choice("cnn", alike(3, "+ GPTQ")),
    "Report: MLP as trained": Choice("mlp-course", CompressionConfig()),
    "Report: 50 % of fc2's rank removed": Choice("mlp-course", _middle(256)),
    "Report: 80 % of fc2's rank removed": Choice("mlp-course", _middle(102)),
}
"""Name -> baseline and configuration."""
