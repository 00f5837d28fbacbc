"""Numbers on an integer grid: x ~ scale * (q - zero_point), and which integer each number becomes.

A symmetric grid is signed and has zero_point 0; an asymmetric one is unsigned, and its zero_point stands for 0. Zero is
always a point of the grid, so that pruned weights stay zero. Activations after a ReLU are unsigned with zero_point 0,
per tensor; the signal between two factors of a low-rank layer is symmetric. Source: Jacob et al. 2018.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

Granularity = Literal["channel", "tensor"]
Symmetry = Literal["symmetric", "asymmetric"]
Clip = Literal["minmax", "mse"]

CLIP_SHARES = tuple(share / 50 for share in range(50, 5, -1))
"""Shares of the min-max range that MSE clipping tries: 1, 0.98 .. 0.12."""

DAMPING = 0.01
"""Share of the mean of E[x^2] that GPTQ adds to each of them."""

BLOCK = 128
"""Columns after which GPTQ brings all later ones up to date."""


class Grid(NamedTuple):
    """scale : > 0, broadcasts to the tensor; zero_point : whole numbers of the same shape, None where symmetric."""

    scale: Tensor
    zero_point: Tensor | None


Choose = Callable[[Tensor, int, Tensor], Tensor]
"""Of a column, (out, 1), its place among the inputs, and U_jj: the points to which its weights are rounded. An error of
size e in it costs (e / U_jj)^2 of E|W x - W^ x|^2, once later columns have made up for it."""


class Compensation(NamedTuple):
    """How an error in one input column is made up for by later ones. order : (d,), the columns in the order in which
    they are rounded; upper : (d, d), the Cholesky factor U of (E[x x^T] + damping)^-1 = U^T U in that order."""

    order: Tensor
    upper: Tensor


def integer_range(bits: int, signed: bool) -> tuple[int, int]:
    """(q_min, q_max). Signed, symmetric: -+(2^(b-1) - 1), so 2 bits are -1, 0, 1. Unsigned: 0 .. 2^b - 1."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be in [2, 8]. Got {bits} instead.")
    return (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def linear_quantize(
    x: Tensor, scale: Tensor | float, zero_point: Tensor | int, bits: int, signed: bool = True
) -> Tensor:
    """q = clamp(round(x / scale) + zero_point, q_min, q_max).

    Each number is divided by the step of the grid, rounded to the nearest integer (ties to even), moved so that
    `zero_point` stands for 0, and clipped to what `bits` can count.

    x : any shape; scale, zero_point : numbers or tensors that broadcast to x, scale > 0. Returns int16, as x.
    """
    q_min, q_max = integer_range(bits, signed)
    return (torch.round(x / scale) + zero_point).clamp_(q_min, q_max).to(torch.int16)


def linear_dequantize(q: Tensor, scale: Tensor | float, zero_point: Tensor | int = 0) -> Tensor:
    """x ~ scale * (q - zero_point), as float32. Inside the range |x - linear_dequantize(q)| <= scale / 2."""
    return (q.float() - zero_point) * scale


def scale_and_zero_point(low: Tensor, high: Tensor, bits: int, symmetry: Symmetry) -> Grid:
    """The grid that covers [low, high].

    symmetric : scale = max(|low|, |high|) / q_max
    asymmetric : scale = (high - low) / (2^b - 1), zero_point = round(-low / scale), of a range made to hold 0
    Where low and high are 0, scale is 1.
    """
    low, high = low.clamp_max(0), high.clamp_min(0)
    signed = symmetry == "symmetric"
    q_max = integer_range(bits, signed)[1]
    scale = torch.maximum(-low, high) / q_max if signed else (high - low) / q_max
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return Grid(scale, None if signed else torch.round(-low / scale).clamp(0, q_max))


def weight_grid(
    weight: Tensor,
    bits: int,
    granularity: Granularity = "channel",
    symmetry: Symmetry = "symmetric",
    clip: Clip = "minmax",
) -> Grid:
    """A grid for each output channel, or one for the whole tensor.

    minmax : it reaches from the smallest weight to the largest
    mse : from all shares of that range in `CLIP_SHARES`, the one with the least sum of (w - w^)^2: few large weights
        are clipped, and all others lie on a finer grid
    weight : (out, ...). Its scale is (out, 1, ...) for "channel", (1, 1, ...) for "tensor".
    """
    others = tuple(range(1 if granularity == "channel" else 0, weight.dim()))
    low, high = weight.amin(others, keepdim=True), weight.amax(others, keepdim=True)
    best = scale_and_zero_point(low, high, bits, symmetry)
    if clip == "minmax":
        return best
    least = torch.full_like(best.scale, torch.inf)
    for share in CLIP_SHARES:
        grid = scale_and_zero_point(share * low, share * high, bits, symmetry)
        error = (weight - fake_quantize(weight, grid.scale, bits, symmetry == "symmetric", grid.zero_point)).square_()
        error = error.sum(others, keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        best = Grid(*(None if a is None else torch.where(better, b, a) for a, b in zip(best, grid, strict=True)))  # type: ignore[arg-type]
    return best


def activation_scale(largest: float, bits: int, signed: bool) -> float:
    """scale = max |x| / q_max; 1 where it is 0."""
    return largest / integer_range(bits, signed)[1] or 1.0


def clipped_activation(counts: NDArray, largest: float, bits: int, signed: bool) -> float:
    """The share of max |x| with the least E[(x - x^)^2], as a number: what is larger is clipped.

    counts : a histogram of |x| in equal bins of [0, largest]
    """
    weights = torch.from_numpy(counts).double()
    x = (torch.arange(len(counts)) + 0.5) * (largest / len(counts))
    x[0] = 0.0  # nearly all of the first bin: what the ReLU cut off
    errors = []
    for share in CLIP_SHARES:
        scale = activation_scale(share * largest, bits, signed)
        errors.append(float(weights @ (x - fake_quantize(x, scale, bits, signed)).double().square()))
    return CLIP_SHARES[errors.index(min(errors))] * largest


def fake_quantize(
    x: Tensor, scale: Tensor | float, bits: int, signed: bool = True, zero_point: Tensor | None = None
) -> Tensor:
    """linear_dequantize(linear_quantize(x)) in float32: the value that the integer stands for.

    Its gradient is straight-through (Bengio et al. 2013): for x it is that of clamp, 1 inside the range, 0 where x is
    clipped. For the scale it is round(x / scale) - x / scale inside and the end of the range where x is clipped, so
    that steps can be learned (LSQ, Esser et al. 2020).
    """
    low, high = integer_range(bits, signed)
    ends = (low, high) if zero_point is None else (low - zero_point, high - zero_point)
    learns = x.requires_grad or (isinstance(scale, Tensor) and scale.requires_grad)
    if not (torch.is_grad_enabled() and learns):
        return (x / scale).round_().clamp_(*ends).mul_(scale)
    inside = (x / scale).clamp(*ends)
    return (inside + (inside.round() - inside).detach()) * scale


def learned_step(scale: Tensor, count: int, bits: int, signed: bool) -> Tensor:
    """The scale itself, its gradient divided by sqrt(n * q_max), so that a step moves as far, for its size, as a weight
    does (LSQ, Esser et al. 2020). count : n, how many numbers share the step: those of a row, where each has its own"""
    if not torch.is_grad_enabled():
        return scale
    factor = (count * integer_range(bits, signed)[1]) ** -0.5
    step = scale.view_as(scale)
    if step.requires_grad:
        step.register_hook(lambda gradient: gradient * factor)
    return step


def first_step(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Where a step that is learned begins: 2 E|w| / sqrt(q_max), over the weights that share it and are not 0 (LSQ,
    Esser et al. 2020); the scale as it is where all of them are 0.

    weight : (out, ...), on a symmetric grid; scale : (out, 1, ...) or (1, 1, ...), as is what is returned
    """
    others = tuple(place for place in range(weight.dim()) if scale.shape[place] == 1)
    kept = torch.count_nonzero(weight, others).reshape(scale.shape)
    mean = weight.abs().sum(others, keepdim=True) / kept.clamp_min(1)
    return torch.where(mean > 0, 2 * mean / integer_range(bits, signed=True)[1] ** 0.5, scale)


def compensation(second: Tensor) -> Compensation:
    """Made once per input, for `gptq`. second : E[x x^T], (d, d), float64; inputs that vary most are rounded first."""
    diagonal = second.diagonal()
    order = diagonal.argsort(descending=True, stable=True)
    damped = second[order[:, None], order]
    damped.diagonal().add_(DAMPING * diagonal.mean().clamp_min(1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    del damped  # a matrix of this size may be 200 MB
    return Compensation(order, torch.linalg.cholesky(inverse, upper=True).float())


def gptq(
    weight: Tensor, grid: Grid, bits: int, known: Compensation, kept: Tensor | None = None, choose: Choose | None = None
) -> Tensor:
    """The weights on their grid that nearly minimise E|W x - W^ x|^2, and not |W - W^|^2 (GPTQ, Frantar et al. 2023).

    Column by column, each weight goes to its nearest point; its error, over U_jj, is taken from the columns j' > j that
    are still free, in proportion U_jj': inputs that go up and down together make up for one another. A pruned weight
    is rounded to 0 and its error passed on, too (SparseGPT, Frantar & Alistarh 2023).

    weight : (out, ...), seen as (out, d); kept : bool like it, or None; choose : another point than the nearest
    Returns float32 of the weight's shape.
    """
    scale = grid.scale.flatten(1)
    zero_point = None if grid.zero_point is None else grid.zero_point.flatten(1)
    free = weight.flatten(1)[:, known.order].clone()
    mask = None if kept is None else kept.flatten(1)[:, known.order]
    rounded, places = torch.empty_like(free), known.order.tolist()
    for start in range(0, free.shape[1], BLOCK):
        stop = min(start + BLOCK, free.shape[1])
        upper, block = known.upper[start:stop, start:stop], free[:, start:stop]
        errors = torch.empty_like(block)
        for j in range(stop - start):
            column = block[:, j : j + 1]
            if choose is None:
                near = fake_quantize(column, scale, bits, zero_point is None, zero_point)
            else:
                near = choose(column, places[start + j], upper[j, j])
            near = near if mask is None else near * mask[:, start + j : start + j + 1]
            errors[:, j : j + 1] = (column - near) / upper[j, j]
            rounded[:, start + j : start + j + 1] = near
            block[:, j + 1 :].addr_(errors[:, j], upper[j, j + 1 :], alpha=-1)
        free[:, stop:].addmm_(errors, known.upper[start:stop, stop:], alpha=-1)
    return rounded[:, known.order.argsort()].reshape(weight.shape)


def gptq_in_groups(
    weight: Tensor,
    grid: Grid,
    bits: int,
    known: Sequence[Compensation],
    kept: Tensor | None = None,
    chooses: Sequence[Choose | None] = (),
) -> Tensor:
    """The same where each group of rows has inputs of its own: a grouped convolution. known, chooses : by group"""
    parts = len(known)
    grids = [
        [None] * parts if part is None else part.expand(len(weight), *part.shape[1:]).chunk(parts) for part in grid
    ]
    masks = [None] * parts if kept is None else kept.chunk(parts)
    each = zip(weight.chunk(parts), *grids, known, masks, chooses or (None,) * parts, strict=True)
    return torch.cat([gptq(rows, Grid(step, zero), bits, *rest) for rows, step, zero, *rest in each])


def output_energy(weight: Tensor, known: Sequence[Compensation]) -> float:
    """E|W x|^2 = sum |W U^-1|^2, with the damping that is in U. weight : (out, ...), known : of each group of rows"""
    parts = zip(weight.flatten(1).chunk(len(known)), known, strict=True)
    solved = (torch.linalg.solve_triangular(own.upper, w[:, own.order], upper=True, left=False) for w, own in parts)
    return sum(float(each.double().square().sum()) for each in solved)


def bias_correction(before: Tensor, after: Tensor, mean: Tensor) -> Tensor:
    """E[W x] - E[W^ x] = (W - W^) E[x]: what rounding took from the outputs on average, to be added to the bias.

    before, after : (out, d); mean : (d,), or (groups, d) where the rows of a group have inputs of their own. Returns
    (out,), float32 (Nagel et al. 2019).
    """
    lost = before.double() - after.double()
    if mean.dim() == 1:
        return (lost @ mean.double()).float()
    return (lost.unflatten(0, (len(mean), -1)) @ mean.double()[:, :, None]).flatten().float()
