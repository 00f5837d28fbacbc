"""What a person chose: frozen records, validated when they are made. Standard library only.

A `CompressionConfig` is at once the sliders' state, the link's query, the cache key's payload and the export's
metadata. It never does work, and what works never holds settings. Which settings there are, and what they may be, the
techniques declare (`core.settings`).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

from core import settings
from core.settings import DENSE as DENSE
from core.settings import FLOAT_BITS as FLOAT_BITS
from core.settings import Choice, Setting, Share, Whole
from core.settings import ConfigError as ConfigError
from core.words import percent

LAYER = re.compile(r"[\w./:][\w./:-]{0,199}")
"""What a layer may be called: it stands in a link and on the command line."""

Optimizer = Literal["sgd", "adam"]
Device = Literal["cpu", "cuda", "mps"]
Widths = tuple[tuple[int, ...], ...]
"""Of the layers of a network, stage by stage: ((12, 12), (20, 20)), or "12-12/20-20" as text."""


class _Declared:
    """What mypy has to know of such a record: its fields are those of `declared`."""

    declared: ClassVar[tuple[Setting, ...]]

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, *values: Any, **named: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def _check(self) -> None:
        for setting in self.declared:
            object.__setattr__(self, setting.name, setting.checked(getattr(self, setting.name)))

    def _record(self) -> dict[str, Any]:
        """For JSON: every setting of the first version, later ones where something was chosen."""
        chosen = ((setting, getattr(self, setting.name)) for setting in self.declared)
        return {setting.name: value for setting, value in chosen if not setting.later or value != setting.default}

    def changed(self) -> Iterable[tuple[Setting, Any]]:
        """Settings that are not at their default, and their values."""
        for setting in self.declared:
            if (value := getattr(self, setting.name)) != setting.default:
                yield setting, value


Record = TypeVar("Record", bound=_Declared)


def declared(wanted: Sequence[Setting]) -> Callable[[type[Record]], type[Record]]:
    """A frozen record with a field for each of the settings, after `layers` and before `recovery` where it has them."""

    def complete(record: type[Record]) -> type[Record]:
        fixed = {name: getattr(record, name, None) for name in record.__annotations__ if name in ("layers", "recovery")}
        fields = {name: fixed[name] for name in ("layers",) if name in fixed}
        fields |= {setting.name: setting.default for setting in wanted}
        fields |= {name: fixed[name] for name in ("recovery",) if name in fixed}
        record.__annotations__ = dict.fromkeys(fields, Any)
        for name, default in fields.items():
            setattr(record, name, default)
        record.declared = tuple(wanted)
        return dataclass(frozen=True)(record)

    return complete


@declared(settings.of_layer())
class LayerConfig(_Declared):
    """What one layer does differently from the whole network; `None` means "as the network does".

    Its settings are those that the techniques have of a layer (`core.settings.of_layer`).
    """

    def __post_init__(self) -> None:
        self._check()


@declared(settings.of_training())
class RecoveryConfig(_Declared):
    """Training after compression: ranks, masks and bits stay, weights and the steps of grids move (`training.recover`).

    Its settings are those of the techniques that train.
    """

    def __post_init__(self) -> None:
        self._check()

    def to_request(self) -> dict[str, Any]:
        """As JSON can hold it; `RecoveryConfig(**request)` is the same again. Settings that came after the three named
        here are left out where nothing was chosen: so requests of before stay what they were."""
        always = {name: getattr(self, name) for name in ("rate_weight", "normalization", "floor")}
        return self._record() | always


@declared(settings.of_network())
class CompressionConfig(_Declared):
    """Everything that turns a baseline into a compressed network. Nothing set: the baseline, bit for bit.

    layers : LayerConfig by layer name, as a mapping or as pairs (kept as sorted pairs)
    recovery : training after all of that; `None`: none
    The others are what the techniques declare of the whole network (`core.settings.of_network`).
    """

    layers: tuple[tuple[str, LayerConfig], ...] = ()
    recovery: RecoveryConfig | None = None

    def __post_init__(self) -> None:
        pairs = self.layers.items() if isinstance(self.layers, Mapping) else self.layers
        named = dict(pairs)
        for name, layer in named.items():
            if not (isinstance(name, str) and LAYER.fullmatch(name) and isinstance(layer, LayerConfig)):
                raise ConfigError(f"layers must map layer names to LayerConfig. Got {name!r}: {layer!r} instead.")
        object.__setattr__(self, "layers", tuple(sorted((n, c) for n, c in named.items() if c != LayerConfig())))
        self._check()
        if not isinstance(self.recovery, RecoveryConfig | None):
            raise ConfigError(f"recovery must be a RecoveryConfig or None. Got {self.recovery!r} instead.")

    def layer(self, name: str) -> LayerConfig:
        """The layer's own settings; all `None` where it has none."""
        return dict(self.layers).get(name, LayerConfig())

    def with_layer(self, name: str, **changes: Any) -> "CompressionConfig":
        """The same configuration with some settings of one layer replaced."""
        return replace(self, layers=tuple({**dict(self.layers), name: replace(self.layer(name), **changes)}.items()))

    def bits_of(self, name: str) -> int:
        """Bits per weight of a layer: its own, else the network's, else 32."""
        bits = self.layer(name).bits
        return int(bits if bits is not None else self.bits if self.bits is not None else FLOAT_BITS)

    def as_trained(self) -> "CompressionConfig":
        """Without what is done after the training, where there is one: equal ones share what was trained."""
        later = (setting for each in settings.techniques() if each.stage == "after" for setting in each.settings)
        return replace(self, **{setting.name: setting.default for setting in later}) if self.recovery else self

    def to_json(self) -> str:
        """Canonical text: every setting, defaults included, keys sorted. Equal configurations give equal text."""
        payload = self._record() | {"layers": {name: layer._record() for name, layer in self.layers}}
        payload["recovery"] = None if self.recovery is None else self.recovery._record()
        return json.dumps(payload, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_record(cls, record: Any) -> "CompressionConfig":
        """The inverse of `json.loads(to_json())`."""
        return cls.from_json(json.dumps(record))

    @classmethod
    def from_json(cls, text: str | bytes) -> "CompressionConfig":
        """The inverse of `to_json`; settings that are missing take their defaults. Raises ConfigError."""
        try:
            payload = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"A configuration must be JSON. {error}.") from None
        known = {"layers", "recovery", *(setting.name for setting in cls.declared)}
        if not isinstance(payload, dict) or not set(payload) <= known:
            unknown = sorted(set(payload) - known) if isinstance(payload, dict) else repr(text[:40])
            raise ConfigError(f"A configuration's settings are {', '.join(sorted(known))}. Got {unknown} instead.")
        layers = payload.pop("layers", {})
        if not isinstance(layers, dict) or not all(isinstance(layer, dict) for layer in layers.values()):
            raise ConfigError(f"layers must be an object of objects. Got {layers!r} instead.")
        recovery = payload.pop("recovery", None)
        try:
            payload["layers"] = {name: LayerConfig(**layer) for name, layer in layers.items()}
            return cls(recovery=None if recovery is None else RecoveryConfig(**recovery), **payload)
        except TypeError:
            of_layer, of_training = (_listed(record) for record in (LayerConfig, RecoveryConfig))
            raise ConfigError(
                f"A layer's settings are {of_layer}; those of recovery {of_training}. Got {layers!r} and {recovery!r} "
                "instead."
            ) from None


