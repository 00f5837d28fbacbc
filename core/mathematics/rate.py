"""Rate: how many bits an entropy coder will spend on whole numbers, as a smooth function that training can lower."""

import torch
from torch import Tensor

PRIOR = 0.5
"""How often each whole number counts before it came once (Krichevsky & Trofimov 1981)."""


def code_lengths(values: Tensor, low: int, high: int) -> Tensor:
    """Bits of each whole number v in [low, high] under how often it came: -log2((n_v + 1/2) / (n + k/2)), k of them.

    values : whole numbers in [low, high], any shape, as floats or integers; returns float32, (high - low + 1,)
    """
    counts = torch.bincount((values.flatten() - low).long(), minlength=high - low + 1).float() + PRIOR
    return (counts.sum() / counts).log2()


def smooth_bits(positions: Tensor, low: int, high: int) -> Tensor:
    """What it costs to code round(x) for all x of `positions`, in bits, with a gradient: sum c(x), where c is the code
    length of how often each number comes now, and is linear between two neighbouring numbers.

    So lambda * c pulls a weight towards the neighbour that comes more often, by the bits that it would save there; at
    whole numbers the sum is the empirical entropy (Shannon 1948). Compare the rate of Oktay et al. 2020.

    positions : float32, any shape, on the scale of the whole numbers; those beyond [low, high] cost what the end does
    """
    inside = positions.clamp(low, high)
    lengths = code_lengths(inside.detach().round(), low, high)
    below = inside.detach().floor().clamp_max(high - 1)
    place = (below - low).long()
    first, second = lengths[place], lengths[place + 1]
    return (first + (second - first) * (inside - below)).sum()
