"""Goodput of a sweep: how much of the allocated time is in its results, and where the rest went.

Pure. ``goodput = time that survives in committed results / allocated time``, both in device time:
wall time, times the attempt's GPUs; an allocation without GPUs counts as one device. Time is
counted in whole device-milliseconds, and every one of them goes to exactly one part, so the parts
add up to what was allocated, exactly.

What survives of an attempt:

- of the one that committed: all of it;
- of an earlier one: what it did up to the newest checkpoint that every later claim found (the
  claim's ``resumes_from``), whatever ended it. Both times are the file server's. Without anything
  in ``checkpoints/`` nothing survives;
- of one whose successors recorded no such thing (records of older versions): all if it was
  preempted with a checkpoint, else nothing, and the sum says that it is an estimate.

Start-up of attempts that survive is taken off, where it is known (``runtime.start_up``).

An attempt that died without a word counts up to its last sign of life (``domain.cost``). What it
took beyond that nobody knows; it would be in the part of what was killed, so that part, and the
sum, are lower bounds then, and such attempts are counted.

Not covered: a copy that found its trial committed or held, and left, writes no record (a line in
the trial's log is all), so its seconds are in no part; neither are the seconds between the start of
a job and the claim. A checkpoint that is a directory has the time of the directory itself, so one
that is rewritten in place looks older than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.contract import records
from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.states import TrialState
from orchestrator.domain.amounts import HOUR_MS
from orchestrator.domain.cost import attempt_wall_s, device_count, wall_at_most_s
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.runtime.loss_rate import is_unannounced_loss

RESULTS = "results"
UNFINISHED = "unfinished"
START_UP = "start_up"
PREEMPTED = "preempted"
KILLED = "killed"
PROGRAM_FAILED = "program_failed"
DUPLICATE = "duplicate"
ABANDONED = "abandoned"
# In the order in which they are shown, with what they mean. All but the first two are lost.
PARTS: Mapping[str, str] = {
    RESULTS: "in results",
    UNFINISHED: "in trials that are not finished",
    START_UP: "start-up, before the work",
    PREEMPTED: "preempted, not saved",
    KILLED: "killed or node failed, not saved",
    PROGRAM_FAILED: "programs that failed",
    DUPLICATE: "superseded or second to commit",
    ABANDONED: "in trials that failed or were cancelled",
}
_FATE = {
    TrialState.DONE: RESULTS,
    TrialState.FAILED: ABANDONED,
    TrialState.CANCELLED: ABANDONED,
}


@dataclass(frozen=True)
class Goodput:
    """Where the allocated time of a sweep went."""

    parts_ms: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    """Device-milliseconds by name of ``PARTS``; all are there."""
    n_done: int = 0
    """Trials with a committed result."""
    n_failed: int = 0
    """Trials that failed for good."""
    resume_s: tuple[float, ...] = ()
    """Seconds from the end of a preempted or killed attempt to the next, ascending."""
    unit: str = "GPU-hours"
    """``GPU-hours``, ``hours`` without any GPU, ``device-hours`` of both kinds."""
    is_estimate: bool = False
    """Whether the length, or the saved part, of some attempt is a guess."""
    n_open: int = 0
    """Attempts that ended without a word, or are of unknown length: what is allocated is at least
    this."""
    open_in: Mapping[str, int] = field(default_factory=dict)
    """Those attempts, by the part in which the rest of their time would be."""

    @property
    def allocated_ms(self) -> int:
        """Device-milliseconds of all attempts."""
        return sum(self.parts_ms.values())

    @property
    def goodput(self) -> float:
        """Share of the allocated time that is in results, 0 to 1; 0 when nothing was allocated."""
        return self._share(self.parts_ms[RESULTS])

    @property
    def lost_share(self) -> float:
        """Share that is in no result and in no trial that can still finish."""
        kept = self.parts_ms[RESULTS] + self.parts_ms[UNFINISHED]
        return self._share(self.allocated_ms - kept)

    @property
    def success_rate(self) -> float | None:
        """Share of trials with a result among those that have one or failed; None without any."""
        ended = self.n_done + self.n_failed
        return self.n_done / ended if ended else None

    @property
    def done_per_hour(self) -> float | None:
        """Trials with a result per device-hour; None when nothing was allocated."""
        allocated = self.allocated_ms
        return self.n_done * HOUR_MS / allocated if allocated else None

    def resume_percentile_s(self, percent: float) -> float | None:
        """Nearest-rank percentile of the seconds to resume; None if nothing was resumed."""
        n = len(self.resume_s)
        return self.resume_s[max(0, math.ceil(n * percent / 100) - 1)] if n else None

    def _share(self, part_ms: int) -> float:
        allocated = self.allocated_ms
        return part_ms / allocated if allocated else 0.0


class AttemptAccount(NamedTuple):
    """One attempt, and what became of its time."""

    attempt: Attempt
    """The attempt."""
    wall_s: float
    """Seconds that it held its allocation; 0 where nothing is known."""
    parts_ms: tuple[tuple[str, int], ...]
    """Names of ``PARTS`` and device-milliseconds; they add up to all of its time."""
    is_open: bool = False
    """Whether it was at least so long, and no more is known; the rest would be in the last part."""
    at_most_s: float | None = None
    """How long it can have been, if it is open; None: nobody knows."""


class TrialAccount(NamedTuple):
    """One trial's attempts, and what became of their time."""

    attempts: tuple[AttemptAccount, ...]
    """By number."""
    winner: int | None
    """Number of the attempt whose result is the trial's; None without one."""
    is_estimate: bool
    """Whether the length, or the saved part, of some attempt is a guess."""


