"""The search finds what it says, keeps it, goes on where it stopped, and its figures are those of the file."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from conftest import PROJECT, read_here, train_on_few
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial, TrialState

from core.bench.results import ExportVerdict
from core.bench.workbench import Early, NotRecovered, Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.datasets import fashion_mnist
from core.formats import artifact
from core.measuring.evaluation import Estimate
from core.measuring.front import TECHNIQUES, Goal, Point, pareto
from core.networks import compression
from core.networks.encodings import FormatError
from core.networks.models import Overflow
from core.studies import search, sizes, trials
from core.studies.space import configuration, draw, is_active, neighbour, space
from core.studies.stages import brief, shapes, trained
from core.studies.stages.pace import PACE, Countdown
from core.studies.stages.shapes import shape
from core.studies.stages.trained import Finished, LongTrainings
from core.studies.stages.trainer import Trainer
from core.studies.stages.untrained import alone, hopeless, probes
from core.studies.stages.worker import Worker
from core.studies.trials import measured

GOAL = Goal(allowance=0.05)
KEYS = {
    "config", "bytes", "baseline_bytes", "compression_ratio", "accuracy", "baseline_accuracy", "difference",
    "test_accuracy", "test_difference", "path", "baseline", "family", "course_ratio", "self_contained",
}  # fmt: skip


def point_of(size: int, lost: float) -> Point:
    return Point("mlp", "0", CompressionConfig(), 0.9 - lost, -lost, -lost, -lost, 0.3, size, 10**6, "searched")


def test_only_surely_worse_is_hopeless() -> None:
    early = Early(Estimate(500, 5_000, 0.80, 0.02), 1_000, 10)
    assert hopeless(early, [point_of(1_000, 0.05)])
    assert not hopeless(early, [point_of(1_001, 0.05)]), "a larger file says nothing"
    assert not hopeless(early, [point_of(1_000, 0.09)]), "within the interval"
    assert not hopeless(early, [])


USED = st.lists(st.sampled_from(TECHNIQUES), min_size=1, unique=True).map(tuple)


@given(st.integers(0, 10_000), USED)
def test_neighbours_are_choices_of_the_same_space(seed: int, used: tuple[str, ...]) -> None:
    network, dice = Workbench().baseline("cnn").network, random.Random(seed)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    chosen = draw(trial, network, used)
    known = space(network, used)
    for _ in range(6):
        after = neighbour(chosen, network, used, dice)
        assert set(after) == {name for name in known if name in after and is_active(name, after)}
        assert all(known[name]._contains(known[name].to_internal_repr(value)) for name, value in after.items())
        assert after != chosen
        compression.check(configuration(after, network), network)
        chosen = after


# The search itself, on few training images, and on a clock that goes by what was tried and not by how fast.

SECONDS = {"alone, ": 0.15, "Without training": 0.15, "After an epoch": 1.0, "Training, ": 0.35}
"""What a search says -> by how much that moves the clock."""
GLANCE = 0.02
"""By how much it moves when somebody looks at it: a search that finds nothing says nothing."""
FEW = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += GLANCE
        return self.now

    def hear(self, event: dict[str, Any]) -> None:
        self.now += next((seconds for words, seconds in SECONDS.items() if words in event["message"]), 0.1)


def run(
    bench: Workbench, name: str, goal: Goal, minutes: float,
    progress: Callable[[dict[str, Any]], object] = lambda event: None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    clock = Clock()

    def said(event: dict[str, Any]) -> None:
        clock.hear(event)
        progress(event)

    return search.run(bench, name, goal, minutes, progress=said, clock=clock, **{"seed": 0, **settings})


def test_where_nothing_new_is_left_to_train_the_rest_of_the_time_is_for_trials_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    def step(study: str, *rest: Any) -> bool:
        if study == "trained":
            raise Finished
        tried.append(study)
        return study == "untrained"

    monkeypatch.setattr(trials, "step", step)
    monkeypatch.setattr(compression, "check_training", lambda layers: None)
    worker: Any = SimpleNamespace(
        name="mlp", say=print, network=SimpleNamespace(layers=()),
        past=lambda share: share < 1 or tried.count("untrained") == 3,
        studies=SimpleNamespace(untrained="untrained", brief="brief", trained="trained"),
        bench=SimpleNamespace(
            profile=lambda name: SimpleNamespace(images=None), datasets=SimpleNamespace(split=lambda *about: None)
        ),
    )  # fmt: skip
    trainer: Any = SimpleNamespace(may_train=lambda: True)
    search.Search(worker, trainer, LongTrainings(trainer), guided=False).run()
    assert tried == ["brief"] * PACE.fruitless + ["untrained"] * 3


@pytest.fixture(scope="module")
def small(taught: Path) -> str:
    return str(taught)


@pytest.fixture(scope="module")
def searched(small: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A search, and a second one that goes on with it."""
    bench = Workbench(tmp_path_factory.mktemp("search"), origin="searched")
    said: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch, FEW)
        read_here(patch)
        answer = run(bench, small, GOAL, 0.35, progress=said.append)
        counted = counts_of(bench, small)
        again = run(bench, small, GOAL, 0.2)
    yield {"bench": bench, "answer": answer, "again": again, "said": said, "counted": counted}
    bench.turns.close()


