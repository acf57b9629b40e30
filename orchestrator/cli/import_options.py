"""The options of ``collect --from``: results that something else made."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from orchestrator.cli.arguments import Parser, find_sweep
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.plain_text import one_line

# Of files and lines that could not be used; the rest is counted.
MAX_PROBLEMS = 10


def add_import_options(parser: Parser) -> None:
    """Add what ``--from`` takes, beside ``--objective``, which ``collect`` has by itself."""
    group = parser.add_argument_group("results of another tool")
    group.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help="an Optuna study, a W&B export or another table (CSV), JSON, or a folder of JSON",
    )
    group.add_argument("--name", metavar="NAME", help="what to call it (default: as the file)")
    group.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME",
        help="a parameter, where they are not told from metrics; may be given again",
    )
    group.add_argument("--study", metavar="NAME", help="which study of several")


def find_or_import(
    options: argparse.Namespace, word: str | None, objectives: Sequence[tuple[str, str]]
) -> SweepPaths:
    """Return the sweep that is meant, with ``--from`` made of other results first.

    Args:
        options: Of the command.
        word: The sweep, as it was named; None if it was not.
        objectives: What ranks the imported runs, where the source does not say.

    Raises:
        UserError: The options do not go together, or the source cannot be used.
    """
    only_for_imports = {"--name": options.name, "--param": options.param, "--study": options.study}
    if options.source is None:
        for option, value in only_for_imports.items():
            if value:
                raise UserError(f"{option} goes with --from (make collect FROM=...)")
        return find_sweep(options.results, word)
    if word is not None:
        raise UserError(f"either a sweep ({word}) or --from ({options.source}), not both")
    # Lazy: plain collects need no importer, whose imports take a sixth of their time.
    from orchestrator.usecases.import_results import (
        ImportOptions,
        describe_import,
        import_results,
    )

    how = ImportOptions(
        name=options.name,
        objectives=tuple(objectives),
        params=tuple(options.param),
        study=options.study,
    )
    done = import_results(options.results, options.source, how)
    if not options.json:
        for line in describe_import(done):
            print(line)
    for problem in done.problems[:MAX_PROBLEMS]:
        print(f"problem: {one_line(options.source)}: {one_line(problem)}", file=sys.stderr)
    if len(done.problems) > MAX_PROBLEMS:
        print(f"... and {len(done.problems) - MAX_PROBLEMS} more problems", file=sys.stderr)
    return done.sweep
