r"""Writing a leaderboard as CSV and Markdown. Runs on the login node.

Each file is written aside and renamed, so a full disk leaves the old one. The same table gives the
same bytes, and files that hold it already are left alone.

**CSV** holds every row and column, numbers with all their digits. Text that a spreadsheet would
take for a formula gets a leading ``'`` (OWASP ASVS 5.0 1.2.10, CWE-1236); numbers are left alone.
Control characters but TAB and line ends, and what turns the direction of reading, are spelled as
Python spells them (``\x1b``), since files are shown by ``cat``. A
missing cell is empty, an empty text is ``""``, not-a-number is ``nan``; null and values that are no
scalars are spelled as JSON spells them. Read it with ``keep_default_na=False``, else pandas takes
the texts ``NA``, ``null`` and ``None`` for missing, and with ``dtype=str`` for columns of text that
looks like numbers::

    pandas.read_csv(path, keep_default_na=False, dtype={"trial": str})

**Markdown** is for people: the first rows and fewer digits.

Not here: Parquet. Importing pyarrow takes as long as reading and ranking ten thousand trials, at
every collect, so it is written where somebody asks for it: by ``exports.tables``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.contract.errors import CorruptRecord, OrchestratorError
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.domain.amounts import show_money
from orchestrator.domain.goodput_words import describe_allocated, has_lost, lost_share
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import BOOLEAN, FLOAT, INTEGER, TEXT, Column
from orchestrator.runtime import durable

if TYPE_CHECKING:  # its import takes longer than collecting ten thousand trials
    import pandas as pd

# More than a page shows; GitHub shows no Markdown beyond 512 kB.
MARKDOWN_RANKED, MARKDOWN_OTHERS = 200, 50
MARKDOWN_CELL_CHARS = 80
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)")
_NEEDS_QUOTES = re.compile('[",\r\n]|^\\s|\\s$')
# Texts joined by NUL of which none needs a change: words of harmless characters.
_IS_PLAIN = re.compile("(?:[A-Za-z0-9][A-Za-z0-9_.:/-]*\0)*[A-Za-z0-9][A-Za-z0-9_.:/-]*|")
_MARKDOWN = re.compile(r"[\\`*|~<>\[\]]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")

_SPELLINGS: dict[str, Callable[[Any], str]] = {
    FLOAT: repr,
    INTEGER: str,
    BOOLEAN: lambda cell: "true" if cell else "false",
}
# C0 but TAB, LF and CR, DEL, C1, and the marks, overrides and isolates of direction (UAX #9).
_ACTIVE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_EMPTY = {None: "", "": '""'}


def write_leaderboard(board: Leaderboard, sweep: SweepPaths, stamp: str | None = None) -> list[str]:
    """Write the leaderboard's files and return their paths.

    Args:
        board: What to write.
        sweep: Where to.
        stamp: Digest of all that ``board`` was made from. Files that were written with the same
            one, and are as they were left, are not written again. None always writes.

    Raises:
        OrchestratorError: A file could not be written; it is as it was before.
    """
    paths = [sweep.leaderboard("csv"), sweep.leaderboard("md")]
    stamp_path = f"{sweep.cache}/leaderboard.json"
    if stamp is not None and _read_stamp(stamp_path) == _describe_files(stamp, paths):
        return paths
    texts = (format_csv(board.table), format_markdown(board))
    try:
        durable.replace_all(
            [(path, text.encode("utf-8")) for path, text in zip(paths, texts, strict=True)]
        )
    except OSError as error:
        path, error.filename = error.filename, None
        raise OrchestratorError(
            f"{path}: not written, the old one is as it was: {explain(error)}"
        ) from None
    if stamp is not None:
        try:
            os.makedirs(sweep.cache, mode=0o700, exist_ok=True)
            durable.replace(stamp_path, dump_record(_describe_files(stamp, paths)))
        except OSError:
            pass  # they are written again the next time
    return paths


def _describe_files(stamp: str, paths: Sequence[str]) -> dict[str, Any]:
    """Say what was written: its stamp, by which version, and how the files look."""
    files: dict[str, Any] = {}
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        files[os.path.basename(path)] = [status.st_size, status.st_mtime_ns, status.st_mode]
    return {"stamp": stamp, "version": __version__, "files": files}


def _read_stamp(path: str) -> dict[str, Any] | None:
    try:
        return read_record(path)
    except (OSError, CorruptRecord):
        return None


def format_csv(table: Table | pd.DataFrame) -> str:
    """Format a leaderboard's table, or its frame, as CSV; see the module's docstring."""
    # Not DataFrame.to_csv: it cannot tell an empty text from a missing one, nor guard formulas,
    # and takes three times as long.
    header = ",".join(_still_text(str(name)) for name in table.columns)
    columns = [_csv_cells(table[name]) for name in table.columns]
    return "\n".join([header, *map(",".join, zip(*columns, strict=True))]) + "\n"


def format_markdown(board: Leaderboard) -> str:
    """Format the head of a leaderboard as Markdown, without the columns of constants."""
    table, n_ranked = board.table, board.n_ranked
    n_others = len(table) - n_ranked
    rows = [*range(min(n_ranked, MARKDOWN_RANKED))]
    rows += range(n_ranked, n_ranked + min(n_others, MARKDOWN_OTHERS))
    shown = table.without(board.constants).take(rows).without_empty()
    kept = shown.columns
    columns = [[_markdown_text(show_value(cell)) for cell in shown[name].cells] for name in kept]
    right = [shown[name].dtype != TEXT for name in kept]
    summary = board.summary
    lines = [f"# {_markdown_text(summary.name)}", ""]
    if summary.metric is not None:
        named = [f"{_markdown_text(name)}, {goal}" for name, goal in summary.objectives]
        front = f"; Pareto front with {'; '.join(named[1:])}" if named[1:] else ""
        lines += [f"Ranked by {named[0]}{front}.", ""]
        if board.standing.words:
            lines += [_markdown_text(board.standing.words, 600), ""]
    else:
        lines += ["No metric is named, so nothing is ranked.", ""]
    lines += [_markdown_text(f"{describe_counts(board)} {describe_usage(board)}".strip(), 2000), ""]
    lines.append(_markdown_row(_markdown_text(name) for name in kept))
    lines.append(_markdown_row("--:" if is_number else ":--" for is_number in right))
    lines += [_markdown_row(cells) for cells in zip(*columns, strict=True)]
    if len(shown) < len(table):
        lines += ["", f"… and {len(table) - len(shown):,} more in leaderboard.csv."]
    for name in board.constants:
        if len(table):
            value = _markdown_text(show_value(table[name].cells[0]))
            lines += ([""] if name == board.constants[0] else []) + [
                f"- {_markdown_text(name)}: {value}"
            ]
    return "\n".join(lines) + "\n"


def describe_counts(board: Leaderboard) -> str:
    """Say how many trials there are in which state."""
    if not board.counts:
        return "No trials."
    parts = ", ".join(f"{n:,} {state.value}" for state, n in board.counts.items())
    n = sum(board.counts.values())
    return f"{n:,} trial{'s' if n != 1 else ''}: {parts}."


def describe_usage(board: Leaderboard) -> str:
    """Say what the sweep used; empty before anything ran."""
    goodput = board.goodput
    if not goodput.allocated_ms:
        return ""
    money = show_money(board.usage.cost)
    lost = f", {lost_share(goodput)} of it lost" if has_lost(goodput) else ""
    return f"Used {describe_allocated(goodput)}{f', {money}' if money else ''}{lost}."


def show_value(value: object, digits: int = 5) -> str:
    """Show a cell to people: floats with so many digits, missing as nothing, text as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value)