def _listed(record: type[_Declared]) -> str:
    return ", ".join(setting.name for setting in record.declared)


EXAMPLE = CompressionConfig(sparsity=0.7, bits=6, activation_bits=6)
"""With which a person begins who has chosen nothing yet: much smaller, and hardly worse."""

# The same settings as short text, for a link (`?sparsity=0.8&fc1.rank=16`) and for the command line.
_NETWORK = {setting.key: setting for setting in CompressionConfig.declared}
_LAYER = {setting.key: setting for setting in LayerConfig.declared}
_TRAINING = {setting.key: setting for setting in RecoveryConfig.declared}
_ASKS = next(iter(_TRAINING))
"""What of a training asks for it: its epochs."""

QUERY_NAMES = frozenset(_NETWORK) | frozenset(_TRAINING)
"""What a link may hold of a configuration, besides what layers have, LAYER.rank and so on."""


def to_query(config: CompressionConfig) -> dict[str, str]:
    """Only what differs from the default, as `name: text` and `layer.name: text`."""
    query = {setting.key: setting.kind.written(value) for setting, value in config.changed()}
    if config.recovery is not None:
        asks = _TRAINING[_ASKS]
        query[_ASKS] = asks.kind.written(getattr(config.recovery, asks.name))
        query |= {setting.key: setting.kind.written(value) for setting, value in config.recovery.changed()}
    for layer, settings_of_it in config.layers:
        query |= {f"{layer}.{setting.key}": setting.kind.written(value) for setting, value in settings_of_it.changed()}
    return query