def counts_of(bench: Workbench, name: str, goal: Goal = GOAL, url: str | None = None) -> list[int]:
    return [len(trials.finished(study)) for study in opened(bench, name, goal, url)]


def opened(bench: Workbench, name: str, goal: Goal = GOAL, url: str | None = None) -> trials.Studies:
    return search.open_studies(bench, name, goal, url or search.default_storage(bench), optuna.samplers.RandomSampler)


def test_the_answer_is_the_best_that_was_measured(small: str, searched: dict[str, Any]) -> None:
    bench, best = searched["bench"], searched["answer"].best
    assert set(searched["answer"].to_dict()) == {"trials", "best"}
    assert set(best.to_dict()) == KEYS
    config = best.configuration
    result, test = bench.evaluate(small, config), bench.evaluate(small, config, "test")
    assert best.accuracy == result.evaluation.accuracy
    assert best.difference == result.comparison.difference >= -0.05
    assert best.bytes == result.bytes == Path(best.path).stat().st_size
    assert best.compression_ratio == result.compression_ratio > 5
    assert best.test_accuracy == test.evaluation.accuracy
    assert best.test_difference == pytest.approx(test.comparison.difference)
    assert artifact.read(Path(best.path)).config == config
    smaller = [point for point in bench.points() if point.bytes < best.bytes and point.difference >= -0.05]
    assert not smaller or searched["again"].best.bytes <= min(point.bytes for point in smaller)


def test_each_stage_was_there_and_was_told(small: str, searched: dict[str, Any]) -> None:
    assert all(searched["counted"]), "untrained, brief and trained"
    said = searched["said"]
    done = [event["done"] for event in said]
    assert done == sorted(done)
    assert 0 <= done[0] <= done[-1] <= 1
    assert said[-1]["trials"] == searched["answer"].trials
    sizes = [event["best"]["bytes"] for event in said if "best" in event]
    assert sizes == sorted(sizes, reverse=True)
    for stage in ("alone, ", "Without training", "After an epoch", "Trained", "Confirming"):
        assert any(stage in event["message"] for event in said), stage
    assert json.dumps(said, allow_nan=False)


def test_no_configuration_was_tried_twice_and_all_are_points(small: str, searched: dict[str, Any]) -> None:
    bench = searched["bench"]
    points = {point.config: point for point in bench.points()}
    for study in opened(bench, small):
        known = [trials.held(trial) for trial in trials.finished(study)]
        assert len(known) == len(set(known))
        for trial, point in trials.measured(study):
            assert points[point.config] == point
            assert trials.held(trial) == point.config
            assert point.origin == "searched"


def test_a_later_search_goes_on(small: str, searched: dict[str, Any]) -> None:
    assert searched["again"].trials > searched["answer"].trials
    assert searched["again"].best.bytes <= searched["answer"].best.bytes
    assert all(now >= then for now, then in zip(counts_of(searched["bench"], small), searched["counted"], strict=True))


def test_another_machine_has_the_very_files(small: str, searched: dict[str, Any], tmp_path: Path) -> None:
    bench, there = searched["bench"], Workbench(tmp_path / "elsewhere")
    studies = opened(there, small, url=search.default_storage(bench))
    search.adopt(there, small, studies)
    elsewhere = trials.measured(studies.trained)
    assert elsewhere
    for trial, point in elsewhere:
        result, here = there.evaluate(small, point.config), bench.evaluate(small, point.config)
        assert result.bytes == point.bytes == len(trials.kept_bytes(trial, trials.PACKED))
        assert result.evaluation.accuracy == point.accuracy
        assert (result.evaluation.predictions == here.evaluation.predictions).all()
        assert there.history(small, point.config) == bench.history(small, point.config)
        assert there.file_of(small, point.config) == bench.file_of(small, point.config)
        with pytest.raises(NotRecovered, match="only its file is here"):
            there.module(small, point.config)
    verdict = there.export(small, elsewhere[0][1].config, tmp_path / "files", ("packed",))
    assert verdict.ok
    assert verdict.files[0].bytes == elsewhere[0][1].bytes
    there.turns.close()


