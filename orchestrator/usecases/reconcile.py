"""One round of looking after a sweep: what each trial needs next, and what is done in the queue.

Runs on the login node, within ``submit`` and each round of ``supervise``, by the holder of the
sweep's lock. ``judge`` asks the retry policy; ``act`` writes each decision into the journal and
then does it in Slurm's queue; new submissions are left to ``usecases.submit``. A killed round is
taken up by the next: decisions follow from what is on disk, not from what a process remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.adapters import slurm_arrays, slurm_cli
from orchestrator.adapters.journal import JournalWriter, Submission
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.bad_nodes import find_bad_nodes
from orchestrator.domain.cause import Cause
from orchestrator.domain.history import common_failures, ended_attempts, node_ends
from orchestrator.domain.retry_policy import (
    LEAVE,
    Action,
    Changes,
    Decision,
    RetryLimits,
    TrialHistory,
    decide,
    find_common_failure,
    is_waiting,
)
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import gate
from orchestrator.runtime.gate_queue import HELD
from orchestrator.usecases import gatekeeper
from orchestrator.usecases.observe import Observation


@dataclass
class Judgement:
    """What a round decided."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    """By trial name; trials that are left alone are absent."""
    bad_nodes: dict[str, str] = field(default_factory=dict)
    """Every node that arrays shall avoid, those of earlier rounds included, and why."""
    paused: str | None = None
    """Why nothing is submitted; None if there is no such reason."""
    closes: tuple[str, str, Mapping[str, Any]] | None = None
    """Kind, reason and detail of the gate to close; None where it is closed, or stays open."""
    is_release: bool = False
    """Whether the gate is left to ``usecases.release``, which opens it whatever closed it."""
    opened: str | None = None
    """Why the gate was closed that this round opened; None if it opened none."""
    released: list[str] = field(default_factory=list)
    """What it let go, as scontrol wants it."""
    warnings: list[str] = field(default_factory=list)
    """What Slurm did not do, for people."""

    def follow(self, earlier: Judgement) -> None:
        """Stand for a second look in the same round, after array tasks were cancelled."""
        self.warnings[:0] = earlier.warnings
        self.released[:0] = earlier.released
        self.opened = self.opened or earlier.opened
        for name, before in earlier.decisions.items():
            now = self.decisions.get(name)
            is_new = now is not None and now.action is not before.action
            words = f"{before.reason}; {now.reason}" if now and is_new else before.reason
            self.decisions[name] = replace(now or before, reason=words)

    def chosen(self, action: Action) -> dict[str, Decision]:
        """Return the decisions for one action."""
        return {name: d for name, d in self.decisions.items() if d.action is action}


def judge(
    observation: Observation,
    limits: RetryLimits,
    memory_rooms: Mapping[str, float],
    is_asked: bool = False,
    *,
    is_release: bool = False,
    spent: str | None = None,
) -> Judgement:
    """Decide about every trial that the spec has.

    Args:
        observation: The sweep now.
        limits: The spec's ``retry:``.
        memory_rooms: By trial name, how much more memory its partition has; trials that are not
            there belong to an earlier version of the spec and are left alone.
        is_asked: A person asked for failed and cancelled trials to go again.
        is_release: A person asked to open the gate, whatever closed it.
        spent: What was spent of the sweep's budget, if that is all of it.
    """
    journal = observation.journal
    pardons = gatekeeper.find_pardons(observation)
    found = find_bad_nodes(
        node_ends(observation.trials, observation.states), limits.bad_node_trials
    )
    # A person who asks, or who turned it off, gives them another chance.
    known = {} if is_asked or not limits.bad_node_trials else journal.excluded
    judgement = Judgement(bad_nodes={**found, **known})
    newest = journal.last_submission_of()
    for trial in observation.trials:
        state = observation.states[trial.name]
        if trial.name not in memory_rooms or state is TrialState.DONE:
            continue
        submission = newest[trial.name][0] if trial.name in newest else None
        token = "" if submission is None else submission.token
        given_up = journal.gave_up.get(trial.name)
        is_told = (
            given_up is not None
            and not is_asked
            and (given_up.attempt, given_up.token) == (newest_attempt(trial), token)
        )
        fields = _history(trial, observation, judgement.bad_nodes, submission)
        number = newest_attempt(trial)
        # Of a trial without attempts only now: it may be given up again.
        was_pardoned = number > 0 and number == journal.pardoned.get(trial.name)
        fields["is_pardoned"] = was_pardoned or (is_release and number == pardons.get(trial.name))
        history = TrialHistory(**fields, memory_room=memory_rooms[trial.name])
        decision = decide(history, limits, is_asked)
        # Given up for good, unless its node turned out to be the reason.
        is_open = not is_told or (
            decision.action is Action.SUBMIT
            and (history.is_pardoned or bool(history.ends and history.ends[-1].on_bad_node))
        )
        if decision is not LEAVE and is_open:
            judgement.decisions[trial.name] = decision
    judgement.is_release = is_release
    if not is_release:
        _look_at_gate(judgement, observation, limits, is_asked, spent)
    if judgement.paused is not None:
        for name in judgement.chosen(Action.SUBMIT):
            del judgement.decisions[name]
    return judgement


def act(judgement: Judgement, observation: Observation, writer: JournalWriter) -> bool:
    """Bring a round's decisions into the journal and into Slurm's queue.

    Returns:
        Whether array tasks were cancelled, so that the sweep has to be looked at again before
        their trials are submitted.

    Raises:
        OSError: The journal cannot be written; nothing was done that it does not hold.
    """
    journal = observation.journal
    newest = journal.last_submission_of()
    slurm_cli.start_now(observation.held_back)
    _note_ends(observation, newest, writer)
    for name, decision in judgement.chosen(Action.GIVE_UP).items():
        writer.write("gave_up", **_about(name, decision, observation, newest))
    _exclude(judgement, observation, newest, writer)
    for name, decision in judgement.chosen(Action.RELEASE).items():
        writer.write("released", **_about(name, decision, observation, newest))
        _try(judgement, name, slurm_cli.release, observation.looks[name].task)
    replaced = judgement.chosen(Action.REPLACE)
    for name, decision in replaced.items():
        if decision.cause is Cause.MOVED and not _try(
            judgement, name, slurm_arrays.defer, observation.looks[name].task
        ):
            continue  # it started: it moves when it waits again
        if (newest[name][0].token, name) not in journal.stopped:  # else Slurm is slow, or failed
            writer.write("stopped", **_about(name, decision, observation, newest))
        _try(judgement, name, slurm_cli.cancel, observation.looks[name].task)
    if not judgement.is_release:
        _keep_gate(judgement, observation, writer)
    return bool(replaced)


def retried_entry(name: str, decision: Decision, n_attempts: int) -> tuple[str, dict[str, Any]]:
    """Make the journal's entry for a trial that is submitted again; its intent follows it."""
    return "retried", {
        "trial": name,
        "attempt": n_attempts,
        "cause": decision.cause.value if decision.cause is not None else "",
        "reason": decision.reason,
        "changes": decision.changes.as_record(),
    }


