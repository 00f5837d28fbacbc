"""A what-if three ways over the same 10,000 images, interleaved in one run.

    python -m benchmarks.evaluation [--baselines cnn residual] [--repeats 5] [--json]

plain : as it is usually written: torchvision's dataset and transforms through a DataLoader, batches of 1,000, the
    module as it was trained (batch normalization apart), torch.nn.utils.prune on a copy of it, fake quantization of its
    weights and, in hooks, of its activations, whose ranges come from a pass over the calibration images; also with
    batches of 100, which fit the processor's cache better
ours : compress, freeze, ledger, evaluate: what the workbench does for a configuration that it has not seen; and where
    only the bits were moved, so that the activations need not be looked at again; over the 5,000 validation images
    also where only the bits of the last layer are moved again, so that what enters it is kept, beside a whole what-if
onnxruntime : the float32 network in ONNX Runtime with its default options, batches of 1,000 or 100, the faster; beside
    it our evaluation alone, of the same float32 network

Each way has a process of its own, so that none runs with another's threads, and they take turns. The 10,000 images are
those of the test split, for their time only: that the ways do the same job is checked by comparing predictions. What
was measured while other programs used the machine is measured again; `others_cpu` says how much of it they had at
most.
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader

from core.bench.workbench import PRETRAINED
from core.config import CompressionConfig
from core.datasets import Split, SplitName, fashion_mnist
from core.formats import footprint
from core.machinery.recent import Recent
from core.machinery.vision import datasets
from core.measuring import evaluation
from core.networks import calibration, compression, inference, models
from core.networks.graph import IMAGE
from core.networks.models import Baseline
from core.networks.operations import Node
from core.networks.stored import StoredNetwork

T = TypeVar("T")
WHAT_IF = {"cnn": (0.7, 6), "mlp": (0.7, 6), "compact": (0.2, 8), "residual": (0.2, 8)}
"""Sparsity and bits that each network bears without training: where little of it is left, rounding in one way or
another tells classes apart otherwise."""

BATCHES = (1000, 100)
AGREEMENT = 0.995
"""So many predictions are at least the same, or the ways do not do the same job."""

REST_SECONDS = 0.5
"""Between two measurements: threads that spin while they wait for more have stopped by then."""

QUIET = 0.1
"""Share of the machine's processors that others may have during a measurement. Threads that spin, as torch's do, take
several times as long where they share a processor."""

TRIES, WAITS = 2, 10


@dataclass(frozen=True)
class Run:
    """first : seconds to the estimate, where there is one; others : share of the processors that others had."""

    seconds: float
    predictions: NDArray[np.uint8]
    first: float | None = None
    others: float = 0.0


# The plain way


class Images(datasets.FashionMNIST):
    """torchvision's dataset, image by image as it gives them, over arrays that are in memory already."""

    def __init__(self, split: Split) -> None:
        from torchvision import transforms  # only core.machinery.vision makes it importable everywhere

        steps = [transforms.ToTensor(), transforms.Normalize((fashion_mnist.MEAN,), (fashion_mnist.DEVIATION,))]
        datasets.VisionDataset.__init__(self, "", transform=transforms.Compose(steps))
        self.data, self.targets = split.pictures, split.labels


class Plain(nn.Module):
    """The module that was trained, as torch's own layers, with batch normalization that does nothing but add the bias:
    the same network."""

    def __init__(self, baseline: Baseline) -> None:
        super().__init__()
        self.steps, self.parts = baseline.network.nodes, nn.ModuleDict()
        self.of = {node.name: f"of {node.name.replace('.', ' ')}" for node in self.steps}
        for node in self.steps:
            self.parts[self.of[node.name]] = _part(node, baseline)

    def forward(self, x: Tensor) -> Tensor:
        values = {IMAGE: x}
        for node in self.steps:
            values[node.name] = self.parts[self.of[node.name]](*(values[name] for name in node.inputs))
        return values[self.steps[-1].name]


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def _part(node: Node, baseline: Baseline) -> nn.Module:
    if node.weighted:
        return _layer(node, baseline)
    modules: dict[str, Callable[[], nn.Module]] = {
        "max_pool": lambda: nn.MaxPool2d(node["kernel"], node["stride"]),
        "relu": lambda: nn.ReLU(),
        "flatten": lambda: nn.Flatten(),
        "global_average_pool": lambda: nn.AdaptiveAvgPool2d(1),
        "add": lambda: Add(),
    }
    return modules[node.operation]()


