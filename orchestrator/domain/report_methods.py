"""How the numbers of a report were computed, in words. Pure; says only what a sweep has."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.domain.leaderboard import Leaderboard

_FILES = (
    "Every number comes from the files of the trials (params.json, result.json, attempts/), read "
    "once, and is that of leaderboard.csv; an estimate says so. Empty is not known, never zero. "
    "Numbers are shortened for reading; the data in this page has all their digits."
)
_RANKED = (
    "Ranked are trials with a committed result whose objective is a finite number; all others "
    "stand below with their reason. Equal objectives share a rank."
)
_REPEATS = (
    "Trials that differ in nothing but their seed are one configuration, ranked by the mean over "
    "its repeats that are done, with Student's 95 % confidence interval of that mean (repeats "
    "taken as independent and normal; none from one repeat). One with a repeat that diverged (not "
    "finite at its end, or exit code 65) has no rank: without that seed its mean would flatter it."
)
_TIE = (
    "tie is the rank of the best configuration that one cannot be told from: the 95 % interval of "
    "the difference of their means (Welch's) holds 0. It is not corrected for looking at many."
)
_PARTIAL = (
    "partial names configurations with fewer repeats done than there are, and how far trials "
    "without a result got. Partial configurations are ranked after all complete ones."
)
_COST = (
    "GPU-hours are the time of all attempts times their GPUs, lost work included; cost is that "
    "time times the price that the partition's profile had when the attempt was submitted."
)
_ESTIMATE = (
    "Attempts that ended without a word are counted up to their last sign of life: hours and cost "
    "with them are at least what is shown. It is the latest of the claim, the last heartbeat, and "
    "the newest checkpoint and report that the next attempt found."
)
_LUCK = (
    "The first place was chosen and measured on the same runs: of many alike, the luckiest comes "
    "first."
)
_AGAIN = " make confirm measures it again on fresh seeds."
_AGAIN_ELSEWHERE = " Only runs of it on fresh seeds would tell."


_FRESH = (
    "Runs on fresh seeds have no rank and are in no mean. confirmed_rank, confirmed_mean, its 95 % "
    "interval (Student's) and confirmed_n are of them alone (no mean if one diverged); "
    "confirmed_tie is the rank of the best from which one cannot be told seed by seed (the 95 % "
    "interval of the mean difference holds 0)."
)


def describe_methods(board: Leaderboard) -> list[str]:
    """Return a paragraph for each kind of number that this leaderboard has."""
    return list(_paragraphs(board))


def _paragraphs(board: Leaderboard) -> Iterator[str]:
    yield _FILES
    if board.summary.metric is not None:
        yield _RANKED
    if board.summary.seeded:
        yield _REPEATS
    if "tie" in board.table:
        yield _TIE
    if "partial" in board.table:
        yield _PARTIAL
    if "pareto" in board.table:
        respects = ", ".join(f"{name} ({goal})" for name, goal in board.front)
        yield (
            "pareto is true where nothing else is better in one respect and at least as good in "
            f"the others: {respects}."
        )
    yield _COST
    if board.usage.is_estimate:
        yield _ESTIMATE
    if board.outcome.configurations:
        yield _FRESH
    elif board.leads:
        yield _LUCK + (_AGAIN_ELSEWHERE if board.summary.is_imported else _AGAIN)
