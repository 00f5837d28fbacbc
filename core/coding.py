"""Integers <-> bits: codes of b bits side by side, without a gap, the lowest bit first."""

import numpy as np
from numpy.typing import NDArray


def pack_bits(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Unsigned codes below 2^bits -> ceil(n * bits / 8) bytes.

    codes : (n,), bits : in [1, 8]
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be in [1, 8]. Got {bits} instead.")
    if codes.size and (codes.min() < 0 or codes.max() >= 2**bits):
        raise ValueError(f"codes must be in [0, {2**bits - 1}]. Got {codes.min()} to {codes.max()} instead.")
    rows = np.unpackbits(codes.astype(np.uint8)[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(rows, bitorder="little")


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The inverse of `pack_bits`: the first `count` codes. Raises ValueError where there are fewer."""
    if packed.size != -(-count * bits // 8):
        raise ValueError(
            f"{count} codes of {bits} bits must fill {-(-count * bits // 8)} bytes. Got {packed.size} instead."
        )
    rows = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(rows, axis=1, bitorder="little")[:, 0]