def newest_attempt(trial: TrialFiles) -> int:
    """Number of a trial's newest attempt, 0 before the first."""
    return trial.attempts[-1].number if trial.attempts else 0


def _history(
    trial: TrialFiles,
    observation: Observation,
    bad_nodes: Mapping[str, str],
    submission: Submission | None,
) -> dict[str, Any]:
    journal, name = observation.journal, trial.name
    look = observation.looks[name]
    state = observation.states[name]
    is_over = state in (TrialState.FAILED, TrialState.LOST, TrialState.INTERRUPTED)
    key = ("" if submission is None else submission.token, name)
    return {
        "state": state,
        "reason": observation.reasons.get(name, ""),
        "ends": ended_attempts(trial, state, look.state if is_over else None, bad_nodes),
        "n_attempts": newest_attempt(trial),
        "forgiven": journal.forgiven.get(name, 0),
        "task": look,
        "missed_starts": _missed_starts(trial, observation) if state is TrialState.LOST else 0,
        "n_releases": journal.n_releases.get(key, 0),
        "changes": Changes.from_record(journal.changes.get(name, {})),
        "heartbeat_age_s": observation.heartbeat_ages_s.get(name),
    }


def _missed_starts(trial: TrialFiles, observation: Observation) -> int:
    """Count the newest submissions in a row that left no attempt, those before a pardon not."""
    journal = observation.journal
    started = {attempt.token for attempt in trial.attempts}
    n_missed = 0
    pardoned = journal.forgiven_starts.get(trial.name, 0)
    for submission in reversed(journal.submissions_of(trial.name)[pardoned:]):
        is_ours = (submission.token, trial.name) in journal.stopped
        if submission.token in started or submission.executor != "slurm" or is_ours:
            break
        n_missed += 1
    return n_missed


def _look_at_gate(
    judgement: Judgement,
    observation: Observation,
    limits: RetryLimits,
    is_asked: bool,
    spent: str | None,
) -> None:
    """Decide whether the sweep's rest is held back, and whether this round closes the gate."""
    closed = observation.closed
    if closed is not None and closed["kind"] != gate.FAILURES:
        judgement.paused = closed["reason"]
        return
    if spent is not None:
        judgement.paused = spent
        judgement.closes = (gate.BUDGET, spent, {}) if closed is None else None
        return
    if is_asked:
        return
    failures, n_going_well = common_failures(
        observation.trials, observation.states, observation.journal.forgiven, judgement.bad_nodes
    )
    if closed is not None:
        judgement.paused = None if n_going_well else closed["reason"]
        return
    common = find_common_failure(failures, n_going_well, limits)
    if common is None:
        return
    alike = [name for name, failure in failures.items() if failure == common]
    words = observation.reasons.get(alike[0], "")
    judgement.paused = f"{len(alike)} trials failed the same way, and none made progress: {words}"
    trials = {name: newest_attempt(observation.scan.find(name)) for name in alike}
    detail = {"fingerprint": common, "trial": alike[0], "trials": trials}
    judgement.closes = (gate.FAILURES, judgement.paused, detail)


