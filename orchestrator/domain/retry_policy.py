"""What happens to a trial next: a pure function of its state, its history and the sweep's limits.

======================  =============================================  ========================
cause                   then                                           until
======================  =============================================  ========================
preempted, time limit   resumes from its checkpoint                    no progress (on the node)
node failure, silent    resumes from its checkpoint, on another node   no progress (on the node)
out of memory (host)    again with ``memory_factor`` times the memory  ``memory_retries``
CUDA out of memory      again with half the micro-batch, twice the     ``micro_batch_halvings``
                        accumulation: the same effective batch, so
                        the same trial
killed, disk full       again                                          ``failures``
error, after progress   again, from its checkpoint                     ``failures``
error, no progress      final: the same would happen again             --retry-failed
diverged (NaN)          final: it is a result of its own               --retry-failed
no progress             final: 3 attempts in a row achieved nothing    --retry-failed
never started           again                                          ``launch_failures``
held by Slurm           released, then replaced by a new array task    ``launch_failures``
no heartbeat            reported; replaced where ``hung_min`` is set
cancelled               final: a person wanted it                      --retry-failed
closed the gate         again, once a person opens it                  the next failure
======================  =============================================  ========================

Preemptions and node failures count against nobody, however many there are. Failures on a node that
was found bad do not count either (``domain.bad_nodes``). Attempts without progress end on the node
itself, since a task that Slurm requeues never asks the login node (``runtime.attempt``).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.contract.states import LIVENESS, Liveness, SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.trial_state import TaskLook

# squeue's reasons (%r) that hold a task until somebody acts; spaces and underscores as one.
_HELD_AFTER_LAUNCH = ("launch failed requeued held",)
# Only an administrator may release these (Slurm 24.05 and later, job_mgr.c), so replaced at once.
_HELD_FOR_EVER = ("launch failure limit exceeded requeued held", "jobholdmaxrequeue")
# Failures that are tried again, within limits; errors after progress are, too.
_MAY_GO_AGAIN = (
    Cause.HOST_OOM,
    Cause.CUDA_OOM,
    Cause.PREEMPTED,
    Cause.TIMEOUT,
    Cause.KILLED,
    Cause.DISK_FULL,
)
# A trial whose attempts die without a word and without progress so often in a row kills its own
# supervisor, whatever the reason; it would never end.
MAX_SILENT_ENDS = 10


class Action(enum.Enum):
    """What to do about a trial."""

    LEAVE = "leave"
    SUBMIT = "submit"
    RELEASE = "release"
    REPLACE = "replace"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class RetryLimits:
    """How often what is tried again: the spec's ``retry:``."""

    failures: int = 2
    """Failures of a trial (killed, disk full, errors after progress) that are tried again."""
    memory_factor: float = 1.5
    """What the memory is multiplied by after a host ran out of it."""
    memory_retries: int = 3
    """How often that is done."""
    micro_batch_halvings: int = 3
    """How often the micro-batch is halved after CUDA ran out of memory."""
    launch_failures: int = 3
    """How often a trial that never started is submitted again, or a held one released."""
    same_failure: int = 3
    """So many trials that fail the same way before any made progress pause the sweep; 0: never."""
    bad_node_trials: int = 3
    """So many trials that fail at once on one node, and only there, exclude it; 0: never."""
    hung_min: float | None = None
    """Minutes without heartbeat after which a running trial is replaced; None: only reported."""


@dataclass(frozen=True)
class Changes:
    """What a trial is submitted with beside what its spec says; it stays the same trial."""

    memory_factor: float = 1.0
    """Times the memory."""
    micro_batch_divisor: int = 1
    """The micro-batch is divided by it, the accumulation multiplied."""

    def as_record(self) -> dict[str, Any]:
        """Return what differs from the spec, for the journal."""
        record: dict[str, Any] = {}
        if self.memory_factor != 1.0:
            record["memory_factor"] = self.memory_factor
        if self.micro_batch_divisor != 1:
            record["micro_batch_divisor"] = self.micro_batch_divisor
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Changes:
        """Read what ``as_record`` wrote; what cannot be used counts as no change."""
        factor, divisor = record.get("memory_factor", 1.0), record.get("micro_batch_divisor", 1)
        is_factor = type(factor) in (int, float) and math.isfinite(factor) and factor >= 1
        is_divisor = type(divisor) is int and 1 <= divisor <= 2**20
        return cls(float(factor) if is_factor else 1.0, divisor if is_divisor else 1)


