"""Grouping into arrays."""

from __future__ import annotations

import pytest

from orchestrator.domain.arrays import group_into_arrays


def test_group_one_shape_is_one_array() -> None:
    assert group_into_arrays([(i, "a") for i in range(162)], 1001) == [("a", list(range(162)))]


def test_group_respects_the_limit_of_the_largest_index() -> None:
    chunks = group_into_arrays([(i, "a") for i in range(2500)], 1001)
    assert [len(members) for _, members in chunks] == [1001, 1001, 498]


def test_group_shapes_apart_in_order_of_appearance() -> None:
    items = [(0, "b"), (1, "a"), (2, "b"), (3, "a")]
    assert group_into_arrays(items, 10) == [("b", [0, 2]), ("a", [1, 3])]


def test_group_nothing_is_no_array() -> None:
    assert group_into_arrays([], 10) == []


def test_group_limit_under_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 0 tasks"):
        group_into_arrays([(1, "a")], 0)
