"""Decides by the evaluations which is the best, and when to stop. Pure and standard library only.

All it knows is in the values it takes and returns; they are saved with each checkpoint, so a
preempted trial stops at the same step as an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Best:
    """The best evaluation so far, and what came after it."""

    step: int = -1
    """Its step; -1: none yet."""
    value: float = math.nan
    """Its metric."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """All it reported."""
    n_without: int = 0
    """Evaluations since without improvement."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, to be saved with a checkpoint."""
        return {**dataclasses.asdict(self), "metrics": dict(self.metrics)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Best:
        """Take up what ``as_dict`` gave; an empty mapping is the start."""
        return cls(**saved)


def is_minimized(metric: str, goal: str) -> bool:
    """Whether less is better; ``auto`` goes by the name's end."""
    if goal == "auto":
        return metric.endswith(("loss", "perplexity"))
    return goal == "minimize"


def take(
    best: Best,
    step: int,
    metrics: Mapping[str, float],
    metric: str,
    *,
    minimize: bool,
    min_delta: float,
) -> Best:
    """Take the next evaluation into account.

    A value that is not a number is no improvement.

    Raises:
        KeyError: The evaluation has no such metric.
    """
    value = metrics[metric]
    gain = best.value - value if minimize else value - best.value
    is_first = best.step < 0 and not math.isnan(value)
    if is_first or (gain > min_delta or (gain == min_delta > 0)):
        return Best(step, value, dict(metrics), 0)
    return dataclasses.replace(best, n_without=best.n_without + 1)


def should_stop(best: Best, patience: int) -> bool:
    """Whether ``patience`` evaluations in a row brought nothing; 0 never stops."""
    return 0 < patience <= best.n_without
