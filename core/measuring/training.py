"""The one training loop: baselines now, and whatever else is trained.

Images stay uint8 on the device and are normalized and flipped batch by batch, as tensors. On a processor that
multiplies tiles of bfloat16 (AMX), and on CUDA, the forward pass runs under bfloat16 autocast.
"""

import copy
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import RecoveryConfig, TrainingConfig
from core.datasets import Images, Split
from core.machinery import devices
from core.machinery.stopping import Stopped
from core.measuring.steering import RESTARTED, Rate
from core.networks import families, models, renormalized
from core.networks.encodings import Encoder
from core.networks.normalized import NormalizedNetwork
from core.networks.trainable import CompressedNetwork, Step, name_of

Progress = Callable[[dict[str, Any]], None]
REPORT_SECONDS = 0.5

VERSION = 2
"""Raise it when a training comes out otherwise."""

MEANWHILE_STEPS = 40
LEAST_STEP = 0.9
"""The step of a grid keeps so much of itself in every update: where weights are small, a gradient could make it
negative at once."""

SCALED, SCALE = (Encoder, Step, renormalized.Normalization), "scale"
"""Modules that may have a parameter of this name that is to stay above 0."""

MOMENTUM, WARM_UP, BEGINNING = 0.9, 0.25, 10
"""Of SGD; of one cycle: the share in which the learning rate rises, and the part of its peak at which it begins."""

TEMPERATURE = 2.0
"""Softens predictions in distillation, so that what the teacher holds for less likely counts, too."""


