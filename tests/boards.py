"""Leaderboards made of a function, for tests."""

from __future__ import annotations

from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import TrialFiles


def make_trials(params, objective, first=0):
    """Make finished trials; ``objective`` maps parameters to ``loss``, or to a dict of metrics."""
    found = []
    for number, own in enumerate(params, first):
        value = objective(own)
        metrics = value if isinstance(value, dict) else {"loss": value}
        found.append(
            TrialFiles(
                name=f"{number:05d}-aaaa",
                number=number,
                id="aaaa",
                params=own,
                result={"metrics": metrics},
                is_committed=True,
                metrics=metrics,
            )
        )
    return found


def make_board(trials, goal="minimize", seeded=False, states=None, reasons=None, name="demo"):
    """Rank trials by ``loss``; all parameters that vary are shown as such."""
    summary = SweepSummary(name, "loss", goal, (), seeded)
    return rank_trials(trials, states or {}, reasons or {}, summary, 0.0)
