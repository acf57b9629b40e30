"""Weight-decay schedules, by hand."""

import math

import pytest
from weight_decay import weight_decay_at


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.01] * 6),
        ("linear", [0.01, 0.0325, 0.055, 0.0775, 0.1, 0.1]),
        (
            "cosine",
            [0.01, *(0.055 - 0.045 * math.cos(math.pi * k / 4) for k in (1, 2, 3)), 0.1, 0.1],
        ),
    ],
)
def test_weight_decay_goes_from_start_to_final(schedule, expected):
    values = [weight_decay_at(schedule, 0.01, 0.1, step, 4) for step in range(6)]
    assert values == pytest.approx(expected, abs=1e-15)


def test_weight_decay_may_shrink_to_nothing():
    assert weight_decay_at("cosine", 0.1, 0.0, 8, 8) == 0.0
    assert weight_decay_at("linear", 0.1, 0.0, 8, 8) == pytest.approx(0.0, abs=1e-17)


def test_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="no such schedule: step"):
        weight_decay_at("step", 0.1, 0.0, 0, 8)