@dataclass(frozen=True)
class Ended:
    """One attempt that ended badly, or without an end."""

    number: int
    """The attempt."""
    cause: Cause
    """Why."""
    words: str = ""
    """The record's words for it; foreign text."""
    made_progress: bool | None = None
    """Whether it reported or saved something; None: not known."""
    on_bad_node: bool = False
    """Whether its node fails everybody's trials."""
    has_checkpoint: bool | None = None
    """Whether it left something in ``checkpoints/``; None: not known."""


@dataclass(frozen=True)
class TrialHistory:
    """What is known of a trial when the policy is asked."""

    state: TrialState
    """Where it stands."""
    reason: str = ""
    """Why, in words."""
    ends: tuple[Ended, ...] = ()
    """Its attempts that did not end well, by number."""
    n_attempts: int = 0
    """How many attempts there were."""
    forgiven: int = 0
    """Attempts up to this number do not count: a person asked to try again after them."""
    task: TaskLook = field(default_factory=lambda: TaskLook(known=True))
    """What Slurm says of its newest submission."""
    missed_starts: int = 0
    """Submissions in a row, the newest included, that left the queue without an attempt."""
    n_releases: int = 0
    """How often its newest array task was released from a hold."""
    changes: Changes = field(default_factory=Changes)
    """What it was submitted with last."""
    memory_room: float = math.inf
    """Largest ``memory_factor`` its partition has room for; 1 if its memory is not known."""
    heartbeat_age_s: float | None = None
    """Age of the newest attempt's heartbeat while it runs."""
    is_pardoned: bool = False
    """Whether its newest attempt's failure closed the sweep's gate, which a person opened since."""


@dataclass(frozen=True)
class Decision:
    """What to do about a trial, and why."""

    action: Action
    """What."""
    cause: Cause | None = None
    """The cause it is done for; None where nothing is done."""
    reason: str = ""
    """One line for people: what happened and what follows."""
    changes: Changes = field(default_factory=Changes)
    """What to submit it with; of ``SUBMIT`` only."""


LEAVE = Decision(Action.LEAVE)


def decide(trial: TrialHistory, limits: RetryLimits, is_asked: bool = False) -> Decision:
    """Decide what happens to a trial next; see the table above.

    Args:
        trial: What is known of it.
        limits: How often what is tried again.
        is_asked: A person asked for failed and cancelled trials to go again.
    """
    if trial.state is TrialState.NEW:
        return Decision(Action.SUBMIT, changes=trial.changes)
    if trial.state in (TrialState.PENDING, TrialState.REQUEUED):
        return _decide_queued(trial, limits)
    if trial.state is TrialState.RUNNING:
        return _decide_running(trial, limits)
    if trial.state in (TrialState.FAILED, TrialState.CANCELLED) and is_asked:
        return Decision(Action.SUBMIT, Cause.ASKED, "a person asked for it", trial.changes)
    if trial.state is TrialState.FAILED and trial.is_pardoned:
        words = "its failure closed the gate, which was opened; again"
        return Decision(Action.SUBMIT, Cause.ASKED, words, trial.changes)
    if trial.state is TrialState.FAILED:
        return _decide_failed(trial, limits)
    if trial.state in (TrialState.INTERRUPTED, TrialState.LOST):
        return _decide_interrupted(trial, limits)
    return LEAVE  # done, cancelled, or unknown: and unknown is never absent


