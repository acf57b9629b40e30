"""What the closed gate does in Slurm's queue: holding what waits, and letting it go.

Runs on compute nodes, imported only where the gate is closed or opened, and on the login node in
``usecases.release``. Everything is of this user and of the sweep's own arrays, found by their
tokens, which are the folders below ``arrays/``. Running tasks are never touched: a hold of a
running task keeps it from starting again (22.05.8).

A task that holds itself is requeued in a held state (squeue's reason "job requeued in held state",
seen on 22.05.8: an ordinary user can do so to a running array task and release it). Where Slurm
refuses (``--no-requeue``), it ends, and leaves a mark.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import NamedTuple

from orchestrator.runtime import canary, gate
from orchestrator.runtime.job import command_environment, slurm_task_id
from orchestrator.runtime.requeue import task_state
from orchestrator.runtime.signals import STOP_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.contract.paths import TrialPaths

TIMEOUT_S = 30.0
NAMES_PER_QUERY = 500
# squeue's %r of tasks that a hold of ours explains.
BY_HOLD, BY_REQUEUE = "JobHeldUser", "job requeued in held state"
HELD = (BY_HOLD, BY_REQUEUE)
STATES = "PD,R,CG,CF,S,RQ"
# The folder below ``arrays/`` that belongs to no array of trials.
SUPERVISOR = "supervisor"
# A task that holds itself completes first, and cannot be released before.
SETTLE_S, POLL_S = 30.0, 0.5
RESTART_DELAY_S = 1.1


class _Queued(NamedTuple):
    """An array task in the queue."""

    task: str
    """``<array>_<index>``."""
    state: str
    """squeue's ``%T``."""
    reason: str
    """squeue's ``%r``."""
    token: str
    """Its array's."""


_TASK = re.compile(r"([0-9]+)_\[?([0-9,-]+)\]?")


def hold_waiting(sweep_root: str, by: str) -> list[str]:
    """Hold what waits of a sweep's arrays, so that its tasks do not start to hold themselves.

    Args:
        sweep_root: The sweep's folder.
        by: Who does so; names the note of what is held.

    Returns:
        What was held, as scontrol wants it: ``7_[0,2-5]``.

    Raises:
        OSError: No Slurm here, or the note cannot be written.
        subprocess.SubprocessError: Slurm refused or did not answer.
    """
    arrays = compress(
        task.task
        for task in _queued(sweep_root)
        if task.state == "PENDING" and task.reason not in HELD
    )
    if arrays:
        gate.note_held(sweep_root, f"{by}.rest", arrays)
    for tasks in arrays:
        _call(["scontrol", "hold", tasks], check=False)  # some have started meanwhile
    return arrays


def release_waiting(sweep_root: str) -> list[str]:
    """Release what the gate holds, and have it start at once where Slurm lets the user.

    What a person holds stays held: only tasks with a note of ours are released. A note goes when
    its tasks are released or gone, so that a killed release, and a task that was just about to
    hold itself, are taken up by the next.

    Returns:
        What was released, as scontrol wants it.

    Raises:
        OSError: No Slurm here.
        subprocess.SubprocessError: Slurm refused or did not answer.
    """
    notes = gate.read_held(sweep_root)
    waiting = canary.waiting_tokens(sweep_root)
    has_passed = bool(waiting) and canary.have_passed(sweep_root)
    notes = {name: tasks for name, tasks in notes.items() if not canary.is_ours(name)}
    if not notes and not has_passed:
        return []
    ours = {task for tasks in notes.values() for text in tasks for task in expand(text)}
    released: set[str] = set()
    requeued: set[str] = set()
    deadline = time.monotonic() + SETTLE_S
    while True:
        queued = _queued(sweep_root)
        held = [
            task
            for task in queued
            if task.reason in HELD and (has_passed if task.token in waiting else task.task in ours)
        ]
        ready = [task.task for task in held if task.state == "PENDING"]
        said = [_call(["scontrol", "release", tasks], check=False) for tasks in compress(ready)]
        released.update(ready)
        requeued.update(task.task for task in held if task.reason == BY_REQUEUE)
        if not held:
            break
        if time.monotonic() > deadline:
            words = said[0] if said else "tasks that requeue themselves do not end"
            raise subprocess.SubprocessError(f"{len(held)} tasks are still held: {words}")
        time.sleep(POLL_S)
    start_now(requeued)
    running = {task.task for task in queued if task.state != "PENDING"} - released
    # A task that runs may be just about to hold itself.
    about_to = {name for name, tasks in notes.items() if len(tasks) == 1 and tasks[0] in running}
    gate.forget_held(sweep_root, notes.keys() - about_to)
    return compress(released)


