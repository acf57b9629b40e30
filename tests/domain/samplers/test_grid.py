"""Grid points: order, conditions and the limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.samplers import grid
from orchestrator.domain.samplers.dimensions import Dimension, Point, order_dimensions
from orchestrator.domain.samplers.grid import GridTooLarge, grid_points
from orchestrator.domain.search_space import Choice
from orchestrator.domain.spec import Parameter
from orchestrator.domain.spec_loader import load_spec


def dimension(name: str, n: int) -> Dimension:
    return Dimension((Parameter(name, (name,), Choice(tuple(range(n)))),))


def points(text: str) -> Iterator[Point]:
    head = "program: t\nmetric: {name: x, goal: minimize}\n"
    spec = load_spec(head + text, file="s.yaml")
    return grid_points(order_dimensions(spec.parameters, spec.zips))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_grid_points_are_the_product_in_order(sizes: list[int]) -> None:
    names = [f"p{k}" for k in range(len(sizes))]
    found = list(grid_points([dimension(*item) for item in zip(names, sizes, strict=True)]))
    product = itertools.product(*(range(size) for size in sizes))
    expected: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in product]
    assert found == expected


def test_grid_points_inactive_parameter_does_not_multiply() -> None:
    text = "parameters: {a: [1, 2], b: {values: [1, 2, 3], when: a == 1}, c: [4, 5]}"
    found = [tuple(point.values()) for point in points(text)]
    assert found == [(1, b, c) for b in (1, 2, 3) for c in (4, 5)] + [(2, 4), (2, 5)]


def test_grid_points_too_large_is_refused_before_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MAX_POINTS", 10)
    with pytest.raises(GridTooLarge, match="a 3 x b 4 = 12"):
        next(grid_points([dimension("a", 3), dimension("b", 4), dimension("c", 1)]))
    assert len(list(grid_points([dimension("a", 2), dimension("b", 5)]))) == 10


def test_grid_points_conditional_one_is_refused_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grid, "MAX_POINTS", 5)
    text = "parameters: {a: [1, 2], b: {values: [1, 2, 3], when: a == 1}, c: [4, 5]}"
    found = points(text)
    assert len(list(itertools.islice(found, 5))) == 5
    with pytest.raises(GridTooLarge, match="a 2 x b 3 x c 2 = up to 12"):
        next(found)
