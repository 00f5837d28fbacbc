"""Numbers on an integer grid: x ~ scale * (q - zero_point).

Weights are symmetric (zero_point 0) and signed, per output channel or per tensor. Activations after a ReLU are
unsigned, per tensor; the signal between two factors of a low-rank layer is signed. Source: Jacob et al. 2018.
"""

import torch
from torch import Tensor

from core.config import Granularity


def integer_range(bits: int, signed: bool) -> tuple[int, int]:
    """(q_min, q_max). Signed, symmetric: -+(2^(b-1) - 1), so 2 bits are -1, 0, 1. Unsigned: 0 .. 2^b - 1."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be in [2, 8]. Got {bits} instead.")
    return (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def linear_quantize(x: Tensor, scale: Tensor | float, zero_point: int, bits: int, signed: bool = True) -> Tensor:
    """q = clamp(round(x / scale) + zero_point, q_min, q_max).

    Each number is divided by the step of the grid, rounded to the nearest integer (ties to even), moved so that
    `zero_point` stands for 0, and clipped to what `bits` can count.

    x : any shape; scale : a number or a tensor that broadcasts to x, > 0. Returns int16 of the shape of x.
    """
    q_min, q_max = integer_range(bits, signed)
    return (torch.round(x / scale) + zero_point).clamp_(q_min, q_max).to(torch.int16)


def linear_dequantize(q: Tensor, scale: Tensor | float, zero_point: int = 0) -> Tensor:
    """x ~ scale * (q - zero_point), as float32. Inside the range |x - linear_dequantize(q)| <= scale / 2."""
    return (q.float() - zero_point) * scale


def symmetric_scale(weight: Tensor, bits: int, granularity: Granularity) -> Tensor:
    """scale = max |w| / q_max, over each output channel or over the whole tensor; 1 where all weights are 0.

    weight : (out, ...). Returns (out, 1, ...) for "channel", a tensor with one value, (1, 1, ...), for "tensor".
    """
    others = tuple(range(1, weight.dim())) if granularity == "channel" else tuple(range(weight.dim()))
    largest = weight.abs().amax(dim=others, keepdim=True)
    scale = largest / integer_range(bits, signed=True)[1]
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def activation_scale(largest: float, bits: int, signed: bool) -> float:
    """scale = max |x| / q_max, from the largest |x| of a sample (min-max calibration); 1 where it is 0."""
    return largest / integer_range(bits, signed)[1] or 1.0


def fake_quantize(x: Tensor, scale: Tensor | float, bits: int, signed: bool = True) -> Tensor:
    """linear_dequantize(linear_quantize(x)) in float32: the value that the integer stands for.

    Its gradient is that of clamp (straight-through, Bengio et al. 2013): 1 inside the range, 0 where x is clipped.
    """
    q_min, q_max = integer_range(bits, signed)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return (x / scale).round_().clamp_(q_min, q_max).mul_(scale)
    inside = (x / scale).clamp(q_min, q_max)
    return (inside + (inside.round() - inside).detach()) * scale
