"""Running rendered trial scripts on this machine: a queue with a concurrency cap. No Slurm.

The same ``trial.sbatch`` files as on a cluster, each by ``bash`` in a session of its own, so that a
Ctrl-C reaches this process alone, which then asks the trials to checkpoint and waits for them. Each
attempt watches this process (``ORCHESTRATOR_PARENT_PID``), so none outlives it.

submitit's local executor starts everything at once and pickles; nothing of it serves here.
"""

from __future__ import annotations

import collections
import glob
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime.guard import EXIT_HELD
from orchestrator.runtime.program import descendants

POLL_S = 0.05
# What trials get to write a checkpoint after the first Ctrl-C; a second one ends them at once.
CHECKPOINT_GRACE_S = 60.0


@dataclass(frozen=True)
class LocalTask:
    """One trial to run."""

    trial: TrialPaths
    """Its files; ``trial.sbatch`` is there."""
    cpus: int
    """CPUs it was promised."""
    gpus: int
    """GPUs it was promised; ignored on a machine without."""


@dataclass(frozen=True)
class LocalEvent:
    """Something happened to a trial."""

    trial: str
    """Its name."""
    kind: str
    """``started``, ``ended``, ``again`` (it checkpointed and was queued again), ``interrupted``
    (it ended because somebody asked to stop), ``held`` (it found the gate closed and is queued
    again), or, of no trial, ``stopping``, ``killing`` and ``closed`` (nothing more is started)."""
    exit_code: int = 0
    """Of its script, for ``ended``."""


class LocalExecutor:
    """Runs trials until all ended or somebody asks to stop."""

    def __init__(
        self,
        max_parallel: int | None,
        n_gpus: int | None = None,
        is_closed: Callable[[], bool] = lambda: False,
    ):
        """Set the capacity.

        Args:
            max_parallel: Most trials at a time; None for as many as their CPUs fit here.
            n_gpus: GPUs of this machine; None to count its NVIDIA devices.
            is_closed: Whether the sweep's gate is closed; nothing is started while it is.
        """
        self._is_closed = is_closed
        self._max_parallel = max_parallel
        self._n_cpus = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else (os.cpu_count() or 1)
        )
        self._gpus = list(range(count_gpus() if n_gpus is None else n_gpus))
        self._has_gpus = bool(self._gpus)
        self._running: dict[int, tuple[subprocess.Popen[bytes], LocalTask, list[int]]] = {}
        self._stops = 0
        self._killed = False

    def run(
        self,
        tasks: Sequence[LocalTask],
        on_event: Callable[[LocalEvent], None],
        may_start: Callable[[str], bool] = lambda trial: True,
    ) -> Mapping[str, int]:
        """Run all tasks; returns the exit codes of those that ended by themselves, by trial name.

        A trial that may not start yet waits, with those behind it, while others run; when none
        does, the queue ends.

        SIGINT and SIGTERM stop the queue: running trials checkpoint and leave; a second signal, or
        the end of ``CHECKPOINT_GRACE_S``, kills them with all they started.
        """
        queue = collections.deque(tasks)
        codes: dict[str, int] = {}
        previous = self._install_handlers()
        deadline: float | None = None
        try:
            while self._running or (queue and not self._stops):
                is_closed = bool(queue) and not self._stops and self._is_closed()
                if is_closed and not self._running:  # while some run they may open it again
                    on_event(LocalEvent("", "closed"))
                    break
                is_held = bool(queue) and not may_start(queue[0].trial.name)
                if is_held and not self._running:
                    break
                while queue and not (self._stops or is_closed or is_held) and self._fits(queue[0]):
                    task = queue.popleft()
                    self._start(task)
                    on_event(LocalEvent(task.trial.name, "started"))
                    is_closed = self._is_closed()
                    is_held = bool(queue) and not may_start(queue[0].trial.name)
                for task, code in self._reap():
                    # Of SIGTERM dies what was told to stop before its attempt could listen.
                    is_stopped = code in (EXIT_CHECKPOINTED, -signal.SIGTERM) or self._killed
                    if self._stops and is_stopped:
                        on_event(LocalEvent(task.trial.name, "interrupted"))
                    elif code == EXIT_HELD:
                        _queue_again(queue, task, may_start)
                        on_event(LocalEvent(task.trial.name, "held"))
                    elif code == EXIT_CHECKPOINTED:
                        _queue_again(queue, task, may_start)
                        on_event(LocalEvent(task.trial.name, "again"))
                    else:
                        codes[task.trial.name] = code
                        on_event(LocalEvent(task.trial.name, "ended", code))
                if self._stops and deadline is None:
                    deadline = time.monotonic() + CHECKPOINT_GRACE_S
                    self._signal_all(signal.SIGTERM)
                    on_event(LocalEvent("", "stopping"))
                late = deadline is not None and time.monotonic() > deadline
                if self._running and not self._killed and (self._stops > 1 or late):
                    self._killed = True
                    on_event(LocalEvent("", "killing"))
                    self._kill_all()
                time.sleep(POLL_S)
        finally:
            self._kill_all()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return codes

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked to stop before the queue was empty."""
        return self._stops > 0

    def _install_handlers(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def stop(signum: int, frame: object) -> None:
            self._stops += 1

        return {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def _fits(self, task: LocalTask) -> bool:
        if not self._running:
            return True
        if self._has_gpus and task.gpus > len(self._gpus):
            return False
        if self._max_parallel is not None:
            return len(self._running) < self._max_parallel
        used = sum(task.cpus for _, task, _ in self._running.values())
        return used + task.cpus <= self._n_cpus

    def _start(self, task: LocalTask) -> None:
        mine = [self._gpus.pop(0) for _ in range(min(task.gpus, len(self._gpus)))]
        environ = {**os.environ, "ORCHESTRATOR_PARENT_PID": str(os.getpid())}
        for name in [name for name in environ if name.startswith("SLURM_")]:
            del environ[name]  # started from within a job, the trial is still none of its tasks
        if self._has_gpus:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))
        with open(task.trial.log, "ab", opener=_open_log) as log:
            process = subprocess.Popen(
                ["bash", task.trial.script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )
        self._running[process.pid] = (process, task, mine)

    def _reap(self) -> list[tuple[LocalTask, int]]:
        ended = []
        for pid, (process, task, mine) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[pid]
                self._gpus = sorted(self._gpus + mine)
                ended.append((task, process.returncode))
        return ended

    def _signal_all(self, number: int) -> None:
        for pid in self._running:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def _kill_all(self) -> None:
        for pid in list(self._running):
            for victim in [*descendants(pid), pid]:
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def _queue_again(
    queue: collections.deque[LocalTask], task: LocalTask, may_start: Callable[[str], bool]
) -> None:
    """Put a task at the queue's end, but in front of those that may wait for it."""
    index = len(queue)
    while index and not may_start(queue[index - 1].trial.name):
        index -= 1
    queue.insert(index, task)


def _open_log(path: str, flags: int) -> int:
    # Not through a link, and not waiting for whoever reads a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def count_gpus() -> int:
    """Count this machine's NVIDIA devices by their device files."""
    return len(glob.glob("/dev/nvidia[0-9]*"))
