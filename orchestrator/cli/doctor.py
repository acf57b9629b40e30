"""``orchestrator doctor``: this site's traps, and what is done about each."""

from __future__ import annotations

import argparse
import signal
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestrator.cli.arguments import Parser, results_hint
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates
from orchestrator.contract.errors import EXIT_OK, EXIT_TRY_AGAIN
from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING, Finding
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.site import PartitionConfig, SiteConfig, effective_grace_s, preempt_mode
from orchestrator.usecases.doctor import Diagnosis, DoctorOptions, examine
from orchestrator.usecases.probe import DEFAULT_WAIT_S

DESCRIPTION = """\
Look at this Slurm site, its partitions and this machine, and name what troubles
sweeps there: what is so, what is done about it by itself, and what is left to
do. Reads only; --probe submits one tiny job per profile.

exit codes: 0 no problem, 1 problems found, 2 your mistake, 3 Slurm does not
answer
"""
EXIT_PROBLEMS = 1
WIDTH = 79
_STYLES = {OK: "green", NOTE: "cyan", WARNING: "yellow", PROBLEM: "bold red"}
# A severity, its topic's indent, and the words of what we do and what is left to do.
_INDENT = " " * 10
_HANGING = _INDENT + " " * 5


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``DESCRIPTION`` for the exit codes."""
    options = _parse(argv)
    # So that a terminated doctor cancels its probes as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    diagnosis = examine(
        DoctorOptions(
            options.results,
            options.templates or default_templates(),
            tuple(options.profiles),
            options.probe,
            options.wait,
        )
    )
    if options.json:
        print_json("doctor", _as_json(diagnosis))
    else:
        _Report(Console(highlight=False, soft_wrap=True)).show(diagnosis, options)
    if diagnosis.unreachable is not None:
        return EXIT_TRY_AGAIN
    return EXIT_PROBLEMS if diagnosis.count()[PROBLEM] else EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="orchestrator doctor",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "profiles", nargs="*", metavar="PROFILE", help="profiles to look at (default: all)"
    )
    parser.add_argument(
        "--results", default="results", metavar="FOLDER", help="results folder (default: results)"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--probe", action="store_true", help="ask the nodes too, by one tiny job per profile"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=DEFAULT_WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait for those (default: {DEFAULT_WAIT_S:.0f})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser.parse_intermixed_args(list(argv))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use seconds, at most 86400")
    return value


class _Report:
    """Prints a diagnosis for people."""

    def __init__(self, console: Console):
        self._console = console

    def show(self, diagnosis: Diagnosis, options: argparse.Namespace) -> None:
        """Print all of it, in at most ``WIDTH`` columns."""
        if diagnosis.site is not None:
            self._show_site(diagnosis)
        elif diagnosis.unreachable is not None:
            self._say("Slurm does not answer, so the site was not examined: ", "")
            self._say(strip_controls(diagnosis.unreachable), "  ")
            self._say("Type the same command later.", "  ")
        else:
            self._say("This machine has no Slurm: sweeps run here (`make demo`).", "")
        self._line("")
        self._title("This machine and the results folder")
        for finding in diagnosis.about("")[diagnosis.n_site :]:
            self._show(finding)
        self._show_end(diagnosis, options)

    def _show_site(self, diagnosis: Diagnosis) -> None:
        assert diagnosis.site is not None
        site = diagnosis.site.site
        self._title(f"Cluster {site.cluster or 'unknown'}, Slurm {site.version_text}")
        for finding in diagnosis.about("")[: diagnosis.n_site]:
            self._show(finding)
        for profile in diagnosis.profiles:
            self._line("")
            partition = diagnosis.site.partitions.get(profile.slurm_partition)
            self._title(f"Profile {profile.name}: {_partition_words(site, partition)}")
            for finding in diagnosis.about(profile.name):
                self._show(finding)

    def _show(self, finding: Finding) -> None:
        lines = _wrap(finding.what_is, "", _INDENT)
        first = Text("  ").append(f"{finding.severity:<8}", _STYLES[finding.severity])
        self._line(first.append(lines[0].lstrip()))
        for line in lines[1:]:
            self._line(line)
        for word, text in (("we:", finding.what_we_do), ("you:", finding.remedy)):
            if text:
                for line in _wrap(text, f"{word:<5}", _HANGING):
                    self._line(line)

    def _show_end(self, diagnosis: Diagnosis, options: argparse.Namespace) -> None:
        self._line("")
        if diagnosis.not_checked:
            self._title("Not checked")
            for text in diagnosis.not_checked:
                self._say(f"- {text}", "  ")
            if not options.probe and diagnosis.site is not None:
                where = results_hint(options.results)
                self._say(f"The nodes are asked by: make doctor{where} ARGS=--probe", "  ")
            self._line("")
        self._say("we: what is done by itself; you: what you or your sysadmins can do", "")
        counts = diagnosis.count()
        words = [_plural(counts[key], key) for key in (PROBLEM, WARNING, NOTE) if counts[key]]
        self._say(", ".join(words) or "all well", "")

    def _title(self, text: str) -> None:
        for line in textwrap.wrap(strip_controls(text), WIDTH, subsequent_indent="  "):
            self._line(Text(line, "bold"))

    def _say(self, text: str, indent: str) -> None:
        for line in textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent):
            self._line(line)

    def _line(self, line: str | Text) -> None:
        self._console.print(Text(line) if isinstance(line, str) else line)


def _wrap(text: str, word: str, indent: str) -> list[str]:
    first = indent[: len(indent) - len(word)] + word
    return textwrap.wrap(
        strip_controls(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _partition_words(site: SiteConfig, partition: PartitionConfig | None) -> str:
    if partition is None:
        return "no such partition"
    words = [f"partition {partition.name}"]
    mode, grace = preempt_mode(site, partition), effective_grace_s(site, partition)
    if mode != "OFF":
        shown = "of its QOS" if grace is None else f"{grace} s" if grace else "none"
        words.append(f"PreemptMode={mode}, grace {shown}")
    if partition.n_nodes is not None:
        words.append(_plural(partition.n_nodes, "node"))
    return ", ".join(words)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    site = diagnosis.site.site if diagnosis.site is not None else None
    return {
        "slurm": diagnosis.has_slurm,
        "unreachable": diagnosis.unreachable,
        "cluster": None if site is None else site.cluster,
        "version": None if site is None else site.version_text,
        "profiles": [profile.name for profile in diagnosis.profiles],
        "counts": diagnosis.count(),
        "findings": [
            {
                "severity": finding.severity,
                "topic": finding.topic,
                "profile": finding.profile or None,
                "what_is": finding.what_is,
                "what_we_do": finding.what_we_do or None,
                "remedy": finding.remedy or None,
            }
            for finding in diagnosis.findings
        ],
        "not_checked": diagnosis.not_checked,
    }
