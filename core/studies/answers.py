"""What the studies answer: records, as a job's result, the shelf and the command line's JSON hold them.

Accuracies and differences of accuracies are fractions of the images, `loss` is the mean cross entropy; `bytes` are
bytes, `kb` are KB of 1,024 bytes. A `config` is a configuration as JSON.
"""

from dataclasses import dataclass
from typing import Any, Self

from core.bench.results import Result
from core.config import CompressionConfig
from core.machinery.records import Record
from core.measuring.evaluation import Latency

Interval = tuple[float, float]
"""The ends of a 95 % interval of a paired difference of accuracies."""

Epoch = dict[str, Any]
"""Figures of an epoch, as `training.Trained.history` has them: which ones, the training decides."""


class Configured(Record):
    """A record with a configuration. config : as `CompressionConfig.to_json` writes it"""

    config: str

    @property
    def configuration(self) -> CompressionConfig:
        """Raises ConfigError for one of another version."""
        return CompressionConfig.from_json(self.config)


@dataclass(frozen=True)
class Measured(Configured):
    """A configuration on the validation images.

    target : the sparsity that was asked for, in [0, 1]; sparsity : the share of zeros among the weights
    difference : accuracy - baseline accuracy; bytes : of the packed file
    """

    config: str
    target: float | None
    sparsity: float
    accuracy: float
    loss: float
    difference: float
    bytes: int

    @classmethod
    def of(cls, result: Result, **more: Any) -> Self:
        """What the workbench measured on validation. more : the fields of a record that says more than that"""
        return cls(
            config=result.config.to_json(),
            target=result.config.sparsity,
            sparsity=result.sparsity,
            accuracy=result.evaluation.accuracy,
            loss=result.evaluation.loss,
            difference=result.comparison.difference,
            bytes=result.bytes,
            **more,
        )


# Chosen by measurement: `tuning`


@dataclass(frozen=True)
class Step(Measured):
    """layer : that got smaller in this step; "" for the beginning"""

    layer: str


@dataclass(frozen=True)
class Allocation(Record):
    """Greedy steps, the beginning first, each with one layer smaller than the one before."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class LayerAlone(Measured):
    """The network with this layer alone pruned, `sparsity` being that layer's; or rounded, to so many bits."""

    layer: str
    bits: int | None = None


@dataclass(frozen=True)
class Sensitivity(Record):
    rows: tuple[LayerAlone, ...]


@dataclass(frozen=True)
class OneShot(Record):
    """The largest one-shot sparsity within an allowance, by one score and scope.

    points : all that were measured, by sparsity; chosen : the place of the answer among them
    at_most : what is promised to be lost at most on new images, a fraction; None where no confidence was asked for
    """

    score: str
    scope: str
    sparsity: float
    points: tuple[Measured, ...]
    chosen: int
    at_most: float | None = None

    @property
    def point(self) -> Measured:
        """The figures at the largest sparsity."""
        return self.points[self.chosen]


@dataclass(frozen=True)
class OneShotSearch(Record):
    """One for every score and scope."""

    answers: tuple[OneShot, ...]


@dataclass(frozen=True)
class Run(Measured):
    """history : of the training; None where nothing was trained"""

    history: tuple[Epoch, ...] | None


@dataclass(frozen=True)
class Hardest(Record):
    """chosen : the strongest configuration that fits, None where none does; runs : all that were tried, the mildest
    first; promises : what each of them loses at most on new images, a fraction; empty where no confidence was asked for
    """

    chosen: Run | None
    runs: tuple[Run, ...]
    promises: tuple[float, ...] = ()


@dataclass(frozen=True)
class IterativeSearch(Record):
    """sparsity : the largest target that fits; None where none does; promises : as of `Hardest`"""

    sparsity: float | None
    runs: tuple[Run, ...]
    promises: tuple[float, ...] = ()

    @property
    def chosen(self) -> Run | None:
        """The run of the largest target that fits."""
        return next((run for run in self.runs if run.target == self.sparsity), None)

    @property
    def at_most(self) -> float | None:
        """What that run loses at most on new images, a fraction; None where nothing was promised."""
        promised = zip(self.runs, self.promises, strict=False)
        return next((most for run, most in promised if run.target == self.sparsity), None)


# On the test images, and in time


@dataclass(frozen=True)
class Figures(Record):
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Paired(Record):
    """Two networks on the same images: lost and gained are the images that only the first, only the second has right;
    difference = (gained - lost) / images."""

    difference: float
    interval: Interval
    lost: int
    gained: int


