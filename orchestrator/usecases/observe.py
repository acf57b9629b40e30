"""Observing a sweep: node files, journal and Slurm's answer, folded into a state per trial.

Runs on the login node. One squeue for the whole sweep; sacct only for tasks that left the queue
without a word of ours, and none at all where accounting is off. Reads only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.import_folder import read_import
from orchestrator.adapters.journal import JournalState, Submission
from orchestrator.adapters.slurm_cli import TaskState
from orchestrator.adapters.trial_dir import Scan, is_trial_name, scan_sweep
from orchestrator.contract import records
from orchestrator.contract.errors import ClusterUnreachable, CorruptRecord
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.contract.states import LIVENESS, Liveness, TrialState
from orchestrator.domain.history import failed_for_good
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.trial_problems import name_gone
from orchestrator.domain.trial_state import (
    NOT_ASKED,
    NOT_THERE,
    RUN_HERE,
    LastAttempt,
    TaskLook,
    apply_decisions,
    decide_state,
)
from orchestrator.runtime import canary, gate
from orchestrator.runtime.heartbeat import read_times
from orchestrator.runtime.job import is_alive_here
from orchestrator.usecases.local_queue import LocalQueue
from orchestrator.usecases.recollection import Recollection

# The reason of what Slurm holds until a canary has passed.
WAITS_FOR_CANARY = "waits for the canary"


@dataclass(frozen=True)
class Observation:
    """A sweep at one moment."""

    scan: Scan
    """What the trials' files say."""
    states: dict[str, TrialState]
    """By trial name."""
    reasons: dict[str, str]
    """Why, in words, by trial name; absent where the state says it all."""
    journal: JournalState
    """What was submitted and decided."""
    looks: dict[str, TaskLook]
    """What Slurm says of each trial's newest submission, by trial name."""
    heartbeat_ages_s: dict[str, float]
    """Age of the newest attempt's heartbeat, of those without an end; by trial name."""
    held_back: list[str] = field(default_factory=list)
    """Requeued tasks (``<array>_<index>``) that wait out the 121 s Slurm adds."""
    problems: list[str] = field(default_factory=list)
    """What could not be read or asked, for people."""
    unreachable: str | None = None
    """Why Slurm did not answer; None if it did or was not needed."""
    closed: Mapping[str, Any] | None = None
    """Why the sweep's gate is closed, as of ``runtime.gate.read_closed``; None while it is open."""
    canaries: tuple[str, ...] = ()
    """Trials that others wait for, held by Slurm, until they have passed as canaries."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Tokens of array tasks that ended themselves at the closed gate, by trial name."""
    is_imported: bool = False
    """Whether another tool made the results, so that nothing of it can be run here."""
    gone: tuple[str, ...] = ()
    """Trials that were submitted and have no folder any more; they are in no state and no sum."""

    @property
    def trials(self) -> list[TrialFiles]:
        """Every trial, in number order."""
        return self.scan.trials

    def is_final(self, name: str) -> bool:
        """Tell whether a trial that failed or was cancelled goes again only if a person asks."""
        state = self.states[name]
        if state is TrialState.CANCELLED or name in self.journal.gave_up:
            return True
        return failed_for_good(self.scan.find(name), state, self.looks[name].state)

    def count(self) -> dict[TrialState, int]:
        """Number of trials in each state, in the order of the enumeration."""
        counts = dict.fromkeys(TrialState, 0)
        for state in self.states.values():
            counts[state] += 1
        return {state: n for state, n in counts.items() if n}


