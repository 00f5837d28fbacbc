"""What pages say: the baseline's report with every row, settings in words, ratios that are true."""

import pytest
from conftest import configurations
from hypothesis import given, strategies
from sklearn.metrics import precision_recall_fscore_support
from test_pages import _frame_on_every_run, metrics, opened  # noqa: F401

from core.bench.workbench import Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig, in_words, to_query
from core.datasets import fashion_mnist
from core.networks.models import Baseline
from core.words import NO_BREAK, percent
from pages.shown import charts, figures


def test_the_baseline_shows_each_accuracy_once_and_every_row_of_its_report() -> None:
    app, own = opened("baseline", baseline="mlp"), Workbench().evaluate("mlp", CompressionConfig(), "test").evaluation
    shown = metrics(app)
    assert shown["Test accuracy"] == percent(own.accuracy, 2)
    assert [label for label in shown if "ccuracy" in label] == ["Accuracy, validation", "Test accuracy"]
    (table,) = [own.value for own in app.dataframe if "F1-score" in own.value.columns]
    rows = table.set_index("class")
    assert list(rows.index) == [*fashion_mnist.CLASSES, "accuracy", "macro avg", "weighted avg"]
    assert list(rows.columns) == ["precision", "recall", "F1-score", "support"]
    for average, row in (("micro", "accuracy"), ("macro", "macro avg"), ("weighted", "weighted avg")):
        expected = precision_recall_fscore_support(own.labels, own.predictions, average=average)[:3]
        assert rows.loc[row, ["precision", "recall", "F1-score"]].tolist() == pytest.approx(expected)
        assert rows.loc[row, "support"] == 10_000
    headings = {own.value for own in app.subheader}
    assert {"Confusion matrix, test", "Most confident errors"} <= headings
    assert any("label smoothing of 0.1" in own.value and "plain cross entropy" in own.value for own in app.caption)


def test_a_network_trained_without_label_smoothing_says_so() -> None:
    app = opened("baseline", baseline="mlp-course")
    assert any("trained without label smoothing" in own.value for own in app.caption)


@pytest.mark.parametrize("recorded", [True, False])
def test_the_plain_cross_entropy_is_drawn_dashed_where_it_was_recorded(recorded: bool) -> None:
    import pandas as pd

    epoch = {"epoch": 1, "training_loss": 0.7, "validation_loss": 0.6, "training_accuracy": 0.9}
    epoch |= {"validation_accuracy": 0.91}
    plain = {"training_cross_entropy": 0.3, "validation_cross_entropy": 0.25} if recorded else {}
    loss, accuracy = (chart.to_dict() for chart in charts.training_curves(pd.DataFrame([epoch | plain])))
    (rows,) = loss["datasets"].values()
    assert len(rows) == (4 if recorded else 2)
    assert any("strokeDash" in layer["encoding"] for layer in loss["layer"]) == recorded
    assert NO_BREAK in accuracy["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]


@given(draw=strategies.data())
def test_every_configuration_is_said_in_words(mlp: Baseline, draw: strategies.DataObject) -> None:
    config = draw.draw(configurations(mlp))
    said = in_words(config)
    for share in (
        config.sparsity,
        config.rank_share,
        config.channel_share,
        *(own.sparsity for _, own in config.layers),
    ):
        assert share is None or percent(share) in said
    assert "=" not in said
    assert said.count(", ") + 1 >= len(to_query(config))


def test_settings_have_the_fields_names_and_one_style_of_numbers() -> None:
    config = CompressionConfig(
        sparsity=0.7, bits=6, activation_bits=4, score="activation", scope="layer", clip="mse", rounding="gptq",
        layers={"fc1": LayerConfig(rank=12, sparsity=0.125, bits=32), "fc2": LayerConfig(rank=0)},
        recovery=RecoveryConfig(8, distillation=True),
    )  # fmt: skip
    assert in_words(config).replace(NO_BREAK, " ") == (
        "sparsity 70 %, pruning criterion activation-aware (Wanda), scope layer-wise, 6-bit weights, 4-bit "
        "activations, clipping MSE-optimal, rounding GPTQ, fine-tuned 8 epochs, knowledge distillation, fc1 rank 12, "
        "fc1 sparsity 12.5 %, fc1 float32, fc2 dense"
    )


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(12.34, "12.3 times smaller"), (183.2, "183 times smaller"), (1.04, "as large"), (0.97, "as large"),
     (0.8, "1.2 times larger"), (0.5, "2.0 times larger")],
)  # fmt: skip
def test_nothing_is_called_smaller_that_is_not(ratio: float, said: str) -> None:
    assert figures.smaller(ratio) == said
    assert figures.smaller_than(ratio) == f"{said} {'as' if said == 'as large' else 'than'}"
