"""Grouping into arrays, and sharing the ceiling of concurrent trials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.arrays import group_into_arrays, share_ceiling


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


@pytest.mark.parametrize(
    ("sizes", "ceiling", "shares"),
    [
        ([162], 10, [10]),
        ([100, 100], 10, [5, 5]),
        ([1001, 1001, 498], 10, [5, 4, 1]),
        ([900, 1, 1], 10, [8, 1, 1]),
        ([5, 5, 5], 2, [1, 1, 1]),
        ([3], 10, [10]),
    ],
)
def test_share_ceiling_splits_in_proportion(
    sizes: list[int], ceiling: int, shares: list[int]
) -> None:
    assert share_ceiling(sizes, ceiling) == shares


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=30), st.integers(1, 500))
def test_share_ceiling_never_exceeds_it_and_starves_no_array(
    sizes: list[int], ceiling: int
) -> None:
    shares = share_ceiling(sizes, ceiling)
    assert min(shares) >= 1
    assert sum(shares) <= max(ceiling, len(sizes))
