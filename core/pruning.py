"""Which weights go: scores and masks. A mask is True where a weight is kept.

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


def keep_mask(scores: Tensor, sparsity: float) -> Tensor:
    """False for exactly the round(sparsity * n) smallest scores, True for the others.

    scores : any shape, n values
    sparsity : in [0, 1]
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity must be in [0, 1]. Got {sparsity} instead.")
    if torch.isnan(scores).any():
        raise ValueError("scores must be numbers. Got NaN among them.")
    flat = scores.flatten()
    drop = round(sparsity * flat.numel())
    if drop == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = float(np.partition(flat.cpu().numpy(), drop - 1)[drop - 1])
    mask = flat > threshold
    ties = torch.nonzero(flat == threshold).flatten()
    mask[ties[drop - int((flat < threshold).sum()) :]] = True
    return mask.reshape(scores.shape)


def keep_masks(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """One threshold over several tensors together: the round(sparsity * n) smallest of all their scores go."""
    joined = keep_mask(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = joined.split([score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