def observe(
    sweep: SweepPaths, here: str | None = None, recollection: Recollection | None = None
) -> Observation:
    """Look at every trial of a sweep; never raises because Slurm is away.

    Args:
        sweep: Which.
        here: This cluster's name, if it was asked for before; it takes a query of its own.
        recollection: What is known from earlier looks at this sweep; None starts anew.
    """
    known = recollection or Recollection()
    known.here = here or known.here
    scan = scan_sweep(sweep) if recollection is None else known.scan(sweep)
    trials = scan.trials
    journal = known.journal(sweep)
    newest = journal.last_submission_of()
    undecided = [trial for trial in trials if not trial.is_committed]
    queue = _Queue(known)
    queue.ask(_arrays_of(undecided, newest))
    queue.ask_history(undecided, newest, journal)
    local_queue = LocalQueue(sweep, journal)
    closed, left = gate.read_closed(sweep.root), gate.read_left(sweep.root)
    canaries = canary.pending(sweep.root)
    behind_canary = canary.waiting_tokens(sweep.root) if canaries else set()
    states: dict[str, TrialState] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, TaskLook] = {}
    ages_s: dict[str, float] = {}
    now, stale_s = time.time(), read_times(os.environ).stale_s
    for trial in trials:
        submission, index = newest.get(trial.name, (None, 0))
        if trial.is_committed:  # whatever else is said of it: nearly all trials of a large sweep
            looks[trial.name] = queue.look(submission, index)
            states[trial.name] = TrialState.DONE
            continue
        last = _last_attempt(sweep, trial, now, stale_s)
        looks[trial.name] = look = queue.look(submission, index)
        state, reason = decide_state(
            is_committed=trial.is_committed,
            last=last,
            is_submitted=submission is not None,
            is_settled=submission is not None and submission.is_settled,
            task=look,
            stale_s=stale_s,
            has_started=_has_started(trial, submission),
            is_queued_here=local_queue.is_to_start(trial, submission),
        )
        if state is TrialState.LOST and _is_behind_gate(trial, submission, closed, left):
            state, reason = TrialState.INTERRUPTED, "waits behind the gate"
        if look.reason == "JobHeldUser" and submission and submission.token in behind_canary:
            reason = WAITS_FOR_CANARY
        if state is not TrialState.DONE:
            state, reason = _apply_journal(trial, state, reason, journal, submission)
            if last is not None and last.outcome is None and last.heartbeat_age_s is not None:
                ages_s[trial.name] = last.heartbeat_age_s
        states[trial.name] = state
        if reason:
            reasons[trial.name] = reason
    imported = read_import(sweep)
    if imported is not None:  # nothing was submitted, so neither files nor Slurm know
        states.update({name: s for name, s in imported.states.items() if name in states})
        reasons = {name: why for name, why in imported.reasons.items() if name in states}
    gone = _find_gone(sweep, trials, newest)
    problems = [*scan.problems, *journal.problems, *name_gone(gone)]
    return Observation(
        scan,
        states,
        reasons,
        journal,
        looks,
        ages_s,
        queue.held_back(),
        problems,
        queue.unreachable,
        closed,
        canaries,
        left,
        imported is not None,
        gone,
    )


def _find_gone(
    sweep: SweepPaths, trials: Iterable[TrialFiles], submitted: Iterable[str]
) -> tuple[str, ...]:
    """Return the trials that were submitted and whose folder is gone, in number order."""
    absent = {*submitted}.difference(trial.name for trial in trials)
    if not absent:
        return ()
    again = {trial.id for trial in trials}  # submitted anew, it got a number of its own
    return tuple(
        name
        for name in sorted(absent)
        if is_trial_name(name)  # a journal is a file, too
        and name.partition("-")[2] not in again
        # Looked for once more: a submission may have made it after the others were read.
        and not os.path.lexists(sweep.trial(name).root)
    )


def _is_behind_gate(
    trial: TrialFiles,
    submission: Submission | None,
    closed: Mapping[str, Any] | None,
    left: Mapping[str, str],
) -> bool:
    """Whether the newest submission of a trial without a trace found the gate closed."""
    if submission is None or any(a.token == submission.token for a in trial.attempts):
        return False
    if submission.executor == "local":
        return closed is not None and not trial.attempts
    return left.get(trial.name) == submission.token


def _apply_journal(
    trial: TrialFiles,
    state: TrialState,
    reason: str,
    journal: JournalState,
    submission: Submission | None,
) -> tuple[TrialState, str]:
    token = "" if submission is None else submission.token
    given_up = journal.gave_up.get(trial.name)
    n_attempts = trial.attempts[-1].number if trial.attempts else 0
    is_given_up = given_up is not None and (
        (given_up.attempt, given_up.token) == (n_attempts, token)
    )
    return apply_decisions(
        state,
        reason,
        was_stopped=(token, trial.name) in journal.stopped,
        was_cancelled=(token, trial.name) in journal.cancelled,
        gave_up=given_up.reason if given_up is not None and is_given_up else None,
    )


def _arrays_of(
    trials: Iterable[TrialFiles], newest: Mapping[str, tuple[Submission, int]]
) -> dict[str, Submission]:
    arrays: dict[str, Submission] = {}
    for trial in trials:
        if trial.name in newest:
            submission = newest[trial.name][0]
            if submission.executor == "slurm":
                arrays[submission.token] = submission
    return arrays