def _decide_queued(trial: TrialHistory, limits: RetryLimits) -> Decision:
    reason = trial.task.reason.replace("_", " ").lower()
    if reason in _HELD_FOR_EVER:
        return Decision(
            Action.REPLACE, Cause.HELD, f"Slurm holds it for good ({trial.task.reason}); replaced"
        )
    if reason not in _HELD_AFTER_LAUNCH:
        return LEAVE
    if trial.n_releases < limits.launch_failures:
        return Decision(
            Action.RELEASE, Cause.HELD, f"{reason}: released, time {trial.n_releases + 1}"
        )
    return Decision(
        Action.REPLACE, Cause.HELD, f"{reason} after {trial.n_releases} releases; replaced"
    )


def _decide_running(trial: TrialHistory, limits: RetryLimits) -> Decision:
    age_s = trial.heartbeat_age_s
    # A suspended job cannot beat, for hours, and lives.
    is_running = trial.task.state is SlurmState.RUNNING
    if limits.hung_min is None or age_s is None or not is_running:
        return LEAVE
    if age_s < limits.hung_min * 60:
        return LEAVE
    return Decision(
        Action.REPLACE,
        Cause.HUNG,
        f"no heartbeat for {age_s / 60:.0f} min while Slurm says RUNNING; replaced",
    )


def _decide_interrupted(trial: TrialHistory, limits: RetryLimits) -> Decision:
    last = trial.ends[-1] if trial.ends else None
    if trial.missed_starts:
        if trial.missed_starts > limits.launch_failures:
            return Decision(
                Action.GIVE_UP,
                Cause.NEVER_STARTED,
                f"{trial.missed_starts} submissions in a row did not start, {_why(trial)}; look at "
                "the environment lines of the template and the sweep",
            )
        words = f"did not start, {_why(trial)}; submitted again"
        return Decision(Action.SUBMIT, Cause.NEVER_STARTED, words, trial.changes)
    if last is None or last.number != trial.n_attempts:
        return Decision(Action.SUBMIT, Cause.SILENT, trial.reason, trial.changes)
    if last.cause is Cause.HOST_OOM:
        return _more_memory(trial, last, limits)
    if _count_silent(trial) >= MAX_SILENT_ENDS:
        words = f"{MAX_SILENT_ENDS} attempts in a row {Cause.SILENT.value}, none made progress"
        return Decision(Action.GIVE_UP, Cause.STUCK, words)
    return Decision(Action.SUBMIT, last.cause, _goes_on(last), trial.changes)


def _goes_on(last: Ended) -> str:
    if last.has_checkpoint is False:
        return f"{last.cause.value}; starts anew, since it left no checkpoint"
    doubt = "" if last.has_checkpoint else ", if it left one"
    return f"{last.cause.value}; goes on from its checkpoint{doubt}"


def is_final(last: Ended) -> bool:
    """Whether a failed trial's last failure is one that goes again only where a person asks.

    It follows from the cause alone, whatever the limits, so it is known before any decision.
    """
    if last.on_bad_node:
        return False
    return last.cause not in _MAY_GO_AGAIN and not (
        last.cause is Cause.ERROR and last.made_progress
    )


def _decide_failed(trial: TrialHistory, limits: RetryLimits) -> Decision:
    last = trial.ends[-1] if trial.ends else None
    if last is None:
        return LEAVE
    if last.on_bad_node:
        words = f"{_words(last)}; its node fails others too, so again elsewhere"
        return Decision(Action.SUBMIT, last.cause, words, trial.changes)
    if last.cause is Cause.HOST_OOM:
        return _more_memory(trial, last, limits)
    if last.cause is Cause.CUDA_OOM:
        return _smaller_micro_batch(trial, last, limits)
    if last.cause in (Cause.PREEMPTED, Cause.TIMEOUT):
        return Decision(Action.SUBMIT, last.cause, _goes_on(last), trial.changes)
    if last.cause in (Cause.KILLED, Cause.DISK_FULL) or (
        last.cause is Cause.ERROR and last.made_progress
    ):
        return _again(trial, last, limits)
    final = {
        Cause.NON_FINITE: "diverged, which is its result; not tried again",
        Cause.STUCK: last.words,
    }
    words = final.get(last.cause, f"{_words(last)}; it would fail again")
    return Decision(Action.GIVE_UP, last.cause, words)


