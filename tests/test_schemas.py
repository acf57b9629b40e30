"""The schemas of ``--json``: one a command, valid, and held against what commands print.

``tests/conftest.py`` holds all that the other tests print against them.
"""

import ast
import json

import pytest

from orchestrator.cli.main import COMMANDS, run
from tests.json_documents import SCHEMAS, check_documents, is_json_command, validator


def schemas():
    return sorted(path.stem for path in SCHEMAS.glob("*.json"))


def test_every_command_has_a_schema_and_no_other_does():
    assert schemas() == sorted([*COMMANDS, "error"])


def test_commands_print_json_in_one_way_only():
    # Else these tests would not see what they print, nor would it be strict JSON.
    for path in (SCHEMAS.parent / "cli").glob("*.py"):
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        printed = [
            it for it in calls if ast.unparse(it.func) in ("print", "_say", "sys.stdout.write")
        ]
        inner = [ast.unparse(arg) for it in printed for arg in it.args]
        whole = [text for text in inner if text.startswith(("json.dumps(", "json.dump("))]
        assert not whole, f"{path.name} prints {whole}: use print_json"


@pytest.mark.parametrize("command", schemas())
def test_schema_is_valid_and_lets_keys_be_added(command):
    schema = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
    validator(command)
    assert schema["properties"]["schema"] == {"const": f"orchestrator.{command}/1"}
    assert schema["required"][0] == "schema"
    assert '"additionalProperties": false' not in json.dumps(schema)
    assert schema["description"].endswith(".")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["nope", "--json"], 2),
        (["status", "--json", "--nope"], 2),
        (["status", "missing", "--json", "--results", "/nonexistent"], 2),
        (["plan", "missing.yaml", "--json"], 2),
    ],
)
def test_error_is_a_document_too(argv, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(argv) == code
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["schema"] == "orchestrator.error/1"
    assert (document["command"], document["exit_code"]) == (argv[0], code)
    assert shown.err == f"orchestrator: {document['error']}\n"


def test_mistake_in_a_spec_names_its_place(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("program: x\nparameters:\n  lr: {min: 1, max: zero}\n")
    assert run(["plan", "a.yaml", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["line"]) == ("a.yaml", 3)
    assert document["key"].startswith("parameters.lr")


@pytest.mark.parametrize(
    "line",
    [
        '{"schema": "orchestrator.release/1", "sweep": "x"}',
        '{"sweep": "x", "schema": "orchestrator.status/1"}',
        '{"schema": "orchestrator.ratings/1", "n_rows": NaN}',
        '{"schema": "orchestrator.status/2"}',
    ],
)
def test_check_documents_refuses_what_no_schema_allows(line):
    with pytest.raises(AssertionError):
        check_documents(line)


def test_is_json_command_knows_how_commands_are_typed():
    assert is_json_command(["/usr/bin/python3", "-m", "orchestrator", "status", "--json"])
    assert is_json_command(["/venv/bin/orchestrator", "collect", "--json"])
    assert not is_json_command(["orchestrator", "status"])
    assert not is_json_command("orchestrator --json")
