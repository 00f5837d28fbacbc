"""How many small faults in the mathematics the tests notice: mutation testing (DeMillo et al. 1978), by cosmic-ray.

    python -m benchmarks.mutants [--count 300] [--seed 0] [--module mathematics/coding] [--json]

A mutant is the project with one fault in it: another operator, another number, a missing decorator. So many places are
drawn from `MODULES`, and at each one of the faults that cosmic-ray can make there. Left out is what no test could miss:
annotations, where a fault breaks the import, and bit operations in the place of arithmetic, which floats refuse. Each
mutant is tested in a copy of the project with the tests of its module, until the first one fails: then it is killed. A
survivor is a law that is missing, or a fault that changes nothing; each is printed with its lines.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator, operator_names

from core.machinery.files import PROJECT

MODULES = {
    "mathematics/low_rank": ("low_rank", "compression"),
    "mathematics/pruning": ("pruning", "compression"),
    "mathematics/quantization": ("quantization", "compression"),
    "mathematics/coding": ("coding", "packed"),
    "mathematics/promise": ("promise",),
    "techniques/low_rank": ("low_rank", "compression"),
    "techniques/pruning": ("pruning", "compression"),
    "techniques/quantization": ("quantization", "compression"),
    "formats/footprint": ("footprint", "records", "packed"),
    "networks/stored": ("stored", "records", "packed", "interchange", "compression"),
}
"""Module of `core`, by its wing -> the test files that speak of it, the nearest first."""

COPIED = ("core", "pages", "tests", "benchmarks", "pyproject.toml", "README.md", "streamlit_app.py")
NO_FAULT_OF_FLOATS = re.compile(r"ReplaceBinaryOperator_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(Bit\w+|[LR]Shift)")
SLOWER = 6
"""A mutant that takes so many times as long as the project itself never ends: it is killed."""


Span = tuple[tuple[int, int], tuple[int, int]]
"""(line, column) of a beginning and of an end."""


class Mutant(NamedTuple):
    """A fault: cosmic-ray's operator at its n-th place in a module."""

    module: str
    operator: str
    occurrence: int


class Outcome(NamedTuple):
    """survived : no test failed; diff : the lines of the fault."""

    mutant: Mutant
    survived: bool
    diff: str


def mutants(module: str) -> dict[tuple[str, Span], list[Mutant]]:
    """By place in a module, all faults that are made there."""
    path = PROJECT / "core" / f"{module}.py"
    left_out, nodes = annotations(path.read_text()), list(ast_nodes(get_ast_from_path(path)))
    made: dict[tuple[str, Span], list[Mutant]] = {}
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or NO_FAULT_OF_FLOATS.search(name):
            continue
        places = (place for node in nodes for place in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(places):
            if not any(first <= start and end <= last for first, last in left_out):
                made.setdefault((module, (start, end)), []).append(Mutant(module, name, occurrence))
    return made


def drawn(modules: Iterable[str], count: int, seed: int) -> tuple[list[Mutant], int]:
    """So many mutants, each at a place of its own, in the order of their modules; and how many places there are."""
    places = [faults for module in modules for _, faults in sorted(mutants(module).items())]
    dice = random.Random(seed)
    return sorted(dice.choice(faults) for faults in dice.sample(places, min(count, len(places)))), len(places)


def annotations(source: str) -> list[Span]:
    """(line, column) of the beginning and the end of every annotation."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        for said in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(said, ast.expr):
                spans.append(((said.lineno, said.col_offset), (said.end_lineno or 0, said.end_col_offset or 0)))
    return spans


def copied(folder: Path) -> Path:
    """The project without what it has compiled: a mutant must be compiled anew."""
    for name in COPIED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(PROJECT / name, folder / name)
    return folder


def passes(folder: Path, module: str, limit: float | None = None) -> bool:
    """Whether all tests of a module pass in that copy of the project, within so many seconds."""
    files = [next((folder / "tests").rglob(f"test_{name}.py")) for name in MODULES[module]]
    for compiled in (folder / "core").rglob("__pycache__"):  # of another mutant, perhaps as old and as large
        shutil.rmtree(compiled, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *map(str, files)]
    environment = {**os.environ, "CI": "true", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def outcome(folder: Path, mutant: Mutant, limit: float) -> Outcome:
    path = folder / "core" / f"{mutant.module}.py"
    with use_mutation(path, get_operator(mutant.operator)(), mutant.occurrence) as (before, after):
        assert after is not None, mutant
        survived = passes(folder, mutant.module, limit)
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return Outcome(mutant, survived, "\n".join(list(lines)[2:]))


def run(chosen: list[Mutant], workers: int) -> list[Outcome]:
    """Each mutant in one of `workers` copies; what each did is said as it comes."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as home:
        folders: Queue[Path] = Queue()
        for number in range(workers):
            folders.put(copied(Path(home) / str(number)))
        limits = {}
        for module in dict.fromkeys(mutant.module for mutant in chosen):
            start = time.monotonic()
            assert passes(Path(home) / "0", module), f"the tests of {module} fail without a fault"
            limits[module] = SLOWER * (time.monotonic() - start)

        def one(mutant: Mutant) -> Outcome:
            folder = folders.get()
            try:
                found = outcome(folder, mutant, limits[mutant.module])
            finally:
                folders.put(folder)
            print("survived" if found.survived else "killed", *mutant, file=sys.stderr, flush=True)
            return found

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", choices=list(MODULES), action="append", help="instead of all; may be repeated")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen, places = drawn(options.module or MODULES, options.count, options.seed)
    outcomes = run(chosen, options.workers)
    rows = {}
    for module in dict.fromkeys(mutant.module for mutant in chosen):
        own = [found for found in outcomes if found.mutant.module == module]
        survivors = [found for found in own if found.survived]
        rows[module] = {"mutants": len(own), "killed": len(own) - len(survivors), "survived": len(survivors)}
    if options.json:
        survivors = [{**found.mutant._asdict(), "diff": found.diff} for found in outcomes if found.survived]
        print(json.dumps({"places": places, "modules": rows, "survivors": survivors}))
        return
    for found in outcomes:
        if found.survived:
            print(f"{found.mutant.module}, {found.mutant.operator}\n{found.diff}\n")
    rows["all"] = {key: sum(row[key] for row in rows.values()) for key in ("mutants", "killed", "survived")}
    print(f"{'':28}{'mutants':>8}{'killed':>8}{'survived':>9}{'share':>8}   of {places} places")
    for module, row in rows.items():
        figures = "".join(f"{row[key]:>{width}}" for key, width in (("mutants", 8), ("killed", 8), ("survived", 9)))
        print(f"{module:28}{figures}{row['killed'] / row['mutants']:>8.1%}")


if __name__ == "__main__":
    main()
