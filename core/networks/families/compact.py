"""Six small convolutions and one linear layer: nothing in it is large."""

from core.config import TrainingConfig
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

STAGES = ((12, 12), (20, 20), (28, 28))
"""Channels of the convolutions; 2 x 2 max pooling between any two stages."""


def build(shape: Shape, classes: int) -> Network:
    plan = Plan(shape)
    x = plan.image
    for stage, widths in enumerate(STAGES):
        for place, channels in enumerate(widths):
            x = plan.convolution(f"conv{2 * stage + place + 1}", x, channels)
            last = place == len(widths) - 1 and stage < len(STAGES) - 1
            x = plan.relu(plan.max_pool(x) if last else x)
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "compact",
    "Compact",
    "No layer is a giant, so compression saves far less here; what it starts from is already twenty times smaller.",
    build,
    {"compact": TrainingConfig("compact", epochs=60, flips=True)},
)
