"""Finds and signals processes by identity, so that a reused process id is never hit.

Does: names a process by id, start time and boot; sends signals; runs commands that cannot outlive
their time; finds the processes that a cluster's jobs left behind. Does not: search by program
name, or signal anything it has not identified. Called by: the other modules of tests/cluster, on
the machine of the test cluster (Linux).
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PROC = Path("/proc")
_DEAD_STATES = {"Z", "X", "x"}


@dataclass(frozen=True)
class Process:
    """One process of this boot of this machine."""

    pid: int
    """Process id; Linux gives it to another process some time after this one's end."""
    start_ticks: int
    """Start time in clock ticks since boot, field 22 of /proc/<pid>/stat (proc(5))."""
    boot_id: str
    """Names the boot that `start_ticks` counts from; empty where the kernel does not tell."""

    @classmethod
    def identify(cls, pid: int) -> "Process | None":
        """Identifies a running process; None if there is none with this id, or only a zombie."""
        stat = _read_stat(pid)
        if stat is None or stat[0] in _DEAD_STATES:
            return None
        return cls(pid=pid, start_ticks=int(stat[19]), boot_id=_boot_id())

    def is_alive(self) -> bool:
        """Tells whether this very process still runs; a stopped one does, a zombie does not."""
        return Process.identify(self.pid) == self

    def send(self, signum: signal.Signals) -> bool:
        """Sends a signal; False if the process is gone."""
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return False
        return True


def wait_until(
    predicate: Callable[[], T],
    timeout_s: float,
    on_timeout: Callable[[], object] | str = "",
    interval_s: float = 0.05,
) -> T:
    """Waits until the predicate returns something true, and returns that.

    Args:
        predicate: Asked at least twice, the last time after the time is up.
        timeout_s: Bound of the wait, seconds.
        on_timeout: Added to the error: a text, or a function that tells what is there instead.
        interval_s: Pause between two questions, seconds.

    Raises:
        TimeoutError: the time is up; says what the predicate returned last, and `on_timeout`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() >= deadline
        seen = predicate()
        if seen:
            return seen
        if is_last:
            detail = on_timeout() if callable(on_timeout) else on_timeout
            raise TimeoutError(f"not within {timeout_s:g} s; last seen: {seen!r}; {detail}")
        time.sleep(interval_s)


def stop(processes: list[Process], timeout_s: float) -> None:
    """Asks processes to end, and kills those that have not after the time.

    Raises:
        TimeoutError: one is still there five seconds after SIGKILL.
    """
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a stopped process would never see the SIGTERM
    try:
        wait_until(lambda: not _alive(processes), timeout_s)
    except TimeoutError:
        pass  # the next line is for these
    kill(processes)


def kill(processes: list[Process]) -> None:
    """Kills processes and waits until they are gone.

    Raises:
        TimeoutError: one is still there five seconds after SIGKILL.
    """
    for process in processes:
        process.send(signal.SIGKILL)
    wait_until(lambda: not _alive(processes), 60, lambda: f"alive: {_alive(processes)}", 0.01)


def run_bounded(
    argv: Sequence[str], env: dict[str, str], cwd: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a session of its own; when the time is up, kills the command's group.

    Raises:
        subprocess.TimeoutExpired: the time is up.
    """
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # not collected yet, so the id is still its own
            raise
    return subprocess.CompletedProcess(list(argv), child.returncode, out, err)


def find_job_processes(slurm_conf: Path) -> list[Process]:
    """Finds what runs as part of a job of the cluster with this slurm.conf.

    A job's processes carry its id and the configuration's path in their environment; those that
    wiped their environment are found as children of the ones that did not. Never finds this
    process or an ancestor of it.
    """
    conf = b"SLURM_CONF=" + os.fsencode(slurm_conf)
    own = _ancestors(os.getpid())
    found: set[int] = set()
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        pid = int(entry.name)
        stat = _read_stat(pid)
        if stat is None:
            continue
        parents[pid] = int(stat[1])
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            name = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended, or is not ours to look at
        is_step = name.startswith(b"slurmstepd")
        has_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
        if conf in variables and (is_step or has_job):
            found.add(pid)
    grew = True
    while grew:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grew = bool(children)
    identified = (Process.identify(pid) for pid in found)
    return [process for process in identified if process is not None]


def find_node_processes(slurm_conf: Path, node: str) -> list[Process]:
    """Finds what Slurm runs for jobs on one pretended node, its step daemons included."""
    found: dict[int, Process] = {}
    for process in find_job_processes(slurm_conf):
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURMD_NODENAME={node}".encode() not in environ:
            continue
        pid = process.pid
        while pid not in found and (ancestor := Process.identify(pid)) is not None:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                break
            if pid != process.pid and not command.startswith(b"slurmstepd"):
                break
            found[pid] = ancestor
            pid = parent
    return list(found.values())


def _alive(processes: list[Process]) -> list[Process]:
    """Those that still run; collects the dead ones that are our own children."""
    for process in processes:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            pass  # not our child, or collected already
    return [process for process in processes if process.is_alive()]


def _ancestors(pid: int) -> set[int]:
    """The process and all its parents."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        stat = _read_stat(pid)
        pid = int(stat[1]) if stat else 0
    return seen


def _read_stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (state) on; the second may hold spaces."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
