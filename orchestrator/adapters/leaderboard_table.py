"""Showing a leaderboard on a terminal. Runs on the login node.

The table fits the width it is given: columns that do not fit are counted below it, never cut out in
silence, and everything stands in ``leaderboard.csv``, or where the caller says if that cannot be
written. First to go are measurements of time and of the machine. With repeats there is one row a
configuration, with the mean, the half width of its 95 % interval and how many repeats there are;
partial ones stand in a block of their own. Marks: ``~1`` cannot be told from rank 1, ``*`` is on
the Pareto front. Nothing here prints. Values come from programs and specs: control characters are
stripped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len

from orchestrator.adapters.leaderboard_files import (
    cell_values,
    describe_counts,
    describe_usage,
    show_value,
)
from orchestrator.adapters.terminal_text import BOLD, DIM, GAP, Line, cut, join_columns, wrap
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.metric_comparison import is_of_time
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.table import Table

IN_FILE = "in leaderboard.csv"
_MAX_CELL, _MIN_TITLE = 24, 6
_CONFIRMED = re.compile(r"(?<=^fresh seed), to confirm \d+")
# How train/ names measurements of a moment; of a trial that has ended they say least.
_MOMENTARY = "current_"
_TITLE_PARTS = re.compile(r"[^._/ -]+[._/ -]*|[._/ -]+")


@dataclass(frozen=True)
class _Column:
    """A column as it will be shown."""

    title: str
    cells: list[str]
    is_number: bool

    @property
    def width(self) -> int:
        titles = [line.rstrip() for line in self.title.split("\n")]
        return max(map(cell_len, [*titles, *self.cells]))


def render_leaderboard(
    board: Leaderboard, width: int, n_rows: int = 20, n_others: int = 5, rest: str = IN_FILE
) -> list[Line]:
    """Make the head of a leaderboard fit for a terminal.

    Args:
        board: The leaderboard.
        width: Columns of the terminal.
        n_rows: At most so many ranked rows, or configurations.
        n_others: At most so many rows without a rank.
        rest: Where rows and columns are that are not shown.
    """
    lines = [Line(text, BOLD) for text in wrap(_headline(board), width)]
    if board.standing.words:
        lines += map(Line, wrap(one_line(board.standing.words, 600), width))
    if board.leads:
        lines += _ranked(board, width, n_rows, rest)
    if len(board.table) > board.n_ranked:
        lines += map(Line, ("", "Without a rank:") if board.leads else ("",))
        lines += _others(board, width, n_others, rest)
    counts = f"{describe_counts(board)} {describe_usage(board)}".rstrip()
    return [*lines, Line(""), *map(Line, wrap(counts, width))]


def short_titles(names: Sequence[str]) -> list[str]:
    """Shorten dotted names to their last parts, as long as they stay different."""
    parts = [name.split(".") for name in names]
    titles = []
    for index, own in enumerate(parts):
        others = [other for place, other in enumerate(parts) if place != index]
        n = 1
        while n < len(own) and any(other[-n:] == own[-n:] for other in others):
            n += 1
        titles.append(".".join(own[-n:]))
    return titles


def _headline(board: Leaderboard) -> str:
    summary = board.summary
    name = one_line(summary.name, 60)
    if summary.metric is None:
        return f"{name}: the spec names no metric, so nothing is ranked"
    named = [f"{one_line(metric, 40)}, {goal}" for metric, goal in summary.objectives]
    front = f"; on the Pareto front with {'; '.join(named[1:])}" if len(named) > 1 else ""
    return f"{name}: {named[0]}{front}"


def _ranked(board: Leaderboard, width: int, n_rows: int, rest: str) -> list[Line]:
    """Show ranked rows in as many columns as fit, and say what did not."""
    frame = board.table.take(board.leads[:n_rows])
    names = cell_values(frame["trial"])
    columns = [_Column("", [str(rank) for rank in cell_values(frame["rank"])], True)]
    marks, legend = _marks(board, frame)
    if any(marks):
        columns.append(_Column("", marks, False))
    at = len(columns)
    columns.append(_Column("trial", [name.partition("-")[0] for name in names], False))
    columns += _objective_columns(board, frame) + _confirmed_columns(frame)
    hidden: list[str] = []
    for name, column in _further_columns(board, frame):
        if not any(column.cells):
            continue
        if hidden or _total_width([*columns, column]) > width:
            hidden.append(name)
        else:
            columns.append(column)
    full = _Column("trial", names, False)
    if _total_width(columns) + full.width - columns[at].width <= width:
        columns[at] = full
    for index, column in enumerate(columns):
        unfolded = replace(column, title=column.title.replace("\n", ""))
        if _total_width(columns) + unfolded.width - column.width <= width:
            columns[index] = unfolded
    n_left = len(board.leads) - len(frame)
    if n_left:
        legend.append(_more(n_left, "configuration" if board.summary.seeded else "row", rest))
    below = [Line(line, DIM) for text in legend for line in wrap(text, width)]
    hidden = [name for name in hidden if name in board.table]  # means of an amount are not there
    if hidden:
        text = f"{_more(len(hidden), 'column', rest)}: {', '.join(one_line(n, 40) for n in hidden)}"
        below.append(Line(cut(text, width), DIM))
    return [*_blocks(columns, frame), *below]


def _blocks(columns: Sequence[_Column], frame: Table) -> list[Line]:
    """Show complete configurations, and the partial ones in a block of their own below."""
    n_partial = (
        sum(cell is not None for cell in cell_values(frame["partial"]))
        if ("partial" in frame)
        else 0
    )
    n = len(frame) - n_partial
    if not n_partial or not n:
        return _table(columns)
    widths = [column.width for column in columns]
    complete = [replace(column, cells=column.cells[:n]) for column in columns]
    partial = [replace(column, cells=column.cells[n:]) for column in columns]
    return [
        *_table(complete, widths),
        Line("Partial, with fewer repeats than the others:"),
        *_table(partial, widths, has_titles=False),
    ]


def _marks(board: Leaderboard, frame: Table) -> tuple[list[str], list[str]]:
    """Return the marks of ties and of the front, and the lines that explain them."""
    ranks = cell_values(frame["rank"])
    ties = cell_values(frame["tie"]) if "tie" in frame else [None] * len(ranks)
    on_front = cell_values(frame["pareto"]) if "pareto" in frame else [None] * len(ranks)
    tied = [
        f"~{tie}" if tie is not None and tie != rank else ""
        for rank, tie in zip(ranks, ties, strict=True)
    ]
    legend = []
    if any(tied):
        legend.append("~N: its repeats cannot tell it from rank N (95 %)")
    if any(on_front):
        over = " and ".join(one_line(name, 40) for name, _ in board.front)
        legend.append(f"*: on the Pareto front of {over}")
    width = max(map(len, tied), default=0)
    marks = [
        f"{mark:<{width}}{'*' if front else ' '}"
        for mark, front in zip(tied, on_front, strict=True)
    ]
    return [mark.rstrip() for mark in marks], legend


def _further_columns(board: Leaderboard, frame: Table) -> list[tuple[str, _Column]]:
    """Return what follows the objective, first what says most: parameters, then what it took."""
    parameters = board.searched
    titles = short_titles(parameters)
    found = [
        (name, _column(title, cell_values(frame[name]), 4))
        for name, title in zip(parameters, titles, strict=True)
    ]
    used = ["gpu_hours", *board.costs]
    counted = [name for name, _ in board.front if name in used]
    if board.summary.seeded:  # the other columns are of the first trial, not of its configuration
        return found + [(f"{name} mean", _mean_amount(board, name, len(frame))) for name in counted]
    timed = [name for name in board.metrics if is_of_time(name)]
    momentary = [n for n in board.metrics if n.startswith(_MOMENTARY) and n not in timed]
    telling = [name for name in board.metrics if name not in timed and name not in momentary]
    rest = [name for name in used if name not in counted]
    names = [*counted, *telling, *rest, "attempts", *momentary, *timed]
    return found + [(name, _column(name, cell_values(frame[name]), 4)) for name in names]


def _mean_amount(board: Leaderboard, name: str, n: int) -> _Column:
    """Show what a repeat of each of the first configurations took, where all are known."""
    amounts = board.table[name].cells[: board.n_ranked]
    ends = [*board.leads[1:], board.n_ranked]
    parts = [amounts[start:end] for start, end in zip(board.leads, ends, strict=True)]
    means = [None if None in part else math.fsum(part) / len(part) for part in parts[:n]]
    return _column(f"{name} mean", means, 4)


def _objective_columns(board: Leaderboard, frame: Table) -> list[_Column]:
    objective, *others = [name for name, _ in board.objectives]
    if not board.summary.seeded:
        return [_column(name, cell_values(frame[name]), 5) for name in (objective, *others)]
    means = cell_values(frame[f"{objective}_mean"])
    highs = cell_values(frame[f"{objective}_ci95_high"])
    halves = [None if high is None else high - m for m, high in zip(means, highs, strict=True)]
    repeats = zip(cell_values(frame["repeats_done"]), cell_values(frame["repeats"]), strict=True)
    return [
        _column(f"{objective} mean", means, 5),
        _column("± 95%", halves, 2),
        _Column("n", [str(n) if n == of else f"{n} of {of}" for n, of in repeats], True),
        *(_column(f"{name} mean", cell_values(frame[f"{name}_mean"]), 5) for name in others),
    ]


def _confirmed_columns(frame: Table) -> list[_Column]:
    """Show what runs on fresh seeds came to, where there are any."""
    if "confirmed_rank" not in frame:
        return []
    names = ("confirmed_mean", "confirmed_ci95_high", "confirmed_n", "confirmed_rank")
    means, highs, counts, ranks = (cell_values(frame[name]) for name in names)
    halves = [None if high is None else high - m for m, high in zip(means, highs, strict=True)]
    return [
        _column("fresh mean", means, 5),
        _column("± 95%", halves, 2),
        _column("n", counts, 5),
        _column("fresh rank", ranks, 5),
    ]


def _others(board: Leaderboard, width: int, n_rows: int, rest: str) -> list[Line]:
    """Show trials without a rank: where they stand and why, alike ones once with their count."""
    frame = board.table.take(range(len(board.table))[board.n_ranked :])
    names, states = cell_values(frame["trial"]), cell_values(frame["state"])
    notes = [one_line(note or "", 400) for note in cell_values(frame["note"])]
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (name, state, note) in enumerate(zip(names, states, notes, strict=True)):
        # Each that runs is somewhere else; which trial a fresh seed confirms parts no group.
        why = name if state == TrialState.RUNNING.value and not note else note
        groups.setdefault((state, _CONFIRMED.sub("", why)), []).append(row)
    members = _pick_groups(groups, n_rows)
    lone = [len(rows) == 1 for rows in members]
    columns = [_Column("trials", [f"{len(rows):,}" for rows in members], True)]
    if all(lone):
        columns = []
    title = "trial" if all(lone) else "such as"
    columns.append(_Column(title, [names[rows[0]] for rows in members], False))
    columns.append(_Column("state", [states[rows[0]] for rows in members], False))
    if board.objective is not None:
        values = cell_values(frame[board.objective])
        shown = _column(board.objective, [_common(values, rows) for rows in members], 5)
        if any(shown.cells):
            columns.append(shown)
    if "partial" in frame:
        partial = cell_values(frame["partial"])
        steps = [one_line(_common(partial, rows) or "", _MAX_CELL) for rows in members]
        if any(steps):
            columns.append(_Column("so far", steps, False))
    room = max(10, width - _total_width(columns) - GAP)
    whys = [
        cut(notes[rows[0]] if alone else _CONFIRMED.sub("", notes[rows[0]]), room)
        for rows, alone in zip(members, lone, strict=True)
    ]
    if any(whys):
        columns.append(_Column("why", whys, False))
    n_left = len(frame) - sum(map(len, members))
    more = wrap(_more(n_left, "row", rest), width) if n_left else []
    return [*_table(columns), *(Line(text, DIM) for text in more)]


def _pick_groups(groups: Mapping[tuple[str, str], list[int]], n: int) -> list[list[int]]:
    """Take the first groups, and as far as there is room one of each state and of fresh seeds."""
    heads: dict[tuple[str, bool], tuple[str, str]] = {}
    for state, why in groups:
        heads.setdefault((state, why.startswith("fresh seed")), (state, why))
    first = list(heads.values())
    chosen = set([*first, *(key for key in groups if key not in first)][:n])
    return [rows for key, rows in groups.items() if key in chosen]


def _common(values: Sequence[Any], rows: Sequence[int]) -> Any:
    """Return what all rows have there; None if they differ."""
    first = values[rows[0]]
    return first if len({repr(values[row]) for row in rows}) == 1 else None


def _table(
    columns: Sequence[_Column], widths: Sequence[int] = (), has_titles: bool = True
) -> list[Line]:
    """Set columns side by side under their titles, which stand on the cells."""
    widths = widths or [column.width for column in columns]
    right = [column.is_number for column in columns]
    lines: list[Line] = []
    if has_titles:
        titles = [[line.rstrip() for line in column.title.split("\n")] for column in columns]
        height = max(map(len, titles))
        above = [[""] * (height - len(title)) + title for title in titles]
        lines = [Line(text, BOLD) for text in join_columns(above, widths, right)]
    cells = [column.cells for column in columns]
    return [*lines, *map(Line, join_columns(cells, widths, right))]


def _column(title: str, values: Sequence[Any], digits: int) -> _Column:
    cells = [cut(one_line(show_value(value, digits)), _MAX_CELL) for value in values]
    is_number = all(isinstance(value, (int, float, type(None))) for value in values)
    widest = max(map(cell_len, cells), default=0)
    return _Column(_fold(one_line(title, 60), max(widest, _MIN_TITLE)), cells, is_number)


def _fold(title: str, width: int) -> str:
    """Break a title after ``_``, ``.`` and the like so that its lines are as wide as its cells."""
    lines = [""]
    for part in _TITLE_PARTS.findall(title):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(cut(line, _MAX_CELL) for line in lines)


def _total_width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _more(n: int, what: str, rest: str) -> str:
    return f"… and {n:,} more {what}{'s' if n != 1 else ''} {rest}"
