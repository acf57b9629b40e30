"""``orchestrator report``: the results of a sweep as one HTML page."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import EXIT_OK, CorruptRecord, OrchestratorError, UserError
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.report import Report, make_report

DESCRIPTION = """\
Write the results of a sweep as one HTML page that needs no network: ranked
table, best configuration, figures, cost, failures, environment. Works while
the sweep runs. It stands in results/<sweep>/report.html, with leaderboard.csv
of the same moment beside it, or where --output says. Exits 0 once the page is
written: trials that failed are its news, not its failure.
"""
# Of what could not be read; the page has more.
MAX_PROBLEMS = 5


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 0 once the page is written, which tells what failed."""
    parser = make_parser("report", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--output", metavar="FILE", help="write it there, and nothing into the sweep's folder"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"report takes no overrides: {overrides[0]}")
    _check_output(options.output)
    sweep = find_sweep(options.results, word)
    try:
        report = make_report(sweep, options.output, results_hint(options.results))
    except (UserError, CorruptRecord):
        raise
    except OrchestratorError as error:
        if options.output is not None:
            raise
        words = f"{error}; ARGS='--output FILE' writes the page alone, wherever you can write"
        raise OrchestratorError(words) from None
    if options.json:
        print_json("report", _as_json(report))
    else:
        print(f"written: {one_line(_place(report), 1000)} ({_size(report.size_bytes)})")
    for problem in report.document.problems[:MAX_PROBLEMS]:
        print(f"problem: {one_line(problem)}", file=sys.stderr)
    more = len(report.document.problems) - MAX_PROBLEMS
    if more > 0:
        print(f"... and {more} more problems; the page names them", file=sys.stderr)
    return EXIT_OK


def _check_output(output: str | None) -> None:
    """Refuse before anything is read what cannot be written.

    Raises:
        UserError: It is a folder, or its folder is not there.
    """
    if output is None:
        return
    if not output or os.path.isdir(output):
        raise UserError(f"--output {output}: is a folder; name a file, such as report.html")
    if os.path.exists(output) and not os.path.isfile(output):
        # It would be replaced: root has lost a device to such a word.
        raise UserError(f"--output {output}: is no ordinary file; name one, such as report.html")
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise UserError(f"--output {output}: there is no folder {folder}")


def _place(report: Report) -> str:
    return show_path(report.path)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.0f} kB"


def _as_json(report: Report) -> dict[str, object]:
    document = report.document
    return {
        "sweep": report.input.sweep.name,
        "path": report.path,
        "size_bytes": report.size_bytes,
        "at": document.at,
        "n_trials": document.table["n"],
        "best": None if document.best is None else document.best.trial,
        "certainty": document.standing.certainty.value,
        "figures": [figure.id for figure in document.figures],
        "problems": list(document.problems),
        "files": list(report.input.collection.paths),
    }
