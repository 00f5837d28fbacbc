"""Training: baselines, and networks after compression."""

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from safetensors.torch import load, save

from core.bench import entries, keys, reliance
from core.bench.baselines import Baselines
from core.bench.knowledge import Knowledge
from core.bench.measurements import Measurements
from core.bench.networks import PACKED
from core.config import CompressionConfig, ConfigError, RecoveryConfig, TrainingConfig, widths_of_text
from core.datasets import Datasets, Images, Split
from core.formats import packed
from core.machinery import devices
from core.machinery.store import Store, key_of
from core.measuring import training
from core.networks import compression, families, renormalized, trainable
from core.networks.encodings import FormatError
from core.networks.models import Baseline

PROBE = 10_240
"""Images by which the time of an epoch is told."""


LESSONS = "lessons"
"""The kind of entry in the store: what a teacher says of all images."""


class Trainings:
    """device : that trains; None as `devices.chosen` finds it when something is trained"""

    def __init__(
        self,
        store: Store,
        baselines: Baselines,
        knowledge: Knowledge,
        measurements: Measurements,
        datasets: Datasets,
        device: torch.device | None,
    ) -> None:
        self.store, self.baselines, self.knowledge, self.measurements = store, baselines, knowledge, measurements
        self.datasets, self.device = datasets, device
        self._taught: tuple[str, training.Lessons | None] = "", None

    def training_device(self) -> torch.device:
        """That of this workbench, else as `devices.chosen`. Raises ConfigError, DeviceError."""
        return self.device or devices.chosen()

    def train(
        self,
        config: TrainingConfig,
        progress: training.Progress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Baseline:
        """Train a baseline, then evaluate it once on the test images. Raises DataError, Stopped, Diverged,
        DeviceError."""
        images = self.datasets.named(config.data).images(self.datasets.folder)
        training_images, validation = self._images(images, progress), self.datasets.split(images, "validation")
        device = self.training_device()
        teacher = self._teacher(config)
        lessons = None if teacher is None else self._lessons(teacher, config.flips, should_stop, progress)
        progress({"message": f"Training on {device.type}."})
        baseline = training.train_baseline(
            config, images, training_images, validation, progress, should_stop, device, lessons
        )
        test = self.measurements.uncompressed(baseline, "test")
        figures = {"test_accuracy": test.accuracy, "test_loss": test.loss, "test_images": test.images}
        learnt = {} if teacher is None else {"teacher_sha256": teacher.sha256}
        return replace(baseline, info={**baseline.info, **figures, **learnt, "machine": platform.machine()})

    def _teacher(self, recipe: TrainingConfig) -> Baseline | None:
        """Raises ConfigError where it was made for other images, UnknownBaseline."""
        if not recipe.teacher:
            return None
        teacher = self.baselines.get(recipe.teacher)
        if teacher.images.data != recipe.data:
            raise ConfigError(f"teacher must be of {recipe.data}. Got {recipe.teacher}, of {teacher.images.data}.")
        return teacher

    def in_widths(self, recipe: TrainingConfig, text: str) -> TrainingConfig:
        """The recipe with widths as somebody writes them, "" for the family's own. Raises ConfigError where its family
        cannot have them, or its images leave no room for them; DataError."""
        widths = widths_of_text(text.strip()) if text.strip() else ()
        dataset = self.datasets.named(recipe.data)
        families.named(recipe.model).build(dataset.shape, len(dataset.classes), widths)
        return replace(recipe, widths=widths)

    def epoch_seconds(self, recipe: TrainingConfig, should_stop: Callable[[], bool] = lambda: False) -> float:
        """About how long an epoch of such a training takes here now, by a network that is thrown away. Raises Stopped,
        DeviceError."""
        images = self.datasets.named(recipe.data).images(self.datasets.folder)
        whole = self._images(images)
        some, once = whole.part(slice(PROBE)), replace(recipe, epochs=2, teacher="")
        thrown = training.train_baseline(
            once, images, some, some.part(slice(250)), should_stop=should_stop, device=self.training_device()
        )
        seconds: float = thrown.info["history"][-1]["seconds"]  # the first one made everything ready
        return seconds * len(whole) / len(some)

    def recipe_for(self, recipe: TrainingConfig, data: str) -> TrainingConfig:
        """The same for other images. Raises DataError."""
        return families.recipe_for(recipe, self.datasets.named(data))

    def _images(self, images: Images, progress: training.Progress = lambda event: None) -> Split:
        """To train with. Raises DataError."""
        return self.datasets.split(images, "train", lambda text: progress({"message": text}))

    # Recovery: training after compression

    def recover(
        self,
        name: str,
        config: CompressionConfig,
        progress: training.Progress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train a compressed network as `config.recovery` says, and keep it. Nothing is done where it was done before.

        Raises ConfigError, DataError, Stopped, Diverged, DeviceError.
        """
        baseline = self.baselines.get(name)
        compression.check(config, baseline.network)
        if config.recovery is None:
            raise ConfigError("recovery must be given. Got None instead.")
        compression.check_training(baseline.layers, config.recovery.batch_size)
        if self.history(name, config) is not None:
            return
        network, meanwhile, before = self._prepared(baseline, config, config.recovery)
        images, validation = self._images(baseline.images, progress), self.datasets.split(baseline.images, "validation")
        trained = training.recover(
            network, config.recovery, baseline.model, baseline.images.data, images, validation,
            self.lessons_for(name, config.recovery, should_stop, progress), progress, should_stop,
            self.training_device(), meanwhile, before,
        )  # fmt: skip
        state = {key: tensor.contiguous() for key, tensor in trained.module.state_dict().items()}
        about = {"history": trained.history, "best_epoch": trained.best_epoch, "before": trained.before}
        self.keep(name, config, about, save(state))

    def _prepared(
        self, baseline: Baseline, config: CompressionConfig, recovery: RecoveryConfig
    ) -> tuple[trainable.CompressedNetwork, training.Meanwhile | None, trainable.CompressedNetwork | None]:
        """What is trained, what is done to it meanwhile, and the network before training, where that is another."""
        statistics = self.knowledge.statistics(baseline)
        if recovery.schedule == "iterative":
            network = self._unfolded(compression.restructure(baseline, config, statistics), recovery)
            step = partial(compression.prune_gradually, network, config, statistics)
            return network, training.Meanwhile(step, compression.PRUNING_SHARE, network.sparsities), None
        before = compression.compress(baseline, config, statistics)
        network = compression.compress(baseline, config, statistics, learned=True)
        return self._unfolded(network, recovery), None, before

    def _unfolded(self, network: trainable.CompressedNetwork, recovery: RecoveryConfig) -> trainable.CompressedNetwork:
        """With normalization put back behind its convolutions, where the recovery asks for that."""
        if not recovery.normalization:
            return network
        some = self.datasets.split(network.baseline.images, "calibration").part(slice(renormalized.IMAGES))
        return renormalized.unfold(network, some.inputs)

    def lessons_for(
        self, name: str, recovery: RecoveryConfig, should_stop: Callable[[], bool], progress: training.Progress
    ) -> training.Lessons | None:
        """What a compressed network learns from where distillation is asked for: the teacher that was chosen, the
        baseline's own, or the baseline. The last ones are kept in memory. Raises ConfigError where the teacher is not
        here, or knows other images; Stopped."""
        if not recovery.distillation:
            return None
        baseline = self.baselines.get(name)
        wanted = recovery.teacher or baseline.teacher
        teacher = self.baselines.by_sum(wanted) if wanted else baseline
        if teacher is None:
            which = f"the network {wanted[:8]}" if recovery.teacher else "the network that taught this one"
            raise ConfigError(
                f"distillation asks for {which}, which is not here, or was deleted. Choose another teacher, or train "
                "without one."
            )
        if teacher.images.data != baseline.images.data:
            raise ConfigError(f"recovery teacher must be of {baseline.images.data}. Got one of {teacher.images.data}.")
        mirrored = families.mirrors(baseline.model, baseline.images.data)
        return self._lessons(teacher, mirrored, should_stop, progress)

    def _lessons(
        self, teacher: Baseline, mirrored: bool, should_stop: Callable[[], bool], progress: training.Progress
    ) -> training.Lessons:
        """Of the last teacher in memory, of others from the cache: seconds once, and a third off every epoch."""
        images, device = self._images(teacher.images, progress), self.training_device()
        about = {"mirrored": mirrored, "images": len(images), "device": device.type}
        key = key_of(LESSONS, teacher=teacher.sha256, methods=reliance.networks(teacher.images), **about)
        if self._taught[0] != key:
            entry = self.store.get(key)
            if entry is not None and entry.weights is not None:
                lessons = training.Lessons(**load(entry.weights))
            else:
                progress({"message": "The teacher looks at all images."})
                network = compression.compress(teacher, CompressionConfig(), self.knowledge.statistics(teacher))
                validation = self.datasets.split(teacher.images, "validation")
                lessons = training.teach(network, mirrored, images, validation, device, should_stop)
                self.store.put(key, LESSONS, b"{}", save(lessons._asdict()))
            self._taught = key, lessons
        assert self._taught[1] is not None
        return self._taught[1]

    # What a recovery left

    def keep(self, name: str, config: CompressionConfig, about: dict[str, Any], weights: bytes) -> None:
        """about : `history` and `best_epoch`, as `training.Trained` has them. Raises OSError."""
        about |= {"baseline": name, "config": json.loads(config.as_trained().to_json())}
        self.measurements.forget(name, config)  # what an earlier training left was measured
        key = keys.recovery(self.baselines.get(name), config)
        entries.keep(self.store, key, "recovered", json.dumps(about).encode(), weights)

    def adopt(
        self,
        name: str,
        config: CompressionConfig,
        content: bytes,
        history: list[dict[str, Any]] | None,
        best_epoch: int | None = None,
    ) -> None:
        """Keep the packed file of a network as another machine trained it. Raises FormatError where it is another's."""
        baseline, network = self.baselines.get(name), packed.unpack(content)
        if (network.baseline_sha256, network.config) != (baseline.sha256, config.as_trained()):
            raise FormatError("The file holds another network than its trial says.")
        weights = save({PACKED: torch.frombuffer(bytearray(content), dtype=torch.uint8)})
        self.keep(name, config, {"history": history, "best_epoch": best_epoch}, weights)

    def delete(self, name: str, config: CompressionConfig) -> None:
        """What a recovery left."""
        self.store.delete(keys.recovery(self.baselines.get(name), config))

    def history(self, name: str, config: CompressionConfig) -> list[dict[str, float]] | None:
        """The epochs of a recovery, as `training.Trained` has them; None where it was not trained yet."""
        return self._about(name, config).get("history")

    def kept_epoch(self, name: str, config: CompressionConfig) -> int | None:
        """Which epoch of a recovery was the best on validation, and is kept; 0 for the network before training."""
        return self._about(name, config).get("best_epoch")

    def _about(self, name: str, config: CompressionConfig) -> dict[str, Any]:
        entry = self.store.get(keys.recovery(self.baselines.get(name), config), with_weights=False)
        return {} if entry is None else json.loads(entry.payload)

    def came_with_the_project(self, name: str, config: CompressionConfig) -> bool:
        """Whether a recovery is there that was not done here."""
        key = keys.recovery(self.baselines.get(name), config)
        return self.store.digest(key) is not None and self.store.is_below(key)

    def recovered(self) -> list[tuple[str, CompressionConfig]]:
        """Baseline and configuration of every network that was trained after compression, the last made first; not of
        one whose baseline is gone, or that relies on what is no longer so."""
        trained = []
        for key in self.store.keys("recovered"):
            entry = self.store.get(key, with_weights=False)
            about = json.loads(entry.payload) if entry is not None else {}
            with suppress(KeyError, ConfigError):  # of an entry of another version, or UnknownBaseline
                name, config = about["baseline"], CompressionConfig.from_record(about["config"])
                if key == keys.recovery(self.baselines.profile(name), config):
                    trained.append((name, config))
        return trained
