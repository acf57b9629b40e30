"""Runs on fresh seeds in a leaderboard: kept out of its ranking, and beside it in columns. Pure.

Fresh runs are rows of their own, without a rank. What they come to stands in every row of their
configuration: ``confirmed_rank, confirmed_tie, confirmed_mean, confirmed_ci95_low,
confirmed_ci95_high, confirmed_n`` (runs with a finite objective). Where one of them diverged
(``divergence``) there is no mean: that of the others would flatter. They say how sure the first
place is; the ranks stay those of the sweep's own runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.confirmed import Confirmed, FreshRuns, compare
from orchestrator.domain.divergence import describe_divergence
from orchestrator.domain.fresh_trials import Confirmation
from orchestrator.domain.standing import Certainty
from orchestrator.domain.table import Table
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import (
    FLOAT,
    INTEGER,
    MISSING,
    Column,
    text_column,
    typed_column,
)

if TYPE_CHECKING:
    from orchestrator.domain.leaderboard import Leaderboard

CONFIRMED_COLUMNS = (
    "confirmed_rank",
    "confirmed_tie",
    "confirmed_mean",
    "confirmed_ci95_low",
    "confirmed_ci95_high",
    "confirmed_n",
)


class _FreshRow(NamedTuple):
    state: TrialState
    value: float | None  # the objective, if the trial is done and that is finite
    problem: str  # why it has none though it ended
    has_diverged: bool = False


def add_confirmed(
    board: Leaderboard,
    confirmation: Confirmation,
    trials: Sequence[TrialFiles],
    states: Mapping[str, TrialState],
) -> Leaderboard:
    """Put what the fresh runs came to beside the ranks.

    Args:
        board: The leaderboard, ranked without them.
        confirmation: What was asked for.
        trials: All trials of the sweep, also those that a condition keeps from the leaderboard;
            configurations that are not on it are not compared.
        states: By trial name, as of ``rank_trials``.
    """
    if not confirmation.trials or board.summary.metric is None or board.objective is None:
        return board
    keys = {t.name: confirmation.key(t.params) for t in trials if t.params is not None}
    names = board.table["trial"].cells
    ranks = [board.table["rank"].cells[row] for row in board.leads]
    first = [
        keys.get(names[row], "")  # of parameters that cannot be read nothing was asked
        for row, rank in zip(board.leads, ranks, strict=True)
        if rank == ranks[0]
    ]
    here = {keys.get(name) for name in names if name not in board.fresh}
    fresh = {
        trial.id: _read(trial, states.get(trial.name), board.summary.metric)
        for trial in trials
        if trial.id in confirmation.by_id
    }
    outcome = compare(
        [runs for runs in _gather(confirmation, fresh) if runs.key in here],
        board.summary.goal,
        first,
    )
    by_key = {found.runs.key: found for found in outcome.configurations}
    cells = [_cells(by_key.get(keys.get(name, ""))) for name in names]
    standing = outcome.standing
    if standing is None and board.standing.certainty is not Certainty.NONE:
        others = "The runs on fresh seeds are of others: make confirm adds it."
        standing = replace(board.standing, words=f"{board.standing.words} {others}".strip())
    return replace(
        board,
        table=_with_columns(board, cells, [_describe(confirmation, name) for name in names]),
        outcome=outcome,
        standing=standing or board.standing,
    )


def _with_columns(
    board: Leaderboard, cells: Sequence[Sequence[object]], notes: Sequence[str]
) -> Table:
    """Return the table with the new columns behind the objective's, and with notes."""
    old = board.table
    place = max(old.columns.index(n) for n in (board.objective, "repeats") if n in old)
    new: dict[str, Column] = {}
    for index, name in enumerate(old.columns):
        new[name] = old[name]
        if index == place:
            for number, added in enumerate(CONFIRMED_COLUMNS):
                dtype = FLOAT if "mean" in added or "ci95" in added else INTEGER
                new[added] = typed_column([row[number] for row in cells], dtype)
    both = [
        "; ".join(filter(None, (note, said or "")))
        for note, said in zip(notes, old["note"].cells, strict=True)
    ]
    new["note"] = text_column([text or MISSING for text in both])
    return Table(new, len(old))


def _describe(confirmation: Confirmation, name: str) -> str:
    """Say what a trial on a fresh seed is for; empty for the others."""
    trial = confirmation.by_id.get(name.partition("-")[2])
    return "" if trial is None else f"fresh seed, to confirm {trial.of.partition('-')[0]}"


def _read(trial: TrialFiles, state: TrialState | None, metric: str) -> _FreshRow:
    if state is None:
        state = TrialState.DONE if trial.result is not None else TrialState.UNKNOWN
    if how := describe_divergence(trial, state, metric):
        return _FreshRow(state, None, f"{trial.name}: {how}", has_diverged=True)
    if state is not TrialState.DONE:
        return _FreshRow(state, None, state.value if state in TERMINAL_STATES else "")
    number = metric_value(trial.metrics.get(metric))
    if number is None:
        return _FreshRow(state, None, f"{trial.name} has no {metric} that is a number")
    if not math.isfinite(number):  # of a result that cannot be read
        return _FreshRow(state, None, f"{metric} of {trial.name} is {number}")
    return _FreshRow(state, number, "")


def _gather(confirmation: Confirmation, fresh: Mapping[str, _FreshRow]) -> list[FreshRuns]:
    found: dict[str, FreshRuns] = {}
    for trial in confirmation.trials:
        key = confirmation.key(trial.params)
        runs = found.setdefault(key, FreshRuns(key, trial.of, 0))
        row = fresh.get(trial.id, _FreshRow(TrialState.NEW, None, ""))
        values = runs.values if row.value is None else {**runs.values, trial.seed: row.value}
        found[key] = replace(
            runs,
            n_asked=runs.n_asked + 1,
            n_open=runs.n_open + (row.state not in TERMINAL_STATES),
            values=values,
            problem=runs.problem or row.problem,
            has_diverged=runs.has_diverged or row.has_diverged,
        )
    return list(found.values())


def _cells(found: Confirmed | None) -> tuple[object, ...]:
    if found is None:
        return (MISSING,) * len(CONFIRMED_COLUMNS)
    mean, half = found.mean, found.half
    numbers = (mean, mean - half, mean + half)
    return (
        MISSING if found.rank is None else found.rank,
        MISSING if found.tie is None else found.tie,
        *(MISSING if math.isnan(number) else number for number in numbers),
        len(found.runs.values),
    )
