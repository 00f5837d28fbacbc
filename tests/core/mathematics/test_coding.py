"""Entropy coding: what goes in comes out, in as many bits as the models say, and in hardly more than the entropy."""

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.mathematics import coding
from core.portable import loader

Rows = list[np.ndarray]


@st.composite
def rows_of_symbols(draw: st.DrawFn) -> tuple[Rows, int, int]:
    size = draw(st.integers(1, 300))
    lengths = draw(st.lists(st.integers(0, 40), max_size=8))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    skew = draw(st.sampled_from([0.02, 0.3, 1.0]))
    return [np.minimum(random.geometric(skew, n) - 1, size - 1) for n in lengths], size, draw(st.sampled_from([1, 8]))


@st.composite
def flags_with_share(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 60)))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    dense = random.random(shape[0])[:, None] * random.random(shape[1])
    flags = random.random(shape) < dense ** draw(st.sampled_from([0.2, 1, 3]))
    kept = min(max(int(flags.sum()), 1), flags.size - 1)
    return flags, kept / flags.size or 0.5


@settings(max_examples=60)
@given(st.lists(st.one_of(rows_of_symbols(), flags_with_share()), min_size=1, max_size=5))
def test_parts_come_back_in_their_order_and_cost_what_was_said(parts: list[tuple]) -> None:
    encoder, bits = coding.Encoder(), 0.0
    for part in parts:
        bits += encoder.symbols(*part) if isinstance(part[0], list) else encoder.flags(*part)
    words = encoder.finish()
    assert len(words) <= bits / 8 + 8  # less where the last symbols are all 0, which leave the first state as it is
    decoder = loader.Decoder(np.frombuffer(words, "<u4"))
    for part in parts:
        if isinstance(part[0], list):
            rows, size, prior = part
            found = decoder.symbols([len(row) for row in rows], size, prior)
            assert found.tolist() == [symbol for row in rows for symbol in row]
        else:
            flags, share = part
            assert np.array_equal(decoder.flags(*flags.shape, share), flags)
    assert (decoder.words, decoder.state) == ([], 0)


@pytest.mark.parametrize("full", [True, False])
def test_flags_beyond_the_last_bucket_come_back(full: bool) -> None:
    """Odds that are as far from those of all others as they can be: rows of nearly nothing else after rows of none."""
    flags = np.zeros((40, 3000), bool)
    flags[-3:] = True
    flags[-2:, 1200::150] = False
    flags = flags if full else ~flags
    encoder = coding.Encoder()
    share = 1e-4 if full else 1 - 1e-4
    encoder.flags(flags, share)
    decoder = loader.Decoder(np.frombuffer(encoder.finish(), "<u4"))
    assert np.array_equal(decoder.flags(*flags.shape, share), flags)


def test_the_library_itself_decodes_the_words_with_the_same_frequencies() -> None:
    symbols = np.random.default_rng(0).geometric(0.3, 500) % 9
    encoder = coding.Encoder()
    encoder.symbols([symbols], 9, 8)
    even = (loader.frequencies(np.zeros(9, np.int64), 8) - 1).astype(np.float32)
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(encoder.finish(), np.uint32))
    model = constriction.stream.model.Categorical(even, perfect=False)
    assert np.array_equal(coder.decode(model, len(symbols)), symbols)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=511), st.sampled_from([1, 8]))
def test_frequencies_are_whole_positive_in_proportion_and_complete(counts: list[int], prior: int) -> None:
    found = loader.frequencies(np.array(counts, np.int64), prior)
    assert found.sum() == loader.TOTAL
    assert found.min() >= 1
    weights = np.array(counts) + prior / 16
    assert np.allclose(found / loader.TOTAL, weights / weights.sum(), atol=2 * len(counts) / loader.TOTAL)


def test_flags_of_uneven_rows_and_columns_cost_less_than_their_entropy() -> None:
    random = np.random.default_rng(0)
    dense = np.outer(random.exponential(1, 128), random.exponential(1, 1000)) * 0.05
    flags = random.random(dense.shape) < dense
    bits = coding.Encoder().flags(flags, float(flags.mean()))
    own = np.clip(dense, 1e-9, 1 - 1e-9)
    best = -np.log2(np.where(flags, own, 1 - own)).sum()  # with the true probabilities
    assert best < bits < 0.9 * coding.entropy(flags)
    assert bits < 1.15 * best


def test_symbols_cost_hardly_more_than_their_entropy() -> None:
    symbols = np.random.default_rng(0).binomial(14, 0.5, (128, 500))
    bits = coding.Encoder().symbols(list(symbols), 15, 8)
    assert coding.entropy(symbols) < bits < 1.02 * coding.entropy(symbols)


@pytest.mark.parametrize(
    ("values", "bits"), [([3] * 9, 0), ([0, 1], 2), ([0, 0, 1, 2], 6), (list(range(256)), 256 * 8)]
)
def test_the_entropy_of_small_examples(values: list[int], bits: float) -> None:
    assert coding.entropy(np.array(values)) == pytest.approx(bits)


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=200))
def test_the_entropy_is_that_of_scipy(values: list[int]) -> None:
    from scipy.stats import entropy

    counts = np.unique(values, return_counts=True)[1]
    assert coding.entropy(np.array(values)) == pytest.approx(len(values) * entropy(counts, base=2))
