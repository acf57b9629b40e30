"""Giving ranks to trials, or to configurations of repeats.

Pure; called by ``leaderboard``, whose docstring tells the rules. Runs on the login node.

Order: complete configurations, then partial ones; in each block by the mean of the first objective.
Where that is equal the rank is shared, and only the order goes on: by the next objectives, by fewer
GPU-hours per repeat, by the number of the first trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import Usage
from orchestrator.domain.divergence import describe_divergence
from orchestrator.domain.pareto import pareto_front
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.ratings import HUMAN_SCORE
from orchestrator.domain.repeats import mean_error, student_t95
from orchestrator.domain.sweep_summary import MAXIMIZE, MINIMIZE, SweepSummary
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import spell_value

SEED = "seed"


class Interval(NamedTuple):
    """The mean of one objective over a configuration's repeats."""

    mean: float = math.nan
    """NaN if there is none."""
    low: float = math.nan
    """Lower end of its 95 % confidence interval; NaN from one repeat."""
    high: float = math.nan
    """Upper end."""
    error: float = math.nan
    """Standard error; NaN from one repeat."""


class Configuration:
    """Trials that differ in nothing but their seed; without repeats each trial is its own."""

    score: float = math.nan  # mean of the first objective; NaN if there is none
    others: tuple[float, ...] = ()  # means of the further ones
    intervals: tuple[Interval, ...] = ()  # of each objective; of a sweep with repeats only
    n = 1  # repeats that count
    is_partial = False
    rank: int | None = None
    tie: int | None = None  # rank of the best that it is tied with
    on_front: bool | None = None

    @property
    def members(self) -> Sequence[Row]:
        """Its trials, in number order."""
        raise NotImplementedError

    @property
    def usages(self) -> Sequence[Usage]:
        """What its repeats that count used."""
        raise NotImplementedError


class Repeats(Configuration):
    """A configuration of a sweep with repeats."""

    def __init__(self, rows: list[Row], intervals: Sequence[Interval], n: int):
        """Start without a rank."""
        self.rows, self.n, self.intervals = rows, n, tuple(intervals)
        self.is_partial = n < len(rows)
        if intervals:
            self.score, *others = [interval.mean for interval in intervals]
            self.others = tuple(others)

    @property
    def members(self) -> Sequence[Row]:
        """Its trials, in number order."""
        return self.rows

    @property
    def usages(self) -> Sequence[Usage]:
        """What its repeats that count used."""
        return [row.usage for row in self.rows if row.value is not None]


class Row(Configuration):
    """A trial on its way into the table."""

    value: int | float | None = None  # the objective, if it is finite and the trial done
    invalid = ""  # why a done trial has no rank
    missing = ""  # what people have not done yet: no fault of the trial
    diverged = ""  # how it did; then no repeat of its configuration has a rank
    is_fresh = False  # a run that confirms, and does not choose
    lead = -1  # its configuration's place among the ranked ones; -1 without a rank
    group = -1  # place of its configuration among all of a sweep with repeats
    note = ""
    usage = Usage()

    def __init__(self, trial: TrialFiles, state: TrialState):
        """Start without a judgement."""
        self.trial, self.state = trial, state

    @property
    def members(self) -> Sequence[Row]:
        """Itself: without repeats."""
        return (self,)

    @property
    def usages(self) -> Sequence[Usage]:
        """Its own; only what has a value is ranked."""
        return (self.usage,)


class Ranking(NamedTuple):
    """What came of it."""

    configurations: Sequence[Configuration]
    """The ranked ones, best first."""
    groups: Sequence[Repeats]
    """All configurations of a sweep with repeats; none without."""
    front: tuple[tuple[str | None, str], ...]
    """What the front is over: metric, or None for what it took, and goal."""
    front_by: str = ""
    """``cost`` or ``gpu_hours`` where that is the second criterion."""


