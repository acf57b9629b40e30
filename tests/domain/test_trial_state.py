"""Every way a trial can stand, and every Slurm state."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.states import LIVENESS, Liveness, SlurmState, TrialState
from orchestrator.domain.trial_state import (
    NOT_ASKED,
    RUN_HERE,
    LastAttempt,
    TaskLook,
    apply_decisions,
    decide_state,
)

RUNS = LastAttempt(None, None, 5.0)
SILENT = LastAttempt(None, None, 5000.0)
PREEMPTED = LastAttempt("preempted", "stopped by SIGTERM; checkpointed", None)
FAILED = LastAttempt("failed", "exit code 1: ValueError", None)
GONE = TaskLook(True)


def look(state: SlurmState, reason: str = "") -> TaskLook:
    return TaskLook(True, state, reason)


def decide(**changes: Any) -> tuple[TrialState, str]:
    values: dict[str, Any] = {
        "is_committed": False,
        "last": None,
        "is_submitted": True,
        "is_settled": True,
        "task": GONE,
        "stale_s": 100.0,
    }
    return decide_state(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_submitted": False}, (TrialState.NEW, "")),
        ({"is_committed": True, "task": NOT_ASKED}, (TrialState.DONE, "")),
        # a committed trial stays done whatever Slurm does with its job
        ({"is_committed": True, "task": look(SlurmState.RUNNING)}, (TrialState.DONE, "")),
        ({"task": look(SlurmState.PENDING, "Resources")}, (TrialState.PENDING, "")),
        (
            {"task": look(SlurmState.PENDING, "PartitionConfig")},
            (TrialState.PENDING, "PartitionConfig"),
        ),
        (
            {"task": look(SlurmState.PENDING, "BeginTime"), "last": PREEMPTED},
            (TrialState.REQUEUED, "BeginTime"),
        ),
        # released by hand after a failure: it will run again
        ({"task": look(SlurmState.PENDING), "last": FAILED}, (TrialState.REQUEUED, "")),
        ({"task": look(SlurmState.RUNNING)}, (TrialState.RUNNING, "starting")),
        ({"task": look(SlurmState.RUNNING), "last": RUNS}, (TrialState.RUNNING, "")),
        (
            {"task": look(SlurmState.RUNNING), "last": SILENT},
            (TrialState.RUNNING, "no heartbeat"),
        ),
        # killed at the end of the grace, in mid-save: preempted all the same
        (
            {"task": look(SlurmState.PREEMPTED), "last": SILENT},
            (TrialState.INTERRUPTED, "preempted before it could say so"),
        ),
        ({"task": look(SlurmState.PREEMPTED), "last": FAILED}, (TrialState.FAILED, FAILED.cause)),
        # suspended for hours is not dead
        (
            {"task": look(SlurmState.SUSPENDED), "last": SILENT},
            (TrialState.RUNNING, "no heartbeat"),
        ),
        ({"task": look(SlurmState.COMPLETING), "last": FAILED}, (TrialState.RUNNING, "ending")),
        ({"last": RUNS}, (TrialState.RUNNING, "")),
        ({"last": FAILED}, (TrialState.FAILED, "exit code 1: ValueError")),
        (
            {"last": FAILED, "task": NOT_ASKED},
            (TrialState.FAILED, "exit code 1: ValueError"),
        ),
        ({"last": PREEMPTED}, (TrialState.INTERRUPTED, "stopped by SIGTERM; checkpointed")),
        # an exit within the grace period reads COMPLETED on 22.05, and is no result
        (
            {"last": PREEMPTED, "task": look(SlurmState.COMPLETED)},
            (TrialState.INTERRUPTED, "stopped by SIGTERM; checkpointed"),
        ),
        (
            {"last": SILENT, "task": look(SlurmState.TIMEOUT)},
            (TrialState.INTERRUPTED, "time limit"),
        ),
        (
            {"last": SILENT, "task": look(SlurmState.NODE_FAIL)},
            (TrialState.LOST, "attempt ended without a word: Slurm says NODE_FAIL"),
        ),
        (
            {"last": SILENT},
            (TrialState.LOST, "attempt ended without a word: not in the queue"),
        ),
        ({}, (TrialState.LOST, "never started: not in the queue")),
        (
            {"last": SILENT, "task": RUN_HERE},
            (TrialState.LOST, "attempt ended without a word: no process runs it now"),
        ),
        # the queue of a process on this machine
        ({"is_queued_here": True}, (TrialState.PENDING, "")),
        ({"is_queued_here": True, "last": PREEMPTED}, (TrialState.REQUEUED, "")),
        ({"is_queued_here": True, "last": FAILED}, (TrialState.REQUEUED, "")),
        ({"is_queued_here": True, "last": SILENT}, (TrialState.REQUEUED, "")),
        ({"is_queued_here": True, "is_committed": True}, (TrialState.DONE, "")),
        ({"task": look(SlurmState.CANCELLED)}, (TrialState.CANCELLED, "cancelled in Slurm")),
        (
            {"task": look(SlurmState.CANCELLED), "last": PREEMPTED},
            (TrialState.CANCELLED, "cancelled in Slurm"),
        ),
        # unknown is never absent
        ({"task": NOT_ASKED}, (TrialState.UNKNOWN, "Slurm did not say")),
        ({"task": NOT_ASKED, "last": SILENT}, (TrialState.UNKNOWN, "Slurm did not say")),
        ({"task": look(SlurmState.UNKNOWN)}, (TrialState.UNKNOWN, "Slurm did not say")),
        ({"is_settled": False}, (TrialState.UNKNOWN, "submission unsettled")),
        # run by hand, never submitted
        ({"is_submitted": False, "last": RUNS}, (TrialState.RUNNING, "")),
        (
            {"is_submitted": False, "last": PREEMPTED},
            (TrialState.INTERRUPTED, "stopped by SIGTERM; checkpointed"),
        ),
        (
            {"is_submitted": False, "last": SILENT},
            (TrialState.LOST, "attempt ended without a word"),
        ),
    ],
)
def test_decide_state(changes: dict[str, Any], expected: tuple[TrialState, str]) -> None:
    assert decide(**changes) == expected


@pytest.mark.parametrize("state", [SlurmState.COMPLETED, SlurmState.PREEMPTED])
def test_b04_exit_within_the_grace_is_done_only_if_committed(state: SlurmState) -> None:
    """COMPLETED on 22.05, PREEMPTED on 24.05: neither says anything about the result."""
    assert decide(last=PREEMPTED, task=look(state))[0] is TrialState.INTERRUPTED
    assert decide(last=PREEMPTED, task=look(state), is_committed=True)[0] is TrialState.DONE


def test_b21_hold_after_a_requeue_is_shown_as_waiting() -> None:
    decided = decide(last=PREEMPTED, task=look(SlurmState.PENDING, "BeginTime"))
    assert decided == (TrialState.REQUEUED, "BeginTime")


@pytest.mark.parametrize("state", SlurmState)
def test_decide_state_never_gives_up_what_slurm_still_holds(state: SlurmState) -> None:
    held = {Liveness.WAITING, Liveness.RUNNING, Liveness.UNKNOWN}
    for last in (None, RUNS, SILENT, PREEMPTED):
        decided, _ = decide(task=look(state), last=last)
        if LIVENESS[state] in held:
            assert decided in (
                TrialState.PENDING,
                TrialState.REQUEUED,
                TrialState.RUNNING,
                TrialState.UNKNOWN,
            )


@pytest.mark.parametrize("state", TrialState)
def test_apply_decisions_changes_only_what_left_the_queue(state: TrialState) -> None:
    left = {TrialState.LOST, TrialState.INTERRUPTED, TrialState.UNKNOWN}
    nothing: dict[str, Any] = {"was_stopped": False, "was_cancelled": False, "gave_up": None}
    assert apply_decisions(state, "why", **nothing) == (state, "why")
    cancelled = apply_decisions(state, "why", **{**nothing, "was_cancelled": True})
    assert cancelled[0] is (TrialState.CANCELLED if state in left else state)
    given_up = apply_decisions(state, "why", **{**nothing, "gave_up": "enough"})
    is_over = state in left or state is TrialState.FAILED
    assert given_up == ((TrialState.FAILED, "enough") if is_over else (state, "why"))
    stopped = apply_decisions(state, "why", **{**nothing, "was_stopped": True})
    assert stopped[0] is (TrialState.LOST if state is TrialState.CANCELLED else state)


@pytest.mark.parametrize("last", [FAILED, PREEMPTED])
@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (GONE, (TrialState.LOST, "never started: not in the queue")),
        (look(SlurmState.FAILED), (TrialState.LOST, "never started: Slurm says FAILED")),
        (look(SlurmState.CANCELLED), (TrialState.CANCELLED, "cancelled in Slurm")),
        (NOT_ASKED, (TrialState.UNKNOWN, "Slurm did not say")),
        (look(SlurmState.PENDING), (TrialState.REQUEUED, "")),
    ],
)
def test_decide_state_of_a_retry_that_did_not_start_is_not_that_of_the_attempt_before(
    last: LastAttempt, task: TaskLook, expected: tuple[TrialState, str]
) -> None:
    assert decide(last=last, task=task, has_started=False) == expected
