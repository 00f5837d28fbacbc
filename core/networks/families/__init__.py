"""Families of networks, a file for each: its shape for any images and classes, and how it is trained.

A file says FAMILY = Family(...), and is found here.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from core.config import ConfigError, TrainingConfig, Widths, widths_in_text
from core.datasets import Dataset, shipped
from core.networks.graph import Network
from core.networks.operations import NetworkError, Shape


@dataclass(frozen=True)
class Family:
    """name : as `TrainingConfig.model` and the command line call it; title : its heading
    about : what it teaches, in one or two sentences
    widths : of its layers, stage by stage; how many stages and what they are, its file says
    planned : (shape of an image, number of classes, widths) -> the network
    recipes : by the name of what is trained; the first is the family's own
    """

    name: str
    title: str
    about: str
    widths: Widths
    planned: Callable[[Shape, int, Widths], Network]
    recipes: Mapping[str, TrainingConfig]

    def build(self, shape: Shape, classes: int, widths: Widths = ()) -> Network:
        """The network for images of a shape; of its own widths where none are said. Raises ConfigError for widths that
        it cannot have, or that such small images leave no room for."""
        wanted = widths or self.widths
        try:
            return self.planned(shape, classes, wanted)
        except (NetworkError, ValueError) as error:
            raise ConfigError(
                f"widths of {self.name} must be like {widths_in_text(self.widths)} and fit images of {shape}. Got "
                f"{widths_in_text(wanted)} instead: {error}"
            ) from None


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


def own_widths(model: str) -> str:
    """Of a family, as text. Raises ConfigError."""
    return widths_in_text(named(model).widths)


def titles() -> dict[str, str]:
    """The heading of each family, by its name."""
    return {name: family.title for name, family in families().items()}


def recipes() -> dict[str, TrainingConfig]:
    """How each baseline is trained that comes with the project, by its name."""
    return {name: recipe for family in families().values() for name, recipe in family.recipes.items()}


def recipe_for(recipe: TrainingConfig, dataset: Dataset) -> TrainingConfig:
    """The same for other images, which are mirrored only where that shows the same thing."""
    return replace(recipe, data=dataset.name, flips=recipe.flips and dataset.mirrors)


def mirrors(model: str, data: str) -> bool:
    """Whether images are mirrored when a compressed network of this family is trained: as when that was, where a
    mirror image of this data set shows the same thing."""
    family, dataset = families().get(model), shipped().get(data)
    if family is None or dataset is None or not dataset.mirrors:
        return False
    return next(iter(family.recipes.values())).flips
