"""A leaderboard as JSON columns for the report's page. Runs on the login node; writes nothing.

The cells are those of ``leaderboard.csv``, so that the page's copy of the table is that file to the
byte: floats by their shortest spelling, which JavaScript reads back to the same bits; numbers that
JSON or JavaScript does not know (nan, inf, integers beyond 2**53) as text. A column of few distinct
values is sent as those and an index for each row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.domain.confirmed_board import CONFIRMED_COLUMNS
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.typed_columns import BOOLEAN, FLOAT, INTEGER, TEXT

_KINDS = {FLOAT: "number", INTEGER: "integer", BOOLEAN: "boolean", TEXT: "text"}
# Integers beyond this lose digits in JavaScript.
_EXACT = 2**53
# Beside the objective and the parameters; the others can be switched on.
_SHOWN_METRICS, _SHOWN_PARAMETERS = 4, 12
_SHOWN_OTHERS = frozenset(
    (
        *("rank", "tie", "pareto", "partial", "trial", "state", "repeats_done", "attempts", "note"),
        *("confirmed_rank", "confirmed_n"),
    )
)


def describe_table(board: Leaderboard) -> dict[str, Any]:
    """Describe every row and column of a leaderboard as JSON values.

    Returns:
        ``n`` rows; ``columns``, each with ``name``, ``kind`` (number, integer, boolean or text),
        ``role``, ``shown`` (at first) and ``values``, or ``words`` and ``codes``, where -1 is a
        missing cell; ``leads``, the rows that stand for a configuration.
    """
    table = board.table
    roles = _roles(board)
    columns = []
    for name in table.columns:
        dtype, cells = table[name]
        kind, role = _KINDS[dtype], roles.get(name, "other")
        values = _json_cells(cells, kind)
        columns.append(
            {
                "name": name,
                "kind": kind,
                "role": role,
                "shown": _is_shown(board, name, role, values),
                **_pack(values),
            }
        )
    leads = list(board.leads) + list(range(board.n_ranked, len(table)))
    return {"n": len(table), "columns": columns, "leads": leads if board.summary.seeded else None}


def _roles(board: Leaderboard) -> dict[str, str]:
    roles = dict.fromkeys(board.parameters, "parameter")
    roles |= dict.fromkeys(board.metrics, "metric")
    roles |= dict.fromkeys(board.constants, "constant")
    roles |= dict.fromkeys(board.costs, "cost")
    if board.objective is not None:
        for suffix in ("_mean", "_ci95_low", "_ci95_high"):
            roles.setdefault(f"{board.objective}{suffix}", "score")
            if f"confirmed{suffix}" in CONFIRMED_COLUMNS:
                roles[f"confirmed{suffix}"] = "score"
        roles[board.objective] = "score"
    return roles


def _is_shown(board: Leaderboard, name: str, role: str, values: Sequence[Any]) -> bool:
    if all(value is None for value in values):
        return False
    if role == "parameter":
        return name in board.parameters[:_SHOWN_PARAMETERS]
    if role == "metric":
        return name in board.metrics[:_SHOWN_METRICS]
    return role in ("score", "cost") or name in _SHOWN_OTHERS


def _json_cells(cells: Sequence[Any], kind: str) -> list[Any]:
    if kind == "number":
        return [c if c is None or math.isfinite(c) else repr(c) for c in cells]
    if kind == "integer":
        return [c if c is None or -_EXACT <= c <= _EXACT else str(c) for c in cells]
    return list(cells)


def _pack(values: list[Any]) -> dict[str, Any]:
    """Send each distinct value once where that is shorter."""
    places: dict[Any, int] = {}
    # -0.0 equals 0.0, and 1 equals True: what is told apart by its spelling is not merged.
    codes = [-1 if v is None else places.setdefault(repr(v), len(places)) for v in values]
    if len(places) > max(1, len(values) // 8):
        return {"values": values}
    words: dict[int, Any] = {}
    for code, value in zip(codes, values, strict=True):
        words.setdefault(code, value)
    return {"words": [words[code] for code in range(len(places))], "codes": codes}
