"""What a rate in the loss brings at equal bytes: the ablation beside pruning, in one run.

    python -m benchmarks.rate [--baselines compact cnn] [--bits 4] [--activation-bits 8] [--epochs 8] [--seeds 3]
        [--schedule iterative] [--lambdas 0.03 0.1 0.3] [--cache DIR] [--json]

Each network is trained with a rate in the loss, at every lambda, and without one but pruned, at three sparsities whose
files lie around the same bytes; bits, epochs, teacher and seeds are the same. Accuracies are those of the 10,000 test
images: between two trainings of a seed they are linear in the logarithm of the bytes, and compared in the middle of the
sizes that all reach. The mean over the seeds has a 95 % interval by Student's t, for three of them -+ 4.30 s / sqrt(3).

Eighteen trainings a network with three seeds: an hour of `compact` on two cores; with `--cache` it can be stopped and
goes on. A network is trained for the images that it was made for: a file, or the name of one in the cache, will do.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from core.bench.workbench import Workbench
from core.studies import rates
from core.studies.answers import RateAblation


def show(name: str, found: RateAblation) -> None:
    print(f"\n{name}, {100 * found.baseline_accuracy:.2f} % in float32")
    print(f"{'':16}{'seed':>6}{'bytes':>10}{'bits/weight':>13}{'zeros':>9}{'test':>9}{'change':>10}")
    for row in (*found.rated, *found.pruned):
        title = rates.in_brief(row.configuration).replace("\u00a0", " ")
        cells = f"{row.seed:>6}{row.bytes:>10,}{row.bits_per_weight:>13.2f}{row.sparsity:>9.1%}"
        print(f"{title:16}{cells}{100 * row.accuracy:>8.2f}%{100 * row.difference:>+9.2f}")
    print(rates.verdict(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baselines", nargs="+", default=["compact"], metavar="NAME")
    parser.add_argument("--bits", type=int, default=4, choices=rates.BITS)
    parser.add_argument("--activation-bits", type=int, metavar="B", help="float32 if not given")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--schedule", default="iterative", choices=["one-shot", "iterative"], help="of the pruning")
    parser.add_argument("--lambdas", nargs="+", type=float, default=rates.STRONG, metavar="LAMBDA")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="what was trained, which is not trained again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    said: list[str] = []

    def say(event: dict[str, Any]) -> None:
        words = event.get("message") or event.get("target")
        if words and words not in said[-1:]:
            said.append(words)
            print(words, file=sys.stderr, flush=True)

    answers: dict[str, RateAblation] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(options.cache or Path(folder), "reproduced")
        for name in options.baselines:
            config = rates.configuration(bench, name, options.bits, options.activation_bits, options.epochs)
            ways = options.schedule, options.seeds, options.lambdas
            answers[name] = rates.ablation(bench, name, config, *ways, progress=say)
        bench.turns.close()
        bench.store.close()
    if options.json:
        about = {"bits": options.bits, "epochs": options.epochs, "schedule": options.schedule}
        found = {name: {**each.to_dict(), "verdict": rates.verdict(each)} for name, each in answers.items()}
        print(json.dumps({**about, "networks": found}))
    else:
        for name, each in answers.items():
            show(name, each)


if __name__ == "__main__":
    main()
