"""Leaderboards of made-up trials, for tests of figures."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.contract.records import COMMITTED
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import Attempt, TrialFiles

EUR = {"gpus": 1, "price_per_hour": 2.0, "currency": "EUR"}


def attempt(number=1, start_s=0.0, wall_s=3600.0, outcome=COMMITTED, resources=EUR, **fields):
    """Make an attempt that started so many seconds after 1970."""
    ended_at = None
    if outcome is not None:
        ended_at = datetime.fromtimestamp(start_s + wall_s, UTC)
    return Attempt(
        number,
        node="n1",
        started_at=datetime.fromtimestamp(start_s, UTC),
        ended_at=ended_at,
        wall_s=wall_s if outcome is not None else None,
        outcome=outcome,
        resources=resources,
        **fields,
    )


def trial(number, loss=None, attempts=(), **params):
    """Make a trial, finished if it has a loss."""
    metrics = {} if loss is None else {"loss": loss}
    return TrialFiles(
        f"{number:05d}-aaaa",
        number,
        "aaaa",
        params=params,
        result=None if loss is None else {"metrics": metrics},
        is_committed=loss is not None,
        metrics=metrics,
        attempts=tuple(attempts),
    )


def board_of(trials, goal="minimize", states=None, seeded=False, metric="loss", more=()):
    """Rank them; a trial without a loss has failed unless said otherwise."""
    known = {t.name: TrialState.DONE if t.is_committed else TrialState.FAILED for t in trials}
    known.update(states or {})
    names = tuple(dict.fromkeys(name for t in trials for name in t.params))
    summary = SweepSummary("demo", metric, goal, names, seeded, more_objectives=tuple(more))
    return rank_trials(trials, known, {}, summary, 0.0)
