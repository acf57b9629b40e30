"""The trials of a plan by partition and shape, and what they may cost once they have moved.

Runs on the login node; called by ``usecases.plan``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.contract.states import TrialState
from orchestrator.domain.partition import JobShape
from orchestrator.domain.placement import Place, Placement, place_of
from orchestrator.domain.plan import Group
from orchestrator.domain.plan_limits import width_of
from orchestrator.domain.plan_moves import Moved, price_moves
from orchestrator.domain.plan_time import Kind, TrialTime, time_of
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial
from orchestrator.usecases.choose import Choice
from orchestrator.usecases.plan_site import PlanSite

# Trials that are left and not to be submitted now: Slurm has them, or may have them.
_QUEUED = (TrialState.PENDING, TrialState.RUNNING, TrialState.REQUEUED, TrialState.UNKNOWN)


class _Key(NamedTuple):
    partition: str
    shape: JobShape
    later: tuple[_Later, ...]


class _Later(NamedTuple):
    name: str
    shape: JobShape


@dataclass
class Left:
    """The trials that are left, of those that Slurm does not have yet and those that it has."""

    submit: Counter[_Key] = field(default_factory=Counter)
    """How many are to be submitted."""
    queued: Counter[_Key] = field(default_factory=Counter)
    """How many are queued, or run."""

    def kinds(self) -> list[_Key]:
        """Their kinds, in order of first appearance."""
        return list(dict.fromkeys([*self.submit, *self.queued]))

    @property
    def here(self) -> set[str]:
        """The partitions that they are in, or go to first."""
        return {key.partition for key in self.kinds()}

    @property
    def later(self) -> set[str]:
        """The partitions that they may move to."""
        return {place.name for key in self.kinds() for place in key.later}


def find_left(
    trials: Sequence[tuple[Trial, tuple[Place, ...]]], choice: Choice, placement: Placement | None
) -> Left:
    """Count the trials that are left by where they are, what they ask for, and may move to.

    Args:
        trials: Of the spec, and where they fit, in order.
        choice: What would be submitted, and what was seen.
        placement: When trials move; None: never.
    """
    if placement is not None and not placement.moves:
        placement = None
    left = Left()
    places_by_id = {trial.id: places for trial, places in trials}
    mine = set()
    for planned in choice.trials:
        mine.add(planned.name)
        later = _later(places_by_id[planned.trial.id], planned.partition, placement)
        left.submit[_Key(planned.partition, planned.shape, later)] += 1
    seen = choice.observation
    for name, state in {} if seen is None else seen.states.items():
        places = places_by_id.get(name.partition("-")[2])
        if seen is None or state not in _QUEUED or places is None or name in mine:
            continue
        place = place_of(places, seen.journal.partitions.get(name))
        key = _Key(place.name, place.shape, _later(places, place.name, placement))
        left.queued[key] += 1
    return left


def make_groups(
    left: Left,
    sites: Mapping[str, PlanSite],
    spec: SweepSpec,
    measured: Mapping[Kind, TrialTime],
) -> list[Group]:
    """Group the trials that are left by partition and shape."""
    numbers: dict[_Later, list[int]] = {}
    for key in left.kinds():
        found = numbers.setdefault(_Later(key.partition, key.shape), [0, 0])
        found[0] += left.submit[key]
        found[1] += left.queued[key]
    return [
        _group(key, sites, spec, measured, n_submit, n_queued)
        for key, (n_submit, n_queued) in numbers.items()
    ]


def price_if_moved(
    left: Left,
    sites: Mapping[str, PlanSite],
    spec: SweepSpec,
    measured: Mapping[Kind, TrialTime],
) -> Moved | None:
    """Price the trials where they cost most of where they may come to; see ``price_moves``."""
    choices = []
    for key in left.kinds():
        n = left.submit[key] + left.queued[key]
        here = _group(_Later(key.partition, key.shape), sites, spec, measured, n)
        later = [_group(place, sites, spec, measured, n) for place in key.later]
        # What has no limit there takes as long as here.
        later = [dataclasses.replace(group, time=group.time or here.time) for group in later]
        choices.append([here, *later])
    return price_moves(choices)


def _group(
    place: _Later,
    sites: Mapping[str, PlanSite],
    spec: SweepSpec,
    measured: Mapping[Kind, TrialTime],
    n_submit: int,
    n_queued: int = 0,
) -> Group:
    site = sites[place.name]
    return Group(
        Place(site.profile, place.shape),
        n_submit,
        n_queued,
        time_of(place.shape, site.profile, measured, site.default_min),
        width_of(place.shape, site.room, spec.max_concurrent, spec.max_gpus),
    )


def _later(
    places: Sequence[Place], partition: str, placement: Placement | None
) -> tuple[_Later, ...]:
    names = [place.name for place in places]
    if placement is None or partition not in names:
        return ()
    return tuple(_Later(p.name, p.shape) for p in places[names.index(partition) + 1 :])
