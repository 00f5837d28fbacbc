"""A search over families ends with a file of the bytes that it says, and another machine can take up what it found."""

import json
import random
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import read_here
from hypothesis import given
from hypothesis import strategies as st

from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig, TrainingConfig
from core.formats import artifact
from core.measuring import training
from core.measuring.front import Goal, Point
from core.networks import families
from core.studies import students, trials, variation
from core.studies.students import PLAIN, STARTS, widths_for
from core.studies.teachers import best_teacher
from core.studies.variation import BITS, DEEPER, FACTORS, PRICES, TILTS, neighbours

GOAL = Goal(floor=0.5, families=("compact", "mlp"))


@given(st.sampled_from(sorted(families.families())), st.sampled_from(FACTORS), st.sampled_from(TILTS))
def test_widths_are_the_familys_own_times_a_factor(name: str, factor: float, tilt: float) -> None:
    family = families.named(name)
    widths = widths_for(family, factor, tilt, 0)
    assert [len(stage) for stage in widths] == [len(stage) for stage in family.widths]
    assert all(width % 2 == 0 and width > 0 for stage in widths for width in stage)
    assert len(family.build((1, 28, 28), 10, widths).layers) == len(family.build((1, 28, 28), 10).layers)
    assert widths_for(family, 1.0, 1.0, 0) == family.widths


def test_deeper_is_a_layer_more_in_each_stage() -> None:
    compact = families.named("compact")
    assert widths_for(compact, 1.0, 1.0, 1) == ((12, 12, 12), (20, 20, 20), (28, 28, 28))
    assert widths_for(compact, 0.5, 1.0, -1) == ((6,), (10,), (14,))


@given(st.randoms(use_true_random=False))
def test_a_neighbour_differs_in_one_choice_and_can_be_drawn(dice: random.Random) -> None:
    chosen: dict[str, Any] = {**PLAIN, **dice.choice(STARTS)}
    offered = {"factor": FACTORS, "tilt": TILTS, "deeper": DEEPER, "bits": BITS, "price": PRICES}
    for _ in range(30):
        other = dice.choice(list(neighbours(chosen, [start["model"] for start in STARTS])))
        assert sum(other[name] != chosen[name] for name in chosen) == 1
        assert all(other[name] in values for name, values in offered.items())
        chosen = other


@given(st.randoms(use_true_random=False), st.sampled_from([1, -1]))
def test_what_misses_the_goal_grows_or_shrinks_until_it_cannot(dice: random.Random, way: int) -> None:
    chosen: dict[str, Any] = {**PLAIN, **dice.choice(STARTS)}
    last, models = -1 if way > 0 else 0, [start["model"] for start in STARTS]
    ends = {"factor": FACTORS[last], "bits": BITS[last], "deeper": DEEPER[last], "price": PRICES[-1 - last]}
    steps = 0
    while not ends.items() <= chosen.items():
        other, steps = dice.choice(list(neighbours(chosen, models, way))), steps + 1
        name = next(name for name in other if other[name] != chosen[name])
        assert (other[name] > chosen[name]) == ((name != "price") == (way > 0))
        assert {**other, name: chosen[name]} == chosen
        chosen = other
    assert steps < 25
    assert not list(neighbours(chosen, models, way))


SPACE: dict[str, Any] = {
    name: optuna.distributions.CategoricalDistribution(values)
    for name, values in {
        "model": ("compact", "mlp"), "factor": FACTORS, "tilt": TILTS, "deeper": DEEPER, "bits": BITS, "price": PRICES,
    }.items()
}  # fmt: skip


def studied(*trials: tuple[dict[str, Any], float | None, bool]) -> optuna.Study:
    """params, value (None: it failed), whether it was stopped"""
    study = optuna.create_study()
    for params, value, stopped in trials:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        attributes = {variation.STOPPED: True} if stopped else {}
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value, params=params, distributions=SPACE, user_attrs=attributes
            )
        )
    return study


