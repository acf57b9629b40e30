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
import signal
import sys
import time

from orchestrator.contract import records
from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime import failpoint
from orchestrator.runtime.claim import (
    END_GRACE_S,
    HEARTBEAT_S,
    STOPPING_BEAT_S,
    Claim,
    Superseded,
    TrialHeldElsewhere,
    make_folder,
    previous_ends,
    previous_ends_backwards,
    take_claim,
)
from orchestrator.runtime.commit import CommitFailed, commit_when_possible
from orchestrator.runtime.loss_rate import node_count, read_loss_rate
from orchestrator.runtime.options import Options
from orchestrator.runtime.program import Program
from orchestrator.runtime.progress import (
    is_stuck,
    max_idle_attempts,
    measure_progress,
    went_nowhere,
)
from orchestrator.runtime.signals import STOP_SIGNALS, SignalPipe, exit_words, signal_name
from orchestrator.runtime.start_up import StartUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

EXIT_SUPERSEDED = 1
GONE = "the trial's directory is gone: the sweep was moved or removed"
# sysexits.h EX_CANTCREAT: the program ended well, and its result or claim could not be written.
EXIT_NOT_WRITTEN = 73
EXIT_STUCK = 1  # it would go on for ever without getting anywhere
# Slurm's SIGTERM reaches every process of a job: what is left after so long did not get it. Handed
# on at once it would hit a shell script that is saving, whose `mv` dies of it.
HAND_ON_S = 2.0
# How often to look whether the local executor still lives.
PARENT_POLL_S = 2.0
# How long what a signalled shell script had started may go on saving; Slurm's own grace period and
# KillWait are shorter nearly everywhere, and end it then.
SAVE_TIMEOUT_S = 600.0
# What processes that a program left behind get to end.
LEFTOVER_GRACE_S = 2.0
# How long after a program's end a stop signal still explains it.
SETTLE_S = 0.5


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
    details = {"layout": options.layout, "resources": options.resources}
    try:
        claim = take_claim(trial, details, os.environ, say)
    except TrialHeldElsewhere as error:
        say(f"{trial.name}: {error}; this copy leaves")
        return 0
    except OSError as error:
        say(f"{trial.name}: cannot be claimed: {explain(error)}")
        return EXIT_NOT_WRITTEN
    return _Attempt(claim, options, pipe).run()


