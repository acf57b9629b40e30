"""Parameters against the objective: parallel coordinates, importance, slices, contours. Pure.

All of them show configurations, so repeats count once, by their mean. Which parameters come first
is said by whoever calls, who knows their importance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.columns import (
    MAX_CHARS,
    Ranked,
    cells,
    encode_column,
    fit_view,
    ranked_rows,
    spell,
    tell_outside,
)
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line

MAX_AXES = 10
MAX_SLICES = 6
MAX_BARS = 25
# Cells of a contour along one axis, for parameters of more values than that.
N_BINS = 10
# More lines, or points in each of six plots, are slow to draw and hide each other.
MAX_LINES = 900
MAX_SLICE_POINTS = 600
_LEAST = 3
_NOTHING_RANKED = "Nothing is ranked yet."


@dataclass(frozen=True)
class _Bins:
    """The cells along one side of a heat map."""

    names: Sequence[str]
    """Of each cell."""
    places: Sequence[int]
    """Cell of each configuration; -1: it does not have the parameter."""
    edges: Sequence[float] | None = None
    """Where spans of numbers begin and end, rounded; null of levels."""


@dataclass(frozen=True)
class Influence:
    """What is known of one parameter's influence; the pure side of an importance."""

    name: str
    """Its column."""
    share: float | None
    """Of the importance of all parameters, 0 to 1; None: unknown."""
    correlation: float | None = None
    """Rank correlation with the objective, -1 to 1; None of what is no number."""
    direction: str = ""
    """Which values are better, in words."""
    reason: str = ""
    """Why there is no share."""
    is_above_chance: bool | None = None
    """Whether noise alone would give less; None: not looked at."""


def build_parallel(board: Leaderboard, influences: Sequence[Influence]) -> Figure:
    """Build parallel coordinates: one line a configuration, through its parameters' values."""
    title = "Parallel coordinates"
    caption = (
        "One line a configuration, coloured by rank, the more important parameters nearer to the "
        "objective. Drag along an axis to keep only lines through that range, click it to clear; "
        "by keyboard, the arrows move the ends of the range and Escape clears it."
    )
    ranked = ranked_rows(board, MAX_LINES)
    reason = _too_little(ranked, influences)
    if reason:
        return Figure("parallel", title, caption, {"reason": reason})
    names = [influence.name for influence in influences[:MAX_AXES]]
    if len(influences) > len(names):
        caption += f" Of {len(influences)} parameters the {len(names)} most important are drawn."
    data = {
        **_shared(board, ranked),
        "axes": [_axis(board, ranked, name) for name in reversed(names)],
    }
    best = ", ".join(
        f"{axis['name']} {_tell_value(axis, 0)}" for axis in data["axes"][::-1][:MAX_SLICES]
    )
    table = f"The best configuration has {best}."
    return Figure("parallel", title, caption + ranked.left_out, data, table)


def build_importance(influences: Sequence[Influence], how: str) -> Figure:
    """Build bars of importance with the direction in words.

    Args:
        influences: The most important first.
        how: How they were found, a sentence or two.
    """
    title = "Which parameters matter"
    known = [influence for influence in influences if influence.share is not None]
    if not known:
        reason = next((each.reason for each in influences if each.reason), "")
        words = f"Not known: {reason}." if reason else "No parameter varies."
        return Figure("importance", title, how, {"reason": words})
    if len(influences) > MAX_BARS:
        how += f" Of {len(influences)} parameters the first {MAX_BARS} are drawn."
        influences = influences[:MAX_BARS]
    data = {
        "name": [one_line(each.name, MAX_CHARS) for each in influences],
        "share": [each.share for each in influences],
        "correlation": [each.correlation for each in influences],
        "direction": [each.direction or each.reason for each in influences],
        "is_sure": [each.is_above_chance for each in influences],
    }
    table = "; ".join(
        f"{one_line(each.name, MAX_CHARS)} {100 * (each.share or 0):.0f} %"
        + (f", {each.direction}" if each.direction else "")
        for each in known[:5]
    )
    return Figure("importance", title, how, data, f"Shares: {table}.")


def build_slices(board: Leaderboard, influences: Sequence[Influence]) -> Figure:
    """Build the objective against each of the most important parameters."""
    title = "Slices"
    caption = (
        "The objective against each of the most important parameters, one point a configuration; "
        "the line joins the medians of values that several share, which are drawn spread a little "
        "sideways. The star is the best."
    )
    ranked, every = ranked_rows(board, MAX_SLICE_POINTS), ranked_rows(board)
    reason = _too_little(ranked, influences)
    if reason:
        return Figure("slices", title, caption, {"reason": reason})
    names = [influence.name for influence in influences[:MAX_SLICES]]
    data = {
        **_shared(board, ranked),
        "axes": [_axis(board, ranked, name) for name in names],
    }
    for name, axis in zip(names, data["axes"], strict=True):
        axis["medians"] = _medians(_axis(board, every, name), axis, every.values)
    caption += tell_outside(data["view"]) + ranked.left_out
    table = "The best is at " + ", ".join(
        f"{axis['name']} {_tell_value(axis, 0)}" for axis in data["axes"]
    )
    return Figure("slices", title, caption, data, table + ".")


