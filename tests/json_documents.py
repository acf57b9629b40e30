"""Documents that ``--json`` printed, held against the schemas of their commands.

``tests/conftest.py`` has every test do so: whatever a test types with ``--json``, in this process
or another, has to be strict JSON, a document a line, as its schema says.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "orchestrator" / "schemas"


@functools.cache
def validator(command: str) -> Draft202012Validator:
    """Return the validator of a command's documents."""
    schema = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _refuse(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")


def check_documents(text: str) -> None:
    """Check every line of what a command printed."""
    for line in text.splitlines():
        document: dict[str, Any] = json.loads(line, parse_constant=_refuse)
        assert next(iter(document)) == "schema", f"the schema does not come first: {line[:200]}"
        name, _, version = document["schema"].partition("/")
        project, _, command = name.partition(".")
        assert (project, version) == ("orchestrator", "1"), document["schema"]
        if folder := os.environ.get("RECORD_DOCUMENTS"):  # for writing a schema
            with open(os.path.join(folder, f"{command}.jsonl"), "a", encoding="utf-8") as file:
                file.write(line + "\n")
            continue
        errors = sorted(validator(command).iter_errors(document), key=lambda e: list(e.path))
        where = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in errors[:5]]
        assert not errors, f"{document['schema']}: {where}"


def is_json_command(argv: Any) -> bool:
    """Tell whether a process is one of our commands that prints JSON."""
    if isinstance(argv, str):
        return False
    words = list(map(str, argv)) if isinstance(argv, Sequence) else []
    return "--json" in words and any(
        word == "orchestrator" or word.endswith("/orchestrator") for word in words
    )
