"""Ending what an earlier attempt on this host left running when it was killed without a word.

Runs on the compute node and, for trials without Slurm, on the user's own machine. SIGKILL (also the
kernel's, out of memory) ends the attempt's process and not its program, which goes on writing
metrics and checkpoints; a program of the next attempt beside it would mix them. Slurm ends what a
job leaves; where it does not, and without it, this does.

The processes are known by their environment, ``TRIAL_DIR`` and ``TRIAL_ATTEMPT``, which all that a
program starts inherits. Not found: on another host (there the fencing of ``claim`` has to do), in
another container, on systems without ``/proc``, and what has emptied its environment.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def find_orphans(trial_dir: str, before: int) -> list[int]:
    """Return the processes of a trial's attempts with lower numbers.

    Args:
        trial_dir: The trial's directory.
        before: Number of the attempt that asks.
    """
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    here = os.path.realpath(trial_dir)
    for pid in pids:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # another user's, or it ended while we looked
        given = dict(word.partition(b"=")[::2] for word in words)
        folder, number = given.get(b"TRIAL_DIR"), given.get(b"TRIAL_ATTEMPT", b"")
        if (
            folder is not None
            and number.isdigit()
            and int(number) < before
            and pid != os.getpid()
            and os.path.realpath(os.fsdecode(folder)) == here
        ):
            found.append(pid)
    return found


def end_orphans(
    trial_dir: str,
    before: int,
    grace_s: float,
    say: Callable[[str], None],
    keep_on: Callable[[], bool] = lambda: True,
) -> None:
    """End them: SIGTERM, so that they may save, and SIGKILL after ``grace_s``.

    Args:
        trial_dir: The trial's directory.
        before: Number of the attempt that asks.
        grace_s: Seconds that they get to end.
        say: Takes a line for the log.
        keep_on: Asked all along; False ends the waiting, and nothing is killed any more.
    """
    pids = find_orphans(trial_dir, before)
    if not pids:
        return
    say(f"an earlier attempt was killed and left its program running; ending it: {pids}")
    _signal(pids, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (pids := find_orphans(trial_dir, before)) and time.monotonic() < deadline:
        if not keep_on():
            return
        time.sleep(0.1)
    while pids and keep_on() and time.monotonic() < deadline + grace_s:  # more may have been born
        _signal(pids, signal.SIGKILL)
        time.sleep(0.05)
        pids = find_orphans(trial_dir, before)
    if pids:
        say(f"{pids} cannot be ended; they may write into the trial, too")


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            pass
