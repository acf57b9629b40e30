"""Ranking the trials of a sweep by their objective, over repeats where there are some.

Pure: values in, a table out; two calls with the same values give the same table. Files are read by
``adapters.trial_dir`` and written by ``adapters.leaderboard_files``.

What gets a rank: trials that are done with a finite objective. Equal objectives share a rank and
the next rank is skipped (1, 1, 3). Everything else, infinities included, is listed below with its
state and the reason, and never ranked.

With repeats (the parameter ``seed`` of a spec's ``seeds:``) the trials that differ in nothing but
their seed are one configuration. It is ranked by the mean over its repeats that are done, with the
95 % confidence interval of that mean (Student's t, repeats taken as independent and normal; none
from one repeat) and with ``repeats_done`` of ``repeats``, so that a partial one shows as such. A
configuration with a done repeat whose objective is not finite has no finite mean and no rank.

Columns: ``rank, trial, state``, the objective (with ``_mean``, ``_ci95_low``, ``_ci95_high``,
``repeats_done``, ``repeats`` after it if there are repeats), the parameters that vary, other
metrics, ``attempts, gpu_hours, cost, currency`` (or ``cost_<currency>`` for each of several),
``node`` (of the last attempt), ``note``, and last the parameters that are the same everywhere.
A parameter or metric whose name is taken is called ``param.<name>`` or ``metric.<name>``.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.goodput import Goodput, measure_goodput
from orchestrator.domain.named_columns import (
    ColumnNames,
    flatten_params,
    gather_columns,
    split_varying,
)
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.ratings import HUMAN_SCORE
from orchestrator.domain.repeats import mean_interval
from orchestrator.domain.sweep_summary import MINIMIZE, SweepSummary
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import MISSING, spell_value, text_column, typed_column

SEED = "seed"
# The order in which trials without a rank are listed: what needs a look comes first.
_BELOW = {
    state: place
    for place, state in enumerate(
        (
            TrialState.DONE,
            TrialState.FAILED,
            TrialState.LOST,
            TrialState.UNKNOWN,
            TrialState.INTERRUPTED,
            TrialState.CANCELLED,
            TrialState.RUNNING,
            TrialState.REQUEUED,
            TrialState.PENDING,
            TrialState.NEW,
        )
    )
}


@dataclass(frozen=True)
class Leaderboard:
    """The ranked table and what its columns are."""

    summary: SweepSummary
    """The sweep."""
    frame: pd.DataFrame
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


def rank_trials(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    summary: SweepSummary,
    now_s: float,
) -> Leaderboard:
    """Rank trials and lay them out as a table.

    Args:
        trials: All of the sweep's.
        states: By trial name. A trial that is not in it is done if it has a result, else unknown.
        reasons: Why a trial is in its state, by name; shown in ``note``.
        summary: What is ranked and how.
        now_s: Unix time, up to which running attempts cost.
    """
    # Columns are built in number order, as the trials lie in memory, and sorted at the end.
    rows = [
        _Row(
            trial,
            states.get(trial.name)
            or (TrialState.DONE if trial.result is not None else TrialState.UNKNOWN),
        )
        for trial in sorted(trials, key=lambda trial: (trial.number, trial.name))
    ]
    params = [flatten_params(row.trial.params or {}) for row in rows]
    for row in rows:
        _judge(row, summary.metric)
    _rank(rows, params, summary)
    for row in rows:
        row.usage = trial_usage(row.trial.attempts, row.state, now_s)
        row.note = _note(row, reasons.get(row.trial.name, ""))
    goodput = measure_goodput(((row.trial, row.state) for row in rows), now_s)
    return replace(_lay_out(rows, params, summary), goodput=goodput)


class _Row:
    """A trial on its way into the table."""

    value: int | float | None = None  # the objective, if it is finite and the trial is done
    invalid = ""  # why a done trial has no rank
    missing = ""  # what people have not done yet: no fault of the trial
    mean, low, high = math.nan, math.nan, math.nan
    n, n_all = 0, 1  # repeats that count, and all of them
    rank: int | None = None
    lead = 0  # place of the configuration among ranked ones of the same rank
    note = ""
    usage = Usage()

    def __init__(self, trial: TrialFiles, state: TrialState):
        self.trial, self.state = trial, state

    def place(self) -> tuple[int, int, int]:
        """Return what rows are sorted by; equal ones stay in number order."""
        if self.rank is not None:
            return 0, self.rank, self.lead
        return 1, _BELOW[self.state], 0


def _judge(row: _Row, metric: str | None) -> None:
    """Decide whether a done trial has an objective that can be ranked."""
    if row.state is not TrialState.DONE or metric is None:
        return
    metrics = row.trial.metrics
    if row.trial.result is None:
        row.invalid = "no result that can be read"
    elif metric not in metrics and metric == HUMAN_SCORE:
        row.missing = "not rated yet"
    elif metric not in metrics:
        there = ", ".join(sorted(metrics)[:5])
        row.invalid = f"no metric {metric!r} in the result" + (f"; it has {there}" if there else "")
    else:
        value = metrics[metric]
        number = metric_value(value)
        if number is None:
            row.invalid = f"{metric} is {one_line(spell_value(value), 40)!r}, not a number"
        elif not math.isfinite(number):
            row.invalid = f"{metric} is {number}"
        else:
            row.value = value


def _rank(rows: Sequence[_Row], params: Sequence[Mapping[str, Any]], summary: SweepSummary) -> None:
    """Give ranks to configurations; without repeats every trial is one."""
    scored: list[tuple[float, list[_Row]]]
    if summary.seeded:
        scored = []
        for group in _configurations(rows, params):
            _average(group)
            if any(row.value is not None for row in group):
                scored.append((group[0].mean, group))
    else:
        scored = [(float(row.value), [row]) for row in rows if row.value is not None]
    ranks = pd.Series([score for score, _ in scored], dtype="float64").rank(
        method="min", ascending=summary.goal == MINIMIZE
    )
    for lead, (rank, (_, group)) in enumerate(zip(ranks.tolist(), scored, strict=True)):
        for row in group:
            if row.value is not None and not math.isnan(rank):
                row.rank, row.lead = int(rank), lead


def _configurations(
    rows: Sequence[_Row], params: Sequence[Mapping[str, Any]]
) -> Iterable[list[_Row]]:
    """Part rows into those that differ in nothing but their seed."""
    groups: dict[Any, list[_Row]] = {}
    for index, row in enumerate(rows):
        key: Any = index
        if row.trial.params is not None:
            rest = {name: value for name, value in params[index].items() if name != SEED}
            with contextlib.suppress(RecursionError):  # nested without end: on its own
                key = json.dumps(rest, sort_keys=True)
        groups.setdefault(key, []).append(row)
    return groups.values()


def _average(group: Sequence[_Row]) -> None:
    """Set mean, interval and counts of one configuration's repeats."""
    values = [float(row.value) for row in group if row.value is not None]
    n, n_all = len(values), len(group)
    mean = low = high = math.nan
    bad = next((row for row in group if row.invalid), None)
    if values and bad is None:
        mean, half = mean_interval(values)
        if math.isfinite(mean):
            low, high = mean - half, mean + half
        else:
            mean = math.nan
    for row in group:
        row.mean, row.low, row.high, row.n, row.n_all = mean, low, high, n, n_all
        if row.value is not None and math.isnan(mean):
            row.invalid = (
                f"its repeat {bad.trial.name}: {bad.invalid}" if bad else "the mean overflows"
            )


