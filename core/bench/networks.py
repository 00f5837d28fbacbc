"""The network of a configuration: as a module, as it is stored, and what follows from it without measuring."""

from dataclasses import replace

import numpy as np
from safetensors.torch import load
from torch import Tensor

from core.bench import keys
from core.bench.baselines import Baselines
from core.bench.errors import NotRecovered, OnlyItsFile
from core.bench.knowledge import Knowledge
from core.bench.results import Outline, Profile, StoredWeight
from core.config import CompressionConfig, ConfigError
from core.formats import footprint, packed
from core.machinery.recent import Recent
from core.machinery.store import Store
from core.mathematics import low_rank
from core.networks import compression, narrowing, trainable
from core.networks.encodings.integer_grid import IntegerGrid
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork
from core.techniques.codebook import codebook_of, index_bits
from core.techniques.low_rank import rank_of

REFUSALS = 2**18
"""Bytes of those that are remembered, 64 each."""

PACKED = "packed"
"""The one tensor of a network of which only its file is here."""


def structure(config: CompressionConfig) -> CompressionConfig:
    """What the time of a forward pass depends on: channels and ranks. Bits and scattered zeros do not change it."""
    layers = tuple((name, replace(layer, sparsity=None, bits=None, codebook=None)) for name, layer in config.layers)
    chosen = CompressionConfig(layers, config.channel_share, config.channel_score, config.rank_share)
    scope = chosen.scope if config.channel_share is None else config.scope
    return replace(chosen, above_break_even=config.above_break_even, scope=scope)


