"""Where a plan's trials would run, and what Slurm says of it: one site for each partition.

Runs on the login node; called by ``usecases.plan``. Slurm is asked once, whatever the number of
partitions; where it does not answer, or there is none, a site stands on its profile alone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.adapters import slurm_limits
from orchestrator.adapters.executors.local import count_gpus
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.slurm_limits import SlurmAnswers
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.placement import Place
from orchestrator.domain.plan_accounts import find_sources
from orchestrator.domain.plan_limits import Machine, Room, describe_partition, room_of_profile
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases import requeue_mode
from orchestrator.usecases.requeue_mode import SiteTexts
from orchestrator.usecases.scripts import Scripts


@dataclass(frozen=True)
class PlanSite:
    """A partition of a plan."""

    profile: PartitionProfile
    """Its profile, with ``requeue`` decided."""
    room: Room
    """What it holds."""
    scripts: Scripts
    """For the scripts themselves."""

    @property
    def allows(self) -> str:
        """What the partition allows, in words; empty if that is not known."""
        return "" if self.room.partition is None else describe_partition(self.room.partition)

    @property
    def default_min(self) -> int | None:
        """The time limit that Slurm gives a job without one, in minutes; None if not known."""
        partition = self.room.partition
        return None if partition is None else partition.default_time_min or partition.max_time_min


def ask(cluster: str) -> tuple[SlurmAnswers | None, str | None]:
    """Ask Slurm for its limits.

    Args:
        cluster: ``slurm``, or what is not asked.

    Returns:
        Its answers, if it was asked and answered; and why it did not answer.
    """
    if cluster != "slurm":
        return None, None
    try:
        return slurm_limits.ask_slurm(), None
    except ClusterUnreachable as error:
        return None, str(error)


def make_sites(
    places: Iterable[Place],
    cluster: str,
    answers: SlurmAnswers | None,
    renderer: Renderer,
    sweep: SweepPaths,
    spec: SweepSpec,
) -> dict[str, PlanSite]:
    """Describe the partitions that trials may go to, by name.

    Args:
        places: Where trials fit.
        cluster: ``slurm``, ``local`` or ``profile``.
        answers: What Slurm said; None: not asked, or no answer.
        renderer: Renders the templates.
        sweep: Where the sweep lies, or would.
        spec: The sweep.

    Raises:
        UserError: A template is missing.
    """
    profiles = {place.name: place.profile for place in places}
    texts = SiteTexts()
    sites = {}
    for name, profile in profiles.items():
        decided = _decide_requeue(profile, cluster, answers, texts)
        room = _room(profile, cluster, answers)
        sites[name] = PlanSite(decided, room, Scripts(renderer, sweep, spec, decided))
    return sites


def total_gpus(sites: Mapping[str, PlanSite]) -> dict[str, int]:
    """Return the GPUs of each partition, where known."""
    return {name: site.room.total_gpus for name, site in sites.items()}


def _room(
    profile: PartitionProfile,
    cluster: str,
    answers: SlurmAnswers | None,
) -> Room:
    if cluster == "local":
        return _this_machine()
    if answers is None:
        return room_of_profile(profile)
    name = profile.slurm_partition
    partition = answers.partitions.get(name)
    packing = answers.packing
    if partition is not None:
        packing = dataclasses.replace(
            packing,
            whole_nodes=packing.whole_nodes or partition.is_exclusive,
            max_cpus_per_node=partition.max_cpus_per_node,
        )
    accounts = answers.accounts
    options = dict(profile.sbatch)  # they stand after the profile's own, and the last one counts
    sources = find_sources(
        accounts.associations,
        accounts.qos,
        user=answers.user,
        default_account=accounts.default_account,
        account=options.get("account") or profile.account,
        job_qos=options.get("qos") or profile.qos,
        partition=name,
        partition_qos=None if partition is None else partition.qos,
    )
    nodes = tuple(node for node in answers.nodes if name in node.partitions)
    return Room(f"partition {name}", nodes, packing, partition, tuple(sources))


def _this_machine() -> Room:
    """Describe this machine as the local executor counts it."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cpus = len(os.sched_getaffinity(0)) if has_affinity else (os.cpu_count() or 1)
    return Room("this machine", machine=Machine(n_cpus, count_gpus()))


def _decide_requeue(
    profile: PartitionProfile, cluster: str, answers: SlurmAnswers | None, texts: SiteTexts
) -> PartitionProfile:
    is_known = cluster == "slurm" and answers is not None
    try:
        return requeue_mode.resolve(profile, "slurm" if is_known else "local", True, texts).profile
    except ClusterUnreachable:  # it went away just now
        return requeue_mode.resolve(profile, "local", True).profile
