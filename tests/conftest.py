"""What the tests share: small random networks of both families, a temporary workbench, and no use of the real cache."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

# Before anything of core is imported: no test reads or writes the cache of the person who runs it.
os.environ["COMPRESSION_CACHE"] = tempfile.mkdtemp(prefix="compression-tests-")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # threads that wait for one another make small networks slower, not faster
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a hundred processes are started: what one has compiled serves all

import numpy as np
import pytest
import standin  # noqa: F401 - before the first gradient, when PyTorch counts its devices
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from core.bench.workbench import SHIPPED, Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig
from core.datasets import Split, fashion_mnist
from core.formats import artifact, readers
from core.machinery.records import Record
from core.mathematics.quantization import fake_quantize
from core.networks import calibration, chains, families, models
from core.networks.calibration import Statistics
from core.networks.graph import IMAGE, Layer
from core.networks.inference import Runner
from core.networks.models import Baseline
from core.networks.normalized import NormalizedNetwork
from core.networks.stored import StoredLayer, StoredNetwork
from core.studies import assignment, reproduce
from core.studies.answers import LowRankReport
from core.techniques.codebook import codebook_of

PROJECT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = False

# No deadline and no complaint about a slow machine; the same examples at every run where a failure blocks others.
settings.register_profile(
    "laws",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("laws")


TOGETHER = {
    "address": "browser",
    "searched": "search",
    "each_url": "databases",
    "laboratory": "laboratory",
    "course_report": "reproduction",
    "found": "tuning",
    "full": "report",
    "trained": "training",
}
"""Fixture -> name of the tests that one worker runs, one after the other: what they share is made once, and one server
and one browser at a time have the machine. What takes longest begins first; a test that also needs what a later group
makes is the last of its own, so that nobody waits for it."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: whoever waits for a browser, or for a clock, leaves one free."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Before xdist looks for its marks."""
    order = list(TOGETHER)

    def place(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(order) if name in getattr(item, "fixturenames", ())), len(order))

    for item in items:
        if place(item) < len(order):
            item.add_marker(pytest.mark.xdist_group(TOGETHER[order[place(item)]]))
    items.sort(key=lambda item: (place(item), any(name in item.fixturenames for name in order[place(item) + 1 :])))
    yield


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["COMPRESSION_CACHE"], ignore_errors=True)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker who asks makes, and all others find."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    root = factory.getbasetemp() if alone else factory.getbasetemp().parent
    with FileLock(root / f"{name}.lock"):
        if not (root / name).exists():
            part = root / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(root / name)
    return root / name


def copied(cache: Path, folder: Path) -> Path:
    """A cache of its own with what is in another. Large files are shared: nobody writes into one that has a name."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(cache, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("weights"))
    (folder / "weights").mkdir(exist_ok=True)
    for path in (cache / "weights").iterdir():
        os.link(path, folder / "weights" / path.name)
    return folder


