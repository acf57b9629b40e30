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
from orchestrator.domain.pending_reason import explain_blocked
from orchestrator.usecases.loss_rate import publish_loss_rate
from orchestrator.usecases.observe import Observation, observe


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
    observation = observe(sweep)
    lines: dict[TrialState, list[TrialLine]] = {}
    now = time.time()
    publish_loss_rate(sweep, observation.trials, observation.states, now)
    n_logs = 0
    told: set[tuple[TrialState, str]] = set()
    blocked: list[TrialLine] = []
    for trial in observation.trials:
        state = observation.states[trial.name]
        why = explain_blocked(observation.reasons.get(trial.name, ""))
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
        if state in _LOGGED and n_logs < max_logs and (state, reason) not in told:
            told.add((state, reason))
            log = _read_log(sweep.trial(trial.name), n_log_lines)
            n_logs += 1
        lines.setdefault(state, []).append(
            TrialLine(
                name=trial.name,
                state=state,
                reason=reason,
                n_attempts=len(trial.attempts),
                node=(last.node or "") if last is not None else "",
                last_step=trial.last_step,
                age_s=now - last.started_at.timestamp() if last and last.started_at else None,
                log=log,
            )
        )
    return Status(
        observation,
        [line for state in _ACTIVE for line in lines.get(state, [])],
        [line for state in _TROUBLED for line in lines.get(state, [])],
        blocked,
    )


def _read_log(trial: TrialPaths, n_lines: int) -> tuple[str, ...]:
    try:
        return tuple(tail_log(trial, n_lines))
    except CorruptRecord as error:  # one odd file does not hide the other trials
        return (f"({error})",)
