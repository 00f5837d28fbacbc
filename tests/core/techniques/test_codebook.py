"""Weight sharing: K values for each stored tensor, zero among them where weights were pruned, trained as they act."""

import json

import pytest
import torch
from conftest import logits, statistics_of
from torch import Tensor

from core.__main__ import _parser, configuration
from core.config import CompressionConfig, ConfigError, LayerConfig, RecoveryConfig, from_query, to_arguments, to_query
from core.datasets import Split
from core.formats import footprint, interchange, packed
from core.machinery.devices import CPU
from core.measuring import training
from core.measuring.evaluation import evaluate
from core.measuring.training import Meanwhile, Trained
from core.networks.calibration import Statistics
from core.networks.compression import PRUNING_SHARE, check, compress, prune_gradually, restructure
from core.networks.encodings.codebook import Codebook
from core.networks.encodings.integer_grid import IntegerGrid
from core.networks.models import Baseline
from core.networks.stored import StoredLayer
from core.techniques.codebook import codebook_of, index_bits


def tables(layer: StoredLayer) -> list[Tensor]:
    """Of a layer of which every tensor has a codebook."""
    books = [tensor for tensor in layer.tensors if isinstance(tensor, Codebook)]
    assert len(books) == len(layer.tensors)
    return [book.centroids for book in books]


@pytest.mark.parametrize("count", [4, 7, 16, 256])
def test_every_weight_becomes_one_of_k_values(baseline: Baseline, statistics: Statistics, count: int) -> None:
    stored = compress(baseline, CompressionConfig(codebook=count), statistics).freeze()
    for layer in stored.layers:
        (table,) = tables(layer)
        assert len(table) <= count
        assert torch.equal(layer.tensors[0].weight().unique(), table)
        assert layer.tensors[0].bits == index_bits(count)
        near = (baseline.weight(layer.layer)[..., None] - table).abs().min(-1).values
        assert torch.equal((baseline.weight(layer.layer) - layer.tensors[0].weight()).abs(), near)


def test_as_many_values_as_weights_change_nothing_but_by_float16(baseline: Baseline, statistics: Statistics) -> None:
    last = baseline.layers[-1]
    config = CompressionConfig().with_layer(last.name, codebook=256)
    weight, few = baseline.weight(last), baseline.weight(last).flatten()[:100].half().float()
    with torch.no_grad():
        repeated = few.repeat(weight.numel() // 100 + 1)[: weight.numel()].reshape(weight.shape)
    tensors = {**baseline.tensors, f"{last.name}.weight": repeated}
    same = Baseline(baseline.model, tensors)
    stored = compress(same, config, statistics).freeze()
    assert torch.equal(stored.layers[-1].tensors[0].weight(), same.weight(same.layers[-1]))


@pytest.mark.parametrize("rank", [None, 3])
def test_pruned_weights_stay_zero_which_is_one_of_the_values(
    baseline: Baseline, statistics: Statistics, rank: int | None
) -> None:
    config = CompressionConfig(sparsity=0.6, scope="layer", codebook=8)
    config = config.with_layer(baseline.layers[-1].name, rank=rank)
    network = compress(baseline, config, statistics)
    for layer in network.freeze().layers:
        for tensor, table in zip(layer.tensors, tables(layer), strict=True):
            assert tensor.mask is not None
            assert len(table) <= 8
            assert int((table == 0).sum()) == 1
            assert not tensor.weight()[~tensor.mask].any()
            assert torch.equal(tensor.values == 0, tensor.weight() == 0)
    for parameter in network.parameters():
        parameter.grad = None
    network(statistics.images).square().mean().backward()
    for acting in network.named().values():
        for weight in acting.weights:
            assert weight.weight.grad is not None
            assert weight.mask is not None
            assert not weight.weight.grad[~weight.mask].any()


MIXED = CompressionConfig(codebook=16, bits=4, sparsity=0.5, activation_bits=8)


def mixed(baseline: Baseline, rounding: str = "nearest") -> CompressionConfig:
    """The first layer has a codebook and the last one, factored; the others have 4 bits."""
    first, *between, last = [layer.name for layer in baseline.layers]
    config = MIXED.with_layer(first, bits=32).with_layer(last, bits=32, rank=4, codebook=9)
    layers = dict(config.layers) | {name: LayerConfig(codebook=0) for name in between}
    return CompressionConfig(
        layers, bits=4, codebook=16, sparsity=0.5, activation_bits=8, rounding=rounding, clip="mse",
        bias_correction=rounding == "gptq",
    )  # fmt: skip


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_some_layers_have_codebooks_and_others_bits(
    baseline: Baseline, statistics: Statistics, images: Tensor, rounding: str
) -> None:
    network = compress(baseline, mixed(baseline, rounding), statistics)
    stored = network.freeze()
    kinds = [{type(tensor) for tensor in layer.tensors} for layer in stored.layers]
    assert kinds == [{Codebook}, *[{IntegerGrid}] * (len(kinds) - 2), {Codebook}]
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits(stored, images), rtol=1e-3, atol=1e-3)
    for read in (packed.unpack(packed.pack(stored).content),
                 interchange.from_safetensors(*interchange.to_safetensors(stored))):  # fmt: skip
        assert torch.equal(logits(read, images), logits(stored, images))


