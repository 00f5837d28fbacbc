"""Ten thousand files, links and configurations that nobody wrote: each gives an answer or a refusal in words.

    python -m benchmarks.fuzz [--times 10000] [--seed 0] [--json]

Files begin as good ones and are changed at random places: anywhere, or in their header and under a right checksum, so
that what stands behind the checksum is met as well. Links and configurations are drawn from good and bad values of all
settings. Anything but an answer or one of `core.bench.workbench.ERRORS` is a fault, and so is what takes more than 5
seconds of one core.
"""

import hashlib
import io
import json
import random
import tempfile
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import count_faults
from benchmarks.killed import small
from core.__main__ import main as command
from core.bench.workbench import ERRORS, Workbench
from core.config import QUERY_NAMES, CompressionConfig, from_query, to_query
from core.formats import earlier, packed
from core.formats.interchange import from_safetensors, to_safetensors
from core.networks import chains, families
from core.networks.models import Baseline, from_bytes, to_bytes
from core.networks.normalized import NormalizedNetwork
from core.portable import loader

SLOW_SECONDS = 5.0
CHECK = loader.CHECK
STRANGE = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**62, -(2**63), 0.5, 1e308, float("nan"), float("inf"), "", "a", "\0",
    "é" * 9, "../../x", [], {}, [[]], [0], [-1, 4], [2**40, 2**40], {"a": 1}, "<img src=x>", "![x](http://y)",
]  # fmt: skip


