"""Domains: quantiles against scipy's, grids without drift, counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.domain.search_space import (
    Beta,
    Choice,
    Constant,
    Domain,
    IntUniform,
    LogNormal,
    LogUniform,
    Normal,
    Quantized,
    Uniform,
    multiple,
    spaced_values,
    stepped_values,
)

UNITS = [0.0, 1e-12, 0.001, 0.25, 0.5, 0.75, 0.999, 1.0 - 2.0**-53]
DOMAINS: list[tuple[Domain, Any]] = [
    (Uniform(-2.0, 3.0), stats.uniform(-2.0, 5.0)),
    (
        LogUniform(math.log(1e-5), math.log(1e-2), 1e-5, 1e-2),
        stats.loguniform(1e-5, 1e-2),
    ),
    (Normal(1.0, 2.0), stats.norm(1.0, 2.0)),
    (LogNormal(1.0, 0.5), stats.lognorm(0.5, scale=math.e)),
    (Beta(2.0, 5.0), stats.beta(2.0, 5.0)),
]


@pytest.mark.parametrize(("domain", "reference"), DOMAINS, ids=lambda item: type(item).__name__)
def test_from_unit_continuous_domain_is_the_quantile_of_scipy(
    domain: Domain, reference: Any
) -> None:
    for u in UNITS[1:-1]:
        assert domain.from_unit(u) == pytest.approx(reference.ppf(u), rel=1e-9)


@pytest.mark.parametrize(
    "domain",
    [
        *(domain for domain, _ in DOMAINS),
        Quantized(Normal(), 0.5),
        Quantized(LogNormal(), 1),
        IntUniform(3, 9),
        Choice(("a", "b", "c"), (0.2, 0.3, 0.5)),
        Choice(("a", "b", "c")),
        Constant([1]),
    ],
    ids=repr,
)
def test_from_unit_any_unit_gives_a_finite_plain_value(domain: Domain) -> None:
    values = [domain.from_unit(u) for u in UNITS]
    assert {type(value) for value in values} <= {int, float, str, list}
    assert all(math.isfinite(value) for value in values if isinstance(value, float))


@pytest.mark.parametrize("low", [3, -5])
def test_from_unit_integers_are_equally_likely(low: int) -> None:
    domain = IntUniform(low, low + 4)
    values = [domain.from_unit((k + 0.5) / 1000) for k in range(1000)]
    assert [values.count(low + k) for k in range(5)] == [200] * 5
    reference = stats.randint(low, low + 5)
    assert values == [int(reference.ppf((k + 0.5) / 1000)) for k in range(1000)]


def test_from_unit_choice_follows_its_probabilities() -> None:
    domain = Choice(("a", "b", "c", "d"), (0.0, 0.25, 0.75, 0.0))
    values = [domain.from_unit(k / 1000) for k in range(1000)]
    assert {value: values.count(value) for value in "abcd"} == {"a": 0, "b": 250, "c": 750, "d": 0}
    assert domain.from_unit(1.0 - 2.0**-53) == "c"
    assert domain.size() == 2


def test_from_unit_log_uniform_never_leaves_its_range() -> None:
    domain = LogUniform(math.log(1e-3), math.log(0.7), 1e-3, 0.7)
    assert all(1e-3 <= domain.from_unit(u) <= 0.7 for u in UNITS)


@pytest.mark.parametrize(
    ("u", "q", "value"),
    [
        (0.0, 0.1, 0.0),
        (0.31, 0.1, 0.3),
        (0.7, 0.1, 0.7),
        (0.35, 1, 4),
        (0.25, 1, 2),
        (0.26, 2.0, 2.0),
    ],
)
def test_from_unit_quantized_rounds_to_the_written_multiple(
    u: float, q: float, value: float
) -> None:
    high = 10.0 if q >= 1 else 1.0
    found = Quantized(Uniform(0.0, high), q).from_unit(u)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("low", "high", "step", "values"),
    [
        (0.1, 0.3, 0.1, [0.1, 0.2, 0.3]),
        (0.7, 0.9, 0.1, [0.7, 0.8, 0.9]),
        (1, 10, 3, [1, 4, 7, 10]),
        (1, 9.5, 3, [1, 4, 7]),
        (1, 2, 0.5, [1.0, 1.5, 2.0]),
        (1e-5, 3e-5, 1e-5, [1e-5, 2e-5, 3e-5]),
        (5, 5, 1, [5]),
    ],
)
def test_stepped_values_range_is_inclusive_and_without_drift(
    low: float, high: float, step: float, values: list[float]
) -> None:
    found = stepped_values(low, high, step)
    assert [(value, type(value)) for value in found] == [(v, type(v)) for v in values]


def test_stepped_values_open_range_leaves_out_its_end() -> None:
    assert stepped_values(0, 6, 2, closed=False) == [0, 2, 4]
    assert stepped_values(0, 5, 2, closed=False) == [0, 2, 4]


@given(st.integers(-1000, 1000), st.integers(1, 50), st.integers(0, 60), st.integers(0, 6))
def test_stepped_values_decimals_are_those_one_would_write(
    first: int, step: int, count: int, digits: int
) -> None:
    def number(k: int) -> float:
        return float(f"{k}e-{digits}")

    found = stepped_values(number(first), number(first + count * step), number(step))
    assert found == [number(first + k * step) for k in range(count + 1)]


@pytest.mark.parametrize(
    ("low", "high", "n", "log", "values"),
    [
        (0.1, 0.5, 5, False, [0.1, 0.2, 0.3, 0.4, 0.5]),
        (1, 10, 4, False, [1, 4, 7, 10]),
        (1, 10, 3, False, [1, 6, 10]),
        (1e-5, 1e-3, 3, True, [1e-5, 1e-4, 1e-3]),
        (1e-4, 1e-1, 4, True, [1e-4, 1e-3, 1e-2, 1e-1]),
        (1, 1000, 4, True, [1.0, 10.0, 100.0, 1000.0]),
        (1, 2, 2, False, [1, 2]),
    ],
)
def test_spaced_values_ends_are_exact(
    low: float, high: float, n: int, log: bool, values: list[float]
) -> None:
    found = spaced_values(low, high, n, log=log)
    assert [(value, type(value)) for value in found] == [(v, type(v)) for v in values]


@given(st.floats(1e-8, 1e8), st.floats(1e-8, 1e8), st.integers(2, 40), st.booleans())
def test_spaced_values_are_in_order(low: float, high: float, n: int, log: bool) -> None:
    assume(high > low * 1.001)
    values = spaced_values(low, high, n, log=log)
    assert (len(values), values[0], values[-1]) == (n, low, high)
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("domain", "grid", "size"),
    [
        (Constant(3), (3,), 1),
        (Choice((1, 2)), (1, 2), 2),
        (IntUniform(2, 4), (2, 3, 4), 3),
        (IntUniform(0, 10**9), None, 10**9 + 1),
        (Uniform(0.0, 1.0), None, None),
        (Quantized(Uniform(0.0, 1.0), 0.25), None, 5),
        (Quantized(Normal(), 1), None, None),
    ],
    ids=repr,
)
def test_grid_and_size_say_what_is_countable(
    domain: Domain, grid: tuple[Any, ...] | None, size: int | None
) -> None:
    assert (domain.grid(), domain.size()) == (grid, size)


def test_multiple_float_step_has_no_drift() -> None:
    assert [multiple(3, 0.1), multiple(3, 5)] == [0.3, 15]
