"""A result under a key is never another's: whatever a result relies on changes its key."""

import ast
import dataclasses
import inspect
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from conftest import train_on_few

from core import config, settings
from core.bench import keys, reliance
from core.bench.workbench import Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig, TrainingConfig
from core.datasets import fashion_mnist
from core.formats import packed
from core.mathematics import clustering, coding, costs, low_rank, pruning, quantization, rate, rate_rounding
from core.measuring import steering, training
from core.measuring.front import Goal
from core.networks import calibration, compression, families, inference, normalization, renormalized, stored
from core.networks import narrowing as channels
from core.networks.models import Baseline
from core.portable import loader
from core.studies import assignment, search, shipping

METHODS = [
    costs, low_rank, pruning, quantization, channels, calibration, compression, inference, stored, coding, packed,
    loader, training, clustering, rate, rate_rounding, steering, normalization, renormalized,
]  # fmt: skip
HARMLESS = {
    "core.mathematics.quantization.BLOCK": "the same sums, some columns at a time",
    "core.networks.calibration.REMEMBERED_BYTES": "what is kept in memory",
    **dict.fromkeys(
        [
            f"core.mathematics.costs.{name}"
            for name in (
                "MEMORY",
                "MOMENTS",
                "LAYERS",
                "CORES",
                "SPEED",
                "DECOMPOSED",
                "EVALUATION_SECONDS",
                "DECOMPOSITION_SECONDS",
                "IMAGES",
                "MOMENT_IMAGES",
                "MOMENTS_SECONDS",
                "BATCH",
                "TRAINED",
                "TRAINED_SIGNALS",
                "EVALUATED",
                "REWORKED",
            )
        ],
        "what is refused",
    ),
    **dict.fromkeys(
        [f"core.mathematics.costs.{name}" for name in ("CHUNK", "PATCH_IMAGES", "ROW_IMAGES", "PART", "SIGNALS")],
        "the same sums and answers, some images at a time",
    ),
    "core.networks.inference.FAINT": "what is no signal by any count",
    "core.networks.inference.SIGNAL_IMAGES": "the same answers, some images at a time",
    "core.networks.inference.OPSET": "the same operations by another name",
    "core.networks.inference.IR_VERSION": "the same file in another version",
    "core.networks.inference.ERRORS": "what is said of layers that do not fit",
    "core.networks.inference.SEEN": "names of outputs, within a process",
    "core.networks.stored.BETWEEN": "names of signals, within a process",
    "core.networks.stored.CENTROIDS": "the name of a table, which the files say",
    "core.networks.calibration.GROUPED": "what is said of a layer that is not factored",
    "core.formats.packed.KINDS": "words of the ledger",
    "core.portable.loader.FREE": "what is refused",
    "core.portable.loader.ENCODINGS": "the encodings of stored tensors, once more",
    "core.portable.loader.OPERATIONS": "the operations of the network's own table, once more",
    "core.portable.loader.EACH": "what is refused",
    "core.networks.normalization.LANES": "the same sums, another way",
    "core.measuring.training.REPORT_SECONDS": "how often something is said",
    "core.measuring.training.SCALED": "what has a step, within a process",
    "core.measuring.training.SCALE": "the name of a parameter, within a process",
}
IMAGES = fashion_mnist.images()
RECIPE = TrainingConfig("cnn", 3)


def constants(module: ModuleType) -> list[str]:
    """Names of the values that a module gives itself."""
    statements = [own for own in ast.parse(inspect.getsource(module)).body if isinstance(own, ast.Assign)]
    targets = [own for each in statements for target in each.targets for own in ast.walk(target)]
    names = [own.id for own in targets if isinstance(own, ast.Name)]
    return [name for name in dict.fromkeys(names) if name.isupper() and name in vars(module)]


def other(value: Any) -> Any:
    if isinstance(value, tuple):
        return value[:-1]
    if isinstance(value, dict):
        return value | {"another": None}
    return value + (b"!" if isinstance(value, bytes) else "!" if isinstance(value, str) else 1)


PLACES = [(module, name) for module in METHODS for name in constants(module)]


def test_there_are_constants() -> None:
    known = {f"{module.__name__}.{name}" for module, name in PLACES}
    assert len(known) > 25
    assert set(HARMLESS) <= known