GOOD = [
    "0", "1", "2", "4", "8", "32", "0.5", "0.004", "0.96", "lamp", "activation", "layer", "mse", "gptq", "whitened",
]  # fmt: skip


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, cut out, put in, or the end missing."""
    found = bytearray(content)
    for _ in range(dice.choice([1, 1, 3, 20])):
        place = dice.randrange(len(found) or 1)
        match dice.randrange(4):
            case 0 if found:
                found[place] = dice.randrange(256)
            case 1:
                found[place : place + dice.randrange(1, 40)] = b""
            case 2:
                found[place:place] = dice.randbytes(dice.randrange(1, 40))
            case _:
                found = found[: max(place, 1)]
    return bytes(found)


def changed(value: Any, dice: random.Random) -> Any:
    """A JSON value with one thing in it replaced by something strange."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        if dice.random() < 0.1:
            return {name: own for name, own in value.items() if name != key}
        return value | {key: changed(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        return [*value[:place], changed(value[place], dice), *value[place + 1 :]]
    return dice.choice(STRANGE)


def sealed(content: bytes, dice: random.Random) -> bytes:
    """A packed file with another header or body, and its checksum made right."""
    magic, start = content[: len(loader.MAGIC)], len(loader.MAGIC) + 4
    dictionary = {loader.MAGIC: loader.DICTIONARY, earlier.FIRST: earlier.DICTIONARY}[magic]
    length = int.from_bytes(content[start - 4 : start], "little")
    head, body = content[start : start + length], content[start + length : -CHECK]
    if dice.random() < 0.3:
        body = damaged(body, dice)
    else:
        about = json.loads(zlib.decompressobj(zdict=dictionary).decompress(head))
        compressor = zlib.compressobj(9, zdict=dictionary)
        head = compressor.compress(json.dumps(changed(about, dice)).encode()) + compressor.flush()
    whole = magic + len(head).to_bytes(4, "little") + head + body
    return whole + hashlib.sha256(whole).digest()[:CHECK]


def header_changed(content: bytes, dice: random.Random) -> bytes:
    """A safetensors file with another header of a right length."""
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.dumps(changed(json.loads(content[8:end]), dice)).encode()
    return len(head).to_bytes(8, "little") + head + content[end:]


def theirs() -> nn.Sequential:
    """A network as people train it."""
    parts: dict[str, nn.Module] = {}
    for place, (inputs, outputs) in enumerate(((1, 8), (8, 12)), 1):
        parts[f"conv{place}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        parts[f"bn{place}"] = nn.BatchNorm2d(outputs)
    return nn.Sequential(OrderedDict(parts | {"fc1": nn.Linear(12 * 49, 16), "fc2": nn.Linear(16, 10)}))


def residual() -> Baseline:
    """A network with branches, as its training begins."""
    network = families.named("residual").build(chains.SHAPE, chains.CLASSES)
    return Baseline("residual", NormalizedNetwork(network).folded(), {}, network)


class Kinds:
    """What is tried. Each method does one thing with one drawn input."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice = folder, dice
        self.bench = Workbench(folder / "cache")
        self.baseline = small(0)
        self.name = self.bench.add_baseline(self.baseline, "small", "loaded")
        self.layers = [layer.name for layer in self.baseline.layers]
        configs = [
            CompressionConfig(sparsity=0.8, bits=4, activation_bits=4),
            CompressionConfig(rank_share=0.3, above_break_even=True, bits=3, symmetry="asymmetric"),
            CompressionConfig(sparsity=0.5),
        ]
        graph = residual()
        branched = self.bench.add_baseline(graph, "residual", "loaded")
        networks = [self.bench.network(name, config) for name in (self.name, branched) for config in configs]
        self.packed = [packed.pack(network).content for network in networks]
        self.pairs = [to_safetensors(network) for network in networks]
        self.files = [to_bytes(own) for own in (self.baseline, graph)]
        buffer = io.BytesIO()
        torch.save(theirs().state_dict(), buffer)
        self.checkpoint = buffer.getvalue()

    def packed_file(self) -> object:
        content = self.dice.choice(self.packed)
        return packed.unpack(self.dice.choice([damaged, sealed])(content, self.dice))

    def stored_file(self) -> object:
        tensors, about = self.dice.choice(self.pairs)
        if self.dice.random() < 0.5:
            return from_safetensors(self.dice.choice([damaged, header_changed])(tensors, self.dice), about)
        text = (
            damaged(about, self.dice)
            if self.dice.random() < 0.3
            else json.dumps(changed(json.loads(about), self.dice)).encode()
        )
        return from_safetensors(tensors, text)

    def baseline_file(self) -> object:
        return from_bytes(self.dice.choice([damaged, header_changed])(self.dice.choice(self.files), self.dice), "drawn")

    def checkpoint_file(self) -> object:
        path, out = self.folder / "drawn.pt", self.folder / "out.safetensors"
        if self.dice.random() < 0.5:
            path.write_bytes(damaged(self.checkpoint, self.dice))
        else:
            state: dict[Any, Any] = torch.load(io.BytesIO(self.checkpoint))
            key = self.dice.choice(list(state))
            strange = [
                *STRANGE,
                torch.zeros(3),
                torch.zeros(2, 2, 2),
                torch.ones(4, dtype=torch.int8),
                torch.tensor(float("nan")),
            ]
            state[self.dice.choice([key, "extra", f"{key}_mask", ""])] = self.dice.choice(strange)
            if self.dice.random() < 0.3:
                del state[key]
            torch.save(state, path)
        return command(["import", str(path), "--out", str(out), "--json"])

    def configuration(self) -> object:
        about = json.loads(self._drawn().to_json())
        text = json.dumps(changed(about, self.dice) if self.dice.random() < 0.6 else about)
        config = CompressionConfig.from_json(damaged(text.encode(), self.dice) if self.dice.random() < 0.1 else text)
        return self.bench.evaluate(self.name, config) if config.recovery is None else None

    def link(self) -> object:
        names = [
            *QUERY_NAMES,
            *(f"{layer}.{own}" for layer in [*self.layers, "fc9"] for own in ("rank", "sparsity", "bits")),
        ]
        query = {self.dice.choice(names): self._text() for _ in range(self.dice.randrange(1, 6))}
        config, problems = from_query(query, self.layers)
        assert all(isinstance(problem, str) and problem for problem in problems)
        again, none = from_query(to_query(config), self.layers)
        assert (again, none) == (config, []), "a link that was read can be written and read again"
        return self.bench.evaluate(self.name, config) if config.recovery is None else None

    def _drawn(self) -> CompressionConfig:
        query = {name: self._text() for name in self.dice.sample(list(QUERY_NAMES), 4)}
        return from_query(query, self.layers)[0]

    def _text(self) -> str:
        return self.dice.choice(
            [*GOOD, *map(str, STRANGE), str(self.dice.uniform(-1, 10)), str(self.dice.randrange(-5, 600))]
        )


def run(times: int, seed: int) -> dict[str, Any]:
    dice, counts, faults = random.Random(seed), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        kinds = Kinds(Path(folder), dice)
        ways: list[Callable[[], object]] = [
            kinds.packed_file, kinds.stored_file, kinds.baseline_file, kinds.checkpoint_file, kinds.configuration,
            kinds.link,
        ]  # fmt: skip
        for turn in range(times):
            way, start = ways[turn % len(ways)], time.process_time()
            try:
                answer = way()
                counts[f"{way.__name__}: {'refused' if answer == 1 else 'answered'}"] += 1
            except ERRORS as error:
                counts[f"{way.__name__}: {'refused' if str(error).strip() else 'refused without a word'}"] += 1
                if not str(error).strip():
                    faults.append(f"{way.__name__}, turn {turn}: {type(error).__name__} without a word")
            except Exception as error:
                faults.append(f"{way.__name__}, turn {turn}: {type(error).__name__}: {error}")
            if time.process_time() - start > SLOW_SECONDS:
                faults.append(f"{way.__name__}, turn {turn}: {time.process_time() - start:.1f} s")
        kinds.bench.turns.close()
    return {"times": times, "seed": seed, "counts": dict(sorted(counts.items())), "faults": faults}


if __name__ == "__main__":
    count_faults(__doc__, run, 10_000)
