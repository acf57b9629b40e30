"""What the runs on fresh seeds say of the first place. Pure: values in, a verdict out.

Only fresh runs count here. Those of the sweep chose the configurations, so they flatter them, the
first most of all; means over both would flatter them still. Configurations are compared seed by
seed: the 95 % interval of the mean difference over the seeds that both have (Student's t; the
differences taken as independent and normal). Where it holds 0, the two are tied. With a luck of
the seed that hits all configurations alike that is sharper than comparing their own intervals.

A configuration ranks once each of its fresh runs has a finite objective: with fewer it would be
compared on less than the others. Nothing is corrected for the number of comparisons: of k equally
good configurations the first is overturned by chance at most (k - 1) times in 40. And the best of
several on fresh seeds is again a little flattered, though it was chosen among few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.repeats import mean_interval
from orchestrator.domain.standing import Certainty, Standing
from orchestrator.domain.sweep_summary import MINIMIZE

MIN_SEEDS = 2  # one run tells nothing about noise


@dataclass(frozen=True)
class FreshRuns:
    """A configuration's runs on fresh seeds."""

    key: str
    """What tells configurations apart."""
    name: str
    """Directory name of the trial that it was chosen by."""
    n_asked: int
    """How many runs were asked for."""
    n_open: int = 0
    """How many of them have not ended."""
    values: Mapping[int, float] = field(default_factory=dict)
    """The finite objectives by seed."""
    problem: str = ""
    """Why an ended run has no objective; empty if each has one."""
    has_diverged: bool = False
    """Whether a run diverged: the mean of the others would flatter it, and there is none."""

    @property
    def is_complete(self) -> bool:
        """Whether it can be compared."""
        return len(self.values) == self.n_asked >= MIN_SEEDS


@dataclass(frozen=True)
class Confirmed:
    """What a configuration came to on fresh seeds."""

    runs: FreshRuns
    """Its runs."""
    mean: float = math.nan
    """Mean over them; NaN without any, and if one diverged."""
    half: float = math.nan
    """Half the width of its 95 % interval; NaN from one run."""
    rank: int | None = None
    """Its place among those that are complete; None if it is not."""
    tie: int | None = None
    """The rank of the best one that it cannot be told apart from; its own if it is apart."""


@dataclass(frozen=True)
class Outcome:
    """What came of a confirmation."""

    configurations: tuple[Confirmed, ...] = ()
    """The ranked ones first, the others in the order in which they were chosen."""
    standing: Standing | None = None
    """What it says of the first place; None if it says nothing of it."""
    warnings: tuple[str, ...] = ()
    """For people."""


def compare(runs: Sequence[FreshRuns], goal: str, first: Sequence[str]) -> Outcome:
    """Compare configurations by their runs on fresh seeds.

    Args:
        runs: Of each configuration, in the order in which they were chosen.
        goal: ``minimize`` or ``maximize``.
        first: Keys of the configurations that come first by the sweep's own runs; more than one if
            those are exactly equal.
    """
    found = _rank(runs, 1 if goal == MINIMIZE else -1)
    standing = _judge(found, first) if found else None
    return Outcome(tuple(found), standing, tuple(_warn(runs)))


def _rank(runs: Sequence[FreshRuns], sign: int) -> list[Confirmed]:
    measured = [_measure(own) for own in runs]
    whole = [c for c in measured if c.runs.is_complete and not math.isnan(c.mean)]
    whole.sort(key=lambda c: sign * c.mean)
    ranked: list[Confirmed] = []
    for place, own in enumerate(whole, start=1):
        before = ranked[-1] if ranked else None
        rank = before.rank if before is not None and before.mean == own.mean else place
        tie = next((c.rank for c in ranked if not are_apart(c.runs, own.runs)), rank)
        ranked.append(Confirmed(own.runs, own.mean, own.half, rank, tie))
    return [*ranked, *(c for c in measured if c not in whole)]


