"""A sweep spec as values: what ``spec_loader.load_spec`` makes of YAML, checked and complete.

Pure, and imported by every layer above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.contract.errors import SpecError
from orchestrator.domain.budget import Budget
from orchestrator.domain.canary import Canary
from orchestrator.domain.expressions import Expression
from orchestrator.domain.placement import Placement
from orchestrator.domain.retry_policy import RetryLimits
from orchestrator.domain.search_space import Domain

METHODS = ("grid", "random", "quasi_random")
GOALS = ("minimize", "maximize")
CLUSTERS = ("auto", "slurm", "local")
LAYOUTS = ("step", "batch")


@dataclass(frozen=True)
class Metric:
    """The objective: the metric that trials are ranked by."""

    name: str
    """Key that the program reports."""
    goal: str
    """``minimize`` or ``maximize``."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of the search, nested ones by their dotted name."""

    name: str
    """Dotted name, such as ``optim.wd``; unique in the sweep."""
    path: tuple[str, ...]
    """Keys that lead to it in the parameters that the program reads."""
    domain: Domain
    """What it may be."""
    when: tuple[Expression, ...] = ()
    """Conditions of its own and of its groups; it is active where all are true."""


@dataclass(frozen=True)
class Derived:
    """A parameter computed from others and passed to the program like them."""

    name: str
    """Its name, unique among all parameters."""
    expression: Expression
    """How; where it gives none, the trial goes without it."""


@dataclass(frozen=True)
class ResourceSpec:
    """What a trial asks of its node; None leaves it to the partition's profile."""

    gpus: int | Expression | None = None
    """GPUs per node."""
    gpu_type: str | Expression | None = None
    """GPU type as Slurm names it."""
    cpus: int | Expression | None = None
    """CPUs per node."""
    mem_gb: float | Expression | None = None
    """Memory per node in GB (2**30 bytes)."""
    time_min: int | Expression | None = None
    """Time limit in minutes; an expression may also give text in one of Slurm's forms."""
    nodes: int | Expression | None = None
    """Number of nodes."""
    partition: Expression | None = None
    """Its partition's profile, of parameters and of the above: ``partition:`` as an expression."""
    sbatch: tuple[tuple[str, str | Expression], ...] = ()
    """More sbatch options, long names without dashes; an empty value makes a flag."""


@dataclass(frozen=True)
class BatchNames:
    """What a spec says of its parameters (``batch:``): names, or numbers."""

    per_device: str | int | None = None
    """Sequences of one forward pass on one rank."""
    accumulation: str | int | None = None
    """Forward passes before an optimizer step; None: by the usual names, else 1."""
    effective: str | int | None = None
    """The whole batch; set, the program splits it over ranks and passes by itself."""


@dataclass(frozen=True)
class SweepSpec:
    """One sweep, as its file and the overrides on the command line describe it."""

    name: str
    """Name of the sweep and of its folder: letters, digits, ``. _ -``; the file's name if unset."""
    program: str | None
    """Program to run, as typed; None only where ``command`` does not mention it."""
    method: str
    """One of ``METHODS``."""
    parameters: tuple[Parameter, ...]
    """In the order of the file."""
    file: str
    """The file as the user typed it."""
    source_text: str
    """The file's text."""
    command: tuple[str, ...] | None = None
    """Words with macros; None runs the program by its kind, see ``domain.command``."""
    metric: Metric | None = None
    """The objective; None: nothing can be ranked."""
    more_objectives: tuple[Metric, ...] = ()
    """Further objectives, of ``objectives:``; they make a Pareto front with the first."""
    zips: tuple[tuple[str, ...], ...] = ()
    """Groups of parameters that advance together; their domains are lists of one length."""
    where: tuple[Expression, ...] = ()
    """Conditions that a trial must meet, all of them."""
    derived: tuple[Derived, ...] = ()
    """Computed parameters; each may use those before it."""
    seeds: tuple[int, ...] = ()
    """Repeats of each combination, passed as ``seed``; none: one repeat without a seed."""
    run_cap: int | None = None
    """Number of combinations to draw, or at most to take from a grid; repeats not counted."""
    sampling_seed: int = 0
    """Seed of random and quasi-random draws; 0 so that a sweep draws the same again."""
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    """What each trial asks for."""
    batch: BatchNames | None = None
    """Which parameters make the effective batch, for ``plan``; None: the usual names do."""
    partition: str | None = None
    """Partition profile, the first of several; None leaves the choice to the site's default."""
    placement: Placement | None = None
    """Several partition profiles in order of preference; None: only the above."""
    cluster: str = "auto"
    """``slurm``, ``local``, or ``auto``: Slurm where there is one."""
    max_concurrent: int | None = None
    """How many trials may run at once; None: no limit of our own."""
    max_gpus: int | None = None
    """How many GPUs all trials may use at once; likewise."""
    workdir: str | None = None
    """Directory that programs start in, as typed; None: where the sweep is submitted."""
    code: str = "freeze"
    """One of ``frozen_code.CODE_MODES``: a copy made at submit, or the live files."""
    environment: tuple[str, ...] = ()
    """Shell lines run before the program; raw by design."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the program."""
    layout: str | None = None
    """One of ``LAYOUTS``; None: the partition's."""
    requeue: bool | None = None
    """Whether Slurm may restart trials under their job id; None (``auto``): the partition's."""
    retry: RetryLimits = field(default_factory=RetryLimits)
    """How often what is tried again."""
    budget: Budget | None = None
    """What the sweep may spend; None: no limit."""
    canary: Canary | None = None
    """Trials that run before the rest is let go; None: all start as Slurm has room."""
    check: tuple[str, ...] | None = None
    """Words of the program that judges trials; empty: none; None: the one beside the program."""
    checkpoint_interval_min: float | None = None
    """Minutes of work between two checkpoints; None: as saves and losses suggest."""
    description: str = ""
    """Free text."""
    warnings: tuple[str, ...] = ()
    """What was accepted but may surprise, one line each, with its place."""
    overrides: tuple[str, ...] = ()
    """``key=value`` words of the command line that are already applied."""
    positions: Mapping[str, tuple[str, int | None]] = field(default_factory=dict, repr=False)
    """Dotted key -> file and line; read it through ``locate``."""

    def locate(self, key: str) -> tuple[str, int | None]:
        """Return file and line of a dotted key, or of the nearest key around it."""
        while key:
            if key in self.positions:
                return self.positions[key]
            key = key.rpartition(".")[0]
        return self.file, None

    def error(self, key: str, message: str) -> SpecError:
        """Make the error for a key of this spec."""
        file, line = self.locate(key)
        return SpecError(message, file=file, line=line, key=key)
