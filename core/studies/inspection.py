"""What a person looks at closely: a small matrix by hand, and one tensor of a network on its integer grid."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.mathematics import costs, pruning, quantization
from core.mathematics.quantization import Clip, Granularity, Symmetry
from core.networks.calibration import Statistics
from core.networks.encodings.integer_grid import LearnedGrid
from core.networks.models import costs_of
from core.networks.stored import BETWEEN
from core.networks.trainable import CompressedNetwork, Step

Matrix = NDArray[np.float64]
OUTPUT = ".output"
"""After a node's name: the signal that it makes, behind its activation and pooling."""

BINS = 120
"""Of the histograms that are drawn."""

OUTPUT_ERROR = "output error"
"""The kind of entry in the store."""


@dataclass(frozen=True, eq=False)
class OnGrid:
    """Numbers before rounding, and the grid that they are put on.

    edges, counts : histogram of the numbers; points : of the grid, ascending; step, zero_point : of it
    clipped : share of the numbers beyond its ends; error : sqrt(sum (x - x^)^2 / sum x^2)
    before, after : some of the numbers, as they were and as they act
    """

    bits: int
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    points: NDArray[np.float64]
    step: float
    zero_point: int
    clipped: float
    error: float
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def prune_by_hand(
    weight: Matrix, score: str, sparsity: float, input_rms: NDArray[np.float64]
) -> tuple[Matrix, Matrix, NDArray[np.bool_]]:
    """Scores of a small matrix, what pruning leaves of it, and the mask. input_rms : sqrt(E[x^2]) of each column's
    input, for the score "activation"."""
    tensor = torch.tensor(weight)
    if score == "activation":
        scores = pruning.activation(tensor, torch.tensor(input_rms))
    else:
        scores = pruning.lamp(tensor) if score == "lamp" else pruning.magnitude(tensor)
    mask = pruning.keep_mask(scores, sparsity)
    return scores.numpy(), tensor.masked_fill(~mask, 0.0).numpy(), mask.numpy()


def quantize_by_hand(
    weight: Matrix, bits: int, granularity: Granularity, symmetry: Symmetry, clip: Clip
) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Codes q of a small matrix, what they stand for, and scale and zero point of each row."""
    tensor = torch.tensor(weight)
    grid = quantization.weight_grid(tensor, bits, granularity, symmetry, clip)
    moved = torch.zeros_like(grid.scale) if grid.zero_point is None else grid.zero_point
    codes = quantization.linear_quantize(tensor, grid.scale, moved, bits, signed=grid.zero_point is None)
    near = (codes - moved) * grid.scale
    rows = (len(weight), 1)
    return codes.numpy(), near.numpy(), grid.scale.expand(rows).numpy(), moved.expand(rows).numpy()


def unrounded(config: CompressionConfig) -> CompressionConfig:
    """The same without grids and training."""
    layers = tuple((name, replace(own, bits=None)) for name, own in config.layers)
    return replace(config, layers=layers, bits=None, activation_bits=None, recovery=None)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A network as it acts and as it was before rounding, made once for all that is looked at.

    source : without grids, but with what was pruned; where the network was trained, the trained one itself
    plain : without grids and training: its signals are those that the grids of activations were made for
    """

    acting: CompressedNetwork
    source: CompressedNetwork
    plain: CompressedNetwork
    statistics: Statistics


def look(bench: Workbench, name: str, config: CompressionConfig) -> Rounded:
    """Raises NotRecovered where the configuration was not trained yet."""
    acting, plain = bench.module(name, config), bench.module(name, unrounded(config))
    return Rounded(acting, plain if config.recovery is None else acting, plain, bench.statistics(bench.baseline(name)))


def only(config: CompressionConfig, layer: str, rounding: str) -> CompressionConfig:
    """The same with the weights of one layer rounded, in this way, and nothing else."""
    alone = replace(unrounded(config), rounding=rounding, rate_rounding=0.0)
    return alone.with_layer(layer, bits=config.bits_of(layer))


def weight_on_grid(seen: Rounded, tensor: str, channel: int | None = None) -> OnGrid | None:
    """A stored weight, "fc1.weight" or one of two factors, and its grid; None where it is not quantized.

    channel : an output channel, where each has its own grid; None: all of them
    The numbers are those that were rounded, without those that were pruned; where the network was trained, as trained.
    """
    layer, part = _part(tensor)
    acting, source = (network.named()[layer].weights[part] for network in (seen.acting, seen.source))
    grid = acting.encoder
    if not isinstance(grid, LearnedGrid):
        return None
    with torch.no_grad():
        before, after, scale = source.masked(), acting.effective(), grid.scale.data
        zero_point = torch.zeros_like(scale) if grid.zero_point is None else grid.zero_point
        kept = torch.ones_like(before, dtype=torch.bool) if acting.mask is None else acting.mask
        if channel is not None and scale.numel() > 1:
            parts = before, after, scale, zero_point, kept
            before, after, scale, zero_point, kept = (own[channel] for own in parts)
    ends = quantization.integer_range(grid.bits, grid.signed)
    return _on_grid(before, after, scale, zero_point, kept, ends, acting.bits)


def _part(tensor: str) -> tuple[str, int]:
    """Layer and place of a stored weight."""
    layer, _, kind = tensor.rpartition(".")
    return layer, int(kind == "second")


