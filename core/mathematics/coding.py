"""Integers -> bits: entropy coding (ANS) with models that learn while they code. The way back, and the probabilities
that both ways share, are in `core.portable.loader`, which needs NumPy alone.

An entropy coder spends -log2(p) bits on a symbol of probability p (Shannon 1948; asymmetric numeral systems, Duda 2009;
the coder is the library constriction's, Bamler 2022). The models are ours: a symbol's probability follows from how
often it came in the rows before, so that no table is stored.
"""

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from core.portable.loader import BUCKETS, COLUMN, ROW, TOTAL, bucket_shares, flag_frequencies, frequencies, odds

Array = NDArray[Any]


class Encoder:
    """What is put in, part by part, `finish` makes into words. Each part returns what it costs, in bits: the sum of
    -log2(frequency / 2^24). `loader.Decoder` gets the parts back in the same order."""

    def __init__(self) -> None:
        self._steps: list[tuple[Array, Array]] = []  # symbols, and the frequencies of all of them or of each

    def extend(self, other: "Encoder") -> None:
        """Append all parts of another encoder."""
        self._steps += other._steps

    def symbols(self, rows: Sequence[Array], size: int, prior: int) -> float:
        """Integers in [0, size). A row is coded with the counts of the rows before it, and prior / 16 of each one."""
        counts = np.stack([np.bincount(row, minlength=size) for row in rows]) if rows else np.zeros((0, size), int)
        known = frequencies(np.cumsum(counts, 0) - counts, prior)
        self._steps += [(row, frequency) for row, frequency in zip(rows, known, strict=True) if len(row)]
        return float((counts * (np.log2(TOTAL) - np.log2(known))).sum())

    def flags(self, flags: Array, share: float) -> float:
        """Which weights are not zero, bool (rows, columns); `share` of all are.

        Rows differ, and so do columns: the odds of a weight are those of its row so far, times those of its column so
        far, over those of all. This estimate falls into one of `BUCKETS`, and the frequency is what was found there in
        the rows before.
        """
        before = [np.cumsum(flags, axis, dtype=np.int32) - flags for axis in (0, 1)]
        i, j = np.ogrid[: flags.shape[0], : flags.shape[1]]
        base = share / (1 - share)
        lift = odds(before[1], j, share, ROW) / base * (odds(before[0], i, share, COLUMN) / base)
        mantissa, exponent = np.frexp(lift)
        buckets = np.clip(2 * exponent + (mantissa >= 0.75) + BUCKETS // 2, 0, BUCKETS - 1)
        place = i * BUCKETS + buckets
        seen, ones = (
            np.bincount(each, minlength=len(flags) * BUCKETS).reshape(-1, BUCKETS)
            for each in (place.ravel(), place[flags])
        )
        known = flag_frequencies(np.cumsum(ones, 0) - ones, np.cumsum(seen, 0) - seen, bucket_shares(share))
        one = np.take(known, place).ravel()
        self._steps.append((flags.ravel(), np.stack([TOTAL - one, one], 1)))
        cost = (seen - ones) * np.log2(1 - known / TOTAL) + ones * np.log2(known / TOTAL)
        return float(-cost.sum())

    def finish(self) -> bytes:
        """All parts as words of 32 bits. A frequency f is given to the coder as f - 1: it adds 1 to each itself, and
        what it does with whole numbers is exact."""
        coder, model = constriction.stream.stack.AnsCoder(), constriction.stream.model.Categorical
        for symbols, frequency in reversed(self._steps):
            chosen = symbols.astype(np.int32)
            if frequency.ndim == 2:
                coder.encode_reverse(chosen, model(perfect=False), (frequency - 1).astype(np.float32))
            elif len(frequency) > 1:  # a single symbol needs no bits
                coder.encode_reverse(chosen, model((frequency - 1).astype(np.float32), perfect=False))
        return coder.get_compressed().astype("<u4").tobytes()


def entropy(values: Array) -> float:
    """The empirical entropy of all values together, -sum n_v log2(n_v / n), in bits: no code that gives each value a
    fixed length can do with less (Shannon 1948)."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.log2(counts.sum() / counts)).sum())
