"""``orchestrator costs``: what a sweep took, and what it would have taken otherwise."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from orchestrator.adapters.text_table_view import render_text_table
from orchestrator.cli.arguments import find_sweep, make_parser, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import EXIT_OK, EXIT_TRY_AGAIN, UserError
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.collect import collect
from orchestrator.usecases.costs import TOP, cost_tables, costs_record, measure_costs
from orchestrator.usecases.report_input import ReportInput
from orchestrator.usecases.vanished import observe_results

DESCRIPTION = """\
Tell what a sweep took, from the records of its attempts: the best
configurations with their cost; wall time, GPU-hours and money as it ran, beside
the same on demand and on one machine in series; and where the time went, lost
work by cause. Works while the sweep runs. Writes nothing.
"""
MAX_WIDTH = 120


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 3 if Slurm did not answer, since some states are unknown then."""
    parser = make_parser("costs", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--top", type=int, default=TOP, metavar="N", help=f"configurations to show (default: {TOP})"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"costs takes no overrides: {overrides[0]}")
    if options.top < 0:
        raise UserError(f"--top {options.top}: use a number of at least 0")
    sweep = find_sweep(options.results, word)
    observation = observe_results(sweep)
    now_s = time.time()
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        datetime.fromtimestamp(now_s, UTC),
        scan=observation.scan,
        gone=observation.gone,
        write_files=False,
    )
    costs = measure_costs(ReportInput(sweep, observation, collection, now_s), options.top)
    if options.json:
        record = {"sweep": sweep.name, "unreachable": observation.unreachable}
        print_json("costs", {**record, **costs_record(costs)})
    else:
        # In a file or pipe a table has no edge to keep to, and a reader none either.
        columns = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else MAX_WIDTH
        width = min(columns, MAX_WIDTH)
        console = Console(width=width, highlight=False)
        console.print(Text(one_line(sweep.name, 60), style="bold"))
        for table in cost_tables(costs):
            console.print()
            console.print(render_text_table(table, width))
    for problem in _problems(collection.problems, observation.unreachable):
        print(problem, file=sys.stderr)
    return EXIT_TRY_AGAIN if observation.unreachable is not None else EXIT_OK


def _problems(problems: Sequence[str], unreachable: str | None) -> list[str]:
    lines = []
    if unreachable is not None:
        lines.append(f"Slurm does not answer, so some states are unknown: {one_line(unreachable)}")
    if problems:
        n = len(problems)
        lines.append(f"{n} file{'s' if n > 1 else ''} could not be used; make collect names them")
    return lines
