"""Three stages of two residual blocks each (He et al. 2016): additions tie the channels of their inputs."""

from core.config import TrainingConfig
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

STAGES = ((16, 1), (24, 2), (38, 2))
"""Channels of the blocks, and the stride of the first convolution."""

BLOCKS = 2
"""In each stage."""


def build(shape: Shape, classes: int) -> Network:
    plan = Plan(shape)
    x = plan.relu(plan.convolution("conv", plan.image, STAGES[0][0]))
    for stage, (channels, first) in enumerate(STAGES):
        for place in range(BLOCKS):
            block, stride = f"block{BLOCKS * stage + place + 1}", first if place == 0 else 1
            y = plan.relu(plan.convolution(f"{block}.conv1", x, channels, stride=stride))
            y = plan.convolution(f"{block}.conv2", y, channels)
            if stride > 1:
                x = plan.convolution(f"{block}.shortcut", x, channels, kernel=1, stride=stride)
            x = plan.relu(plan.add(f"{block}.add", y, x))
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "residual",
    "Residual",
    "What a block computes is added to what it read. Channels that meet in an addition can only be removed together.",
    build,
    {"residual": TrainingConfig("residual", epochs=50, flips=True, shifts=2, erasing=0.5)},
)
