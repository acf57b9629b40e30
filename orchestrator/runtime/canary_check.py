"""Whether a canary shows what the rest of the sweep waits for. Compute node, within its attempt.

A canary has to report metrics, the objective among them, and, unless the spec says that it saves
nothing, to save a checkpoint when it is told to stop and to go on from it. So its first attempt is
told to stop (SIGTERM) as a preemption would, as soon as it reports; the same job goes on at once
with the next one, and that one passes with its first report::

    nothing saved yet --report--> told to stop --+-- nothing saved: failed
                                                 +-- saved: next attempt --report--> passed
                                                                         (same step again: failed)

All of it follows from what is on disk, so a canary that is preempted in between just goes on. One
that ends well before it could be stopped passes, with a note. After it passed it is a trial like
the others. One line without a step might be all that a program reports, at its very end: then a
second one is waited for, so that no finished work is thrown away.

Not covered: a program that starts anew, drops its earlier reports (``session.rewind(0)``) and
repeats the very same lines before they are looked at is taken for one that resumed.
"""

from __future__ import annotations

import os
import subprocess
import time

from orchestrator.contract.records import MAX_METRICS, STOPPED_BY_CANARY, parse_metrics_line
from orchestrator.runtime import canary, gate
from orchestrator.runtime.canary_watch import CanaryWatch
from orchestrator.runtime.claim import previous_ends_backwards
from orchestrator.runtime.progress import measure_progress
from orchestrator.runtime.signals import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.runtime.claim import Claim

ON_SIGNAL, PERIODIC, NONE = "on_signal", "periodic", "none"
# How often to look: a restart has to be seen before it has caught up.
POLL_S = 0.1
SLOW_POLL_S = 2.0
# The least a canary gets to save; TRIAL_GRACE_S, what a preempted trial has, if that is more.
STOP_S = float(os.environ.get("ORCHESTRATOR_CANARY_STOP_S", 60.0))
# How often to try the release again where Slurm does not answer.
RELEASE_EVERY_S = 30.0
# Ends that say nothing but "told to stop": 128 + n is how a shell puts it.
_STOPPED = (75, -15, 143, -9, 137)
_MAX_BASELINE_BYTES = 4 * 2**20
_MAX_NAMES = 8
RESUMED = "it saved, resumed and reported"


