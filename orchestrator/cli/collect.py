"""``orchestrator collect``: merge what the trials wrote into a ranked leaderboard."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from rich.console import Console

from orchestrator.adapters.leaderboard_files import cell_values
from orchestrator.adapters.leaderboard_table import render_leaderboard
from orchestrator.cli.arguments import find_sweep, make_parser, split_words
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED, UserError
from orchestrator.contract.records import dump_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.goodput import describe_goodput, goodput_record
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.collect import Collection, collect
from orchestrator.usecases.observe import observe
from orchestrator.usecases.ratings import Ratings, import_ratings, load_ratings

DESCRIPTION = """\
Merge the results of a sweep's trials into results/<sweep>/leaderboard.csv and
.md, and print the best. Works while the sweep runs; failed and unfinished
trials are shown below the ranked ones, never dropped.
"""
# Of files that could not be used; the rest is counted.
MAX_PROBLEMS = 10


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if trials failed."""
    parser = make_parser("collect", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--top", type=int, default=20, metavar="N", help="rows to print (default: 20)"
    )
    parser.add_argument(
        "--ratings",
        action="append",
        default=[],
        metavar="FILE",
        help="take over people's ratings (CSV); may be given again",
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"collect takes no overrides: {overrides[0]}")
    sweep = find_sweep(options.results, word)
    # Before Slurm is asked: a mistake in a table is said at once.
    ratings = import_ratings(sweep, options.ratings) if options.ratings else load_ratings(sweep)
    observation = observe(sweep)
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        datetime.now(UTC),
        scan=observation.scan,
        ratings=ratings,
    )
    if options.json:
        _print_json(collection, observation.unreachable, ratings)
    else:
        # Wide only for people: in a file or pipe a table has no edge to keep to.
        width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 160
        console = Console(width=width, highlight=False, soft_wrap=False)
        console.print(render_leaderboard(collection.board, width, options.top))
        for line in describe_goodput(collection.board.goodput):
            print(line)
        for path in collection.paths:
            print(f"written: {os.path.relpath(path)}")
    _complain(collection, observation.unreachable)
    failed = collection.counts.get(TrialState.FAILED, 0)
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _complain(collection: Collection, unreachable: str | None) -> None:
    if unreachable is not None:
        print(
            f"Slurm does not answer, so queued trials show as unknown: {one_line(unreachable)}",
            file=sys.stderr,
        )
    for problem in collection.problems[:MAX_PROBLEMS]:
        print(f"problem: {one_line(problem)}", file=sys.stderr)
    if len(collection.problems) > MAX_PROBLEMS:
        print(f"... and {len(collection.problems) - MAX_PROBLEMS} more problems", file=sys.stderr)


def _print_json(collection: Collection, unreachable: str | None, ratings: Ratings) -> None:
    frame = collection.rows
    totals = collection.totals
    print(
        json.dumps(
            {
                "sweep": collection.board.summary.name,
                "objective": collection.board.objective,
                "counts": {state.value: n for state, n in collection.counts.items()},
                "gpu_hours": totals.gpu_hours,
                "cost": dict(totals.cost),
                "goodput": goodput_record(collection.board.goodput),
                "unreachable": unreachable,
                "problems": collection.problems,
                "ratings": {"ratings": len(ratings.all), "trials": len(ratings.by_trial)},
                "files": collection.paths,
                "rows": _rows(frame),
            }
        )
    )


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the table as JSON values. Not by ``DataFrame.to_json``: that keeps 10 digits."""
    names = [str(name) for name in frame.columns]
    columns = [cell_values(frame[name]) for name in frame.columns]
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    found: list[dict[str, Any]] = json.loads(dump_record({"rows": rows}))["rows"]
    return found
