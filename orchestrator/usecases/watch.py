"""One look at a sweep after another, each made into a ``WatchView``.

Runs on the login node; writes nothing but the ingest cache. Each look costs one squeue, whatever
the number of trials, and rereads only what may have changed (``usecases.recollection``). While
Slurm does not answer, states that only Slurm can tell are those of the last answer, with their age.
Called by the command ``watch``.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters import sweep_lock
from orchestrator.adapters.confirmation_file import read_confirmation
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import metric_value, read_record
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.best_so_far import Best, find_best
from orchestrator.domain.canary import in_words
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.failure_groups import (
    FailureGroup,
    count_interruptions,
    group_failures,
)
from orchestrator.domain.pending_reason import explain_blocked
from orchestrator.domain.sweep_summary import SweepSummary, parse_summary
from orchestrator.domain.time_left import estimate_time_left
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.watch_view import RecentFailure, RunningTrial, WatchView
from orchestrator.runtime.gate import BUDGET
from orchestrator.runtime.gate_queue import HELD
from orchestrator.usecases.failures import find_cancelled
from orchestrator.usecases.observe import WAITS_FOR_CANARY, Observation, observe
from orchestrator.usecases.recollection import Recollection
from orchestrator.usecases.status import count_held, tell_budget
from orchestrator.usecases.vanished import with_vanished

# Where a program says how many steps it will take: a metric, or a parameter.
STEP_TOTALS = ("total_steps", "max_steps")
_TO_THE_MINUTE = re.compile(r"(T\d\d:\d\d):[\d.]+Z$")
_WAITING = (TrialState.PENDING, TrialState.REQUEUED)


class Watcher:
    """Looks at one sweep again and again."""

    def __init__(self, sweep: SweepPaths, clock: Callable[[], float] = time.time):
        """Start with nothing known.

        Args:
            sweep: Which.
            clock: Unix time.
        """
        self._sweep = sweep
        self._clock = clock
        self._recollection = Recollection()
        self._answered: tuple[float, Mapping[str, TrialState]] | None = None

    def look(self) -> WatchView:
        """Look at the sweep now.

        Raises:
            UserError: There is no such sweep.
            OrchestratorError: Its own files cannot be read.
        """
        observation = with_vanished(
            observe(self._sweep, recollection=self._recollection), self._sweep
        )
        now_s = self._clock()
        states, stale_s = self._fill_in(observation, now_s)
        summary = _read_summary(self._sweep)
        trials = observation.trials
        slurm = {name: look.state for name, look in observation.looks.items()}
        gave_up = {name: given.reason for name, given in observation.journal.gave_up.items()}
        groups = group_failures(trials, states, observation.reasons, slurm, gave_up)
        best, problem = _find_best(self._sweep, trials, states, summary)
        used = sum_usage(trial_usage(t.attempts, states[t.name], now_s) for t in trials)
        is_closed = observation.closed is not None
        supervisor, is_supervised = _find_supervisor(self._sweep, observation)
        return WatchView(
            name=self._sweep.name,
            at=datetime.fromtimestamp(now_s, UTC),
            n_trials=len(trials),
            counts=_count(states),
            running=tuple(_list_running(observation, states, summary, now_s)),
            left_s=None if is_closed else estimate_time_left(trials, states, now_s),
            usage=_known_usage(trials, states, now_s),
            budget=tell_budget(self._sweep, used),
            metric=summary.metric,
            goal=summary.goal if summary.metric is not None else "",
            best=best,
            best_params=_best_params(best, summary),
            failures=tuple(_recent(groups, now_s)),
            interruptions=count_interruptions(
                trials, states, slurm, find_cancelled(observation), observation.journal.preempted
            ),
            notices=(*_notices(observation, states), *problem),
            supervisor=supervisor,
            n_open=_count_open(observation) if is_supervised else 0,
            trouble=observation.unreachable or "",
            stale_s=stale_s,
        )

    def _fill_in(
        self, observation: Observation, now_s: float
    ) -> tuple[Mapping[str, TrialState], float | None]:
        """Put the last known states in the place of unknown ones while Slurm does not answer."""
        if observation.unreachable is None:
            self._answered = now_s, observation.states
            return observation.states, None
        if self._answered is None:
            return observation.states, None
        then_s, before = self._answered
        states = {
            name: before.get(name, state) if state is TrialState.UNKNOWN else state
            for name, state in observation.states.items()
        }
        return states, max(0.0, now_s - then_s)


def _read_summary(sweep: SweepPaths) -> SweepSummary:
    try:
        return parse_summary(read_record(sweep.summary), sweep.summary)
    except FileNotFoundError:
        return SweepSummary(sweep.name, None)


def _find_best(
    sweep: SweepPaths,
    trials: Sequence[TrialFiles],
    states: Mapping[str, TrialState],
    summary: SweepSummary,
) -> tuple[Best | None, list[str]]:
    """Find the first place; none, and why, where it is not known which trials do not choose it."""
    try:
        confirmation = read_confirmation(sweep)
    except (CorruptRecord, OSError) as error:
        return None, [f"problem: {error}"]
    differs = {*summary.differs, *confirmation.differs}
    fresh = {trial.name for trial in trials if trial.id in confirmation.by_id}
    return find_best(trials, states, replace(summary, differs=tuple(differs)), fresh), []


def _known_usage(
    trials: Sequence[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> Usage:
    """Add up what attempts took for sure: what runs up to its last sign of life, so *at least*.

    A node may be dead for minutes before Slurm notices, and what was counted up to now would fall
    while somebody watches. A budget is watched more carefully, and counts what runs up to now.
    """
    sure = {TrialState.RUNNING: TrialState.UNKNOWN}
    return sum_usage(
        trial_usage(trial.attempts, sure.get(states[trial.name], states[trial.name]), now_s)
        for trial in trials
    )


def _count(states: Mapping[str, TrialState]) -> dict[TrialState, int]:
    counts = dict.fromkeys(TrialState, 0)
    for state in states.values():
        counts[state] += 1
    return {state: n for state, n in counts.items() if n}


def _list_running(
    observation: Observation,
    states: Mapping[str, TrialState],
    summary: SweepSummary,
    now_s: float,
) -> list[RunningTrial]:
    """List the running trials, those with something odd first."""
    found = [
        _running(trial, observation.reasons.get(trial.name, ""), summary, now_s)
        for trial in observation.trials
        if states[trial.name] is TrialState.RUNNING
    ]
    return sorted(found, key=lambda line: not line.note)


def _running(trial: TrialFiles, reason: str, summary: SweepSummary, now_s: float) -> RunningTrial:
    last = trial.attempts[-1] if trial.attempts else None
    if last is not None and last.outcome is not None:
        last = None if reason == "starting" else last
    metric, value = _value_so_far(trial.metrics, summary.metric)
    age_s = None
    if last is not None and last.started_at is not None and last.outcome is None:
        age_s = max(0.0, now_s - last.started_at.timestamp())
    return RunningTrial(
        name=trial.name,
        attempt=last.number if last is not None else 0,
        node=(last.node or "") if last is not None else "",
        age_s=age_s,
        step=trial.last_step,
        n_steps=_step_total(trial),
        metric=metric,
        value=value,
        note=reason,
        params=_varying(trial.params or {}, summary),
    )


def _value_so_far(metrics: Mapping[str, Any], objective: str | None) -> tuple[str, float | None]:
    """Choose what to show of a running trial: its objective so far, else a loss."""
    names = [] if objective is None else [objective]
    names += sorted((name for name in metrics if "loss" in name.lower()), key=len)
    for name in names:
        value = metric_value(metrics.get(name))
        if value is not None:
            return name, value
    return "", None


def _step_total(trial: TrialFiles) -> int | None:
    for values in (trial.metrics, trial.params or {}):
        for name in STEP_TOTALS:
            value = metric_value(values.get(name))
            if value is not None and math.isfinite(value) and value >= max(1, trial.last_step or 0):
                return int(value)
    return None


def _varying(params: Mapping[str, Any], summary: SweepSummary) -> dict[str, object]:
    """Pick the parameters that vary; nested ones by their dotted names."""
    found: dict[str, object] = {}
    for name in summary.parameters:
        value: Any = params
        if name in params:
            value = params[name]
        else:
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


def _best_params(best: Best | None, summary: SweepSummary) -> dict[str, object]:
    if best is None:
        return {}
    found = _varying(best.params, summary)
    differs = summary.differs if summary.seeded else ()
    return {name: value for name, value in found.items() if name not in differs}


def _recent(groups: list[FailureGroup], now_s: float) -> list[RecentFailure]:
    """List ways of failing, the latest first; those that nothing is left of come last."""
    found = [
        RecentFailure(
            group.cause,
            group.reason,
            len(group.failed),
            group.attempts,
            None if group.last_at is None else max(0.0, now_s - group.last_at.timestamp()),
        )
        for group in groups
    ]
    ages = {id(failure): math.inf if failure.age_s is None else failure.age_s for failure in found}
    return sorted(found, key=lambda failure: (not failure.n_failed, ages[id(failure)]))


def _notices(observation: Observation, states: Mapping[str, TrialState]) -> Iterator[str]:
    """Say what wants a person's attention, the most urgent first."""
    closed = observation.closed
    if closed is not None:
        n_held = count_held(observation)
        held = f"; {n_held} held" if n_held else ""
        todo = "make release ARGS='budget...'" if closed["kind"] == BUDGET else "make release"
        yield f"the gate is closed: {closed['reason']}{held}; {todo} opens it"
    elif observation.journal.paused is not None:
        yield f"paused: {observation.journal.paused.reason}; make release goes on"
    if observation.canaries and closed is None:
        yield f"canary: {in_words(observation.canaries)}"
    blocked: dict[str, int] = {}
    for name, state in states.items():
        reason = observation.reasons.get(name, "")
        if state not in _WAITING or reason == WAITS_FOR_CANARY:
            continue
        if closed is not None and observation.looks[name].reason in HELD:
            continue  # counted: it waits behind the gate
        words = explain_blocked(reason)
        if words is not None:
            blocked[words] = blocked.get(words, 0) + 1
    for words, n in sorted(blocked.items(), key=lambda item: -item[1]):
        yield f"Slurm will not start {n} that wait{'s' * (n == 1)}: {words}"
    n_left = sum(state in (TrialState.LOST, TrialState.INTERRUPTED) for state in states.values())
    if n_left and closed is None:
        yield f"{n_left} interrupted or lost: make submit or make supervise takes them up again"
    for problem in observation.problems[:3]:
        yield f"problem: {problem}"


