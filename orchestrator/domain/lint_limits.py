"""Whether a partition profile promises more than its Slurm partition has. Pure.

Reads what ``scontrol show partition`` and ``show node`` said (``domain.site``,
``domain.plan_nodes``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.domain.lint import PROBLEM, WARNING, LintFinding
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.plan_nodes import NodeConfig
from orchestrator.domain.site import PartitionConfig
from orchestrator.domain.spec_tree import nearest

CHECK = "limit"


def find_beyond(
    profile: PartitionProfile,
    partitions: Mapping[str, PartitionConfig],
    nodes: Sequence[NodeConfig],
) -> list[LintFinding]:
    """Return what a profile says and its partition does not have, at the profile's lines."""
    name = profile.slurm_partition
    partition = partitions.get(name)
    if partition is None:
        hint = nearest(name, partitions)
        words = f"Slurm has no partition {name!r}; {hint}it has: {', '.join(partitions)}"
        return [_finding(profile, "slurm_partition", words)]
    found = _beyond_partition(profile, partition)
    own = [node for node in nodes if name in node.partitions]
    if own:
        found += _beyond_nodes(profile, own)
    return found


def _beyond_partition(profile: PartitionProfile, partition: PartitionConfig) -> list[LintFinding]:
    found = []
    for key, minutes in (
        ("max_time", profile.max_time_min),
        ("defaults.time", profile.defaults.get("time_min")),
    ):
        most = partition.max_time_min
        if most is not None and minutes is not None and minutes > most:
            words = f"{minutes} minutes; partition {partition.name} runs jobs for {most} at most"
            found.append(_finding(profile, key, words))
    if partition.n_nodes is not None and (profile.nodes or 0) > partition.n_nodes:
        words = f"{profile.nodes}; partition {partition.name} has {partition.n_nodes}"
        found.append(_finding(profile, "nodes", words))
    if profile.grace_s is not None and partition.grace_s < profile.grace_s:
        words = f"{profile.grace_s}; partition {partition.name} has GraceTime={partition.grace_s}"
        found.append(_finding(profile, "grace_s", words, WARNING))
    return found


def _beyond_nodes(profile: PartitionProfile, nodes: Sequence[NodeConfig]) -> list[LintFinding]:
    found = []
    gpu_type = profile.gpu_type
    types = sorted({kind for node in nodes for kind in node.gpus if kind})
    if gpu_type is not None and gpu_type.lower() not in types:
        words = f"{gpu_type!r}: no node of {profile.slurm_partition} has such GPUs; "
        words += f"Slurm knows {', '.join(types)}" if types else "Slurm knows no types of GPU there"
        found.append(_finding(profile, "gpu_type", words))
        gpu_type = None
    most = {
        "gpus": max(node.count_gpus(gpu_type) for node in nodes),
        "cpus": max(node.cpus for node in nodes),
        "mem_gb": max(node.mem_mb for node in nodes) / 1024,
    }
    stated = {
        "gpus": profile.gpus_per_node,
        "cpus": profile.cpus_per_node,
        "mem_gb": profile.mem_gb_per_node,
    }
    for key, limit in most.items():
        if key == "mem_gb" and limit == 0:
            continue  # Slurm does not count memory there
        pairs = ((f"{key}_per_node", stated[key]), (f"defaults.{key}", profile.defaults.get(key)))
        for shown, value in pairs:
            if value is not None and value > limit:
                words = f"{value:g}; the largest node of {profile.slurm_partition} has {limit:g}"
                found.append(_finding(profile, shown, words))
    return found


def _finding(
    profile: PartitionProfile, key: str, words: str, severity: str = PROBLEM
) -> LintFinding:
    file, line = profile.locate(key)
    return LintFinding(file, line, CHECK, f"{profile.name}.{key}: {words}", severity)
