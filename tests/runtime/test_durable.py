"""Durable writes: old or new, never half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.runtime import durable


def test_write_new_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write_new(str(path), b"new")
    assert path.read_bytes() == b"old"


def test_write_new_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        durable.write_new(str(tmp_path / "a"), b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_write_new_is_private(tmp_path: Path) -> None:
    durable.write_new(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_replace_changes_content_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    durable.replace(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_replace_keeps_old_content_for_who_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        durable.replace(str(path), b"new")
        assert reader.read() == b"old"


def test_replace_full_disk_keeps_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_publish_first_writer_wins(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    assert durable.publish(path, b"first") is True
    assert durable.publish(path, b"second") is False
    assert Path(path).read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_publish_lost_reply_is_recognised_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS server repeats a link whose reply was lost, and answers EEXIST."""
    link = os.link

    def lose_reply(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", lose_reply)
    assert durable.publish(str(tmp_path / "a"), b"x") is True


def test_d14_leftover_of_a_killed_process_with_our_pid_is_no_obstacle(tmp_path: Path) -> None:
    """Every container's first process has the same pid, and pids come round again."""
    program = (
        "import os, sys\n"
        "from orchestrator.runtime import durable\n"
        "os.getpid = lambda: 7\n"
        "durable.replace(sys.argv[1], b'x'); durable.publish(sys.argv[1] + 'b', b'x')"
    )
    for point in ("durable.fsync.after", "durable.link.before", "durable.rename.before", "-"):
        subprocess.run(
            [sys.executable, "-c", program.replace("os.getpid = lambda: 7\n", "")]
            + [str(tmp_path / "a")],
            env={**os.environ, "ORCHESTRATOR_FAILPOINT": f"{point}:1"},
            check=False,
        )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=False)
    again = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=False)
    assert (done.returncode, again.returncode) == (0, 0)
    assert (tmp_path / "a").read_bytes() == b"x"


def test_replace_lost_reply_is_recognised_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS server repeats a rename whose reply was lost, and answers ENOENT."""
    rename = os.rename

    def lose_reply(source: str, target: str) -> None:
        rename(source, target)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "rename", lose_reply)
    durable.replace(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_replace_temporary_that_is_gone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def gone(source: str, target: str) -> None:
        os.unlink(source)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "rename", gone)
    with pytest.raises(FileNotFoundError):
        durable.replace(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
