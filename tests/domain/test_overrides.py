"""Overrides: what each kind of key and value does to the tree, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.domain.overrides import apply_overrides, parameter_paths
from orchestrator.domain.spec_tree import COMMAND_LINE, Node, plain
from orchestrator.domain.yaml_composer import parse_tree

SPEC = """
name: a
partition: spot
parameters:
  lr: {min: 0.1, max: 0.2}
  opt: [sgd, adamw]
  optim: {parameters: {wd: [0.1], deep: {parameters: {x: 1}}}}
  m: {values: [0.9], when: "opt == 'sgd'"}
resources: {gpus: 1, sbatch: {comment: x}}
"""
KEYS = ("name", "partition", "parameters", "resources", "where", "derived", "run_cap", "seeds")


def tree(text: str = SPEC) -> Node:
    found = parse_tree(text, file="s.yaml")
    assert found is not None
    return found


def change(*words: str) -> dict[str, Any]:
    """Return the top-level keys (or parameters) that differ after the overrides."""
    before, after = plain(tree()), plain(apply_overrides(tree(), words, KEYS))
    return {key: value for key, value in after.items() if before.get(key) != value}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("lr=1e-5,3e-5", [1e-5, 3e-5]),
        ("lr=1e-5", 1e-5),
        ("lr = 1e-5", 1e-5),
        ("lr=null", None),
        ("lr='1e-5'", "1e-5"),
        ("lr=no", "no"),
        ("lr=[a,b]", ["a", "b"]),
        ("lr=[a,b],[c]", [["a", "b"], ["c"]]),
        ("lr={min: 1e-5, max: 1e-3}", {"min": 1e-5, "max": 1e-3}),
        ("lr='a,b'", "a,b"),
        ("lr=a=b", "a=b"),
        ("parameters.lr=3", 3),
        ("lr.max=3", {"min": 0.1, "max": 3}),
    ],
)
def test_apply_overrides_parameter_gets_the_yaml_value(word: str, value: Any) -> None:
    after = plain(apply_overrides(tree(), [word], KEYS))
    assert after["parameters"]["lr"] == value


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run_cap=10", {"run_cap": 10}),
        ("seeds=1,2", {"seeds": [1, 2]}),
        ("resources.gpus=2", {"resources": {"gpus": 2, "sbatch": {"comment": "x"}}}),
        (
            "resources.time=1:30:00",
            {"resources": {"gpus": 1, "sbatch": {"comment": "x"}, "time": "1:30:00"}},
        ),
        (
            "resources.gpus=min(2, 4)",
            {"resources": {"gpus": "min(2, 4)", "sbatch": {"comment": "x"}}},
        ),
        (
            "resources.sbatch.qos=high",
            {"resources": {"gpus": 1, "sbatch": {"comment": "x", "qos": "high"}}},
        ),
        ("partition=cpu", {"partition": "cpu"}),
        ("name=b: c, d", {"name": "b: c, d"}),
        ("spec.name=b", {"name": "b"}),
        ("where=lr in [1, 2]", {"where": "lr in [1, 2]"}),
        ("where=['lr > 1', 'lr < 2']", {"where": ["lr > 1", "lr < 2"]}),
        ("derived.x=max(lr, 2)", {"derived": {"x": "max(lr, 2)"}}),
    ],
)
def test_apply_overrides_spec_key_is_set(word: str, expected: dict[str, Any]) -> None:
    assert change(word) == expected


def test_apply_overrides_nested_parameter_is_set_by_its_dotted_name() -> None:
    after = plain(apply_overrides(tree(), ["optim.wd=1,2", "optim.deep.x=5"], KEYS))
    assert after["parameters"]["optim"] == {
        "parameters": {"wd": [1, 2], "deep": {"parameters": {"x": 5}}}
    }


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("m=1,2", {"values": [1, 2], "when": "opt == 'sgd'"}),
        ("m=1", {"value": 1, "when": "opt == 'sgd'"}),
        ("m={min: 0, max: 1}", {"when": "opt == 'sgd'", "min": 0, "max": 1}),
        ("m={value: 1, when: lr > 1}", {"when": "lr > 1", "value": 1}),
    ],
)
def test_apply_overrides_parameter_keeps_its_condition(word: str, value: Any) -> None:
    assert plain(apply_overrides(tree(), [word], KEYS))["parameters"]["m"] == value


def test_apply_overrides_value_has_the_command_line_as_its_place() -> None:
    after = apply_overrides(tree(), ["lr=3"], KEYS)
    assert isinstance(after.value, dict)
    parameters = after.value["parameters"].value
    assert isinstance(parameters, dict)
    places = [(node.file, node.line) for node in (parameters["lr"], parameters["opt"])]
    assert places == [(COMMAND_LINE, None), ("s.yaml", 6)]


def test_apply_overrides_shared_alias_changes_in_one_place_only() -> None:
    shared = tree("parameters:\n  a: &x {min: 1, max: 2}\n  b: *x\n")
    after = plain(apply_overrides(shared, ["a.max=5"], KEYS))["parameters"]
    assert after == {"a": {"min": 1, "max": 5}, "b": {"min": 1, "max": 2}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["nonsense"],
            "command line: 'nonsense' is no override; "
            "write key=value, such as learning_rate=1e-5,3e-5",
        ),
        (
            ["=3"],
            "command line: '=3' is no override; write key=value, such as learning_rate=1e-5,3e-5",
        ),
        (
            ["lrr=3"],
            "command line: lrr: no such parameter or key of the spec; did you mean lr? "
            "known: lr, opt, optim.wd, optim.deep.x, m",
        ),
        (
            ["partitoin=3"],
            "command line: partitoin: no such parameter or key of the spec; "
            "did you mean partition? known: lr, opt, optim.wd, optim.deep.x, m",
        ),
        (
            ["parameters.q=3"],
            "command line: parameters.q: no such parameter; "
            "known: lr, opt, optim.wd, optim.deep.x, m",
        ),
        (
            ["optim=3"],
            "command line: optim: is a group; name one of its parameters: optim.wd, optim.deep.x",
        ),
        (
            ["lr=1", "lr=2"],
            "command line: lr: is given twice; give it once, with commas between several values",
        ),
        (["lr="], "command line: lr: nothing stands behind the =; write a value, or null"),
        (["lr=a\nb"], 'command line: lr: a line break is not allowed; quote the text: "a\\nb"'),
        (
            ["lr=[1"],
            "command line: lr: not valid YAML: expected ',' or ']', but got '<stream end>'; "
            "correct it, or quote the text",
        ),
        (
            ["lr=.inf"],
            "command line: lr: .inf is not allowed; write a finite number, or '.inf' for text",
        ),
        (["opt.min=3"], 'command line: opt.min: ["sgd", "adamw"] has no keys; replace it'),
        (
            ["lr=!!python/name:os.system"],
            "command line: lr: the tag !!python/name:os.system is not allowed; "
            "write the plain value",
        ),
    ],
)
def test_apply_overrides_mistake_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides(tree(), words, KEYS)
    assert str(caught.value) == message


def test_apply_overrides_name_of_parameter_and_key_must_be_said() -> None:
    both = tree("name: x\nparameters: {name: [1, 2]}")
    with pytest.raises(SpecError) as caught:
        apply_overrides(both, ["name=3"], KEYS)
    assert str(caught.value) == (
        "command line: name: is a parameter and a key of the spec; "
        "write parameters.name=... or spec.name=... to say which"
    )
    after = plain(apply_overrides(both, ["parameters.name=3", "spec.name=y"], KEYS))
    assert after == {"name": "y", "parameters": {"name": 3}}


def test_parameter_paths_groups_are_told_from_parameters() -> None:
    paths, groups = parameter_paths(tree())
    assert list(paths) == ["lr", "opt", "optim.wd", "optim.deep.x", "m"]
    assert groups == {"optim", "optim.deep"}
