"""What trials run: a copy of the code made at submit, or the live files; and running one again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
program: scripts/train.py
metric: {name: loss, goal: minimize}
partition: cpu
cluster: local
max_concurrent: 1
parameters: {a: [1, 2]}
"""
# Edits its own project as soon as the first trial runs; PROJECT is the live tree.
TRAIN = """\
import json, os, sys
from pathlib import Path
import pkg.steps

live = Path(os.environ["PROJECT"])
(live / "src/pkg/steps.py").write_text("LOSS = 99\\n")
with open("data/seen", "a") as file:
    file.write("read and written where it lies\\n")
Path("new.txt").write_text("a program may write where it starts")
with open(os.environ["TRIAL_METRICS"], "a") as file:
    file.write(json.dumps({"loss": pkg.steps.LOSS, "took_s": os.getpid()}) + "\\n")
Path(os.environ["TRIAL_DIR"], "where").write_text(pkg.steps.__file__)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("scripts", "src/pkg", "data"):
        (folder / name).mkdir(parents=True)
    (folder / ".gitignore").write_text("/data/\n/results/\n")
    (folder / "scripts/train.py").write_text(TRAIN)
    (folder / "src/pkg/__init__.py").touch()
    (folder / "src/pkg/steps.py").write_text("LOSS = 0.1 + 0.2\n")
    (folder / "sweep.yaml").write_text(SPEC)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True, timeout=60)
    return folder


def type_(
    project: Path, *words: str, cwd: str = ".", **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=project / cwd,
        env={**os.environ, "PROJECT": str(project), "PYTHONPATH": f"{project}/src", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def submit(project: Path, *words: str, **env: str) -> dict[str, Any]:
    done = type_(project, "submit", "sweep.yaml", "--json", *words, **env)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def losses(project: Path) -> list[object]:
    paths = sorted((project / "results/sweep/trials").glob("*/result.json"))
    return [json.loads(path.read_text())["metrics"]["loss"] for path in paths]


def test_trials_run_the_code_as_it_was_submitted(project: Path) -> None:
    assert submit(project)["warnings"] == []
    assert losses(project) == [0.1 + 0.2] * 2, "the first trial had edited the live tree"
    assert (project / "data/seen").read_text().count("\n") == 2
    (snapshot,) = (path for path in (project / "results/sweep/code").iterdir() if path.is_dir())
    assert (snapshot / "new.txt").exists()
    assert not (project / "new.txt").exists()
    for trial in (project / "results/sweep/trials").iterdir():
        assert (trial / "where").read_text() == f"{snapshot}/src/pkg/steps.py"
        assert f"\n# code: {snapshot.name}\n" in (trial / "trial.sbatch").read_text()
        attempt = json.loads((trial / "attempts/1.json").read_text())
        assert attempt["resources"]["code"] == snapshot.name
    journal = (project / "results/sweep/journal.jsonl").read_text().splitlines()
    (entry,) = [json.loads(line) for line in journal if '"code"' in line.partition("at")[2][:60]]
    assert {key: entry[key] for key in ("snapshot", "dirty", "subdir", "import_roots")} == {
        "snapshot": snapshot.name,
        "dirty": False,
        "subdir": ".",
        "import_roots": ["src"],
    }


def test_submitting_again_takes_the_code_as_it_is_and_says_what_changed(project: Path) -> None:
    submit(project)
    report = submit(project, "a=1,2,3")
    assert report["warnings"] == [
        "the code changed since the last submission: 1 file (src/pkg/steps.py)"
    ]
    assert losses(project) == [0.1 + 0.2, 0.1 + 0.2, 99]
    assert submit(project, "a=1,2,3,4")["warnings"] == []


def test_live_code_is_what_it_is_when_a_trial_starts(project: Path) -> None:
    (project / "sweep.yaml").write_text(SPEC + "code: live\n")
    submit(project)
    assert losses(project) == [0.1 + 0.2, 99]
    script = next((project / "results/sweep/trials").glob("*/trial.sbatch")).read_text()
    assert f"\ncd -- {project} || " in script
    assert "# code:" not in script
    assert [path.suffix for path in (project / "results/sweep/code").iterdir()] == [".patch"]


def test_workdir_below_the_repository_and_absolute_program_run_the_copy(project: Path) -> None:
    text = SPEC.replace("scripts/train.py", f"{project}/scripts/train.py")
    (project / "exp/data").mkdir(parents=True)
    (project / "exp/sweep.yaml").write_text(text)
    done = type_(project, "submit", "sweep.yaml", "--results", "../results", cwd="exp")
    assert done.returncode == 0, done.stderr
    assert losses(project) == [0.1 + 0.2] * 2
    script = next((project / "results/sweep/trials").glob("*/trial.sbatch")).read_text()
    assert "\n  ../scripts/train.py\n" in script


def test_what_is_not_frozen_is_said(project: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    outer = tmp_path / "outer.sh"
    outer.write_text('#!/bin/bash\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n')
    text = SPEC.replace("scripts/train.py", "../outer.sh") + "  # x\n"
    (project / "sweep.yaml").write_text(text.replace("[1, 2]}", "[1, 2], data: ../set}"))
    warnings = submit(project)["warnings"]
    assert warnings == [
        f"{outer} lies outside {project}: it is not frozen",
        f"'../set' lies outside {project}, whose copy the trials start in: write an absolute "
        "path, or code: live",
    ]
    assert losses(project) == [1, 1]


def test_code_that_cannot_be_copied_runs_live_with_a_warning(project: Path) -> None:
    (warning,) = submit(project, HOME=str(project))["warnings"]
    assert warning.startswith(f"{project} is no project's folder, it is not copied: trials run")
    assert losses(project) == [0.1 + 0.2, 99]


def test_reproduce_gives_the_same_numbers_though_the_code_was_edited(project: Path) -> None:
    submit(project)
    done = type_(project, "reproduce", "--trial", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "the same numbers: 1 of 1 metrics equal"
    assert [line.split()[0] for line in lines if line.endswith(("equal", "not counted"))] == [
        "loss",
        "took_s",
        "the",
    ]
    again = json.loads(type_(project, "reproduce", "--trial", "1", "--json").stdout)
    assert again["folder"].endswith("/2/trials/" + again["trial"]), "the first one is kept"
    assert json.loads(type_(project, "status", "--json").stdout)["counts"] == {"done": 2}


def test_reproduce_tells_numbers_that_differ_and_code_that_was_touched(project: Path) -> None:
    submit(project)
    steps = next((project / "results/sweep/code").glob("*/src/pkg/steps.py"))
    steps.chmod(0o600)
    steps.write_text("LOSS = 0.3\n")
    done = type_(project, "reproduce", "--trial", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is not as it was copied: 1 file (src/pkg/steps.py)" in done.stdout
    assert "NOT the same numbers: 0 of 1 metrics equal" in done.stdout
    done = type_(project, "reproduce", "--trial", "0", "--tolerance", "1e-9")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "orchestrator: which trial? make reproduce TRIAL=3"),
        (["--trial", "7"], "orchestrator: no trial '7'; give a number (0 to 1)"),
        (["--trial", "0", "a=1"], "orchestrator: reproduce takes no overrides: a=1"),
        (["--trial", "0", "--tolerance", "much"], "orchestrator: --tolerance much: use a number"),
    ],
)
def test_reproduce_refuses_mistakes_in_one_line(
    project: Path, words: list[str], message: str
) -> None:
    submit(project)
    done = type_(project, "reproduce", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_reproduce_of_failed_or_codeless_trial_is_a_mistake(project: Path) -> None:
    submit(project)
    trial = sorted((project / "results/sweep/trials").iterdir())[0]
    (trial / "result.json").unlink()
    done = type_(project, "reproduce", "--trial", "0")
    assert done.returncode == 2
    assert "has no committed result to compare with" in done.stderr
    next(path for path in (project / "results/sweep/code").iterdir() if path.is_dir()).rename(
        project / "elsewhere"
    )
    done = type_(project, "reproduce", "--trial", "1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the code that it ran is gone" in done.stderr
