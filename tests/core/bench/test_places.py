"""Laws of the places that are measured beforehand."""

from dataclasses import replace

import pytest
from conftest import configurations
from hypothesis import given, settings, strategies

from core.bench import places
from core.config import EXAMPLE, CompressionConfig
from core.networks.models import Baseline


@settings(max_examples=20)
@given(strategies.data())
def test_each_curve_changes_its_setting_and_nothing_else(mlp: Baseline, data: strategies.DataObject) -> None:
    config: CompressionConfig = data.draw(configurations(mlp))
    plain = replace(config, recovery=None)
    fields = {"rank": "rank_share", "sparsity": "sparsity", "bits": "bits", "channels": "channel_share"}
    for setting, curve in places.along(config).items():
        for own in curve:
            back = replace(own, **{fields[setting]: getattr(plain, fields[setting])})
            assert replace(back, activation_bits=plain.activation_bits) == plain
            assert own.activation_bits == plain.activation_bits or setting == "bits"


def test_activations_follow_the_bits_only_where_they_have_the_same() -> None:
    assert [own.activation_bits for own in places.along(EXAMPLE)["bits"]] == [2, 3, 4, 5, 6, 7, 8, None]
    apart = replace(EXAMPLE, activation_bits=8)
    assert {own.activation_bits for own in places.along(apart)["bits"]} == {8}


@given(strategies.floats(0, 100))
def test_the_ends_are_the_network_as_it_is(percent: float) -> None:
    assert places.kept(100) is None
    assert places.pruned(0) is None
    assert places.share(percent) == pytest.approx(percent / 100)
    if 0 < percent < 100:
        assert places.kept(percent) == places.pruned(percent) == places.share(percent)
