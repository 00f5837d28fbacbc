"""Sets of images: the registry, dividing, what lies in the folder for data."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.datasets import DataError, Datasets, Images, Scaling, digits, fashion_mnist, kept, shipped, splitting
from core.datasets.splitting import Labelled, divided, own_scaling
from core.machinery import vision


def labelled(count: int, classes: int = 3, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> Labelled:
    dice = np.random.default_rng(seed)
    return Labelled(dice.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % classes)


def written(folder: Path, name: str = "mine") -> Path:
    parts = divided(labelled(90), None, ("a", "b", "c"))
    kept.write(folder, name, "Mine", ("a", "b", "c"), Scaling((0.5,), (0.25,)), parts)
    return folder


def test_every_file_names_its_data_sets() -> None:
    assert {"fashion-mnist", "digits", "mnist", "cifar10"} <= set(shipped())
    for name, dataset in shipped().items():
        channels = dataset.shape[0]
        assert dataset.name == name
        assert len(dataset.scaling.mean) == len(dataset.scaling.deviation) == channels
        assert len(set(dataset.classes)) == len(dataset.classes)
        assert dataset.title
        assert dataset.licence
        assert dataset.source


def test_a_data_set_says_how_many_images_there_are_to_train_with(tmp_path: Path, training_folder: Path) -> None:
    written(tmp_path)
    folders = [(digits.DIGITS, tmp_path), (fashion_mnist.FASHION_MNIST, training_folder)]
    for dataset, folder in [*folders, (kept.dataset("mine", tmp_path), tmp_path)]:
        assert len(dataset.load("train", folder, lambda text: None)) == dataset.training


def test_digits_are_divided_and_scaled_as_they_say() -> None:
    splits = {name: digits.load(name, Path()) for name in ("train", "validation", "calibration", "test")}  # type: ignore[arg-type]
    assert sum(len(splits[name]) for name in ("train", "validation", "test")) == 1797
    assert own_scaling(splits["train"].images.numpy()) == digits.SCALING
    for split in splits.values():
        assert split.shape == digits.DIGITS.shape
        assert set(split.labels.tolist()) == set(range(10))
    seen = [image.numpy().tobytes() for name in ("validation", "test") for image in splits[name].images]
    trained = {image.numpy().tobytes() for image in splits["train"].images}
    assert sum(image in trained for image in seen) < 5, "but for pictures that are there twice"


@given(st.integers(2, 6), st.integers(60, 400), st.booleans())
def test_splits_share_no_image_and_have_every_class(classes: int, count: int, judged: bool) -> None:
    whole = labelled(count, classes)
    names = tuple(map(str, range(classes)))
    parts = divided(whole, labelled(30, classes, seed=1) if judged else None, names)
    rows = {name: {image.tobytes() for image in part.images} for name, part in parts.items()}
    assert rows["calibration"] <= rows["train"]
    assert not rows["train"] & rows["validation"]
    assert not (rows["train"] | rows["validation"]) & rows["test"]
    assert all(set(part.labels) == set(range(classes)) for part in parts.values())
    again = divided(whole, labelled(30, classes, seed=1) if judged else None, names)
    assert all(np.array_equal(parts[name].images, again[name].images) for name in parts)


@pytest.mark.parametrize("calibration", [20, 60, 500])
def test_images_to_calibrate_with_are_of_all_classes_alike_whatever_their_order(
    monkeypatch: pytest.MonkeyPatch, calibration: int
) -> None:
    monkeypatch.setattr(splitting, "CALIBRATION", calibration)
    mixed = labelled(300, 3)
    order = np.argsort(mixed.labels, kind="stable")
    parts = divided(Labelled(mixed.images[order], mixed.labels[order]), None, ("a", "b", "c"))
    counts = np.bincount(parts["calibration"].labels, minlength=3)
    assert counts.sum() == min(calibration, len(parts["train"].labels))
    assert counts.max() - counts.min() <= 2


def test_a_class_of_few_images_is_refused_by_name() -> None:
    whole = labelled(90)
    few = Labelled(whole.images[:64], whole.labels[:64].clip(max=1))
    with pytest.raises(DataError, match="'c' has 0"):
        divided(few, None, ("a", "b", "c"))


def test_a_scaling_is_each_channels_own() -> None:
    images = torch.tensor([[[[0]], [[255]], [[51]]]], dtype=torch.uint8)
    found = Scaling((0.0, 0.5, 0.2), (1.0, 0.5, 2.0)).normalized(images)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 1.0, 0.0]))


def test_a_scaling_is_that_of_the_pixels() -> None:
    images = labelled(50, shape=(3, 5, 7)).images
    images[:, 1] = 9
    mean, deviation = own_scaling(images)
    assert mean == pytest.approx((images / 255).mean((0, 2, 3)), abs=1e-4)
    assert deviation[0] == pytest.approx((images / 255).std((0, 2, 3))[0], abs=1e-4)
    assert deviation[1] == 1.0, "one colour has no deviation"


def test_a_scaling_is_counted_in_little_memory() -> None:
    images = np.zeros((20 * splitting.COUNTED, 1, 10, 10), np.uint8)
    tracemalloc.start()
    own_scaling(images)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < images.nbytes


def test_other_scalings_see_the_same_images_otherwise() -> None:
    split = digits.load("validation", Path())
    plain = split.scaled(Scaling((0.0,), (1.0,)))
    torch.testing.assert_close(plain.inputs, split.images / 255)
    assert plain.scaled(split.scaling) is not plain
    assert split.scaled(plain.scaling) is plain, "which is kept"
    assert split.scaled(split.scaling) is split


def test_large_images_are_normalized_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    split = digits.load("validation", Path()).part(slice(40))
    index = np.array([3, 1, 39])
    expected, whole = split.seen(index), split.inputs
    monkeypatch.setattr("core.datasets.HELD", 100)
    other = digits.load("validation", Path()).part(slice(40))
    assert np.array_equal(other.seen(index), expected)
    assert torch.equal(other.inputs, whole)
    assert "_held" not in vars(other)


def test_what_is_written_is_found_again(tmp_path: Path) -> None:
    datasets = Datasets(written(tmp_path))
    assert datasets.names()[-1] == "mine"
    mine = datasets.named("mine")
    split = datasets.split(mine.images(tmp_path, Scaling((0.0,), (1.0,))), "validation")
    assert (split.shape, split.classes) == ((1, 8, 8), ("a", "b", "c"))
    assert split.scaling == Scaling((0.0,), (1.0,))
    kept.delete("mine", tmp_path)
    assert "mine" not in datasets.names()
    with pytest.raises(DataError, match=r"data must be one of digits, fashion-mnist.*add-data"):
        datasets.named("mine")


def test_a_split_stays_open_until_another_takes_its_place(tmp_path: Path) -> None:
    """Its hash, its order and its normalized images are found out once, and not at every move of a slider."""
    datasets = Datasets(written(tmp_path))
    images = datasets.named("mine").images(tmp_path)
    before = datasets.split(images, "validation")
    assert Datasets(tmp_path).split(images, "validation") is before
    parts = divided(labelled(90, seed=5), None, ("a", "b", "c"))
    kept.write(tmp_path, "mine", "Mine", ("a", "b", "c"), Scaling((0.5,), (0.25,)), parts)
    after = datasets.split(datasets.named("mine").images(tmp_path), "validation")
    assert after.fingerprint != before.fingerprint


def test_images_that_were_replaced_are_refused(tmp_path: Path) -> None:
    datasets = Datasets(written(tmp_path))
    before = datasets.named("mine").images(tmp_path)
    parts = divided(labelled(90, seed=5), None, ("a", "b", "c"))
    kept.write(tmp_path, "mine", "Mine", ("a", "b", "c"), Scaling((0.5,), (0.25,)), parts)
    with pytest.raises(DataError, match="other images than those"):
        datasets.split(before, "validation")


@pytest.mark.parametrize("damage", ["about.json", "validation_images.npy", "wrong"])
def test_a_damaged_folder_is_said_with_the_way_out(tmp_path: Path, damage: str) -> None:
    datasets = Datasets(written(tmp_path))
    images = datasets.named("mine").images(tmp_path)
    if damage == "wrong":
        np.save(tmp_path / "mine" / "validation_images.npy", np.zeros((3, 1, 8, 8)))
    else:
        (tmp_path / "mine" / damage).write_bytes(b"{}")
    with pytest.raises(DataError, match="Delete that folder"):
        datasets.split(images, "validation")


def test_a_description_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = list[str]()
    monkeypatch.setattr(os, "fsync", lambda number: flushed.extend(each.name for each in tmp_path.iterdir()))
    written(tmp_path)
    assert flushed
    assert "mine" not in flushed


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = Datasets(written(tmp_path))
    before = datasets.named("mine").images(tmp_path)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        written(tmp_path)
    assert len(datasets.split(before, "train")) == 58
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["../mine", "Mine", "", "a b", "x" * 41, ".hidden"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="small letters"):
        written(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_torchvisions_sets_are_fetched_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    class Cifar:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            fetched.append(train)
            self.data = np.random.default_rng(train).integers(0, 256, (400, 32, 32, 3), np.uint8)
            self.targets = list(range(10)) * 40

    monkeypatch.setattr(vision.datasets, "CIFAR10", Cifar)
    datasets = Datasets(tmp_path)
    images = datasets.named("cifar10").images(tmp_path)
    assert datasets.split(images, "train").shape == (3, 32, 32)
    assert len(datasets.split(images, "test")) == 400
    assert fetched == [True, False]


def test_without_a_network_torchvisions_sets_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**how: Any) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(vision.datasets, "MNIST", offline)
    with pytest.raises(DataError, match=r"MNIST could not be fetched .*Two ways out"):
        Datasets(tmp_path).named("mnist").images(tmp_path)
    assert "mnist" not in kept.names(tmp_path)


def test_images_of_a_network_go_into_its_file_and_back() -> None:
    images = Images("mine", ("a", "b"), Scaling((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), "f" * 64)
    assert Images.from_record(json.loads(json.dumps(images.to_record()))) == images


WHOLE = fashion_mnist.images().to_record()
BROKEN: list[Any] = [
    None, {}, [], {"data": "x"}, WHOLE | {"classes": ["a"]}, WHOLE | {"classes": [1, 2]},
    *(WHOLE | {"scaling": wrong} for wrong in ([[0.1], [0.0]], [[0.1]], [["x"], [1]], [[0.1, 0.2], [1]])),
    WHOLE | {"scaling": [[float("nan")], [1]]}, WHOLE | {"scaling": [[0.1], [float("inf")]]},
]  # fmt: skip


@pytest.mark.parametrize("record", BROKEN, ids=range(len(BROKEN)))
def test_a_description_that_is_none_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match=r"incomplete|must|deviations|means|text|arguments|float"):
        Images.from_record(record)
