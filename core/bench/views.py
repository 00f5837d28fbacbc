"""What can be said of a result beyond its figures: classes, images, layers; and the code that computed it."""

import importlib
import inspect
from typing import Any

import numpy as np
import pandas as pd

from core.bench.results import LayerRow, Result
from core.config import CompressionConfig
from core.formats import footprint
from core.formats.footprint import COUNTED, Footprint
from core.mathematics import low_rank
from core.measuring import evaluation
from core.measuring.evaluation import Comparison
from core.networks.models import Baseline
from core.networks.stored import StoredLayer, StoredNetwork


def compare(result: Result, against: Result) -> Comparison:
    """`result` after, `against` before, image by image."""
    return evaluation.compare(against.evaluation, result.evaluation)


def class_changes(result: Result, against: Result | None = None) -> pd.DataFrame:
    """Per class: images, lost, gained, recall before and after; against the baseline or another configuration."""
    return evaluation.class_changes(against.evaluation if against else result.baseline, result.evaluation)


def flips(result: Result, against: Result | None = None) -> pd.DataFrame:
    """Every image whose prediction the configuration changed; against the baseline or another configuration."""
    return evaluation.flips(against.evaluation if against else result.baseline, result.evaluation)


def telling_image(result: Result) -> dict[str, Any]:
    """One image of the validation split, before and after: see `evaluation.telling_image`."""
    return evaluation.telling_image(result.baseline, result.evaluation)


def confusion(result: Result) -> pd.DataFrame:
    """Counts: true classes down, predicted ones across."""
    counts = result.evaluation.confusion().numpy()
    return pd.DataFrame(counts, index=result.evaluation.classes, columns=result.evaluation.classes)


def most_confused(result: Result) -> tuple[str, str, int]:
    """The most frequent error: true class, predicted class, how many."""
    counts = confusion(result).stack()
    true, predicted = counts[[a != b for a, b in counts.index]].idxmax()
    return true, predicted, int(counts[true, predicted])


def confident_mistakes(result: Result, count: int) -> pd.DataFrame:
    """The most confident errors: index, true, predicted, confidence."""
    measured = result.evaluation
    index = measured.confident_mistakes(count)
    names = np.array(measured.classes)
    columns = {"true": names[measured.labels[index]], "predicted": names[measured.predictions[index].long()]}
    return pd.DataFrame({"index": index, **columns, "confidence": measured.confidences[index]})


def sizes(result: Result) -> dict[str, float]:
    """Bytes, counted in every usual way."""
    theory, entropy = result.theoretical_kb * footprint.KB, result.footprint.entropy
    ways = dict(zip(COUNTED, (result.baseline_bytes, theory, entropy), strict=True))
    return ways | {"packed file": result.bytes}


def layer_rows(baseline: Baseline, network: StoredNetwork, ledger: Footprint) -> list[LayerRow]:
    """Each layer of a compressed network, in figures."""
    rows = []
    for layer, stored in zip(baseline.layers, network.layers, strict=True):
        break_even = low_rank.break_even_rank(*stored.layer.matrix_shape)
        row = LayerRow(
            name=layer.name,
            shape=layer.shape,
            channels=stored.layer.shape[0],
            rank=stored.rank,
            full_rank=stored.layer.full_rank,
            break_even_rank=break_even,
            parameters=stored.weights + stored.bias.numel(),
            sparsity=stored.sparsity,
            rounded_to_zero=sum(tensor.zeros - tensor.masked for tensor in stored.tensors),
            bits=stored.tensors[0].bits,
            bytes=sum(entry.bytes for entry in ledger.entries if entry.layer == layer.name),
            note=_rank_note(stored, network.config, break_even),
            centroids=stored.centroids,
        )
        rows.append(row)
    return rows


def _rank_note(stored: StoredLayer, config: CompressionConfig, break_even: int) -> str:
    """Why it has another rank than was asked for, or ""."""
    asked, full = config.layer(stored.layer.name).rank, stored.layer.full_rank
    if asked is not None:
        return f"rank {asked} was asked for: {full} are left without its channels" if asked > full else ""
    if stored.rank is not None or config.rank_share is None:
        return ""
    wanted = low_rank.rank_from_share(config.rank_share, full)
    return f"stays dense: rank {wanted} is above break-even, {break_even}"


def source(path: str) -> str:
    """The source text of a function or class of core, by its dotted name: "core.mathematics.low_rank.factorize"."""
    module, _, name = path.rpartition(".")
    return inspect.getsource(getattr(importlib.import_module(module), name))
