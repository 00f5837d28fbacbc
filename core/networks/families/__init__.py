"""Families of networks, a file for each: its shape for any images and classes, and how it is trained.

A file says FAMILY = Family(...), and is found here.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from core.config import ConfigError, TrainingConfig
from core.networks.graph import Network
from core.networks.operations import Shape


@dataclass(frozen=True)
class Family:
    """name : as `TrainingConfig.model` and the command line call it; title : its heading
    about : what it teaches, in one or two sentences
    build : (shape of an image, number of classes) -> the network
    recipes : by the name of what is trained; the first is the family's own
    """

    name: str
    title: str
    about: str
    build: Callable[[Shape, int], Network]
    recipes: Mapping[str, TrainingConfig]


@cache
def families() -> dict[str, Family]:
    """All that there are, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.FAMILY.name: module.FAMILY for module in modules}


def named(name: str) -> Family:
    """Raises ConfigError."""
    if name not in families():
        raise ConfigError(f"model must be one of {', '.join(families())}. Got {name!r} instead.")
    return families()[name]


def recipes() -> dict[str, TrainingConfig]:
    """How each baseline is trained that comes with the project, by its name."""
    return {name: recipe for family in families().values() for name, recipe in family.recipes.items()}


def mirrors(model: str) -> bool:
    """Whether images are mirrored when a compressed network of this family is trained: as when that was."""
    family = families().get(model)
    return family is not None and next(iter(family.recipes.values())).flips
