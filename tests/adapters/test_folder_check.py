"""Trying a folder: what it can do, and that nothing is left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orchestrator.adapters import folder_check
from orchestrator.adapters.folder_check import check_folder


def test_check_folder_that_can_do_all(tmp_path: Path) -> None:
    facts = check_folder(str(tmp_path))
    assert (facts.error, facts.link_error, facts.lock_error) == (None, None, None)
    assert (facts.exists, facts.is_mine, facts.others_may_write) == (True, True, False)
    assert facts.free_bytes is not None
    assert facts.clock_s is not None
    assert abs(facts.clock_s) < 5
    assert facts.kind
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_check_folder_that_is_missing_tries_the_one_above_and_makes_none(tmp_path: Path) -> None:
    facts = check_folder(str(tmp_path / "a/b"))
    assert (facts.exists, facts.tried, facts.error) == (False, str(tmp_path), None)
    assert facts.is_mine is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mode", "others"), [(0o777, True), (0o1777, False), (0o755, False)])
def test_e19_folder_that_others_may_write_to_is_seen(
    tmp_path: Path, mode: int, others: bool
) -> None:
    tmp_path.chmod(mode)
    assert check_folder(str(tmp_path)).others_may_write is others


def test_d11_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    facts = check_folder(str(tmp_path))
    assert facts.error == "Read-only file system"
    assert facts.clock_s is None


def test_check_folder_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)
    facts = check_folder(str(tmp_path))
    assert facts.link_error == "Operation not permitted"
    assert facts.lock_error is None
    assert not list(tmp_path.iterdir())


def test_check_folder_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)
    facts = check_folder(str(tmp_path))
    assert (facts.lock_error, facts.has_no_locks) == ("No locks available", True)


def test_check_folder_whose_locks_hold_nobody_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a Lustre mounted with localflock, seen from another machine.
    monkeypatch.setattr("fcntl.lockf", lambda *args: None)
    facts = check_folder(str(tmp_path))
    assert (facts.lock_error, facts.has_no_locks) == ("two processes got the same lock", False)


def test_check_folder_kind_is_that_of_the_innermost_mount() -> None:
    assert folder_check._kind("/proc/self") == "proc"
