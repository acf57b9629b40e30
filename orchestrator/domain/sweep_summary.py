"""What a leaderboard needs to know of its sweep, from ``sweep.json``. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    more_objectives: tuple[tuple[str, str], ...] = ()
    """Further objectives with their goals; they count for the Pareto front, and between equals."""
    differs: tuple[str, ...] = ("seed",)
    """Dotted names of the parameters in which repeats differ: the seed, what is derived of it."""
    is_imported: bool = False
    """Whether another tool made the results, so that nothing of it can be run here."""

    @property
    def objectives(self) -> tuple[tuple[str, str], ...]:
        """All objectives with their goals, the ranked one first; none ranks nothing."""
        return () if self.metric is None else ((self.metric, self.goal), *self.more_objectives)

    def ranked_by(self, objectives: Sequence[tuple[str, str]]) -> SweepSummary:
        """Return it with other objectives, the ranked one first; at least one."""
        (metric, goal), *more = objectives
        return replace(self, metric=metric, goal=goal, more_objectives=tuple(more))


def parse_summary(record: Mapping[str, Any], source: str) -> SweepSummary:
    """Read what ``sweep.json`` holds.

    Raises:
        CorruptRecord: It cannot be used; ranking by a guess would be worse.
    """
    metric = record.get("metric")
    objectives = [] if metric is None else [_read_objective(metric, f"{source}: metric")]
    given = record.get("objectives") or []
    if not isinstance(given, list):
        raise CorruptRecord(f"{source}: objectives: not a list")
    several = [_read_objective(item, f"{source}: objectives") for item in given]
    if several and objectives != several[:1]:
        raise CorruptRecord(f"{source}: metric is not the first of objectives")
    parameters = record.get("parameters", [])
    if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
        raise CorruptRecord(f"{source}: parameters: not a list of names")
    differs = record.get("differs") or ["seed"]
    if not isinstance(differs, list) or not all(isinstance(name, str) for name in differs):
        raise CorruptRecord(f"{source}: differs: not a list of names")
    return SweepSummary(
        name=str(record.get("name", "")),
        metric=objectives[0][0] if objectives else None,
        goal=objectives[0][1] if objectives else MINIMIZE,
        parameters=tuple(parameters),
        seeded=record.get("seeded") is True,
        differs=tuple(differs),
        more_objectives=tuple(several[1:]),
        is_imported=record.get("imported_from") is not None,
    )


def _read_objective(value: Any, place: str) -> tuple[str, str]:
    name, goal = (value.get("name"), value.get("goal")) if isinstance(value, dict) else (None, None)
    if not (isinstance(name, str) and goal in (MINIMIZE, MAXIMIZE)):
        raise CorruptRecord(
            f"{place}: found {json.dumps(value)[:200]}; it needs a name, and a goal that "
            f"is {MINIMIZE} or {MAXIMIZE}"
        )
    return name, goal
