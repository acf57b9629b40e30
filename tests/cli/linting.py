"""The project's templates in a folder of a test's own, and `orchestrator lint` on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import run

ROOT = Path(__file__).parents[2]
SWEEP = """\
program: bash
method: grid
metric: {name: loss, goal: minimize}
partition: spot
resources: {gpus: 1, cpus: 1}
parameters: {a: [1, 2]}
"""
QUIET = ("--cluster", "none", "--against", "none")


def copy_templates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the project's templates and one sweep the working directory."""
    shutil.copytree(ROOT / "templates", folder / "templates")
    (folder / "sweeps").mkdir()
    (folder / "sweeps/a.yaml").write_text(SWEEP)
    monkeypatch.chdir(folder)
    return folder


def template(folder: Path, text: str, name: str = "h100") -> None:
    (folder / f"templates/{name}.sbatch.j2").write_text(text)


def lint(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = run(["lint", "--json", *(words or QUIET)])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if shown.out else {"error": shown.err}


def found(report: dict[str, Any]) -> list[tuple[str, int | None, str]]:
    return [(f["file"], f["line"], f["check"]) for f in report["findings"]]


def extend(block: str, text: str) -> str:
    return (
        '{% extends "base.sbatch.j2" %}\n'
        f"{{% block {block} %}}\n{{{{ super() }}}}\n{text}\n{{% endblock %}}\n"
    )
