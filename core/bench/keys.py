"""Keys of the cache: each is a hash of everything that its result relies on, so that a result is never another's: the
baseline's weights, the configuration, the images, the methods' constants and versions.
"""

import json
from typing import Any

from core.bench import reliance
from core.bench.results import Profile
from core.config import CompressionConfig
from core.datasets.fashion_mnist import SplitName
from core.machinery.store import key_of
from core.measuring import training
from core.networks.models import Baseline
from core.settings import techniques


def recovery(baseline: Baseline | Profile, config: CompressionConfig) -> str:
    """Of the tensors that the training after compression produced."""
    recipe = None if config.recovery is None else training.recipe(config.recovery, baseline.model)
    about = {"baseline": baseline.sha256, "config": json.loads(config.to_json()), "methods": _methods(config)}
    return key_of("recovered", training=None if recipe is None else reliance.trainings(recipe), **about)


def measurement(sha256: str, config: CompressionConfig, split: SplitName, trained: str | None) -> str:
    """sha256 : of the baseline's weights; trained : digest of what a training left, None without one"""
    about = {"baseline": sha256, "config": json.loads(config.to_json()), "trained": trained}
    return key_of("evaluation", split=split, methods=_methods(config) | reliance.files(), **about)


def _methods(config: CompressionConfig) -> dict[str, Any]:
    return reliance.networks() | reliance.versions(each for each in techniques() if each.used(config))


def point(measured: str) -> str:
    """Of a measurement's `Point`, by the key of the measurement."""
    return f"point/{measured}"
