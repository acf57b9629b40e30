"""``orchestrator lint``: templates and profiles, checked before anybody submits with them."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestrator.cli.arguments import Parser
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED
from orchestrator.domain.lint import PROBLEM, WARNING, LintFinding, merge_findings
from orchestrator.domain.plain_text import strip_controls
from orchestrator.usecases.lint import LintOptions, LintReport, lint
from orchestrator.usecases.lint_changes import Change, check_against, find_changes
from orchestrator.usecases.lint_cluster import CLUSTERS, ClusterWords, ask_cluster

DESCRIPTION = """\
Render every template for every partition profile and every example sweep, and
check what comes out, as sbatch and bash would read it; say which scripts an
edit changes; ask the cluster, where there is one. Nothing is submitted.

exit codes: 0 no problem, 1 problems found, 2 nothing to check or your mistake,
3 Slurm does not answer (with --cluster slurm)
"""
NO_COMPARISON = "none"
MAX_DIFF_LINES = 12
MAX_CHANGES = 10
MAX_PLACES = 6
_STYLES = {PROBLEM: "bold red", WARNING: "yellow"}


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``DESCRIPTION`` for the exit codes."""
    options = _parse(argv)
    templates = options.templates or default_templates()
    words = ask_cluster(options.cluster)
    report = lint(LintOptions(templates, tuple(options.sweeps), words.version, words.options))
    report.findings = merge_findings([*report.findings, *words.judge(report)])
    against, changes = None, []
    if options.against != NO_COMPARISON:
        against = check_against(templates, options.against)
        changes = find_changes(templates, against, report.sweeps) if against else []
    not_checked = list(words.not_checked)
    if against is None and options.against != NO_COMPARISON:
        not_checked.append("what an edit changes: no older templates in git; see --against")
    if options.json:
        print_json("lint", _as_json(report, words, against, changes, not_checked))
    else:
        _show(Console(highlight=False, soft_wrap=True), report, words, against, changes)
        for line in not_checked:
            print(f"not checked: {strip_controls(line)}")
        print(_sum(report.findings))
    return EXIT_TRIALS_FAILED if report.has_problems else EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="orchestrator lint",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="specs (default: sweeps/*.yaml)")
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--against",
        metavar="REVISION|FOLDER",
        help="older templates to compare with: a git revision, a folder, or `none` "
        "(default: HEAD, where templates are in git)",
    )
    parser.add_argument(
        "--cluster",
        choices=CLUSTERS,
        default=CLUSTERS[0],
        help="whether to ask Slurm: auto where it answers, slurm (it must), none (default: auto)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser.parse_args(argv)


def _show(
    console: Console,
    report: LintReport,
    words: ClusterWords,
    against: str | None,
    changes: Sequence[Change],
) -> None:
    counts = f"{_plural(len(report.templates), 'template')} x "
    counts += f"{_plural(len(report.profiles), 'profile')} x "
    counts += f"{_plural(len(report.sweeps), 'sweep')}"
    console.print(Text(f"{counts}: {_plural(report.n_scripts, 'script')} rendered", "bold"))
    if words.summary:
        console.print(Text(words.summary))
    for finding in report.findings:
        _show_finding(console, finding)
    if against is not None:
        _show_changes(console, against, changes)


def _show_finding(console: Console, finding: LintFinding) -> None:
    line = Text(strip_controls(f"{finding.place}: " if finding.place else ""), "bold")
    line.append(f"{finding.severity}: ", _STYLES[finding.severity])
    line.append(strip_controls(finding.message), "not bold")
    line.append(f" [{finding.check}]", "dim not bold")
    console.print(line)
    if finding.seen:
        more = len(finding.seen) - 1
        others = f", and {more} more" if more else ""
        console.print(Text(strip_controls(f"    seen in {finding.seen[0]}{others}"), "dim"))


def _show_changes(console: Console, against: str, changes: Sequence[Change]) -> None:
    if not changes:
        console.print(Text(f"against {against}: no script changes"))
        return
    sweeps = {place.partition(" on ")[0] for change in changes for place in change.scripts}
    words = f"against {against}: {_plural(len(changes), 'change')}, in the scripts of "
    console.print(Text(strip_controls(words + ", ".join(sorted(sweeps)))))
    for change in changes[:MAX_CHANGES]:
        shown = change.scripts[:MAX_PLACES]
        more = len(change.scripts) - len(shown)
        text = "; ".join(shown) + (f"; and {more} more" if more else "")
        for line in textwrap.wrap(strip_controls(text), 100, break_on_hyphens=False):
            console.print(Text(f"  {line}"))
        for line in change.diff[:MAX_DIFF_LINES]:
            style = "red" if line.startswith("-") else "green"
            console.print(Text(f"    {strip_controls(line)}", style))
        if len(change.diff) > MAX_DIFF_LINES:
            console.print(Text(f"    ... {len(change.diff) - MAX_DIFF_LINES} lines more"))
    if len(changes) > MAX_CHANGES:
        console.print(Text(f"  and {len(changes) - MAX_CHANGES} changes more: --json has all"))


def _sum(findings: Sequence[LintFinding]) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in (PROBLEM, WARNING)
    }
    words = [_plural(number, name) for name, number in counts.items() if number]
    return ", ".join(words) or "all well"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _as_json(
    report: LintReport,
    words: ClusterWords,
    against: str | None,
    changes: Sequence[Change],
    not_checked: Sequence[str],
) -> dict[str, Any]:
    return {
        "templates": report.templates,
        "profiles": [profile.name for profile in report.profiles],
        "sweeps": [sweep.file for sweep in report.sweeps],
        "scripts": report.n_scripts,
        "cluster": words.name,
        "findings": [
            {
                "severity": finding.severity,
                "check": finding.check,
                "file": finding.file or None,
                "line": finding.line,
                "message": finding.message,
                "seen": list(finding.seen),
            }
            for finding in report.findings
        ],
        "against": against,
        "changes": [
            {"scripts": list(change.scripts), "diff": list(change.diff)} for change in changes
        ],
        "not_checked": list(not_checked),
    }
