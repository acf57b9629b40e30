"""Failures of a sweep, grouped by what they share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.contract import records
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.failure_groups import (
    FailureGroup,
    count_interruptions,
    group_failures,
)
from orchestrator.domain.trial_files import Attempt, TrialFiles


def attempt(number: int, outcome: str | None, minute: int = 0, **fields: Any) -> Attempt:
    ended = None if outcome is None else datetime(2026, 1, 1, 10, minute, tzinfo=UTC)
    return Attempt(number, node=fields.pop("node", "n1"), outcome=outcome, ended_at=ended, **fields)


def failed(number: int = 1, minute: int = 0, print_: str = "f1", **fields: Any) -> Attempt:
    words = {"kind": "error", "fingerprint": print_, "cause": "exit code 1: ValueError: bad"}
    return attempt(number, records.FAILED, minute, **{**words, **fields})


def trial(number: int, *attempts: Attempt) -> TrialFiles:
    return TrialFiles(f"{number:05}-aaaa", number, "aaaa", attempts=attempts)


def group(
    *found: tuple[TrialFiles, TrialState],
    slurm: dict[str, SlurmState | None] | None = None,
    reasons: dict[str, str] | None = None,
    gave_up: dict[str, str] | None = None,
) -> list[FailureGroup]:
    states = {files.name: state for files, state in found}
    trials = [files for files, _ in found]
    return group_failures(trials, states, reasons or {}, slurm or {}, gave_up or {})


def test_equal_fingerprints_are_one_group() -> None:
    (found,) = group(
        (trial(1, failed(minute=5)), TrialState.FAILED),
        (trial(2, failed(minute=1, node="n2")), TrialState.FAILED),
        (trial(3, failed(minute=9)), TrialState.FAILED),
        gave_up={"00001-aaaa": "it would fail again"},
    )
    assert found == FailureGroup(
        kind="error",
        cause="error",
        reason="exit code 1: ValueError: bad",
        fingerprint="f1",
        trials=("00001-aaaa", "00002-aaaa", "00003-aaaa"),
        failed=("00001-aaaa", "00002-aaaa", "00003-aaaa"),
        mended=(),
        attempts=3,
        nodes=(("n1", 2), ("n2", 1)),
        first_at=datetime(2026, 1, 1, 10, 1, tzinfo=UTC),
        last_at=datetime(2026, 1, 1, 10, 9, tzinfo=UTC),
        example="00001-aaaa",
        example_attempt=1,
        decision="it would fail again",
    )
    assert not found.is_over


def test_failed_trials_come_first_then_what_goes_again_then_what_is_mended() -> None:
    done = attempt(2, records.COMMITTED)
    found = group(
        (trial(1, failed(print_="mended"), done), TrialState.DONE),
        (trial(2, failed(print_="mended"), done), TrialState.DONE),
        (trial(3, failed(print_="mended"), done), TrialState.DONE),
        (trial(4, failed(print_="again"), attempt(2, None)), TrialState.RUNNING),
        (trial(5, failed(print_="again"), attempt(2, None)), TrialState.RUNNING),
        (trial(6, failed(print_="small")), TrialState.FAILED),
        (trial(7, failed(print_="large")), TrialState.FAILED),
        (trial(8, failed(print_="large")), TrialState.FAILED),
    )
    assert [g.fingerprint for g in found] == ["large", "small", "again", "mended"]
    assert [g.is_over for g in found] == [False, False, False, True]
    assert found[3].mended == ("00001-aaaa", "00002-aaaa", "00003-aaaa")


def test_trial_that_failed_in_two_ways_is_failed_by_the_last_one() -> None:
    both = trial(1, failed(1, print_="first"), failed(2, print_="second"))
    found = group((both, TrialState.FAILED))
    assert [(g.fingerprint, g.failed) for g in found] == [
        ("second", ("00001-aaaa",)),
        ("first", ()),
    ]


def test_preemptions_and_lost_nodes_are_counted_apart() -> None:
    files = trial(
        1,
        attempt(1, records.PREEMPTED, requeue="by slurm"),
        attempt(2, None),
        attempt(3, records.PREEMPTED, requeue="by slurm"),
        attempt(4, None),
    )
    states = {files.name: TrialState.LOST}
    slurm = {files.name: SlurmState.NODE_FAIL}
    assert group((files, TrialState.LOST), slurm=dict(slurm)) == []
    assert count_interruptions([files], states, slurm) == {
        Cause.PREEMPTED: 2,
        Cause.INTERRUPTED: 0,
        Cause.TIMEOUT: 0,
        Cause.NODE_FAILURE: 1,
        Cause.SILENT: 1,
        Cause.CANCELLED: 0,
    }


def test_running_attempt_is_neither_failed_nor_interrupted() -> None:
    files = trial(1, attempt(1, None))
    for state in (TrialState.RUNNING, TrialState.UNKNOWN):
        assert group((files, state)) == []
        assert not any(count_interruptions([files], {files.name: state}, {}).values())


def test_older_records_are_grouped_by_their_words_without_numbers_and_paths() -> None:
    old: dict[str, Any] = {"kind": None, "fingerprint": None}
    (found,) = group(
        (trial(1, failed(cause="exit code 1: no /a/b, 7 left", **old)), TrialState.FAILED),
        (trial(2, failed(cause="exit code 1: no /c, 12 left", **old)), TrialState.FAILED),
    )
    assert (found.kind, found.attempts, len(found.fingerprint)) == ("error", 2, 12)


def test_memory_that_only_slurm_knows_of_is_a_failure() -> None:
    files = trial(1, attempt(1, None, node="n3"))
    (found,) = group((files, TrialState.FAILED), slurm={files.name: SlurmState.OUT_OF_MEMORY})
    assert (found.kind, found.cause, found.attempts) == ("host_oom", "out of memory", 1)


def test_trial_that_was_given_up_without_a_failed_attempt_is_told() -> None:
    name = "00001-aaaa"
    words = "4 submissions in a row did not start, nobody says why"
    (found,) = group((trial(1), TrialState.FAILED), reasons={name: words}, gave_up={name: words})
    assert (found.kind, found.cause) == ("gave_up", "never started")
    assert (found.failed, found.attempts, found.example_attempt) == ((name,), 0, 0)
    assert found.reason == found.decision == words


def count_ends(
    *attempts: Attempt,
    state: TrialState = TrialState.INTERRUPTED,
    slurm: SlurmState | None = None,
    cancelled: set[tuple[str, str]] | None = None,
    preempted: set[tuple[str, str]] | None = None,
) -> dict[Cause, int]:
    files = trial(1, *attempts)
    states = {files.name: state}
    found = count_interruptions(
        [files], states, {files.name: slurm}, cancelled or set(), preempted or set()
    )
    return {cause: n for cause, n in found.items() if n}


def test_attempt_that_was_told_to_stop_is_called_what_it_is_known_to_be() -> None:
    told = {"signal": "SIGTERM", "job_id": "7", "token": "t1"}
    stopped = attempt(1, records.PREEMPTED, requeue="refused: the job is COMPLETING", **told)
    # The end of a local submitter, and an older attempt that nobody remembers.
    assert count_ends(attempt(1, records.PREEMPTED, signal="SIGTERM")) == {Cause.INTERRUPTED: 1}
    assert count_ends(stopped) == {Cause.INTERRUPTED: 1}
    assert count_ends(stopped, slurm=SlurmState.PREEMPTED) == {Cause.PREEMPTED: 1}
    for requeue in ("requested", "by slurm"):
        again = attempt(1, records.PREEMPTED, requeue=requeue, **told)
        assert count_ends(again, state=TrialState.REQUEUED) == {Cause.PREEMPTED: 1}
    warned = {**told, "signal": "SIGUSR2"}
    limit = attempt(1, records.PREEMPTED, requeue="requested", **warned)
    assert count_ends(limit, state=TrialState.REQUEUED) == {Cause.INTERRUPTED: 1}
    budget = {**told, "signal": records.STOPPED_BY_BUDGET}
    spent = attempt(1, records.PREEMPTED, requeue="by slurm", **budget)
    assert count_ends(spent) == {Cause.INTERRUPTED: 1}


def test_preemption_that_slurm_told_is_one_also_after_the_trial_went_again() -> None:
    """In resubmit mode nothing of it is in the attempt's record: it was told to stop, and left."""
    keys = {"signal": "SIGTERM", "job_id": "7"}
    first = attempt(1, records.PREEMPTED, token="t1", **keys)
    silent = attempt(1, None, token="t1", job_id="7")
    done = attempt(2, records.COMMITTED, token="t2")
    for end in (first, silent):
        told = {("t1", "00001-aaaa")}
        assert count_ends(end, done, preempted=told, state=TrialState.DONE) == {Cause.PREEMPTED: 1}
    assert count_ends(first, done, state=TrialState.DONE) == {Cause.INTERRUPTED: 1}
    assert count_ends(silent, done, state=TrialState.DONE) == {Cause.SILENT: 1}
    # Of a requeued task it was the newest attempt that Slurm ended for good.
    second = attempt(2, records.PREEMPTED, token="t1", **keys)
    ends = count_ends(first, second, preempted={("t1", "00001-aaaa")})
    assert ends == {Cause.INTERRUPTED: 1, Cause.PREEMPTED: 1}


