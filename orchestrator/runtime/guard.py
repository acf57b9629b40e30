"""What an attempt does at the sweep's gate: before it claims its trial, and at its end.

Runs on the compute node. At the start: is the gate closed, do the others fail alike, is there
money left? At the end: a mark of the failure or of the success, and what it cost. No failure in
here ends an attempt: what cannot be looked at is passed over, and said in the log.
"""

from __future__ import annotations

import os
import secrets

from orchestrator.runtime import gate
from orchestrator.runtime.progress import measure_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.contract.paths import TrialPaths

# What an attempt ends with that found the gate closed: under Slurm it is held, or left a mark.
EXIT_AT_GATE = 0
# For the local executor, whose queue is its own.
EXIT_HELD = 76


class Guard:
    """One attempt at its sweep's gate."""

    def __init__(
        self,
        trial: TrialPaths,
        resources: Mapping[str, Any],
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ):
        """Read what there is to look at.

        Args:
            trial: The trial.
            resources: What the attempt is given, as in its record.
            environ: The process environment, for the Slurm job.
            say: Takes a line for the log.
        """
        self.trial, self.resources, self.environ, self.say = trial, resources, environ, say
        self.root = trial.sweep
        self.rules = gate.read_rules(self.root)
        self.is_spent = False
        self._id: str | None = None
        self._is_started = self._is_ended = False

    def find_closed(self) -> dict[str, Any] | None:
        """Tell why this attempt may not start: the closed gate, which it may close itself.

        A trial that somebody starts by hand, outside of an array and of our own queue, starts.
        """
        is_queued = (
            "SLURM_ARRAY_JOB_ID" in self.environ or "ORCHESTRATOR_PARENT_PID" in self.environ
        )
        if self.rules is None or not is_queued:
            return None
        closed = gate.read_closed(self.root)
        if closed is not None:
            return closed
        try:
            self._look_for_failures()
            self._look_for_room()
        except OSError as error:
            self._complain(error)
        return gate.read_closed(self.root)

    def leave(self, closed: Mapping[str, Any], requeue: bool) -> int:
        """Hold this array task, and what still waits of the sweep; return the exit code."""
        self.say(f"{self.trial.name}: not started, the gate is closed: {closed['reason']}")
        if "SLURM_JOB_ID" not in self.environ:
            return EXIT_HELD
        from orchestrator.runtime import gate_queue  # lazy: subprocess, where the gate is closed

        self._hold_waiting()
        gate_queue.leave_held(self.trial, self.environ, requeue, self.say)
        return EXIT_AT_GATE

    def started(self, record: Mapping[str, Any]) -> None:
        """Take note that the attempt claimed its trial."""
        self._is_started = True
        if self._budget() is None:
            return
        line = {
            "is": "starts",
            "trial": record["trial"],
            "attempt": record["attempt"],
            "id": self._id,
            "at": record["claimed_unix"],
            **{key: self.resources.get(key) for key in ("price_per_hour", "currency", "gpus")},
        }
        self._append(line)

    def ended(self, end: Mapping[str, Any]) -> None:
        """Take note of the attempt's end, once; it may close the gate, or open it again."""
        if self.rules is None or self._is_ended:
            return
        self._is_ended = True
        if self._budget() is not None:
            kept = {key: end.get(key) for key in ("trial", "attempt", "wall_s", "outcome")}
            self._append({"is": "ends", **kept})
        try:
            is_leaving = end.get("outcome") == "preempted"  # its grace period is for the requeue
            if end.get("outcome") == "committed" or measure_progress(self.trial)[:2] != [0, 0]:
                self._go_on_well(is_leaving)
            elif end.get("outcome") == "failed" and self.rules.get("same_failure"):
                # Lazy: most attempts do not fail.
                from orchestrator.runtime import breaker

                if breaker.note_failure(self.root, end):
                    self._look_for_failures()
            if not is_leaving:
                self._look_for_money()
        except OSError as error:
            self._complain(error)

    def must_stop(self) -> bool:
        """Whether the budget is spent and the spec wants running trials to end then."""
        budget = self._budget()
        if budget is None or not budget.get("kill"):
            return False
        try:
            from orchestrator.runtime import spend  # lazy: only sweeps with a budget

            now = spend.server_now(self.root)
            found = spend.tally(self.root, str(budget.get("currency")), now, None)
            reason = spend.over_budget(budget, found, None)
            if reason is not None:
                self._close(gate.BUDGET, reason, {"spent": found.spent._asdict()})
                self.is_spent = True
        except OSError as error:
            self._complain(error)
        return self.is_spent

    def abandon(self) -> None:
        """Take back the wish for room of an attempt that did not claim its trial."""
        if self._id is not None and not self._is_started:
            self._append({"is": "leaves", "id": self._id})

    def _budget(self) -> dict[str, Any] | None:
        budget = self.rules.get("budget") if self.rules else None
        return budget if isinstance(budget, dict) else None

    def _look_for_failures(self) -> None:
        same_failure = (self.rules or {}).get("same_failure")
        if type(same_failure) is not int or not os.path.isdir(gate.gate_of(self.root).failures):
            return
        from orchestrator.runtime import breaker  # lazy: only where something failed

        found = breaker.find_common_failure(self.root, same_failure)
        if found is not None:
            self._close(gate.FAILURES, *found)

    def _look_for_room(self) -> None:
        """Ask for room in the budget; without any, close the gate."""
        budget = self._budget()
        if budget is None or gate.read_closed(self.root) is not None:
            return
        from orchestrator.runtime import spend  # lazy: only sweeps with a budget

        self._id, at = secrets.token_hex(8), spend.server_now(self.root)
        line = {"is": "wants", "trial": self.trial.name, "id": self._id, "at": at}
        spend.append(self.root, line)
        found = spend.tally(self.root, str(budget.get("currency")), at, (at, self._id))
        if found.n_bad_lines:
            self.say(f"{self.trial.name}: {found.n_bad_lines} lines of gate/spend are unreadable")
        reason = spend.over_budget(budget, found, self.trial.name)
        if reason is not None:
            self.abandon()
            self._close(gate.BUDGET, reason, {"spent": found.spent._asdict()})

    def _look_for_money(self) -> None:
        """Open a gate again that the budget closed too early: the others took less than expected.

        Room for a whole trial on the mean must be left, beside what still runs.
        """
        budget = self._budget()
        closed = gate.read_closed(self.root) if budget is not None else None
        if budget is None or closed is None or closed["kind"] != gate.BUDGET or self.is_spent:
            return
        from orchestrator.runtime import spend  # lazy: only sweeps with a budget

        now = spend.server_now(self.root)
        found = spend.tally(self.root, str(budget.get("currency")), now, None)
        if found.mean is not None and spend.over_budget(budget, found, "") is None:
            self._open("there is room in the budget again")

    def _go_on_well(self, is_leaving: bool) -> None:
        """Leave the mark, and open a gate that failures closed: they are not everybody's."""
        if not (self.rules or {}).get("same_failure"):
            return
        paths = gate.gate_of(self.root)
        if not os.path.exists(paths.going_well):
            from orchestrator.runtime import breaker  # lazy: once in a sweep

            breaker.note_going_well(self.root)
        closed = None if is_leaving else gate.read_closed(self.root)
        if closed is not None and closed["kind"] == gate.FAILURES:
            self._open("this trial got further")

    def _open(self, why: str) -> None:
        if not gate.open_again(self.root):
            return
        self.say(f"{self.trial.name}: the gate is open again: {why}")
        if "SLURM_JOB_ID" not in self.environ:
            return
        import subprocess  # lazy, as gate_queue: only where the gate was closed

        from orchestrator.runtime import gate_queue

        try:
            gate_queue.release_waiting(self.root)
        except (OSError, subprocess.SubprocessError) as error:
            self.say(f"{self.trial.name}: what waits is not released: {gate_queue.words(error)}")

    def _close(self, kind: str, reason: str, detail: Mapping[str, Any]) -> None:
        if gate.close(self.root, kind, reason, self.trial.name, detail):
            self.say(f"{self.trial.name}: closed the gate: {reason}")
            if "SLURM_JOB_ID" in self.environ:
                self._hold_waiting()

    def _hold_waiting(self) -> None:
        import subprocess  # lazy, as gate_queue: only where the gate is closed

        from orchestrator.runtime import gate_queue

        try:
            for tasks in gate_queue.hold_waiting(self.root, self.trial.name):
                self.say(f"{self.trial.name}: held {tasks}")
        except (OSError, subprocess.SubprocessError) as error:
            # They start, and hold themselves.
            self.say(f"{self.trial.name}: what waits is not held: {gate_queue.words(error)}")

    def _append(self, line: Mapping[str, Any]) -> None:
        from orchestrator.runtime import spend  # lazy: only sweeps with a budget

        try:
            spend.append(self.root, line)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        self.say(f"{self.trial.name}: gate: {error.filename or self.root}: {error.strerror}")
