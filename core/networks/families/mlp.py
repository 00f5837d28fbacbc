"""A chain of linear layers with ReLU between them."""

from core.config import TrainingConfig
from core.networks import chains
from core.networks.families import Family

WIDTHS = (512, 512, 512)

FAMILY = Family(
    "mlp",
    "MLP",
    "Every pixel is an input of its own: nearly all weights sit in three large matrices, which rank and pruning thin.",
    lambda shape, classes: chains.mlp(shape, (*WIDTHS, classes)),
    {
        "mlp": TrainingConfig("mlp", epochs=24, dropout=0.1),
        "mlp-course": TrainingConfig(
            "mlp", epochs=5, batch_size=256, optimizer="adam", learning_rate=1e-3, weight_decay=0.0, label_smoothing=0.0
        ),
    },
)
