import math
import random

import numpy as np
import pytest
from scipy import stats

from orchestrator.domain.repeats import mean_error, mean_interval, student_t95


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_mean_interval_samples_agrees_with_scipy(n):
    rng = random.Random(n)
    values = [rng.gauss(5, 2) for _ in range(n)]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    assert (mean, half) == pytest.approx(((low + high) / 2, (high - low) / 2), rel=1e-6)
    rng.shuffle(values)
    assert mean_interval(values) == (mean, half)


def test_mean_interval_one_value_has_no_width():
    mean, half = mean_interval([3.0])
    assert mean == 3.0
    assert math.isnan(half)


def test_mean_interval_equal_values_have_width_zero():
    assert mean_interval([0.1, 0.1, 0.1]) == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-15))


@pytest.mark.parametrize("df", [*range(1, 41), 60, 120, 1000, 10**6])
def test_student_t95_degrees_of_freedom_agree_with_scipy(df):
    assert student_t95(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_mean_of_equal_decimal_sums_is_one_number(n):
    """12.703 + 12.704 + 12.704 and 12.702 + 12.703 + 12.706 are one sum, and share a rank."""
    rng = np.random.default_rng(n)
    for _ in range(200):
        steps = rng.integers(-400, 400, n - 1)
        moved = [*(12_703 + steps).tolist(), 12_703 * n - int((12_703 + steps).sum())]
        assert mean_error([each / 1000 for each in moved])[0] == 12.703
    assert mean_error([12.703, 12.704, 12.704])[0] == mean_error([12.702, 12.703, 12.706])[0]
