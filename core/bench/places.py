"""Places worth measuring before anybody asks: along each setting of a network, and what Compare begins with."""

from dataclasses import replace
from typing import Any

from core.config import CompressionConfig
from core.settings import Setting, Share, Whole, of_network

RANKS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
SPARSITIES = (0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95)
"""Percent."""


def share(percent: float) -> float:
    """Of a hundred; rounded, so that a link reads 0.70793 and not 0.7079300000000001."""
    return round(percent / 100, 12)


def kept(percent: float) -> float | None:
    """A share of ranks or channels; all of them is the network as it is."""
    return None if percent == 100 else share(percent)


def pruned(percent: float) -> float | None:
    """A sparsity; none at all is the network as it is."""
    return share(percent) if percent else None


def along(config: CompressionConfig) -> dict[str, list[CompressionConfig]]:
    """What one setting of the whole network at its places would make of a configuration, without training; by the
    setting's name in a link, of those that have a slider."""
    config = replace(config, recovery=None)
    main = (setting for setting in of_network() if setting.place == "main")
    return {
        setting.key: [replace(config, **meant(setting, value, config)) for value in values(setting)] for setting in main
    }


def meant(setting: Setting, value: Any, config: CompressionConfig) -> dict[str, Any]:
    """A setting at this value, and what follows it: bits of activations those of the weights, where they are equal."""
    follow = setting.name == "bits" and config.activation_bits == config.bits
    return {setting.name: value} | ({"activation_bits": value} if follow else {})


def values(setting: Setting) -> list[Any]:
    """The places of a setting of the whole network: values; None is the network as it is."""
    if isinstance(setting.kind, Share):
        return list(map(kept, RANKS)) if setting.kind.low_open else list(map(pruned, SPARSITIES))
    if isinstance(setting.kind, Whole) and setting.kind.shown:
        return [*setting.kind.shown, None]
    if isinstance(setting.kind, Whole) and setting.kind.high is not None:
        return [*range(setting.kind.low, setting.kind.high + 1), None]
    return list(setting.choices)


def beginning() -> list[CompressionConfig]:
    """Each technique alone, a few steps of it."""
    configs = [CompressionConfig(), *(CompressionConfig(bits=bits, clip="mse") for bits in (8, 6, 5, 4, 3))]
    configs += [CompressionConfig(sparsity=share, score="lamp") for share in (0.5, 0.7, 0.8, 0.9, 0.95)]
    configs += [CompressionConfig(rank_share=share, low_rank_method="whitened") for share in (0.5, 0.3, 0.15, 0.08)]
    return configs + [CompressionConfig(channel_share=share, channel_score="activation") for share in (0.9, 0.75, 0.5)]
