"""Nodes of a partition, and how many trials of one shape they hold at once. Pure.

Reads captured text of ``scontrol -d -o show node`` (22.05 and later). GPUs are counted from
``Gres`` and ``GresUsed``: ``gpu:8``, ``gpu:h100:8(S:0-1)``, ``gpu:a100:4(S:0),gpu:v100:2(S:1)``,
``gpu:h100:3(IDX:0-2)``.

Not covered: other gres, licenses, reservations, constraints (features) and topology, which can only
make the width smaller; ``sbatch --test-only`` says whether a trial fits at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.partition import JobShape

_FIELD = re.compile(r"(\w+)=(\S*)")
# name, optional type, count with sbatch's suffixes; what stands in brackets says which ones.
_GRES = re.compile(r"(?<!\w)gpu(?::([^:,(]+))?:(\d+)([kKmMgG]?)(?=[,(]|$)")
_SUFFIX = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
# States (man sinfo) in which a node starts nothing; flags follow the state after a plus sign.
_AWAY = frozenset(
    {
        "BLOCKED",
        "DOWN",
        "DRAIN",
        "DRAINED",
        "DRAINING",
        "ERROR",
        "FAIL",
        "FAILED",
        "FAILING",
        "FUTURE",
        "INVAL",
        "MAINT",
        "NOT_RESPONDING",
        "POWERED_DOWN",
        "POWERING_DOWN",
        "POWER_DOWN",
        "REBOOT",
        "RESERVED",
        "UNKNOWN",
    }
)
# Cloud nodes that are switched off start when they are needed.
_ON_DEMAND = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"})


@dataclass(frozen=True)
class NodeConfig:
    """One node, as Slurm sees it."""

    name: str
    """Its name."""
    cpus: int = 1
    """CPUs that jobs may use; 0: not known."""
    mem_mb: int = 0
    """Memory that jobs may use, MB; 0: not known."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs by type, lower case; type ``""`` where Slurm was told none."""
    used_gpus: int = 0
    """GPUs that jobs hold now."""
    threads_per_core: int = 1
    """Hardware threads, each of which Slurm calls a CPU."""
    is_up: bool = True
    """Whether it can start a job, now or when what runs there has ended."""
    partitions: tuple[str, ...] = ()
    """Partitions that it belongs to."""

    def count_gpus(self, gpu_type: str | None = None) -> int:
        """GPUs of a type, or all of them."""
        if gpu_type is None:
            return sum(self.gpus.values())
        return self.gpus.get(gpu_type.lower(), 0)


@dataclass(frozen=True)
class Packing:
    """What a site counts when it puts jobs on a node."""

    whole_nodes: bool = False
    """Every job gets whole nodes (``select/linear``, ``OverSubscribe=EXCLUSIVE``)."""
    by_core: bool = False
    """A job gets whole cores (``CR_Core``), whatever part of their threads it asked for."""
    by_memory: bool = True
    """Memory is counted (``CR_..._Memory``)."""
    max_cpus_per_node: int | None = None
    """CPUs of a node that the partition's jobs may use; None: all."""


def parse_nodes(text: str) -> list[NodeConfig]:
    """Read ``scontrol -d -o show node``, also without ``-o``; nodes without a name are left out."""
    nodes = []
    for block in re.split(r"(?m)^(?=NodeName=)", text):
        values: dict[str, str] = {}
        for match in _FIELD.finditer(block):
            values.setdefault(match[1], match[2])
        if values.get("NodeName"):
            nodes.append(_node(values))
    return nodes


def parse_gpus(text: str) -> dict[str, int]:
    """Read GPUs by type from a ``Gres`` field; empty without any."""
    gpus: dict[str, int] = {}
    for match in _GRES.finditer(text):
        kind = (match[1] or "").lower()
        gpus[kind] = gpus.get(kind, 0) + int(match[2]) * _SUFFIX[match[3].lower()]
    return gpus


def parse_packing(config: str) -> Packing:
    """Read what a site counts from ``scontrol show config``; what is absent is Slurm's default."""
    found = dict(re.findall(r"(?m)^(SelectType\w*)\s*=\s*(\S+)", config))
    words = set(re.split(r"[,+]", found.get("SelectTypeParameters", "CR_CORE_MEMORY").upper()))
    return Packing(
        whole_nodes=found.get("SelectType") == "select/linear",
        by_core=any(word.startswith(("CR_CORE", "CR_SOCKET")) for word in words),
        by_memory=any(word.endswith("MEMORY") for word in words),
    )


