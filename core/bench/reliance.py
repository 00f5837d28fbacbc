"""What results rely on besides what a person chose: the constants of the methods, and the versions that they declare. A
part of every key in the cache, so that a result is never another's.

Whoever changes a formula without changing a constant declares another version: `Technique.version`, `training.VERSION`.
"""

from collections.abc import Iterable
from typing import Any

from core.config import CompressionConfig, RecoveryConfig, TrainingConfig
from core.datasets import Images, shipped
from core.formats import packed
from core.machinery.files import sha256
from core.mathematics import clustering, coding, low_rank, quantization, rate, rate_rounding
from core.measuring import steering, training
from core.networks import calibration, compression, inference, normalization, renormalized, stored
from core.portable import loader
from core.settings import Technique
from core.techniques import codebook
from core.techniques.quantization import LEARNED_CLIP


def networks(images: Images) -> dict[str, Any]:
    """On which a compressed network relies, and its accuracy.

    images : that its baseline was made for
    """
    return {
        "format": stored.FORMAT,
        "images": images.fingerprint,
        "ridge": low_rank.RIDGE,
        "clip shares": quantization.CLIP_SHARES,
        "damping": quantization.DAMPING,
        "signals": [calibration.SIGNAL_IMAGES, inference.BINS],
    }


def files() -> dict[str, Any]:
    """On which the bytes of a packed file rely besides."""
    return {
        "ways": [packed.SPARSE_FROM, coding.FITTED],
        "coder": [loader.TOTAL, loader.ROW, loader.COLUMN, loader.LIKELY, loader.AROUND, loader.CHECK],
        "learning": [loader.ALONE, loader.BELIEFS, loader.FIRST, loader.GROWTH],
        "header": [loader.MAGIC.hex(), sha256(loader.DICTIONARY), loader.WINDOWS, loader.NAMES],
    }


def versions(used: Iterable[Technique]) -> dict[str, Any]:
    """Of the techniques that something relies on, where these say one."""
    said = {technique.name: technique.version for technique in used if technique.version}
    return {"techniques": said} if said else {}


def codes(config: CompressionConfig) -> dict[str, Any]:
    """On which codes rely besides: those of codebooks on how these are found, those that were rounded by error and rate
    together on the coder, too."""
    found = [clustering.GROUPS, clustering.FINE, clustering.STEPS]
    rounded = {"rate rounding": [rate_rounding.PASSES, rate_rounding.SWEEPS, files()]} if config.rate_rounding else {}
    return rounded | ({"k-means": found} if codebook.TECHNIQUE.used(config) else {})


def recoveries(recovery: RecoveryConfig | None) -> dict[str, Any]:
    """On which a recovery relies besides: what a rate in its loss does, and normalization that was put back."""
    if recovery is None:
        return {}
    cycles = [steering.BEGIN, steering.UNCHANGED, steering.LEAST_CYCLE, steering.CYCLES, steering.RESTARTED]
    changes = [steering.PER_FACTOR, steering.MOST_RAISED, steering.MOST_LOWERED]
    settled = [renormalized.IMAGES, renormalized.SETTLED, renormalized.BATCH]
    folded = [renormalized.VERSION, *settled, normalization.EPSILON, normalization.MOMENTUM]
    rated = {"rate": [rate.PRIOR, *([*cycles, *changes] if recovery.floor else [])]}
    return (rated if recovery.rate_weight or recovery.floor else {}) | (
        {"normalization": folded} if recovery.normalization else {}
    )


def students(floor: float | None) -> dict[str, Any]:
    """On which a search over families relies besides: a rate in the loss, normalization that was put back, and codes
    that are rounded by error and rate."""
    recovery = RecoveryConfig(rate_weight=1.0, floor=floor, normalization=True)
    return codes(CompressionConfig(rate_rounding=1.0)) | recoveries(recovery)


def trainings(recipe: TrainingConfig, images: Images) -> dict[str, Any]:
    """On which a training relies: the whole recipe, the images, and what is fixed for all of them.

    recipe : of a recovery as `training.recipe` has it
    """
    known = shipped().get(images.data)
    return {
        "recipe": recipe.to_dict(),
        "images": known.sums if known and known.sums else images.fingerprint,
        "pruning": compression.PRUNING_SHARE,
        "steps": LEARNED_CLIP,
        "version": training.VERSION,
        "every": training.MEANWHILE_STEPS,
        "least step": training.LEAST_STEP,
        "temperature": training.TEMPERATURE,
        "cycle": [training.MOMENTUM, training.WARM_UP, training.BEGINNING],
    }
