"""Floats in fewer bits, as files hold them: float16, and whole multiples of a power of two."""

from math import frexp

import torch
from torch import Tensor


def to_half(x: Tensor) -> Tensor:
    """x rounded to float16, as float32; x itself where that would move a number by more than 2^-11 of it."""
    half = x.half().float()
    return half if bool(((half - x).abs() <= 2**-11 * x.abs()).all()) else x


def shortest(x: Tensor) -> Tensor:
    """x as float16 where that holds each of its numbers exactly, else as it is."""
    half = x.half()
    return half if torch.equal(half.float(), x) else x


def to_fixed_point(x: Tensor) -> Tensor:
    """x rounded to whole multiples k 2^e with |k| <= 2047, which float16 holds exactly, too: e as small as may be.

    In float32, since not every device has more, and yet exact: 2^e may lie outside its range, but not two powers of two
    that make it up, and to multiply with these rounds nothing that counts.
    """
    exponent = fixed_point_exponent(x.abs().max().item())
    powers = 2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)
    return (x / powers[0] / powers[1]).round().mul(powers[0]).mul(powers[1])


def fixed_point_exponent(largest: float) -> int:
    """The smallest e with largest <= 2047 * 2^e; 0 for 0."""
    mantissa, exponent = frexp(largest / 2047)
    return exponent - (mantissa == 0.5)


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """What x is rounded to; while training, with the gradient of x (Bengio et al. 2013)."""
    return rounded + (x - x.detach()) if torch.is_grad_enabled() else rounded
