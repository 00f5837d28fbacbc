"""Where results meet the cache: what was evaluated once is never evaluated again, and what is damaged is made again."""

import io
import json
import os
import random
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import MLP_SHAPES, configurations, random_tensors, train_on_few
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.bench import exports, latencies, measurements, work, workbench
from core.bench.baselines import Baselines
from core.bench.workbench import SHIPPED, Early, NotRecovered, Result, UnknownBaseline, Workbench
from core.config import CompressionConfig, ConfigError, LayerConfig, RecoveryConfig, TrainingConfig
from core.datasets import Split, SplitName, fashion_mnist
from core.formats import artifact
from core.machinery import turns
from core.machinery.files import sha256
from core.machinery.stopping import Stopped
from core.machinery.turns import Ticket
from core.measuring import evaluation, front, training
from core.measuring.evaluation import Latency
from core.measuring.front import Goal
from core.networks import compression, models, narrowing
from core.networks.encodings import FormatError
from core.networks.models import Baseline, BaselineError
from core.networks.stored import StoredLayer, StoredNetwork
from core.techniques.codebook import codebook_of

FIXTURES = HealthCheck.function_scoped_fixture

SOME = CompressionConfig(sparsity=0.5, bits=4, activation_bits=6).with_layer("fc2", rank=3)


@pytest.fixture
def baseline(mlp: Baseline) -> Baseline:
    """The quick family; what is measured of either is the matter of other tests."""
    return mlp


@pytest.fixture
def small(bench: Workbench, baseline: Baseline) -> str:
    return bench.add_baseline(baseline, "small", "loaded")


def same(a: Result, b: Result) -> bool:
    """All that was measured; when and how fast does not matter."""
    figures = (
        "config",
        "comparison",
        "footprint",
        "layers",
        "parameters",
        "nonzero",
        "sparsity",
        "theoretical_kb",
        "bytes",
    )
    return all(getattr(a, name) == getattr(b, name) for name in figures) and all(
        torch.equal(x.predictions, y.predictions) and torch.equal(x.confidences, y.confidences) and x.loss == y.loss
        for x, y in ((a.evaluation, b.evaluation), (a.baseline, b.baseline))
    )


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, nothing may be computed."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    def begin() -> None:
        monkeypatch.setattr(compression, "compress", forbidden)
        monkeypatch.setattr(evaluation, "evaluate", forbidden)

    return begin


# Evaluation.


@pytest.mark.parametrize(("family", "split"), [("mlp", "validation"), ("mlp", "test"), ("cnn", "validation")])
def test_a_result_is_what_core_measures_without_the_workbench(
    bench: Workbench, request: pytest.FixtureRequest, family: str, split: SplitName
) -> None:
    baseline = request.getfixturevalue(family)
    result = bench.evaluate(bench.add_baseline(baseline, "small", "loaded"), SOME, split)
    statistics = bench.statistics(baseline)
    before, after = (
        evaluation.evaluate(compression.compress(baseline, config, statistics).freeze(), fashion_mnist.load(split))
        for config in (CompressionConfig(), SOME)
    )
    assert torch.equal(result.evaluation.predictions, after.predictions)
    assert torch.equal(result.baseline.predictions, before.predictions)
    assert result.comparison == evaluation.compare(before, after)
    assert result.baseline_bytes == 4 * baseline.parameters
    assert result.compression_ratio == result.baseline_bytes / result.bytes
    assert sum(row.parameters for row in result.layers) == result.parameters
    assert [row.name for row in result.layers] == [layer.name for layer in baseline.layers]


def test_a_configuration_is_evaluated_once(bench: Workbench, small: str, forbid: Callable[[], None]) -> None:
    first = bench.evaluate(small, SOME)
    forbid()
    again, elsewhere = bench.evaluate(small, SOME), Workbench(bench.cache).evaluate(small, SOME)
    assert [result.cached for result in (first, again, elsewhere)] == [False, True, True]
    assert same(first, again)
    assert same(first, elsewhere)


def test_what_differs_is_evaluated_on_its_own(bench: Workbench, small: str) -> None:
    other = bench.add_baseline(Baseline("other", random_tensors(MLP_SHAPES, 77)), "other", "loaded")
    asked = [
        (small, SOME, "validation"),
        (small, SOME, "test"),
        (small, replace(SOME, bits=5), "validation"),
        (small, SOME.with_layer("fc1", bits=8), "validation"),
        (other, SOME, "validation"),
    ]
    results = [bench.evaluate(*each) for each in asked]  # type: ignore[arg-type]
    assert not any(result.cached for result in results)
    assert len({result.evaluation.confidences.numpy().tobytes() for result in results}) == len(results)


def test_the_same_weights_under_another_name_are_not_evaluated_again(
    bench: Workbench, small: str, baseline: Baseline, tmp_path: Path
) -> None:
    first = bench.evaluate(small, SOME)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(models.to_bytes(baseline))
    again = bench.evaluate(str(path), SOME)
    assert again.cached
    assert again.baseline_id == str(path)
    assert same(first, again)


