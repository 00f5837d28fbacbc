"""The ways that a benchmark compares do the same job."""

import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks import evaluation, search
from core.datasets import fashion_mnist
from core.networks import models
from core.settings import techniques


@pytest.mark.parametrize("name", evaluation.WHAT_IF)
def test_the_plain_way_sees_the_same_images_and_computes_the_same_scores(name: str) -> None:
    split = fashion_mnist.load("validation").part(slice(50), "validation")
    (images, labels) = next(iter(DataLoader(evaluation.Images(split), batch_size=50)))
    torch.testing.assert_close(images, split.inputs)
    assert torch.equal(labels, split.labels)
    baseline = evaluation.shipped(name)
    with torch.no_grad():
        found = evaluation.unfolded(name)(images)
        torch.testing.assert_close(found, models.scores(baseline.network, baseline.tensors, images), atol=1e-3, rtol=0)


def test_a_what_if_of_the_last_layer_alone_predicts_what_a_whole_one_does() -> None:
    config = evaluation.what_ifs("mlp", 1)[0]
    whole, moved = (evaluation.ours("mlp", config, way, "validation") for way in ("", "last"))
    assert len(moved.predictions) == 5000
    assert (whole.predictions == moved.predictions).all()


def test_the_search_benchmark_is_as_long_as_it_says_and_no_run_of_one_technique_is_of_nothing() -> None:
    runs = search.planned(3, 0.9)
    assert "minutes x (8 seeds + 5)" in (search.__doc__ or "")
    assert len(runs) == 8 * 3 + 5
    alone = {goal.techniques[0] for title, _, _, goal in runs if title.startswith("only ")}
    assert alone == {each.name for each in techniques() if each.stage not in ("training", "after")}