def _warm(folder: Path) -> None:
    bench = Workbench(folder)
    for name in SHIPPED:
        for split in ("validation", "test"):
            bench.evaluate(name, CompressionConfig(), split)  # type: ignore[arg-type]
        known = bench.statistics(bench.baseline(name))
        known.decompositions("svd")
        if name in ("mlp", "cnn"):  # of the others nobody asks more
            known.compensations()
            known.decompositions("whitened")
    bench.turns.close()
    bench.store.close()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that knows the shipped baselines: evaluated, decomposed, with their statistics. Copy it."""
    return made_once(tmp_path_factory, "warm", _warm)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights as after He initialisation, with biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:]))
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return tensors


MLP_SHAPES = {"fc1": (24, 784), "fc2": (20, 24), "fc3": (16, 20), "fc4": (10, 16)}
CNN_SHAPES = {"conv1": (4, 1, 3, 3), "conv2": (6, 4, 3, 3), "fc1": (12, 294), "fc2": (10, 12)}


def untrained(model: str, dropout: float = 0.0) -> NormalizedNetwork:
    """A network of a family as its training begins."""
    return NormalizedNetwork(families.named(model).build(chains.SHAPE, chains.CLASSES), dropout)


@pytest.fixture(scope="session")
def mlp() -> Baseline:
    return Baseline("small-mlp", random_tensors(MLP_SHAPES, 1))


@pytest.fixture(scope="session")
def cnn() -> Baseline:
    return Baseline("small-cnn", random_tensors(CNN_SHAPES, 2))


@pytest.fixture(params=["mlp", "cnn"])
def baseline(request: pytest.FixtureRequest) -> Baseline:
    """Each law that asks for it holds for both families."""
    return request.getfixturevalue(request.param)


@lru_cache(maxsize=32)
def statistics_of(baseline: Baseline, images: Tensor) -> Statistics:
    """Of the very baseline and the very images; made once."""
    known = cache(lambda: calibration.moments(baseline, images))
    parts = cache(lambda method: calibration.decompose(baseline, method, known))
    return Statistics(parts, known, cache(lambda: calibration.compensations(known())), images)


See = Callable[[str, Tensor, float | None], None]


@torch.no_grad()
def plain_forward(network: StoredNetwork, x: Tensor, see: See = lambda name, signal, scale: None) -> Tensor:
    """The oracle of inference: what the network is on paper, one torch operation after the other, in the type of x.

    see : called with each signal that may be rounded, a node or "LAYER.between", before it is, and its scale
    """
    bits, values = network.config.activation_bits, {IMAGE: x}

    def meet(name: str, signal: Tensor, scale: float | None, signed: bool) -> Tensor:
        see(name, signal, scale)
        return signal if scale is None or bits is None else fake_quantize(signal, scale, bits, signed)

    for node in network.network.nodes:
        inputs = [values[name] for name in node.inputs]
        if node.weighted:
            values[node.name] = _plain_layer(network.named[node.name], inputs[0], meet)
        else:
            names = [f"{node.name}.{part}" for part in ("scale", "shift") if node.operation == "affine"]
            values[node.name] = node.row.torch(node, *inputs, *(network.affine[name].to(x) for name in names))
        signal = network.network.signal_at.get(node.name)
        if signal is not None:
            scale = network.scales.get(signal.name)
            values[node.name] = meet(node.name, values[node.name], scale, signal.signed)
    return values[network.network.output]


def _plain_layer(stored: StoredLayer, x: Tensor, meet: Callable[[str, Tensor, float | None, bool], Tensor]) -> Tensor:
    layer = stored.layer
    for tensor in stored.tensors:
        last, window = tensor is stored.tensors[-1], layer.window if tensor is stored.tensors[0] else None
        weight, bias = tensor.weight().to(x), stored.bias.to(x) if last else None
        if window is not None:
            above, left, below, right = window.padding
            x = F.pad(x, (left, right, above, below))
            x = F.conv2d(x, weight, bias, window.stride, 0, window.dilation, window.groups)
        else:
            x = F.linear(x, weight, bias) if layer.kind == "linear" else F.conv2d(x, weight, bias)
        if not last:
            x = meet(f"{layer.name}.between", x, stored.between_scale, True)
    return x


def rounding_margin(network: StoredNetwork, x: Tensor) -> Tensor:
    """In float64, how near the nearest rounded signal of each image is to a boundary k + 1/2 of its grid; (n,)."""
    margin = torch.full((len(x),), 0.5, dtype=torch.float64)

    def see(name: str, signal: Tensor, scale: float | None) -> None:
        if scale is not None:
            codes = (signal / scale).flatten(1)
            torch.minimum(margin, (codes - codes.floor() - 0.5).abs().amin(1), out=margin)

    plain_forward(network, x.double(), see)
    return margin


def logits(network: StoredNetwork, x: Tensor) -> Tensor:
    """What evaluation would see of the images."""
    return torch.from_numpy(Runner(network, network.config.activation_bits)(x.numpy()))


@pytest.fixture(scope="session")
def images() -> Tensor:
    """A few calibration images, normalized."""
    return fashion_mnist.load("calibration").inputs[:64]


@pytest.fixture
def statistics(baseline: Baseline, images: Tensor) -> Statistics:
    """Which remember nothing yet."""
    return statistics_of.__wrapped__(baseline, images)


@pytest.fixture(scope="session")
def split() -> Split:
    """Six hundred validation images: enough for every class, and quick."""
    whole = fashion_mnist.load("validation")
    return whole.part(slice(600), "validation")


def train_on_few(patch: pytest.MonkeyPatch, count: int = 2048) -> None:
    """Training sees some of the calibration images instead of 55,000."""
    whole, load = fashion_mnist.load("calibration"), fashion_mnist.load
    few = whole.part(slice(count), "train")
    patch.setattr(fashion_mnist, "load", lambda name, *rest: few if name == "train" else load(name, *rest))


@pytest.fixture
def few_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch)


TRAINED_SHAPES = {"fc1": (96, 784), "fc2": (64, 96), "fc3": (32, 64), "fc4": (10, 32)}


def _taught(folder: Path) -> None:
    bench, path = Workbench(folder / "cache"), folder / "small.safetensors"
    path.write_bytes(models.to_bytes(Baseline("raw", random_tensors(TRAINED_SHAPES))))
    taught = CompressionConfig(recovery=RecoveryConfig(epochs=20, learning_rate=0.05))
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch)
        bench.recover(str(path), taught)
    layers = bench.network(str(path), taught).layers
    tensors = {f"{own.layer.name}.weight": own.tensors[0].weight() for own in layers}
    tensors |= {f"{own.layer.name}.bias": own.bias for own in layers}
    path.write_bytes(models.to_bytes(Baseline("small", tensors)))
    assert bench.evaluate(str(path), CompressionConfig()).evaluation.accuracy > 0.75
    bench.turns.close()


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small network that has learnt something: a trial takes a tenth of a second."""
    return made_once(tmp_path_factory, "taught", _taught) / "small.safetensors"