def judge(row: Row, metric: str | None) -> None:
    """Decide whether a done trial has an objective that can be ranked, and whether it diverged."""
    if row.state is not TrialState.DONE or metric is None:
        row.diverged = describe_divergence(row.trial, row.state, metric)
        return
    metrics = row.trial.metrics
    if row.trial.result is None:
        row.invalid = "no result that can be read"
    elif metric not in metrics and metric == HUMAN_SCORE:
        row.missing = "not rated yet"
    elif metric not in metrics:
        there = ", ".join(sorted(metrics)[:5])
        row.invalid = f"no metric {metric!r} in the result" + (f"; it has {there}" if there else "")
    else:
        value = metrics[metric]
        number = metric_value(value)
        if number is None:
            row.invalid = f"{metric} is {one_line(spell_value(value), 40)!r}, not a number"
        elif not math.isfinite(number):
            row.invalid = row.diverged = describe_divergence(row.trial, row.state, metric)
        else:
            row.value = value


def rank_rows(
    rows: Sequence[Row],
    params: Sequence[Mapping[str, Any]],
    summary: SweepSummary,
    differs: Collection[str],
) -> Ranking:
    """Give ranks to configurations; without repeats every trial is one.

    Args:
        rows: Judged, with their usage, in number order; each gets its ``lead`` and ``group``.
        params: Their parameters, flattened.
        summary: What is ranked and how.
        differs: Names of the parameters in which repeats differ.
    """
    names = [name for name, _ in summary.objectives]
    found: list[Configuration]
    every: list[Repeats] = []
    if summary.seeded:
        every = [_average(group, names) for group in _configurations(rows, params, differs)]
        for place, each in enumerate(every):
            for row in each.rows:
                row.group = place
        found = [each for each in every if each.n and not math.isnan(each.score)]
    else:
        found = [row for row in rows if row.value is not None]
        for row in rows:
            if row.value is not None:
                row.score = float(row.value)
                if len(names) > 1:
                    metrics = row.trial.metrics
                    row.others = tuple(_finite(metrics.get(name)) for name in names[1:])
    signs = [-1.0 if goal == MAXIMIZE else 1.0 for _, goal in summary.objectives]
    ordered: list[Configuration] = []
    for block in (False, True) if summary.seeded else (False,):
        _order([one for one in found if one.is_partial is block], signs, ordered)
    for lead, one in enumerate(ordered):
        for row in one.members:
            if row.value is not None:
                row.lead = lead
    if any(one.n > 1 for one in ordered):
        _mark_ties(ordered)
    # In number order, as the trials lie in memory: three times as fast as by rank.
    return Ranking(ordered, every, *_mark_front(found, summary))


def _mark_ties(ordered: Sequence[Configuration]) -> None:
    """Give each the rank of the best that it is tied with."""
    # Lazy: it computes with numpy, whose import takes longer than ranking without repeats.
    from orchestrator.domain.ties import Estimate, find_ties

    ties = find_ties([Estimate(one.score, one.intervals[0].error, one.n) for one in ordered])
    for one, place in zip(ordered, ties, strict=True):
        one.tie = ordered[place].rank


def _configurations(
    rows: Sequence[Row], params: Sequence[Mapping[str, Any]], differs: Collection[str]
) -> Iterable[list[Row]]:
    """Part rows into those that differ in nothing but their seed."""
    groups: dict[Any, list[Row]] = {}
    names_of: dict[tuple[str, ...], list[str]] = {}
    for index, row in enumerate(rows):
        key: Any = index
        if row.trial.params is not None and not row.is_fresh:
            own = params[index]
            names = names_of.get(given := tuple(own))
            if names is None:
                names = names_of[given] = sorted(name for name in given if name not in differs)
            key = _spell_values([own[name] for name in names], names) or index
        groups.setdefault(key, []).append(row)
    return groups.values()


def _spell_values(values: list[Any], names: Sequence[str]) -> tuple[object, ...] | None:
    """Return what is the same for the same values: 1, 1.0 and true are three, NaN is one.

    None for what is nested without end, which is the same as nothing else.
    """
    if list not in set(map(type, values)):
        return (*names, repr(values))
    try:  # what is in a list may be named in another order
        return (*names, json.dumps(values, sort_keys=True))
    except RecursionError:
        return None