def build_contours(board: Leaderboard, influences: Sequence[Influence]) -> Figure | None:
    """Build heat maps of the two most important pairs; None where there is no pair."""
    if len(influences) < 2:
        return None
    title = "Pairs that matter"
    caption = (
        "The most important parameter with each of the next two: the median objective of the "
        "configurations in each cell, over all values of the other parameters. Cells without a "
        "configuration are empty; hover for counts. The star marks the best configuration."
    )
    ranked = ranked_rows(board)
    reason = _too_little(ranked, influences)
    if reason:
        return Figure("contours", title, caption, {"reason": reason})
    axes = {each.name: _axis(board, ranked, each.name) for each in influences[:3]}
    bins = {name: _bin(axis) for name, axis in axes.items()}
    first, *others = axes
    maps = [
        _heat((axes[first]["name"], axes[other]["name"]), bins[first], bins[other], ranked.values)
        for other in others
    ]
    data = {"objective": ranked.label, "goal": board.summary.goal, "maps": maps}
    return Figure("contours", title, caption, data, _tell_best_cell(maps, ranked.is_minimized))


def _too_little(ranked: Ranked, influences: Sequence[Influence]) -> str:
    if not ranked.rows:
        return _NOTHING_RANKED
    if not influences:
        return "No parameter varies."
    if len(ranked.rows) < _LEAST:
        n = len(ranked.rows)
        return f"Only {n} configuration{'s' * (n > 1)} ranked yet; {_LEAST} show something."
    return ""


def _shared(board: Leaderboard, ranked: Ranked) -> dict[str, Any]:
    return {
        "objective": ranked.label,
        "goal": board.summary.goal,
        "view": fit_view(ranked.values, ranked.is_minimized),
        "y": list(ranked.values),
        "trial": cells(board.frame["trial"].iloc[list(ranked.rows)]),
    }


def _axis(board: Leaderboard, ranked: Ranked, name: str) -> dict[str, Any]:
    return encode_column(name, cells(board.frame[name].iloc[list(ranked.rows)]))


def _values(axis: Mapping[str, Any]) -> list[Any]:
    """Decode an axis."""
    if "values" in axis:
        return list(axis["values"])
    return [None if code < 0 else axis["levels"][code] for code in axis["codes"]]


def _tell_value(axis: Mapping[str, Any], index: int) -> str:
    value = _values(axis)[index]
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:.6g}"


def _medians(
    every: Mapping[str, Any], drawn: Mapping[str, Any], objective: Sequence[float]
) -> list[list[Any]]:
    """Return [value or drawn code, median] of the drawn levels that several configurations share.

    Args:
        every: The axis over all configurations, also those that are not drawn.
        drawn: The axis as it is drawn.
        objective: Of all configurations.
    """
    if "codes" not in every or "codes" not in drawn:
        return []
    groups: dict[Any, list[float]] = {}
    for place, value in zip(_values(every), objective, strict=True):
        if place is not None:
            groups.setdefault(place, []).append(value)
    return [
        [code if drawn["is_text"] else level, statistics.median(groups[level])]
        for code, level in enumerate(drawn["levels"])
        if len(groups.get(level, ())) > 1
    ]


def _bin(axis: Mapping[str, Any]) -> _Bins:
    """Part an axis into cells: one a level where they are few, else equal spans."""
    if axis["is_text"]:
        return _Bins([str(level) for level in axis["levels"]], list(axis["codes"]))
    values = _values(axis)  # which a short column has as they are, though it has few levels
    there = [value for value in values if value is not None]
    levels = sorted(set(there))
    if len(levels) <= N_BINS + 2:
        codes = {level: code for code, level in enumerate(levels)}
        places = [-1 if value is None else codes[value] for value in values]
        return _Bins([str(level) for level in levels], places)
    low, high = min(there), max(there)
    scale = math.log10 if axis["log"] else float
    start, width = scale(low), (scale(high) - scale(low)) / N_BINS
    marks = [start + i * width for i in range(N_BINS + 1)]
    edges = [float(f"{10**mark if axis['log'] else mark:.3g}") for mark in marks]
    places = [
        -1 if value is None else min(N_BINS - 1, int((scale(value) - start) / width))
        for value in values
    ]
    return _Bins([f"{left:g} to {right:g}" for left, right in pairwise(edges)], places, edges)


def _heat(names: tuple[str, str], x: _Bins, y: _Bins, objective: Sequence[float]) -> dict[str, Any]:
    """Fill the cells of a pair."""
    groups: dict[tuple[int, int], list[float]] = {}
    for column, row, value in zip(x.places, y.places, objective, strict=True):
        if column >= 0 and row >= 0:
            groups.setdefault((row, column), []).append(value)
    rows, columns = range(len(y.names)), range(len(x.names))
    return {
        "x": names[0],
        "y": names[1],
        "x_names": list(x.names),
        "y_names": list(y.names),
        "x_edges": x.edges,
        "y_edges": y.edges,
        "median": [
            [statistics.median(groups[r, c]) if (r, c) in groups else None for c in columns]
            for r in rows
        ],
        "n": [[len(groups.get((r, c), ())) for c in columns] for r in rows],
        "best": [x.places[0], y.places[0]],
    }


def _tell_best_cell(maps: Sequence[Mapping[str, Any]], is_minimized: bool) -> str:
    words = []
    for heat in maps:
        found = [
            (value, heat["x_names"][column], heat["y_names"][row])
            for row, line in enumerate(heat["median"])
            for column, value in enumerate(line)
            if value is not None
        ]
        value, x_name, y_name = (min if is_minimized else max)(found)
        words.append(f"{heat['x']} {x_name} with {heat['y']} {y_name} (median {spell(value)})")
    return "The best cells: " + "; ".join(words) + "."
