"""What a Slurm site's configuration says, and whether to let Slurm requeue trials there. Pure.

Reads captured text of ``scontrol show config`` and ``scontrol show partition`` (also with ``-o``)
of Slurm 22.05 and later; ``adapters.slurm_site`` gets the text. A key that the text lacks has
Slurm's documented default (slurm.conf(5)) where it has one, else it is None: unknown.

Not covered: what a QOS says about preemption (``preempt/qos``), and heterogeneous clusters whose
nodes differ from the partition's words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.domain.partition import parse_minutes

# From this release on a job that was preempted through a grace period is run once more after it
# completed, and exits within the grace count towards MaxBatchRequeue. Seen on 26.05; in the
# source from commit a689104d15 (2024-04-19) on.
RERUN_AFTER_GRACE = (24, 5)
# Since this release the user signal is PreemptParameters=send_user_signal; the old
# SlurmctldParameters=preempt_send_user_signal is still read.
NEW_USER_SIGNAL = (23, 2)
# job_mgr.c: begin_time = now + cred_expire + 1; AuthInfo=cred_expire is 120 s by default.
DEFAULT_CRED_EXPIRE_S = 120

_UNSET = frozenset({"", "(null)", "N/A", "none", "NONE"})


@dataclass(frozen=True)
class SiteConfig:
    """What ``scontrol show config`` says. None: the text does not tell."""

    version: tuple[int, ...] | None = None
    """Slurm's release as numbers, ``(22, 5, 8)``."""
    version_text: str = "unknown"
    """The same as Slurm writes it."""
    cluster: str = ""
    """``ClusterName``."""
    job_requeue: bool = True
    """``JobRequeue``: whether jobs that do not say may be requeued; Slurm's default is yes."""
    preempt_type: str = "preempt/none"
    """``PreemptType``: who preempts whom."""
    preempt_modes: tuple[str, ...] = ("OFF",)
    """The cluster-wide ``PreemptMode``, such as ``("GANG", "REQUEUE")``."""
    user_signal: bool | None = None
    """Whether a preempted job gets its ``--signal`` when the grace period starts."""
    kill_wait_s: int = 30
    """``KillWait``: seconds from the last SIGTERM to SIGKILL."""
    max_array_size: int = 1001
    """``MaxArraySize``: the largest array index is one less."""
    max_array_tasks: int | None = None
    """``SchedulerParameters=max_array_tasks``: most tasks of one array; None: no such limit."""
    max_job_count: int = 10_000
    """``MaxJobCount``: jobs and array tasks that the controller holds at once."""
    max_batch_requeue: int = 5
    """``MaxBatchRequeue``: launch failures (and exits within a grace, see ``RERUN_AFTER_GRACE``)
    after which a job is held; fixed at 5 before 23.02."""
    accounting: str | None = None
    """``AccountingStorageType`` where something is stored; None: sacct knows nothing."""
    private_data: tuple[str, ...] = ()
    """``PrivateData``: what other users may not see."""
    min_job_age_s: int = 300
    """``MinJobAge``: how long squeue remembers a job that ended, seconds."""
    slurmd_timeout_s: int = 300
    """``SlurmdTimeout``: silence after which a node is given up, seconds; 0: never."""
    message_timeout_s: int = 10
    """``MessageTimeout``: how long a request to the controller may take, seconds."""
    requeue_hold_s: int = DEFAULT_CRED_EXPIRE_S + 1
    """How long a requeued job waits before it may start (reason BeginTime), seconds."""
    conf_path: str = ""
    """Where slurm.conf lies, on the controller at least."""

    @property
    def has_gang(self) -> bool:
        """Whether preemption goes by the gang scheduler, which knows no grace and no signal."""
        return "GANG" in self.preempt_modes

    @property
    def reruns_after_grace(self) -> bool:
        """Whether this release runs finished jobs again; unknown releases are taken for new."""
        return self.version is None or self.version[:2] >= RERUN_AFTER_GRACE

    @property
    def tasks_per_array(self) -> int:
        """How many tasks an array with indices from 0 may have."""
        return min(self.max_array_size, self.max_array_tasks or self.max_array_size)


