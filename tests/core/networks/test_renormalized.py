"""Normalization comes back as the identity, and goes without moving a weight from its place on the grid."""

import pytest
import torch
from conftest import statistics_of
from random_networks import filled

from core.config import CompressionConfig, ConfigError, RecoveryConfig
from core.datasets import Split, fashion_mnist
from core.networks import compression, families, inference, renormalized
from core.networks.trainable import CompressedNetwork

CONFIGS = [
    CompressionConfig(),
    CompressionConfig(bits=3, activation_bits=8),
    CompressionConfig(sparsity=0.5, bits=4, symmetry="asymmetric"),
    CompressionConfig(rank_share=0.5, above_break_even=True, bits=4),
]


@pytest.fixture(scope="module")
def held_out() -> Split:
    return fashion_mnist.load("validation").part(slice(200))


def compressed(name: str, config: CompressionConfig, images: Split) -> CompressedNetwork:
    baseline = filled(families.named(name).build((1, 28, 28), 10))
    return compression.compress(baseline, config, statistics_of(baseline, images.inputs[:64]))


@pytest.mark.parametrize("name", ["cnn", "compact", "separable", "residual"])
@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_unfolded_computes_the_same_and_folds_to_the_same(
    name: str, config: CompressionConfig, held_out: Split
) -> None:
    network, x = compressed(name, config, held_out).eval(), held_out.inputs[:32]
    before, frozen = network(x), network.freeze()
    renormalized.unfold(network, x)
    assert torch.allclose(network(x), before, atol=0.02 * float(before.abs().max()))
    assert sum(layer.norm is not None for layer in network.named().values()) == sum(
        layer.layer.kind == "conv" for layer in network.named().values()
    )
    after = renormalized.fold(network).freeze()
    for old, new in zip(frozen.layers, after.layers, strict=True):
        assert torch.allclose(old.tensors[-1].weight(), new.tensors[-1].weight(), rtol=2e-3, atol=1e-6)


def test_ranges_of_activations_are_those_of_the_network_with_its_normalization(held_out: Split) -> None:
    network, x = compressed("compact", CompressionConfig(), held_out), held_out.inputs[:64]
    statistics = statistics_of(network.baseline, x)
    renormalized.unfold(network, x)
    with torch.no_grad():
        for layer in network.named().values():
            if layer.norm is not None:
                layer.norm.scale *= 3
    frozen, ranges = network.freeze(), statistics.activation_ranges(network)
    assert ranges == statistics.activation_ranges(renormalized.fold(network))
    assert ranges != inference.ranges(frozen, x.numpy())


@torch.no_grad()
def put_between_codes(network: CompressedNetwork) -> None:
    """Some weights where a training with learned steps leaves many: hardly on one side of what divides two codes."""
    for layer in network.named().values():
        weight, scale = layer.weights[0].weight, layer.weights[0].encoder.stored_scale()  # type: ignore[operator]
        middle = ((weight / scale).floor() + 0.5) * scale * (1 + 1e-5 * torch.randn_like(weight))
        weight.copy_(torch.where(torch.rand_like(weight) < 0.3, middle, weight))


@pytest.mark.parametrize("name", ["compact", "separable"])
def test_folding_leaves_codes_and_outputs_as_training_left_them(name: str, held_out: Split) -> None:
    network, x = compressed(name, CompressionConfig(bits=3), held_out), held_out.inputs[:64]
    renormalized.unfold(network, x)
    for layer in network.named().values():
        if layer.norm is not None:
            layer.norm.scale.data *= torch.rand(layer.layer.shape[0]) + 0.5
            layer.norm.shift.data += torch.rand(layer.layer.shape[0])
            layer.norm.mean += torch.rand(layer.layer.shape[0])
    put_between_codes(network)
    codes = [layer.weights[0].freeze("w").values for layer in network.named().values()]
    before = network.eval()(x)
    renormalized.fold(network)
    for code, layer in zip(codes, network.named().values(), strict=True):
        assert torch.equal(code, layer.weights[0].freeze("w").values)
    assert torch.allclose(network(x), before, rtol=0.02, atol=0.02 * float(before.abs().max()))


def test_settled_statistics_are_those_of_the_images(held_out: Split) -> None:
    """Of one batch: the network then computes for it what it did while learning."""
    network = renormalized.unfold(compressed("compact", CompressionConfig(bits=3), held_out), held_out.inputs[:64])
    with torch.no_grad():
        for layer in network.named().values():
            layer.weights[0].weight += 0.05 * torch.randn_like(layer.weights[0].weight)
    some = held_out.part(slice(100))
    with torch.no_grad():
        learning, stale = network.train()(some.inputs), network.eval()(some.inputs)
        renormalized.settle(network, some)
        assert not network.training
        settled = network(some.inputs)
    assert (settled - learning).abs().max() < 0.1 * (stale - learning).abs().max()
    assert all(layer.norm is None or layer.norm.momentum == renormalized.MOMENTUM for layer in network.named().values())


@pytest.mark.parametrize(
    ("settings", "said"), [({"bits": 4, "granularity": "tensor"}, "granularity channel"), ({"codebook": 8}, "codebook")]
)
def test_what_has_no_scale_of_each_channel_cannot_take_it_up(settings: dict[str, object], said: str) -> None:
    config = CompressionConfig(**settings, recovery=RecoveryConfig(normalization=True))
    with pytest.raises(ConfigError, match=said):
        compression.check(config, families.named("cnn").build((1, 28, 28), 10))


def test_a_network_without_convolutions_cannot_take_it_up() -> None:
    config = CompressionConfig(recovery=RecoveryConfig(normalization=True))
    with pytest.raises(ConfigError, match="needs a convolution"):
        compression.check(config, families.named("mlp").build((1, 28, 28), 10))
