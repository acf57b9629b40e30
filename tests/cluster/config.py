"""Renders the configuration files of the test cluster: values in, text out.

Does: turns `ClusterOptions` and the facts of this machine (`Site`) into slurm.conf, gres.conf,
cgroup.conf and slurmdbd.conf. Does not: touch a file, start a process, or know what is running.
Called by: tests/cluster/cluster.py, on the one machine that plays login node, controller and all
compute nodes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PARTITIONS = ("spot", "ondemand", "cpu")

# Keys of slurm.conf that may stand on several lines; every other key of `extra` replaces ours.
_REPEATABLE = {"nodename", "partitionname", "nodeset", "downnodes", "include"}

# The last release that reads the old name of the option; see the man page slurm.conf(5) of 23.02.
_OLD_USER_SIGNAL = (22, 5)


@dataclass(frozen=True)
class ClusterOptions:
    """What a test may want to be different about the cluster."""

    accounting: bool = True
    """Run slurmdbd and a database, so that sacct answers; some sites have none."""
    preempt_mode: Literal["REQUEUE", "CANCEL"] = "REQUEUE"
    """What happens to a preempted job of `spot`."""
    grace_s: int = 20
    """GraceTime of `spot`, seconds; a minimum, Slurm looks at it only about every 30 s."""
    user_signal: bool = False
    """Send a job's `--signal` at the start of the grace; off as in Slurm itself."""
    gang: bool = False
    """Add GANG to the cluster's PreemptMode, which makes Slurm ignore the grace."""
    job_requeue: int = 1
    """JobRequeue: 0 makes every job `--no-requeue` unless it asks for more."""
    max_array_size: int = 1001
    """MaxArraySize: the largest array index is one less. Slurm's own default."""
    kill_wait_s: int = 8
    """Seconds from the last SIGTERM to SIGKILL; short, so that tests are."""
    slurmd_timeout_s: int = 40
    """Seconds of silence after which a node is DOWN; short, so that tests are."""
    max_job_count: int = 50_000
    """Jobs and array tasks the controller holds at once."""
    n_nodes: int = 4
    """Pretended nodes, n1, n2, ..."""
    gpus_per_node: int = 8
    """Pretended GPUs of each node: character devices that nobody computes on."""
    cpus_per_node: int = 16
    """Pretended processors of each node, whatever the machine really has."""
    mem_mb_per_node: int = 1_024_000
    """Pretended memory of each node, MB; large, so that memory never limits a test by accident."""
    extra: tuple[str, ...] = ()
    """Lines for slurm.conf; a `Key=Value` of a key that we set replaces our value."""


@dataclass(frozen=True)
class Site:
    """Where the cluster lives on this machine."""

    root: Path
    """The folder that holds everything."""
    hostname: str
    """Short name of this machine: slurmctld refuses to start under another one."""
    address: str
    """Address that `hostname` resolves to if that is a loopback address, else 127.0.0.1."""
    is_loopback_name: bool
    """Whether `hostname` resolves to a loopback address: then daemons can bind to it alone."""
    version: tuple[int, int]
    """Slurm's release, (22, 5) for 22.05.8."""
    port: int
    """First of a run of free ports: slurmctld, slurmdbd, then one slurmd each."""
    cluster_name: str
    """New at every start, so that no job of an earlier cluster shows up in sacct."""

    @property
    def conf_dir(self) -> Path:
        """The folder of slurm.conf and of the files Slurm looks for beside it."""
        return self.root / "etc"

    @property
    def munge_socket(self) -> Path:
        """The socket of our own munged."""
        return self.root / "munge" / "run" / "socket"

    @property
    def mariadb_socket(self) -> Path:
        """The socket of our own mariadbd; it listens nowhere else."""
        return self.root / "mariadb" / "socket"

    def device(self, index: int | str) -> Path:
        """Returns the path of a pretended GPU."""
        return self.root / "dev" / f"gpu{index}"


def node_names(options: ClusterOptions) -> list[str]:
    """Lists the names of the pretended nodes."""
    return [f"n{number}" for number in range(1, options.n_nodes + 1)]


def render_slurm_conf(options: ClusterOptions, site: Site) -> str:
    """Renders slurm.conf.

    Raises:
        ValueError: a line of `options.extra` is neither a comment nor `Key=Value`.
    """
    settings = _settings(options, site)
    ours = {key.lower(): key for key in settings}
    appended: list[str] = []
    for line in options.extra:
        match = re.fullmatch(r"\s*([A-Za-z]+)\s*=\s*(.*?)\s*", line)
        if match is None and not line.lstrip().startswith(("#", "include ")):
            raise ValueError(f"extra: {line!r} is not a line of slurm.conf; write Key=Value")
        if match and match[1].lower() not in _REPEATABLE:
            settings[ours.get(match[1].lower(), match[1])] = match[2]
        else:
            appended.append(line)
    lines = [f"{key}={value}" for key, value in settings.items()]
    return "\n".join([*lines, *_nodes(options, site), *_partitions(options), *appended]) + "\n"


def render_gres_conf(options: ClusterOptions, site: Site) -> str:
    """Renders gres.conf; a count of GPUs without device files is refused by slurmd."""
    if not options.gpus_per_node:
        return "AutoDetect=off\n"
    files = site.device(f"[0-{options.gpus_per_node - 1}]" if options.gpus_per_node > 1 else 0)
    return f"AutoDetect=off\nName=gpu File={files}\n"


