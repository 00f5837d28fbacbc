"""Accuracy, reports and paired comparisons, against scikit-learn, scipy and brute force."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from conftest import CNN_SHAPES, plain_forward, random_tensors, statistics_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_networks import filled
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.datasets import Scaling, Split, SplitName, fashion_mnist
from core.datasets.fashion_mnist import CLASSES
from core.machinery.stopping import Stopped
from core.measuring import evaluation
from core.measuring.evaluation import Comparison, Estimate, Evaluation, Prefix
from core.networks import families
from core.networks.calibration import Statistics
from core.networks.compression import compress
from core.networks.inference import Array, Part, Runner, predicted
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork


@pytest.fixture
def network(baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, CompressionConfig(), statistics).freeze()


@pytest.fixture
def pruned(baseline: Baseline, statistics: Statistics) -> StoredNetwork:
    return compress(baseline, CompressionConfig(sparsity=0.8, bits=4), statistics).freeze()


def made_up(predictions: Tensor, labels: Tensor) -> Evaluation:
    confidences = torch.rand(len(labels), generator=torch.Generator().manual_seed(len(labels)))
    return Evaluation("validation", predictions.to(torch.uint8), confidences, labels, 1.0, CLASSES)


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
    outputs = plain_forward(network, split.inputs)
    assert outputs.shape == (len(split), 10)
    probabilities = outputs.softmax(1)
    assert torch.equal(measured.predictions.long(), outputs.argmax(1))
    torch.testing.assert_close(measured.confidences, probabilities.max(1).values, rtol=1e-4, atol=1e-5)
    assert measured.loss == pytest.approx(F.cross_entropy(outputs, split.labels).item(), rel=1e-4)
    assert torch.equal(measured.labels, split.labels)


@given(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 1e-30, 1 + 2**-23]), min_size=10, max_size=10), min_size=1),
    st.sampled_from([1.0, 1e-9, 1e-30, 1e30]),
)
def test_predictions_are_the_first_of_the_largest_scores_however_small_they_are(
    rows: list[list[float]], factor: float
) -> None:
    scores = np.array(rows, np.float32) * np.float32(factor)
    assert predicted(scores).tolist() == [row.tolist().index(max(row.tolist())) for row in scores]
    assert torch.from_numpy(scores).argmax(1).tolist() == predicted(scores).tolist(), "as training counts them"


@pytest.mark.parametrize("factor", [1e-12, 1e-30])
def test_a_network_of_tiny_scores_predicts_the_largest_of_them(mlp: Baseline, split: Split, factor: float) -> None:
    """After a softmax in float32 all of them would be a tenth."""
    last = mlp.layers[-1].name
    small = {name: own * (factor if name.startswith(last) else 1) for name, own in mlp.tensors.items()}
    network = compress(Baseline("tiny", small), CompressionConfig(), statistics_of(mlp, split.inputs[:64])).freeze()
    whole = compress(mlp, CompressionConfig(), statistics_of(mlp, split.inputs[:64])).freeze()
    measured = evaluation.evaluate(network, split)
    assert torch.equal(measured.predictions, torch.from_numpy(predicted(evaluation.logits(network, split))))
    agree = (measured.predictions == evaluation.evaluate(whole, split).predictions).float().mean()
    assert agree > 0.99, "but for what the smallest floats round"
    assert torch.allclose(measured.confidences, torch.tensor(0.1), atol=1e-5)


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


def test_the_rows_of_a_classification_report_are_those_that_scikit_learn_prints(
    network: StoredNetwork, split: Split
) -> None:
    measured = evaluation.evaluate(network, split)
    printed = sklearn.metrics.classification_report(
        measured.labels.numpy(), measured.predictions.numpy(), target_names=CLASSES, digits=4, zero_division=0
    )
    lines = [line.rsplit(maxsplit=2 if "accuracy" in line else 4) for line in printed.splitlines()[2:] if line.strip()]
    for row, (name, *numbers) in zip(measured.classification().itertuples(index=False, name=None), lines, strict=True):
        assert row[0] == name.strip()
        wanted = [f"{share:.4f}" for share in row[1:-1]] + [str(row[-1])]
        assert numbers == (wanted[-2:] if name.strip() == "accuracy" else wanted)


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

    with pytest.raises(Stopped):
        evaluation.evaluate(network, split, after_two_chunks, chunk=100)
    assert len(asked) == 3


# The order of the images, and the first figure.


@pytest.mark.parametrize("name", ["validation", "test"])
def test_the_order_is_a_permutation_that_begins_with_fifty_images_of_each_class(name: SplitName) -> None:
    split = fashion_mnist.load(name)
    assert sorted(split.order) == list(range(len(split)))
    assert np.bincount(split.labels.numpy()[split.order[:500]]).tolist() == [50] * 10
    assert np.array_equal(replace(split, images=split.images.clone(), labels=split.labels.clone()).order, split.order)
    assert abs(np.corrcoef(np.arange(500), split.order[:500])[0, 1]) < 0.2  # from everywhere, not the first ones


@given(st.lists(st.integers(0, 9), min_size=1, max_size=1200))
def test_the_order_of_any_split_is_a_permutation(labels: list[int]) -> None:
    split = Split(
        "any",
        torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8),
        torch.tensor(labels),
        CLASSES,
        fashion_mnist.SCALING,
    )
    assert sorted(split.order) == list(range(len(labels)))


@pytest.mark.parametrize("counts", [[4_500, 500], [3_000, 6, 3_000, 14, 1_000], [2] * 5 + [1_000], [700] * 3])
def test_the_sample_has_of_each_class_as_much_as_the_split(counts: list[int]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pictures, classes = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), tuple(map(str, range(len(counts))))
    split = Split("any", pictures, labels, classes, fashion_mnist.SCALING)
    size = 500 // len(counts) * len(counts)
    found = np.bincount(labels.numpy()[split.order[:size]], minlength=len(counts))
    assert (abs(found - size * np.array(counts) / sum(counts)) < 1).all()
    assert sorted(split.order) == list(range(len(labels)))


def test_an_estimate_holds_where_a_rare_class_is_lost() -> None:
    """Of 5,000 images 500 are of the class that the compressed network no longer knows."""
    labels = torch.tensor([0] * 4_500 + [1] * 500)
    split = Split("any", torch.zeros(5_000, 1, 1, 1, dtype=torch.uint8), labels, ("a", "b"), fashion_mnist.SCALING)
    found = estimate_from(made_up(labels, labels), made_up(torch.zeros_like(labels), labels), split.order[:500])
    assert found.interval[0] < 0.9 < found.interval[1]
    assert found.accuracy == pytest.approx(0.9, abs=0.005)


def test_the_first_five_hundred_images_are_reported_once_as_they_will_stand(network: StoredNetwork) -> None:
    split, said = fashion_mnist.load("validation"), []
    measured = evaluation.evaluate(network, split, report=lambda *first: said.append(first))
    ((seen, predictions),) = said
    assert np.array_equal(seen, split.order[:500])
    assert np.array_equal(predictions, measured.predictions.numpy()[seen])


@pytest.mark.parametrize("chunk", [64, 500, 4999, 5000])
def test_whatever_the_chunk_the_report_is_of_the_sample_and_comes_before_the_end(
    network: StoredNetwork, chunk: int
) -> None:
    split, said = fashion_mnist.load("validation"), []
    measured = evaluation.evaluate(network, split, report=lambda *first: said.append(first), chunk=chunk)
    assert len(said) == (0 if chunk == 5000 else 1)
    for seen, predictions in said:
        assert 500 <= len(seen) < 500 + chunk
        assert np.array_equal(seen, split.order[: len(seen)])
        assert np.array_equal(predictions, measured.predictions.numpy()[seen])


# What leading layers gave, kept.

SMALL = Baseline("cnn", random_tensors(CNN_SHAPES))
STEPS = [
    CompressionConfig(),
    *(CompressionConfig().with_layer("fc2", bits=bits) for bits in (2, 4)),
    *(CompressionConfig().with_layer("fc1", rank=rank) for rank in (2, 3)),
    CompressionConfig().with_layer("conv2", sparsity=0.5),
    CompressionConfig().with_layer("conv1", bits=3),
    *(CompressionConfig(activation_bits=4).with_layer("fc2", sparsity=share) for share in (0.2, 0.4)),
    CompressionConfig(activation_bits=3),
]


@pytest.fixture(scope="module")
def steps(images: Tensor) -> list[StoredNetwork]:
    """Networks that differ in later layers, in earlier ones, and in their activations; the last two in bits alone."""
    made = [compress(SMALL, config, statistics_of(SMALL, images)).freeze() for config in STEPS]
    return [*made, *(replace(made[-1], config=CompressionConfig(activation_bits=bits)) for bits in (None, 2))]


@pytest.fixture(scope="module")
def splits() -> list[Split]:
    """Two of the same size, and a smaller one."""
    whole = fashion_mnist.load("validation")
    pieces = [slice(0, 300), slice(300, 600), slice(0, 250)]
    return [whole.part(piece, "validation") for piece in pieces]


def same(a: Evaluation, b: Evaluation) -> bool:
    alike = torch.equal(a.predictions, b.predictions) and torch.equal(a.confidences, b.confidences)
    return alike and a.loss == b.loss


class Runs:
    """How many images went through the leading layers of a network, and from where its later layers began."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.leading: list[tuple[int, int]] = []
        patch.setattr(evaluation, "Runner", self.runner)

    def runner(self, part: StoredNetwork | Part, *rest: Any) -> Callable[[Array], Array]:
        runner, part = Runner(part, *rest), Part(part) if isinstance(part, StoredNetwork) else part
        layers, ends = sum(each.weighted for each in part.nodes), part.nodes[-1].name == part.network.network.output

        def run(x: Array) -> Array:
            self.leading += [] if ends else [(layers, len(x))]
            return runner(x)

        return run

    def taken(self) -> list[tuple[int, int]]:
        taken, self.leading = self.leading, []
        return taken


