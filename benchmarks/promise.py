"""How often an allowed loss that was kept on validation is kept on the test images, too, with and without confidence.

    python -m benchmarks.promise [--confidence 0.9] [--resplits 10] [--cache DIR] [--json]

Each choice takes the smallest file within an allowance of 0.5, 1 or 2 points, of a family of candidates: one-shot
pruning by three criteria, bits with sparsity, channels, and all of them of a network together. It is made on the 5,000
validation images, once as it is (`--allowance` alone) and once with confidence, and judged on the 10,000 test images.
Nothing is trained, and nothing about a candidate was made from either images: so the choices may be made again on other
cuts of the 15,000 images, 5,000 to choose by and 10,000 to judge by, as often as `--resplits` says. How many choices
were made, how often the allowance was kept, and the bytes that confidence costs (geometric mean, where both chose).

About ten minutes on two cores; with `--cache` it can be stopped and goes on.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.mathematics import promise

ALLOWANCES = (0.005, 0.01, 0.02)

FINE = [round(0.3 + 0.025 * step, 3) for step in range(19)]
"""Sparsities; half of them for a network whose evaluation takes long."""

SLOW = ("cnn", "compact")


class Family(NamedTuple):
    """flips : (m, n) on validation and on test, 1 lost, -1 gained; sizes : (m,), bytes"""

    title: str
    validation: NDArray[np.int8]
    test: NDArray[np.int8]
    sizes: NDArray[np.float64]


def families_of(name: str) -> dict[str, list[CompressionConfig]]:
    """The candidates, by family."""
    one_shot = {
        score: [CompressionConfig(sparsity=sparsity, score=score) for sparsity in FINE]
        for score in ("magnitude", "lamp", "activation")
    }
    few = {"clip": "mse", "bias_correction": True}
    grid = [CompressionConfig(bits=bits, sparsity=share, **few) for bits, share in product((3, 4, 6), FINE[::2])]
    if name in SLOW:
        shares = (0.0, 0.1, 0.2, 0.3) if name == "compact" else (0.3, 0.4, 0.5, 0.6)
        small = [CompressionConfig(bits=bits, sparsity=share, **few) for bits, share in product((4, 5, 6), shares)]
        return {"bits and sparsity": small}
    channels = [CompressionConfig(channel_share=round(0.4 + 0.05 * step, 2)) for step in range(12)]
    return {**one_shot, "bits and sparsity": grid, "channels": channels}


def measured(bench: Workbench, name: str) -> Iterator[Family]:
    """The families of a network, and all of them together."""
    found = []
    for title, configs in families_of(name).items():
        pairs = [[bench.evaluate(name, config, split) for split in ("validation", "test")] for config in configs]
        flips = [
            np.stack(
                [(each.baseline.right.int() - each.evaluation.right.int()).numpy().astype(np.int8) for each in side]
            )
            for side in zip(*pairs, strict=True)
        ]
        found.append(Family(f"{name}, {title}", *flips, np.array([first.bytes for first, _ in pairs], float)))
    yield from found
    if len(found) > 1:
        validation, test, sizes = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[1:])
        yield Family(f"{name}, all", validation, test, sizes)


def judged(family: Family, allowance: float, confidence: float | None) -> dict[str, float] | None:
    """The choice: what it loses on either images, and its bytes; None where nothing was chosen."""
    place = promise.smallest(family.validation, family.sizes, allowance, confidence)
    if place is None:
        return None
    return {
        "validation": float(family.validation[place].mean()),
        "test": float(family.test[place].mean()),
        "bytes": family.sizes[place],
    }


def again(family: Family, dice: np.random.Generator) -> Family:
    """The same candidates, the images cut otherwise."""
    every = np.concatenate([family.validation, family.test], axis=1)[:, dice.permutation(15_000)]
    return family._replace(validation=every[:, :5_000], test=every[:, 5_000:])


def choices(family: Family, confidence: float) -> list[dict[str, Any]]:
    return [
        {
            "title": family.title,
            "allowance": allowance,
            "without": judged(family, allowance, None),
            "with": judged(family, allowance, confidence),
        }
        for allowance in ALLOWANCES
    ]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many choices each way made, the share that the test images kept, and the mean ratio of bytes."""
    about: dict[str, Any] = {}
    for way in ("without", "with"):
        made = [row for row in rows if row[way] is not None]
        kept = [row[way]["test"] <= row["allowance"] + 1e-12 for row in made]
        about[way] = {"choices": len(made), "kept": round(statistics.mean(kept), 3)}
    both = [row for row in rows if row["with"] is not None and row["without"] is not None]
    about["bytes"] = round(
        math.exp(statistics.mean(math.log(r["with"]["bytes"] / r["without"]["bytes"]) for r in both)), 3
    )
    return about


def show(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    print(f"{'':34}{'allowed':>8}{'without':>26}{'with':>26}")
    for row in rows:
        cells = ""
        for way in ("without", "with"):
            one = row[way]
            cell = (
                "-" if one is None else f"{100 * one['validation']:.2f} {100 * one['test']:.2f} {one['bytes']:>10,.0f}"
            )
            cells += f"{cell:>26}"
        print(f"{row['title']:34}{100 * row['allowance']:>8.1f}{cells}")
    for title, about in found.items():
        kept = ", ".join(f"{way} {about[way]['kept']:.1%} of {about[way]['choices']}" for way in ("without", "with"))
        print(f"{title}: the test images kept the allowance {kept}; bytes x {about['bytes']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--baselines", nargs="+", default=["mlp", "mlp-course", *SLOW], metavar="NAME")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="what was measured, which is not measured again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, cut_again, dice = [], [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(options.cache or Path(folder))
        for name in options.baselines:
            for family in measured(bench, name):
                rows += choices(family, options.confidence)
                for _ in range(options.resplits):
                    cut_again += choices(again(family, dice), options.confidence)
        bench.turns.close()
        bench.store.close()
    found = {"as the images are cut": summary(rows)}
    if cut_again:
        found["cut again"] = summary(cut_again)
    if options.json:
        print(json.dumps({"confidence": options.confidence, "choices": rows, **found}))
    else:
        show(rows, found)


if __name__ == "__main__":
    main()
