"""``orchestrator export``: write the results for other tools."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator.adapters.exports.formats import FORMATS
from orchestrator.cli.arguments import find_sweep, make_parser, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import EXIT_OK, UserError
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.export import Exports, check_formats, export

DESCRIPTION = """\
Write a sweep's results for other tools, into results/<sweep>/exports/. Works
while the sweep runs; type it again for the results of then. An export is
replaced as a whole, so nothing is in it twice.

formats:
{formats}
"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    formats = "\n".join(f"  {name:<9} {each.words}" for name, each in FORMATS.items())
    parser = make_parser(
        "export", DESCRIPTION.format(formats=formats), "a spec or the name of a submitted sweep"
    )
    parser.add_argument(
        "--to", nargs="+", default=[], metavar="FORMAT", help="formats, one or more (see above)"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where to (default: results/<sweep>/exports)"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        metavar="N",
        help="configurations in the LaTeX table (default: 10)",
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"export takes no overrides: {overrides[0]}")
    if not options.to:
        raise UserError(f"to which format? --to {' '.join(FORMATS)} (one or more of them)")
    if options.top < 1:
        raise UserError(f"--top {options.top} shows nothing; use 1 or more")
    check_formats(options.to)  # before Slurm is asked
    sweep = find_sweep(options.results, word)
    folder = None if options.output is None else os.path.abspath(options.output)
    exports = export(sweep, options.to, folder, options.top)
    if exports.failed and not exports.written:
        raise next(iter(exports.failed.values()))
    if options.json:
        print_json("export", _record(sweep.name, exports))
    else:
        for name, each in exports.written.items():
            for path in each.paths:
                print(f"{name}: {show_path(path)}")
            for note in each.notes:
                print(f"  {one_line(note, 400)}")
    if exports.unreachable is not None:
        words = one_line(exports.unreachable)
        print(f"Slurm does not answer, so queued trials show as unknown: {words}", file=sys.stderr)
    if n := len(exports.problems):
        print(
            f"{n} file{'s' if n > 1 else ''} could not be used; make collect names them",
            file=sys.stderr,
        )
    for name, error in exports.failed.items():
        print(f"orchestrator: {name} not written: {one_line(str(error), 400)}", file=sys.stderr)
    return max((error.exit_code for error in exports.failed.values()), default=EXIT_OK)


def _record(sweep: str, exports: Exports) -> dict[str, object]:
    return {
        "sweep": sweep,
        "trials": exports.n_trials,
        "ranked": exports.n_ranked,
        "unreachable": exports.unreachable,
        "problems": exports.problems,
        "exports": [
            {"format": name, "paths": each.paths, "notes": each.notes}
            for name, each in exports.written.items()
        ],
        "failed": [{"format": name, "error": str(error)} for name, error in exports.failed.items()],
    }
