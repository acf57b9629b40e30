"""The trial's program as a child process: starting it, signalling it, ending it with its kin.

Runs on the compute node and, for trials without Slurm, on the user's own machine.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT_SIGNALS = (
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGPIPE,
)


class Program:
    """A started program, in a process group of its own, so that what it leaves can be ended."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]):
        """Start a program with an empty standard input.

        Raises:
            OSError: It cannot be started: not found, not executable, ...
        """
        self.pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environ),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0,
            setsigdef=_DEFAULT_SIGNALS,
        )
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number for a death by signal, or None."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send(self, signum: int) -> None:
        """Signal the program's whole group, as Slurm signals all of a step.

        The program may be a shell script that waits for the one that can checkpoint.
        """
        if self.poll() is None:
            self._signal_group(signum)

    def await_leftovers(self, timeout_s: float) -> None:
        """Wait until the ended program's group is empty, or the time is over.

        A signal ends a shell script at once, while the program it had started still saves.
        """
        deadline = time.monotonic() + timeout_s
        while self._signal_group(0) and time.monotonic() < deadline:
            time.sleep(0.05)

    def end(self, grace_s: float) -> int:
        """End the program and all it started: SIGTERM, and SIGKILL after ``grace_s``."""
        kin = descendants(self.pid)
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.send(signal.SIGKILL)
        for pid in kin:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._signal_group(signal.SIGKILL)
        while (status := self.poll()) is None:
            time.sleep(0.01)
        return status

    def end_leftovers(self, grace_s: float) -> bool:
        """End what the ended program left in its process group: it would keep the job alive.

        Returns:
            Whether there was anything.
        """
        if not self._signal_group(signal.SIGTERM):
            return False
        deadline = time.monotonic() + grace_s
        while self._signal_group(0) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_group(signal.SIGKILL)
        return True

    def _signal_group(self, signum: int) -> bool:
        try:
            os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
            return False
        return True


def descendants(root: int) -> list[int]:
    """Pids of all living descendants of ``root``; empty where there is no ``/proc``."""
    children: dict[int, list[int]] = {}
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        kin = children.get(todo.pop(), [])
        found += kin
        todo += kin
    return found
