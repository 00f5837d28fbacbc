"""The front is what no point dominates; a goal picks from it."""

from dataclasses import replace

import pytest
from conftest import configurations
from hypothesis import given
from hypothesis import strategies as st

from core.config import DENSE, CompressionConfig, ConfigError, LayerConfig, RecoveryConfig
from core.measuring.front import TECHNIQUES, Goal, Point, behind, pareto, techniques
from core.networks.models import Baseline
from core.settings import techniques as techniques_there_are
from core.words import percent


def point(size: int, accuracy: float, config: CompressionConfig | None = None) -> Point:
    about = (config or CompressionConfig(), accuracy, accuracy - 0.9, accuracy - 0.91, accuracy - 0.89, 0.3)
    return Point("cnn", "0" * 64, *about, size, 1_000, "searched")


def dominates(a: Point, b: Point) -> bool:
    return (
        a.bytes <= b.bytes and a.accuracy >= b.accuracy and (a.bytes, a.accuracy) != (b.bytes, b.accuracy)
    )  # the definition, word by word


PLACES = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=25)


@given(PLACES)
def test_the_front_is_exactly_what_nothing_dominates(places: list[tuple[int, int]]) -> None:
    points = [point(size, right / 12) for size, right in places]
    front = pareto(points)
    expected = {(p.bytes, p.accuracy) for p in points if not any(dominates(other, p) for other in points)}
    assert [(p.bytes, p.accuracy) for p in front] == sorted(expected)
    assert all(any(own is p for p in points) for own in front)


def test_what_meets_a_goal_is_ranked_first_then_what_is_nearest_to_meeting_it() -> None:
    points = [point(size, accuracy) for size, accuracy in ((1, 0.1), (9, 0.95), (5, 0.85), (7, 0.92), (3, 0.87))]
    assert [own.bytes for own in Goal(allowance=0.0).ranked(points)] == [7, 9, 3, 5, 1]
    assert [own.bytes for own in Goal(size=5).ranked(points)] == [3, 5, 1, 7, 9]


@given(PLACES, st.integers(0, 12), st.integers(1, 12))
def test_the_best_of_a_goal_is_on_the_front(places: list[tuple[int, int]], right: int, size: int) -> None:
    points = [point(own, accuracy / 12) for own, accuracy in places]
    for goal in (Goal(allowance=max(0.0, 0.9 - right / 12)), Goal(size=size)):
        best, fits = goal.best(points), [p for p in points if goal.met_by(p)]
        assert (best is None) == (not fits)
        if best is not None:
            places_on = [(p.bytes, p.accuracy) for p in pareto(points)]
            assert (best.bytes, best.accuracy) in places_on
            key = (lambda p: -p.bytes) if goal.allowance is not None else (lambda p: p.accuracy)
            assert key(best) == max(map(key, fits))


@given(PLACES)
def test_how_far_behind_the_front_a_point_is(places: list[tuple[int, int]]) -> None:
    points = [point(size, right / 12) for size, right in places]
    front = pareto(points)
    for own in points:
        assert behind(front, own) == max(p.accuracy for p in points if p.bytes <= own.bytes) - own.accuracy
    assert all(behind(front, own) == 0 for own in front)


def test_other_images_may_lose_more_and_that_is_said() -> None:
    assert "more than 1 pp" in Goal(allowance=0.01).missed_in_words(-0.0101, 0.9)
    assert not Goal(allowance=0.01).missed_in_words(0.90 - 0.91, 0.9)
    assert not Goal(size=10).missed_in_words(-0.5, 0.9)
    for goal in (Goal(floor=0.9292), Goal(floor=0.9292, confidence=0.9), Goal(floor=0.9292, families=("compact",))):
        assert f"less than {percent(0.9292, 2)}: the validation images" in goal.missed_in_words(-0.0106, 0.9214)
        assert not goal.missed_in_words(-0.0028, 0.9292)


def test_a_floor_is_of_the_validation_images_and_a_loss_of_a_baseline_with_its_confidence() -> None:
    goal = Goal(floor=0.9292, confidence=0.9)
    assert Goal(**goal.to_request()) == goal
    assert goal.of_baseline(0.9392) == Goal(allowance=0.01, confidence=0.9)
    for said in (goal.in_words(), goal.none_in_words()):
        assert f"right for {percent(0.9292, 2)} of the validation images with 90 % confidence" in said
    assert "lower confidence" in goal.way_out_in_words()
    assert Goal(size=1024, families=("mlp", "cnn")).none_in_words() == "No network of mlp, cnn has at most 1 KB."
    for about in ({"floor": 0.9, "families": ("compact",)}, {"size": 9_000}):
        with pytest.raises(ConfigError, match="confidence"):
            Goal(confidence=0.9, **about)