def test_every_point_of_the_front_is_a_file_of_these_bytes(small: str, searched: dict[str, Any]) -> None:
    bench = searched["bench"]
    front = pareto(bench.points(small))
    assert len(front) > 5
    for point in front[:: max(1, len(front) // 8)]:
        content = bench.file_of(small, point.config)
        assert len(content) == point.bytes


def test_stopping_keeps_what_was_found_and_opens_no_test(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, FEW)
    said: list[dict[str, Any]] = []
    goal = Goal(size=9_000, techniques=("pruning", "bits"))
    answer = run(bench, small, goal, 5, progress=said.append, should_stop=lambda: len(said) > 75)
    assert answer.best is not None
    assert answer.best.bytes <= 9_000
    assert (answer.best.test_accuracy, answer.best.path) == (None, None)
    assert answer.trials == len(opened(bench, small, goal).points())
    assert not any("Confirming" in event["message"] for event in said)


def test_a_size_is_a_budget(small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch, FEW)
    goal = Goal(size=9_000, techniques=("bits", "pruning"))
    answer = run(bench, small, goal, 0.15)
    assert answer.best.bytes <= 9_000
    points = opened(bench, small, goal).points()
    assert answer.best.accuracy == max(point.accuracy for point in points if point.bytes <= 9_000)
    assert all(set(point.techniques) <= set(goal.techniques) for point in points)


def test_nothing_within_the_goal_is_said_so(small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch, FEW)
    answer = run(bench, small, Goal(size=10, techniques=("bits",)), 0.05)
    assert answer.best is None


def test_without_training_images_the_trials_without_training_remain(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = fashion_mnist.load

    def no_images(name: str, *rest: Any) -> Any:
        if name == "train":
            raise fashion_mnist.DataError("No source has the training images.")
        return load(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fashion_mnist, "load", no_images)
    said: list[dict[str, Any]] = []
    answer = run(bench, small, GOAL, 0.06, progress=said.append)
    assert answer.best is not None
    assert any("No source has the training images" in event["message"] for event in said)


@pytest.mark.parametrize("technique", ["channels", "bits"])
def test_one_technique_alone(small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch, technique: str) -> None:
    train_on_few(monkeypatch, FEW)
    goal = Goal(allowance=0.05, techniques=(technique,))
    answer = run(bench, small, goal, 0.15, seed=1)
    assert answer.best is not None
    assert all(set(point.techniques) <= {technique} for point in opened(bench, small, goal).points())


def test_a_search_that_was_stopped_while_it_scanned_begins_with_the_scans_again(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, FEW)
    said: list[dict[str, Any]] = []
    run(bench, small, GOAL, 1, progress=said.append, should_stop=lambda: len(said) > 3)
    assert not opened(bench, small).untrained.get_trials()
    run(bench, small, GOAL, 0.12)
    study = opened(bench, small).untrained
    assert study.user_attrs[trials.SCANNED] > 0
    assert any("fixed_params" in trial.system_attrs for trial in study.get_trials())


def test_a_layer_that_overflows_alone_has_lost_everything_and_the_scan_goes_on(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(name: str, config: CompressionConfig) -> None:
        raise Overflow("The outputs of fc1")

    worker = long_trainings(bench, small, 60).trainer.worker
    probe = probes(worker.network, ["bits"])[0]
    assert 0 <= alone(worker, probe)["lost"] < 1
    monkeypatch.setattr(bench, "evaluate", too_large)
    assert alone(worker, probe) == {"layer": probe.layer.name, "bits": probe.value, "lost": 1.0}


def long_trainings(bench: Workbench, name: str, seconds: float) -> LongTrainings:
    """On a clock that stands still."""
    time_left = Countdown(60, seconds, clock=lambda: 0.0)
    worker = Worker(bench, name, GOAL, opened(bench, name), time_left, lambda: False, lambda event: None)
    return LongTrainings(Trainer(worker))


def test_epochs_are_those_that_there_is_time_for(small: str, searched: dict[str, Any]) -> None:
    bench = searched["bench"]
    trial, brief = trials.measured(opened(bench, small).brief)[0]
    for left, pace, epochs in ((201, 8, 12), (62, 8, 3), (25, 8, 2), (801, 8, 30)):
        trainings = long_trainings(bench, small, left)
        trainings.trainer.paces = {shape(brief.config): pace}
        assert trainings.epochs(trial, brief) == epochs
        asked = replace(brief.config, recovery=RecoveryConfig(epochs=20))
        recovery = trainings.trainer.in_time(asked).recovery
        assert recovery is not None
        assert recovery.epochs == min(20, int(left / pace - 0.5)), "another worker may have had more time"
        trainings.trainer.paces = {CompressionConfig(bits=2): pace}
        assert trainings.epochs(trial, brief) <= epochs, "of another shape: the slower of both"
    for left, rounds in ((15, 0), (51, 1)):
        trainings = long_trainings(bench, small, left)
        trainings.trainer.paces, trainings.rounds = {shape(brief.config): 8}, rounds
        with pytest.raises(Finished):
            trainings.epochs(trial, brief)
    trainings.trainer = long_trainings(bench, small, 53).trainer
    trainings.trainer.paces = {shape(brief.config): 8}
    assert trainings.epochs(trial, brief) == 6


def test_a_long_training_is_of_a_smaller_file_than_what_meets_the_goal_without_it(
    small: str, searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = long_trainings(searched["bench"], small, 100)
    studies = trainings.worker.studies
    fits = replace(trials.points_of(studies.brief)[0], difference=0.0, bytes=3_000)
    for module in (trained, shapes):
        monkeypatch.setattr(module, "points_of", lambda study: [fits] if study is studies.brief else [])
    assert GOAL.allowance is not None
    failed = replace(fits, bytes=2_900, difference=-3 * GOAL.allowance)
    alone = sizes.next_size([(failed.bytes, -failed.difference)], GOAL.allowance)
    assert alone is not None
    assert alone > fits.bytes
    after_a_failure, at_first = trainings.next_bytes([failed]), trainings.next_bytes([])
    assert after_a_failure is not None
    assert at_first is not None
    assert failed.bytes * 0.95 < after_a_failure < fits.bytes
    assert at_first < fits.bytes


def test_where_sizes_are_no_longer_told_apart_only_another_shape_is_trained(
    small: str, searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = long_trainings(searched["bench"], small, 100)
    studies = trainings.worker.studies
    monkeypatch.setattr(trained, "next_size", lambda tried, allowance: None)
    known = {shape(point.config) for point in trials.points_of(studies.trained)}
    assert any(shape(point.config) not in known for point in trials.points_of(studies.brief))
    _, config = trainings.plan()
    assert shape(config) not in known
    assert config.recovery is not None
    assert config.recovery.teacher == trainings.worker.teacher == searched["bench"].teacher_sum("residual")
    elsewhere = replace(config, recovery=replace(config.recovery, teacher="0123abcd"))
    assert trainings.worker.teachable(elsewhere) == config == trainings.worker.teachable(config)
    assert config.recovery.rate_weight == 0, "what is pruned has no price beside that"
    monkeypatch.setattr(trained, "measured", lambda study: [] if study is studies.brief else measured(study))
    with pytest.raises(Finished):
        trainings.plan()


def test_where_nothing_may_be_pruned_a_bit_has_its_price_in_the_loss(
    small: str, searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = long_trainings(searched["bench"], small, 100)
    monkeypatch.setattr(Worker, "scalable", False)
    coded, plain = CompressionConfig(bits=4), CompressionConfig(rank_share=0.5)
    stored = shapes.stored_weights(trainings.worker, coded)
    assert trainings.rated(coded, 5).rate_weight == pytest.approx(trained.PRICE * stored, abs=1e-4)
    assert trainings.rated(plain, 5).rate_weight == 0


def test_sketches_are_planned_smaller_by_as_much_as_those_before_grew(
    small: str, searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = long_trainings(searched["bench"], small, 100).worker
    drawn = [trial for trial, _ in trials.measured(worker.studies.brief) if "density" in trial.params]
    grew = [trial.user_attrs[brief.UNTRAINED] for trial in drawn]
    assert grew
    assert len(brief._grown(worker)) == len(trials.measured(worker.studies.brief))
    wanted = max(grew)
    for factors, factor in (([], 1.0), ([1.0, 2.0, 3.0], 2.0)):
        monkeypatch.setattr(brief, "_grown", lambda worker, factors=factors: factors)
        trial = FixedTrial(drawn[grew.index(wanted)].params)
        brief._drawn(worker, trial, wanted)
        assert trial.user_attrs[brief.UNTRAINED] == pytest.approx(wanted / factor, rel=0.1)


def test_long_trainings_are_in_turns_of_new_shapes_and_of_old_ones(small: str, searched: dict[str, Any]) -> None:
    trainings = long_trainings(searched["bench"], small, 100)
    new, old = (trials.measured(study) for study in (trainings.worker.studies.brief, trainings.worker.studies.trained))
    first, second, third, fourth = (trainings.in_turns(new, old, begun) for begun in range(4))
    assert second == third == first[len(new) :] + first[: len(new)]
    assert first == fourth
    assert {trial.number for trial, _ in first[: len(new)]} == {trial.number for trial, _ in new}
    wanted = shapes.wanted_size(trainings.worker)
    merits = [shapes.merit_of(trainings.worker, point, wanted) for _, point in first[: len(new)]]
    assert merits == sorted(merits)


def test_a_storage_that_is_lost_meanwhile_is_said_in_words(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, FEW)

    def lose(event: dict[str, Any]) -> None:
        if "Without training" in event["message"]:
            with sqlite3.connect(search.default_storage(bench).removeprefix("sqlite:///")) as connection:
                connection.execute("DROP TABLE trials")

    with pytest.raises(trials.StorageError, match=r"storage of the search cannot be used: .*trials"):
        run(bench, small, GOAL, 0.3, progress=lose)
    assert bench.points(small), "what was measured stays"


def test_a_file_that_cannot_be_read_confirms_nothing(
    small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, FEW)
    file = artifact.CheckedFile("network.packed", "packed", 0, "", 0.0, 0.0, problem="network.packed is broken.")
    broken = ExportVerdict(False, "test", 10_000, (file,), (), 0.9, {})
    monkeypatch.setattr(bench, "export", lambda *rest: broken)
    with pytest.raises(FormatError, match="broken"):
        run(bench, small, GOAL, 0.1)


def test_a_folder_that_holds_something_else_is_refused_before_the_search(
    small: str, bench: Workbench, tmp_path: Path
) -> None:
    (tmp_path / "network.packed").write_text("mine")
    with pytest.raises(FileExistsError, match=r"network\.packed"):
        run(bench, small, GOAL, 10, out=tmp_path)
    assert (tmp_path / "network.packed").read_text() == "mine"
    assert not bench.points(small)


def test_other_samplers_draw_by_themselves(small: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch, FEW)
    goal = Goal(allowance=0.05, techniques=("channels", "bits"))
    answer = run(bench, small, goal, 0.15, sampler=lambda: optuna.samplers.RandomSampler(seed=1))
    assert answer.trials > 0
    waiting = [
        trial
        for study in opened(bench, small, goal)
        for trial in study.get_trials()
        if "fixed_params" in trial.system_attrs
    ]
    assert not waiting


# Several processes.

WORKER = """
import json, sys
import pytest
from test_search import FEW, GOAL, run, train_on_few
from core.bench.workbench import Workbench

small, url, minutes = sys.argv[1:]
train_on_few(pytest.MonkeyPatch(), FEW)
print(json.dumps(run(Workbench(origin="searched"), small, GOAL, float(minutes), storage=url).to_dict()))
"""


def started(small: str, cache: Path, url: str, minutes: float) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "COMPRESSION_CACHE": str(cache),
        "PYTHONPATH": f"{PROJECT / 'tests'}{os.pathsep}{Path(__file__).parent}",
    }
    command = [sys.executable, "-c", WORKER, small, url, str(minutes)]
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE)


def test_two_processes_share_a_search_and_killing_one_loses_nothing(small: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    first, second = (started(small, tmp_path / name, url, minutes) for name, minutes in (("one", 0.3), ("two", 60)))
    bench = Workbench(tmp_path / "look")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sum(counts_of(bench, small, url=url)) < 12:
        time.sleep(0.2)
    before = sum(counts_of(bench, small, url=url))
    os.kill(second.pid, signal.SIGKILL)
    assert first.poll() is None, "it has yet to find its answer, alone"
    output, _ = first.communicate(timeout=240)
    assert first.returncode == 0
    best = json.loads(output)["best"]
    assert best["difference"] >= -0.05
    studies = opened(bench, small, url=url)
    assert sum(map(len, map(trials.finished, studies))) >= before >= 12
    for study in studies:
        known = [trials.held(trial) for trial in trials.finished(study)]
        assert len(known) == len(set(known)), "a trial was done twice"
    running = [trial for study in studies for trial in study.get_trials(states=(TrialState.RUNNING,))]
    assert len(running) <= 1, "nothing but the killed process's trial in flight"
    points = studies.points()
    assert best["bytes"] == min(point.bytes for point in points if point.difference >= -0.05 - 1e-12)