def account_trial(trial: TrialFiles, state: TrialState, now_s: float) -> TrialAccount:
    """Part the time of each attempt of a trial; all trials together make ``measure_goodput``."""
    account = _Account(trial.attempts, state, _winner(trial), now_s)
    parts = account.parts()
    attempts = tuple(
        AttemptAccount(
            attempt,
            account.walls[index] or 0.0,
            tuple(parts[index]),
            is_open := account.are_open[index],
            wall_at_most_s(attempt, account.after(index)) if is_open else None,
        )
        for index, attempt in enumerate(trial.attempts)
    )
    return TrialAccount(attempts, account.winner, account.is_estimate)


def measure_goodput(trials: Iterable[tuple[TrialFiles, TrialState]], now_s: float) -> Goodput:
    """Account for the time of a sweep.

    Args:
        trials: All trials with their states.
        now_s: Unix time up to which running attempts count.
    """
    parts = dict.fromkeys(PARTS, 0)
    gaps: list[float] = []
    is_estimate = False
    n_done = n_failed = 0
    open_in: dict[str, int] = {}
    kinds: set[bool] = set()
    for trial, state in trials:
        attempts = trial.attempts
        n_done += state is TrialState.DONE
        n_failed += state is TrialState.FAILED
        winner = _winner(trial)
        if len(attempts) == 1 and state is TrialState.DONE and attempts[0].number == winner:
            # Nearly all trials of a large sweep; the general way takes five times as long.
            (attempt,) = attempts
            if attempt.wall_s is not None and not attempt.is_estimate:
                gpus = device_count(attempt.resources)
                kinds.add(gpus > 0)
                weight = 1000 * (gpus or 1)
                total = round(attempt.wall_s * weight)
                start_up = min(total, round((attempt.start_up_s or 0) * weight))
                parts[RESULTS] += total - start_up
                parts[START_UP] += start_up
                continue
        account = _Account(attempts, state, winner, now_s)
        for index, found in enumerate(account.parts()):
            for name, device_ms in found:
                parts[name] += device_ms
            if account.are_open[index]:
                name = open_part(attempts[index], found)
                open_in[name] = open_in.get(name, 0) + 1
        gaps += _resume_gaps(attempts, account.walls)
        is_estimate |= account.is_estimate
        kinds |= {device_count(attempt.resources) > 0 for attempt in attempts}
    unit = "device-hours" if len(kinds) > 1 else "hours" if kinds == {False} else "GPU-hours"
    gaps.sort()
    n_open = sum(open_in.values())
    return Goodput(parts, n_done, n_failed, tuple(gaps), unit, is_estimate, n_open, open_in)


def open_part(attempt: Attempt, parts_ms: Sequence[tuple[str, int]]) -> str:
    """Name the part in which the time of an attempt would be that is not known.

    Args:
        attempt: The attempt.
        parts_ms: What is known of its time, as of ``AttemptAccount``.
    """
    is_winner = attempt.outcome == records.COMMITTED and len(parts_ms) > 1
    return parts_ms[0 if is_winner else -1][0]


def _winner(trial: TrialFiles) -> int | None:
    """Number of the attempt whose result is the trial's."""
    if trial.result is not None and type(number := trial.result.get("attempt")) is int:
        return number
    for attempt in trial.attempts:
        if attempt.outcome == records.COMMITTED:
            return attempt.number
    return None


