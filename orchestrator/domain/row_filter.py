"""Keeping the trials that meet a condition on the leaderboard's columns: ``--where``.

Pure; called by ``usecases.collect``. Runs on the login node.

The condition is an expression of ``domain.expressions`` over the columns by their names; a name
that is no identifier is written ``col("eval/loss")``. Dotted names stand as they are. A cell that
is missing, or not a number where a metric should be one, is ``none``.

With repeats a condition is about configurations: one is kept with all of its trials if each of its
ranked repeats meets it; else the mean would be taken over those repeats that happen to. A
configuration without a ranked repeat goes by its first trial.

Runs on fresh seeds, which confirm and do not choose, always stay, and are not counted.

What meets it, what does not, and what has no value there are counted apart: unknown is not false.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.expressions import Expression, compile_expression
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest

OPTION = "--where"


@dataclass(frozen=True)
class Filtered:
    """What a condition leaves of a leaderboard."""

    condition: str
    """As it was written."""
    kept: frozenset[str]
    """Names of the trials that meet it."""
    n_unmet: int
    """Trials, or configurations, that do not."""
    n_unknown: int
    """And those that have no value there."""
    what: str
    """What is counted: ``trial`` or ``configuration``."""

    @property
    def words(self) -> str:
        """Say in one line what was left out."""
        words = f"where {self.condition}: "
        if not self.n_unmet and not self.n_unknown:
            return words + "all meet it"
        parts = []
        if self.n_unmet:
            verb = "does" if self.n_unmet == 1 else "do"
            parts.append(f"{_count(self.n_unmet, self.what)} {verb} not meet it")
        if self.n_unknown:
            verb = "has" if self.n_unknown == 1 else "have"
            parts.append(f"{_count(self.n_unknown, self.what)} {verb} no value there")
        return f"{words}{', '.join(parts)} (leaderboard.csv has them all)"


def filter_rows(board: Leaderboard, condition: str) -> Filtered:
    """Find the trials that meet a condition.

    Raises:
        UserError: It is no condition, names an unknown column, or fails for every trial.
    """
    names = list(board.table.columns)
    expression = compile_condition(condition, names)
    used = sorted(expression.names)
    columns = [_cells(board, name) for name in used]
    rows = [dict(zip(used, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if not used:
        rows = [{} for _ in range(len(board.table))]
    met, failures = _evaluate(expression, rows)
    if failures and all(verdict is None for verdict in met):
        raise next(iter(failures.values()))  # a mistake in the condition, not in a cell
    verdicts = _by_group(board, met)
    trials = board.table["trial"].cells
    groups: Mapping[str, str] = dict(zip(trials, board.groups or trials, strict=True))
    return Filtered(
        condition=one_line(condition, 100),
        kept=board.fresh | {name for name in trials if verdicts.get(groups[name]) is True},
        n_unmet=sum(verdict is False for verdict in verdicts.values()),
        n_unknown=sum(verdict is None for verdict in verdicts.values()),
        what="configuration" if board.groups else "trial",
    )


def compile_condition(condition: str, names: Sequence[str]) -> Expression:
    """Check a condition over columns.

    Raises:
        UserError: It is none; an unknown column is named with the nearest known one.
    """
    source = condition
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # said below, with a hint
    else:
        changed = _Columns(names).visit(tree)
        source = condition if changed is None else ast.unparse(changed)
    return compile_expression(source, known=names, key=OPTION, file="", line=None)


class _Columns(ast.NodeTransformer):
    """Turns ``col("a/b")`` into ``params['a/b']``, which expressions know."""

    def __init__(self, names: Sequence[str]):
        self.names = names

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_column = isinstance(node.func, ast.Name) and node.func.id == "col"
        if not is_column or "col" in self.names:
            return self.generic_visit(node)
        name = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
            raise UserError(f'{OPTION}: col takes one quoted name, such as col("eval/loss")')
        if name.value not in self.names:
            hint = nearest(name.value, self.names)
            raise UserError(
                f"{OPTION}: no column {name.value!r}; {hint}"
                f"columns are {', '.join(self.names[:40])}"
            )
        return ast.Subscript(ast.Name("params", ast.Load()), name, ast.Load())


def _cells(board: Leaderboard, name: str) -> Sequence[Any]:
    """Return a column as plain values, None where there is none."""
    cells: list[Any]
    if name in board.mixed:
        cells = [
            cell if isinstance(cell, (str, bool, int, float)) else None
            for cell in board.mixed[name]
        ]
    else:
        cells = board.table[name].cells
    return [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]


def _evaluate(
    expression: Expression, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[bool | None], dict[int, SpecError]]:
    """Evaluate a condition for each row; None, and the error, where it cannot be."""
    met: list[bool | None] = []
    failures: dict[int, SpecError] = {}
    for index, values in enumerate(rows):
        try:
            met.append(expression.is_true(values))
        except SpecError as error:
            met.append(None)
            if None not in values.values():
                failures[index] = error
    return met, failures


def _by_group(board: Leaderboard, met: Sequence[bool | None]) -> dict[str, bool | None]:
    """Return the verdict on each configuration; without repeats on each trial."""
    trials = board.table["trial"].cells
    if not board.groups:
        verdicts = dict(zip(trials, met, strict=True))
        return {name: verdict for name, verdict in verdicts.items() if name not in board.fresh}
    ranked: dict[str, list[bool | None]] = {}
    others: dict[str, tuple[str, bool | None]] = {}
    for index, (group, trial, verdict) in enumerate(zip(board.groups, trials, met, strict=True)):
        if index < board.n_ranked:
            ranked.setdefault(group, []).append(verdict)
        elif trial not in board.fresh and (group not in others or trial < others[group][0]):
            others[group] = (trial, verdict)
    found = {group: verdict for group, (_, verdict) in others.items()}
    for group, given in ranked.items():
        found[group] = False if False in given else None if None in given else True
    return found


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"
