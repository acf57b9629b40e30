import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.pareto import pareto_front

NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats())


def slow_front(points, maximize):
    """Compare every point with every other, as the definition says."""
    signed = [[-v if up else v for v, up in zip(point, maximize, strict=True)] for point in points]
    usable = [all(map(math.isfinite, point)) for point in points]

    def beats(a, b):
        pairs = list(zip(a, b, strict=True))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [
        ok
        and not any(fine and beats(other, own) for fine, other in zip(usable, signed, strict=True))
        for ok, own in zip(usable, signed, strict=True)
    ]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@given(data=st.data())
def test_pareto_front_any_points_is_what_the_definition_says(width, data):
    points = data.draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), max_size=30))
    maximize = data.draw(st.lists(st.booleans(), min_size=width, max_size=width))
    assert pareto_front(points, maximize) == slow_front(points, maximize)


def test_pareto_front_more_points_than_a_block_is_what_the_definition_says():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 12, (700, 3)).tolist()
    assert pareto_front(points, [False, True, False]) == slow_front(points, [False, True, False])


def test_pareto_front_equal_points_are_on_it_together():
    assert pareto_front([[1, 2], [1, 2], [1, 3], [0, 5]], [False, False]) == [
        True, True, False, True,
    ]  # fmt: skip


def test_pareto_front_not_a_number_is_never_on_it_and_beats_nobody():
    points = [[math.nan, 0], [-math.inf, 0], [1, 1], [2, math.nan]]
    assert pareto_front(points, [False, False]) == [False, False, True, False]


def test_pareto_front_of_nothing_is_empty():
    assert pareto_front([], [False, True]) == []
    assert pareto_front([[math.nan, 1]], [False, True]) == [False]
