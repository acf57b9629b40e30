"""Showing a leaderboard on a terminal. Runs on the login node.

The table fits the width it is given: columns that do not fit are counted below it, never cut out in
silence, and everything stands in ``leaderboard.csv``. With repeats there is one row a
configuration, with the mean, the half width of its 95 % interval and how many repeats there are.
Nothing here prints. Values come from programs and specs: control characters are stripped, and no
value is read as rich's markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.adapters.leaderboard_files import (
    cell_values,
    describe_counts,
    describe_usage,
    show_value,
)
from orchestrator.domain.leaderboard import SEED, Leaderboard
from orchestrator.domain.plain_text import one_line

_MAX_CELL, _MIN_TITLE = 24, 6
_GAP = 2
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
    board: Leaderboard, width: int, n_rows: int = 20, n_others: int = 5
) -> RenderableType:
    """Make the head of a leaderboard fit for a terminal.

    Args:
        board: The leaderboard.
        width: Columns of the terminal.
        n_rows: At most so many ranked rows, or configurations.
        n_others: At most so many rows without a rank.
    """
    parts: list[RenderableType] = [Text(_headline(board), style="bold")]
    if board.leads:
        parts += _ranked(board, width, n_rows)
    n_below = len(board.frame) - board.n_ranked
    if n_below:
        parts.append(Text("\nWithout a rank:" if board.leads else ""))
        parts.append(_others(board, width, n_others))
        if n_below > n_others:
            parts.append(_more(n_below - n_others, "row"))
    parts.append(Text(f"\n{describe_counts(board)} {describe_usage(board)}".rstrip()))
    return Group(*parts)


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
    return f"{name}: {one_line(summary.metric, 40)}, {summary.goal}"


def _ranked(board: Leaderboard, width: int, n_rows: int) -> list[RenderableType]:
    """Show ranked rows in as many columns as fit, and say what did not."""
    frame = board.frame.iloc[list(board.leads[:n_rows])]
    names = cell_values(frame["trial"])
    columns = [
        _Column("", [str(rank) for rank in cell_values(frame["rank"])], True),
        _Column("trial", [name.partition("-")[0] for name in names], False),
        *_objective_columns(board, frame),
    ]
    parameters = [n for n in board.parameters if not (board.summary.seeded and n == SEED)]
    titles = short_titles(parameters)
    others: list[str] = []
    if not board.summary.seeded:  # of the first trial, not of its configuration
        metrics = sorted(board.metrics, key=lambda name: name.startswith(_MOMENTARY))
        others = ["attempts", "gpu_hours", *board.costs, *metrics]
    hidden: list[str] = []
    for name, title in zip([*parameters, *others], [*titles, *others], strict=True):
        column = _column(title, cell_values(frame[name]), 4)
        if not any(column.cells):
            continue
        if hidden or _total_width([*columns, column]) > width:
            hidden.append(name)
        else:
            columns.append(column)
    full = _Column("trial", names, False)
    if _total_width(columns) + full.width - columns[1].width <= width:
        columns[1] = full
    for index, column in enumerate(columns):
        unfolded = replace(column, title=column.title.replace("\n", ""))
        if _total_width(columns) + unfolded.width - column.width <= width:
            columns[index] = unfolded
    below: list[RenderableType] = []
    n_left = len(board.leads) - len(frame)
    if n_left:
        below.append(_more(n_left, "configuration" if board.summary.seeded else "row"))
    if hidden:
        text = f"{_more(len(hidden), 'column')}: {', '.join(one_line(n, 40) for n in hidden)}"
        below.append(Text(text, no_wrap=True, overflow="ellipsis", style="dim"))
    return [_table(columns), *below]


def _objective_columns(board: Leaderboard, frame: pd.DataFrame) -> list[_Column]:
    objective = board.objective
    assert objective is not None  # nothing is ranked without one
    if not board.summary.seeded:
        return [_column(objective, cell_values(frame[objective]), 5)]
    means = cell_values(frame[f"{objective}_mean"])
    highs = cell_values(frame[f"{objective}_ci95_high"])
    halves = [None if high is None else high - m for m, high in zip(means, highs, strict=True)]
    repeats = zip(cell_values(frame["repeats_done"]), cell_values(frame["repeats"]), strict=True)
    return [
        _column(f"{objective} mean", means, 5),
        _column("± 95%", halves, 2),
        _Column("n", [str(n) if n == of else f"{n} of {of}" for n, of in repeats], True),
    ]


def _others(board: Leaderboard, width: int, n_rows: int) -> Table:
    """Show rows without a rank: where they stand and why."""
    frame = board.frame.iloc[board.n_ranked : board.n_ranked + n_rows]
    columns = [
        _Column("trial", cell_values(frame["trial"]), False),
        _Column("state", cell_values(frame["state"]), False),
    ]
    if board.objective is not None:
        values = _column(board.objective, cell_values(frame[board.objective]), 5)
        if any(values.cells):
            columns.append(values)
    notes = [one_line(note or "", 400) for note in cell_values(frame["note"])]
    room = max(10, width - _total_width(columns) - _GAP)
    notes = [_cut(note, room) for note in notes]
    if any(notes):
        columns.append(_Column("why", notes, False))
    return _table(columns)


def _table(columns: Sequence[_Column]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text("\n".join(line.rstrip() for line in column.title.split("\n"))),
            justify="right" if column.is_number else "left",
            no_wrap=True,
            vertical="bottom",
            min_width=column.width,
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _column(title: str, values: Sequence[Any], digits: int) -> _Column:
    cells = [_cut(one_line(show_value(value, digits)), _MAX_CELL) for value in values]
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
    return "\n".join(_cut(line, _MAX_CELL) for line in lines)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _total_width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _more(n: int, what: str) -> Text:
    return Text(f"… and {n:,} more {what}{'s' if n != 1 else ''} in leaderboard.csv", style="dim")