@pytest.mark.parametrize(("module", "name"), PLACES, ids=lambda own: getattr(own, "__name__", own))
def test_a_constant_that_is_changed_changes_the_keys(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    if f"{module.__name__}.{name}" in HARMLESS:
        return
    before = relied_on()
    monkeypatch.setattr(module, name, other(vars(module)[name]))
    assert relied_on() != before, "name it in core.bench.reliance, or why it is harmless"


def relied_on() -> list[dict[str, Any]]:
    rated = RecoveryConfig(rate_weight=0.1, floor=0.9, normalization=True)
    after = CompressionConfig(bits=4, rate_rounding=0.1)
    return [
        reliance.networks(IMAGES), reliance.files(), reliance.trainings(RECIPE, IMAGES), reliance.recoveries(rated),
        reliance.codes(after), reliance.codes(CompressionConfig(codebook=16)),
    ]  # fmt: skip


def test_what_was_trained_outlives_another_coder(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training does not rely on how its network is written afterwards; a measurement, which says bytes, does."""
    profile = bench.profile("cnn")
    config = CompressionConfig(bits=4, recovery=RecoveryConfig(epochs=1))
    before = keys.recovery(profile, config), keys.measurement(profile, config, "test", None)
    monkeypatch.setattr(loader, "DICTIONARY", b"another")
    after = keys.recovery(profile, config), keys.measurement(profile, config, "test", None)
    assert after[0] == before[0]
    assert after[1] != before[1]


def changed(record: Any) -> list[Any]:
    """The record with each of its fields changed, one at a time."""
    found = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        tried = [True, False, 2, 3, 0.25, 0.5, *CHOICES.get(field.name, ())]
        for own in tried:
            try:
                made = replace(record, **{field.name: own})
            except (TypeError, ValueError):
                continue
            if getattr(made, field.name) != value:
                found.append(made)
                break
        else:
            raise AssertionError(f"no other value of {field.name} is known here")
    return found


CHOICES: dict[str, tuple[Any, ...]] = {
    "layers": ({"fc1": LayerConfig(bits=5)},),
    "recovery": (RecoveryConfig(epochs=2),),
    **{
        setting.name: setting.choices
        for setting in (*settings.of_network(), *settings.of_training())
        if setting.choices
    },
    "model": tuple(families.families()),
    "optimizer": get_args(config.Optimizer),
    "widths": (((8, 8),),),
    "teacher": ("0123abcd",),
    "codebook": (16,),
}  # fmt: skip


def test_every_field_of_a_configuration_is_in_the_key_of_what_is_measured(bench: Workbench, mlp: Baseline) -> None:
    whole = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(epochs=4, schedule="iterative"))
    configs = [whole, *changed(replace(whole, recovery=None)), replace(whole, recovery=None)]
    configs += [replace(whole, recovery=own) for own in changed(RecoveryConfig(epochs=4))]
    configs += [replace(whole, layers={"fc1": own}) for own in changed(LayerConfig())]
    configs += [replace(whole, layers={"fc2": own}) for own in changed(LayerConfig())]
    configs = list(dict.fromkeys(configs))
    assert len(configs) > 25
    assert len({bench.measurements.key(mlp, own, "validation") for own in configs}) == len(configs)
    trained = list(dict.fromkeys(own.as_trained() for own in configs))
    assert len({keys.recovery(mlp, own) for own in configs}) == len(trained)
    assert len({bench.measurements.key(mlp, whole, split) for split in ("validation", "test")}) == 2  # type: ignore[arg-type]


def test_what_a_network_learns_from_is_in_the_key_of_what_is_trained(mlp: Baseline) -> None:
    """Where it learns from anything but the labels: from its own teacher, or from the baseline."""
    student = replace(mlp, info={**mlp.info, "teacher_sha256": "abc"})
    plain, taught = (
        CompressionConfig(recovery=RecoveryConfig(epochs=4, distillation=taught)) for taught in (False, True)
    )
    assert keys.recovery(student, plain) == keys.recovery(mlp, plain)
    assert keys.recovery(student, taught) != keys.recovery(mlp, taught)


def test_every_field_of_a_recipe_is_in_the_key_of_what_is_trained(
    bench: Workbench, mlp: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what a person does not choose."""
    asked = CompressionConfig(recovery=RecoveryConfig(epochs=4))
    own = training.recipe(RecoveryConfig(epochs=4), "mlp", "fashion-mnist")
    known = {keys.recovery(mlp, asked)}
    recipes = changed(own)
    for recipe in recipes:
        monkeypatch.setattr(training, "recipe", lambda *rest, recipe=recipe: recipe)
        known.add(keys.recovery(mlp, asked))
    assert len(known) == len(recipes) + 1 == len(dataclasses.fields(TrainingConfig)) + 1


def test_a_network_that_is_trained_again_is_measured_again(
    bench: Workbench, mlp: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tensors in the place of those that were measured, left by whatever process."""
    name = bench.add_baseline(mlp, "small", "loaded")
    asked = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(epochs=1, learning_rate=0.01))
    train_on_few(monkeypatch)
    bench.recover(name, asked)
    before = bench.evaluate(name, asked)
    bench.export(name, asked, bench.export_folder(name, asked), ("packed",))
    assert bench.exported(name, asked) is not None
    elsewhere = Workbench(tmp_path / "elsewhere")
    elsewhere.add_baseline(mlp, "small", "loaded")
    train_on_few(monkeypatch, 512)
    elsewhere.recover(name, asked)
    found = elsewhere.store.get(keys.recovery(mlp, asked))
    assert found is not None
    bench.store.put(keys.recovery(mlp, asked), "recovered", found.payload, found.weights, kept=True)
    for later in (bench, Workbench(bench.cache)):
        after = later.evaluate(name, asked)
        assert after.evaluation.loss == elsewhere.evaluate(name, asked).evaluation.loss != before.evaluation.loss
        assert later.exported(name, asked) is None, "an export of other weights"
    assert [point.loss for point in bench.points() if point.config == asked] == [after.evaluation.loss]
    elsewhere.turns.close()


def test_another_version_of_a_technique_is_another_result_for_whatever_uses_it(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned, rounded = CompressionConfig(sparsity=0.5), CompressionConfig(bits=4)
    recovered = replace(pruned, recovery=RecoveryConfig())
    request = {"kind": assignment.LADDER, "baseline": "mlp"}
    goals = Goal(allowance=0.01, techniques=("pruning", "bits")), Goal(allowance=0.01, techniques=("bits",))

    def all_keys() -> dict[str, str]:
        baseline = bench.baseline("mlp")
        first, second = (search.title_of(bench, "mlp", goal) for goal in goals)
        return {
            "pruned": keys.measurement(baseline, pruned, "validation", None),
            "recovered": keys.recovery(baseline, recovered),
            "shipped": shipping.key(bench, request),
            "search with pruning": first,
            "rounded": keys.measurement(baseline, rounded, "validation", None),
            "search without": second,
        }

    before = all_keys()
    (technique,) = (each for each in settings.techniques() if each.name == "pruning")
    monkeypatch.setattr(technique, "version", "2")
    changed = {name for name, key in all_keys().items() if key != before[name]}
    assert changed == {"pruned", "recovered", "shipped", "search with pruning"}
