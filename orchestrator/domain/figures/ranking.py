"""How ranked ones lie: intervals over repeats, distribution, objective against cost. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.columns import (
    MAX_CHARS,
    MAX_POINTS,
    cells,
    fit_view,
    numbers,
    pick_evenly,
    quantile,
    ranked_rows,
    spell,
    tell_outside,
)
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.pareto import pareto_front
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.sweep_summary import MAXIMIZE, MINIMIZE

N_INTERVALS = 20
_NOTHING_RANKED = "Nothing is ranked yet."
_ONE_RANKED = "Only one configuration is ranked, so there is nothing to compare it with."


def build_intervals(board: Leaderboard) -> Figure | None:
    """Build the intervals of the best configurations; None in a sweep without repeats."""
    if not board.summary.seeded or board.objective is None:
        return None
    title = f"The best {N_INTERVALS} and their noise"
    caption = (
        "Mean over repeats with its 95 % confidence interval, and each repeat's value as a thin "
        "line. Where intervals overlap much, the order may be chance."
    )
    leads = list(board.leads[:N_INTERVALS])
    frame, name = board.frame, board.objective
    if not leads:
        return Figure("intervals", title, caption, {"reason": _NOTHING_RANKED})
    lead = frame.iloc[leads]
    if len(leads) < N_INTERVALS:
        title = (
            f"The best {len(leads)} and their noise" if len(leads) > 1 else "The best and its noise"
        )
    ends = [*board.leads[1 : len(leads) + 1], board.n_ranked][: len(leads)]
    values = numbers(frame[name])
    ties = cells(lead["tie"]) if "tie" in frame else [None] * len(leads)
    ranks = cells(lead["rank"])
    data: dict[str, Any] = {
        "objective": f"{name}_mean",
        "goal": board.summary.goal,
        "trial": cells(lead["trial"]),
        "rank": ranks,
        "mean": numbers(lead[f"{name}_mean"]),
        "low": numbers(lead[f"{name}_ci95_low"]),
        "high": numbers(lead[f"{name}_ci95_high"]),
        "n": cells(lead["repeats_done"]),
        "n_all": cells(lead["repeats"]),
        "is_tied": [tie is not None and tie == ranks[0] for tie in ties],
        "repeats": [
            [value for value in values[start:end] if value is not None]
            for start, end in zip(leads, ends, strict=True)
        ],
        "label": [_label(board, row) for row in leads],
        "fresh": _fresh(lead),
    }
    n_tied = sum(data["is_tied"])
    table = f"The first has {name}_mean {spell(data['mean'][0])}"
    if n_tied > 1:
        caption += " Diamonds: what cannot be told from the first, which is a tie."
        table += f"; {n_tied} of the best {len(leads)} are tied with it, itself included"
    elif "tie" in frame and len(leads) > 1:
        table += "; none is tied with it"
    if data["fresh"]:
        caption += (
            " Squares: the means of the runs on fresh seeds, which had no part in the choice, with "
            "their intervals."
        )
        table += f"; on fresh seeds {len(data['fresh']['row'])} of them were run"
    if None in data["low"]:
        caption += " Without an interval: one repeat only."
    return Figure("intervals", title, caption, data, table + ".")


def _fresh(lead: pd.DataFrame) -> dict[str, Any]:
    """Return what came of runs on fresh seeds, by place in the figure; empty without any."""
    if "confirmed_mean" not in lead:
        return {}
    means = numbers(lead["confirmed_mean"])
    rows = [row for row, mean in enumerate(means) if mean is not None]
    columns = {"mean": means}
    columns["low"], columns["high"] = (
        numbers(lead[f"confirmed_ci95_{end}"]) for end in ("low", "high")
    )
    columns["n"], columns["rank"] = (cells(lead[f"confirmed_{name}"]) for name in ("n", "rank"))
    if not rows:
        return {}
    return {
        "row": rows,
        **{name: [column[row] for row in rows] for name, column in columns.items()},
    }


def build_distribution(board: Leaderboard) -> Figure:
    """Build the share of configurations that are at least as good as each objective."""
    title = "Distribution of the objective"
    caption = (
        "Which share of the ranked configurations is at least as good as each value: a steep rise "
        "says that many are about equally good."
    )
    ranked = ranked_rows(board, sys.maxsize)
    if not ranked.values:
        return Figure("distribution", title, caption, {"reason": _NOTHING_RANKED})
    if len(ranked.values) == 1:
        return Figure("distribution", title, caption, {"reason": _ONE_RANKED})
    every = sorted(ranked.values, reverse=not ranked.is_minimized)
    n = len(every)
    kept = pick_evenly(n, 600)
    view = fit_view(every, ranked.is_minimized)
    data = {
        "objective": ranked.label,
        "goal": board.summary.goal,
        "view": view,
        "x": [every[index] for index in kept],
        "n": [index + 1 for index in kept],
        "n_all": n,
    }
    ordered = sorted(every)
    first, middle, third = (quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    table = (
        f"Over {n:,} configurations: best {spell(every[0])}, median {spell(middle)}, half of them "
        f"from {spell(first)} to {spell(third)}, worst {spell(every[-1])}."
    )
    return Figure("distribution", title, caption + tell_outside(view), data, table)


def build_pareto(board: Leaderboard, wall_hours: Mapping[str, float]) -> Figure:
    """Build objective against what it took, with the front that nothing beats in both.

    Args:
        board: The leaderboard.
        wall_hours: Hours of allocations by trial; used where neither money nor GPUs are known.
    """
    title = "Objective against cost"
    ranked = ranked_rows(board, sys.maxsize)
    column, unit = _cost_column(board)
    what = f"{column} in {unit}" if unit else column
    whose = "configuration" if board.summary.seeded else "trial"
    caption = f"One point a {whose}: its {ranked.label or 'objective'} and its {what}"
    caption += ", the mean over its repeats that are done" if board.summary.seeded else ""
    caption += (
        ", every attempt counted. The line joins those that no other one beats in both; points "
        "beyond it cost more and are worse."
    )
    if not ranked.values:
        return Figure("pareto", title, caption, {"reason": _NOTHING_RANKED})
    spent = _spent(board, ranked.rows, column, wall_hours)
    points = [
        (x, y, row)
        for x, y, row in zip(spent, ranked.values, ranked.rows, strict=True)
        if x is not None
    ]
    if not points:
        reason = "What the trials took is not known: their attempts do not say how long they ran."
        return Figure("pareto", title, caption, {"reason": reason})
    if len(points) == 1:
        few = f"Only one configuration has a known {column}."
        reason = _ONE_RANKED if len(spent) == 1 else few
        return Figure("pareto", title, caption, {"reason": reason})
    x, y, rows = (list(each) for each in zip(*points, strict=True))
    is_ranks_front = len(board.objectives) < 2 and column in dict(board.front)
    front = _front(board, x, y, rows, True, ranked.is_minimized, is_ranks_front)
    if len(points) < len(spent):
        caption += f" Not drawn: {len(spent) - len(points)} whose {column} is not known."
    view = fit_view(y, ranked.is_minimized)
    cheap, best = front[0], front[-1]
    ends = [f"{spell(y[at])} for {spell(x[at])} {unit}" for at in (cheap, best)]
    table = f"{len(front)} of {len(x):,} are on the front, from {ends[0]} to {ends[1]}."
    if len(front) == 1:
        table = f"One of {len(x):,} is on the front, {ends[0]}: the best is the cheapest, too."
    names = {"x_name": column, "unit": unit, "y_name": ranked.label}
    goals = {"goal": board.summary.goal, "x_goal": MINIMIZE}
    data, left_out = _draw_front(board, x, y, rows, front)
    data = {**names, **goals, "view": view, **data}
    return Figure("pareto", title, caption + tell_outside(view) + left_out, data, table)


def _front(
    board: Leaderboard,
    x: Sequence[float],
    y: Sequence[float],
    rows: Sequence[int],
    less_x: bool,
    less_y: bool,
    is_marked: bool,
) -> list[int]:
    """Return the points on the front along x: the leaderboard's marks where it has this one."""
    if is_marked and "pareto" in board.frame:
        marks = cells(board.frame["pareto"].iloc[list(rows)])
        found = [index for index, mark in enumerate(marks) if mark == "true"]
        if found:
            return _along(found, x, y, less_x, less_y)
    return find_front(x, y, less_x, less_y)


