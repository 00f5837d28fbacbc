"""Batch normalization of images, fast on a CPU for any number of channels.

torch's own kernels for images that lie channels last are made for multiples of 16 channels: with 12 they take eight
times as long, which is two thirds of the training of a small network. But 28 pixels of 12 channels beside one another
look like 336 channels: what is summed over these is summed once more over the pixels of a row.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON, MOMENTUM = 1e-5, 0.1

LANES = 16
"""Of a wide vector: multiples of so many channels torch does fast."""


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, training: bool, momentum: float = MOMENTUM
) -> Tensor:
    """y = scale (x - m) / sqrt(v + epsilon) + shift by channel, with the mean m and the variance v of the batch in
    training, which then move the running ones, in place, by `momentum`; else with these (Ioffe & Szegedy 2015).

    x : (n, channels, h, w); the others (channels,), float32
    """
    rows = x.shape[0] * x.shape[2]
    fast = x.shape[1] % LANES == 0 or not x.is_contiguous(memory_format=torch.channels_last)
    if not training or fast or rows < 2 or x.device.type != "cpu":
        return F.batch_norm(x, mean, variance, scale, shift, training, momentum, EPSILON)
    y, of_batch, spread = _ByRows.apply(x, scale, shift)
    n = rows * x.shape[3]
    mean.lerp_(of_batch, momentum)
    variance.lerp_(spread * (n / (n - 1)), momentum)
    return y


class _ByRows(torch.autograd.Function):
    """(x, scale, shift) -> (y, m, v), a row of pixels taken for channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, width = _rows(x), x.shape[3]
        n, exact = len(rows), scale.dtype
        each, spread = torch.zeros(rows.shape[1], dtype=exact), torch.zeros(rows.shape[1], dtype=exact)
        torch.batch_norm_update_stats(rows, each, spread, 1.0)
        each = each.view(width, -1)
        mean = each.mean(0)
        variance = spread.view(width, -1).mean(0) * ((n - 1) / n) + (each - mean).square().mean(0)
        m, v, a, b = (_wide(tensor, width) for tensor in (mean, variance, scale, shift))
        y = F.batch_norm(rows, m, v, a, b, training=False, eps=EPSILON)
        ctx.save_for_backward(x, mean, variance, scale)
        ctx.mark_non_differentiable(mean, variance)
        return _image(y, x), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With n numbers in a channel, and a = scale / sqrt(v + epsilon):
        dL/dx = a (g - mean(g) - (x - m) mean(g (x - m)) / (v + epsilon))."""
        x, mean, variance, scale = ctx.saved_tensors
        rows, width, n = _rows(x), x.shape[3], x.numel() // x.shape[1]
        g = _rows(gradients[0].contiguous(memory_format=torch.channels_last))
        wide = [_wide(tensor, width) for tensor in (scale, mean, variance)]
        dx, *sums = torch.ops.aten.native_batch_norm_backward(g, rows, *wide, None, None, False, EPSILON, [True] * 3)
        of_scale, of_shift = (each.view(width, -1).sum(0) for each in sums)
        inverse = (variance + EPSILON).rsqrt()
        slope = -scale * inverse.square() * of_scale / n
        ahead = -scale * inverse * of_shift / n - slope * mean
        slope, ahead = (_wide(each.to(dx.dtype), width) for each in (slope, ahead))
        return _image(dx.add_(ahead).addcmul_(rows, slope), x), of_scale, of_shift


def _rows(x: Tensor) -> Tensor:
    """An image that lies channels last as (n * h, w * channels)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2], -1)


def _wide(each: Tensor, width: int) -> Tensor:
    """One number for each channel, once for every pixel of a row."""
    return each.expand(width, -1).reshape(-1).contiguous()  # of one channel it would be a view


def _image(rows: Tensor, like: Tensor) -> Tensor:
    n, channels, height, width = like.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
