"""What failed in a sweep, grouped by cause, with one excerpt of a log each.

Runs on the login node and reads only: one log for each group. Nothing is decided here; see
``usecases.reconcile`` for what goes again. Called by the command ``failures`` and by reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.adapters.trial_log import LogFile
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.failure_groups import (
    FailureGroup,
    count_interruptions,
    group_failures,
)
from orchestrator.domain.log_excerpt import find_excerpt
from orchestrator.domain.plain_text import strip_controls
from orchestrator.usecases.observe import Observation

# A traceback of a deep program with its chained ones; a screen shows about as much.
MAX_LOG_LINES = 60
# Each group costs the end of one log; ten thousand different failures shall not cost all.
MAX_LOGS = 100
LOG_BYTES = 256 * 1024
# Looked through for the part of an attempt that others followed.
MAX_SCAN_BYTES = 64 * 2**20


def read_failures(
    sweep: SweepPaths,
    observation: Observation,
    n_lines: int = MAX_LOG_LINES,
    max_logs: int = MAX_LOGS,
) -> list[FailureGroup]:
    """Group the failures of a sweep, failed trials first, and read a log of each group.

    Args:
        sweep: Which.
        observation: What was seen of it.
        n_lines: At most so many lines of log for each group; 0 reads none.
        max_logs: Of so many groups, the first ones.
    """
    groups = group_failures(
        observation.trials,
        observation.states,
        observation.reasons,
        _slurm_ends(observation),
        {name: given_up.reason for name, given_up in observation.journal.gave_up.items()},
    )
    return [
        replace(group, log=_read_excerpt(sweep, group, n_lines)) if n < max_logs else group
        for n, group in enumerate(groups)
    ]


def read_interruptions(observation: Observation) -> dict[Cause, int]:
    """Count the attempts that were preempted, interrupted, lost, out of time or cancelled."""
    return count_interruptions(
        observation.trials,
        observation.states,
        _slurm_ends(observation),
        find_cancelled(observation),
        observation.journal.preempted,
    )


def find_cancelled(observation: Observation) -> set[tuple[str, str]]:
    """List (token, trial) of the submissions that a person cancelled, as far as is known."""
    newest = observation.journal.last_submission_of()
    now = {
        (newest[name][0].token, name)
        for name, state in observation.states.items()
        if state is TrialState.CANCELLED and name in newest
    }
    return observation.journal.cancelled | now


def _slurm_ends(observation: Observation) -> Mapping[str, SlurmState | None]:
    return {name: look.state for name, look in observation.looks.items()}


def _read_excerpt(sweep: SweepPaths, group: FailureGroup, n_lines: int) -> tuple[str, ...]:
    if n_lines <= 0 or not group.example_attempt:
        return ()
    try:
        lines = read_attempt_lines(sweep, group.example, group.example_attempt)
    except CorruptRecord as error:  # one odd file does not hide the other groups
        return (f"({error})",)
    return find_excerpt(lines, n_lines)


def read_attempt_lines(sweep: SweepPaths, name: str, attempt: int) -> list[str]:
    """Read the end of what one attempt wrote, fit for a terminal; empty if it is not found.

    Raises:
        CorruptRecord: The log is there and cannot be read.
    """
    try:
        with LogFile(sweep.trial(name)) as log:
            part = log.find_attempt(attempt, MAX_SCAN_BYTES)
            if part is None:
                return []
            start, end = part
            data = log.read(max(start, end - LOG_BYTES), end)
            if end - LOG_BYTES > start:
                data = data.partition(b"\n")[2] or data  # the first line is cut
    except FileNotFoundError:
        return []
    text = strip_controls(data.decode("utf-8", "replace")).expandtabs(4)
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]