def canary_check(
    claim: Claim, sweep_root: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> CanaryCheck | None:
    """Return the check that an attempt has to go through; None if it is no canary's, or failed.

    One that passed only tries once more to let the rest go.
    """
    rule = canary.canary_rule(gate.read_rules(sweep_root))
    name = claim.trial.name
    if rule is None or name not in rule["trials"]:
        return None
    verdict = canary.read_verdicts(sweep_root).get(name)
    if verdict is not None and verdict.get("passed") is not True:
        return None
    return CanaryCheck(claim, sweep_root, rule, environ, say, has_passed=verdict is not None)


class CanaryCheck(CanaryWatch):
    """The check of one attempt of a canary."""

    def __init__(
        self,
        claim: Claim,
        sweep_root: str,
        rule: Mapping[str, Any],
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        has_passed: bool = False,
        now: Callable[[], float] = time.monotonic,
    ):
        """Begin with the trial as the attempts before left it."""
        self._claim, self._trial, self._sweep_root = claim, claim.trial, sweep_root
        self._say, self._now = say, now
        self._mode = rule.get("checkpoint", ON_SIGNAL)
        self._objective: str | None = rule.get("metric")
        self._grace_s = STOP_S
        grace = environ.get("TRIAL_GRACE_S", "")
        if grace.isdigit():
            self._grace_s = max(self._grace_s, float(grace))
        self._resumes = claim.record.get("resumes_from")
        self._reports = Reports(claim.trial.metrics)
        self._first_seen: int | None = None  # mtime of the first report, ns, file server's clock
        self._verdict: bool | None = True if has_passed else None
        self._is_released = False
        self._asked_at: float | None = None
        self._notes: list[str] = []
        self._next = self._now()

    def wait_s(self, wait_s: float) -> float:
        """Return how long to wait for the next look, at most ``wait_s`` seconds."""
        if self._asked_at is not None:
            self.is_overdue = self._now() - self._asked_at > self._grace_s
            return min(wait_s, SLOW_POLL_S)
        return wait_s if self._is_over() else min(wait_s, max(0.0, self._next - self._now()))

    def look(self) -> bool:
        """Look at what the program reported; True once: it is to be told to stop now."""
        if self._is_over() or self._now() < self._next:
            return False
        if self._verdict:
            self._release()
            return False
        is_waiting = self._resumes is None or self._reports.n_new == 0
        self._next = self._now() + (POLL_S if is_waiting else SLOW_POLL_S)
        if self.is_asked:
            return False
        self._reports.look()
        if self._reports.n_new == 0:
            return False
        if self._mode == NONE:
            self._pass_with_objective("it reported")
        elif self._resumes is not None:
            self._judge_resumed()
        elif self._is_ripe():
            self._asked_at, self.is_asked = self._now(), True
            return True
        return False

    def on_stopped(self, code: int) -> tuple[str, dict[str, Any]]:
        """Tell whether the program, told to stop, left what it can go on from; see the base."""
        assert self._asked_at is not None
        progress, took_s = measure_progress(self._trial), self._now() - self._asked_at
        if progress[1]:  # checkpoints
            details = {"cause": STOPPED_BY_CANARY, "requeue": None, "progress": progress}
            return "", {**details, "stopping_s": round(took_s, 3)}
        if code not in _STOPPED:
            return "", {}
        how = f"exit code {code}" if code >= 0 else signal_name(-code)
        return (
            "told to stop, it left nothing in $TRIAL_CHECKPOINT_DIR "
            f"({how} after {took_s:.0f} s): a preempted trial would start from zero; let it save "
            "on SIGTERM, or say canary: {checkpoint: periodic}, or false where it cannot"
        ), {}

    def on_commit(self) -> None:
        """Pass, if what had to be reported was."""
        if self._verdict:
            self._release()
        if self._verdict is not None:
            return
        self._reports.look()
        if self._objective is not None and self._objective not in self._reports.names:
            names = ", ".join(sorted(self._reports.names)[:_MAX_NAMES]) or "nothing"
            self._fail(f"it ended well and never reported {self._objective}, but {names}")
            return
        if self.is_asked:
            self._notes.append("told to stop, it ended with exit code 0; 75 means unfinished")
        elif self._mode != NONE and self._resumes is None:
            self._notes.append("too short to try how it resumes")
        elif self._resumes is not None and self._reports.n_new == 0:
            self._notes.append("it reported nothing after it went on")
        problem = self._problem_of_resume()
        if problem is not None:
            self._fail(problem)
        else:
            has_gone_on = self._resumes is not None and self._reports.n_new > 0
            self._pass(RESUMED if has_gone_on else "it has a result")

    def on_failure(self, cause: str) -> None:
        """Fail, for this cause."""
        if self._verdict is None:
            self._fail(cause)

    def _is_over(self) -> bool:
        return self._verdict is False or self._is_released

    def _is_ripe(self) -> bool:
        if self._reports.first_step is None and self._reports.n_new < 2:
            return False
        if self._mode != PERIODIC:
            return True
        if self._first_seen is None:
            self._first_seen = _mtime_ns(self._trial.metrics)
        # A checkpoint from after the first report: what goes on from it reports later steps only.
        return measure_progress(self._trial)[2] > self._first_seen

    def _judge_resumed(self) -> None:
        problem = self._problem_of_resume()
        if problem is not None:
            self._fail(problem)
        else:
            self._pass_with_objective(RESUMED)

    def _problem_of_resume(self) -> str | None:
        """Say how the reports show that it did not go on from its checkpoint; None: they do not."""
        first, new = self._reports.earlier_first_step, self._reports.first_step
        if self._resumes is None or first is None or new is None or new > first:
            return None
        if new == first and not self._saved_after_first_report():
            self._notes.append(
                f"whether it resumed cannot be told: its checkpoint is older than step {first}"
            )
            return None
        return (
            f"with a checkpoint in $TRIAL_CHECKPOINT_DIR, attempt {self._claim.number} "
            f"started again from step {new}: it did not resume"
        )

    def _saved_after_first_report(self) -> bool:
        before = next(previous_ends_backwards(self._trial, self._claim.number), {})
        told, found = before.get("told_unix"), self._resumes
        if not isinstance(told, float) or not isinstance(found, dict):
            return False
        return float(found["mtime"]) >= told - 1.0

    def _pass_with_objective(self, reason: str) -> None:
        if self._objective is None or self._objective in self._reports.names:
            self._pass(reason)

    def _pass(self, reason: str) -> None:
        self._settle(True, reason)
        self._release()

    def _fail(self, reason: str) -> None:
        self._settle(False, reason)
        name = self._trial.name
        try:
            gate.close(
                self._sweep_root,
                gate.CANARY,
                f"canary {name} failed: {reason}",
                name,
                {"trial": name, "trials": {name: self._claim.number}},
            )
        except OSError as error:
            self._say(f"{name}: the gate could not be closed: {error.strerror}")

    def _settle(self, passed: bool, reason: str) -> None:
        self._verdict = passed
        name = self._trial.name
        notes = "".join(f"; {note}" for note in dict.fromkeys(self._notes))
        self._say(f"{name}: canary {'passed' if passed else 'failed'}: {reason}{notes}")
        try:
            canary.publish_verdict(
                self._sweep_root, name, self._claim.number, passed, reason, self._notes
            )
        except OSError as error:
            self._say(f"{name}: its verdict could not be written: {error.strerror}")

    def _release(self) -> None:
        """Let the rest go; where Slurm does not, it is tried again, and by the next submission."""
        self._next = self._now() + RELEASE_EVERY_S
        try:
            released = canary.release_rest(self._sweep_root)
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"{self._trial.name}: the rest is not released yet: {error}")
            return
        self._is_released = True
        if released:
            self._say(f"{self._trial.name}: released the rest: {', '.join(released)}")


