"""The trial protocol for Python programs: parameters, metrics, checkpoints, preemption.

Runs inside the trial's program on the compute node. Standard library only. Outside of a trial
everything works too, so that the same script can be started by hand: there are no parameters,
reports go to standard output, and nobody asks to stop.

The same protocol for any language: the environment variables ``TRIAL_PARAMS`` (a JSON file),
``TRIAL_METRICS`` (append JSON objects, one a line), ``TRIAL_CHECKPOINT_DIR``, ``TRIAL_ATTEMPT``,
``TRIAL_NUMBER``, ``TRIAL_SEED``, ``TRIAL_MICRO_BATCH_DIVISOR`` (after CUDA ran out of memory); on
SIGTERM or SIGUSR2 checkpoint and exit 75. For how often to save, ``TRIAL_MTBF_S`` and, if known,
``TRIAL_GRACE_S`` and ``TRIAL_CHECKPOINT_INTERVAL_S``; see
``orchestrator.runtime.checkpoint_interval``.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.paths import TrialPaths
from orchestrator.contract.records import parse_metrics_line, read_record
from orchestrator.runtime import durable
from orchestrator.runtime.checkpoint_interval import CheckpointClock, clock_from_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

_stop_signals: list[int] = []
_clocks: list[CheckpointClock] = []  # the one of this process, once it is asked for


def is_trial() -> bool:
    """Tell whether the orchestrator started this program."""
    return "TRIAL_DIR" in os.environ


def params() -> dict[str, Any]:
    """Return the trial's parameters, nested as in the spec; empty outside of a trial."""
    path = os.environ.get("TRIAL_PARAMS")
    return read_record(path) if path else {}


def attempt() -> int:
    """Return 1 for the first attempt of this trial, 2 for the second, ...; 1 outside of one."""
    return int(os.environ.get("TRIAL_ATTEMPT", "1"))


def seed() -> int | None:
    """Return the trial's seed, None if the spec sets none."""
    text = os.environ.get("TRIAL_SEED")
    return int(text) if text else None


def micro_batch_divisor() -> int:
    """Return by how much to divide the micro-batch, and multiply the accumulation; usually 1.

    After CUDA ran out of memory the trial goes again with 2, then 4, then 8: the effective batch,
    and so the trial, stays the same.
    """
    text = os.environ.get("TRIAL_MICRO_BATCH_DIVISOR", "")
    return max(1, int(text)) if text.isdigit() else 1


def checkpoint_dir() -> str | None:
    """Return the directory for checkpoints: the same for every attempt; None outside a trial."""
    return os.environ.get("TRIAL_CHECKPOINT_DIR")


def install_signal_handlers() -> None:
    """Let SIGTERM and SIGUSR2 only set a flag; call it first, before slow imports.

    A signal that comes earlier ends the program, and the trial starts again from its newest
    checkpoint: nothing is lost.
    """
    signal.signal(signal.SIGTERM, _remember)
    signal.signal(signal.SIGUSR2, _remember)


def _remember(signum: int, frame: FrameType | None) -> None:
    _stop_signals.append(signum)


def preemption_requested() -> bool:
    """Tell whether Slurm asked this trial to leave its node."""
    return bool(_stop_signals)


def should_stop() -> bool:
    """Tell whether to save a checkpoint now and call ``exit_for_requeue``."""
    return preemption_requested()


def checkpoint_due(interval_s: float | None = None) -> bool:
    """Tell whether it is time to save a checkpoint; ask after each step.

    The interval follows from how long saves took in this attempt and how often attempts of this
    sweep are lost without a word (Daly's formula); the spec's ``checkpoint: {interval_min: ...}``
    fixes it. The first call starts the clock. Ask also ``should_stop``, which does not wait.

    Args:
        interval_s: Seconds between saves; rules over the spec. None: as above.
    """
    return _checkpoint_clock().is_due(interval_s)


def checkpoint_saved(seconds: float) -> None:
    """Note that a checkpoint is complete, and that saving it took ``seconds``.

    Says once on standard error if that is longer than a preempted trial is given.

    Raises:
        ValueError: A negative or undefined time.
    """
    _checkpoint_clock().saved(seconds)


def checkpoint_failed() -> None:
    """Note that a checkpoint could not be saved: the next one is due after a whole interval."""
    _checkpoint_clock().failed()


def _checkpoint_clock() -> CheckpointClock:
    if not _clocks:
        _clocks.append(clock_from_environment(os.environ, _warn))
    return _clocks[0]


def _warn(line: str) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # torchrun's and launch.py's number of this process: the first speaks for all
    sys.stderr.write(f"warning: {line}\n")
    sys.stderr.flush()


def exit_for_requeue() -> NoReturn:
    """Leave after a checkpoint was saved; the trial goes on in its next attempt."""
    raise SystemExit(EXIT_CHECKPOINTED)


def report(step: int | None = None, **metrics: float) -> None:
    """Report metrics. The last value of each counts; with ``step`` they make a curve.

    The line is written by one ``write``, so a kill leaves it whole or cut, never mixed. Numbers of
    other libraries (NumPy, torch) are taken by their ``item()``. NaN and infinities are kept: a
    trial that diverged should say so. If a newer attempt holds the trial, nothing is written, and
    the program ends here: what it goes on computing on a lost node would spoil the other's curve.

    Raises:
        TypeError: A value is not a number.
        SystemExit: A newer attempt holds the trial.
    """
    values: dict[str, float] = {} if step is None else {"step": int(step)}
    for name, value in metrics.items():
        value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, (int, float)):
            raise TypeError(f"metric {name}: {type(value).__name__}, not a number")
        values[name] = value
    line = json.dumps(values) + "\n"
    path = os.environ.get("TRIAL_METRICS")
    if path is None:
        sys.stdout.write(line)
        return
    _leave_if_superseded()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        data = line.encode("utf-8")
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)


def _leave_if_superseded() -> None:
    """End the program if the attempt after this one has begun; a look at one name."""
    trial = os.environ.get("TRIAL_DIR")
    if trial and os.path.exists(TrialPaths(trial).attempt(attempt() + 1)):
        sys.stderr.write("a newer attempt holds this trial; leaving\n")
        exit_for_requeue()  # the runtime knows better than to requeue it


def rewind(step: int) -> None:
    """After resuming from a checkpoint at ``step``: drop what was reported for later steps.

    An attempt that was killed without notice may have reported steps that it did after its last
    checkpoint; they are done again. A last line that a kill cut short is dropped too. Lines without
    a step are kept. So the file equals that of a trial that was never interrupted.
    """
    path = os.environ.get("TRIAL_METRICS")
    if path is None or not os.path.exists(path):
        return
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept = b"".join(line for line in lines if _is_kept(line, step))
    if kept != b"".join(lines):
        durable.replace(path, kept)


def _is_kept(line: bytes, step: int) -> bool:
    try:
        reported = parse_metrics_line(line).get("step")
    except ValueError:
        return False
    return line.endswith(b"\n") and not (isinstance(reported, int) and reported > step)
