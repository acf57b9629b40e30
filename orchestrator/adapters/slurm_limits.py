"""Asking Slurm what it allows, and whether it would take a script. Login node; changes nothing.

``sbatch --test-only`` gets the script on its standard input, so nothing is written. The texts are
read by ``domain.site``, ``domain.plan_nodes``, ``domain.plan_accounts`` and
``domain.sbatch_answer``.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from dataclasses import dataclass, field

from orchestrator.adapters import slurm_cli
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.domain.plan_accounts import (
    ASSOC_FIELDS,
    QOS_FIELDS,
    Association,
    Qos,
    parse_associations,
    parse_qos,
)
from orchestrator.domain.plan_nodes import NodeConfig, Packing, parse_nodes, parse_packing
from orchestrator.domain.sbatch_answer import ScriptAnswer, parse_test_only
from orchestrator.domain.site import PartitionConfig, SiteConfig, parse_partitions, parse_site

# sacctmgr may wait long for a slurmdbd that is down; a plan stands without it.
SACCTMGR_TIMEOUT_S = 20.0
TEST_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Accounts:
    """Limits of QOS and accounts, if they are enforced."""

    associations: list[Association] = field(default_factory=list)
    """The user's, and those of all accounts."""
    qos: dict[str, Qos] = field(default_factory=dict)
    """By name."""
    default_account: str | None = None
    """The user's; None: not known."""
    note: str = ""
    """Why there are none, or why they are not known; empty if they are."""


@dataclass(frozen=True)
class SlurmAnswers:
    """What Slurm said of itself."""

    site: SiteConfig
    """Its configuration."""
    packing: Packing
    """What it counts on a node."""
    partitions: dict[str, PartitionConfig]
    """Its partitions, by name."""
    nodes: list[NodeConfig]
    """Its nodes."""
    accounts: Accounts
    """Limits on this user."""
    user: str
    """This user."""


def ask_slurm() -> SlurmAnswers:
    """Ask the controller, and slurmdbd where limits of accounts are enforced.

    Raises:
        ClusterUnreachable: The controller did not answer.
    """
    text = slurm_cli.config_text()
    site = parse_site(text)
    user = _user_name()
    return SlurmAnswers(
        site=site,
        packing=parse_packing(text),
        partitions=parse_partitions(slurm_cli.partitions_text()),
        nodes=parse_nodes(slurm_cli.query(["scontrol", "-a", "-d", "-o", "show", "node"])),
        accounts=_ask_accounts(text, site, user),
        user=user,
    )


def ask_about(text: str) -> ScriptAnswer:
    """Ask Slurm whether it would take a script, and when it could start; submits nothing."""
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            input=text.encode("utf-8"),
            check=False,
            capture_output=True,
            timeout=TEST_TIMEOUT_S,
            env={**slurm_cli.clean_environment(os.environ), "LC_ALL": "C"},
        )
    except OSError as error:
        return ScriptAnswer(None, f"sbatch: {error.strerror}")
    except subprocess.TimeoutExpired:
        return ScriptAnswer(None, f"sbatch: no answer in {TEST_TIMEOUT_S:.0f} s")
    words = done.stderr + b"\n" + done.stdout
    return parse_test_only(done.returncode, words.decode("utf-8", "replace"))


def _ask_accounts(config: str, site: SiteConfig, user: str) -> Accounts:
    if site.accounting is None:
        return Accounts()  # there are none
    match = re.search(r"(?m)^AccountingStorageEnforce\s*=\s*(\S*)", config)
    enforced = set(match[1].lower().split(",")) if match is not None else set()
    if not enforced & {"limits", "safe", "all", "1"}:
        return Accounts()  # none that anybody enforces
    who = ["-n", "-P", "show", "assoc", "where"]
    form = [f"format={ASSOC_FIELDS}"]
    cluster = [f"cluster={site.cluster}"] if site.cluster else []
    try:
        mine = _sacctmgr([*who, f"user={user}", *cluster, *form])
        above = _sacctmgr([*who, "user=", *cluster, *form])
        qos = _sacctmgr(["-n", "-P", "show", "qos", f"format={QOS_FIELDS}"])
        default = _sacctmgr(["-n", "-P", "show", "user", user, "format=DefaultAccount"]).strip()
    except ClusterUnreachable as error:
        return Accounts(note=f"those of accounts and QOS are not known: {error}")
    return Accounts(
        [*parse_associations(mine), *parse_associations(above)], parse_qos(qos), default or None
    )


def _sacctmgr(words: list[str]) -> str:
    return slurm_cli.query(["sacctmgr", *words], SACCTMGR_TIMEOUT_S)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