@torch.no_grad()
def _layer(node: Node, baseline: Baseline) -> nn.Module:
    weight, bias = (baseline.tensors[f"{node.name}.{part}"] for part in ("weight", "bias"))
    if node.operation == "linear":
        layer: Any = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        return layer
    groups, padding = node["groups"], node["padding"][:2]
    sizes = weight.shape[1] * groups, weight.shape[0], node["kernel"], node["stride"], padding
    layer, norm = nn.Conv2d(*sizes, groups=groups, bias=False), nn.BatchNorm2d(weight.shape[0])
    layer.weight.copy_(weight)
    norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr,operator]
    norm.bias.copy_(bias)
    return nn.Sequential(layer, norm)


@cache
def unfolded(name: str) -> nn.Module:
    return Plain(shipped(name)).eval()


@cache
def loader(split: SplitName, batch: int) -> DataLoader[Any]:
    return DataLoader(Images(fashion_mnist.load(split)), batch_size=batch)


@torch.no_grad()
def plain(name: str, config: CompressionConfig, batch: int = 1000) -> Run:
    start = time.perf_counter()
    module = _compressed(name, config, batch)
    found, right = [], 0
    for images, labels in loader("test", batch):
        predicted = module(images).argmax(1)
        right += int((predicted == labels).sum())
        found.append(predicted)
    return Run(time.perf_counter() - start, torch.cat(found).numpy().astype(np.uint8))


def _compressed(name: str, config: CompressionConfig, batch: int) -> nn.Module:
    module = copy.deepcopy(unfolded(name))
    layers: list[Any] = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if config.sparsity:
        targets = [(layer, "weight") for layer in layers]
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=config.sparsity)
        for layer in layers:
            prune.remove(layer, "weight")
    ends = {end: signal for signal in shipped(name).network.signals for end in signal.ends}
    parts: dict[str, Any] = {end: module.parts[module.of[end]] for end in ends}  # type: ignore[index]
    largest = _ranges(module, parts, batch) if config.activation_bits else {}
    for layer in layers if config.bits else []:
        layer.weight.copy_(_fake_quantized(layer.weight, config.bits or 0))
    for end, value in largest.items():
        parts[end].register_forward_hook(_rounding(value, config.activation_bits or 0, ends[end].signed))
    return module


def _ranges(module: nn.Module, parts: dict[str, Any], batch: int) -> dict[str, float]:
    """max |x| of each signal, over the calibration images."""
    seen: dict[str, list[float]] = {end: [] for end in parts}
    hooks = [
        part.register_forward_hook(lambda _, inputs, output, own=seen[end]: own.append(output.abs().max().item()))
        for end, part in parts.items()
    ]
    for images, _ in loader("calibration", batch):
        module(images)
    for hook in hooks:
        hook.remove()
    return {end: max(own) for end, own in seen.items()}


def _fake_quantized(weight: Tensor, bits: int) -> Tensor:
    """Per output channel, symmetric."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True) / top
    scale[scale == 0] = 1
    return (weight / scale).round().clamp(-top, top) * scale


def _rounding(largest: float, bits: int, signed: bool) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Written out: torch.fake_quantize_per_tensor_affine, the same numbers, takes several times as long."""
    top = 2 ** (bits - signed) - 1
    scale = largest / top or 1.0
    return lambda _, inputs, output: (output / scale).round().clamp(-top if signed else 0, top) * scale


# Ours


@cache
def shipped(name: str) -> Baseline:
    return models.from_bytes((PRETRAINED / f"{name}.safetensors").read_bytes(), name)


@cache
def about(name: str) -> calibration.Statistics:
    """What is computed once per baseline, ever."""
    baseline = shipped(name)
    images = fashion_mnist.load("calibration").inputs
    parts = calibration.decompose(baseline, "svd", dict)
    return calibration.Statistics(lambda method: parts, dict, dict, images)


@cache
def stored(name: str) -> StoredNetwork:
    """The float32 network, nothing compressed."""
    return compression.compress(shipped(name), CompressionConfig(), about(name)).freeze()


@cache
def before(name: str, split: SplitName) -> evaluation.Evaluation:
    return evaluation.evaluate(stored(name), fashion_mnist.load(split))


def ours(name: str, config: CompressionConfig, moved: str = "", split: SplitName = "test") -> Run:
    """As if it were the first what-if: no ranges and no layers' outputs are remembered from another.

    moved : "bits": only the bits of the weights were moved, so that the ranges of the activations are known; "last":
        only those of the last layer, and not for the first time, so that what enters it is known, too
    """
    baseline, known, first, prefix = shipped(name), before(name, split), [], evaluation.Prefix()
    unused = replace(about(name), recent=Recent(calibration.REMEMBERED_BYTES if moved else 0))
    bits, last = config.bits or 8, baseline.layers[-1].name
    if moved == "bits":
        compression.compress(baseline, replace(config, bits=bits - 1), unused)
    for other in (bits - 2, bits - 1) if moved == "last" else ():
        network = compression.compress(baseline, config.with_layer(last, bits=other), unused).freeze()
        evaluation.evaluate(network, fashion_mnist.load(split), prefix=prefix)
    start = time.perf_counter()

    def report(sample: NDArray[np.int64], predictions: NDArray[np.uint8]) -> None:
        evaluation.estimate(known, sample, predictions)
        ledger.result()
        first.append(time.perf_counter() - start)

    network = compression.compress(baseline, config, unused).freeze()
    with ThreadPoolExecutor(1) as packing:
        ledger = packing.submit(footprint.footprint, network)
        found = evaluation.evaluate(network, fashion_mnist.load(split), report=report, prefix=prefix)
    evaluation.compare(known, found)
    return Run(time.perf_counter() - start, found.predictions.numpy(), first[0])


