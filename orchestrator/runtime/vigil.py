"""Watching over an attempt's program: heartbeats, stop signals, and who else holds the trial.

Runs on the compute node, between the start of the program and its end, and while a result waits for
room on the disk. What becomes of the attempt then is ``runtime.attempt``'s.
"""

from __future__ import annotations

import os
import signal
import time

from orchestrator.runtime.signals import STOP_SIGNALS, signal_name
from orchestrator.runtime.start_up import StartUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.runtime.canary_watch import CanaryWatch
    from orchestrator.runtime.claim import Claim
    from orchestrator.runtime.guard import Guard
    from orchestrator.runtime.program import Program
    from orchestrator.runtime.signals import SignalPipe

PASSED = "a newer attempt or a committed result exists"
GONE = "the trial's directory is gone: the sweep was moved or removed"
# Slurm's SIGTERM reaches every process of a job: what is left after so long did not get it. Handed
# on at once it would hit a shell script that is saving, whose `mv` dies of it.
HAND_ON_S = 2.0
# How often to look whether the local executor still lives.
PARENT_POLL_S = 2.0
# How long after a program's end a stop signal still explains it.
SETTLE_S = 0.5


class Vigil:
    """What happens to an attempt from outside: it is told to stop, or another one holds the trial.

    In the step layout Slurm signals every process of the step, the program too; elsewhere (batch:
    perhaps only this process; local: only the script) the first signal is handed on here.
    """

    def __init__(
        self,
        claim: Claim,
        pipe: SignalPipe,
        guard: Guard,
        canary: CanaryWatch,
        layout: str,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ):
        """Watch over one attempt.

        Args:
            claim: Its claim.
            pipe: Where signals arrive.
            guard: What it asks at the sweep's gate.
            canary: What it asks as a canary.
            layout: ``step``, ``batch`` or ``local``.
            environ: Its environment.
            say: Writes a line into the trial's log.
        """
        self.claim, self.pipe, self.guard, self.canary = claim, pipe, guard, canary
        self.layout, self.say = layout, say
        self.name = f"{claim.trial.name} attempt {claim.number}"
        self.stop_signal: int | None = None
        """The first one that came; None: it was not told to stop by a signal."""
        self.told_at = 0.0  # on the monotonic clock
        self.superseded = ""
        """Why the trial is not this attempt's any more; empty while it is."""
        parent = environ.get("ORCHESTRATOR_PARENT_PID")
        self._parent = int(parent) if parent and layout == "local" else None

    def look_for_early_stop(self) -> bool:
        """Whether a stop signal came before the program was started."""
        early = [number for number in self.pipe.wait(0) if number in STOP_SIGNALS]
        if early:
            self._note_stop(early[0])
        return bool(early)

    def watch(self, program: Program) -> int:
        """Wait for the program's end, beating and passing signals on; return its exit code."""
        # One that came while the program was being started may have missed it.
        numbers = self.pipe.wait(0)
        if self.layout == "step" and any(number in STOP_SIGNALS for number in numbers):
            program.send(signal.SIGTERM)
        beats, times = self.claim.beats, self.claim.times
        next_beat = beats.next_at
        hand_on_at: float | None = None
        start_up = StartUp(self.claim.trial.metrics)
        while (code := program.poll()) is None:
            if self._parent is not None and os.getppid() != self._parent:
                numbers.append(signal.SIGTERM)  # the local executor died: do not outlive it
            for number in numbers:
                if number in STOP_SIGNALS and self.stop_signal is None:
                    told = signal_name(number)
                    self.say(f"{self.name}: {told}: asking the program to checkpoint")
                    self.told_at = time.monotonic()  # first: the program begins to save at once
                    hand_on_at = self._hand_on(program, number)
                    self._note_stop(number)
                    next_beat = time.monotonic() + times.stopping_beat_s
            now = time.monotonic()
            if hand_on_at is not None and now >= hand_on_at:
                hand_on_at = None
                program.send(signal.SIGTERM)
            if now >= next_beat:
                is_regular, looks = beats.is_settled, beats.looks(now)
                beats.took_place(now)
                stopping_at = now + times.stopping_beat_s
                next_beat = beats.next_at if self.stop_signal is None else stopping_at
                # Early ones only say that we live; what we look for, we look for regularly.
                if not self._beat(looks=looks or self.stop_signal is not None):
                    return program.end(times.end_grace_s)
                if self.stop_signal is None and is_regular and self.guard.must_stop():
                    self.say(f"{self.name}: the budget is spent: asking the program to checkpoint")
                    self._note_stop(signal.SIGTERM)
                    program.send(signal.SIGTERM)
            if self.canary.is_overdue and self.stop_signal is None:
                return program.end(times.end_grace_s)
            wait_s = start_up.wait_s(min(next_beat, hand_on_at or next_beat) - now)
            wait_s = self.canary.wait_s(wait_s)
            numbers = self.pipe.wait(wait_s if self._parent is None else min(wait_s, PARENT_POLL_S))
            start_up.look()
            if self.stop_signal is None and self.canary.look():
                self.say(f"{self.name}: canary: asking the program to checkpoint, to see it resume")
                self._note_told("SIGTERM")
                program.send(signal.SIGTERM)
        self.claim.record["start_up_s"] = self._start_up_s(start_up)
        if code != 0:
            self._explain_end(numbers)
        return code

    def _start_up_s(self, seen: StartUp) -> float | None:
        """Return the seconds from the claim to the work, as far as they are known."""
        waited_s, estimate_s = self.claim.waited_s, seen.estimate_s()
        if estimate_s is None and not waited_s:
            return None
        return round(waited_s + (estimate_s or 0.0), 3)

    def wait_for_disk(self, wait_s: float) -> bool:
        """Wait, alive to others; False once told to stop, or once a newer attempt exists."""
        stops = [number for number in self.pipe.wait(wait_s) if number in STOP_SIGNALS]
        return not stops and self._beat()

    def look_for_successor(self) -> None:
        """Look whether a newer attempt holds the trial."""
        try:
            if self.claim.has_successor():
                self.superseded = "a newer attempt holds the trial"
        except FileNotFoundError:
            self.superseded = GONE
        except OSError as error:  # a file server that is away; the records will tell
            self.say(f"{self.name}: {error.strerror}")

    def _explain_end(self, numbers: list[int]) -> None:
        """Look for a stop signal that explains why the program ended.

        Slurm signals the processes of a step one by one: the program may have ended of a signal
        before ours is here.
        """
        deadline = time.monotonic() + SETTLE_S
        while self.stop_signal is None:
            stops = [number for number in numbers if number in STOP_SIGNALS]
            if stops:
                self._note_stop(stops[0])
                break
            left_s = deadline - time.monotonic()
            numbers = self.pipe.wait(left_s)  # looks once more even if this process was held up
            if left_s <= 0 and not numbers:
                break

    def _hand_on(self, program: Program, number: int) -> float | None:
        """Pass a stop signal on where Slurm does not; return when to do so, if not now."""
        if self.layout == "step":
            return None
        if self.layout == "batch" and number == signal.SIGTERM:
            return time.monotonic() + HAND_ON_S
        program.send(signal.SIGTERM if number == signal.SIGHUP else number)
        return None

    def _note_stop(self, number: int) -> None:
        self.stop_signal = number
        self.told_at = self.told_at or time.monotonic()
        self._note_told(signal_name(number))

    def _note_told(self, name: str) -> None:
        try:
            self.claim.note_stop(name)
        except OSError as error:  # the record would only tell more
            self.say(f"{self.name}: {self.claim.trial.attempts}: {error.strerror}")

    def _beat(self, *, looks: bool = True) -> bool:
        """Beat, and look for a successor if it ``looks``; False once the trial is another's."""
        try:
            if not looks:
                self.claim.touch()
                return True
            if self.claim.beat():
                return True
            self.superseded = PASSED
        except FileNotFoundError:
            self.superseded = GONE
        except OSError as error:  # a file server that is away for a while is no reason to stop
            self.say(f"{self.name}: heartbeat: {error.strerror}")
            return True
        return False
