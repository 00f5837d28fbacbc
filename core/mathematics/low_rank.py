"""Low-rank factors of a weight: W (m x n) = U diag(s) V^T, and what r of its singular values keep.

Plain factors are nearest to the weight; data-aware ones are nearest to what the layer puts out on real inputs.

A convolution's weight (out, in, k, k) is taken as the matrix out x (in * k * k). Source of the mathematics: Eckart &
Young 1936; of its use on networks: Denton et al. 2014, Zhang et al. 2015.
"""

from math import floor
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.mathematics import costs

Method = Literal["svd", "whitened"]
"""Factors nearest to the weight, or to its output on real inputs."""

RIDGE = 1e-7
"""Added to the second moments, relative to their mean on the diagonal: inputs that never vary make them singular."""


class Window(NamedTuple):
    """How a convolution moves over its input: (vertical, horizontal) each, the padding above, left, below, right."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


class Decomposition(NamedTuple):
    """W = left @ diag(singular_values) @ right. left : (m, k), singular_values : (k,) falling, right : (k, n).

    left has orthonormal columns; so has right^T, unless the decomposition is data-aware.
    mean : (k,), right @ E[x] where it is data-aware, zeros where it is not
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    mean: Tensor


def as_matrix(weight: Tensor) -> Tensor:
    """weight : (out, in) or (out, in, k, k) -> (out, in * k * k)."""
    return weight.reshape(weight.shape[0], -1)


def decompose(weight: Tensor) -> Decomposition:
    """The singular value decomposition W = U diag(s) V^T, computed in float64, returned in float32."""
    left, values, right = torch.linalg.svd(as_matrix(weight).double(), full_matrices=False)
    return Decomposition(left.float(), values.float(), right.float(), torch.zeros(len(values)))


def moments(x: Tensor, shape: tuple[int, ...], window: Window | None = None) -> tuple[Tensor, Tensor]:
    """E[x] and C = E[x x^T] of what a layer's weight is multiplied with, in float64; for a convolution, its patches.

    x : the layer's input, (n, in), or (n, in, h, w) where a window says how the convolution moves over it
    shape : of its weight, (out, in) or (out, in / groups, height, width). Returns (d,) and (d, d) with d = in, or
        in / groups * height * width; (groups, d) and (groups, d, d) where a convolution has more than one group.
    """
    places, groups = (1, 1) if window is None else (_patches(x[:1], window).shape[-1], window.groups)
    cost = costs.layer_cost("", shape, places, pool=False, groups=groups)
    most = costs.ROW_IMAGES if window is None else costs.PATCH_IMAGES
    first, second = torch.zeros(groups, 1, dtype=torch.float64), torch.zeros(groups, 1, 1, dtype=torch.float64)
    for chunk in x.split(costs.images_at_once(cost.patches, most, costs.PART)):
        if window is None:
            parts = [chunk.double()]
        else:
            parts = [part.transpose(1, 2).flatten(0, 1) for part in _patches(chunk.double(), window).chunk(groups, 1)]
        share = len(chunk) / len(x) / len(parts[0])
        first = first + share * torch.stack([rows.sum(0) for rows in parts])
        second = second + share * torch.stack([rows.T @ rows for rows in parts])
    return (first[0], second[0]) if groups == 1 else (first, second)


def _patches(x: Tensor, window: Window) -> Tensor:
    """What a convolution multiplies at each place, (n, in * height * width, places)."""
    above, left, below, right = window.padding
    return F.unfold(F.pad(x, (left, right, above, below)), window.kernel, window.dilation, 0, window.stride)


def decompose_whitened(weight: Tensor, mean: Tensor, second: Tensor) -> Decomposition:
    """Data-aware: W = U diag(s) (V^T S^-1), where U diag(s) V^T = W S and S S^T = C, computed in float64.

    Its first r terms minimise E||W x - W_r x||^2 instead of ||W - W_r||^2, and the squared s that were dropped are
    that error. Any root S of C gives the same W_r; this is Cholesky's, which is the quickest. C gets a small ridge,
    `RIDGE`. Source: Zhang et al. 2015; DRONE (Chen et al. 2021); SVD-LLM (Wang et al. 2024).

    weight : (out, in) or (out, in, k, k); mean, second : E[x] and C, as from `moments`
    """
    ridge = RIDGE * float(second.diagonal().mean()) or 1.0
    damped = second.double().clone()
    damped.diagonal().add_(ridge)
    root = torch.linalg.cholesky(damped)
    del damped  # a matrix of this size may be 200 MB
    left, values, right = torch.linalg.svd(as_matrix(weight).double() @ root, full_matrices=False)
    unwhitened = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return Decomposition(left.float(), values.float(), unwhitened.float(), (unwhitened @ mean.double()).float())