def _draw_front(
    board: Leaderboard,
    x: Sequence[float],
    y: Sequence[float],
    rows: Sequence[int],
    front: Sequence[int],
) -> tuple[dict[str, Any], str]:
    """Make the columns of points, of very many all of the front and a part of the others."""
    shown = sorted({*pick_evenly(len(x), MAX_POINTS), *front})
    place = {index: new for new, index in enumerate(shown)}
    data = {
        "x": [x[index] for index in shown],
        "y": [y[index] for index in shown],
        "trial": cells(board.frame["trial"].iloc[[rows[index] for index in shown]]),
        "front": [place[index] for index in front],
    }
    left_out = ""
    if len(shown) < len(x):
        left_out = (
            f" Drawn are {len(shown):,} of {len(x):,}: the front, the best {MAX_POINTS // 3:,} "
            "and of the others one in so many."
        )
    return data, left_out


def build_objectives(board: Leaderboard) -> Figure | None:
    """Build the first two objectives against each other; None where only one counts."""
    if len(board.objectives) < 2:
        return None
    (y_name, y_goal), (x_name, x_goal) = board.objectives[:2]
    title = "Objectives against each other"
    caption = (
        f"{y_name} ({y_goal}) against {x_name} ({x_goal}), one point a configuration. Marked are "
        "those on the Pareto front"
    )
    caption += " of all objectives." if len(board.objectives) > 2 else ", which no other one beats."
    rows = list(board.leads)
    lead = board.frame.iloc[rows]
    xs, ys = (numbers(lead[_mean_column(board, name)]) for name in (x_name, y_name))
    points = [
        (x, y, row)
        for x, y, row in zip(xs, ys, rows, strict=True)
        if x is not None and y is not None
    ]
    if not points:
        reason = "No configuration has both objectives yet."
        return Figure("objectives", title, caption, {"reason": reason})
    x, y, rows = (list(each) for each in zip(*points, strict=True))
    front = _front(board, x, y, rows, x_goal != MAXIMIZE, y_goal != MAXIMIZE, True)
    view = fit_view(y, y_goal != MAXIMIZE)
    names = {"x_name": x_name, "unit": "", "y_name": y_name, "goal": y_goal, "x_goal": x_goal}
    drawn, left_out = _draw_front(board, x, y, rows, front)
    data = {**names, "view": view, **drawn}
    table = f"{len(front)} of {len(points):,} configurations are on the front."
    return Figure("objectives", title, caption + tell_outside(view) + left_out, data, table)


