"""Looking after a sweep until it is done: the rounds of ``submit``, again and again.

Runs on the login node in the foreground, or in a one-CPU Slurm job (``usecases.supervisor_job``).
Keeps nothing in memory that a round needs: killed at any moment, the next one goes on. What it adds
to typing ``make submit`` every half minute: patience. It waits out a controller that is away, a
locked sweep and a full queue, and a later mistake in a template stops a round, not the sweep.

One squeue a round, sacct only for tasks that left the queue without a word, both in
``usecases.observe``; rounds are jittered, so that many supervisors do not ask at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.adapters import slurm_cli, sweep_lock
from orchestrator.adapters.executors.local import LocalEvent
from orchestrator.adapters.profiles import choose_profiles
from orchestrator.contract.errors import (
    ClusterRefused,
    OrchestratorError,
    SweepLocked,
    UserError,
)
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases.frozen_spec import read_frozen
from orchestrator.usecases.submit import SubmitOptions, SubmitReport, submit

# Between rounds, in seconds; kind to the controller, and soon enough for a trial of minutes.
INTERVAL_S = 30.0
# After rounds that failed the pause doubles up to this.
MAX_INTERVAL_S = 300.0
JITTER = 0.2


@dataclass(frozen=True)
class SuperviseOptions:
    """How to supervise."""

    results: str
    """The results folder."""
    templates: str
    """The templates folder."""
    interval_s: float = INTERVAL_S
    """Seconds between rounds."""
    max_rounds: int | None = None
    """Stop after so many rounds; None: when the sweep is over."""


@dataclass(frozen=True)
class Round:
    """What a round did."""

    report: SubmitReport | None
    """What it found and submitted; None if it could not be held."""
    trouble: str = ""
    """Why it could not be held, or what Slurm refused; empty if all went well."""
    is_over: bool = False
    """Whether nothing is left to do: every trial has ended, or the sweep is paused."""


def supervise(
    sweep: SweepPaths,
    options: SuperviseOptions,
    tell: Callable[[Round], None],
    wait: Callable[[float], bool],
) -> Round:
    """Hold rounds until the sweep is over.

    Args:
        sweep: A sweep that was submitted.
        options: See ``SuperviseOptions``.
        tell: Called after every round.
        wait: Waits so many seconds; returns True if it was asked to stop.

    Returns:
        The last round.

    Raises:
        SweepLocked: Another process supervises it.
        UserError: The sweep cannot be supervised: its spec or profile has a mistake, from the
            first round on.
    """
    with _alone(sweep):
        here: str | None = None
        spec = stamp = None
        n_rounds, pause_s = 0, options.interval_s
        while True:
            try:
                if stamp != (newest := _stamp(sweep)):
                    spec, stamp = read_frozen_spec(sweep), newest
                assert spec is not None
                here = here or slurm_cli.read_limits().cluster
                done = _hold_round(spec, options, here)
            except (OrchestratorError, OSError) as error:
                if isinstance(error, UserError) and not n_rounds:
                    raise
                done = Round(None, trouble=_words(error))
            n_rounds += 1
            tell(done)
            if done.is_over or n_rounds == options.max_rounds:
                return done
            pause_s = min(pause_s * 2, MAX_INTERVAL_S) if done.trouble else options.interval_s
            if wait(max(0.0, pause_s * random.uniform(1 - JITTER, 1 + JITTER))):
                return done


@contextlib.contextmanager
def _alone(sweep: SweepPaths) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sweep_lock.hold(sweep_lock.Supervision(sweep.root), wait_s=0))
        except SweepLocked as error:
            words = str(error).partition(" is locked by ")[2] or "another process"
            who = words.partition(";")[0]
            raise SweepLocked(
                f"{sweep.name} is supervised already, by {who}; nothing to do here: make status"
            ) from None
        yield


def read_frozen_spec(sweep: SweepPaths) -> SweepSpec:
    """Read the spec as it was submitted last to Slurm, see ``frozen_spec``.

    Raises:
        UserError: It has a mistake, or the sweep was never submitted to Slurm.
    """
    spec, cluster = read_frozen(sweep)
    if cluster == "local":
        raise UserError(
            f"{sweep.name} runs on this machine, not on Slurm: make submit goes on with it"
        )
    return spec


def _hold_round(spec: SweepSpec, options: SuperviseOptions, here: str) -> Round:
    profiles = choose_profiles(options.templates, spec)
    wanted = SubmitOptions(options.results, options.templates, here=here, is_round=True)
    try:
        report = submit(spec, profiles, wanted, "slurm", _no_local_run)
    except ClusterRefused as error:
        return Round(None, trouble=f"Slurm took not all trials, tried again later: {error}")
    states = report.states
    is_ended = all(state in TERMINAL_STATES for state in states)
    waiting = sum(states.get(s, 0) for s in (TrialState.PENDING, TrialState.REQUEUED))
    is_busy = states.get(TrialState.RUNNING, 0) > 0 or waiting > report.n_held
    is_stuck = report.paused is not None and not is_busy
    return Round(report, is_over=not report.n_submitted and (is_ended or is_stuck))


def _no_local_run(n_trials: int) -> Callable[[LocalEvent], None]:
    raise AssertionError("a supervisor runs nothing on its own machine")


def _stamp(sweep: SweepPaths) -> tuple[int, ...]:
    """What changes when the sweep is submitted anew."""
    found = [os.stat(path) for path in (sweep.spec, sweep.summary)]
    return tuple(value for s in found for value in (s.st_ino, s.st_mtime_ns, s.st_size))


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


def seconds_waiter(is_stopped: Callable[[], bool], poll_s: float = 0.5) -> Callable[[float], bool]:
    """Make a ``wait`` that looks whether it should stop."""

    def wait(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not is_stopped():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(poll_s, left))
        return True

    return wait
