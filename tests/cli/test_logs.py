"""What `logs` prints of a trial, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli import logs
from orchestrator.contract import records
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from tests.trial_writer import add_trial, claim, ended, make_sweep, write, write_result
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
NAME = "00003-aaaa"


def first(attempt: int) -> str:
    return f"[orchestrator] 2026-01-01T10:00:00Z {NAME} attempt {attempt} on node1, job 77\n"


def heading(attempt: int) -> str:
    return f"==> attempt {attempt} on node1, job 77, 2026-01-01 10:00:00 UTC <=="


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    """A sweep with a trial that was preempted once and failed then."""
    sweep = make_sweep(str(tmp_path / "s"))
    os.chmod(sweep.root, 0o700)
    preempted = ended(NAME, 1, records.PREEMPTED, cause="stopped by SIGTERM; checkpointed")
    failed = ended(NAME, 2, records.FAILED, kind="error", cause="exit code 1: \x1b[2Jno")
    trial = add_trial(sweep, NAME, {"lr": 1}, attempts=[preempted, failed])
    Path(trial.log).write_text(f"{first(1)}a\nb\n{first(2)}1%\r2%\n\x1b[31mno\n")
    return sweep


def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert logs.run(["s", "--results", str(tmp_path), *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_log_is_shown_with_headings(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = f"==> {NAME} is failed: exit code 1: no <=="
    every = [heading(1), "a", "b", heading(2), "2%", "no", end]
    assert say(tmp_path, capsys, "--trial", "3") == every
    assert say(tmp_path, capsys, "--trial", "3", "--all") == every
    assert say(tmp_path, capsys, "--trial", "3", "--attempt", "1") == [*every[:3], end]
    assert say(tmp_path, capsys, "--trial", NAME, "--tail", "1") == [
        "... earlier lines are left out (--all)",
        "==> attempt 2, continued <==",
        "no",
        end,
    ]


def test_json_has_a_part_for_each_attempt(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(say(tmp_path, capsys, "--trial", "3", "--json")[0])
    assert next(iter(found.items())) == ("schema", "orchestrator.logs/1")
    parts = [(part["attempt"], part["outcome"], part["lines"][1:]) for part in found["parts"]]
    assert parts == [(1, "preempted", ["a", "b"]), (2, "failed", ["2%", "no"])]


def test_trial_that_never_started_is_told(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_trial(sweep, "00004-bbbb", {"lr": 2})
    assert say(tmp_path, capsys, "--trial", "4") == [
        "00004-bbbb has no log yet; it is new",
        "==> 00004-bbbb is new <==",
    ]
    assert json.loads(say(tmp_path, capsys, "--trial", "4", "--json")[0])["parts"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which trial"),
        (["--trial", "9"], "no trial '9'"),
        (["--trial", "3", "--attempt", "7"], "there are: 1, 2"),
        (["--trial", "3", "--attempt", "0"], "numbered from 1"),
        (["--trial", "3", "--tail", "-1"], "not a count"),
        (["--trial", "3", "--tail", "1", "--all"], "not allowed with"),
        (["--trial", "3", "--json", "--follow"], "one document"),
        (["--trial", "3", "lr=1"], "no overrides"),
    ],
)
def test_mistakes_are_one_line(
    sweep: SweepPaths, tmp_path: Path, words: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        logs.run(["s", "--results", str(tmp_path), *words])


def test_follow_goes_on_over_attempts_until_the_trial_has_ended(
    sweep: SweepPaths, tmp_path: Path
) -> None:
    name = "00005-cccc"
    trial = add_trial(sweep, name, {"lr": 3}, attempts=[claim(name, token=None)])
    os.utime(trial.attempt(1), (time.time() + 3600, time.time() + 3600))
    said = tmp_path / "said"
    log = Path(trial.log)
    log.write_text(first(1).replace(NAME, name) + "one\n")
    argv = ["logs", "s", "--results", str(tmp_path), "--trial", "5", "--follow"]
    with open(said, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *argv], cwd=ROOT, stdout=out
        )
    try:
        wait_until(lambda: "one" in said.read_text(), on_timeout=process.poll)
        write(
            trial.attempt(1),
            dump_record(ended(name, 1, records.PREEMPTED, cause="stopped by SIGTERM")),
        )
        with open(log, "a") as file:
            file.write(first(2).replace(NAME, name) + "two\n")
        wait_until(lambda: "two" in said.read_text(), on_timeout=process.poll)
        assert process.poll() is None
        attempts = [ended(name, 1, records.PREEMPTED), ended(name, 2)]
        with open(log, "a") as file:
            file.write("last words")
        write_result(trial, {"loss": 1.0}, attempts)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    lines = said.read_text().splitlines()
    told = [line for line in lines if "make submit" not in line]  # seen preempted, or not
    assert told == [
        heading(1),
        "one",
        f"==> 2026-01-01T10:00:00Z {name} attempt 2 on node1, job 77 <==",
        "two",
        "last words",
        f"==> {name} is done <==",
    ]
