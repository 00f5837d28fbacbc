"""Entropy coding: what goes in comes out, in as many bits as the models say, and in hardly more than the entropy."""

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.mathematics import coding
from core.portable import loader

CONTEXTS = loader.LIKELY * loader.AROUND
SHAPES = [(1, 1), (1, 7), (9, 1), (5, 18), (12, 98), (40, 45)]
WINDOWS = [(1, 1), (3, 3), (7, 7), (2, 1), (1, 5), (300, 300)]


@st.composite
def values_with_window(draw: st.DrawFn) -> tuple[np.ndarray, int, tuple[int, int], int]:
    """Uneven rows and columns, smooth ones, all equal, extremes."""
    shape, most = draw(st.sampled_from(SHAPES)), draw(st.sampled_from([0, 1, 3, 7, 127, 256]))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    even = random.integers(-most, most + 1, shape)
    uneven = np.round(random.exponential(1, shape[0])[:, None] * random.normal(0, 1, shape) * most / 3)
    smooth = np.cumsum(random.normal(0, most / 4, shape), 1)
    kinds = (
        even,
        uneven,
        smooth,
        np.full(shape, most),
        np.full(shape, -most),
        np.zeros(shape),
        even * (even > most // 2),
    )
    values = np.clip(draw(st.sampled_from(kinds)), -most, most).astype(np.int16)
    return values, most, draw(st.sampled_from(WINDOWS)), draw(st.integers(0, 15))


@st.composite
def symbols_in_contexts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    size, count = draw(st.integers(1, 300)), draw(st.integers(0, 200))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    skewed = np.minimum(random.geometric(draw(st.sampled_from([0.02, 0.3, 1.0])), count) - 1, size - 1)
    return skewed, random.integers(0, CONTEXTS, count), size


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(values_with_window(), symbols_in_contexts()), max_size=5), st.integers(1, 300))
def test_parts_come_back_in_their_order_and_cost_what_was_said(parts: list[tuple], size: int) -> None:
    encoder, bits = coding.Encoder(), 0.0
    for part in parts:
        own = coding.Encoder()
        if len(part) == 4:
            costs, of_zeros = own.values(*part)
            assert np.all(of_zeros <= costs + 1e-9)
        else:
            costs = own.symbols(*part)
        encoder.extend(own)
        bits += costs.sum()
    bits += encoder.even(np.arange(size), size).sum()
    words = encoder.finish()
    assert bits / 8 - 8 <= len(words) <= bits / 8 + 8 or len(words) <= bits / 8  # last symbols 0 may leave no trace
    decoder = loader.Decoder(np.frombuffer(words, "<u4"))
    for part in parts:
        if len(part) == 4:
            values, most, window, alike = part
            assert np.array_equal(decoder.values(*values.shape, most, window, alike), values)
        else:
            symbols, contexts, of = part
            assert np.array_equal(decoder.symbols(contexts.tolist(), of), symbols)
    assert np.array_equal(decoder.even(size, size), np.arange(size))
    assert (decoder.words, decoder.state) == ([], 0)


def test_the_library_itself_decodes_the_words_with_the_same_frequencies() -> None:
    symbols = np.random.default_rng(0).integers(0, 9, 500)
    encoder = coding.Encoder()
    encoder.even(symbols, 9)
    even = np.diff(np.arange(10) * loader.TOTAL // 9) - 1
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(encoder.finish(), np.uint32))
    model = constriction.stream.model.Categorical(even.astype(np.float32), perfect=False)
    assert np.array_equal(coder.decode(model, len(symbols)), symbols)


@settings(max_examples=40)
@given(st.integers(1, 513), st.integers(0, 2**31), st.integers(0, 10**6))
def test_frequencies_are_whole_above_one_and_complete(size: int, seed: int, count: int) -> None:
    random, model = np.random.default_rng(seed), loader.Model(size)
    model.learn(random.integers(0, CONTEXTS, count % 300), random.integers(0, size, count % 300))
    model.counts[0] += count * (random.random(size) < 0.1)
    found = model.frequencies(np.arange(CONTEXTS))
    assert np.all(found.sum(1) == loader.TOTAL)
    assert found.min() >= 2


