"""How small a file a search finds in the same minutes, ours and others, in one run.

    python -m benchmarks.search [--baseline cnn|mlp] [--minutes 10] [--seeds 3] [--only TITLE ...] [--keep FILE]
        [--json]

ours      : begins at the sensitivity scans, sketches shapes with an epoch each, varies the best, trains the best of all
random, TPE, NSGA-II : Optuna's samplers draw the trials of the same space, with the same stages and the same trainings
families  : small students of every family, the floor of accuracy a point below the baseline's; "families, TPE"
    and so on draw which students are trained
only ...  : ours again, allowed one technique that shrinks alone, the first seed

Each run begins with an empty cache, but for what depends on the baseline alone. The allowance is one point on
validation; the smallest file that each had found after a quarter, a half, three quarters and all of the time, in bytes,
median over the seeds; the test accuracy of the last one, which nothing was chosen by; and the front: the smallest file
that loses at most so much. It takes minutes x (8 seeds + 5); with `--keep` it can be stopped and goes on.
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

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.measuring.front import ALONE, Goal
from core.networks import families
from core.studies import search, students
from core.studies.trials import Sampler

SHARES = (0.25, 0.5, 0.75, 1.0)
LOST = (0.0025, 0.005, 0.01, 0.02)
"""Accuracy lost on validation, fractions: where the front is told."""

ALLOWANCE = 0.01

LISTS, NUMBERS = ("reached", "front"), ("compression_ratio", "difference", "test_accuracy", "trials")
"""What a run tells."""


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

    run, of = (students.run, bench.profile(name).images.data) if goal.families else (search.run, name)
    answer = run(bench, of, goal, minutes, progress=said, sampler=sampler, seed=seed)
    front = _front(bench, name)
    bench.turns.close()
    bench.store.close()
    shutil.rmtree(folder)
    best = {} if answer.best is None else answer.best.to_dict()
    reached = [min((size for when, size in found if when <= share), default=None) for share in SHARES[:-1]]
    about = {key: best.get(key) for key in ("bytes", "compression_ratio", "difference", "test_accuracy")}
    return {"reached": [*reached, best.get("bytes")], "front": front, "trials": answer.trials, **about}


def _front(bench: Workbench, name: str) -> list[int | None]:
    """The smallest file of any network here by the accuracy that it lacks to the baseline's."""
    whole = bench.evaluate(name, CompressionConfig()).evaluation.accuracy
    every = [point for card in bench.cards() for point in bench.points(card.id)]
    return [min((own.bytes for own in every if whole - own.accuracy <= lost), default=None) for lost in LOST]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds; None where a run had found nothing."""

    def middle(values: list[Any]) -> float | None:
        return None if None in values else statistics.median(values)

    lists = {key: [middle(list(each)) for each in zip(*(run[key] for run in runs), strict=True)] for key in LISTS}
    alone = {key: middle([run[key] for run in runs]) for key in NUMBERS}
    return {**lists, "sizes": [run["bytes"] for run in runs], **alone}


def planned(seeds: int, floor: float) -> list[tuple[str, int, Sampler | None, Goal]]:
    """Title, seed, sampler and goal of each run, those of a seed beside one another."""
    of_all, shrunk = Goal(floor=floor, families=tuple(families.families())), Goal(allowance=ALLOWANCE)
    runs = list[tuple[str, int, Sampler | None, Goal]]()
    for seed in range(seeds):
        for title, each in samplers(seed).items():
            runs.append((title, seed, each, shrunk))
            runs.append(("families" if each is None else f"families, {title}", seed, each, of_all))
    alone = [(f"only {each}", 0, None, Goal(allowance=ALLOWANCE, techniques=(each,))) for each in ALONE]
    each_seed = 2 * len(samplers(0))
    return runs[:each_seed] + alone + runs[each_seed:]


def _floor(name: str, cache: Path) -> float:
    """A point below what the baseline has on validation."""
    bench = Workbench(cache)
    accuracy = bench.evaluate(name, CompressionConfig()).evaluation.accuracy
    bench.turns.close()
    bench.store.close()
    return round(accuracy - ALLOWANCE, 9)


def kept(file: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []


def show(found: dict[str, dict[str, Any]], minutes: float) -> None:
    def bytes_of(sizes: list[float | None]) -> str:
        return "".join(f"{size:>11,.0f}" if size is not None else f"{'-':>11}" for size in sizes)

    times, losses = (f"{share * minutes:.1f} min" for share in SHARES), (f"-{100 * lost:.2f}" for lost in LOST)
    print(f"{'':16}" + "".join(f"{head:>11}" for head in (*times, *losses)) + f"{'times':>8}{'test':>8}{'of':>6}")
    for title, row in found.items():
        ratio, test = row["compression_ratio"], row["test_accuracy"]
        end = f"{ratio:>8.1f}{test:>8.2%}{row['trials']:>6.0f}" if ratio and test else ""
        print(f"{title:16}{bytes_of(row['reached'])}{bytes_of(row['front'])}{end}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", metavar="TITLE", help="of these runs alone: ours, random, 'only bits', ..."
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="finished runs, which are not done again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    name, minutes, rows = options.baseline, options.minutes, kept(options.keep)
    with tempfile.TemporaryDirectory() as folder:
        cache = prepared(name, Path(folder) / "cache")
        for title, seed, sampler, goal in planned(options.seeds, _floor(name, cache)):
            run = {"baseline": name, "minutes": minutes, "title": title, "seed": seed}
            if (options.only and title not in options.only) or any(run.items() <= row.items() for row in rows):
                continue
            rows.append({**run, **measure(name, cache, goal, minutes, sampler, seed)})
            if options.keep:
                options.keep.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    of_these = [row for row in rows if (row["baseline"], row["minutes"]) == (name, minutes)]
    titles = dict.fromkeys(row["title"] for row in of_these)
    found = {title: summary([row for row in of_these if row["title"] == title]) for title in titles}
    if options.json:
        print(json.dumps({"minutes": minutes, "seeds": options.seeds, "rows": found}))
    else:
        show(found, minutes)


if __name__ == "__main__":
    main()
