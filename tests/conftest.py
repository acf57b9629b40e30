"""What all tests share: recording golden files, and the order in which they run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli import json_output
from tests.json_documents import check_documents, is_json_command

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config: pytest.Config) -> None:
    # Tests type make commands: those must not get the ARGS of the `make test` that runs them.
    for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ARGS"):
        os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-golden", action="store_true", help="write the golden files anew; review the diff"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long ones go first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: 0 if "cluster" in item.keywords else 1)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Compare a text with a golden file, or record it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--record-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, "`make golden` records it; review the diff"

    return check


@pytest.fixture(autouse=True)
def check_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold all that the test's commands print with ``--json`` against their schemas."""
    run, write = subprocess.run, json_output.dump_record

    def checked_run(argv, *words, **options):  # type: ignore[no-untyped-def]
        done = run(argv, *words, **options)
        if is_json_command(argv) and done.stdout and done.returncode in (0, 1, 2, 3):
            text = done.stdout if isinstance(done.stdout, str) else done.stdout.decode()
            check_documents(text)
        return done

    def checked_dump(record):  # type: ignore[no-untyped-def]
        data = write(record)
        check_documents(data.decode())
        return data

    monkeypatch.setattr(subprocess, "run", checked_run)
    monkeypatch.setattr(json_output, "dump_record", checked_dump)
