"""Weight sharing: the weights of a layer have only K different values, the codebook, and a file holds which one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.document.blocks import Block, Formula, Paragraph, Table
from core.document.steps import Step, Subject
from core.settings import FLOAT_BITS, Choices, ConfigError, Moment, Setting, Steps, Technique, Whole

if TYPE_CHECKING:
    from core.config import CompressionConfig
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.trainable import CompressedLayer, CompressedNetwork

FEWEST, MOST = 4, 256
SHOWN = (4, 8, 16, 32, 64, 128, 256)
"""Where its control may stand: an index into K values takes log2 K bits."""

NONE = 0
"""The number of centroids that says: this layer has no codebook, whatever the whole network does."""

HELP = """The weights of a layer share K values, its codebook: k-means finds the K centroids with the least squared
error, every weight becomes the nearest one, and the file holds its index, log₂ K bits before entropy coding, and the
table (Han et al. 2016). The values lie where the weights are, and not at equal steps as those of a grid do: 16 of them
cost about as much as 4 bits. Instead of bits per weight: a layer has one or the other."""
HELP_OWN = f"{HELP} {NONE} leaves this layer without."


class Codebook(Technique):
    name, title, order = "codebook", "Weight sharing", 35
    stage = "grids"
    searched = False
    settings = (
        Setting(
            "codebook", Whole(FEWEST, MOST, shown=SHOWN), "Codebook size", lambda count: f"codebooks of {count} values",
            f"values that the weights of a layer share, {FEWEST} to {MOST}, by k-means; LAYER={NONE}: none", HELP,
            metavar="K|LAYER=K", place="beside", later=True,
        ),
    )  # fmt: skip
    of_layer = Setting(
        "codebook", Whole(FEWEST, MOST, also=(NONE,), shown=(NONE, *SHOWN)), "Codebook",
        lambda count: f"codebook of {count} values" if count else "no codebook", help=HELP_OWN, metavar="K|LAYER=K",
        later=True,
    )  # fmt: skip

    chooses = ("shared", "centroids")

    def used(self, config: CompressionConfig) -> bool:
        return config.codebook is not None or any(layer.codebook for _, layer in config.layers)

    def touched(self, config: CompressionConfig, network: Network) -> list[str]:
        return [layer.name for layer in network.layers if codebook_of(config, layer.name)]

    def check(self, config: CompressionConfig, network: Network) -> None:
        for name in self.touched(config, network):
            if (bits := config.bits_of(name)) != FLOAT_BITS:
                raise ConfigError(
                    f"A layer has bits or a codebook. {name} has {bits} bits and a codebook of "
                    f"{codebook_of(config, name)} values: leave one of the two out, or give this layer {FLOAT_BITS} "
                    f"bits, to keep its codebook, or the codebook {NONE}, to keep its bits."
                )

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        if config.bias_correction:
            way_out = f"Leave the biases as they are, or give this layer the codebook {NONE}."
            yield "Corrected biases", self.touched(config, network), way_out

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """A codebook for each stored tensor; then biases corrected, where that is asked for."""
        from core.techniques.quantization import correct_bias

        for name, layer in network.named().items():
            if count := codebook_of(config, name):
                before = layer.matrix(layer.masked_weights()).clone()
                share_weights(layer, count)
                if config.bias_correction:
                    correct_bias(layer, before, statistics)
        return network

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        """Which layers share weights, and the bits of an index into their codebooks."""
        low, high = index_bits(FEWEST), index_bits(MOST)
        listed: dict[str, Choices] = {}
        for layer in network.layers:
            listed |= {f"shared {layer.name}": (False, True), f"centroids {layer.name}": Steps(low, high)}
        return listed

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        return kind == "shared" or bool(chosen.get(f"shared {layer}"))

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> int | None:
        bits = chosen.get(f"centroids {layer.name}") if chosen.get(f"shared {layer.name}") else None
        return None if bits is None else int(2**bits)

    def steps(self, subject: Subject) -> Iterator[Step]:
        if any(row.centroids for row in subject.rows):
            yield Step("weights shared by codebooks", self.title, tuple(_procedure(subject)))


def codebook_of(config: CompressionConfig, name: str) -> int | None:
    """Centroids of a layer's codebooks: its own number, else the network's; None where it has none."""
    own = config.layer(name).codebook
    return (config.codebook if own is None else own) or None


def index_bits(count: int) -> int:
    """ceil(log2 K): bits of an index into K centroids, at least 1."""
    return max(1, (count - 1).bit_length())


def share_weights(layer: CompressedLayer, count: int) -> CompressedLayer:
    """Give each stored tensor of a layer, its weight or its two factors, a codebook of `count` values by k-means.

    The centroids are those of `clustering.k_means`, which minimise sum (w - c_q)^2; each weight acts as the nearest.
    Where weights were pruned, 0 is one of the centroids and stays it, so that pruned weights are exactly 0, and the
    others are found from the weights that are left (Han et al. 2016). Training moves weights and centroids.

    count : K, of [4, 256]
    Changes `layer` in place and returns it.
    """
    from core.networks.encodings.codebook import LearnedCodebook

    for weight in layer.weights:
        weight.encoder = LearnedCodebook(weight.masked(), count, keeps_zero=weight.mask is not None)
    return layer


def _procedure(subject: Subject) -> Iterator[Block]:
    text = (
        "The weights of a layer share K values, its codebook; for each weight the file holds the index of its value "
        "(weight sharing, Han et al. 2016). The values are the centroids of k-means (Lloyd 1982), one codebook for "
        "each stored tensor, and every weight becomes the nearest one. "
    )
    if any(row.sparsity and row.centroids for row in subject.rows):
        text += "Where weights were pruned, 0 is one of the centroids, and stays it. "
    if subject.config.recovery is not None:
        text += "Training moves the weights and the centroids, and each weight follows to the centroid nearest to it. "
    yield Paragraph(f"{text}Centroids are rounded to float16, biases to twelve bits.")
    yield Formula(r"\min_{c_1, \ldots, c_K} \sum_w \min_q (w - c_q)^2, \quad \hat{w} = c_q")
    yield Paragraph("With n weights, and four bytes for a centroid, the layer takes by the formula")
    yield Formula(r"n \lceil \log_2 K \rceil + 32 K \text{ bits}")
    rows = tuple(
        (row.name, f"{codebook_of(subject.config, row.name) or '–'}", f"{row.centroids:,}", f"{row.bits}")
        for row in subject.rows if row.centroids
    )  # fmt: skip
    caption = "K as it was asked for, the different values that are stored (of two factors together), bits of an index."
    yield Table(caption, ("layer", "K", "values stored", "bits of an index"), rows)


TECHNIQUE = Codebook()
