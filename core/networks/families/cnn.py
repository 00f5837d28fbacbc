"""Two convolutions with pooling, then two linear layers: the course's network."""

from core.config import TrainingConfig, Widths
from core.networks import chains
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

WIDTHS = ((32,), (64,), (128,))
"""Channels of the convolutions, a stage each; then outputs of the hidden linear layers."""


def planned(shape: Shape, classes: int, widths: Widths) -> Network:
    (first,), (second,), hidden = widths
    return chains.cnn(shape, (first, second), (*hidden, classes))


FAMILY = Family(
    "cnn",
    "CNN",
    "fc1 alone holds 95 % of its weights: much of what compression saves here is that one layer's waste.",
    WIDTHS,
    planned,
    {"cnn": TrainingConfig("cnn", epochs=24, dropout=0.3, flips=True)},
)
