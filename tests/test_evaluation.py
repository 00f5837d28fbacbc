"""Accuracy, reports and paired comparisons, against scikit-learn, scipy and brute force."""

import numpy as np
import pytest
import sklearn.metrics
import torch
from conftest import statistics_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from core import evaluation
from core.compression import Statistics, compress
from core.config import CompressionConfig
from core.data import CLASSES, Split
from core.evaluation import Comparison, Evaluation
from core.models import Baseline
from core.stored import StoredNetwork


@pytest.fixture
def network(baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, CompressionConfig(), statistics).freeze()


@pytest.fixture
def pruned(baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, CompressionConfig(sparsity=0.8, bits=4), statistics).freeze()


def made_up(predictions: Tensor, labels: Tensor) -> Evaluation:
    confidences = torch.rand(len(labels), generator=torch.Generator().manual_seed(len(labels)))
    return Evaluation("validation", predictions.to(torch.uint8), confidences, labels, 1.0)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Evaluation, Evaluation]:
    """Two networks on the same images, often of the same opinion."""
    count, seed = draw(st.integers(1, 80)), draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    labels, before, after = torch.randint(0, 10, (3, count), generator=generator)
    sure, same = torch.rand(2, count, generator=generator) < torch.tensor([[0.6], [draw(st.floats(0, 1))]])
    before = torch.where(sure, labels, before)
    after = torch.where(same, before, after)
    return made_up(before, labels), made_up(after, labels)


