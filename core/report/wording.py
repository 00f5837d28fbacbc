"""Figures and settings in words, the same everywhere in a report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core import words
from core.config import DENSE, FLOAT_BITS, CompressionConfig, LayerConfig
from core.formats.footprint import KB
from core.measuring.evaluation import Comparison

Row = Mapping[str, Any]


def percent(share: float) -> str:
    """What was measured: of 10,000 images, two decimals are exact."""
    return words.percent(share, 2)


def share_of(share: float) -> str:
    """What was asked for: 70 %, 97.5 %."""
    return words.percent(round(share, 4))


def points(difference: float) -> str:
    """A difference of accuracies in percentage points."""
    return f"{100 * difference:+.2f} pp" if round(difference * 1e4) else "0.00 pp"


def span(interval: Sequence[float]) -> str:
    """An interval of such a difference."""
    low, high = interval
    return f"{100 * low:+.2f} to {100 * high:+.2f} pp"


def size(count: float) -> str:
    return f"{count:,.0f} bytes ({count / KB:,.1f} KB)"


def kilobytes(count: float) -> str:
    return f"{count / KB:,.1f} KB"


def ratio(before: float, after: float) -> str:
    return f"{before / after:,.1f}x" if after else "–"


def p_value(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def with_p(p: float) -> str:
    return f"p {p_value(p)}" if p < 1e-4 else f"p = {p_value(p)}"


def paired(comparison: Comparison) -> str:
    about = f"95 % interval {span(comparison.interval)}, exact McNemar test {with_p(comparison.p_value)}"
    return f"{points(comparison.difference)} ({about})"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def listed(words: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(count: int, what: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


WEIGHTS_BY = {"magnitude": "magnitude", "lamp": "LAMP", "activation": "magnitude times input (Wanda)"}
"""Pruning criteria by their settings."""

_SCOPES = {"network": "global", "layer": "layer-wise"}


def settings(config: CompressionConfig) -> str:
    """A configuration in one line."""
    own = [_layer(name, layer) for name, layer in config.layers]
    return "; ".join([*_settings(config), *own]) or "nothing: the baseline"


def _settings(config: CompressionConfig) -> Iterator[str]:
    if config.channel_share is not None:
        yield f"{share_of(config.channel_share)} of the channels"
    if config.rank_share is not None:
        yield f"{share_of(config.rank_share)} of the rank{_aware(config)}"
    elif any(own.rank for _, own in config.layers) and _aware(config):
        yield f"low rank{_aware(config)}"
    if config.sparsity:
        yield f"{share_of(config.sparsity)} zeros by {WEIGHTS_BY[config.score]}, {_SCOPES[config.scope]}"
    if config.bits is not None:
        yield f"weights {config.bits} bits{_rounding(config)}"
    if config.activation_bits is not None:
        yield f"activations {config.activation_bits} bits"
    if config.recovery is not None:
        how = f", {config.recovery.schedule}" if config.sparsity else ""
        taught = ", distilled" if config.recovery.distillation else ""
        yield f"trained {counted(config.recovery.epochs, 'epoch')}{how}{taught}"


def _aware(config: CompressionConfig) -> str:
    return ", data-aware" if config.low_rank_method == "whitened" else ""


def _rounding(config: CompressionConfig) -> str:
    said = {
        "per tensor": config.granularity == "tensor",
        "zero point": config.symmetry == "asymmetric",
        "clipped": config.clip == "mse",
        "GPTQ": config.rounding == "gptq",
        "bias correction": config.bias_correction,
    }
    chosen = [words for words, so in said.items() if so]
    return f" ({', '.join(chosen)})" if chosen else ""


def _layer(name: str, own: LayerConfig) -> str:
    parts = [f"{own.channels} channels"] if own.channels is not None else []
    parts += [] if own.rank is None else ["dense" if own.rank == DENSE else f"rank {own.rank}"]
    parts += [f"{share_of(own.sparsity)} zeros"] if own.sparsity is not None else []
    parts += [] if own.bits is None else ["float32" if own.bits == FLOAT_BITS else f"{own.bits} bits"]
    return f"{name}: {', '.join(parts)}"
