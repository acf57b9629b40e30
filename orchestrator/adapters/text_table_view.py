"""Showing text tables on a terminal. Runs on the login node; prints nothing itself.

A table that is wider than the terminal is parted into blocks of columns, each led by the first
column, so that nothing is cut out. Cells are shown as they are: who makes the table has made
foreign text plain (``plain_text``), and nothing is read as rich's markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.domain.text_table import TextTable

_GAP = 2


def render_text_table(table: TextTable, width: int) -> RenderableType:
    """Make a table fit for a terminal.

    Args:
        table: The table.
        width: Columns of the terminal.
    """
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    for number, block in enumerate(_blocks(table, width)):
        if number:
            parts.append(Text(""))
        parts.append(_render(table, block))
    parts += [Text(note, style="dim") for note in table.notes]
    return Group(*parts)


def _blocks(table: TextTable, width: int) -> list[list[int]]:
    """Part columns into blocks that fit; each has the first column, and one more at least."""
    widths = [
        max(cell_len(text) for text in [header, *(row[index] for row in table.rows)])
        for index, header in enumerate(table.headers)
    ]
    if len(widths) < 2:
        return [list(range(len(widths)))]
    blocks: list[list[int]] = [[0]]
    used = widths[0]
    for index in range(1, len(widths)):
        if len(blocks[-1]) > 1 and used + _GAP + widths[index] > width:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(index)
        used += _GAP + widths[index]
    return blocks


def _render(table: TextTable, columns: Sequence[int]) -> Table:
    right = [bool(table.right) and table.right[index] for index in range(len(table.headers))]
    shown = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for index in columns:
        shown.add_column(
            Text(table.headers[index]),
            justify="right" if right[index] else "left",
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*(Text(row[index]) for index in columns))
    return shown
