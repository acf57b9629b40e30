"""A trial's history for the retry policy, and causes of attempts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract import records
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.bad_nodes import NodeEnd
from orchestrator.domain.cause import Cause, classify
from orchestrator.domain.history import (
    common_failures,
    ended_attempts,
    made_progress,
    node_ends,
)
from orchestrator.domain.retry_policy import RetryLimits, TrialHistory, decide
from orchestrator.domain.trial_files import Attempt, TrialFiles


def attempt(number: int = 1, outcome: str | None = records.FAILED, **fields: Any) -> Attempt:
    return Attempt(number, **{"outcome": outcome, "node": "n1", **fields})


def trial(*attempts: Attempt, **fields: Any) -> TrialFiles:
    return TrialFiles("00001-aaaa", 1, "aaaa", attempts=attempts, **fields)


@pytest.mark.parametrize(
    ("given", "slurm", "expected"),
    [
        (attempt(outcome=records.COMMITTED), None, None),
        (attempt(outcome=records.REFUSED), None, None),
        (attempt(outcome=records.SUPERSEDED), SlurmState.NODE_FAIL, None),
        (attempt(outcome=records.PREEMPTED), SlurmState.COMPLETED, Cause.PREEMPTED),
        (attempt(outcome=records.PREEMPTED), SlurmState.TIMEOUT, Cause.TIMEOUT),
        (attempt(kind="cuda_oom"), None, Cause.CUDA_OOM),
        (attempt(kind="import_error"), None, Cause.ERROR),
        (attempt(kind="a word of a later version"), None, Cause.ERROR),
        (attempt(), None, Cause.ERROR),
        (attempt(kind="killed"), None, Cause.KILLED),
        # the kernel's, Slurm's and a person's SIGKILL look alike from within
        (attempt(kind="killed"), SlurmState.OUT_OF_MEMORY, Cause.HOST_OOM),
        (attempt(kind="killed"), SlurmState.TIMEOUT, Cause.TIMEOUT),
        # what the attempt saw for itself counts more
        (attempt(kind="cuda_oom"), SlurmState.OUT_OF_MEMORY, Cause.CUDA_OOM),
        (attempt(outcome=None), SlurmState.NODE_FAIL, Cause.NODE_FAILURE),
        (attempt(outcome=None), SlurmState.OUT_OF_MEMORY, Cause.HOST_OOM),
        (attempt(outcome=None), SlurmState.COMPLETED, Cause.SILENT),
        (attempt(outcome=None), None, Cause.SILENT),
    ],
)
def test_classify(given: Attempt, slurm: SlurmState | None, expected: Cause | None) -> None:
    assert classify(given, slurm) is expected


def test_made_progress_compares_with_the_own_end_or_the_next_start() -> None:
    attempts = (
        attempt(1, None, progress_before=[0, 0, 0]),
        attempt(2, records.FAILED, progress_before=[9, 1, 5], progress=[9, 1, 5]),
        attempt(3, None, progress_before=[9, 1, 5]),
    )
    assert [made_progress(attempts, index) for index in range(3)] == [True, False, None]
    assert made_progress((attempt(),), 0) is None, "a record of an older version"


def test_ended_attempts_leaves_out_the_running_one_and_asks_slurm_for_the_newest_alone() -> None:
    given = trial(attempt(1, None), attempt(2, None))
    running = ended_attempts(given, TrialState.RUNNING, None, {})
    assert [(end.number, end.cause) for end in running] == [(1, Cause.SILENT)]
    over = ended_attempts(given, TrialState.LOST, SlurmState.NODE_FAIL, {"n1": "bad"})
    assert [(end.number, end.cause, end.on_bad_node) for end in over] == [
        (1, Cause.SILENT, False),
        (2, Cause.NODE_FAILURE, True),
    ]


def test_node_ends_tells_good_ends_too() -> None:
    given = trial(
        attempt(1, records.PREEMPTED, progress_before=[0], progress=[5]),
        attempt(2, records.COMMITTED, progress_before=[5]),
        attempt(3, node=None),
    )
    assert list(node_ends([given], {given.name: TrialState.DONE})) == [
        NodeEnd("n1", given.name, Cause.PREEMPTED, True),
        NodeEnd("n1", given.name, None, False),
    ]


def test_common_failures_counts_only_errors_without_progress() -> None:
    trials = {
        "failed": trial(attempt(fingerprint="f")),
        "unnamed": trial(attempt(cause="exit code 1")),
        "forgiven": trial(attempt(fingerprint="f")),
        "diverged": trial(attempt(kind="non_finite", fingerprint="f")),
        "moved": trial(attempt(fingerprint="f"), metrics={"loss": 1.0}),
        "done": trial(attempt(outcome=records.COMMITTED)),
        "waits": trial(),
    }
    named = [files._replace(name=name) for name, files in trials.items()]
    states = dict.fromkeys(trials, TrialState.FAILED)
    states |= {"done": TrialState.DONE, "waits": TrialState.PENDING}
    failures, n_going_well = common_failures(named, states, {"forgiven": 1}, {})
    assert failures == {"failed": "f", "unnamed": "exit code 1"}
    assert n_going_well == 2


def test_common_failures_counts_as_going_well_who_got_past_where_the_others_failed() -> None:
    def running(name: str, alive_s: float) -> TrialFiles:
        return trial(
            attempt(outcome=None, claimed_at=100.0, heartbeat_at=100.0 + alive_s)
        )._replace(name=name)

    given = [trial(attempt(fingerprint="f", wall_s=20.0)), running("a", 41.0), running("b", 43.0)]
    states = dict.fromkeys(("a", "b"), TrialState.RUNNING) | {given[0].name: TrialState.FAILED}
    assert common_failures(given, states, {}, {}) == ({given[0].name: "f"}, 1)


def test_common_failures_on_one_node_may_be_the_nodes_fault() -> None:
    failed = [trial(attempt(fingerprint="f"))._replace(name=name) for name in "abc"]
    elsewhere = trial(attempt(outcome=None, node="n2"))._replace(name="d")
    states = dict.fromkeys("abc", TrialState.FAILED) | {"d": TrialState.RUNNING}
    assert common_failures(failed, states, {}, {})[1] == 0
    assert common_failures([*failed, elsewhere], states, {}, {})[1] == 1
    assert common_failures(failed, states, {}, {"n1": "bad"}) == ({}, 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"progress_before": [0, 0, 0], "progress": [9, 0, 0]},
            "starts anew, since it left no checkpoint",
        ),
        ({"progress_before": [0, 0, 0], "progress": [9, 1, 7]}, "goes on from its checkpoint"),
        ({"progress_before": [9, 1, 7]}, "goes on from its checkpoint"),
        ({"progress_before": [0, 0, 0]}, "goes on from its checkpoint, if it left one"),
        ({}, "goes on from its checkpoint, if it left one"),
        ({"progress_before": [], "progress": [9]}, "starts anew, since it left no checkpoint"),
    ],
)
def test_checkpoint_is_promised_only_where_one_was_seen(fields: dict[str, Any], words: str) -> None:
    given = trial(attempt(outcome=records.PREEMPTED, **fields))
    ends = ended_attempts(given, TrialState.INTERRUPTED, None, {})
    decision = decide(TrialHistory(TrialState.INTERRUPTED, ends=ends, n_attempts=1), RetryLimits())
    assert decision.reason == f"preempted; {words}"


def test_next_start_tells_whether_a_killed_attempt_left_a_checkpoint() -> None:
    given = trial(
        attempt(1, None, progress_before=[0, 0, 0]), attempt(2, None, progress_before=[5, 2, 9])
    )
    ends = ended_attempts(given, TrialState.LOST, None, {})
    assert [end.has_checkpoint for end in ends] == [True, True]
