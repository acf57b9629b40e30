"""``orchestrator reproduce``: one trial, run again on this machine, and its numbers compared."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator.cli.arguments import find_sweep, make_parser, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED, UserError
from orchestrator.domain.metric_comparison import Compared, Verdict
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.reproduce import Reproduction, reproduce
from orchestrator.usecases.workspace import refuse_import

DESCRIPTION = """\
Run one trial again on this machine, from its record: its parameters, its seed
and the code as it was submitted. Then compare its metrics with the committed
ones, key by key. Exit codes: 0 the same numbers, 1 not, 2 your mistake.

Metrics of time (seconds, throughput, memory) are shown, and not counted.
"""
EXIT_INTERRUPTED = 130
NAME_WIDTH, VALUE_WIDTH, DIFFERENCE_WIDTH = 25, 20, 11
MAX_NOTES = 10


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("reproduce", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--trial", metavar="TRIAL", help="its number, or its directory's name (or the hash in it)"
    )
    parser.add_argument(
        "--tolerance",
        metavar="R",
        default="0",
        help="relative difference that still counts as equal (default: 0, to the last bit)",
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"reproduce takes no overrides: {overrides[0]}")
    if not options.trial:
        raise UserError("which trial? make reproduce TRIAL=3, with a number from make status")
    sweep = find_sweep(options.results, word)
    refuse_import(sweep)
    tolerance = _tolerance(options.tolerance)
    done = reproduce(sweep, options.trial, tolerance=tolerance, on_start=_announce)
    if options.json:
        print_json("reproduce", _as_json(done))
    else:
        _print(done)
    if done.exit_code is None:
        return EXIT_INTERRUPTED
    return EXIT_OK if done.is_equal else EXIT_TRIALS_FAILED


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UserError(f"--tolerance {text}: use a number from 0 to below 1, such as 1e-6")
    return value


def _announce(started: Reproduction) -> None:
    print(f"running {started.trial} again; log: {_log(started)}", file=sys.stderr)


def _log(done: Reproduction) -> str:
    return f"{show_path(done.folder)}/log"


def _print(done: Reproduction) -> None:
    code = f"code {done.snapshot}" if done.snapshot else "the live files"
    print(f"{done.trial}, run again here with {code}")
    for note in done.notes[:MAX_NOTES]:
        print(f"  note: {one_line(note, 300)}")
    if len(done.notes) > MAX_NOTES:
        print(f"  ... and {len(done.notes) - MAX_NOTES} more (--json has all)")
    if done.exit_code is None:
        print("stopped before its end")
    elif done.exit_code != 0:
        print(f"it failed with exit code {done.exit_code}; log: {_log(done)}")
    else:
        _print_rows(done.rows)
        counted = [row for row in done.rows if row.verdict is not Verdict.NOT_COUNTED]
        n_equal = sum(row.verdict is Verdict.EQUAL for row in counted)
        words = "the same numbers" if done.is_equal else "NOT the same numbers"
        print(f"{words}: {n_equal} of {len(counted)} metrics equal")


def _print_rows(rows: Sequence[Compared]) -> None:
    print()
    print(_line("metric", "committed", "again", "difference"))
    for row in rows:
        print(_line(one_line(row.name), _show(row.first), _show(row.second), _say(row)))
    print()


def _line(name: str, first: str, second: str, words: str) -> str:
    name = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 3] + "..."
    values = "".join(f" {value[:VALUE_WIDTH]:>{VALUE_WIDTH}}" for value in (first, second))
    return f"{name:<{NAME_WIDTH}}{values} {words:>{DIFFERENCE_WIDTH}}"


def _show(value: Any) -> str:
    return "-" if value is None else one_line(str(value), 100)


def _say(row: Compared) -> str:
    if row.verdict is Verdict.DIFFERS:
        return "differs" if row.difference is None else f"{row.difference:.1e}"
    if row.verdict is Verdict.EQUAL and row.difference:
        return f"{row.difference:.1e} ok"
    return str(row.verdict.value)


def _as_json(done: Reproduction) -> dict[str, object]:
    return {
        "trial": done.trial,
        "folder": done.folder,
        "code": done.snapshot,
        "exit_code": done.exit_code,
        "equal": done.is_equal,
        "notes": done.notes,
        "metrics": [
            {
                "name": row.name,
                "committed": row.first,
                "again": row.second,
                "difference": _finite(row.difference),
                "verdict": row.verdict.value,
            }
            for row in done.rows
        ],
    }


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
