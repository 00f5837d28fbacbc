"""What a configuration does to a network, for a report: each step with its settings in words, its formula, its source.

Only what follows from the configuration in closed form, and the layers as they were counted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from core.bench.workbench import LayerRow
from core.config import DENSE, FLOAT_BITS, CompressionConfig, Model, TrainingConfig
from core.datasets import fashion_mnist
from core.measuring import training
from core.networks import calibration, compression
from core.report.blocks import Block, Formula, Paragraph, Table
from core.report.wording import counted, percent, share_of


@dataclass(frozen=True)
class Subject:
    """What the steps were done to. rows : the layers as they are now; energy : kept, by factored layer, in [0, 1]."""

    config: CompressionConfig
    model: Model
    rows: tuple[LayerRow, ...]
    energy: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """phrase : for a list of steps in a sentence; blocks : under the heading of the step."""

    phrase: str
    heading: str
    blocks: tuple[Block, ...]


def steps(subject: Subject) -> list[Step]:
    """Those that the configuration really has, in the order in which they are done."""
    config = subject.config
    kinds: tuple[tuple[bool, str, str, Callable[[Subject], Iterator[Block]]], ...] = (
        (removes_channels(config), f"output channels removed ({_counts(subject)})", "Channels", channels),
        (factors(config), f"layers factored ({_ranks(subject)})", "Low rank", low_rank),
        (prunes(config), f"weights pruned by {SCORES[config.score][0]}", "Pruning", pruning),
        (quantizes(subject.rows), f"weights quantized ({widths(subject.rows)})", "Quantization of weights", weights),
        (
            config.activation_bits is not None,
            f"activations quantized ({config.activation_bits} bits)",
            "Quantization of activations",
            activations,
        ),
        (config.recovery is not None, f"then trained ({epochs(config)})", "Training after compression", recovery),
    )
    return [Step(phrase, heading, tuple(blocks(subject))) for has, phrase, heading, blocks in kinds if has]


def removes_channels(config: CompressionConfig) -> bool:
    return (config.channel_share or 1.0) < 1 or any(own.channels is not None for _, own in config.layers)


def factors(config: CompressionConfig) -> bool:
    return config.rank_share is not None or any(own.rank not in (None, DENSE) for _, own in config.layers)


def prunes(config: CompressionConfig) -> bool:
    return bool(config.sparsity) or any(own.sparsity for _, own in config.layers)


def quantizes(rows: tuple[LayerRow, ...]) -> bool:
    return any(row.bits != FLOAT_BITS for row in rows)


def widths(rows: tuple[LayerRow, ...]) -> str:
    """Bits of the layers' weights in words."""
    words = {row.name: "float32" if row.bits == FLOAT_BITS else f"{row.bits} bits" for row in rows}
    if len(set(words.values())) == 1:
        return words[rows[0].name]
    return ", ".join(f"{name} {width}" for name, width in words.items())


def epochs(config: CompressionConfig) -> str:
    return counted(config.recovery.epochs if config.recovery else 0, "epoch")


def matrix_shape(row: LayerRow) -> tuple[int, int]:
    """(m, n) of a layer as it is now, from what it stores: m n weights, or r (m + n) in two factors."""
    stored = row.parameters - row.channels
    return row.channels, stored // row.channels if row.rank is None else stored // row.rank - row.channels


def _counts(subject: Subject) -> str:
    cut = [row for row in subject.rows if row.channels < row.shape[0]]
    return ", ".join(f"{row.name} {row.channels} of {row.shape[0]}" for row in cut) or "none"


def _ranks(subject: Subject) -> str:
    how = "plain" if subject.config.low_rank_method == "svd" else "data-aware"
    return ", ".join([how, *(f"{row.name} rank {row.rank}" for row in subject.rows if row.rank is not None)])


def _scope(config: CompressionConfig) -> str:
    return "globally, by one threshold" if config.scope == "network" else "layer-wise, the same share in each"


def channels(subject: Subject) -> Iterator[Block]:
    config, share = subject.config, subject.config.channel_share
    by_weights = config.channel_score == "l1"
    asked = "" if share is None else f" A share of {share_of(share)} stays, {_scope(config)}."
    yield Paragraph(
        "Whole output channels are cut out, with their biases and the inputs of the next layer that read them; no "
        f"zeros remain (Li et al. 2017). Those with the smallest score go.{asked} All outputs of the last layer, the "
        "classes, stay."
    )
    weights_of = r"\operatorname{score}(c) = \frac{1}{n_c} \sum_{w \in c} |w|"
    yield Formula(weights_of if by_weights else r"\operatorname{score}(c) = \operatorname{E}[\text{output of } c]")
    rows = tuple((row.name, str(row.shape[0]), str(row.channels)) for row in subject.rows)
    yield Table("Output channels of each layer.", ("layer", "before", "after"), rows)


