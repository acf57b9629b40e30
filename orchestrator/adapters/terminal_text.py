"""Lines of text for a terminal: wrapped, set side by side, bold or dim. Runs on the login node.

For what is printed once and goes on below the prompt. Where a screen is drawn again and again there
is rich's console, whose import takes longer than ranking thousands of trials; of rich only the
widths of characters are used here. Nothing here prints, and texts are shown as they are: who gives
foreign ones has made them plain (``plain_text``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

BOLD, DIM = "\x1b[1m", "\x1b[2m"
_PLAIN = "\x1b[0m"
GAP = 2


class Line(NamedTuple):
    """One line."""

    text: str
    """What it says; no line breaks."""
    style: str = ""
    """``BOLD``, ``DIM``, or empty."""


def wrap(text: str, width: int) -> list[str]:
    """Break a text at its spaces into lines of at most ``width`` columns; longer words are cut."""
    lines = []
    for paragraph in text.split("\n"):
        lines.append("")
        for word in paragraph.split(" "):
            joined = f"{lines[-1]} {word}" if lines[-1] else word
            if cell_len(joined) <= width:
                lines[-1] = joined
                continue
            if lines[-1]:
                lines.append("")
            while cell_len(word) > width > 1:
                head = set_cell_size(word, width)
                if not word.startswith(head):  # a space stands for half of a wide character
                    head = head[:-1]
                head = head or word[0]  # whatever it is, it shall get shorter
                lines[-1] = head
                lines.append("")
                word = word[len(head) :]
            lines[-1] = word
    return lines


def cut(text: str, width: int) -> str:
    """Cut a text to ``width`` columns; an ellipsis says so."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def join_columns(
    columns: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]
) -> list[str]:
    """Set columns side by side, ``GAP`` apart.

    Args:
        columns: Their cells, as many in each.
        widths: Of each, at least that of its widest cell.
        right: Whether its cells stand at its right edge.
    """
    padded = []
    for cells, width, is_right in zip(columns, widths, right, strict=True):
        gaps = [" " * (width - cell_len(cell)) for cell in cells]
        pairs = zip(gaps, cells, strict=True)
        padded.append([gap + cell if is_right else cell + gap for gap, cell in pairs])
    return [(" " * GAP).join(cells).rstrip() for cells in zip(*padded, strict=True)]


def paint(lines: Iterable[Line], is_terminal: bool) -> str:
    """Join lines, in their styles if a terminal is to show them."""
    is_styled = is_terminal and os.environ.get("TERM") not in (None, "", "dumb", "unknown")
    return "".join(
        f"{style}{text}{_PLAIN}\n" if style and is_styled else f"{text}\n" for text, style in lines
    )