def _count_open(observation: Observation) -> int:
    """Count the failed trials that a round of the supervisor may submit again."""
    failed = [name for name, s in observation.states.items() if s is TrialState.FAILED]
    return 0 if observation.closed is not None else sum(not observation.is_final(n) for n in failed)


def _find_supervisor(sweep: SweepPaths, observation: Observation) -> tuple[str, bool]:
    """Say who looks after the sweep, or runs it here, and tell whether rounds submit again."""
    if observation.is_imported:
        return "", False
    newest = list(observation.journal.submissions.values())
    is_local = bool(newest) and newest[-1].executor == "local"
    is_over = all(state in TERMINAL_STATES for state in observation.states.values())
    try:
        lock = sweep if is_local else sweep_lock.Supervision(sweep.root)
        holder = sweep_lock.find_holder(lock)
    except (OSError, CorruptRecord):
        return "whether somebody supervises it cannot be told", False
    holder = holder and _TO_THE_MINUTE.sub(r"\1Z", holder)  # so that it fits into a line
    if is_local:
        nobody = "" if is_over else "it runs on this machine, and nobody runs it now: make submit"
        return (nobody if holder is None else f"run by {holder}"), False
    nobody = "" if is_over else "nobody supervises it: make supervise"
    return (nobody, False) if holder is None else (f"supervised by {holder}", True)
