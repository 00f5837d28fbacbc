"""The one training loop: seeded, watched, stopped when asked, and the best epoch kept."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MLP_SHAPES, random_tensors, statistics_of, untrained
from random_networks import feature_maps, filled
from torch import Tensor, nn
from torch.nn import functional as F

from core.bench.workbench import RECIPES
from core.config import CompressionConfig, RecoveryConfig, TrainingConfig
from core.datasets import Split, fashion_mnist
from core.formats import packed
from core.machinery.stopping import Stopped
from core.mathematics.quantization import Grid
from core.measuring import evaluation, steering, training
from core.networks import models
from core.networks.compression import compress
from core.networks.encodings.integer_grid import LearnedGrid
from core.networks.graph import IMAGE, Network
from core.networks.models import Baseline
from core.networks.operations import node
from core.networks.trainable import key
from core.words import percent

CPU = torch.device("cpu")
QUICK = {
    "mlp": TrainingConfig("mlp", epochs=2, batch_size=64, dropout=0.1),
    "cnn": TrainingConfig("cnn", epochs=2, batch_size=64, flips=True, learning_rate=0.05),
    "mlp-course": replace(RECIPES["mlp-course"], epochs=2, batch_size=64),
}


@pytest.fixture(scope="module")
def training_images() -> Split:
    """Calibration images: they come with the project, and this is about the loop, not about the figures."""
    whole = fashion_mnist.load("calibration")
    return whole.part(slice(1_000), "train")


@pytest.fixture(scope="module")
def held_out() -> Split:
    whole = fashion_mnist.load("validation")
    return whole.part(slice(500), "validation")


def train(recipe: TrainingConfig, images: Split, held_out: Split, **callbacks: Any) -> models.Baseline:
    return training.train_baseline(recipe, fashion_mnist.images(), images, held_out, device=CPU, **callbacks)


@pytest.fixture(scope="module", params=QUICK.values(), ids=QUICK.keys())
def trained(
    request: pytest.FixtureRequest, training_images: Split, held_out: Split
) -> tuple[models.Baseline, TrainingConfig, list[dict[str, Any]]]:
    """Three epochs, and what was said meanwhile."""
    events: list[dict[str, Any]] = []
    recipe = replace(request.param, epochs=3)
    return train(recipe, training_images, held_out, progress=events.append), recipe, events


def test_training_learns_and_says_how(trained: tuple[models.Baseline, TrainingConfig, list[dict[str, Any]]]) -> None:
    baseline, recipe, events = trained
    history, info = baseline.info["history"], baseline.info
    assert baseline.model == recipe.model
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    figures = {f"{on}_{what}" for on in ("training", "validation") for what in ("loss", "cross_entropy", "accuracy")}
    assert all(figures <= set(epoch) for epoch in history)
    assert history[-1]["training_loss"] < history[0]["training_loss"]
    assert max(epoch["validation_accuracy"] for epoch in history) > 0.5
    assert [event["figures"] for event in events if "figures" in event] == history
    shares = [event["done"] for event in events]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert TrainingConfig(**info["recipe"]) == recipe
    assert info["training_images"] == 1_000
    assert info["versions"]["torch"] == torch.__version__.split("+")[0]


def forward(baseline: models.Baseline, split: Split) -> torch.Tensor:
    """The logits, node by node."""
    return feature_maps(baseline, split.inputs)[baseline.network.output]


def test_the_history_has_the_loss_that_was_minimised_and_the_cross_entropy_without_label_smoothing(
    trained: tuple[models.Baseline, TrainingConfig, list[dict[str, Any]]], held_out: Split
) -> None:
    """-mean(log p[label]) by NumPy; with smoothing e the loss is (1 - e) of it and e of the mean over all classes."""
    baseline, recipe, _ = trained
    for epoch in baseline.info["history"]:
        for on in ("training", "validation"):
            assert (epoch[f"{on}_loss"] == pytest.approx(epoch[f"{on}_cross_entropy"])) == (recipe.label_smoothing == 0)
    best = baseline.info["history"][baseline.info["best_epoch"] - 1]
    outputs = forward(baseline, held_out).double().numpy()
    log_shares = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    plain = -log_shares[np.arange(len(outputs)), held_out.labels.numpy()].mean()
    smoothed = (1 - recipe.label_smoothing) * plain - recipe.label_smoothing * log_shares.mean()
    assert best["validation_cross_entropy"] == pytest.approx(plain, rel=1e-3)
    assert best["validation_loss"] == pytest.approx(smoothed, rel=1e-3)


def test_the_network_that_is_kept_is_that_of_the_best_epoch(
    trained: tuple[models.Baseline, TrainingConfig, list[dict[str, Any]]], held_out: Split
) -> None:
    baseline, _, _ = trained
    accuracies = [epoch["validation_accuracy"] for epoch in baseline.info["history"]]
    assert baseline.info["validation_accuracy"] == max(accuracies)
    assert baseline.info["best_epoch"] == accuracies.index(max(accuracies)) + 1
    right = (forward(baseline, held_out).argmax(1) == held_out.labels).float().mean().item()
    assert right == pytest.approx(max(accuracies), abs=2 / len(held_out))  # folding may move an image on the edge


@pytest.mark.parametrize("recipe", QUICK.values(), ids=QUICK.keys())
def test_the_same_seed_trains_the_same_network_and_another_seed_another(
    recipe: TrainingConfig, training_images: Split, held_out: Split
) -> None:
    recipe = replace(recipe, epochs=1)
    once = train(recipe, training_images, held_out)
    torch.rand(7)  # whatever was drawn before does not matter
    assert train(recipe, training_images, held_out).sha256 == once.sha256
    assert train(replace(recipe, seed=1), training_images, held_out).sha256 != once.sha256


def test_a_long_epoch_says_how_far_it_is(
    training_images: Split, held_out: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.0)
    said: list[dict[str, Any]] = []
    recipe = replace(QUICK["mlp"], epochs=2)
    train(recipe, training_images, held_out, progress=said.append)
    within = [event for event in said if "figures" not in event]
    assert [event["epoch"] for event in within] == [1] * 15 + [2] * 15, "a thousand images, 64 at a time"
    assert [event["done"] for event in said] == sorted(event["done"] for event in said)
    assert within[0]["done"] == pytest.approx(1 / 30)


def test_training_leaves_the_callers_random_numbers_alone(training_images: Split, held_out: Split) -> None:
    state = torch.get_rng_state()
    train(replace(QUICK["mlp"], epochs=1), training_images, held_out)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("after", [0, 3])
def test_training_that_is_asked_to_stop_does_so_within_a_step(
    after: int, training_images: Split, held_out: Split
) -> None:
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > after

    with pytest.raises(Stopped, match="epoch 1 of 2"):
        train(QUICK["mlp"], training_images, held_out, should_stop=should_stop)
    assert len(asked) == after + 1


def test_a_loss_that_is_no_longer_a_number_is_said(training_images: Split, held_out: Split) -> None:
    with pytest.raises(training.Diverged, match="learning rate"):
        train(replace(QUICK["mlp"], epochs=4, learning_rate=10.0, weight_decay=10.0), training_images, held_out)


def test_nothing_is_done_to_a_network_whose_numbers_are_none(training_images: Split, held_out: Split) -> None:
    told: list[float] = []
    module = untrained("mlp")
    with torch.no_grad():
        module.layers[key("fc1")].weight[0, 0] = float("nan")
    with pytest.raises(training.Diverged, match="of fc1 is no longer a number in epoch 1"):
        training.fit(
            module, QUICK["mlp"], training_images, held_out, print, lambda: False, CPU,
            meanwhile=training.Meanwhile(told.append, 0.5),
        )  # fmt: skip
    assert not told


def test_the_step_of_a_grid_that_leaves_its_range_is_said(training_images: Split, held_out: Split) -> None:
    module = untrained("mlp")
    module.layers[key("fc1")].encoder = LearnedGrid(4, Grid(torch.tensor([0.1, -0.1]), None))
    with pytest.raises(training.Diverged, match=r"step of a grid of fc1 fell to 0 in epoch 1.*smaller learning rate"):
        training.fit(module, QUICK["mlp"], training_images, held_out, print, lambda: False, torch.device("cpu"))


def test_a_gradient_takes_at_most_a_tenth_of_the_step_of_a_grid() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grid = LearnedGrid(4, Grid(torch.tensor([0.5]), None))
            self.free = nn.Parameter(torch.tensor([0.5]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.grid.scale + self.free) * x.flatten(1)[:, :10]

    module, y = Scaled(), torch.zeros(8, dtype=torch.long)
    x = torch.ones(8, 1, 28, 28)
    x[:, :, 0, 0] = -50  # the larger the sum, the worse for class 0
    optimizer, _ = training._optimizer(module, replace(QUICK["mlp"], learning_rate=1.0, weight_decay=0.0))
    training._step(module, x, y, QUICK["mlp"], optimizer, torch.device("cpu"), None, 0.0)
    assert module.free.item() < 0
    assert module.grid.scale.item() == pytest.approx(0.5 * training.LEAST_STEP)


def test_only_grids_are_bound_to_stay_positive_whatever_a_network_calls_its_layers(
    training_images: Split, held_out: Split
) -> None:
    nodes = [
        node("upscale", "convolution", [IMAGE], channels=2, kernel=(3, 3)), node("scale", "affine", ["upscale"]),
        node("flat", "flatten", ["scale"]), node("fc", "linear", ["flat"], channels=10),
    ]  # fmt: skip
    baseline = filled(Network((1, 28, 28), tuple(nodes)))
    baseline.tensors["scale.scale"].copy_(torch.tensor([-1.0, 0.5]))
    config = CompressionConfig(bits=4, recovery=RecoveryConfig(1, 0.001))
    network = compress(baseline, config, statistics_of(baseline, training_images.inputs[:100]))
    assert set(training._scales(network)) == {
        f"layers.{key(name)}.tensors.0.encoder.scale" for name in ("upscale", "fc")
    }
    trained = training.recover(network, config.recovery, "random", "fashion-mnist", training_images, held_out)
    assert len(trained.history) == 1


@pytest.mark.parametrize("has_tiles", [False, True])
def test_a_processor_computes_in_bfloat16_where_it_has_tiles_for_it(
    has_tiles: bool, training_images: Split, held_out: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x.flatten(1))
            if self.training:
                kinds.add(y.dtype)
            return y

    kinds = set[torch.dtype]()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    recipe = TrainingConfig("mlp", 1, batch_size=500)
    training.fit(Told(784, 10), recipe, training_images, held_out, lambda event: None, lambda: False, CPU)
    assert kinds == {torch.bfloat16 if has_tiles else torch.float32}


def test_steps_do_not_decay() -> None:
    module = untrained("mlp")
    module.layers[key("fc1")].encoder = LearnedGrid(4, Grid(torch.tensor([0.1]), None))
    optimizer, _ = training._optimizer(module, QUICK["mlp"])
    decay = {id(own): group["weight_decay"] for group in optimizer.param_groups for own in group["params"]}
    assert decay.pop(id(module.layers[key("fc1")].encoder.scale)) == 0
    assert set(decay.values()) == {QUICK["mlp"].weight_decay}
    assert len(decay) == 8


@pytest.mark.parametrize(("settled", "best"), [(0.0, 2), (0.5, 3)])
def test_the_best_epoch_is_the_first_of_the_best_after_the_network_is_what_it_will_be(
    training_images: Split, held_out: Split, monkeypatch: pytest.MonkeyPatch, settled: float, best: int
) -> None:
    measured = iter([(1.0, 0.5), (0.9, 0.7), (0.8, 0.7), (0.7, 0.6)])
    states: list[dict[str, torch.Tensor]] = []

    def watch(module: nn.Module, *rest: object) -> dict[str, float]:
        states.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return dict(zip(("validation_loss", "validation_accuracy"), next(measured), strict=True))

    monkeypatch.setattr(training, "_measure", watch)
    recipe = replace(QUICK["mlp"], epochs=4)
    module = untrained("mlp")
    told: list[float] = []
    meanwhile = training.Meanwhile(told.append, settled, lambda: {"told": len(told)})
    quiet = (lambda event: None, lambda: False, CPU, None, meanwhile)
    trained = training.fit(module, recipe, training_images, held_out, *quiet)
    assert trained.best_epoch == best
    assert told == sorted(told)
    assert settled == 0 or settled in told
    assert trained.history[-1]["told"] == len(told)
    assert all(torch.equal(tensor, states[best - 1][name]) for name, tensor in trained.module.state_dict().items())
    assert not trained.module.training


def of(images: torch.Tensor, labels: torch.Tensor) -> Split:
    return Split("train", images, labels, fashion_mnist.CLASSES, fashion_mnist.SCALING)


def test_an_epoch_shows_every_image_at_most_once_and_flips_half_of_them(training_images: Split) -> None:
    images = torch.arange(1_000, dtype=torch.uint8).repeat_interleave(784).reshape(1_000, 1, 28, 28).clone()
    images[..., :14] = 0  # the left half is black, so a flip shows
    labels, generator = torch.arange(1_000), torch.Generator().manual_seed(0)
    recipe = TrainingConfig("mlp", epochs=1, batch_size=64, flips=True)
    batches = list(training._batches(of(images, labels), recipe, generator))
    seen = torch.cat([y for _, y, _ in batches])
    assert len(seen) == 1_000 // 64 * 64
    assert len(seen.unique()) == len(seen)
    assert not torch.equal(seen, seen.sort().values)
    x = torch.cat([x for x, _, _ in batches])
    flipped = (x == fashion_mnist.SCALING.normalized(images[seen].flip(3))).flatten(1).all(1)
    straight = (x == fashion_mnist.SCALING.normalized(images[seen])).flatten(1).all(1)
    assert (flipped | straight).all()
    assert 0.4 < flipped.float().mean() < 0.6


def test_an_epoch_moves_images_as_far_as_it_is_told_and_no_pixel_gets_lost(training_images: Split) -> None:
    """A point in the middle lands anywhere in a square around it, and the same when it is drawn again."""
    images = torch.zeros(4_000, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 14, 13] = 255
    recipe = TrainingConfig("mlp", epochs=1, batch_size=100, shifts=2)
    batches = training._batches(of(images, torch.zeros(4_000)), recipe, torch.Generator().manual_seed(0))
    x = torch.cat([x for x, _, _ in batches])[:, 0]
    points = (x > 0).nonzero()
    assert points[:, 0].tolist() == list(range(4_000))
    counts = torch.zeros(28, 28).index_put_((points[:, 1], points[:, 2]), torch.tensor(1.0), accumulate=True)
    assert int((counts > 0).sum()) == int((counts[12:17, 11:16] > 0).sum()) == 25
    assert counts.max() < 240, "each of 25 places is as likely"
    assert torch.unique(x[:, 0]).numel() == 1, "what comes in is black, as the border is"


@pytest.mark.parametrize("shape", [(1, 12), (12, 1), (2, 12), (2, 2)])
def test_a_signal_that_is_no_longer_than_a_shift_is_moved_along_its_length_alone(shape: tuple[int, int]) -> None:
    images = torch.zeros(2_000, 1, *shape, dtype=torch.uint8)
    middle = [0 if size <= 2 else size // 2 for size in shape]
    images[:, :, middle[0], middle[1]] = 255
    recipe = TrainingConfig("mlp", epochs=1, batch_size=100, shifts=2)
    batches = training._batches(of(images, torch.zeros(2_000)), recipe, torch.Generator().manual_seed(0))
    points = (torch.cat([x for x, _, _ in batches])[:, 0] > 0).nonzero()
    assert points[:, 0].tolist() == list(range(2_000)), "nothing gets lost"
    for axis, size in enumerate(shape):
        assert set(points[:, 1 + axis].tolist()) == ({0} if size <= 2 else set(range(size // 2 - 2, size // 2 + 3)))


def test_a_square_is_erased_in_the_share_of_images_that_the_recipe_says() -> None:
    images = torch.full((2_000, 1, 28, 28), 255, dtype=torch.uint8)
    recipe = TrainingConfig("mlp", epochs=1, batch_size=100, erasing=0.3)
    batches = training._batches(of(images, torch.zeros(2_000)), recipe, torch.Generator().manual_seed(0))
    x = torch.cat([x for x, _, _ in batches])[:, 0]
    grey = x == 0
    assert 0.25 < grey.flatten(1).any(1).float().mean() < 0.35
    assert grey.flatten(1).sum(1).max() <= 10 * 10, "a third of the width"
    covered = grey.sum(0)
    assert covered.min() > 0, "anywhere"
    for own in grey[grey.flatten(1).any(1)][:50]:
        rows, columns = own.any(1), own.any(0)
        assert own.sum() == rows.sum() * columns.sum(), "whole"


def test_recipes_say_in_words_how_images_are_changed() -> None:
    assert RECIPES["mlp-course"].augmentation == ""
    recipe = TrainingConfig("cnn", 1, flips=True, shifts=2, erasing=0.5)
    said = f"horizontal flips, shifts by up to 2 pixels, a square erased in {percent(0.5, 0)} of the images"
    assert recipe.augmentation == said


def test_the_course_recipe_is_plain_adam() -> None:
    recipe = RECIPES["mlp-course"]
    module = untrained("mlp")
    optimizer, cycle = training._optimizer(module, recipe)
    schedule = cycle(10)
    assert type(optimizer) is torch.optim.Adam
    before = [group["lr"] for group in optimizer.param_groups]
    F.cross_entropy(module(torch.randn(4, 1, 28, 28)), torch.arange(4)).backward()
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == before == [recipe.learning_rate]
    assert recipe.weight_decay == recipe.label_smoothing == recipe.dropout == 0


# Recovery.

SMALL = Baseline("small", random_tensors(MLP_SHAPES))
COMPRESSED = CompressionConfig(sparsity=0.6, bits=3, activation_bits=4).with_layer("fc2", rank=3)


def recovered(config: CompressionConfig, images: Split, held_out: Split, **settings: Any) -> tuple[Any, Any, Any]:
    """A small network before and after, and how it went."""
    statistics = statistics_of(SMALL, images.inputs[:200])
    before = compress(SMALL, config, statistics).freeze()
    network, teacher = compress(SMALL, config, statistics), compress(SMALL, CompressionConfig(), statistics)
    recipe = RecoveryConfig(**{"epochs": 2, "learning_rate": 0.05, **settings})
    lessons = training.teach(teacher, False, images, held_out, CPU)
    trained = training.recover(network, recipe, "mlp", "fashion-mnist", images, held_out, lessons, device=CPU)
    return before, network.freeze(), trained


def test_recovery_learns_weights_and_steps_and_keeps_the_rest(training_images: Split, held_out: Split) -> None:
    before, after, trained = recovered(COMPRESSED, training_images, held_out, epochs=8)
    measured = [evaluation.evaluate(network, held_out).accuracy for network in (before, after)]
    assert measured[1] > measured[0] + 0.1
    assert trained.history[trained.best_epoch - 1]["validation_accuracy"] == pytest.approx(measured[1], abs=0.01)
    assert set(before.scales) == set(after.scales) == {f"{stored.layer.name}_relu" for stored in before.layers[:-1]}
    assert all(after.scales[name] > 0 and after.scales[name] != old for name, old in before.scales.items())
    for was, now in zip(before.layers, after.layers, strict=True):
        assert now.rank == was.rank
        old, new = was.between_scale, now.between_scale
        assert (old is None) == (new is None) == (was.rank is None)
        assert old is None or (new > 0 and new != old)
        assert not torch.equal(now.bias, was.bias)
        for old, new in zip(was.tensors, now.tensors, strict=True):
            assert new.bits == old.bits
            assert torch.equal(new.mask, old.mask)
            assert (new.scale > 0).all()
            assert not torch.equal(new.scale, old.scale)
            assert not new.values[~new.mask].any()
            assert int(new.values.abs().max()) <= 3
            assert not torch.equal(new.values, old.values)


def test_the_network_before_training_is_an_epoch_like_the_others(training_images: Split, held_out: Split) -> None:
    statistics = statistics_of(SMALL, training_images.inputs[:200])
    _, _, trained = recovered(COMPRESSED, training_images, held_out, epochs=8)
    good, poor = (compress(SMALL, COMPRESSED, statistics) for _ in range(2))
    good.load_state_dict(trained.module.state_dict())
    gentle = RecoveryConfig(1, learning_rate=1e-6)
    for start, learned, kept in ((good, poor, 0), (poor, good, 1)):
        network, before = copy.deepcopy(learned), copy.deepcopy(start)
        found = training.recover(
            network, gentle, "mlp", "fashion-mnist", training_images, held_out, device=CPU, before=before
        )
        assert found.best_epoch == kept
        assert found.before is not None
        measured = evaluation.evaluate(start.freeze(), held_out)
        assert found.before["validation_accuracy"] == pytest.approx(measured.accuracy, abs=0.01)
        assert (found.history[0]["validation_accuracy"] > found.before["validation_accuracy"]) == (kept == 1)
        left, was = ([layer.content for layer in own.freeze().layers] for own in (found.module, start))
        assert (left == was) == (kept == 0)


def test_the_same_seed_recovers_the_same_network_and_another_another(training_images: Split, held_out: Split) -> None:
    def contents(**settings: Any) -> list[str]:
        return [layer.content for layer in recovered(COMPRESSED, training_images, held_out, **settings)[1].layers]

    assert contents() == contents()
    assert contents(seed=1) != contents()
    assert contents(distillation=True) != contents()


@pytest.mark.parametrize(("stored", "most"), [({"bits": 3}, 0.9), ({"bits": None, "codebook": 8}, 0.97)])
def test_a_rate_in_the_loss_takes_bytes_at_the_same_bits(
    stored: dict[str, Any], most: float, training_images: Split, held_out: Split
) -> None:
    """And the epoch that is kept is the one with the least of what was minimised."""
    config = replace(COMPRESSED, **stored)
    settings = {"epochs": 6, "distillation": True}
    plain, rated = (recovered(config, training_images, held_out, **settings, rate_weight=w) for w in (0.0, 0.5))
    sizes = [len(packed.pack(after).content) for _, after, _ in (plain, rated)]
    assert sizes[1] < most * sizes[0]
    assert all("bits_per_weight" not in epoch for epoch in plain[2].history)
    losses = [epoch["validation_loss"] for epoch in rated[2].history]
    assert rated[2].best_epoch == 1 + losses.index(min(losses))
    kept, network = rated[2].history[rated[2].best_epoch - 1], rated[2].module
    taken = sum(tensor.rate().item() for layer in network.named().values() for tensor in layer.weights)
    assert kept["bits_per_weight"] == pytest.approx(taken / weights_of(rated[1]), rel=1e-5)


def test_a_floor_steers_the_rate_and_keeps_the_smallest_network_that_reaches_it(
    training_images: Split, held_out: Split
) -> None:
    _, after, trained = recovered(COMPRESSED, training_images, held_out, epochs=24, floor=0.4)
    weights = [epoch["rate_weight"] for epoch in trained.history]
    assert weights[:17] == [steering.BEGIN] * 17
    for before, epoch, now in zip(weights, trained.history, weights[1:], strict=False):
        raised = epoch["validation_accuracy"] > 0.4
        assert now == before or (epoch["epoch"] in (17, 20) and (now > before) == raised)
    assert weights[17] != weights[16]
    reached = [epoch for epoch in trained.history if epoch["validation_accuracy"] > 0.4 - 1e-9]
    assert trained.history[trained.best_epoch - 1] == min(reached, key=lambda epoch: epoch["bits_per_weight"])
    assert evaluation.evaluate(after, held_out).accuracy >= 0.39
    _, _, hopeless = recovered(COMPRESSED, training_images, held_out, epochs=2, floor=1.0)
    assert hopeless.best_epoch == 1 + max((0, 1), key=lambda at: hopeless.history[at]["validation_accuracy"])


def weights_of(network: Any) -> int:
    return sum(tensor.count for layer in network.layers for tensor in layer.tensors)


def test_a_network_in_float32_has_a_rate_that_nothing_can_lower(training_images: Split, held_out: Split) -> None:
    _, plain, _ = recovered(CompressionConfig(), training_images, held_out)
    _, rated, trained = recovered(CompressionConfig(), training_images, held_out, rate_weight=1.0)
    assert [layer.content for layer in plain.layers] == [layer.content for layer in rated.layers]
    assert trained.history[0]["bits_per_weight"] == 32


def test_the_uncompressed_network_is_trained_alike(training_images: Split, held_out: Split) -> None:
    before, after, _ = recovered(CompressionConfig(), training_images, held_out)
    assert all(
        torch.equal(layer.tensors[0].values, SMALL.tensors[f"{layer.layer.name}.weight"]) for layer in before.layers
    )
    assert evaluation.evaluate(after, held_out).accuracy > evaluation.evaluate(before, held_out).accuracy + 0.2


def test_lessons_are_the_teachers_logits_of_the_very_images_that_are_seen(training_images: Split) -> None:
    few = training_images.part(slice(300), "train")
    teacher = compress(SMALL, CompressionConfig(), statistics_of(SMALL, few.inputs))
    lessons = training.teach(teacher, True, few, few, CPU)
    recipe = TrainingConfig("cnn", 1, batch_size=64, flips=True)
    batches = list(training._batches(few, recipe, torch.Generator().manual_seed(0), lessons))
    assert len(batches) == 4
    with torch.inference_mode():
        for x, _, taught in batches:
            torch.testing.assert_close(taught, teacher(x))
        torch.testing.assert_close(lessons.validation, teacher(few.inputs))
    assert not torch.equal(lessons.training[0], lessons.training[1])
    with pytest.raises(ValueError, match="lessons must be given"):
        training.recover(teacher, RecoveryConfig(1, distillation=True), "mlp", "fashion-mnist", few, few, device=CPU)


def test_distillation_is_half_the_labels_and_half_the_softened_teacher() -> None:
    logits, taught, labels = torch.randn(7, 10), torch.randn(7, 10), torch.randint(10, (7,))
    t = training.TEMPERATURE
    p, q = torch.softmax(taught / t, 1), torch.softmax(logits / t, 1)
    expected = (F.cross_entropy(logits, labels) + t * t * (p * (p / q).log()).sum(1).mean()) / 2
    torch.testing.assert_close(training._loss(logits, labels, 0.0, taught), expected)
    torch.testing.assert_close(training._loss(taught, labels, 0.0, taught), F.cross_entropy(taught, labels) / 2)
