"""What can be chosen, and by which technique: each setting is declared once. Standard library only.

From a declaration come the check of a value, its JSON, its name in a link, its command line option, its control on the
screen and the words that say it. A technique is a file in `core/techniques` with one `TECHNIQUE`; it is found there, or
in a folder that the variable `EXPLORER_TECHNIQUES` names, and nothing else lists techniques.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.words import percent

if TYPE_CHECKING:
    from core.config import CompressionConfig
    from core.document.steps import Step, Subject
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.trainable import CompressedNetwork

FOLDERS = "EXPLORER_TECHNIQUES"
"""The variable that names folders with further techniques, separated as in PATH."""


FLOAT_BITS = 32
"""Bits of a weight that is not quantized (IEEE single precision)."""

DENSE = 0
"""The rank that says: this layer is not factored, whatever the whole network does."""


class ConfigError(ValueError):
    """A setting outside its range; the message names the setting, the range and the value received."""


class Kind(ABC):
    """What values a setting may have, and how they are written as short text."""

    takes_value: ClassVar[bool] = True
    """Whether its option is followed by a value."""

    @abstractmethod
    def checked(self, name: str, value: Any) -> Any:
        """The value as it is kept. Raises ConfigError."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """The inverse of `written`. Raises ValueError or KeyError."""

    def written(self, value: Any) -> str:
        return repr(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Share(Kind):
    """A number in [0, 1], without 0 or without 1 where that end is open."""

    low_open: bool = False
    high_open: bool = False

    def checked(self, name: str, value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            above = value > 0 if self.low_open else value >= 0
            if above and (value < 1 if self.high_open else value <= 1):
                return value + 0.0  # a float, and never -0.0
        span = f"{'(' if self.low_open else '['}0, 1{')' if self.high_open else ']'}"
        raise ConfigError(f"{name} must be a number in {span}. Got {value!r} instead.")

    def read(self, text: str) -> float:
        return float(text)


@dataclass(frozen=True)
class Whole(Kind):
    """An integer from `low` to `high` (without end: None), or one of `also`. shown : where its control may stand, if
    not at all of these"""

    low: int
    high: int | None = None
    also: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()

    def checked(self, name: str, value: Any) -> int:
        within = isinstance(value, int) and value >= self.low and (self.high is None or value <= self.high)
        if not isinstance(value, bool) and (within or value in self.also):
            return int(value)
        span = f"at least {self.low}" if self.high is None else f"in [{self.low}, {self.high}]"
        extra = f" or {' or '.join(map(str, self.also))}" if self.also else ""
        raise ConfigError(f"{name} must be an integer {span}{extra}. Got {value!r} instead.")

    def read(self, text: str) -> int:
        return int(text)


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words. labels : by word, what the field calls it"""

    labels: Mapping[str, str]

    def __hash__(self) -> int:
        return hash(tuple(self.labels))

    def checked(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.labels:
            raise ConfigError(f"{name} must be one of {', '.join(self.labels)}. Got {value!r} instead.")
        return value

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Switch(Kind):
    """True or False."""

    takes_value: ClassVar[bool] = False

    def checked(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false. Got {value!r} instead.")
        return value

    def read(self, text: str) -> bool:
        return {"1": True, "0": False}[text]

    def written(self, value: Any) -> str:
        return str(int(value))


@dataclass(frozen=True)
class Number(Kind):
    """A number in (0, high]."""

    high: float

    def checked(self, name: str, value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= self.high:
            return value + 0.0
        raise ConfigError(f"{name} must be a number in (0, {self.high:g}]. Got {value!r} instead.")

    def read(self, text: str) -> float:
        return float(text)


@dataclass(frozen=True)
class Weight(Kind):
    """A number in [0, high], of which 0 is nothing. shown : where its control may stand"""

    high: float
    shown: tuple[float, ...] = ()

    def checked(self, name: str, value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= self.high:
            return value + 0.0
        raise ConfigError(f"{name} must be a number in [0, {self.high:g}]. Got {value!r} instead.")

    def read(self, text: str) -> float:
        return float(text)


@dataclass(frozen=True)
class Sum(Kind):
    """The SHA-256 sum of a network, or how it begins, in hexadecimal digits; "" for none."""

    def checked(self, name: str, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"([0-9a-f]{8,64})?", value):
            return value
        raise ConfigError(f"{name} must be the SHA-256 sum of a network, its first 8 digits or more. Got {value!r}.")

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Setting:
    """One thing that can be chosen.

    name : in Python and in JSON
    label : the field's standard term, above its control
    said : the value within a sentence, "sparsity 70 %"
    usage : help of the command line option; metavar : what stands for its value there
    help : behind the "?" of the control: what it does, its formula, what to expect
    default : `None` means "as in the network", where the kind has no better one
    link : its name in a link; option : on the command line, where it is not "--link"
    place : of its control: "main" sliders, "beside" them, "finer" ones, or "training"; "" for a layer's
    about : its name in a message, where that is not `name`
    later : came after the first version: its default is left out of JSON, so that keys made before still hold
    order : of its control among those of the place; equal ones stand as their techniques act
    """

    name: str
    kind: Kind
    label: str
    said: Callable[[Any], str] = field(compare=False)
    usage: str = ""
    help: str = ""
    default: Any = None
    link: str = ""
    option: str = ""
    metavar: str = ""
    place: Literal["main", "beside", "finer", "training", ""] = ""
    about: str = ""
    later: bool = False
    order: int = 0

    @property
    def key(self) -> str:
        """Its name in a link."""
        return self.link or self.name

    @property
    def argument(self) -> str:
        """Its option on the command line."""
        return self.option or f"--{self.key}"

    def checked(self, value: Any) -> Any:
        """The value as it is kept; None where nothing has to be chosen. Raises ConfigError."""
        return None if value is None and self.default is None else self.kind.checked(self.about or self.name, value)

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(self.labels)

    @property
    def labels(self) -> Mapping[str, str]:
        """What the field calls each choice; nothing where there are none."""
        return self.kind.labels if isinstance(self.kind, Choice) else {}


def label(name: str, value: str) -> str:
    """What the field calls this choice of a setting."""
    return named(name).labels[value]


def lower_first(label: str) -> str:
    """A label within a sentence; what is written in capitals stays so."""
    return label if label[:2].isupper() or label[1:2].isdigit() else label[:1].lower() + label[1:]


def shares(words: str) -> Callable[[float], str]:
    """ "sparsity" -> 0.7 -> "sparsity 70 %" """
    return lambda value: f"{words} {percent(value)}"


def among(words: str, labels: Mapping[str, str]) -> Callable[[str], str]:
    """ "scope {}" -> "layer" -> "scope layer-wise" """
    return lambda value: words.format(lower_first(labels[value]))


class Technique(ABC):
    """One way of making a network smaller, or better afterwards.

    name : as a search and Compare call it; title : the field's term, as a heading
    order : techniques act in this order; stage : what they change, and so when they act in a training that prunes
        iteratively: "structure" before it, "gradual" again and again during its first part, "grids" once after that;
        "training" is the training itself; "after" comes last, after a training, too, which knows nothing of it
    settings : of the whole network; of_layer : what one layer may do differently
    chooses : of what `choices` says, the names without their layers
    searched : whether a search uses it where nobody says which ones it may use
    alone : whether it takes bytes away where no other one is used
    version : another one where it does something else than before, so that results of before are not taken for its own;
        of one from a folder, the sum of its file
    """

    name: str
    title: str
    order: int
    stage: Literal["structure", "gradual", "grids", "training", "after"]
    settings: tuple[Setting, ...] = ()
    of_layer: Setting | None = None
    chooses: tuple[str, ...] = ()
    searched: bool = True
    alone: bool = True
    version: str = ""

    @abstractmethod
    def used(self, config: CompressionConfig) -> bool:
        """Whether the configuration asks for it."""

    def shrinks(self, config: CompressionConfig) -> bool:
        """Whether it takes bytes away."""
        return self.used(config)

    def touched(self, config: CompressionConfig, network: Network) -> list[str]:
        """Layers whose weights it changes one by one; what that takes of memory is checked."""
        return []

    def check(self, config: CompressionConfig, network: Network) -> None:  # noqa: B027
        """Raise ConfigError for what this network cannot have."""

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterable[tuple[str, list[str], str]]:
        """Settings that need to know a layer's inputs: in words, of which layers, and what to choose instead."""
        return ()

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """What it does to the network, which it may change in place."""
        return network

    def steps(self, subject: Subject) -> Iterable[Step]:
        """What it did, for a report: with its formula and its source; nothing where it did nothing."""
        return ()

    def always(self, inputs_known: bool) -> dict[str, Any]:
        """Settings that every trial of a search has: those that cost no bytes."""
        return {}

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        """What a search may choose, by name, "KIND" or "KIND LAYER"; a choice may depend on those before it.

        inputs_known : whether statistics of the layers' inputs can be had
        """
        return {}

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        """Whether this choice applies, given those before it: a conditional parameter."""
        return True

    def chosen(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the whole network that such choices mean."""
        return {}

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> Any:
        """The setting of a layer that they mean; None as in the network."""
        return None


@dataclass(frozen=True)
class Steps:
    """A search may choose a whole number from low to high. begin : where it begins that did not count before"""

    low: int
    high: int
    begin: int | None = None


@dataclass(frozen=True)
class Scale:
    """A search may choose a number from low to high, by its logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Moment:
    """Where in its making a network is.

    pruning_progress : the share of its pruning that was reached, in [0, 1]
    learns_steps : whether a training is about to learn the step sizes of its grids (LSQ)
    """

    pruning_progress: float = 1.0
    learns_steps: bool = False


Choices = tuple[Any, ...] | Steps | Scale
"""Of what a search chooses one."""


@cache
def techniques() -> tuple[Technique, ...]:
    """All that there are, in the order in which they act. Raises ImportError for a file that says none, or says twice
    what stands already."""
    every = sorted([*shipped(), *map(_loaded, _further())], key=lambda technique: technique.order)
    for what, said in _said(every).items():
        twice = [name for name, count in Counter(said).items() if count > 1]
        if twice:
            raise ImportError(f"{what} must differ between techniques. Got {', '.join(twice)} twice instead.")
    return tuple(every)


def shipped() -> list[Technique]:
    """Those of the project itself."""
    package = importlib.import_module("core.techniques")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"core.techniques.{name}").TECHNIQUE for name in names]


def _said(every: Sequence[Technique]) -> dict[str, list[str]]:
    """What one name must mean one thing of."""
    whole = [setting for technique in every for setting in technique.settings]
    return {
        "Names of techniques": [technique.name for technique in every],
        "Names of settings": [setting.name for setting in whole],
        "Names in a link": [setting.key for setting in whole],
        "Settings of a layer": [technique.of_layer.name for technique in every if technique.of_layer is not None],
        "Options": [setting.argument for setting in whole],
        "What a search may choose": [kind for technique in every for kind in technique.chooses],
    }


def _further() -> Iterator[Path]:
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        yield from sorted(Path(folder).glob("*.py"))


def _loaded(path: Path) -> Technique:
    """The technique of a file outside the project."""
    name = f"further_techniques.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    technique = getattr(module, "TECHNIQUE", None)
    if not isinstance(technique, Technique):
        raise ImportError(f"{path} must say TECHNIQUE = ..., a `core.settings.Technique`.")
    technique.version = sha256(path.read_bytes()).hexdigest()
    return technique


def of_network() -> tuple[Setting, ...]:
    """Settings of the whole network, technique by technique; not those of a training afterwards."""
    return tuple(setting for each in techniques() if each.stage != "training" for setting in each.settings)


def of_layer() -> tuple[Setting, ...]:
    """What one layer may do differently."""
    return tuple(each.of_layer for each in techniques() if each.of_layer is not None)


def of_training() -> tuple[Setting, ...]:
    """Settings of the training after compression; the first of them asks for it."""
    return tuple(setting for each in techniques() if each.stage == "training" for setting in each.settings)


@cache
def named(name: str) -> Setting:
    """The setting of the whole network or of its training with this name in Python, or in a link."""
    every = (*of_network(), *of_training())
    return next(setting for by in ("name", "key") for setting in every if getattr(setting, by) == name)
