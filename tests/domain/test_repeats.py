import math
import random

import numpy as np
import pytest
from scipy import stats

from orchestrator.domain.repeats import mean_interval, student_t95


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