def evaluate(name: str) -> Run:
    """Evaluation alone, of the float32 network."""
    network = stored(name)
    start = time.perf_counter()
    found = evaluation.evaluate(network, fashion_mnist.load("test"))
    return Run(time.perf_counter() - start, found.predictions.numpy())


# ONNX Runtime


@cache
def session(name: str) -> onnxruntime.InferenceSession:
    model = inference.to_onnx(inference.Part(stored(name)))
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def yardstick(name: str, batch: int) -> Run:
    run, x = session(name).run, fashion_mnist.load("test").inputs.numpy()
    start = time.perf_counter()
    found = [run(None, {"x": x[at : at + batch]})[0].argmax(1) for at in range(0, len(x), batch)]
    return Run(time.perf_counter() - start, np.concatenate(found).astype(np.uint8))


# Side by side


@contextmanager
def process(wait_policy: str | None) -> Iterator[Callable[..., Run]]:
    """Call functions in a process that was started with this OMP_WAIT_POLICY.

    `core` asks for threads that do not spin while they wait; the plain way shall have what torch does by itself.
    """
    kept = os.environ.pop("OMP_WAIT_POLICY", None)
    if wait_policy is not None:
        os.environ["OMP_WAIT_POLICY"] = wait_policy
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()
        os.environ.pop("OMP_WAIT_POLICY", None)
        if kept is not None:
            os.environ["OMP_WAIT_POLICY"] = kept

        def call(function: Callable[..., Run], *arguments: Any) -> Run:
            found = []
            while len(found) < TRIES and (not found or found[-1].others > QUIET):
                _rest()
                run, others = others_during(pid, lambda: pool.submit(function, *arguments).result())
                found.append(replace(run, others=others))
            return min(found, key=lambda run: run.others)

        yield call


def _rest() -> None:
    """A pause, longer while others are busy."""
    for _ in range(WAITS):
        if others_during(os.getpid(), lambda: time.sleep(REST_SECONDS))[1] <= QUIET:
            return


