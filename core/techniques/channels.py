"""Channel pruning: whole outputs of layers are removed, and the network that is left is simply smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from core.document.blocks import Block, Formula, Paragraph, Table
from core.document.steps import Step, Subject, scope_in_words, share_of
from core.settings import (
    Choice,
    Choices,
    ConfigError,
    Moment,
    Setting,
    Share,
    Steps,
    Technique,
    Whole,
    among,
    shares,
)  # fmt: skip
from core.words import counted

if TYPE_CHECKING:
    from core.config import CompressionConfig
    from core.networks.calibration import Statistics
    from core.networks.graph import Layer, Network
    from core.networks.narrowing import Group
    from core.networks.trainable import CompressedNetwork

CRITERIA = {"l1": "L1 norm", "activation": "Mean activation"}

HELP_SHARE = """The share of output channels (of a convolution) or neurons (of a linear layer) that stay, in every
layer but the last. What goes takes the next layer's columns along: no zeros remain, the network is simply smaller, and
faster. Without training afterwards the loss is large."""
HELP_CRITERION = """Which channels go first. *L1 norm*: those with the smallest weights, mean |w| (Li et al. 2017).
*Mean activation*: those whose output is smallest over the calibration images."""
HELP_OWN = "How many of the layer's outputs stay. The next layer loses the columns that read the others."

EIGHTHS, EIGHTHS_LEFT = 8, 6
"""A search keeps so many parts of a layer's channels, from one to all; and with so many it begins."""


class Channels(Technique):
    name, title, order = "channels", "Channel pruning", 10
    stage = "structure"
    settings = (
        Setting(
            "channel_share", Share(low_open=True), "Channels kept", shares("channels kept"),
            "share of output channels that stay, all layers but the last", HELP_SHARE, link="channels",
            option="--channel-share", metavar="P", place="main", order=1,
        ),
        Setting(
            "channel_score", Choice(CRITERIA), "Channel criterion", among("channel criterion {}", CRITERIA),
            "channel criterion, which go first: L1 norm of their weights, or mean activation", HELP_CRITERION, "l1",
            "channelscore", "--channel-score", place="finer",
        ),
    )  # fmt: skip
    of_layer = Setting(
        "channels", Whole(1), "Channels", lambda count: counted(count, "channel"), "output channels that stay",
        HELP_OWN, metavar="LAYER=K",
    )  # fmt: skip

    chooses = ("narrow", "channels")

    def used(self, config: CompressionConfig) -> bool:
        return config.channel_share is not None or any(layer.channels is not None for _, layer in config.layers)

    def check(self, config: CompressionConfig, network: Network) -> None:
        from core.networks import narrowing

        layers = [layer for layer in network.layers if config.layer(layer.name).channels is not None]
        groups = narrowing.channels_of(network).group_of if layers else {}
        for layer in layers:
            count = config.layer(layer.name).channels
            if layer.name not in groups:
                raise ConfigError(f"channels of {layer.name} cannot be removed: {_why_not(network, layer)}")
            narrowing.asked(groups[layer.name], config)
            least, most = groups[layer.name].least, len(groups[layer.name].channels)
            if not least <= count <= most:
                raise ConfigError(f"channels of {layer.name} must be in [{least}, {most}]. Got {count} instead.")

    def asks_for_inputs(self, config: CompressionConfig, network: Network) -> Iterator[tuple[str, list[str], str]]:
        if config.channel_score == "activation" and self.used(config):
            from core.networks import narrowing

            channels = narrowing.channels_of(network)
            reading = {layer.name for group in channels.groups for layer in channels.readers(group)}
            following = [layer.name for layer in network.layers if layer.name in reading]
            yield "Scores of channels by what they put out", following, "Choose the score l1."

    def act(
        self, network: CompressedNetwork, config: CompressionConfig, statistics: Statistics, moment: Moment
    ) -> CompressedNetwork:
        """Rows, biases and columns of what stays, cut out of the baseline's tensors; tied layers lose the same ones."""
        from core.networks import narrowing, trainable

        smaller, columns = narrowing.narrow(network.baseline, config, statistics.means)
        return trainable.dense(smaller, columns, config, network.baseline_sha256)

    def always(self, inputs_known: bool) -> dict[str, Any]:
        return {"channel_score": "activation" if inputs_known else "l1"}

    def choices(self, network: Network, inputs_known: bool) -> dict[str, Choices]:
        from core.networks import narrowing

        widths = {layer.name: layer.shape[0] for layer in network.layers}
        groups = [
            group for group in narrowing.channels_of(network).groups if widths[group.layers[0]] == len(group.channels)
        ]
        # one number for all layers of a group
        listed: dict[str, Choices] = {f"channels {group.layers[0]}": _eighths(group) for group in groups}
        return {"narrow": (False, True), **listed}

    def is_active(self, kind: str, layer: str, chosen: Mapping[str, Any]) -> bool:
        return kind == "narrow" or bool(chosen["narrow"])

    def chosen_of(self, layer: Layer, chosen: Mapping[str, Any]) -> int | None:
        width = layer.shape[0]
        count = max(1, round(chosen.get(f"channels {layer.name}", EIGHTHS) / EIGHTHS * width))
        return count if count < width else None

    def steps(self, subject: Subject) -> Iterator[Step]:
        if (subject.config.channel_share or 1.0) < 1 or any(
            layer.channels is not None for _, layer in subject.config.layers
        ):
            cut = [row for row in subject.rows if row.channels < row.shape[0]]
            counts = ", ".join(f"{row.name} {row.channels} of {row.shape[0]}" for row in cut) or "none"
            yield Step(f"output channels removed ({counts})", "Channels", tuple(_procedure(subject)))


def _eighths(group: Group) -> Steps:
    """From the fewest that may stay."""
    fewest = 1 if group.least == 1 else ceil((group.least - 0.5) * EIGHTHS / len(group.channels))
    return Steps(fewest, EIGHTHS, max(fewest, EIGHTHS_LEFT))


def _why_not(network: Network, layer: Layer) -> str:
    """Why no channel of a layer can go, as the end of a sentence."""
    if layer.name == network.layers[-1].name:
        return "its outputs are the classes."
    return "they are tied to the classes, the image, a grouped convolution, or in another order to other layers."


def _procedure(subject: Subject) -> Iterator[Block]:
    config, share = subject.config, subject.config.channel_share
    by_weights = config.channel_score == "l1"
    asked = "" if share is None else f" A share of {share_of(share)} stays, {scope_in_words(config)}."
    yield Paragraph(
        "Whole output channels are cut out, with their biases and the inputs of the next layer that read them; no "
        f"zeros remain (Li et al. 2017). Those with the smallest score go.{asked} All outputs of the last layer, the "
        "classes, stay."
    )
    weights_of = r"\operatorname{score}(c) = \frac{1}{n_c} \sum_{w \in c} |w|"
    yield Formula(weights_of if by_weights else r"\operatorname{score}(c) = \operatorname{E}[\text{output of } c]")
    rows = tuple((row.name, str(row.shape[0]), str(row.channels)) for row in subject.rows)
    yield Table("Output channels of each layer.", ("layer", "before", "after"), rows)


TECHNIQUE = Channels()
