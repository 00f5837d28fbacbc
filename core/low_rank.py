"""Low-rank factors of a weight: W (m x n) = U diag(s) V^T, and what r of its singular values keep.

A convolution's weight (out, in, k, k) is taken as the matrix out x (in * k * k). Source of the mathematics: Eckart &
Young 1936; of its use on networks: Denton et al. 2014, Zhang et al. 2015.
"""

from math import floor
from typing import NamedTuple

import torch
from torch import Tensor


class Decomposition(NamedTuple):
    """W = left @ diag(singular_values) @ right. left : (m, k), singular_values : (k,) falling, right : (k, n)."""

    left: Tensor
    singular_values: Tensor
    right: Tensor


def as_matrix(weight: Tensor) -> Tensor:
    """weight : (out, in) or (out, in, k, k) -> (out, in * k * k)."""
    return weight.reshape(weight.shape[0], -1)


def decompose(weight: Tensor) -> Decomposition:
    """The singular value decomposition W = U diag(s) V^T, computed in float64, returned in float32."""
    left, values, right = torch.linalg.svd(as_matrix(weight).double(), full_matrices=False)
    return Decomposition(left.float(), values.float(), right.float())


def factorize(decomposition: Decomposition, rank: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """W ~ second @ first, first = diag(sqrt(s_r)) V_r^T, second = U_r diag(sqrt(s_r)): the best W_r of rank r.

    ||W - W_r||_F^2 = sum of the squared singular values that were dropped (Eckart & Young 1936). The root of s in both
    factors makes them equally large, which suits pruning and quantization.

    rank : in [1, min(m, n)]
    shape : of the weight; (out, in) -> first (r, in), second (out, r);
        (out, in, k, k) -> first (r, in, k, k), second (out, r, 1, 1)
    """
    left, values, right = decomposition
    if not 1 <= rank <= len(values):
        raise ValueError(f"rank must be in [1, {len(values)}]. Got {rank} instead.")
    root = values[:rank].sqrt()
    first, second = root[:, None] * right[:rank], left[:, :rank] * root
    ones = (1,) * (len(shape) - 2)
    return first.reshape(rank, *shape[1:]).contiguous(), second.reshape(shape[0], rank, *ones).contiguous()


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
