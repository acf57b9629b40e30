"""Failures of a sweep in groups that share a cause. Pure.

One group for each cause and fingerprint (``runtime.cause``): the same exception with the same
message but for numbers and paths. Attempts of older versions, which have no fingerprint, and trials
that were given up without a failed attempt, are grouped by their words, likewise without numbers
and paths.

A preemption, a time limit, a lost node and a cancellation are no failures: ``count_interruptions``
counts them apart. An attempt that was told to stop is called preempted only where that is known:
by Slurm's word, or as Slurm took it back into its queue; ``scancel``, a time limit's warning and
the end of a local submitter look the same from within. Of a node that died nobody can tell from an
attempt that was killed without a word, unless Slurm says so: the former are "node failure", all
others "ended without a word".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.contract import records
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.history import ended_attempts
from orchestrator.domain.retry_policy import Ended
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.runtime.cause import normalise

# In the order in which they are shown.
INTERRUPTIONS = (
    Cause.PREEMPTED,
    Cause.INTERRUPTED,
    Cause.TIMEOUT,
    Cause.NODE_FAILURE,
    Cause.SILENT,
    Cause.CANCELLED,
)
# Of a trial that was given up although no attempt of it failed.
GAVE_UP = "gave_up"
_ENDED = (TrialState.FAILED, TrialState.LOST, TrialState.INTERRUPTED, TrialState.CANCELLED)


@dataclass(frozen=True)
class FailureGroup:
    """Failures that share a cause."""

    kind: str
    """A kind of ``runtime.cause`` (``cuda_oom``, ``error``, ...), or ``gave_up``."""
    cause: str
    """The same in words for people: the value of a ``domain.cause.Cause``."""
    reason: str
    """The cause of the example, in its own words; foreign text."""
    fingerprint: str
    """12 hexadecimal digits: the same failure, the same digits."""
    trials: tuple[str, ...]
    """Names of all trials with an attempt that failed so, in number order."""
    failed: tuple[str, ...]
    """Those that are failed now, and by this."""
    mended: tuple[str, ...]
    """Those that have a result since."""
    attempts: int
    """How many attempts failed so; 0 where trials were given up without one."""
    nodes: tuple[tuple[str, int], ...]
    """Nodes and how many of the attempts failed there, most first."""
    first_at: datetime | None
    """End of the first of them, UTC, on its node's clock; None if unknown."""
    last_at: datetime | None
    """End of the last of them."""
    example: str
    """The trial that is shown for all: a failed one if there is one."""
    example_attempt: int
    """Its attempt that failed so; 0: none."""
    decision: str = ""
    """Why the example goes not again, in words; empty if that was not decided."""
    log: tuple[str, ...] = field(default=())
    """What the example's log says: its traceback whole, or the last lines; safe to show."""

    @property
    def is_over(self) -> bool:
        """Whether every trial of it has a result since."""
        return len(self.mended) == len(self.trials)


@dataclass(frozen=True)
class _Failure:
    """One failed attempt, or a trial that was given up without one."""

    trial: str
    attempt: int
    kind: str
    cause: str
    reason: str
    fingerprint: str
    node: str | None
    at: datetime | None
    is_final: bool  # the trial is failed now, and by this


def group_failures(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    slurm: Mapping[str, SlurmState | None],
    gave_up: Mapping[str, str],
) -> list[FailureGroup]:
    """Group the failures of a sweep.

    Args:
        trials: All trials, in number order.
        states: By trial name.
        reasons: Why a trial is in its state, by name.
        slurm: How Slurm says a trial's newest array task ended, by name; None: it does not.
        gave_up: Why trials that were given up were, by name.

    Returns:
        Groups with failed trials first, then those that go again, then those that retries mended;
        within each the largest first.
    """
    groups: dict[tuple[str, str], list[_Failure]] = {}
    for trial in trials:
        state = states[trial.name]
        for failure in _failures(trial, state, slurm.get(trial.name), reasons.get(trial.name, "")):
            groups.setdefault((failure.cause, failure.fingerprint), []).append(failure)
    made = [_make_group(failures, states, gave_up) for failures in groups.values()]
    return sorted(made, key=_place)


def count_interruptions(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    slurm: Mapping[str, SlurmState | None],
    cancelled: Collection[tuple[str, str]] = (),
    preempted: Collection[tuple[str, str]] = (),
) -> dict[Cause, int]:
    """Count the attempts that ended through no fault of the program, by cause; none are left out.

    Args:
        trials: All trials.
        states: By trial name.
        slurm: As ``group_failures`` has it.
        cancelled: (token, trial) of the submissions that a person cancelled.
        preempted: (token, trial) of those that Slurm ended by preemption, as far as it said so.
    """
    counts: Counter[Cause] = Counter()
    for trial in trials:
        said = slurm.get(trial.name)
        for end in _ends(trial, states[trial.name], said):
            if end.cause in INTERRUPTIONS:
                counts[_name_interruption(trial, end, said, cancelled, preempted)] += 1
    return {cause: counts[cause] for cause in INTERRUPTIONS}


