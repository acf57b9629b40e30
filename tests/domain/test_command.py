"""The program's argument list: macros, values as text, hostile values."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.errors import SpecError
from orchestrator.domain.command import argument_text, build_command
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand

PARAMETERS = """
parameters:
  lr: 1e-5
  optim: {parameters: {name: adamw, wd: 0.1}}
  amp: true
  compile: false
  clip: null
  sizes: {value: [1, 2]}
derived: {total: "lr * 2"}
seeds: [7]
"""
ARGS = [
    "--lr=1e-05",
    "--optim.name=adamw",
    "--optim.wd=0.1",
    "--amp=True",
    "--compile=False",
    "--clip=None",
    "--sizes=[1,2]",
    "--total=2e-05",
    "--seed=7",
]
PARAMS = {
    "lr": 1e-5,
    "optim": {"name": "adamw", "wd": 0.1},
    "amp": True,
    "compile": False,
    "clip": None,
    "sizes": [1, 2],
    "total": 2e-5,
    "seed": 7,
}


def command(text: str, **options: Any) -> list[str]:
    spec = load_spec(f"metric: {{name: x, goal: minimize}}\n{text}", file="s.yaml")
    trial = expand(spec).trials[0]
    return build_command(spec, trial, params_path="/p.json", interpreter="/py", **options)


@pytest.mark.parametrize(
    ("program", "start"),
    [
        ("train.py", ["/py", "train.py"]),
        ("a dir/run.sh", ["bash", "a dir/run.sh"]),
        ("./train", ["./train"]),
    ],
)
def test_build_command_program_runs_by_its_kind(program: str, start: list[str]) -> None:
    assert command(f"program: {program}\n{PARAMETERS}") == [*start, *ARGS]


@pytest.mark.parametrize(
    ("macro", "words"),
    [
        ("${env}", ["/usr/bin/env"]),
        ("${interpreter}", ["/py"]),
        ("${program}", ["t.py"]),
        ("${args}", ARGS),
        ("${args_no_hyphens}", [word.removeprefix("--") for word in ARGS]),
        ("${args_append_hydra}", ["+" + word.removeprefix("--") for word in ARGS]),
        ("${args_override_hydra}", ["++" + word.removeprefix("--") for word in ARGS]),
        ("${args_no_equals}", [part for word in ARGS for part in word.split("=")]),
        (
            "${args_no_boolean_flags}",
            ["--amp" if word == "--amp=True" else word for word in ARGS if "compile" not in word],
        ),
        ("${args_json}", [json.dumps(PARAMS, separators=(",", ":"))]),
        ("${args_json_file}", ["/p.json"]),
        ("--config=${args_json_file}", ["--config=/p.json"]),
        ("${envvar:DATA}/${envvar:PART}", ["/data/train"]),
        ("--out=${HOME}/x", ["--out=${HOME}/x"]),
        ("$(id) `id` ; rm -rf ~", ["$(id) `id` ; rm -rf ~"]),
        ("3", ["3"]),
    ],
)
def test_build_command_macro_is_replaced(macro: str, words: list[str]) -> None:
    text = f"program: t.py\ncommand: [run, {json.dumps(macro)}]\nenv: {{DATA: /data}}\n{PARAMETERS}"
    assert command(text, environ={"DATA": "hidden", "PART": "train"}) == ["run", *words]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "${arg}",
            "s.yaml:3: command: ${arg} is no macro; did you mean ${args}? use ${env}, "
            "${interpreter}, ${program}, ${args_json}, ${args_json_file}, ${args}, "
            "${args_no_equals}, ${args_no_hyphens}, ${args_no_boolean_flags}, "
            "${args_append_hydra}, ${args_override_hydra} or ${envvar:NAME}",
        ),
        ("x ${args}", "s.yaml:3: command: ${args} is several words; let it stand alone"),
        (
            "${envvar:NOT_SET}",
            "s.yaml:3: command: the variable NOT_SET is not set; set it, or state it below env:",
        ),
    ],
)
def test_build_command_unknown_macro_is_refused(word: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        command(f"program: t.py\ncommand: [{json.dumps(word)}]\nparameters: {{a: 1}}")
    assert str(caught.value) == message


def test_build_command_inactive_parameter_is_left_out() -> None:
    text = "program: t.py\nparameters: {o: [adam], m: {value: 1, when: o == 'sgd'}}"
    assert command(text) == ["/py", "t.py", "--o=adam"]


def test_build_command_macro_within_a_value_stays_text() -> None:
    text = "program: t.py\ncommand: ['${args}']\nparameters: {a: '${args_json} ${envvar:HOME}'}"
    assert command(text) == ["--a=${args_json} ${envvar:HOME}"]


HOSTILE = [
    "; rm -rf ~",
    "$(touch /tmp/x) `id` ${IFS}",
    'it\'s "quoted"',
    "line\nbreak\r\n",
    "{{ 7 * 7 }} {% raw %}",
    "-rf",
    "日本語 \u202e🚀",
    "\\x00 %s %% *",
    "",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_build_command_hostile_text_reaches_the_program_as_it_is(value: str) -> None:
    argv = command(f"program: t.py\nparameters: {{a: {json.dumps(value)}}}")
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    output = subprocess.run(
        [sys.executable, "-c", code, *argv[2:]], capture_output=True, check=True, timeout=60
    )
    assert json.loads(output.stdout) == [f"--a={value}"]


@settings(max_examples=50)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_build_command_any_text_is_passed_verbatim(value: str) -> None:
    argv = command(f"program: t.py\nparameters: {{a: {json.dumps(value)}}}")
    assert argv == ["/py", "t.py", f"--a={value}"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (16.0, "16.0"),
        (16, "16"),
        (True, "True"),
        (None, "None"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
    ],
)
def test_argument_text_value_is_written_as_python_does(value: Any, text: str) -> None:
    assert argument_text(value) == text