def random_singular_values(m: int, n: int, variance: float) -> Tensor:
    """What a matrix of m x n independent numbers with this variance has: s_i^2 / (max(m, n) * variance) are quantiles
    of the law of Marchenko & Pastur 1967, whose density is sqrt((b - x)(x - a)) / (2 pi q x) on [a, b],
    a, b = (1 -+ sqrt(q))^2, q = min(m, n) / max(m, n).

    Returns (min(m, n),), falling, float64.
    """
    k, long = min(m, n), max(m, n)
    q = k / long
    # x = a .. b, denser at the ends, where the density is steep
    x = 1 + q - 2 * q**0.5 * np.cos(np.linspace(0, np.pi, 20_001))
    a, b = (1 - q**0.5) ** 2, (1 + q**0.5) ** 2
    density = np.sqrt(np.clip((b - x) * (x - a), 0, None)) / np.maximum(x, 1e-12)
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2)])
    quantiles = np.interp((k - 0.5 - np.arange(k)) / k, cumulative / cumulative[-1], x)
    return torch.from_numpy(np.sqrt(quantiles * long * variance))


def factorize(decomposition: Decomposition, rank: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """W ~ second @ first, first = diag(sqrt(s_r)) V_r^T, second = U_r diag(sqrt(s_r)): the best W_r of rank r.

    ||W - W_r||_F^2 = sum of the squared singular values that were dropped (Eckart & Young 1936); of a data-aware
    decomposition it is E||W x - W_r x||^2. The root of s in both factors makes them about equally large, which suits
    pruning and quantization.

    rank : in [1, min(m, n)]
    shape : of the weight; (out, in) -> first (r, in), second (out, r);
        (out, in, k, k) -> first (r, in, k, k), second (out, r, 1, 1)
    """
    left, values, right, _ = decomposition
    if not 1 <= rank <= len(values):
        raise ValueError(f"rank must be in [1, {len(values)}]. Got {rank} instead.")
    root = values[:rank].sqrt()
    first, second = root[:, None] * right[:rank], left[:, :rank] * root
    ones = (1,) * (len(shape) - 2)
    return first.reshape(rank, *shape[1:]).contiguous(), second.reshape(shape[0], rank, *ones).contiguous()


def reconstruct(decomposition: Decomposition, rank: int, shape: tuple[int, ...]) -> Tensor:
    """W_r = second @ first, of the weight's own shape: the layer as `rank` of its terms make it."""
    first, second = factorize(decomposition, rank, shape)
    return (second.flatten(1) @ first.flatten(1)).reshape(shape)


def bias_correction(decomposition: Decomposition, rank: int) -> Tensor:
    """E[W x - W_r x], (m,): what the dropped terms of a data-aware decomposition add on average, and what the bias
    gets instead of them (Nagel et al. 2019). Zero where the decomposition knows nothing of x."""
    left, values, _, mean = decomposition
    return left[:, rank:] @ (values[rank:] * mean[rank:])


def cumulative_energy(singular_values: Tensor) -> Tensor:
    """Energy of rank r = sum_{i<=r} s_i^2 / sum s_i^2, for r = 1 .. k. The report calls it cumulative variance."""
    squares = singular_values.double().square()
    return squares.cumsum(0) / squares.sum().clamp_min(torch.finfo(torch.float64).tiny)


def rank_for_energy(singular_values: Tensor, energy: float) -> int:
    """The smallest r whose energy is at least `energy`, in (0, 1]."""
    if not 0 < energy <= 1:
        raise ValueError(f"energy must be in (0, 1]. Got {energy} instead.")
    short = cumulative_energy(singular_values) < energy - 1e-12
    return min(int(short.sum()) + 1, len(singular_values))


def break_even_rank(m: int, n: int) -> int:
    """The largest r with r (m + n) < m n: above it two factors hold no fewer numbers than the matrix. May be 0."""
    return -(-m * n // (m + n)) - 1


def rank_from_share(share: float, full_rank: int) -> int:
    """max(1, floor(share * min(m, n))): what is left when a share 1 - `share` of the singular values is removed."""
    return max(1, floor(share * full_rank + 1e-9))


def condition_number(singular_values: Tensor) -> float:
    """s_max / s_min; infinite for a singular matrix."""
    smallest = singular_values[-1].item()
    return singular_values[0].item() / smallest if smallest > 0 else float("inf")


def stable_rank(singular_values: Tensor) -> float:
    """||W||_F^2 / s_max^2 (Rudelson & Vershynin 2007): how many directions carry the weight, as a smooth number."""
    squares = singular_values.double().square()
    return (squares.sum() / squares[0].clamp_min(torch.finfo(torch.float64).tiny)).item()


def effective_rank(singular_values: Tensor) -> float:
    """exp(entropy of s^2 / sum s^2) (Roy & Vetterli 2007)."""
    squares = singular_values.double().square()
    shares = squares / squares.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum().exp().item()