def test_a_file_that_was_changed_is_read_again(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for seed in (1, 2):
        written = Baseline("mine", random_tensors(MLP_SHAPES, seed))
        path.write_bytes(models.to_bytes(written))
        assert bench.baseline(str(path)).sha256 == written.sha256


def test_a_file_that_changes_meanwhile_spoils_no_cached_result(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fingerprint = tmp_path / "mine.safetensors", fashion_mnist.fingerprint
    first, second = (models.to_bytes(Baseline("mine", random_tensors(MLP_SHAPES, seed))) for seed in (1, 2))
    path.write_bytes(first)
    honest = Workbench(tmp_path / "elsewhere").evaluate(str(path), SOME)
    with monkeypatch.context() as patch:
        patch.setattr(fashion_mnist, "fingerprint", lambda: path.write_bytes(second) and fingerprint())
        bench.evaluate(str(path), SOME)
    path.write_bytes(first)
    for later in (bench, Workbench(bench.cache)):
        assert same(later.evaluate(str(path), SOME), honest)


class Gate:
    """Evaluations that wait until they are let through; `runs` are the configurations that were evaluated."""

    def __init__(self, patch: pytest.MonkeyPatch, reports: bool = False) -> None:
        self.runs: list[CompressionConfig] = []
        self.begun, self.reported, self.open = threading.Event(), threading.Event(), threading.Event()
        evaluate = evaluation.evaluate

        def gated(
            network: StoredNetwork, split: Split, should_stop: Any, report: Callable[..., None], *rest: Any
        ) -> evaluation.Evaluation:
            self.runs.append(network.config)
            self.begun.set()

            def tell(*first: Any) -> None:
                report(*first)
                self.reported.set()
                assert self.open.wait(60)

            if not reports:
                assert self.open.wait(60)
            return evaluate(network, split, should_stop, tell if reports else report, *rest)

        patch.setattr(evaluation, "evaluate", gated)


def all_waiting(bench: Workbench, count: int) -> threading.Event:
    """Set when so many requests are in line."""
    ask, asked, reached = bench.turns.ask, [], threading.Event()

    def counted(*request: Any) -> Ticket:
        asked.append(ask(*request))
        if len(asked) == count:
            reached.set()
        return asked[-1]

    bench.turns.ask = counted  # type: ignore[method-assign]
    return reached


def all_let_through(asking: list[threading.Thread], waiting: threading.Event, gate: Gate) -> None:
    """Start them; open the gate when all are in line; wait until each has its answer."""
    for thread in asking:
        thread.start()
    assert waiting.wait(60)
    gate.open.set()
    for thread in asking:
        thread.join(60)


def test_those_who_ask_at_once_are_answered_by_one_evaluation_of_each_configuration(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, other = Gate(monkeypatch), replace(SOME, bits=7)
    waiting, results = all_waiting(bench, 6), []
    asking = [
        threading.Thread(target=lambda config=config: results.append(bench.evaluate(small, config)))
        for config in (SOME, other) * 3
    ]
    all_let_through(asking, waiting, gate)
    assert len(gate.runs) == 3
    assert {config.to_json() for config in gate.runs} == {each.to_json() for each in (CompressionConfig(), SOME, other)}
    for config in (SOME, other):
        own = [result for result in results if result.config == config]
        assert len(own) == 3
        assert all(same(result, own[0]) for result in own)
    assert bench.turns.counts == {"computed": 2}


def test_who_asks_just_as_the_answer_is_written_measures_nothing_again(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks into the cache, finds nothing, and gets in line when the answer is already there."""
    ask = bench.turns.ask

    def late(*request: Any) -> Ticket:
        bench.turns.ask = ask  # type: ignore[method-assign]
        first = threading.Thread(target=bench.evaluate, args=(small, SOME))
        first.start()
        first.join(60)
        return ask(*request)

    bench.turns.ask = late  # type: ignore[method-assign]
    gate = Gate(monkeypatch)
    gate.open.set()
    assert bench.evaluate(small, SOME).config == SOME
    assert sorted(config.to_json() for config in gate.runs) == sorted([CompressionConfig().to_json(), SOME.to_json()])


def test_those_who_share_a_computation_each_get_their_own_name_of_the_baseline(
    bench: Workbench, small: str, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(models.to_bytes(baseline))
    gate, waiting, results = Gate(monkeypatch), all_waiting(bench, 2), {}
    names = (small, str(path))
    asking = [
        threading.Thread(target=lambda name=name: results.update({name: bench.evaluate(name, SOME)})) for name in names
    ]
    all_let_through(asking, waiting, gate)
    assert {name: result.baseline_id for name, result in results.items()} == {name: name for name in names}


def test_what_is_known_is_answered_at_once(bench: Workbench, small: str, forbid: Callable[[], None]) -> None:
    asked = bench.ask("a", small, SOME)
    first = bench.turns.answer(asked)
    assert not first.cached
    forbid()
    for again in (bench, Workbench(bench.cache)):
        ticket = again.ask("b", small, SOME)
        assert ticket.done
        assert ticket.result().cached
        assert same(ticket.result(), first)
        assert same(again.known(small, SOME), first)
        assert again.point(small, SOME) == (first.evaluation.accuracy, first.bytes)
        assert again.known(small, replace(SOME, bits=5)) is None
        assert again.point(small, replace(SOME, bits=5)) is None


def test_points_of_a_curve_read_the_cache_once_and_appear_as_soon_as_they_are_measured(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, elsewhere = replace(SOME, bits=5), Workbench(bench.cache)
    bench.evaluate(small, SOME)
    reads, get = [], bench.store.get
    monkeypatch.setattr(bench.store, "get", lambda *key: reads.append(key) or get(*key))
    assert [bench.point(small, other) for _ in range(3)] == [None] * 3
    assert [str(key[0]).startswith("point/") for key in reads] == [False, True], "its predictions, then it alone"
    measured = bench.evaluate(small, other)
    assert bench.point(small, other) == (measured.evaluation.accuracy, measured.bytes)
    third = replace(SOME, bits=3)
    assert bench.point(small, third) is None
    measured = elsewhere.evaluate(small, third)  # another process with the same cache
    assert bench.point(small, third) is None
    bench.evaluate(small, third)
    assert bench.point(small, third) == (measured.evaluation.accuracy, measured.bytes)
    monkeypatch.setattr(measurements, "REMEMBERED_POINTS", 1)
    fresh = Workbench(bench.cache)
    for config in (SOME, other, third) * 2:
        assert fresh.point(small, config) is not None


def test_who_is_answered_at_once_waits_no_longer_for_what_was_asked_before(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.evaluate(small, SOME)
    gate = Gate(monkeypatch)
    other = replace(SOME, bits=5)
    bench.ask("a", small, other)
    assert gate.begun.wait(60)
    assert bench.ask("a", small, SOME).done
    gate.open.set()
    bench.evaluate(small, replace(SOME, bits=6))  # the next in line
    assert bench.known(small, other) is None
    assert bench.turns.counts["stopped"] == 1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mlp", CompressionConfig(bits=4)),
        ("mlp", CompressionConfig(sparsity=0.5, bits=6, activation_bits=8)),
        ("cnn", CompressionConfig(bits=5).with_layer("fc1", rank=20)),
    ],
)
def test_an_early_figure_comes_before_the_result_with_exact_bytes_and_an_interval_that_holds_it(
    warm_bench: Workbench, monkeypatch: pytest.MonkeyPatch, name: str, config: CompressionConfig
) -> None:
    warm_bench.evaluate(name, CompressionConfig())
    gate = Gate(monkeypatch, reports=True)
    ticket = warm_bench.ask("a", name, config)
    assert gate.reported.wait(60)
    assert not ticket.done
    early = ticket.first
    assert isinstance(early, Early)
    assert (early.estimate.images, early.estimate.of) == (500, 5_000)
    gate.open.set()
    result = warm_bench.turns.answer(ticket)
    assert ticket.first is early
    assert (early.bytes, early.nonzero) == (result.bytes, result.nonzero)
    low, high = early.estimate.interval
    assert low <= result.evaluation.accuracy <= high
    assert high - low < 0.05


@settings(max_examples=25, suppress_health_check=[*settings.default.suppress_health_check, FIXTURES])
@given(draw=st.data(), family=st.sampled_from(["mlp", "cnn"]))
def test_an_outline_says_what_the_result_will(
    bench: Workbench, mlp: Baseline, cnn: Baseline, family: str, draw: st.DataObject
) -> None:
    baseline = mlp if family == "mlp" else cnn
    config = draw.draw(configurations(baseline))
    name = bench.add_baseline(baseline, "small", "loaded")
    outline, result = bench.outline(name, config), bench.evaluate(name, config)
    assert (outline.parameters, outline.baseline_bytes) == (result.parameters, result.baseline_bytes)
    used = bench.network(name, config)
    left_out = sum(config_centroids(config, layer) - layer.centroids for layer in used.layers)
    assert outline.theoretical_kb == pytest.approx(result.theoretical_kb + 4 * left_out / 1024)
    ranks = {row.name: row.rank for row in result.layers if row.rank is not None}
    assert set(outline.energy) == set(ranks)
    statistics = bench.statistics(baseline)
    smaller, columns = narrowing.narrow(baseline, config, statistics.means)
    for layer, rank in ranks.items():
        weight = smaller.tensors[f"{layer}.weight"].flatten(1).double()
        if config.low_rank_method == "whitened":
            own = columns[layer]
            weight = weight @ torch.linalg.cholesky(
                statistics.moments()[layer][1][own][:, own] + 1e-9 * torch.eye(len(own))
            )
        values = np.linalg.svd(weight.numpy(), compute_uv=False)
        assert outline.energy[layer] == pytest.approx((values[:rank] ** 2).sum() / (values**2).sum(), abs=1e-4)


def config_centroids(config: CompressionConfig, layer: StoredLayer) -> int:
    """Values that a layer's weights may share; those that no weight has are left out of what is stored."""
    return (codebook_of(config, layer.layer.name) or 0) * len(layer.tensors)


def test_eight_threads_get_nothing_but_right_answers(
    bench: Workbench, mlp: Baseline, cnn: Baseline, tmp_path: Path
) -> None:
    """However little is remembered: of two baselines, whatever each of them is asked for."""
    bench.recent.limit = 20_000
    names = [bench.add_baseline(baseline, "small", "loaded") for baseline in (mlp, cnn)]
    asked = [
        (name, CompressionConfig(low_rank_method=method, rank_share=share, sparsity=sparsity, **more))  # type: ignore[arg-type]
        for name in names
        for method, share in (("svd", 0.4), ("whitened", 0.3), ("svd", None))
        for sparsity in (None, 0.6)
        for more in (
            {"bits": 3, "rounding": "gptq", "bias_correction": True, "activation_bits": 4},
            {"bits": 4, "clip": "mse", "activation_bits": 3, "channel_share": 0.5},
        )
    ]
    alone = Workbench(tmp_path / "alone")
    for baseline in (mlp, cnn):
        alone.add_baseline(baseline, "small", "loaded")
    right = [[own.content for own in alone.network(*each).layers] for each in asked]
    wrong: list[object] = []

    def ask(thread: int) -> None:
        for place in random.Random(thread).sample(range(len(asked)), 6):
            name, config = asked[place]
            try:
                found = [own.content for own in bench.network(name, config).layers]
                if found != right[place] or bench.outline(name, config) != alone.outline(name, config):
                    wrong.append(asked[place])
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong, wrong[:3]
    assert bench.recent.bytes <= 20_000 or len(bench.recent._entries) == 1


def test_wishes_fill_the_cache(bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.evaluate(small, SOME)
    wished = [replace(SOME, bits=bits) for bits in (5, 6, 7)]
    gate, kept = Gate(monkeypatch), threading.Semaphore(0)
    gate.open.set()
    remember = bench.measurements._remember
    monkeypatch.setattr(bench.measurements, "_remember", lambda *entry: (remember(*entry), kept.release())[0])
    monkeypatch.setattr(turns, "QUIET_SECONDS", 0.0)
    bench.wish("a", small, [SOME, *wished])
    for _ in wished:
        assert kept.acquire(timeout=60)
    assert gate.runs == wished  # in that order, and not what was known
    for again in (bench, Workbench(bench.cache)):
        for config in wished:
            known = again.known(small, config)
            assert known is not None
            assert known.config == config
            assert again.ask("b", small, config).done
    assert len(gate.runs) == 3
    bench.wish("a", small, wished)  # nothing is left to wish for
    bench.evaluate(small, replace(SOME, bits=8))
    assert len(gate.runs) == 4


def edit(bench: Workbench, change: str, *values: object) -> int:
    bench.store.close()
    connection = sqlite3.connect(bench.cache / "results.sqlite")
    with connection:
        count = connection.execute(f"UPDATE entries SET {change} WHERE kind = 'evaluation'", values).rowcount
    connection.close()
    return count


def not_of_this_version() -> list[bytes]:
    arrays = {"predictions": np.zeros(3, np.uint8)}
    return [
        b"",
        b"{}",
        safetensors.numpy.save(arrays),
        safetensors.numpy.save(arrays, metadata={"figures": "{"}),
        safetensors.numpy.save(arrays, metadata={"figures": "[]"}),
        safetensors.numpy.save(arrays, metadata={"figures": "{}"}),
    ]


def test_a_cached_result_that_was_edited_is_measured_again(bench: Workbench, small: str) -> None:
    honest = bench.evaluate(small, SOME)
    forged = safetensors.numpy.save({"predictions": fashion_mnist.load("validation").labels.numpy().astype(np.uint8)})
    assert edit(bench, "payload = ?", forged) == 2
    again = Workbench(bench.cache).evaluate(small, SOME)
    assert not again.cached
    assert same(honest, again)
    assert Workbench(bench.cache).evaluate(small, SOME).cached


@pytest.mark.parametrize("payload", not_of_this_version())
def test_a_cached_result_of_another_version_is_measured_again(bench: Workbench, small: str, payload: bytes) -> None:
    honest = bench.evaluate(small, SOME)
    for key in bench.store.keys("evaluation"):
        assert bench.store.put(key, "evaluation", payload), "whole, and another version's"
    again = Workbench(bench.cache).evaluate(small, SOME)
    assert not again.cached
    assert same(honest, again)


def test_a_layer_rebuilt_at_full_rank_is_the_layer_and_its_error_is_eckart_and_youngs(warm_bench: Workbench) -> None:
    for layer in warm_bench.spectrum("cnn"):
        full = warm_bench.rebuilt("cnn", layer.name, layer.full_rank)
        np.testing.assert_allclose(full.near, full.weight, atol=1e-5)
        half = warm_bench.rebuilt("cnn", layer.name, max(1, layer.full_rank // 2))
        kept = layer.cumulative_energy[max(1, layer.full_rank // 2) - 1]
        assert half.error == pytest.approx((1 - kept) ** 0.5, rel=1e-3)
    pairs = warm_bench.rebuilt("cnn", "conv1", 3).pictures(8)
    assert len(pairs) == 8
    assert all(part.shape == (3, 3) and part.dtype == np.uint8 for pair in pairs for part in pair)
    assert warm_bench.rebuilt("mlp", "fc1", 3).pictures(2)[0][0].shape == (28, 28)
    assert warm_bench.rebuilt("cnn", "fc1", 3).pictures(8) == []


@pytest.mark.parametrize("rank", [8, 16, 24])
def test_data_aware_factors_of_conv2_lose_at_most_half_of_what_plain_ones_lose(
    warm_bench: Workbench, rank: int
) -> None:
    config = CompressionConfig().with_layer("conv2", rank=rank)
    for split in ("validation", "test"):
        plain = warm_bench.evaluate("cnn", config, split).comparison.difference  # type: ignore[arg-type]
        aware = warm_bench.evaluate("cnn", replace(config, low_rank_method="whitened"), split)  # type: ignore[arg-type]
        assert aware.comparison.difference >= plain / 2
        assert rank < 16 or aware.comparison.difference >= -0.03


def test_decompositions_that_were_damaged_are_made_again(bench: Workbench, baseline: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(models.to_bytes(baseline))
    bench.evaluate(str(path), SOME)
    (decompositions,) = (bench.cache / "weights").iterdir()
    decompositions.write_bytes(decompositions.read_bytes()[:-1] + b"?")
    other = replace(SOME, bits=5)
    honest = Workbench(tmp_path / "empty").evaluate(str(path), other)
    assert same(honest, Workbench(bench.cache).evaluate(str(path), other))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (CompressionConfig(layers=(("fc9", LayerConfig(bits=4)),)), "fc9"),
        (CompressionConfig(layers=(("fc2", LayerConfig(rank=300)),)), "rank of fc2"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_and_nothing_is_kept(
    bench: Workbench, small: str, config: CompressionConfig, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        bench.evaluate(small, config)
    assert bench.store.keys("evaluation") == []


def test_on_a_disk_that_refuses_everything_is_still_measured(tmp_path: Path, baseline: Baseline) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(models.to_bytes(baseline))
    (tmp_path / "cache").write_text("a file is in the way")
    bench = Workbench(tmp_path / "cache")
    result = bench.evaluate(str(file), SOME)
    assert result.evaluation.images == 5_000
    assert bench.store.problem
    with pytest.raises(OSError, match="cache"):
        bench.add_baseline(baseline, "small", "loaded")


def test_the_tables_of_a_result_agree_with_its_figures(bench: Workbench, small: str) -> None:
    result = bench.evaluate(small, SOME)
    flips, changes = bench.flips(result), bench.class_changes(result)
    assert (flips["outcome"] == "lost").sum() == changes["lost"].sum() == result.comparison.lost
    assert (flips["outcome"] == "gained").sum() == changes["gained"].sum() == result.comparison.gained
    confusion = bench.confusion(result)
    assert np.trace(confusion) == result.evaluation.right.sum()
    true, predicted, count = bench.most_confused(result)
    assert true != predicted
    assert count == confusion.loc[true, predicted] == (confusion.to_numpy() - np.diag(np.diag(confusion))).max()
    mistakes = bench.confident_mistakes(result, 5)
    assert len(mistakes) == 5
    assert (mistakes["true"] != mistakes["predicted"]).all()
    pictures = bench.images("cnn", "validation", mistakes["index"].tolist())
    assert np.array_equal(pictures, fashion_mnist.load("validation").pictures.numpy()[mistakes["index"]])


def test_a_layer_that_stays_dense_says_why(bench: Workbench, small: str) -> None:
    result = bench.evaluate(small, CompressionConfig(rank_share=1))
    assert all(row.rank is None and "break-even" in row.note for row in result.layers)
    factored = bench.evaluate(small, CompressionConfig(rank_share=1, above_break_even=True))
    assert all(row.rank == row.full_rank and not row.note for row in factored.layers)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """Latency measurements that take no time: of which structures, and each a little slower than the one before."""
    measured: list[list[tuple[int, ...]]] = []

    def latency(network: StoredNetwork, images: torch.Tensor, batch: int) -> Latency:
        measured.append([tuple(tensor.values.shape) for stored in network.layers for tensor in stored.tensors])
        return Latency(batch, 1, float(len(measured)), 0.5, 100.0)

    monkeypatch.setattr(evaluation, "latency", latency)
    monkeypatch.setattr(turns, "QUIET_SECONDS", 0.0)
    return measured


def test_latency_is_measured_once_per_structure(
    bench: Workbench, small: str, timed: list[list[tuple[int, ...]]]
) -> None:
    first = bench.turns.answer(bench.latency("a", small, CompressionConfig()))
    again = bench.latency("b", small, CompressionConfig(bits=4, sparsity=0.9, activation_bits=8))
    assert again.done
    assert again.result() == first
    assert len(timed) == 1
    assert bench.turns.answer(bench.latency("a", small, SOME)) != first
    assert len(timed) == 2
    for shapes, config in zip(timed, (CompressionConfig(), SOME), strict=True):
        stored = bench.network(small, config)
        assert shapes == [tuple(tensor.values.shape) for layer in stored.layers for tensor in layer.tensors]
    assert bench.turns.answer(bench.latency("a", small, SOME, batch=8)).batch == 8
    assert len(timed) == 3


def test_after_a_while_latency_is_measured_again_and_the_quietest_measurement_stands(
    bench: Workbench, small: str, timed: list[list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.turns.answer(bench.latency("a", small, CompressionConfig()))
    bench.turns.wish = lambda session, works: wished.append(works)  # type: ignore[method-assign]
    wished: list[Any] = []
    assert bench.latency("a", small, CompressionConfig()).done
    assert wished == []
    monkeypatch.setattr(latencies, "MEASURED_AGAIN", -1.0)
    known = bench.latency("a", small, CompressionConfig())
    assert known.done
    assert known.result() == first
    ((work,),) = (works.values() for works in wished)
    work(lambda: False, lambda early: None)
    assert len(timed) == 2
    assert bench.latency("a", small, CompressionConfig()).result() == first  # the second was slower


# Baselines.


def test_the_shipped_baselines_are_there_with_their_recipes(bench: Workbench) -> None:
    known = {"cnn": 421_642, "mlp": 932_362, "mlp-course": 932_362, "compact": 19_670, "residual": 77_640}
    assert [card.id for card in bench.cards()] == list(SHIPPED) == list(known)
    for name, parameters in known.items():
        baseline = bench.baseline(name)
        assert baseline.parameters == parameters
        assert TrainingConfig(**baseline.info["recipe"]).model == baseline.model
        assert len(baseline.info["history"]) == baseline.info["recipe"]["epochs"]
        assert baseline.info["sha256"] == baseline.sha256
        assert {"torch", "python"} <= set(baseline.info["versions"])
        assert 0.5 < baseline.info["test_accuracy"] < 1


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_baseline_has_the_test_accuracy_that_its_record_says(bench: Workbench, name: str) -> None:
    result = bench.evaluate(name, CompressionConfig(), "test")
    assert result.evaluation.accuracy == pytest.approx(bench.baseline(name).info["test_accuracy"], abs=2e-4)
    assert result.evaluation.loss == pytest.approx(bench.baseline(name).info["test_loss"], rel=1e-3)


@pytest.mark.parametrize(("rank", "parameters"), [(256, 932_362), (102, 774_666)])
def test_the_mlp_has_the_parameters_of_the_course_at_the_courses_ranks(
    warm_bench: Workbench, rank: int, parameters: int
) -> None:
    assert warm_bench.evaluate("mlp", CompressionConfig().with_layer("fc2", rank=rank)).parameters == parameters


def test_the_mlp_at_sparsity_zero_is_the_mlp(warm_bench: Workbench) -> None:
    result = warm_bench.evaluate("mlp", CompressionConfig(sparsity=0))
    assert (result.parameters, result.comparison.difference, result.sparsity) == (932_362, 0, 0)
    assert torch.equal(result.evaluation.confidences, result.baseline.confidences)


def test_a_file_that_a_person_loads_is_a_baseline_here_and_after_a_restart(
    bench: Workbench, baseline: Baseline
) -> None:
    name = bench.load_file(models.to_bytes(baseline), "Mine, with care.safetensors")
    for later in (bench, Workbench(bench.cache)):
        assert later.baseline(name).sha256 == baseline.sha256
        (card,) = [card for card in later.cards() if card.id == name]
        assert (card.title, card.origin) == ("Mine, with care", "loaded")
    bench.delete_baseline(name)
    assert [card.id for card in bench.cards()] == list(SHIPPED)
    with pytest.raises(UnknownBaseline):
        bench.baseline(name)


def test_a_network_that_is_here_keeps_its_title_and_its_training_when_its_file_is_loaded(
    bench: Workbench, baseline: Baseline
) -> None:
    known = replace(baseline, info={"history": [{"epoch": 1}]})
    name = bench.add_baseline(known, "trained with care", "trained")
    assert bench.load_file(models.to_bytes(baseline), "another title.safetensors") == name
    (card,) = [card for card in bench.cards() if card.id == name]
    assert (card.title, card.origin) == ("trained with care", "trained")
    assert Workbench(bench.cache).baseline(name).info == known.info


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a network",
        b"\x80\x04\x95pickle",
        safetensors.numpy.save({"x": np.zeros(3, np.float32)}),
        models.to_bytes(Baseline("bad", random_tensors(MLP_SHAPES) | {"fc1.bias": torch.full((24,), torch.nan)})),
    ],
    ids=["empty", "text", "pickle", "other names", "NaN"],
)
def test_a_file_that_is_refused_changes_nothing(bench: Workbench, small: str, content: bytes) -> None:
    before = (bench.cards(), sorted(path.name for path in (bench.cache / "weights").iterdir()))
    with pytest.raises(BaselineError):
        bench.load_file(content, "theirs.safetensors")
    assert (bench.cards(), sorted(path.name for path in (bench.cache / "weights").iterdir())) == before


@pytest.mark.parametrize(
    "name", ["", "nothing", "../cnn", "/etc/passwd", "nowhere.safetensors", "baseline/cnn", "\udcff"]
)
def test_a_baseline_that_does_not_exist_is_named_with_those_that_do(bench: Workbench, name: str) -> None:
    with pytest.raises(UnknownBaseline) as refused:
        bench.evaluate(name, CompressionConfig())
    message = str(refused.value)
    assert repr(name) in message
    assert all(known in message for known in SHIPPED)
    assert "\n" not in message


# Spectra.


@pytest.mark.parametrize("energy", [0.5, 0.95, 1.0])
def test_a_spectrum_is_that_of_numpy(bench: Workbench, small: str, baseline: Baseline, energy: float) -> None:
    for layer, found in zip(baseline.layers, bench.spectrum(small, energy), strict=True):
        matrix = baseline.tensors[f"{layer.name}.weight"].flatten(1).double().numpy()
        values = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(found.singular_values, values, rtol=1e-4, atol=1e-5)
        kept = (values**2).cumsum() / (values**2).sum()
        np.testing.assert_allclose(found.cumulative_energy, kept, rtol=1e-4)
        assert found.cumulative_energy[found.rank - 1] >= energy - 1e-9
        assert found.rank == 1 or found.cumulative_energy[found.rank - 2] < energy
        m, n = matrix.shape
        assert (found.matrix_shape, found.full_rank) == ((m, n), len(values))
        assert found.share == found.rank / len(values)
        assert found.saves == (found.numbers(found.rank) < m * n)
        assert found.condition_number == pytest.approx(values[0] / values[-1], rel=1e-2)


def test_a_layer_of_zeros_has_a_spectrum_without_a_condition_number(bench: Workbench) -> None:
    tensors = random_tensors(MLP_SHAPES)
    tensors["fc2.weight"].zero_()
    name = bench.add_baseline(Baseline("zeros", tensors), "zeros", "loaded")
    found = bench.spectrum(name)[1]
    assert found.condition_number is None
    assert bench.evaluate(name, CompressionConfig(rank_share=0.5, bits=4)).evaluation.images == 5_000


# Training and export.


@pytest.fixture
def few_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch)


QUICK = TrainingConfig("mlp", epochs=1, batch_size=128)


@pytest.mark.usefixtures("few_training_images")
def test_what_a_job_trains_is_a_baseline_with_its_history(bench: Workbench) -> None:
    said: list[dict[str, Any]] = []
    answer = work.KINDS["train"].run(bench, bench.training_request(QUICK), said.append, lambda: False)
    again = Workbench(bench.cache)
    (card,) = [card for card in again.cards() if card.origin == "trained"]
    assert card.id == answer.baseline
    trained = again.baseline(card.id)
    assert trained.info["recipe"] == QUICK.to_dict()
    assert [event["figures"] for event in said if "figures" in event] == trained.info["history"]
    measured = again.evaluate(card.id, CompressionConfig(), "test")
    assert answer.test_accuracy == trained.info["test_accuracy"] == measured.evaluation.accuracy


@pytest.mark.usefixtures("few_training_images")
def test_a_job_that_is_stopped_keeps_nothing(bench: Workbench) -> None:
    with pytest.raises(Stopped):
        work.KINDS["train"].run(bench, bench.training_request(QUICK), lambda event: None, lambda: True)
    assert [card.id for card in bench.cards()] == list(SHIPPED)
    with pytest.raises(Stopped):
        bench.train(QUICK, should_stop=lambda: True)


RECOVERED = replace(SOME, recovery=RecoveryConfig(epochs=1, learning_rate=0.01))


@pytest.mark.usefixtures("few_training_images")
def test_what_was_recovered_is_what_is_evaluated_and_exported_by_every_process(bench: Workbench, small: str) -> None:
    with pytest.raises(NotRecovered):
        bench.evaluate(small, RECOVERED)
    assert bench.history(small, RECOVERED) is None
    before = bench.evaluate(small, SOME)
    assert work.KINDS["recover"].run(bench, bench.recovery_request(small, RECOVERED), print, lambda: False)
    after = bench.evaluate(small, RECOVERED)
    assert after.evaluation.accuracy > before.evaluation.accuracy
    assert (after.parameters, after.sparsity) == (before.parameters, before.sparsity)
    again = Workbench(bench.cache)
    assert len(again.history(small, RECOVERED) or []) == 1
    assert [layer.content for layer in again.network(small, RECOVERED).layers] == [
        layer.content for layer in bench.network(small, RECOVERED).layers
    ]
    verdict = again.export(small, RECOVERED, again.export_folder(small, RECOVERED))
    assert verdict.ok
    assert verdict.files[0].bytes == after.bytes


@pytest.mark.usefixtures("few_training_images")
def test_a_recovery_is_trained_once_and_never_evicted(bench: Workbench, small: str) -> None:
    bench.recover(small, RECOVERED)
    bench.recover(small, RECOVERED, should_stop=lambda: True)  # there is nothing left to stop
    bench.store.limit = 1
    bench.store.put("other", "evaluation", b"x" * 100)
    assert bench.history(small, RECOVERED) is not None
    other = replace(RECOVERED, bits=7)
    with pytest.raises(Stopped):
        bench.recover(small, other, should_stop=lambda: True)
    assert bench.history(small, other) is None
    with pytest.raises(ConfigError, match="recovery"):
        bench.recover(small, SOME)


def test_an_export_is_verified_and_found_again(bench: Workbench, cnn: Baseline) -> None:
    name = bench.add_baseline(cnn, "small", "loaded")
    folder = bench.export_folder(name, SOME)
    assert bench.exported(name, SOME) is None
    verdict = bench.export(name, SOME, folder)
    assert (verdict.ok, verdict.split, verdict.images) == (True, "test", 10_000)
    entry = verdict.files[0]
    test = bench.evaluate(name, SOME, "test")
    assert (entry.agreement, entry.accuracy) == (1, test.evaluation.accuracy)
    assert entry.bytes == test.bytes == (folder / entry.path).stat().st_size
    found = bench.exported(name, SOME)
    assert found is not None
    assert found.verdict == verdict
    assert sha256(found.content("network.packed")) == entry.sha256
    assert verdict.baseline_accuracy == test.baseline.accuracy
    assert verdict.sizes["packed file"] == entry.bytes < verdict.sizes["zip of the safetensors file"]
    with zipfile.ZipFile(io.BytesIO(found.bundle())) as bundle:
        names = {name.removeprefix("compressed-network/") for name in bundle.namelist()}
        assert {"network.packed", "loader.py", "predict.py", "sample.npz", "README.md", "verdict.json"} <= names
        assert bundle.testzip() is None
    assert bench.exported(name, CompressionConfig()) is None

    for damage in ("[]", "{}", "null", "{"):
        (folder / "verified.json").write_text(damage)
        assert bench.exported(name, SOME) is None
    (folder / "verified.json").write_text(json.dumps(verdict.to_dict()))
    content = bytearray((folder / entry.path).read_bytes())
    content[random.randrange(len(content))] ^= 1
    (folder / entry.path).write_bytes(content)
    assert bench.exported(name, SOME) is None
    assert not artifact.verify(folder, bench.datasets).ok


def ended_at_once(bench: Workbench, patch: pytest.MonkeyPatch, result: dict[str, Any]) -> list[dict[str, Any]]:
    """What is submitted from now on, each a job whose process leaves this result at once."""
    asked: list[dict[str, Any]] = []

    def submit(request: dict[str, Any], again: Callable[[dict[str, Any]], bool]) -> str:
        if (bench.jobs.root / "job").exists() and not again(result):
            return "job"
        asked.append(request)
        folder = bench.jobs.root / "job"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "request.json").write_text(json.dumps(request))
        (folder / "result.json").write_text(json.dumps(result))
        return "job"

    patch.setattr(bench.jobs, "submit", submit)
    return asked


def test_an_export_that_is_asked_for_again_is_made_again(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = ended_at_once(bench, monkeypatch, {})
    bench.submit_export(small, SOME)
    assert len(started) == 1
    said: list[dict[str, Any]] = []
    request = {"kind": "export", "baseline": small, "config": json.loads(SOME.to_json())}
    assert started[0] == request
    verdict = work.KINDS["export"].run(bench, request, said.append, lambda: False)
    assert verdict.ok
    assert [event["done"] for event in said] == sorted(event["done"] for event in said)
    bench.submit_export(small, SOME)  # "again" means again, also of what was verified
    assert len(started) == 2
    with pytest.raises(Stopped):
        work.KINDS["export"].run(bench, request, said.append, lambda: True)
    path = bench.export_folder(small, SOME) / "verified.json"
    path.write_text(json.dumps(verdict.to_dict() | {"ok": False}))
    bench.submit_export(small, SOME)
    assert len(started) == 3


def test_an_export_never_promises_what_other_versions_measured(bench: Workbench, small: str, tmp_path: Path) -> None:
    """As if a library had rounded otherwise when it was measured."""
    right = {split: bench.evaluate(small, SOME, split) for split in ("validation", "test")}
    for split in right:
        key = bench.measurements.key(bench.baseline(small), SOME, split)
        found = bench.store.get(key)
        arrays, figures = measurements._unpack(found.payload)
        arrays = {name: array.copy() for name, array in arrays.items()}
        arrays["predictions"][:5] = (arrays["predictions"][:5] + 1) % 10
        figures["ledger"]["entries"][0]["bytes"] += 100
        bench.store.put(key, "evaluation", safetensors.numpy.save(arrays, metadata={"figures": json.dumps(figures)}))
    again = Workbench(bench.cache)
    assert again.evaluate(small, SOME).bytes == right["validation"].bytes + 100
    verdict = again.export(small, SOME, tmp_path / "out", ["packed"])
    assert verdict.ok
    assert verdict.files[0].agreement == 1
    for split, result in right.items():
        assert again.evaluate(small, SOME, split).bytes == result.bytes == verdict.files[0].bytes
        assert torch.equal(again.evaluate(small, SOME, split).evaluation.predictions, result.evaluation.predictions)


@pytest.mark.usefixtures("few_training_images")
def test_what_was_trained_after_compression_is_listed(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.recovered() == []
    bench.recover(small, RECOVERED)
    assert bench.recovered() == [(small, RECOVERED)]
    later = replace(RECOVERED, bits=5)
    bench.recover(small, later)
    for _ in range(2):
        bench.evaluate(small, RECOVERED)
        assert bench.recovered() == [(small, later), (small, RECOVERED)], "looking at one changes no order"
    with monkeypatch.context() as patch:
        patch.setattr(training, "TEMPERATURE", 3.0)
        assert bench.recovered() == [], "trained otherwise than it would be now"
    bench.delete_baseline(small)
    assert bench.recovered() == []


def test_a_page_can_show_the_source_of_what_it_computed() -> None:
    assert "Eckart" in workbench.source("core.mathematics.low_rank.factorize")
    assert workbench.source("core.mathematics.pruning.keep_mask").startswith("def keep_mask(")


def test_every_name_of_the_door_is_a_method_of_the_part_that_it_names(bench: Workbench) -> None:
    names = {name: own for name, own in vars(Workbench).items() if isinstance(own, workbench.Delegate)}
    assert len(names) > 40
    for name, delegate in names.items():
        assert getattr(bench, name).__self__ is getattr(bench, delegate.part)
        assert getattr(bench, name).__func__ is delegate.method


# Points: everything that was measured.


def test_what_any_session_measured_is_a_point_with_the_figures_of_its_result(bench: Workbench, small: str) -> None:
    configs = [CompressionConfig(), SOME, CompressionConfig(bits=3)]
    results = [bench.evaluate(small, config) for config in configs]
    bench.evaluate(small, SOME, "test")
    other = Workbench(bench.cache)
    for each in (bench, other):
        points = each.points()
        assert [point.config for point in points] == configs, "validation only, each once"
        for point, result in zip(points, results, strict=True):
            assert (point.accuracy, point.bytes, point.loss) == (
                result.evaluation.accuracy, result.bytes, result.evaluation.loss
            )  # fmt: skip
            assert (point.low, point.high) == result.comparison.interval
            assert (point.difference, point.compression_ratio) == (
                result.comparison.difference, result.compression_ratio
            )  # fmt: skip
            assert (point.origin, point.sha256) == ("explored", bench.baseline(small).sha256)
    third = other.evaluate(small, CompressionConfig(bits=5))
    assert bench.points()[-1].config == third.config, "what another process measured appears"
    other.turns.close()


def test_a_point_that_is_removed_is_gone_with_all_that_was_made_of_it(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    config = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(epochs=1, learning_rate=0.01))
    bench.recover(small, config)
    bench.export(small, config, bench.export_folder(small, config), ("packed",))
    assert bench.exported(small, config) is not None
    bench.remove(small, config)
    assert bench.exported(small, config) is None
    assert bench.history(small, config) is None
    assert bench.known(small, config) is None
    assert bench.known(small, config, "test") is None
    assert config not in [point.config for point in bench.points()]
    with pytest.raises(NotRecovered):
        bench.evaluate(small, config)


def test_what_was_pinned_or_searched_for_outlives_everything_else(tmp_path: Path, baseline: Baseline) -> None:
    for origin, pinned in (("searched", ""), ("explored", "before"), ("explored", "after"), ("explored", "")):
        bench = Workbench(tmp_path / f"{origin} {pinned}", origin)
        name = bench.add_baseline(baseline, "small", "loaded")
        if pinned == "before":  # while it is still being measured
            bench.keep(name, SOME)
        bench.evaluate(name, SOME)
        if pinned == "after":
            bench.keep(name, SOME)
        bench.store.limit = 10_000
        bench.store.put("large", "evaluation", bytes(10_000))
        stays = bool(pinned) or origin == "searched"
        assert (SOME in [point.config for point in bench.points()]) == stays
        assert (bench.store.get(bench.measurements.key(baseline, SOME, "validation")) is not None) == stays
        bench.turns.close()
        bench.store.close()


def test_without_room_for_what_is_kept_nothing_trained_is_lost_and_outdated_entries_make_room(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    first, second = (CompressionConfig(sparsity=s, recovery=RecoveryConfig(1, 0.01)) for s in (0.5, 0.6))
    bench.recover(small, first)
    bench.keep(small, first)
    bench.evaluate(small, first)
    assert set(bench.kept().kinds) == {"baseline", "recovered", "evaluation", "point"}
    bench.store.kept_limit = bench.kept().bytes + 100
    assert bench.kept().share > 0.9
    bench.recover(small, second)
    assert bench.history(small, second) is not None
    assert bench.kept().kinds["recovered"][0] == 1, "stored, but not kept: there is no room"
    monkeypatch.setattr("core.measuring.training.TEMPERATURE", 3.0)  # what was trained before is of no use now
    bench.room._looked_through = {}
    assert set(bench.kept().kinds) == {"baseline"}
    bench.recover(small, second)
    assert bench.kept().kinds["recovered"][0] == 1


def test_the_room_for_what_is_kept_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Workbench(tmp_path).kept().limit == 2 * 2**30
    monkeypatch.setenv("COMPRESSION_KEPT_GB", "0.5")
    assert Workbench(tmp_path).kept().limit == 2**29
    for wrong in ("much", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("COMPRESSION_KEPT_GB", wrong)
        with pytest.raises(ConfigError, match=f"COMPRESSION_KEPT_GB must be .* Got '{wrong}'"):
            Workbench(tmp_path)


def test_of_many_exports_those_that_were_looked_at_last_stay(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(config: CompressionConfig) -> None:
        work.KINDS["export"].run(bench, bench.export_request(small, config), lambda event: None, lambda: False)

    monkeypatch.setattr(exports.Exports.export, "__defaults__", (("packed",), lambda text, done: None))
    configs = [CompressionConfig(bits=bits) for bits in (8, 7, 6)]
    for age, config in enumerate(configs):
        export(config)
        os.utime(bench.export_folder(small, config), (1_000 + age, 1_000 + age))
    assert bench.exported(small, configs[0]) is not None
    each = max(sum(p.stat().st_size for p in f.iterdir()) for f in (bench.cache / "exports").iterdir())
    monkeypatch.setattr(exports, "EXPORTS_BYTES", int(2.5 * each))
    export(CompressionConfig(bits=5))
    assert [bench.exported(small, config) is not None for config in configs] == [True, False, False]


def test_a_point_of_another_version_is_no_point(bench: Workbench, small: str) -> None:
    bench.evaluate(small, SOME)
    bench.store.put("point/older", "point", b'{"accuracy": 1.0}')
    bench.store.put("point/none", "point", b"nothing")
    assert {point.config for point in bench.points()} == {SOME, CompressionConfig()}
    assert bench.store.get("point/older") is None


def test_a_network_of_another_machine_is_kept_only_where_it_is_what_it_says(
    bench: Workbench, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    config = replace(SOME, recovery=RecoveryConfig(epochs=1, learning_rate=0.01))
    bench.recover(small, config)
    content, history = bench.file_of(small, config), bench.history(small, config)
    there = Workbench(tmp_path / "there")
    there.add_baseline(bench.baseline(small), "small", "loaded")
    with pytest.raises(FormatError, match="another network"):
        there.adopt(small, SOME, content, history)
    with pytest.raises(FormatError):
        there.adopt(small, config, content[:-3], history)
    assert there.history(small, config) is None
    there.adopt(small, config, content, history)
    here, found = bench.evaluate(small, config), there.evaluate(small, config)
    assert torch.equal(here.evaluation.predictions, found.evaluation.predictions)
    assert found.bytes == here.bytes == len(content)
    assert (small, config) in there.recovered()
    there.turns.close()
    there.store.close()


def test_what_is_done_after_a_training_elsewhere_keeps_its_learned_steps(
    bench: Workbench, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    quantized = CompressionConfig(bits=4, activation_bits=8, recovery=RecoveryConfig(epochs=1, learning_rate=0.05))
    config = quantized.with_layer("fc2", rank=4)
    bench.recover(small, config)
    there = Workbench(tmp_path / "there")
    there.add_baseline(bench.baseline(small), "small", "loaded")
    there.adopt(small, config, bench.file_of(small, config), bench.history(small, config))
    finished = replace(config, rate_rounding=0.05)
    steps = [[own.between_scale for own in each.network(small, finished).layers] for each in (bench, there)]
    assert steps[0] == steps[1]
    assert sum(step is not None for step in steps[0]) == 1
    there.turns.close()
    there.store.close()


def test_only_the_latest_results_are_remembered_and_the_others_read_again(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "REMEMBERED", 2)
    configs = [CompressionConfig(bits=bits) for bits in (3, 4, 5)]
    first = [bench.evaluate(small, config) for config in configs]
    assert len(bench.measurements._results) == 2
    assert all(same(bench.evaluate(small, config), own) for config, own in zip(configs, first, strict=True))
    assert all(bench.evaluate(small, config).cached for config in configs)


@pytest.mark.usefixtures("few_training_images")
def test_what_cannot_be_kept_after_a_training_is_said(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.evaluate(small, SOME)
    monkeypatch.setattr(bench.store, "put", lambda *entry, **more: False)
    with pytest.raises(OSError, match="cache cannot be written"):
        bench.recover(small, RECOVERED)
    assert bench.history(small, RECOVERED) is None


def test_long_work_that_was_done_is_done_again_only_where_its_result_is_gone(
    bench: Workbench, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ended_at_once(bench, monkeypatch, {"baseline": small, "recovered": small})
    assert bench.submit_training(QUICK) == "job"
    assert asked == [{"kind": "train", "config": QUICK.to_dict()}]
    bench.delete_baseline(small)
    bench.submit_training(QUICK)
    assert len(asked) == 2, "of the baseline that was trained nothing is left"
    bench.add_baseline(Baseline("small-mlp", random_tensors(MLP_SHAPES, 1)), "small", "loaded")
    bench.submit_recovery(small, RECOVERED)
    assert asked[2:] == [{"kind": "recover", "baseline": small, "config": json.loads(RECOVERED.to_json())}]
    train_on_few(monkeypatch)
    bench.recover(small, RECOVERED)
    bench.submit_recovery(small, RECOVERED)
    assert len(asked) == 3


def test_a_search_is_a_job_that_can_always_go_on(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(bench.jobs, "submit", lambda request, again: asked.append(request) or str(again({})))
    assert bench.submit_search("mlp", Goal(0.01), 10) == "True"
    assert Goal(**json.loads(json.dumps(asked[0]))["goal"]) == Goal(0.01)
    for minutes in (0, -1, front.MOST_MINUTES + 1):
        with pytest.raises(ConfigError, match="minutes"):
            bench.submit_search("mlp", Goal(0.01), minutes)


# Files that are known already, and how many networks are in memory.


def everything(bench: Workbench) -> object:
    """What is kept of all baselines: titles, histories, weights."""
    entries = [(key, bench.store.get(key)) for key in bench.store.keys("baseline")]
    return bench.cards(), entries, sorted(path.name for path in (bench.cache / "weights").iterdir())


@pytest.mark.parametrize("origin", ["trained", "loaded"])
def test_a_file_whose_weights_are_kept_already_changes_nothing(bench: Workbench, mlp: Baseline, origin: str) -> None:
    name = bench.add_baseline(replace(mlp, info={"history": [{"epoch": 1}]}), "as it was called", origin)
    before = everything(bench)
    for later in (bench, Workbench(bench.cache)):
        assert later.load_file(models.to_bytes(mlp), "mine.safetensors") == name
        assert later.add_baseline(mlp, "mine", "loaded") == name
        assert later.title(name) == "as it was called"
        assert later.baseline(name).info["history"] == [{"epoch": 1}]
    assert everything(bench) == before


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_of_a_shipped_baseline_is_that_baseline(bench: Workbench, name: str) -> None:
    bench.add_baseline(Baseline("x", random_tensors(MLP_SHAPES)), "x", "loaded")
    before = everything(bench)
    content = (workbench.PRETRAINED / f"{name}.safetensors").read_bytes()
    assert bench.load_file(content, "mine.safetensors") == name
    assert everything(bench) == before


def test_a_training_adds_its_history_to_a_file_that_was_loaded(bench: Workbench, mlp: Baseline) -> None:
    name = bench.load_file(models.to_bytes(mlp), "mine.safetensors")
    assert bench.add_baseline(replace(mlp, info={"history": [{"epoch": 1}]}), "MLP, 1 epoch", "trained") == name
    assert bench.add_baseline(replace(mlp, info={"history": []}), "MLP, again", "trained") == name
    assert (bench.title(name), bench.baseline(name).info) == ("MLP, 1 epoch", {"history": [{"epoch": 1}]})


def test_a_file_that_was_damaged_in_the_cache_is_kept_anew(bench: Workbench, mlp: Baseline) -> None:
    name = bench.load_file(models.to_bytes(mlp), "mine.safetensors")
    assert bench.profile(name).sha256 == mlp.sha256, "nobody has to read the file any more"
    for path in (bench.cache / "weights").iterdir():
        path.write_bytes(b"damaged")
    assert bench.load_file(models.to_bytes(mlp), "mine.safetensors") == name
    assert Workbench(bench.cache).baseline(name).sha256 == mlp.sha256


def test_networks_whose_weights_begin_alike_are_kept_apart(
    bench: Workbench, mlp: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have looked for weights whose sum begins as that of another's."""
    whole = models.Baseline.sha256.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Baseline, "sha256", property(lambda own: "0" * 8 + whole(own)[8:]))
    other = Baseline("other", random_tensors(MLP_SHAPES, 77))
    names = [bench.load_file(models.to_bytes(own), own.name) for own in (mlp, other, mlp, other)]
    assert names[:2] == names[2:]
    for later in (bench, Workbench(bench.cache)):
        assert [later.baseline(name).sha256 for name in names[:2]] == [mlp.sha256, other.sha256]


def test_only_the_latest_networks_are_in_memory(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [bench.add_baseline(Baseline("x", random_tensors(MLP_SHAPES, seed)), "x", "loaded") for seed in range(8)]
    size = bench.baseline(names[0]).bytes
    monkeypatch.setattr(workbench, "RECENT_BYTES", 4 * size)
    small, loads, load_ = Workbench(bench.cache), list[str](), Baselines._load
    monkeypatch.setattr(Baselines, "_load", lambda own, name: loads.append(name) or load_(own, name))
    for name in [*names, *names]:
        assert small.baseline(name).bytes == size
        assert small.baseline(names[0]).name == names[0], "which is used all the time"
        assert small.recent.bytes <= 4 * size
    assert loads.count(names[0]) == 1
    assert loads.count(names[1]) == 2


def test_what_is_said_of_a_network_without_its_weights_loads_it_once(
    bench: Workbench, mlp: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bench.add_baseline(mlp, "x", "loaded")
    about = bench.profile(name)
    assert (about.sha256, about.model, about.layers) == (mlp.sha256, "mlp", mlp.layers)
    bench.recent.forget(("baseline", name))
    monkeypatch.setattr(Baselines, "_load", None)
    assert bench.profile(name) == about
    bench.delete_baseline(name)
    monkeypatch.undo()
    with pytest.raises(UnknownBaseline):
        bench.profile(name)


def test_who_loads_a_network_keeps_nobody_waiting(
    bench: Workbench, small: str, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = bench.add_baseline(Baseline("x", random_tensors(MLP_SHAPES, 77)), "x", "loaded")
    bench.evaluate(small, SOME)
    begun, answered, read = threading.Event(), threading.Event(), models.from_bytes

    def slow(content: bytes, name: str, *rest: Any) -> Baseline:
        begun.set()
        assert answered.wait(20), "others waited for this"
        return read(content, name, *rest)

    bench.recent.forget(("baseline", other))
    monkeypatch.setattr(models, "from_bytes", slow)
    loading = threading.Thread(target=bench.baseline, args=(other,))
    loading.start()
    assert begun.wait(20)
    asking = threading.Thread(target=lambda: bench.evaluate(small, SOME) and answered.set())
    asking.start()
    asking.join(10)
    assert answered.is_set()
    loading.join(20)
    assert bench.baseline(other).name == other


def test_what_a_family_teaches_is_said_of_its_own_widths_alone(bench: Workbench, cnn: Baseline) -> None:
    """The figures in it would be wrong of others."""
    assert "95 %" in bench.about_family("cnn")
    assert bench.about_family("mlp") == bench.about_family("mlp-course") != ""
    assert bench.about_family(bench.add_baseline(cnn, "small", "loaded")) == ""
