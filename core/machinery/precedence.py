"""What people wait for comes first: long work in other processes pauses meanwhile.

Who computes for people touches a file, again and again while somebody waits; who does long work looks at it between
steps, and pauses while it was touched just now. It never stops for good: after each `LONGEST_SECONDS` it works for
`LEAST_SECONDS`.
"""

import time
from contextlib import suppress
from pathlib import Path

CLAIM_SECONDS = 0.5
"""A claim holds for so long: an answer is also drawn, and others ask soon."""
LONGEST_SECONDS = 4.5
LEAST_SECONDS = 0.5
LOOK_SECONDS = 0.05


class Precedence:
    """mark : the file that is touched. Threads and processes may share it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark
        self._claimed_at = self._free_until = float("-inf")

    def claim(self) -> None:
        """Somebody waits for this process. Cheap: may be called as often as one likes."""
        now = time.monotonic()
        if now - self._claimed_at < CLAIM_SECONDS / 4:
            return
        self._claimed_at = now
        with suppress(OSError):  # where nothing can be written, long work is slow to give way, and all goes on
            self.mark.parent.mkdir(parents=True, exist_ok=True)
            self.mark.touch()

    @property
    def claimed(self) -> bool:
        with suppress(OSError):
            return 0 <= time.time() - self.mark.stat().st_mtime < CLAIM_SECONDS
        return False

    def give_way(self) -> None:
        """Return when nobody waits, or after `LONGEST_SECONDS`."""
        start = time.monotonic()
        if start < self._free_until:
            return
        while self.claimed:
            if time.monotonic() - start >= LONGEST_SECONDS:
                self._free_until = time.monotonic() + LEAST_SECONDS
                return
            time.sleep(LOOK_SECONDS)