def test_bias_correction_leaves_the_mean_of_a_layers_output(baseline: Baseline, statistics: Statistics) -> None:
    first, config = baseline.layers[0], CompressionConfig(codebook=4, bias_correction=True)
    layer = compress(baseline, config, statistics).named()[first.name]
    with torch.no_grad():
        gap = layer.matrix(layer.effective_weights()) - baseline.weight(first).flatten(1)
        lost = gap.double() @ statistics.mean(layer) + (layer.bias - baseline.bias(first))
    torch.testing.assert_close(lost, torch.zeros_like(lost), rtol=0, atol=1e-4)


REFUSED = [
    CompressionConfig(bits=4, codebook=16),
    CompressionConfig(bits=4).with_layer("fc1", codebook=16),
    CompressionConfig(codebook=16).with_layer("fc1", bits=4),
    CompressionConfig().with_layer("fc1", codebook=4, bits=8),
]


@pytest.mark.parametrize("config", REFUSED)
def test_a_layer_with_bits_and_a_codebook_is_refused_with_the_way_out(config: CompressionConfig, mlp: Baseline) -> None:
    with pytest.raises(ConfigError, match=r"fc1 has \d bits and a codebook of \d+ values: .* give this layer 32 bits"):
        check(config, mlp.network)
    every = mlp.layers
    for change in ({"bits": 32}, {"codebook": 0}):
        settled = config
        for layer in every:
            settled = settled.with_layer(layer.name, **change)
        check(settled, mlp.network)


@pytest.mark.parametrize("count", [-1, 1, 2, 3, 257, 16.0, True, "16"])
def test_a_size_outside_its_range_is_refused(count: object) -> None:
    for make in (lambda: CompressionConfig(codebook=count), lambda: LayerConfig(codebook=count)):
        with pytest.raises(ConfigError, match=r"codebook must be an integer in \[4, 256\]"):
            make()
    with pytest.raises(ConfigError):
        CompressionConfig(codebook=0)


def test_it_is_written_and_read_as_json_link_and_command_line() -> None:
    config = CompressionConfig(codebook=16).with_layer("fc1", codebook=0).with_layer("fc2", codebook=32)
    assert CompressionConfig.from_json(config.to_json()) == config
    assert to_query(config) == {"codebook": "16", "fc1.codebook": "0", "fc2.codebook": "32"}
    assert from_query(to_query(config), ["fc1", "fc2"]) == (config, [])
    arguments = to_arguments(config)
    assert arguments == ["--codebook", "16", "--codebook", "fc1=0", "--codebook", "fc2=32"]
    assert configuration(_parser().parse_args(["evaluate", *arguments])) == config
    assert [codebook_of(config, name) for name in ("conv1", "fc1", "fc2")] == [16, None, 32]


def test_where_nothing_is_shared_keys_and_files_are_those_of_before() -> None:
    """What stands in JSON is a part of every key."""
    config = CompressionConfig(bits=4).with_layer("fc1", rank=3)
    assert "codebook" not in config.to_json()
    assert "codebook" not in json.loads(config.to_json())["layers"]["fc1"]


