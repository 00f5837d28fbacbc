"""Singular values of a baseline's layers, and the ranks that follow from them."""

from torch import Tensor

from core.bench.baselines import Baselines
from core.bench.knowledge import Knowledge
from core.bench.results import Rebuilt, Spectrum
from core.config import DENSE, CompressionConfig, ConfigError, LayerConfig
from core.mathematics import low_rank
from core.mathematics.low_rank import Method
from core.networks import calibration
from core.networks.graph import Layer, Network


class Spectra:
    def __init__(self, baselines: Baselines, knowledge: Knowledge) -> None:
        self.baselines, self.knowledge = baselines, knowledge

    def spectrum(self, name: str, energy: float = 0.95, method: Method = "svd") -> list[Spectrum]:
        """Singular values of each layer where they can be had, and the rank that keeps `energy` of the sum of their
        squares. What `left_out` names is not among them."""
        baseline = self.baselines.get(name)
        values = self.knowledge.singular_values(baseline, method)
        layers = calibration.decomposable(baseline.layers, method)
        return [_spectrum(layer, values[layer.name], energy) for layer in layers]

    def left_out(self, name: str, method: Method) -> dict[str, str]:
        """Layers that are too large for this kind of singular values, and why, in a sentence each."""
        return calibration.not_decomposable(self.baselines.get(name).layers, method)

    def rebuilt(self, name: str, layer: str, rank: int, method: Method = "svd") -> Rebuilt:
        """A layer's weight beside its reconstruction of rank `rank`. Raises ConfigError where `left_out` names it."""
        baseline = self.baselines.get(name)
        if layer in (reasons := self.left_out(name, method)):
            raise ConfigError(reasons[layer])
        weight = baseline.tensors[f"{layer}.weight"]
        parts = self.knowledge.decompositions(baseline, method)[layer]
        near = low_rank.reconstruct(parts, rank, tuple(weight.shape))
        error = ((weight - near).norm() / weight.norm()).item()
        return Rebuilt(weight.numpy(), near.numpy(), error, _picture(baseline.network, layer))

    def config_for_energy(
        self, name: str, energy: float, method: Method = "svd", above_break_even: bool = False
    ) -> CompressionConfig:
        """Each layer at the rank that keeps `energy`; one where that saves nothing stays dense, unless asked for."""
        ranks = {layer.name: (layer.rank, layer.saves) for layer in self.spectrum(name, energy, method)}
        factored = {name: rank if saves or above_break_even else DENSE for name, (rank, saves) in ranks.items()}
        layers = tuple((name, LayerConfig(rank=rank)) for name, rank in factored.items())
        return CompressionConfig(layers=layers, low_rank_method=method)


def _picture(network: Network, name: str) -> tuple[int, int] | None:
    """Height and width of what a row or filter of a layer sees of a grey image; None where it sees something else."""
    layer = next(layer for layer in network.layers if layer.name == name)
    channels, height, width = network.shape
    if network.grids[layer.node.inputs[0]] or channels != 1:
        return None
    if layer.kind == "conv":
        return layer.shape[2], layer.shape[3]
    return (height, width) if layer.reads == (height * width,) else None


def _spectrum(layer: Layer, values: Tensor, energy: float) -> Spectrum:
    """values : singular values, descending"""
    rank = low_rank.rank_for_energy(values, energy)
    condition = low_rank.condition_number(values)
    variance = values.double().square().sum().item() / layer.weights  # ||W||_F^2 / (m n)
    random = low_rank.random_singular_values(*layer.matrix_shape, variance)
    return Spectrum(
        name=layer.name,
        shape=layer.shape,
        matrix_shape=layer.matrix_shape,
        singular_values=tuple(values.tolist()),
        cumulative_energy=tuple(low_rank.cumulative_energy(values).tolist()),
        energy=energy,
        rank=rank,
        share=rank / layer.full_rank,
        break_even_rank=low_rank.break_even_rank(*layer.matrix_shape),
        condition_number=condition if condition < float("inf") else None,
        stable_rank=low_rank.stable_rank(values),
        effective_rank=low_rank.effective_rank(values),
        random=tuple(random.tolist()),
        random_energy=tuple(low_rank.cumulative_energy(random).tolist()),
        random_rank=low_rank.rank_for_energy(random, energy),
    )
