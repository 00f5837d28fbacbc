"""Batch normalization folded into the layer before it: the same function, fewer operations."""

import torch
from torch import Tensor


def fold_batch_norm(
    weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """gamma * (W x + b - mean) / sqrt(var + eps) + beta = W' x + b' (Jacob et al. 2018, section 3.2).

    weight : (out, in, k, k) or (out, in); everything else (out,). Returns W' and b', computed in float64.
    """
    factor = gamma.double() / torch.sqrt(var.double() + eps)
    folded = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return folded.float(), ((bias.double() - mean.double()) * factor + beta.double()).float()