@dataclass(frozen=True)
class OnTest(Paired, Figures):
    """A network on the test images, against the baseline there."""

    @classmethod
    def of(cls, result: Result, **more: Any) -> Self:
        """more : the fields of a record that says more than that"""
        change = result.comparison
        return cls(
            accuracy=result.evaluation.accuracy,
            loss=result.evaluation.loss,
            difference=change.difference,
            interval=change.interval,
            lost=change.lost,
            gained=change.gained,
            **more,
        )


@dataclass(frozen=True)
class ClassScores(Record):
    """precision, recall, f1 : in [0, 1]; images : of the class"""

    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class OnTestByClass(OnTest):
    """report : by class; "macro avg" and "weighted avg" are means over the classes"""

    report: dict[str, ClassScores]


@dataclass(frozen=True)
class OnTestByLayer(OnTest):
    """layers : the share of zeros in each"""

    layers: dict[str, float]


@dataclass(frozen=True)
class Judged(Measured):
    """kb : in theory, by `model_size_kb`; compression_ratio : baseline bytes over those of the file; interval : of the
    difference on validation"""

    kb: float
    compression_ratio: float
    interval: Interval
    test: OnTestByClass


@dataclass(frozen=True)
class Timed(Record):
    """multiply_accumulates : for one image; products : matrix products or convolutions in a row; batches : seconds per
    image, by images at once ("1", "250"; on a graphics processor "cuda 1", "cuda 250")"""

    multiply_accumulates: int
    products: int
    batches: dict[str, Latency]


# The course's assignment: `assignment`


@dataclass(frozen=True)
class ChannelRow(Configured):
    """before, after : training, on validation; after is None where nothing was trained, and `config` is what stands
    last"""

    title: str
    config: str
    parameters: int
    bytes: int
    before: Figures
    after: Figures | None
    latency: Timed


@dataclass(frozen=True)
class ChannelPruning(Record):
    """rows : the network as it is, with half of its weights zero, then with half of its channels gone, in every way"""

    rows: tuple[ChannelRow, ...]


@dataclass(frozen=True)
class PruningHalf(Record):
    """test : the verdict on "one-shot", and on "iterative" where a target fits; confidence : that was asked for"""

    baseline: str
    allowance: float
    one_shot: tuple[OneShot, ...]
    iterative: IterativeSearch
    test: dict[str, OnTestByLayer]
    sensitivity: tuple[LayerAlone, ...]
    channels: tuple[ChannelRow, ...]
    confidence: float | None = None


@dataclass(frozen=True)
class Rung(Measured):
    """rung : of `assignment.RUNGS`; bits : of the weights; activations : whether they have as many"""

    rung: str
    bits: int
    activations: bool


@dataclass(frozen=True)
class Ladder(Record):
    rows: tuple[Rung, ...]


@dataclass(frozen=True)
class Sharing(Record):
    """As `sharing.configurations` has them, each codebook followed by its grid."""

    rows: tuple[Measured, ...]


@dataclass(frozen=True)
class Rated(Measured):
    """A network trained with few bits, and with a rate in its loss or pruned.

    rate_weight : lambda, 0 where there was no rate; seed : of the training; interval : of the difference
    bits_per_weight : that the file spends on a weight, what says where the zeros are included
    """

    rate_weight: float
    seed: int
    interval: Interval
    bits_per_weight: float


@dataclass(frozen=True)
class RateCurve(Record):
    """rows : by lambda, on validation; baseline_accuracy : there"""

    baseline_accuracy: float
    rows: tuple[Rated, ...]


@dataclass(frozen=True)
class AtEqualSize(Record):
    """Accuracy with a rate less that of pruning, where both take so many bytes, the middle of all sizes that both reach
    (low to high). differences : by seed; interval : of their mean, by Student's t"""

    bytes: float
    low: float
    high: float
    differences: tuple[float, ...]
    mean: float
    interval: Interval


@dataclass(frozen=True)
class RateAblation(Record):
    """On the test images. rated, pruned : seed by seed; compared : None where no size is reached by all"""

    baseline_accuracy: float
    rated: tuple[Rated, ...]
    pruned: tuple[Rated, ...]
    compared: AtEqualSize | None


@dataclass(frozen=True)
class AtBits(Record):
    """Weights and activations at so many bits.

    minmax : a scale per channel, no more; before : the best rung; after : that, trained
    history : of the training; kept : its best epoch, 0 for the network before training
    """

    bits: int
    minmax: Judged
    before: Judged
    after: Judged
    history: tuple[Epoch, ...] | None
    kept: int | None


@dataclass(frozen=True)
class QuantizationHalf(Record):
    """kb, bytes : of the network as it is, in theory and as a file; float32 : that network"""

    baseline: str
    epochs: int
    kb: float
    bytes: int
    float32: Judged
    ladder: tuple[Rung, ...]
    rows: tuple[AtBits, ...]


