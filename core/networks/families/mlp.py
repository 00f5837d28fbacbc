"""A chain of linear layers with ReLU between them."""

from core.config import TrainingConfig, Widths
from core.networks import chains
from core.networks.families import Family
from core.networks.graph import Network
from core.networks.operations import Shape

WIDTHS = ((512, 512, 512),)
"""Outputs of the hidden layers: a single stage."""


def planned(shape: Shape, classes: int, widths: Widths) -> Network:
    (hidden,) = widths
    return chains.mlp(shape, (*hidden, classes))


FAMILY = Family(
    "mlp",
    "MLP",
    "Every pixel is an input of its own: nearly all weights sit in three large matrices, which rank and pruning thin.",
    WIDTHS,
    planned,
    {
        "mlp": TrainingConfig("mlp", epochs=24, dropout=0.1),
        "mlp-course": TrainingConfig(
            "mlp", epochs=5, batch_size=256, optimizer="adam", learning_rate=1e-3, weight_decay=0.0, label_smoothing=0.0
        ),
    },
)
