"""Killed again and again: nothing that was confirmed is lost, and the next start is not confused.

    python -m benchmarks.killed [--times 200] [--seed 0] [--json]

A process that trains, searches, exports or writes into the cache gets SIGKILL at a random moment. Each time it stored
something it had said so: afterwards, every such entry must be there as it was confirmed (or as something newer replaced
it), no weights may lie about without an entry, and the same work must run to its end in another process.
"""

import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks import count_faults
from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.machinery.files import sha256
from core.machinery.store import Store
from core.measuring.front import Goal
from core.networks.models import Baseline
from core.studies import search

LONGEST_SECONDS = 8.0
SHAPES = {"fc1": (16, 784), "fc2": (12, 16), "fc3": (10, 12)}
Work = Callable[[Workbench, str, random.Random], object]


def small(seed: int) -> Baseline:
    """A network that trains in a second."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, shape in SHAPES.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / shape[1]) ** 0.5
        tensors[f"{name}.bias"] = torch.zeros(shape[0])
    return Baseline("small", tensors)


def trains(bench: Workbench, name: str, dice: random.Random) -> None:
    for _ in range(100):
        recovery = RecoveryConfig(1, 0.01, seed=dice.randrange(10**6))
        bench.recover(name, CompressionConfig(sparsity=0.5, bits=4, recovery=recovery))


def searches(bench: Workbench, name: str, dice: random.Random) -> None:
    search.run(bench, name, Goal(allowance=0.05), 0.5, seed=dice.randrange(10**6))


def exports(bench: Workbench, name: str, dice: random.Random) -> None:
    for _ in range(100):
        config = CompressionConfig(sparsity=round(dice.uniform(0.1, 0.9), 3), bits=dice.randint(2, 8))
        bench.export(name, config, bench.export_folder(name, config), ("packed", "safetensors"))


def writes(bench: Workbench, name: str, dice: random.Random) -> None:
    while True:
        key, weights = f"key {dice.randrange(40)}", dice.randbytes(1_000) * dice.choice([1, 300])
        bench.store.put(key, "any", weights[:300], dice.choice([None, weights]), kept=dice.random() < 0.5)
        if dice.random() < 0.2:
            bench.store.delete(f"other {dice.randrange(40)}")


WORKS: dict[str, Work] = {"training": trains, "search": searches, "export": exports, "cache": writes}


def child(cache: Path, name: str, work: Work, seed: int, say: int) -> None:
    """Works until it is killed or done, and says every entry that was confirmed, and every one that it deletes."""
    bench = Workbench(cache)
    put, delete = bench.store.put, bench.store.delete

    def told(event: dict[str, Any]) -> None:
        os.write(say, (json.dumps(event) + "\n").encode())

    def confirmed(key: str, kind: str, payload: bytes, weights: bytes | None = None, kept: bool = False) -> bool:
        told({"begun": key})
        done = put(key, kind, payload, weights, kept)
        if done:
            told({"key": key, "payload": sha256(payload), "weights": weights and sha256(weights)})
        return done

    def deleted(*keys: str) -> None:
        for key in keys:
            told({"begun": key})
        delete(*keys)
        for key in keys:
            told({"gone": key})

    bench.store.put, bench.store.delete = confirmed, deleted  # type: ignore[method-assign]
    work(bench, name, random.Random(seed))


def killed(cache: Path, name: str, kind: str, seed: int, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What the process said before it was killed after so many seconds, and its end, "" where it was killed."""
    reads, says = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reads)
        status = 0
        try:
            os.nice(5)
            child(cache, name, WORKS[kind], seed, says)
        except BaseException as error:
            os.write(says, (json.dumps({"failed": f"{kind}: {type(error).__name__}: {error}"}) + "\n").encode())
            status = 1
        os._exit(status)
    os.close(says)
    until, said = time.monotonic() + seconds, b""
    os.set_blocking(reads, False)
    ended = 0
    while not ended:
        try:
            said += os.read(reads, 1 << 20)
        except BlockingIOError:
            time.sleep(0.002)
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            break
        ended = os.waitpid(process, os.WNOHANG)[0]
    os.set_blocking(reads, True)
    while rest := os.read(reads, 1 << 20):
        said += rest
    os.close(reads)
    return [json.loads(line) for line in said.splitlines()], "ended" if ended else ""


def wrong(cache: Path, known: dict[str, tuple[str, str | None] | None], unsure: set[str]) -> list[str]:
    """What is not as it was confirmed. known : key -> payload and weights, None where it was deleted"""
    found = []
    store = Store(cache)
    store.sweep()
    for key, expected in known.items():
        there = store.get(key)
        if key not in unsure:
            now = None if there is None else (sha256(there.payload), there.weights and sha256(there.weights))
            if now != expected:
                found.append(f"{key} is {now}, and was {expected}")
    named = {row[0] for row in store._run("SELECT weights FROM entries") or []}
    lying = {path.stem for path in (cache / "weights").glob("[!.]*.safetensors")} - named
    found += [f"{name} belongs to no entry" for name in lying]
    if store.problem:
        found.append(store.problem)
    store.close()
    return found


def run(times: int, seed: int) -> dict[str, Any]:
    """Kill so often; the work goes on in the same cache all the time."""
    torch.set_num_threads(1)
    dice, faults, counts = random.Random(seed), list[str](), Counter[str]()
    known: dict[str, tuple[str, str | None] | None] = {}
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        cache = Path(folder) / "cache"
        if os.fork() == 0:
            Workbench(cache).add_baseline(small(seed), "small", "loaded")
            os._exit(0)
        os.wait()
        name = f"mlp-{small(seed).sha256[:8]}"
        for turn in range(times):
            kind = list(WORKS)[turn % len(WORKS)]
            said, end = killed(cache, name, kind, dice.randrange(10**9), dice.uniform(0.3, LONGEST_SECONDS))
            begun: list[str] = []
            for event in said:
                if "failed" in event:
                    faults.append(event["failed"])
                elif "begun" in event:
                    begun.append(event["begun"])
                elif "gone" in event:
                    known[event["gone"]] = None
                    begun.remove(event["gone"])
                else:
                    known[event["key"]] = event["payload"], event["weights"]
                    begun.remove(event["key"])
            faults += wrong(cache, known, set(begun))
            for key in begun:  # neither was confirmed
                known.pop(key, None)
            counts["killed" if not end else "ended"] += 1
            counts[f"entries confirmed, {kind}"] += sum("key" in event for event in said)
    return {"times": times, "seed": seed, "counts": dict(counts), "faults": faults}


if __name__ == "__main__":
    count_faults(__doc__, run, 200)
