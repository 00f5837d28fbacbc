"""The course's embedded-AI assignment, as calls of the workbench: pruning, quantization, and the two together.

Settings are chosen on the validation images; the test images are opened for verdicts. Every difference is paired.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core import settings
from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import Result, Workbench
from core.config import FLOAT_BITS, CompressionConfig, RecoveryConfig
from core.formats import footprint
from core.machinery.stopping import Stopped
from core.mathematics import low_rank, pruning, quantization
from core.measuring import evaluation
from core.measuring.training import Progress
from core.studies import answers, tuning
from core.studies.reproduce import latencies, say_which

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

BY_RATE: dict[str, dict[str, Any]] = {"+ rate": {**RUNGS["+ GPTQ"], "rate_rounding": 0.03}}
"""One more step, for fewer bytes and not for accuracy: it is tried where it is asked for."""

PLAINER: dict[str, Any] = {"rounding": "nearest", "bias_correction": False, "channel_score": "l1"}
"""What takes no second moments, and no means, of a layer's input."""

ASSIGNED = (8, 6, 4, 3, 2)
"""Bits of the assignment, and 3."""

GENTLE = 0.003
"""Learning rate of quantization-aware training."""

FEWER = {4: (0.01, 2), 3: (0.03, 3), 2: (0.03, 3)}
"""Bits: learning rate, and how many times the epochs, where rounding changes more. The CNN on validation, its baseline
as teacher, four epochs or so many times four: 93.8 % at 4 bits, 93.5 at 3 and 93.1 at 2, where the best rounding alone
has 93.6, 93.2 and 88.9; gently, for four epochs, no more than that at 4 and 3 bits."""


def feasible(bench: Workbench, name: str, config: CompressionConfig) -> CompressionConfig:
    """The same; `PLAINER` where it would have to know more of a large layer's input than fits into memory."""
    plainer = replace(config, **PLAINER)
    return plainer if bench.refusal(name, config) and not bench.refusal(name, plainer) else config