def start_now(requeued: Iterable[str]) -> None:
    """Take the wait of 121 s (reason BeginTime) from tasks that were requeued and released.

    squeue may give no reason for some seconds, so it is not asked. The delay: slurmd refuses a
    credential of the second in which it revoked the task's last one (22.05.8).
    """
    arrays = compress(requeued)
    if arrays:
        time.sleep(RESTART_DELAY_S)
    for tasks in arrays:
        _call(["scontrol", "update", f"JobId={tasks}", "StartTime=now"], check=False)


def leave_held(
    trial: TrialPaths, environ: Mapping[str, str], requeue: bool, say: Callable[[str], None]
) -> bool:
    """Put this array task back into the queue, held; or note that it ends at the gate.

    Args:
        trial: The trial that it was to run.
        environ: The process environment, for the Slurm job.
        requeue: Whether Slurm may restart the task.
        say: Takes a line for the log.

    Returns:
        Whether Slurm holds the task. Never raises: a task that neither holds nor notes itself is
        taken for one that never started.
    """
    # Slurm ends the task while scontrol still runs: it, too, shall not die of the signal.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        if requeue and "SLURM_JOB_ID" in environ and _hold_itself(trial, environ, say):
            return True
        gate.note_left(trial.sweep, trial.name, environ.get("SLURM_JOB_NAME", ""))
    except OSError as error:
        say(f"{trial.name}: {error.filename}: {error.strerror}")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return False


def _hold_itself(trial: TrialPaths, environ: Mapping[str, str], say: Callable[[str], None]) -> bool:
    task = slurm_task_id(environ)
    try:
        state, _ = task_state(task)
        if state != "RUNNING":  # Slurm ends it already: what somebody cancelled stays cancelled
            say(f"{trial.name}: not held: the job is {state or 'gone'}")
            return state == "PENDING"
        gate.note_held(trial.sweep, trial.name, [task])
        _call(["scontrol", "requeuehold", task])
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{trial.name}: cannot be held, so it ends: {words(error)}")
        return False
    return True


def words(error: Exception) -> str:
    """Say what Slurm said, or why it did not."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:.0f} s"
    return str(error)[:200]


def compress(tasks: Iterable[str]) -> list[str]:
    """Write array tasks (``7_0``, ``7_1``, ``7_5``) as scontrol wants them: ``7_[0-1,5]``."""
    by_array: dict[int, list[int]] = {}
    for task in tasks:
        array_id, _, task_index = task.partition("_")
        by_array.setdefault(int(array_id), []).append(int(task_index))
    found = []
    for array, indices in sorted(by_array.items()):
        spans: list[list[int]] = []
        for index in sorted(set(indices)):
            if spans and spans[-1][1] == index - 1:
                spans[-1][1] = index
            else:
                spans.append([index, index])
        texts = [f"{a}" if a == b else f"{a}-{b}" for a, b in spans]
        found.append(f"{array}_[{','.join(texts)}]")
    return found


def expand(text: str) -> list[str]:
    """Undo ``compress`` for one array; empty for what is none."""
    match = _TASK.fullmatch(text)
    if match is None:
        return []
    tasks: list[str] = []
    for span in match[2].split(","):
        first, dash, last = span.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            stop = int(last if dash else first)
            tasks += [f"{match[1]}_{index}" for index in range(int(first), stop + 1)]
    return tasks


def _queued(sweep_root: str) -> list[_Queued]:
    """Ask squeue for the sweep's array tasks that wait, run or are just ending."""
    try:
        tokens = sorted(os.listdir(sweep_root + "/arrays"))
    except FileNotFoundError:
        return []
    tokens = [token for token in tokens if token != SUPERVISOR and not token.startswith(".")]
    found = []
    for start in range(0, len(tokens), NAMES_PER_QUERY):
        names = ",".join(tokens[start : start + NAMES_PER_QUERY])
        whose = [f"--user={os.getuid()}", "-n", names]
        text = _call(["squeue", "-h", "-r", "-t", STATES, *whose, "-o", "%F|%K|%T|%j|%r"])
        for line in text.splitlines():
            fields = line.split("|", 4)
            if len(fields) == 5 and fields[0].isdigit() and fields[1].isdigit():
                array, index, state, token, reason = fields
                found.append(_Queued(f"{array}_{index}", state, reason.strip(), token))
    return found


def _call(argv: Sequence[str], *, check: bool = True) -> str:
    """Run one of Slurm's commands; returns what it said, with its complaint if it may fail."""
    done = subprocess.run(
        argv,
        check=check,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if check else subprocess.STDOUT,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env=command_environment(os.environ),
    )
    return done.stdout.decode("utf-8", "replace")
