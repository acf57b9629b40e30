"""Collecting what killed processes left behind: temporary files of ``runtime/durable.py``.

Runs on the login node, by the holder of the sweep's lock. Only files of that module's own pattern
go, and only an hour after their last change on the file server's clock: what is younger may be a
write under way on some node. A process that was stopped for longer finds its file gone and fails,
which loses nothing: its temporary file was read by nobody.

Each call looks at a bounded number of folders, from a random one on, so that ten thousand trials on
a slow file server do not hold a submission up; some calls later all were seen.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator

from orchestrator.contract.paths import SweepPaths

# Longer than any write, and than the attribute caches of network file systems.
MIN_AGE_S = 3600.0
MAX_FOLDERS = 200
_TEMPORARY = re.compile(r"\.[^/]+\.[0-9a-f]{16}\.tmp")


def collect_leftovers(sweep: SweepPaths, now_s: float) -> int:
    """Remove old temporary files of a sweep; what cannot be removed stays.

    Args:
        sweep: Whose lock the caller holds.
        now_s: The time on the file server's clock, seconds since the epoch.

    Returns:
        How many were removed.
    """
    n_removed = 0
    for folder in _folders(sweep):
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]
        except OSError:
            continue  # not made yet, gone, or no folder
        n_removed += sum(_remove_if_old(f"{folder}/{name}", now_s) for name in names)
    return n_removed


def _folders(sweep: SweepPaths) -> Iterator[str]:
    """Name the folders in which files are written aside: all outside the trials, some of those."""
    yield sweep.root
    yield sweep.code
    yield sweep.cache
    yield from (sweep.array(token).root for token in _some_of(sweep.arrays))
    for name in _some_of(sweep.trials):
        trial = sweep.trial(name)
        yield trial.root
        yield trial.attempts


def _some_of(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    if len(names) <= MAX_FOLDERS:
        return names
    first = secrets.randbelow(len(names))
    return [*names[first:], *names[:first]][:MAX_FOLDERS]


def _remove_if_old(path: str, now_s: float) -> bool:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or now_s - status.st_mtime < MIN_AGE_S:
            return False
        os.unlink(path)
    except OSError:
        return False  # another submission's, or a file server's trouble: the next one tries again
    return True
