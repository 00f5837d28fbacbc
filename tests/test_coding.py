"""Codes and bits: what goes in comes out, in no more bytes than the bits need."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import coding


@st.composite
def codes_and_bits(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(1, 8))
    return draw(st.lists(st.integers(0, 2**bits - 1), max_size=50)), bits


@given(codes_and_bits())
def test_codes_come_back_from_their_bits(case: tuple[list[int], int]) -> None:
    codes, bits = case
    packed = coding.pack_bits(np.array(codes, np.int16), bits)
    assert packed.nbytes == -(-len(codes) * bits // 8)
    assert coding.unpack_bits(packed, bits, len(codes)).tolist() == codes


@given(codes_and_bits())
def test_the_bits_are_those_of_one_long_integer_the_lowest_first(case: tuple[list[int], int]) -> None:
    codes, bits = case
    whole = sum(code << (bits * position) for position, code in enumerate(codes))
    assert coding.pack_bits(np.array(codes, np.int16), bits).tobytes() == whole.to_bytes(
        -(-len(codes) * bits // 8), "little"
    )


@pytest.mark.parametrize("bits", [0, 9, 32])
def test_a_width_that_is_no_byte_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=r"bits must be in \[1, 8\]"):
        coding.pack_bits(np.array([0]), bits)


@pytest.mark.parametrize(("codes", "bits"), [([4], 2), ([-1], 8), ([0, 256], 8), ([0, 2], 1)])
def test_a_code_that_does_not_fit_its_bits_is_refused(codes: list[int], bits: int) -> None:
    with pytest.raises(ValueError, match=f"codes must be in .0, {2**bits - 1}."):
        coding.pack_bits(np.array(codes), bits)


@given(codes_and_bits(), st.integers(-8, 8).filter(bool))
def test_bytes_too_many_or_too_few_are_refused(case: tuple[list[int], int], extra: int) -> None:
    codes, bits = case
    packed = coding.pack_bits(np.array(codes, np.int16), bits)
    wrong = np.zeros(max(0, packed.size + extra), np.uint8)
    if wrong.size == packed.size:
        return
    with pytest.raises(ValueError, match="must fill"):
        coding.unpack_bits(wrong, bits, len(codes))
