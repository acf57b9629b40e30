"""Columns made of rows of named values: gathered, named once each, parted by whether they vary.

Pure: mappings in, lists of cells out, ``MISSING`` where a row has none. Knows no dtypes; those are
``typed_columns``'. Called by ``leaderboard``; runs on the login node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.typed_columns import MISSING, clean_text

# A program that reports a new key each step would make a table of a million columns.
MAX_COLUMNS = 500


def flatten_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name nested parameters with dots; an empty group stays as it is."""
    if dict not in map(type, params.values()):
        return params
    flat: dict[str, Any] = {}
    stack = [("", iter(params.items()))]
    while stack:
        prefix, items = stack[-1]
        for name, value in items:
            if type(value) is dict and value:
                stack.append((f"{prefix}{name}.", iter(value.items())))
                break
            flat[prefix + name] = value
        else:
            stack.pop()
    return flat


def gather_columns(
    dicts: Sequence[Mapping[str, Any]],
    problems: list[str],
    what: str,
    always: str | None = None,
) -> dict[str, list[Any]]:
    """Turn rows into columns, named in the order in which the rows bring them up."""
    n = len(dicts)
    first = list(dicts[0]) if n else []
    if len(first) < MAX_COLUMNS and all(list(values) == first for values in dicts):
        same = {name: [values[name] for values in dicts] for name in first}
        return same if always is None or always in same else {always: [MISSING] * n, **same}
    columns: dict[str, list[Any]] = {} if always is None else {always: [MISSING] * n}
    left_out: set[str] = set()
    for index, values in enumerate(dicts):
        for name, value in values.items():
            cells = columns.get(name)
            if cells is None:
                if len(columns) >= MAX_COLUMNS:
                    left_out.add(name)
                    continue
                cells = columns[name] = [MISSING] * n
            cells[index] = value
    if left_out:
        problems.append(
            f"leaderboard: {len(left_out)} more {what} than the {MAX_COLUMNS} shown; "
            "the others stand in the trials' own files"
        )
    return columns


class ColumnNames:
    """Names of columns, each given once."""

    def __init__(self) -> None:
        """Start with no name taken."""
        self._taken: set[str] = set()

    def fix(self, name: str) -> str:
        """Take a name as it is, before others can, and return it."""
        self._taken.add(name)
        return name

    def give(self, name: str, kind: str, suffixes: Sequence[str] = ()) -> str:
        """Return a free name: the given one, or one with ``kind`` in front where it is taken.

        Args:
            name: The name.
            kind: What it names.
            suffixes: The name with each of them is taken with it.
        """
        name = clean_text(name)[: 200 - max(map(len, suffixes), default=0)]

        def is_taken() -> bool:
            return any(name + suffix in self._taken for suffix in ("", *suffixes))

        if is_taken() or not name.strip():  # a column of no name cannot be asked for
            name = f"{kind}.{name}"
        while is_taken():
            name += "_"
        self._taken.update(name + suffix for suffix in ("", *suffixes))
        return name


def split_varying(
    columns: Mapping[str, list[Any]], declared: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Part the parameters into those that vary, the declared ones first, and the constants."""
    varying = [name for name in declared if name in columns]
    declared_names = set(varying)
    constant: list[str] = []
    for name, cells in columns.items():
        if name not in declared_names:
            (constant if _is_constant(cells) else varying).append(name)
    return varying, constant


def _is_constant(cells: Sequence[Any]) -> bool:
    try:
        return all(cell is cells[0] or cell == cells[0] for cell in cells)
    except RecursionError:  # nested without end
        return False
