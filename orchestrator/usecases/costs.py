"""What a sweep cost: its best configurations, other ways of running it, and where the time went.

Runs on the login node and reads nothing: whoever calls has observed and collected the sweep. Called
by ``cli.costs`` and by the report. The sums are ``domain.economics``'s; the total of money and
hours is that of ``make collect``: both count the same attempts at the prices in their claims.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.adapters.leaderboard_files import show_value
from orchestrator.domain.amounts import AT_LEAST, UNKNOWN, at_least, show_money
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.cost_tables import economics_record, part_table, way_table
from orchestrator.domain.economics import Economics, measure_economics
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.ratings import HUMAN_SCORE
from orchestrator.domain.table import Table
from orchestrator.domain.text_table import TextTable
from orchestrator.usecases.report_input import ReportInput

TOP = 5
# Beyond the objective; the others stand in the leaderboard.
MAX_METRICS = 4
_MAX_CELL = 24
# Metrics that people look at first, where there are any.
_FIRST_METRICS = ("response_score", HUMAN_SCORE)
# How train/ names measurements of a moment; of a trial that has ended they say least.
_MOMENTARY = "current_"


@dataclass(frozen=True)
class Configuration:
    """One ranked configuration and what it took, its failed and lost attempts included."""

    rank: int
    """Its rank."""
    tied_with: int | None
    """Rank of the best one that it cannot be told apart from; None without repeats."""
    trials: tuple[str, ...]
    """Names of its trials: all its repeats, whatever became of them; the ranked ones first."""
    parameters: Mapping[str, Any]
    """Those that vary."""
    objective: float
    """The objective, or its mean over repeats."""
    half_width: float | None
    """Half the width of the mean's 95 % confidence interval; None from one run."""
    n_repeats: int
    """Repeats that count."""
    metrics: Mapping[str, Any]
    """Other metrics: means over repeats where they are numbers."""
    usage: Usage
    """What its trials used."""
    gpu_hours: float | None
    """GPU-hours of those; None of imported results: unknown."""

    @property
    def cost_per_hour(self) -> Mapping[str, float]:
        """Money for one hour of wall time, by currency; empty where no price is known."""
        hours = self.usage.wall_h
        return {name: cost / hours for name, cost in self.usage.cost.items()} if hours else {}


@dataclass(frozen=True)
class Costs:
    """What a sweep cost."""

    configurations: tuple[Configuration, ...]
    """The best, by rank."""
    economics: Economics
    """Ways of running it, and where time and money went."""
    board: Leaderboard
    """What they were taken from."""


def read_costs(input: ReportInput) -> tuple[TextTable, ...]:
    """Return the tables of ``make costs``: the best, ways of running it, and where it went."""
    return cost_tables(measure_costs(input))


def measure_costs(input: ReportInput, top: int = TOP) -> Costs:
    """Account for what a sweep took.

    Args:
        input: The sweep, observed and collected.
        top: So many configurations.
    """
    observation = input.observation
    trials = [(trial, observation.states[trial.name]) for trial in observation.trials]
    economics = measure_economics(trials, _submitted_s(input), input.now_s)
    board = input.collection.board
    return Costs(tuple(_configurations(input, board, top)), economics, board)


def cost_tables(costs: Costs) -> tuple[TextTable, ...]:
    """Lay them out for people; without a ranked trial there is no table of configurations."""
    tables = (way_table(costs.economics), part_table(costs.economics))
    return (_configuration_table(costs), *tables) if costs.configurations else tables


def costs_record(costs: Costs) -> dict[str, Any]:
    """Put them into JSON values."""
    best = [
        {
            "rank": one.rank,
            "tied_with": one.tied_with,
            "trials": list(one.trials),
            "parameters": dict(one.parameters),
            "objective": one.objective,
            "ci95_half_width": one.half_width,
            "repeats_done": one.n_repeats,
            "metrics": dict(one.metrics),
            "gpu_hours": one.gpu_hours,
            "wall_h": one.usage.wall_h,
            "cost": dict(one.usage.cost) or None,
            "cost_per_hour": dict(one.cost_per_hour) or None,
            "is_estimate": one.usage.is_estimate,
        }
        for one in costs.configurations
    ]
    return {
        "objective": costs.board.objective,
        "goal": costs.board.summary.goal,
        "configurations": best,
        **economics_record(costs.economics),
    }


def _submitted_s(input: ReportInput) -> float | None:
    """Return the Unix time of the first submission that may have started something."""
    times = []
    for submission in input.observation.journal.submissions.values():
        if submission.dead is None:
            with contextlib.suppress(ValueError):
                times.append(datetime.fromisoformat(submission.at).timestamp())
    return min(times, default=None)


def _configurations(input: ReportInput, board: Leaderboard, top: int) -> list[Configuration]:
    if board.objective is None or not board.leads:
        return []
    trials = {trial.name: trial for trial in input.observation.trials}
    repeats = _repeats(board)
    ends = [*board.leads[1:], board.n_ranked]
    found = []
    for start, end in list(zip(board.leads, ends, strict=True))[:top]:
        rows = board.table.take(range(start, end))
        ranked = [str(name) for name in rows["trial"].cells]
        of = repeats[board.groups[start]] if board.groups else ranked
        names = [*ranked, *(name for name in of if name not in ranked)]
        usage = sum_usage(
            trial_usage(trials[name].attempts, input.observation.states[name], input.now_s)
            for name in names
            if name in trials
        )
        hours = None if input.collection.is_imported else usage.gpu_hours
        found.append(_configuration(board, rows, tuple(names), usage, hours))
    return found


