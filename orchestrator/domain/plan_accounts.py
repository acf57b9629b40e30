"""Limits of accounts (associations) and QOS, as ``sacctmgr`` tells them. Pure.

Slurm takes each limit from the first place in this order that sets it (resource_limits.html):
the partition's QOS, the job's QOS (the two swap where the job's has ``OverPartQOS``), the user's
association, its account, the accounts above it. Nothing of it holds unless ``limits`` or ``safe``
stands in ``AccountingStorageEnforce``.

Not covered: limits on minutes in all (``GrpTRESMins``, ``GrpWall``), on priority accrual, and what
other users of a shared (``Grp``) limit hold now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.partition import JobShape, parse_minutes

# sacctmgr's names of the columns; both commands print them in this order, with -P and -n.
ASSOC_FIELDS = (
    "Cluster,Account,User,Partition,ParentName,DefaultQOS,MaxJobs,MaxSubmitJobs,MaxWall,MaxTRES,"
    "MaxTRESPerNode,GrpJobs,GrpSubmitJobs,GrpTRES"
)
QOS_FIELDS = (
    "Name,Flags,MaxJobsPU,MaxSubmitPU,MaxTRESPU,MaxJobsPA,MaxSubmitPA,MaxTRESPA,MaxWall,MaxTRES,"
    "MaxTRESPerNode,GrpJobs,GrpSubmit,GrpTRES"
)
_UNIT_MB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}


@dataclass(frozen=True)
class Limits:
    """What one association or QOS limits; absent is unlimited."""

    jobs: int | None = None
    """Jobs of one user that run at once."""
    submit: int | None = None
    """Jobs of one user that are queued or run at once; each array task is one."""
    wall_min: int | None = None
    """Time limit of one job, minutes."""
    per_job: Mapping[str, float] = field(default_factory=dict)
    """TRES of one job: ``cpu``, ``node``, ``mem`` (MB), ``gres/gpu``, ``gres/gpu:a100``."""
    per_node: Mapping[str, float] = field(default_factory=dict)
    """TRES of one job on each node."""
    per_user: Mapping[str, float] = field(default_factory=dict)
    """TRES of one user's running jobs together."""
    all_jobs: int | None = None
    """Jobs of everybody under it that run at once."""
    all_submit: int | None = None
    """Jobs of everybody under it that are queued or run at once."""
    all_tres: Mapping[str, float] = field(default_factory=dict)
    """TRES of everybody's running jobs under it together."""


@dataclass(frozen=True)
class Association:
    """One line of ``sacctmgr show assoc``."""

    account: str
    """The account."""
    user: str
    """The user; empty for the account itself."""
    partition: str
    """The partition that it is for; empty for all."""
    parent: str
    """The account above, for accounts."""
    default_qos: str
    """QOS of jobs that name none; empty if unset."""
    limits: Limits
    """Its limits; those of accounts above are not repeated here, save what sacctmgr inherits."""


@dataclass(frozen=True)
class Qos:
    """One line of ``sacctmgr show qos``."""

    name: str
    """Its name."""
    flags: tuple[str, ...]
    """Such as ``OverPartQOS``."""
    limits: Limits
    """Its limits."""


@dataclass(frozen=True)
class Source:
    """Where limits stand, and whom they bind."""

    words: str
    """``QOS long``, ``account lab``."""
    limits: Limits
    """The limits."""


@dataclass(frozen=True)
class Bound:
    """How many trials of a shape a limit lets run, or be queued, at once."""

    n: int
    """So many."""
    words: str
    """Why: ``QOS long allows a user 8 GPUs at once``."""


