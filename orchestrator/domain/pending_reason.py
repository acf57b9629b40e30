"""Why Slurm does not start a task, in words, where waiting alone will not help. Pure.

The reasons are those of squeue(1), "JOB REASON CODES", Slurm 22.05 to 26.05. Whatever is not listed
here (Priority, Resources, BeginTime, a group's limit, ...) passes by itself. So may "Nodes required
for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", which 22.05 says of a
job that only waits for others.
"""

from __future__ import annotations

import functools
import re

_BLOCKED: tuple[tuple[str, str], ...] = (
    ("PartitionTimeLimit", "the time it asks for is over the partition's limit"),
    ("PartitionNodeLimit", "the number of nodes it asks for is not within the partition's limits"),
    ("PartitionConfig", "it asks for more than the partition allows"),
    ("PartitionDown", "the partition is down"),
    ("PartitionInactive", "the partition starts no jobs"),
    ("BadConstraints", "no node can meet its constraints"),
    ("ReqNodeNotAvail", "a node it needs is down, drained or reserved"),
    ("AccountNotAllowed", "the partition does not allow its account"),
    ("InvalidAccount", "its account is not valid"),
    ("QOSNotAllowed", "its QOS is not allowed for the account or the partition"),
    ("InvalidQOS", "its QOS is not valid"),
    ("DependencyNeverSatisfied", "it depends on a job that cannot succeed any more"),
    ("JobHeldUser", "it is held; `scontrol release` lets it go"),
    ("job requeued in held state", "it is held; `make release` or `scontrol release` lets it go"),
    ("JobHeldAdmin", "an administrator holds it"),
    ("JobHoldMaxRequeue", "it was requeued too often and is held"),
    ("launch failed", "Slurm could not launch it and holds it; submit or supervise releases it"),
    ("ReservationDeleted", "its reservation is gone"),
)
# Limits on one job: AssocMaxCpuPerJobLimit, QOSMaxWallDurationPerJobLimit, QOSMinGRES, ...
_NEVER = re.compile(r"(?:Assoc|QOS)(?:Max\w*PerJob\w*|Min\w+|MaxCpuPerNode|MaxWallDuration\w*)")


@functools.lru_cache(maxsize=1024)  # ten thousand trials wait for few reasons
def explain_blocked(reason: str) -> str | None:
    """Say what keeps a waiting task from ever starting.

    Args:
        reason: squeue's ``%r``, such as ``ReqNodeNotAvail, UnavailableNodes:n1``.

    Returns:
        Words for people; None where it only has to wait.
    """
    if not reason:
        return None
    for start, words in _BLOCKED:
        if reason.lower().startswith(start.lower()):
            return words
    if _NEVER.match(reason):
        return "it asks for more than its account or QOS allows one job"
    return None