@pytest.fixture
def all_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came to a value meets no floor."""
    complete = (optuna.trial.TrialState.COMPLETE,)
    monkeypatch.setattr(
        variation, "measured", lambda study: [(trial, None) for trial in study.get_trials(states=complete)]
    )
    monkeypatch.setattr(Goal, "met_by", lambda self, point: False)


def test_what_was_stopped_is_begun_again(all_measured: None) -> None:
    first, second = ({**PLAIN, "model": model} for model in ("compact", "mlp"))
    goal, dice = Goal(floor=0.5, families=("compact", "mlp")), random.Random(0)
    stopped = studied((first, None, True), (second, 5000.0, False))
    assert variation.next_choice(stopped, goal, goal.families, dice) == first
    stopped.enqueue_trial(first)
    again = variation.next_choice(stopped, goal, goal.families, dice)
    assert again in list(neighbours(second, goal.families, 1)), "it waits already"
    failed = studied((first, None, False), (second, 5000.0, False))
    assert variation.next_choice(failed, goal, goal.families, dice) != first


def test_nothing_is_tried_twice_and_all_around_every_student_is_tried(all_measured: None) -> None:
    best, other = {**PLAIN, "model": "compact"}, {**PLAIN, "model": "mlp", "factor": 2.4, "price": 4.8e-6}
    goal, dice = Goal(floor=0.5, families=("compact", "mlp")), random.Random(0)
    tried, order = [(best, 4000.0, False), (other, 5000.0, False)], list[dict[str, Any]]()
    while (chosen := variation.next_choice(studied(*tried), goal, goal.families, dice)) is not None:
        order.append(chosen)
        tried.append((chosen, None, False))
    larger = list(neighbours(best, goal.families, 1)), list(neighbours(other, goal.families, 1))
    count, more = len(larger[0]), len(larger[0]) + len(larger[1])
    assert sorted(map(str, order[:count])) == sorted(map(str, larger[0])), "the best one's first"
    assert sorted(map(str, order[count:more])) == sorted(map(str, larger[1]))
    everything = [*neighbours(best, goal.families), *neighbours(other, goal.families)]
    assert sorted(map(str, order)) == sorted({str(each) for each in everything} - {str(best), str(other)})


def test_a_baseline_that_cannot_be_evaluated_teaches_nobody(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    good = bench.train(TrainingConfig("mlp", 1, data="digits", widths=((8,),)))
    name = bench.add_baseline(good, "good", "trained")
    huge = replace(good, tensors={key: torch.full_like(own, 1e30) for key, own in good.tensors.items()})
    bench.add_baseline(huge, "huge", "loaded")
    stale = replace(good, images=good.images._replace(fingerprint="of others"))
    bench.add_baseline(stale, "stale", "trained")
    assert best_teacher(bench, "digits") == name


@pytest.mark.parametrize(
    ("goal", "worse", "better"),
    [
        (Goal(floor=0.9, families=("mlp",)), (0.88, 0.9), (0.88, 0.8)),  # 7.4 times 0.9 and 0.8 bits, against 4
        (Goal(size=4000, families=("mlp",)), (0.84, 1.0), (0.86, 9.0)),  # 1.6 and 1.4 times as many errors
    ],
)
def test_a_student_is_given_up_where_the_best_was_far_better_by_then(
    goal: Goal, worse: tuple[float, float], better: tuple[float, float]
) -> None:
    """The best had 1,000 weights, and after half of its four epochs 90 % at 4 bits."""
    study, half = optuna.create_study(), {"epoch": 10, "epochs": 20}

    def figures(accuracy: float, bits: float) -> dict[str, Any]:
        return {"figures": {"validation_accuracy": accuracy, "bits_per_weight": bits}}

    for value, accuracy in ((3000.0, 0.9), (9000.0, 0.1)):
        history = [figures(own, 4.0)["figures"] for own in (0.1, accuracy, 0.2, 0.95)]
        point = Point("x", "0", CompressionConfig(), 0.95, 0.0, -0.01, 0.01, 0.1, 3000, 9000, "searched")
        about = {trials.HISTORY: json.dumps(history), trials.POINT: point.to_json(), variation.WEIGHTS: 1000}
        study.add_trial(optuna.trial.create_trial(value=value, user_attrs=about))
    judged = partial(variation.outdone, study, goal)
    assert not variation.outdone(optuna.create_study(), goal, 1000, {**half, **figures(*worse)}), "there is none"
    assert judged(1000, {**half, **figures(*worse)})
    assert not judged(1000, {**half, **figures(*better)})
    assert not judged(1000, {**half, "epoch": 9, **figures(*worse)}), "too early to tell"
    for late in (15, 20):
        assert not judged(1000, {**half, "epoch": late, **figures(*worse)}), "the price may be steered by now"
    assert judged(2000, {**half, **figures(0.9, 4.0)}) == (goal.floor is not None), "twice as many weights"


def test_what_no_student_meets_a_size_with_gives_nobody_up() -> None:
    study, goal = optuna.create_study(), Goal(size=2000, families=("mlp",))
    point = Point("x", "0", CompressionConfig(), 0.95, 0.0, -0.01, 0.01, 0.1, 3000, 9000, "searched")
    history = [{"validation_accuracy": 0.95, "bits_per_weight": 4.0}]
    about = {trials.HISTORY: json.dumps(history), trials.POINT: point.to_json(), variation.WEIGHTS: 1000}
    study.add_trial(optuna.trial.create_trial(value=1.5, user_attrs=about))
    event = {"epoch": 5, "epochs": 8, "figures": {"validation_accuracy": 0.5, "bits_per_weight": 4.0}}
    assert not variation.outdone(study, goal, 1000, event)
    assert variation.outdone(study, replace(goal, size=3000), 1000, event)
    earlier = optuna.create_study()
    earlier.add_trial(optuna.trial.create_trial(value=0.05, user_attrs={trials.POINT: point.to_json()}))
    assert not variation.outdone(earlier, replace(goal, size=3000), 1000, event)


def test_the_longest_training_is_the_last_and_the_best_students_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, given = [0.0], list[tuple[float, bool, dict[str, Any]]]()

    def trained(search: students.StudentSearch, seconds: float, again: bool, trial: optuna.Trial) -> float:
        search._drawn(trial)
        given.append((seconds / 60, again, trial.params))
        now[0] += seconds
        point = Point("x", "0", CompressionConfig(), 0.1, 0.0, -0.01, 0.01, 0.1, 3000, 9000, "searched")
        trial.set_user_attr(trials.POINT, point.to_json())
        return 5000.0 - 1000.0 * (trial.number == 1)

    monkeypatch.setattr(students.StudentSearch, "_trained", trained)
    monkeypatch.setattr(students, "adopt", lambda bench, study: None)
    goal = Goal(floor=0.5, families=("mlp", "compact"))
    answer = students.run(Workbench(tmp_path), "digits", goal, 60, workers=1, clock=lambda: now[0])
    assert answer.best is None, "none of them reaches the floor"
    *before, (minutes, again, params) = given
    assert [each for each, *_ in before] == pytest.approx(3 * [59.25 / 5])
    assert minutes == pytest.approx(2 * 59.25 / 5)
    assert (again, params) == (True, before[1][2])
    assert not any(again for _, again, _ in before)
    study = trials.open_study(
        students.default_storage(Workbench(tmp_path)), students.title_of(Workbench(tmp_path), "digits", goal)
    )
    for _ in range(2):  # other workers, whose last training it is, too
        other = variation.next_choice(study, goal, goal.families, random.Random(0), last=True)
        assert other is not None
        (changed,) = (name for name in other if other[name] != params[name])
        assert changed in ("price", "factor")
    given.clear()
    students.run(Workbench(tmp_path / "short"), "digits", goal, 24, workers=1, clock=lambda: now[0])
    assert [again for _, again, _ in given] == [False, False], "there is no time for more"


def test_who_is_outdone_is_given_up(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    monkeypatch.setattr(variation, "outdone", lambda *about: True)

    def enough() -> bool:
        return any(message.endswith("is given up: the best student was better by then.") for message in said)

    answer = students.run(
        Workbench(tmp_path), "digits", Goal(floor=0.5, families=("mlp",)), 5, workers=1, should_stop=enough,
        progress=lambda event: said.append(event["message"]),
    )  # fmt: skip
    assert enough()
    assert (answer.trials, answer.best) == (0, None)


def test_a_network_that_is_there_is_not_kept_a_second_time(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    assert bench.adopt_baseline(bench.baseline_file("compact"), dict(bench.baseline("compact").info), "x") == "compact"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_is_none_is_refused(seed: int) -> None:
    options = Namespace(
        seed=seed, families="all", floor=0.9, size=None, allowance=None, confidence=None, baseline=None, data=None,
        techniques=None,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"seed must be in \[0, 2147483647\]"):
        students.asked_for(options)


def test_families_are_all_or_a_list() -> None:
    assert students.chosen("all") == tuple(families.families())
    assert students.chosen("mlp, compact") == ("mlp", "compact")
    with pytest.raises(ConfigError, match="vgg"):
        students.chosen("mlp,vgg")
    with pytest.raises(ConfigError, match="floor"):
        Goal(allowance=0.01, families=("mlp",))


def test_the_most_accurate_of_a_size_fits_into_it(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "BYTES_EACH", 0.6)  # as long as there is no time for a rate to act
    bench, goal = Workbench(tmp_path), Goal(size=4000, families=("mlp", "compact"))
    answer = students.run(bench, "digits", goal, 0.4, seed=1)
    assert answer.best is not None
    assert answer.best.bytes == Path(answer.best.path).stat().st_size <= 4000
    fitting = [point for card in bench.cards() for point in bench.points(card.id) if point.bytes <= 4000]
    trained = [point for point in fitting if point.recovered]
    assert answer.best.accuracy == max(point.accuracy for point in trained)
    assert goal.in_words().startswith("the most accurate file of mlp, compact of at most")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few epochs, whatever time there is."""
    monkeypatch.setattr(students, "MOST_EPOCHS", 8)


