"""Depthwise convolutions, each followed by one of 1 x 1: first over the image, then over the channels."""

from itertools import count

from core.config import TrainingConfig, Widths
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

WIDTHS = ((16, 32), (32, 64), (64, 96))
"""Channels of the first convolution, then behind each block; from the second stage on the first block halves the image.
"""


def planned(shape: Shape, classes: int, widths: Widths) -> Network:
    plan = Plan(shape)
    x, number = plan.relu(plan.convolution("conv", plan.image, widths[0][0])), count(1)
    for stage, every in enumerate(widths):
        for place, channels in enumerate(every):
            if (stage, place) == (0, 0):
                continue  # the first convolution
            block, stride = f"block{next(number)}", 2 if stage and place == 0 else 1
            x = plan.relu(plan.depthwise(f"{block}.depthwise", x, stride))
            x = plan.relu(plan.convolution(f"{block}.pointwise", x, channels, kernel=1))
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "separable",
    "Separable",
    "Few weights in many channels: a depthwise weight has nine numbers a channel, and minds few bits more than others.",
    WIDTHS,
    planned,
    {"separable": TrainingConfig("separable", epochs=24, flips=True)},
)