def _last_attempt(
    sweep: SweepPaths, trial: TrialFiles, now: float, stale_s: float
) -> LastAttempt | None:
    if not trial.attempts:
        return None
    last = trial.attempts[-1]
    age = None if last.heartbeat_at is None else now - last.heartbeat_at
    if last.outcome is None and age is not None and age < stale_s:
        try:
            claim = read_record(sweep.trial(trial.name).attempt(last.number))
        except (OSError, CorruptRecord):
            claim = {}
        if claim and is_alive_here(claim) is False:
            age = None  # a process of this host, and gone: its heartbeat proves nothing
    end_age = None if last.ended_at is None else now - last.ended_at.timestamp()
    return LastAttempt(last.outcome, last.cause, age, end_age)


class _Queue:
    """What Slurm said in this observation."""

    def __init__(self, known: Recollection) -> None:
        self.unreachable: str | None = None
        self._known = known
        self._queued: dict[tuple[str, int], TaskState] = {}
        self._past: Mapping[tuple[str, int], TaskState] = {}

    def ask(self, arrays: Mapping[str, Submission]) -> None:
        if not arrays:
            return
        try:
            queued = slurm_cli.queued_tasks(sorted(arrays))
            # Another cluster on the same file system knows nothing of our jobs, which are not
            # gone for that. Tokens are random: where one is known, its cluster is this one.
            known = {token for token, _ in queued}
            clusters = {array.cluster for token, array in arrays.items() if token not in known}
            if clusters - {"", self._known.here}:
                here = self._known.here = self._known.here or slurm_cli.read_limits().cluster
                if clusters - {"", here}:
                    others = " and ".join(sorted(clusters - {"", here}))
                    self.unreachable = f"submitted to the cluster {others}; this is {here}"
                    return
            self._queued = queued
        except ClusterUnreachable as error:
            self.unreachable = str(error)

    def ask_history(
        self,
        trials: Iterable[TrialFiles],
        newest: Mapping[str, tuple[Submission, int]],
        journal: JournalState,
    ) -> None:
        """Ask sacct about tasks that left the queue and whose attempt did not say why."""
        if self.unreachable is not None:
            return
        silent: dict[str, str] = {}
        for trial in trials:
            if trial.name not in newest:
                continue
            submission, index = newest[trial.name]
            left = submission.executor == "slurm" and (
                (submission.token, index) not in self._queued
            )
            known = (submission.token, trial.name) in journal.cancelled
            given_up = journal.gave_up.get(trial.name)
            known = known or (given_up is not None and given_up.token == submission.token)
            if left and not known and not (_has_started(trial, submission) and _said_why(trial)):
                silent[submission.token] = submission.at
        if silent:
            # Slurm reads times in the local zone; a day early costs nothing.
            since = _day_before(min(silent.values()))
            self._past = self._known.history(lambda: _ask_accounting(sorted(silent), since))

    def held_back(self) -> list[str]:
        return [task.task for task in self._queued.values() if task.is_held_back]

    def look(self, submission: Submission | None, index: int) -> TaskLook:
        if submission is None or submission.executor != "slurm":
            return NOT_THERE if submission is None else RUN_HERE
        if self.unreachable is not None:
            return NOT_ASKED
        task = self._queued.get((submission.token, index))
        if task is None:
            task = self._past.get((submission.token, index))
            # squeue is newer than sacct: what left the queue does not wait or run any more.
            if task is not None and LIVENESS[task.state] is not Liveness.GONE:
                task = None
        if task is None:
            task = self._queued.get((submission.token, slurm_cli.NEVER_STARTED))
        if task is None:
            return NOT_THERE
        return TaskLook(True, task.state, task.reason, task.task)


def _ask_accounting(tokens: Sequence[str], since: str) -> Mapping[tuple[str, int], TaskState]:
    try:
        return slurm_cli.accounted_tasks(tokens, since)
    except ClusterUnreachable:
        return {}  # accounting is off or away: squeue and our records must do


def _has_started(trial: TrialFiles, submission: Submission | None) -> bool:
    """Whether an attempt is newer than, or of, the newest submission."""
    if submission is None or submission.executor != "slurm" or not trial.attempts:
        return True
    last = trial.attempts[-1]
    return not last.token or any(a.token == submission.token for a in trial.attempts)


def _said_why(trial: TrialFiles) -> bool:
    """Whether the newest attempt's own record says why it failed.

    A SIGKILL says nothing: Slurm knows whether it was for memory.
    """
    last = trial.attempts[-1] if trial.attempts else None
    return last is not None and last.outcome == records.FAILED and last.kind != "killed"


def _day_before(at: str) -> str:
    parsed = time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S")
    seconds = time.mktime(parsed) - 86_400
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