@pytest.fixture
def found(tmp_path: Path, short: None) -> tuple[Workbench, Any, list[dict[str, Any]]]:
    bench, said = Workbench(tmp_path / "here"), list[dict[str, Any]]()
    return bench, students.run(bench, "digits", GOAL, 0.4, progress=said.append, seed=3, out=tmp_path / "out"), said


def test_what_is_found_is_a_file_of_the_bytes_that_are_said(
    found: tuple[Workbench, Any, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, answer, said = found
    best = answer.best
    assert answer.trials >= 1
    assert best is not None
    assert best.accuracy >= 0.5
    assert best.family in GOAL.families
    assert best.course_ratio is None, "it is of other images than the course's"
    content = Path(best.path).read_bytes()
    assert len(content) == best.bytes
    assert bench.file_of(best.baseline, best.configuration) == content
    assert best.baseline_bytes == bench.baseline(best.baseline).bytes
    assert [event["done"] for event in said] == sorted(event["done"] for event in said)
    read_here(monkeypatch)
    (packed, *_) = artifact.verify(tmp_path / "out", bench.datasets).files
    assert packed.accuracy == best.test_accuracy
    elsewhere = Workbench(tmp_path / "elsewhere")
    goal_only = students.run(elsewhere, "digits", GOAL, 0.01, students.default_storage(bench), out=tmp_path / "again")
    assert goal_only.best is not None
    assert goal_only.best.bytes <= best.bytes
    assert elsewhere.file_of(best.baseline, best.configuration) == content
    assert json.loads(json.dumps(answer.to_dict())) == answer.to_dict()


def test_a_student_learns_from_the_most_accurate_baseline_and_not_from_a_student(tmp_path: Path, short: None) -> None:
    bench = Workbench(tmp_path)
    assert best_teacher(bench, "digits") == ""
    recipes = [TrainingConfig("mlp", epochs, data="digits", widths=((32,),)) for epochs in (1, 12)]
    names = [bench.add_baseline(bench.train(recipe), "own", "trained") for recipe in recipes]
    assert best_teacher(bench, "digits") == names[1]
    student = bench.train(TrainingConfig("mlp", 30, data="digits", widths=((64,),), teacher=names[1]))
    bench.add_baseline(student, "student", "trained")
    assert student.teacher == bench.baseline(names[1]).sha256
    assert best_teacher(bench, "digits") == names[1]
    answer = students.run(bench, "digits", GOAL, 0.3)
    assert bench.profile(answer.best.baseline).teacher == student.teacher
    assert best_teacher(bench, "fashion-mnist") == "residual"


def test_a_trained_student_is_rounded_by_rate_as_far_as_the_floor_allows(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    name = bench.add_baseline(bench.train(TrainingConfig("mlp", 8, data="digits", widths=((24,),))), "s", "trained")
    config = CompressionConfig(bits=4, recovery=RecoveryConfig(1))
    bench.recover(name, config)
    trained = bench.point_of(bench.evaluate(name, config))
    assert students.rounded_further(bench, name, config, Goal(floor=0.9999, families=("mlp",))).config == config
    goal = Goal(floor=trained.accuracy - 0.02, families=("mlp",))
    found = students.rounded_further(bench, name, config, goal)
    tried = [bench.point_of(bench.evaluate(name, replace(config, rate_rounding=own))) for own in students.LAMBDAS]
    assert found.bytes == min(point.bytes for point in tried if goal.met_by(point)) < trained.bytes
    assert found.config.as_trained() == config


def test_a_baseline_that_is_there_already_is_not_trained_again(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And learns on its grids from the most accurate one."""
    bench, own = Workbench(tmp_path), families.named("compact").widths
    teacher, ready = (
        bench.add_baseline(bench.train(TrainingConfig(model, epochs, data="digits", widths=widths)), "own", "trained")
        for model, epochs, widths in (("mlp", 20, ((64,),)), ("compact", 3, own))
    )
    made: list[TrainingConfig] = []
    train = bench.trainings.train
    monkeypatch.setattr(bench.trainings, "train", lambda recipe, *rest: made.append(recipe) or train(recipe, *rest))
    answer = students.run(bench, "digits", Goal(floor=0.5, families=("compact",)), 0.4)
    assert answer.best is not None
    assert own not in [recipe.widths for recipe in made]
    learnt = {point.config.recovery.teacher for point in bench.points(ready) if point.config.recovery}
    assert learnt == {bench.teacher_sum(teacher)}


def test_a_network_learns_from_a_teacher_that_is_chosen_and_knows_its_images(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    recipes = [TrainingConfig("mlp", 3, data="digits", widths=((width,),)) for width in (8, 48)]
    name, teacher = (bench.add_baseline(bench.train(recipe), "own", "trained") for recipe in recipes)
    itself = CompressionConfig(bits=2, recovery=RecoveryConfig(2, distillation=True))
    taught = replace(itself, recovery=replace(itself.recovery, teacher=bench.teacher_sum(teacher)))
    for config in (itself, taught):
        bench.recover(name, config)
    said = [bench.history(name, config) for config in (itself, taught)]
    assert said[0][-1]["training_loss"] != said[1][-1]["training_loss"]
    for sum_of_it, cause in (("0" * 8, "0" * 8), (bench.teacher_sum("mlp"), "must be of digits")):
        other = replace(itself, recovery=replace(itself.recovery, teacher=sum_of_it))
        with pytest.raises(ConfigError, match=cause):
            bench.recover(name, other)
    alone = replace(taught, recovery=replace(taught.recovery, distillation=False))
    with pytest.raises(ConfigError, match="needs distillation"):
        bench.recover(name, alone)


def test_a_teacher_looks_at_all_images_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And another process trains exactly the same by what was kept of it."""
    folders = tmp_path / "here", tmp_path / "elsewhere"
    asked, histories = list[object](), list[Any]()
    teach = training.teach
    monkeypatch.setattr(training, "teach", lambda *about: asked.append(about) or teach(*about))
    recipe, config = TrainingConfig("mlp", 3, data="digits", widths=((16,),)), CompressionConfig(bits=3)
    for folder, epochs in ((folders[0], 1), (folders[0], 2), (folders[1], 2)):
        bench = Workbench(folder)
        name = bench.add_baseline(bench.train(recipe), "own", "trained")
        own = replace(config, recovery=RecoveryConfig(epochs, distillation=True))
        bench.recover(name, own)
        histories.append([epoch["training_loss"] for epoch in bench.history(name, own) or []])
    assert len(asked) == 2, "once in each folder"
    assert histories[1] == histories[2] != histories[0]


def test_a_network_whose_teacher_was_deleted_says_so(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    teacher = bench.add_baseline(bench.train(TrainingConfig("mlp", 2, data="digits", widths=((32,),))), "t", "trained")
    student = bench.train(TrainingConfig("mlp", 2, data="digits", widths=((16,),), teacher=teacher))
    name = bench.add_baseline(student, "s", "trained")
    taught, plain = (CompressionConfig(bits=4, recovery=RecoveryConfig(1, distillation=own)) for own in (True, False))
    bench.recover(name, taught)
    bench.delete_baseline(teacher)
    bench.recover(name, replace(taught, bits=3, recovery=plain.recovery))
    with pytest.raises(ConfigError, match="deleted"):
        bench.recover(name, replace(taught, bits=3))
