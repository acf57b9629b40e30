import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.domain import ties
from orchestrator.domain.repeats import mean_error
from orchestrator.domain.ties import Estimate, are_tied, find_ties, two_sided_p


def estimate(values):
    mean, error = mean_error(values)
    return Estimate(mean, error, len(values))


def scipy_interval_holds_zero(a, b):
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return bool(interval.low <= 0 <= interval.high)


def test_are_tied_samples_agrees_with_scipys_welch_interval():
    rng = random.Random(1)
    n_tied = 0
    for _ in range(400):
        a = [rng.gauss(0, 1) for _ in range(rng.randint(2, 6))]
        b = [rng.gauss(rng.choice([0.5, 2, 4]), rng.choice([0.2, 1, 3])) for _ in range(4)]
        n_tied += (expected := scipy_interval_holds_zero(a, b))
        assert are_tied(estimate(a), estimate(b)) == expected == are_tied(estimate(b), estimate(a))
    assert 100 < n_tied < 300


def test_are_tied_many_repeats_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for gap in (0.1, 0.2, 0.3, 0.4):
        a, b = rng.normal(0, 1, 90), rng.normal(gap, 1.5, 120)
        assert are_tied(estimate(a.tolist()), estimate(b.tolist())) == scipy_interval_holds_zero(
            a, b
        )


@given(st.floats(0.01, 60), st.floats(1, 80))
def test_two_sided_p_agrees_with_scipy(t, df):
    assert two_sided_p(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-8, abs=1e-14)


@pytest.mark.parametrize(
    ("a", "b", "tied"),
    [
        ([1.0, 1.0], [1.0, 1.0], True),
        ([1.0, 1.0], [1.0000001, 1.0000001], False),
        ([1.0, 1.0, 1.0], [2.0, 3.0, 4.0], True),
        ([1.0, 1.0, 1.0], [20.0, 21.0, 22.0], False),
        ([1.0], [5.0], True),
        ([1.0], [5.0, 5.0], True),
        ([1e300, 1e300], [-1e300, -1e300], False),
        ([0.1, 0.1, 0.1], [0.1, 0.1], True),
    ],
)
def test_are_tied_without_variance_or_interval(a, b, tied):
    assert are_tied(estimate(a), estimate(b)) is tied


def test_bracket_t95_holds_scipys_quantile():
    freedom = np.concatenate([np.geomspace(1, 100, 5000), np.arange(1, 40)])
    low, high = ties._bracket_t95(freedom)
    exact = stats.t.ppf(0.975, freedom)
    assert (low <= exact).all()
    assert (exact <= high).all()
    assert np.quantile((high - low)[freedom > 2], 0.9) < 0.1


def test_find_ties_names_the_best_that_each_is_tied_with():
    estimates = [
        Estimate(1.0, 0.1, 3),
        Estimate(1.2, 0.1, 3),  # tied with the first
        Estimate(5.0, 0.1, 3),
        Estimate(5.1, 3.0, 3),  # too noisy to be told from the first
        Estimate(5.2, 0.1, 3),  # tied with the third
        Estimate(9.0, math.nan, 1),  # a single repeat
        Estimate(9.1, 0.01, 3),  # ... which ties nobody to itself, as the noisy fourth does
        Estimate(90.0, 0.01, 3),
    ]
    assert find_ties(estimates) == [0, 0, 2, 0, 2, 0, 3, 7]


def test_find_ties_first_without_interval_is_tied_with_all():
    assert (
        find_ties([Estimate(1, math.nan, 1), Estimate(9, 0.1, 2), Estimate(99, 0.1, 2)]) == [0] * 3
    )
    assert find_ties([]) == []


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 2), st.integers(2, 40)), max_size=12))
def test_find_ties_is_what_pairs_say_one_by_one(rows):
    estimates = [Estimate(*row) for row in sorted(rows)]
    expected = [
        next(j for j in range(i + 1) if j == i or are_tied(estimates[j], estimates[i]))
        for i in range(len(estimates))
    ]
    assert find_ties(estimates) == expected
