"""What waits in the queue of a submission that runs without Slurm, as other processes see it.

That queue lives in the process that submitted, which holds the sweep's lock as long as it runs: the
lock tells whether anything will start what waits. Where the lock is another's, or nobody's, the
queue is gone. Runs on any machine that sees the lock; reads only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.adapters import sweep_lock
from orchestrator.adapters.journal import JournalState, Submission
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime.job import is_alive_here

_PROCESS = ("host", "boot_id", "pid_namespace", "pid", "pid_start")


class LocalQueue:
    """The queue of the newest submission, if it runs without Slurm."""

    def __init__(self, sweep: SweepPaths, journal: JournalState):
        """Remember where to look; nothing is read before it is asked for."""
        self._sweep = sweep
        newest = next(reversed(journal.submissions.values()), None)
        self._newest = newest if newest is not None and newest.executor == "local" else None

    def runs(self, submission: Submission | None) -> bool:
        """Whether another process runs a submission here, without Slurm."""
        return submission is not None and submission is self._newest and self._is_alive

    def is_to_start(self, trial: TrialFiles, submission: Submission | None) -> bool:
        """Whether the process that submitted a trial lives and will start it (again).

        Args:
            trial: Its files.
            submission: Its newest submission.
        """
        if not self.runs(submission):
            return False
        last = trial.attempts[-1] if trial.attempts else None
        # A program that ended well, and whose result had no room, is not started again here.
        if last is None or (last.outcome == records.PREEMPTED and last.exit_code != 0):
            return True
        assert submission is not None
        # Attempts name no submission here. Both times are of one clock: it runs on this host.
        return last.started_at is not None and last.started_at < self._submitted_at

    @functools.cached_property
    def _is_alive(self) -> bool:
        assert self._newest is not None  # asked for its own trials alone
        by = self._newest.by
        try:
            owner = sweep_lock.read_owner(self._sweep)
        except OSError:
            return is_alive_here(by) is True  # the lock cannot be asked: the process itself can
        return owner is not None and _identity(owner) == _identity(by)

    @functools.cached_property
    def _submitted_at(self) -> datetime:
        assert self._newest is not None
        return datetime.fromisoformat(self._newest.at)


def _identity(process: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(process.get(key) for key in _PROCESS)