def others_during(pid: int, work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the share of all processors' time that was not idle and not this process's own.

    Where there is no /proc to tell, 0.
    """
    before = _processor_ticks(pid)
    value = work()
    total, idle, own = (now - then for now, then in zip(_processor_ticks(pid), before, strict=True))
    return value, max(0.0, (total - idle - own) / total) if total else 0.0


def _processor_ticks(pid: int) -> tuple[int, int, int]:
    """Of all processors, of which idle, and of the process."""
    if not Path("/proc/stat").exists():
        return 0, 0, 0
    times = [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(times), times[3] + times[4], int(own[11]) + int(own[12])


def what_ifs(name: str, repeats: int) -> list[CompressionConfig]:
    """Nearly the same each time, so that the work is the same and nothing is remembered."""
    sparsity, bits = WHAT_IF[name]
    shares = [sparsity + 0.001 * (repeat - repeats // 2) for repeat in range(repeats)]
    return [CompressionConfig(sparsity=share, bits=bits, activation_bits=bits) for share in shares]


def measure(
    name: str, repeats: int, usual: Callable[..., Run], own: Callable[..., Run], onnx: Callable[..., Run]
) -> Any:
    """Medians in seconds, and their ratios. The three callables are the processes."""
    agreement = {"float32": _warm_up(name, usual, own, onnx)}
    rounds = []
    for config in what_ifs(name, repeats):
        row = {"plain": usual(plain, name, config), "plain 100": usual(plain, name, config, 100)}
        row |= {"ours": own(ours, name, config), "moved": own(ours, name, config, "bits")}
        row |= {f"5,000 {moved}".strip(): own(ours, name, config, moved, "validation") for moved in ("", "last")}
        row |= {"evaluate": own(evaluate, name)}
        row |= {f"onnxruntime {batch}": onnx(yardstick, name, batch) for batch in BATCHES}
        rounds.append(row)
    agreement["what_if"] = min(_agreement(row["plain"], row["ours"]) for row in rounds)
    agreement["last_moved"] = min(_agreement(row["5,000"], row["5,000 last"]) for row in rounds)
    seconds = {way: [row[way].seconds for row in rounds] for way in rounds[0]}
    seconds["first_estimate"] = [row["ours"].first for row in rounds]
    median = {way: statistics.median(own) for way, own in seconds.items()}
    fastest = min((way for way in median if way.startswith("onnxruntime")), key=lambda way: median[way])
    figures = {
        "plain_s": median["plain"],
        "ours_s": median["ours"],
        "onnxruntime_s": median[fastest],
        "plain_over_ours": median["plain"] / median["ours"],
        "plain_100_s": median["plain 100"],
        "plain_100_over_ours": median["plain 100"] / median["ours"],
        "what_if_over_onnxruntime": median["ours"] / median[fastest],
        "bits_moved_s": median["moved"],
        "bits_moved_over_onnxruntime": median["moved"] / median[fastest],
        "what_if_5000_s": median["5,000"],
        "last_moved_5000_s": median["5,000 last"],
        "last_moved_over_what_if": median["5,000 last"] / median["5,000"],
        "evaluate_s": median["evaluate"],
        "ours_over_onnxruntime": median["evaluate"] / median[fastest],
        "first_estimate_s": median["first_estimate"],
        "plain_over_first_estimate": median["plain"] / median["first_estimate"],
    }
    return {key: round(value, 4) for key, value in figures.items()} | {
        "onnxruntime_way": fastest,
        "others_cpu": round(max(run.others for row in rounds for run in row.values()), 3),
        "range_s": {way: [round(min(own), 4), round(max(own), 4)] for way, own in seconds.items()},
        "agreement": {what: round(share, 4) for what, share in agreement.items()},
    }


def _warm_up(name: str, usual: Callable[..., Run], own: Callable[..., Run], onnx: Callable[..., Run]) -> float:
    """Each way once, uncounted; how far they agree on the float32 network, and whether that is enough."""
    sparsity, bits = WHAT_IF[name]
    nothing, warm = CompressionConfig(), CompressionConfig(sparsity=sparsity / 2, bits=bits, activation_bits=bits)
    found = [usual(plain, name, nothing), own(evaluate, name), *(onnx(yardstick, name, batch) for batch in BATCHES)]
    compressed = usual(plain, name, warm), own(ours, name, warm)
    agreement = min(_agreement(found[0], other) for other in found[1:])
    if min(agreement, _agreement(*compressed)) < AGREEMENT:
        raise AssertionError(f"The ways must agree. Got {agreement}, and {_agreement(*compressed)} when compressed.")
    return agreement


def _agreement(one: Run, other: Run) -> float:
    """Share of images with the same prediction."""
    return float((one.predictions == other.predictions).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--baselines", nargs="+", choices=WHAT_IF, default=list(WHAT_IF), metavar="NAME")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        ways = [stack.enter_context(process(policy)) for policy in (None, "PASSIVE", None)]
        found = {name: measure(name, arguments.repeats, *ways) for name in arguments.baselines}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        ranges = row["range_s"]
        print(f"{name}, 10,000 images, median of {arguments.repeats} in seconds (fastest to slowest)")
        lines = {
            "plain": ("plain_s", "plain"),
            "plain, batches of 100": ("plain_100_s", "plain 100"),
            "ours": ("ours_s", "ours"),
            "  first estimate": ("first_estimate_s", "first_estimate"),
            "  only bits were moved": ("bits_moved_s", "moved"),
            "ours, 5,000 images": ("what_if_5000_s", "5,000"),
            "  only the last layer's bits were": ("last_moved_5000_s", "5,000 last"),
            "evaluation alone, float32": ("evaluate_s", "evaluate"),
            "ONNX Runtime, float32": ("onnxruntime_s", row["onnxruntime_way"]),
        }
        for words, (key, way) in lines.items():
            print(f"  {words:34}{row[key]:8.3f}  ({ranges[way][0]:.3f} to {ranges[way][1]:.3f})")
        print(f"  plain / ours                    {row['plain_over_ours']:8.2f}")
        print(f"  plain, batches of 100 / ours    {row['plain_100_over_ours']:8.2f}")
        print(f"  plain / first estimate          {row['plain_over_first_estimate']:8.2f}")
        print(f"  ours / ONNX Runtime, float32    {row['what_if_over_onnxruntime']:8.2f}")
        print(f"  bits moved / ONNX Runtime       {row['bits_moved_over_onnxruntime']:8.2f}")
        print(f"  last layer moved / what-if      {row['last_moved_over_what_if']:8.2f}")
        print(f"  evaluation alone / ONNX Runtime {row['ours_over_onnxruntime']:8.2f}")
        shares = ", ".join(f"{share:.2%} {what}" for what, share in row["agreement"].items())
        print(f"  same predictions: {shares}; other programs had {row['others_cpu']:.0%} of the processors at most")


if __name__ == "__main__":
    main()