@pytest.mark.parametrize("count", [4, 5, 16, 100])
def test_by_the_formula_a_weight_takes_the_bits_of_its_index(
    baseline: Baseline, statistics: Statistics, count: int
) -> None:
    """n ceil(log2 K) + 32 K bits, and 32 for each bias (Han et al. 2016)."""
    stored = compress(baseline, CompressionConfig(codebook=count), statistics).freeze()
    weights, biases = (sum(each) for each in zip(*((own.weights, len(own.bias)) for own in stored.layers), strict=True))
    held = sum(len(table) for own in stored.layers for table in tables(own))
    bits = weights * max(1, (count - 1).bit_length()) + 32 * (held + biases)
    assert footprint.theoretical_kb(stored) == pytest.approx(bits / 8 / 1024)
    kinds = footprint.footprint(stored).by_kind()
    assert kinds["codebooks"] <= 2 * held + 16
    assert "scales" not in kinds


@pytest.fixture(scope="module")
def seen() -> tuple[Split, Split]:
    from core.datasets import fashion_mnist

    whole = fashion_mnist.load("calibration")
    return whole.part(slice(1536), "train"), whole.part(slice(1536, 2048), "validation")


def trained(baseline: Baseline, config: CompressionConfig, seen: tuple[Split, Split], epochs: int = 4) -> Trained:
    statistics = statistics_of(baseline, seen[0].inputs[:200])
    recovery = RecoveryConfig(epochs, 0.03, schedule="iterative" if config.sparsity else "one-shot")
    network, meanwhile = compress(baseline, config, statistics, learned=True), None
    if config.sparsity:
        network = restructure(baseline, config, statistics)
        meanwhile = Meanwhile(lambda done: prune_gradually(network, config, statistics, done), PRUNING_SHARE)
    return training.recover(network, recovery, baseline.model, "fashion-mnist", *seen, device=CPU, meanwhile=meanwhile)


@pytest.mark.parametrize("sparsity", [None, 0.5])
def test_training_lowers_the_loss_and_what_is_frozen_is_what_was_trained(
    mlp: Baseline, seen: tuple[Split, Split], sparsity: float | None
) -> None:
    """Pruned step by step, too, where the codebooks are made when the pruning is over."""
    config = CompressionConfig(codebook=8, sparsity=sparsity)
    before = compress(mlp, config, statistics_of(mlp, seen[0].inputs[:200])).freeze()
    found = trained(mlp, config, seen, epochs=6)
    network = found.module.eval()
    after = network.freeze()  # type: ignore[operator]
    assert evaluate(after, seen[1]).loss < evaluate(before, seen[1]).loss
    with torch.no_grad():
        torch.testing.assert_close(network(seen[1].inputs), logits(after, seen[1].inputs), rtol=1e-3, atol=1e-3)
    for was, now in zip(before.layers, after.layers, strict=True):
        assert len(tables(now)[0]) <= 8
        assert not torch.equal(tables(was)[0], tables(now)[0])
        if sparsity:
            assert now.sparsity == pytest.approx(was.sparsity, abs=0.6)
            assert 0.0 in tables(now)[0].tolist()


def test_centroids_do_not_decay(mlp: Baseline, seen: tuple[Split, Split]) -> None:
    network = compress(mlp, CompressionConfig(codebook=8), statistics_of(mlp, seen[0].inputs[:200]))
    recipe = training.recipe(RecoveryConfig(1), mlp.model, "fashion-mnist")
    optimizer, _ = training._optimizer(network, recipe)
    decay = {id(own): group["weight_decay"] for group in optimizer.param_groups for own in group["params"]}
    named = dict(network.named_parameters())
    assert len(decay) == len(named)
    assert {name.endswith("free") for name, own in named.items() if decay[id(own)] == 0} == {True}
    assert sum(decay[id(own)] == 0 for own in named.values()) == len(mlp.layers)


def test_the_gradient_of_a_centroid_is_the_sum_over_its_weights(mlp: Baseline, statistics: Statistics) -> None:
    """But for the factor K / n; that of a weight goes straight through."""
    tensor = (
        compress(mlp, CompressionConfig(codebook=4), statistics_of(mlp, statistics.images)).named()["fc1"].weights[0]
    )
    acting = tensor.effective()
    along = torch.randn(acting.shape)
    (acting * along).sum().backward()
    encoder = tensor.encoder
    assert torch.equal(tensor.weight.grad, along)  # type: ignore[arg-type]
    free = encoder.free  # type: ignore[union-attr]
    table, factor = encoder.table().detach(), 4 / along.numel()  # type: ignore[operator]
    sums = torch.stack([along[acting.detach() == value].sum() for value in table])
    torch.testing.assert_close(free.grad[free.argsort()], factor * sums, rtol=1e-3, atol=1e-4)  # type: ignore[index]
