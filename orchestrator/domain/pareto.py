"""The Pareto front: what nothing else beats in one respect without losing in another.

Pure: numbers in, booleans out. Called by ``ranking``; runs on the login node. A point is on the
front unless another is at least as good everywhere and better somewhere. Points that are equal
everywhere are on it together. A point with a NaN or an infinity is never on it, and beats nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_BLOCK = 256


def pareto_front(points: Any, maximize: Sequence[bool]) -> list[bool]:
    """Tell which points are on the front.

    Two criteria take one sorting; more are compared with the front found so far, block by block.

    Args:
        points: One row a point, one column a criterion; an array, or lists.
        maximize: For each criterion whether more of it is better.
    """
    if not len(points):
        return []
    values = np.array(points, np.float64).reshape(len(points), len(maximize))
    values = np.where(np.array(maximize, bool), -values, values)
    usable = np.flatnonzero(np.isfinite(values).all(axis=1))
    found = np.zeros(len(values), bool)
    # Whoever beats a point is before it in lexicographic order, equal points are next to it.
    order = usable[np.lexsort(values[usable].T[::-1])]
    in_order = values[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    unique = in_order[is_new]
    front = _front_of_two(unique) if unique.shape[1] <= 2 else _front_of_many(unique)
    found[order] = front[np.cumsum(is_new) - 1]
    marks: list[bool] = found.tolist()
    return marks


def _front_of_two(sorted_values: Any) -> Any:
    """Tell which of different points in lexicographic order are efficient; at most two columns."""
    last = sorted_values[:, -1]
    best = np.minimum.accumulate(last)
    return np.concatenate([[True], last[1:] < best[:-1]])[: len(last)]


def _front_of_many(sorted_values: Any) -> Any:
    """Tell which of different points in lexicographic order are efficient."""
    efficient = np.zeros(len(sorted_values), bool)
    front = sorted_values[:0]
    for start in range(0, len(sorted_values), _BLOCK):
        block = sorted_values[start : start + _BLOCK]
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
    return efficient
