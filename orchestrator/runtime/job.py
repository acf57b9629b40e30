"""Who runs this attempt: the Slurm job from its environment, the host and the process.

Runs on the compute node. The identity goes into the claim, so that a later attempt can tell
whether the process behind an earlier one can still be alive.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def describe_job(environ: Mapping[str, str]) -> dict[str, Any]:
    """Name the Slurm job of this process; empty outside of one.

    ``restart_count`` is 0 on the first run, where Slurm leaves ``SLURM_RESTART_COUNT`` unset.
    """
    if "SLURM_JOB_ID" not in environ:
        return {}
    index = environ.get("SLURM_ARRAY_TASK_ID", "")
    return {
        "job_id": environ["SLURM_JOB_ID"],
        "array_job_id": environ.get("SLURM_ARRAY_JOB_ID"),
        "array_task_id": int(index) if index.isdigit() else None,
        "restart_count": int(environ.get("SLURM_RESTART_COUNT", "0")),
        "token": environ.get("SLURM_JOB_NAME"),
    }


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which squeue and scontrol answer as we read them.

    A module or profile that the job loads may set how times look (``relative`` has blanks), which
    jobs are shown (``SQUEUE_PARTITION``), or a cluster, of which squeue prints a title.
    """
    settings = ("SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
    kept = {
        name: value
        for name, value in environ.items()
        if name not in settings and not name.startswith("SQUEUE_")
    }
    return {**kept, "LC_ALL": "C"}


def slurm_task_id(environ: Mapping[str, str]) -> str:
    """Name this job for scontrol: ``<array>_<task>``, or the id of a job that is no array.

    Never ``SLURM_JOB_ID`` for an array task: of the last task it equals the array's id, and
    scontrol would then act on every task of the array.
    """
    if environ.get("SLURM_ARRAY_JOB_ID") and environ.get("SLURM_ARRAY_TASK_ID"):
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def describe_process() -> dict[str, Any]:
    """Name this process so that no other, on any host at any time, has the same description."""
    pid = os.getpid()
    return {
        # Several pretended nodes can share a host; otherwise the two names say the same.
        "node": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid": pid,
        "pid_start": process_start(pid),
        "pid_namespace": pid_namespace(),
    }


def boot_id() -> str | None:
    """Id of this host's current boot; None where the system has none (macOS)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def pid_namespace() -> str | None:
    """Name the namespace in which this process's pid means something; None if it has none.

    Containers of one host share its boot, and may share its name.
    """
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def is_of_this_host(record: Mapping[str, Any]) -> bool | None:
    """Tell whether ``/proc`` here shows the process that ``describe_process`` described, if alive.

    Returns:
        False if this host was booted since, so that it is dead; None if it ran where this process
        cannot look: on another host, in another container, or on a system without ``/proc``.
    """
    if record.get("host") != os.uname().nodename or record.get("boot_id") is None:
        return None
    if record["boot_id"] != boot_id():
        return False
    return True if record.get("pid_namespace") == pid_namespace() else None


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22); None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def is_alive_here(record: Mapping[str, Any]) -> bool | None:
    """Tell whether the process that ``describe_process`` described runs on this host.

    Returns:
        True or False where this host can tell, else None; see ``is_of_this_host``.
    """
    here = is_of_this_host(record)
    if not here:
        return here
    start = process_start(int(record["pid"]))
    return start is not None and start == record.get("pid_start")
