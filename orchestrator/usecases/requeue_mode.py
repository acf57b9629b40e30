"""Requeue or resubmit mode of a submission: as written down, else as the site allows. Login node.

``requeue: auto`` is the default of a profile. It is resolved here, before anything is rendered,
with one look at the site, whose text the submission uses for its limits as well.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.slurm_cli import ClusterLimits
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.site import RequeueChoice, choose_requeue, parse_partitions, parse_site


class SiteTexts:
    """Slurm's answers, each asked for once and only if it is needed."""

    @functools.cached_property
    def config(self) -> str:
        """The configuration; raises ``ClusterUnreachable`` without an answer."""
        return slurm_cli.config_text()

    @functools.cached_property
    def partitions(self) -> str:
        """The partitions; likewise."""
        return slurm_cli.partitions_text()


@dataclass(frozen=True)
class RequeueMode:
    """What came of it."""

    profile: PartitionProfile
    """The profile with ``requeue`` decided."""
    choice: RequeueChoice | None = None
    """The mode and why; None on this machine, which requeues nothing."""
    limits: ClusterLimits | None = None
    """The cluster's limits, if it was asked for its configuration."""

    def read_limits(self) -> ClusterLimits:
        """Return the cluster's limits, asking only if that was not done yet.

        Raises:
            ClusterUnreachable: No answer.
        """
        return slurm_cli.read_limits() if self.limits is None else self.limits


def resolve(
    profile: PartitionProfile, cluster: str, has_work: bool, site: SiteTexts | None = None
) -> RequeueMode:
    """Decide ``requeue: auto`` for a submission.

    Args:
        profile: The partition, with the sweep's overrides.
        cluster: ``slurm`` or ``local``.
        has_work: Whether anything will be submitted; if not, the site is not asked.
        site: Slurm's answers, shared by the partitions of a submission.

    Raises:
        ClusterUnreachable: It is ``auto`` and Slurm did not answer.
    """
    if profile.requeue is not None:
        word = "true" if profile.requeue else "false"
        explicit = RequeueChoice(profile.requeue, f"`requeue: {word}` is set")
        return RequeueMode(profile, explicit if cluster == "slurm" else None)
    if cluster != "slurm" or not has_work:
        # Scripts of a local run may be given to sbatch by hand: then Slurm's own default is best.
        return RequeueMode(dataclasses.replace(profile, requeue=True))
    site = site or SiteTexts()
    text = site.config
    partition = parse_partitions(site.partitions).get(profile.slurm_partition)
    choice = choose_requeue(parse_site(text), partition)
    decided = dataclasses.replace(profile, requeue=choice.requeue)
    return RequeueMode(decided, choice, slurm_cli.parse_config(text))