class Diverged(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Trained:
    """The network with the best validation accuracy of all epochs, and how it came about; where a rate is in the loss,
    as `steering.Rate.merit` says, and the history has `bits_per_weight` and `rate_weight`, lambda.

    before : loss and accuracy on validation of the network before training, where it was an epoch like the others: it
        is kept, and `best_epoch` is 0, where no other is better

    history : per epoch `epoch, training_loss, training_cross_entropy, training_accuracy, validation_loss,
        validation_cross_entropy, validation_accuracy, seconds`. Both losses are the one that was minimised, with its
        label smoothing and what a teacher adds to it; the cross entropies, -mean(log p[label]), have neither, and are
        missing in older histories. The training figures are taken while learning, with dropout and flips on, so they
        may lie below the validation figures.
    """

    module: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    before: dict[str, float] | None = None


class Lessons(NamedTuple):
    """What a teacher says of every image, its logits: computed once, since it does not change while it is learnt from.

    training : (2, n, classes), of the training images and of their mirror images (1, n, classes, where none is
        mirrored); validation : (m, classes)
    """

    training: Tensor
    validation: Tensor


@dataclass(frozen=True)
class Meanwhile:
    """What happens to a network while it trains: nothing, if not said otherwise.

    change : told how much of the training is over, in [0, 1], every `MEANWHILE_STEPS` steps and when it is `settled`
    settled : from this share on nothing changes any more, and the learning rate starts again (rewound, Renda et al.
        2020)
    describe : figures for the history, after every epoch
    rate : how much a bit per weight of the file counts in the loss, of a module that has a `rate`
    settle : before each measuring on validation
    """

    change: Callable[[float], object] = lambda done: None
    settled: float = 0.0
    describe: Callable[[], dict[str, Any]] = dict
    rate: Rate = field(default_factory=Rate)
    settle: Callable[[], object] = lambda: None


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: not on a processor that has AVX512-BF16 and no tiles, where the CNN's
    second convolution takes 1.7 times as long in it, and whole trainings 1.05 to 1.36 times (`benchmarks.devices`)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported()


def train_baseline(
    config: TrainingConfig,
    images: Images,
    training: Split,
    validation: Split,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device | None = None,
    lessons: Lessons | None = None,
) -> models.Baseline:
    """Train a network of `config.model` from scratch and fold it. Seeded: the same machine repeats it exactly.

    images : that the splits are of, as the network is to see them
    lessons : of its teacher, learnt from besides the labels
    device : that computes; if none is named `devices.chosen()`
    Raises Stopped when `should_stop()` says so, Diverged when the loss is no longer finite, DeviceError.
    """
    device = device or devices.chosen()
    used = () if device.type == devices.CPU else None  # another device, which may fail, is not asked for its state
    with devices.in_words(device), torch.random.fork_rng(used):
        torch.manual_seed(config.seed)
        network = families.named(config.model).build(training.shape, len(images.classes), config.widths)
        module = NormalizedNetwork(network, config.dropout)
        trained = fit(module, config, training, validation, progress, should_stop, device, lessons)
    best = trained.history[trained.best_epoch - 1]
    info = {
        "recipe": config.to_dict(),
        "history": trained.history,
        "best_epoch": trained.best_epoch,
        "validation_accuracy": best["validation_accuracy"],
        "training_images": len(training),
        "seconds": round(sum(epoch["seconds"] for epoch in trained.history), 1),
        "device": device.type,
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
    }
    assert isinstance(trained.module, NormalizedNetwork)
    return models.Baseline(config.model, trained.module.folded(), info, network, images)


def recover(
    network: nn.Module,
    config: RecoveryConfig,
    model: str,
    data: str,
    training: Split,
    validation: Split,
    lessons: Lessons | None = None,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device | None = None,
    meanwhile: Meanwhile | None = None,
    before: nn.Module | None = None,
) -> Trained:
    """Fine-tune a compressed network: pruned weights stay zero, factors stay factors, and weights on a grid are trained
    through their rounding, the steps of all grids with them (LSQ, `quantization.fake_quantize`). The same recipe for
    every network, the uncompressed one included.

    lessons : of the baseline, learnt from where `config.distillation` says so
    meanwhile : what changes the network while it trains: iterative pruning
    before : the network before training, its steps not yet made ready to be learned; kept where no epoch is better on
        validation
    Raises Stopped, Diverged, devices.DeviceError; ValueError where lessons are missing.
    """
    if config.distillation and lessons is None:
        raise ValueError("lessons must be given where distillation is asked for: see `teach`.")
    taught = lessons if config.distillation else None
    wanted, device = recipe(config, model, data), device or devices.chosen()
    meanwhile = replace(meanwhile or Meanwhile(), rate=Rate(config.rate_weight, config.floor))
    if isinstance(network, CompressedNetwork) and config.normalization:
        meanwhile = replace(meanwhile, settle=partial(renormalized.settle, network, training))
    trained = fit(network, wanted, training, validation, progress, should_stop, device, taught, meanwhile)
    if isinstance(trained.module, CompressedNetwork):
        renormalized.fold(trained.module)
    if before is None or meanwhile.rate.counts:
        return trained
    beginning = _measure(before.eval(), validation, wanted, taught)
    if trained.history[trained.best_epoch - 1]["validation_accuracy"] > beginning["validation_accuracy"]:
        return replace(trained, before=beginning)
    return Trained(before, trained.history, 0, beginning)


def recipe(config: RecoveryConfig, model: str, data: str) -> TrainingConfig:
    """The whole recipe of a recovery: what a person does not choose is as in any training.

    model, data : the family of what is trained, and the name of its images
    """
    return TrainingConfig(
        model, config.epochs, config.seed, batch_size=config.batch_size, learning_rate=config.learning_rate,
        flips=families.mirrors(model, data), data=data,
    )  # fmt: skip


def teach(
    teacher: nn.Module,
    mirrored: bool,
    training: Split,
    validation: Split,
    device: torch.device | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Lessons:
    """What a teacher says of all images; `mirrored`: also of the mirror images of those to train with.

    The teacher stays where it is, a copy of it goes to the device. Raises Stopped, DeviceError.
    """
    device = device or devices.chosen()

    def normalized(images: Tensor) -> Iterator[Tensor]:
        for x in images.split(250):
            if should_stop():
                raise Stopped("The training was stopped before its first epoch.")
            yield training.scaling.normalized(x.to(device))

    @torch.inference_mode()
    def logits(images: Tensor, flip: bool = False) -> Tensor:
        inputs = normalized(images)
        return torch.cat([there(models.channels_last(x.flip(3) if flip else x)).float() for x in inputs]).cpu()

    with devices.in_words(device):
        there = copy.deepcopy(teacher).to(device).eval()
        ways = [logits(training.images, flip) for flip in ((False, True) if mirrored else (False,))]
        return Lessons(torch.stack(ways), logits(validation.images))


def fit(
    module: nn.Module,
    config: TrainingConfig,
    training: Split,
    validation: Split,
    progress: Progress,
    should_stop: Callable[[], bool],
    device: torch.device,
    lessons: Lessons | None = None,
    meanwhile: Meanwhile | None = None,
) -> Trained:
    """Minimise the cross entropy of `module` for `config.epochs`; keep the epoch with the best validation accuracy.

    The module is trained on `device` and comes back to the CPU, where everything else is computed.

    lessons : what to learn besides the labels; see `_loss`
    meanwhile : changes the module as the training goes on; only epochs after that may be kept
    """
    with devices.in_words(device):
        there = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        seen, watched = (
            replace(split, images=split.images.to(device), labels=split.labels.to(device))
            for split in (training, validation)
        )
        taught = None if lessons is None else Lessons(*(tensor.to(device) for tensor in lessons))
        trained = _fit(there, config, seen, watched, progress, should_stop, taught, meanwhile or Meanwhile())
        return replace(trained, module=trained.module.cpu())


def _fit(
    module: nn.Module,
    config: TrainingConfig,
    training: Split,
    validation: Split,
    progress: Progress,
    should_stop: Callable[[], bool],
    lessons: Lessons | None,
    meanwhile: Meanwhile,
) -> Trained:
    """`fit` where everything lies on the device already."""
    device, config = training.images.device, replace(config, batch_size=min(config.batch_size, len(training)))
    steps = len(training) // config.batch_size
    settled, rate = round(meanwhile.settled * steps * config.epochs), meanwhile.rate
    steered = [steps * end for end in rate.ends(math.ceil(meanwhile.settled * config.epochs), config.epochs)]
    descent = _Descent(module, config, [*([settled] if settled else []), *steered, steps * config.epochs])
    generator = torch.Generator().manual_seed(config.seed)
    history: list[dict[str, float]] = []
    best_epoch, best_state = 0, module.state_dict()
    for epoch in range(1, config.epochs + 1):
        start = reported = time.perf_counter()
        seen = torch.zeros(3, device=device)
        module.train()
        for step, (x, y, taught) in enumerate(_batches(training, config, generator, lessons), 1):
            if should_stop():
                raise Stopped(f"Training was stopped in epoch {epoch} of {config.epochs}.")
            if step % MEANWHILE_STEPS == 1:
                _change(module, meanwhile, (epoch - 1 + step / steps) / config.epochs, epoch)
            seen += _step(module, x, y, config, descent.optimizer, device, taught, rate.weight)
            descent.schedule.step()
            if (epoch - 1) * steps + step == settled:
                _change(module, meanwhile, meanwhile.settled, epoch)
                descent.begin()  # the steps of grids may be learned from now on
            if (now := time.perf_counter()) - reported > REPORT_SECONDS:
                reported = now
                progress({"epoch": epoch, "epochs": config.epochs, "done": (epoch - 1 + step / steps) / config.epochs})
        loss, accuracy, entropy = (seen / (steps * config.batch_size)).tolist()
        _check_sound(module, loss, epoch)
        held_out = _held_out(module, validation, config, lessons, meanwhile)
        history.append({"epoch": epoch, "training_loss": loss, "training_accuracy": accuracy, **held_out})
        ended = {"training_cross_entropy": entropy, "seconds": time.perf_counter() - start}
        history[-1] |= ended | meanwhile.describe()
        better = not best_epoch or rate.merit(history[-1]) > rate.merit(history[best_epoch - 1])
        if better and epoch / config.epochs > meanwhile.settled:
            best_epoch, best_state = epoch, copy.deepcopy(module.state_dict())
        if epoch * steps in steered:
            rate.steer(held_out["validation_accuracy"])
            descent.begin(RESTARTED)
        progress({"epoch": epoch, "epochs": config.epochs, "done": epoch / config.epochs, "figures": history[-1]})
    module.load_state_dict(best_state)
    return Trained(module.eval(), history, best_epoch)


class _Descent:
    """The optimizer, and the learning rate's cycles, each up to one of `ends`, in steps of the whole training."""

    def __init__(self, module: nn.Module, config: TrainingConfig, ends: list[int]) -> None:
        self.module, self.config, self.ends, self.begun = module, config, ends, 0
        self.begin()

    def begin(self, share: float = 1.0) -> None:
        """The next cycle, with this share of the peak; the optimizer knows the parameters that there are now."""
        config = replace(self.config, learning_rate=share * self.config.learning_rate)
        self.optimizer, cycle = _optimizer(self.module, config)
        end = self.ends.pop(0)
        self.schedule, self.begun = cycle(end - self.begun), end


@torch.no_grad()
def _held_out(
    module: nn.Module, validation: Split, config: TrainingConfig, lessons: Lessons | None, meanwhile: Meanwhile
) -> dict[str, float]:
    """The figures on validation; where a rate is minimised, too, with it in the loss, and in bits per stored weight."""
    meanwhile.settle()
    figures, rate = _measure(module, validation, config, lessons), meanwhile.rate
    if not rate.counts:
        return figures
    bits = float(module.rate())  # type: ignore[operator]
    loss = figures["validation_loss"] + rate.weight * bits
    return figures | {"validation_loss": loss, "bits_per_weight": bits, "rate_weight": rate.weight}


def _change(module: nn.Module, meanwhile: Meanwhile, done: float, epoch: int) -> None:
    """What happens to a module meanwhile; never to one with a parameter that is no longer a finite number."""
    _check_sound(module, 0.0, epoch)
    meanwhile.change(done)


def _check_sound(module: nn.Module, loss: float, epoch: int) -> None:
    """Raise Diverged where the loss or a parameter is no longer a number, or the step of a grid no longer positive."""
    what, scales = "" if math.isfinite(loss) else f"The loss became {loss}", _scales(module)
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            what = what or f"A parameter of {name_of(name)} is no longer a number"
        elif name in scales and not (parameter > 0).all():
            what = what or f"The step of a grid of {name_of(name)} fell to 0"
    if what:
        raise Diverged(
            f"{what} in epoch {epoch}: the training diverged. Nothing was kept; try a smaller learning rate."
        )


def _scales(module: nn.Module) -> dict[str, nn.Parameter]:
    """What is above 0 and has to stay there, by its name: the steps of grids, the scales of normalization put back."""
    having = ((name, own) for name, own in module.named_modules() if isinstance(own, SCALED))
    return {f"{name}.{SCALE}": own.get_parameter(SCALE) for name, own in having if hasattr(own, SCALE)}


def _optimizer(module: nn.Module, config: TrainingConfig) -> tuple[Any, Callable[[int], Any]]:
    """The optimizer, and what makes its schedule for so many steps: one cycle for SGD, nothing for Adam.

    The steps of integer grids do not decay, nor other parameters of encoders: a smaller step, or a centroid nearer to
    0, is not a simpler network.
    """
    named, scales = list(module.named_parameters()), list(_scales(module).values())
    encoders = [each for each in module.modules() if isinstance(each, Encoder)]
    tables = [own for each in encoders for name, own in each.named_parameters() if name != SCALE]
    fixed = {id(parameter) for parameter in (*scales, *tables)}
    groups = [
        {"params": [own for _, own in named if id(own) not in fixed], "weight_decay": config.weight_decay},
        {"params": scales, "weight_decay": 0.0, "grids": True},
        {"params": tables, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adam":
        adam = torch.optim.Adam(groups, config.learning_rate)
        return adam, lambda steps: torch.optim.lr_scheduler.ConstantLR(adam, factor=1.0)
    sgd = torch.optim.SGD(groups, config.learning_rate, momentum=MOMENTUM, nesterov=True)
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, sgd, config.learning_rate, cycle_momentum=False)
    return sgd, lambda steps: cycle(total_steps=max(steps, 7) + 1, pct_start=WARM_UP, div_factor=BEGINNING)


def _batches(
    training: Split, config: TrainingConfig, generator: torch.Generator, lessons: Lessons | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Shuffled batches of one epoch, with what a teacher says of them; the last, shorter one is left out.

    A teacher has seen no image moved or in part erased: recipes that do so are of trainings from scratch.
    """
    images, labels = training.images, training.labels
    n, device = len(labels), images.device
    order = torch.randperm(n, generator=generator).to(device)
    mirrored = torch.rand(n, generator=generator).to(device) < 0.5
    moved = torch.randint(2 * config.shifts + 1, (2, n), generator=generator).T.to(device) if config.shifts else None
    erased = torch.rand(3, n, generator=generator).T.to(device) if config.erasing else None
    for start in range(0, n - config.batch_size + 1, config.batch_size):
        index = order[start : start + config.batch_size]
        taken = images[index] if moved is None else _shifted(images[index], moved[index], config.shifts)
        x = training.scaling.normalized(taken)
        if config.flips:
            x = torch.where(mirrored[index, None, None, None], x.flip(3), x)
        if erased is not None:
            x = _erased(x, erased[index, 1:], erased[index, 0] < config.erasing)
        way = mirrored[index].long() if config.flips else 0
        yield x, labels[index], None if lessons is None else lessons.training[way, index]


def _shifted(images: Tensor, moved: Tensor, most: int) -> Tensor:
    """Each image, uint8 (n, c, h, w), moved down and right by moved - most pixels; what comes in is black. Where it is
    not longer than `most`, as a signal of one row, it stays: nothing of it might be left.

    moved : int64 (n, 2), in [0, 2 most]
    """
    height, width = images.shape[2:]
    around, long = F.pad(images, (most,) * 4), torch.tensor(images.shape[2:], device=images.device) > most
    down, right = (2 * most - moved).where(long, most).unbind(1)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return around[each, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def _erased(x: Tensor, place: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images with a square of a third of their width, somewhere in them, made grey, which is 0.

    x : normalized, (n, c, h, w); place : (n, 2), where its middle lies, down and right, in [0, 1)
    """
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device) - height * place[:, :1]).abs() <= width / 6
    columns = (torch.arange(width, device=x.device) - width * place[:, 1:]).abs() <= width / 6
    return x.masked_fill((chosen[:, None, None] & rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _loss(logits: Tensor, y: Tensor, label_smoothing: float, taught: Tensor | None = None) -> Tensor:
    """Cross entropy with the labels; with a teacher half of it is T^2 KL(teacher || network), both softened by T
    (knowledge distillation, Hinton et al. 2015).

    logits, taught : (n, classes), float32; y : (n,)
    """
    hard = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    if taught is None:
        return hard
    ours, theirs = (F.log_softmax(logits_of / TEMPERATURE, 1) for logits_of in (logits, taught))
    return (hard + TEMPERATURE**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)) / 2


def _step(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    config: TrainingConfig,
    optimizer: Any,
    device: torch.device,
    taught: Tensor | None,
    rate_weight: float,
) -> Tensor:
    """One gradient step; returns (summed loss, number right, summed cross entropy) of the batch, left on the device."""
    x = models.channels_last(x)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
        logits = module(x)
    loss = _loss(logits.float(), y, config.label_smoothing, taught)
    if rate_weight:
        loss = loss + rate_weight * module.rate()  # type: ignore[operator]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    grids = [step for group in optimizer.param_groups if group.get("grids") for step in group["params"]]
    least = [LEAST_STEP * step.detach() for step in grids]
    optimizer.step()
    with torch.no_grad():
        for step, low in zip(grids, least, strict=True):
            step.copy_(torch.maximum(step, low))
    said = logits.detach().float()
    right, entropy = (said.argmax(1) == y).sum().float(), F.cross_entropy(said, y, reduction="sum")
    return torch.stack([loss.detach() * len(y), right, entropy])


@torch.inference_mode()
def _measure(
    module: nn.Module, validation: Split, config: TrainingConfig, lessons: Lessons | None = None
) -> dict[str, float]:
    """Mean loss, the one that is minimised, mean cross entropy and accuracy over all images, in float32."""
    module.eval()
    loss, entropy, right, labels = 0.0, 0.0, 0, validation.labels
    for place, (x, y) in enumerate(zip(validation.images.split(250), labels.split(250), strict=True)):
        logits = module(models.channels_last(validation.scaling.normalized(x)))
        taught = None if lessons is None else lessons.validation[250 * place :][: len(y)]
        loss += _loss(logits, y, config.label_smoothing, taught).item() * len(y)
        entropy += F.cross_entropy(logits, y, reduction="sum").item()
        right += int((logits.argmax(1) == y).sum())
    means = {"validation_loss": loss / len(labels), "validation_cross_entropy": entropy / len(labels)}
    return means | {"validation_accuracy": right / len(labels)}
