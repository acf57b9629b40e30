"""``orchestrator release``: open a sweep's closed gate, and let go what it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from orchestrator.adapters.profiles import choose_profiles
from orchestrator.adapters.spec_file import read_spec
from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates, show_progress
from orchestrator.contract.errors import (
    EXIT_OK,
    EXIT_TRIALS_FAILED,
    CorruptRecord,
    UserError,
)
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases import released_budget
from orchestrator.usecases.observe import observe
from orchestrator.usecases.submit import SubmitOptions, SubmitReport, submit
from orchestrator.usecases.workspace import refuse_import

DESCRIPTION = """\
Open the gate of a sweep that was closed by failures that many trials share, by
its budget or by its canary, after what was wrong was mended. What the gate
holds starts, with the scripts and the code as they are now; the failures that
closed it are forgiven, and their trials go again. More to spend is an override:
budget.cost=3000. Killed halfway, the same command finishes it.
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``orchestrator.cli.main`` for the exit codes."""
    parser = make_parser(
        "release", DESCRIPTION, "a spec or the name of a submitted sweep, and overrides KEY=VALUE"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    sweep = find_sweep(options.results, word)
    refuse_import(sweep)
    spec, cluster, file = _read_again(sweep, word, overrides)
    allows = any(map(released_budget.names_budget, overrides))
    templates = options.templates or default_templates()
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        report = submit(
            spec,
            choose_profiles(templates, spec),
            SubmitOptions(
                options.results,
                templates,
                release=True,
                allows=allows,
                own_budget=released_budget.own_budget(file, spec.overrides) if allows else None,
            ),
            cluster,
            lambda n_trials: show_progress(stack, err, n_trials),
        )
    for warning in report.warnings:
        err.print(f"[yellow]warning:[/] {one_line(warning, 1000)}", markup=True)
    failed = 0
    if cluster == "local":
        failed = observe(report.sweep).count().get(TrialState.FAILED, 0)
    if options.json:
        print_json("release", _as_json(report))
    else:
        _print(report, results_hint(options.results, sweep))
        if allows:
            print(f"this budget stays until budget: in {spec.file} changes")
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _read_again(
    sweep: SweepPaths, word: str | None, overrides: Sequence[str]
) -> tuple[SweepSpec, str, str]:
    """Read the spec as it is now, with the overrides of the last submission and newer ones.

    A spec whose file is gone is read as it was submitted.

    Returns:
        The spec, where it runs, and the file it was read from.

    Raises:
        UserError: It was never submitted, or has a mistake.
    """
    try:
        summary = read_record(sweep.summary)
    except (FileNotFoundError, CorruptRecord) as error:
        raise UserError(f"{sweep.summary}: {error}; submit the sweep first") from None
    newer = {word.partition("=")[0] for word in overrides}
    earlier = [str(word) for word in summary.get("overrides", [])]
    file = str(summary.get("spec_path", ""))
    if word is not None and word.endswith((".yaml", ".yml")):
        file = word
    elif os.path.isfile(str(summary.get("spec"))):
        file = str(summary["spec"])  # as the user typed it
    if not os.path.isfile(file):
        file = sweep.spec
    earlier = released_budget.drop_outdated(sweep, file, earlier)
    words = [w for w in earlier if w.partition("=")[0] not in newer] + list(overrides)
    spec = read_spec(file, words)
    workdir = summary.get("workdir")
    spec = dataclasses.replace(
        spec, name=sweep.name, workdir=spec.workdir or (str(workdir) if workdir else None)
    )
    return spec, "local" if summary.get("cluster") == "local" else "slurm", file


def _print(report: SubmitReport, where_else: str) -> None:
    name = report.sweep.name
    if report.opened is not None:
        print(f"{name}: the gate is open again; it was closed: {one_line(report.opened, 300)}")
    else:
        print(f"{name}: the gate was open")
    nothing = "nothing as yet" if report.canary else "nothing was held"
    print(f"  released: {', '.join(report.released) or nothing}")
    n_new = report.states.get(TrialState.NEW, 0) if report.n_submitted else 0
    new = f", {n_new} of them new: never submitted before" if n_new else ""
    print(f"  submitted again or anew: {report.n_submitted}{new}")
    if report.canary:
        print(f"  canary: {report.canary}")
    if report.paused:
        print(f"  closed again: {one_line(report.paused, 300)}")
    print(f"next: make status{where_else}")


def _as_json(report: SubmitReport) -> dict[str, Any]:
    return {
        "sweep": report.sweep.name,
        "opened": report.opened,
        "released": report.released,
        "submitted": report.n_submitted,
        "paused": report.paused,
        "warnings": report.warnings,
    }