def low_rank(subject: Subject) -> Iterator[Block]:
    config, share = subject.config, subject.config.rank_share
    text = (
        "As in the course's low-rank report a layer becomes two, of rank r, made from its r largest singular values s."
    )
    if share is not None:
        also = "also where that saves nothing" if config.above_break_even else "unless that saves nothing"
        text += f" Of the singular values {share_of(share)} are kept in each layer, {also}."
    if config.low_rank_method == "svd":
        yield Paragraph(f"{text} The factors are nearest to the weight (Eckart & Young 1936; Denton et al. 2014).")
        yield Formula(r"W = U S V^\top \approx W_r = (U_r \sqrt{S_r}) (\sqrt{S_r} V_r^\top)")
        yield Formula(r"\|W - W_r\|^2 = \sum_{i > r} s_i^2")
    else:
        yield Paragraph(
            f"{text} The factors are data-aware: nearest in what the layer puts out on real inputs x, and not in the "
            "weights themselves (Zhang et al. 2015; DRONE, Chen et al. 2021; SVD-LLM, Wang et al. 2024). What that "
            "changes on average is put into the bias (Nagel et al. 2019)."
        )
        yield Formula(r"W R = U S V^\top, \quad R R^\top = \operatorname{E}[x x^\top]")
        yield Formula(r"W_r = (U_r \sqrt{S_r}) (\sqrt{S_r} V_r^\top R^{-1})")
        yield Formula(r"\operatorname{E} \|W x - W_r x\|^2 = \sum_{i > r} s_i^2")
    yield Paragraph("Two factors hold fewer numbers than the matrix only up to the break-even rank, where")
    yield Formula(r"r\,(m + n) < m\,n")
    header = ("layer", "m × n", "rank", "full rank", "break-even", "m n", "r (m + n)", "energy kept")
    caption = "Ranks, and what the factors hold beside the matrix. Energy: Σ s² of what is kept, over that of all."
    yield Table(caption, header, tuple(_rank_row(subject, row) for row in subject.rows))


def _rank_row(subject: Subject, row: LayerRow) -> tuple[str, ...]:
    m, n = matrix_shape(row)
    numbers = ("–", "–") if row.rank is None else (f"{row.rank * (m + n):,}", percent(subject.energy[row.name]))
    rank = str(row.rank or "dense")
    return row.name, f"{m} × {n}", rank, str(row.full_rank), str(row.break_even_rank), f"{m * n:,}", *numbers


SCORES = {
    "magnitude": ("magnitude", "Han et al. 2015", r"\operatorname{score}(w) = |w|"),
    "lamp": ("LAMP", "Lee et al. 2021", r"\operatorname{score}(w) = \frac{w^2}{\sum_{u^2 \ge w^2} u^2}"),
    "activation": (
        "magnitude times input",
        "Wanda, Sun et al. 2024",
        r"\operatorname{score}(w) = |w| \sqrt{\operatorname{E}[x^2]}",
    ),
}
"""Name, source, formula."""


def pruning(subject: Subject) -> Iterator[Block]:
    config, (by, source, formula) = subject.config, SCORES[subject.config.score]
    target = f" The target is {share_of(config.sparsity)} of the weights, {_scope(config)}." if config.sparsity else ""
    yield Paragraph(
        f"Each weight is scored by {by} ({source}); those with the smallest score are set to zero and stay zero."
        f"{target} Biases are never pruned and never counted."
    )
    yield Formula(formula)
    yield Formula(r"\text{weights that go} = \operatorname{round}(\text{sparsity} \cdot n)")
    rows = []
    for row in subject.rows:
        own = config.layer(row.name).sparsity
        asked = "–" if own is None else share_of(own)
        rows.append((row.name, asked, percent(row.sparsity), f"{row.rounded_to_zero:,}"))
    caption = "Share of each layer's stored weights that was pruned, and how many more were rounded to zero."
    yield Table(caption, ("layer", "asked of it alone", "pruned", "rounded to 0"), tuple(rows))


