"""Depthwise convolutions, each followed by one of 1 x 1: first over the image, then over the channels."""

from core.config import TrainingConfig
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

FIRST = 16
BLOCKS = ((32, 1), (32, 2), (64, 1), (64, 2), (96, 1))
"""Channels behind a block, and the stride of its depthwise convolution."""


def build(shape: Shape, classes: int) -> Network:
    plan = Plan(shape)
    x = plan.relu(plan.convolution("conv", plan.image, FIRST))
    for place, (channels, stride) in enumerate(BLOCKS, 1):
        x = plan.relu(plan.depthwise(f"block{place}.depthwise", x, stride))
        x = plan.relu(plan.convolution(f"block{place}.pointwise", x, channels, kernel=1))
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "separable",
    "Separable",
    "Few weights in many channels: a depthwise weight has nine numbers a channel, and minds few bits more than others.",
    build,
    {"separable": TrainingConfig("separable", epochs=24, flips=True)},
)
