"""Gathering a report: a sweep is read once, ranked, and made into one page.

Runs on the login node. It asks Slurm as ``status`` does, and reports without an answer, too. A
report in the sweep's own folder comes with its leaderboard's files, written from the same reading,
so that page and table agree; one written elsewhere leaves the folder as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator import __version__
from orchestrator.adapters.leaderboard_files import describe_counts, describe_usage
from orchestrator.adapters.report_html import read_assets, render_report
from orchestrator.adapters.report_table import describe_table
from orchestrator.contract.errors import OrchestratorError
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.report_document import ReportDocument
from orchestrator.domain.report_methods import describe_methods
from orchestrator.runtime import durable
from orchestrator.usecases.collect import collect
from orchestrator.usecases.costs import read_costs
from orchestrator.usecases.failures import read_failures
from orchestrator.usecases.report_contenders import (
    describe_best,
    fresh_table,
    show_values,
    tied_table,
)
from orchestrator.usecases.report_environment import read_environment, read_spec_text
from orchestrator.usecases.report_figures import build_figures
from orchestrator.usecases.report_input import ReportInput
from orchestrator.usecases.vanished import observe_results

MAX_PROBLEMS = 20
# Groups of failures that come with an excerpt of a log.
MAX_LOGS = 30


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
    observation = observe_results(sweep)
    now = datetime.now(UTC)
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        now,
        scan=observation.scan,
        gone=observation.gone,
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
        best=describe_best(board, it.sweep, hint),
        fresh=fresh_table(board),
        tied=tied_table(board),
        constants=show_values(board, 0, board.constants) if len(board.table) else (),
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


def _problems(it: ReportInput) -> list[str]:
    # Both name what the folder of trials lacks or should not hold.
    found = list(dict.fromkeys([*it.observation.problems, *it.collection.problems]))
    shown = found[:MAX_PROBLEMS]
    if it.observation.unreachable is not None:
        why = it.observation.unreachable
        shown.insert(0, f"Slurm did not answer, so queued trials show as unknown: {why}")
    if len(found) > MAX_PROBLEMS:
        shown.append(f"and {len(found) - MAX_PROBLEMS} more problems; make collect names them")
    return shown
