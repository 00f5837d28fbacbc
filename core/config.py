"""What a person chose: frozen records, validated when they are made. Standard library only.

A `CompressionConfig` is at once the sliders' state, the link's query, the cache key's payload and the export's
metadata. It never does work, and what works never holds settings.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Scope = Literal["network", "layer"]
Granularity = Literal["channel", "tensor"]
Symmetry = Literal["symmetric", "asymmetric"]
Clip = Literal["minmax", "mse"]
Rounding = Literal["nearest", "gptq"]
LowRankMethod = Literal["svd", "whitened"]
Score = Literal["magnitude", "lamp", "activation"]
ChannelScore = Literal["l1", "activation"]
Schedule = Literal["one-shot", "iterative"]
Model = Literal["mlp", "cnn"]
Optimizer = Literal["sgd", "adam"]
Device = Literal["cpu", "cuda", "mps"]

FLOAT_BITS = 32
"""Bits of a weight that is not quantized (IEEE single precision)."""

DENSE = 0
"""The rank that says: this layer is not factored, whatever the whole network does."""


class ConfigError(ValueError):
    """A setting outside its range; the message names the setting, the range and the value received."""


_CHOICES = {
    "channel_score": ChannelScore,
    "low_rank_method": LowRankMethod,
    "score": Score,
    "scope": Scope,
    "granularity": Granularity,
    "symmetry": Symmetry,
    "clip": Clip,
    "rounding": Rounding,
}


def _check_int(name: str, value: object, low: int, high: int | None = None, also: tuple[int, ...] = ()) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool)
    if ok and (value in also or (value >= low and (high is None or value <= high))):  # type: ignore[operator]
        return
    span = f"at least {low}" if high is None else f"in [{low}, {high}]"
    extra = f" or {' or '.join(map(str, also))}" if also else ""
    raise ConfigError(f"{name} must be an integer {span}{extra}. Got {value!r} instead.")


def _check_share(name: str, value: object, low_open: bool = False, high_open: bool = False) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        above, below = (value > 0 if low_open else value >= 0), (value < 1 if high_open else value <= 1)
        if above and below:
            return
    span = f"{'(' if low_open else '['}0, 1{')' if high_open else ']'}"
    raise ConfigError(f"{name} must be a number in {span}. Got {value!r} instead.")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}. Got {value!r} instead.")


@dataclass(frozen=True)
class LayerConfig:
    """What one layer does differently from the whole network; `None` means "as the network does".

    channels : int >= 1, how many of its output channels (conv) or neurons (linear) stay; not for the last layer
    rank : int >= 1 factors of that rank, or 0 (`DENSE`): not factored, whatever the network's `rank_share`; at most the
        rank that is left where channels were removed
    sparsity : share of this layer's stored weights that are zero, in [0, 1]
    bits : 2 to 8 per weight, or 32 (`FLOAT_BITS`): not quantized
    """

    channels: int | None = None
    rank: int | None = None
    sparsity: float | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.channels is not None:
            _check_int("channels", self.channels, 1)
        if self.rank is not None:
            _check_int("rank", self.rank, 0)
        if self.sparsity is not None:
            _check_share("sparsity", self.sparsity)
            object.__setattr__(self, "sparsity", self.sparsity + 0.0)  # a float, and never -0.0
        if self.bits is not None:
            _check_int("bits", self.bits, 2, 8, also=(FLOAT_BITS,))


@dataclass(frozen=True)
class RecoveryConfig:
    """Training after compression: ranks, masks and bits stay, weights and the steps of grids move (`training.recover`).

    learning_rate : the peak of a one-cycle schedule
    schedule : "one-shot": pruned before, then trained; "iterative": pruned a little, trained, and so on, by a cubic
        schedule, then trained to the end (quantized, where bits are set) with the learning rate rewound
    distillation : learn from the baseline's predictions as well as from the labels
    """

    epochs: int = 3
    learning_rate: float = 0.03
    seed: int = 0
    distillation: bool = False
    schedule: Schedule = "one-shot"

    def __post_init__(self) -> None:
        _check_int("recovery epochs", self.epochs, 1, 100)
        _check_int("recovery seed", self.seed, 0, 2**31 - 1)
        if not (isinstance(self.learning_rate, int | float) and 0 < self.learning_rate <= 1):
            raise ConfigError(f"recovery learning_rate must be a number in (0, 1]. Got {self.learning_rate!r} instead.")
        object.__setattr__(self, "learning_rate", self.learning_rate + 0.0)
        _check_choice("schedule", self.schedule, get_args(Schedule))
        if not isinstance(self.distillation, bool):
            raise ConfigError(f"distillation must be true or false. Got {self.distillation!r} instead.")


@dataclass(frozen=True)
class CompressionConfig:
    """Everything that turns a baseline into a compressed network. Nothing set: the baseline, bit for bit.

    layers : LayerConfig by layer name, as a mapping or as pairs (kept as sorted pairs)
    channel_share : share of output channels that stay in every layer but the last, in (0, 1]; `None`: all
    channel_score : channels go by the "l1" norm of their weights, or by their mean "activation"
    rank_share : share of each layer's singular values that is kept, in (0, 1]; `None`: no layer is factored
    above_break_even : also factor layers that get larger by it, as the course report does
    low_rank_method : "svd", the factors nearest to the weight, or "whitened", nearest to its output on real inputs
    sparsity : share of zeros over all layers that have none of their own, in [0, 1]
    score : weights go by "magnitude", by "lamp", or by |w| times the "activation" they meet
    scope : "network", one threshold over those layers, or "layer", the same share in each; of weights and of channels
    bits : bits per weight, 2 to 8; `None`: float32
    activation_bits : bits per activation, 2 to 8; `None`: float32. The input image stays at its own 8 bits
    granularity : one scale per output "channel" or per "tensor"
    symmetry : weights on a "symmetric" grid, or on an "asymmetric" one, with a zero point
    clip : grids end at the largest number, "minmax", or clip for the least squared error, "mse"; activations' too
    rounding : each weight to the "nearest" point of its grid, or so that errors cancel on real inputs, "gptq"
    bias_correction : the average change of each output that rounding makes is put into the bias
    recovery : training after all of that; `None`: none
    """

    layers: tuple[tuple[str, LayerConfig], ...] = ()
    channel_share: float | None = None
    channel_score: ChannelScore = "l1"
    rank_share: float | None = None
    above_break_even: bool = False
    low_rank_method: LowRankMethod = "svd"
    sparsity: float | None = None
    score: Score = "magnitude"
    scope: Scope = "network"
    bits: int | None = None
    activation_bits: int | None = None
    granularity: Granularity = "channel"
    symmetry: Symmetry = "symmetric"
    clip: Clip = "minmax"
    rounding: Rounding = "nearest"
    bias_correction: bool = False
    recovery: RecoveryConfig | None = None

    def __post_init__(self) -> None:
        pairs = self.layers.items() if isinstance(self.layers, Mapping) else self.layers
        named = dict(pairs)
        for name, layer in named.items():
            if not (isinstance(name, str) and name.isidentifier() and isinstance(layer, LayerConfig)):
                raise ConfigError(f"layers must map layer names to LayerConfig. Got {name!r}: {layer!r} instead.")
        object.__setattr__(self, "layers", tuple(sorted((n, c) for n, c in named.items() if c != LayerConfig())))
        for name in ("channel_share", "rank_share", "sparsity"):
            share = getattr(self, name)
            if share is not None:
                _check_share(name, share, low_open=name != "sparsity")
                object.__setattr__(self, name, share + 0.0)  # a float, and never -0.0
        for name in ("above_break_even", "bias_correction"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false. Got {getattr(self, name)!r} instead.")
        for name in ("bits", "activation_bits"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), 2, 8)
        if not isinstance(self.recovery, RecoveryConfig | None):
            raise ConfigError(f"recovery must be a RecoveryConfig or None. Got {self.recovery!r} instead.")
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), get_args(choices))

    def layer(self, name: str) -> LayerConfig:
        """The layer's own settings; all `None` where it has none."""
        return dict(self.layers).get(name, LayerConfig())

    def with_layer(self, name: str, **changes: Any) -> "CompressionConfig":
        """The same configuration with some settings of one layer replaced."""
        return replace(self, layers=tuple({**dict(self.layers), name: replace(self.layer(name), **changes)}.items()))

    def bits_of(self, name: str) -> int:
        """Bits per weight of a layer: its own, else the network's, else 32."""
        own = self.layer(name).bits
        return own if own is not None else self.bits if self.bits is not None else FLOAT_BITS

    def to_json(self) -> str:
        """Canonical text: every setting, defaults included, keys sorted. Equal configurations give equal text."""
        payload = {f.name: getattr(self, f.name) for f in fields(self)}
        payload["layers"] = {name: asdict(layer) for name, layer in self.layers}
        payload["recovery"] = None if self.recovery is None else asdict(self.recovery)
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
        known = {f.name for f in fields(cls)}
        if not isinstance(payload, dict) or not set(payload) <= known:
            unknown = sorted(set(payload) - known) if isinstance(payload, dict) else repr(text[:40])
            raise ConfigError(f"A configuration's settings are {', '.join(sorted(known))}. Got {unknown} instead.")
        layers = payload.pop("layers", {})
        if not isinstance(layers, dict) or not all(isinstance(own, dict) for own in layers.values()):
            raise ConfigError(f"layers must be an object of objects. Got {layers!r} instead.")
        recovery = payload.pop("recovery", None)
        try:
            payload["layers"] = {name: LayerConfig(**own) for name, own in layers.items()}
            return cls(recovery=None if recovery is None else RecoveryConfig(**recovery), **payload)
        except TypeError:
            raise ConfigError(
                "A layer's settings are channels, rank, sparsity, bits; those of recovery epochs, learning_rate, seed, "
                f"schedule, distillation. Got {layers!r} and {recovery!r} instead."
            ) from None