def fit_on(node: NodeConfig, shape: JobShape, packing: Packing) -> int:
    """Count the trials of a shape that one empty node holds at once.

    Of trials that span several nodes, the parts.
    """
    cpus = shape.cpus
    if packing.by_core:
        threads = node.threads_per_core
        cpus = -(-cpus // threads) * threads
    room = node.cpus if packing.max_cpus_per_node is None else packing.max_cpus_per_node
    rooms = [min(node.cpus, room) // cpus] if node.cpus else []
    if shape.gpus:
        rooms.append(node.count_gpus(shape.gpu_type) // shape.gpus)
    if shape.mem_mb is not None and packing.by_memory and node.mem_mb:
        rooms.append(node.mem_mb // shape.mem_mb)
    fit = min(rooms, default=0)
    options = dict(shape.sbatch)
    if (packing.whole_nodes or options.get("exclusive") == "") and fit > 0:
        return 1
    return fit


def count_concurrent(
    nodes: Iterable[NodeConfig], shape: JobShape, packing: Packing
) -> tuple[int, int]:
    """Count the trials of a shape that these nodes hold at once, when nothing else runs there.

    A trial of N nodes takes a part of N different nodes: k of them fit if and only if the sum of
    min(parts of a node, k) is at least k x N.

    Returns:
        Trials at once, and the most that one node holds.
    """
    excluded = set(expand_hosts(dict(shape.sbatch).get("exclude", "")))
    only = set(expand_hosts(dict(shape.sbatch).get("nodelist", "")))
    fits = [
        fit_on(node, shape, packing)
        for node in nodes
        if node.is_up and node.name not in excluded and (not only or node.name in only)
    ]
    low, high = 0, sum(fits) // shape.nodes
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(fit, middle) for fit in fits) >= middle * shape.nodes:
            low = middle
        else:
            high = middle - 1
    return low, max(fits, default=0)


def expand_hosts(text: str) -> list[str]:
    """Expand Slurm's host lists with one range each: ``n[01-03,7],gpu5`` (others stay as text)."""
    names: list[str] = []
    for word in re.findall(r"[^,\[\]]+(?:\[[^\]]*\][^,\[]*)*", text):
        match = re.fullmatch(r"([^\[]*)\[([\d,-]+)\]([^\[]*)", word)
        if match is None:
            names.append(word)
            continue
        for part in match[2].split(","):
            first, _, last = part.partition("-")
            if first.isdigit() and (not last or last.isdigit()):
                names += [
                    f"{match[1]}{number:0{len(first)}d}{match[3]}"
                    for number in range(int(first), int(last or first) + 1)
                ]
    return names


def describe_nodes(nodes: Sequence[NodeConfig]) -> str:
    """Describe nodes in words, most frequent kind first: ``10 nodes of 8 GPUs, 16 CPUs, 62 GB``."""
    kinds: dict[str, int] = {}
    for node in nodes:
        gpus = ", ".join(
            f"{n} {kind or 'GPU'}{'s' if n != 1 and not kind else ''}"
            for kind, n in node.gpus.items()
        )
        words = [gpus] if gpus else []
        words.append(f"{node.cpus} CPU{'s' if node.cpus != 1 else ''}")
        if node.mem_mb:
            words.append(f"{node.mem_mb / 1024:.4g} GB")
        kinds[", ".join(words)] = kinds.get(", ".join(words), 0) + 1
    shown = sorted(kinds.items(), key=lambda item: -item[1])
    return " and ".join(f"{n} node{'s' if n != 1 else ''} of {words}" for words, n in shown)


def _node(values: Mapping[str, str]) -> NodeConfig:
    # 22.05 calls the state IDLE+DRAIN, older ones IDLE*; NOT_RESPONDING is a star in sinfo only.
    states = set(re.split(r"[+*~#!%$@^-]", values.get("State", "").upper())) - {""}
    away = states & _AWAY - (_ON_DEMAND if "CLOUD" in states else frozenset())
    cpus = _whole(values.get("CPUEfctv")) or _whole(values.get("CPUTot")) or 1
    reserved = _whole(values.get("MemSpecLimit")) or 0
    return NodeConfig(
        name=values["NodeName"],
        cpus=cpus,
        mem_mb=max(0, (_whole(values.get("RealMemory")) or 0) - reserved),
        gpus=parse_gpus(values.get("Gres", "")),
        used_gpus=sum(parse_gpus(values.get("GresUsed", "")).values()),
        threads_per_core=_whole(values.get("ThreadsPerCore")) or 1,
        is_up=not away,
        partitions=tuple(name for name in values.get("Partitions", "").split(",") if name),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
