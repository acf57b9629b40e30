"""What `failures` says of a sweep."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.cli import failures
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from tests.trial_writer import add_trial, ended, make_sweep

FAILED = {"kind": "error", "fingerprint": "0123456789ab", "exit_code": 1}
HOSTILE = "exit code 1: ValueError: \x1b[2J[red]x[/red]\x1b]0;evil\x07 <b>"


def log_of(name: str, attempt: int, *lines: str) -> str:
    first = f"[orchestrator] 2026-01-01T10:00:00Z {name} attempt {attempt} on node1, job 77"
    last = f"[orchestrator] 2026-01-01T11:00:00Z {name} attempt {attempt}: ended"
    return "\n".join([first, *lines, last, ""])


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    sweep = make_sweep(str(tmp_path / "s"))
    os.chmod(sweep.root, 0o700)
    for number in (1, 2):
        name = f"0000{number}-aaaa"
        end = ended(name, 1, records.FAILED, cause=HOSTILE, **FAILED)
        trial = add_trial(sweep, name, {"lr": number}, attempts=[end])
        traceback = ["Traceback (most recent call last):", "  f()", "ValueError: \x1b[2Jno"]
        Path(trial.log).write_text(log_of(name, 1, "loading\rloaded", *traceback))
    name = "00003-aaaa"
    before = ended(name, 1, records.FAILED, cause="SIGBUS: disk", kind="disk_full", exit_code=1)
    told = {"cause": "stopped by SIGTERM; checkpointed", "requeue": "by slurm"}
    preempted = ended(name, 2, records.PREEMPTED, **told)
    attempts = [before, preempted, ended(name, 3)]
    trial = add_trial(sweep, name, {"lr": 3}, {"loss": 1.0}, attempts)
    logs = [log_of(name, n, f"line of attempt {n}") for n in (1, 2, 3)]
    Path(trial.log).write_text("".join(logs))
    add_trial(sweep, "00004-aaaa", {"lr": 4}, {"loss": 2.0})
    return sweep


def test_groups_are_shown_with_a_traceback_each(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.run(["s", "--results", str(tmp_path)]) == 1
    again = f"make submit SWEEP=s RESULTS={tmp_path}"
    assert capsys.readouterr().out.splitlines() == [
        "s: 2 of 4 trials failed",
        "",
        "2 trials failed: error  [0123456789ab]",
        "  exit code 1: ValueError: [red]x[/red] <b>",
        "  00001-aaaa  00002-aaaa",
        "  on node1 (2); at 2026-01-01 11:00:00 UTC",
        "  the log of 00001-aaaa, attempt 1:",
        "    | Traceback (most recent call last):",
        "    |   f()",
        "    | ValueError: no",
        f"  next: {again} ARGS=--retry-failed tries it again, and all other failed ones",
        "",
        "1 attempt of 1 trial failed: disk full  [5f7b1a0673b9]",
        "  SIGBUS: disk",
        "  00003-aaaa",
        "  on node1 (1); at 2026-01-01 11:00:00 UTC",
        "  the log of 00003-aaaa, attempt 1:",
        "    | line of attempt 1",
        "  next: nothing: it went again, and has a result",
        "",
        "Interruptions, which count against no trial: 1 preemption.",
    ]


def test_json_has_every_group(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.run(["s", "--results", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "schema"
    assert (found["n_trials"], found["n_failed"]) == (4, 2)
    assert found["interruptions"]["preempted"] == 1
    assert [group["kind"] for group in found["groups"]] == ["error", "disk_full"]
    assert found["groups"][0]["log"][-1] == "ValueError: no"
    assert found["groups"][1]["mended"] == ["00003-aaaa"]


def test_odd_log_hides_no_group(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = sweep.trial("00001-aaaa").log
    os.unlink(log)
    os.mkfifo(log)
    failures.run(["s", "--results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "a pipe, not a file" in out
    assert "line of attempt 1" in out


def test_sweep_in_which_nothing_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(str(tmp_path / "s"))
    os.chmod(sweep.root, 0o700)
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    assert failures.run(["s", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "s: 0 of 1 trials failed",
        "",
        "No interruptions, no lost nodes.",
    ]