def parse_associations(text: str) -> list[Association]:
    """Read ``sacctmgr -n -P show assoc format=ASSOC_FIELDS``; odd lines are passed over."""
    found = []
    for values in _rows(text, ASSOC_FIELDS):
        limits = Limits(
            jobs=_whole(values["MaxJobs"]),
            submit=_whole(values["MaxSubmitJobs"]),
            wall_min=_minutes(values["MaxWall"]),
            per_job=parse_tres(values["MaxTRES"]),
            per_node=parse_tres(values["MaxTRESPerNode"]),
            all_jobs=_whole(values["GrpJobs"]),
            all_submit=_whole(values["GrpSubmitJobs"]),
            all_tres=parse_tres(values["GrpTRES"]),
        )
        found.append(
            Association(
                values["Account"],
                values["User"],
                values["Partition"],
                values["ParentName"],
                values["DefaultQOS"],
                limits,
            )
        )
    return found


def parse_qos(text: str) -> dict[str, Qos]:
    """Read ``sacctmgr -n -P show qos format=QOS_FIELDS``, by name; odd lines are passed over."""
    found = {}
    for values in _rows(text, QOS_FIELDS):
        jobs = [_whole(values["MaxJobsPU"]), _whole(values["MaxJobsPA"])]
        submit = [_whole(values["MaxSubmitPU"]), _whole(values["MaxSubmitPA"])]
        per_user = parse_tres(values["MaxTRESPU"])
        for name, most in parse_tres(values["MaxTRESPA"]).items():
            per_user[name] = min(most, per_user.get(name, most))
        limits = Limits(
            jobs=min((n for n in jobs if n is not None), default=None),
            submit=min((n for n in submit if n is not None), default=None),
            wall_min=_minutes(values["MaxWall"]),
            per_job=parse_tres(values["MaxTRES"]),
            per_node=parse_tres(values["MaxTRESPerNode"]),
            per_user=per_user,
            all_jobs=_whole(values["GrpJobs"]),
            all_submit=_whole(values["GrpSubmit"]),
            all_tres=parse_tres(values["GrpTRES"]),
        )
        flags = tuple(word for word in values["Flags"].split(",") if word)
        found[values["Name"]] = Qos(values["Name"], flags, limits)
    return found


def parse_tres(text: str) -> dict[str, float]:
    """Read ``cpu=4,mem=100G,gres/gpu:a100=8``; memory becomes MB, what is odd is left out."""
    found = {}
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", value)
        if name and match is not None:
            unit = _UNIT_MB[match[2]] if match[2] else 1
            found[name.lower()] = float(match[1]) * (unit if name == "mem" else 1)
    return found


def find_sources(
    associations: Sequence[Association],
    qos: Mapping[str, Qos],
    *,
    user: str,
    default_account: str | None,
    account: str | None,
    job_qos: str | None,
    partition: str,
    partition_qos: str | None,
) -> list[Source]:
    """Order what limits a job, the first word that counts first.

    Args:
        associations: The user's, and those of all accounts.
        qos: By name.
        user: Who submits.
        default_account: The user's, if known; used where the job names none.
        account: The job's ``--account``, if it has one.
        job_qos: The job's ``--qos``, if it has one.
        partition: Slurm's name of the partition.
        partition_qos: The partition's QOS, if it has one.
    """
    chosen = account or default_account
    mine = [a for a in associations if a.user == user and chosen in (None, a.account)]
    mine.sort(key=lambda a: a.partition != partition)  # one for the partition goes before others
    mine = [a for a in mine if a.partition in ("", partition)]
    own = mine[0] if mine else None
    job = qos.get(job_qos or (own.default_qos if own else "") or "normal")
    of_partition = qos.get(partition_qos or "")
    layers = [of_partition, job]
    if job is not None and "OverPartQOS" in job.flags:
        layers.reverse()
    sources = [Source(f"QOS {layer.name}", layer.limits) for layer in layers if layer is not None]
    if own is None:
        return sources
    where = f"account {own.account}"
    sources.append(Source(f"{where} (user {user})", own.limits))
    accounts = {a.account: a for a in associations if not a.user}
    name = own.account
    for _ in accounts:
        if name not in accounts:
            break
        sources.append(Source(f"account {name}", accounts[name].limits))
        name = accounts[name].parent
    return sources


