"""Low-rank factorization: a weight becomes two thin factors, W (m x n) = U S V^T with r of its singular values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.document.blocks import Block, Formula, Paragraph, Table
from core.document.steps import Step, Subject, matrix_shape, percent, share_of
from core.settings import (
    DENSE,
    Choice,
    Choices,
    ConfigError,
    Moment,
    Setting,
    Share,
    Steps,
    Switch,
    Technique,
    Whole,
    among,
    shares,
)  # fmt: skip

if TYPE_CHECKING:
    from core.bench.workbench import LayerRow
    from core.config import CompressionConfig
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.trainable import CompressedLayer, CompressedNetwork

OBJECTIVES = {"svd": "SVD (weight error)", "whitened": "Data-aware (output error)"}

HELP_RANK = """The share of each layer's singular values that is kept: W ≈ U_r Σ_r V_rᵀ, stored as two thin
factors. A layer where that would not save anything (its rank is above break-even, m·n / (m+n)) stays dense, and the
table says so. Without fine-tuning the loss is small only while most of the energy is kept: see the Spectrum page."""
HELP_OBJECTIVE = """What the factors of a given rank are nearest to. *SVD* minimises the error of the weight,
‖W − W_r‖².
*Data-aware* minimises the error of the output, E‖Wx − W_r x‖², over the calibration images: directions that no image
uses are given up first, and the bias makes up for the mean error. The same bytes, and at low ranks far better
accuracy."""
HELP_ABOVE = """Factor a layer even where its two factors are larger than the layer itself, as the course report does.
In the report's network "50 %" saves exactly nothing."""

HALF_OCTAVES, HALF_OCTAVES_DOWN = 11, 5
"""A search tries ranks in half octaves below break-even, down to 1/32 of it; it begins so far down."""


class LowRank(Technique):
    name, title, order = "low rank", "Low-rank factorization", 20
    stage = "structure"
    settings = (
        Setting(
            "rank_share", Share(low_open=True), "Rank kept", shares("rank kept"),
            "rank share: singular values kept in every layer, in (0, 1]", HELP_RANK, link="rank",
            option="--rank-share", metavar="P", place="main",
        ),
        Setting(
            "above_break_even", Switch(), "Factor above break-even too", lambda yes: "factored above break-even",
            "factor even where it saves nothing", HELP_ABOVE, False, "course", "--above-break-even", place="finer",
        ),
        Setting(
            "low_rank_method", Choice(OBJECTIVES), "Low-rank objective", among("low rank {}", OBJECTIVES),
            "low-rank objective: svd (weight error) or whitened (data-aware, output error)", HELP_OBJECTIVE, "svd",
            "method", "--low-rank-method", place="beside",
        ),
    )  # fmt: skip
    of_layer = Setting(
        "rank", Whole(0), "Rank", lambda rank: "dense" if rank == DENSE else f"rank {rank}",
        "rank of its two factors; 0: dense", metavar="LAYER=K",
    )  # fmt: skip

    chooses = ("method", "factored", "rank")

    def used(self, config: CompressionConfig) -> bool:
        return config.rank_share is not None or any(layer.rank not in (None, DENSE) for _, layer in config.layers)

    def check(self, config: CompressionConfig, network: Network) -> None:
        from core.mathematics import costs
        from core.networks import calibration
        from core.networks.models import costs_of

        for layer in network.layers:
            rank = config.layer(layer.name).rank
            if rank is not None and rank > layer.full_rank:
                raise ConfigError(
                    f"rank of {layer.name} must be in [1, {layer.full_rank}], or {DENSE} for no factors. "
                    f"Got {rank} instead."
                )
            if rank not in (None, DENSE) and layer.groups > 1:
                raise ConfigError(f"{calibration.GROUPED.format(layer.name, layer.groups)} Give it rank {DENSE}.")
        may_be = factored_names(config, network.layers)
        for cost in costs_of(network.layers):
            if cost.name in may_be and not cost.decomposes:
                raise ConfigError(f"{costs.not_decomposed_in_words(cost)} Give {cost.name} rank {DENSE}.")

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        if config.low_rank_method == "whitened":
            way_out = f"Choose plain factors (svd), or rank {DENSE} for this layer."
            yield "Data-aware factors", factored_names(config, network.layers), way_out

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """Each layer with a rank becomes its two factors; a data-aware one corrects its bias."""
        ranks = {name: rank_of(layer.layer, config) for name, layer in network.named().items()}
        layers = network.named()
        return network.replace(
            {name: factored(layers[name], rank, config, statistics) for name, rank in ranks.items() if rank is not None}
        )

    def always(self, inputs_known: bool) -> dict[str, Any]:
        return {"low_rank_method": "whitened" if inputs_known else "svd"}

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        from core.networks import calibration

        octaves = Steps(0, HALF_OCTAVES - 1, HALF_OCTAVES_DOWN)
        listed: dict[str, Choices] = {"method": tuple(OBJECTIVES)} if inputs_known else {}
        for layer in calibration.decomposable(network.layers, "svd"):
            listed |= {f"factored {layer.name}": (False, True), f"rank {layer.name}": octaves}
        return listed

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        return kind != "rank" or bool(chosen[f"factored {layer}"])

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> int | None:
        octaves = chosen.get(f"rank {layer.name}")
        return None if octaves is None else rank_at(octaves, layer)

    def chosen(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"low_rank_method": chosen["method"]} if "method" in chosen else {}

    def steps(self, subject: Subject) -> Iterator[Step]:
        if self.used(subject.config):
            how = "plain" if subject.config.low_rank_method == "svd" else "data-aware"
            ranks = [f"{row.name} rank {row.rank}" for row in subject.rows if row.rank is not None]
            yield Step(f"layers factored ({', '.join([how, *ranks])})", "Low rank", tuple(_procedure(subject)))


