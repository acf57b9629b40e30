"""Slurm's commands, and what their answers mean. Runs on the login node.

Parsers take captured text and never run a process; queries raise when Slurm did not answer, so an
empty answer always means "Slurm knows of none". Output is asked for field by field with our own
separator: ``--json`` ignores filters on Slurm 22.05 and changes shape between versions.

submitit submits and requeues (``executors/slurm.py``, ``runtime/requeue.py``); this module asks.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import SlurmState, parse_slurm_state

QUERY_TIMEOUT_S = 60.0
# sbatch itself waits up to 120 s for a full queue (15 tries, sbatch.c); ours must be longer.
SUBMIT_TIMEOUT_S = 200
# What sbatch gets to end after that before it is killed.
SUBMIT_KILL_S = 10
# Slurm's credentials count whole seconds.
RESTART_DELAY_S = 2.0
# A name list this long still fits any argument limit.
NAMES_PER_QUERY = 200
_SEPARATOR = "|"
# Stands for the index of the tasks of an array that were cancelled before they started.
NEVER_STARTED = -1
# The reason last: plugins and operators may put anything there.
SQUEUE_FORMAT = "%F|%K|%j|%T|%N|%r"
# JobName last: the only field whose length we do not control.
SACCT_FIELDS = "JobID,Submit,State,ExitCode,NodeList,JobName"


@dataclass(frozen=True)
class TaskState:
    """What Slurm says of one array task."""

    state: SlurmState
    """Its state; of several records the newest."""
    reason: str = ""
    """Why it waits or how it ended, as Slurm says it (``BeginTime``, ``0:9``)."""
    node: str = ""
    """Where it runs or ran."""
    task: str = ""
    """``<array>_<index>``, as scontrol wants it; only from squeue."""

    @property
    def is_held_back(self) -> bool:
        """Whether it waits out the 121 s that Slurm adds to a requeue."""
        return self.state is SlurmState.PENDING and self.reason == "BeginTime"


@dataclass(frozen=True)
class ClusterLimits:
    """What ``scontrol show config`` says about the cluster and its arrays."""

    version: str
    """Slurm's version, such as ``22.05.8``."""
    max_array_size: int
    """``MaxArraySize``; the largest array index is one less."""
    max_array_tasks: int | None
    """``SchedulerParameters=max_array_tasks``: most tasks of one array; None if unset."""
    cluster: str = ""
    """``ClusterName``: where job names and ids mean something."""

    @property
    def tasks_per_array(self) -> int:
        """How many tasks an array with indices from 0 may have."""
        return min(self.max_array_size, self.max_array_tasks or self.max_array_size)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment for Slurm's commands: without what would silently change their meaning.

    ``SBATCH_*`` override directives; ``SLURM_*`` of an enclosing job leak into the new one.
    ``SLURM_CONF`` stays: without it a site with several clusters is not found.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF"
        or not name.startswith(("SBATCH_", "SLURM_", "SQUEUE_", "SACCT_", "SINFO_", "SALLOC_"))
    }
    return kept