def test_an_evaluation_is_the_softmax_of_the_networks_outputs(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    outputs = evaluation.forward(network)(split.inputs)
    assert outputs.shape == (len(split), 10)
    probabilities = outputs.softmax(1)
    assert torch.equal(measured.predictions.long(), outputs.argmax(1))
    torch.testing.assert_close(measured.confidences, probabilities.max(1).values, rtol=1e-4, atol=1e-5)
    assert measured.loss == pytest.approx(F.cross_entropy(outputs, split.labels).item(), rel=1e-4)
    assert torch.equal(measured.labels, split.labels)


@pytest.mark.parametrize("chunk", [1, 7, 599, 600, 10_000])
def test_the_size_of_a_chunk_changes_no_prediction(network: StoredNetwork, split: Split, chunk: int) -> None:
    measured, usual = evaluation.evaluate(network, split, chunk=chunk), evaluation.evaluate(network, split)
    assert torch.equal(measured.predictions, usual.predictions)
    torch.testing.assert_close(measured.confidences, usual.confidences, rtol=1e-4, atol=1e-5)
    assert measured.accuracy == usual.accuracy


def test_accuracy_confusion_and_report_are_those_of_scikit_learn(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    true, predicted = measured.labels.numpy(), measured.predictions.numpy()
    assert measured.accuracy == sklearn.metrics.accuracy_score(true, predicted)
    expected = sklearn.metrics.confusion_matrix(true, predicted, labels=range(10))
    assert measured.confusion().tolist() == expected.tolist()
    report = measured.report()
    precision, recall, f1, images = sklearn.metrics.precision_recall_fscore_support(
        true, predicted, labels=range(10), zero_division=0
    )
    for name, values in {"precision": precision, "recall": recall, "f1": f1, "images": images}.items():
        np.testing.assert_allclose(report.loc[list(CLASSES), name].to_numpy(float), values)


@given(pairs())
def test_a_class_that_nobody_predicted_or_that_does_not_occur_is_reported_too(
    pair: tuple[Evaluation, Evaluation],
) -> None:
    for measured in pair:
        assert list(measured.report().index[:10]) == list(CLASSES)
        assert int(measured.confusion().sum()) == measured.images
        assert int(measured.confusion().trace()) == int(measured.right.sum())


def test_the_most_confident_mistakes_come_first_and_are_mistakes(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    found = measured.confident_mistakes(20)
    assert len(found) == 20
    assert not measured.right[found].any()
    rest = (~measured.right).nonzero().flatten()
    expected = sorted(measured.confidences[rest].tolist(), reverse=True)[:20]
    assert measured.confidences[found].tolist() == expected
    assert len(measured.confident_mistakes(10**6)) == int((~measured.right).sum())


def test_an_evaluation_that_is_asked_to_stop_measures_nothing_more(network: StoredNetwork, split: Split) -> None:
    asked: list[int] = []

    def after_two_chunks() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(evaluation.Stopped):
        evaluation.evaluate(network, split, after_two_chunks, chunk=100)
    assert len(asked) == 3


# Two networks on the same images.


@given(pairs())
def test_a_comparison_is_that_of_the_images_one_by_one(pair: tuple[Evaluation, Evaluation]) -> None:
    before, after = pair
    found = evaluation.compare(before, after)
    change = after.right.numpy().astype(int) - before.right.numpy().astype(int)
    assert (found.lost, found.gained) == ((change == -1).sum(), (change == 1).sum())
    assert found.difference == pytest.approx(change.mean())
    assert found.difference == pytest.approx(after.accuracy - before.accuracy)
    error = change.std() / len(change) ** 0.5
    low, high = stats.norm.interval(0.95, loc=change.mean(), scale=error) if error else (change.mean(),) * 2
    assert found.interval == pytest.approx((low, high), abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_p_value_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert Comparison(1_000, lost, gained).p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_interval_holds_what_a_bootstrap_over_the_images_finds() -> None:
    change = np.repeat([-1, 0, 1], [120, 840, 40])
    resampled = np.random.default_rng(0).choice(change, (4_000, 1_000)).mean(1)
    expected = np.quantile(resampled, [0.025, 0.975])
    np.testing.assert_allclose(Comparison(1_000, 120, 40).interval, expected, atol=0.002)


def test_a_network_differs_from_itself_in_nothing(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    found = evaluation.compare(measured, measured)
    assert (found.lost, found.gained, found.difference, found.interval, found.p_value) == (0, 0, 0, (0, 0), 1)
    assert len(evaluation.flips(measured, measured)) == 0
    assert evaluation.class_changes(measured, measured)[["lost", "gained"]].to_numpy().sum() == 0


def test_two_evaluations_of_different_images_are_not_compared(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    shorter = evaluation.evaluate(network, Split("validation", split.images[:100], split.labels[:100]))
    other = evaluation.evaluate(network, Split("test", split.images, split.labels))
    for wrong in (shorter, other):
        with pytest.raises(ValueError, match="same split"):
            evaluation.compare(measured, wrong)


@given(pairs())
def test_the_changes_per_class_add_up_to_the_comparison(pair: tuple[Evaluation, Evaluation]) -> None:
    found, table = evaluation.compare(*pair), evaluation.class_changes(*pair)
    assert list(table["class"]) == list(CLASSES)
    assert (table["lost"].sum(), table["gained"].sum()) == (found.lost, found.gained)
    assert table["images"].sum() == found.images
    there = table[table["images"] > 0]
    recall = (there["gained"] - there["lost"]) / there["images"]
    np.testing.assert_allclose(there["after"] - there["before"], recall, atol=1e-6)


@given(pairs())
def test_every_image_whose_prediction_changed_flips_and_no_other(pair: tuple[Evaluation, Evaluation]) -> None:
    before, after = pair
    table, found = evaluation.flips(before, after), evaluation.compare(before, after)
    assert sorted(table["index"]) == (before.predictions != after.predictions).nonzero().flatten().tolist()
    assert (table["outcome"] == "lost").sum() == found.lost
    assert (table["outcome"] == "gained").sum() == found.gained
    assert set(table["outcome"]) <= {"lost", "gained", "still wrong"}
    for index, row in table.set_index("index").iterrows():
        assert row["true"] == CLASSES[before.labels[index]]
        for side, measured in (("before", before), ("after", after)):
            assert row[side] == CLASSES[measured.predictions[index]]
            assert row[f"{side}_confidence"] == pytest.approx(measured.confidences[index].item())
    total = (table["before_confidence"] + table["after_confidence"]).tolist()
    assert total == sorted(total, reverse=True)


def test_real_networks_flip_consistently(network: StoredNetwork, pruned: StoredNetwork, split: Split) -> None:
    before, after = evaluation.evaluate(network, split), evaluation.evaluate(pruned, split)
    found = evaluation.compare(before, after)
    assert found.lost + found.gained > 0
    assert len(evaluation.flips(before, after)) >= found.lost + found.gained


def test_what_the_store_keeps_gives_the_evaluation_back(network: StoredNetwork, split: Split) -> None:
    measured = evaluation.evaluate(network, split)
    again = evaluation.from_arrays(evaluation.to_arrays(measured), split, measured.loss)
    assert torch.equal(again.predictions, measured.predictions)
    assert torch.equal(again.confidences, measured.confidences)
    assert (again.split, again.loss, again.accuracy) == (measured.split, measured.loss, measured.accuracy)


def test_latency_is_a_median_between_its_quartiles(cnn: Baseline, images: Tensor) -> None:
    network = compress(cnn, CompressionConfig(), statistics_of(cnn, images)).freeze()
    found = evaluation.latency(network, images, batch=4, repeats=5)
    assert 0 < found.lower <= found.median <= found.upper
    assert (found.batch, found.repeats) == (4, 5)
