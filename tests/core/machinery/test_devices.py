"""A training ends alike on every device, with the network that the CPU makes, whatever a device lacks. Which one it is
can be chosen, and one that fails says so in words."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
import standin
import torch
from conftest import CNN_SHAPES, MLP_SHAPES, random_tensors, statistics_of, train_on_few
from torch import nn

from core import config, settings
from core.__main__ import main
from core.bench import work
from core.bench.workbench import ERRORS as ERRORS_IN_WORDS
from core.bench.workbench import Workbench
from core.config import CompressionConfig, ConfigError, RecoveryConfig, TrainingConfig
from core.datasets import Split, fashion_mnist
from core.machinery import devices, jobs
from core.machinery.devices import DeviceError
from core.machinery.stopping import Stopped
from core.mathematics import quantization
from core.measuring import training
from core.networks import compression, models
from core.networks.models import Baseline
from core.networks.stored import StoredNetwork
from core.studies import reproduce

FAMILIES = {"mlp": MLP_SHAPES, "cnn": CNN_SHAPES}
CHOICES: dict[str, tuple[Any, ...]] = {
    "family": tuple(FAMILIES),
    "channels": (None, *settings.named("channel_score").choices),
    "low rank": (None, *settings.named("low_rank_method").choices),
    "score": settings.named("score").choices,
    "scope": settings.named("scope").choices,
    "activation_bits": (None, 4),
    "granularity": settings.named("granularity").choices,
    "symmetry": settings.named("symmetry").choices,
    "clip": settings.named("clip").choices,
    "rounding": settings.named("rounding").choices,
    "bias_correction": (False, True),
    "schedule": settings.named("schedule").choices,
    "distillation": (False, True),
}
"""Of trainings of networks that are pruned and quantized, so that each choice counts."""


def in_pairs(choices: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows that hold every value of each setting beside every value of each other: from a few drawn at random always
    the one with the most pairs that no row had before."""
    draw, rows = random.Random(0), list[dict[str, Any]]()

    def pairs(row: dict[str, Any]) -> set[tuple[Any, ...]]:
        return set(combinations(row.items(), 2))

    missing = {((a, x), (b, y)) for a, b in combinations(choices, 2) for x in choices[a] for y in choices[b]}
    while missing:
        drawn = [{name: draw.choice(values) for name, values in choices.items()} for _ in range(100)]
        rows.append(max(drawn, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(rows[-1])
    return rows


def compressed(row: dict[str, Any]) -> tuple[str, CompressionConfig]:
    own, recovery = dict(row), replace(ONCE.recovery, schedule=row["schedule"], distillation=row["distillation"])
    channels, method = own.pop("channels"), own.pop("low rank")
    own |= {} if channels is None else {"channel_share": 0.7, "channel_score": channels}
    own |= {} if method is None else {"rank_share": 0.4, "low_rank_method": method}
    settings = {name: own[name] for name in own.keys() - {"family", "schedule", "distillation"}}
    return row["family"], CompressionConfig(sparsity=0.6, bits=3, **settings, recovery=recovery)


ONCE = CompressionConfig(recovery=RecoveryConfig(2, 0.02))
STEP_BY_STEP = replace(ONCE, recovery=RecoveryConfig(2, 0.02, schedule="iterative"))
KINDS = [
    *[("mlp", own) for own in (ONCE, STEP_BY_STEP, replace(STEP_BY_STEP, sparsity=0.9, score="lamp"))],
    *[("cnn", own) for own in (ONCE, replace(ONCE, rank_share=0.3), replace(ONCE, bits=2, rounding="gptq"))],
    *map(compressed, in_pairs(CHOICES)),
]


def few(name: str) -> Split:
    whole = fashion_mnist.evaluation_splits()["validation" if name == "validation" else "calibration"]
    return whole.part(slice(256), name)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Workbench]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(devices.DEVICES, standin.NAME, lambda: True)
        made = {name: Workbench(tmp_path_factory.mktemp(name), device=name) for name in ("cpu", standin.NAME)}
    yield made
    for bench in made.values():
        bench.turns.close()
        bench.store.close()


@pytest.fixture
def benches(both: dict[str, Workbench], monkeypatch: pytest.MonkeyPatch) -> dict[str, Workbench]:
    """A workbench that trains on the CPU and one that trains on the stand-in, in float32, and with few images."""
    monkeypatch.setattr(fashion_mnist, "load", lambda name, *rest: few(name))
    monkeypatch.setattr(training, "fast_bfloat16", lambda device: False)
    monkeypatch.setattr(quantization, "CLIP_SHARES", (1.0, 0.8, 0.6))
    return both


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("baselines")
    for family, shapes in FAMILIES.items():
        (folder / f"{family}.safetensors").write_bytes(models.to_bytes(Baseline(family, random_tensors(shapes))))
    return {family: str(folder / f"{family}.safetensors") for family in FAMILIES}


def contents(network: StoredNetwork) -> Any:
    masks = [None if own.mask is None else own.mask.tolist() for layer in network.layers for own in layer.tensors]
    return [layer.content for layer in network.layers], masks


def left(bench: Workbench, name: str, wanted: CompressionConfig) -> Any:
    """All that a training left: its figures and the network."""
    bench.recover(name, wanted)
    history = bench.history(name, wanted) or []
    figures = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in history]
    return figures, contents(bench.network(name, wanted))


