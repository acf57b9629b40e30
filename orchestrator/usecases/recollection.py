"""What a process that observes one sweep again and again need not read or ask again.

Runs on the login node; in memory only, so the first look costs what any look costs. Trials at rest
cost two ``stat`` calls, by the rules of ``adapters.ingest_cache``; a journal that has not grown
costs one. Slurm's accounting is asked at most once in ``HISTORY_S`` seconds, since a sweep that
nobody looks after has lost trials for days. Called by ``usecases.watch``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from orchestrator.adapters.ingest_cache import SETTLE_S
from orchestrator.adapters.journal import JournalState, read_journal
from orchestrator.adapters.slurm_cli import TaskState
from orchestrator.adapters.trial_dir import Scan, list_trials, read_trial, scan_sweep
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.trial_files import TrialFiles

HISTORY_S = 60.0
Past = Mapping[tuple[str, int], TaskState]


class _Times(NamedTuple):
    """When a trial's folders changed, in nanoseconds; -1: unknown, 0: not there."""

    trial: int
    attempts: int


class Recollection:
    """What was seen of one sweep."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Start with nothing.

        Args:
            clock: Seconds that never go back.
        """
        self.here: str | None = None
        """This cluster's name, once it was asked for."""
        self._clock = clock
        self._problems: list[str] | None = None
        self._resting: dict[str, tuple[_Times, TrialFiles]] = {}
        self._journal: tuple[tuple[int, int, int], JournalState] | None = None
        self._past: Past = {}
        self._past_at: float | None = None

    def scan(self, sweep: SweepPaths) -> Scan:
        """Read every trial of the sweep that may have changed since the last time.

        Raises:
            UserError: There is no such sweep.
            OrchestratorError: The trials' directory cannot be read.
        """
        now_ns = time.time_ns()
        names = list_trials(sweep)
        # Looked at before the files, so that what changes meanwhile is read again next time.
        times = {name: _look(sweep, name) for name in names}
        known: dict[str, TrialFiles] = {}
        if self._problems is None:
            first = scan_sweep(sweep)
            known, self._problems = {trial.name: trial for trial in first.trials}, first.problems
        trials: list[TrialFiles] = []
        resting: dict[str, tuple[_Times, TrialFiles]] = {}
        for name in names:
            before = self._resting.get(name)
            if before is not None and before[0] == times[name]:
                trial = before[1]
            else:
                trial = known.get(name) or read_trial(sweep.trial(name))
            trials.append(trial)
            if _is_at_rest(trial, times[name], now_ns):
                resting[name] = (times[name], trial)
        self._resting = resting
        return Scan(trials, self._problems)

    def journal(self, sweep: SweepPaths) -> JournalState:
        """Read the journal, if it has changed; nobody may change what comes back."""
        try:
            status = os.stat(sweep.journal)
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
        except OSError:
            return read_journal(sweep)
        if self._journal is None or self._journal[0] != stamp:
            self._journal = stamp, read_journal(sweep)
        return self._journal[1]

    def history(self, ask: Callable[[], Past]) -> Past:
        """Return what accounting says, asked a while ago at most."""
        now = self._clock()
        if self._past_at is None or now - self._past_at >= HISTORY_S:
            self._past, self._past_at = ask(), now
        return self._past


def _look(sweep: SweepPaths, name: str) -> _Times:
    paths = sweep.trial(name)
    try:
        trial_ns = os.lstat(paths.root).st_mtime_ns
        try:
            return _Times(trial_ns, os.lstat(paths.attempts).st_mtime_ns)
        except FileNotFoundError:
            return _Times(trial_ns, 0)
    except OSError:
        return _Times(-1, -1)


def _is_at_rest(trial: TrialFiles, times: _Times, now_ns: int) -> bool:
    if times.trial < 0:
        return False
    if trial.is_committed:
        winner = trial.result.get("attempt") if trial.result is not None else None
        last = winner if type(winner) is int else 0
        is_open = any(a.outcome is None and a.number >= last for a in trial.attempts)
        return trial.result is not None and not is_open
    is_open = any(attempt.outcome is None for attempt in trial.attempts)
    return not (trial.problems or is_open) and max(times) < now_ns - SETTLE_S * 1e9