class CourseReport(NamedTuple):
    """found : of `reproduce.low_rank` with two seeds and few training images; said : meanwhile."""

    found: LowRankReport
    said: list[dict[str, Any]]


@pytest.fixture(scope="session")
def course_report(warm: Path, tmp_path_factory: pytest.TempPathFactory) -> CourseReport:
    bench, said = Workbench(copied(warm, tmp_path_factory.mktemp("report"))), list[dict[str, Any]]()
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch, 512)
        found = reproduce.low_rank(bench, seeds=2, epochs=1, progress=said.append)
    bench.turns.close()
    return CourseReport(found, said)


class Laboratory(NamedTuple):
    """A cache, the baseline in it, and by kind the answers of the quantization experiments on that, all of them with
    few training images."""

    cache: Path
    baseline: str
    found: dict[str, Any]


def _experiments(folder: Path, network: bytes) -> None:
    bench, kinds, found = Workbench(folder / "cache"), assignment.KINDS, {}
    name = bench.load_file(network, "small")
    about = {"rung": "+ clipping", "activations": 8, "epochs": 2, "allowance": 0.05, "layer": "fc2"}
    order = {"sparsity": 0.8, "bits": 3, "share": 0.25}
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch)
        patch.setattr(assignment, "ways", short_ways)
        for kind in kinds.keys() - {assignment.CHANNELS}:
            request = {"baseline": name, **about, **order}
            found[kind] = kinds[kind].run(bench, request, lambda event: None, lambda: False).to_dict()
    bench.turns.close()
    bench.store.close()
    (folder / "found.json").write_text(json.dumps({"baseline": name, "found": found}, allow_nan=False))


@pytest.fixture(scope="session")
def laboratory(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    made = made_once(tmp_path_factory, "experiments", lambda folder: _experiments(folder, taught.read_bytes()))
    cache_folder = copied(made / "cache", tmp_path_factory.mktemp("laboratory"))
    left = json.loads((made / "found.json").read_text())
    found = {kind: assignment.KINDS[kind].answer.from_dict(answer) for kind, answer in left["found"].items()}
    return Laboratory(cache_folder, left["baseline"], found)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def leave_result(cache: Path, request: dict[str, Any], result: Record | dict[str, Any]) -> Path:
    """As a job's process leaves it; the job's folder."""
    number = len(list((cache / "jobs").glob("*/request.json")))
    folder = cache / "jobs" / f"{''.join(filter(str.isalnum, request['kind']))}{number}"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({**request, "submitted": 1.0}))
    left = result.to_dict() if isinstance(result, Record) else result
    (folder / "result.json").write_text(json.dumps(left, allow_nan=False))
    return folder


def short_ways(epochs: int) -> dict[str, list[CompressionConfig]]:
    """Lists that small data can go through: one way that fits, one that does not, one that is cut in the middle."""
    pruned = [CompressionConfig(sparsity=share, recovery=RecoveryConfig(epochs, 0.01)) for share in (0.3, 0.6, 0.999)]
    return {"weights": pruned, "bits": [CompressionConfig(bits=4)], "channels": [CompressionConfig(channel_share=0.01)]}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    """A workbench on an empty cache."""
    made = Workbench(tmp_path / "cache")
    yield made
    made.turns.close()
    made.store.close()


