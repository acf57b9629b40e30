"""Examining a site, its partitions and this machine for what troubles sweeps.

Runs on the login node. Reads only, but for a folder of its own in the results folder, and the
tiny jobs of ``--probe``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.adapters import slurm_site
from orchestrator.adapters.folder_check import FolderFacts, check_folder
from orchestrator.adapters.profiles import read_profiles
from orchestrator.adapters.slurm_site import SiteAnswers
from orchestrator.contract.errors import ClusterUnreachable, UserError
from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING, Finding, count_severities
from orchestrator.domain.folder_findings import (
    find_clock,
    find_links,
    find_locks,
    find_private,
    find_space,
    find_writable,
)
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.partition_findings import find_partition
from orchestrator.domain.probe import find_probe
from orchestrator.domain.site_findings import find_site
from orchestrator.domain.spec_tree import nearest
from orchestrator.usecases.probe import DEFAULT_WAIT_S, Prober

NOT_PROBED = (
    "whether the nodes share the working directory and the results folder",
    "whether the Python of the trials runs there",
    "whether the nodes' clocks agree with this machine's",
)
NEVER_CHECKED = ("KillWait as the nodes really keep it", "quotas")


@dataclass(frozen=True)
class DoctorOptions:
    """What to examine."""

    results: str
    """The results folder."""
    templates: str
    """The templates folder."""
    profiles: tuple[str, ...] = ()
    """Names of the profiles to look at; none: all."""
    probe: bool = False
    """Whether to submit a tiny job per profile."""
    wait_s: float = DEFAULT_WAIT_S
    """How long to wait for those."""


@dataclass
class Diagnosis:
    """What was found."""

    site: SiteAnswers | None = None
    """What Slurm said; None without Slurm, or if it did not answer."""
    has_slurm: bool = False
    """Whether this machine has Slurm's commands."""
    unreachable: str | None = None
    """Why Slurm did not answer."""
    profiles: list[PartitionProfile] = field(default_factory=list)
    """The profiles that were looked at; none without Slurm's answer."""
    findings: list[Finding] = field(default_factory=list)
    """In the order to show them: the site, each profile, this machine."""
    n_site: int = 0
    """How many of the first findings are about the site as a whole."""
    not_checked: list[str] = field(default_factory=list)
    """What nobody looked at, in words."""

    def about(self, profile: str) -> list[Finding]:
        """Findings about a profile; those about none for the empty name."""
        return [finding for finding in self.findings if finding.profile == profile]

    def count(self) -> dict[str, int]:
        """Number of findings by severity."""
        return count_severities(self.findings)


def examine(options: DoctorOptions) -> Diagnosis:
    """Look at everything that can be looked at.

    Raises:
        UserError: There is no such profile, or the profiles cannot be read.
    """
    profiles = _choose(options)
    diagnosis = Diagnosis(has_slurm=slurm_site.has_slurm())
    folder = check_folder(options.results)
    if diagnosis.has_slurm:
        _examine_slurm(diagnosis, profiles, options, folder)
    diagnosis.findings += _machine(diagnosis.site)
    diagnosis.findings += _folder(folder)
    if diagnosis.site is not None:
        diagnosis.not_checked += () if options.probe else NOT_PROBED
        diagnosis.not_checked += NEVER_CHECKED
    return diagnosis


def _choose(options: DoctorOptions) -> list[PartitionProfile]:
    known = read_profiles(options.templates)
    for name in options.profiles:
        if name not in known:
            raise UserError(
                f"no profile {name!r} in {options.templates}; {nearest(name, known)}"
                f"it has: {', '.join(known)}"
            )
    return [known[name] for name in options.profiles or known]


def _examine_slurm(
    diagnosis: Diagnosis,
    profiles: list[PartitionProfile],
    options: DoctorOptions,
    folder: FolderFacts,
) -> None:
    try:
        answers = slurm_site.ask_site()
    except ClusterUnreachable as error:
        diagnosis.unreachable = str(error)
        return
    diagnosis.site, diagnosis.profiles = answers, profiles
    diagnosis.findings += find_site(answers.site, answers.sacct_error)
    diagnosis.n_site = len(diagnosis.findings)
    for profile in profiles:
        diagnosis.findings += find_partition(answers.site, answers.partitions, profile)
    if options.probe:
        _probe(diagnosis, answers, profiles, options, folder)


def _probe(
    diagnosis: Diagnosis,
    answers: SiteAnswers,
    profiles: Sequence[PartitionProfile],
    options: DoctorOptions,
    folder: FolderFacts,
) -> None:
    there = [profile for profile in profiles if profile.slurm_partition in answers.partitions]
    if not there or folder.error is not None or slurm_site.missing_commands():
        diagnosis.not_checked += NOT_PROBED  # what hinders it is a finding of its own
        return
    workdir = os.getcwd()
    try:
        results = Prober(options.results, options.templates, options.wait_s).run(there)
    except ClusterUnreachable as error:
        diagnosis.unreachable = str(error)
        diagnosis.not_checked += NOT_PROBED
        return
    for profile in there:
        diagnosis.findings += find_probe(
            profile,
            results[profile.name],
            python=sys.executable,
            workdir=workdir,
            workdir_inode=os.stat(workdir).st_ino,
            server_ahead_s=folder.clock_s,
            wait_s=options.wait_s,
        )


def _machine(answers: SiteAnswers | None) -> list[Finding]:
    if answers is None:
        return []
    missing = slurm_site.missing_commands()
    findings = [
        Finding(OK, "commands", "Slurm's commands are here and answer.")
        if not missing
        else Finding(
            PROBLEM if "sbatch" in missing else WARNING,
            "commands",
            f"Not on PATH here: {', '.join(missing)}.",
            "",
            "Add the folder of Slurm's commands to PATH.",
        )
    ]
    if answers.conf_path and not answers.is_conf_readable:
        findings.append(
            Finding(
                NOTE,
                "slurm-conf",
                f"{answers.conf_path} cannot be read here; Slurm's commands answer all the same.",
            )
        )
    return findings


def _folder(facts: FolderFacts) -> list[Finding]:
    findings: list[Finding | None] = [
        find_writable(facts.path, facts.tried, facts.kind, facts.error)
    ]
    if facts.error is None:
        findings += [
            find_private(facts.is_mine, facts.others_may_write),
            find_links(facts.link_error),
            find_locks(facts.lock_error, facts.has_no_locks),
            find_space(facts.free_bytes, facts.free_inodes),
            find_clock(facts.clock_s, "The file server", "server-clock"),
        ]
    return [finding for finding in findings if finding is not None]
