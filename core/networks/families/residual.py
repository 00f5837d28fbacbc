"""Three stages of a residual block each, as the ResNet-8 of MLPerf Tiny: additions tie the channels of their inputs."""

from core.config import TrainingConfig
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

STAGES = ((16, 1), (32, 2), (64, 2))
"""Channels of a block, and the stride of its first convolution."""


def build(shape: Shape, classes: int) -> Network:
    plan = Plan(shape)
    x = plan.relu(plan.convolution("conv", plan.image, STAGES[0][0]))
    for stage, (channels, stride) in enumerate(STAGES, 1):
        block = f"block{stage}"
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
    {"residual": TrainingConfig("residual", epochs=24, flips=True)},
)
