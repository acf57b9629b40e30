"""Ranking the trials of a sweep by their objective, over repeats where there are some.

Pure: values in, a table out; two calls with the same values give the same table. Files are read by
``adapters.trial_dir`` and written by ``adapters.leaderboard_files``; ``ranking`` has the rules'
code, ``ties`` and ``pareto`` their arithmetic.

What gets a rank: trials that are done with a finite objective. Equal objectives share a rank and
the next rank is skipped (1, 1, 3); they stand in the order of the next objectives, of GPU-hours, of
their numbers. Everything else, infinities included, is listed below with its state, the reason, and
its objective and step so far, and never ranked.

With repeats (the parameter ``seed`` of a spec's ``seeds:``) the trials that differ in nothing but
their seed are one configuration. It is ranked by the mean over its repeats that are done, with the
95 % confidence interval of that mean (Student's t, repeats taken as independent and normal; none
from one repeat). One with fewer repeats than there are is *partial*: ranked after all complete
ones, whatever its mean. One with a repeat that diverged (``divergence``: not finite at its end, or
exit code 65) has no finite mean and no rank: to leave that seed out would flatter it. Not covered:
trials that are done in fewer steps than others; batch sizes and early stopping make that so by
right.

Columns: ``rank``; with repeats ``tie``, the rank of the best that it cannot be told from;
``pareto``, whether it is on the front over all objectives, or over the only one and what a repeat
cost (its GPU-hours where not all have a price; partial ones compete only where none is complete);
``partial``, in words;
``trial, state``; each objective (with ``_mean``, ``_ci95_low``, ``_ci95_high``, and after them
``repeats_done``, ``repeats`` if there are repeats), the parameters that vary, other metrics,
``attempts, gpu_hours, cost, currency`` (or ``cost_<currency>`` for each of several), ``node`` (of
the last attempt), ``note``, and last the parameters that are the same everywhere. ``tie``,
``pareto`` and ``partial`` are there where they say something. A parameter or metric whose name is
taken is called ``param.<name>`` or ``metric.<name>``.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.confirmed import Outcome
from orchestrator.domain.confirmed_board import CONFIRMED_COLUMNS
from orchestrator.domain.cost import Meter, Usage, sum_usage
from orchestrator.domain.first_place import judge_first_place
from orchestrator.domain.goodput import Goodput, measure_goodput
from orchestrator.domain.named_columns import (
    ColumnNames,
    flatten_params,
    gather_columns,
    split_varying,
)
from orchestrator.domain.ranking import Ranking, Repeats, Row, judge, rank_rows
from orchestrator.domain.row_notes import describe_partial, describe_row
from orchestrator.domain.standing import Standing
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.table import Table
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import (
    MISSING,
    number_column,
    text_column,
    typed_column,
)

if TYPE_CHECKING:  # its import takes longer than all that is done here
    import pandas as pd

# Names that no parameter or metric can have, whether or not the column is there.
_FIXED = (
    *("rank", "tie", "pareto", "partial", "trial", "state"),
    *("attempts", "gpu_hours", "cost", "currency", "node", "note"),
    *CONFIRMED_COLUMNS,
)
# The order in which trials without a rank are listed: what needs a look comes first.
_ORDER = (
    *(TrialState.DONE, TrialState.FAILED, TrialState.LOST, TrialState.UNKNOWN),
    *(TrialState.INTERRUPTED, TrialState.CANCELLED, TrialState.RUNNING),
    *(TrialState.REQUEUED, TrialState.PENDING, TrialState.NEW),
)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_BELOW = {state: place for place, state in enumerate(_ORDER)}


@dataclass(frozen=True)
class Leaderboard:
    """The ranked table and what its columns are."""

    summary: SweepSummary
    """The sweep."""
    table: Table
    """One row a trial, ranked ones first; see the module's docstring for the columns."""
    objective: str | None
    """Column of the objective."""
    parameters: tuple[str, ...]
    """Columns of the parameters that vary."""
    metrics: tuple[str, ...]
    """Columns of the other metrics."""
    constants: tuple[str, ...]
    """Columns of the parameters that do not vary."""
    costs: tuple[str, ...]
    """Columns of money; one, or one a currency."""
    n_ranked: int
    """How many rows have a rank; they come first."""
    leads: tuple[int, ...]
    """Row of the first trial of each ranked configuration; without repeats every ranked row."""
    usage: Usage
    """What all trials used."""
    counts: Mapping[TrialState, int]
    """Trials by state; states without trials are left out."""
    problems: tuple[str, ...] = field(default=())
    """What could not be shown."""
    goodput: Goodput = field(default_factory=Goodput)
    """What became of the time that they used."""
    standing: Standing = field(default_factory=Standing)
    """How sure the first place is."""
    objectives: tuple[tuple[str, str], ...] = ()
    """Columns that count and their goals, the ranked one first; more make a Pareto front."""
    front: tuple[tuple[str, str], ...] = ()
    """What ``pareto`` is over: the objectives, or the only one and ``cost`` or ``gpu_hours``."""
    groups: tuple[str, ...] = ()
    """For each row the first trial of its configuration; empty without repeats."""
    fresh: frozenset[str] = frozenset()
    """Names of the trials that confirm what others chose; they are no part of the ranking."""
    mixed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Cells of parameters and metrics whose columns had to become text, as they are."""
    source_names: Mapping[str, str] = field(default_factory=dict)
    """Dotted name of the parameter in each column of ``parameters`` and ``constants``."""
    outcome: Outcome = field(default_factory=Outcome)
    """What the runs on fresh seeds came to, see ``confirmed_board``."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Why the other repeats of a trial that diverged have no rank, by name."""

    @property
    def searched(self) -> tuple[str, ...]:
        """Columns of the parameters that make a configuration: seeds only number its repeats."""
        differs = self.summary.differs if self.summary.seeded else ()
        return tuple(c for c in self.parameters if self.source_names.get(c, c) not in differs)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The table as a pandas frame, with the dtypes that ``typed_columns`` names."""
        return self.table.to_frame()


def rank_trials(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    summary: SweepSummary,
    now_s: float,
    *,
    fresh: Collection[str] = (),
    differs: Collection[str] = (),
    unfit: Mapping[str, str] = _NOTHING,
) -> Leaderboard:
    """Rank trials and lay them out as a table.

    Args:
        trials: All of the sweep's.
        states: By trial name. A trial that is not in it is done if it has a result, else unknown.
        reasons: Why a trial is in its state, by name; shown in ``note``.
        summary: What is ranked and how.
        now_s: Unix time, up to which running attempts cost.
        fresh: Ids of trials that confirm what others chose; they are listed and not ranked.
        differs: Names of the parameters in which the repeats of a configuration differ; empty: as
            the sweep says.
        unfit: Why done trials get no rank whatever they brought, by name: of the whole sweep, where
            these are some of its trials and the repeats that diverged may not be among them.
    """
    # Columns are built in number order, as the trials lie in memory, and sorted at the end.
    rows = [
        Row(
            trial,
            states.get(trial.name)
            or (TrialState.DONE if trial.result is not None else TrialState.UNKNOWN),
        )
        for trial in sorted(trials, key=attrgetter("number", "name"))
    ]
    params = [flatten_params(row.trial.params or {}) for row in rows]
    meter = Meter(now_s)
    for row in rows:
        if row.trial.id in fresh:
            row.is_fresh = True
        elif row.trial.name in unfit:
            row.invalid = unfit[row.trial.name]
        else:
            judge(row, summary.metric)
        row.usage = meter.read(row.trial.attempts, row.state)
    ranking = rank_rows(rows, params, summary, differs or summary.differs)
    for row in rows:
        if row.lead < 0 or row.trial.name in reasons:
            row.note = describe_row(row, reasons.get(row.trial.name, ""))
    goodput = measure_goodput(((row.trial, row.state) for row in rows), now_s)
    standing = judge_first_place(ranking.configurations, rows, summary)
    beside = {row.trial.name: row.invalid for row in rows if row.invalid and row.value is not None}
    board = _lay_out(rows, params, summary, ranking)
    return replace(board, goodput=goodput, standing=standing, unfit=beside)


def _place(row: Row) -> tuple[int, int]:
    """Return what rows are sorted by; equal ones stay in number order."""
    if row.lead >= 0:
        return 0, row.lead
    return 2 if row.is_fresh else 1, _BELOW[row.state]


def _lay_out(
    rows: Sequence[Row],
    params: Sequence[Mapping[str, Any]],
    summary: SweepSummary,
    ranking: Ranking,
) -> Leaderboard:
    """Build the table from rows in number order, and sort it."""
    problems: list[str] = []
    param_cells = gather_columns(params, problems, "parameters")
    metric_cells = gather_columns(
        [row.trial.metrics for row in rows], problems, "metrics", summary.metric
    )
    names = ColumnNames()
    usage = sum_usage([row.usage for row in rows])
    currencies = list(usage.cost)
    for name in _FIXED:
        names.fix(name)
    for name in ("repeats_done", "repeats") if summary.seeded else ():
        names.fix(name)
    for currency in currencies if len(currencies) > 1 else ():
        names.fix(f"cost_{currency}")

    table = _Table(_rank_columns(rows, ranking))
    places = [row.group for row in rows] if summary.seeded else []
    objectives = _objective_columns(
        len(rows), ranking.groups, places, summary, metric_cells, names, table
    )
    varying, constant = split_varying(param_cells, summary.parameters)
    parameters = {names.give(name, "param"): param_cells[name] for name in varying}
    table.add_typed(parameters)
    metrics = {names.give(name, "metric"): metric_cells[name] for name in metric_cells}
    table.add_typed({name: _numbers(cells) for name, cells in metrics.items()})

    data = table.columns
    data["attempts"] = typed_column([len(row.trial.attempts) for row in rows], "Int64")
    data["gpu_hours"] = typed_column([round(row.usage.gpu_hours, 6) for row in rows], "Float64")
    costs = _cost_columns(rows, currencies)
    data.update(costs)
    nodes = [row.trial.attempts[-1].node if row.trial.attempts else None for row in rows]
    data["node"] = text_column([MISSING if node is None else node for node in nodes])
    data["note"] = text_column([row.note or MISSING for row in rows])
    constants = {names.give(name, "param"): param_cells[name] for name in constant}
    table.add_typed(constants)

    counts = Counter(data["state"].cells)
    order = sorted(range(len(rows)), key=list(map(_place, rows)).__getitem__)
    ranked = [rows[index].lead for index in order if rows[index].lead >= 0]
    columns = {
        name: column for (name, _), column in zip(summary.objectives, objectives, strict=True)
    }
    firsts = [group.rows[0].trial.name for group in ranking.groups]
    front = [(columns[name] if name else ranking.front_by, goal) for name, goal in ranking.front]
    return Leaderboard(
        summary=summary,
        table=Table(data, len(rows)).take(order),
        objective=objectives[0] if objectives else None,
        parameters=tuple(parameters),
        metrics=tuple(metrics),
        constants=tuple(constants),
        costs=tuple(name for name in costs if name != "currency"),
        n_ranked=len(ranked),
        leads=tuple(i for i, lead in enumerate(ranked) if i == 0 or lead != ranked[i - 1]),
        usage=usage,
        counts={state: counts[state.value] for state in TrialState if state.value in counts},
        problems=tuple(problems),
        source_names=dict(zip([*parameters, *constants], [*varying, *constant], strict=True)),
        objectives=tuple((columns[name], goal) for name, goal in summary.objectives),
        front=tuple(front),
        groups=tuple(firsts[places[index]] for index in order) if summary.seeded else (),
        fresh=frozenset(row.trial.name for row in rows if row.is_fresh),
        mixed={name: [cells[index] for index in order] for name, cells in table.mixed.items()},
    )


class _Table:
    """Columns on their way into the frame."""

    def __init__(self, columns: dict[str, Any]):
        self.columns = columns
        self.mixed: dict[str, Sequence[Any]] = {}

    def add_typed(self, cells_by_name: Mapping[str, Sequence[Any]]) -> None:
        """Add columns, and keep the values of those that had to become text."""
        for name, cells in cells_by_name.items():
            self.columns[name] = column = typed_column(cells)
            if column.dtype == "string" and not set(map(type, cells)) <= {str, type(MISSING)}:
                self.mixed[name] = cells


def _rank_columns(rows: Sequence[Row], ranking: Ranking) -> dict[str, Any]:
    """Make the first columns; ``tie``, ``pareto`` and ``partial`` where they say something."""
    if ranking.groups:
        ranked = [ranking.groups[row.group] if row.lead >= 0 else row for row in rows]
    else:
        ranked = list(rows)  # without a rank if they have none
    data: dict[str, Any] = {}
    ranks = [one.rank for one in ranked]
    data["rank"] = typed_column([MISSING if r is None else r for r in ranks], "Int64")
    if ranking.configurations and ranking.configurations[0].tie is not None:
        data["tie"] = typed_column([MISSING if one.tie is None else one.tie for one in ranked])
    if ranking.front and ranking.configurations:
        marks = [one.on_front for one in ranked]
        data["pareto"] = typed_column([MISSING if mark is None else mark for mark in marks])
    partial = [
        describe_partial(row, one) if row.lead < 0 or one.is_partial else ""
        for row, one in zip(rows, ranked, strict=True)
    ]
    if any(partial):
        data["partial"] = text_column([text or MISSING for text in partial])
    data["trial"] = text_column([row.trial.name for row in rows])
    data["state"] = text_column([row.state.value for row in rows])
    return data


def _objective_columns(
    n: int,
    groups: Sequence[Repeats],
    places: Sequence[int],
    summary: SweepSummary,
    metric_cells: dict[str, list[Any]],
    names: ColumnNames,
    table: _Table,
) -> list[str]:
    """Add the objectives' columns, which are no other metrics then; return their names.

    ``places`` are the rows' configurations among ``groups``; both are empty without repeats.
    """
    given = []
    # Whoever reads the table finds a mean by the objective's name.
    suffixes = ("_mean", "_ci95_low", "_ci95_high") if summary.seeded else ()
    for place, (metric, _) in enumerate(summary.objectives):
        cells = metric_cells.pop(metric, None) or [MISSING] * n
        given.append(names.give(metric, "metric", suffixes))
        table.columns[given[-1]] = number_column(_numbers(cells))
        for suffix in suffixes:
            field_name = suffix.removeprefix("_").removeprefix("ci95_")
            ends = [_or_missing(getattr(group.intervals[place], field_name)) for group in groups]
            values = [ends[group] for group in places]
            table.columns[given[-1] + suffix] = typed_column(values, "Float64")
    if summary.seeded:
        for name, each in (
            ("repeats_done", [group.n for group in groups]),
            ("repeats", [len(group.rows) for group in groups]),
        ):
            table.columns[name] = typed_column([each[group] for group in places], "Int64")
    return given


def _cost_columns(rows: Sequence[Row], currencies: Sequence[str]) -> dict[str, Any]:
    def amounts(currency: str) -> Any:
        found = [row.usage.cost.get(currency) for row in rows]
        return typed_column(
            [MISSING if amount is None else round(amount, 6) for amount in found], "Float64"
        )

    if len(currencies) > 1:
        return {f"cost_{currency}": amounts(currency) for currency in currencies}
    only = currencies[0] if currencies else ""
    return {
        "cost": amounts(only),
        "currency": text_column(
            [only if only in row.usage.cost and only else MISSING for row in rows]
        ),
    }


def _or_missing(value: Any) -> Any:
    return MISSING if value is None or value != value else value  # NaN here means: none


def _numbers(cells: Sequence[Any]) -> Sequence[Any]:
    """Turn metrics that records spell as text (nan, inf) back into numbers."""
    if str not in set(map(type, cells)):
        return cells
    numbers = [metric_value(cell) if type(cell) is str else None for cell in cells]
    return [cell if n is None else n for cell, n in zip(cells, numbers, strict=True)]
