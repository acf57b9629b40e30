"""Why an attempt ended: one word, from what the attempt wrote and what Slurm says. Pure.

The attempt's own record comes first: it saw the exit code and the log. Slurm is asked about what an
attempt cannot know of itself (its node died, the kernel killed it for memory), and only about the
newest attempt, since squeue and sacct tell of the newest.
"""

from __future__ import annotations

import enum

from orchestrator.contract import records
from orchestrator.contract.states import SlurmState
from orchestrator.domain.trial_files import Attempt


class Cause(enum.Enum):
    """Why an attempt ended, or why a trial that should run does not; the value is for people."""

    PREEMPTED = "preempted"
    TIMEOUT = "time limit"
    NODE_FAILURE = "node failure"
    INTERRUPTED = "interrupted"  # it was told to stop, and nobody says by whom
    SILENT = "ended without a word"  # killed, and nobody says by whom
    HOST_OOM = "out of memory"
    CUDA_OOM = "CUDA out of memory"
    NON_FINITE = "diverged"
    KILLED = "killed by a signal"
    DISK_FULL = "disk full"
    CANNOT_START = "cannot start"
    ERROR = "error"
    STUCK = "no progress"
    NEVER_STARTED = "never started"
    HELD = "held by Slurm"
    HUNG = "no heartbeat"
    CANCELLED = "cancelled"
    ASKED = "asked for"  # a person said --retry-failed
    MOVED = "moved"  # its sweep wants it in another partition


# Words of ``runtime.cause``, which reads the log on the node.
_KINDS: dict[str, Cause] = {
    "cuda_oom": Cause.CUDA_OOM,
    "host_oom": Cause.HOST_OOM,
    "non_finite": Cause.NON_FINITE,
    "killed": Cause.KILLED,
    "disk_full": Cause.DISK_FULL,
    "cannot_start": Cause.CANNOT_START,
    "import_error": Cause.ERROR,
    "error": Cause.ERROR,
    "stuck": Cause.STUCK,
}
_BY_SLURM: dict[SlurmState, Cause] = {
    SlurmState.BOOT_FAIL: Cause.NODE_FAILURE,
    SlurmState.CANCELLED: Cause.CANCELLED,
    SlurmState.DEADLINE: Cause.TIMEOUT,
    SlurmState.NODE_FAIL: Cause.NODE_FAILURE,
    SlurmState.OUT_OF_MEMORY: Cause.HOST_OOM,
    SlurmState.PREEMPTED: Cause.PREEMPTED,
    SlurmState.TIMEOUT: Cause.TIMEOUT,
}


def classify(attempt: Attempt, slurm: SlurmState | None = None) -> Cause | None:
    """Tell why an attempt ended.

    Args:
        attempt: The attempt.
        slurm: How Slurm says its array task ended, if this is the task's newest attempt and Slurm
            knows; None otherwise.

    Returns:
        The cause; None if it ended well (committed, refused or superseded).
    """
    if attempt.outcome in (records.COMMITTED, records.REFUSED, records.SUPERSEDED):
        return None
    said = _BY_SLURM.get(slurm) if slurm is not None else None
    if attempt.outcome == records.PREEMPTED:
        return Cause.TIMEOUT if said is Cause.TIMEOUT else Cause.PREEMPTED
    if attempt.outcome == records.FAILED:
        cause = _KINDS.get(attempt.kind or "", Cause.ERROR)
        # The kernel's and Slurm's kills look alike from within: a SIGKILL.
        if cause is Cause.KILLED and said in (Cause.HOST_OOM, Cause.TIMEOUT, Cause.PREEMPTED):
            return said
        return cause
    return said or Cause.SILENT
