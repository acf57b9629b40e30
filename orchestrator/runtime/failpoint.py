"""Points at which tests kill this process: before and after every effect on disk or on Slurm.

Runs wherever the rest does, and does nothing unless the environment says so, which only tests do::

    ORCHESTRATOR_FAILPOINT=journal.write.after:3   SIGKILL at the 3rd time this point is reached
    ORCHESTRATOR_FAILPOINT='*:17'                  at the 17th point of any name
    ORCHESTRATOR_FAILPOINT_LOG=/tmp/points         append the name of each point reached

A name is ``<what>.<where>``; ``where`` is ``before``, ``half`` (of the bytes) or ``after``.
``tests/faults/kill_points.py`` finds the points by the log.
"""

from __future__ import annotations

import itertools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


# The same everywhere; the signal module takes longer to import than all of this file.
_SIGKILL = 9


class _Plan:
    """Where to die, and where to note what was reached."""

    def __init__(self, target: str, log: str):
        self.name, _, count = target.rpartition(":")
        self.count = int(count) if self.name else 0
        self.log = log
        # itertools.count is atomic: several threads write trial files.
        self._counter: Iterator[int] = itertools.count(1)

    def reach(self, name: str) -> None:
        if self.log:
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, name.encode() + b"\n")
            os.close(fd)
        if self.name in ("*", name) and next(self._counter) == self.count:
            os.kill(os.getpid(), _SIGKILL)


_plan: _Plan | None = None


def arm(target: str, log: str = "") -> None:
    """Set where to die, such as ``*:17``, and the file for the names; empty for neither.

    Raises:
        ValueError: The target's number is none.
    """
    global _plan
    _plan = _Plan(target, log) if target or log else None


def reach(name: str) -> None:
    """Pass a point; the process may die here."""
    if _plan is not None:
        _plan.reach(name)


def write(name: str, fd: int, data: bytes | memoryview) -> int:
    """Write like ``os.write``; while armed in two halves, with a point between them."""
    if _plan is None:
        return os.write(fd, data)
    n_written = os.write(fd, data[: len(data) // 2])
    _plan.reach(name)
    return n_written + os.write(fd, data[n_written:])


arm(os.environ.get("ORCHESTRATOR_FAILPOINT", ""), os.environ.get("ORCHESTRATOR_FAILPOINT_LOG", ""))
