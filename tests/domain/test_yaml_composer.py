"""The YAML reader: places, YAML 1.2, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.errors import SpecError
from orchestrator.domain import yaml_composer
from orchestrator.domain.spec_tree import Node, plain
from orchestrator.domain.yaml_composer import parse_tree


def read(text: str) -> Node:
    tree = parse_tree(text, file="s.yaml")
    assert tree is not None
    return tree


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_tree(text, file="s.yaml")
    return str(caught.value)


def test_parse_tree_nested_values_know_their_line() -> None:
    tree = read("a: 1\nb:\n  c: [x,\n      y]\n  d: >\n    text\n")
    assert isinstance(tree.value, dict)
    b = tree.value["b"].value
    assert isinstance(b, dict)
    c = b["c"].value
    assert isinstance(c, list)
    lines = [tree.value["a"].line, tree.value["b"].line, b["c"].line, c[1].line, b["d"].line]
    assert lines == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1e5", 1e5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("+3", 3),
        ("0x1F", 31),
        ("0o17", 15),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("1.2.3", "1.2.3"),
        ("'1e-5'", "1e-5"),
        ('"010"', "010"),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
        ("+", "+"),
        (".", "."),
        ("1e", "1e"),
    ],
)
def test_parse_tree_scalar_is_read_by_yaml_1_2(text: str, value: object) -> None:
    found = plain(read(f"a: {text}"))["a"]
    assert (found, type(found)) == (value, type(value))


def test_parse_tree_yaml_1_1_directive_changes_nothing() -> None:
    assert plain(read("%YAML 1.1\n---\na: yes\nb: 1e-5\n")) == {"a": "yes", "b": 1e-5}


def test_parse_tree_merge_key_adds_what_is_missing() -> None:
    text = "base: &b {x: 1, y: 2}\nall:\n  <<: *b\n  y: 3\n"
    assert plain(read(text))["all"] == {"x": 1, "y": 3}


def test_parse_tree_empty_document_is_none() -> None:
    assert parse_tree("# only a comment\n", file="s.yaml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "s.yaml:3: a: stands twice (first in line 1); keep one of them"),
        (
            "a: {b: 1,\n  b: 2}",
            "s.yaml:2: a.b: stands twice (first in line 1); keep one of them",
        ),
        (
            "a: !!python/object/apply:os.system [id]",
            "s.yaml:1: a: the tag !!python/object/apply:os.system is not allowed; "
            "write the plain value",
        ),
        ("a: !x 1", "s.yaml:1: a: the tag !x is not allowed; write the plain value"),
        ("a: !!int x", "s.yaml:1: a: 'x' is no int; remove the tag !!int"),
        (
            "a: .nan",
            "s.yaml:1: a: .nan is not allowed; write a finite number, or '.nan' for text",
        ),
        (
            "a: -.inf",
            "s.yaml:1: a: -.inf is not allowed; write a finite number, or '-.inf' for text",
        ),
        ("a: 1e999", "s.yaml:1: a: 1e999 is too large for a number; write a smaller one"),
        (
            "a: 010",
            "s.yaml:1: a: 010 is 10 in YAML 1.2 and something else in YAML 1.1; "
            "write 10, or '010' for text",
        ),
        (
            "a: 1_000",
            "s.yaml:1: a: 1_000 is text in YAML 1.2 and a number in YAML 1.1; "
            "write 1000, or '1_000' for text",
        ),
        (
            "a: " + "9" * 5000,
            "s.yaml:1: a: a number of 5000 digits is not allowed; quote it for text",
        ),
        (
            'a: "x\\0y"',
            "s.yaml:1: a: text with a NUL character cannot be passed to a program; remove it",
        ),
        (
            'a: "\\ud800"',
            "s.yaml:1: a: text with half a surrogate pair cannot be encoded; "
            "write the whole character",
        ),
        (
            "a: 1\nb: \x07",
            "s.yaml:2: control character 0x07 is not allowed; remove it, or write it as an "
            'escape within double quotes ("\\t")',
        ),
        (
            "a: b: c",
            "s.yaml:1: not valid YAML: mapping values are not allowed here; "
            "correct it, or quote the text",
        ),
        (
            "a:\n\tb: 1",
            "s.yaml:2: not valid YAML: found character '\\t' that cannot start any token; "
            "indent with spaces",
        ),
        ("a: 1\n---\nb: 2", "s.yaml:2: a second document begins here; use one file for each sweep"),
        ("a: *x", "s.yaml:1: a: the alias *x refers to nothing above it; write the value"),
        (
            "a: &x [1, *x]",
            "s.yaml:1: a: the alias *x refers to the value that it stands in; write the value",
        ),
        ("? [1]\n: 2", "s.yaml:1: a key must be text, not a list or mapping; quote it"),
        ("<<: 3", "s.yaml:1: <<: << takes a mapping or a list of mappings; correct it"),
        ("[" * 5000, "s.yaml:1: nested deeper than 50 levels; flatten it"),
        (
            "a: " + "x" * 40_000,
            "s.yaml:1: a: text of 40000 characters is too long, at most 32000 are allowed; "
            "put it into a file and pass the file's name",
        ),
        (
            " " * (2**20 + 1),
            "s.yaml: 1048577 characters are too many, at most 1048576 are allowed; "
            "generate long lists of values with step or n",
        ),
    ],
)
def test_parse_tree_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.timeout(60)
def test_parse_tree_alias_bomb_is_refused_unexpanded() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    message = refusal("\n".join(["l0: &l0 [1, 2, 3]", *levels]))
    assert message == (
        "s.yaml:6: l5: more than 100000 values once its aliases are written out; use fewer aliases"
    )


def test_parse_tree_value_count_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_composer, "MAX_NODES", 100)
    message = (
        "s.yaml:1: a: more than 100 values once its aliases are written out; use fewer aliases"
    )
    assert refusal(f"a: [{'1, ' * 101}]") == message


@given(st.text(max_size=60))
def test_parse_tree_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    message = "s.yaml"
    try:
        parse_tree(text, file="s.yaml")
    except SpecError as error:
        message = str(error)
    assert message.startswith("s.yaml")
    assert "\n" not in message
