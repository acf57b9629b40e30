"""Whether a trial gets anywhere: what it has to show, and which attempts added nothing to it.

Runs on the compute node. A trial that is preempted a hundred times and goes on each time is well;
one that starts again and again and never saves anything is stuck, whatever ends it.
"""

from __future__ import annotations

import os

from orchestrator.contract import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from orchestrator.contract.paths import TrialPaths

# So many attempts in a row without progress are enough (NVRx, `max_no_progress_cycles`, has 3).
MAX_IDLE_ATTEMPTS = 3
# An attempt that ended sooner had no chance to get anywhere, and proves nothing.
CHANCE_S = 60.0


def measure_progress(trial: TrialPaths) -> list[int]:
    """Size of the metrics file, number of checkpoints, and their newest mtime in ns.

    A checkpoint that is being written, by its name, is none: it starts with a dot or ends in
    ``.tmp``. Killed in mid-save again and again, a trial gets nowhere.
    """
    try:
        size = os.stat(trial.metrics).st_size
    except OSError:
        size = 0
    times = []
    try:
        with os.scandir(trial.checkpoints) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith(".tmp"):
                    times.append(entry.stat(follow_symlinks=False).st_mtime_ns)
    except OSError:
        pass  # none yet, or rotated away while we looked
    return [size, len(times), max(times, default=0)]


def max_idle_attempts(environ: Mapping[str, str]) -> int:
    """How many attempts without progress are enough: ``ORCHESTRATOR_MAX_IDLE_ATTEMPTS``, or 3."""
    return int(environ.get("ORCHESTRATOR_MAX_IDLE_ATTEMPTS", MAX_IDLE_ATTEMPTS))


def is_stuck(
    before: Iterable[Mapping[str, Any]], now: Sequence[int], environ: Mapping[str, str]
) -> bool:
    """Tell whether the last attempts all ended without progress, whatever ended them.

    Args:
        before: The records of the attempts so far, newest first; no more are read than it takes.
        now: The progress as it stands.
        environ: Holds the limits: ``ORCHESTRATOR_MAX_IDLE_ATTEMPTS``, ``ORCHESTRATOR_CHANCE_S``.

    Attempts that ended within ``CHANCE_S`` are passed over. A failed one ends the search: whoever
    had the trial run again knew of the failure, and may have mended it; so a trial that was found
    stuck gets as many attempts again once somebody asks for it.
    """
    enough = max_idle_attempts(environ)
    chance_s = float(environ.get("ORCHESTRATOR_CHANCE_S", CHANCE_S))
    n_idle = 0
    for record in before:
        if record.get("outcome") == records.FAILED or record.get("progress_before") != list(now):
            return False
        wall_s = record.get("wall_s")
        if isinstance(wall_s, (int, float)) and wall_s >= chance_s:
            n_idle += 1
            if n_idle >= enough:
                return True
    return False


def went_nowhere(
    before: Iterable[Mapping[str, Any]], now: Sequence[int], environ: Mapping[str, str]
) -> bool:
    """Tell whether the last attempts ended by themselves, each without a trace of work.

    However short they were: a program that asks to be run again and does nothing never ends. The
    arguments are those of ``is_stuck``.
    """
    n_idle = 1  # the one that asks
    for end in before:
        if (
            n_idle >= max_idle_attempts(environ)
            or end.get("outcome") != records.PREEMPTED
            or end.get("signal") is not None
            or end.get("progress") != list(now)
        ):
            break
        n_idle += 1
    return n_idle >= max_idle_attempts(environ)
