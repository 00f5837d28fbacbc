"""Weight sharing beside quantization: codebooks of 2^b values and grids of b bits, nothing trained."""

from collections.abc import Callable

from core.bench.submissions import Request
from core.bench.work import Kind
from core.bench.workbench import Workbench
from core.config import CompressionConfig, in_words
from core.machinery.stopping import Stopped
from core.measuring.training import Progress
from core.studies.answers import Measured, Sharing
from core.studies.tuning import WIDTHS

SHARING = "codebooks beside grids"
"""The kind of the job that measures it."""


def configurations() -> dict[int, tuple[CompressionConfig, CompressionConfig]]:
    """By bits of an index or a code: a codebook of 2^b values for every tensor, and the grid of b bits for every
    channel, with the least squared error."""
    return {bits: (CompressionConfig(codebook=2**bits), CompressionConfig(bits=bits, clip="mse")) for bits in WIDTHS}


def compare(
    bench: Workbench,
    name: str,
    progress: Progress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Measured]:
    """Accuracy on validation and bytes of all `configurations`, each codebook followed by its grid."""
    rows, every = list[Measured](), [config for pair in configurations().values() for config in pair]
    for config in every:
        if should_stop():
            raise Stopped
        rows.append(Measured.of(bench.evaluate(name, config)))
        progress({"message": in_words(config), "done": len(rows) / len(every)})
    return rows


def _work(bench: Workbench, asked: Request, report: Progress, should_stop: Callable[[], bool]) -> Sharing:
    return Sharing(tuple(compare(bench, asked["baseline"], report, should_stop)))


KINDS = {SHARING: Kind("Weight sharing", Sharing, _work)}
