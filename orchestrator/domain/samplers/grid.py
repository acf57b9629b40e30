"""Every combination, once: the last dimension varies fastest. Pure; needs no numpy.

A parameter that is inactive in a point is left out there and does not multiply the grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from orchestrator.domain.samplers.dimensions import Dimension, Point

# Before filters. More is no grid that anyone runs, and it bounds time.
MAX_POINTS = 1_000_000


class GridTooLarge(Exception):
    """The grid has more than ``MAX_POINTS`` points; the text names the sizes."""


def grid_points(dimensions: Sequence[Dimension]) -> Iterator[Point]:
    """Yield the points of the grid in order.

    Raises:
        GridTooLarge: At once where nothing is conditional, else when the limit is reached.
        SpecError: A condition fails.
    """
    if not any(dimension.is_conditional for dimension in dimensions):
        if math.prod(len(dimension.rows) for dimension in dimensions) > MAX_POINTS:
            raise GridTooLarge(_sizes(dimensions))
        names = [item.name for dimension in dimensions for item in dimension.parameters]
        for rows in itertools.product(*(dimension.rows for dimension in dimensions)):
            yield dict(zip(names, itertools.chain.from_iterable(rows), strict=True))
        return
    for count, point in enumerate(_walk(dimensions, 0, {})):
        if count == MAX_POINTS:
            raise GridTooLarge(_sizes(dimensions))
        yield point


def _walk(dimensions: Sequence[Dimension], index: int, point: Point) -> Iterator[Point]:
    if index == len(dimensions):
        yield point
        return
    dimension = dimensions[index]
    for row in dimension.rows:
        inner = dict(point)
        is_active = dimension.set_active(inner, row)
        yield from _walk(dimensions, index + 1, inner)
        if not is_active:
            return  # all its rows are the same point


def _sizes(dimensions: Sequence[Dimension]) -> str:
    sizes = [(dimension.name, len(dimension.rows)) for dimension in dimensions]
    sizes = [(name, size) for name, size in sizes if size > 1]
    product = math.prod(size for _, size in sizes)
    words = " x ".join(f"{name} {size}" for name, size in sizes)
    limit = "up to " if any(dimension.is_conditional for dimension in dimensions) else ""
    return f"{words} = {limit}{product}"
