"""Figures and settings in words, the same everywhere in a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from core import words
from core.config import CompressionConfig
from core.document.steps import share_of as share_of
from core.formats.footprint import KB
from core.measuring.evaluation import Comparison
from core.settings import label, lower_first
from core.studies.answers import AtBits

Row = Mapping[str, Any]


def percent(share: float) -> str:
    """What was measured: of 10,000 images, two decimals are exact."""
    return words.percent(share, 2)


def points(difference: float) -> str:
    """A difference of accuracies in percentage points."""
    return f"{100 * difference:+.2f} pp" if round(difference * 1e4) else "0.00 pp"


def span(interval: Sequence[float]) -> str:
    """An interval of such a difference."""
    low, high = interval
    return f"{100 * low:+.2f} to {100 * high:+.2f} pp"


def size(count: float) -> str:
    return f"{count:,.0f} bytes ({count / KB:,.1f} KB)"


def kilobytes(count: float) -> str:
    return f"{count / KB:,.1f} KB"


def ratio(before: float, after: float) -> str:
    """A compression ratio, as the pages write it; of what became larger with a digit more."""
    if not after:
        return "–"
    return f"{before / after:,.1f}x" if before / after > 0.995 else f"{before / after:.2f}x"


def over(difference: float, allowed: float) -> str:
    """What was chosen on validation need not hold on test: then it is said. Both are fractions."""
    said = f". That is more than {100 * allowed:g} pp: what is chosen on validation looks a little better there"
    return "" if difference >= -allowed else said


def p_value(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def with_p(p: float) -> str:
    return f"p {p_value(p)}" if p < 1e-4 else f"p = {p_value(p)}"


def paired(comparison: Comparison) -> str:
    about = f"95 % interval {span(comparison.interval)}, exact McNemar test {with_p(comparison.p_value)}"
    return f"{points(comparison.difference)} ({about})"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def listed(words: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def untrained(rows: Sequence[AtBits]) -> str:
    """At which bits the network after training is the one before it; nothing where there are none."""
    bits = [str(row.bits) for row in rows if row.kept == 0]
    if not bits:
        return ""
    return (
        f"At {listed(bits)} bits no epoch was better on validation than the network before training. That network is "
        "kept: there, QAT and PTQ are the same."
    )


def pruned(how: str, config: CompressionConfig) -> str:
    """A way of pruning with its criterion and sparsity: "one-shot, LAMP, 97.5 %"."""
    return f"{how}, {lower_first(label('score', config.score))}, {share_of(config.sparsity or 0.0)}"


def shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