def cell_values(column: Column | pd.Series[Any]) -> list[Any]:
    """Return a column's cells as Python values, None where there is none."""
    if isinstance(column, Column):
        return column.cells
    # The stubs' na_value does not know None.
    cells: list[Any] = column.to_numpy(dtype=object, na_value=None).tolist()  # type: ignore[call-overload]
    return cells


def _csv_cells(column: Column | pd.Series[Any]) -> list[str]:
    cells = cell_values(column)
    spell = _SPELLINGS.get(str(column.dtype), _still_text)
    if spell is not _still_text:
        if None not in cells:
            return list(map(spell, cells))
        return ["" if cell is None else spell(cell) for cell in cells]
    words = set(cells)
    if len(words) > len(cells) // 2 and _IS_PLAIN.fullmatch("\0".join(filter(None, cells))):
        return [cell if cell else _EMPTY[cell] for cell in cells]
    spelled = {word: "" if word is None else spell(word) for word in words}
    return [spelled[cell] for cell in cells]


def _still_text(text: str) -> str:
    """Spell a text as a CSV cell that no terminal obeys either."""
    if not text.isprintable():
        text = _ACTIVE.sub(lambda found: ascii(found[0])[1:-1], text)
    return csv_text(text)


def csv_text(text: str) -> str:
    """Spell a text as a CSV cell that no spreadsheet computes; numbers are left alone."""
    if not text:
        return '""'
    if text[0] in _FORMULA and not _NUMBER.fullmatch(text):
        text = "'" + text
    if _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _markdown_text(text: str, max_chars: int = MARKDOWN_CELL_CHARS) -> str:
    text = one_line(text, max_chars)
    return _MARKDOWN.sub(lambda found: "\\" + found[0], text)


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
