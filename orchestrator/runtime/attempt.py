"""One attempt of one trial: claim, run the program, checkpoint on a signal, commit, requeue.

Runs on the compute node (or on the user's machine, without Slurm), started by ``trial.sbatch``::

    python -m orchestrator.runtime.attempt --trial-dir DIR [--seed N] [--layout step|batch|local]
        [--requeue] [--resources JSON] (-- PROGRAM [ARGUMENT ...] | --words N)

With ``--words N`` the program's words are in ``ORCHESTRATOR_WORD_0`` and so on: they may be secret,
and Slurm's accounting shows everybody the line that srun was called with.

The state machine of an attempt stands in ``orchestrator/README.md``. Exit codes: 0 committed, or
nothing to do; 75 checkpointed, run me again; otherwise the program's own, with 128 + number for a
death by signal, 1 for a superseded attempt, 2 for a wrong call and 73 for a result that could not
be written.

What it does not do: decide about retries (the login node does), or read the sweep's journal.
"""

from __future__ import annotations

import os
import sys
import time

from orchestrator.contract import records
from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime import failpoint
from orchestrator.runtime.canary_watch import watch
from orchestrator.runtime.claim import (
    Claim,
    Superseded,
    TrialHeldElsewhere,
    make_folder,
    previous_ends,
    previous_ends_backwards,
    take_claim,
)
from orchestrator.runtime.commit import CommitFailed, commit_when_possible
from orchestrator.runtime.guard import Guard
from orchestrator.runtime.heartbeat import read_times
from orchestrator.runtime.loss_rate import node_count, read_loss_rate
from orchestrator.runtime.options import Options
from orchestrator.runtime.program import Program
from orchestrator.runtime.progress import (
    is_stuck,
    max_idle_attempts,
    measure_progress,
    went_nowhere,
)
from orchestrator.runtime.signals import SignalPipe, exit_words, signal_name
from orchestrator.runtime.vigil import GONE, PASSED, Vigil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

EXIT_SUPERSEDED = 1
# sysexits.h EX_CANTCREAT: the program ended well, and its result or claim could not be written.
EXIT_NOT_WRITTEN = 73
EXIT_STUCK = 1  # it would go on for ever without getting anywhere
# How long what a signalled shell script had started may go on saving; Slurm's own grace period and
# KillWait are shorter nearly everywhere, and end it then.
SAVE_TIMEOUT_S = 600.0
# What processes that a program left behind get to end.
LEFTOVER_GRACE_S = 2.0


def main(argv: Sequence[str]) -> int:
    """Run one attempt; see the module's docstring for the exit codes."""
    pipe = SignalPipe()
    try:
        options = Options(argv)
    except ValueError as error:
        say(f"attempt: {error}")
        return 2
    trial = TrialPaths(options.trial_dir)
    if not os.path.isfile(trial.params):
        say(f"{trial.root}: not a trial's directory here; was the sweep moved or removed?")
        return 2
    if os.path.exists(trial.result):
        say(f"{trial.name} is committed; nothing to do")
        return 0
    guard = Guard(trial, options.resources, os.environ, say)
    closed = guard.find_closed()
    if closed is not None:
        return guard.leave(closed, options.requeue)
    times = read_times(os.environ)
    details = {"layout": options.layout, "resources": options.resources}
    while True:
        try:
            claim = take_claim(trial, details, os.environ, times, say)
        except TrialHeldElsewhere as error:
            say(f"{trial.name}: {error}; this copy leaves")
            guard.abandon()
            return 0
        except OSError as error:
            say(f"{trial.name}: cannot be claimed: {explain(error)}")
            guard.abandon()
            return EXIT_NOT_WRITTEN
        guard.started(claim.record)
        attempt = _Attempt(claim, options, pipe, guard)
        code = attempt.run()
        if not attempt.goes_on:
            return code
        guard = Guard(trial, options.resources, os.environ, say)  # what runs is not asked again


