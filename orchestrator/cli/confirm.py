"""``orchestrator confirm``: run the best again on fresh seeds, and rank them by those."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from orchestrator.adapters.profiles import choose_profiles
from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates, show_progress
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED, UserError
from orchestrator.contract.states import TrialState
from orchestrator.domain.amounts import show_money
from orchestrator.domain.confirmation import MAX_TRIALS
from orchestrator.domain.confirmed import MIN_SEEDS, Confirmed, short, spell
from orchestrator.domain.cost import Usage
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.collect import collect
from orchestrator.usecases.confirm import (
    DEFAULT_SEEDS,
    DEFAULT_TOP,
    MAX_DEFAULT_TOP,
    ConfirmOptions,
    ConfirmReport,
    confirm,
)
from orchestrator.usecases.frozen_spec import read_frozen
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.vanished import observe_results
from orchestrator.usecases.workspace import refuse_import

DESCRIPTION = """\
Run the best configurations of a sweep again on fresh seeds, and compare them
by those runs alone: what chose the first place flatters it. The runs are
trials of the sweep like any other; the ranks of the leaderboard stay as they
are. Typed again it adds nothing, and shows how the comparison stands.
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if fresh runs failed."""
    options = _parse(argv)
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"confirm takes no overrides: {overrides[0]}; it runs what was submitted")
    sweep = find_sweep(options.results, word)
    refuse_import(sweep)
    spec, cluster = read_frozen(sweep)
    templates = options.templates or default_templates()
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        report = confirm(
            sweep,
            spec,
            choose_profiles(templates, spec),
            ConfirmOptions(
                options.results,
                templates,
                options.top,
                options.seeds,
                options.again,
                options.seed_parameter,
                options.now,
                options.dry_run,
            ),
            cluster,
            lambda n_trials: show_progress(stack, err, n_trials),
        )
    board, observation = _look_again(report)
    for warning in [*report.warnings, *board.outcome.warnings]:
        err.print(f"warning: {one_line(warning, 1000)}", markup=False)
    if options.json:
        print_json("confirm", _as_json(report, board, observation, options.dry_run))
    else:
        _print(report, board, observation, options)
    return EXIT_TRIALS_FAILED if _count(report, observation, TrialState.FAILED) else EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("confirm", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help=f"configurations (default: as before; at first {DEFAULT_TOP}, or those tied with the "
        f"best, at most {MAX_DEFAULT_TOP})",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help=f"fresh seeds of each (default: as before; at first {DEFAULT_SEEDS})",
    )
    parser.add_argument(
        "--again", action="store_true", help="add N more seeds, once those before have ended"
    )
    parser.add_argument(
        "--seed-parameter", metavar="NAME", help="the parameter that takes the seed"
    )
    parser.add_argument(
        "--now", action="store_true", help="choose although not all trials have ended"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what it would take, and submit nothing"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    options = parser.parse_intermixed_args(list(argv))
    if options.top is not None and not 1 <= options.top <= MAX_TRIALS:
        raise UserError(f"--top {options.top}: use a number from 1 to {MAX_TRIALS}")
    if options.seeds is not None and not MIN_SEEDS <= options.seeds <= MAX_TRIALS:
        raise UserError(
            f"--seeds {options.seeds}: use {MIN_SEEDS} to {MAX_TRIALS}; one run tells nothing "
            "about noise"
        )
    return options


def _look_again(report: ConfirmReport) -> tuple[Leaderboard, Observation | None]:
    """Return the leaderboard after a submission, which a local one has run to its end."""
    if report.submission is None:
        return report.board, None
    observation = observe_results(report.sweep)
    found = collect(
        report.sweep,
        observation.states,
        observation.reasons,
        datetime.now(UTC),
        scan=observation.scan,
        write_files=False,
    )
    return found.board, observation


def _count(report: ConfirmReport, observation: Observation | None, state: TrialState) -> int:
    """Count the fresh trials in a state."""
    if observation is None:
        table = report.board.table
        both = zip(table["trial"].cells, table["state"].cells, strict=True)
        names = [name for name, found in both if found == state.value]
    else:
        names = [name for name, found in observation.states.items() if found is state]
    return sum(str(name).partition("-")[2] in report.confirmation.by_id for name in names)


def _print(
    report: ConfirmReport,
    board: Leaderboard,
    observation: Observation | None,
    options: argparse.Namespace,
) -> None:
    confirmation, where = report.confirmation, results_hint(options.results, report.sweep)
    n_configurations = len({confirmation.key(trial.params) for trial in confirmation.trials})
    seeds = confirmation.seeds
    print(
        f"{one_line(report.sweep.name, 60)}: {_several(n_configurations, 'configuration')} on "
        f"{_several(len(seeds), 'fresh seed')}, {confirmation.seed_parameter} "
        f"{_spell_seeds(seeds)}"
    )
    if report.added:
        verb = "to add" if options.dry_run else "added"
        print(f"  {verb}: {_several(len(report.added), 'trial')}; expected: {_expected(report)}")
    if report.n_left_failed:
        n_left = _several(report.n_left_failed, "failed trial")
        print(f"  {n_left} of the sweep left alone: make status{where} says how to try again")
    if options.dry_run:
        print("nothing was submitted (--dry-run)")
        return
    if report.submission is not None:
        verb = "ran" if report.submission.cluster == "local" else "submitted"
        print(f"  {verb}: {report.submission.n_submitted}")
        if report.submission.paused:
            print(f"  the gate is closed: {one_line(report.submission.paused, 200)}")
    found = [own for own in board.outcome.configurations if own.runs.values]
    if found:
        _print_table(found)
    print(one_line(board.standing.words, 1000))
    failed = _count(report, observation, TrialState.FAILED)
    if failed:
        print(f"{failed} failed: make status{where}; again: make submit{where} ARGS=--retry-failed")
    if any(own.runs.n_open for own in board.outcome.configurations):
        is_local = report.submission is not None and report.submission.cluster == "local"
        verb = "submit" if is_local else "supervise"
        print(f"next: make {verb}{where}, then make collect{where}")
    else:
        print(f"next: make collect{where}")


def _print_table(found: Sequence[Confirmed]) -> None:
    rows = [("trial", "mean ± 95%", "n", "rank")]
    for own in found:
        runs = own.runs
        n = str(runs.n_asked) if len(runs.values) == runs.n_asked else ""
        n = n or f"{len(runs.values)} of {runs.n_asked}"
        place = "" if own.rank is None else str(own.rank)
        place += "" if own.tie in (None, own.rank) else f" (tied with {own.tie})"
        rows.append((short(own), spell(own), n, place))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {'  '.join(cells)}".rstrip())


def _expected(report: ConfirmReport) -> str:
    """Say what the added trials take, by what those that chose them took."""
    usage = report.expected
    if not report.n_measured:
        return "not known"
    words = [f"{usage.wall_h:.3g} h in series", f"{usage.gpu_hours:.3g} GPU-hours"]
    if not usage.gpu_hours:
        del words[1]
    words += [money] if (money := show_money(usage.cost)) else []
    return f"{', '.join(words)} (as {_several(report.n_measured, 'trial')} of the same took)"


def _spell_seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def _as_json(
    report: ConfirmReport,
    board: Leaderboard,
    observation: Observation | None,
    is_dry_run: bool,
) -> dict[str, Any]:
    confirmation, submission = report.confirmation, report.submission
    asked = {confirmation.key(trial.params): trial.of for trial in confirmation.trials}
    found = {own.runs.key: own for own in board.outcome.configurations}
    return {
        "sweep": report.sweep.name,
        "dry_run": is_dry_run,
        "seed_parameter": confirmation.seed_parameter,
        "seeds": list(confirmation.seeds),
        "added": len(report.added),
        "expected": {**_usage(report.expected), "measured_trials": report.n_measured},
        "submitted": 0 if submission is None else submission.n_submitted,
        "paused": None if submission is None else submission.paused,
        "left_failed": report.n_left_failed,
        "failed": _count(report, observation, TrialState.FAILED),
        "standing": dataclasses.asdict(board.standing)
        | {"certainty": board.standing.certainty.value},
        "configurations": [_configuration_json(of, found.get(key)) for key, of in asked.items()],
        "warnings": [*report.warnings, *board.outcome.warnings],
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {"wall_h": usage.wall_h, "gpu_hours": usage.gpu_hours, "cost": dict(usage.cost)}


def _configuration_json(of: str, own: Confirmed | None) -> dict[str, Any]:
    if own is None:
        return {"trial": of, "rank": None, "tie": None, "mean": None, "ci95_half": None, "n": 0}
    return {
        "trial": of,
        "rank": own.rank,
        "tie": own.tie,
        "mean": None if math.isnan(own.mean) else own.mean,
        "ci95_half": None if math.isnan(own.half) else own.half,
        "n": len(own.runs.values),
        "n_asked": own.runs.n_asked,
        "n_open": own.runs.n_open,
        "values": {str(seed): value for seed, value in own.runs.values.items()},
        "problem": own.runs.problem or None,
    }
