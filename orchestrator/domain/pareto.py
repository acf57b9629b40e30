"""The Pareto front: what nothing else beats in one respect without losing in another.

Pure: numbers in, booleans out. Called by ``ranking``; runs on the login node. A point is on the
front unless another is at least as good everywhere and better somewhere. Points that are equal
everywhere are on it together. A point with a NaN or an infinity is never on it, and beats nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_BLOCK = 256


def pareto_front(points: Sequence[Sequence[float]], maximize: Sequence[bool]) -> list[bool]:
    """Tell which points are on the front.

    Two criteria take one sorting; more are compared with the front found so far, block by block.

    Args:
        points: One row a point, one column a criterion.
        maximize: For each criterion whether more of it is better.
    """
    columns: Any = zip(*points, strict=True)  # faster than row by row
    signed = [
        [-value for value in column] if is_up else column
        for column, is_up in zip(columns, maximize, strict=bool(points))
    ]
    rows: list[tuple[float, ...]] = list(zip(*signed, strict=True))
    finite = math.isfinite
    # Whoever beats a point is before it in lexicographic order; equal points are one here.
    unique = sorted({row for row in rows if all(map(finite, row))})
    marks = _front_of_two(unique) if len(maximize) <= 2 else _front_of_many(unique)
    front = {row for row, mark in zip(unique, marks, strict=True) if mark}
    return [row in front for row in rows]


def _front_of_two(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Tell which of different points in lexicographic order are efficient; at most two columns."""
    marks, least = [], math.inf
    for point in points:
        marks.append(point[-1] < least)
        least = min(least, point[-1])
    return marks


def _front_of_many(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Tell which of different points in lexicographic order are efficient."""
    # Lazy: with one objective, or two, numpy is not needed, and its import takes longer than this.
    import numpy as np

    values = np.array(points, np.float64)
    efficient = np.zeros(len(values), bool)
    front: Any = values[:0]
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        places = np.arange(start, start + len(block))
        for rivals in (front, None):  # the front first: it leaves fewer to compare among themselves
            against = block if rivals is None else rivals
            is_below = np.ones((len(against), len(block)), bool)
            for column in range(block.shape[1]):
                is_below &= against[:, column, None] <= block[None, :, column]
            if rivals is None:
                np.fill_diagonal(is_below, False)
            kept = ~is_below.any(axis=0)
            block, places = block[kept], places[kept]
        efficient[places] = True
        front = np.concatenate([front, block])
    marks: list[bool] = efficient.tolist()
    return marks