class Reports:
    """What a program adds to its metrics file, read as it comes."""

    def __init__(self, path: str):
        """Begin with the file as it is."""
        self._path = path
        self._inode, data = _read_from(path, 0, _MAX_BASELINE_BYTES)
        self._before = data.splitlines(keepends=True)
        if self._before and not self._before[-1].endswith(b"\n"):
            self._before.pop()  # cut short by a kill
        self._offset = sum(map(len, self._before))
        self.names: set[str] = set()
        self.first_step: int | None = None
        """First step that was reported since; None without one."""
        self.earlier_first_step: int | None = None
        """First step of the attempts before."""
        self.n_new = 0
        """Usable lines since."""
        for line in self._before:
            values = self._take(line)
            if self.earlier_first_step is None:
                self.earlier_first_step = _step_of(values)

    def look(self) -> None:
        """Read what was added; a file that was written anew is compared with what it was."""
        inode, size = _identity(self._path)
        if inode is None:
            self._inode, self._offset, self._before = None, 0, []  # what comes now is all new
            return
        if inode != self._inode or size < self._offset:
            # Another file in its place is a rewind, which keeps the lines up to a checkpoint; one
            # that was cut is all new.
            is_rewound = inode != self._inode and self._inode is not None
            self._inode, self._offset = inode, 0
            if is_rewound:
                self._offset = self._skip_kept()
        _, data = _read_from(self._path, self._offset, _MAX_BASELINE_BYTES)
        is_whole = len(data) < _MAX_BASELINE_BYTES or b"\n" in data
        end = data.rfind(b"\n") + 1 if is_whole else len(data)  # a line of megabytes is passed over
        self._offset += end
        for line in data[:end].splitlines(keepends=True):
            values = self._take(line)
            self.n_new += bool(values)
            if self.first_step is None:
                self.first_step = _step_of(values)

    def _skip_kept(self) -> int:
        _, data = _read_from(self._path, 0, _MAX_BASELINE_BYTES)
        kept, before = 0, iter(self._before)
        for line in data.splitlines(keepends=True):
            if not any(line == earlier for earlier in before):
                break
            kept += len(line)
        return kept

    def _take(self, line: bytes) -> dict[str, Any]:
        try:
            values = parse_metrics_line(line)
        except ValueError:
            return {}
        if len(self.names) < MAX_METRICS:
            self.names.update(name for name in values if name != "step")
        return values


def _step_of(values: Mapping[str, Any]) -> int | None:
    step = values.get("step")
    return step if type(step) is int else None


def _identity(path: str) -> tuple[int | None, int]:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None, 0
    return status.st_ino, status.st_size


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _read_from(path: str, offset: int, size: int) -> tuple[int | None, bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None, b""
    try:
        return os.fstat(fd).st_ino, os.pread(fd, size, offset)
    except OSError:
        return None, b""
    finally:
        os.close(fd)
