"""Slurm's commands about arrays that wait: throttles, dependencies, waiting times. Login node.

What ``slurm_cli`` is for all of Slurm, this is for what moves trials between partitions and keeps
a sweep's ceilings (``usecases.placing``, ``usecases.ceilings``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from orchestrator.adapters import slurm_cli
from orchestrator.contract.errors import ClusterUnreachable

_SEPARATOR = "|"
_WAITING_COLUMNS = ("ArrayJobID", "ArrayTaskID", "EligibleTime")


def defer(task: str) -> bool:
    """Keep an array task that waits from starting, so that it can be cancelled while it waits.

    Slurm refuses this of a task that started meanwhile, which is what it is for. (``scancel
    --state=PENDING 7_3`` cancels all that waits of array 7, seen on 22.05.) A task that is left so
    is started by ``start_now``, since it waits for its begin time.

    Returns:
        Whether it still waits.

    Raises:
        ClusterUnreachable: No answer.
    """
    try:
        slurm_cli.query(["scontrol", "update", f"JobId={task}", "StartTime=now+1hour"])
    except ClusterUnreachable as error:
        gone = ("no longer pending", "already finished", "Invalid job id")
        if any(words in str(error) for words in gone):
            return False
        raise
    return True


def waiting_s(tokens: Sequence[str]) -> dict[str, float]:
    """Ask for how long tasks of the arrays with these job names wait though they could start.

    Slurm's ``EligibleTime``: not known while a task is held, waits for other jobs or for its
    array's throttle, and counted anew after that (seen on 22.05).

    Returns:
        Seconds by task, ``<array>_<index>``; those that may not start are absent.

    Raises:
        ClusterUnreachable: No answer.
    """
    waits: dict[str, float] = {}
    columns = ",".join(f"{name}:{_SEPARATOR}" for name in _WAITING_COLUMNS)
    for start in range(0, len(tokens), slurm_cli.NAMES_PER_QUERY):
        names = ",".join(tokens[start : start + slurm_cli.NAMES_PER_QUERY])
        argv = [
            "squeue",
            "-h",
            "-r",
            "-t",
            "PENDING",
            f"--user={os.getuid()}",
            "-n",
            names,
            "-O",
            columns,
        ]
        waits |= parse_waiting(slurm_cli.query(argv), time.time())
    return waits


def parse_waiting(text: str, now_s: float) -> dict[str, float]:
    """Read ``squeue -O ArrayJobID:|,ArrayTaskID:|,EligibleTime:|``, times in the local zone."""
    waits: dict[str, float] = {}
    for line in text.splitlines():
        fields = [item.strip() for item in line.split(_SEPARATOR)]
        try:
            array, index, since = fields[:3]
            since_s = time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%S"))
        except ValueError:
            continue  # N/A: it may not start
        if since_s <= now_s:
            waits[f"{array}_{index}"] = now_s - since_s
    return waits


def throttle(array: str, n_tasks: int) -> None:
    """Set how many tasks of an array may run at once; what runs goes on.

    Raises:
        ClusterUnreachable: No answer, or Slurm refused.
    """
    slurm_cli.but_ended(["scontrol", "update", f"JobId={array}", f"ArrayTaskThrottle={n_tasks}"])


def wait_for(array: str, others: Sequence[str]) -> None:
    """Let an array that waits start only after others, by their ids, have ended.

    Raises:
        ClusterUnreachable: No answer, or Slurm refused.
    """
    after = f"Dependency=afterany:{':'.join(others)}"
    slurm_cli.but_ended(["scontrol", "update", f"JobId={array}", after])


def clear_dependency(array: str) -> None:
    """Let an array start that waits for the end of others.

    Raises:
        ClusterUnreachable: No answer, or Slurm refused.
    """
    slurm_cli.but_ended(["scontrol", "update", f"JobId={array}", "Dependency="])
