"""Places worth measuring before anybody asks: along each setting of a network, and what Compare begins with."""

from dataclasses import replace

from core.config import CompressionConfig

RANKS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
SPARSITIES = (0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95)
"""Percent."""

BITS = (2, 3, 4, 5, 6, 7, 8, None)
"""None is float32."""


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
    setting: "rank", "sparsity", "bits", "channels". Activations follow the bits where they have the same."""
    config = replace(config, recovery=None)
    follow = config.activation_bits == config.bits
    return {
        "rank": [replace(config, rank_share=kept(own)) for own in RANKS],
        "sparsity": [replace(config, sparsity=pruned(own)) for own in SPARSITIES],
        "bits": [replace(config, bits=own, activation_bits=own if follow else config.activation_bits) for own in BITS],
        "channels": [replace(config, channel_share=kept(own)) for own in RANKS],
    }


def beginning() -> list[CompressionConfig]:
    """Each technique alone, a few steps of it."""
    configs = [CompressionConfig(), *(CompressionConfig(bits=bits, clip="mse") for bits in (8, 6, 5, 4, 3))]
    configs += [CompressionConfig(sparsity=own, score="lamp") for own in (0.5, 0.7, 0.8, 0.9, 0.95)]
    configs += [CompressionConfig(rank_share=own, low_rank_method="whitened") for own in (0.5, 0.3, 0.15, 0.08)]
    return configs + [CompressionConfig(channel_share=own, channel_score="activation") for own in (0.9, 0.75, 0.5)]