def query(argv: Sequence[str], timeout_s: float = QUERY_TIMEOUT_S) -> str:
    """Run one of Slurm's reading commands.

    Raises:
        ClusterUnreachable: It is missing, failed or did not answer in time.
    """
    try:
        answer = subprocess.run(
            list(argv),
            check=False,
            capture_output=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env={**clean_environment(os.environ), "LC_ALL": "C"},
        )
    except OSError as error:
        raise ClusterUnreachable(f"{argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ClusterUnreachable(f"{argv[0]}: no answer in {timeout_s:.0f} s") from None
    if answer.returncode != 0:
        words = answer.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise ClusterUnreachable(f"{argv[0]}: {words or f'exit {answer.returncode}'}")
    return answer.stdout.decode("utf-8", "replace")


def submit_timeout_s() -> int:
    """Return how long sbatch may take; tests shorten it by ``ORCHESTRATOR_SUBMIT_TIMEOUT_S``."""
    return int(os.environ.get("ORCHESTRATOR_SUBMIT_TIMEOUT_S", SUBMIT_TIMEOUT_S))


def _user() -> str:
    # By number: a name can be ambiguous between the login node's and the controller's directory.
    # Another user's job may have the name of one of ours, and is none of our business.
    return f"--user={os.getuid()}"


def is_slurm_here() -> bool:
    """Tell whether sbatch answers on this machine."""
    try:
        query(["sbatch", "--version"], timeout_s=10)
    except ClusterUnreachable:
        return False
    return True


def queued_tasks(tokens: Sequence[str]) -> dict[tuple[str, int], TaskState]:
    """Ask squeue for every task of the arrays with these job names, of this user.

    Returns:
        By (token, array index). Tasks that ended more than ``MinJobAge`` ago are absent.

    Raises:
        ClusterUnreachable: No answer; nothing may be concluded.
    """
    tasks: dict[tuple[str, int], TaskState] = {}
    for start in range(0, len(tokens), NAMES_PER_QUERY):
        names = ",".join(tokens[start : start + NAMES_PER_QUERY])
        argv = ["squeue", "-h", "-r", "-t", "all", _user(), "-n", names, "-o", SQUEUE_FORMAT]
        tasks.update(parse_squeue(query(argv)))
    return tasks


def parse_squeue(text: str) -> dict[tuple[str, int], TaskState]:
    """Read ``squeue -r -o '%F|%K|%j|%T|%N|%r'``: array id, index, name, state, nodes, reason.

    Tasks of an array that were cancelled before they started share one record without an index
    (seen on 22.05, which has no other trace of them); it is returned under ``NEVER_STARTED``.
    """
    tasks: dict[tuple[str, int], TaskState] = {}
    for line in text.splitlines():
        fields = line.split(_SEPARATOR, 5)
        if len(fields) != 6:
            continue  # the rest of a reason that holds a line break
        array, index, name, state, node, reason = fields
        if not index.isdigit():
            if parse_slurm_state(state) is SlurmState.CANCELLED:
                tasks[name, NEVER_STARTED] = TaskState(SlurmState.CANCELLED, reason)
            continue  # else no array task: a trial submitted by hand
        tasks[name, int(index)] = TaskState(
            parse_slurm_state(state), reason, node, f"{array}_{index}"
        )
    return tasks


def start_now(tasks: Sequence[str]) -> None:
    """Take the hold of 121 s (reason BeginTime) from requeued tasks, where Slurm lets the user.

    Only for tasks that squeue shows as held back: while a job still completes, scontrol answers 0
    and the hold is set anew. What it answers is not judged; the next squeue tells.

    It waits for ``RESTART_DELAY_S`` first: slurmd refuses a credential of the very second in which
    it revoked the task's last one ("Killing non-startable batch job: Job credential revoked",
    22.05.8), and the task is FAILED. (Not by ``StartTime=now+2``: asked for again and again, it
    would never start.)
    """
    if tasks:
        time.sleep(RESTART_DELAY_S)
    for task in tasks:
        try:
            query(["scontrol", "update", f"JobId={task}", "StartTime=now"])
        except ClusterUnreachable:
            continue  # a site may forbid it: then the task starts 121 s later by itself


def queued_job_ids(token: str, *, waiting_or_running: bool = False) -> list[str]:
    """Ask squeue for the ids of this user's arrays with this job name.

    Args:
        token: The job name.
        waiting_or_running: Whether to leave out what ended a while ago.

    Raises:
        ClusterUnreachable: No answer.
    """
    states = "PD,R,CG,CF,S,RQ" if waiting_or_running else "all"
    text = query(["squeue", "-h", "-t", states, _user(), "-n", token, "-o", "%F"])
    return sorted(set(text.split()))


def accounted_tasks(tokens: Sequence[str], since: str) -> dict[tuple[str, int], TaskState]:
    """Ask sacct for the newest record of every task of these arrays since a day.

    Args:
        tokens: Job names.
        since: Start of the search as ``YYYY-MM-DDTHH:MM:SS``; without it sacct shows only today.

    Raises:
        ClusterUnreachable: No answer, or accounting is off. An empty answer may be stale: records
            reach the database seconds late.
    """
    tasks: dict[tuple[str, int], TaskState] = {}
    for start in range(0, len(tokens), NAMES_PER_QUERY):
        names = ",".join(tokens[start : start + NAMES_PER_QUERY])
        argv = ["sacct", "-X", "-D", "-P", "-n", _user(), "--name", names, "-S", since]
        tasks.update(parse_sacct(query([*argv, "-o", SACCT_FIELDS])))
    return tasks


def parse_sacct(text: str) -> dict[tuple[str, int], TaskState]:
    """Read ``sacct -X -D -P -o JobID,Submit,State,ExitCode,NodeList,JobName``.

    Of several records of one task (requeues) the one submitted last counts. Tasks that never
    started share a record (``97_[1-5,8%3]``); each gets its state.
    """
    newest: dict[tuple[str, int], tuple[str, TaskState]] = {}
    for line in text.splitlines():
        fields = line.split(_SEPARATOR, 5)
        if len(fields) != 6:
            continue
        job_id, submitted, state, exit_code, node, name = fields
        task = TaskState(parse_slurm_state(state), exit_code, node)
        for index in parse_indices(job_id.partition("_")[2]):
            key = (name, index)
            if key not in newest or newest[key][0] <= submitted:
                newest[key] = (submitted, task)
    return {key: state for key, (_, state) in newest.items()}


def parse_indices(text: str) -> list[int]:
    """Read array indices as Slurm prints them: ``7``, or ``[1-5,8%3]``; empty for no array."""
    indices: list[int] = []
    for part in text.strip("[]").partition("%")[0].split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            indices += range(int(first), int(last if dash else first) + 1)
    return indices


def accounted_job_ids(token: str, since: str) -> list[str]:
    """Ask sacct for the ids of this user's arrays with this job name. See ``accounted_tasks``."""
    argv = ["sacct", "-X", "-D", "-P", "-n", _user(), "--name", token, "-S", since, "-o", "JobID"]
    return sorted({line.partition("_")[0] for line in query(argv).split()})


def read_limits() -> ClusterLimits:
    """Ask for the cluster's limits on arrays.

    Raises:
        ClusterUnreachable: No answer.
    """
    return parse_config(config_text())


def config_text() -> str:
    """Ask for the cluster's configuration, for ``parse_config`` and ``domain.site``.

    Raises:
        ClusterUnreachable: No answer.
    """
    return query(["scontrol", "show", "config"])


def partitions_text() -> str:
    """Ask for all partitions, hidden ones too, for ``domain.site``.

    Raises:
        ClusterUnreachable: No answer.
    """
    return query(["scontrol", "-a", "-o", "show", "partition"])


def parse_config(text: str) -> ClusterLimits:
    """Read ``scontrol show config``; absent limits are Slurm's defaults."""
    # Lazy: a look at a sweep asks for the queue alone, and the classes take longer than that.
    from orchestrator.domain.site import parse_site

    site = parse_site(text)
    return ClusterLimits(
        version=site.version_text,
        max_array_size=site.max_array_size,
        max_array_tasks=site.max_array_tasks,
        cluster=site.cluster,
    )


def partition_names() -> list[str]:
    """Ask for the cluster's partitions.

    Raises:
        ClusterUnreachable: No answer.
    """
    return sorted(set(query(["sinfo", "-h", "-a", "-o", "%R"]).split()))


def release(task: str) -> None:
    """Take an array task, or a whole array, out of a hold.

    Raises:
        ClusterUnreachable: No answer, or Slurm does not let this user (a hold by an administrator).
    """
    but_ended(["scontrol", "release", task])


def hold(tasks: str) -> None:
    """Hold an array, or tasks of it (``7_[0,2,3]``), that wait.

    Raises:
        ClusterUnreachable: No answer, or nothing of it waits.
    """
    but_ended(["scontrol", "hold", tasks])


def but_ended(argv: Sequence[str]) -> None:
    """Do something to several tasks; that some of them have ended meanwhile is no failure."""
    try:
        query(argv)
    except ClusterUnreachable as error:
        if "already finished" not in str(error) and "Invalid job id" not in str(error):
            raise


def cancel(task: str) -> None:
    """End an array task, waiting or running.

    Raises:
        ClusterUnreachable: No answer.
    """
    query(["scancel", task])


def exclude_nodes(array: str, nodes: Sequence[str]) -> None:
    """Keep what still waits of an array away from some nodes.

    Raises:
        ClusterUnreachable: No answer, or the array is no longer there.
    """
    query(["scontrol", "update", f"JobId={array}", f"ExcNodeList={','.join(nodes)}"])