def factored_names(config: CompressionConfig, layers: Sequence[Layer]) -> list[str]:
    """Of the layers that may get factors: whether a share of the rank saves anything is known without channels only."""
    ranks = {layer.name: config.layer(layer.name).rank for layer in layers if layer.groups == 1}
    return [name for name, rank in ranks.items() if (config.rank_share if rank is None else rank) not in (None, DENSE)]


def rank_of(layer: Layer, config: CompressionConfig) -> int | None:
    """The rank of a layer's two factors, or None: it stays dense.

    Its own rank, if it has one, but no more than it has left without its channels; else
    max(1, floor(rank_share * min(m, n))), unless that is above break-even, where two factors would hold no fewer
    numbers than the matrix (and `above_break_even` is not set). A grouped convolution stays dense.
    """
    from core.mathematics import low_rank

    if layer.groups > 1:
        return None
    of_layer: int | None = config.layer(layer.name).rank
    if of_layer is not None:
        return None if of_layer == DENSE else min(of_layer, layer.full_rank)
    if config.rank_share is None:
        return None
    rank = low_rank.rank_from_share(config.rank_share, layer.full_rank)
    saves = rank <= low_rank.break_even_rank(*layer.matrix_shape)
    return rank if saves or config.above_break_even else None


def factored(layer: CompressedLayer, rank: int, config: CompressionConfig, statistics: Statistics) -> CompressedLayer:
    """The layer as two factors of this rank."""
    from core.mathematics import low_rank
    from core.networks.trainable import CompressedLayer

    weight, shape = layer.weights[0].weight.detach(), layer.layer.shape
    decomposition = statistics.decomposition(layer.layer, weight, layer.columns, config.low_rank_method)
    bias = layer.bias.detach() + low_rank.bias_correction(decomposition, rank)
    return CompressedLayer(layer.layer, low_rank.factorize(decomposition, rank, shape), bias, layer.columns)


def rank_at(octaves: int, layer: Layer) -> int:
    """So many half octaves below break-even; at least 1."""
    from core.mathematics import low_rank

    return max(1, round(low_rank.break_even_rank(*layer.matrix_shape) * 2 ** (-octaves / 2)))


def _procedure(subject: Subject) -> Iterator[Block]:
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


TECHNIQUE = LowRank()
