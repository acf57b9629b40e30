"""A trial's whole story: what was decided about it, what its attempts did, what Slurm says now.

Runs on the login node and reads only. Two streams are told together: the journal, written on the
login node, and the attempts' records, written on compute nodes. Their clocks need not agree, so
each stream keeps its own order and times only choose between the streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters.journal import read_entries
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.history import failed_for_good
from orchestrator.domain.trial_choice import choose_trial
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.usecases.observe import Observation, observe


@dataclass(frozen=True)
class Event:
    """One thing that happened to a trial."""

    at: datetime | None
    """When, UTC, on the clock of whoever wrote it; None if that is not known."""
    who: str
    """``submit`` for decisions, else the attempt, such as ``attempt 2``."""
    words: str
    """What, in words; foreign text in it is not cleaned."""


@dataclass(frozen=True)
class Story:
    """Everything about one trial."""

    trial: TrialFiles
    """Its files."""
    state: TrialState
    """Where it stands."""
    reason: str
    """Why, in words; may be empty."""
    events: tuple[Event, ...]
    """What happened, oldest first."""
    slurm: str
    """What Slurm says of its newest array task, in words; empty if it says nothing."""
    unreachable: str | None
    """Why Slurm did not answer; None if it did or was not needed."""
    is_final: bool = False
    """Whether it goes again only where a person asks."""
    paused: str | None = None
    """Why the sweep is paused; None if it is not."""
    is_imported: bool = False
    """Whether another tool made it, so that it has neither script nor log."""


def explain(sweep: SweepPaths, word: str) -> Story:
    """Tell the story of a trial.

    Args:
        sweep: Its sweep.
        word: Its number, its directory name, or the beginning of its hash.

    Raises:
        UserError: No trial, or more than one, is meant.
    """
    observation = observe(sweep)
    name = choose_trial([trial.name for trial in observation.trials], word)
    trial = next(trial for trial in observation.trials if trial.name == name)
    look = observation.looks[trial.name]
    why = "" if look.reason == "None" else look.reason
    slurm = "" if look.state is None else f"{look.state.value} {why}".strip()
    entries, _ = read_entries(sweep)
    decisions = list(_tell_journal(trial.name, [entry for _, entry in entries]))
    attempts = list(_tell_attempts(trial, observation.states[trial.name]))
    return Story(
        trial,
        observation.states[trial.name],
        observation.reasons.get(trial.name, ""),
        tuple(_merge(decisions, attempts)),
        f"{look.task} {slurm}".strip() if slurm else "",
        observation.unreachable,
        trial.name in observation.journal.gave_up
        or failed_for_good(trial, observation.states[trial.name], look.state),
        _why_paused(observation),
        observation.is_imported,
    )


def _why_paused(observation: Observation) -> str | None:
    """Say why nothing more starts: a node may have closed the gate, and no round noted it yet."""
    if observation.closed is not None:
        return str(observation.closed["reason"])
    paused = observation.journal.paused
    return None if paused is None else paused.reason


def _tell_journal(name: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    tokens: dict[str, str] = {}
    for entry in entries:
        kind, token = entry.get("kind"), str(entry.get("token", ""))
        words = ""
        if kind == "confirming":
            of = dict(entry.get("trials", {})).get(name.partition("-")[2])
            words = f"asked for on a fresh seed, to confirm {of}" if of else ""
        elif kind == "intent" and name in entry.get("trials", ()):
            tokens[token] = where = f"task {list(entry['trials']).index(name)} of {token}"
            words = f"about to be submitted as {where}"
            if entry.get("executor") == "local":
                words = "started on this machine"
        elif token in tokens and "trial" not in entry:
            words = {
                "submitted": f"submitted: Slurm took it as array {entry.get('job_id')}",
                "adopted": f"found in Slurm as array {entry.get('job_id')}: its receipt was lost",
                "refused": f"refused: {entry.get('reason')}",
                "abandoned": f"not submitted after all: {entry.get('reason')}",
            }.get(str(kind), "")
        elif entry.get("trial") == name:
            words = _decision_words(entry)
        if words:
            yield Event(_parse(entry.get("at")), "submit", words)


def _decision_words(entry: Mapping[str, Any]) -> str:
    reason = entry.get("reason", "")
    changes = entry.get("changes") or {}
    changed = ", ".join(f"{key} {value}" for key, value in changes.items())
    return {
        "retried": f"goes again: {reason}" + (f" ({changed})" if changed else ""),
        "gave_up": f"given up: {reason}",
        "cancelled": "seen cancelled in Slurm",
        "preempted": "seen preempted in Slurm",
        "released": f"released: {reason}",
        "stopped": f"cancelled by us: {reason}",
        "moved": f"moves to partition {entry.get('partition')}: {reason}",
    }.get(str(entry.get("kind")), "")


def _tell_attempts(trial: TrialFiles, state: TrialState) -> Iterator[Event]:
    for index, attempt in enumerate(trial.attempts):
        who = f"attempt {attempt.number}"
        job = f", job {attempt.job_id}" if attempt.job_id else ""
        yield Event(attempt.started_at, who, f"started on {attempt.node or 'a node'}{job}")
        is_newest = index == len(trial.attempts) - 1
        if attempt.outcome is None and is_newest and state is TrialState.RUNNING:
            continue
        yield Event(attempt.ended_at or _heartbeat(attempt), who, _end_words(attempt))


def _end_words(attempt: Attempt) -> str:
    least = "at least " if attempt.is_estimate else ""
    took = f" after {least}{_duration(attempt.wall_s)}" if attempt.wall_s is not None else ""
    if attempt.outcome is None:
        return f"ended without a word{took}; this is its last heartbeat"
    words = {
        records.COMMITTED: "committed its result",
        records.PREEMPTED: "left its node",
        records.FAILED: "failed",
        records.REFUSED: "finished, but another attempt had committed",
        records.SUPERSEDED: "stopped",
    }.get(attempt.outcome, attempt.outcome)
    words += took
    if attempt.cause:
        words += f": {attempt.cause}"
    if attempt.requeue:
        words += f"; requeue {attempt.requeue}"
    return words


def _heartbeat(attempt: Attempt) -> datetime | None:
    if attempt.heartbeat_at is None:
        return None
    return datetime.fromtimestamp(attempt.heartbeat_at, UTC)


def _merge(left: list[Event], right: list[Event]) -> Iterator[Event]:
    """Merge two streams by time without changing the order within either."""
    left, right = list(left), list(right)
    while left and right:
        a, b = left[0].at, right[0].at
        yield (left if a is None or (b is not None and a <= b) else right).pop(0)
    yield from left
    yield from right


def _parse(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
