"""Asking Slurm to run this task again, through submitit's job environment.

Runs on the compute node, only when a trial was told to stop or asked to be run again: importing
submitit takes longer than everything else an attempt does.

submitit 1.5.4 calls ``scontrol requeue <task>``, which also restarts a task that finished
meanwhile; ``Incomplete`` is missing there. Slurm holds a requeued task back for 121 s (reason
BeginTime); ``hold_is_lifted`` takes that away where Slurm lets the user.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping

from orchestrator.contract.records import PREEMPTED_BY_SLURM
from orchestrator.runtime.job import command_environment, slurm_task_id
from orchestrator.runtime.signals import STOP_SIGNALS

TIMEOUT_S = 30.0


def requeue_task(environ: Mapping[str, str]) -> str:
    """Put this job's task back into the queue, unless it is already, or was cancelled.

    Returns:
        What was done, in the words of the attempt's record: ``requested``, ``by slurm`` (Slurm
        is requeuing it by itself), or ``refused: ...`` with the reason. Never raises: a trial
        that cannot be requeued is resumed by the next submission.
    """
    try:
        with _deaf():
            return _requeue(environ)
    except (OSError, subprocess.SubprocessError) as error:
        return f"refused: {_reason(error)}"


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore stop signals: Slurm repeats them to all processes, and squeue would die of one.

    What is ignored here is ignored there; this process is at its end, and needs no more of them.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _requeue(environ: Mapping[str, str]) -> str:
    state, restarts = task_state(slurm_task_id(environ))
    # A running job was only warned: it is ours to requeue. Any other state means that Slurm ends
    # it. If it requeues the job, it needs no help; if somebody cancelled it, requeuing would bring
    # back (scontrol obeys while the job completes) what a person wanted gone.
    if state == "PENDING":
        return "by slurm"
    if restarts is not None and restarts > int(environ.get("SLURM_RESTART_COUNT", "0")):
        return "by slurm"  # it runs elsewhere already: Slurm had given this node up
    if state != "RUNNING":
        return f"refused: the job is {state or 'gone'}"
    # Lazy: see the module's docstring.
    from submitit.slurm.slurm import SlurmJobEnvironment

    class _IncompleteOnly(SlurmJobEnvironment):
        def _requeue(self, countdown: int) -> None:
            subprocess.run(
                ["scontrol", "requeue", "Incomplete", slurm_task_id(environ)],
                check=True,
                capture_output=True,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env=command_environment(os.environ),
            )

    _IncompleteOnly()._requeue(countdown=0)
    return "requested"


def find_preemption(environ: Mapping[str, str]) -> str | None:
    """Ask Slurm whether it preempts this job; for jobs that it does not requeue.

    It knows while the job lives: of one that ends by itself within the grace period sacct says
    FAILED or COMPLETED afterwards (seen on 22.05).

    Returns:
        ``records.PREEMPTED_BY_SLURM``, or None where it does not, or does not answer. Never raises.
    """
    try:
        with _deaf():
            words = _ask_squeue(slurm_task_id(environ), "PreemptTime:40,State:40")
    except (OSError, subprocess.SubprocessError):
        return None
    if len(words) != 2:
        return None
    at, state = words
    is_preempted = at not in ("N/A", "None", "Unknown") or state == "PREEMPTED"
    return PREEMPTED_BY_SLURM if is_preempted else None


def task_state(task: str) -> tuple[str | None, int | None]:
    """Ask squeue for the state of a task, and how often Slurm has restarted it.

    Returns:
        ``(None, None)`` if Slurm no longer knows the task.

    Raises:
        OSError: No squeue here (a container, say).
        subprocess.SubprocessError: It failed or timed out.
    """
    words = _ask_squeue(task, "RestartCnt:12,State:40")
    if not words:
        return None, None
    return words[1] if len(words) > 1 else None, int(words[0]) if words[0].isdigit() else None


def _ask_squeue(task: str, columns: str) -> list[str]:
    answer = subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-j", task, "-O", columns],
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env=command_environment(os.environ),
    )
    return answer.stdout.decode("ascii", "replace").split()


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        text = (error.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        return text[-1][:200] if text else f"exit {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:.0f} s"
    return str(error)[:200]