def channels(
    bench: Workbench,
    name: str,
    epochs: int = 6,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[answers.ChannelRow]:
    """Half of all channels removed, by every score and scope, before training and after; beside it the network as it is
    and half of its weights set to zero: parameters, multiply-accumulates, time per image, accuracy on validation."""
    whole = {"the network": CompressionConfig(), "half of the weights zero": CompressionConfig(sparsity=0.5)}
    half = {
        f"half of the channels, by {score}, {THRESHOLDS[scope]}": CompressionConfig(
            channel_share=0.5, channel_score=score, scope=scope
        )
        for score, scope in product(settings.named("channel_score").choices, settings.named("scope").choices)
    }
    half = {title: config for title, config in half.items() if not bench.refusal(name, config)}
    rows: list[partial[answers.ChannelRow]] = []
    for title, config in (whole | half).items():
        trained = replace(config, recovery=RecoveryConfig(epochs, RATE)) if title in half else None
        if trained is not None:
            said = partial(say_which, progress, title, 0, (len(rows) - len(whole)) / len(half))
            bench.recover(name, trained, said, should_stop)
        before = bench.evaluate(name, config)
        after = None if trained is None else _figures(bench.evaluate(name, trained))
        sizes = before.parameters, before.bytes
        rows.append(partial(answers.ChannelRow, title, (trained or config).to_json(), *sizes, _figures(before), after))
    progress({"message": "Time per image.", "done": 1.0})
    timed = latencies(bench, name, list((whole | half).values()))
    return [row(latency=latency) for row, latency in zip(rows, timed, strict=True)]


def _figures(result: Result) -> answers.Figures:
    return answers.Figures(result.evaluation.accuracy, result.evaluation.loss)


def best_channels(rows: Sequence[answers.ChannelRow]) -> answers.ChannelRow:
    """Of the rows of `channels`, the most accurate one after training."""
    trained = ((row.after.accuracy, row) for row in rows if row.after is not None)
    return max(trained, key=lambda pair: pair[0])[1]


def pruning_half(
    bench: Workbench,
    name: str = "cnn",
    allowance: float = 0.01,
    epochs: int = 8,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    confidence: float | None = None,
) -> answers.PruningHalf:
    """The assignment's pruning half: the largest sparsity within `allowance` of the validation accuracy, one shot and
    iterative, with the test images' verdict on both; the sensitivity of the layers; half of the channels removed.

    confidence : the allowance is to hold on new images, too
    """
    one_shot = tuning.one_shot_answers(bench, name, allowance, progress, should_stop, confidence)
    steps = tuning.largest_iterative(
        bench, name, ITERATIVE, iterative(epochs), allowance, progress, should_stop, confidence=confidence
    )
    verdicts = {}
    for title, chosen in (("one-shot", tuning.best_one_shot(one_shot).point), ("iterative", steps.chosen)):
        if chosen is not None:
            tested = bench.evaluate(name, chosen.configuration, "test")
            zeros = {layer.name: layer.sparsity for layer in tested.layers}
            verdicts[title] = answers.OnTestByLayer.of(tested, layers=zeros)
    return answers.PruningHalf(
        baseline=name,
        allowance=allowance,
        one_shot=tuple(one_shot),
        iterative=steps,
        test=verdicts,
        sensitivity=tuple(tuning.sensitivity(bench, name, CompressionConfig(), "sparsity", progress, should_stop)),
        channels=tuple(channels(bench, name, progress=progress, should_stop=should_stop)),
        confidence=confidence,
    )


def iterative(epochs: int) -> RecoveryConfig:
    """The fine-tuning of the iterative experiments."""
    return RecoveryConfig(epochs, RATE, schedule="iterative")


def alike(bits: int, rung: str = "per channel") -> CompressionConfig:
    """Weights and activations at the same number of bits."""
    return CompressionConfig(bits=bits, activation_bits=bits, **(RUNGS | BY_RATE)[rung])


def ladder(
    bench: Workbench,
    name: str,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
    rungs: Iterable[str] = tuple(RUNGS),
) -> list[answers.Rung]:
    """Accuracy on validation by rung and bits, nothing trained, weights only and weights and activations alike.

    rungs : of `RUNGS` and `BY_RATE`
    """
    rows: list[answers.Rung] = []
    places = []
    for rung, bits, activations in product(rungs, tuning.WIDTHS, (False, True)):
        config = alike(bits, rung) if activations else replace(alike(bits, rung), activation_bits=None)
        if not bench.refusal(name, config):  # a rung may need to know more of a large layer than fits
            places.append((rung, bits, activations, config))
    for rung, bits, activations, config in places:
        if should_stop():
            raise Stopped
        rows.append(answers.Rung.of(bench.evaluate(name, config), rung=rung, bits=bits, activations=activations))
        progress({"message": f"{bits} bits, {rung}", "done": len(rows) / len(places)})
    return rows


def best_rung(rows: Sequence[answers.Rung], bits: int, activations: bool = True) -> answers.Rung:
    """The most accurate row of a ladder at so many bits; of equals the one with the smaller loss."""
    fits = [row for row in rows if (row.bits, row.activations) == (bits, activations)]
    return max(fits, key=lambda row: (row.accuracy, -row.loss))


def fewest_rung(rows: Sequence[answers.Rung], allowance: float) -> answers.Rung | None:
    """The best row at the fewest bits, weights and activations alike, that loses at most `allowance`; None if none."""
    best = (best_rung(rows, bits) for bits in tuning.WIDTHS)
    fits = [row for row in best if tuning.within_allowance(row, allowance)]
    return min(fits, key=lambda row: row.bits, default=None)


def longer_in_words() -> str:
    """Which bits are trained for more epochs than others."""
    return ", ".join(f"{times} times as many at {bits} bits" for bits, (_, times) in FEWER.items())


def quantized_training(bits: int, epochs: int = 4) -> RecoveryConfig:
    """Quantization-aware training of the assignment: the baseline teaches; fewer bits take more of it."""
    rate, times = FEWER.get(bits, (GENTLE, 1))
    return RecoveryConfig(epochs * times, rate, distillation=True)


def quantization_half(
    bench: Workbench,
    name: str = "cnn",
    epochs: int = 4,
    progress: Progress = lambda event: None,
    should_stop: Stop = lambda: False,
) -> answers.QuantizationHalf:
    """The assignment's quantization half: 8, 6, 4, 3 and 2 bits, weights and activations alike, before and after
    training, with the verdict on the test images, and sizes in KB."""
    work = 1 + sum(quantized_training(bits, epochs).epochs for bits in ASSIGNED)
    rungs = ladder(bench, name, partial(say_part, progress, "the ladder", 0.0, 1 / work), should_stop)
    whole = bench.evaluate(name, CompressionConfig())
    rows: list[answers.AtBits] = []
    done = 1
    for bits in ASSIGNED:
        before, training = best_rung(rungs, bits).configuration, quantized_training(bits, epochs)
        after = replace(before, recovery=training)
        said = partial(say_part, progress, f"{bits} bits", done / work, training.epochs / work)
        bench.recover(name, after, said, should_stop)
        done += training.epochs
        minmax, best, trained = (_judged(bench, name, config) for config in (alike(bits), before, after))
        history, kept = bench.history(name, after), bench.kept_epoch(name, after)
        rows.append(answers.AtBits(bits, minmax, best, trained, None if history is None else tuple(history), kept))
    float32 = _judged(bench, name, CompressionConfig())
    sizes = whole.theoretical_kb, whole.bytes
    return answers.QuantizationHalf(name, epochs, *sizes, float32, tuple(rungs), tuple(rows))


def say_part(progress: Progress, title: str, start: float, share: float, event: dict[str, Any]) -> None:
    """Progress of a part of a job. The target tells the epochs of one training from those of another."""
    done = {"done": start + share * event["done"]} if "done" in event else {}
    words = {key: f"{title}: {event[key]}" for key in ("target", "message") if key in event}
    if "epoch" in event and not words:
        words = {"target": title} if "figures" in event else {"message": title}
    progress(event | done | words)


def _judged(bench: Workbench, name: str, config: CompressionConfig) -> answers.Judged:
    """A configuration on the validation images, and its verdict on the test images with precision, recall and F1 by
    class."""
    return answers.Judged.of(bench.evaluate(name, config), **_judgement(bench, name, config))


def _judgement(bench: Workbench, name: str, config: CompressionConfig) -> dict[str, Any]:
    """What `Judged` says beyond `Measured`."""
    chosen, tested = bench.evaluate(name, config), bench.evaluate(name, config, "test")
    report = {name: answers.ClassScores(**row) for name, row in tested.evaluation.report().to_dict("index").items()}
    return {
        "kb": chosen.theoretical_kb,
        "compression_ratio": chosen.compression_ratio,
        "interval": chosen.comparison.interval,
        "test": answers.OnTestByClass.of(tested, report=report),
    }


def fewest_bits(rows: Sequence[answers.AtBits], allowance: float) -> answers.AtBits | None:
    """The row with the fewest bits that, trained, loses at most `allowance` of the validation images."""
    fits = [row for row in rows if tuning.within_allowance(row.after, allowance)]
    return min(fits, key=lambda row: row.bits, default=None)


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
    confidence: float | None = None,
) -> answers.Combination:
    """The smallest file that each of `ways` reaches within `allowance` of the validation accuracy, everything trained;
    the smallest of all is the best combination, kept as trained, with its verdict on test.

    confidence : the allowance is to hold on new images, too
    """
    rows: list[answers.WayReached] = []
    listed = ways(epochs)
    for way, wished in listed.items():
        configs = [feasible(bench, name, config) for config in wished]
        said = partial(say_part, progress, way, len(rows) / len(listed), 1 / len(listed))
        reached = tuning.hardest(bench, name, configs, allowance, said, should_stop, confidence)
        rows.append(answers.WayReached(way, reached.chosen, reached.runs, reached.promises))
    best = _best_way(bench, name, rows, allowance, confidence)
    return answers.Combination(name, allowance, tuple(rows), best, confidence)