def _on_grid(
    before: Tensor, after: Tensor, scale: Tensor, zero_point: Tensor, kept: Tensor, ends: tuple[int, int], bits: int
) -> OnGrid:
    low, high = (scale * (end - zero_point) for end in ends)
    outside = ((before > high + scale / 2) | (before < low - scale / 2))[kept].float()
    step, moved = scale.mean().item(), int(zero_point.flatten()[0])
    x, near = (own.detach()[kept].double().numpy() for own in (before, after))
    x, near = (x, near) if len(x) else (np.zeros(1), np.zeros(1))
    counts, edges = np.histogram(x, BINS, _span(x, step))
    points = step * (np.arange(ends[0], ends[1] + 1, dtype=np.float64) - moved)
    error = float(np.sqrt(((x - near) ** 2).sum() / max(float((x**2).sum()), 1e-30)))
    shown = np.linspace(0, len(x) - 1, min(len(x), 1500)).astype(int)
    return OnGrid(bits, edges, counts, points, step, moved, float(outside.sum()) / len(x), error, x[shown], near[shown])


def _span(x: NDArray[Any], step: float) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low - step, high + step)


def output_error(
    bench: Workbench, name: str, config: CompressionConfig, layer: str, seen: Rounded | None = None
) -> float:
    """sqrt(E|W x - W^ x|^2 / E|W x|^2) over the baseline's inputs of the layer: what rounding the weights does to its
    output. From the cache where it was asked for before. W : as `weight_on_grid` has it before rounding.

    seen : the same network, where somebody looks at it already
    """
    key = f"{OUTPUT_ERROR}/{layer}/{bench.measurements.key(bench.profile(name), config, 'validation')}"
    if entry := bench.store.get(key):
        return float(json.loads(entry.payload))
    error = _output_error(seen or look(bench, name, config), layer)
    bench.store.put(key, OUTPUT_ERROR, json.dumps(error).encode())
    return error


def has_output_error(bench: Workbench, name: str, layer: str) -> bool:
    """Whether the second moments of the layer's inputs fit into memory, which it is computed from."""
    return layer in costs.known(costs_of(bench.profile(name).layers))


def _output_error(seen: Rounded, layer: str) -> float:
    acting, source = seen.acting.named()[layer], seen.source.named()[layer]
    second = seen.statistics.second(acting.layer, acting.columns)
    with torch.no_grad():
        before = acting.matrix(source.masked_weights()).double()
        gap = before - acting.matrix(acting.effective_weights()).double()
    if acting.layer.groups > 1:  # each with inputs of its own
        gap, before = (part.unflatten(0, (len(second), -1)) for part in (gap, before))
    lost, whole = (((part @ second) * part).sum().clamp_min(0) for part in (gap, before))
    return float((lost / whole.clamp_min(1e-30)).sqrt())


def signal_on_grid(seen: Rounded, signal: str) -> OnGrid | None:
    """|x| of a signal, "NODE.output" or "LAYER.between", over calibration images, and its grid; None where it is not
    quantized. `before` and `after` are the middles of the histogram's bins."""
    acting = _steps(seen.acting).get(signal)
    if acting is None:
        return None
    name, grid = acting
    largest = seen.statistics.activation_ranges(seen.plain)[name]
    fine = seen.statistics.histograms(seen.plain)[name]
    step, signed = grid.scale.item(), grid.signed
    x = torch.linspace(0, largest, 2 * len(fine) + 1).double()[1::2]
    x[0] = 0.0
    near = quantization.fake_quantize(x, step, grid.bits, signed)
    high = quantization.integer_range(grid.bits, signed)[1]
    counts, edges = np.histogram(x.numpy(), BINS, (0, largest or step), weights=fine)
    squares, errors = ((own.square().numpy() * fine).sum() for own in (x, x - near))
    clipped = float(fine[x.numpy() > (high + 0.5) * step].sum() / fine.sum())
    points, error = step * np.arange(high + 1, dtype=np.float64), float(np.sqrt(errors / max(squares, 1e-30)))
    shown = slice(None, None, 8)
    return OnGrid(
        grid.bits, edges, counts.astype(np.int64), points, step, 0, clipped, error,
        x.numpy()[shown], near.numpy()[shown],
    )  # fmt: skip


def parts(seen: Rounded) -> list[str]:
    """Stored weights, and the signals that are rounded where activations are, layer after layer."""
    found: list[str] = []
    signals = _steps(seen.acting)
    for node in seen.acting.network.nodes:
        stored = seen.acting.named()[node.name].stored_names() if node.weighted else []
        found += stored + [name for name in (f"{node.name}{BETWEEN}", f"{node.name}{OUTPUT}") if name in signals]
    return found


def _steps(network: CompressedNetwork) -> dict[str, tuple[str, Step]]:
    """Signals that are rounded, as they are shown: their names among `Statistics.activation_ranges`, and their grids. A
    signal is shown as the output of the node that makes it."""
    shown: dict[str, tuple[str, Step]] = {}
    for name, layer in network.named().items():
        if layer.between is not None:
            shown[f"{name}{BETWEEN}"] = f"{name}{BETWEEN}", layer.between
    for signal in network.network.signals:
        if (step := network.step(signal)) is not None:
            makes = next(name for name, end in network.network.grids.items() if end == signal.name)
            shown[f"{makes}{OUTPUT}"] = signal.name, step
    return shown


def grids_of(seen: Rounded, tensor: str) -> int:
    """How many grids a stored weight has: one per output channel, or one."""
    layer, part = _part(tensor)
    grid = seen.acting.named()[layer].weights[part].encoder
    return int(grid.scale.numel()) if isinstance(grid, LearnedGrid) else 1