def _keep_gate(judgement: Judgement, observation: Observation, writer: JournalWriter) -> None:
    """Close the gate or open it, as was decided, and hold or release what waits in the queue."""
    journal, closed, sweep = observation.journal, observation.closed, writer.sweep
    if judgement.paused is not None:
        arrays = _waiting_tasks(observation)
        # Also where a node closed it: it may have been killed before it held anything.
        if judgement.closes is not None:
            gatekeeper.close_gate(sweep, judgement.closes)
        if judgement.closes is not None or journal.paused is None:
            gatekeeper.note_pause(sweep, writer, journal, judgement.paused, arrays)
            for array in arrays:
                _try(judgement, f"array {array}", slurm_cli.hold, array)
        return
    # What a killed round, or an absent controller, left held is tried again.
    if closed is not None or gatekeeper.is_release_open(sweep, journal):
        gatekeeper.open_gate(sweep, writer, closed, {})
        judgement.opened = None if closed is None else closed["reason"]
        try:
            judgement.released += gatekeeper.release_held(sweep, writer, journal)
        except ClusterUnreachable as error:
            judgement.warnings.append(f"the gate: {error}")


def _note_ends(
    observation: Observation, newest: Mapping[str, tuple[Submission, int]], writer: JournalWriter
) -> None:
    """Write down what Slurm says was cancelled or preempted: it forgets that within minutes."""
    journal, keys = observation.journal, _keys(newest)
    cancelled = {
        keys[name]
        for name, state in observation.states.items()
        if state is TrialState.CANCELLED and name in keys
    }
    preempted = {
        keys[name]
        for name, look in observation.looks.items()
        if look.state is SlurmState.PREEMPTED and name in keys
    }
    for kind, found in (
        ("cancelled", cancelled - journal.cancelled),
        ("preempted", preempted - journal.preempted),
    ):
        writer.write_all((kind, {"trial": name, "token": token}) for token, name in sorted(found))


def _keys(newest: Mapping[str, tuple[Submission, int]]) -> dict[str, tuple[str, str]]:
    return {name: (submission.token, name) for name, (submission, _) in newest.items()}


def _exclude(
    judgement: Judgement,
    observation: Observation,
    newest: Mapping[str, tuple[Submission, int]],
    writer: JournalWriter,
) -> None:
    known = observation.journal.excluded
    added = {node: why for node, why in judgement.bad_nodes.items() if node not in known}
    back = [node for node in known if node not in judgement.bad_nodes]
    writer.write_all(("readmitted", {"node": node}) for node in back)
    if not added:
        return
    writer.write_all(("excluded", {"node": n, "reason": why}) for n, why in added.items())
    judgement.warnings += [
        f"node {node} is avoided: {why} (retry: {{bad_node_trials: 0}} turns this off)"
        for node, why in added.items()
    ]
    nodes = sorted(judgement.bad_nodes)
    for array in _waiting_arrays(observation):
        _try(judgement, f"array {array}", slurm_cli.exclude_nodes, array, nodes)


def _waiting_arrays(observation: Observation) -> list[str]:
    """Slurm's ids of the arrays of which something waits."""
    waiting = (look.task for look in observation.looks.values() if is_waiting(look) and look.task)
    return sorted({task.partition("_")[0] for task in waiting}, key=int)


def _waiting_tasks(observation: Observation) -> list[str]:
    """What waits of each array, as scontrol wants it: ``7_[0,2,3]``.

    Not the whole array: a hold of running tasks would keep them from starting again. Nor what is
    held: what a person holds stays held, and whoever else held something made a note of it.
    """
    by_array: dict[str, list[str]] = {}
    for look in observation.looks.values():
        array, _, index = look.task.partition("_")
        if index and is_waiting(look) and look.reason not in HELD:
            by_array.setdefault(array, []).append(index)
    return [f"{array}_[{','.join(found)}]" for array, found in sorted(by_array.items())]


def _about(
    name: str,
    decision: Decision,
    observation: Observation,
    newest: Mapping[str, tuple[Submission, int]],
) -> dict[str, Any]:
    return {
        "trial": name,
        "attempt": newest_attempt(observation.scan.find(name)),
        "token": newest[name][0].token if name in newest else "",
        "cause": decision.cause.value if decision.cause is not None else "",
        "reason": decision.reason,
    }


def _try(judgement: Judgement, about: str, effect: Any, *args: Any) -> bool:
    """Do something in the queue; what Slurm refuses is reported, and tried again next round.

    Returns:
        Whether Slurm did it.
    """
    try:
        return effect(*args) is not False
    except ClusterUnreachable as error:
        judgement.warnings.append(f"{about}: {error}")
        return False
