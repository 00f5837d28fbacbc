"""How small a file a search finds in the same minutes, ours and others, in one run.

    python -m benchmarks.search [--baseline cnn|mlp] [--minutes 10] [--seeds 3] [--json]

ours      : begins at the sensitivity scans, sketches shapes with an epoch each, varies the best, trains the best of all
random, TPE, NSGA-II : Optuna's samplers draw the trials of the same space, with the same stages and the same trainings
single    : ours again, allowed one technique only (and each with bits, which everything else is better with)

Each run begins with an empty cache, but for what depends on the baseline alone. The allowance is one point on
validation; the smallest file that each had found after a quarter, a half, three quarters and all of the time, in bytes,
median over the seeds; and the test accuracy of the last one, which nothing was chosen by.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from core import search
from core.config import CompressionConfig
from core.front import TECHNIQUES, Goal
from core.studies import Sampler
from core.workbench import Workbench

SHARES = (0.25, 0.5, 0.75, 1.0)


def samplers(seed: int) -> dict[str, Sampler | None]:
    return {
        "ours": None,
        "random": partial(optuna.samplers.RandomSampler, seed=seed),
        "TPE": partial(optuna.samplers.TPESampler, seed=seed, multivariate=True, group=True),
        "NSGA-II": partial(optuna.samplers.NSGAIISampler, seed=seed),
    }


def prepared(name: str, folder: Path) -> Path:
    """A cache with what depends on the baseline alone."""
    bench = Workbench(folder)
    everything = CompressionConfig(rank_share=0.1, low_rank_method="whitened", sparsity=0.5, bits=4, rounding="gptq")
    for config in (CompressionConfig(), everything, CompressionConfig(rank_share=0.1)):
        bench.forget(name, config)
        bench.evaluate(name, config)
    bench.forget(name, everything)
    bench.turns.close()
    bench.store.close()
    return folder


def measure(name: str, cache: Path, goal: Goal, minutes: float, sampler: Sampler | None, seed: int) -> dict[str, Any]:
    """One search: bytes by share of the time, and what it ended with."""
    folder = Path(tempfile.mkdtemp(prefix="search-"))
    shutil.copytree(cache, folder / "cache")
    bench, start, found = Workbench(folder / "cache", "searched"), time.monotonic(), list[tuple[float, int]]()

    def said(event: dict[str, Any]) -> None:
        if "best" in event:
            found.append(((time.monotonic() - start) / (60 * minutes), event["best"]["bytes"]))

    answer = search.run(bench, name, goal, minutes, progress=said, sampler=sampler, seed=seed)
    bench.turns.close()
    shutil.rmtree(folder)
    best = answer["best"] or {}
    reached = [min((size for when, size in found if when <= share), default=None) for share in SHARES[:-1]]
    about = {key: best.get(key) for key in ("bytes", "compression_ratio", "difference", "test_accuracy")}
    return {"reached": [*reached, best.get("bytes")], "trials": answer["trials"], **about}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds; the bytes of a run that had found nothing are those of the baseline."""

    def middle(values: list[Any]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if len(known) == len(values) else None

    reached = [middle([run["reached"][place] for run in runs]) for place in range(len(SHARES))]
    keys = ("compression_ratio", "difference", "test_accuracy", "trials")
    sizes = [run["bytes"] for run in runs]
    return {"reached": reached, "sizes": sizes, **{key: middle([run[key] for run in runs]) for key in keys}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    name, minutes, goal = options.baseline, options.minutes, Goal(allowance=0.01)
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = prepared(name, Path(folder) / "cache")
        for seed in range(options.seeds):
            for title, sampler in samplers(seed).items():
                rows.setdefault(title, []).append(measure(name, cache, goal, minutes, sampler, seed))
        for technique in TECHNIQUES:
            for used in dict.fromkeys([(technique,), tuple(dict.fromkeys((technique, "bits")))]):
                alone = Goal(allowance=0.01, techniques=used)
                rows[f"only {' + '.join(used)}"] = [measure(name, cache, alone, minutes, None, 0)]
    found = {title: summary(runs) for title, runs in rows.items()}
    if options.json:
        print(json.dumps({"minutes": minutes, "seeds": options.seeds, "rows": found}))
        return
    print(
        f"{'':24}" + "".join(f"{share * minutes:>9.1f} min" for share in SHARES) + f"{'times':>8}{'test':>8}{'of':>6}"
    )
    for title, row in found.items():
        sizes = "".join(f"{size:>13,.0f}" if size is not None else f"{'-':>13}" for size in row["reached"])
        ratio, test = row["compression_ratio"], row["test_accuracy"]
        end = f"{ratio:>8.1f}{test:>8.2%}{row['trials']:>6.0f}" if ratio and test else ""
        print(f"{title:24}{sizes}{end}")


if __name__ == "__main__":
    main()
