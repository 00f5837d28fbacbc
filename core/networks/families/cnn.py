"""Two convolutions with pooling, then two linear layers: the course's network."""

from core.config import TrainingConfig
from core.networks import chains
from core.networks.families import Family

CHANNELS, WIDTHS = (32, 64), (128,)

FAMILY = Family(
    "cnn",
    "CNN",
    "fc1 alone holds 95 % of its weights: much of what compression saves here is that one layer's waste.",
    lambda shape, classes: chains.cnn(shape, CHANNELS, (*WIDTHS, classes)),
    {"cnn": TrainingConfig("cnn", epochs=24, dropout=0.3, flips=True)},
)
