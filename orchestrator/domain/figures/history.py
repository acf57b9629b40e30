"""The history of a sweep: objectives by the time of their trials' end, the best so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.contract.states import TrialState
from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.columns import (
    MAX_CHARS,
    MAX_POINTS,
    fit_view,
    numbers,
    spell,
    tell_outside,
)
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.sweep_summary import MAXIMIZE
from orchestrator.domain.trial_files import TrialFiles

# In place of a state; such trials count for nothing but the confirmation.
FRESH = "fresh seed"
_ENDED_BADLY = (TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED)


def build_history(board: Leaderboard, trials: Mapping[str, TrialFiles], now_s: float) -> Figure:
    """Build the figure.

    Args:
        board: The leaderboard.
        trials: What the trials' files say, by name.
        now_s: Unix time; where trials that run are drawn.
    """
    title = "History"
    caption = (
        "Every trial by the time at which its last attempt ended (UTC), and the best so far. Only "
        "trials that are done count; what others reported last is drawn beside them."
    )
    if board.objective is None:
        return Figure("history", title, caption, {"reason": "The sweep names no objective."})
    points, badly = _collect_points(board, trials, now_s)
    done = sorted(point for point in points if point[3])
    if not done:
        reason = "No trial is done with an objective that is a number yet."
        return Figure("history", title, caption, {"reason": reason})
    best = _best_so_far(done, board.summary.goal == MAXIMIZE)
    others = [point[1] for point in points if not point[3]]
    view = fit_view([point[1] for point in done], board.summary.goal != MAXIMIZE, others)
    points.sort()
    n_all = len(points)
    points = [points[index] for index in _thin(n_all, {point[2] for point in best}, points)]
    if len(points) < n_all:
        caption += f" Drawn are {len(points):,} of {n_all:,} trials, evenly by time."
    origin_s = min([point[0] for point in points] + badly)
    states = sorted({point[4] for point in points})
    data = {
        "objective": board.objective,
        "goal": board.summary.goal,
        "origin_s": origin_s,
        "view": view,
        "t": [round(point[0] - origin_s) for point in points],
        "y": [point[1] for point in points],
        "trial": [point[2] for point in points],
        "states": states,
        "state": [states.index(point[4]) for point in points],
        "best_t": [round(point[0] - origin_s) for point in best],
        "best_y": [point[1] for point in best],
        "best_trial": [point[2] for point in best],
        "end_s": round(max(point[0] for point in points) - origin_s),
        "failed_t": sorted(round(time_s - origin_s) for time_s in badly),
    }
    n_fresh = sum(point[4] == FRESH for point in points)
    if n_fresh:
        caption += f" The {n_fresh:,} runs on fresh seeds have no part in it."
    if badly:
        caption += f" Ticks at the lower edge: {len(badly):,} trials that ended without a value."
    first, last = best[0], best[-1]
    n_better = len(best) - 1
    table = (
        f"The first of {len(done):,} finished trials had {board.objective} {spell(first[1])}; the "
        f"best, {spell(last[1])}, is trial {last[2]}, after {n_better} "
        f"improvement{'s' * (n_better != 1)}."
    )
    return Figure("history", title, caption + tell_outside(view), data, table)


# Time, objective, trial, whether it counts, state.
_Point = tuple[float, float, str, bool, str]


def _collect_points(
    board: Leaderboard, trials: Mapping[str, TrialFiles], now_s: float
) -> tuple[list[_Point], list[float]]:
    """Return the trials with a value, and when others ended badly."""
    frame = board.frame
    points: list[_Point] = []
    badly: list[float] = []
    names, states = frame["trial"].tolist(), frame["state"].tolist()
    values, ranks = numbers(frame[board.objective]), frame["rank"].isna().tolist()
    for name, state, value, no_rank in zip(names, states, values, ranks, strict=True):
        time_s = now_s if state == TrialState.RUNNING.value else _ended_s(trials.get(name))
        if time_s is None:
            continue
        if value is not None:
            is_done = state == TrialState.DONE.value
            shown = FRESH if is_done and name in board.fresh else state
            points.append(
                (time_s, value, one_line(name, MAX_CHARS), is_done and not no_rank, shown)
            )
        elif TrialState(state) in _ENDED_BADLY:
            badly.append(time_s)
    return points, badly


def _ended_s(trial: TrialFiles | None) -> float | None:
    """Return when a trial's last attempt ended, or its last heartbeat; None if unknown."""
    if trial is None or not trial.attempts:
        return None
    last = trial.attempts[-1]
    if last.ended_at is not None:
        return last.ended_at.timestamp()
    if last.heartbeat_at is not None:
        return last.heartbeat_at
    if last.started_at is not None and last.wall_s is not None:
        return last.started_at.timestamp() + last.wall_s
    return None


def _best_so_far(done: Sequence[_Point], is_maximized: bool) -> list[_Point]:
    best: list[_Point] = []
    for point in done:
        if not best or (point[1] > best[-1][1] if is_maximized else point[1] < best[-1][1]):
            best.append(point)
    return best


def _thin(n: int, keep: set[str], points: Sequence[Any]) -> list[int]:
    """Pick which points are drawn: those that were the best once, and of the others evenly."""
    if n <= MAX_POINTS:
        return list(range(n))
    kept = {index for index, point in enumerate(points) if point[2] in keep}
    kept |= {round(i * (n - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)}
    return sorted(kept)
