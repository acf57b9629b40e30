"""``orchestrator collect``: merge what the trials wrote into a ranked leaderboard."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters.leaderboard_table import IN_FILE, render_leaderboard
from orchestrator.adapters.terminal_text import DIM, Line, paint, wrap
from orchestrator.cli.arguments import make_parser, show_path, split_words
from orchestrator.cli.import_options import add_import_options, find_or_import
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import (
    EXIT_OK,
    EXIT_TRIALS_FAILED,
    OrchestratorError,
    UserError,
)
from orchestrator.contract.states import TrialState
from orchestrator.domain.goodput import goodput_record
from orchestrator.domain.goodput_words import describe_goodput
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.sweep_summary import MAXIMIZE, MINIMIZE
from orchestrator.domain.table import Table
from orchestrator.usecases.collect import Collection, collect, write_files_of
from orchestrator.usecases.ratings import Ratings, import_ratings, load_ratings
from orchestrator.usecases.vanished import observe_results

DESCRIPTION = """\
Merge the results of a sweep's trials into results/<sweep>/leaderboard.csv and
.md, and print the best. Works while the sweep runs; failed and unfinished
trials are shown below the ranked ones, never dropped.
"""
# Of files that could not be used, alike ones once; the rest is counted.
MAX_PROBLEMS = 50
MAX_PROBLEM_CHARS = 500
# Of rows and columns that are not shown where no file can be written.
NO_FILE = "(ARGS=--json has all)"


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if trials failed, or the files could not be written."""
    parser = make_parser("collect", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--top", type=int, default=20, metavar="N", help="rows to print (default: 20)"
    )
    parser.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="NAME:GOAL",
        help="rank by this metric instead, such as acc:maximize; again for a Pareto front",
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="print and rank only trials that meet it: 'gpu_hours < 5 and col(\"eval/x\") > 0'",
    )
    parser.add_argument(
        "--ratings",
        action="append",
        default=[],
        metavar="FILE",
        help="take over people's ratings (CSV); may be given again",
    )
    add_import_options(parser)
    options = parser.parse_intermixed_args(list(argv))
    if options.top < 1:
        raise UserError(f"--top {options.top}: use a number of at least 1")
    objectives = read_objectives(options.objective)
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"collect takes no overrides: {overrides[0]}")
    sweep = find_or_import(options, word, objectives)
    if options.source is not None:
        objectives = []  # they are its own now
    # Before Slurm is asked: a mistake in a table is said at once.
    ratings = import_ratings(sweep, options.ratings) if options.ratings else load_ratings(sweep)
    observation = observe_results(sweep)
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        datetime.now(UTC),
        scan=observation.scan,
        gone=observation.gone,
        ratings=ratings,
        objectives=objectives,
        where=options.where,
        write_files=False,
    )
    unshown: OSError | None = None
    is_in_files = False
    if not options.json:
        try:  # nobody waits for the files to see it
            is_in_files = _show(collection, options.top, os.access(sweep.root, os.W_OK | os.X_OK))
        except OSError as error:  # `| head`, a full disk below stdout: the files come all the same
            unshown = error
    is_unwritten = False
    try:
        collection = write_files_of(collection, sweep)
    except OrchestratorError as error:  # an archive, a full disk: the table is good all the same
        is_unwritten = True
        rest = "; what is not shown above is in no file: ARGS=--json has it" if is_in_files else ""
        collection = replace(collection, problems=[f"{error}{rest}", *collection.problems])
    if options.json:
        _print_json(collection, observation.unreachable, ratings)
    for path in () if options.json or unshown is not None else collection.paths:
        print(f"written: {show_path(path)}")
    if collection.removed and not options.json and unshown is None:
        print(f"removed: {show_path(sweep.best)}: {collection.removed}")
    _complain(collection, observation.unreachable)
    if unshown is not None:
        raise unshown
    failed = collection.counts.get(TrialState.FAILED, 0)
    return EXIT_TRIALS_FAILED if failed or is_unwritten else EXIT_OK


def _show(collection: Collection, top: int, can_write: bool) -> bool:
    """Print the table, and tell whether it says that the rest is in the files."""
    # Wide only for people: in a file or pipe a table has no edge to keep to.
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns if is_terminal else 160
    rest = IN_FILE if can_write else NO_FILE
    lines = render_leaderboard(collection.shown, width, top, rest=rest)
    if collection.filtered is not None:
        words = wrap(one_line(collection.filtered.words, 400), width)
        lines = [*(Line(text, DIM) for text in words), *lines]
    is_in_files = any("leaderboard.csv" in line.text for line in lines)
    print(paint(lines, is_terminal), end="")
    for line in describe_goodput(collection.board.goodput):
        print(line)
    return is_in_files


def read_objectives(words: Sequence[str]) -> list[tuple[str, str]]:
    """Read ``NAME:GOAL`` words.

    Raises:
        UserError: One has no goal, or a metric stands twice.
    """
    found: list[tuple[str, str]] = []
    for word in words:
        name, _, goal = word.rpartition(":")
        if not name or goal not in (MINIMIZE, MAXIMIZE):
            raise UserError(
                f"--objective {one_line(word, 80)}: write metric and goal, such as "
                f"loss:{MINIMIZE} or accuracy:{MAXIMIZE}"
            )
        if any(name == other for other, _ in found):
            raise UserError(f"--objective {one_line(word, 80)}: {name} is named twice")
        found.append((name, goal))
    return found


def _complain(collection: Collection, unreachable: str | None) -> None:
    if unreachable is not None:
        print(
            f"Slurm does not answer, so queued trials show as unknown: {one_line(unreachable)}",
            file=sys.stderr,
        )
    for problem in collection.problems[:MAX_PROBLEMS]:
        print(f"problem: {one_line(problem, MAX_PROBLEM_CHARS)}", file=sys.stderr)
    if len(collection.problems) > MAX_PROBLEMS:
        more = len(collection.problems) - MAX_PROBLEMS
        print(f"... and {more} more problems; ARGS=--json names them all", file=sys.stderr)


def _print_json(collection: Collection, unreachable: str | None, ratings: Ratings) -> None:
    board, totals, filtered = collection.shown, collection.totals, collection.filtered
    where = filtered and {
        "condition": filtered.condition,
        "unmet": filtered.n_unmet,
        "unknown": filtered.n_unknown,
        "counted": filtered.what,
    }
    print_json(
        "collect",
        {
            "sweep": board.summary.name,
            "objective": board.objective,
            "objectives": [{"name": name, "goal": goal} for name, goal in board.objectives],
            "front": [{"name": name, "goal": goal} for name, goal in board.front],
            "standing": {
                "certainty": board.standing.certainty.value,
                "words": board.standing.words,
            },
            "where": where,
            "counts": {state.value: n for state, n in collection.counts.items()},
            "gpu_hours": collection.gpu_hours,
            "cost": dict(totals.cost),
            "goodput": goodput_record(collection.board.goodput),
            "unreachable": unreachable,
            "problems": collection.problems,
            "ratings": {"ratings": len(ratings.all), "trials": len(ratings.by_trial)},
            "files": list(collection.paths),
            "removed": collection.removed or None,
            "rows": _rows(board.table),
        },
    )


def _rows(table: Table) -> list[dict[str, Any]]:
    """Return the table as JSON values."""
    columns = [table[name].cells for name in table.columns]
    return [dict(zip(table.columns, cells, strict=True)) for cells in zip(*columns, strict=True)]
