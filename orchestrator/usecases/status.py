"""Where a sweep's trials stand, and the last words of those that failed.

Writes nothing but ``loss_rate.json``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from orchestrator.adapters.trial_dir import tail_log
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.budget import read_rule, tell_left
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.pending_reason import explain_blocked
from orchestrator.runtime.gate import read_rules
from orchestrator.runtime.gate_queue import HELD
from orchestrator.usecases import gatekeeper
from orchestrator.usecases.loss_rate import publish_loss_rate
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.vanished import observe_results


@dataclass(frozen=True)
class TrialLine:
    """One trial that deserves a line."""

    name: str
    """Directory name."""
    state: TrialState
    """Where it stands."""
    reason: str
    """Why, in words; may be empty."""
    n_attempts: int
    """Attempts so far."""
    node: str
    """Where its newest attempt runs or ran."""
    last_step: int | None
    """Last reported step."""
    age_s: float | None
    """Seconds since its newest attempt started."""
    log: tuple[str, ...] = ()
    """Last lines of its log, safe to show; only of the first trial that failed in some way."""


@dataclass(frozen=True)
class GateView:
    """A closed gate, for people."""

    kind: str
    """What closed it: a kind of ``runtime.gate``."""
    reason: str
    """Why, in words; foreign text."""
    by: str
    """The trial whose attempt closed it, or ``submit``."""
    at: str
    """When, UTC."""
    n_alike: int = 0
    """Failed trials that share the reason."""
    n_held: int | None = 0
    """Array tasks that wait behind it; None: Slurm does not answer, so it is not known."""
    trial: str = ""
    """One of the failed trials; empty without any."""
    log: tuple[str, ...] = ()
    """Last lines of that trial's log, safe to show."""


@dataclass(frozen=True)
class Status:
    """A sweep's status."""

    observation: Observation
    """Everything that was seen."""
    active: list[TrialLine]
    """Running trials, and those that wait again after a preemption."""
    troubled: list[TrialLine]
    """Failed, lost, interrupted, cancelled and unknown trials."""
    blocked: list[TrialLine] = field(default_factory=list)
    """Waiting trials that Slurm will not start unless somebody does something."""
    gate: GateView | None = None
    """Why no new attempt starts; None while the gate is open."""
    budget: str | None = None
    """What was spent of what, in words; None for a sweep without a budget."""


# Of the failure that many share more is shown: a traceback's own lines.
TRACEBACK_LINES = 10
_ACTIVE = (TrialState.RUNNING, TrialState.REQUEUED)
_TROUBLED = (
    TrialState.FAILED,
    TrialState.LOST,
    TrialState.INTERRUPTED,
    TrialState.CANCELLED,
    TrialState.UNKNOWN,
)
_WAITING = (TrialState.PENDING, TrialState.REQUEUED)
_LOGGED = (TrialState.FAILED, TrialState.LOST)


def read_status(sweep: SweepPaths, n_log_lines: int, max_logs: int) -> Status:
    """Observe a sweep and pick what a person wants to see.

    Args:
        sweep: Which.
        n_log_lines: Lines of log for each way of failing.
        max_logs: Read at most so many logs.
    """
    observation = observe_results(sweep)
    lines: dict[TrialState, list[TrialLine]] = {}
    now = time.time()
    publish_loss_rate(sweep, observation.trials, observation.states, now)
    n_logs = 0
    told: set[tuple[TrialState, str]] = set()
    blocked: list[TrialLine] = []
    gate = _view_gate(sweep, observation, n_log_lines)
    alike = {} if gate is None else gatekeeper.find_pardons(observation)
    # One way of failing, though numbers and paths may differ in its words.
    reasons_alike = "" if gate is None else observation.reasons.get(gate.trial, "")
    for trial in observation.trials:
        state = observation.states[trial.name]
        why = explain_blocked(observation.reasons.get(trial.name, ""))
        if gate is not None and observation.looks[trial.name].reason in HELD:
            continue  # counted: it waits behind the gate
        if state in _WAITING and why is not None:
            slurm_says = observation.reasons[trial.name]
            words = f"{why} (Slurm says {slurm_says})"
            blocked.append(TrialLine(trial.name, state, words, len(trial.attempts), "", None, None))
            continue
        if state not in _ACTIVE and state not in _TROUBLED:
            continue
        last = trial.attempts[-1] if trial.attempts else None
        log: tuple[str, ...] = ()
        reason = observation.reasons.get(trial.name, "")
        is_told = (state, reason) in told or trial.name in alike
        if state in _LOGGED and n_logs < max_logs and not is_told:
            told.add((state, reason))
            log = _read_log(sweep.trial(trial.name), n_log_lines)
            n_logs += 1
        lines.setdefault(state, []).append(
            TrialLine(
                name=trial.name,
                state=state,
                reason=reasons_alike if trial.name in alike else reason,
                n_attempts=len(trial.attempts),
                node=(last.node or "") if last is not None else "",
                last_step=trial.last_step,
                age_s=now - last.started_at.timestamp() if last and last.started_at else None,
                log=log,
            )
        )
    states = observation.states
    used = sum_usage(trial_usage(t.attempts, states[t.name], now) for t in observation.trials)
    return Status(
        observation,
        [line for state in _ACTIVE for line in lines.get(state, [])],
        [line for state in _TROUBLED for line in lines.get(state, [])],
        blocked,
        gate,
        tell_budget(sweep, used),
    )


def tell_budget(sweep: SweepPaths, used: Usage) -> str | None:
    """Say what was spent of the sweep's budget; None for a sweep without one."""
    found = read_rule((read_rules(sweep.root) or {}).get("budget"))
    return None if found is None else tell_left(*found, used)


def _view_gate(sweep: SweepPaths, observation: Observation, n_lines: int) -> GateView | None:
    closed = observation.closed
    if closed is None:
        return None
    alike = gatekeeper.find_pardons(observation)
    named = closed["detail"].get("trial")
    trial = named if isinstance(named, str) and named in alike else min(alike, default="")
    log = _read_log(sweep.trial(trial), n_lines + TRACEBACK_LINES) if trial and n_lines else ()
    return GateView(
        kind=closed["kind"],
        reason=closed["reason"],
        by=str(closed.get("by", "")),
        at=str(closed.get("at", "")),
        n_alike=len(alike),
        n_held=count_held(observation),
        trial=trial,
        log=log,
    )


def count_held(observation: Observation) -> int | None:
    """Count the array tasks that are held; None: Slurm does not answer, so it is not known."""
    if observation.unreachable is not None:
        return None
    return sum(look.reason in HELD for look in observation.looks.values())


def _read_log(trial: TrialPaths, n_lines: int) -> tuple[str, ...]:
    try:
        return tuple(tail_log(trial, n_lines))
    except CorruptRecord as error:  # one odd file does not hide the other trials
        return (f"({error})",)
