"""Six small convolutions and one linear layer: nothing in it is large."""

from itertools import count

from core.config import TrainingConfig, Widths
from core.networks.building import Plan
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

WIDTHS = ((12, 12), (20, 20), (28, 28))
"""Channels of the convolutions; 2 x 2 max pooling between any two stages."""


def planned(shape: Shape, classes: int, widths: Widths) -> Network:
    plan = Plan(shape)
    x, number = plan.image, count(1)
    for stage, every in enumerate(widths, 1):
        for place, channels in enumerate(every, 1):
            x = plan.convolution(f"conv{next(number)}", x, channels)
            last = place == len(every) and stage < len(widths)
            x = plan.relu(plan.max_pool(x) if last else x)
    plan.linear("fc", plan.average(x), classes)
    return plan.network()


FAMILY = Family(
    "compact",
    "Compact",
    "No layer is a giant, so compression saves far less here; what it starts from is already twenty times smaller.",
    WIDTHS,
    planned,
    {"compact": TrainingConfig("compact", epochs=60, flips=True)},
)
