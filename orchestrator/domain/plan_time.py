"""How long a trial takes: measured on trials of the same sweep, else what it states. Pure.

A measured trial is one with a committed result; its time is that of all its attempts, lost work
included, so restarts are in it. It stands for trials of the same partition and the same GPUs, CPUs
and nodes, whatever their parameters. Times are rounded before anything is computed with them, so
that what is shown multiplies to what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import trial_usage
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.trial_files import TrialFiles

MEASURED, STATED, PARTITION = "measured", "stated", "partition"
_MIN_S, _HOUR_S = 60.0, 3600.0

# Partition profile, GPUs, CPUs and nodes of a whole trial.
Kind = tuple[object, object, object, object]


@dataclass(frozen=True)
class TrialTime:
    """How long a trial takes."""

    seconds: float
    """So long; measured: the mean."""
    source: str
    """``measured``; ``stated``: its time limit; ``partition``: the partition's default limit."""
    n_measured: int = 0
    """Trials that were measured."""
    p90_s: float | None = None
    """Nine of ten measured trials took no longer."""

    @property
    def is_bound(self) -> bool:
        """Whether it is a limit, so that a trial may well take less."""
        return self.source != MEASURED


def measure_trials(
    trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> dict[Kind, TrialTime]:
    """Return mean and 90th percentile of committed trials, by kind."""
    walls: dict[Kind, list[float]] = {}
    for trial in trials:
        if states.get(trial.name) is not TrialState.DONE or not trial.attempts:
            continue
        wall_s = trial_usage(trial.attempts, TrialState.DONE, now_s).wall_h * _HOUR_S
        if wall_s > 0:
            walls.setdefault(_kind_of(trial.attempts[-1].resources), []).append(wall_s)
    return {
        kind: TrialTime(
            round_time(math.fsum(found) / len(found)),
            MEASURED,
            len(found),
            round_time(percentile_90(found)),
        )
        for kind, found in walls.items()
    }


def time_of(
    shape: JobShape,
    profile: PartitionProfile,
    measured: Mapping[Kind, TrialTime],
    default_min: int | None = None,
) -> TrialTime | None:
    """Return how long a trial of a shape takes; None if nothing says so.

    Args:
        shape: What it asks for.
        profile: Its partition.
        measured: See ``measure_trials``.
        default_min: The time limit that Slurm gives a job without one, in minutes.
    """
    kind = (profile.name, shape.total_gpus, shape.cpus * shape.nodes, shape.nodes)
    if kind in measured:
        return measured[kind]
    if shape.time_min is not None:
        return TrialTime(shape.time_min * _MIN_S, STATED)
    if default_min is not None:
        return TrialTime(default_min * _MIN_S, PARTITION)
    return None


def percentile_90(values: Iterable[float]) -> float:
    """Return the smallest of the values that nine tenths of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[math.ceil(0.9 * len(ordered)) - 1]


def round_time(seconds: float) -> float:
    """Round a time to what ``show_time`` can show: minutes, seconds, or tenths of one."""
    if seconds >= 10 * _MIN_S:
        return round(seconds / _MIN_S) * _MIN_S
    if seconds >= 10:
        return float(round(seconds))
    return max(0.1, round(seconds, 1))


def show_time(seconds: float) -> str:
    """Show a time so that nothing of it is lost: ``4 h``, ``1.5 h``, ``3:47 h``, ``20 min``."""
    if seconds < 10 * _MIN_S and seconds % _MIN_S:
        return f"{seconds:g} s"
    minutes = round(seconds / _MIN_S)
    if minutes < 60:
        return f"{minutes} min"
    if minutes % 6 == 0:
        return f"{minutes / 60:g} h"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _kind_of(resources: Mapping[str, Any]) -> Kind:
    names = ("partition", "gpus", "cpus", "nodes")
    gpus, cpus, nodes = (_count(resources.get(name)) for name in names[1:])
    return (str(resources.get("partition", "")), gpus, cpus, nodes)


def _count(value: object) -> object:
    return value if isinstance(value, int) else None
