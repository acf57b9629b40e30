"""The best trial so far, without a table. Pure, and without pandas: it starts in no time.

The same rules as ``domain.leaderboard``'s, whose first place it names; a test holds them together.
Only done trials with a finite objective count. With repeats it is the configuration with the best
mean over its repeats that are done, complete ones before partial ones, and none with a repeat that
diverged; it is named by its first trial that counts.

Not covered: what decides between equals (the first by number is named), ties that intervals cannot
separate, several objectives (the first counts), and people's ratings. ``make collect`` has them.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.divergence import describe_divergence
from orchestrator.domain.named_columns import flatten_params
from orchestrator.domain.repeats import mean_interval
from orchestrator.domain.sweep_summary import MINIMIZE, SweepSummary
from orchestrator.domain.trial_files import TrialFiles


@dataclass(frozen=True)
class Best:
    """The first place so far."""

    trial: str
    """Name of the trial, or of the first one of its configuration."""
    value: float
    """Its objective, or the mean over its repeats."""
    params: Mapping[str, Any]
    """Its parameters."""
    n_done: int = 1
    """Repeats that count."""
    n_repeats: int = 1
    """All of its repeats."""


def find_best(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    summary: SweepSummary,
    fresh: Collection[str] = (),
) -> Best | None:
    """Find the first place.

    Args:
        trials: All trials, in number order.
        states: By trial name.
        summary: What is ranked and how.
        fresh: Names of trials that only confirm what others chose; they do not count.

    Returns:
        None while nothing can be ranked.
    """
    if summary.metric is None:
        return None
    groups: dict[str, list[TrialFiles]] = {}
    for index, trial in enumerate(trials):
        if trial.name in fresh:
            continue
        key = _configuration(trial, summary.differs) if summary.seeded else None
        groups.setdefault(f"{index}" if key is None else key, []).append(trial)
    sign = 1.0 if summary.goal == MINIMIZE else -1.0
    best: tuple[tuple[bool, float], Best] | None = None
    for group in groups.values():
        found = _judge(group, states, summary.metric)
        if found is None:
            continue
        place = found.n_done < found.n_repeats, sign * found.value
        if best is None or place < best[0]:
            best = place, found
    return None if best is None else best[1]


def _judge(group: list[TrialFiles], states: Mapping[str, TrialState], metric: str) -> Best | None:
    """Average the repeats of one configuration; None if it has no rank."""
    values: list[float] = []
    first: TrialFiles | None = None
    for trial in group:
        if describe_divergence(trial, states[trial.name], metric):
            return None
        if states[trial.name] is not TrialState.DONE or trial.result is None:
            continue
        value = metric_value(trial.metrics.get(metric))
        if value is None:
            continue
        values.append(value)
        first = first or trial
    if first is None:
        return None
    mean = values[0] if len(group) == 1 else mean_interval(values)[0]
    if not math.isfinite(mean):
        return None
    return Best(first.name, mean, first.params or {}, len(values), len(group))


def _configuration(trial: TrialFiles, differs: Collection[str]) -> str | None:
    """Name what a trial shares with its repeats; None for one that stands alone."""
    if trial.params is None:
        return None
    params = flatten_params(trial.params)
    rest = {name: value for name, value in params.items() if name not in differs}
    with contextlib.suppress(RecursionError):
        return json.dumps(rest, sort_keys=True)
    return None
