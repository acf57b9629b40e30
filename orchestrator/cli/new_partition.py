"""``orchestrator new-partition``: the draft of a partition's profile and template."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orchestrator.cli.arguments import Parser
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates
from orchestrator.contract.errors import EXIT_OK
from orchestrator.domain.partition_draft import TO_FILL
from orchestrator.domain.plain_text import strip_controls
from orchestrator.usecases.new_partition import Draft, new_partition

DESCRIPTION = """\
Draft the profile and the template of a Slurm partition from what Slurm says
about it, in the templates folder. Overwrites nothing.

exit codes: 0 drafted, 2 your mistake, 3 Slurm does not answer
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``DESCRIPTION`` for the exit codes."""
    options = _parse(argv)
    draft = new_partition(
        options.templates or default_templates(),
        options.name,
        options.slurm_partition,
        ask=options.cluster != "none",
        dry_run=options.dry_run,
    )
    if options.json:
        print_json("new-partition", {**vars(draft), "written": not options.dry_run})
    else:
        _show(draft, options.dry_run)
    return EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="orchestrator new-partition",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the profile's name, such as h100")
    parser.add_argument(
        "--slurm-partition", metavar="NAME", help="the partition's name in Slurm (default: NAME)"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--cluster",
        choices=("auto", "none"),
        default="auto",
        help="whether to ask Slurm, where there is one (default: auto)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the draft, write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser.parse_args(argv)


def _show(draft: Draft, dry_run: bool) -> None:
    verb = "would append" if dry_run else "appended"
    print(f"{verb} to {draft.profiles}:\n")
    print(strip_controls(draft.entry))
    print(f"{'would write' if dry_run else 'wrote'} {draft.template}:\n")
    print(strip_controls(draft.template_text))
    if not draft.asked_slurm:
        print("Slurm was not asked (there is none here): the values are placeholders.")
    n_lines = draft.entry.count(TO_FILL)
    print(f"Next: edit the {n_lines} lines that say {TO_FILL!r} there, then: make lint")