def with_text(config: CompressionConfig, key: str, text: str) -> CompressionConfig:
    """The configuration with one setting changed, as a link or a command line writes it. Raises ConfigError."""
    layer, _, name = key.rpartition(".")
    try:
        if layer and name in _LAYER:
            return config.with_layer(layer, **{_LAYER[name].name: _LAYER[name].kind.read(text)})
        if key in _TRAINING:
            if config.recovery is None and key != _ASKS:
                raise ConfigError(f"A training must be asked for: {_ASKS}=EPOCHS.")
            setting = _TRAINING[key]
            recovery = replace(config.recovery or RecoveryConfig(), **{setting.name: setting.kind.read(text)})
            return replace(config, recovery=recovery)
        return replace(config, **{_NETWORK[key].name: _NETWORK[key].kind.read(text)})
    except ConfigError:
        raise
    except (ValueError, KeyError):
        raise ConfigError(f"{text!r} is no number, or not a whole one.") from None


def from_query(query: Mapping[str, str], layers: Iterable[str]) -> tuple[CompressionConfig, list[str]]:
    """The configuration that a link describes, and a sentence for each value that fell back to its default."""
    config, problems, layers = CompressionConfig(), [], set(layers)
    for key, text in sorted(query.items(), key=lambda pair: pair[0] != _ASKS):
        layer, _, name = key.rpartition(".")
        if layer and layer not in layers and name in _LAYER:
            problems.append(f"This network has no layer {layer!r}; {key}={text} was left out.")
        elif key in _TRAINING and _ASKS not in query:
            continue
        elif key in QUERY_NAMES or (layer in layers and name in _LAYER):
            try:
                config = with_text(config, key, text)
            except ConfigError as error:
                problems.append(f"{key}={text} was left out. {error}")
    return config, problems


def to_arguments(config: CompressionConfig) -> list[str]:
    """The command line options that mean this configuration."""
    arguments = []
    for key, text in to_query(config).items():
        layer, _, name = key.rpartition(".")
        if layer:
            arguments += [_LAYER[name].argument, f"{layer}={text}"]
        else:
            setting = _NETWORK.get(key) or _TRAINING[key]
            arguments += [setting.argument, text] if setting.kind.takes_value else [setting.argument]
    return arguments


def in_words(config: CompressionConfig) -> str:
    """A configuration within a sentence: "sparsity 70 %, 6-bit weights, 6-bit activations"."""
    said = [setting.said(value) for setting, value in config.changed()]
    if config.recovery is not None:
        asks = _TRAINING[_ASKS]
        chosen = {asks: getattr(config.recovery, asks.name)} | dict(config.recovery.changed())
        said += [setting.said(value) for setting, value in chosen.items()]
    said += [f"{layer} {setting.said(value)}" for layer, of_it in config.layers for setting, value in of_it.changed()]
    return ", ".join(said) or "nothing set, the baseline"