class _Attempt:
    """One claimed attempt, from the start of its program to its end."""

    def __init__(self, claim: Claim, options: Options, pipe: SignalPipe, guard: Guard):
        self.claim, self.options, self.guard = claim, options, guard
        self.trial = claim.trial
        self.name = f"{self.trial.name} attempt {claim.number}"
        self.canary = watch(claim, os.environ, say)
        self.vigil = Vigil(claim, pipe, guard, self.canary, options.layout, os.environ, say)
        self.goes_on = False  # whether another attempt follows in this process
        self.log_start = _size(self.trial.log)  # earlier attempts wrote what is before

    def run(self) -> int:
        """Run the program to its end and settle the attempt."""
        where = self.claim.record.get("job_id")
        job = f", job {where}" if where else ""
        say(f"{self.name} on {self.claim.record['node']}{job}")
        self._tell_of_slow_save()
        if self.claim.is_passed:
            self.vigil.superseded = PASSED if os.path.isdir(self.trial.attempts) else GONE
            return self._stand_down(None)
        if self._is_stuck():
            return EXIT_STUCK
        if self.vigil.look_for_early_stop():
            return self._leave_for_later(None)
        try:
            make_folder(self.trial.checkpoints)
        except OSError as error:
            say(f"{self.name}: {explain(error)}")
            cause = f"no folder for checkpoints: {error.strerror}"
            self._write_end(self.claim.ended(records.PREEMPTED, cause=cause))
            return EXIT_NOT_WRITTEN
        try:
            failpoint.reach("program.start.before")
            program = Program(self.options.command, self._environment())
            failpoint.reach("program.start.after")
        except OSError as error:
            cause = f"cannot start {self.options.command[0]!r}: {error.strerror}"
            return self._fail(127, cause, has_started=False)
        code = self.vigil.watch(program)
        is_told = self.vigil.stop_signal is not None or self.canary.is_asked
        if is_told and not self.vigil.superseded:
            program.await_leftovers(SAVE_TIMEOUT_S)
        if program.end_leftovers(LEFTOVER_GRACE_S):
            say(f"{self.name}: ended processes that the program had left behind")
        return self._settle(code)

    def _tell_of_slow_save(self) -> None:
        """Say so when the attempt before was killed while it should have been saving."""
        before = next(previous_ends_backwards(self.trial, self.claim.number), {})
        if before.get("outcome") is None and "stopping_s" in before:
            say(
                f"attempt {before.get('attempt')} was {before['cause']}; what it had saved earlier "
                "is used. Save faster, or be told earlier: a longer GraceTime, signal_before_end_s"
            )

    def _is_stuck(self) -> bool:
        """Whether the attempts so far got nowhere; says so, and records this one as failed."""
        before = previous_ends_backwards(self.trial, self.claim.number)
        if not is_stuck(before, self.claim.record["progress_before"], os.environ):
            return False
        self._fail(
            EXIT_STUCK,
            f"stuck: the last {max_idle_attempts(os.environ)} attempts ended without a new "
            "metric or checkpoint; save more often, or give it more time, then retry it",
            kind="stuck",
        )
        return True

    def _settle(self, code: int) -> int:
        """Turn the program's end into the attempt's."""
        if not self.vigil.superseded and code != 0:
            # It must not be requeued then, nor what it does be told wrong.
            self.vigil.look_for_successor()
        if self.vigil.superseded:
            return self._stand_down(code)
        if code == 0:
            return self._commit()
        if self.canary.is_asked and self.vigil.stop_signal is None:
            return self._go_on_here(code)
        if self.vigil.stop_signal is not None or code == EXIT_CHECKPOINTED:
            return self._leave_for_later(code)
        return self._fail(code)

    def _environment(self) -> dict[str, str]:
        environ = {
            **os.environ,
            "TRIAL_DIR": self.trial.root,
            "TRIAL_PARAMS": self.trial.params,
            "TRIAL_METRICS": self.trial.metrics,
            "TRIAL_CHECKPOINT_DIR": self.trial.checkpoints,
            "TRIAL_ATTEMPT": str(self.claim.number),
            "TRIAL_NUMBER": str(int(self.trial.name.partition("-")[0])),
        }
        if self.options.seed is not None:
            environ["TRIAL_SEED"] = self.options.seed
        nodes = node_count(self.options.resources)
        number = self.claim.number
        before = previous_ends(self.trial, number) if number > 1 else []
        environ["TRIAL_MTBF_S"] = str(round(read_loss_rate(self.trial, before).mtbf_s(nodes)))
        if code := environ.pop("ORCHESTRATOR_PYTHONPATH", ""):
            # For the program alone: this attempt runs the orchestrator as it is installed.
            environ["PYTHONPATH"] = f"{code}:{environ.get('PYTHONPATH', '')}".rstrip(":")
        environ.setdefault("PYTHONUNBUFFERED", "1")  # a killed program's last words reach the log
        return environ

    def _commit(self) -> int:
        end = self.claim.ended(records.COMMITTED, exit_code=0)
        failpoint.reach("commit.before")
        try:
            is_ours = commit_when_possible(self.claim, end, self.vigil.wait_for_disk, say)
        except Superseded as error:
            self.vigil.superseded = f"it finished, but {error}: its result is not counted"
            return self._stand_down(0)
        except CommitFailed as error:
            if self.vigil.superseded:
                return self._stand_down(0)
            # Not the program's failure: the next submission takes the trial up again.
            cause = f"the result could not be written: {error}"
            say(f"{self.name}: {cause}")
            self._write_end(self.claim.ended(records.PREEMPTED, exit_code=0, cause=cause))
            return EXIT_NOT_WRITTEN
        if is_ours:
            failpoint.reach("commit.after")
            self._write_end(end)
            say(f"{self.name}: committed after {end['wall_s']:.1f} s")
            self.canary.on_commit()
            return 0
        self._write_end({**end, "outcome": records.REFUSED, "cause": "committed before"})
        say(f"{self.name}: another attempt committed first; this result is not counted")
        return 0

    def _write_end(self, end: dict[str, Any]) -> None:
        """Record the end. Without one the attempt counts as killed, so the trial is not lost."""
        try:
            self.claim.write_end(end)
        except OSError as error:
            is_gone = not os.path.isdir(self.trial.root)
            why = "the sweep was moved or removed" if is_gone else explain(error)
            say(f"{self.name}: its end is not recorded: {why}")
        self.guard.ended(end)

    def _leave_for_later(self, code: int | None) -> int:
        """Record that the trial has to go on, and ask for that; ``code`` None: never started."""
        progress = measure_progress(self.trial)
        if self.vigil.stop_signal is None:
            before = previous_ends_backwards(self.trial, self.claim.number)
            if went_nowhere(before, progress, os.environ):
                times = max_idle_attempts(os.environ)
                self._fail(
                    EXIT_CHECKPOINTED,
                    f"asked to be run again {times} times in a row, "
                    "and wrote no metric and no checkpoint in between",
                    kind="stuck",
                )
                return EXIT_STUCK
        told = signal_name(self.vigil.stop_signal) if self.vigil.stop_signal else "its own wish"
        told = records.STOPPED_BY_BUDGET if self.guard.is_spent else told
        if code is None:
            cause = f"stopped by {told} before its program was started"
        elif code == EXIT_CHECKPOINTED:
            cause = f"stopped by {told}; checkpointed"
        else:
            cause = f"stopped by {told}; ended with {exit_words(code)}"
        end = self.claim.ended(
            records.PREEMPTED,
            exit_code=code,
            signal=told if self.vigil.stop_signal else None,
            cause=cause,
            requeue=None,
            progress=progress,
        )
        if self.vigil.stop_signal is not None:
            end["stopping_s"] = round(time.monotonic() - self.vigil.told_at, 3)
        # First the record: once requeued, this process may be killed at any instant.
        self._write_end(end)
        if self.options.requeue and "SLURM_JOB_ID" in os.environ:
            # Lazy: it imports submitit, which costs more than the rest of an attempt.
            from orchestrator.runtime.requeue import requeue_task

            failpoint.reach("requeue.before")
            requeue = requeue_task(os.environ)
            failpoint.reach("requeue.after")
            self._write_end({**end, "requeue": requeue})
            say(f"{self.name}: {end['cause']}; requeue {requeue}")
        else:
            say(f"{self.name}: {end['cause']}")
            self._note_preemption(end)
        return EXIT_CHECKPOINTED

    def _note_preemption(self, end: dict[str, Any]) -> None:
        """Record that Slurm preempts the job, of one that nobody requeues: it forgets that."""
        if end["signal"] is None or self.guard.is_spent or "SLURM_JOB_ID" not in os.environ:
            return
        # Lazy: subprocess, for those that were told to stop.
        from orchestrator.runtime.requeue import find_preemption

        found = find_preemption(os.environ)
        if found is not None:
            self._write_end({**end, "requeue": found})

    def _go_on_here(self, code: int) -> int:
        """Settle the end of a program that was told to stop for the canary's check."""
        why_not, details = self.canary.on_stopped(code)
        if not details:
            code = self._fail(code, why_not, kind="error" if why_not else "")
            return EXIT_STUCK if code == EXIT_CHECKPOINTED else code
        self._write_end(self.claim.ended(records.PREEMPTED, exit_code=code, **details))
        say(f"{self.name}: {details['cause']}; saved in {details['stopping_s']:.1f} s")
        self.goes_on = True
        return EXIT_CHECKPOINTED

    def _fail(self, code: int, cause: str = "", *, kind: str = "", has_started: bool = True) -> int:
        """Record a failure with its kind and cause; without a cause, the code and last words."""
        # Lazy: most attempts do not fail, and regular expressions take long to import.
        from orchestrator.runtime.cause import describe_failure

        tail = (self.trial.log, self.log_start)
        failure = describe_failure(code, tail, cause=cause, kind=kind, has_started=has_started)
        progress = measure_progress(self.trial)
        end = self.claim.ended(records.FAILED, exit_code=code, **failure, progress=progress)
        self._write_end(end)
        say(f"{self.name}: failed ({end['kind']}): {end['cause']}")
        self.canary.on_failure(end["cause"])
        return code if code > 0 else 128 - code

    def _stand_down(self, code: int | None) -> int:
        say(f"{self.name}: stopped: {self.vigil.superseded}")
        if os.path.isdir(self.trial.attempts):
            self._write_end(
                self.claim.ended(records.SUPERSEDED, exit_code=code, cause=self.vigil.superseded)
            )
        return EXIT_SUPERSEDED


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def say(line: str) -> None:
    """Write a line of our own into the trial's log."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"[orchestrator] {now} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
