"""Batch normalization behind the convolutions of a network while it is trained after compression.

A baseline comes with its normalization folded. That is what a device runs, but a long training of a deep network learns
better with it (Ioffe & Szegedy 2015): so it is put back in such a way that nothing changes at first, and folded again
afterwards into the scales of the output channels, which moves no weight from its place on the grid.
"""

import copy

import torch
from torch import Tensor, nn

from core.datasets import Split
from core.networks.models import channels_last
from core.networks.normalization import EPSILON, MOMENTUM, normalize
from core.networks.trainable import CompressedLayer, CompressedNetwork

IMAGES = 512
"""By which it begins."""

SETTLED, BATCH = 2560, 256
"""Images that the statistics are of before anything is measured, and how many at a time."""

VERSION = 3
"""Raise it when something else comes out."""


class Normalization(nn.Module):
    """y = scale (x - mean) / sqrt(variance + epsilon) + shift, by channel: of the batch in training, else the running
    ones. The first batch that it sees makes it the identity. All are float32, (channels,); scale > 0."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.momentum = MOMENTUM

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Be the identity for a batch like x, (n, channels, h, w)."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        self.scale.copy_((variance + EPSILON).sqrt())
        self.shift.copy_(mean)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, self.mean, self.variance, self.scale, self.shift, self.training, self.momentum)


@torch.no_grad()
def unfold(network: CompressedNetwork, x: Tensor) -> CompressedNetwork:
    """Put normalization behind every convolution, in place. x : some normalized images, (n, *shape); the network
    computes the same for these as before."""

    def begin(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, Normalization)
        norm.begin(inputs[0])

    hooks = []
    for layer in network.named().values():
        if layer.layer.kind == "conv":
            layer.norm = Normalization(layer.layer.shape[0])
            hooks.append(layer.norm.register_forward_pre_hook(begin))
    training = network.training
    network.eval()(x)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return network


@torch.no_grad()
def settle(network: CompressedNetwork, images: Split) -> None:
    """Take the mean and variance of each normalization from `SETTLED` of these images, in place of the running ones.

    A weight near the middle between two codes jumps from one to the other and back from step to step, and the running
    statistics are a mixture of both (Nagel et al. 2022): in the middle of a training at 3 bits they cost ten points.
    """
    norms = [layer.norm for layer in network.named().values() if isinstance(layer.norm, Normalization)]
    device, was_training = next(network.parameters()).device, network.training
    network.train()
    for count, x in enumerate(images.images[:SETTLED].split(BATCH), 1):
        for norm in norms:
            norm.momentum = 1 / count  # so that the running statistics are the means over all batches
        network(channels_last(images.scaling.normalized(x.to(device))))
    for norm in norms:
        norm.momentum = MOMENTUM
    network.train(was_training)


def folded(network: CompressedNetwork) -> CompressedNetwork:
    """The same network without normalization behind its layers: a copy, where there is any."""
    normalized = any(layer.norm is not None for layer in network.named().values())
    return fold(copy.deepcopy(network)) if normalized else network


@torch.no_grad()
def fold(network: CompressedNetwork) -> CompressedNetwork:
    """The inverse: f = scale / sqrt(variance + epsilon), W' = f W, b' = f (b - mean) + shift, in place."""
    for layer in network.named().values():
        if isinstance(layer.norm, Normalization):
            _fold(layer, layer.norm)
    return network


def _fold(layer: CompressedLayer, norm: Normalization) -> None:
    factor = norm.scale / (norm.variance + EPSILON).sqrt()
    last = layer.weights[-1]
    last.weight.copy_(last.effective())  # onto its code, from where the rounding of another scale cannot move it
    last.rescale(factor)
    layer.bias.copy_(factor * (layer.bias - norm.mean) + norm.shift)
    layer.norm = None
