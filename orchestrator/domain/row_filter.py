"""Keeping the trials that meet a condition on the leaderboard's columns: ``--where``.

Pure; called by ``usecases.collect``. Runs on the login node.

The condition is an expression of ``domain.expressions`` over the columns by their names; a name
that is no identifier is written ``col("eval/loss")``. Dotted names stand as they are. A cell that
is missing, or not a number where a metric should be one, is ``none``.

With repeats a condition is about configurations: one is kept with all of its trials if each of its
ranked repeats meets it; else the mean would be taken over those repeats that happen to. A
configuration without a ranked repeat is kept with those of its trials that meet it.

Runs on fresh seeds, which confirm and do not choose, always stay, and are not counted.

What meets it, what does not, and what has no value there are counted apart: unknown is not false,
nor unequal. Where nothing meets it, the words say what the columns hold.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.expressions import Expression, compile_expression
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest

OPTION = "--where"
# Columns, and values of each, that are told where nothing meets a condition.
_MAX_TOLD = 5


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
    why_empty: str = ""
    """Why nothing meets it, as far as that can be told; empty where something does."""

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
        why = f"; nothing meets it: {self.why_empty}" if self.why_empty else ""
        return f"{words}{', '.join(parts)} (leaderboard.csv has them all){why}"


def filter_rows(board: Leaderboard, condition: str) -> Filtered:
    """Find the trials that meet a condition.

    Raises:
        UserError: It is no condition, names an unknown column, or fails for every trial.
    """
    names = list(board.table.columns)
    optional = {*board.parameters, *board.constants}
    expression = compile_condition(condition, names, optional)
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
    ranked = {groups[name] for name in trials[: board.n_ranked]}
    meet = {
        name
        for name, verdict in zip(trials, met, strict=True)
        if verdicts.get(groups[name]) is True and (verdict is True or groups[name] in ranked)
    }
    return Filtered(
        condition=one_line(condition, 100),
        kept=board.fresh | meet,
        n_unmet=sum(verdict is False for verdict in verdicts.values()),
        n_unknown=sum(verdict is None for verdict in verdicts.values()),
        what="configuration" if board.groups else "trial",
        why_empty="" if meet or not trials else _why_empty(board, condition, met, used, columns),
    )


def _why_empty(
    board: Leaderboard,
    condition: str,
    met: Sequence[bool | None],
    used: Sequence[str],
    columns: Sequence[Sequence[Any]],
) -> str:
    """Say why nothing meets a condition: that of repeats each must, or what its columns hold."""
    n_met = sum(verdict is True for verdict in met[: board.n_ranked])
    if n_met:
        verb = "does" if n_met == 1 else "do"
        return f"{_count(n_met, 'repeat')} {verb}, but not each ranked repeat of a configuration"
    asked = [
        node.value
        for node in ast.walk(ast.parse(condition.strip(), mode="eval"))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    words = [_tell_cells(name, cells, asked) for name, cells in zip(used, columns, strict=True)]
    return "; ".join(words[:_MAX_TOLD])


def _tell_cells(name: str, cells: Sequence[Any], asked: Sequence[str]) -> str:
    known = list(dict.fromkeys(cell for cell in cells if cell is not None))
    shown = one_line(name, 60)
    numbers = [cell for cell in known if isinstance(cell, (int, float)) and cell is not True]
    if not known:
        return f"{shown} has no value"
    if len(numbers) == len(known) > _MAX_TOLD:
        return f"{shown} is from {min(numbers):g} to {max(numbers):g}"
    texts = [one_line(str(cell), 60) for cell in known]
    hint = next((found for text in asked if (found := nearest(text, texts))), "")
    more = f" and {len(texts) - _MAX_TOLD:,} more" if len(texts) > _MAX_TOLD else ""
    return f"{hint}{shown} is {', '.join(texts[:_MAX_TOLD])}{more}"


def compile_condition(
    condition: str, names: Sequence[str], optional: Collection[str] = ()
) -> Expression:
    """Check a condition over columns.

    Args:
        condition: As it was written.
        names: The columns.
        optional: Those where no value is one too, as of a parameter that is inactive.

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
    expression = compile_expression(source, known=names, key=OPTION, file="", line=None)
    guarded = ast.unparse(_Equalities(optional).visit(ast.parse(source.strip(), mode="eval")))
    found = compile_expression(guarded, known=names, key=OPTION, file="", line=None)
    return replace(found, source=expression.source)


class _Equalities(ast.NodeTransformer):
    """Makes ``a == b`` and ``a != b`` fail, as ``a < b`` does, where a column has no value.

    A comparison with ``none`` itself is left alone, and so are optional columns.
    """

    def __init__(self, optional: Collection[str]):
        self.optional = optional

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        sides = [node.left, *node.comparators]
        if not all(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops) or any(
            ast.unparse(side).lower() in ("none", "null") for side in sides
        ):
            return node
        columns = [side for side in sides if self._is_guarded(side)]
        if not columns:
            return node
        none = ast.Constant(None)
        known = [ast.Compare(column, [ast.IsNot()], [none]) for column in columns]
        fails = ast.Compare(columns[0], [ast.Lt()], [none])
        return ast.IfExp(ast.BoolOp(ast.And(), [*known, ast.Constant(True)]), node, fails)

    def _is_guarded(self, side: ast.expr) -> bool:
        if isinstance(side, ast.Subscript):  # as ``_Columns`` writes them
            name = side.slice.value if isinstance(side.slice, ast.Constant) else ""
            return name not in self.optional
        return isinstance(side, (ast.Name, ast.Attribute)) and (
            ast.unparse(side) not in self.optional
        )


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
    others: dict[str, list[bool | None]] = {}
    for index, (group, trial, verdict) in enumerate(zip(board.groups, trials, met, strict=True)):
        if index < board.n_ranked:
            ranked.setdefault(group, []).append(verdict)
        elif trial not in board.fresh:
            others.setdefault(group, []).append(verdict)
    found = {
        group: True if True in given else False if False in given else None
        for group, given in others.items()
    }
    for group, given in ranked.items():
        found[group] = False if False in given else None if None in given else True
    return found


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"
