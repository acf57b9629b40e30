"""Drafting the profile and the template of a partition from what Slurm says about it. Pure.

What nobody but a sysadmin knows, the price above all, is left as a line to fill in, which
``orchestrator lint`` reminds of.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.plan_nodes import NodeConfig
from orchestrator.domain.site import PartitionConfig, SiteConfig, effective_grace_s, preempt_mode

TO_FILL = "FILL IN"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
BASE = "base.sbatch.j2"
# Where Slurm is not there to say what a node has.
UNKNOWN = "what a node has"
_COLUMN = 33


@dataclass(frozen=True)
class PartitionFacts:
    """What Slurm said about one partition."""

    site: SiteConfig
    """The cluster."""
    partition: PartitionConfig
    """The partition."""
    nodes: tuple[NodeConfig, ...]
    """Its nodes."""


def draft_template(name: str) -> str:
    """Return a partition's template: everything as in the base, with room for what differs."""
    return f"""\
{{# Partition {name}. All is as in the base until a block is replaced here: see README.md. #}}
{{% extends "{BASE}" %}}
"""


def draft_profile(name: str, slurm_partition: str, facts: PartitionFacts | None) -> str:
    """Return a profile's entry, to be appended to ``partitions.yaml``.

    Args:
        name: The entry's name.
        slurm_partition: The partition's name in Slurm.
        facts: What Slurm said; None where there is no Slurm, and all is left to be filled in.
    """
    lines = [f"{name}:"]
    if slurm_partition != name:
        lines.append(f"  slurm_partition: {_scalar(slurm_partition)}")
    if facts is None:
        lines += _blank()
    else:
        lines += _stated(facts)
    return "\n".join(lines) + "\n"


def append_entry(text: str, entry: str) -> str:
    """Return the file's text with an entry more, all that stood there left as it was."""
    if text and not text.endswith("\n"):
        text += "\n"
    return f"{text}\n{entry}" if text.strip() else text + entry


def differences(
    before: Mapping[str, PartitionProfile], after: Mapping[str, PartitionProfile], name: str
) -> list[str]:
    """Return the names of entries that reading back shows changed, beside the new one."""
    changed = [key for key in before if after.get(key) != before[key]]
    return changed + [key for key in after if key not in before and key != name]


def _stated(facts: PartitionFacts) -> list[str]:
    site, partition = facts.site, facts.partition
    mode = preempt_mode(site, partition)
    lines = []
    if mode != "OFF":
        lines.append(_line("preemptible: true", f"PreemptMode={mode}"))
    node = _usual(facts.nodes)
    gpus = node.count_gpus() if node else 0
    if node is None:
        lines += _blank()[:3]
    else:
        kinds = len({(n.cpus, n.mem_mb, tuple(n.gpus.items())) for n in facts.nodes})
        note = f"the smallest of {kinds} kinds of node" if kinds > 1 else ""
        lines.append(_line(f"gpus_per_node: {gpus}", note))
        lines.append(_line(f"cpus_per_node: {node.cpus}", ""))
        if node.mem_mb:
            lines.append(_line(f"mem_gb_per_node: {math.floor(node.mem_mb / 1024)}", ""))
        types = [kind for kind in node.gpus if kind]
        if len(types) == 1:
            lines.append(_line(f"gpu_type: {_scalar(types[0])}", ""))
    if partition.n_nodes:
        lines.append(_line(f"nodes: {partition.n_nodes}", ""))
    if partition.max_time_min is not None:
        lines.append(_line(f"max_time: {_time(partition.max_time_min)}", ""))
    grace = effective_grace_s(site, partition)
    if mode != "OFF" and grace:
        lines.append(_line(f"grace_s: {grace}", "GraceTime"))
    if mode == "OFF" and not gpus:
        lines.append(_line("layout: batch", "no grace period: half the start-up cost"))
    lines += _price(gpus)
    lines.append(_defaults(node, partition))
    return lines


def _usual(nodes: Sequence[NodeConfig]) -> NodeConfig | None:
    """Return a node that every other has at least as much as; of several kinds, the smallest."""
    if not nodes:
        return None
    counts = Counter((node.count_gpus(), node.cpus, node.mem_mb) for node in nodes)
    smallest = min(counts)
    return next(n for n in nodes if (n.count_gpus(), n.cpus, n.mem_mb) == smallest)


def _blank() -> list[str]:
    return [
        _line("gpus_per_node: 0", f"{TO_FILL}: {UNKNOWN}"),
        _line("cpus_per_node: 1", f"{TO_FILL}: {UNKNOWN}"),
        _line("mem_gb_per_node: 1", f"{TO_FILL}: {UNKNOWN}"),
        _line("max_time: 1-00:00:00", f"{TO_FILL}: the longest that a job may run"),
        *_price(1),
        "  defaults: {gpus: 0, cpus: 1, mem_gb: 1, time: 1:00:00}",
    ]


def _price(gpus: int) -> list[str]:
    what = "gpu" if gpus else "cpu"
    return [
        _line(f"price_per_{what}_hour: 0", f"{TO_FILL}: what one {what.upper()} costs for an hour"),
        _line("currency: CNY", f"{TO_FILL}: in which currency"),
    ]


def _defaults(node: NodeConfig | None, partition: PartitionConfig) -> str:
    """Return what a trial gets that asks for nothing: one GPU's share of a node, or one CPU's."""
    minutes = min(60, partition.max_time_min or 60)
    if node is None:
        values = {"gpus": "0", "cpus": "1", "mem_gb": "1"}
    else:
        gpus = node.count_gpus()
        share = gpus or node.cpus
        memory = math.floor(node.mem_mb / 1024 / share * 0.9)  # what the system needs stays free
        values = {"gpus": str(min(gpus, 1)), "cpus": str(max(1, node.cpus // share))}
        if node.mem_mb:
            values["mem_gb"] = str(max(1, memory))
    values["time"] = _time(minutes)
    inner = ", ".join(f"{key}: {value}" for key, value in values.items())
    return f"  defaults: {{{inner}}}"


def _line(text: str, note: str) -> str:
    return f"  {text.ljust(_COLUMN - 2)}# {note}" if note else f"  {text}"


def _scalar(text: str) -> str:
    """Return text as YAML; in quotes where it could be read as something else."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", text) is not None
    words = ("true", "false", "null", "yes", "no", "on", "off")
    return text if is_plain and text.lower() not in words else f'"{text}"'


def _time(minutes: int) -> str:
    days, rest = divmod(minutes, 24 * 60)
    hours, left = divmod(rest, 60)
    return f"{days}-{hours:02d}:{left:02d}:00" if days else f"{hours}:{left:02d}:00"
