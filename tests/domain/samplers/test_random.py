"""Random and quasi-random draws: reproducible, independent, appendable. One suite for both."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from scipy import stats

from orchestrator.domain.samplers.quasi_random import sobol_units
from orchestrator.domain.samplers.random import random_units
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import Units, expand

METHODS = ["random", "quasi_random"]
DOMAINS = {
    "uniform": "{min: 0.0, max: 1.0}",
    "int_uniform": "{min: 0, max: 1000000}",
    "log": "{min: 1e-5, max: 1.0, log: true}",
    "log_uniform": "{min: -3, max: 2, distribution: log_uniform}",
    "inv_log": "{min: 1e-5, max: 1.0, distribution: inv_log_uniform_values}",
    "q_uniform": "{min: 0, max: 1000000, q: 2, distribution: q_uniform}",
    "q_log": "{min: 1, max: 1000000, distribution: q_log_uniform_values}",
    "normal": "{distribution: normal}",
    "q_normal": "{distribution: q_normal, q: 1e-4}",
    "log_normal": "{distribution: log_normal}",
    "beta": "{distribution: beta, a: 2, b: 3}",
    "choice": "{min: 1, max: 5000, step: 1}",
    "weighted": "{values: [a, b, c, d], probabilities: [0.1, 0.2, 0.3, 0.4]}",
}


def draws(
    parameters: str, method: str = "random", n: int = 20, seed: int = 0, more: str = ""
) -> list[dict[str, Any]]:
    text = (
        f"program: t\nmetric: {{name: x, goal: minimize}}\nmethod: {method}\nrun_cap: {n}\n"
        f"sampling_seed: {seed}\nparameters: {{{parameters}}}\n{more}"
    )
    return [dict(trial.params) for trial in expand(load_spec(text, file="s.yaml")).trials]


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", DOMAINS)
def test_draws_seed_alone_decides(method: str, kind: str) -> None:
    # A second parameter keeps equal values of a short list from being one trial.
    parameters = f"p: {DOMAINS[kind]}, u: {{min: 0.0, max: 1.0}}"
    one, same, other = (draws(parameters, method, seed=seed) for seed in (0, 0, 1))
    assert len(one) == 20
    assert one == same
    assert column(one, "p") != column(other, "p")


@pytest.mark.parametrize("method", METHODS)
def test_draws_of_two_parameters_are_not_correlated(method: str) -> None:
    names = [f"p{k}" for k in range(6)]
    rows = draws(", ".join(f"{name}: {DOMAINS['uniform']}" for name in names), method, 1000)
    for k, first in enumerate(names):
        for second in names[k + 1 :]:
            assert abs(stats.spearmanr(column(rows, first), column(rows, second))[0]) < 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["uniform", "normal", "log_normal", "beta"])
def test_draws_follow_their_distribution(method: str, kind: str) -> None:
    reference = {
        "uniform": stats.uniform(),
        "normal": stats.norm(),
        "log_normal": stats.lognorm(1.0),
        "beta": stats.beta(2.0, 3.0),
    }[kind]
    values = column(draws(f"p: {DOMAINS[kind]}", method, 1000), "p")
    assert stats.kstest(values, reference.cdf).pvalue > 0.01


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("more", ["", "where: a < 0.5 or c == 'x'\n"])
def test_draws_larger_cap_only_appends(method: str, more: str) -> None:
    parameters = "a: {min: 0.0, max: 1.0}, c: [x, y, z]"
    few, many = draws(parameters, method, 7, more=more), draws(parameters, method, 100, more=more)
    assert many[:7] == few


@pytest.mark.parametrize("method", METHODS)
def test_draws_added_parameter_leaves_the_others(method: str) -> None:
    one = draws("a: {min: 0.0, max: 1.0}, b: {distribution: normal}", method)
    two = draws("k: 1, a: {min: 0.0, max: 1.0}, b: {distribution: normal}, c: [1, 2]", method)
    assert [(p["a"], p["b"]) for p in two] == [(p["a"], p["b"]) for p in one]


def test_draws_random_order_of_parameters_does_not_matter() -> None:
    one = draws("a: {min: 0.0, max: 1.0}, b: {distribution: normal}")
    assert draws("b: {distribution: normal}, a: {min: 0.0, max: 1.0}") == one


@pytest.mark.parametrize("method", METHODS)
def test_draws_condition_leaves_the_other_draws(method: str) -> None:
    free = draws("o: [x, y], a: {min: 0.0, max: 1.0}, b: {min: 0.0, max: 1.0}", method)
    bound = draws(
        "o: [x, y], a: {min: 0.0, max: 1.0, when: o == 'x'}, b: {min: 0.0, max: 1.0}", method
    )
    assert [(p["o"], p["b"]) for p in bound] == [(p["o"], p["b"]) for p in free]
    assert [p.get("a") for p in bound] == [p["a"] if p["o"] == "x" else None for p in free]
    assert {p["o"] for p in bound} == {"x", "y"}


@pytest.mark.parametrize("method", METHODS)
def test_draws_zipped_parameters_advance_together(method: str) -> None:
    rows = draws(
        "a: [1, 2, 3], b: [x, y, z], c: {min: 0.0, max: 1.0}", method, more="zip: [[a, b]]\n"
    )
    assert {(p["a"], p["b"]) for p in rows} == {(1, "x"), (2, "y"), (3, "z")}


@pytest.mark.parametrize("method", METHODS)
def test_draws_of_a_finite_space_are_never_twice(method: str) -> None:
    rows = draws("a: [1, 2, 3, 4], b: [1, 2, 3, 4]", method, 16)
    assert len({(p["a"], p["b"]) for p in rows}) == 16


@pytest.mark.parametrize("units", [random_units, sobol_units])
def test_units_longer_column_starts_with_the_shorter(units: Units) -> None:
    few, many = units(["a", "b"], 3, 5), units(["a", "b"], 3, 300)
    assert [column[:5] for column in many] == few
    assert all(0.0 <= u < 1.0 for column in many for u in column)
    assert units([], 3, 5) == []


def test_units_quasi_random_points_cover_every_interval() -> None:
    columns = sobol_units([f"p{k}" for k in range(5)], 0, 256)
    for values in columns:  # one point in each of 256 intervals
        assert sorted(int(u * 256) for u in values) == list(range(256))
    for first, second in itertools.pairwise(columns):  # each 4 x 4 cell holds 16
        cells = [(int(a * 4), int(b * 4)) for a, b in zip(first, second, strict=True)]
        assert {cells.count((i, j)) for i in range(4) for j in range(4)} == {16}


def test_units_known_seed_gives_known_numbers() -> None:
    # Recorded once: another numpy must draw the same, else trials of a sweep would change.
    assert random_units(["learning_rate"], 0, 2) == RECORDED


RECORDED = [[0.26559838331798624, 0.23105216847347143]]
