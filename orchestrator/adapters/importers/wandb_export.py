"""Reading a table of runs: what W&B's runs table downloads as CSV, and tables of other tools.

Three forms are known:

- W&B's download: ``Name, State, Notes, User, Tags, Created, Runtime, Sweep, ...`` and a column for
  each key of config and summary that was shown. It does not say which is which, so parameters are
  named with ``--param``, unless the columns start with ``config.`` and ``summary.``.
- ``pandas.DataFrame({"summary": ..., "config": ..., "name": ...}).to_csv()``, as W&B's own
  documentation exports ``api.runs``: each cell is a dictionary as Python or JSON spells it.
  Python's form is read as literals alone (numbers, texts, lists, dictionaries, ``nan`` and
  ``inf``); nothing is evaluated.
- any other table with a header, one row a run, and ``--param``.

A cell is a number, ``true`` or ``false`` where it looks like one, else text; an empty cell is none.
Runs on the login node.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.contract.errors import UserError
from orchestrator.domain.imported_run import (
    METRICS,
    PARAMS,
    Imported,
    ImportedRun,
    RecordRules,
    name_of,
)
from orchestrator.domain.plain_text import one_line

MAX_CELL_CHARS = 2**20
MAX_COLUMNS = 5000
_WANDB = {"Name", "State", "Created", "Runtime", "User", "Sweep", "Tags", "Notes"}
# Other columns of W&B's table that are neither of config nor of summary.
_ITS_OWN = {"Notes", "User", "Tags", "Sweep", "Group", "Job Type", "Updated", "GitHub", "Report"}
_ITS_OWN |= {"Description", "Commit", "GPU Count", "GPU Type", "CPU Count", "Command", "Agent"}
_ITS_OWN |= {"OS", "Python Version", "Git Repo", "Unnamed: 0", ""}
_INTEGER = re.compile(r"[+-]?\d{1,4000}")
_WORDS = {"true": True, "false": False, "nan": math.nan, "infinity": math.inf, "inf": math.inf}
_WORDS |= {"-infinity": -math.inf, "-inf": -math.inf}


def read_table(data: bytes, rules: RecordRules) -> Imported:
    """Read a CSV file.

    Args:
        data: The file.
        rules: Which columns are parameters.

    Raises:
        UserError: It is no table.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"line {line}: not UTF-8; save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[str] = []
    runs: list[ImportedRun] = []
    seen: dict[str, int] = {}
    header: list[str] | None = None
    n_uneven = 0
    limit = csv.field_size_limit(MAX_CELL_CHARS)
    try:
        for cells in reader:
            if header is None:
                header = _check_header(cells)
                continue
            if not any(cells):
                continue
            if len(cells) != len(header):
                n_uneven += 1
                problems.append(
                    f"line {reader.line_num}: {len(cells)} cells, and the header has {len(header)}"
                )
                continue
            try:
                record = _record(header, cells)
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
                continue
            name = name_of(record) or f"line {reader.line_num}"
            seen[name] = seen.get(name, 0) + 1
            id_ = name if seen[name] == 1 else f"{name} #{seen[name]}"
            runs.append(rules.read(id_, record))
    except csv.Error as error:
        # What follows an unclosed quote cannot be told apart: nothing of it is guessed.
        problems.append(f"line {reader.line_num}: {error}; it and what follows is not read")
    finally:
        csv.field_size_limit(limit)
    if header is None:
        raise UserError("empty; it needs a header and a row for each run")
    if n_uneven > max(1, len(runs)):
        raise UserError(
            f"no table with commas: of its {n_uneven + len(runs)} rows {n_uneven} have another "
            f"number of cells than the header, {len(header)}; {problems[0]}"
        )
    is_wandb = len(_WANDB & set(header)) >= 3
    is_api = any(name in header for name in PARAMS) and any(name in header for name in METRICS)
    return Imported(
        "W&B export" if is_wandb or is_api else "table",
        tuple(runs),
        problems=tuple(problems),
        needs_params=", ".join(one_line(name, 40) for name in list(rules.unsplit)[:20]),
    )


def _check_header(cells: list[str]) -> list[str]:
    if len(cells) < 2 or len(cells) > MAX_COLUMNS:
        raise UserError(f"its first line has {len(cells)} columns; is it a table with commas?")
    twice = {name for name in cells if name and cells.count(name) > 1}
    if twice:
        raise UserError(f"two columns are called {one_line(min(twice), 60)!r}")
    return cells


def _record(header: list[str], cells: list[str]) -> dict[str, Any]:
    """Make a row a record, with ``config`` and ``summary`` where the columns say which is which."""
    record: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if not cell or name in _ITS_OWN:
            continue
        part, _, rest = name.partition(".")
        if part in ("config", "summary") and rest:
            record.setdefault(part, {})[rest] = parse_cell(cell)
        elif name in (*PARAMS, *METRICS) and cell.lstrip()[:1] == "{":
            record[name] = parse_dictionary(cell)
        else:
            record[name] = parse_cell(cell)
    return record


def parse_cell(cell: str) -> Any:
    """Read a cell as a number, a truth value or text."""
    text = cell.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    word = _WORDS.get(text.lower())
    if word is not None:
        return word
    try:
        return float(text) if "_" not in text else cell
    except ValueError:
        return cell


def parse_dictionary(cell: str) -> dict[str, Any]:
    """Read a dictionary as JSON or Python spells it.

    Raises:
        ValueError: It is neither.
    """
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        try:
            found = _literal(ast.parse(cell.strip(), mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
            words = str(error) if isinstance(error, ValueError) else "no dictionary"
            raise ValueError(f"{one_line(cell, 40)!r} cannot be read: {words}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{one_line(cell, 40)!r} is no dictionary")
    return found


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal; of anything that would have to be evaluated a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _literal(node.operand)
        if isinstance(value, (int, float)):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Name) and node.id in ("nan", "inf"):
        return math.nan if node.id == "nan" else math.inf
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        found: Mapping[str, Any] = {
            str(_literal(key)): _literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
        return found
    return one_line(ast.unparse(node), 200)