@settings(max_examples=40)
@given(
    moves=st.lists(
        st.tuples(
            st.integers(0, len(STEPS) + 1),
            st.sampled_from([0, 0, 0, 1, 2]),
            st.none() | st.integers(0, 2),
            st.sampled_from([100, 64]),
        ),
        min_size=2,
        max_size=10,
    )
)
def test_whatever_was_evaluated_before_a_prefix_changes_no_bit(
    steps: list[StoredNetwork], splits: list[Split], moves: list[tuple[int, int, int | None, int]]
) -> None:
    """Any sequence of networks, splits and chunks; some evaluations are stopped after a few chunks."""
    prefix = Prefix()
    for step, which, stop_after, chunk in moves:
        network, split, left = steps[step], splits[which], [stop_after]

        def should_stop(left: list[int | None] = left) -> bool:
            left[0] = None if left[0] is None else left[0] - 1
            return left[0] is not None and left[0] < 0

        if stop_after is not None:
            with pytest.raises(Stopped):
                evaluation.evaluate(network, split, should_stop, prefix=prefix, chunk=chunk)
        else:
            measured = evaluation.evaluate(network, split, prefix=prefix, chunk=chunk)
            assert same(measured, evaluation.evaluate(network, split))


@pytest.mark.parametrize("name", ["residual", "separable"])
def test_a_prefix_changes_no_bit_of_a_network_with_branches(
    name: str, splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the deepest place that two networks have in common is where the next one begins."""
    baseline = filled(families.named(name).build((1, 28, 28), 10))
    known, runs, prefix = statistics_of(baseline, splits[0].inputs[:16]), Runs(monkeypatch), Prefix()
    small = splits[0].part(slice(40), "validation")
    middle = baseline.layers[len(baseline.layers) // 2].name
    plain, last = CompressionConfig(), CompressionConfig().with_layer("fc", bits=2)
    configs = [plain, last, CompressionConfig().with_layer("fc", bits=3)]
    configs += [CompressionConfig().with_layer(middle, bits=bits) for bits in (2, 3)] + [last]
    configs += [CompressionConfig(activation_bits=8).with_layer("fc", bits=bits) for bits in (2, 3)]
    leading = []
    for config in configs:
        network = compress(baseline, config, known).freeze()
        runs.taken()
        measured = evaluation.evaluate(network, small, prefix=prefix)
        leading.append(runs.taken())
        assert same(measured, evaluation.evaluate(network, small))
    before_last = len(baseline.layers) - 1
    assert leading[:3] == [[], [(before_last, 40)], []]
    assert leading[-1] == [(before_last, 40)], "signals on a grid are others"


def test_what_did_not_change_is_not_run_again(
    steps: list[StoredNetwork], splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, two, four, *_ = steps
    runs, prefix, split = Runs(monkeypatch), Prefix(), splits[0]
    leading = []
    for network in (plain, two, four, plain):
        assert evaluation.evaluate(network, split, prefix=prefix, chunk=100).images == 300
        leading.append(runs.taken())
    assert leading == [
        [],
        [(3, 100)] * 3,
        [],
        [],
    ]  # before fc2, three layers: run once, when they are seen to be shared


def test_bits_alone_make_another_signal_and_part_of_a_chunk_is_not_taken_for_all_of_it(
    steps: list[StoredNetwork], splits: list[Split]
) -> None:
    prefix, split, asked = Prefix(), splits[0], iter([False, True])
    for network in (steps[-3], steps[-3], steps[-2], steps[-2], steps[-1], steps[-1]):
        measured = evaluation.evaluate(network, split, prefix=prefix)
        assert same(measured, evaluation.evaluate(network, split))
    assert not same(measured, evaluation.evaluate(steps[-3], split))
    prefix = Prefix()
    evaluation.evaluate(steps[0], split, prefix=prefix)
    with pytest.raises(Stopped):
        evaluation.evaluate(steps[1], split, lambda: next(asked), prefix=prefix, chunk=100)
    for chunk in (150, 70):
        assert same(
            evaluation.evaluate(steps[2], split, prefix=prefix, chunk=chunk), evaluation.evaluate(steps[2], split)
        )


def test_a_prefix_follows_to_where_networks_are_alike_now(
    images: Tensor, splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CompressionConfig().with_layer("conv1", bits=3)
    configs = [CompressionConfig(), first, first.with_layer("fc2", bits=2), first.with_layer("fc2", bits=4)]
    runs, prefix, leading = Runs(monkeypatch), Prefix(), []
    for config in configs:
        network = compress(SMALL, config, statistics_of(SMALL, images)).freeze()
        evaluation.evaluate(network, splits[0], prefix=prefix, chunk=100)
        leading.append(runs.taken())
    assert leading == [[], [], [(3, 100)] * 3, []]


def test_what_a_stopped_evaluation_had_computed_is_kept(
    steps: list[StoredNetwork], splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, two, four, *_ = steps
    runs, prefix, split, asked = Runs(monkeypatch), Prefix(), splits[0], iter([False, False, True])
    evaluation.evaluate(plain, split, prefix=prefix)
    with pytest.raises(Stopped):
        evaluation.evaluate(two, split, lambda: next(asked), prefix=prefix, chunk=100)
    assert runs.taken() == [(3, 100)] * 2
    measured = evaluation.evaluate(four, split, prefix=prefix, chunk=100)
    assert runs.taken() == [(3, 100)]
    assert same(measured, evaluation.evaluate(four, split))


@pytest.mark.parametrize("fits", [True, False])
def test_a_prefix_holds_no_more_than_its_limit(
    steps: list[StoredNetwork], splits: list[Split], monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    needed = 300 * CNN_SHAPES["fc1"][0] * 4
    monkeypatch.setattr(Prefix, "LIMIT", needed if fits else needed - 1)
    monkeypatch.setattr(evaluation, "SAMPLE", 100)  # whose signals fit in any case
    runs, prefix, split = Runs(monkeypatch), Prefix(), splits[0]
    for network in steps[:3]:
        runs.taken()
        measured = evaluation.evaluate(network, split, prefix=prefix, chunk=100)
        leading = runs.taken()
        assert same(measured, evaluation.evaluate(network, split))
    assert leading == ([] if fits else [(3, 100)] * 3)


# An estimate from a sample.


def a_pair(
    images: int, lost: float, gained: float, accuracy: float = 0.9, seed: int = 0
) -> tuple[Evaluation, Evaluation]:
    """A baseline, and a network that loses and gains about these shares of all images; as many of each class."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 10
    right, chance = random.random(images) < accuracy, random.random(images)
    after = np.where(right, chance >= lost / accuracy, chance < gained / (1 - accuracy))
    true = torch.from_numpy(labels)
    was, now = (torch.from_numpy((labels + ~ok) % 10) for ok in (right, after))
    return made_up(was, true), made_up(now, true)


def stratified(labels: Array, per_class: int, random: np.random.Generator) -> NDArray[np.int64]:
    own = [random.permutation(np.flatnonzero(labels == c))[:per_class] for c in range(10)]
    return np.concatenate(own)


def estimate_from(before: Evaluation, after: Evaluation, sample: NDArray[np.int64]) -> Estimate:
    return evaluation.estimate(before, sample, after.predictions.numpy()[sample])


@given(pairs())
def test_an_estimate_from_all_images_is_exact(pair: tuple[Evaluation, Evaluation]) -> None:
    before, after = pair
    found = estimate_from(before, after, np.random.default_rng(0).permutation(before.images))
    assert (found.images, found.of, found.half_width) == (before.images, before.images, 0)
    assert found.accuracy == pytest.approx(after.accuracy, abs=1e-12)
    assert found.interval == pytest.approx((after.accuracy, after.accuracy), abs=1e-12)


@given(pairs(), st.data())
def test_an_estimate_is_the_baselines_accuracy_and_the_difference_on_the_sample(
    pair: tuple[Evaluation, Evaluation], draw: st.DataObject
) -> None:
    before, after = pair
    whole = before.images
    count = draw.draw(st.integers(1, whole))
    sample = np.random.default_rng(draw.draw(st.integers(0, 99))).permutation(whole)[:count]
    found = estimate_from(before, after, sample)
    change = after.right.numpy()[sample].astype(int) - before.right.numpy()[sample].astype(int)
    assert found.accuracy == pytest.approx(before.accuracy + change.mean(), abs=1e-12)
    low, high = found.interval
    assert 0 <= low <= high <= 1
    # Not narrower than the interval of the paired difference, and wider by no more than two made-up flips.
    correction = ((whole - count) / max(1, whole - 1)) ** 0.5
    wald = evaluation.Z95 * change.std() / count**0.5
    assert wald * correction - 1e-12 <= found.half_width <= (wald + 2 * evaluation.Z95 / count) * correction + 1e-12
    assert (found.half_width > 0) == (count < whole)


def test_the_half_width_shrinks_to_nothing_as_the_sample_grows() -> None:
    before, after = a_pair(5_000, 0.05, 0.02)
    order = stratified(before.labels.numpy(), 500, np.random.default_rng(0)).reshape(10, 500).T.ravel()
    widths = [estimate_from(before, after, order[:count]).half_width for count in range(500, 5_001, 500)]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == len(widths)
    assert widths[-1] == 0
    almost = estimate_from(before, after, order[:4_990])
    assert almost.accuracy == pytest.approx(after.accuracy, abs=2 * 10 / 4_990)
    assert abs(almost.accuracy - after.accuracy) <= almost.half_width < 0.001


@pytest.mark.parametrize(
    ("lost", "gained"), [(0, 0), (0.0006, 0), (0.002, 0.002), (0.01, 0.005), (0.05, 0.02), (0.3, 0.01), (0.8, 0.05)]
)
@pytest.mark.parametrize("per_class", [10, 50, 200])
def test_the_interval_of_an_estimate_covers_the_exact_accuracy(lost: float, gained: float, per_class: int) -> None:
    before, after = a_pair(5_000, lost, gained)
    random, labels = np.random.default_rng(1), before.labels.numpy()
    found = [estimate_from(before, after, stratified(labels, per_class, random)) for _ in range(400)]
    covered = [low <= after.accuracy <= high for low, high in (estimate.interval for estimate in found)]
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize(
    "config", [CompressionConfig(bits=4), CompressionConfig(sparsity=0.9), CompressionConfig(bits=2)]
)
def test_the_interval_covers_the_accuracy_of_a_compressed_shipped_network(config: CompressionConfig) -> None:
    bench, split, random = Workbench(), fashion_mnist.load("validation"), np.random.default_rng(2)
    before, after = (evaluation.evaluate(bench.network("mlp", each), split) for each in (CompressionConfig(), config))
    found = [estimate_from(before, after, stratified(split.labels.numpy(), 50, random)) for _ in range(400)]
    covered = [low <= after.accuracy <= high for low, high in (estimate.interval for estimate in found)]
    assert np.mean(covered) >= 0.9
    low, high = estimate_from(before, after, split.order[:500]).interval
    assert low <= after.accuracy <= high  # the one sample that a page shows


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
    shorter = evaluation.evaluate(network, split.part(slice(100), "validation"))
    other = evaluation.evaluate(network, split.part(slice(None), "test"))
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


def test_images_near_a_rounding_tie_are_found_some_at_a_time(
    baseline: Baseline, statistics: Statistics, network: StoredNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is normalized where nothing is rounded."""
    split = fashion_mnist.load("validation").part(slice(150))
    rounded = compress(baseline, CompressionConfig(bits=4, activation_bits=8), statistics).freeze()
    at_once = evaluation.rounding_ties(rounded, split)
    assert len(at_once) == 150
    seen, normalized = list[int](), Scaling.normalized
    monkeypatch.setattr("core.datasets.HELD", 0)
    monkeypatch.setattr(evaluation, "SAMPLE", 40)
    monkeypatch.setattr(
        Scaling, "normalized", lambda scaling, images: seen.append(len(images)) or normalized(scaling, images)
    )
    assert not evaluation.rounding_ties(network, split).any()
    assert not seen
    assert np.array_equal(evaluation.rounding_ties(rounded, split), at_once)
    assert seen == [40, 40, 40, 30]


def test_latency_is_a_median_between_its_quartiles(cnn: Baseline, images: Tensor) -> None:
    network = compress(cnn, CompressionConfig(), statistics_of(cnn, images)).freeze()
    found = evaluation.latency(network, images, batch=4, repeats=5)
    assert 0 < found.lower <= found.median <= found.upper
    assert (found.batch, found.repeats) == (4, 5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_latency_of_a_module_where_it_is(cnn: Baseline, images: Tensor, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    module = compress(cnn, CompressionConfig(activation_bits=8, bits=8), statistics_of(cnn, images)).to(device)
    found = evaluation.device_latency(module, images, batch=4, repeats=5)
    assert 0 < found.lower <= found.median <= found.upper
    assert (found.batch, found.repeats) == (4, 5)
