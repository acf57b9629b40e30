"""Every way to write a domain, as Weights & Biases has it and beyond, and every mistake."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.contract.errors import SpecError
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
)
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec


def load(domain: str, method: str = "random") -> SweepSpec:
    text = f"program: t\nmetric: {{name: x, goal: minimize}}\nmethod: {method}\nrun_cap: 2\n"
    return load_spec(text + f"parameters: {{p: {domain}}}", file="s.yaml")


def read(domain: str, method: str = "random") -> Domain:
    return load(domain, method).parameters[0].domain


def logs(low: float, high: float) -> LogUniform:
    return LogUniform(math.log(low), math.log(high), low, high)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("3", Constant(3)),
        ("null", Constant(None)),
        ("{value: [1, {a: 2}]}", Constant([1, {"a": 2}])),
        ("{value: 3, distribution: constant}", Constant(3)),
        ("[1, 2.0, x, true, null]", Choice((1, 2.0, "x", True, None))),
        ("[1, 1.0, true]", Choice((1, 1.0, True))),
        ("{values: [[1, 2], {a: 1}]}", Choice(([1, 2], {"a": 1}))),
        ("{values: [1, 2], distribution: categorical}", Choice((1, 2))),
        ("{values: [1, 2], probabilities: [0.1, 0.9]}", Choice((1, 2), (0.1, 0.9))),
        ("{min: 1, max: 5}", IntUniform(1, 5)),
        ("{min: 1, max: 5, distribution: int_uniform}", IntUniform(1, 5)),
        ("{min: 1, max: 5.0}", Uniform(1.0, 5.0)),
        ("{min: 0, max: 1, distribution: uniform}", Uniform(0.0, 1.0)),
        ("{min: 1e-5, max: 1e-3, distribution: log_uniform_values}", logs(1e-5, 1e-3)),
        ("{min: 1e-5, max: 1e-3, distribution: inv_log_uniform_values}", logs(1e-5, 1e-3)),
        ("{min: 1e-5, max: 1e-3, log: true}", logs(1e-5, 1e-3)),
        ("{min: 1e-5, max: 1e-3, log: false}", Uniform(1e-5, 1e-3)),
        ("{min: 1, max: 1000, log: true}", Quantized(logs(1.0, 1000.0), 1)),
        (
            "{min: -3, max: 2, distribution: log_uniform}",
            LogUniform(-3.0, 2.0, math.exp(-3), math.exp(2)),
        ),
        (
            "{min: -3, max: 2, distribution: inv_log_uniform}",
            LogUniform(-2.0, 3.0, math.exp(-2), math.exp(3)),
        ),
        (
            "{min: 0, max: 6, q: 2, distribution: q_uniform}",
            Quantized(Uniform(0.0, 6.0), 2, (0, 2, 4)),
        ),
        (
            "{min: 1, max: 3, distribution: q_uniform}",
            Quantized(Uniform(1.0, 3.0), 1.0, (1.0, 2.0)),
        ),
        (
            "{min: 0, max: 2, q: 0.5, distribution: q_log_uniform}",
            Quantized(LogUniform(0.0, 2.0, 1.0, math.exp(2)), 0.5),
        ),
        (
            "{min: 1.0, max: 9, q: 3, distribution: q_log_uniform_values}",
            Quantized(logs(1.0, 9.0), 3),
        ),
        ("{distribution: normal}", Normal(0.0, 1.0)),
        ("{distribution: normal, mu: 1, sigma: 0}", Normal(1.0, 0.0)),
        ("{distribution: q_normal, sigma: 2, q: 0.1}", Quantized(Normal(0.0, 2.0), 0.1)),
        ("{distribution: log_normal, mu: 2}", LogNormal(2.0, 1.0)),
        ("{distribution: q_log_normal}", Quantized(LogNormal(), 1.0)),
        ("{distribution: beta, a: 2, b: 3}", Beta(2.0, 3.0)),
        ("{distribution: q_beta, q: 0.25}", Quantized(Beta(), 0.25)),
        ("{min: 0.1, max: 0.3, step: 0.1}", Choice((0.1, 0.2, 0.3))),
        ("{min: 1, max: 9, step: 4}", Choice((1, 5, 9))),
        ("{min: 1, max: 2, step: 0.5}", Choice((1.0, 1.5, 2.0))),
        ("{min: 0.0, max: 1.0, n: 3}", Choice((0.0, 0.5, 1.0))),
        ("{min: 1e-5, max: 1e-3, n: 3, log: true}", Choice((1e-5, 1e-4, 1e-3))),
        (
            "{min: 1e-5, max: 1e-3, n: 3, distribution: log_uniform_values}",
            Choice((1e-5, 1e-4, 1e-3)),
        ),
        ("{min: 1, max: 100, n: 3, log: true}", Choice((1, 10, 100))),
        (
            "{min: 1, max: 100, n: 3, distribution: log_uniform_values}",
            Choice((1.0, 10.0, 100.0)),
        ),
    ],
)
def test_read_domain_has_its_type_and_arguments(text: str, domain: Domain) -> None:
    found = read(text)
    assert found == domain
    assert repr(found) == repr(domain)  # 1 and 1.0 are equal to ==


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("{min: 1, max: 3}", (1, 2, 3)),
        ("{min: 0, max: 1, q: 0.25, distribution: q_uniform}", (0.0, 0.25, 0.5, 0.75)),
        ("{min: 1, max: 1, q: 1, distribution: q_uniform}", (1,)),
        ("{min: 0.5, max: 1.0, n: 2}", (0.5, 1.0)),
    ],
)
def test_read_domain_on_a_grid_has_the_points_of_wandb(text: str, grid: tuple[Any, ...]) -> None:
    assert read(text, "grid").grid() == grid


MISTAKES = [
    ("[]", "p: is empty; list at least one value"),
    ("{values: []}", "p.values: is empty; list at least one value"),
    ("{values: 3}", "p.values: 3 is not allowed; use a list, such as [3]"),
    (
        "{vals: [1]}",
        "p.vals: unknown key; did you mean values? use value, values, probabilities, min, max, "
        "step, n, log, distribution, q, mu, sigma, a, b, parameters or when",
    ),
    (
        "{lr: 1}",
        "p.lr: unknown key; to nest parameters, put them below parameters:; use value, values, "
        "probabilities, min, max, step, n, log, distribution, q, mu, sigma, a, b, parameters or "
        "when",
    ),
    (
        "{when: x}",
        "p: has neither value, values nor min and max; "
        "write a value, a list [a, b], or {min: a, max: b}",
    ),
    ("{min: 1}", "p: distribution int_uniform needs max; add max: ..."),
    ("{min: 1.0, max: 0.5}", "p.min: 1.0 is more than max (0.5); swap them"),
    ("{min: a, max: 1}", "p.min: 'a' is not allowed; use a number"),
    ("{min: true, max: 1}", "p.min: true is not allowed; use a number"),
    (
        "{min: 0.5, max: 2, distribution: int_uniform}",
        "p.min: 0.5 is not allowed with distribution int_uniform; use a whole number",
    ),
    (
        "{min: 0.0, max: 1.0, distribution: log_uniform_values}",
        "p.min: 0.0 is not allowed with distribution log_uniform_values; use a value > 0",
    ),
    (
        "{min: -1, max: 1, log: true}",
        "p.min: -1 is not allowed with distribution log_uniform_values; use a value > 0",
    ),
    (
        "{min: 1, max: 1000, distribution: log_uniform}",
        "p: min and max of log_uniform are exponents of e and reach 1000, which is no finite "
        "number; use log_uniform_values to give the values themselves",
    ),
    (
        "{min: 1, max: 2, distribution: log_unifrom}",
        "p.distribution: 'log_unifrom' is not allowed; did you mean log_uniform? use constant, "
        "categorical, categorical_w_probabilities, int_uniform, uniform, q_uniform, log_uniform, "
        "log_uniform_values, q_log_uniform, q_log_uniform_values, inv_log_uniform, "
        "inv_log_uniform_values, normal, q_normal, log_normal, q_log_normal, beta or q_beta",
    ),
    (
        "{distribution: normal, min: 1}",
        "p.min: does not go with distribution normal; remove it, or use mu or sigma",
    ),
    ("{distribution: normal, sigma: -1}", "p.sigma: -1 is not allowed; use 0 or a number > 0"),
    ("{distribution: beta, a: 0}", "p.a: 0 is not allowed; use a number > 0"),
    (
        "{distribution: log_normal, mu: 1000}",
        "p: mu and sigma of log_normal are those of the logarithm, and reach numbers that are not "
        "finite; use smaller ones",
    ),
    ("{min: 1, max: 9, q: 0, distribution: q_uniform}", "p.q: 0 is not allowed; use a number > 0"),
    ("{min: 1, max: 9, step: 0}", "p.step: 0 is not allowed; use a number > 0"),
    (
        "{min: 1, max: 9, step: 0.5, distribution: int_uniform}",
        "p.step: 0.5 is not allowed with distribution int_uniform; use a whole number",
    ),
    ("{min: 1, max: 9, step: 1, n: 2}", "p.n: does not go with step; remove one of them"),
    ("{min: 0, max: 1, step: 1e-9}", "p.step: gives more than 1000000 values; use a larger one"),
    ("{min: 1, max: 9, n: 1}", "p.n: 1 is not allowed; use a whole number of at least 2"),
    (
        "{min: 1, max: 3, n: 9}",
        "p.n: 1 to 3 does not hold 9 different values; use n: 3 or less",
    ),
    (
        "{values: [1], log: true}",
        "p.log: does not go with distribution categorical; remove it, or use values",
    ),
    (
        "{min: 1, max: 2, log: true, distribution: uniform}",
        "p.log: does not go with distribution uniform; remove it",
    ),
    (
        "{min: 1.0, max: 2.0, log: true, step: 1}",
        "p.step: does not go with distribution log_uniform_values; remove it, or use max, min or n",
    ),
    (
        "{values: [1, 2], probabilities: [1]}",
        "p.probabilities: has 1 numbers for 2 values; give one for each",
    ),
    (
        "{values: [1, 2], probabilities: [1, 1]}",
        "p.probabilities: add up to 2; make them add up to 1",
    ),
    (
        "{values: [1, 2], probabilities: [2, -1]}",
        "p.probabilities: has a number below 0; use numbers from 0 to 1",
    ),
    (
        "{values: [1, 1], probabilities: [0.5, 0.5]}",
        "p.values: 1 stands twice; add its probabilities up",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_read_domain_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text)
    assert str(caught.value) == f"s.yaml:5: parameters.{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{min: 0.1, max: 0.5}",
            "p: distribution uniform has no grid points; list values, add step or n: 5, "
            "or use method: random",
        ),
        (
            "{min: 0.1, max: 0.5, distribution: log_uniform_values}",
            "p: distribution log_uniform_values has no grid points; list values, add n: 5, "
            "or use method: random",
        ),
        (
            "{distribution: normal}",
            "p: distribution normal has no grid points; list values, or use method: random",
        ),
        (
            "{min: 0, max: 1000000000}",
            "p: distribution int_uniform has no grid points: more than 1000000 values; "
            "add step or n",
        ),
        (
            "{values: [1, 2], probabilities: [0.5, 0.5]}",
            "p.probabilities: is not allowed with method grid; remove it, or use method: random",
        ),
    ],
)
def test_read_domain_without_grid_points_is_refused_on_a_grid(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text, "grid")
    assert str(caught.value) == f"s.yaml:5: parameters.{message}"


@pytest.mark.parametrize(
    ("text", "method", "warning"),
    [
        (
            "{min: 1e-5, max: 1e-1, distribution: log_uniform}",
            "random",
            "p: min and max of log_uniform are exponents of e, so values run from 1.00001 to "
            "1.10517; use log_uniform_values to give the values themselves",
        ),
        (
            "{min: 0, max: 4, q: 2, distribution: q_uniform}",
            "grid",
            "p: a grid of q_uniform leaves out max (4), as Weights & Biases does; "
            "use step in place of q and distribution to have it",
        ),
    ],
)
def test_read_domain_trap_of_wandb_is_a_warning(text: str, method: str, warning: str) -> None:
    assert load(text, method).warnings == (f"s.yaml:5: parameters.{warning}",)
