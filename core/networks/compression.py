"""From a baseline and a configuration to a compressed network: the techniques, in their order.

Channels first, then low rank, pruning and quantization, the last two on the *stored* tensors: the factors, where a
layer is factored. Pruning a rebuilt matrix would destroy its rank and make the size a lie.
"""

from collections.abc import Sequence

import torch

from core.config import CompressionConfig, ConfigError
from core.mathematics import costs, pruning
from core.networks import trainable
from core.networks.calibration import Statistics
from core.networks.graph import Layer, Network
from core.networks.models import Baseline, costs_of
from core.networks.trainable import CompressedNetwork
from core.settings import Moment, techniques

PRUNING_SHARE = 0.6
"""So much of an iterative training prunes; the rest trains what is left (and its bits)."""


def compress(
    baseline: Baseline, config: CompressionConfig, statistics: Statistics, learned: bool = False
) -> CompressedNetwork:
    """Channels, low rank, pruning, quantization, in this order. With nothing set it is the baseline, bit for bit. What
    comes after a training is left to `finish`, where there is one.

    learned : a training is about to learn the step sizes of its grids; see `techniques.quantization`
    Raises ConfigError where the configuration does not fit the baseline's layers.
    """
    network = restructure(baseline, config, statistics)
    network = act(network, config, statistics, ("gradual", "grids"), Moment(learns_steps=learned))
    return network if config.recovery else finish(network, config, statistics)


def finish(network: CompressedNetwork, config: CompressionConfig, statistics: Statistics) -> CompressedNetwork:
    """What comes last, after a training, too."""
    return act(network, config, statistics, ("after",))


def restructure(baseline: Baseline, config: CompressionConfig, statistics: Statistics) -> CompressedNetwork:
    """The first half: channels removed, then layers factored. Raises ConfigError."""
    check(config, baseline.network)
    columns = {
        layer.name: torch.arange(layer.matrix_shape[1] if layer.groups == 1 else layer.groups)
        for layer in baseline.layers
    }
    network = trainable.dense(baseline, columns, config, baseline.sha256)
    return act(network, config, statistics, ("structure",), Moment())


@torch.no_grad()
def act(
    network: CompressedNetwork,
    config: CompressionConfig,
    statistics: Statistics,
    stages: Sequence[str],
    moment: Moment = Moment(),  # noqa: B008
) -> CompressedNetwork:
    """Let the techniques of these stages do what the configuration asks of them, one after the other."""
    for technique in techniques():
        if technique.stage in stages and technique.used(config):
            network = technique.act(network, config, statistics, moment)
    return network


def prune_gradually(
    network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, training_progress: float
) -> CompressedNetwork:
    """One step of iterative pruning, when the share `training_progress` of the training, in [0, 1], is over.

    Until `PRUNING_SHARE` the sparsity rises as `pruning.cubic`, from nothing; then it stays, the bits are set, and
    what is left of the training recovers. A weight that went stays away: its score is that of zero.
    """
    time = training_progress / PRUNING_SHARE
    if network.pruning_progress < 1:
        network.pruning_progress = pruning.cubic(time)
        act(network, config, statistics, ("gradual",), Moment(network.pruning_progress))
        if time >= 1:
            act(network, config, statistics, ("grids",), Moment(learns_steps=True))
    return network


def check(config: CompressionConfig, network: Network) -> None:
    """Raise ConfigError for a layer that the network does not have, for what a technique cannot do with these layers,
    and for what takes more memory or time than there is: which, of which layer, and the way out."""
    layers = network.layers
    known = {layer.name: layer for layer in layers}
    for name, _ in config.layers:
        if name not in known:
            raise ConfigError(f"layer must be one of {', '.join(known)}. Got {name!r} instead.")
    each = {cost.name: cost for cost in costs_of(layers)}
    taken, met = costs.reworking(each.values()), costs.known(each.values())
    for technique in techniques():
        technique.check(config, network)
    if any(technique.touched(config, network) for technique in techniques()) and taken > costs.MEMORY:
        raise ConfigError(
            f"Pruning and rounding so many weights would take {costs.in_bytes(taken)} of memory, and "
            f"{costs.in_bytes(costs.MEMORY)} are there. Leave sparsity and bits as they are."
        )
    for technique in techniques():
        for what, names, way_out in technique.asks_for_inputs(config, network):
            for name in names:
                if name not in met:
                    raise ConfigError(f"{what} cannot be had here. {costs.unknown_in_words(each[name])} {way_out}")


def check_training(layers: Sequence[Layer], batch: int = costs.BATCH) -> None:
    """Raise ConfigError where training the network after compression takes more memory than there is."""
    taken = costs.training(costs_of(layers), batch)
    if taken > costs.MEMORY:
        way_out = "Take smaller batches, or compress" if batch > costs.BATCH else "Compress"
        raise ConfigError(
            f"Training this network would take {costs.in_bytes(taken)} of memory, in batches of {batch:,} images, "
            f"and {costs.in_bytes(costs.MEMORY)} are there. {way_out} it without training."
        )