@pytest.mark.parametrize(("family", "wanted"), KINDS, ids=range(len(KINDS)))
def test_every_kind_of_training_ends_on_a_device_as_on_the_cpu(
    benches: dict[str, Workbench], files: dict[str, str], family: str, wanted: CompressionConfig
) -> None:
    here, there = (left(bench, files[family], wanted) for bench in benches.values())
    assert there == here


# The stand-in itself: the laws below are worth what it refuses.


def test_the_stand_in_is_a_device_of_its_own() -> None:
    here = torch.arange(6.0).reshape(2, 3)
    there = here.to(standin.NAME)
    assert (there.device.type, there.cpu().device.type) == (standin.NAME, "cpu")
    assert torch.equal((there * 2 + torch.tensor(1.0))[torch.tensor([1])].cpu(), here[1:] * 2 + 1)
    assert torch.equal(torch.zeros_like(there).copy_(here).cpu(), here)
    with torch.inference_mode():
        assert (there.cpu().device.type, (there.T @ there).device.type) == ("cpu", standin.NAME)
    refused: list[Callable[[], object]] = [
        lambda: there + here, lambda: there @ here.T, lambda: there.masked_fill(here > 1, 0.0), lambda: there.double(),
        lambda: here.double().to(standin.NAME), lambda: torch.zeros(2, dtype=torch.float64, device=standin.NAME),
        lambda: there.numpy(), lambda: nn.Linear(3, 1)(there), lambda: nn.Linear(3, 1).to(standin.NAME)(here),
    ]  # fmt: skip
    for wrong in refused:
        with pytest.raises((RuntimeError, TypeError)):
            wrong()


# What a device must not change.


@pytest.mark.parametrize(("family", "wanted"), KINDS, ids=range(len(KINDS)))
def test_a_network_on_a_device_is_compressed_and_stored_as_on_the_cpu(
    benches: dict[str, Workbench], files: dict[str, str], family: str, wanted: CompressionConfig
) -> None:
    bench = benches["cpu"]
    baseline = bench.baseline(files[family])
    known = bench.statistics(baseline)
    there = compression.restructure(baseline, wanted, known).to(standin.DEVICE)
    compression.act(there, wanted, known, ("gradual", "grids"))
    assert contents(there.freeze()) == contents(compression.compress(baseline, wanted, known).freeze())