def _best_way(
    bench: Workbench, name: str, rows: Sequence[answers.WayReached], allowance: float, confidence: float | None
) -> answers.BestWay | None:
    """The smallest file of what each way has chosen; with a confidence, of all runs, for it is the best of so many.
    None where none fits."""
    tried = [(row.way, run) for row in rows for run in row.runs if confidence is not None or run == row.chosen]
    runs = [(way, bench.evaluate(name, run.configuration)) for way, run in tried]
    losses = tuning.losses(bench, name, [(result, result.bytes) for _, result in runs], allowance, confidence)
    fits = [(*run, lost) for run, lost in zip(runs, losses, strict=True) if tuning.allows(lost, allowance)]
    if not fits:
        return None
    way, result, lost = min(fits, key=lambda each: each[1].bytes)
    promised = None if confidence is None else lost
    return answers.BestWay.of(result, way=way, at_most=promised, **_judgement(bench, name, result.config))


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
) -> list[answers.Order]:
    """What a later step destroys of an earlier one's work on a layer, for every order of two and of three steps on the
    whole matrix, and for this project's way: factors first, then zeros and grids on the factors. Nothing is trained.

    sparsity, bits, share : what each step asks for; share of the singular values that is kept

    Raises ConfigError for a layer that cannot be factored.
    """
    weight = bench.baseline(name).tensors[f"{layer}.weight"]
    rank = low_rank.rank_from_share(share, min(low_rank.as_matrix(weight).shape))
    config = CompressionConfig().with_layer(layer, rank=rank, sparsity=sparsity, bits=bits)
    stored = next(each for each in bench.network(name, config).layers if each.layer.name == layer)
    before = bench.evaluate(name, CompressionConfig()).evaluation
    steps, rows = order_steps(sparsity, bits, share), list[answers.Order]()
    seen: dict[tuple[str, ...], evaluation.Evaluation] = {}
    listed = [order for count in (2, 3) for order in permutations(steps, count)]
    for order in listed:
        if should_stop():
            raise Stopped
        made = weight
        for step in order:
            made = steps[step](made)
        measured = seen[order] = bench.composed(name, {layer: made})
        rows.append(_order(" → ".join(order), _remains(made, [made], bits), before, measured))
        if len(order) == 2 and order[::-1] in seen:
            flips = int((measured.predictions != seen[order[::-1]].predictions).sum())
            for place in (len(rows) - 1, list(seen).index(order[::-1])):
                rows[place] = replace(rows[place], flips=flips)
        progress({"message": rows[-1].order, "done": len(rows) / (len(listed) + 1)})
    factors = [tensor.weight() for tensor in stored.tensors]
    product = low_rank.as_matrix(factors[1]) @ low_rank.as_matrix(factors[0])
    measured = bench.evaluate(name, config).evaluation
    return [*rows, _order(OWN_ORDER, _remains(product, factors, bits), before, measured)]


