"""Rounding by error and rate together: a code may be a worse one where that saves more bits than it is worth.

DeepCABAC and NNCodec round so, each weight alone (Wiedemann et al. 2020). Here the error is that of the layer's output,
and other weights make up for it, as in GPTQ (Frantar et al. 2023).
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from core.mathematics import coding, quantization
from core.mathematics.quantization import Choose, Compensation, Grid

PASSES, SWEEPS = 2, 3
"""So many times codes are rounded column by column, and then each once more, all others as they are: with other codes
the coder expects others."""


def rate_rounding(
    weight: Tensor,
    grid: Grid,
    bits: int,
    known: Sequence[Compensation],
    rate_weight: float,
    kept: Tensor | None = None,
    window: coding.Window = (1, 1),
) -> Tensor:
    """The weights W^ on their grid that nearly minimise `objective`: with a lambda of 0 those of GPTQ, exactly.

        J = E|W x - W^ x|^2 / E|W x|^2 + lambda B

    First column by column, as `quantization.gptq`: each weight w goes to the point p with the least

        (w - p)^2 / U_jj^2 + price c(p),  price = lambda E|W x|^2,

    where c(p) are the bits -log2 of the coder's own probability in the context of that weight, at first among the codes
    of GPTQ. Where weights were pruned, few are free to make up for an error, and that is too bold: so the best of
    nearest rounding, GPTQ and `PASSES` of these is improved by `SWEEPS` of coordinate descent. What is kept has the
    least J of all, so it is never worse than GPTQ or nearest rounding.

    weight : (out, ...), pruned already; grid : of its rows or of all; known : of its inputs, for each group of its rows
    rate_weight : lambda >= 0, by how much of its output's energy a layer may be wrong for a bit
    kept : bool like the weight, or None: pruned weights stay 0; window : see `coding.contexts`
    Returns float32 of the weight's shape.
    """
    found = quantization.gptq_in_groups(weight, grid, bits, known, kept)
    if not rate_weight:
        return found
    nearest = quantization.fake_quantize(weight, grid.scale, bits, grid.zero_point is None, grid.zero_point)
    tried, parts = [nearest, found], len(known)
    choices = partial(_choices, grid, bits, rate_weight * quantization.output_energy(weight, known), parts, window)
    least = partial(min, key=lambda other: objective(weight, other, grid.scale, known, rate_weight, window))
    for _ in range(PASSES):
        tried.append(quantization.gptq_in_groups(weight, grid, bits, known, kept, choices(tried[-1])))
    tried = [least(tried)]
    seconds = [torch.cholesky_inverse(own.upper, upper=True) for own in known]
    masks = [None] * parts if kept is None else kept.chunk(parts)
    for _ in range(SWEEPS):
        each = zip(weight.chunk(parts), tried[-1].chunk(parts), known, seconds, masks, choices(tried[-1]), strict=True)
        tried.append(torch.cat([coordinate_descent(*part) for part in each]))
    return least(tried)


def coordinate_descent(
    weight: Tensor, rounded: Tensor, known: Compensation, second: Tensor, kept: Tensor | None, choose: Choose
) -> Tensor:
    """Each column once more, all others as they are: the error is least at w^_j + (E C)_j / C_jj with E = W - W^, and
    each weight goes to the point that is best beside that (coordinate descent, compare Nair & Suggala 2024).

    weight, rounded : (out, ...); second : C of `known` in its order, (d, d)
    """
    now = rounded.flatten(1)[:, known.order].clone()
    mask = None if kept is None else kept.flatten(1)[:, known.order]
    pulls, places = (weight.flatten(1)[:, known.order] - now) @ second, known.order.tolist()
    for start in range(0, now.shape[1], quantization.BLOCK):
        stop = min(start + quantization.BLOCK, now.shape[1])
        block, pull, own = now[:, start:stop], pulls[:, start:stop].clone(), second[start:stop, start:stop]
        before = block.clone()
        for j in range(stop - start):
            least = block[:, j : j + 1] + pull[:, j : j + 1] / own[j, j]
            point = choose(least, places[start + j], own[j, j].rsqrt())
            point = point if mask is None else point * mask[:, start + j : start + j + 1]
            pull.addr_((point - block[:, j : j + 1])[:, 0], own[j], alpha=-1)
            block[:, j : j + 1] = point
        pulls.addmm_(block - before, second[start:stop], alpha=-1)
    return now[:, known.order.argsort()].reshape(weight.shape)


def objective(
    weight: Tensor,
    rounded: Tensor,
    scale: Tensor,
    known: Sequence[Compensation],
    rate_weight: float,
    window: coding.Window = (1, 1),
) -> float:
    """J of `rate_rounding`. B : what the coder spends on all codes of `rounded`, in bits, learning as it does"""
    codes = codes_of(rounded, scale)
    spent = coding.Encoder().values(codes, int(np.abs(codes).max()), window, coding.likeness(codes, window))[0].sum()
    lost = quantization.output_energy(weight - rounded, known) / max(quantization.output_energy(weight, known), 1e-30)
    return lost + rate_weight * float(spent)


def codes_of(rounded: Tensor, scale: Tensor) -> coding.Array:
    """round(w^ / scale), int16, (out, d)."""
    codes: coding.Array = torch.round(rounded / scale).flatten(1).to(torch.int16).numpy()
    return codes


def _choices(grid: Grid, bits: int, price: float, groups: int, window: coding.Window, before: Tensor) -> list[Choose]:
    """How a weight is rounded where codes like those of `before` are expected; for each group of rows."""
    low, high = quantization.integer_range(bits, grid.zero_point is None)
    zero = torch.zeros_like(grid.scale) if grid.zero_point is None else grid.zero_point
    most = int(torch.maximum(high - zero, zero - low).max())
    expected = coding.expected_of(codes_of(before, grid.scale), most, window)
    lengths, points = torch.from_numpy(price * expected.lengths).float(), torch.arange(-most, most + 1.0)
    rows = [part.expand(len(before), *part.shape[1:]).flatten(1) for part in (grid.scale, zero)]
    every = (*rows, torch.from_numpy(expected.places), torch.from_numpy(expected.signs))

    def of(scale: Tensor, zero: Tensor, places: Tensor, signs: Tensor) -> Choose:
        outside = (points < low - zero) | (points > high - zero)

        def choose(column: Tensor, place: int, pivot: Tensor) -> Tensor:
            rate = lengths[places[:, place]]
            rate = torch.where(signs[:, place, None] < 0, rate.flip(1), rate)
            cost = ((column - points * scale) / pivot).square_() + rate
            return points[cost.masked_fill_(outside, torch.inf).argmin(1)][:, None] * scale

        return choose

    return [of(*parts) for parts in zip(*(part.chunk(groups) for part in every), strict=True)]
