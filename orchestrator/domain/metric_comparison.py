"""Comparing the metrics of two runs of one trial, key by key. Pure.

Numbers must be the same to the last bit, unless a tolerance is given. Metrics of time (seconds,
throughput, memory) differ from run to run; they are shown and not counted. They are known by the
words in their names, see ``is_of_time``; the objective always counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.contract.records import metric_value

# Words of names that measure the machine rather than the model.
_TIME_WORDS = {
    "date",
    "duration",
    "elapsed",
    "hours",
    "latency",
    "mem",
    "memory",
    "mfu",
    "minutes",
    "ms",
    "runtime",
    "sec",
    "second",
    "seconds",
    "secs",
    "speed",
    "tflops",
    "throughput",
    "time",
    "timestamp",
    "utilization",
    "walltime",
}


class Verdict(Enum):
    """What became of one metric."""

    EQUAL = "equal"
    DIFFERS = "differs"
    MISSING = "missing"
    """The second run did not report it."""
    NEW = "new"
    """Only the second run reported it."""
    NOT_COUNTED = "not counted"
    """It measures time, which differs from run to run."""


@dataclass(frozen=True)
class Compared:
    """One metric of both runs."""

    name: str
    """As the program reports it."""
    first: Any
    """The committed value; None if it was not reported."""
    second: Any
    """The value of the second run; None likewise."""
    difference: float | None
    """Relative to the larger of both; None where that says nothing."""
    verdict: Verdict
    """Whether it is the same."""


def compare_metrics(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    objective: str | None = None,
    tolerance: float = 0.0,
) -> list[Compared]:
    """Compare the metrics of two runs.

    Args:
        first: Of the first run, as its ``result.json`` has them.
        second: Of the second.
        objective: The metric that is ranked; it counts whatever its name.
        tolerance: The largest relative difference that still counts as equal.

    Returns:
        A row for each metric in the order of the first run, those of time last.
    """
    rows = []
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name), second.get(name)
        difference = relative_difference(a, b)
        if name != objective and is_of_time(name):
            verdict = Verdict.NOT_COUNTED
        elif name not in second:
            verdict = Verdict.MISSING
        elif name not in first:
            verdict = Verdict.NEW
        elif difference is None:
            verdict = Verdict.EQUAL if a == b else Verdict.DIFFERS
        else:
            verdict = Verdict.EQUAL if difference <= tolerance else Verdict.DIFFERS
        rows.append(Compared(name, a, b, difference, verdict))
    return sorted(rows, key=lambda row: row.verdict is Verdict.NOT_COUNTED)


def are_equal(rows: list[Compared]) -> bool:
    """Tell whether two runs gave the same numbers; runs without any that count did not."""
    counted = [row for row in rows if row.verdict is not Verdict.NOT_COUNTED]
    return bool(counted) and all(row.verdict is Verdict.EQUAL for row in counted)


def relative_difference(a: Any, b: Any) -> float | None:
    """Return |a - b| / max(|a|, |b|): 0 for equal numbers, NaN with NaN too; None for others."""
    x, y = metric_value(a), metric_value(b)
    if x is None or y is None:
        return None
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    if not (math.isfinite(x) and math.isfinite(y)):
        return math.inf
    scale = max(abs(x), abs(y))
    return abs(x / scale - y / scale)


def is_of_time(name: str) -> bool:
    """Tell whether a metric's name says that it measures time or the machine.

    ``run_time_s``, ``tokens_per_second``, ``train_runtime`` and ``sys/gpu.memory`` do;
    ``timesteps`` and ``loss_s2`` do not.
    """
    words = re.split(r"[^a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return not _TIME_WORDS.isdisjoint(words) or (len(words) > 1 and words[-1] in ("s", "gb"))
