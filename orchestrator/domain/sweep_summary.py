"""What a leaderboard needs to know of its sweep, from ``sweep.json``. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.errors import CorruptRecord

MINIMIZE, MAXIMIZE = "minimize", "maximize"


@dataclass(frozen=True)
class SweepSummary:
    """What ``sweep.json`` says of a sweep."""

    name: str
    """The sweep's name."""
    metric: str | None
    """The objective; None ranks nothing."""
    goal: str = MINIMIZE
    """``minimize`` or ``maximize``."""
    parameters: tuple[str, ...] = ()
    """Dotted names of the parameters that vary, in the spec's order."""
    seeded: bool = False
    """Whether the parameter ``seed`` numbers repeats."""


def parse_summary(record: Mapping[str, Any], source: str) -> SweepSummary:
    """Read what ``sweep.json`` holds.

    Raises:
        CorruptRecord: It cannot be used; ranking by a guess would be worse.
    """
    metric = record.get("metric")
    name, goal = (
        (metric.get("name"), metric.get("goal")) if isinstance(metric, dict) else (None,) * 2
    )
    if metric is not None and not (isinstance(name, str) and goal in (MINIMIZE, MAXIMIZE)):
        raise CorruptRecord(
            f"{source}: metric: found {json.dumps(metric)[:200]}; it needs a name, and a goal that "
            f"is {MINIMIZE} or {MAXIMIZE}"
        )
    parameters = record.get("parameters", [])
    if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
        raise CorruptRecord(f"{source}: parameters: not a list of names")
    return SweepSummary(
        name=str(record.get("name", "")),
        metric=name,
        goal=goal or MINIMIZE,
        parameters=tuple(parameters),
        seeded=record.get("seeded") is True,
    )
