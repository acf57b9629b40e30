"""The best configurations of a report: the first place, its rivals, what fresh seeds came to.

Runs on the login node; called by ``report``. Values in, texts out. What a configuration came to on
fresh seeds stands beside what it was chosen by, and is never mixed with it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Sequence
from typing import Any

from orchestrator.adapters.leaderboard_files import show_value
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.domain.confirmed import Confirmed, short
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.report_document import Contender, ShownValue
from orchestrator.domain.text_table import TextTable
from orchestrator.domain.typed_columns import FLOAT, INTEGER

# Beside the first place; the table has them all.
MAX_TIED = 10
# What people read; all digits stand in the table and the tooltip.
DIGITS = 6
# Half of an interval, in a heading; no line breaks within.
_HALF = "±\u00a095\u00a0%"


def describe_best(board: Leaderboard, sweep: SweepPaths, hint: str) -> Contender | None:
    """Describe the first place; None if nothing is ranked.

    Args:
        board: The leaderboard.
        sweep: Whose.
        hint: What make needs to be told of the results folder.
    """
    if not board.leads:
        return None
    row = board.leads[0]
    names = board.table["trial"].cells
    end = board.leads[1] if len(board.leads) > 1 else board.n_ranked
    trial = names[row]
    number = trial.partition("-")[0]
    chosen = str(int(number)) if number.isdecimal() and number.isascii() else trial
    command = f"make reproduce SWEEP={shlex.quote(sweep.name)}{hint} TRIAL={shlex.quote(chosen)}"
    script = os.path.relpath(TrialPaths(f"{sweep.trials}/{trial}").script, sweep.root)
    is_imported = board.summary.is_imported
    return Contender(
        trial=trial,
        repeats=names[row:end],
        scores=_scores(board, row),
        fresh=_fresh_scores(board, row),
        parameters=show_values(board, row, board.searched),
        metrics=show_values(board, row, board.metrics),
        command="" if is_imported else command,
        script="" if is_imported else script,
    )


def show_values(board: Leaderboard, row: int, columns: Sequence[str]) -> list[ShownValue]:
    """Show what a row has in some columns."""
    cells = [(name, board.table[name].cells[row]) for name in columns]
    return [_value(name, cell) for name, cell in cells if cell is not None]


def tied_table(board: Leaderboard) -> TextTable | None:
    """List the configurations that share the first place, or cannot be told from it."""
    table = board.table
    ranks = table["rank"].cells
    ties = table["tie"].cells if "tie" in table else [None] * len(table)
    rows = [row for row in board.leads[1:] if ranks[row] == 1 or ties[row] == 1]
    if not rows:
        return None
    shown = rows[:MAX_TIED]
    of = board.objective or ""
    interval = (f"{of}_ci95_low", f"{of}_ci95_high")
    score, *others = [
        name for name in _score_columns(board) if name not in (*interval, "repeats_done", "repeats")
    ]
    headers: list[str] = []
    columns: list[list[str]] = []
    right: list[bool] = []

    def add(names: Sequence[str]) -> None:
        for name in names:
            headers.append(name)
            columns.append([_short(table[name].cells[row]) for row in shown])
            right.append(table[name].dtype in (INTEGER, FLOAT))

    add(["rank", "trial", score])
    if all(name in table for name in interval):
        ends = [[table[name].cells[row] for name in interval] for row in shown]
        headers.append(_HALF)
        columns.append(["" if None in both else f"{(both[1] - both[0]) / 2:.2g}" for both in ends])
        right.append(True)
    add(others)
    if "partial" in table and any(table["partial"].cells[row] is not None for row in shown):
        add(["partial"])
    fresh = _fresh_rows(board)
    if any(row in fresh for row in shown):
        there = [_fresh_cells(fresh.get(row)) for row in shown]
        cells = dict(zip(_FRESH, zip(*there, strict=True), strict=True))
        del cells["tie"]  # among those, while this table is about the first
        headers += [f"fresh {name}" for name in cells]
        columns += [list(column) for column in cells.values()]
        right += [True] * len(cells)
    add(board.searched)
    more = len(rows) - MAX_TIED
    notes = [f"And {more} more; the table below has them all."] if more > 0 else []
    title = "Cannot be told from it" if "tie" in table else "As good"
    return TextTable(
        f"{title}: {len(rows)} more configuration{'' if len(rows) == 1 else 's'}",
        headers,
        list(zip(*columns, strict=True)),
        right,
        notes,
    )


def fresh_table(board: Leaderboard) -> TextTable | None:
    """List what was run on fresh seeds, the best there first; None without such runs."""
    rows = {found.runs.key: row for row, found in _fresh_rows(board).items()}
    compared = [found for found in board.outcome.configurations if found.runs.key in rows]
    if not compared:
        return None
    table, places = board.table, [rows[found.runs.key] for found in compared]
    score = next(name for name in _score_columns(board))
    chosen = [("rank", "rank before"), ("trial", "trial"), (score, f"{score} before")]
    columns = [*zip(*map(_fresh_cells, compared), strict=True)]
    named = [*chosen, *((name, name) for name in _same_for_all_runs(board, compared))]
    columns += [tuple(_short(table[name].cells[row]) for row in places) for name, _ in named]
    counts = {found.runs.n_asked for found in compared}
    each = f"{'' if len(counts) == 1 else 'up to '}{max(counts)} runs each"
    notes = [
        f"{short(found)} has no rank here{_why_unranked(found)}: {found.runs.problem}."
        for found in compared
        if found.runs.problem
    ]
    n_open = sum(found.runs.n_open for found in compared)
    if n_open:
        notes.append(f"{n_open} of these runs have not ended.")
    notes.append(
        "Before: by the runs that chose it, which flatter it. These runs had no part in the choice "
        "and no part in the ranks below. tie: the best rank here that it cannot be told from, seed "
        "by seed (the 95 % interval of the difference holds 0)."
    )
    n = len(compared)
    return TextTable(
        f"On fresh seeds: {n} configuration{'' if n == 1 else 's'}, {each}",
        [*_FRESH, *(title for _, title in named)],
        list(zip(*columns, strict=True)),
        [True] * len(_FRESH) + [table[name].dtype in (INTEGER, FLOAT) for name, _ in named],
        notes,
    )


# Headings of ``_fresh_cells``.
_FRESH = ("rank", "tie", "mean", _HALF, "runs")


def _why_unranked(found: Confirmed) -> str:
    return ", since a run diverged" if found.runs.has_diverged else " for want of runs"


def _fresh_cells(found: Confirmed | None) -> list[str]:
    """Show rank, tie, mean, half of the interval, and how many runs have a value."""
    if found is None:
        return [""] * len(_FRESH)
    mean = "" if math.isnan(found.mean) else _short(found.mean)
    half = "" if math.isnan(found.half) else f"{found.half:.2g}"
    return [_short(found.rank), _short(found.tie), mean, half, _count_runs(found)]


def _same_for_all_runs(board: Leaderboard, compared: Sequence[Confirmed]) -> list[str]:
    """Return the columns of parameters that the fresh runs of a configuration share."""
    names = {name for found in compared for name in json.loads(found.runs.key)}
    return [name for name in board.searched if board.source_names.get(name, name) in names]


def _count_runs(found: Confirmed) -> str:
    n, n_asked = len(found.runs.values), found.runs.n_asked
    return str(n) if n == n_asked else f"{n} of {n_asked}"


def _fresh_rows(board: Leaderboard) -> dict[int, Confirmed]:
    """Return what came of the fresh runs, by the row that stands for the configuration."""
    names = board.table["trial"].cells
    groups = board.groups or names
    group_of = dict(zip(names, groups, strict=True))
    leads = {groups[row]: row for row in board.leads}
    found = {}
    for confirmed in board.outcome.configurations:
        lead = leads.get(group_of.get(confirmed.runs.name, ""))
        if lead is not None:
            found[lead] = confirmed
    return found


def _fresh_scores(board: Leaderboard, row: int) -> list[ShownValue]:
    """Say what a configuration came to on fresh seeds; nothing if it did not run there."""
    found = _fresh_rows(board).get(row)
    if found is None:
        return []
    shown = []
    if not math.isnan(found.mean):
        shown.append(_value(f"mean of {board.objective}", found.mean))
    if not math.isnan(found.half):
        ends = (found.mean - found.half, found.mean + found.half)
        text, full = (" to ".join(map(say, ends)) for say in (_short, _full))
        shown.append(ShownValue("95 % interval of it", text, full))
    if found.rank is not None:
        n_ranked = sum(one.rank is not None for one in board.outcome.configurations)
        rank = f"{found.rank} of {n_ranked}"
        if found.tie is not None and found.tie != found.rank:
            rank += f", tied with {found.tie}"
        shown.append(ShownValue("rank", rank, rank))
    count = f"{len(found.runs.values)} of {found.runs.n_asked}"
    shown.append(ShownValue("runs done", count, count))
    return shown


def _scores(board: Leaderboard, row: int) -> list[ShownValue]:
    """Say how good a configuration is: the objective, over repeats its mean and interval."""
    columns = _score_columns(board)
    if not board.summary.seeded:
        return show_values(board, row, columns)
    cells = {name: board.table[name].cells[row] for name in columns}
    of = board.objective or ""
    low, high = cells.pop(f"{of}_ci95_low", None), cells.pop(f"{of}_ci95_high", None)
    n, n_all = cells.pop("repeats_done", None), cells.pop("repeats", None)
    shown = [_value(name, cell) for name, cell in cells.items() if cell is not None]
    if low is not None and high is not None:
        text, full = (f"{say(low)} to {say(high)}" for say in (_short, _full))
        shown.insert(1, ShownValue("95 % interval of it", text, full))
    count = f"{n} of {n_all}"
    return [*shown, ShownValue("repeats done", count, count)]


def _score_columns(board: Leaderboard) -> list[str]:
    """Name the columns of how good configurations are: over repeats the means."""
    of = board.objective or ""
    wanted, others = [of], [name for name, _ in board.objectives[1:]]
    if board.summary.seeded:
        wanted = [f"{of}_mean", f"{of}_ci95_low", f"{of}_ci95_high", "repeats_done", "repeats"]
        others = [f"{name}_mean" for name in others]
    wanted += others
    return [name for name in dict.fromkeys(wanted) if name in board.table]


def _value(name: str, cell: Any) -> ShownValue:
    return ShownValue(name, _short(cell), _full(cell))


def _short(cell: Any) -> str:
    return show_value(cell, DIGITS)


def _full(cell: Any) -> str:
    return repr(cell) if isinstance(cell, float) else show_value(cell)