OWN_ORDER = "on the factors: low rank, prune, quantize"


class Remains(NamedTuple):
    """As `Order` has them."""

    zeros: float
    rank: int
    levels: int
    kb: float


def _remains(weight: Tensor, held: list[Tensor], bits: int) -> Remains:
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
    return Remains(1 - sum(kept) / sum(numbers), rank, levels, least / 8 / footprint.KB)


def _order(title: str, left: Remains, before: evaluation.Evaluation, after: evaluation.Evaluation) -> answers.Order:
    change = evaluation.compare(before, after)
    return answers.Order(title, *left, after.accuracy, change.difference, change.lost, change.gained, change.interval)


def _widths(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> answers.Sensitivity:
    whole = CompressionConfig(bits=8, **RUNGS[asked["rung"]])
    config = replace(feasible(bench, asked["baseline"], whole), bits=None)
    return answers.Sensitivity(tuple(tuning.sensitivity(bench, asked["baseline"], config, "bits", report, should_stop)))


def _mixed(bench: Workbench, asked: Request, report: Progress, should_stop: Stop) -> answers.Allocation:
    config = replace(feasible(bench, asked["baseline"], alike(asked["activations"], asked["rung"])), bits=None)
    return answers.Allocation(tuple(tuning.allocate_bits(bench, asked["baseline"], config, report, should_stop)))


KINDS = {
    CHANNELS: Kind(
        "Structured (channel) pruning",
        answers.ChannelPruning,
        lambda bench, asked, *rest: answers.ChannelPruning(
            tuple(channels(bench, asked["baseline"], asked["epochs"], *rest))
        ),
    ),
    LADDER: Kind(
        "Post-training quantization (PTQ)",
        answers.Ladder,
        lambda bench, asked, *rest: answers.Ladder(tuple(ladder(bench, asked["baseline"], *rest))),
    ),
    QUANTIZATION: Kind(
        "Quantization-aware training (QAT)",
        answers.QuantizationHalf,
        lambda bench, asked, *rest: quantization_half(bench, asked["baseline"], asked["epochs"], *rest),
    ),
    WIDTHS: Kind("Layer sensitivity to bits", answers.Sensitivity, _widths),
    MIXED: Kind("Mixed precision", answers.Allocation, _mixed),
    COMBINATION: Kind(
        "Best combination",
        answers.Combination,
        lambda bench, asked, report, should_stop: combination(
            bench, asked["baseline"], asked["allowance"], asked["epochs"], report, should_stop, asked.get("confidence")
        ),
    ),
    ORDERS: Kind(
        "Order of the techniques",
        answers.Orders,
        lambda bench, asked, *rest: answers.Orders(
            tuple(orders(bench, *(asked[key] for key in ("baseline", "layer", "sparsity", "bits", "share")), *rest))
        ),
    ),
}