class _Attempt:
    """One claimed attempt, from the start of its program to its end."""

    def __init__(self, claim: Claim, options: Options, pipe: SignalPipe):
        self.claim, self.options, self.pipe = claim, options, pipe
        self.trial = claim.trial
        self.name = f"{self.trial.name} attempt {claim.number}"
        self.stop_signal: int | None = None
        self.told_at = 0.0  # on the monotonic clock
        self.superseded = ""
        self.log_start = _size(self.trial.log)  # earlier attempts wrote what is before
        parent = os.environ.get("ORCHESTRATOR_PARENT_PID")
        self.parent = int(parent) if parent and options.layout == "local" else None

    def run(self) -> int:
        """Run the program to its end and settle the attempt."""
        where = self.claim.record.get("job_id")
        job = f", job {where}" if where else ""
        say(f"{self.name} on {self.claim.record['node']}{job}")
        self._tell_of_slow_save()
        if self._is_stuck():
            return EXIT_STUCK
        early = [number for number in self.pipe.wait(0) if number in STOP_SIGNALS]
        if early:
            self._note_stop(early[0])
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
        code = self._supervise(program)
        if self.stop_signal is not None and not self.superseded:
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
        if not self.superseded and code != 0:
            self._look_for_successor()  # it must not be requeued, nor what it does be told wrong
        if self.superseded:
            return self._stand_down(code)
        if code == 0:
            return self._commit()
        if self.stop_signal is not None or code == EXIT_CHECKPOINTED:
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
        environ.setdefault("PYTHONUNBUFFERED", "1")  # a killed program's last words reach the log
        return environ

    def _supervise(self, program: Program) -> int:
        """Wait for the program's end, beating and passing signals on.

        In the step layout Slurm signals every process of the step, the program too; elsewhere
        (batch: perhaps only this process; local: only the script) the first one is handed on here.
        """
        # One that came while the program was being started may have missed it.
        numbers = self.pipe.wait(0)
        if self.options.layout == "step" and any(number in STOP_SIGNALS for number in numbers):
            program.send(signal.SIGTERM)
        next_beat = time.monotonic() + HEARTBEAT_S
        hand_on_at: float | None = None
        start_up = StartUp(self.trial.metrics)
        while (code := program.poll()) is None:
            if self.parent is not None and os.getppid() != self.parent:
                numbers.append(signal.SIGTERM)  # the local executor died: do not outlive it
            for number in numbers:
                if number in STOP_SIGNALS and self.stop_signal is None:
                    say(f"{self.name}: {signal_name(number)}: asking the program to checkpoint")
                    self.told_at = time.monotonic()  # first: the program begins to save at once
                    hand_on_at = self._hand_on(program, number)
                    self._note_stop(number)
                    next_beat = time.monotonic() + STOPPING_BEAT_S
            now = time.monotonic()
            if hand_on_at is not None and now >= hand_on_at:
                hand_on_at = None
                program.send(signal.SIGTERM)
            if now >= next_beat:
                next_beat = now + (HEARTBEAT_S if self.stop_signal is None else STOPPING_BEAT_S)
                if not self._beat():
                    return program.end(END_GRACE_S)
            wait_s = start_up.wait_s(min(next_beat, hand_on_at or next_beat) - now)
            numbers = self.pipe.wait(wait_s if self.parent is None else min(wait_s, PARENT_POLL_S))
            start_up.look()
        self.claim.record["start_up_s"] = start_up.estimate_s()
        # Slurm signals the processes of a step one by one: the program may have ended of a signal
        # before ours is here.
        deadline = time.monotonic() + SETTLE_S
        while code != 0 and self.stop_signal is None:
            stops = [number for number in numbers if number in STOP_SIGNALS]
            if stops:
                self._note_stop(stops[0])
                break
            left_s = deadline - time.monotonic()
            numbers = self.pipe.wait(left_s)  # looks once more even if this process was held up
            if left_s <= 0 and not numbers:
                break
        return code

    def _hand_on(self, program: Program, number: int) -> float | None:
        """Pass a stop signal on where Slurm does not; return when to do so, if not now."""
        if self.options.layout == "step":
            return None
        if self.options.layout == "batch" and number == signal.SIGTERM:
            return time.monotonic() + HAND_ON_S
        program.send(signal.SIGTERM if number == signal.SIGHUP else number)
        return None

    def _note_stop(self, number: int) -> None:
        self.stop_signal = number
        self.told_at = self.told_at or time.monotonic()
        try:
            self.claim.note_stop(signal_name(number))
        except OSError as error:  # the record would only tell more
            say(f"{self.name}: {self.trial.attempts}: {error.strerror}")

    def _look_for_successor(self) -> None:
        try:
            if self.claim.has_successor():
                self.superseded = "a newer attempt holds the trial"
        except FileNotFoundError:
            self.superseded = GONE
        except OSError as error:  # a file server that is away; the records will tell
            say(f"{self.name}: {error.strerror}")

    def _beat(self) -> bool:
        try:
            if self.claim.beat():
                return True
            self.superseded = "a newer attempt or a committed result exists"
        except FileNotFoundError:
            self.superseded = GONE
        except OSError as error:  # a file server that is away for a while is no reason to stop
            say(f"{self.name}: heartbeat: {error.strerror}")
            return True
        return False

    def _commit(self) -> int:
        end = self.claim.ended(records.COMMITTED, exit_code=0)
        failpoint.reach("commit.before")
        try:
            is_ours = commit_when_possible(self.claim, end, self._wait_for_disk, say)
        except Superseded as error:
            self.superseded = f"it finished, but {error}: its result is not counted"
            return self._stand_down(0)
        except CommitFailed as error:
            if self.superseded:
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
            return 0
        self._write_end({**end, "outcome": records.REFUSED, "cause": "committed before"})
        say(f"{self.name}: another attempt committed first; this result is not counted")
        return 0

    def _wait_for_disk(self, wait_s: float) -> bool:
        """Wait, alive to others; False once told to stop, or once a newer attempt exists."""
        stops = [number for number in self.pipe.wait(wait_s) if number in STOP_SIGNALS]
        return not stops and self._beat()

    def _write_end(self, end: dict[str, Any]) -> None:
        """Record the end. Without one the attempt counts as killed, so the trial is not lost."""
        try:
            self.claim.write_end(end)
        except OSError as error:
            is_gone = not os.path.isdir(self.trial.root)
            why = "the sweep was moved or removed" if is_gone else explain(error)
            say(f"{self.name}: its end is not recorded: {why}")

    def _leave_for_later(self, code: int | None) -> int:
        """Record that the trial has to go on, and ask for that; ``code`` None: never started."""
        progress = measure_progress(self.trial)
        if self.stop_signal is None:
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
        told = signal_name(self.stop_signal) if self.stop_signal else "its own wish"
        if code is None:
            cause = f"stopped by {told} before its program was started"
        elif code == EXIT_CHECKPOINTED:
            cause = f"stopped by {told}; checkpointed"
        else:
            cause = f"stopped by {told}; ended with {exit_words(code)}"
        end = self.claim.ended(
            records.PREEMPTED,
            exit_code=code,
            signal=told if self.stop_signal else None,
            cause=cause,
            requeue=None,
            progress=progress,
        )
        if self.stop_signal is not None:
            end["stopping_s"] = round(time.monotonic() - self.told_at, 3)
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
        return code if code > 0 else 128 - code

    def _stand_down(self, code: int) -> int:
        say(f"{self.name}: stopped: {self.superseded}")
        if os.path.isdir(self.trial.attempts):
            self._write_end(
                self.claim.ended(records.SUPERSEDED, exit_code=code, cause=self.superseded)
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