def _measure(runs: FreshRuns) -> Confirmed:
    if runs.has_diverged:
        return Confirmed(runs)
    mean, half = mean_interval(list(runs.values.values())) if runs.values else (math.nan,) * 2
    return Confirmed(runs, mean if math.isfinite(mean) else math.nan, half)


def are_apart(one: FreshRuns, other: FreshRuns) -> bool:
    """Whether the runs of two configurations on the same seeds tell them apart."""
    common = [seed for seed in one.values if seed in other.values]
    if len(common) < MIN_SEEDS:
        return False
    mean, half = mean_interval([one.values[seed] - other.values[seed] for seed in common])
    return math.isfinite(mean) and abs(mean) > half


def _judge(found: Sequence[Confirmed], first: Sequence[str]) -> Standing | None:
    mine = next((c for c in found if c.runs.key in first), None)
    if mine is None:
        return None
    name, n_all = short(mine), sum(c.runs.n_asked for c in found)
    n_open = sum(c.runs.n_open for c in found)
    if n_open:
        words = f"{n_all - n_open} of {n_all} runs on fresh seeds have ended"
        return Standing(Certainty.PROVISIONAL, f"The first place is provisional: {words}.")
    if mine.rank is None:
        done = f"{len(mine.runs.values)} of {mine.runs.n_asked}"
        words = f"only {done} runs of {name} on fresh seeds have a value"
        words += f" ({mine.runs.problem})" if mine.runs.problem else ""
        return Standing(Certainty.PROVISIONAL, f"The first place is provisional: {words}.")
    best, seeds = found[0], f"on {mine.runs.n_asked} fresh seeds"
    others = [c for c in found if c.rank is not None and c is not mine]
    tied = [short(c) for c in others if c.tie == 1 and c is not best]
    diverged = [short(c) for c in found if c.runs.has_diverged]
    partial = [short(c) for c in found if c.rank is None and not c.runs.has_diverged]
    rest = f"; {', '.join(diverged)} not compared, since a run diverged" if diverged else ""
    rest += f"; {', '.join(partial)} not compared, for want of runs" if partial else ""
    if mine.rank == 1:
        tied = [short(c) for c in others if c.tie == 1]
        words = f"{seeds}, too, {name} is best with {spell(mine)}"
        words += f", tied with {', '.join(tied)}" if tied else ""
        words += ", and told apart from the others" if others and not tied else ""
        return Standing(Certainty.CONFIRMED, f"The first place is confirmed: {words}{rest}.")
    if mine.tie == 1:
        words = f"{seeds} {name} is tied for the best, with {spell(mine)} against {spell(best)}"
        words += f" of {short(best)}"
        return Standing(Certainty.CONFIRMED, f"The first place is confirmed: {words}{rest}.")
    words = f"{seeds} {short(best)} is best with {spell(best)}"
    words += f", tied with {', '.join(tied)}" if tied else ""
    words += f", and {name}, which came first, has {spell(mine)}"
    return Standing(Certainty.OVERTURNED, f"The first place is overturned: {words}{rest}.")


def short(found: Confirmed) -> str:
    """Name a configuration by the number of the trial that it was chosen by."""
    return found.runs.name.partition("-")[0]


def spell(found: Confirmed) -> str:
    """Say a mean and its interval, or why there is none."""
    if math.isnan(found.mean):
        return "diverged" if found.runs.has_diverged else "no mean"
    half = "" if math.isnan(found.half) else f" ± {found.half:.2g}"
    return f"{found.mean:.5g}{half}"


def _warn(runs: Sequence[FreshRuns]) -> list[str]:
    whole = [own for own in runs if len(own.values) >= MIN_SEEDS]
    if whole and all(len(set(own.values.values())) == 1 for own in whole):
        return [
            "the fresh seeds made no difference at all: either the program has no randomness, or "
            "it does not read the seed"
        ]
    return []
