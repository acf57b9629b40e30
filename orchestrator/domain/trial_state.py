"""Deciding a trial's state from what is on disk and what Slurm says. Pure.

Only our own records prove an end: Slurm calls a job COMPLETED that left inside its grace period,
and runs finished ones again. Slurm tells whether a task is still in the queue, and why it left.
Unknown is never absent: while Slurm does not answer, nothing is declared lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract import records
from orchestrator.contract.states import LIVENESS, Liveness, SlurmState, TrialState

# How long another host may not show a file that is there (NFS, acdirmax), and as much again.
INVISIBLE_S = 120.0


@dataclass(frozen=True)
class LastAttempt:
    """What a trial's newest attempt left on disk."""

    outcome: str | None
    """A word of ``contract.records``; None while it runs, or when it was killed without a word."""
    cause: str | None
    """Its reason, in words."""
    heartbeat_age_s: float | None
    """Age of its heartbeat in seconds; None if there is none."""
    end_age_s: float | None = None
    """How long ago it ended, by its own words; None if it did not, or did not say."""


@dataclass(frozen=True)
class TaskLook:
    """What Slurm says about a trial's newest submission."""

    known: bool
    """Whether the question was answered at all, by squeue and, for a task that left, by sacct."""
    state: SlurmState | None = None
    """Its newest state; None if Slurm knows of no such task."""
    reason: str = ""
    """squeue's reason or sacct's exit code."""
    task: str = ""
    """``<array>_<index>`` while it is in the queue, as scontrol wants it."""
    is_local: bool = False
    """Whether a process ran it without Slurm, so that there is no queue."""


NOT_ASKED = TaskLook(known=False)
NOT_THERE = TaskLook(known=True)
RUN_HERE = TaskLook(known=True, is_local=True)


def decide_state(
    *,
    is_committed: bool,
    last: LastAttempt | None,
    is_submitted: bool,
    is_settled: bool,
    task: TaskLook,
    stale_s: float,
    has_started: bool = True,
    is_queued_here: bool = False,
) -> tuple[TrialState, str]:
    """Decide where a trial stands.

    Args:
        is_committed: ``result.json`` exists.
        last: Its newest attempt; None without one.
        is_submitted: The journal holds a submission that may exist.
        is_settled: That submission's receipt is known (or it ran locally).
        task: What Slurm says of it.
        stale_s: A heartbeat older than this does not prove life.
        has_started: An attempt of that submission is on disk.
        is_queued_here: A process that lives runs that submission without Slurm, and has yet to
            start the trial, or start it again.

    Returns:
        The state, and the reason in words; empty where the state says it all.
    """
    if is_committed:
        return TrialState.DONE, ""
    liveness = LIVENESS[task.state] if task.state is not None else None
    if is_queued_here or liveness is Liveness.WAITING:
        state = TrialState.PENDING if last is None else TrialState.REQUEUED
        return state, task.reason if task.reason not in ("None", "Priority", "Resources") else ""
    beats = last is not None and last.heartbeat_age_s is not None and last.heartbeat_age_s < stale_s
    running = last is not None and last.outcome is None
    if running and (beats or liveness is Liveness.RUNNING):
        return TrialState.RUNNING, "" if beats else "no heartbeat"
    if liveness is Liveness.RUNNING:
        return TrialState.RUNNING, "starting" if last is None else "ending"
    if not has_started and last is not None and last.outcome in (records.FAILED, records.PREEMPTED):
        # The newest submission left the queue without an attempt: the older one's end is not its.
        if task.state is SlurmState.CANCELLED:
            return TrialState.CANCELLED, "cancelled in Slurm"
        if not is_settled or not task.known or liveness is Liveness.UNKNOWN:
            return TrialState.UNKNOWN, "Slurm did not say" if is_settled else "submission unsettled"
        left = _tell_left(task)
        return TrialState.LOST, f"never started: {left}"
    if last is not None and last.outcome == records.FAILED:
        return TrialState.FAILED, last.cause or ""
    if task.state is SlurmState.CANCELLED:
        return TrialState.CANCELLED, "cancelled in Slurm"
    if last is not None and last.outcome in (records.COMMITTED, records.REFUSED):
        if last.end_age_s is not None and last.end_age_s < INVISIBLE_S:
            return TrialState.UNKNOWN, "committed; its result is not visible here yet"
        return TrialState.LOST, "committed, and its result was removed"
    if not is_submitted:
        return _without_submission(last)
    if not is_settled or not task.known or liveness is Liveness.UNKNOWN:
        return TrialState.UNKNOWN, "Slurm did not say" if is_settled else "submission unsettled"
    if last is not None and last.outcome == records.PREEMPTED:
        return TrialState.INTERRUPTED, last.cause or ""
    left = _tell_left(task)
    if task.state is SlurmState.TIMEOUT:
        return TrialState.INTERRUPTED, "time limit"
    if task.state is SlurmState.PREEMPTED and last is not None:
        return TrialState.INTERRUPTED, "preempted before it could say so"
    if last is None:
        return TrialState.LOST, f"never started: {left}"
    return TrialState.LOST, f"attempt ended without a word: {left}"


def _tell_left(task: TaskLook) -> str:
    """Say what is known of a task that runs no more."""
    if task.is_local:
        return "no process runs it now"
    return f"Slurm says {task.state.value}" if task.state is not None else "not in the queue"


def apply_decisions(
    state: TrialState, reason: str, *, was_stopped: bool, was_cancelled: bool, gave_up: str | None
) -> tuple[TrialState, str]:
    """Correct a state by what the journal says was decided about it.

    Args:
        state: As ``decide_state`` has it.
        reason: Likewise.
        was_stopped: We cancelled its newest array task ourselves, to replace it.
        was_cancelled: Slurm said once that a person cancelled it; it forgets that.
        gave_up: Why it is failed for good since its newest attempt; None if it is not.
    """
    if was_stopped and state is TrialState.CANCELLED:
        return TrialState.LOST, "stopped by us, to be replaced"
    left = state in (TrialState.LOST, TrialState.INTERRUPTED, TrialState.UNKNOWN)
    if was_cancelled and left:
        return TrialState.CANCELLED, "cancelled in Slurm"
    if gave_up is not None and (left or state is TrialState.FAILED):
        return TrialState.FAILED, gave_up
    return state, reason


def _without_submission(last: LastAttempt | None) -> tuple[TrialState, str]:
    if last is None:
        return TrialState.NEW, ""
    if last.outcome == records.PREEMPTED:
        return TrialState.INTERRUPTED, last.cause or ""
    return TrialState.LOST, "attempt ended without a word"
