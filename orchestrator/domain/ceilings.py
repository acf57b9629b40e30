"""A sweep's ceilings of trials and GPUs at once, shared by its arrays. Pure.

Slurm's throttle (``--array=...%N``) is per array, so the ceilings of a sweep are divided: into
*lanes*, each with an array that may run so many tasks at once. Where the ceilings do not have room
for a task of every array, the surplus arrays stand behind others in their lanes, as Slurm's
dependencies (``afterany``), so that the ceilings hold with nobody there. What is divided once gets
uneven as arrays drain: ``rebalance`` says what a round may change so that nothing is idle.

The ceilings hold at every moment: an array that is in the queue counts with the most it may run,
one that waits behind others with what it may run beyond theirs, and room that is made by lowering a
throttle counts once the tasks above it have ended.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

_NOTHING = (0.0, 0.0)


@dataclass(frozen=True)
class Ceiling:
    """How much a sweep may run at once."""

    trials: float = math.inf
    """Trials."""
    gpus: float = math.inf
    """GPUs of all of them."""

    @property
    def is_set(self) -> bool:
        """Whether there is any."""
        return self.trials < math.inf or self.gpus < math.inf

    def less(self, trials: float, gpus: float) -> Ceiling:
        """Return what is left beside some."""
        return Ceiling(max(0.0, self.trials - trials), max(0.0, self.gpus - gpus))

    def has_room(self, gpus: int, n_tasks: int = 1) -> bool:
        """Tell whether so many tasks of so many GPUs each fit."""
        return n_tasks <= self.trials and n_tasks * gpus <= self.gpus


@dataclass(frozen=True)
class Load:
    """An array to be submitted."""

    n_tasks: int
    """How many trials."""
    gpus: int = 0
    """GPUs of each, on all its nodes."""


@dataclass(frozen=True)
class Share:
    """How an array is submitted."""

    throttle: int | None = None
    """Tasks of it that may run at once; None: no limit."""
    after: tuple[int, ...] = ()
    """The arrays, by their index, that have to end before."""
    after_queued: bool = False
    """Whether it also waits for all that was in the queue before."""


@dataclass(frozen=True)
class QueuedArray:
    """An array of the sweep that is in the queue."""

    job_id: str
    """Slurm's id."""
    gpus: int
    """GPUs of each task."""
    n_running: int
    """Tasks that run."""
    n_waiting: int
    """Tasks that wait."""
    throttle: int | None = None
    """How many may run at once; None: no limit."""
    after: tuple[str, ...] = ()
    """Arrays, by Slurm's id, that it was submitted behind."""
    is_blocked: bool = False
    """Whether it waits for their end now."""

    @property
    def n_tasks(self) -> int:
        """Tasks that are left."""
        return self.n_running + self.n_waiting

    @property
    def most(self) -> int:
        """The most tasks that may run at once from now on."""
        if self.throttle is None:
            return self.n_tasks
        return min(self.n_tasks, max(self.throttle, self.n_running))


@dataclass(frozen=True)
class Change:
    """A new throttle for an array in the queue."""

    job_id: str
    """Slurm's id."""
    throttle: int
    """Tasks that may run at once."""
    is_lower: bool = False
    """Whether it takes room, which others may use once those above it have ended."""
    unblocks: bool = False
    """Whether the array need not wait for others any longer."""


@dataclass
class _Lane:
    """Arrays that run one after another in the same share of the ceilings."""

    members: list[int] = field(default_factory=list)
    gpus: int = 0
    size: int = 0
    longest: int = 0
    level: int = 1

    def add(self, index: int, load: Load) -> None:
        self.members.append(index)
        self.gpus = max(self.gpus, load.gpus)
        self.size += load.n_tasks
        self.longest = max(self.longest, load.n_tasks)


def share(
    loads: Sequence[Load],
    ceiling: Ceiling,
    used: tuple[float, float] = _NOTHING,
    n_first: int = 0,
) -> list[Share]:
    """Divide the ceilings among arrays that are about to be submitted.

    Args:
        loads: The arrays; none has a task that is larger than the ceiling.
        ceiling: Of the sweep.
        used: Trials and GPUs that arrays in the queue may take; see ``use_of``.
        n_first: So many of the arrays are waited for by the others, and wait for none of them.

    Returns:
        A share for each array. All that can run at once, whatever Slurm starts first, is within
        the ceiling.
    """
    shares = [Share() for _ in loads]
    if not ceiling.is_set:
        return shares
    free = ceiling.less(*used)
    # The largest first: a lane that holds one holds all that come after it.
    order = sorted(range(len(loads)), key=lambda index: (-loads[index].gpus, index))
    first = [i for i in order if free.has_room(loads[i].gpus)] if any(used) else order
    _fill(loads, first, free, shares, ())
    if not set(first).issuperset(range(n_first)):
        first = [index for index in first if index < n_first]
    late = [index for index in order if index not in set(first)]
    if late:
        _fill(loads, late, ceiling, shares, tuple(sorted(first)), after_queued=True)
    return shares


