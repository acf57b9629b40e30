"""Asking a Slurm site about itself, for ``doctor``. Runs on the login node; changes nothing.

The texts are read by ``domain.site``.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from orchestrator.adapters import slurm_cli
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.domain.site import PartitionConfig, SiteConfig, parse_partitions, parse_site

# sacct may wait long for a slurmdbd that is down; a doctor's visit should not.
SACCT_TIMEOUT_S = 20.0
COMMANDS = ("sbatch", "scontrol", "squeue", "scancel", "srun")


@dataclass(frozen=True)
class SiteAnswers:
    """What Slurm said."""

    site: SiteConfig
    """Its configuration."""
    partitions: dict[str, PartitionConfig]
    """Its partitions, by name."""
    sacct_error: str | None
    """Why sacct did not answer; None if it did, or there is no accounting."""
    conf_path: str
    """Where this machine's slurm.conf lies."""
    is_conf_readable: bool
    """Whether this user may read it."""


def has_slurm() -> bool:
    """Tell whether this machine has Slurm's commands, whether or not they answer."""
    return shutil.which("sbatch") is not None


def missing_commands() -> list[str]:
    """Names of Slurm's commands that are not on PATH."""
    return [name for name in COMMANDS if shutil.which(name) is None]


def ask_site() -> SiteAnswers:
    """Ask the controller, and sacct where there is accounting.

    Raises:
        ClusterUnreachable: The controller did not answer.
    """
    text = slurm_cli.config_text()
    site = parse_site(text)
    partitions = parse_partitions(slurm_cli.partitions_text())
    conf = os.environ.get("SLURM_CONF") or site.conf_path
    return SiteAnswers(
        site,
        partitions,
        _sacct_error() if site.accounting is not None else None,
        conf,
        os.access(conf, os.R_OK),
    )


def _sacct_error() -> str | None:
    try:
        slurm_cli.query(["sacct", "-X", "-n", "-P", "-S", "now", "-o", "JobID"], SACCT_TIMEOUT_S)
    except ClusterUnreachable as error:
        return str(error).removeprefix("sacct: ")
    return None