def _note(row: _Row, reason: str) -> str:
    """Say in one line what is to be known of a trial: why it has no rank, what went wrong."""
    if row.rank is not None and not reason:
        return ""
    parts = [row.invalid, row.missing, reason]
    if row.state is not TrialState.DONE and not reason and row.trial.attempts:
        parts.append(row.trial.attempts[-1].cause or "")
    if row.rank is None:
        parts.extend(row.trial.problems[:1])
    return one_line("; ".join(part for part in parts if part))


def _lay_out(
    rows: Sequence[_Row], params: Sequence[Mapping[str, Any]], summary: SweepSummary
) -> Leaderboard:
    """Build the table from rows in number order, and sort it."""
    problems: list[str] = []
    param_cells = gather_columns(params, problems, "parameters")
    metric_cells = gather_columns(
        [row.trial.metrics for row in rows], problems, "metrics", summary.metric
    )
    objective_cells = metric_cells.pop(summary.metric, None) if summary.metric is not None else None
    names = ColumnNames()
    data: dict[str, Any] = {}
    n = len(rows)

    data[names.fix("rank")] = typed_column([_or_missing(row.rank) for row in rows], "Int64")
    data[names.fix("trial")] = text_column([row.trial.name for row in rows])
    words = [row.state.value for row in rows]
    data[names.fix("state")] = text_column(words)
    late = ["attempts", "gpu_hours", "cost", "currency", "node", "note"]
    late += ["repeats_done", "repeats"] if summary.seeded else []
    usage = sum_usage([row.usage for row in rows])
    currencies = list(usage.cost)
    if len(currencies) > 1:
        late += [f"cost_{currency}" for currency in currencies]
    for name in late:
        names.fix(name)

    objective: str | None = None
    if summary.metric is not None:
        objective = names.give(summary.metric, "metric")
        cells = [_metric(cell) for cell in objective_cells or [MISSING] * n]
        data[objective] = typed_column(cells, "Float64")
        if summary.seeded:
            for suffix in ("mean", "ci95_low", "ci95_high"):
                attribute = suffix.removeprefix("ci95_")
                column = names.give(f"{objective}_{suffix}", "metric")
                data[column] = typed_column([_or_missing(getattr(r, attribute)) for r in rows])
    if summary.seeded:
        data["repeats_done"] = typed_column([row.n for row in rows], "Int64")
        data["repeats"] = typed_column([row.n_all for row in rows], "Int64")

    varying, constant = split_varying(param_cells, summary.parameters)
    parameters = {names.give(name, "param"): param_cells[name] for name in varying}
    data.update({name: typed_column(cells) for name, cells in parameters.items()})
    metrics = {names.give(name, "metric"): metric_cells[name] for name in metric_cells}
    data.update({name: typed_column(list(map(_metric, cells))) for name, cells in metrics.items()})

    data["attempts"] = typed_column([len(row.trial.attempts) for row in rows], "Int64")
    data["gpu_hours"] = typed_column([round(row.usage.gpu_hours, 6) for row in rows], "Float64")
    costs = _cost_columns(rows, currencies)
    data.update(costs)
    data["node"] = text_column(
        [_or_missing(r.trial.attempts[-1].node if r.trial.attempts else None) for r in rows]
    )
    data["note"] = text_column([row.note or MISSING for row in rows])
    constants = {names.give(name, "param"): param_cells[name] for name in constant}
    data.update({name: typed_column(cells) for name, cells in constants.items()})

    counts = Counter(words)
    order = sorted(range(n), key=[row.place() for row in rows].__getitem__)
    ranked = [rows[index].lead for index in order if rows[index].rank is not None]
    return Leaderboard(
        summary=summary,
        frame=pd.DataFrame(data).take(order).reset_index(drop=True),
        objective=objective,
        parameters=tuple(parameters),
        metrics=tuple(metrics),
        constants=tuple(constants),
        costs=tuple(name for name in costs if name != "currency"),
        n_ranked=len(ranked),
        leads=tuple(i for i, lead in enumerate(ranked) if i == 0 or lead != ranked[i - 1]),
        usage=usage,
        counts={state: counts[state.value] for state in TrialState if state.value in counts},
        problems=tuple(problems),
    )


def _cost_columns(rows: Sequence[_Row], currencies: Sequence[str]) -> dict[str, Any]:
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


def _metric(cell: Any) -> Any:
    """Turn a metric that records spell as text (nan, inf) back into a number."""
    if type(cell) is str:
        number = metric_value(cell)
        return cell if number is None else number
    return cell