def bound_running(sources: Iterable[Source], shape: JobShape) -> list[Bound]:
    """Return how many trials of a shape each limit lets run at once."""
    sources = list(sources)
    bounds = []
    for key, whose in (("jobs", "a user"), ("all_jobs", "all of its users together")):
        first = next((s for s in sources if getattr(s.limits, key) is not None), None)
        if first is not None:
            most = getattr(first.limits, key)
            bounds.append(Bound(most, f"{first.words} allows {whose} {most} running jobs"))
    asked = asked_tres(shape)
    for key, whose in (("per_user", "a user"), ("all_tres", "all of its users together")):
        for name, amount in asked.items():
            first = next((s for s in sources if name in getattr(s.limits, key)), None)
            if first is not None and amount > 0:
                most = getattr(first.limits, key)[name]
                words = f"{first.words} allows {whose} {show_tres(name, most)} at once"
                bounds.append(Bound(int(most // amount), words))
    return bounds


def bound_queued(sources: Iterable[Source]) -> Bound | None:
    """Return how many array tasks may be queued or run at once; None: no limit."""
    bounds = []
    sources = list(sources)
    for key, whose in (("submit", "a user"), ("all_submit", "all of its users together")):
        first = next((s for s in sources if getattr(s.limits, key) is not None), None)
        if first is not None:
            most = getattr(first.limits, key)
            words = f"{first.words} allows {whose} {most} queued and running jobs"
            bounds.append(Bound(most, words))
    return min(bounds, key=lambda bound: bound.n, default=None)


def find_excess(sources: Iterable[Source], shape: JobShape) -> list[str]:
    """Say which limits on a single job a shape exceeds, in words."""
    sources = list(sources)
    words = []
    first = next((s for s in sources if s.limits.wall_min is not None), None)
    if first is not None and shape.time_min is not None:
        assert first.limits.wall_min is not None
        if shape.time_min > first.limits.wall_min:
            words.append(
                f"{first.words} allows a job {show_minutes(first.limits.wall_min)}, "
                f"a trial asks for {show_minutes(shape.time_min)}"
            )
    on_node = asked_tres(shape, nodes=1)
    for key, asked, where in (
        ("per_job", asked_tres(shape), "a job"),
        ("per_node", on_node, "a job on each node"),
    ):
        for name, amount in asked.items():
            first = next((s for s in sources if name in getattr(s.limits, key)), None)
            most = None if first is None else getattr(first.limits, key)[name]
            if first is not None and most is not None and amount > most:
                words.append(
                    f"{first.words} allows {where} {show_tres(name, most)}, "
                    f"a trial asks for {show_tres(name, amount)}"
                )
    return words


def asked_tres(shape: JobShape, nodes: int | None = None) -> dict[str, float]:
    """Return what a trial holds, in Slurm's names; on ``nodes`` of its nodes, or all."""
    count = shape.nodes if nodes is None else nodes
    asked: dict[str, float] = {"cpu": shape.cpus * count, "node": count}
    if shape.mem_mb is not None:
        asked["mem"] = shape.mem_mb * count
    if shape.gpus:
        asked["gres/gpu"] = shape.gpus * count
        if shape.gpu_type is not None:
            asked[f"gres/gpu:{shape.gpu_type.lower()}"] = shape.gpus * count
    return asked


def show_tres(name: str, amount: float) -> str:
    """Show an amount of a TRES in words."""
    if name == "mem":
        return f"{amount / 1024:.4g} GB"
    word = {"cpu": "CPU", "node": "node", "gres/gpu": "GPU"}.get(name)
    if word is None:
        word = name.removeprefix("gres/gpu:")
        return f"{amount:g} {word}"
    return f"{amount:g} {word}{'s' if amount != 1 else ''}"


def show_minutes(minutes: int) -> str:
    """Show a time limit: ``0:30 h``."""
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _rows(text: str, fields: str) -> Iterable[dict[str, str]]:
    names = fields.split(",")
    for line in text.splitlines():
        values = line.split("|")
        if len(values) >= len(names):
            yield dict(zip(names, values, strict=False))


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _minutes(text: str) -> int | None:
    try:
        return parse_minutes(text)
    except ValueError:
        return None  # unset, or UNLIMITED
