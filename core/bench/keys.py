"""Keys of the cache: each is a hash of everything that its result relies on, so that a result is never another's: the
baseline's weights, the configuration, the images, the methods' constants and versions.
"""

import json
from typing import Any

from core.bench import reliance
from core.bench.results import Profile
from core.config import CompressionConfig
from core.datasets import Images, SplitName
from core.machinery.store import key_of
from core.measuring import training
from core.networks.models import Baseline
from core.settings import techniques


def recovery(baseline: Baseline | Profile, config: CompressionConfig) -> str:
    """Of the tensors that the training after compression produced, whatever is done to them afterwards."""
    config = config.as_trained()
    recipe = None if config.recovery is None else training.recipe(config.recovery, baseline.model, baseline.images.data)
    methods = _methods(config, baseline.images)
    if baseline.teacher and config.recovery is not None and config.recovery.distillation:
        methods |= {"teacher": baseline.teacher}
    methods |= reliance.recoveries(config.recovery)
    about = {"baseline": baseline.sha256, "config": json.loads(config.to_json()), "methods": methods}
    return key_of(
        "recovered", training=None if recipe is None else reliance.trainings(recipe, baseline.images), **about
    )


def measurement(baseline: Baseline | Profile, config: CompressionConfig, split: SplitName, trained: str | None) -> str:
    """trained : digest of what a training left, None without one"""
    about = {"baseline": baseline.sha256, "config": json.loads(config.to_json()), "trained": trained}
    methods = _methods(config, baseline.images) | reliance.files()
    return key_of("evaluation", split=split, methods=methods, **about)


def _methods(config: CompressionConfig, images: Images) -> dict[str, Any]:
    own = reliance.networks(images) | reliance.codes(config)
    return own | reliance.versions(each for each in techniques() if each.used(config))


def point(measured: str) -> str:
    """Of a measurement's `Point`, by the key of the measurement."""
    return f"point/{measured}"
