"""What a partition, its nodes and the user's accounts let trials of one shape do. Pure.

From what Slurm said (or, where there is none, from the profile) to a ``Width``, and to the reasons
why a trial would be refused or never start, in words that say what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.plan import Width
from orchestrator.domain.plan_accounts import (
    Bound,
    Source,
    bound_queued,
    bound_running,
    find_excess,
    show_minutes,
)
from orchestrator.domain.plan_nodes import (
    NodeConfig,
    Packing,
    count_concurrent,
    describe_nodes,
    fit_on,
)
from orchestrator.domain.site import PartitionConfig


@dataclass(frozen=True)
class Machine:
    """This machine, as the local executor counts it."""

    cpus: int
    """CPUs that this process may use."""
    gpus: int = 0
    """GPUs; without any none are counted."""


@dataclass(frozen=True)
class Room:
    """Where the trials would run."""

    name: str
    """For people: ``partition spot``, or ``this machine``."""
    nodes: tuple[NodeConfig, ...] = ()
    """Its nodes, those included that are down; empty: not known."""
    packing: Packing = field(default_factory=Packing)
    """What is counted on a node."""
    partition: PartitionConfig | None = None
    """The partition's configuration; None: not asked, or not there."""
    sources: tuple[Source, ...] = ()
    """Limits of QOS and accounts that Slurm enforces."""
    node: NodeConfig | None = None
    """What each node is, as far as that is known, where their number is not."""
    machine: Machine | None = None
    """This machine, where trials run without Slurm; None: they do not."""

    @property
    def n_up(self) -> int:
        """Nodes that can start jobs."""
        return sum(node.is_up for node in self.nodes)

    @property
    def total_gpus(self) -> int:
        """GPUs of the nodes that can start jobs, or of this machine."""
        if self.machine is not None:
            return self.machine.gpus
        return sum(node.count_gpus() for node in self.nodes if node.is_up)

    @property
    def free_gpus(self) -> int:
        """Those of them that no job holds now."""
        up = [node for node in self.nodes if node.is_up]
        return sum(max(0, node.count_gpus() - node.used_gpus) for node in up)


def room_of_profile(profile: PartitionProfile) -> Room:
    """Describe a partition by its profile alone.

    Without ``nodes:`` their number is not known, but trials share one by what it has all the same.
    """
    name = f"partition {profile.name}"
    gpus = profile.gpus_per_node or 0
    node = NodeConfig(
        name="node",
        cpus=profile.cpus_per_node or 0,
        mem_mb=int((profile.mem_gb_per_node or 0) * 1024),
        gpus={(profile.gpu_type or "").lower(): gpus} if gpus else {},
    )
    if profile.nodes is None or profile.cpus_per_node is None:
        return Room(name, node=node)
    return Room(name, (node,) * profile.nodes)


