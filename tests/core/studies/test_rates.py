"""A rate in the loss: the curve that it gives, and what is said of it beside pruning at equal bytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import train_on_few
from hypothesis import given
from hypothesis import strategies as st

from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError
from core.machinery.stopping import Stopped
from core.studies import rates
from core.studies.answers import RateAblation, RateCurve, Rated
from core.studies.kinds import KINDS, answer

ABOUT: dict[str, Any] = {"bits": 3, "activation_bits": None, "epochs": 2}


class Found(NamedTuple):
    bench: Workbench
    name: str
    curve: RateCurve
    ablation: RateAblation
    said: list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Both jobs on a small network with few training images."""
    bench, said = Workbench(tmp_path_factory.mktemp("rates")), list[dict[str, Any]]()
    name = bench.load_file(taught.read_bytes(), "small")
    about = {"baseline": name, **ABOUT}
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch)
        curve = KINDS[rates.CURVE].run(bench, about, said.append, lambda: False)
        asked = {**about, "schedule": "one-shot", "seeds": 2}
        ablation = KINDS[rates.ABLATION].run(bench, asked, lambda event: None, lambda: False)
    assert isinstance(curve, RateCurve)
    assert isinstance(ablation, RateAblation)
    yield Found(bench, name, curve, ablation, said)
    bench.turns.close()
    bench.store.close()


def test_a_larger_lambda_gives_a_smaller_file_and_each_row_is_what_the_workbench_measures(found: Found) -> None:
    rows = found.curve.rows
    assert [row.rate_weight for row in rows] == list(rates.LAMBDAS)
    assert rows[-1].bytes < rows[0].bytes
    assert rows[-1].bits_per_weight < rows[0].bits_per_weight <= 3.5
    for row in rows:
        config = row.configuration
        assert (config.bits, config.clip, config.sparsity) == (3, "mse", None)
        assert config.recovery is not None
        assert config.recovery.rate_weight == row.rate_weight
        result = found.bench.evaluate(found.name, config)
        assert (row.bytes, row.accuracy, row.interval) == (
            result.bytes, result.evaluation.accuracy, result.comparison.interval
        )  # fmt: skip
    assert answer(rates.CURVE, json.loads(json.dumps(found.curve.to_dict()))) == found.curve
    done = [event["done"] for event in found.said if "done" in event]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)


def test_the_ablation_trains_both_ways_alike_and_judges_them_on_test(found: Found) -> None:
    rated, pruned = found.ablation.rated, found.ablation.pruned
    assert len(rated) == 2 * len(rates.STRONG)
    assert len(pruned) == 2 * rates.SPARSITIES
    for row in (*rated, *pruned):
        config, recovery = row.configuration, row.configuration.recovery
        assert recovery is not None
        assert (config.bits, recovery.epochs, recovery.distillation, recovery.seed) == (3, 2, True, row.seed)
        assert (config.sparsity is None) == (recovery.rate_weight > 0) == (row in rated)
        assert found.bench.evaluate(found.name, config, "test").evaluation.accuracy == row.accuracy
    shares = [[row.target for row in pruned if row.seed == seed] for seed in (0, 1)]
    assert shares[0] == shares[1] == sorted(shares[0])
    assert len(set(shares[0])) == rates.SPARSITIES
    assert found.ablation.compared == rates.compared(rated, pruned) is not None
    assert answer(rates.ABLATION, json.loads(json.dumps(found.ablation.to_dict()))) == found.ablation


def test_who_stops_it_and_who_asks_for_one_seed_hears_so(found: Found) -> None:
    config = rates.configuration(found.bench, found.name, 2, epochs=1)
    with pytest.raises(Stopped):
        rates.curve(found.bench, found.name, config, should_stop=lambda: True)
    with pytest.raises(ConfigError, match=r"seeds must be a whole number of at least 2\. Got 1"):
        rates.ablation(found.bench, found.name, config, seeds=1)


def test_normalization_is_put_back_where_there_are_convolutions(bench: Workbench) -> None:
    for name, convolutions in (("mlp", False), ("compact", True)):
        recovery = rates.configuration(bench, name).recovery
        assert recovery is not None
        assert recovery.normalization == convolutions


