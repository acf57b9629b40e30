"""Numbers that add up as they are shown."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.domain.plan_sums import (
    in_units,
    show_amount,
    show_money_sum,
    show_priced,
    show_sum,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (648.0, "648"),
        (0.125, "0.125"),
        (0.1875, "0.1875"),
        (5 / 3, "1.67"),
        (1 / 30, "0.0333"),
        (4 / 7000, "0.000571"),
        (0, "0"),
        (100.0, "100"),
    ],
)
def test_show_amount(value: float, shown: str) -> None:
    assert show_amount(value) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.125, 0.25], (["0.125", "0.25"], "0.375")),
        ([216.0, 216.0], (["216", "216"], "432")),
        ([1 / 3, 2 / 3], (["0.333", "0.667"], "1")),
        ([1 / 3] * 3, (["0.333"] * 3, "about 1")),
        ([0.5], (["0.5"], "0.5")),
        ([1.3e-7, 5184.0], (["0.00000013", "5184"], "5184.00000013")),
    ],
)
def test_sum_comes_out(values: list[float], shown: tuple[list[str], str]) -> None:
    assert show_sum(values) == shown


def test_any_sum_comes_out_as_shown_or_says_that_it_is_rounded() -> None:
    chance = random.Random(7)
    for _ in range(300):
        values = [chance.randint(1, 900) / chance.choice((1, 3, 8, 60)) for _ in range(3)]
        for show in (show_sum, show_money_sum):
            terms, total = show(values)
            if not total.startswith("about "):
                assert math.isclose(math.fsum(map(float, terms)), float(total), rel_tol=1e-9)


def test_money_has_two_decimals_unless_the_sum_needs_more() -> None:
    assert show_money_sum([16.0, 10799.8272]) == (["16.00", "10799.83"], "10815.83")
    assert show_money_sum([1.004, 1.004]) == (["1.004", "1.004"], "2.008")
    assert show_money_sum([0.0052, 0.0075]) == (["0.0052", "0.0075"], "0.0127")


def test_hours_times_their_price_is_what_is_shown() -> None:
    assert show_priced([(5184.0, 2.0833)], "10799.83") == ["5184"]
    assert show_priced([(1 / 6, 6.0)], "1.00") == ["0.167"]
    assert show_priced([(1000 / 3, 6.0)], "2000.00") == ["333.333"]


def test_one_hour_is_one_hour() -> None:
    assert [in_units(shown, "GPU-hour") for shown in ("1", "1.5", "0")] == [
        "1 GPU-hour",
        "1.5 GPU-hours",
        "0 GPU-hours",
    ]
