"""What the README claims, measured side by side in one run; each prints a table and, with --json, one JSON object."""

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def summary(seconds: Iterable[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds' precision."""
    ordered = sorted(seconds)
    late = ordered[round(0.95 * (len(ordered) - 1))]
    return {"median": round(statistics.median(ordered), 3), "p95": round(late, 3)}


def count_faults(about: str | None, run: Callable[[int, int], dict[str, Any]], times: int) -> None:
    """The command of a benchmark that tries something so many times: `run(times, seed)` gives its `counts` by name and
    its `faults` in words. The exit status says whether there were any."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=times)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.times, arguments.seed)
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, count in found["counts"].items():
            print(f"{count:8,}  {name}")
        print(f"{len(found['faults']):8,}  faults", *found["faults"], sep="\n")
    sys.exit(bool(found["faults"]))


def bare(baseline: str, rng: random.Random) -> dict[str, float]:
    """The same what-if without page, server and browser, on the same machine right after: seconds."""
    from core.bench.workbench import Workbench
    from core.config import CompressionConfig

    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder))
        seconds = []
        for repeat in range(14):
            config = CompressionConfig(sparsity=rng.randrange(10, 190) / 200, bits=6, activation_bits=6)
            result = bench.evaluate(baseline, config)
            if repeat >= 2 and not result.cached:
                seconds.append(result.seconds)
        bench.store.close()
    return summary(seconds)