EXAMPLE = CompressionConfig(sparsity=0.7, bits=6, activation_bits=6)
"""With which a person begins who has chosen nothing yet: much smaller, and hardly worse."""


def _yes_or_no(text: str) -> bool:
    return {"1": True, "0": False}[text]


# The same settings as short text, for a link (`?sparsity=0.8&fc1.rank=16`) and for the command line.
_TEXT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "channels": ("channel_share", float),
    "channelscore": ("channel_score", str),
    "rank": ("rank_share", float),
    "course": ("above_break_even", _yes_or_no),
    "method": ("low_rank_method", str),
    "sparsity": ("sparsity", float),
    "score": ("score", str),
    "scope": ("scope", str),
    "bits": ("bits", int),
    "activations": ("activation_bits", int),
    "granularity": ("granularity", str),
    "symmetry": ("symmetry", str),
    "clip": ("clip", str),
    "rounding": ("rounding", str),
    "biascorrection": ("bias_correction", _yes_or_no),
}
_LAYER_TEXT: dict[str, Callable[[str], Any]] = {"channels": int, "rank": int, "sparsity": float, "bits": int}
_RECOVERY_TEXT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "recover": ("epochs", int),
    "rate": ("learning_rate", float),
    "seed": ("seed", int),
    "schedule": ("schedule", str),
    "distill": ("distillation", _yes_or_no),
}
QUERY_NAMES = frozenset(_TEXT) | frozenset(_RECOVERY_TEXT)
"""What a link may hold of a configuration, besides LAYER.channels, LAYER.rank, LAYER.sparsity and LAYER.bits."""