@dataclass(frozen=True)
class PartitionConfig:
    """One partition, as ``scontrol show partition`` describes it."""

    name: str
    """Its name in Slurm."""
    preempt_mode: str = "OFF"
    """What happens to a preempted job: ``OFF, REQUEUE, CANCEL, SUSPEND``; without GANG."""
    grace_s: int = 0
    """``GraceTime`` in seconds; a minimum, Slurm looks about every 30 s."""
    max_time_min: int | None = None
    """``MaxTime`` in minutes; None: no limit."""
    state: str = "UP"
    """``UP, DOWN, DRAIN, INACTIVE``."""
    priority_tier: int = 1
    """``PriorityTier``: jobs of a higher tier may preempt those of a lower."""
    nodes: str = ""
    """Its nodes as Slurm writes them, ``n[1-4]``; empty without any."""
    n_nodes: int | None = None
    """How many those are."""
    qos: str | None = None
    """The QOS whose limits apply to all its jobs."""
    max_nodes: int | None = None
    """``MaxNodes`` of one job; None: no limit."""
    default_time_min: int | None = None
    """``DefaultTime``: the limit of a job that states none, in minutes; None: ``MaxTime``."""
    is_exclusive: bool = False
    """``OverSubscribe=EXCLUSIVE``: a job gets whole nodes."""
    max_cpus_per_node: int | None = None
    """``MaxCPUsPerNode``: CPUs of a node that its jobs together may use; None: all."""
    max_mem_mb_per_node: int | None = None
    """``MaxMemPerNode`` of one job, MB; None: no limit."""


@dataclass(frozen=True)
class RequeueChoice:
    """Whether a trial's job asks Slurm to restart it (``--requeue``), and why."""

    requeue: bool
    """True: requeue mode. False: resubmit mode, every attempt is a new job."""
    reason: str
    """In words, fit to follow "because"."""


def parse_site(text: str) -> SiteConfig:
    """Read ``scontrol show config``; unknown keys are passed over."""
    found = _config_values(text)
    version_text = found.get("SLURM_VERSION", "unknown")
    version = _version(version_text)
    scheduler = _options(found.get("SchedulerParameters", ""))
    values: dict[str, object] = {
        "version": version,
        "version_text": version_text,
        "cluster": found.get("ClusterName", ""),
        "user_signal": _user_signal(found, version),
        "max_array_tasks": _number(scheduler.get("max_array_tasks", "")),
        "accounting": _set_value(found.get("AccountingStorageType", "")),
        "private_data": _words(found.get("PrivateData", "")),
        "requeue_hold_s": _requeue_hold(found, scheduler),
        "conf_path": found.get("SLURM_CONF", ""),
    }
    if found.get("JobRequeue", "") in ("0", "1"):
        values["job_requeue"] = found["JobRequeue"] == "1"
    if _set_value(found.get("PreemptType", "")):
        values["preempt_type"] = found["PreemptType"]
    if _words(found.get("PreemptMode", "")):
        values["preempt_modes"] = tuple(word.upper() for word in _words(found["PreemptMode"]))
    for key, name in _NUMBERS.items():
        number = _number(found.get(key, ""))
        if number is not None:
            values[name] = number
    return SiteConfig(**values)  # type: ignore[arg-type]


def parse_partitions(text: str) -> dict[str, PartitionConfig]:
    """Read ``scontrol show partition``, on one line each (``-o``) or on several, by name."""
    partitions: dict[str, PartitionConfig] = {}
    for block in re.split(r"(?m)^(?=PartitionName=)", text):
        values = dict(word.partition("=")[::2] for word in block.split() if "=" in word)
        name = values.get("PartitionName")
        if name:
            partitions[name] = _partition(name, values)
    return partitions


def preempt_mode(site: SiteConfig, partition: PartitionConfig) -> str:
    """Return what happens to a preempted job there: ``OFF, REQUEUE, CANCEL`` or ``SUSPEND``.

    With ``preempt/qos`` the QOS decides; the cluster-wide mode is what it has unless it says so.
    """
    if site.preempt_type == "preempt/none":
        return "OFF"
    if site.preempt_type == "preempt/qos":
        return next((mode for mode in site.preempt_modes if mode != "GANG"), "OFF")
    return partition.preempt_mode


def effective_grace_s(site: SiteConfig, partition: PartitionConfig) -> int | None:
    """Return the seconds between the word that a job is preempted and its end.

    Returns:
        0 where there is none; None with ``preempt/qos``, where the QOS has it.
    """
    if site.has_gang or preempt_mode(site, partition) not in ("REQUEUE", "CANCEL"):
        return 0  # gang.c: the gang scheduler looks at no GraceTime
    return None if site.preempt_type == "preempt/qos" else partition.grace_s


def counts_grace_exits(site: SiteConfig, partition: PartitionConfig) -> bool:
    """Tell whether exits within the grace count towards ``MaxBatchRequeue`` there."""
    grace = effective_grace_s(site, partition)
    requeues = preempt_mode(site, partition) == "REQUEUE"
    return site.reruns_after_grace and requeues and (grace is None or grace > 0)


