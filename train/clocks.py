"""Where the time of a trial goes: phases that leave no second out, and the age of this process.

Runs on the compute node. Standard library only (psutil where there is no ``/proc``). The clock is
of one process; with several ranks, the first one's times are reported.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

PHASES = ("data", "compute", "checkpoint", "evaluation")


class PhaseClock:
    """Counts time, always in exactly one phase, so that the phases add up to all of it.

    What is in no other phase is ``compute``: forward, backward, optimizer, reports.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        """Start in ``compute``; ``now`` gives seconds and never goes back."""
        self._now = now
        self.restart()

    def restart(self) -> None:
        """Forget what was counted; from here on it is ``compute``."""
        self._phase = "compute"
        self._since = self._now()
        self._seconds = dict.fromkeys(PHASES, 0.0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block in ``name``, and after it in the phase around it again."""
        around = self._phase
        self._enter(name)
        try:
            yield
        finally:
            self._enter(around)

    def take(self) -> dict[str, float]:
        """Return the seconds in each phase since the last call."""
        self._enter(self._phase)
        taken, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def _enter(self, name: str) -> None:
        now = self._now()
        self._seconds[self._phase] += now - self._since
        self._since, self._phase = now, name


def process_age_s() -> float:
    """Return how long ago this process was started, imports included."""
    if sys.platform.startswith("linux"):
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = start_ticks(file.read())
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    import psutil  # lazy: Linux needs none

    return time.time() - psutil.Process().create_time()


def start_ticks(stat: str) -> int:
    """Read from ``/proc/PID/stat`` when the process started, in clock ticks after boot.

    proc_pid_stat(5): field 22; the second, the name in parentheses, may hold anything.
    """
    return int(stat.rpartition(")")[2].split()[19])