class Networks:
    """Networks by the name of their baseline and their configuration."""

    def __init__(self, store: Store, baselines: Baselines, knowledge: Knowledge) -> None:
        self.store, self.baselines, self.knowledge = store, baselines, knowledge
        self._refusals = Recent(REFUSALS)

    def network(self, name: str, config: CompressionConfig) -> StoredNetwork:
        """The stored network of a configuration: what evaluation measures and export writes."""
        return self.compressed(self.baselines.get(name), config)

    def module(self, name: str, config: CompressionConfig) -> trainable.CompressedNetwork:
        """The same as a torch module, which can be trained and moved to another device."""
        return self._module(self.baselines.get(name), config)

    def compressed(self, baseline: Baseline, config: CompressionConfig) -> StoredNetwork:
        """As `network`, of a baseline that need not be kept. Raises NotRecovered, OnlyItsFile."""
        if config.recovery is not None:
            trained = self._trained(baseline, config)
            if PACKED in trained:
                return self._finished(baseline, config, packed.unpack(trained[PACKED].numpy().tobytes()))
        return self._module(baseline, config).freeze()

    def _module(self, baseline: Baseline, config: CompressionConfig) -> trainable.CompressedNetwork:
        network = compression.compress(baseline, config, self.knowledge.statistics(baseline))
        if config.recovery is not None:
            trained = self._trained(baseline, config)
            if PACKED in trained:
                raise OnlyItsFile
            network.load_state_dict(trained)
            network = compression.finish(network, config, self.knowledge.statistics(baseline))
        return network

    def _finished(self, baseline: Baseline, config: CompressionConfig, trained: StoredNetwork) -> StoredNetwork:
        """With what is done after the training, which changes weights on grids alone: they are trained as they act."""
        if config == config.as_trained():
            return trained
        statistics = self.knowledge.statistics(baseline)
        network = compression.compress(baseline, config, statistics)
        for layer, own in zip(network.named().values(), trained.layers, strict=True):
            for weight, tensor in zip(layer.weights, own.tensors, strict=True):
                if isinstance(tensor, IntegerGrid):
                    weight.weight.data.copy_(tensor.weight())
                    weight.mask, weight.encoder = tensor.mask, tensor.encoder()
            layer.bias.data.copy_(own.bias)
        now = compression.finish(network, config, statistics).freeze().layers
        layers = (
            replace(new, between_scale=own.between_scale) if isinstance(new.tensors[0], IntegerGrid) else own
            for new, own in zip(now, trained.layers, strict=True)
        )
        return replace(trained, config=config, layers=tuple(layers))

    def _trained(self, baseline: Baseline, config: CompressionConfig) -> dict[str, Tensor]:
        """What a recovery left: the module's tensors, or its packed file, where another machine trained it."""
        entry = self.store.get(keys.recovery(baseline, config))
        if entry is None or entry.weights is None:
            raise NotRecovered
        return load(entry.weights)

    def trained_digest(self, baseline: Baseline | Profile, config: CompressionConfig) -> str | None:
        """Of what a recovery left; None where none is asked for, or was done."""
        return self.store.digest(keys.recovery(baseline, config)) if config.recovery is not None else None

    def refusal(self, name: str, config: CompressionConfig) -> str:
        """Why a configuration cannot be tried on this network, in words; "" where it can. A page asks for all places of
        its curves every time that it is drawn."""
        return self._refusals.made((self.baselines.profile(name).sha256, config), lambda: self._refused(name, config))

    def _refused(self, name: str, config: CompressionConfig) -> str:
        try:
            compression.check(config, self.baselines.get(name).network)
        except ConfigError as error:
            return str(error)
        return ""

    def file_of(self, name: str, config: CompressionConfig) -> bytes:
        """The packed file."""
        return packed.pack(self.network(name, config)).content

    def bytes_of(self, name: str, config: CompressionConfig) -> int:
        """Of the packed file; nothing is evaluated."""
        return footprint.footprint(self.network(name, config)).total

    def weights(self, name: str, config: CompressionConfig, layer: str) -> list[StoredWeight]:
        """What a layer stores, one weight or two factors, and the same before pruning, quantization and training."""
        acting = config if config.recovery else replace(config, activation_bits=None)  # untrained, it changes no weight
        whole = replace(structure(config), low_rank_method=config.low_rank_method)
        tensors_after, tensors_before = (
            next(stored for stored in self.network(name, each).layers if stored.layer.name == layer).tensors
            for each in (acting, whole)
        )
        weights = []
        for after, before in zip(tensors_after, tensors_before, strict=True):
            old, new = (low_rank.as_matrix(tensor.weight()).numpy() for tensor in (before, after))
            kept = np.ones(old.shape, bool) if after.mask is None else low_rank.as_matrix(after.mask).numpy()
            weights.append(StoredWeight(after.name, old, new, kept))
        return weights

    def outline(self, name: str, config: CompressionConfig) -> Outline:
        """What follows from the configuration in closed form, before anything is measured."""
        baseline = self.baselines.get(name)
        compression.check(config, baseline.network)
        statistics = self.knowledge.statistics(baseline)
        smaller, columns = narrowing.narrow(baseline, config, statistics.means)
        layers, energy, sizes = smaller.layers, {}, []
        for layer in layers:
            rank = rank_of(layer, config)
            sizes.append(layer.weights if rank is None else rank * sum(layer.matrix_shape))
            if rank is not None:
                weight = smaller.weight(layer)
                parts = statistics.decomposition(layer, weight, columns[layer.name], config.low_rank_method)
                energy[layer.name] = float(low_rank.cumulative_energy(parts.singular_values)[rank - 1])
        biases = sum(layer.shape[0] for layer in layers)
        macs = sum(size * layer.places for size, layer in zip(sizes, layers, strict=True))
        tables = {layer.name: codebook_of(config, layer.name) or 0 for layer in layers}
        bits = [
            index_bits(tables[layer.name]) if tables[layer.name] else config.bits_of(layer.name) for layer in layers
        ]
        centroids = sum(tables.values()) + sum(tables[name] for name in energy)  # a factored layer has two codebooks
        kilobytes = footprint.model_size_kb(sizes, bits, biases, centroids)
        return Outline(sum(sizes) + biases, macs, len(sizes) + len(energy), baseline.bytes, kilobytes, energy)
