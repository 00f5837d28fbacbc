"""Fine-tuning: training after compression, in which ranks, zeros and bits stay, and what is left of the weights moves.

What it does stands in `core.measuring.training.recover`; here is what can be chosen of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.document.blocks import Block, Formula, Paragraph
from core.document.steps import Step, Subject, quantizes
from core.settings import (
    FLOAT_BITS,
    Choice,
    ConfigError,
    Number,
    Setting,
    Share,
    Sum,
    Switch,
    Technique,
    Weight,
    Whole,
    among,
    shares,
)
from core.techniques.codebook import codebook_of
from core.words import counted, percent

if TYPE_CHECKING:
    from core.config import CompressionConfig, RecoveryConfig
    from core.networks.graph import Network

STEERED_FROM = {"one-shot": 9, "iterative": 23}
"""Epochs by schedule: in shorter trainings no cycle of the learning rate begins after which lambda could be changed."""

SCHEDULES = {"one-shot": "One-shot", "iterative": "Iterative (gradual)"}

HELP_EPOCHS = """How often the compressed network sees the training images. Pruned weights stay zero, factors
stay factors, quantized weights are trained by the straight-through estimator, and the steps of all grids are learned
(LSQ). Three epochs take seconds (MLP) to a minute (CNN)."""
HELP_RATE = "The peak of a one-cycle schedule: up for a quarter of the steps, then down to almost nothing."
HELP_SCHEDULE = """*One-shot*: everything is pruned, then trained. *Iterative (gradual)*: a little is pruned, trained,
and so on by a cubic schedule over the first 60 % of the training; then bits are set and the learning rate starts again.
Far better at high sparsity."""
HELP_DISTILLATION = """Half of the loss is then the distance to a teacher's predictions (Hinton et al. 2015), those of
the baseline or of the network that taught it: which classes it holds for less likely is worth learning, too."""

HELP_TEACHER = """The network whose predictions are learnt, where knowledge distillation is on: of the same images, and
more accurate than the baseline, best of all. A link names it by the beginning of its SHA-256 sum."""

HELP_RATE_WEIGHT = """The loss gets λ times the bits per weight that the entropy coder will spend (Oktay et al.
2020): weights move to values that come often, steps of grids grow, and the file shrinks at the same bits. Only
quantized and shared weights have a rate."""


HELP_NORMALIZATION = """Batch normalization was folded into the weights before compression. For a long training of
few bits it is put back (Ioffe & Szegedy 2015), so that nothing changes at first, and folded into the scales of the
output channels again: the file is the same size."""

HELP_BATCH = """Images in each step. An epoch of a small network with few bits is sooner over in larger batches: what
is done once in a step, the rounding of all weights and the rate, is done less often. It also learns less from it."""

HELP_FLOOR = f"""The smallest network that is right this often: λ is steered. Most of the training goes on as usual;
then the learning rate starts again every few epochs, and λ rises where the accuracy on validation is above the floor,
and falls below it. That takes {STEERED_FROM["one-shot"]} epochs at least, {STEERED_FROM["iterative"]} where pruning
is iterative. The smallest network that reached the floor is kept, or the most accurate one where none did."""


class FineTuning(Technique):
    name, title, order = "training", "Fine-tuning (recovery)", 90
    stage = "training"
    settings = (
        Setting(
            "epochs", Whole(1, 100), "Epochs", lambda epochs: f"fine-tuned {epochs} epoch{'s' * (epochs > 1)}",
            "fine-tuning after compression (recovery)", HELP_EPOCHS, 3, "recover", metavar="EPOCHS",
            place="training", about="recovery epochs",
        ),
        Setting(
            "learning_rate", Number(1), "Peak learning rate", lambda rate: f"peak learning rate {rate!r}",
            "peak learning rate of the fine-tuning", HELP_RATE, 0.03, "rate", "--recover-rate", "RATE", "training",
            about="recovery learning_rate",
        ),
        Setting(
            "seed", Whole(0, 2**31 - 1), "Seed", lambda seed: f"seed {seed}",
            "seed of the order in which it sees the images", "", 0, "", "--recover-seed", "N", "training",
            about="recovery seed",
        ),
        Setting(
            "schedule", Choice(SCHEDULES), "Pruning", among("{} pruning", SCHEDULES),
            "one-shot pruning, or iterative: prune a little, train, repeat", HELP_SCHEDULE, "one-shot",
            place="training",
        ),
        Setting(
            "distillation", Switch(), "Knowledge distillation", lambda yes: "knowledge distillation",
            "knowledge distillation: learn from the baseline's predictions, too", HELP_DISTILLATION, False, "distill",
            place="training",
        ),
        Setting(
            "rate_weight", Weight(10), "Rate in the loss (λ)", lambda weight: f"rate weight {weight:g}",
            "lambda: how much a bit per weight of the file counts in the loss of the fine-tuning", HELP_RATE_WEIGHT,
            0.0, "lambda", "--rate-weight", "LAMBDA", "training", about="recovery rate_weight", later=True,
        ),
        Setting(
            "normalization", Switch(), "Batch normalization", lambda yes: "batch normalization in training",
            "put batch normalization back behind the convolutions during the fine-tuning", HELP_NORMALIZATION, False,
            "norm", "--renormalize", place="training", about="recovery normalization", later=True,
        ),
        Setting(
            "floor", Share(low_open=True), "Accuracy floor", shares("accuracy floor"),
            "accuracy on validation that the fine-tuning keeps, while lambda is raised as far as that allows",
            HELP_FLOOR, None, "floor", "--rate-floor", "F", "training", about="recovery floor", later=True,
        ),
        Setting(
            "batch_size", Whole(2, 4096), "Batch size", lambda images: f"batches of {images}",
            "images in each step of the fine-tuning", HELP_BATCH, 128, "batch", "--recover-batch", "N", "training",
            about="recovery batch_size", later=True,
        ),
        Setting(
            "teacher", Sum(), "Teacher", lambda sum_of_it: f"taught by {sum_of_it[:8]}",
            "with --distill: a network to learn from in place of the baseline, by its name or its SHA-256 sum",
            HELP_TEACHER, "", "teacher", "--recover-teacher", "NAME", "training", about="recovery teacher", later=True,
        ),
    )  # fmt: skip

    def used(self, config: CompressionConfig) -> bool:
        return config.recovery is not None

    def shrinks(self, config: CompressionConfig) -> bool:
        return False

    def check(self, config: CompressionConfig, network: Network) -> None:
        for refusal in () if config.recovery is None else _refusals(config, config.recovery, network):
            raise ConfigError(refusal)

    def steps(self, subject: Subject) -> Iterator[Step]:
        recovery = subject.config.recovery
        if recovery is not None:
            phrase = f"then trained ({counted(recovery.epochs, 'epoch')})"
            yield Step(phrase, "Training after compression", tuple(_procedure(subject)))


def _refusals(config: CompressionConfig, recovery: RecoveryConfig, network: Network) -> Iterator[str]:
    """What would do nothing, or cannot be done, and the way out."""
    convolutions = [layer.name for layer in network.layers if recovery.normalization and layer.kind == "conv"]
    coded = any(config.bits_of(each.name) != FLOAT_BITS or codebook_of(config, each.name) for each in network.layers)
    if recovery.teacher and not recovery.distillation:
        yield "recovery teacher needs distillation: without it, nothing is learnt from a teacher."
    if (recovery.rate_weight or recovery.floor) and not coded:
        yield "recovery rate_weight and floor need bits or a codebook: float32 weights have no rate. Leave them out."
    if recovery.floor and recovery.epochs < (least := STEERED_FROM[recovery.schedule]):
        yield f"recovery floor needs at least {least} epochs, or lambda is not steered. Got {recovery.epochs} instead."
    if recovery.normalization and not convolutions:
        yield "recovery normalization needs a convolution, behind which it is put back. Leave it out."
    if config.granularity != "channel" and any(config.bits_of(name) != FLOAT_BITS for name in convolutions):
        yield f"recovery normalization is folded into scales, of granularity channel. Got {config.granularity!r}."
    if shared := [name for name in convolutions if codebook_of(config, name)]:
        yield f"recovery normalization is folded into a scale, and a codebook has none: leave one out for {shared[0]}."


def _procedure(subject: Subject) -> Iterator[Block]:
    config, chosen = subject.config, subject.config.recovery
    assert chosen is not None
    from core.config import TrainingConfig

    recipe = TrainingConfig(subject.model, chosen.epochs)
    flips = ", horizontal flips" if subject.mirrored else ""
    text = (
        f"{counted(chosen.epochs, 'epoch')} of SGD with Nesterov momentum 0.9, batch {chosen.batch_size}, a one-cycle "
        f"learning rate with its peak at {chosen.learning_rate:g}, weight decay {recipe.weight_decay:g}, label "
        f"smoothing {recipe.label_smoothing:g}{flips}, seed {chosen.seed}. Ranks, zeros and bits stay, weights move. "
    )
    rated = chosen.rate_weight or chosen.floor
    if not rated:
        text += "The epoch with the best validation accuracy is kept, so figures on validation flatter a little."
    if quantizes(subject.rows) or config.activation_bits:
        text += " Gradients pass straight through the rounding, and scales are learned (LSQ, Esser et al. 2020)."
    yield Paragraph(text)
    yield from _rated(chosen) if rated else ()
    if chosen.normalization:
        yield Paragraph(
            "For the training batch normalization was put back behind the convolutions; at its end it was folded into "
            "their weights, or into the scales of their grids."
        )
    yield from _pruned(config, chosen)
    if chosen.distillation:
        taught = (
            f"the network {chosen.teacher[:8]}" if chosen.teacher else "the baseline, or the network that taught it"
        )
        yield Paragraph(
            f"The network also learns from what its teacher predicts (distillation, Hinton et al. 2015): {taught}."
        )
        yield Formula(
            r"\text{loss} = \frac{1}{2} (\text{cross entropy} + T^2 \operatorname{KL}(\text{teacher} \parallel "
            rf"\text{{network}})), \quad T = {subject.temperature:g}"
        )


def _pruned(config: CompressionConfig, chosen: RecoveryConfig) -> Iterator[Block]:
    """When the zeros come."""
    from core.networks.compression import PRUNING_SHARE

    if chosen.schedule == "iterative":
        share = f"the first {100 * PRUNING_SHARE:.0f} %"
        yield Paragraph(
            f"Pruning is iterative (Zhu & Gupta 2017): the share of zeros rises over {share} of the training, "
            "where t goes from 0 to 1; then the "
            "bits are set and the learning rate starts again (Renda et al. 2020)."
        )
        yield Formula(r"s_t = s\,(1 - (1 - t)^3)")
    elif config.sparsity or any(layer.sparsity for _, layer in config.layers):
        yield Paragraph("Pruning is one-shot: all zeros are there before the training.")


def _rated(chosen: RecoveryConfig) -> Iterator[Block]:
    """The rate in the loss."""
    text = (
        "The loss holds the rate, too: the bits per stored weight R that an entropy coder spends on what the weights "
        "are rounded to, by how often each value comes, linear between two of them (compare Oktay et al. 2020)."
    )
    if chosen.floor:
        text += (
            f" λ is steered so that the accuracy on validation stays at {percent(chosen.floor, 2)}; the smallest "
            "network that reached it is kept."
        )
    else:
        text += f" λ is {chosen.rate_weight:g}. The epoch with the least of that loss on validation is kept."
    yield Paragraph(text)
    yield Formula(r"\text{loss} = \text{task} + \lambda R, \quad R = \frac{1}{N} \sum -\log_2 p(q)")


TECHNIQUE = FineTuning()
