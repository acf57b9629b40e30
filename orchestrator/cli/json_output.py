"""What ``--json`` prints: one document a line, with its schema first, in strict JSON.

Every command prints through ``print_json``; what an error makes of ``--json`` is here too. The
schemas stand in ``orchestrator/schemas``, one a command, beside a page on what they promise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.contract.errors import EXIT_TRY_AGAIN, SpecError
from orchestrator.contract.records import dump_record

VERSION = 1
ERROR = "error"


def schema_name(command: str) -> str:
    """Return the name of a command's documents, such as ``orchestrator.status/1``."""
    return f"orchestrator.{command}/{VERSION}"


def print_json(command: str, document: Mapping[str, Any]) -> None:
    """Print a document of a command, and flush it: a reader may wait for the line.

    Numbers that JSON cannot hold are the texts ``nan``, ``inf`` and ``-inf``, as in our records.
    """
    rest = {key: value for key, value in document.items() if key != "schema"}
    record = {"schema": schema_name(command), **rest}
    sys.stdout.write(dump_record(record).decode("ascii"))
    sys.stdout.flush()


def print_error(command: str, text: str, exit_code: int, error: Exception | None = None) -> None:
    """Print what went wrong as a document; the line for people stands on stderr all the same."""
    place = error if isinstance(error, SpecError) else None
    document = {
        "command": command,
        "error": text,
        "exit_code": exit_code,
        "try_again": exit_code == EXIT_TRY_AGAIN,
        "file": place.file or None if place is not None else None,
        "line": place.line if place is not None else None,
        "key": place.key or None if place is not None else None,
    }
    print_json(ERROR, document)