def test_cancelled_attempt_is_a_cancellation_also_after_it_went_again() -> None:
    keys = {"signal": "SIGTERM", "job_id": "7"}
    first = attempt(1, records.PREEMPTED, token="t1", **keys)
    by = {("t1", "00001-aaaa")}
    is_cancelled = {"state": TrialState.CANCELLED, "slurm": SlurmState.CANCELLED}
    assert count_ends(first, cancelled=by, **is_cancelled) == {Cause.CANCELLED: 1}
    silent = attempt(1, None, token="t1", job_id="7")  # Slurm has forgotten
    assert count_ends(silent, cancelled=by, state=TrialState.CANCELLED) == {Cause.CANCELLED: 1}
    done = attempt(2, records.COMMITTED, token="t2")
    assert count_ends(first, done, cancelled=by, state=TrialState.DONE) == {Cause.CANCELLED: 1}
    # A submission that never started was cancelled: not what ended the attempt before.
    by = {("t2", "00001-aaaa")}
    assert count_ends(first, cancelled=by, **is_cancelled) == {Cause.INTERRUPTED: 1}
    # One that waited to go on was cancelled: it had been preempted.
    waiting = attempt(1, records.PREEMPTED, token="t2", requeue="by slurm", **keys)
    assert count_ends(waiting, cancelled=by, **is_cancelled) == {Cause.PREEMPTED: 1}