def _name_interruption(
    trial: TrialFiles,
    end: Ended,
    slurm: SlurmState | None,
    cancelled: Collection[tuple[str, str]],
    preempted: Collection[tuple[str, str]],
) -> Cause:
    """Call an interruption what it is known to be; an attempt knows only that it was told."""
    if end.cause not in (Cause.PREEMPTED, Cause.SILENT):
        return end.cause
    index = next(i for i, attempt in enumerate(trial.attempts) if attempt.number == end.number)
    attempt = trial.attempts[index]
    is_newest = index == len(trial.attempts) - 1
    if is_newest and slurm is SlurmState.PREEMPTED:
        return Cause.PREEMPTED
    # The words of ``runtime.requeue``.
    is_queued_again = attempt.requeue in ("requested", "by slurm")
    # Of a submission the newest attempt is the one that its end in Slurm ended.
    ended_it = is_newest or trial.attempts[index + 1].token != attempt.token
    is_told = attempt.requeue == records.PREEMPTED_BY_SLURM
    if is_told or ((attempt.token, trial.name) in preempted and ended_it):
        return Cause.PREEMPTED
    is_cancelled = (attempt.token, trial.name) in cancelled
    if is_cancelled and ended_it and not is_queued_again:
        return Cause.CANCELLED
    if end.cause is Cause.SILENT:
        return end.cause
    if attempt.signal == records.STOPPED_BY_BUDGET or attempt.cause == records.STOPPED_BY_CANARY:
        return Cause.INTERRUPTED
    # Slurm warns of a time limit by another signal than SIGTERM.
    is_preempted = attempt.requeue == "by slurm" or (
        is_queued_again and attempt.signal == "SIGTERM"
    )
    return Cause.PREEMPTED if is_preempted else Cause.INTERRUPTED


def _ends(trial: TrialFiles, state: TrialState, slurm: SlurmState | None) -> tuple[Ended, ...]:
    """List the attempts that did not end well; Slurm's word counts once the trial has left it."""
    if not trial.attempts or (len(trial.attempts) == 1 and state is TrialState.DONE):
        return ()  # nearly all trials of a large sweep
    ends = ended_attempts(trial, state, slurm if state in _ENDED else None, {})
    is_open = state is TrialState.UNKNOWN and trial.attempts[-1].outcome is None
    if is_open:  # whether it ended is not known
        return tuple(end for end in ends if end.number != trial.attempts[-1].number)
    return ends


def _failures(
    trial: TrialFiles, state: TrialState, slurm: SlurmState | None, reason: str
) -> Iterator[_Failure]:
    ends = _ends(trial, state, slurm)
    attempts = {attempt.number: attempt for attempt in trial.attempts}
    last = trial.attempts[-1].number if trial.attempts else 0
    is_told = False
    for end in ends:
        if end.cause in INTERRUPTIONS:
            continue
        is_final = state is TrialState.FAILED and end.number == last
        is_told |= is_final
        yield _of_attempt(trial.name, attempts[end.number], end, is_final)
    if state is TrialState.FAILED and not is_told:
        cause = Cause.NEVER_STARTED if not trial.attempts else Cause.STUCK
        words = reason or cause.value
        fingerprint = _fingerprint(GAVE_UP, words)
        at = _end_time(trial.attempts[-1]) if trial.attempts else None
        yield _Failure(
            trial.name, last, GAVE_UP, cause.value, words, fingerprint, None, at, is_final=True
        )


def _of_attempt(trial: str, attempt: Attempt, end: Ended, is_final: bool) -> _Failure:
    # Slurm knows better than the record whether a SIGKILL was for memory.
    is_own = attempt.kind is not None and end.cause is not Cause.HOST_OOM
    kind = attempt.kind if is_own and attempt.kind else end.cause.name.lower()
    words = end.words or end.cause.value
    return _Failure(
        trial,
        attempt.number,
        kind,
        end.cause.value,
        words,
        attempt.fingerprint or _fingerprint(kind, words),
        attempt.node,
        _end_time(attempt),
        is_final,
    )


def _fingerprint(kind: str, words: str) -> str:
    text = f"{kind}|{normalise(words)}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _end_time(attempt: Attempt) -> datetime | None:
    if attempt.ended_at is not None or attempt.heartbeat_at is None:
        return attempt.ended_at
    return datetime.fromtimestamp(attempt.heartbeat_at, UTC)


def _make_group(
    failures: list[_Failure], states: Mapping[str, TrialState], gave_up: Mapping[str, str]
) -> FailureGroup:
    trials = tuple(dict.fromkeys(failure.trial for failure in failures))
    failed = tuple(failure.trial for failure in failures if failure.is_final)
    # The first that is failed now, at its newest failure; else the newest of all that went again.
    final = next((failure for failure in failures if failure.is_final), None)
    example = final or max(failures, key=lambda f: (f.at is not None, f.at or 0, f.attempt))
    real = [failure for failure in failures if failure.kind != GAVE_UP]
    nodes = Counter(failure.node for failure in real if failure.node)
    times = sorted(failure.at for failure in failures if failure.at is not None)
    return FailureGroup(
        kind=example.kind,
        cause=example.cause,
        reason=example.reason,
        fingerprint=example.fingerprint,
        trials=trials,
        failed=failed,
        mended=tuple(name for name in trials if states[name] is TrialState.DONE),
        attempts=len(real),
        nodes=tuple(sorted(nodes.items(), key=lambda item: (-item[1], item[0]))),
        first_at=times[0] if times else None,
        last_at=times[-1] if times else None,
        example=example.trial,
        example_attempt=example.attempt,
        decision=gave_up.get(example.trial, "") if example.is_final else "",
    )


def _place(group: FailureGroup) -> tuple[bool, bool, int, int, str]:
    """Return what groups are sorted by."""
    size = len(group.failed) if group.failed else len(group.trials)
    return not group.failed, group.is_over, -size, -group.attempts, group.fingerprint