def _average(group: list[Row], names: Sequence[str]) -> Repeats:
    """Make a configuration of its repeats: mean and interval of each objective."""
    counting = [row for row in group if row.value is not None]
    bad = next((row for row in group if row.diverged), None)
    intervals = [Interval()] * len(names)
    if counting and bad is None:
        intervals[0] = _interval([float(row.value) for row in counting if row.value is not None])
        for place, name in enumerate(names[1:], start=1):
            values = [_finite(row.trial.metrics.get(name)) for row in counting]
            if not any(map(math.isnan, values)):
                intervals[place] = _interval(values)
    if names and math.isnan(intervals[0].mean):
        for row in counting:
            row.invalid = (
                f"its repeat {bad.trial.name}: {bad.diverged}" if bad else "the mean overflows"
            )
    return Repeats(group, intervals, len(counting))


def _interval(values: Sequence[float]) -> Interval:
    mean, error = mean_error(values)
    if not math.isfinite(mean):
        return Interval()
    half = student_t95(len(values) - 1) * error if len(values) > 1 else math.nan
    return Interval(mean, mean - half, mean + half, error)


def _finite(value: object) -> float:
    """Return a metric as a finite number, else NaN."""
    number = metric_value(value)
    return number if number is not None and math.isfinite(number) else math.nan


def _order(
    block: list[Configuration], signs: Sequence[float], ordered: list[Configuration]
) -> None:
    """Sort one block, give it the ranks that follow those of ``ordered``, and append it there."""
    # By the number alone at first: it nearly always decides, and floats sort fast.
    by_score = sorted(block, key=attrgetter("score"), reverse=bool(signs) and signs[0] < 0)
    if len({one.score for one in block}) < len(block):
        by_score = [
            one
            for _, equal in groupby(by_score, key=lambda one: one.score)
            for one in sorted(equal, key=lambda one: _tie_break(one, signs))
        ]
    rank, score = 0, math.nan
    for place, one in enumerate(by_score, start=len(ordered) + 1):
        if one.score != score:
            rank, score = place, one.score
        one.rank = rank
    ordered += by_score


def _tie_break(one: Configuration, signs: Sequence[float]) -> tuple[float, ...]:
    others = [
        math.inf if math.isnan(score) else sign * score
        for sign, score in zip(signs[1:], one.others, strict=True)
    ]
    return (*others, _per_repeat([usage.gpu_hours for usage in one.usages]))


def _per_repeat(amounts: Sequence[float]) -> float:
    return math.fsum(amounts) / len(amounts) if len(amounts) > 1 else amounts[0]


def _mark_front(
    ranked: Sequence[Configuration], summary: SweepSummary
) -> tuple[tuple[tuple[str | None, str], ...], str]:
    """Mark the Pareto front of all objectives, or of the only one and what it took."""
    front: list[tuple[str | None, str]] = list(summary.objectives)
    # A partial one rests on fewer runs: it pushes no complete one off.
    members = [one for one in ranked if not one.is_partial] or ranked
    by = ""
    if len(ranked) < 2:
        return (), ""
    points: list[tuple[float, ...]]
    if len(front) > 1:
        points = [(one.score, *one.others) for one in members]
    else:
        by, amounts = _amounts(members)
        if not by:
            return (), ""
        front.append((None, MINIMIZE))
        points = [(one.score, amount) for one, amount in zip(members, amounts, strict=True)]
    marks = pareto_front(points, [goal == MAXIMIZE for _, goal in front])
    if len(members) < len(ranked):
        for one in ranked:
            one.on_front = False
    for one, mark in zip(members, marks, strict=True):
        one.on_front = mark
    return tuple(front), by


def _amounts(members: Sequence[Configuration]) -> tuple[str, list[float]]:
    """Return what each took per repeat: money where all have a price in one currency, else time."""
    usages = [usage for one in members for usage in one.usages]
    currencies = {tuple(usage.cost) for usage in usages}
    by, amounts = "", [0.0]
    if len(currencies) == 1 and len(names := currencies.pop()) == 1:
        (name,) = names
        by, amounts = "cost", [usage.cost[name] for usage in usages]
    if not any(amounts):  # no price, several currencies, or a price of 0, which parts nobody
        by, amounts = "gpu_hours", [usage.gpu_hours for usage in usages]
    if not any(amounts):
        return "", []
    if len(members) < len(amounts):
        each = iter(amounts)
        amounts = [_per_repeat(list(islice(each, one.n))) for one in members]
    return by, amounts
