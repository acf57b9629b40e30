import numpy as np
import pytest

from orchestrator.domain.parameter_scale import is_logarithmic


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e-5, 1e-4, 1e-3], True),
        ([1, 10, 100], True),
        ([1e-5, 3e-5, 5e-5], False),
        ([16, 32, 64], False),
        ([0.0, 1e-4, 1e-2], False),
        ([-1.0, 10.0, 100.0], False),
        ([1e-5, 1.0], False),
        ([1e-5] * 50, False),
        ([], False),
        ([1.0, 2.0, float("inf")], False),
        ([float("nan"), 1.0, 100.0], False),
    ],
)
def test_is_logarithmic_of_a_list(values, expected):
    assert is_logarithmic(values) is expected


@pytest.mark.parametrize("seed", range(5))
def test_is_logarithmic_tells_log_uniform_draws_from_uniform_ones(seed):
    generator = np.random.default_rng(seed)
    assert is_logarithmic(10 ** generator.uniform(-5, -1, 50))
    assert not is_logarithmic(generator.uniform(0, 1, 50))
