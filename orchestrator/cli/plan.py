"""``orchestrator plan``: what a sweep would take, before anything is submitted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from orchestrator.adapters.profiles import choose_profiles
from orchestrator.adapters.slurm_cli import is_slurm_here
from orchestrator.adapters.slurm_site import has_slurm
from orchestrator.cli.arguments import make_parser, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.plan_json import as_json
from orchestrator.cli.plan_text import print_report
from orchestrator.cli.submit import default_templates, read_as_released, spec_file
from orchestrator.contract.errors import EXIT_OK, EXIT_TRY_AGAIN, EXIT_USER_ERROR, UserError
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.plan import (
    PlanOptions,
    PlanReport,
    array_script,
    plan_sweep,
    trial_script,
)

DESCRIPTION = """\
Show what would be submitted of a sweep, and what that takes: trials, arrays,
GPU-hours, cost, wall time, each with its arithmetic. Asks Slurm for its limits
and whether it would take the scripts; submits and writes nothing.

Overrides stand as KEY=VALUE[,VALUE...], as for submit.

exit codes: 0 the plan stands, 2 it would be refused or would never start,
3 what is queued of the sweep is unknown, as Slurm does not answer
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``orchestrator.cli.main`` for the exit codes."""
    parser = make_parser(
        "plan", DESCRIPTION, "a spec such as sweeps/demo.yaml, and overrides KEY=VALUE"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--cluster", choices=("auto", "slurm", "local"), help="where to run (default: the spec's)"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="count failed and cancelled trials too"
    )
    parser.add_argument(
        "--script", metavar="N", help="print the script of trial N (number, name or hash) instead"
    )
    parser.add_argument(
        "--array", metavar="K", type=int, help="print the script of array K (1, 2, ...) instead"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if options.script is not None and options.array is not None:
        raise UserError("--script and --array: give one of them")
    spec, _ = read_as_released(options.results, spec_file(options.results, word), overrides)
    templates = options.templates or default_templates()
    profiles = choose_profiles(templates, spec)
    report = plan_sweep(
        spec,
        profiles,
        PlanOptions(options.results, templates, options.retry_failed),
        _choose_cluster(options.cluster or spec.cluster),
    )
    if options.script is not None or options.array is not None:
        print(_script(report, options), end="")
        return EXIT_OK
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for warning in [*spec.warnings, *report.warnings]:
        err.print(f"[yellow]warning:[/] {_plain(warning)}")
    if options.json:
        print_json("plan", as_json(report))
    else:
        print_report(report, options.results)
    for problem in report.problems:
        err.print(f"[red]problem:[/] {_plain(problem)}")
    if report.problems:
        return EXIT_USER_ERROR
    return EXIT_TRY_AGAIN if report.is_queue_unknown else EXIT_OK


def _script(report: PlanReport, options: argparse.Namespace) -> str:
    if options.array is not None:
        return array_script(report, options.array)
    return trial_script(report, options.script)


def _choose_cluster(wanted: str) -> str:
    """Choose where to plan for; without Slurm and unless told otherwise, by the profile."""
    if wanted == "slurm" and not has_slurm():
        raise UserError("there is no sbatch on this machine; use --cluster auto, or a login node")
    if wanted != "auto":
        return wanted
    return "slurm" if is_slurm_here() else "profile"


def _plain(text: str) -> str:
    return one_line(text, 1000).replace("[", r"\[")