class _Account:
    """One trial's attempts, parted by what became of their time."""

    def __init__(
        self, attempts: Sequence[Attempt], state: TrialState, winner: int | None, now_s: float
    ):
        self.attempts, self.winner = attempts, winner if state is TrialState.DONE else None
        self.fate = _FATE.get(state, UNFINISHED)
        last = len(attempts) - 1
        self.is_running = (
            state is TrialState.RUNNING and last >= 0 and attempts[last].outcome is None
        )
        found = [
            attempt_wall_s(attempt, now_s, self.is_running and index == last, self.after(index))
            for index, attempt in enumerate(attempts)
        ]
        self.walls = [wall_s for wall_s, _ in found]
        self.are_open = [is_open for _, is_open in found]
        self.is_estimate = any(self.are_open)

    def after(self, index: int) -> Attempt | None:
        """Return the attempt after one, by its index."""
        return self.attempts[index + 1] if index + 1 < len(self.attempts) else None

    def parts(self) -> list[list[tuple[str, int]]]:
        """Return for each attempt names of parts and device-milliseconds, which add up to it."""
        found: list[list[tuple[str, int]]] = []
        # What the claims after the attempt at hand have found: times on the file server's clock.
        resume_points: list[float | None] = []
        for attempt, wall_s in zip(reversed(self.attempts), reversed(self.walls), strict=True):
            weight = 1000 * (device_count(attempt.resources) or 1)
            total = round((wall_s or 0.0) * weight)
            if self.winner is not None and attempt.number > self.winner:
                found.append([(DUPLICATE, total)])
                continue
            survives_s, tail = self._split(attempt, wall_s or 0.0, resume_points)
            kept = min(total, round(survives_s * weight))
            start_up = 0
            if self.fate is not ABANDONED:
                start_up = min(kept, round((attempt.start_up_s or 0.0) * weight))
            found.append([(self.fate, kept - start_up), (START_UP, start_up), (tail, total - kept)])
            point = attempt.resumes_from if attempt.resumes_from is not None else -math.inf
            resume_points.append(None if attempt.claimed_at is None else point)
        return found[::-1]

    def _split(
        self, attempt: Attempt, wall_s: float, resume_points: Sequence[float | None]
    ) -> tuple[float, str]:
        """Tell how many seconds of an attempt survive, and what became of the others."""
        tail = self._tail(attempt)
        if attempt.number == self.winner:
            return wall_s, tail
        if not resume_points:
            # The newest attempt: nobody has looked at its checkpoints yet.
            is_open = attempt.outcome in (None, records.PREEMPTED, records.COMMITTED)
            return (wall_s if is_open else 0.0), tail
        points = [point for point in resume_points if point is not None]
        if attempt.claimed_at is None or len(points) < len(resume_points):
            self.is_estimate = True
            saved = attempt.outcome == records.PREEMPTED and attempt.exit_code == EXIT_CHECKPOINTED
            return (wall_s if saved else 0.0), tail
        return min(wall_s, max(0.0, min(points) - attempt.claimed_at)), tail

    def _tail(self, attempt: Attempt) -> str:
        """Name the part that takes what an attempt did in vain."""
        if attempt.outcome is None:
            return KILLED
        if attempt.outcome == records.PREEMPTED:
            return PREEMPTED
        if attempt.outcome == records.FAILED:
            is_killed = is_unannounced_loss(attempt.outcome, attempt.exit_code, is_running=False)
            return KILLED if is_killed else PROGRAM_FAILED
        return DUPLICATE


def _resume_gaps(attempts: Sequence[Attempt], walls: Sequence[float | None]) -> list[float]:
    """Seconds from the end of each preempted or killed attempt to the start of the next."""
    gaps = []
    for index in range(len(attempts) - 1):
        before, after, wall_s = attempts[index], attempts[index + 1], walls[index]
        if wall_s is None or before.outcome not in (None, records.PREEMPTED):
            continue
        if before.cause == records.STOPPED_BY_CANARY:
            continue  # the same job went on at once: it says nothing about Slurm
        if before.claimed_at is not None and after.claimed_at is not None:
            gaps.append(max(0.0, after.claimed_at - before.claimed_at - wall_s))
        elif before.started_at is not None and after.started_at is not None:
            apart = (after.started_at - before.started_at).total_seconds()
            gaps.append(max(0.0, apart - wall_s))
    return gaps


def goodput_record(goodput: Goodput) -> dict[str, Any]:
    """Put a goodput into JSON values."""
    hours = {name: part / HOUR_MS for name, part in goodput.parts_ms.items()}
    return {
        "unit": goodput.unit,
        "allocated_h": goodput.allocated_ms / HOUR_MS,
        "goodput": goodput.goodput,
        "lost_share": goodput.lost_share,
        "parts_h": hours,
        "parts_device_ms": dict(goodput.parts_ms),
        "is_estimate": goodput.is_estimate,
        "attempts_without_end": goodput.n_open,
        "resume_s": {
            "n": len(goodput.resume_s),
            "p50": goodput.resume_percentile_s(50),
            "p99": goodput.resume_percentile_s(99),
        },
        "success_rate": goodput.success_rate,
        "done_per_device_hour": goodput.done_per_hour,
    }
