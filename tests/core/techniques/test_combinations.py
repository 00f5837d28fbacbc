"""All techniques together, on any graph: what they give is what every format gives, or they refuse in words."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import configurations, rounding_margin, statistics_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import feature_maps, filled, networks, pixels
from torch import Tensor

from core.config import CompressionConfig, ConfigError
from core.datasets.fashion_mnist import DEVIATION, MEAN
from core.formats import interchange, packed
from core.networks import families, narrowing
from core.networks.compression import compress
from core.networks.graph import Network
from core.networks.inference import Runner
from core.networks.models import Baseline
from core.networks.narrowing import Channels
from core.networks.operations import NetworkError, node
from core.networks.stored import StoredNetwork, check
from core.portable import loader, plain_torch

FAMILIES = sorted(families.families())
IN_A_FOLDER = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def inputs(images: Tensor) -> Tensor:
    return (images.float() / 255 - MEAN) / DEVIATION


def thin(name: str) -> Baseline:
    """A family of fewer channels, which is quicker: three of each group, and of hidden units."""
    baseline = filled(families.named(name).build((1, 28, 28), 10))
    kept = {layer.name: torch.arange(layer.shape[0]) for layer in baseline.layers}
    for group in Channels(baseline.network).groups:
        kept |= dict.fromkeys(group.layers, torch.arange(3))
    smaller = narrowing.remove_channels(baseline, kept)
    return filled(smaller.network)


def outputs_of_formats(network: StoredNetwork, images: Tensor, folder: Path) -> dict[str, Any]:
    """What each file gives for the images, read with what a person would read it with."""
    x, paths = inputs(images).numpy(), {"network.safetensors": None, "network.json": None}
    content, about = interchange.to_safetensors(network)
    for path, written in zip(paths, (content, about), strict=True):
        (folder / path).write_bytes(written)
    with torch.no_grad():
        found: dict[str, Any] = {"plain torch": plain_torch.load(folder / "network.safetensors")[0](torch.tensor(x))}
    found["numpy"] = torch.from_numpy(loader.load(packed.pack(network).content).logits(images.numpy()))
    files = {"onnx": interchange.to_float_onnx(network), "onnx with integers": interchange.to_qdq(network)}
    for name, model in files.items():
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        found[name] = torch.from_numpy(session.run(["y"], {"x": x})[0])
    return found


def check_formats(network: StoredNetwork, images: Tensor, folder: Path) -> None:
    """Read back it is the same network, bit for bit; and every reader's answer is the runner's but for rounding."""
    x, bits = inputs(images), network.config.activation_bits
    check(network)
    whole = Runner(network, bits)(x.numpy())
    assert np.isfinite(whole).all()
    again = (packed.unpack(packed.pack(network).content),
             interchange.from_safetensors(*interchange.to_safetensors(network)))  # fmt: skip
    for read in again:
        assert read.network == network.network
        assert read.scales == network.scales
        assert np.array_equal(Runner(read, bits)(x.numpy()), whole)
    sure, expected = rounding_margin(network, x) > 1e-3, torch.from_numpy(whole)
    close = {"rtol": 1e-3, "atol": 1e-3 * max(1.0, expected.abs().max().item())}
    for name, found in outputs_of_formats(network, images, folder).items():
        torch.testing.assert_close(found[sure], expected[sure], **close, msg=lambda text, name=name: f"{name}: {text}")


def tried(baseline: Baseline, config: CompressionConfig, x: Tensor) -> StoredNetwork | None:
    """None where it was refused in words."""
    try:
        return compress(baseline, config, statistics_of(baseline, x)).freeze()
    except ConfigError as refused:
        assert str(refused)[0].islower() or str(refused)[0].isupper()  # noqa: PT017 - it may be made as well
        assert str(refused).endswith((".", ". "))  # noqa: PT017
        return None


@settings(max_examples=15, suppress_health_check=IN_A_FOLDER)
@given(baseline=networks(), draw=st.data())
def test_whatever_is_asked_of_a_random_network_runs_in_every_format_or_is_refused(
    baseline: Baseline, draw: st.DataObject, tmp_path: Path
) -> None:
    images = pixels(baseline.network, 8)
    network = tried(baseline, draw.draw(configurations(baseline)), inputs(images))
    if network is not None:
        check_formats(network, images, tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=2, suppress_health_check=IN_A_FOLDER)
@given(draw=st.data())
def test_whatever_is_asked_of_a_family_runs_in_every_format_or_is_refused(
    name: str, draw: st.DataObject, tmp_path: Path
) -> None:
    baseline = thin(name)
    images = pixels(baseline.network, 8)
    network = tried(baseline, draw.draw(configurations(baseline)), inputs(images))
    if network is not None:
        check_formats(network, images, tmp_path)


EVERYTHING = {
    "plain": {"rank_share": 0.4, "sparsity": 0.4, "bits": 4, "activation_bits": 6},
    "data-aware": {
        "channel_share": 0.7, "channel_score": "activation", "rank_share": 0.5, "low_rank_method": "whitened",
        "sparsity": 0.3, "score": "activation", "scope": "layer", "bits": 5, "activation_bits": 8, "clip": "mse",
        "rounding": "gptq", "bias_correction": True,
    },
    "asymmetric": {
        "channel_share": 0.5, "above_break_even": True, "rank_share": 0.9, "score": "lamp", "sparsity": 0.5, "bits": 3,
        "symmetry": "asymmetric", "granularity": "tensor", "rounding": "gptq",
    },
    "shared": {
        "channel_share": 0.7, "rank_share": 0.6, "sparsity": 0.4, "codebook": 6, "activation_bits": 6,
        "bias_correction": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("asked", EVERYTHING.values(), ids=EVERYTHING)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_technique_at_once_runs_on_every_family(name: str, asked: dict[str, Any], tmp_path: Path) -> None:
    """And a training step moves it."""
    baseline = thin(name)
    images = pixels(baseline.network, 8)
    x = inputs(images)
    network = compress(baseline, CompressionConfig(**asked), statistics_of(baseline, x))
    check_formats(network.freeze(), images, tmp_path)
    network(x).square().mean().backward()
    assert all(own.grad is not None and own.grad.isfinite().all() for own in network.parameters())


@settings(max_examples=10)
@given(baseline=networks(), bits=st.sampled_from([2, 4, 8]))
def test_rounded_signals_of_a_random_network_lie_on_their_grids(baseline: Baseline, bits: int) -> None:
    x = inputs(pixels(baseline.network, 6))
    network = compress(baseline, CompressionConfig(activation_bits=bits), statistics_of(baseline, x))
    stored, seen = network.freeze(), dict[str, Tensor]()
    assert set(stored.scales) == {signal.name for signal in stored.network.signals}
    rounded = network._rounded

    def see(name: str, x: Tensor) -> Tensor:
        seen[name] = rounded(name, x)
        return seen[name]

    network._rounded = see  # type: ignore[method-assign]
    with torch.no_grad():
        network(x)
    for signal in stored.network.signals:
        low = -(2 ** (bits - 1) - 1) if signal.signed else 0
        high = 2 ** (bits - 1) - 1 if signal.signed else 2**bits - 1
        for end in signal.ends:
            codes = seen[end] / stored.scales[signal.name]
            torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
            assert low <= codes.min().round() <= codes.max().round() <= high
    assert torch.equal(seen[stored.network.output], network(x))


@settings(max_examples=10)
@given(networks())
def test_nothing_set_is_a_random_network_bit_for_bit(baseline: Baseline) -> None:
    x = inputs(pixels(baseline.network, 3))
    stored = compress(baseline, CompressionConfig(), statistics_of(baseline, x)).freeze()
    for own in stored.layers:
        assert torch.equal(own.tensors[0].weight(), baseline.weight(own.layer))
        assert torch.equal(own.bias, baseline.bias(own.layer))
    assert all(torch.equal(own, baseline.tensors[name]) for name, own in stored.affine.items())
    assert stored.parameters == baseline.parameters
    expected = feature_maps(baseline, x)[baseline.network.output]
    found = torch.from_numpy(Runner(stored)(x.numpy()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("name", ["train", "keys", "type", "a.b", "weight", "block.weight", "a.between"])
def test_a_layer_may_be_called_anything(name: str, tmp_path: Path) -> None:
    flat, first = node("flat", "flatten", ["image"]), node("a", "linear", ["flat"], channels=6)
    network = Network((1, 4, 4), (flat, first, node("r", "relu", ["a"]), node(name, "linear", ["r"], channels=10)))
    baseline, images = filled(network), pixels(network, 8)
    config = CompressionConfig(bits=4, activation_bits=8).with_layer("a", rank=2).with_layer(name, rank=1)
    stored = compress(baseline, config, statistics_of(baseline, inputs(images))).freeze()
    assert set(stored.named) == {"a", name}
    check_formats(stored, images, tmp_path)


@pytest.mark.parametrize("name", ["norm", "a.weight", "a.first", "a.bias"])
@pytest.mark.parametrize("rank", [None, 2])
def test_a_normalization_may_be_called_like_the_weights_of_a_layer(name: str, rank: int | None, tmp_path: Path) -> None:
    """Or such a network is refused in words."""
    first = node("a", "convolution", ["image"], channels=4, kernel=(3, 3)), node("r", "relu", ["a"])
    last = node("f", "flatten", [name]), node("fc", "linear", ["f"], channels=10)
    nodes = (*first, node(name, "affine", ["r"]), *last)
    try:
        baseline = filled(Network((1, 6, 6), nodes))
    except NetworkError as refused:
        assert name != "norm"
        assert name in str(refused)  # noqa: PT017
        return
    images = pixels(baseline.network, 8)
    config = CompressionConfig(bits=4, activation_bits=8).with_layer("a", rank=rank)
    stored = compress(baseline, config, statistics_of(baseline, inputs(images))).freeze()
    check_formats(stored, images, tmp_path)


def test_names_that_differ_by_their_dots_alone_are_two_layers() -> None:
    nodes = [node("flat", "flatten", ["image"])]
    for name in ("a.b", "a/b", "a//b", "a:b"):
        nodes.append(node(name, "linear", [nodes[-1].name], channels=10))
    baseline = filled(Network((1, 4, 4), tuple(nodes)))
    stored = compress(
        baseline, CompressionConfig(), statistics_of(baseline, inputs(pixels(baseline.network, 2)))
    ).freeze()
    assert [own.layer.name for own in stored.layers] == ["a.b", "a/b", "a//b", "a:b"]
    check(stored)