_ARGUMENTS = {
    "channels": "--channel-share",
    "channelscore": "--channel-score",
    "rank": "--rank-share",
    "course": "--above-break-even",
    "method": "--low-rank-method",
    "activations": "--activation-bits",
    "biascorrection": "--bias-correction",
    "rate": "--recover-rate",
    "seed": "--recover-seed",
}
SWITCHES = frozenset({"course", "biascorrection", "distill"})
"""Settings that are on where the command line has their name."""


def _short(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def to_query(config: CompressionConfig) -> dict[str, str]:
    """Only what differs from the default, as `name: text` and `layer.name: text`."""
    default = CompressionConfig()
    query = {
        text: _short(getattr(config, name))
        for text, (name, _) in _TEXT.items()
        if getattr(config, name) != getattr(default, name)
    }
    if config.recovery is not None:
        usual = RecoveryConfig()
        query["recover"] = str(config.recovery.epochs)
        query |= {
            text: _short(getattr(config.recovery, name))
            for text, (name, _) in _RECOVERY_TEXT.items()
            if getattr(config.recovery, name) != getattr(usual, name)
        }
    for layer, own in config.layers:
        query |= {f"{layer}.{name}": _short(v) for name in _LAYER_TEXT if (v := getattr(own, name)) is not None}
    return query


def with_text(config: CompressionConfig, key: str, text: str) -> CompressionConfig:
    """The configuration with one setting changed, as a link or a command line writes it. Raises ConfigError."""
    layer, _, name = key.rpartition(".")
    try:
        if layer and name in _LAYER_TEXT:
            return config.with_layer(layer, **{name: _LAYER_TEXT[name](text)})
        if key in _RECOVERY_TEXT:
            if config.recovery is None and key != "recover":
                raise ConfigError("A training must be asked for: recover=EPOCHS.")
            setting, parse = _RECOVERY_TEXT[key]
            recovery = replace(config.recovery or RecoveryConfig(), **{setting: parse(text)})
            return replace(config, recovery=recovery)
        setting, parse = _TEXT[key]
        return replace(config, **{setting: parse(text)})
    except ConfigError:
        raise
    except (ValueError, KeyError):
        raise ConfigError(f"{text!r} is no number, or not a whole one.") from None


def from_query(query: Mapping[str, str], layers: Iterable[str]) -> tuple[CompressionConfig, list[str]]:
    """The configuration that a link describes, and a sentence for each value that fell back to its default."""
    config, problems, layers = CompressionConfig(), [], set(layers)
    for key, text in sorted(query.items(), key=lambda pair: pair[0] != "recover"):
        layer, _, name = key.rpartition(".")
        if layer and layer not in layers and name in _LAYER_TEXT:
            problems.append(f"This network has no layer {layer!r}; {key}={text} was left out.")
        elif key in _RECOVERY_TEXT and "recover" not in query:
            continue
        elif key in QUERY_NAMES or (layer in layers and name in _LAYER_TEXT):
            try:
                config = with_text(config, key, text)
            except ConfigError as error:
                problems.append(f"{key}={text} was left out. {error}")
    return config, problems


def argument(key: str) -> str:
    """The command line option that means a setting of a link."""
    return _ARGUMENTS.get(key, f"--{key}")


def to_arguments(config: CompressionConfig) -> list[str]:
    """The command line options that mean this configuration."""
    arguments = []
    for key, text in to_query(config).items():
        layer, _, name = key.rpartition(".")
        if layer:
            arguments += [f"--{name}", f"{layer}={text}"]
        else:
            arguments += [argument(key)] if key in SWITCHES else [argument(key), text]
    return arguments


@dataclass(frozen=True)
class TrainingConfig:
    """A recipe of the one training loop (`core.measuring.training.fit`).

    learning_rate is the peak of a one-cycle schedule for "sgd" (Nesterov momentum 0.9), and constant for "adam".
    flips : mirror half of the images left to right, drawn anew each epoch
    dropout : share of the hidden activations dropped while training
    """

    model: Model
    epochs: int
    seed: int = 0
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.0
    flips: bool = False

    def __post_init__(self) -> None:
        _check_choice("model", self.model, get_args(Model))
        _check_choice("optimizer", self.optimizer, get_args(Optimizer))
        _check_int("epochs", self.epochs, 1, 200)
        _check_int("seed", self.seed, 0, 2**31 - 1)
        _check_int("batch_size", self.batch_size, 2, 4096)
        _check_share("dropout", self.dropout, high_open=True)
        _check_share("label_smoothing", self.label_smoothing, high_open=True)
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 10):
                raise ConfigError(f"{name} must be a number in [0, 10]. Got {value!r} instead.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


FORMATS = ("packed", "onnx", "safetensors")
"""What an export may be written as; "onnx" also writes the integers, where there are any."""

RECIPES = {
    "cnn": TrainingConfig("cnn", epochs=24, dropout=0.3, flips=True),
    "mlp": TrainingConfig("mlp", epochs=24, dropout=0.1),
    "mlp-course": TrainingConfig(
        "mlp", epochs=5, batch_size=256, optimizer="adam", learning_rate=1e-3, weight_decay=0.0, label_smoothing=0.0
    ),
}
"""How the shipped baselines were trained (`python -m core train --baseline NAME`); `mlp-course` as the report did."""
