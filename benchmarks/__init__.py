"""What the README claims, measured side by side in one run; each prints a table and, with --json, one JSON object."""

import statistics
from collections.abc import Iterable


def summary(seconds: Iterable[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds' precision."""
    ordered = sorted(seconds)
    late = ordered[round(0.95 * (len(ordered) - 1))]
    return {"median": round(statistics.median(ordered), 3), "p95": round(late, 3)}