@dataclass(frozen=True)
class TrainingConfig:
    """A recipe of the one training loop (`core.measuring.training.fit`).

    model : a family of `core.networks.families`
    data : name of the data set, as `core.datasets` has it
    learning_rate is the peak of a one-cycle schedule for "sgd" (Nesterov momentum 0.9), and constant for "adam".
    flips : mirror half of the images left to right, drawn anew each epoch
    shifts : move each image by up to so many pixels, up or down and left or right, drawn anew each epoch
    erasing : share of the images in which a square, a third of the width, is made grey, drawn anew each epoch (random
        erasing, Zhong et al. 2020)
    dropout : share of the hidden activations dropped while training
    widths : of its layers, as `core.networks.families` says; () for the family's own
    teacher : name of a baseline from whose predictions it learns, too (distillation, Hinton et al. 2015); "" for none
    """

    model: str
    epochs: int
    seed: int = 0
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.0
    flips: bool = False
    shifts: int = 0
    erasing: float = 0.0
    data: str = "fashion-mnist"
    widths: Widths = ()
    teacher: str = ""

    @property
    def augmentation(self) -> str:
        """How images are changed while training, in words; "" where they are not."""
        changes = ["horizontal flips"] if self.flips else []
        changes += [f"shifts by up to {self.shifts} pixels"] if self.shifts else []
        changes += [f"a square erased in {percent(self.erasing, 0)} of the images"] if self.erasing else []
        return ", ".join(changes)

    def __post_init__(self) -> None:
        ranges = {
            "optimizer": Choice(dict.fromkeys(get_args(Optimizer), "")),
            "epochs": Whole(1, 200),
            "seed": Whole(0, 2**31 - 1),
            "batch_size": Whole(2, 4096),
            "dropout": Share(high_open=True),
            "label_smoothing": Share(high_open=True),
            "shifts": Whole(0, 16),
            "erasing": Share(),
        }
        for name, kind in ranges.items():
            kind.checked(name, getattr(self, name))
        if self.teacher and (self.shifts or self.erasing):
            raise ConfigError("teacher knows images as they are, or mirrored: not with shifts or erasing.")
        object.__setattr__(self, "widths", _checked_widths(self.widths))
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 10):
                raise ConfigError(f"{name} must be a number in [0, 10]. Got {value!r} instead.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON and keys; what came later is left out at its default, so that all that was made before holds."""
        untouched = {
            each.name for each in fields(self) if each.name in LATER and getattr(self, each.name) == each.default
        }
        return {name: value for name, value in asdict(self).items() if name not in untouched}


LATER = "shifts", "erasing", "data", "widths", "teacher"
"""Parts of a `TrainingConfig` that came after others."""

WIDEST = 4096


def _checked_widths(widths: Any) -> Widths:
    """As tuples. Raises ConfigError."""
    stages = [stage if isinstance(stage, list | tuple) else None for stage in widths]
    if None in stages or not all(stages) or not all(_is_width(width) for stage in stages for width in stage or ()):
        raise ConfigError(f"widths must be whole numbers in [1, {WIDEST}], stage by stage. Got {widths!r} instead.")
    return tuple(tuple(stage or ()) for stage in stages)


def _is_width(width: Any) -> bool:
    return isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= WIDEST


def widths_in_text(widths: Widths) -> str:
    """((12, 12), (20, 20)) -> "12-12/20-20" """
    return "/".join("-".join(map(str, stage)) for stage in widths)


def widths_of_text(text: str) -> Widths:
    """The inverse. Raises ConfigError."""
    try:
        return _checked_widths([[int(width) for width in stage.split("-")] for stage in text.split("/")])
    except ValueError:
        raise ConfigError(f"widths must be like 12-12/20-20/28-28. Got {text!r} instead.") from None


FORMATS = ("packed", "onnx", "safetensors")
"""What an export may be written as; "onnx" also writes the integers, where there are any."""