def _configuration(
    board: Leaderboard,
    rows: Table,
    names: tuple[str, ...],
    usage: Usage,
    gpu_hours: float | None,
) -> Configuration:
    def first(column: str) -> Any:
        return rows[column].cells[0]

    objective, half = str(board.objective), None
    value = first(objective)
    if board.summary.seeded:
        value, high = first(f"{objective}_mean"), first(f"{objective}_ci95_high")
        half = None if high is None else high - value
    tied = first("tie") if "tie" in rows else None
    return Configuration(
        rank=int(first("rank")),
        tied_with=None if tied is None else int(tied),
        trials=names,
        parameters={name: first(name) for name in board.searched},
        objective=float(value),
        half_width=half,
        n_repeats=len(rows),
        metrics={name: _mean(rows[name].cells) for name in _main_metrics(board, rows)},
        usage=usage,
        gpu_hours=gpu_hours,
    )


def _main_metrics(board: Leaderboard, rows: Table) -> list[str]:
    names = sorted(
        (name for name in board.metrics if any(cell is not None for cell in rows[name].cells)),
        key=lambda name: (name not in _FIRST_METRICS, name.startswith(_MOMENTARY)),
    )
    return names[:MAX_METRICS]


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of numbers; of anything else the first value."""
    there = [value for value in values if value is not None]
    if there and all(type(value) in (int, float) for value in there):
        return math.fsum(there) / len(there) if len(there) > 1 else there[0]
    return there[0] if there else None


def _repeats(board: Leaderboard) -> dict[str, list[str]]:
    """Return the trials of each configuration; runs on fresh seeds are configurations of their own.

    Without repeats there are none.
    """
    groups: dict[str, list[str]] = {}
    for group, name in zip(board.groups, board.table["trial"].cells, strict=False):
        groups.setdefault(group, []).append(name)
    return groups


def _configuration_table(costs: Costs) -> TextTable:
    board, best = costs.board, costs.configurations
    seeded = board.summary.seeded
    parameters = list(best[0].parameters)
    metrics = list(dict.fromkeys(name for one in best for name in one.metrics))[:MAX_METRICS]
    unit = "GPU-hours" if any(one.usage.gpu_hours for one in best) else None
    headers = ["rank", "trial", *(one_line(name, _MAX_CELL) for name in parameters)]
    right = [True, False]
    right += [not any(isinstance(one.parameters[n], str) for one in best) for n in parameters]
    objective = one_line(str(board.objective), _MAX_CELL)
    headers += [f"{objective} mean", "± 95%", "repeats"] if seeded else [objective]
    right += [True] * (3 if seeded else 1)
    headers += [*(one_line(name, _MAX_CELL) for name in metrics), "cost"]
    headers += [*([unit] if unit else []), "wall hours", "cost per hour"]
    right += [True] * (len(headers) - len(right))
    rows = []
    for one in best:
        tied = one.tied_with is not None and one.tied_with != one.rank
        row = [f"{one.rank} = {one.tied_with}" if tied else str(one.rank), one.trials[0]]
        row += [_cell(one.parameters[name]) for name in parameters]
        row.append(_cell(one.objective))
        if seeded:
            row.append("-" if one.half_width is None else f"{one.half_width:.2g}")
            row.append(f"{one.n_repeats} of {len(one.trials)}")
        row += [_cell(one.metrics.get(name)) for name in metrics]
        is_open = one.usage.is_estimate
        row.append(at_least(is_open, show_money(one.usage.cost) or UNKNOWN))
        row += [at_least(is_open, _hours(one.usage.gpu_hours))] if unit else []
        row.append(at_least(is_open, _hours(one.usage.wall_h)))
        row.append(show_money(one.cost_per_hour) or UNKNOWN)
        rows.append(row)
    title = f"Best configurations by {objective}, {board.summary.goal}"
    return TextTable(
        title + (", so far" if costs.economics.is_so_far else ""),
        headers,
        rows,
        tuple(right),
        _configuration_notes(costs, seeded),
    )


def _configuration_notes(costs: Costs, seeded: bool) -> list[str]:
    whose = "all repeats of a configuration" if seeded else "a trial"
    notes = [f"Cost and hours: all attempts of {whose}, lost work included."]
    if any(one.usage.is_estimate for one in costs.configurations):
        notes.append(f"{AT_LEAST.strip()}: at least, since an attempt ended without a word.")
    if seeded:
        notes.append("Other metrics: means over the repeats that count. Trial: the first of them.")
    if costs.board.fresh:
        notes.append("Runs on fresh seeds are no repeats: they are in what the sweep took only.")
    if any(one.tied_with not in (None, one.rank) for one in costs.configurations):
        notes.append("rank N = M: the repeats cannot tell rank N from rank M.")
    if costs.board.standing.words:
        notes.append(costs.board.standing.words)
    n_more = len(costs.board.leads) - len(costs.configurations)
    if n_more > 0:
        notes.append(f"{n_more} more in leaderboard.csv.")
    return notes


def _cell(value: Any) -> str:
    return one_line(show_value(value), _MAX_CELL)


def _hours(hours: float) -> str:
    """Show hours with about four digits; of a short run as many decimals as seconds need."""
    if hours <= 0:
        return "0"
    decimals = max(2, min(6, 3 - math.floor(math.log10(hours))))
    return f"{hours:,.{decimals}f}"
