"""How long an attempt took to begin with its work, seen from outside the program.

Runs on the compute node, in the attempt's waiting loop: a ``stat`` of the metrics file now and
then, the less often the longer it takes. The first report comes after the start-up *and* the work
that it reports, so the usual time between two reports is taken off. Approximate: looks are up to a
fifth of the time apart, and reports are taken to be of one size and rhythm. A program that reports
only at its end tells nothing about its start.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LOOK_S, LONGEST_GAP_S = 0.25, 30.0


class StartUp:
    """Watches a metrics file for the first report of this attempt."""

    def __init__(self, metrics: str, now: Callable[[], float] = time.monotonic):
        """Begin with the file as the attempts before left it."""
        self._metrics, self._now = metrics, now
        self._began = now()
        self._next = self._began + FIRST_LOOK_S
        self._before = self._size()
        self._first: tuple[float, int] | None = None  # seconds after the start, bytes reported

    def wait_s(self, wait_s: float) -> float:
        """Return how long to wait for the next look, at most ``wait_s``."""
        return wait_s if self._first else min(wait_s, max(0.0, self._next - self._now()))

    def look(self) -> None:
        """Look, if it is time to."""
        now = self._now()
        if self._first or now < self._next:
            return
        self._next = now + min(LONGEST_GAP_S, max(FIRST_LOOK_S, (now - self._began) / 5))
        size = self._size()
        if size > self._before:
            self._first = now - self._began, size
        self._before = min(size, self._before)  # a resuming program takes reports back

    def estimate_s(self) -> float | None:
        """Return the seconds of start-up when the program has ended; None if unknown."""
        if self._first is None:
            return None
        first_s, size = self._first
        n_later = (self._size() - size) / (size - self._before)
        if n_later <= 0:
            return None
        spacing_s = (self._now() - self._began - first_s) / n_later
        return round(max(0.0, first_s - spacing_s), 3)

    def _size(self) -> int:
        try:
            return os.stat(self._metrics).st_size
        except OSError:
            return 0
