"""The report's figures, as data. Runs on the login node; reads learning curves, writes nothing.

What each shows, and what it leaves out of very large sweeps, stands in its caption; a figure that
has too little to show says why in words instead (``data["reason"]``). ``adapters/report_page``
draws them. A funnel of rungs is not among them: nothing records rungs.
"""

from __future__ import annotations

from orchestrator.adapters.curves import read_curves
from orchestrator.domain.cost import trial_usage
from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.curves import build_curves, choose_trials
from orchestrator.domain.figures.history import build_history
from orchestrator.domain.figures.parameters import (
    Influence,
    build_contours,
    build_importance,
    build_parallel,
    build_slices,
)
from orchestrator.domain.figures.ranking import (
    build_distribution,
    build_intervals,
    build_objectives,
    build_pareto,
)
from orchestrator.domain.figures.timeline import build_timeline
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.usecases.importance import rank_parameters
from orchestrator.usecases.report_input import ReportInput

_HOW = (
    "How much each parameter decides who is among the best tenth of the configurations (PED-ANOVA, "
    "shares of 1), and which way it points by rank correlation. Pale bars are no longer than "
    "shuffled objectives give. Interactions are not seen."
)


def build_figures(input: ReportInput) -> list[Figure]:
    """Build every figure that this sweep has something to say in, in the order of the page."""
    board, observation = input.collection.board, input.observation
    influences = _influences(board)
    trials = {trial.name: trial for trial in observation.trials}
    wall_hours = {
        name: trial_usage(trial.attempts, observation.states[name], input.now_s).wall_h
        for name, trial in trials.items()
        if trial.attempts and name in observation.states
    }
    found = [
        build_history(board, trials, input.now_s),
        build_intervals(board),
        build_importance(influences, _HOW),
        build_parallel(board, influences),
        build_slices(board, influences),
        build_contours(board, influences),
        _curves(input),
        build_objectives(board),
        build_pareto(board, wall_hours),
        build_timeline(observation.trials, observation.states, input.now_s),
        build_distribution(board),
    ]
    return [figure for figure in found if figure is not None]


def _influences(board: Leaderboard) -> list[Influence]:
    return [
        Influence(
            each.name,
            each.share,
            each.correlation,
            each.direction,
            each.reason,
            each.is_above_chance,
        )
        for each in rank_parameters(board)
    ]


def _curves(input: ReportInput) -> Figure:
    board = input.collection.board
    chosen, rule = choose_trials(board)
    found = read_curves(input.sweep, chosen, board.summary.metric)
    return build_curves(board, found.curves, found.keys, rule, found.n_sampled)
