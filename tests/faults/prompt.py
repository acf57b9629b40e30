"""Typing commands and starting attempts as people and Slurm do, for tests of faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SPEC = """\
program: count.sh
method: grid
metric: {name: loss, goal: minimize}
partition: cpu
cluster: local
parameters:
  a: [1, 2, 3]
"""
COUNT = """\
#!/bin/bash
echo "{\\"loss\\": 1.5, \\"step\\": 1}" >> "$TRIAL_METRICS"
"""
TEMPLATES = str(Path(__file__).parents[2] / "templates")


def clean_environ(**env: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    return {**kept, **env}


def make_project(folder: Path, spec: str = SPEC, program: str = COUNT) -> Path:
    """Write a spec and its program into a folder."""
    (folder / "sweep.yaml").write_text(spec)
    (folder / "count.sh").write_text(program)
    return folder


def type_(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Type a command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env=clean_environ(**env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def status_of(folder: Path, *words: str) -> dict[str, Any]:
    done = type_(folder, "status", "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def make_trial(folder: Path, name: str = "00007-abcdef0123") -> Path:
    trial = folder / "trials" / name
    trial.mkdir(parents=True)
    (trial / "params.json").write_text('{"x": 1}')
    return trial


def start_attempt(trial: Path, *command: str, **env: str) -> subprocess.Popen[str]:
    """Start one attempt; its log goes to a pipe, which no full disk stops."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.runtime.attempt"]
        + ["--trial-dir", str(trial), "--", *command],
        env=clean_environ(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def record(trial: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trial / "attempts" / f"{number}.json").read_text())
    return found
