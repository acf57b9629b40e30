"""Partition profiles: what sysadmins state about a partition, and the shape a job gets there.

Pure: ``orchestrator.adapters.profiles`` reads the file. A profile is one entry of
``templates/partitions.yaml``; a shape is what one ``sbatch`` header asks for, so trials of one
shape can share an array.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.contract.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.trials import TrialResources

# Slurm's own words for a time limit, sbatch(1) --time.
TIME_FORMS = "minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S"
APPTAINER, SINGULARITY, PYXIS = RUNTIMES = ("apptainer", "singularity", "pyxis")


@dataclass(frozen=True)
class Container:
    """The image that the programs of a partition run in; the attempt stays outside of it."""

    image: str
    """A file, or what the runtime takes as one (``docker://...``; with pyxis ``nvcr.io#...``)."""
    runtime: str = APPTAINER
    """``apptainer`` or ``singularity``, which wrap the program; ``pyxis``, options of srun."""
    mounts: tuple[str, ...] = ()
    """Folders to mount beside the trial's and the working directory: ``outside[:inside[:ro]]``."""
    options: tuple[str, ...] = ()
    """More options of the runtime, such as ``--cleanenv``, as they are."""


@dataclass(frozen=True)
class OnDemand:
    """What the same hardware costs where nobody takes it away."""

    price_per_gpu_hour: float = 0.0
    """Price of one GPU for one hour, in ``currency``."""
    price_per_cpu_hour: float = 0.0
    """Price of one CPU for one hour."""
    currency: str = ""
    """As of the profile."""


@dataclass(frozen=True)
class PartitionProfile:
    """One partition as ``templates/partitions.yaml`` describes it."""

    name: str
    """What a sweep's ``partition:`` names."""
    slurm_partition: str
    """The partition's name in Slurm; the profile's name unless it says otherwise."""
    template: str
    """File in the templates folder."""
    layout: str = "step"
    """``step``: the attempt runs in an srun step, which Slurm tells of a preemption at the start
    of the grace period; ``batch``: the attempt is the batch process, at half the start-up cost."""
    requeue: bool | None = None
    """Whether Slurm may restart a task under its id (``--requeue``); if not, the next submission
    resumes preempted trials as new jobs. None (``auto``): as the site's configuration allows, which
    ``usecases.requeue_mode`` asks before anything is rendered."""
    preemptible: bool = False
    """Whether jobs can be preempted. Shown to people; and of several partitions, an attempt that
    ends on this one without a word counts as preempted (see ``domain.placement``)."""
    gpus_per_node: int | None = None
    """GPUs of a node; a trial may not ask for more. None: not checked."""
    cpus_per_node: int | None = None
    """CPUs of a node; likewise."""
    mem_gb_per_node: float | None = None
    """Memory of a node in GB (2**30 bytes); likewise."""
    nodes: int | None = None
    """Nodes of the partition; a trial may not ask for more. None: not checked."""
    max_time_min: int | None = None
    """The partition's longest time limit in minutes; likewise."""
    gpu_type: str | None = None
    """GPU type for ``--gres=gpu:<type>:n``; None leaves the choice to Slurm."""
    price_per_gpu_hour: float = 0.0
    """Price of one GPU for one hour, in ``currency``."""
    price_per_cpu_hour: float = 0.0
    """Price of one CPU for one hour, for partitions that charge them."""
    currency: str = ""
    """ISO 4217 code or any word; costs in different currencies are never added."""
    on_demand: OnDemand | None = None
    """What the same would cost on demand, for ``make costs`` to compare with. None: not known, or,
    of a partition with a price that is not ``preemptible``, its own price."""
    signal_before_end_s: int = 60
    """How long before the time limit Slurm asks the program to checkpoint (it may come up to 60 s
    earlier)."""
    grace_s: int | None = None
    """Seconds between a preemption's notice and the kill (Slurm's ``GraceTime``); None: unknown."""
    account: str | None = None
    """``--account``."""
    qos: str | None = None
    """``--qos``."""
    constraint: str | None = None
    """``--constraint``."""
    environment: tuple[str, ...] = ()
    """Shell lines before each program, such as ``module load cuda``; the site's own, so raw."""
    modules: tuple[str, ...] = ()
    """Modules loaded before each program, in this order."""
    conda: str | None = None
    """Conda environment activated before each program, after the modules: a name or a path."""
    container: Container | None = None
    """The image that the programs run in; None: on the node itself."""
    sbatch: tuple[tuple[str, str], ...] = ()
    """More ``#SBATCH`` options, name and value; an empty value makes a flag."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Resources of a trial that asks for none: ``gpus, cpus, mem_gb, time_min, nodes``."""
    file: str = field(default="", compare=False, repr=False)
    """Where it was read, for errors; empty: not from a file."""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Line of each key that stands there, such as ``defaults.gpus``; ``""``: the entry itself."""

    def __post_init__(self) -> None:
        """With pyxis a program is an srun step, so the attempt is the batch process.

        An srun that runs within a step is sent the step's SIGTERM, and kills its own step of it
        (``_forward_signal`` in Slurm's src/srun/signals.c), so that no program could save.
        """
        if self.container is not None and self.container.runtime == PYXIS:
            object.__setattr__(self, "layout", "batch")

    def locate(self, key: str = "") -> tuple[str, int | None]:
        """Return file and line of a key, or of the entry where the key does not stand."""
        return self.file, self.lines.get(key, self.lines.get(""))

    @property
    def save_time_s(self) -> int:
        """Seconds that a trial surely has to save once it is told to stop."""
        known = (self.signal_before_end_s, self.grace_s)
        return min(seconds for seconds in known if seconds is not None)


@dataclass(frozen=True)
class JobShape:
    """What one sbatch header asks for, per node."""

    nodes: int
    """Number of nodes."""
    gpus: int
    """GPUs on each node."""
    gpu_type: str | None
    """Their type, None for any."""
    cpus: int
    """CPUs on each node, for the one Slurm task there."""
    mem_mb: int | None
    """Memory on each node in MB (2**20 bytes); None leaves it to the partition."""
    time_min: int | None
    """Time limit in minutes; None leaves it to the partition."""
    sbatch: tuple[tuple[str, str], ...] = ()
    """More options, of profile and trial."""

    @property
    def total_gpus(self) -> int:
        """GPUs on all nodes."""
        return self.gpus * self.nodes


class ShapeError(UserError):
    """A trial asks for more than its partition gives."""

    def __init__(self, key: str, message: str):
        """Say what is wrong with a key such as ``resources.gpus``."""
        super().__init__(f"{key}: {message}")
        self.key, self.message = key, message


def shape_of(wanted: TrialResources, profile: PartitionProfile) -> JobShape:
    """Fill what a trial leaves open from the profile, and hold it to the profile's limits.

    Raises:
        ShapeError: A trial asks for more than a node of the partition has, or for longer than the
            partition runs jobs.
    """
    default = profile.defaults
    mem_gb = wanted.mem_gb if wanted.mem_gb is not None else default.get("mem_gb")
    extra = dict(profile.sbatch)
    extra.update(wanted.sbatch)
    shape = JobShape(
        nodes=_first(wanted.nodes, default.get("nodes"), 1),
        gpus=_first(wanted.gpus, default.get("gpus"), 0),
        gpu_type=wanted.gpu_type or profile.gpu_type,
        cpus=_first(wanted.cpus, default.get("cpus"), 1),
        mem_mb=None if mem_gb is None else math.ceil(mem_gb * 1024),
        time_min=wanted.time_min if wanted.time_min is not None else default.get("time_min"),
        sbatch=tuple(extra.items()),
    )
    _check(shape.gpus, profile.gpus_per_node, "gpus", "a node has", profile)
    _check(shape.cpus, profile.cpus_per_node, "cpus", "a node has", profile)
    _check((shape.mem_mb or 0) / 1024, profile.mem_gb_per_node, "mem_gb", "a node has", profile)
    _check(
        shape.time_min or 0, profile.max_time_min, "time", "the longest is", profile, _show_minutes
    )
    _check(shape.nodes, profile.nodes, "nodes", "it has", profile)
    return shape


def adjust_shape(
    shape: JobShape, memory_factor: float, excluded: Iterable[str], profile: PartitionProfile
) -> JobShape:
    """Return a shape with more memory and without some nodes.

    Args:
        shape: What the trial asks for by itself.
        memory_factor: Times the memory, held to what a node has; no effect where it is not stated.
        excluded: Nodes to avoid, beside those that the options avoid already.
        profile: The partition.
    """
    changed = shape
    if memory_factor > 1 and shape.mem_mb is not None:
        room = memory_room(shape, profile)
        changed = replace(changed, mem_mb=math.ceil(shape.mem_mb * min(memory_factor, room)))
    nodes = sorted(excluded)
    if nodes:
        options = dict(shape.sbatch)
        options["exclude"] = ",".join([*filter(None, [options.get("exclude")]), *nodes])
        changed = replace(changed, sbatch=tuple(options.items()))
    return changed


def memory_room(shape: JobShape, profile: PartitionProfile) -> float:
    """Return the largest factor by which a node has room for more memory.

    Infinite where the profile does not say what a node has, 1 where the shape asks for none.
    """
    if shape.mem_mb is None:
        return 1.0
    if profile.mem_gb_per_node is None:
        return math.inf
    return max(1.0, profile.mem_gb_per_node * 1024 / shape.mem_mb)


def price_per_hour(shape: JobShape, prices: PartitionProfile | OnDemand) -> float:
    """Price of one hour of a whole job of this shape, in the currency of the prices."""
    per_node = shape.gpus * prices.price_per_gpu_hour + shape.cpus * prices.price_per_cpu_hour
    return per_node * shape.nodes


def on_demand_prices(profile: PartitionProfile) -> OnDemand | None:
    """Return what a partition's hardware costs on demand; None if nobody said so.

    A partition that is not preemptible is on demand itself.
    """
    if profile.on_demand is not None or profile.preemptible:
        return profile.on_demand
    if not profile.price_per_gpu_hour and not profile.price_per_cpu_hour:
        return None
    return OnDemand(profile.price_per_gpu_hour, profile.price_per_cpu_hour, profile.currency)


def parse_minutes(text: str) -> int:
    """Read a time limit in Slurm's forms as whole minutes, rounded up.

    Raises:
        ValueError: It has none of the forms of sbatch(1) ``--time``.
    """
    days_text, dash, rest = text.strip().rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days_text.isdigit()):
        raise ValueError(f"{text!r} is no time; use {TIME_FORMS}")
    numbers = [int(part) for part in parts]
    if dash and len(numbers) <= 3:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 1:
        hours, minutes, seconds = 0, numbers[0], 0
    elif len(numbers) == 2:
        hours, minutes, seconds = 0, numbers[0], numbers[1]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        raise ValueError(f"{text!r} is no time; use {TIME_FORMS}")
    days = int(days_text) if dash else 0
    return math.ceil((((days * 24 + hours) * 60 + minutes) * 60 + seconds) / 60)


def _show_minutes(minutes: float) -> str:
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d} h"


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _check(
    value: float,
    limit: float | None,
    key: str,
    words: str,
    profile: PartitionProfile,
    show: Callable[[float], str] = "{:g}".format,
) -> None:
    if limit is not None and value > limit:
        raise ShapeError(
            f"resources.{key}",
            f"{show(value)} is too much for partition {profile.name}: "
            f"{words} {show(limit)}; ask for less, or name another partition",
        )