IN_WAYS = {"weights": "pruning", "channels": "channel pruning", "bits": "quantization"}
"""Techniques by what they are called in a way."""


@dataclass(frozen=True)
class OfWay(Record):
    """way : a technique or several, of `assignment.ways`; title : as the field says it, "pruning + quantization" """

    way: str

    @property
    def title(self) -> str:
        return " + ".join(IN_WAYS.get(part, part) for part in self.way.split(" + "))


@dataclass(frozen=True)
class WayReached(Hardest, OfWay):
    """How far a way goes within the allowance."""


@dataclass(frozen=True)
class BestWay(Judged, OfWay):
    """The smallest file of all ways. at_most : what is promised to be lost at most on new images, a fraction"""

    at_most: float | None = None


@dataclass(frozen=True)
class Combination(Record):
    """best : None where nothing fits; confidence : that was asked for"""

    baseline: str
    allowance: float
    rows: tuple[WayReached, ...]
    best: BestWay | None
    confidence: float | None = None


@dataclass(frozen=True)
class Order(Record):
    """What is left of each step's work at the end, on one layer.

    zeros : share, in [0, 1]; rank : of the weight; levels : most different values in an output channel
    kb : the least that holds the layer, in theory; the figures are those of validation, against the baseline
    flips : of two steps, predictions that differ from those of the two the other way round
    """

    order: str
    zeros: float
    rank: int
    levels: int
    kb: float
    accuracy: float
    difference: float
    lost: int
    gained: int
    interval: Interval
    flips: int | None = None


@dataclass(frozen=True)
class Orders(Record):
    """rows : every order of two and of three steps, then this project's way"""

    rows: tuple[Order, ...]


# The course's low-rank report: `reproduce`


@dataclass(frozen=True)
class Published(Record):
    """What a course report gives: accuracy before fine-tuning and after, parameters, CPU inference time."""

    before: float
    after: float
    parameters: int
    milliseconds: float


@dataclass(frozen=True)
class BeforeTraining(Figures):
    over_baseline: Paired


@dataclass(frozen=True)
class Retrained(Record):
    """over_control : against the uncompressed network, trained alike with the same seed"""

    seed: int
    accuracy: float
    loss: float
    over_control: Paired


@dataclass(frozen=True)
class ScenarioRow(Configured):
    """published : None for what the report did not show; before, after : fine-tuning, on test; after by seed"""

    scenario: str
    config: str
    published: Published | None
    parameters: int
    bytes: int
    compression_ratio: float
    before: BeforeTraining
    after: tuple[Retrained, ...]
    latency: Timed


@dataclass(frozen=True)
class LayerCondition(Record):
    """A layer, factored alone to a rank: the energy kept, in [0, 1], and what that loses on validation.

    condition_number : largest over smallest singular value; None where that is infinite
    """

    baseline: str
    layer: str
    rank: int
    energy: float
    condition_number: float | None
    difference: float
    interval: Interval


@dataclass(frozen=True)
class RankCorrelations(Record):
    """Spearman's rho of a layer's figure and its loss, in [-1, 1], and its p-value."""

    condition_number: tuple[float, float]
    energy: tuple[float, float]


@dataclass(frozen=True)
class LowRankReport(Record):
    """rows : by scenario, the control first; layers : of all shipped baselines"""

    baseline: str
    epochs: int
    seeds: int
    rows: tuple[ScenarioRow, ...]
    layers: tuple[LayerCondition, ...]
    rank_correlations: RankCorrelations


# The smallest file within a budget: `search`


@dataclass(frozen=True)
class SearchedBest(Record):
    """config : as JSON; accuracy, difference : on validation
    test_accuracy, test_difference : as the file was read again, None where the search was stopped before; path : of it
    at_most : what is promised to be lost at most on new images, a fraction; None where no confidence was asked for
    baseline, family : what was compressed, by its name; course_ratio : the float32 bytes of the course's CNN over those
        of the file, whatever network that holds; None for other images than the course's
    self_contained : bytes of the file and of the program that reads it, `footprint.decoder_bytes`
    """

    config: dict[str, Any]
    bytes: int
    baseline_bytes: int
    compression_ratio: float
    accuracy: float
    baseline_accuracy: float
    difference: float
    test_accuracy: float | None
    test_difference: float | None
    path: str | None
    at_most: float | None = None
    baseline: str = ""
    family: str = ""
    course_ratio: float | None = None
    self_contained: int | None = None

    @property
    def configuration(self) -> CompressionConfig:
        """Raises ConfigError for one of another version."""
        return CompressionConfig.from_record(self.config)


@dataclass(frozen=True)
class Searched(Record):
    """trials : how many configurations were measured; best : None where nothing meets the goal"""

    trials: int
    best: SearchedBest | None
