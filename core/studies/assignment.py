"""The course's embedded-AI assignment, as calls of the workbench: pruning, quantization, and the two together.

Settings are chosen on the validation images; the test images are opened for verdicts. Every difference is paired.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations, product
from typing import Any

import torch
from torch import Tensor

from core import settings
from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import Workbench
from core.config import FLOAT_BITS, CompressionConfig, RecoveryConfig
from core.formats import footprint
from core.machinery.stopping import Stopped
from core.mathematics import low_rank, pruning, quantization
from core.measuring import evaluation
from core.measuring.training import Progress
from core.studies import tuning
from core.studies.reproduce import difference, figures, latencies, say_which

Stop = Callable[[], bool]

CHANNELS, LADDER, QUANTIZATION = "channel pruning", "quantization ladder", "quantization before and after training"
WIDTHS, MIXED, COMBINATION, ORDERS = "sensitivity to bits", "mixed bits", "best combination", "order of the steps"
"""The kinds of jobs that run them."""

VERSION = 1
"""Raise it when what these experiments do changes in a way that no constant shows."""

ITERATIVE = CompressionConfig(score="lamp")
"""How the iterative experiments choose their weights."""

THRESHOLDS: dict[str, str] = {"network": "one threshold", "layer": "per layer"}
RATE = 0.1
"""Learning rate of the pruning experiments, chosen on validation: 96 % sparse after 8 epochs 93.3 against 93.2 with
0.03, half of the channels after 6 epochs 93.3 against 93.0."""

RUNGS: dict[str, dict[str, Any]] = {
    "per tensor": {"granularity": "tensor"},
    "per channel": {},
    "+ clipping": {"clip": "mse"},
    "+ bias correction": {"clip": "mse", "bias_correction": True},
    "+ GPTQ": {"clip": "mse", "bias_correction": True, "rounding": "gptq"},
    "+ zero point": {"clip": "mse", "bias_correction": True, "rounding": "gptq", "symmetry": "asymmetric"},
}
"""The steps that make few bits work without training, each beside those before it."""

ASSIGNED = (8, 6, 4, 3, 2)
"""Bits of the assignment, and 3."""

GENTLE, STRONG, LONG = 0.003, 0.03, 3
"""Learning rate of quantization-aware training, and at 2 bits, where it takes `LONG` times the epochs. On validation, 4
epochs with the baseline as teacher: 3 bits 93.4 with 0.003, 93.3 with 0.01 and 0.03; 2 bits, 12 epochs: 92.6 with 0.03,
92.0 with 0.01."""


def channels(
    bench: Workbench,
    name: str,
    epochs: int = 6,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Half of all channels removed, by every score and scope, before training and after; beside it the network as it is
    and half of its weights set to zero: parameters, multiply-accumulates, time per image, accuracy on validation.

    Returns rows `title`, `config`, `parameters`, `bytes`, `before`, `after` (None where nothing was trained) and
    `latency`.
    """
    whole = {"the network": CompressionConfig(), "half of the weights zero": CompressionConfig(sparsity=0.5)}
    half = {
        f"half of the channels, by {score}, {THRESHOLDS[scope]}": CompressionConfig(
            channel_share=0.5, channel_score=score, scope=scope
        )
        for score, scope in product(settings.named("channel_score").choices, settings.named("scope").choices)
    }
    rows: list[dict[str, Any]] = []
    for title, config in (whole | half).items():
        trained = replace(config, recovery=RecoveryConfig(epochs, RATE)) if title in half else None
        if trained is not None:
            said = partial(say_which, progress, title, 0, (len(rows) - len(whole)) / len(half))
            bench.recover(name, trained, said, should_stop)
        before = bench.evaluate(name, config)
        after = None if trained is None else figures(bench.evaluate(name, trained))
        own = {"title": title, "config": (trained or config).to_json(), "parameters": before.parameters}
        rows.append(own | {"bytes": before.bytes, "before": figures(before), "after": after})
    progress({"message": "Time per image.", "done": 1.0})
    for row, timed in zip(rows, latencies(bench, name, list((whole | half).values())), strict=True):
        row["latency"] = timed
    return rows