def choose_requeue(site: SiteConfig, partition: PartitionConfig | None) -> RequeueChoice:
    """Choose between requeue and resubmit mode for a partition.

    Requeue mode goes on without anybody's presence, so it is the choice unless Slurm would not
    do it. That holds for Slurm 24.05 and later with a grace period too: there a finished trial is
    run once more, which our guard turns into a no-op of a second, and the fifth exit within the
    grace is held for ever; but four restarts without a person are more than the none of resubmit
    mode, and what is held goes on from its checkpoint once it is cancelled and submitted again.
    Only where the very first such exit is held (``MaxBatchRequeue`` below 2) is nothing gained.

    Args:
        site: The cluster's configuration.
        partition: The partition's; None if it is unknown, which decides nothing.
    """
    if not site.job_requeue:
        # A job that asks for it with --requeue is requeued all the same (seen on 22.05): a
        # profile may say `requeue: true`. By ourselves we keep to what the site wants.
        return RequeueChoice(False, "the site has turned requeuing off (JobRequeue=0)")
    if partition is None:
        return RequeueChoice(True, "the site allows it (JobRequeue=1)")
    if preempt_mode(site, partition) == "CANCEL":
        return RequeueChoice(
            False, f"partition {partition.name} ends preempted jobs (PreemptMode=CANCEL)"
        )
    if counts_grace_exits(site, partition):
        if site.max_batch_requeue < 2:
            return RequeueChoice(
                False,
                f"Slurm {site.version_text} would hold a job for ever at its first preemption "
                f"(MaxBatchRequeue={site.max_batch_requeue})",
            )
        return RequeueChoice(
            True,
            "the site allows it, and a second run of a finished trial does nothing here",
        )
    return RequeueChoice(True, "the site allows it (JobRequeue=1)")


_NUMBERS = {
    "KillWait": "kill_wait_s",
    "MaxArraySize": "max_array_size",
    "MaxJobCount": "max_job_count",
    "MaxBatchRequeue": "max_batch_requeue",
    "MinJobAge": "min_job_age_s",
    "SlurmdTimeout": "slurmd_timeout_s",
    "MessageTimeout": "message_timeout_s",
}


def _config_values(text: str) -> dict[str, str]:
    """Return ``Key = value`` lines; of a key that stands twice the first."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values.setdefault(name.strip(), value.strip())
    return values


def _partition(name: str, values: Mapping[str, str]) -> PartitionConfig:
    modes = [mode for mode in values.get("PreemptMode", "OFF").upper().split(",") if mode != "GANG"]
    return PartitionConfig(
        name=name,
        preempt_mode=modes[0] if modes else "OFF",
        grace_s=_number(values.get("GraceTime", "")) or 0,
        max_time_min=_minutes(values.get("MaxTime", "")),
        state=values.get("State", "UP").upper(),
        priority_tier=_number(values.get("PriorityTier", "")) or 0,
        nodes=_set_value(values.get("Nodes", "")) or "",
        n_nodes=_number(values.get("TotalNodes", "")),
        qos=_set_value(values.get("QoS", "")),
        max_nodes=_number(values.get("MaxNodes", "")),
        default_time_min=_minutes(values.get("DefaultTime", "")),
        is_exclusive=values.get("OverSubscribe", "").startswith("EXCLUSIVE"),
        max_cpus_per_node=_number(values.get("MaxCPUsPerNode", "")),
        max_mem_mb_per_node=_number(values.get("MaxMemPerNode", "")),
    )


def _user_signal(found: Mapping[str, str], version: tuple[int, ...] | None) -> bool | None:
    if "SlurmctldParameters" not in found and "PreemptParameters" not in found:
        return None
    old = "preempt_send_user_signal" in _words(found.get("SlurmctldParameters", ""))
    new = "send_user_signal" in _words(found.get("PreemptParameters", ""))
    is_old_release = version is not None and version[:2] < NEW_USER_SIGNAL
    return old or (new and not is_old_release)


def _requeue_hold(found: Mapping[str, str], scheduler: Mapping[str, str]) -> int:
    # SchedulerParameters=requeue_delay since 25.11; before that the credential's life plus one.
    delay = _number(scheduler.get("requeue_delay", ""))
    if delay is not None:
        return delay
    expire = _number(_options(found.get("AuthInfo", "")).get("cred_expire", ""))
    return (expire if expire is not None else DEFAULT_CRED_EXPIRE_S) + 1


def _version(text: str) -> tuple[int, ...] | None:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return None if match is None else tuple(int(part) for part in match.groups(default="0"))


def _number(text: str) -> int | None:
    """Read a count or a time such as ``30 sec``; None for words and for nothing."""
    match = re.fullmatch(r"(\d+)(?:\s*(usec|sec|min|hour)\w*)?", text.strip())
    if match is None:
        return None
    factor = {"usec": 1e-6, "min": 60, "hour": 3600}.get(match[2], 1)
    return math.ceil(int(match[1]) * factor)


def _minutes(text: str) -> int | None:
    try:
        return parse_minutes(text)
    except ValueError:
        return None  # UNLIMITED, INFINITE, NONE


def _set_value(text: str) -> str | None:
    return None if text in _UNSET or text.endswith("/none") else text


def _words(text: str) -> tuple[str, ...]:
    return () if text in _UNSET else tuple(word for word in re.split(r"[,\s]+", text) if word)


def _options(text: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in _words(text))
