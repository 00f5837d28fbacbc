"""Input scaling: by name, in numbers, measured; and when a measurement decides."""

from math import inf, nan

import pytest
import torch

from core.config import ConfigError
from core.datasets import Scaling
from core.incoming import choosing, scaling
from core.networks.graph import BaselineError
from core.networks.models import Overflow

FASHION = Scaling((0.2860,), (0.3530,))


def test_every_name_is_what_it_says() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    seen = {each.name: each.scaling.normalized(pixels).flatten().tolist() for each in scaling.standard(FASHION)}
    assert list(seen) == ["dataset", "unit", "half", "raw"]
    assert seen["unit"] == [0, 1]
    assert seen["half"] == [-1, 1]
    assert seen["raw"] == pytest.approx([0, 255])
    assert seen["dataset"] == pytest.approx([-0.2860 / 0.3530, (1 - 0.2860) / 0.3530])


def test_channels_are_scaled_each_by_its_own() -> None:
    given = scaling.of((0, 0.5), (1, 0.5), 2)
    pixels = torch.full((3, 2, 4, 4), 255, dtype=torch.uint8)
    assert given.scaling.normalized(pixels).mean((0, 2, 3)).tolist() == [1, 1]
    assert all(len(each.scaling.mean) == 3 for each in scaling.standard(Scaling((0.1, 0.2, 0.3), (1, 1, 1))))


def test_of_two_that_are_the_same_one_is_measured_and_both_have_their_name() -> None:
    assert [each.name for each in scaling.standard(Scaling((0.5,), (0.5,)))] == ["dataset", "unit", "raw"]
    assert scaling.named("half", Scaling((0.5,), (0.5,))).name == "half"


@pytest.mark.parametrize(
    ("mean", "deviation"), [((), ()), ((0.0,), ()), ((nan,), (1.0,)), ((0.0,), (0.0,)), ((0.0,), (inf,))]
)
def test_what_is_no_scaling_is_refused(mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"mean|std"):
        scaling.of(mean, deviation, 1)


def test_a_name_that_none_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"one of dataset, unit, half, raw\. Got 'own'"):
        scaling.named("own", FASHION)


def measured(**accuracies: float) -> scaling.Measured:
    candidates = [each for each in scaling.standard(FASHION) if each.name in accuracies]
    return scaling.measured(candidates, lambda each: accuracies[each.name])


def test_the_best_is_taken_where_it_wins_by_more_than_three_points() -> None:
    best = measured(dataset=0.6, unit=0.9, half=0.869, raw=0.1)
    assert (best.scale.name, best.accuracy) == ("unit", 0.9)


def test_a_lone_candidate_is_taken() -> None:
    assert measured(half=0.2).scale.name == "half"


def test_without_a_clear_winner_the_table_and_what_to_add_are_said() -> None:
    with pytest.raises(BaselineError) as refused:
        measured(dataset=0.6, unit=0.9, half=0.87, raw=0.1)
    said = str(refused.value)
    assert "--scale dataset|unit|half|raw" in said
    lines = [line for line in said.splitlines() if "pixel / 255" in line]
    assert [line.split("%")[1].split(":")[0].strip() for line in lines] == ["unit", "half", "dataset", "raw"]
    assert "alike" not in said


def test_a_network_that_is_blind_to_the_scale_is_said_to_be_so() -> None:
    with pytest.raises(BaselineError, match=r"all alike within three points.*--scale"):
        measured(dataset=0.90, unit=0.91, half=0.90, raw=0.885)


def test_a_scaling_under_which_nothing_can_be_computed_never_wins() -> None:
    def accuracy(each: scaling.Scale) -> float:
        if each.name != "half":
            raise Overflow("The scores")
        return 0.2

    assert scaling.measured(scaling.standard(FASHION), accuracy).scale.name == "half"
    with pytest.raises(Overflow):
        scaling.measured(scaling.standard(FASHION)[:2], accuracy)


def test_a_network_near_chance_is_doubted() -> None:
    assert choosing.doubt(0.2, 10) == choosing.doubt(0.9, 2) == ""
    assert "guessing among 10 classes" in choosing.doubt(0.19, 10)
