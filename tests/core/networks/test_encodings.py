"""Every encoding says the same weight in every format: what the laws of formats try on networks, here one by one."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.mathematics import quantization
from core.networks import encodings
from core.networks.encodings import Encoder, FormatError, StoredTensor
from core.networks.encodings.codebook import LearnedCodebook
from core.networks.encodings.float32 import Unrounded
from core.networks.encodings.integer_grid import LearnedGrid
from core.portable import loader

SHAPE = (6, 4, 3, 3)


def encoder(name: str, weight: Tensor, draw: Any) -> Encoder:
    if name == "float32":
        return Unrounded()
    if name == "codebook":
        return LearnedCodebook(weight, draw(st.integers(4, 256)), keeps_zero=bool((weight == 0).any()))
    bits, granularity = draw(st.integers(2, 8)), draw(st.sampled_from(["channel", "tensor"]))
    symmetry = draw(st.sampled_from(["symmetric", "asymmetric"]))
    return LearnedGrid(bits, quantization.weight_grid(weight, bits, granularity, symmetry))


@st.composite
def stored(draw: Any, name: str) -> tuple[Encoder, Tensor, StoredTensor]:
    """An encoder, the weight that acts before it, and what it stores of it."""
    torch.manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(SHAPE if draw(st.booleans()) else (5, 7)) * 10.0 ** draw(st.integers(-3, 2))
    mask = torch.rand(weight.shape) < 0.5 if draw(st.booleans()) else None
    weight = weight if mask is None else weight.masked_fill(~mask, 0.0)
    made = encoder(name, weight, draw)
    with torch.no_grad():
        return made, weight, made.freeze("fc1.weight", weight, mask)


@pytest.mark.parametrize("name", encodings.encodings())
@given(data=st.data())
def test_what_is_stored_is_what_acts_in_every_format(name: str, data: st.DataObject) -> None:
    made, weight, tensor = data.draw(stored(name))
    with torch.no_grad():
        acts = made.forward(weight)
    assert (tensor.encoding, tensor.bits) == (name, made.bits)
    assert torch.equal(tensor.weight(), acts)
    assert torch.equal(tensor.values == 0, acts == 0)
    tensor.check()
    if tensor.coded:
        assert -256 <= int(tensor.values.min()) <= int(tensor.values.max()) <= 255

    tables = {key: table.flatten() for key, table in tensor.tables.items()}
    again = encodings.named(name).of(tensor.name, tensor.values, tensor.mask, tensor.bits, tables)
    assert torch.equal(again.weight(), acts)
    read = {
        "encoding": name,
        "values": tensor.values.numpy(),
        "tables": {key: own.numpy() for key, own in tables.items()},
    }
    assert np.array_equal(loader.ENCODINGS[name](read), acts.numpy())

    kept = tensor.tensors()
    assert set(kept) <= set(tensor.ends)

    def take(end: str, kinds: Any, *shapes: Any, low: float = -1e30, high: float = 1e30) -> Tensor:
        found = kept[end]
        assert found.dtype in kinds
        assert tuple(found.shape) in shapes
        assert low <= found.min() <= found.max() <= high
        return found.float() if found.is_floating_point() else found

    taken = encodings.named(name).taken(tensor.name, tuple(tensor.values.shape), tensor.bits, take)
    assert torch.equal(taken.weight(), acts)


@pytest.mark.parametrize("name", ["", "codes", None, 3, ["float32"]])
def test_an_unknown_encoding_is_refused_with_those_that_there_are(name: object) -> None:
    with pytest.raises(FormatError, match="codebook, float32, integer grid"):
        encodings.named(name)


def test_every_encoding_is_read_by_the_loader() -> None:
    assert set(loader.ENCODINGS) == set(encodings.encodings())
