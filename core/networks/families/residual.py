"""Three stages of two residual blocks each (He et al. 2016): additions tie the channels of their inputs."""

from itertools import count

from core.config import TrainingConfig, Widths
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

WIDTHS = ((16, 16), (24, 24), (38, 38))
"""Channels of the blocks; from the second stage on the first block halves the image."""


def planned(shape: Shape, classes: int, widths: Widths) -> Network:
    plan = Plan(shape)
    x, number = plan.relu(plan.convolution("conv", plan.image, widths[0][0])), count(1)
    for stage, every in enumerate(widths):
        for place, channels in enumerate(every):
            block, stride = f"block{next(number)}", 2 if stage and place == 0 else 1
            y = plan.relu(plan.convolution(f"{block}.conv1", x, channels, stride=stride))
            y = plan.convolution(f"{block}.conv2", y, channels)
            if stride > 1 or plan.channels[x] != channels:
                x = plan.convolution(f"{block}.shortcut", x, channels, kernel=1, stride=stride)
            x = plan.relu(plan.add(f"{block}.add", y, x))
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "residual",
    "Residual",
    "What a block computes is added to what it read. Channels that meet in an addition can only be removed together.",
    WIDTHS,
    planned,
    {"residual": TrainingConfig("residual", epochs=50, flips=True, shifts=2, erasing=0.5)},
)
