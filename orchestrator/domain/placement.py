"""Which partition a trial goes to, of those that its sweep names, and when it moves on. Pure.

A sweep names one partition, an expression that gives each trial its own, or several in order of
preference (``placement_loader`` has the forms). Of several, a trial goes to the first whose limits
its shape fits, and moves on to the next that it fits

* after ``after_preemptions`` preemptions there: attempts that Slurm told to stop, or that it ended
  without a word on a partition that is marked preemptible; not those that reached their time limit,
  and not those that we told to stop, or whose program asked by itself to be run again;
* after it waited ``after_waiting_min`` minutes in the queue, counted by Slurm since it could have
  started: neither while it is held, nor behind another job or the sweep's own ceilings.

It never moves back, never while it runs, and stays the same trial with the same checkpoints.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.contract import records
from orchestrator.domain.cause import Cause
from orchestrator.domain.partition import JobShape, PartitionProfile, ShapeError, shape_of
from orchestrator.domain.spec_tree import nearest, show

if TYPE_CHECKING:
    from orchestrator.domain.resources import TrialResources
    from orchestrator.domain.retry_policy import Ended
    from orchestrator.domain.trial_files import Attempt

# How long before its limit an attempt may be asked to stop, beside the profile's own time: Slurm
# looks at time limits once a minute.
_LIMIT_SLACK_S = 60


@dataclass(frozen=True)
class Placement:
    """Several partitions in order of preference: ``partition:`` as a list or a mapping."""

    order: tuple[str, ...]
    """Profiles, the preferred one first."""
    after_preemptions: int = 3
    """Preemptions in one partition after which a trial moves on; 0: never for that."""
    after_waiting_min: float | None = None
    """Minutes in the queue after which it does; None: never for that, since it may cost more."""

    @property
    def moves(self) -> bool:
        """Whether a trial ever moves on; else the order is only of where it fits."""
        return self.after_preemptions > 0 or self.after_waiting_min is not None


@dataclass(frozen=True)
class Place:
    """A partition that a trial may go to, and what its job asks for there."""

    profile: PartitionProfile
    """The partition."""
    shape: JobShape
    """The job."""

    @property
    def name(self) -> str:
        """Name of the profile."""
        return self.profile.name


@dataclass(frozen=True)
class Stay:
    """What a trial met in the partition that it is in."""

    partition: str
    """Its profile."""
    n_preempted: int = 0
    """Attempts that were preempted there."""
    waited_s: float | None = None
    """Seconds that its task could have started and did not; None: it waits for another reason."""


@dataclass(frozen=True)
class Move:
    """A trial goes on in another partition."""

    place: Place
    """Which."""
    reason: str
    """Why, one line for people."""


def find_places(
    wanted: TrialResources, profiles: Mapping[str, PartitionProfile]
) -> tuple[Place, ...]:
    """Return where a trial fits, the preferred partition first; there is at least one.

    Args:
        wanted: What the trial asks for.
        profiles: The partitions of the sweep by name, in order of preference.

    Raises:
        ShapeError: It fits nowhere; of several partitions the last one's limits are named.
    """
    candidates = list(profiles.values())
    if wanted.partition is not None:
        if wanted.partition not in profiles:
            raise ShapeError(
                "partition",
                f"the expression gives {show(wanted.partition)}, which is no profile; "
                f"{nearest(wanted.partition, profiles)}there are: {', '.join(profiles)}",
            )
        candidates = [profiles[wanted.partition]]
    places = []
    refused: ShapeError | None = None
    for profile in candidates:
        try:
            places.append(Place(profile, shape_of(wanted, profile)))
        except ShapeError as error:
            refused = error
    if not places:
        assert refused is not None
        raise refused
    return tuple(places)


def describe_skipped(
    trials: Iterable[TrialResources], profiles: Mapping[str, PartitionProfile]
) -> list[str]:
    """Say which preferred partitions trials skip, since they do not fit; one line for each limit.

    Args:
        trials: What each trial asks for.
        profiles: The partitions of the sweep by name, in order of preference.
    """
    wanted = Counter(trials)
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for resources, n in wanted.items():
        for profile in profiles.values() if resources.partition is None else ():
            try:
                shape_of(resources, profile)
                break
            except ShapeError as error:
                key = (profile.name, error.key)
                before, words = found.get(key, (0, error.message.partition(";")[0]))
                found[key] = (before + n, words)
    total = wanted.total()
    return [
        f"{n} of {total} trial{'s' if total != 1 else ''} skip{'s' if n == 1 else ''} {name}: "
        f"{key}: {words}"
        for (name, key), (n, words) in found.items()
    ]


def place_of(places: tuple[Place, ...], assigned: str | None) -> Place:
    """Return the place that a trial was assigned last, or its first if it has none any more."""
    return next((place for place in places if place.name == assigned), places[0])


def warn_of_short_times(places: Iterable[Place]) -> list[str]:
    """Warn of time limits that are over as soon as a trial starts; one line for each.

    A trial is asked to stop ``signal_before_end_s`` before its limit, and Slurm may ask up to a
    minute earlier.
    """
    words = []
    for place in places:
        limit_min, before_s = place.shape.time_min, place.profile.signal_before_end_s
        if limit_min is not None and limit_min * 60 <= before_s + _LIMIT_SLACK_S:
            least = (before_s + 2 * _LIMIT_SLACK_S) / 60
            words.append(
                f"resources.time: {limit_min} min leave a trial no time to work on {place.name}: "
                f"it is asked to stop {before_s} s before (signal_before_end_s of the profile), or "
                f"up to a minute earlier; use at least {math.ceil(least)} min"
            )
    return list(dict.fromkeys(words))


def next_place(places: tuple[Place, ...], stay: Stay, placement: Placement) -> Move | None:
    """Decide whether a trial that waits, or is about to be submitted again, moves on.

    Args:
        places: Where it fits, in order.
        stay: What it met where it is.
        placement: When the sweep wants it to move.

    Returns:
        Where to and why; None if it stays, as it does in the last of its places.
    """
    names = [place.name for place in places]
    if stay.partition not in names or stay.partition == names[-1]:
        return None
    to = places[names.index(stay.partition) + 1]
    limit = placement.after_preemptions
    if limit and stay.n_preempted >= limit:
        times = f"{stay.n_preempted} time" + ("s" if stay.n_preempted != 1 else "")
        return Move(to, f"preempted {times} on {stay.partition}: goes on on {to.name}")
    minutes = placement.after_waiting_min
    if minutes is not None and stay.waited_s is not None and stay.waited_s >= minutes * 60:
        words = f"waited {stay.waited_s / 60:.0f} min on {stay.partition}"
        return Move(to, f"{words}: goes on on {to.name}")
    return None


def count_preemptions(attempts: Iterable[Attempt], ends: Iterable[Ended], place: Place) -> int:
    """Count a trial's attempts that were preempted in a partition.

    Args:
        attempts: All of them.
        ends: How they ended; those that ended well are absent.
        place: The partition, with the trial's shape there.
    """
    causes = {end.number: end.cause for end in ends}
    return sum(
        _was_preempted(attempt, causes[attempt.number], place)
        for attempt in attempts
        if attempt.number in causes and attempt.resources.get("partition") == place.name
    )


def _was_preempted(attempt: Attempt, cause: Cause, place: Place) -> bool:
    if attempt.job_id is None:
        return False  # it ran outside Slurm, and a person stopped it
    if cause is Cause.SILENT:
        return place.profile.preemptible
    if cause is not Cause.PREEMPTED:
        return False
    if attempt.outcome == records.PREEMPTED and attempt.signal is None:
        return False  # its program wanted to be run again
    if attempt.cause == records.STOPPED_BY_CANARY or attempt.signal == records.STOPPED_BY_BUDGET:
        return False  # we told it to stop
    limit_min, wall_s = place.shape.time_min, attempt.wall_s
    if limit_min is None or wall_s is None:
        return True
    return wall_s < limit_min * 60 - place.profile.signal_before_end_s - _LIMIT_SLACK_S
