"""Conditions, zips, filters, derived parameters and seeds: what is read and what is refused."""

from __future__ import annotations

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.domain.relation_loader import seed_dependent
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec

HEAD = """\
program: t
metric: {name: x, goal: minimize}
parameters: {lr: [1, 2, 3], opt: [a, b], optim: {parameters: {wd: [0, 1, 2]}}, c: 5}
"""


def load(text: str, *overrides: str) -> SweepSpec:
    return load_spec(HEAD + text, file="s.yaml", overrides=overrides)


@pytest.mark.parametrize(
    ("text", "zips"),
    [
        ("zip: [[lr, optim.wd]]", (("lr", "optim.wd"),)),
        ("zip: [lr, optim.wd]", (("lr", "optim.wd"),)),
        ("zip: []", ()),
    ],
)
def test_zips_groups_are_read(text: str, zips: tuple[tuple[str, ...], ...]) -> None:
    assert load(text).zips == zips


@pytest.mark.parametrize(
    ("text", "seeds"), [("seeds: 3", (0, 1, 2)), ("seeds: [5, 1]", (5, 1)), ("", ())]
)
def test_seeds_number_or_list_is_read(text: str, seeds: tuple[int, ...]) -> None:
    assert load(text).seeds == seeds


def test_derived_may_use_parameters_seed_and_earlier_ones() -> None:
    spec = load('seeds: 2\nderived: {a: "lr * 2", b: "a + optim.wd", s: "seed + b", n: 4}')
    names = [(item.name, item.expression.names) for item in spec.derived]
    assert names == [
        ("a", {"lr"}),
        ("b", {"a", "optim.wd"}),
        ("s", {"seed", "b"}),
        ("n", frozenset()),
    ]
    assert seed_dependent(spec.derived) == {"seed", "s"}


def test_where_one_or_several_are_read() -> None:
    assert [item.source for item in load("where: lr > 1").where] == ["lr > 1"]
    assert [item.source for item in load("where: [lr > 1, opt == 'a']").where] == [
        "lr > 1",
        "opt == 'a'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zip: [[lr, opt]]", "zip: lr has 3 values, opt has 2 values; give all of them as many"),
        ("zip: [[lr]]", 'zip: ["lr"] needs two parameters or more; add one'),
        (
            "zip: [[lr, wd]]",
            "zip: no parameter wd; did you mean optim.wd? known: lr, opt, optim.wd, c",
        ),
        (
            "zip: [[lr, optim.wd], [lr, opt]]",
            "zip: lr stands twice; put it into one group, once",
        ),
        ("zip: [[lr, c]]", "zip: c is no list of values; list its values, or take it out"),
        ("seeds: 0", "seeds: 0 is not allowed; use a whole number of at least 1"),
        ("seeds: [1, -1]", "seeds: -1 is not allowed; use a whole number of at least 0"),
        ("seeds: []", "seeds: is empty; list at least one, or write how many"),
        ("seeds: [1, 1]", "seeds: [1, 1] has a number twice; list each once"),
        ("seeds: 99999", "seeds: 99999 repeats are too many; use at most 10000"),
        ("derived: {lr: '1'}", "derived.lr: lr is also a parameter; rename one of them"),
        (
            "derived: {x: y * 2}",
            "derived.x: `y * 2` has the unknown name y; quote it if it is text: 'y'; "
            "known are lr, opt, optim.wd, c",
        ),
        ("derived: {x: [1]}", "derived.x: [1] is no expression; write one, such as 'lr * 10'"),
        (
            "derived: {a b: '1'}",
            "derived.a b: 'a b' is no parameter name, for it becomes --name=value; "
            "use a letter or _, then letters, digits, _ - and single dots, at most 100",
        ),
        (
            "seeds: 2\nderived: {s: seed + 1}\nwhere: s > 1",
            "where: uses s, which differs between the repeats of one combination; "
            "filter by parameters, or make seed a parameter",
        ),
        ("where: []\nzip: 3", "zip: 3 is not allowed; use a list, such as [3]"),
        ("where: null", "where: null is no expression; write one, such as x > 0"),
    ],
)
def test_relation_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(text)
    line = 4 + text.count("\n")
    assert str(caught.value) == f"s.yaml:{line}: {message}"


def test_zips_override_of_another_length_is_refused_at_the_command_line() -> None:
    with pytest.raises(SpecError) as caught:
        load("zip: [[lr, optim.wd]]", "lr=1,2")
    assert str(caught.value) == (
        "command line: zip: lr has 2 values, optim.wd has 3 values; give all of them as many"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            "{a: {value: 1, when: b == 1}, b: {value: 1, when: a == 1}}",
            "parameters.a.when: the conditions of a, b depend on one another; drop one of them",
        ),
        (
            "{a: {value: 1, when: a == 1}}",
            "parameters.a.when: the conditions of a depend on one another; drop one of them",
        ),
        (
            "{g: {parameters: {x: 1}, when: q}}",
            "parameters.g.when: `q` has the unknown name q; quote it if it is text: 'q'; "
            "known are g.x",
        ),
        ("{seed: [1]}\nseeds: 2", None),
    ],
)
def test_condition_mistake_is_refused_in_one_line(parameters: str, message: str | None) -> None:
    head = "program: t\nmetric: {name: x, goal: minimize}\n"
    with pytest.raises(SpecError) as caught:
        load_spec(f"{head}parameters: {parameters}", file="s.yaml")
    assert str(caught.value) == (
        f"s.yaml:3: {message}"
        if message
        else "s.yaml:4: seeds: adds a parameter seed, but parameters has one too; "
        "remove seeds or parameters.seed"
    )
