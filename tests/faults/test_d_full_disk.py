"""Disks that are full, out of inodes or read-only, for real: nothing is lost, nothing is half."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.runtime import durable, session
from orchestrator.usecases import scripts
from tests.faults.prompt import (
    finish,
    make_project,
    make_trial,
    record,
    start_attempt,
    status_of,
    type_,
)
from tests.faults.small_disk import SmallDisk, small_disk
from tests.waiting import wait_until

FULL = "No space left on device; free some space or files there"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as lent:
        yield lent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return make_project(tmp_path / "project")


def everything(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def says_one_line(stderr: str, *parts: str) -> None:
    (line,) = stderr.splitlines()
    assert line.startswith("orchestrator: ")
    for part in parts:
        assert part in line


def test_d10_submit_on_a_full_disk_submits_nothing_and_goes_on_later(
    disk: SmallDisk, folder: Path
) -> None:
    words = ("submit", "sweep.yaml", "--results", str(disk.path))
    assert type_(folder, *words, "a=1").returncode == 0
    disk.fill()
    done = type_(folder, *words)
    assert done.returncode == 2
    says_one_line(done.stderr, str(disk.path / "sweep"), FULL)
    disk.empty()
    done = type_(folder, *words)
    assert (done.returncode, "ran: 2" in done.stdout) == (0, True), done.stderr
    assert status_of(folder, "--results", str(disk.path))["counts"] == {"done": 3}


def test_d10_script_that_fits_in_part_is_written_anew_before_it_runs(
    disk: SmallDisk, folder: Path
) -> None:
    """A write that fits in part must not leave half a script that counts as written."""
    words = ("submit", "sweep.yaml", "--results", str(disk.path))
    big = "x" * 20_000
    (folder / "sweep.yaml").write_text((folder / "sweep.yaml").read_text() + f"  big: [{big}]\n")
    (disk.path / "sweep/trials").mkdir(parents=True, mode=0o700)
    os.chmod(disk.path / "sweep", 0o700)
    disk.fill()
    with open(disk.path / "ballast", "r+b") as file:
        file.truncate(file.seek(0, 2) - 60_000)  # room for the first scripts, not for all
    done = type_(folder, *words)
    assert done.returncode == 2
    says_one_line(done.stderr, FULL)
    disk.empty()
    done = type_(folder, *words)
    assert (done.returncode, "ran: 3" in done.stdout) == (0, True), done.stderr
    for params in disk.path.glob("sweep/trials/*/params.json"):
        assert json.loads(params.read_text())["big"] == big


def test_d10_collect_on_a_full_disk_keeps_the_old_leaderboard(
    disk: SmallDisk, folder: Path
) -> None:
    results = ("--results", str(disk.path))
    type_(folder, "submit", "sweep.yaml", *results, "a=1,2")
    assert type_(folder, "collect", *results).returncode == 0
    before = {p.name: p.read_bytes() for p in disk.path.glob("sweep/leaderboard.*")}
    type_(folder, "submit", "sweep.yaml", *results)
    disk.fill()
    done = type_(folder, "collect", *results)
    assert (done.returncode, "3 trials: 3 done" in done.stdout) == (1, True), "it is on the screen"
    assert "written:" not in done.stdout
    assert "leaderboard.csv" in done.stderr
    assert "not written, the old one is as it was" in done.stderr
    assert FULL in done.stderr
    assert {p.name: p.read_bytes() for p in disk.path.glob("sweep/leaderboard.*")} == before
    disk.empty()
    assert type_(folder, "collect", *results).returncode == 0
    assert (disk.path / "sweep/leaderboard.csv").read_text().count("\n") == 4


def test_d10_commit_waits_for_space_and_publishes_the_whole_result(
    disk: SmallDisk,
) -> None:
    trial = make_trial(disk.path)
    script = (
        "echo '{\"loss\": 1}' >> $TRIAL_METRICS; "
        "cat /dev/zero > $TRIAL_CHECKPOINT_DIR/big 2>/dev/null; touch /dev/null"
    )
    process = start_attempt(trial, "bash", "-c", script, ORCHESTRATOR_COMMIT_RETRY_S="50")
    assert process.stdout is not None
    lines: list[str] = []
    while "cannot be written yet" not in (line := process.stdout.readline()):
        assert line, lines
        lines.append(line)
    assert FULL in line
    assert not (trial / "result.json").exists()
    assert process.poll() is None
    (trial / "checkpoints/big").unlink()
    code, _ = finish(process)
    assert code == 0
    assert json.loads((trial / "result.json").read_text())["metrics"] == {"loss": 1}
    assert record(trial, 1)["outcome"] == "committed"
    assert [p.name for p in trial.iterdir() if p.name.endswith(".tmp")] == []


def test_d10_commit_that_never_fits_ends_with_73_and_the_trial_goes_on_later(
    disk: SmallDisk,
) -> None:
    trial = make_trial(disk.path)
    script = "echo 5 > $TRIAL_CHECKPOINT_DIR/step; cat /dev/zero > $TRIAL_DIR/big 2>/dev/null; :"
    code, output = finish(
        start_attempt(trial, "bash", "-c", script, ORCHESTRATOR_COMMIT_RETRY_S="0.5")
    )
    assert code == 73
    assert "the result could not be written" in output
    assert FULL in output
    assert "Traceback" not in output
    assert not (trial / "result.json").exists()
    assert "outcome" not in record(trial, 1), "there was no room for its end either"
    (trial / "big").unlink()
    code, output = finish(start_attempt(trial, "test", "-s", str(trial / "checkpoints/step")))
    assert code == 0, output
    result = json.loads((trial / "result.json").read_text())
    assert [end["outcome"] for end in result["attempts"]] == [None, "committed"]


def test_d10_commit_told_to_stop_while_it_waits_leaves_the_trial_for_later(
    disk: SmallDisk,
) -> None:
    trial = make_trial(disk.path)
    script = "cat /dev/zero > $TRIAL_DIR/big 2>/dev/null; :"
    process = start_attempt(trial, "bash", "-c", script)
    assert process.stdout is not None
    while "cannot be written yet" not in (line := process.stdout.readline()):
        assert line
    process.terminate()
    code, output = finish(process)
    assert (code, "the result could not be written" in output) == (73, True), output


def test_d10_failed_program_on_a_full_disk_keeps_its_exit_code(disk: SmallDisk) -> None:
    trial = make_trial(disk.path)
    script = "cat /dev/zero > $TRIAL_DIR/big 2>/dev/null; exit 7"
    code, output = finish(start_attempt(trial, "bash", "-c", script))
    assert code == 7
    assert "its end is not recorded" in output
    assert "Traceback" not in output


def test_d10_report_that_fits_in_part_raises(tmp_path: Path) -> None:
    """Silence would cut the line, and glue the next report to it."""
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        trial = make_trial(disk.path)
        program = (
            "from orchestrator.runtime import session\n"
            "while True:\n    session.report(loss=1.0, **{'k' * 300: 1.0})\n"
        )
        code, output = finish(start_attempt(trial, sys.executable, "-c", program))
        assert code == 1
        assert "No space left on device" in output


def test_d17_no_inodes_left_is_said_and_goes_on_later(tmp_path: Path, folder: Path) -> None:
    with small_disk(tmp_path / "disk", "size=4m,nr_inodes=30") as disk:
        words = ("submit", "sweep.yaml", "--results", str(disk.path))
        ballast = disk.path / "ballast"
        ballast.mkdir()
        for number in range(14):
            (ballast / str(number)).touch()
        done = type_(folder, *words)
        assert done.returncode == 2
        says_one_line(done.stderr, FULL, "df -i")
        for path in ballast.iterdir():
            path.unlink()
        ballast.rmdir()
        disk.remount("nr_inodes=100")
        done = type_(folder, *words)
        assert (done.returncode, "ran: 3" in done.stdout) == (0, True), done.stderr


def test_d11_read_only_disk_is_said_and_nothing_changes(disk: SmallDisk, folder: Path) -> None:
    results = ("--results", str(disk.path))
    type_(folder, "submit", "sweep.yaml", *results, "a=1,2")
    type_(folder, "collect", *results)
    before = everything(disk.path)
    disk.remount("ro")
    done = type_(folder, "submit", "sweep.yaml", *results)
    assert done.returncode == 2
    says_one_line(done.stderr, str(disk.path), "Read-only file system; it is mounted read-only")
    assert type_(folder, "status", *results).returncode == 0, "reading needs no writing"
    assert type_(folder, "collect", *results).returncode == 0, "nothing changed: nothing to write"
    done = type_(folder, "collect", *results, "--objective", "loss:maximize", "--json")
    assert (done.returncode, len(json.loads(done.stdout)["rows"])) == (1, 2), done.stderr
    assert "leaderboard.csv: not written" in done.stderr
    assert "Read-only file system" in done.stderr
    assert everything(disk.path) == before
    disk.remount("rw")
    done = type_(folder, "submit", "sweep.yaml", *results)
    assert (done.returncode, "ran: 1" in done.stdout) == (0, True), done.stderr


def test_d11_trial_on_a_read_only_disk_runs_nothing(disk: SmallDisk) -> None:
    trial = make_trial(disk.path)
    disk.remount("ro")
    code, output = finish(start_attempt(trial, "echo", "it ran"))
    assert (code, "it ran" in output) == (73, False)
    assert "cannot be claimed" in output
    assert "Read-only file system" in output
    disk.remount("rw")
    assert finish(start_attempt(trial, "true"))[0] == 0


def test_d10_heartbeat_goes_on_while_the_commit_waits(disk: SmallDisk) -> None:
    """Else another copy would take the trial for dead, and do its work again."""
    trial = make_trial(disk.path)
    script = "cat /dev/zero > $TRIAL_DIR/big 2>/dev/null; :"
    process = start_attempt(trial, "bash", "-c", script)
    assert process.stdout is not None
    while "cannot be written yet" not in (line := process.stdout.readline()):
        assert line
    claim = trial / "attempts/1.json"
    first = claim.stat().st_mtime_ns
    wait_until(lambda: claim.stat().st_mtime_ns > first, on_timeout=process.poll)
    (trial / "big").unlink()
    assert finish(process)[0] == 0


def test_d10_write_that_takes_a_part_is_carried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk, or a signal, makes a write take less than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    scripts._write(str(tmp_path / "script"), b"#!/bin/bash\nexec true\n")
    durable.replace(str(tmp_path / "record"), b"x" * 100)
    assert (tmp_path / "script").read_bytes() == b"#!/bin/bash\nexec true\n"
    assert (tmp_path / "record").read_bytes() == b"x" * 100


def test_d10_report_that_was_cut_raises_in_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    monkeypatch.setenv("TRIAL_METRICS", str(tmp_path / "metrics.jsonl"))
    with pytest.raises(OSError, match="No space left on device"):
        session.report(step=1, loss=0.5)
