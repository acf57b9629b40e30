"""A trial's log, read in parts and from its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.adapters import trial_log
from orchestrator.adapters.trial_log import LogFile, Mark
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import TrialPaths

NAME = "00001-aaaa"


def first_line(attempt: int) -> bytes:
    said = f"[orchestrator] 2026-01-01T10:00:00Z {NAME} attempt {attempt} on n1, job 7\n"
    return said.encode()


@pytest.fixture
def trial(tmp_path: Path) -> TrialPaths:
    folder = tmp_path / NAME
    folder.mkdir()
    return TrialPaths(str(folder))


def write(trial: TrialPaths, *parts: bytes) -> None:
    Path(trial.log).write_bytes(b"".join(parts))


@pytest.mark.parametrize("block", [7, 64, 65, 1000, 2**20])
def test_attempts_are_found_backwards_whatever_the_blocks(
    trial: TrialPaths, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(trial_log, "BLOCK_BYTES", block)
    parts = [first_line(1), b"a\n" * 50, first_line(2), first_line(3), b"no end"]
    write(trial, *parts)
    second = len(parts[0]) + 100
    third = second + len(parts[2])
    with LogFile(trial) as log:
        assert list(log.marks_backwards(log.size)) == [Mark(third, 3), Mark(second, 2), Mark(0, 1)]
        assert log.find_attempt(1) == (0, second)
        assert log.find_attempt(2) == (second, third)
        assert log.find_attempt(3) == (third, third + len(parts[3]) + 6)
        assert log.find_attempt(4) is None


def test_only_so_much_is_looked_at(trial: TrialPaths) -> None:
    write(trial, first_line(1), b"a\n" * 5000, first_line(2), b"b\n")
    with LogFile(trial) as log:
        assert log.find_attempt(1, 1000) is None
        assert log.find_attempt(2, 1000) is not None


def test_line_in_the_middle_of_another_or_of_another_trial_is_no_beginning(
    trial: TrialPaths,
) -> None:
    other = first_line(1).replace(NAME.encode(), b"00002-bbbb")
    write(trial, b"> " + first_line(1), other, first_line(2))
    with LogFile(trial) as log:
        assert [mark.attempt for mark in log.marks_backwards(log.size)] == [2]


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_is_refused(trial: TrialPaths, kind: str) -> None:
    {
        "folder": lambda: os.mkdir(trial.log),
        "link": lambda: os.symlink("/etc/hostname", trial.log),
        "pipe": lambda: os.mkfifo(trial.log),
    }[kind]()
    with pytest.raises(CorruptRecord, match=r"log: a (directory|symbolic link|pipe)"):
        LogFile(trial)


def test_log_that_is_cut_short_while_it_is_read_gives_what_is_left(trial: TrialPaths) -> None:
    write(trial, b"a" * 100)
    with LogFile(trial) as log:
        os.truncate(trial.log, 10)
        assert log.read(5, 100) == b"a" * 5
        assert log.read(50, 100) == b""