def width_of(
    shape: JobShape, room: Room, max_concurrent: int | None, max_gpus: int | None = None
) -> Width:
    """Return how many trials of a shape run at once in a room, and why, tightest reason first."""
    if room.machine is not None:
        return _width_here(shape, room.machine, max_concurrent, max_gpus)
    bounds = list(bound_running(room.sources, shape))
    per_node = None
    if room.nodes:
        n, per_node = count_concurrent(room.nodes, shape, room.packing)
        words = describe_nodes([node for node in room.nodes if node.is_up])
        bounds.append(Bound(n, f"{room.name} has {words or 'no node that is up'}"))
    elif room.node is not None:
        per_node = fit_on(room.node, shape, room.packing) or None
    if max_concurrent is not None:
        bounds.append(Bound(max_concurrent, f"max_concurrent: {max_concurrent}"))
    if max_gpus is not None and shape.total_gpus:
        bounds.append(Bound(max_gpus // shape.total_gpus, f"max_gpus: {max_gpus}"))
    # Stable: of equal ones the first, since a limit is a better reason than our own ceiling.
    bounds.sort(key=lambda bound: bound.n)
    queued = bound_queued(room.sources)
    if queued is not None and (not bounds or queued.n < bounds[0].n):
        bounds.insert(0, queued)
    return Width(tuple(bounds), per_node)


def _width_here(
    shape: JobShape, machine: Machine, max_concurrent: int | None, max_gpus: int | None
) -> Width:
    """Count as ``adapters.executors.local`` does, which always runs one trial.

    CPUs count only without ``max_concurrent``, GPUs only where there are any, nodes never.
    """
    bounds = []
    if max_concurrent is None:
        words = f"this machine has {_cpus(machine.cpus)}"
        bounds.append(Bound(max(1, machine.cpus // shape.cpus), words))
    if shape.total_gpus and machine.gpus:
        words = f"this machine has {_gpus(machine.gpus)}"
        bounds.append(Bound(max(1, machine.gpus // shape.total_gpus), words))
        if max_gpus is not None:
            bounds.append(Bound(max(1, max_gpus // shape.total_gpus), f"max_gpus: {max_gpus}"))
    if max_concurrent is not None:
        bounds.append(Bound(max_concurrent, f"max_concurrent: {max_concurrent}"))
    bounds.sort(key=lambda bound: bound.n)
    return Width(tuple(bounds), bounds[0].n)


def _find_missing_gpus(machine: Machine, shapes: Sequence[JobShape]) -> list[str]:
    """Say so when trials get fewer GPUs here than they ask for: they run all the same."""
    most = max((shape.total_gpus for shape in shapes), default=0)
    if most <= machine.gpus or not machine.gpus:  # without any, placing the trials has told it
        return []
    has = _gpus(machine.gpus)
    return [f"a trial asks for {_gpus(most)}; this machine has {has}, and it gets no more"]


def _cpus(n: int) -> str:
    return f"{n} CPU{'s' if n != 1 else ''}"


def _gpus(n: int) -> str:
    return f"{n} GPU{'s' if n != 1 else ''}"


def find_problems(shape: JobShape, room: Room) -> list[str]:
    """Say why trials of a shape would be refused or never start; each names what is allowed."""
    problems = find_excess(room.sources, shape)
    partition = room.partition
    asked = []
    if partition is not None:
        if partition.max_nodes is not None and shape.nodes > partition.max_nodes:
            asked.append(f"{shape.nodes} nodes")
        if (
            partition.max_time_min is not None
            and shape.time_min is not None
            and shape.time_min > partition.max_time_min
        ):
            asked.append(show_minutes(shape.time_min))
        most_mem = partition.max_mem_mb_per_node
        if most_mem and shape.mem_mb is not None and shape.mem_mb > most_mem:
            asked.append(f"{shape.mem_mb / 1024:.4g} GB on a node")
        most_cpus = partition.max_cpus_per_node
        if most_cpus and shape.cpus > most_cpus:
            asked.append(f"{shape.cpus} CPUs on a node")
        if asked:
            problems.append(
                f"{describe_partition(partition)}; a trial asks for {' and '.join(asked)}"
            )
    if room.nodes and not asked:
        # Nodes that are down may come back: what they could hold is no mistake.
        n_fit = sum(fit_on(node, shape, room.packing) > 0 for node in room.nodes)
        if n_fit < shape.nodes:
            which = "none" if not n_fit else f"only {n_fit}"
            problems.append(
                f"{room.name} has {describe_nodes(room.nodes)}, {which} of them large enough; "
                f"a trial asks for {describe_node_part(shape)}"
            )
    return problems


def find_warnings(room: Room, shapes: Sequence[JobShape], n_to_submit: int) -> list[str]:
    """Say what costs time but refuses nothing."""
    words = [] if room.machine is None else _find_missing_gpus(room.machine, shapes)
    if room.partition is not None and room.partition.state != "UP":
        state = room.partition.state
        words.append(f"{room.name} is {state}: what is submitted waits until it is UP")
    n_down = len(room.nodes) - room.n_up
    if n_down:
        words.append(f"{n_down} of {len(room.nodes)} nodes of {room.name} are down or drained")
    queued = bound_queued(room.sources)
    if queued is not None and queued.n < n_to_submit:
        words.append(
            f"{queued.words}, and {n_to_submit} trials are to be submitted: submit hands in what "
            "fits, and make supervise the rest"
        )
    for shape in shapes:
        if room.nodes and not find_problems(shape, room):
            n, _ = count_concurrent(room.nodes, shape, room.packing)
            if n == 0:
                words.append(f"too few nodes of {room.name} are up for a trial to start now")
                break
    return words


def describe_partition(partition: PartitionConfig) -> str:
    """Say what a partition allows: ``partition debug allows 1 node, 0:30 h``."""
    allowed = []
    if partition.max_nodes is not None:
        allowed.append(f"{partition.max_nodes} node{'s' if partition.max_nodes != 1 else ''}")
    if partition.max_time_min is not None:
        allowed.append(show_minutes(partition.max_time_min))
    if partition.max_cpus_per_node:
        allowed.append(f"{partition.max_cpus_per_node} CPUs on a node")
    if partition.max_mem_mb_per_node:
        allowed.append(f"{partition.max_mem_mb_per_node / 1024:.4g} GB on a node")
    return f"partition {partition.name} allows {', '.join(allowed) or 'jobs of any length'}"


def describe_node_part(shape: JobShape) -> str:
    """Say what a shape asks of its nodes."""
    words = []
    if shape.gpus:
        words.append(f"{shape.gpus} {shape.gpu_type or 'GPU'}{'s' if shape.gpus > 1 else ''}")
    words.append(f"{shape.cpus} CPU{'s' if shape.cpus > 1 else ''}")
    if shape.mem_mb is not None:
        words.append(f"{shape.mem_mb / 1024:.4g} GB")
    nodes = f" on each of {shape.nodes} nodes" if shape.nodes > 1 else " on a node"
    return ", ".join(words) + nodes
