"""What a cluster says of the profiles and scripts that ``lint`` looks at. Login node.

Asks only: its partitions and nodes, the options that its plugins add to sbatch, and, of each
different header, whether sbatch would take it (``sbatch --test-only``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.adapters import slurm_cli, slurm_limits, slurm_site
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.domain.lint import PROBLEM, LintFinding
from orchestrator.domain.lint_limits import find_beyond
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.plan_nodes import NodeConfig, parse_nodes
from orchestrator.domain.site import PartitionConfig, parse_partitions, parse_site
from orchestrator.usecases.lint import LintReport, Script

CLUSTERS = ("auto", "slurm", "none")
# Each takes the controller some milliseconds; beyond, a folder of examples is no longer one.
MAX_TESTS = 60
HELP_TIMEOUT_S = 20.0
_OPTION = re.compile(r"--([a-z][a-z0-9-]+)")
# What differs between jobs of one kind, and matters to nobody here.
_OWN = re.compile(r"#SBATCH --(job-name|output|chdir|error)=")


@dataclass
class ClusterWords:
    """What the cluster said, and what it could not be asked."""

    name: str | None = None
    """``ClusterName``; None without a cluster."""
    version: tuple[int, ...] | None = None
    """Slurm's release; None if it is not known."""
    options: tuple[str, ...] = ()
    """Options of sbatch as it lists them itself, those of plugins too."""
    partitions: dict[str, PartitionConfig] = field(default_factory=dict)
    """Its partitions, by name."""
    nodes: list[NodeConfig] = field(default_factory=list)
    """Its nodes."""
    not_checked: list[str] = field(default_factory=list)
    """What nobody looked at, in words."""
    summary: str = ""
    """What was asked, in words; empty without a cluster."""

    def judge(self, report: LintReport) -> list[LintFinding]:
        """Return what the cluster has against the profiles, and against the scripts."""
        if self.name is None:
            return []
        found: list[LintFinding] = []
        for profile in report.profiles:
            found += find_beyond(profile, self.partitions, self.nodes)
        # Sbatch would only repeat what is known to be wrong with a script.
        wrong = {words for f in report.findings if f.severity == PROBLEM for words in f.seen}
        tests = _distinct([s for s in report.scripts if s.combination.words(s.kind) not in wrong])
        for script in tests[:MAX_TESTS]:
            if script.combination.profile.slurm_partition in self.partitions:
                found += self._test(script)
        if len(tests) > MAX_TESTS:
            self.not_checked.append(f"{len(tests) - MAX_TESTS} more headers by sbatch --test-only")
        self.summary += f", {min(len(tests), MAX_TESTS)} headers tried with sbatch --test-only"
        return found

    def _test(self, script: Script) -> list[LintFinding]:
        answer = slurm_limits.ask_about(script.text)
        if answer.accepted or answer.is_full:
            return []
        words = one_line(answer.words)
        wanted = script.combination
        if answer.accepted is None:
            self.not_checked.append(f"{wanted.words(script.kind)}: sbatch: {words}")
            return []
        file, line = wanted.sweep.locate(wanted.profile)
        message = f"profile {wanted.profile.name}: sbatch would refuse its {script.kind}: {words}"
        return [LintFinding(file, line, "test-only", message)]


def ask_cluster(mode: str) -> ClusterWords:
    """Ask the cluster about itself.

    Args:
        mode: ``auto``: if there is one; ``slurm``: there has to be; ``none``: do not.

    Raises:
        ClusterUnreachable: With ``slurm``, if it does not answer.
    """
    if mode == "none":
        return ClusterWords(not_checked=["what a cluster says: --cluster none"])
    if mode == "auto" and not slurm_site.has_slurm():
        return ClusterWords(not_checked=["what a cluster says: no Slurm on this machine"])
    try:
        site = parse_site(slurm_cli.config_text())
        partitions = parse_partitions(slurm_cli.partitions_text())
        nodes = parse_nodes(slurm_cli.query(["scontrol", "-a", "-o", "show", "node"]))
        listed = slurm_cli.query(["sbatch", "--help"], HELP_TIMEOUT_S)
    except ClusterUnreachable as error:
        if mode == "slurm":
            raise
        return ClusterWords(not_checked=[f"what a cluster says: {one_line(str(error), 120)}"])
    return ClusterWords(
        name=site.cluster,
        version=site.version,
        options=tuple(sorted(set(_OPTION.findall(listed)))),
        partitions=partitions,
        nodes=nodes,
        summary=f"cluster {site.cluster}, Slurm {site.version_text}",
    )


def _distinct(scripts: list[Script]) -> list[Script]:
    """Return a script of each different header."""
    first: dict[str, Script] = {}
    for script in scripts:
        lines = [line for line in script.text.split("\n") if line.startswith("#SBATCH")]
        header = "\n".join(line for line in lines if not _OWN.match(line))
        first.setdefault(header, script)
    return list(first.values())
