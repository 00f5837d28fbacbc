"""Weight sharing beside quantization: what the laboratory measures."""

from core.bench.workbench import Workbench
from core.studies import sharing
from core.studies.answers import Sharing
from core.studies.kinds import KINDS


def test_sixteen_shared_values_are_about_as_good_as_four_bits(warm_bench: Workbench) -> None:
    """On the shipped CNN, which is what the page says of it; and the record survives JSON."""
    result = KINDS[sharing.SHARING].run(warm_bench, {"baseline": "cnn"}, lambda event: None, lambda: False)
    assert Sharing.from_dict(result.to_dict()) == result
    rows = dict(zip(sharing.configurations(), zip(result.rows[::2], result.rows[1::2], strict=True), strict=True))
    for bits, (shared, grid) in rows.items():
        assert shared.configuration.codebook == 2**bits
        assert grid.configuration.bits == bits
        assert shared.accuracy > grid.accuracy - 0.005
    sizes = [shared.bytes for shared, _ in rows.values()]
    assert sizes == sorted(sizes, reverse=True)
