"""``orchestrator ratings``: a sheet of a sweep's answers for people to rate."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import EXIT_OK, UserError
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.ratings import Sheet, write_sheet

DESCRIPTION = """\
Write what a sweep's trials answered (their responses.jsonl) into a CSV for a
person to rate from 0 to 5: shuffled, and without saying whose answer it is.
Equal answers are one row. The filled-in sheet goes to:
make collect RATINGS=FILE
"""
MAX_PROBLEMS = 10


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("ratings", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--rater", default="", metavar="NAME", help="fill it in; leave out what NAME has rated"
    )
    parser.add_argument(
        "--trial",
        action="append",
        default=[],
        metavar="TRIAL",
        help="only this trial's answers (a number or name); may be given again",
    )
    parser.add_argument(
        "--prompts", type=int, metavar="N", help="only N prompts, the same of each trial"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="default: rating-sheet.csv in the sweep's folder"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"ratings takes no overrides: {overrides[0]}")
    if options.prompts is not None and options.prompts < 1:
        raise UserError(f"--prompts {options.prompts}: use a number of at least 1")
    sweep = find_sweep(options.results, word)
    sheet = write_sheet(
        sweep,
        rater=options.rater.strip(),
        trials=options.trial,
        n_prompts=options.prompts,
        path=options.output,
    )
    if options.json:
        print_json("ratings", {"sweep": sweep.name, **vars(sheet)})
    else:
        path = show_path(sheet.path)
        print(f"{path}: {_tell_rows(sheet)}")
        if sheet.n_rated:
            print(f"{sheet.n_rated} that {one_line(options.rater, 40)} has rated are left out")
        print("Fill in the column rating, 0 (useless) to 5 (perfect), and your name; then:")
        print(f"make collect SWEEP={sweep.name}{results_hint(options.results)} RATINGS={path}")
    for problem in sheet.problems[:MAX_PROBLEMS]:
        print(f"problem: {one_line(problem)}", file=sys.stderr)
    if len(sheet.problems) > MAX_PROBLEMS:
        print(f"... and {len(sheet.problems) - MAX_PROBLEMS} more problems", file=sys.stderr)
    return EXIT_OK


def _tell_rows(sheet: Sheet) -> str:
    """Say how many answers are to be rated, and of how many trials."""
    trials = f"{sheet.n_trials} trial{'s' * (sheet.n_trials != 1)}"
    to_rate = f"{sheet.n_rows} answer{'s' * (sheet.n_rows != 1)} to rate"
    n_equal = sheet.n_answers - sheet.n_rows - sheet.n_rated
    if not n_equal:
        return f"{to_rate}, of {trials}"
    return f"{to_rate}; {trials} gave {sheet.n_answers}, and equal ones are one row"
