"""One trial's log: its end, its parts, and what comes later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.adapters import journal, trial_log
from orchestrator.adapters.trial_dir import read_trial
from orchestrator.contract import records
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.usecases import logs
from orchestrator.usecases.logs import Follower, LogLine, Tail, read_all, read_slurm_log, read_tail
from tests.trial_writer import add_trial, ended, make_sweep, write

NAME = "00001-aaaa"


def first(attempt: int) -> str:
    return f"[orchestrator] 2026-01-01T10:00:00Z {NAME} attempt {attempt} on n{attempt}, job 7\n"


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]


@pytest.fixture
def trial(tmp_path: Path) -> TrialPaths:
    (tmp_path / NAME).mkdir()
    return TrialPaths(str(tmp_path / NAME))


@pytest.fixture
def log(trial: TrialPaths) -> Path:
    path = Path(trial.log)
    path.write_text(f"{first(1)}a\nb\n{first(2)}c\nd\ne\n")
    return path


def test_tail_has_the_last_lines_and_says_of_which_attempt(trial: TrialPaths, log: Path) -> None:
    size = log.stat().st_size
    assert read_tail(trial, None, 2) == Tail((LogLine("d"), LogLine("e")), 2, True, size)
    five = read_tail(trial, None, 5)
    assert texts(five.lines) == ["b", first(2).strip(), "c", "d", "e"]
    assert [line.begins for line in five.lines] == [0, 2, 0, 0, 0]
    assert (five.attempt, five.is_cut) == (1, True)
    every = read_tail(trial, None, 100)
    assert (len(every.lines), every.attempt, every.is_cut) == (7, 0, False)
    assert read_tail(trial, None, 0).lines == ()


@pytest.mark.parametrize("block", [5, 30, 2**20])
def test_tail_does_not_depend_on_blocks(
    trial: TrialPaths, log: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(logs, "BLOCK_BYTES", block)
    monkeypatch.setattr(trial_log, "BLOCK_BYTES", block)
    every = texts(read_all(trial, None))
    assert len(every) == 7
    for n_lines in range(9):
        tail = read_tail(trial, None, n_lines)
        assert texts(tail.lines) == every[len(every) - min(n_lines, 7) :]
        assert tail.is_cut == (n_lines < 7)
    assert texts(read_all(trial, 1)) == every[:3]
    assert texts(read_tail(trial, 1, 1).lines) == ["b"]
    assert texts(read_all(trial, 2)) == every[3:]


def test_line_without_an_end_is_there(trial: TrialPaths, log: Path) -> None:
    log.write_text(f"{first(1)}a\nhalf")
    assert texts(read_tail(trial, None, 1).lines) == ["half"]
    assert texts(read_all(trial, None))[1:] == ["a", "half"]


@pytest.mark.parametrize("n_lines", [0, 1, 9])
def test_line_that_is_being_written_is_left_to_the_follower(
    trial: TrialPaths, log: Path, n_lines: int
) -> None:
    log.write_text("a\nb\nha")
    tail = read_tail(trial, None, n_lines, is_growing=True)
    assert texts(tail.lines) == ["a", "b"][2 - min(2, n_lines) :]
    assert texts(read_all(trial, None, tail.end)) == ["a", "b"]
    follower = Follower(trial, tail.end)
    with open(log, "a") as file:
        file.write("lf\n")
    assert texts(follower.read()) == ["half"]


def test_controls_are_gone_and_progress_bars_folded(trial: TrialPaths, log: Path) -> None:
    log.write_bytes(b"\x1b[31mred\x1b[0m\r\n 1%\r 50%\r100%\n\xff\x00\x1b]0;x\x07\ttab\n")
    assert texts(read_all(trial, None)) == ["red", "100%", "\ufffd       tab"]


def test_absent_log_and_attempt_are_told(trial: TrialPaths) -> None:
    with pytest.raises(FileNotFoundError):
        read_tail(trial, None, 5)
    Path(trial.log).write_text(first(1))
    with pytest.raises(FileNotFoundError, match="attempt 2 is not in it"):
        list(read_all(trial, 2))


def test_huge_log_is_read_from_its_end_only(
    trial: TrialPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(trial.log, "wb") as file:
        file.truncate(50 * 2**30)  # sparse: a hole of 50 GiB
        file.seek(0, os.SEEK_END)
        file.write(f"\n{first(3)}x\ny\n".encode())
    read = 0
    read_bytes = trial_log.LogFile.read

    def counted(self: trial_log.LogFile, start: int, end: int) -> bytes:
        nonlocal read
        read += end - start
        return read_bytes(self, start, end)

    monkeypatch.setattr(trial_log.LogFile, "read", counted)
    assert texts(read_tail(trial, None, 2).lines) == ["x", "y"]
    assert texts(read_tail(trial, 3, 5).lines) == [first(3).strip(), "x", "y"]
    assert read < 2**24


def test_follower_reads_what_comes(trial: TrialPaths) -> None:
    follower = Follower(trial, 0)
    assert follower.read() == []
    log = Path(trial.log)
    log.write_text(f"{first(1)}a\nha")
    assert follower.read() == [LogLine(first(1).strip(), 1), LogLine("a")]
    assert follower.unfinished == "ha"
    with open(log, "a") as file:
        file.write(f"lf\n{first(2)}")
    assert follower.read() == [LogLine("half"), LogLine(first(2).strip(), 2)]
    assert (follower.unfinished, follower.note, follower.read()) == ("", "", [])


def test_follower_starts_anew_when_the_log_is_cut_or_replaced(trial: TrialPaths) -> None:
    log = Path(trial.log)
    log.write_text("a\nb\n")
    follower = Follower(trial, 0)
    follower.read()
    log.write_text("c\n")
    assert (texts(follower.read()), follower.note) == (
        ["c"],
        "the log was cut short; from its beginning",
    )
    os.rename(log, f"{log}.1")
    assert follower.read() == []
    log.write_text("d\ne\n")
    assert (texts(follower.read()), follower.note) == (
        ["d", "e"],
        "the log was replaced; from its beginning",
    )


def test_follower_shows_the_newest_of_a_progress_bar(trial: TrialPaths) -> None:
    Path(trial.log).write_text(" 1%\r 2%\r 3%")
    follower = Follower(trial, 0)
    assert (follower.read(), follower.unfinished) == ([], " 3%")


def test_log_that_is_no_file_is_named(trial: TrialPaths) -> None:
    os.mkfifo(trial.log)
    with pytest.raises(CorruptRecord, match="a pipe, not a file"):
        Follower(trial, 0).read()


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    sweep = make_sweep(str(tmp_path / "s"))
    with journal.lock(sweep) as writer:
        for token in ("t1", "t2"):
            writer.write("intent", token=token, executor="slurm", cluster="c", trials=[NAME])
            writer.write("submitted", token=token, job_id="7")
    said = b"slurmstepd: error: *** JOB 71 ON n1 CANCELLED ***\nslurmstepd: *** JOB 171 ***\n"
    write(sweep.array("t1").log, said)
    write(sweep.array("t2").log, b"bash: \x1b[2Jno such array task\n")
    return sweep


def test_slurms_lines_about_a_trials_jobs_are_found(sweep: SweepPaths) -> None:
    end = ended(NAME, 1, records.PREEMPTED, job_id="71", token="t1")
    trial = read_trial(add_trial(sweep, NAME, {"lr": 1}, attempts=[end]))
    assert read_slurm_log(sweep, trial, journal.read_journal(sweep)) == [
        ("t1", ["slurmstepd: error: *** JOB 71 ON n1 CANCELLED ***"]),
        ("t2", ["bash: no such array task"]),
    ]