def find_front(x: Sequence[float], y: Sequence[float], less_x: bool, less_y: bool) -> list[int]:
    """Find what nothing beats in both, as indices along x, the best x first.

    Args:
        x: One respect.
        y: The other.
        less_x: Whether less is better in x.
        less_y: Whether less is better in y.
    """
    marks = pareto_front(list(zip(x, y, strict=True)), [not less_x, not less_y])
    front = [index for index, mark in enumerate(marks) if mark]
    return _along(front, x, y, less_x, less_y)


def _along(
    front: Sequence[int], x: Sequence[float], y: Sequence[float], less_x: bool, less_y: bool
) -> list[int]:
    """Order a front by x, the best first; what is equal there but for rounding, the best y last."""

    def place(index: int) -> tuple[float, float]:
        return x[index] if less_x else -x[index], -y[index] if less_y else y[index]

    return sorted(front, key=place)


def _mean_column(board: Leaderboard, name: str) -> str:
    mean = f"{name}_mean"
    return mean if board.summary.seeded and mean in board.frame else name


def _cost_column(board: Leaderboard) -> tuple[str, str]:
    """Return what is paid: money of one currency, GPU-hours, or else hours; and its unit."""
    if len(board.costs) == 1 and board.frame["cost"].notna().any():
        known = board.frame["currency"].dropna().unique().tolist()
        if len(known) == 1:
            return "cost", one_line(str(known[0]), 12)
    if (board.frame["gpu_hours"] > 0).any():
        return "gpu_hours", "GPU-hours"
    return "wall_hours", "hours"


def _spent(
    board: Leaderboard, rows: Sequence[int], column: str, wall_hours: Mapping[str, float]
) -> list[float | None]:
    """Return what each configuration took: the mean over its ranked repeats; null if unknown."""
    if column == "wall_hours":
        names = board.frame["trial"].tolist()
        spent = [wall_hours.get(name) for name in names]
    else:
        spent = numbers(board.frame[column])
    if not board.summary.seeded:
        return [spent[row] for row in rows]
    ends = dict(zip(board.leads, [*board.leads[1:], board.n_ranked], strict=True))
    means: list[float | None] = []
    for row in rows:
        repeats = spent[row : ends[row]]
        there = [value for value in repeats if value is not None]
        means.append(sum(there) / len(there) if len(there) == len(repeats) and there else None)
    return means


def _label(board: Leaderboard, row: int) -> list[Any]:
    """Name a configuration by its parameters."""
    names = board.searched
    found = zip(names, (cells(board.frame[name].iloc[[row]])[0] for name in names), strict=True)
    return [one_line(f"{name} {value}", MAX_CHARS) for name, value in found if value is not None]
