"""Judging how sure the first place of a ranking is.

Pure; called by ``leaderboard``. Runs on the login node. It says at most ``CLEAR``: the runs that
chose the first also flatter it, and only runs on fresh seeds can confirm it (``make confirm``).
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.ranking import Configuration, Row
from orchestrator.domain.standing import Certainty, Standing
from orchestrator.domain.sweep_summary import MAXIMIZE, SweepSummary

_HOW = "make confirm reruns the best on fresh seeds"
_HOW_ELSEWHERE = "only runs of the best on fresh seeds would tell"
# What has ended for good unless somebody asks; the rest, done ones aside, may still bring a result.
_ENDED = (TrialState.FAILED, TrialState.CANCELLED)


def judge_first_place(
    ranked: Sequence[Configuration], rows: Sequence[Row], summary: SweepSummary
) -> Standing:
    """Say how sure the first place is, and why.

    Args:
        ranked: The ranked configurations, best first.
        rows: All trials.
        summary: What is ranked.
    """
    if not ranked:
        return Standing()
    first = ranked[0]
    sign = -1.0 if summary.goal == MAXIMIZE else 1.0
    how = _HOW_ELSEWHERE if summary.is_imported else _HOW
    doubts = _doubts(ranked, sign, how)
    others = len(ranked) - 1
    tied = sum(one.tie == 1 for one in ranked) - 1 if first.tie is not None else 0
    undone = [row for row in rows if row.state is not TrialState.DONE and not row.is_fresh]
    to_come = [row for row in undone if row.state not in _ENDED]
    if to_come:
        doubts.append(f"{_count(len(to_come), 'trial')} may still bring a result")
        ahead = _ahead(to_come, first, summary.metric, sign)
        if ahead:
            doubts[-1] += f", and {_number(ahead[0])} is ahead so far"
    if doubts and first.n > 1 and tied:
        doubts.append(f"{tied:,} of {_count(others, 'other')} cannot be told from it")
    if doubts:
        return Standing(
            Certainty.PROVISIONAL, f"The first place is provisional: {'; '.join(doubts)}."
        )
    if tied:
        return Standing(
            Certainty.TIED,
            f"The first place is tied: its {first.n} repeats cannot be told from "
            f"{tied:,} of {_count(others, 'other')} (95 % intervals of the difference); {how}.",
        )
    if not others:
        return Standing(
            Certainty.CLEAR,
            "The first place is clear for want of others: one configuration is ranked, by its "
            f"{first.n} repeats; {how}.",
        )
    against = f"tell it from {_count(others, 'other')}"
    return Standing(
        Certainty.CLEAR,
        f"The first place is clear: its {first.n} repeats {against} (95 % intervals of the "
        f"difference), though the runs that chose it flatter it; {how}.",
    )


def _doubts(ranked: Sequence[Configuration], sign: float, how: str) -> list[str]:
    """Say why the runs that there are do not make a first place sure."""
    first = ranked[0]
    doubts = []
    best = sign * first.score
    partial = ranked if ranked[-1].is_partial else ()  # they come last
    better = next((one for one in partial if one.is_partial and sign * one.score < best), None)
    if first.is_partial:
        doubts.append(f"it has {first.n} of its {len(first.members)} repeats, as none has them all")
    elif better is not None:
        # Of those the table shows the first that counts.
        shown = next(row for row in better.members if row.value is not None)
        doubts.append(
            f"{_number(shown)} would come first with {better.n} of its "
            f"{len(better.members)} repeats"
        )
    if first.n == 1:
        doubts.append(f"one run may be luck ({how})")
    if len(ranked) > 1 and ranked[1].rank == 1:
        doubts.append(f"{sum(one.rank == 1 for one in ranked)} share it")
    return doubts


def _ahead(rows: Sequence[Row], first: Configuration, metric: str | None, sign: float) -> list[Row]:
    """Return the trials that are not done and better so far than the first, the best first."""
    found = []
    for row in rows:
        number = metric_value(row.trial.metrics.get(metric)) if metric is not None else None
        if (
            number is not None
            and abs(number) != float("inf")
            and sign * number < sign * first.score
        ):
            found.append((sign * number, row.trial.number, row))
    return [row for *_, row in sorted(found, key=lambda one: one[:2])]


def _number(row: Row) -> str:
    return row.trial.name.partition("-")[0]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"