def _fill(
    loads: Sequence[Load],
    order: Sequence[int],
    free: Ceiling,
    shares: list[Share],
    after: tuple[int, ...],
    *,
    after_queued: bool = False,
) -> None:
    lanes: list[_Lane] = []
    room = free
    for index in order:
        load = loads[index]
        if room.has_room(load.gpus) or not lanes:
            lanes.append(lane := _Lane())
            room = room.less(1, load.gpus)
        else:
            lane = min(lanes, key=lambda lane: lane.size)
        lane.add(index, load)
    _raise_levels(lanes, room)
    for lane in lanes:
        before, also_queued = after, after_queued
        for index in sorted(lane.members):
            level = min(lane.level, loads[index].n_tasks)
            shares[index] = Share(level, before, also_queued)
            before, also_queued = (index,), False


def _raise_levels(lanes: Sequence[_Lane], room: Ceiling) -> None:
    """Give what is left to the lanes that have most to do for each task that they may run."""
    heap = [(-lane.size / lane.level, i) for i, lane in enumerate(lanes)]
    heapq.heapify(heap)
    while heap:
        _, i = heapq.heappop(heap)
        lane = lanes[i]
        if lane.level >= lane.longest or not room.has_room(lane.gpus):
            continue
        lane.level += 1
        room = room.less(1, lane.gpus)
        heapq.heappush(heap, (-lane.size / lane.level, i))


def use_of(arrays: Sequence[QueuedArray]) -> tuple[float, float]:
    """Return how many trials and GPUs the arrays in the queue may take at once, at most.

    An array behind others inherits what those may take, each part of it once, and counts with what
    it may take beyond that.

    Args:
        arrays: The oldest first.
    """
    by_id = {array.job_id: array for array in arrays}
    left: dict[str, list[float]] = {}
    used = [0.0, 0.0]
    for array in arrays:
        needs = (float(array.most), float(array.most * array.gpus))
        before = _before(array, by_id) if array.is_blocked else set()
        for i, need in enumerate(needs):
            for job_id in before & left.keys():
                inherited = min(need, left[job_id][i])
                left[job_id][i] -= inherited
                need -= inherited
            used[i] += need
        left[array.job_id] = [*needs]
    return used[0], used[1]


def _before(array: QueuedArray, by_id: dict[str, QueuedArray]) -> set[str]:
    """All arrays in the queue that have to end before this one starts."""
    found: set[str] = set()
    waiting = [array]
    while waiting:
        for job_id in waiting.pop().after:
            other = by_id.get(job_id)
            if other is not None and job_id not in found:
                found.add(job_id)
                if other.is_blocked:
                    waiting.append(other)
    return found


def rebalance(arrays: Sequence[QueuedArray], ceiling: Ceiling, *, may_lower: bool) -> list[Change]:
    """Say which throttles of arrays in the queue to change, so that nothing is idle.

    Args:
        arrays: All arrays of the sweep in the queue, the oldest first.
        ceiling: Of the sweep.
        may_lower: Whether to take room from arrays so that those behind them start too: of use only
            to whoever comes back soon to use that room.

    Returns:
        Changes in the order to do them: what is lowered first.
    """
    if not ceiling.is_set:
        return []
    wanted = _targets(arrays, ceiling)
    is_over = not holds(arrays, ceiling)
    is_waited_for = may_lower and any(a.is_blocked and wanted[a.job_id] for a in arrays)
    changes = []
    for array in arrays:
        level = max(1, wanted[array.job_id])
        if level < _allowed(array) and (is_over or (is_waited_for and not array.is_blocked)):
            changes.append(Change(array.job_id, level, is_lower=True))
    lowered = {change.job_id for change in changes}
    now = list(arrays)  # a lowered one stays as it was: what is above its throttle still runs
    for i, array in enumerate(arrays):
        if array.job_id in lowered or (array.throttle is None and not array.is_blocked):
            continue
        low = 0 if array.is_blocked else array.most
        high = wanted[array.job_id]
        while low < high:
            level = (low + high + 1) // 2
            now[i] = replace(array, throttle=level, is_blocked=False)
            if holds(now, ceiling):
                low = level
            else:
                high = level - 1
        if low > (0 if array.is_blocked else array.most):
            now[i] = replace(array, throttle=low, is_blocked=False)
            changes.append(Change(array.job_id, low, unblocks=array.is_blocked))
        else:
            now[i] = array
    return changes


def holds(arrays: Sequence[QueuedArray], ceiling: Ceiling) -> bool:
    """Tell whether what the arrays in the queue may take at once is within the ceiling."""
    trials, gpus = use_of(arrays)
    return trials <= ceiling.trials and gpus <= ceiling.gpus


def _allowed(array: QueuedArray) -> int:
    return array.n_tasks if array.throttle is None else min(array.throttle, array.n_tasks)


def _targets(arrays: Sequence[QueuedArray], ceiling: Ceiling) -> dict[str, int]:
    """How many tasks each array should run at once, those in front first; 0: it has to wait."""
    lanes: dict[str, _Lane] = {}
    room = ceiling
    for array in sorted(arrays, key=lambda array: array.is_blocked):
        if array.n_tasks and room.has_room(array.gpus):
            lanes[array.job_id] = lane = _Lane()
            lane.add(0, Load(array.n_tasks, array.gpus))
            room = room.less(1, array.gpus)
    _raise_levels(list(lanes.values()), room)
    return {a.job_id: lanes[a.job_id].level if a.job_id in lanes else 0 for a in arrays}
