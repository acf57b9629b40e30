"""What a sweep of several partitions in order costs if its trials move on. Pure.

A plan counts each trial where it is, or goes first. Where it may move on from there, the dearest of
the partitions that it may come to bounds what it costs; work that is lost on the way comes on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.domain.partition import price_per_hour
from orchestrator.domain.plan import Amount, Group, price_groups


@dataclass(frozen=True)
class Moved:
    """What it costs once all trials that may move are where they cost most."""

    names: tuple[str, ...]
    """The profiles that they move to."""
    cost: Amount | None
    """So much; None: not known, since another currency is used there."""
    currency: str = ""
    """Of ``cost``."""
    is_bound: bool = False
    """Whether some time is a limit."""


def price_moves(trials: Iterable[Sequence[Group]]) -> Moved | None:
    """Price the trials where they cost most.

    Args:
        trials: For trials that have the same choice, the group that they are now, and what they
            would be in each partition that they may move to.

    Returns:
        None if moving costs no more, or a time is not known.
    """
    trials = list(trials)
    everywhere = [group for choices in trials for group in choices]
    if any(group.time is None for group in everywhere):
        return None
    currencies = {group.place.profile.currency for group in everywhere}
    if len(currencies) > 1:
        here = {choices[0].place.profile.currency for choices in trials}
        others = [g.place.name for g in everywhere if g.place.profile.currency not in here]
        return Moved(tuple(dict.fromkeys(others)), None) if others else None
    worst = [max(choices, key=_price) for choices in trials]
    moving = [
        group.place.name
        for group, choices in zip(worst, trials, strict=True)
        if group is not choices[0]
    ]
    cost = price_groups(worst)
    if not moving or cost is None:
        return None
    is_bound = any(group.time is not None and group.time.is_bound for group in worst)
    return Moved(tuple(dict.fromkeys(moving)), cost, currencies.pop(), is_bound)


def _price(group: Group) -> float:
    assert group.time is not None
    return price_per_hour(group.shape, group.place.profile) * group.time.seconds
