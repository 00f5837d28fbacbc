"""What the README claims, measured side by side in one run; each prints a table and, with --json, one JSON object."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
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
