"""Gathering a report: a sweep is read once, ranked, and made into one page.

Runs on the login node. It asks Slurm as ``status`` does, and reports without an answer, too. A
report in the sweep's own folder comes with its leaderboard's files, written from the same reading,
so that page and table agree; one written elsewhere leaves the folder as it is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator import __version__
from orchestrator.adapters.leaderboard_files import describe_counts, describe_usage, show_value
from orchestrator.adapters.report_html import read_assets, render_report
from orchestrator.adapters.report_table import describe_table
from orchestrator.contract.errors import OrchestratorError
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.report_document import Contender, ReportDocument, ShownValue
from orchestrator.domain.report_methods import describe_methods
from orchestrator.domain.text_table import TextTable
from orchestrator.domain.typed_columns import FLOAT, INTEGER
from orchestrator.runtime import durable
from orchestrator.usecases.collect import collect
from orchestrator.usecases.costs import read_costs
from orchestrator.usecases.failures import read_failures
from orchestrator.usecases.observe import observe
from orchestrator.usecases.report_environment import read_environment, read_spec_text
from orchestrator.usecases.report_figures import build_figures
from orchestrator.usecases.report_input import ReportInput

# Beside the first place; the table has them all.
MAX_TIED = 10
MAX_PROBLEMS = 20
# Groups of failures that come with an excerpt of a log.
MAX_LOGS = 30
# What people read; all digits stand in the table and the tooltip.
DIGITS = 6


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    path: str
    """The page."""
    size_bytes: int
    """Of the page."""
    document: ReportDocument
    """What it says."""
    input: ReportInput
    """What it was made of."""


def make_report(sweep: SweepPaths, output: str | None = None, hint: str = "") -> Report:
    """Read a sweep and write its report.

    Args:
        sweep: Which.
        output: Where to; None: into the sweep's folder, with the leaderboard's files.
        hint: What make needs to be told of the results folder, as of ``cli.arguments``.

    Raises:
        UserError: There is no such sweep.
        OrchestratorError: It could not be written; an older one is as it was.
    """
    it = read_input(sweep, write_files=output is None)
    document = describe(it, hint)
    page = render_report(document, read_assets())
    path = sweep.report if output is None else output
    try:
        durable.replace(path, page)
    except OSError as error:
        error.filename = error.filename2 = None
        raise OrchestratorError(f"{path}: not written: {explain(error)}") from None
    return Report(path, len(page), document, it)


def read_input(sweep: SweepPaths, *, write_files: bool) -> ReportInput:
    """Look at a sweep once, for all parts of a report."""
    observation = observe(sweep)
    now = datetime.now(UTC)
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        now,
        scan=observation.scan,
        write_files=write_files,
    )
    return ReportInput(sweep, observation, collection, now.timestamp())


def describe(it: ReportInput, hint: str = "") -> ReportDocument:
    """Say in words and tables what a sweep came to."""
    board = it.collection.board
    return ReportDocument(
        name=board.summary.name or it.sweep.name,
        objective=_objective(board),
        standing=board.standing,
        facts=[text for text in (describe_counts(board), describe_usage(board)) if text],
        at=datetime.fromtimestamp(it.now_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        version=__version__,
        table=describe_table(board),
        best=_best(board, it.sweep, hint),
        tied=_tied(board),
        constants=_values(board, 0, board.constants) if len(board.table) else (),
        costs=read_costs(it),
        figures=build_figures(it),
        failures=read_failures(it.sweep, it.observation, max_logs=MAX_LOGS),
        environment=read_environment(it.sweep, it.observation.trials),
        spec=read_spec_text(it.sweep),
        methods=describe_methods(board),
        problems=_problems(it),
    )


def _objective(board: Leaderboard) -> str:
    if board.summary.metric is None:
        return "No metric is named, so nothing is ranked."
    verbs = {"minimize": "minimized", "maximize": "maximized"}
    others = [f"{name} ({verbs.get(goal, goal)})" for name, goal in board.objectives[1:]]
    beside = f"; beside it {', '.join(others)}" if others else ""
    return f"Ranked by {board.summary.metric}, {verbs[board.summary.goal]}{beside}."


def _best(board: Leaderboard, sweep: SweepPaths, hint: str) -> Contender | None:
    if not board.leads:
        return None
    row = board.leads[0]
    names = board.table["trial"].cells
    end = board.leads[1] if len(board.leads) > 1 else board.n_ranked
    trial = names[row]
    number = trial.partition("-")[0]
    chosen = str(int(number)) if number.isdecimal() and number.isascii() else trial
    return Contender(
        trial=trial,
        repeats=names[row:end],
        scores=_scores(board, row),
        parameters=_values(board, row, board.searched),
        metrics=_values(board, row, board.metrics),
        command=f"make reproduce SWEEP={shlex.quote(sweep.name)}{hint} TRIAL={shlex.quote(chosen)}",
        script=os.path.relpath(TrialPaths(f"{sweep.trials}/{trial}").script, sweep.root),
    )


def _scores(board: Leaderboard, row: int) -> list[ShownValue]:
    """Say how good a configuration is: the objective, over repeats its mean and interval."""
    columns = _score_columns(board)
    if not board.summary.seeded:
        return _values(board, row, columns)
    cells = {name: board.table[name].cells[row] for name in columns}
    of = board.objective or ""
    low, high = cells.pop(f"{of}_ci95_low", None), cells.pop(f"{of}_ci95_high", None)
    n, n_all = cells.pop("repeats_done", None), cells.pop("repeats", None)
    shown = [_value(name, cell) for name, cell in cells.items() if cell is not None]
    if low is not None and high is not None:
        text, full = (f"{say(low)} to {say(high)}" for say in (_short, _full))
        shown.insert(1, ShownValue("95 % interval of it", text, full))
    count = f"{n} of {n_all}"
    return [*shown, ShownValue("repeats done", count, count)]


def _score_columns(board: Leaderboard) -> list[str]:
    of = board.objective or ""
    wanted = [of]
    if board.summary.seeded:
        wanted = [f"{of}_mean", f"{of}_ci95_low", f"{of}_ci95_high", "repeats_done", "repeats"]
    wanted += [name for name, _ in board.objectives[1:]]
    return [name for name in dict.fromkeys(wanted) if name in board.table]


def _values(board: Leaderboard, row: int, columns: Sequence[str]) -> list[ShownValue]:
    cells = [(name, board.table[name].cells[row]) for name in columns]
    return [_value(name, cell) for name, cell in cells if cell is not None]


def _value(name: str, cell: Any) -> ShownValue:
    return ShownValue(name, _short(cell), _full(cell))


def _short(cell: Any) -> str:
    return show_value(cell, DIGITS)


def _full(cell: Any) -> str:
    return repr(cell) if isinstance(cell, float) else show_value(cell)


def _tied(board: Leaderboard) -> TextTable | None:
    """List the configurations that share the first place, or cannot be told from it."""
    table = board.table
    ranks = table["rank"].cells
    ties = table["tie"].cells if "tie" in table else [None] * len(table)
    rows = [row for row in board.leads[1:] if ranks[row] == 1 or ties[row] == 1]
    if not rows:
        return None
    scores = [name for name in _score_columns(board) if name not in ("repeats_done", "repeats")]
    columns = ["rank", "trial", *scores, *board.searched]
    cells = [[table[name].cells[row] for row in rows[:MAX_TIED]] for name in columns]
    more = len(rows) - MAX_TIED
    notes = [f"And {more} more; the table below has them all."] if more > 0 else []
    title = "Cannot be told from it" if "tie" in table else "As good"
    return TextTable(
        f"{title}: {len(rows)} more configuration{'' if len(rows) == 1 else 's'}",
        columns,
        [[_short(cell) for cell in line] for line in zip(*cells, strict=True)],
        right=[table[name].dtype in (INTEGER, FLOAT) for name in columns],
        notes=notes,
    )


def _problems(it: ReportInput) -> list[str]:
    found = [*it.observation.problems, *it.collection.problems]
    shown = found[:MAX_PROBLEMS]
    if it.observation.unreachable is not None:
        why = it.observation.unreachable
        shown.insert(0, f"Slurm did not answer, so queued trials show as unknown: {why}")
    if len(found) > MAX_PROBLEMS:
        shown.append(f"and {len(found) - MAX_PROBLEMS} more problems; make collect names them")
    return shown
