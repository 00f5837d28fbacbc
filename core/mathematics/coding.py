"""Integers -> bits: entropy coding (ANS) with models that learn while they code. The way back, and the probabilities
that both ways share, are in `core.portable.loader`, which needs NumPy alone.

An entropy coder spends -log2(p) bits on a symbol of probability p (Shannon 1948; asymmetric numeral systems, Duda 2009;
the coder is the library constriction's, Bamler 2022). The models are ours: a symbol's probability follows from what
came before it in its context, so that no table is stored (Marpe et al. 2003; of weights: Wiedemann et al. 2020).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import constriction
import numpy as np
from numpy.typing import NDArray

from core.portable.loader import AROUND, COLUMN, LIKELY, ROW, TOTAL, Model, expected, growing, neighbours

Array = NDArray[Any]
Window = tuple[int, int]


def _bits(frequencies: Array) -> Array:
    return np.log2(TOTAL) - np.log2(frequencies)


FITTED = 1 << 16
"""Of so many weights, at most, follows how alike neighbours are."""


class Encoder:
    """What is put in, part by part, `finish` makes into words. Each part returns what its symbols cost, in bits:
    -log2(frequency / 2^24). `loader.Decoder` gets the parts back in the same order."""

    def __init__(self) -> None:
        self._steps: list[tuple[Array, Array]] = []  # where symbols begin in [0, 2^24), and their frequencies

    def extend(self, other: "Encoder") -> None:
        """Append all parts of another encoder."""
        self._steps += other._steps

    def even(self, numbers: Array, size: int) -> Array:
        """Integers in [0, size), all of them as likely; bits of each."""
        lows = np.arange(size + 1) * TOTAL // size
        return self._put(lows[numbers], np.diff(lows)[numbers])

    def symbols(self, symbols: Array, contexts: Array, size: int) -> Array:
        """Integers in [0, size), each in a context of [0, LIKELY * AROUND) that the decoder knows; bits of each."""
        return self._learning(Model(size), symbols, contexts)[0]

    def values(self, values: Array, most: int, window: Window = (1, 1), alike: int = 0) -> tuple[Array, Array]:
        """Whole numbers in [-most, most], (rows, columns). Returns what each costs, and how much of that it takes to
        say whether it is 0, in bits, (rows * columns,).

        window, alike : see `contexts`
        """
        places, signs = contexts(values, window, alike)
        return self._learning(Model(2 * most + 1), (signs * values + most).ravel(), places.ravel(), most)

    def _learning(self, model: Model, symbols: Array, places: Array, zero: int = 0) -> tuple[Array, Array]:
        """zero : a symbol, of which the second answer speaks"""
        symbols, bits, of_zero = symbols.astype(np.intp), np.empty(len(symbols)), np.empty(len(symbols))
        for start, end in pairwise(growing(len(symbols))):
            now, place = symbols[start:end], places[start:end]
            known = np.bincount(place, minlength=LIKELY * AROUND) > 0
            frequencies, row = model.frequencies(np.flatnonzero(known)), np.take(np.cumsum(known) - 1, place)
            at, zeros = row * model.size + now, frequencies[:, zero]
            lows = np.cumsum(frequencies, 1) - frequencies
            self._steps.append((np.take(lows, at), np.take(frequencies, at)))
            bits[start:end] = np.take(_bits(frequencies), at)
            is_zero = np.stack([_bits(np.maximum(TOTAL - zeros, 1)), _bits(zeros)], 1)
            of_zero[start:end] = np.take(is_zero, 2 * row + (now == zero))
            model.learn(place, now)
        return bits, of_zero

    def _put(self, lows: Array, frequencies: Array) -> Array:
        self._steps.append((lows, frequencies))
        return _bits(frequencies)

    def finish(self) -> bytes:
        """All parts as words of 32 bits.

        To the coder a symbol is the second of three: those below it, itself, and those above it; the first of three
        where none is below, the third where none is above. A frequency f is given to it as f - 1: it adds 1 to each
        itself, and what it does with whole numbers is exact.
        """
        coder, model = constriction.stream.stack.AnsCoder(), constriction.stream.model.Categorical(perfect=False)
        low, frequency = (np.concatenate([step[part] for step in self._steps] or [np.zeros(0, int)]) for part in (0, 1))
        free = frequency < TOTAL  # the only symbol that there is needs no bits
        low, frequency = low[free].astype(np.int32), frequency[free].astype(np.int32)
        place = 1 - (low == 0) + (low + frequency == TOTAL)
        thirds = np.empty((len(low), 3), np.float32)
        thirds[:, 0] = np.choose(place, (frequency, low, low - 1)) - 1
        thirds[:, 1] = np.where(place == 1, frequency - 1, 0)
        thirds[:, 2] = np.choose(place, (TOTAL - frequency - 1, TOTAL - low - frequency, frequency)) - 1
        if len(place):
            coder.encode_reverse(place.astype(np.int32), model, thirds)
        return coder.get_compressed().astype("<u4").tobytes()


def contexts(values: Array, window: Window, alike: int) -> tuple[Array, Array]:
    """In which context each of the values, (rows, columns), is coded, and 1 or -1, with which it is multiplied before.

    A context is the octave of what is expected of a value, 256 a (left + above) - 256 a^2 corner with a = alike / 16,
    times AROUND, plus the octave of (row so far / mean) * (column so far / mean), in magnitudes.
    window : height and width of what the columns are, one after the other: kernels, or maps of an image
    """
    rows, columns = values.shape
    magnitudes = np.abs(values.astype(np.int64))
    of_rows, of_columns = (np.cumsum(magnitudes, axis) - magnitudes for axis in (1, 0))
    i, j = np.ogrid[:rows, :columns]
    means = (of_columns.sum(1, keepdims=True) + 1) / (i * columns + 1)
    of_row, of_column = (of_rows / means + ROW) / (j + ROW), (of_columns / means + COLUMN) / (i + COLUMN)
    around = np.clip(np.frexp(of_row * of_column)[1] + AROUND // 2, 0, AROUND - 1)
    if not alike:
        return around, np.ones_like(values)
    left, above, corner = _around(values, window)
    like = expected(left, above, corner, alike)
    octaves = np.minimum(np.frexp((np.abs(like) >> 5).astype(np.float64))[1], LIKELY - 1)
    return octaves * AROUND + around, np.where(like < 0, -1, 1)


def _around(values: Array, window: Window) -> list[Array]:
    """To the left, above and between both, (rows, columns); 0 outside the windows."""
    padded = np.pad(values.astype(np.int32), ((0, 0), (0, 1)))
    return [np.take(padded, places, 1) for places in neighbours(values.shape[1], window)]


def likeness(values: Array, window: Window) -> int:
    """The `alike` in [0, 15] with the least sum of (256 value - expected)^2, in `FITTED` of the weights."""
    if window == (1, 1):
        return 0
    values = values[:: values.size // FITTED + 1]
    left, above, corner = _around(values, window)
    parts = np.stack([values.ravel(), (left + above).ravel(), corner.ravel()]).astype(np.float64)
    products = parts @ parts.T
    errors = [np.array([1, -a, a * a]) for a in np.arange(16) / 16]
    return int(np.argmin([error @ products @ error for error in errors]))


class Expected(NamedTuple):
    """What the coder expects of a matrix of whole numbers in [-most, most], (rows, columns).

    lengths : bits of each number, (contexts, 2 most + 1)
    places, signs : of each number its context, and 1 or -1, with which it is multiplied before; (rows, columns)
    """

    lengths: Array
    places: Array
    signs: Array


def expected_of(values: Array, most: int, window: Window = (1, 1)) -> Expected:
    """The coder's code lengths -log2 p once it has seen all of these numbers. window : see `contexts`"""
    places, signs = contexts(values, window, likeness(values, window))
    model = Model(2 * most + 1)
    model.learn(places.ravel(), (signs * values + most).ravel().astype(np.intp))
    return Expected(_bits(model.frequencies(np.arange(LIKELY * AROUND))), places, signs)


def costs(values: Array, low: int, high: int) -> Array:
    """-log2 p of each whole number in [low, high], in bits, with p = (n + 1/2) / (sum n + k/2) of k numbers: what the
    coder asks for them in about this tensor, wherever they are (Krichevsky & Trofimov 1981)."""
    counts = np.bincount(np.clip(values, low, high).ravel() - low, minlength=high - low + 1) + 0.5
    return np.log2(counts.sum()) - np.log2(counts)


def entropy(values: Array) -> float:
    """The empirical entropy of all values together, -sum n_v log2(n_v / n), in bits: no code that gives each value a
    fixed length can do with less (Shannon 1948)."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.log2(counts.sum() / counts)).sum())