@given(st.integers(1000, 10_000), st.floats(500, 12_000))
def test_a_sparsity_is_the_smallest_that_fits(whole: int, size: float) -> None:
    def size_of(sparsity: float) -> int:
        return round(whole * (1 - sparsity))

    share = rates.sparsity_for(size, size_of)
    assert size_of(share) <= size or share == rates.MOST
    assert share == 0 or size_of(share - 0.01) > size


def test_pruned_files_lie_around_those_with_a_rate_although_training_changes_sizes() -> None:
    def size_of(sparsity: float) -> int:
        return round(10_000 * (1 - sparsity))

    def trained(sparsity: float) -> Rated:
        return rated_row(0.8 * size_of(sparsity), 0.9)

    sizes = [row.bytes for row in rates._around([2000, 3000, 4000], size_of, trained)]
    assert sizes[2] <= 2000 < sizes[1] < 4000 <= sizes[0]
    at_the_end = [row.bytes for row in rates._around([10_000], size_of, trained)]
    assert len(set(at_the_end)) == 3, "no two alike, also where nothing need go"


def rated_row(size: float, accuracy: float, seed: int = 0) -> Rated:
    return Rated(CompressionConfig().to_json(), None, 0.0, accuracy, 0.3, 0.0, round(size), 0.1, seed, (0.0, 0.0), 3.0)


def lines(start: float, sizes: tuple[int, ...], seeds: int = 3, apart: float = 0.0) -> tuple[Rated, ...]:
    """By seed, the same accuracy at every size."""
    return tuple(rated_row(size, start + apart * seed, seed) for seed in range(seeds) for size in sizes)


def found_of(rated: tuple[Rated, ...], pruned: tuple[Rated, ...]) -> RateAblation:
    return RateAblation(0.93, rated, pruned, rates.compared(rated, pruned))


def test_what_every_seed_says_is_said_with_its_interval() -> None:
    sizes = (2048, 8192)
    better = found_of(lines(0.92, sizes, apart=0.0001), lines(0.91, sizes))
    assert better.compared is not None
    assert better.compared.bytes == pytest.approx(4096)
    assert better.compared.differences == pytest.approx((0.01, 0.0101, 0.0102))
    assert rates.verdict(better) == (
        "At 4.0 KB a network trained with a rate is 1.01 pp more accurate than a pruned one (3 seeds, 95 % interval "
        "+0.99 to +1.03 pp)."
    )
    assert "1.01 pp less accurate than a pruned one" in rates.verdict(found_of(better.pruned, better.rated))


def test_a_difference_that_changes_with_the_seed_is_none() -> None:
    sizes = (2048, 8192)
    alike = found_of(lines(0.90, sizes, apart=0.01), lines(0.91, sizes))
    assert "no difference between a rate and pruning that 3 seeds can tell: +0.00 pp" in rates.verdict(alike)


def test_curves_that_cross_are_compared_in_the_middle() -> None:
    """One rises by 2 points from 2 to 8 KB, the other not at all: at 4 KB they are alike."""
    rising = tuple(rated_row(*point, seed) for seed in range(3) for point in ((2048, 0.90), (8192, 0.92)))
    crossing = found_of(rising, lines(0.91, (2048, 8192)))
    assert crossing.compared is not None
    assert crossing.compared.mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("rated", "pruned", "change"),
    [
        ((1024, 2048), (3072, 4096), "Take smaller values of λ."),
        ((3072, 4096), (1024, 2048), "Take larger values of λ, or more epochs."),
    ],
)
def test_without_a_common_size_it_is_said_what_to_change(
    rated: tuple[int, ...], pruned: tuple[int, ...], change: str
) -> None:
    apart = found_of(lines(0.9, rated), lines(0.9, pruned))
    assert apart.compared is None
    said = rates.verdict(apart)
    assert said.startswith("No size is reached by all: with a rate the files have")
    assert said.endswith(change)


def test_seeds_that_reach_different_sizes_need_lambdas_further_apart() -> None:
    strange = tuple(
        rated_row(size, 0.9, seed) for seed in range(2) for size in (1000 + 5000 * seed, 2000 + 5000 * seed)
    )
    assert "further apart" in rates.verdict(found_of(strange, lines(0.9, (500, 9000), 2)))
