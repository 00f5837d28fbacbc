"""Which weights go: scores, masks and the schedule. A mask is True where a weight is kept.

Exactly round(s * n) weights go, ties included (of equal scores the first in storage order); sparsity 0 keeps all,
sparsity 1 none.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """score = |w|: the smallest change of the weights for a given number of zeros (Han et al. 2015)."""
    return weight.abs()


def lamp(weight: Tensor) -> Tensor:
    """score = w^2 / sum of the u^2 of its tensor with u^2 >= w^2 (Lee et al. 2021), float64, in [0, 1].

    Within a tensor the order is that of |w|. Between tensors it compares what is lost with what would still be there:
    the largest weight of every tensor scores 1, so that one threshold never empties a layer.
    """
    squares = weight.detach().flatten().double().square()
    ordered = squares.sort().values
    not_smaller = ordered.flip(0).cumsum(0).flip(0)
    shares = squares / not_smaller[torch.searchsorted(ordered, squares)].clamp_min(torch.finfo(torch.float64).tiny)
    return shares.reshape(weight.shape)


def activation(weight: Tensor, input_rms: Tensor) -> Tensor:
    """score = |w| * sqrt(E[x^2]), x what the weight is multiplied with (Wanda, Sun et al. 2024).

    A large weight that meets a pixel that is always black changes nothing. input_rms : broadcasts to weight
    """
    return weight.abs() * input_rms


def keep_mask(scores: Tensor, sparsity: float) -> Tensor:
    """False for exactly the round(sparsity * n) smallest scores, True for the others.

    scores : any shape, n values
    sparsity : in [0, 1]
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity must be in [0, 1]. Got {sparsity} instead.")
    if torch.isnan(scores).any():
        raise ValueError("scores must be numbers. Got NaN among them.")
    flat = scores.detach().flatten().cpu()
    drop = round(sparsity * flat.numel())
    mask = torch.ones(flat.shape, dtype=torch.bool)
    if drop > 0:
        threshold = float(np.partition(flat.numpy(), drop - 1)[drop - 1])
        mask = flat > threshold
        ties = torch.nonzero(flat == threshold).flatten()
        mask[ties[drop - int((flat < threshold).sum()) :]] = True
    return mask.reshape(scores.shape).to(scores.device)


def keep_masks(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """One threshold over several tensors together: the round(sparsity * n) smallest of all their scores go."""
    joined = keep_mask(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = joined.split([score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def cubic(t: float) -> float:
    """1 - (1 - t)^3: the share of the final sparsity at time t in [0, 1] (Zhu & Gupta 2017). Much goes early, while
    plenty can spare it, and little late, when every weight is missed."""
    return 1 - (1 - min(max(t, 0.0), 1.0)) ** 3
