"""The retry policy, row by row of its table."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.retry_policy import (
    LEAVE,
    MAX_SILENT_ENDS,
    Action,
    Changes,
    Decision,
    Ended,
    RetryLimits,
    TrialHistory,
    decide,
    find_common_failure,
    is_final,
)
from orchestrator.domain.trial_state import TaskLook

LIMITS = RetryLimits()
HELD = TaskLook(True, SlurmState.PENDING, "launch_failed_requeued_held", "7_0")


def failed(*causes: Cause, **changes: Any) -> TrialHistory:
    ends = tuple(
        Ended(number, cause, f"words of {cause.value}", made_progress=False)
        for number, cause in enumerate(causes, start=1)
    )
    return history(TrialState.FAILED, ends, **changes)


def history(state: TrialState, ends: tuple[Ended, ...] = (), **changes: Any) -> TrialHistory:
    values: dict[str, Any] = {"state": state, "ends": ends, "n_attempts": len(ends), **changes}
    return TrialHistory(**values)


def act(trial: TrialHistory, limits: RetryLimits = LIMITS) -> tuple[Action, Cause | None]:
    decision = decide(trial, limits)
    return decision.action, decision.cause


@pytest.mark.parametrize(
    "state", [TrialState.DONE, TrialState.CANCELLED, TrialState.UNKNOWN, TrialState.RUNNING]
)
def test_decide_done_cancelled_unknown_or_running_is_left_alone(state: TrialState) -> None:
    assert decide(history(state), LIMITS) is LEAVE


def test_decide_new_is_submitted_without_a_cause() -> None:
    assert decide(history(TrialState.NEW), LIMITS) == Decision(Action.SUBMIT)


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.NODE_FAILURE, Cause.TIMEOUT])
def test_decide_a_hundred_losses_that_are_nobodys_fault_go_on(cause: Cause) -> None:
    ends = tuple(Ended(number, cause) for number in range(1, 101))
    for state in (TrialState.INTERRUPTED, TrialState.LOST):
        assert act(history(state, ends)) == (Action.SUBMIT, cause)


def test_decide_ends_without_word_or_progress_are_bounded() -> None:
    ends = tuple(
        Ended(number, Cause.SILENT, made_progress=False) for number in range(1, MAX_SILENT_ENDS + 1)
    )
    assert act(history(TrialState.LOST, ends)) == (Action.GIVE_UP, Cause.STUCK)
    assert act(history(TrialState.LOST, ends[1:])) == (Action.SUBMIT, Cause.SILENT)
    moved = (*ends[:-1], Ended(MAX_SILENT_ENDS, Cause.SILENT, made_progress=True))
    assert act(history(TrialState.LOST, moved)) == (Action.SUBMIT, Cause.SILENT)
    assert act(history(TrialState.LOST, ends, forgiven=5)) == (Action.SUBMIT, Cause.SILENT)


@pytest.mark.parametrize("cause", [Cause.NON_FINITE, Cause.STUCK, Cause.CANNOT_START])
def test_decide_what_would_happen_again_is_final(cause: Cause) -> None:
    assert act(failed(cause)) == (Action.GIVE_UP, cause)


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("made_progress", [True, False, None])
@pytest.mark.parametrize("on_bad_node", [True, False])
def test_is_final_agrees_with_what_is_decided(
    cause: Cause, made_progress: bool | None, on_bad_node: bool
) -> None:
    end = Ended(1, cause, "", made_progress, on_bad_node)
    decision = decide(history(TrialState.FAILED, (end,), memory_room=9.0), LIMITS)
    assert is_final(end) == (decision.action is Action.GIVE_UP)


def test_decide_error_is_tried_again_only_after_progress() -> None:
    assert act(failed(Cause.ERROR)) == (Action.GIVE_UP, Cause.ERROR)
    progressed = Ended(1, Cause.ERROR, "lost its data", made_progress=True)
    assert act(history(TrialState.FAILED, (progressed,))) == (Action.SUBMIT, Cause.ERROR)


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.DISK_FULL])
def test_decide_failures_are_counted_and_preemptions_not(cause: Cause) -> None:
    twice = (cause, Cause.PREEMPTED, Cause.PREEMPTED, Cause.NODE_FAILURE, cause)
    assert act(failed(*twice)) == (Action.SUBMIT, cause)
    assert act(failed(*twice, cause)) == (Action.GIVE_UP, cause)
    assert act(failed(*twice, cause, forgiven=1)) == (Action.SUBMIT, cause)
    assert act(failed(cause), RetryLimits(failures=0)) == (Action.GIVE_UP, cause)


def test_decide_failure_on_a_bad_node_does_not_count() -> None:
    ends = tuple(Ended(n, Cause.ERROR, "no GPU", False, on_bad_node=True) for n in range(1, 9))
    decision = decide(history(TrialState.FAILED, ends), LIMITS)
    assert (decision.action, decision.reason) == (
        Action.SUBMIT,
        "no GPU; its node fails others too, so again elsewhere",
    )


def test_decide_host_oom_raises_the_memory_as_far_as_there_is_room() -> None:
    first = decide(failed(Cause.HOST_OOM), LIMITS)
    assert (first.action, first.changes) == (Action.SUBMIT, Changes(memory_factor=1.5))
    second = decide(failed(Cause.HOST_OOM, Cause.HOST_OOM, changes=first.changes), LIMITS)
    assert second.changes == Changes(memory_factor=2.25)
    capped = decide(failed(Cause.HOST_OOM, memory_room=1.2), LIMITS)
    assert capped.changes == Changes(memory_factor=1.2)
    at_the_end = decide(failed(Cause.HOST_OOM, memory_room=1.2, changes=Changes(1.2)), LIMITS)
    assert at_the_end.action is Action.GIVE_UP
    assert "have no more" in at_the_end.reason
    unknown = decide(failed(Cause.HOST_OOM, memory_room=1.0), LIMITS)
    assert (unknown.action, "resources.mem_gb" in unknown.reason) == (Action.GIVE_UP, True)
    often = failed(*[Cause.HOST_OOM] * 4, memory_room=math.inf)
    assert act(often) == (Action.GIVE_UP, Cause.HOST_OOM)


def test_decide_host_oom_that_killed_the_attempt_itself_raises_the_memory_too() -> None:
    ends = (Ended(1, Cause.HOST_OOM),)
    assert decide(history(TrialState.LOST, ends), LIMITS).changes == Changes(memory_factor=1.5)


def test_decide_cuda_oom_halves_the_micro_batch_three_times() -> None:
    changes = Changes()
    for n_times, divisor in ((1, 2), (2, 4), (3, 8)):
        decision = decide(failed(*[Cause.CUDA_OOM] * n_times, changes=changes), LIMITS)
        changes = decision.changes
        assert changes == Changes(micro_batch_divisor=divisor)
    last = decide(failed(*[Cause.CUDA_OOM] * 4, changes=changes), LIMITS)
    assert (last.action, last.reason) == (
        Action.GIVE_UP,
        "CUDA out of memory with 1/8 of the micro-batch",
    )


def test_decide_resumption_keeps_what_was_changed_before() -> None:
    changes = Changes(2.25, 4)
    trial = history(TrialState.INTERRUPTED, (Ended(1, Cause.PREEMPTED),), changes=changes)
    assert decide(trial, LIMITS).changes == changes


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.CANCELLED])
def test_decide_asked_for_goes_again_whatever_happened(state: TrialState) -> None:
    trial = failed(Cause.NON_FINITE, Cause.STUCK)
    asked = decide(TrialHistory(state, ends=trial.ends, n_attempts=2), LIMITS, is_asked=True)
    assert (asked.action, asked.cause) == (Action.SUBMIT, Cause.ASKED)


def test_decide_never_started_is_bounded() -> None:
    missed = history(TrialState.LOST, missed_starts=3)
    assert act(missed) == (Action.SUBMIT, Cause.NEVER_STARTED)
    assert act(history(TrialState.LOST, missed_starts=4)) == (
        Action.GIVE_UP,
        Cause.NEVER_STARTED,
    )


def test_decide_held_after_a_failed_launch_is_released_then_replaced() -> None:
    for n_releases, action in ((0, Action.RELEASE), (2, Action.RELEASE), (3, Action.REPLACE)):
        trial = history(TrialState.REQUEUED, task=HELD, n_releases=n_releases)
        assert act(trial) == (action, Cause.HELD)


@pytest.mark.parametrize(
    "reason", ["JobHoldMaxRequeue", "launch failure limit exceeded requeued held"]
)
def test_decide_held_for_ever_is_replaced_at_once(reason: str) -> None:
    task = TaskLook(True, SlurmState.PENDING, reason, "7_0")
    assert act(history(TrialState.REQUEUED, task=task)) == (Action.REPLACE, Cause.HELD)


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "BeginTime", "Resources"])
def test_decide_what_a_person_held_or_slurm_will_start_is_left_alone(reason: str) -> None:
    task = TaskLook(True, SlurmState.PENDING, reason, "7_0")
    assert decide(history(TrialState.PENDING, task=task), LIMITS) is LEAVE


def test_decide_hung_is_replaced_only_where_the_spec_says_so() -> None:
    running = TaskLook(True, SlurmState.RUNNING, "", "7_0")
    trial = history(TrialState.RUNNING, task=running, heartbeat_age_s=3600.0)
    assert decide(trial, LIMITS) is LEAVE
    limits = RetryLimits(hung_min=30)
    assert act(trial, limits) == (Action.REPLACE, Cause.HUNG)
    beating = history(TrialState.RUNNING, task=running, heartbeat_age_s=60.0)
    assert decide(beating, limits) is LEAVE
    suspended = TaskLook(True, SlurmState.SUSPENDED, "", "7_0")
    asleep = history(TrialState.RUNNING, task=suspended, heartbeat_age_s=36000.0)
    assert decide(asleep, limits) is LEAVE


def test_find_common_failure_needs_the_same_failure_and_nobody_going_well() -> None:
    same = {"a": "x", "b": "x", "c": "x", "d": "y"}
    assert find_common_failure(same, 0, LIMITS) == "x"
    assert find_common_failure(same, 1, LIMITS) is None
    assert find_common_failure({"a": "x", "b": "x", "c": "y"}, 0, LIMITS) is None
    assert find_common_failure(same, 0, RetryLimits(same_failure=0)) is None
    assert find_common_failure({}, 0, LIMITS) is None


@pytest.mark.parametrize(
    "record",
    [{"memory_factor": "a"}, {"memory_factor": math.inf}, {"micro_batch_divisor": 0}, {}],
)
def test_changes_that_cannot_be_read_are_none(record: dict[str, Any]) -> None:
    assert Changes.from_record(record) == Changes()


def test_changes_survive_the_journal() -> None:
    changes = Changes(1.5, 8)
    assert Changes.from_record(changes.as_record()) == changes
    assert Changes().as_record() == {}
