"""Names and groups of parameters."""

from __future__ import annotations

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.domain.spec_loader import load_spec

HEAD = "program: t\nmetric: {name: x, goal: minimize}\nparameters: "
NAME_RULE = (
    "is no parameter name, for it becomes --name=value; use a letter or _, "
    "then letters, digits, _ - and single dots, at most 100"
)


@pytest.mark.parametrize("name", ["lr", "_x", "a-b", "model.depth", "A1_b-c.d"])
def test_read_plain_name_is_allowed(name: str) -> None:
    assert load_spec(f"{HEAD}{{{name}: 1}}", file="s.yaml").parameters[0].name == name


@pytest.mark.parametrize(
    "name", ["a b", "1a", "-a", "a=b", "a;b", "a..b", "a.", "名", "a\nb", "x" * 101]
)
def test_read_odd_name_is_refused(name: str) -> None:
    shown = "x" * 59 + "…" if len(name) > 100 else name.replace("\n", " ")
    quoted = name.replace("\n", "\\n")
    with pytest.raises(SpecError) as caught:
        load_spec(f'{HEAD}{{"{quoted}": 1}}', file="s.yaml")
    assert str(caught.value).endswith(f": '{shown}' {NAME_RULE}")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("{}", "parameters: is empty; name at least one parameter"),
        ("[a]", 'parameters: ["a"] is not allowed; use a mapping (name: value)'),
        ("{g: {parameters: {}}}", "parameters.g: is empty; name at least one parameter"),
        (
            "{g: {parameters: {a: 1}, values: [1]}}",
            "parameters.g.values: unknown key; use parameters or when",
        ),
        (
            "{a.b: 1, a: {parameters: {b: 2}}}",
            "parameters.a.b: has the same name as a.b in line 3; rename one of them",
        ),
    ],
)
def test_read_group_mistake_is_refused(parameters: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(HEAD + parameters, file="s.yaml")
    assert str(caught.value) == f"s.yaml:3: {message}"


def test_read_group_condition_holds_for_all_within() -> None:
    text = "{o: [a], g: {when: o == 'a', parameters: {x: 1, y: {value: 2, when: g.x > 0}}}}"
    spec = load_spec(HEAD + text, file="s.yaml")
    conditions = {p.name: [item.source for item in p.when] for p in spec.parameters}
    assert conditions == {"o": [], "g.x": ["o == 'a'"], "g.y": ["o == 'a'", "g.x > 0"]}