@pytest.fixture
def warm_bench(warm: Path, tmp_path: Path) -> Iterator[Workbench]:
    """A workbench on a cache of its own that knows the shipped baselines."""
    made = Workbench(copied(warm, tmp_path / "warm"))
    yield made
    made.turns.close()
    made.store.close()


def read_here(patch: pytest.MonkeyPatch) -> None:
    """The files of an export are read in this process."""
    patch.setattr(artifact, "_in_fresh_process", lambda *about: readers.run(*about[:-1]))


@pytest.fixture
def fresh_processes() -> None:
    """For laws of the processes themselves, in which the files of an export are read."""


@pytest.fixture(autouse=True)
def _reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "fresh_processes" not in request.fixturenames:
        read_here(monkeypatch)


HARD_WORDS = [
    "`a`", "*a*", "_a_", "__a__", "# a", "a | b", "~~a~~", "$a$", "&amp;", "<b>a</b>", "[a](b)", "![a](b)", "[^1]",
    "- - -", "---", "===", "1. a", "+ a", "a \\", "``` a", "> a", ":red[a]", ":a:", ":material/add:", "www.a.io",
    "b@a.io", "https://a.io", "->", "a -- b", "a <= b", "a\x1b[2Jb", "a\u202eb", "a\udcffb", "`", "a`", "``a```",
    "````",
]  # fmt: skip
"""Words from outside: one for each sign that means something to Markdown, a page, a terminal or a file."""


SHARES = st.one_of(st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.floats(0, 1))


def configurations(baseline: Baseline) -> st.SearchStrategy[CompressionConfig]:
    """Every kind of configuration that fits the baseline."""

    def own(layer: Layer) -> st.SearchStrategy[LayerConfig]:
        last = layer is baseline.layers[-1]
        return st.builds(
            LayerConfig,
            channels=st.none() if last else st.none() | st.integers(1, layer.shape[0]),
            rank=st.none() | st.integers(0, layer.full_rank),
            sparsity=st.none() | SHARES,
            bits=st.none() | st.integers(2, 8) | st.just(32),
            codebook=st.none() | st.integers(4, 256) | st.just(0),
        )

    def settled(config: CompressionConfig) -> CompressionConfig:
        """Layers that would have bits and a codebook keep the codebook."""
        for layer in baseline.layers:
            if codebook_of(config, layer.name):
                config = config.with_layer(layer.name, bits=32)
        return config

    layers = st.fixed_dictionaries({}, optional={layer.name: own(layer) for layer in baseline.layers})
    return st.builds(
        CompressionConfig,
        layers=layers,
        channel_share=st.none() | st.floats(0.01, 1),
        channel_score=st.sampled_from(["l1", "activation"]),
        rank_share=st.none() | st.floats(0.01, 1),
        above_break_even=st.booleans(),
        low_rank_method=st.sampled_from(["svd", "whitened"]),
        sparsity=st.none() | SHARES,
        score=st.sampled_from(["magnitude", "lamp", "activation"]),
        scope=st.sampled_from(["network", "layer"]),
        bits=st.none() | st.integers(2, 8),
        codebook=st.none() | st.none() | st.integers(4, 256),
        activation_bits=st.none() | st.integers(2, 8),
        granularity=st.sampled_from(["channel", "tensor"]),
        symmetry=st.sampled_from(["symmetric", "asymmetric"]),
        clip=st.sampled_from(["minmax", "mse"]),
        rounding=st.sampled_from(["nearest", "gptq"]),
        bias_correction=st.booleans(),
    ).map(settled)


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four real files of Fashion-MNIST, from whatever source this machine has."""
    folder = tmp_path_factory.mktemp("fashion-mnist")
    with pytest.MonkeyPatch.context() as patch:
        kept = PROJECT / "cache" / "data"
        if not os.environ.get("FASHION_MNIST_DIR") and (kept / fashion_mnist.RAW).is_dir():
            patch.setenv("FASHION_MNIST_DIR", str(kept))
        try:
            fashion_mnist.obtain(folder)
        except fashion_mnist.DataError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"needs the training images, which no source has: {error}")
    return folder


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run this Python in a fresh process, in the project's folder."""

    def run(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, **settings)

    return run
