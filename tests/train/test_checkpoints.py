"""Checkpoints are complete or invisible, and a damaged one is refused loudly."""

import os
import subprocess
import sys
import textwrap

import checkpoints
import pytest

from tests.train.conftest import ROOT


def write(directory, step, text="weights"):
    staging = checkpoints.make_staging(directory, step)
    written = staging / f"checkpoint-{step}"
    (written / "part").mkdir(parents=True)
    (written / "model").write_text(text * 1000)
    (written / "part" / "optimizer").write_text(text)
    return checkpoints.publish(written, directory, step, {})


def test_newest_complete_is_found(tmp_path):
    assert checkpoints.find_newest(tmp_path / "missing") is None
    assert checkpoints.find_newest(tmp_path) is None
    write(tmp_path, 9)
    newest = write(tmp_path, 10)
    assert checkpoints.find_newest(tmp_path) == (newest, 10)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: (c / "model").unlink(), "model is missing"),
        (lambda c: (c / "model").write_text("cut"), "model has 3 bytes, not 7000"),
        (lambda c: (c / "part" / "optimizer").write_text("weightz"), "has changed"),
        (lambda c: (c / "COMPLETE.json").unlink(), "it has no COMPLETE.json"),
        (lambda c: (c / "COMPLETE.json").write_text("{"), "COMPLETE.json cannot be read"),
    ],
)
def test_damaged_one_is_refused_and_the_one_before_used(tmp_path, capsys, damage, reason):
    good = write(tmp_path, 5)
    bad = write(tmp_path, 10)
    damage(bad)
    assert checkpoints.find_newest(tmp_path) == (good, 5)
    said = capsys.readouterr().err
    assert f"REFUSED checkpoint {bad}" in said
    assert reason in said
    write(tmp_path, 10)  # training comes by again and replaces it
    assert checkpoints.find_newest(tmp_path) == (bad, 10)


def test_large_files_are_checked_at_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_WHOLE_BYTES", 2000)
    monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 500)
    path = write(tmp_path, 1) / "model"
    for offset in (0, 6999):
        path.write_text("weights" * 1000)
        checkpoints.verify(path.parent)
        with open(path, "r+") as file:
            file.seek(offset)
            file.write("X")
        with pytest.raises(checkpoints.CheckpointDamaged):
            checkpoints.verify(path.parent)


@pytest.mark.parametrize("call", range(1, 9))
def test_killed_at_any_system_call(tmp_path, call):
    """The process dies at its n-th fsync or rename; the older checkpoint stays what is found."""
    write(tmp_path, 5)
    script = f"""
        import os, sys, signal
        sys.path.insert(0, "train")
        from pathlib import Path
        import checkpoints
        left = [{call}]
        def dying(real):
            def wrapped(*arguments):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)
            return wrapped
        os.fsync, os.rename = dying(os.fsync), dying(os.rename)
        out = Path({str(tmp_path)!r})
        written = checkpoints.make_staging(out, 10) / "checkpoint-10"
        (written / "part").mkdir(parents=True)
        (written / "model").write_text("new")
        (written / "part" / "optimizer").write_text("new")
        checkpoints.publish(written, out, 10, {{}})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)
    found, step = checkpoints.find_newest(tmp_path)
    # Calls 1-5 flush files and directories, 6 renames, 7 flushes the parent.
    assert step == (5 if call <= 6 else 10)
    checkpoints.rotate(tmp_path, keep=2)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".tmp")]
    assert found.exists()


def test_rotation_keeps_the_newest(tmp_path):
    for step in (1, 2, 10, 9):
        write(tmp_path, step)
    checkpoints.rotate(tmp_path, keep=2)
    assert checkpoints.list_steps(tmp_path) == [9, 10]