def _again(trial: TrialHistory, last: Ended, limits: RetryLimits) -> Decision:
    counted = [
        end
        for end in trial.ends
        if end.number > trial.forgiven
        and not end.on_bad_node
        and end.cause in (Cause.KILLED, Cause.DISK_FULL, Cause.ERROR)
    ]
    if len(counted) > limits.failures:
        words = f"{_words(last)}: failure {len(counted)}; retry.failures is {limits.failures}"
        return Decision(Action.GIVE_UP, last.cause, words)
    words = f"{_words(last)}: failure {len(counted)} of at most {limits.failures}; again"
    return Decision(Action.SUBMIT, last.cause, words, trial.changes)


def _more_memory(trial: TrialHistory, last: Ended, limits: RetryLimits) -> Decision:
    n_times = _count(trial, Cause.HOST_OOM)
    if n_times > limits.memory_retries:
        words = f"out of memory {n_times} times, more than retry.memory_retries allows"
        return Decision(Action.GIVE_UP, last.cause, words)
    wanted = min(trial.changes.memory_factor * limits.memory_factor, trial.memory_room)
    if wanted <= trial.changes.memory_factor:
        words = (
            "out of memory, and the partition's nodes have no more"
            if trial.memory_room > 1
            else "out of memory; set resources.mem_gb, so that it can be raised"
        )
        return Decision(Action.GIVE_UP, last.cause, words)
    changes = Changes(round(wanted, 4), trial.changes.micro_batch_divisor)
    words = f"out of memory: again with {changes.memory_factor:g} times the memory"
    return Decision(Action.SUBMIT, last.cause, words, changes)


def _smaller_micro_batch(trial: TrialHistory, last: Ended, limits: RetryLimits) -> Decision:
    n_times = _count(trial, Cause.CUDA_OOM)
    if n_times > limits.micro_batch_halvings:
        words = f"CUDA out of memory with 1/{trial.changes.micro_batch_divisor} of the micro-batch"
        return Decision(Action.GIVE_UP, last.cause, words)
    divisor = trial.changes.micro_batch_divisor * 2
    words = f"CUDA out of memory: again with 1/{divisor} of the micro-batch"
    return Decision(Action.SUBMIT, last.cause, words, Changes(trial.changes.memory_factor, divisor))


def _count(trial: TrialHistory, cause: Cause) -> int:
    return sum(
        end.cause is cause and end.number > trial.forgiven and not end.on_bad_node
        for end in trial.ends
    )


def _count_silent(trial: TrialHistory) -> int:
    n_silent = 0
    for end in reversed(trial.ends):
        if end.cause is not Cause.SILENT or end.made_progress or end.number <= trial.forgiven:
            break
        n_silent += 1
    return n_silent


def _why(trial: TrialHistory) -> str:
    return trial.reason.removeprefix("never started: ") or "nobody says why"


def _words(end: Ended) -> str:
    return end.words or end.cause.value


def find_common_failure(
    failures: Mapping[str, str], n_going_well: int, limits: RetryLimits
) -> str | None:
    """Tell whether the sweep as a whole is broken, so that its rest should wait.

    Args:
        failures: Of each failed trial without progress, what failed (a fingerprint, or its words).
        n_going_well: Trials that committed or made progress.
        limits: ``same_failure`` of them pause the sweep.

    Returns:
        The common failure, or None.
    """
    if not limits.same_failure or n_going_well:
        return None
    counts: dict[str, int] = {}
    for failure in failures.values():
        counts[failure] = counts.get(failure, 0) + 1
    worst = max(counts, key=lambda failure: (counts[failure], failure), default=None)
    return worst if worst is not None and counts[worst] >= limits.same_failure else None


def is_waiting(task: TaskLook) -> bool:
    """Tell whether a task waits in the queue, so that it can be held or released."""
    return task.state is not None and LIVENESS[task.state] is Liveness.WAITING