def weights(subject: Subject) -> Iterator[Block]:
    config, symmetric = subject.config, subject.config.symmetry == "symmetric"
    per = "output channel" if config.granularity == "channel" else "tensor"
    grid, ends = ("a symmetric", "max |w|") if symmetric else ("an asymmetric", "the smallest and the largest w")
    text = (
        f"Weights lie on {grid} grid of integers, {widths(subject.rows)}, with one scale s per {per} and "
        "a zero point z (Jacob et al. 2018). "
    )
    text += f"The grid reaches to {ends}. " if config.clip == "minmax" else "Where it ends is chosen (clipping). "
    if config.rounding == "nearest":
        text += "Each weight goes to the nearest point. "
    else:
        text += "Weights are rounded so that their errors cancel on real inputs x (GPTQ, Frantar et al. 2023). "
    if config.bias_correction:
        text += "What rounding changes on average is put into the biases (Nagel et al. 2019). "
    yield Paragraph(f"{text}Scales are rounded to float16, biases to twelve bits of a step of their layer's.")
    yield Formula(
        r"q = \operatorname{clamp}(\operatorname{round}(w / s) + z, q_{\min}, q_{\max}), \quad \hat{w} = s\,(q - z)"
    )
    if symmetric:
        yield Formula(r"s = \frac{\max |w|}{2^{b - 1} - 1}, \quad z = 0")
    else:
        yield Formula(r"s = \frac{\max w - \min w}{2^b - 1}, \quad z = \operatorname{round}({-\min w} / s)")
    if config.clip == "mse":
        yield Paragraph("Clipping takes that share c of the range with the least squared error:")
        yield Formula(r"\min_c \sum (w - \hat{w})^2, \quad c \in \{1, 0.98, \ldots, 0.12\}")
    if config.rounding == "gptq":
        yield Paragraph("Rounding goes column by column, towards the least error of the output:")
        yield Formula(r"\min \operatorname{E} \|W x - \hat{W} x\|^2")
    if config.bias_correction:
        yield Paragraph("Correction of the biases:")
        yield Formula(r"\text{bias} \leftarrow \text{bias} + (W - \hat{W}) \operatorname{E}[x]")


def activations(subject: Subject) -> Iterator[Block]:
    config, count = subject.config, len(fashion_mnist.load("calibration"))
    top = "top is the largest x"
    if config.clip == "mse":
        top = f"top is where the squared error is least, by the histograms of {calibration.SIGNAL_IMAGES} of them"
    yield Paragraph(
        f"What enters a layer is rounded to {config.activation_bits} bits, one scale per tensor, unsigned after a ReLU "
        f"and signed between two factors. Ranges come from {count:,} training images, before the weights are "
        f"quantized: {top}. The input image keeps its own 8 bits, the outputs stay float32."
    )
    yield Formula(
        r"\hat{x} = s \cdot \operatorname{clamp}(\operatorname{round}(x / s), 0, 2^a - 1), "
        r"\quad s = \frac{\text{top}}{2^a - 1}"
    )


def recovery(subject: Subject) -> Iterator[Block]:
    config, chosen = subject.config, subject.config.recovery
    assert chosen is not None
    recipe = TrainingConfig(subject.model, chosen.epochs)
    text = (
        f"{epochs(config)} of SGD with Nesterov momentum 0.9, batch {recipe.batch_size}, a one-cycle learning rate "
        f"with its peak at {chosen.learning_rate:g}, weight decay {recipe.weight_decay:g}, label smoothing "
        f"{recipe.label_smoothing:g}{', horizontal flips' if subject.model == 'cnn' else ''}, seed {chosen.seed}. "
        "Ranks, zeros and bits stay, weights move. The epoch with the best validation accuracy is kept, so figures on "
        "validation flatter a little."
    )
    if quantizes(subject.rows) or config.activation_bits:
        text += " Gradients pass straight through the rounding, and scales are learned (LSQ, Esser et al. 2020)."
    yield Paragraph(text)
    if chosen.schedule == "iterative":
        share = f"the first {100 * compression.PRUNING_SHARE:.0f} %"
        yield Paragraph(
            f"Pruning is iterative (Zhu & Gupta 2017): the share of zeros rises over {share} of the training, "
            "where t goes from 0 to 1; then the "
            "bits are set and the learning rate starts again (Renda et al. 2020)."
        )
        yield Formula(r"s_t = s\,(1 - (1 - t)^3)")
    elif prunes(config):
        yield Paragraph("Pruning is one-shot: all zeros are there before the training.")
    if chosen.distillation:
        yield Paragraph("The network also learns from what the baseline predicts (distillation, Hinton et al. 2015).")
        yield Formula(
            r"\text{loss} = \frac{1}{2} (\text{cross entropy} + T^2 \operatorname{KL}(\text{baseline} \parallel "
            rf"\text{{network}})), \quad T = {training.TEMPERATURE:g}"
        )