def best_channels(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rows of `channels`, the most accurate one after training."""
    return max((row for row in rows if row["after"] is not None), key=lambda row: float(row["after"]["accuracy"]))


def pruning_half(
    bench: Workbench,
    name: str = "cnn",
    allowance: float = 0.01,
    epochs: int = 8,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The assignment's pruning half: the largest sparsity within `allowance` of the validation accuracy, one shot and
    iterative, with the test images' verdict on both; the sensitivity of the layers; half of the channels removed.
    """
    one_shot = tuning.one_shot_answers(bench, name, allowance, progress, should_stop)
    steps = tuning.largest_iterative(bench, name, ITERATIVE, iterative(epochs), allowance, progress, should_stop)
    verdicts = {}
    for title, found in (("one-shot", tuning.best_one_shot(one_shot)), ("iterative", tuning.chosen_run(steps))):
        if found is None:
            continue
        tested = bench.evaluate(name, CompressionConfig.from_json(found["config"]), "test")
        layers = {layer.name: layer.sparsity for layer in tested.layers}
        verdicts[title] = {**figures(tested), **difference(bench, tested, None), "layers": layers}
    return {
        "baseline": name,
        "allowance": allowance,
        "one_shot": one_shot,
        "iterative": steps,
        "test": verdicts,
        "sensitivity": tuning.sensitivity(bench, name, CompressionConfig(), "sparsity", progress, should_stop),
        "channels": channels(bench, name, progress=progress, should_stop=should_stop),
    }


def iterative(epochs: int) -> RecoveryConfig:
    """The fine-tuning of the iterative experiments."""
    return RecoveryConfig(epochs, RATE, schedule="iterative")


def alike(bits: int, rung: str = "per channel") -> CompressionConfig:
    """Weights and activations at the same number of bits."""
    return CompressionConfig(bits=bits, activation_bits=bits, **RUNGS[rung])


def ladder(
    bench: Workbench, name: str, progress: Progress = lambda event: None, should_stop: Stop = lambda: False
) -> list[dict[str, Any]]:
    """Accuracy on validation by rung of `RUNGS` and bits, nothing trained, weights only and weights and activations
    alike. Returns rows `rung`, `bits`, `activations` (bool), and the figures of `tuning.point`."""
    rows: list[dict[str, Any]] = []
    places = []
    for rung, bits, activations in product(RUNGS, tuning.WIDTHS, (False, True)):
        config = alike(bits, rung) if activations else replace(alike(bits, rung), activation_bits=None)
        if not bench.refusal(name, config):  # a rung may need to know more of a large layer than fits
            places.append((rung, bits, activations, config))
    for rung, bits, activations, config in places:
        if should_stop():
            raise Stopped
        rows.append(tuning.point(bench.evaluate(name, config)) | {"rung": rung, "bits": bits})
        rows[-1] |= {"activations": activations}
        progress({"message": f"{bits} bits, {rung}", "done": len(rows) / len(places)})
    return rows


def best_rung(rows: list[dict[str, Any]], bits: int, activations: bool = True) -> dict[str, Any]:
    """The most accurate row of a ladder at so many bits; of equals the one with the smaller loss."""
    fits = [row for row in rows if (row["bits"], row["activations"]) == (bits, activations)]
    return max(fits, key=lambda row: (row["accuracy"], -row["loss"]))


def fewest_rung(rows: list[dict[str, Any]], allowance: float) -> dict[str, Any] | None:
    """The best row at the fewest bits, weights and activations alike, that loses at most `allowance`; None if none."""
    found = [best_rung(rows, bits) for bits in tuning.WIDTHS]
    fits = [row for row in found if tuning.within_allowance(row, allowance)]
    return min(fits, key=lambda row: int(row["bits"]), default=None)


def quantized_training(bits: int, epochs: int = 4) -> RecoveryConfig:
    """Quantization-aware training of the assignment: the baseline teaches; 2 bits take more of it."""
    few = bits == 2
    return RecoveryConfig(epochs * (LONG if few else 1), STRONG if few else GENTLE, distillation=True)


def quantization_half(
    bench: Workbench,
    name: str = "cnn",
    epochs: int = 4,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> dict[str, Any]:
    """The assignment's quantization half: 8, 6, 4, 3 and 2 bits, weights and activations alike, before and after
    training, with the verdict on the test images, and sizes in KB.

    Returns `baseline`, `epochs`, `ladder`, `float32` and `rows`: per number of bits `minmax` (per channel, no more),
    `before` (the best rung on validation) and `after` (that, trained), each as `_judged`; the training's `history`, and
    the epoch that is `kept`.
    """
    work = 1 + sum(quantized_training(bits, epochs).epochs for bits in ASSIGNED)
    rungs = ladder(bench, name, partial(_part, progress, "the ladder", 0.0, 1 / work), should_stop)
    whole = bench.evaluate(name, CompressionConfig())
    rows: list[dict[str, Any]] = []
    done = 1
    for bits in ASSIGNED:
        before = CompressionConfig.from_json(best_rung(rungs, bits)["config"])
        training = quantized_training(bits, epochs)
        after = replace(before, recovery=training)
        said = partial(_part, progress, f"{bits} bits", done / work, training.epochs / work)
        bench.recover(name, after, said, should_stop)
        done += training.epochs
        judged = {"minmax": alike(bits), "before": before, "after": after}
        rows.append({"bits": bits} | {when: _judged(bench, name, config) for when, config in judged.items()})
        rows[-1] |= {"history": bench.history(name, after), "kept": bench.kept_epoch(name, after)}
    about = {"baseline": name, "epochs": epochs, "kb": whole.theoretical_kb, "bytes": whole.bytes}
    return about | {"float32": _judged(bench, name, CompressionConfig()), "ladder": rungs, "rows": rows}


def _part(progress: Progress, title: str, start: float, share: float, event: dict[str, Any]) -> None:
    """Progress of a part of a job. The target tells the epochs of one training from those of another."""
    done = {"done": start + share * event["done"]} if "done" in event else {}
    words = {key: f"{title}: {event[key]}" for key in ("target", "message") if key in event}
    if "epoch" in event and not words:
        words = {"target": title} if "figures" in event else {"message": title}
    progress(event | done | words)


def _judged(bench: Workbench, name: str, config: CompressionConfig) -> dict[str, Any]:
    """A configuration on the validation images, and its verdict on the test images with precision, recall and F1 by
    class. kb : in theory, by `model_size_kb`; bytes : of the real file"""
    chosen, tested = bench.evaluate(name, config), bench.evaluate(name, config, "test")
    report = tested.evaluation.report().to_dict("index")
    test = {**figures(tested), **difference(bench, tested, None), "report": report}
    sizes = {"kb": chosen.theoretical_kb, "bytes": chosen.bytes, "compression_ratio": chosen.compression_ratio}
    return tuning.point(chosen) | sizes | {"interval": list(chosen.comparison.interval), "test": test}


def fewest_bits(rows: list[dict[str, Any]], allowance: float, when: str = "after") -> dict[str, Any] | None:
    """The row with the fewest bits that loses at most `allowance` of the validation images."""
    fits = [row for row in rows if tuning.within_allowance(row[when], allowance)]
    return min(fits, key=lambda row: int(row["bits"]), default=None)


def ways(epochs: int = 8) -> dict[str, list[CompressionConfig]]:
    """Techniques and their combinations, each as configurations from the mildest to the strongest, with training.

    Where bits come after something else, the network first trains without them: schedule "iterative". The baseline
    teaches there: 90 % sparse with 4 bits have 93.7 on validation with it, 93.5 without. epochs : at least 2
    """
    steps = iterative(epochs)
    taught = replace(steps, distillation=True)
    fewer: dict[str, Any] = {"bits": 4, "activation_bits": 4, "recovery": taught, **RUNGS["+ GPTQ"]}
    narrow = CompressionConfig(channel_score="activation", scope="layer", recovery=RecoveryConfig(epochs, RATE))
    channels = [replace(narrow, channel_share=share) for share in (0.7, 0.5, 0.35, 0.25, 0.18)]
    rungs = {3: "+ zero point", 2: "+ zero point"}
    both = ((0.5, 0.6), (0.5, 0.8), (0.35, 0.6), (0.35, 0.75), (0.25, 0.5), (0.25, 0.7))
    return {
        "weights": [replace(ITERATIVE, sparsity=s, recovery=steps) for s in (0.9, 0.94, 0.96, 0.97, 0.98)],
        "channels": channels,
        "bits": [
            replace(alike(bits, rungs.get(bits, "+ GPTQ")), recovery=quantized_training(bits, epochs // 2))
            for bits in (8, 6, 5, 4, 3, 2)
        ],
        "weights + bits": [replace(ITERATIVE, sparsity=s, **fewer) for s in (0.8, 0.9, 0.93, 0.95, 0.96, 0.97)],
        "channels + bits": [replace(each, **fewer) for each in channels],
        "channels + weights + bits": [
            replace(narrow, channel_share=share, sparsity=s, score="lamp", **fewer) for share, s in both
        ],
    }


def combination(
    bench: Workbench,
    name: str = "cnn",
    allowance: float = 0.01,
    epochs: int = 8,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> dict[str, Any]:
    """The smallest file that each of `ways` reaches within `allowance` of the validation accuracy, everything trained;
    the smallest of all is the best combination, kept as trained, with its verdict on test.

    Returns `baseline`, `allowance`, `rows` (`way`, `runs`, `chosen` as `tuning.hardest` has them) and `best` (`way` and
    what `_judged` says of it; None where nothing fits).
    """
    rows: list[dict[str, Any]] = []
    listed = ways(epochs)
    for way, configs in listed.items():
        said = partial(_part, progress, way, len(rows) / len(listed), 1 / len(listed))
        rows.append({"way": way, **tuning.hardest(bench, name, configs, allowance, said, should_stop)})
    fits = [row for row in rows if row["chosen"] is not None]
    best = min(fits, key=lambda row: int(row["chosen"]["bytes"]), default=None)
    about: dict[str, Any] = {"baseline": name, "allowance": allowance, "rows": rows, "best": None}
    if best is not None:
        config = CompressionConfig.from_json(best["chosen"]["config"])
        about["best"] = {"way": best["way"], **_judged(bench, name, config)}
    return about


def order_steps(sparsity: float, bits: int, share: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """The three operations on a whole weight matrix, each applied as if it were the only one."""

    def factor(weight: Tensor) -> Tensor:
        rank = low_rank.rank_from_share(share, min(low_rank.as_matrix(weight).shape))
        return low_rank.reconstruct(low_rank.decompose(weight), rank, tuple(weight.shape))

    return {
        "prune": lambda weight: weight * pruning.keep_mask(pruning.magnitude(weight), sparsity),
        "quantize": lambda weight: quantization.fake_quantize(
            weight, quantization.weight_grid(weight, bits).scale, bits
        ),
        "low rank": factor,
    }


def orders(
    bench: Workbench,
    name: str,
    layer: str,
    sparsity: float = 0.9,
    bits: int = 3,
    share: float = 0.25,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> list[dict[str, Any]]:
    """What a later step destroys of an earlier one's work on a layer, for every order of two and of three steps on the
    whole matrix, and for this project's way: factors first, then zeros and grids on the factors. Nothing is trained.

    sparsity, bits, share : what each step asks for; share of the singular values that is kept
    Returns rows `order`, `zeros` (share), `rank`, `levels` (most different values in an output channel), `kb` (the
    least that holds it, in theory), `accuracy`, `difference`, `interval`, `lost`, `gained` (validation, against the
    baseline), and `flips`: of two steps, predictions that differ from those of the two the other way round.
    """
    weight = bench.baseline(name).tensors[f"{layer}.weight"]
    before = bench.evaluate(name, CompressionConfig()).evaluation
    steps, rows, seen = order_steps(sparsity, bits, share), [], {}
    listed = [order for count in (2, 3) for order in permutations(steps, count)]
    for order in listed:
        if should_stop():
            raise Stopped
        made = weight
        for step in order:
            made = steps[step](made)
        measured = seen[order] = bench.composed(name, {layer: made})
        rows.append({"order": " → ".join(order), **_remains(made, [made], bits), **_flips(before, measured)})
        if len(order) == 2 and order[::-1] in seen:
            flips = int((measured.predictions != seen[order[::-1]].predictions).sum())
            for row in (rows[-1], rows[list(seen).index(order[::-1])]):
                row["flips"] = flips
        progress({"message": rows[-1]["order"], "done": len(rows) / (len(listed) + 1)})
    rank = low_rank.rank_from_share(share, min(low_rank.as_matrix(weight).shape))
    own = CompressionConfig().with_layer(layer, rank=rank, sparsity=sparsity, bits=bits)
    stored = next(each for each in bench.network(name, own).layers if each.layer.name == layer)
    factors = [tensor.weight() for tensor in stored.tensors]
    product = low_rank.as_matrix(factors[1]) @ low_rank.as_matrix(factors[0])
    measured = bench.evaluate(name, own).evaluation
    return [*rows, {"order": OWN_ORDER, **_remains(product, factors, bits), **_flips(before, measured)}]


OWN_ORDER = "on the factors: low rank, prune, quantize"


def _remains(weight: Tensor, held: list[Tensor], bits: int) -> dict[str, float]:
    """Of what three steps want: a low rank of the weight; zeros and few levels of the tensors that hold it; and the
    least KB that this allows: a map and what is not zero, or everything, or two float32 factors."""
    matrices = [low_rank.as_matrix(each) for each in held]
    numbers = [matrix.numel() for matrix in matrices]
    kept = [int(torch.count_nonzero(matrix)) for matrix in matrices]
    levels = max(len(row.unique()) for matrix in matrices for row in matrix)
    rank = int(torch.linalg.matrix_rank(low_rank.as_matrix(weight).double(), rtol=1e-5))
    width = bits if levels <= 2**bits else FLOAT_BITS
    stored = sum(min(n * width, n + some * width) for n, some in zip(numbers, kept, strict=True))
    least = min(stored, rank * sum(low_rank.as_matrix(weight).shape) * FLOAT_BITS)
    return {"zeros": 1 - sum(kept) / sum(numbers), "rank": rank, "levels": levels, "kb": least / 8 / footprint.KB}


def _flips(before: evaluation.Evaluation, after: evaluation.Evaluation) -> dict[str, Any]:
    change = evaluation.compare(before, after)
    measured = {"accuracy": after.accuracy, "difference": change.difference}
    return measured | {"lost": change.lost, "gained": change.gained, "interval": list(change.interval)}


def _widths(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> dict[str, Any]:
    config = CompressionConfig(**RUNGS[asked["rung"]])
    return {"rows": tuning.sensitivity(bench, asked["baseline"], config, "bits", report, should_stop)}


def _mixed(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> dict[str, Any]:
    config = replace(alike(asked["activations"], asked["rung"]), bits=None)
    return {"steps": tuning.allocate_bits(bench, asked["baseline"], config, report, should_stop)}


KINDS = {
    CHANNELS: Kind(
        "Structured (channel) pruning",
        lambda bench, asked, *rest: {"rows": channels(bench, asked["baseline"], asked["epochs"], *rest)},
    ),
    LADDER: Kind(
        "Post-training quantization (PTQ)",
        lambda bench, asked, *rest: {"rows": ladder(bench, asked["baseline"], *rest)},
    ),
    QUANTIZATION: Kind(
        "Quantization-aware training (QAT)",
        lambda bench, asked, *rest: quantization_half(bench, asked["baseline"], asked["epochs"], *rest),
    ),
    WIDTHS: Kind("Layer sensitivity to bits", _widths),
    MIXED: Kind("Mixed precision", _mixed),
    COMBINATION: Kind(
        "Best combination",
        lambda bench, asked, *rest: combination(
            bench, *(asked[key] for key in ("baseline", "allowance", "epochs")), *rest
        ),
    ),
    ORDERS: Kind(
        "Order of the techniques",
        lambda bench, asked, *rest: {
            "rows": orders(bench, *(asked[key] for key in ("baseline", "layer", "sparsity", "bits", "share")), *rest)
        },
    ),
}
