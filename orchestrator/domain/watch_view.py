"""What ``watch`` shows of a sweep at one moment. Values; ``adapters.watch_screen`` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.best_so_far import Best
from orchestrator.domain.cause import Cause
from orchestrator.domain.cost import Usage


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs."""

    name: str
    """Directory name."""
    attempt: int
    """The attempt that runs; 0 while it starts."""
    node: str
    """Where; empty if unknown. Foreign text."""
    age_s: float | None
    """Seconds since the attempt started; None if unknown."""
    step: int | None
    """Last step it reported."""
    n_steps: int | None
    """Steps it will take, where it says so; None if unknown."""
    metric: str
    """Name of the value that is shown: the objective, else a loss; empty without any."""
    value: float | None
    """That value so far; may be NaN."""
    note: str
    """What is odd about it (``no heartbeat``), in words; mostly empty. Foreign text."""
    params: Mapping[str, object] = field(default_factory=dict)
    """The parameters that vary in this sweep."""


@dataclass(frozen=True)
class RecentFailure:
    """A way of failing that occurred of late."""

    cause: str
    """In words, as ``domain.cause`` has it."""
    reason: str
    """The words of the example; foreign text."""
    n_failed: int
    """Trials that are failed now by it; 0 if all went again."""
    n_attempts: int
    """Attempts that failed so."""
    age_s: float | None
    """Seconds since the last of them; None if unknown."""


@dataclass(frozen=True)
class WatchView:
    """A sweep at one moment."""

    name: str
    """The sweep."""
    at: datetime
    """When this was seen, UTC."""
    n_trials: int
    """All trials."""
    counts: Mapping[TrialState, int]
    """Trials by state; states without trials are left out."""
    running: tuple[RunningTrial, ...] = ()
    """The running trials: odd ones first, then by number."""
    left_s: float | None = None
    """Seconds until every trial has ended, an estimate; None if unknown."""
    usage: Usage = field(default_factory=Usage)
    """What all attempts used so far; those that run, up to their last sign of life."""
    budget: str | None = None
    """What was spent of what, in words; None for a sweep without a budget."""
    metric: str | None = None
    """The objective; None ranks nothing. Foreign text."""
    goal: str = ""
    """``minimize`` or ``maximize``."""
    best: Best | None = None
    """The first place so far."""
    best_params: Mapping[str, object] = field(default_factory=dict)
    """Its parameters that vary."""
    failures: tuple[RecentFailure, ...] = ()
    """Ways of failing, the latest first."""
    interruptions: Mapping[Cause, int] = field(default_factory=dict)
    """Attempts that were preempted, lost, ...: no failures."""
    notices: tuple[str, ...] = ()
    """What wants attention: a closed gate, a canary, what Slurm will not start. Foreign text."""
    supervisor: str = ""
    """Whether somebody looks after it, in words."""
    trouble: str = ""
    """Why the newest look at Slurm failed; empty if it did not. Foreign text."""
    n_open: int = 0
    """Failed trials that whoever supervises the sweep may submit again."""
    stale_s: float | None = None
    """With trouble: age of what is shown of Slurm's queue; None if nothing is known of it."""

    @property
    def n_done(self) -> int:
        """Trials with a result."""
        return self.counts.get(TrialState.DONE, 0)

    @property
    def n_failed(self) -> int:
        """Trials that failed."""
        return self.counts.get(TrialState.FAILED, 0)

    @property
    def n_under_way(self) -> int:
        """Trials that run, wait, or were interrupted."""
        return self.n_trials - sum(self.counts.get(state, 0) for state in TERMINAL_STATES)

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended for good, as far as files and Slurm tell."""
        return not (self.n_under_way or self.n_open)
