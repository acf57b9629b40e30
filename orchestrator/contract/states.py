"""States of a Slurm job and of a trial: two enumerations, and what each Slurm state means.

Slurm's state alone never proves a trial done or dead (a finished job can be run again, an exit
within the grace period reads COMPLETED): it says only whether a task is still in the queue.
The names are those of squeue(1) and sacct(1), "JOB STATE CODES", Slurm 22.05 to 26.05.
"""

from __future__ import annotations

import enum


class SlurmState(enum.Enum):
    """A job's state as squeue and sacct print it in long form."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UPDATE_DB = "UPDATE_DB"
    UNKNOWN = "UNKNOWN"


class Liveness(enum.Enum):
    """What a Slurm state says about an array task."""

    WAITING = "waiting"  # in the queue, will start or start again
    RUNNING = "running"  # holds a node, or held one a moment ago
    GONE = "gone"  # Slurm will not run it again unless somebody asks
    UNKNOWN = "unknown"  # nothing may be concluded


LIVENESS: dict[SlurmState, Liveness] = {
    SlurmState.BOOT_FAIL: Liveness.GONE,
    SlurmState.CANCELLED: Liveness.GONE,
    SlurmState.COMPLETED: Liveness.GONE,
    SlurmState.COMPLETING: Liveness.RUNNING,
    SlurmState.CONFIGURING: Liveness.RUNNING,
    SlurmState.DEADLINE: Liveness.GONE,
    SlurmState.EXPEDITING: Liveness.WAITING,
    SlurmState.FAILED: Liveness.GONE,
    SlurmState.LAUNCH_FAILED: Liveness.WAITING,
    SlurmState.NODE_FAIL: Liveness.GONE,
    SlurmState.OUT_OF_MEMORY: Liveness.GONE,
    SlurmState.PENDING: Liveness.WAITING,
    SlurmState.POWER_UP_NODE: Liveness.WAITING,
    # Final where PreemptMode=CANCEL; where it is REQUEUE squeue shows PENDING instead.
    SlurmState.PREEMPTED: Liveness.GONE,
    SlurmState.RECONFIG_FAIL: Liveness.GONE,
    SlurmState.REQUEUED: Liveness.WAITING,
    SlurmState.REQUEUE_FED: Liveness.WAITING,
    SlurmState.REQUEUE_HOLD: Liveness.WAITING,
    SlurmState.RESIZING: Liveness.RUNNING,
    SlurmState.RESV_DEL_HOLD: Liveness.WAITING,
    SlurmState.REVOKED: Liveness.GONE,
    SlurmState.RUNNING: Liveness.RUNNING,
    SlurmState.SIGNALING: Liveness.RUNNING,
    SlurmState.SPECIAL_EXIT: Liveness.WAITING,
    SlurmState.STAGE_OUT: Liveness.RUNNING,
    SlurmState.STOPPED: Liveness.RUNNING,
    SlurmState.SUSPENDED: Liveness.RUNNING,
    SlurmState.TIMEOUT: Liveness.GONE,
    SlurmState.UPDATE_DB: Liveness.RUNNING,
    SlurmState.UNKNOWN: Liveness.UNKNOWN,
}


def parse_slurm_state(text: str) -> SlurmState:
    """Read a state as squeue or sacct prints it, such as ``CANCELLED by 1000`` or ``OUT_OF_ME+``.

    A state that this version does not know becomes ``UNKNOWN``, never "absent".
    """
    word = text.strip().split(" ", 1)[0].upper()
    if word.endswith("+"):
        cut = word[:-1]
        matches = [state for state in SlurmState if state.value.startswith(cut)]
        return matches[0] if len(matches) == 1 else SlurmState.UNKNOWN
    try:
        return SlurmState(word)
    except ValueError:
        return SlurmState.UNKNOWN


class TrialState(enum.Enum):
    """Where a trial stands; the value is the word shown to people."""

    # By identity, as they are compared; enum's own hash is a function in Python.
    __hash__ = object.__hash__

    NEW = "new"  # never submitted
    PENDING = "pending"  # queued for its first attempt
    RUNNING = "running"
    REQUEUED = "requeued"  # queued again after a preemption
    DONE = "done"  # committed result
    FAILED = "failed"  # its program ended with an error
    INTERRUPTED = "interrupted"  # preempted or out of time, and not queued: submit resumes it
    LOST = "lost"  # left the queue without a word: submit runs it again
    CANCELLED = "cancelled"  # a person cancelled it
    UNKNOWN = "unknown"  # Slurm did not answer, or an unsettled submission


# States that end a trial: nothing happens any more unless somebody asks.
TERMINAL_STATES = frozenset({TrialState.DONE, TrialState.FAILED, TrialState.CANCELLED})
