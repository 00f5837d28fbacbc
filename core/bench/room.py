"""The room for what is never evicted."""

import os
from collections.abc import Mapping
from contextlib import suppress

from core.bench import keys
from core.bench.baselines import Baselines
from core.bench.measurements import Measurements
from core.bench.results import Kept
from core.bench.trainings import Trainings
from core.config import ConfigError
from core.machinery.store import KEPT_LIMIT, Store
from core.measuring.front import Point

NEARLY_FULL = 0.8
"""Share of the room for kept results from which on a page warns."""


def kept_limit() -> int:
    """Bytes of what is never evicted: COMPRESSION_KEPT_GB, else 2 GB. Raises ConfigError."""
    asked = os.environ.get("COMPRESSION_KEPT_GB")
    if not asked:
        return KEPT_LIMIT
    with suppress(ValueError, OverflowError):
        if (limit := int(float(asked) * 2**30)) > 0:
            return limit
    raise ConfigError(f"COMPRESSION_KEPT_GB must be a number of gigabytes above 0. Got {asked!r} instead.")


class Room:
    def __init__(self, store: Store, baselines: Baselines, measurements: Measurements, trainings: Trainings) -> None:
        self.store, self.baselines, self.measurements, self.trainings = store, baselines, measurements, trainings
        self._looked_through: Mapping[str, tuple[int, int]] = {}

    def kept(self) -> Kept:
        """How full the room for what is kept is. What is of no use today is no longer kept when it is nearly full."""
        kinds = self.store.kept()
        if Kept(self.store.kept_limit, kinds).share >= NEARLY_FULL and kinds != self._looked_through:
            self.store.release(*self._outdated())
            kinds = self._looked_through = self.store.kept()
        return Kept(self.store.kept_limit, kinds)

    def _outdated(self) -> list[str]:
        """Keys of what relies on methods, or on a baseline, that are no longer so."""
        trained = self.trainings.recovered()
        current = {keys.recovery(self.baselines.profile(name), config) for name, config in trained}
        outdated = [key for key in self.store.keys("recovered") if key not in current]
        for key, payload in self.store.all("point"):
            try:
                point = Point.from_json(payload.decode())
                holds = key == self.measurements.point_key(point.baseline, point.config)
            except (ValueError, KeyError, TypeError):  # of another version; UnknownBaseline
                holds = False
            if not holds:
                outdated += [key, key.removeprefix(keys.point(""))]
        return outdated