def test_an_allowance_counts_images_and_not_floats() -> None:
    exact = point(10, 0.89)
    assert Goal(allowance=0.01).met_by(exact)
    assert not Goal(allowance=0.0099).met_by(exact)
    assert Goal(size=10).met_by(exact)
    assert not Goal(size=9).met_by(exact)


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({}, "one of them"),
        ({"allowance": 0.01, "size": 4}, "one of them"),
        ({"allowance": -0.1}, "allowance"),
        ({"allowance": 1.0}, "allowance"),
        ({"allowance": float("nan")}, "allowance"),
        ({"size": 0}, "size"),
        ({"size": 5, "techniques": ()}, "techniques"),
        ({"size": 5, "techniques": ("magic",)}, "magic"),
        ({"allowance": 0.01, "confidence": 0.5}, "confidence"),
        ({"allowance": 0.01, "confidence": 1.0}, "confidence"),
        ({"size": 5, "confidence": 0.9}, "confidence"),
    ],
)
def test_a_goal_outside_its_range_says_what_is_wrong(about: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Goal(**about)  # type: ignore[arg-type]


def test_a_goal_has_a_technique_that_shrinks_without_another() -> None:
    for each in techniques_there_are():
        if each.alone and each.stage != "training":
            assert Goal(0.01, techniques=(each.name, "rate rounding")).techniques
    for nothing in ((), ("rate rounding",)):
        with pytest.raises(ConfigError, match="one of them that shrinks alone"):
            Goal(0.01, techniques=nothing)


def test_equal_goals_are_equal_however_their_techniques_are_ordered() -> None:
    assert Goal(0.01, techniques=("bits", "pruning")) == Goal(0.01, techniques=("pruning", "bits"))
    goal = Goal(size=4_000, techniques=("low rank",))
    assert Goal(**goal.to_request()) == goal


@given(PLACES, st.floats(0, 0.5))
def test_without_confidence_a_goal_is_what_it_always_was(places: list[tuple[int, int]], flattered: float) -> None:
    points, goal = [point(size, right / 12) for size, right in places], Goal(allowance=0.1)
    assert "confidence" not in goal.to_request()
    assert goal.best(points) == goal.best(points, lambda point: flattered)
    assert goal.ranked(points) == goal.ranked(points, lambda point: flattered)
    assert all(goal.lost(own) == -own.difference for own in points)


def test_with_confidence_the_bound_is_within_the_allowance() -> None:
    """The interval is 0.01 to both sides: SE is 0.01 / 1.96, and the margin z_0.9 sqrt(2) SE."""
    margin = 1.2816 * 2**0.5 * 0.01 / 1.96
    goal, flattered = Goal(allowance=0.02, confidence=0.9), 0.002
    assert Goal(**goal.to_request()) == goal != Goal(allowance=0.02)
    fits, beyond = (point(5, 0.9 - 0.02 + margin + flattered + more) for more in (1e-4, -1e-4))
    assert goal.lost(fits) == pytest.approx(0.02 - flattered - 1e-4, abs=1e-6)
    assert goal.met_by(fits, lambda point: flattered)
    assert goal.met_by(beyond)
    assert not goal.met_by(beyond, lambda point: flattered)
    assert goal.best([fits, replace(beyond, bytes=1)], lambda point: flattered) == fits
    assert "2 pp with 90 % confidence" in goal.none_in_words()
    assert "with 90 % confidence at most 1.99 pp will be lost on new images" in goal.promised_in_words(0.0199)
    assert "confidence" in goal.missed_in_words(-0.03, 0.87)


@given(PLACES)
def test_more_confidence_finds_no_smaller_file(places: list[tuple[int, int]]) -> None:
    points = [point(size, right / 12) for size, right in places]
    found = [Goal(allowance=0.1, confidence=each).best(points) for each in (None, 0.6, 0.9, 0.99)]
    sizes = [99 if best is None else best.bytes for best in found]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("config", "used"),
    [
        (CompressionConfig(), ()),
        (CompressionConfig(activation_bits=8), ()),
        (CompressionConfig(sparsity=0.0), ()),
        (CompressionConfig(layers={"fc1": LayerConfig(rank=DENSE, bits=32, codebook=0)}), ()),
        (CompressionConfig(layers={"fc1": LayerConfig(codebook=4)}), ("codebook",)),
        (CompressionConfig(sparsity=0.1, bits=4), ("pruning", "bits")),
        (CompressionConfig(channel_share=0.5, rank_share=0.5), ("channels", "low rank")),
        (CompressionConfig(layers={"fc1": LayerConfig(3, 2, 0.1, bits=4)}, codebook=16, rate_rounding=0.1), TECHNIQUES),
        (CompressionConfig(rate_rounding=0.1), ()),
    ],
)
def test_techniques_are_what_makes_it_smaller(config: CompressionConfig, used: tuple[str, ...]) -> None:
    assert techniques(config) == used


@given(st.data())
def test_a_point_survives_json(mlp: Baseline, data: st.DataObject) -> None:
    config = data.draw(configurations(mlp))
    own = point(7, 0.5, config)
    assert Point.from_json(own.to_json()) == own
    assert not own.recovered


def test_a_recovered_point_says_so() -> None:
    assert point(7, 0.5, CompressionConfig(recovery=RecoveryConfig())).recovered
    assert point(250, 0.5).compression_ratio == 4