def render_cgroup_conf(site: Site) -> str:
    """Renders cgroup.conf: no cgroups, so that it works inside a container too.

    22.05 knows no `disabled` and slurmd ends over it; its cgroup/v1 does nothing until asked to,
    while its `autodetect` looks at the machine and may fail.
    """
    plugin = "cgroup/v1" if site.version <= (22, 5) else "disabled"
    return f"CgroupPlugin={plugin}\n"


def render_slurmdbd_conf(site: Site) -> str:
    """Renders slurmdbd.conf; slurmdbd wants it with mode 600.

    It has no setting for the database's socket: that goes by the environment (`Cluster.start`).
    """
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={site.munge_socket}",
        "DbdHost": site.hostname,
        "DbdAddr": site.address,
        "DbdPort": site.port + 1,
        "SlurmUser": "root",
        "DebugLevel": "info",
        "LogFile": site.root / "log" / "slurmdbd.log",
        "PidFile": site.root / "run" / "slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": "root",
        "StorageLoc": "slurm_acct",
    }
    if site.is_loopback_name:
        settings["CommunicationParameters"] = "NoInAddrAny"
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _settings(options: ClusterOptions, site: Site) -> dict[str, object]:
    """The single-valued settings, in the order in which they are written."""
    settings: dict[str, object] = {
        "ClusterName": site.cluster_name,
        "SlurmctldHost": f"{site.hostname}({site.address})",
        "SlurmUser": "root",
        "SlurmctldPort": site.port,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={site.munge_socket}",
        "StateSaveLocation": site.root / "state",
        "SlurmctldPidFile": site.root / "run" / "slurmctld.pid",
        "SlurmctldLogFile": site.root / "log" / "slurmctld.log",
        "SlurmdSpoolDir": site.root / "spool" / "%n",
        "SlurmdPidFile": site.root / "run" / "slurmd-%n.pid",
        "SlurmdLogFile": site.root / "log" / "slurmd-%n.log",
        "SlurmctldDebug": "info",
        "SlurmdDebug": "error",
        # No cgroups, no accounting of use, no binding: each costs time at every start of a job,
        # and on a small machine that time is what a benchmark would measure.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "JobCompType": "jobcomp/none",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "PropagateResourceLimits": "NONE",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "DefMemPerCPU": 1024,
        "GresTypes": "gpu",
        "PriorityType": "priority/basic",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": ",".join(
            (
                "batch_sched_delay=0",
                "sched_interval=2",
                "sched_min_interval=0",
                "default_queue_depth=1000",
                "bf_interval=2",
                "bf_continue",
                "bf_max_job_test=1000",
                "bf_max_job_array_resv=50",
            )
        ),
        "EpilogMsgTime": 0,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": options.preempt_mode + (",GANG" if options.gang else ""),
        "JobRequeue": options.job_requeue,
        "KillWait": options.kill_wait_s,
        "SlurmdTimeout": options.slurmd_timeout_s,
        "MaxArraySize": options.max_array_size,
        "MaxJobCount": options.max_job_count,
        "MinJobAge": 300,
    }
    if site.is_loopback_name:
        settings["CommunicationParameters"] = "NoInAddrAny,NoCtldInAddrAny"
    if options.user_signal and site.version <= _OLD_USER_SIGNAL:
        settings["SlurmctldParameters"] = "preempt_send_user_signal"
    elif options.user_signal:
        settings["PreemptParameters"] = "send_user_signal"
    if options.accounting:
        settings["AccountingStorageType"] = "accounting_storage/slurmdbd"
        settings["AccountingStorageHost"] = site.address
        settings["AccountingStoragePort"] = site.port + 1
        # The way to slurmdbd does not look at AuthInfo: without this it asks the system's munged.
        settings["AccountingStoragePass"] = f"socket={site.munge_socket}"
        settings["AccountingStorageTRES"] = "gres/gpu"
    else:
        settings["AccountingStorageType"] = "accounting_storage/none"
    return settings


def _nodes(options: ClusterOptions, site: Site) -> list[str]:
    """One line per node: a range of one node would need another form than a range of four."""
    gres = f" Gres=gpu:{options.gpus_per_node}" if options.gpus_per_node else ""
    return [
        f"NodeName={name} NodeHostname={site.hostname} NodeAddr={site.address} "
        f"Port={site.port + 2 + index} CPUs={options.cpus_per_node} "
        f"RealMemory={options.mem_mb_per_node}{gres} State=UNKNOWN"
        for index, name in enumerate(node_names(options))
    ]


def _partitions(options: ClusterOptions) -> list[str]:
    """All three partitions over the same nodes, so that `ondemand` has something to preempt."""
    everywhere = f"Nodes={','.join(node_names(options))} State=UP MaxTime=INFINITE"
    return [
        f"PartitionName=spot {everywhere} Default=YES PriorityTier=1 "
        f"PreemptMode={options.preempt_mode} GraceTime={options.grace_s}",
        f"PartitionName=ondemand {everywhere} PriorityTier=10 PreemptMode=OFF",
        f"PartitionName=cpu {everywhere} PriorityTier=1 PreemptMode=OFF",
    ]