@pytest.mark.parametrize("recipe", [TrainingConfig("mlp", 1, dropout=0.1), TrainingConfig("cnn", 1, flips=True)])
def test_a_baseline_is_trained_on_a_device_as_on_the_cpu(recipe: TrainingConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fast_bfloat16", lambda device: False)
        here, there = (
            training.train_baseline(
                recipe, fashion_mnist.images(), few("train"), few("validation"), device=torch.device(name)
            )
            for name in ("cpu", standin.NAME)
        )
    assert (here.info["device"], there.info["device"]) == ("cpu", standin.NAME)
    assert there.sha256 == here.sha256


def test_a_training_on_the_cpu_asks_nothing_of_a_device_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(standin.Module, "get_rng_state", broken)
    one = replace(few("train"), images=few("train").images[:128], labels=few("train").labels[:128])
    training.train_baseline(TrainingConfig("mlp", 1), fashion_mnist.images(), one, one, device=torch.device("cpu"))
    with pytest.raises(DeviceError, match="cannot do this training"):
        training.train_baseline(TrainingConfig("mlp", 1), fashion_mnist.images(), one, one, device=standin.DEVICE)


def test_a_teacher_stays_where_it_is_and_a_pupil_comes_back(files: dict[str, str]) -> None:
    baseline = models.from_bytes(Path(files["mlp"]).read_bytes(), "mlp")
    known = statistics_of(baseline, few("train").inputs)
    teacher, pupil = (compression.compress(baseline, CompressionConfig(), known) for _ in range(2))
    before = {name: own.data_ptr() for name, own in teacher.named_parameters()}
    lessons = training.teach(teacher, False, few("train"), few("validation"), standin.DEVICE)
    assert {name: own.data_ptr() for name, own in teacher.named_parameters()} == before
    assert {own.device.type for own in lessons} == {"cpu"}
    recipe = RecoveryConfig(1, distillation=True)
    trained = training.recover(
        pupil, recipe, "mlp", "fashion-mnist", few("train"), few("validation"), lessons, device=standin.DEVICE
    )
    left_there = [*trained.module.parameters(), *trained.module.buffers()]
    assert {own.device.type for own in left_there} == {"cpu"}


def test_a_forward_pass_is_timed_on_the_device_too(
    benches: dict[str, Workbench], files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "ROUNDS", 1)
    (row,) = reproduce.latencies(benches[standin.NAME], files["mlp"], [CompressionConfig(sparsity=0.5, bits=3)])
    assert set(row.batches) == {"1", "250", f"{standin.NAME} 1", f"{standin.NAME} 250"}


# Which device.


def test_the_best_device_trains_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(devices.DEVICES) == set(get_args(config.Device))
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr(devices, "DEVICES", {"cuda": lambda: False, "mps": lambda: True, "cpu": lambda: True})
    assert devices.chosen().type == "mps"
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.chosen().type == "cpu"
    assert devices.chosen("mps").type == "mps"
    with pytest.raises(DeviceError, match=r"no device cuda .* here: mps, cpu"):
        devices.chosen("cuda")
    with pytest.raises(ConfigError, match=r"device must be one of cpu, cuda, mps\. Got 'tpu' instead"):
        devices.chosen("tpu")
    monkeypatch.setenv(devices.VARIABLE, "cuda:0")
    with pytest.raises(ConfigError, match=r"EXPLORER_DEVICE must be one of cpu, cuda, mps\. Got 'cuda:0' instead"):
        devices.chosen()


TRAINING = {
    "train": ["--baseline", "mlp", "--epochs", "1"],
    "evaluate": ["--recover", "1"],
    "export": ["--recover", "1", "--out", "nowhere"],
    "reproduce": ["low-rank"],
    "search": ["--minutes", "1"],
}


@pytest.mark.parametrize("command", TRAINING)
def test_every_command_that_trains_takes_a_device_and_refuses_one_that_is_not_here(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    monkeypatch.setitem(devices.DEVICES, "mps", lambda: False)
    assert main([command, *TRAINING[command], "--device", "mps"]) == 1
    assert "error: This machine has no device mps" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([command, *TRAINING[command], "--device", "tpu"])
    assert "'tpu' (choose from" in capsys.readouterr().err


def test_the_command_line_trains_on_the_device_that_is_named(
    few_training_images: None, taught: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used, fit = list[str](), training._fit

    def watch(module: nn.Module, recipe: TrainingConfig, seen: Split, *rest: Any) -> training.Trained:
        used.append(seen.images.device.type)
        return fit(module, recipe, seen, *rest)

    monkeypatch.setattr(training, "_fit", watch)
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    monkeypatch.setenv(devices.VARIABLE, "mps")  # what the command says counts more
    assert main(["evaluate", "--baseline", str(taught), "--recover", "1", "--device", "cpu", "--json"]) == 0
    assert used == ["cpu"]


# Devices that fail.

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
    NotImplementedError("The operator 'aten::so' is not currently implemented for the MPS device. If you want"),
    TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."),
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:12])
def test_what_fails_on_a_device_is_said_with_the_way_out(error: Exception) -> None:
    with pytest.raises(DeviceError) as said, devices.in_words(torch.device("cuda")):
        raise error
    assert isinstance(said.value, ERRORS_IN_WORDS)
    words = str(said.value)
    assert ("too little free memory" in words) == ("out of memory" in str(error))
    assert re.search(r"\(\w[^\n]{10,90}\)\. Train on the CPU instead: with --device cpu .* EXPLORER_DEVICE=cpu", words)
    with pytest.raises(type(error)) as plain, devices.in_words(torch.device("cpu")):
        raise error
    assert plain.value is error


@pytest.mark.parametrize(
    "error", [training.Diverged("far"), Stopped("stop"), ValueError("lessons"), OSError(), DeviceError("mps", "said")]
)
def test_what_is_not_the_devices_fault_or_was_said_already_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as plain, devices.in_words(torch.device("cuda")):
        raise error
    assert plain.value is error


def test_a_training_that_its_device_failed_leaves_nothing_and_the_cpu_can_do_it(
    benches: dict[str, Workbench], files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, wanted = benches[standin.NAME], replace(ONCE, sparsity=0.5)
    request = {"kind": "recover", "baseline": files["mlp"], "config": json.loads(wanted.to_json())}
    events: list[dict[str, Any]] = []

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(standin.There, "backward", full)
    with pytest.raises(DeviceError, match="too little free memory"):
        devices.watched(partial(work.KINDS["recover"].run, bench))(request, events.append, lambda: False)
    assert devices.failed(events) == standin.NAME
    assert bench.history(files["mlp"], wanted) is None
    monkeypatch.setattr(bench.trainings, "device", torch.device("cpu"))
    events.clear()
    devices.watched(partial(work.KINDS["recover"].run, bench))(request, events.append, lambda: False)
    assert devices.failed(events) is None
    assert bench.history(files["mlp"], wanted) is not None


def test_the_process_of_a_job_says_which_device_failed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, events = {"kind": "train", "config": TrainingConfig("mlp", 1).to_dict()}, list[dict[str, Any]]()
    folder = tmp_path / "jobs" / "one"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(request))
    train_on_few(monkeypatch)
    monkeypatch.setitem(devices.DEVICES, "mps", lambda: False)
    monkeypatch.setenv(devices.VARIABLE, "mps")
    monkeypatch.setattr(jobs, "run", lambda folder, work: work()(request, events.append, lambda: False))
    assert main(["job", str(folder)]) == 1
    assert devices.failed(events) == "mps"


def test_a_job_that_its_device_failed_starts_again_on_the_cpu_as_the_same_job(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            begun.append(env)

        def poll(self) -> int:
            return 1

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    monkeypatch.setenv(devices.VARIABLE, "cuda")
    job = bench.submit_training(TrainingConfig("mlp", 1))
    folder = bench.jobs.root / job
    (folder / "error.json").write_text(json.dumps({"state": "failed", "message": "The disk is full."}))
    assert bench.another_device(bench.jobs.status(job)) is None
    (folder / "progress.jsonl").write_text(json.dumps({"time": 1.0, devices.FAILED: "cuda"}) + "\n")
    failed = bench.jobs.status(job)
    assert bench.another_device(failed) == "cpu"
    assert bench.start_again(failed, "cpu") == job
    assert [env[devices.VARIABLE] for env in begun] == ["cuda", "cpu"]
    assert bench.another_device(bench.jobs.status(job)) is None