def test_what_is_known_well_is_coded_as_often_as_it_came_and_what_is_not_as_elsewhere() -> None:
    random, model = np.random.default_rng(0), loader.Model(4)
    often, seldom = np.array([0.7, 0.2, 0.1, 0]), np.array([0, 0.1, 0.2, 0.7])
    for share, context in ((often, 3), (seldom, 57)):
        model.learn(np.full(10**5, context), random.choice(4, 10**5, p=share))
    known, other, never = model.frequencies(np.array([3, 57, 119])) / loader.TOTAL
    assert np.allclose(known, often, atol=0.01)
    assert np.allclose(other, seldom, atol=0.01)
    assert np.allclose(never, (often + seldom) / 2, atol=0.01)


def test_a_model_learns_more_and_more_seldom() -> None:
    ends = loader.growing(421_642)
    steps = np.diff(ends)
    assert (ends[0], ends[-1]) == (0, 421_642)
    assert len(ends) < 60
    assert steps[0] == loader.FIRST
    assert np.all(steps[1:-1] >= steps[:-2])
    assert loader.growing(0) == [0]


def test_zeros_of_uneven_rows_and_columns_cost_less_than_their_entropy() -> None:
    random = np.random.default_rng(0)
    dense = np.outer(random.exponential(1, 128), random.exponential(1, 1000)) * 0.05
    flags = random.random(dense.shape) < dense
    bits = coding.Encoder().values(flags.astype(np.int16), 1)[0].sum()
    own = np.clip(dense, 1e-9, 1 - 1e-9)
    best = -np.log2(np.where(flags, own, 1 - own)).sum()  # with the true probabilities
    assert best < bits < 0.9 * coding.entropy(flags)
    assert bits < 1.15 * best


def test_values_that_nothing_tells_of_cost_hardly_more_than_their_entropy() -> None:
    values = np.random.default_rng(0).binomial(14, 0.5, (128, 500)) - 7
    bits = coding.Encoder().values(values, 7)[0].sum()
    assert coding.entropy(values) < bits < 1.02 * coding.entropy(values)


def test_kernels_whose_weights_are_alike_cost_less_than_their_entropy() -> None:
    """An autoregressive field of correlation r: its innovations have (1 - r^2) of the deviation."""
    random, r = np.random.default_rng(0), 0.8
    field = random.normal(0, 1, (4000, 3, 3))
    for axis in (1, 2):
        moved = np.moveaxis(field, axis, 0)
        for place in (1, 2):
            moved[place] = r * moved[place - 1] + np.sqrt(1 - r * r) * moved[place]
    values = np.clip(np.round(3 * field), -15, 15).astype(np.int64).reshape(80, 450)
    alike = coding.likeness(values, (3, 3))
    assert 11 <= alike <= 14
    assert coding.likeness(values, (1, 1)) == 0
    saved = coding.entropy(values) - coding.Encoder().values(values, 15, (3, 3), alike)[0].sum()
    innovations = -np.log2(np.sqrt(1 - r * r))  # bits that a value is worth less, where one neighbour is known
    assert 0.7 * (4 + 2 * 4) / 9 * innovations < saved / values.size < 1.1 * (4 + 2 * 4) / 9 * innovations


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=300))
def test_estimated_costs_are_those_of_a_code_that_exists(values: list[int]) -> None:
    costs = coding.costs(np.array(values), -8, 7)
    assert np.isclose((2.0**-costs).sum(), 1)  # Kraft
    counts = np.bincount(np.array(values) + 8, minlength=16)
    assert counts @ costs >= coding.entropy(np.array(values)) - 1e-6
    assert np.argmin(costs) == np.argmax(counts)


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
