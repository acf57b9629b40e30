"""Points of failure: off unless the environment says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from orchestrator.runtime import durable, failpoint
for turn in range(3):
    failpoint.reach("a.before")
    print(turn, flush=True)
    durable.replace(sys.argv[1], b"new content")
"""


def run(folder: Path, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "a")],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_reach_does_nothing_without_the_variable(tmp_path: Path) -> None:
    assert run(tmp_path) == (0, "0\n1\n2\n")


def test_reach_kills_at_the_nth_time_of_a_name(tmp_path: Path) -> None:
    assert run(tmp_path, ORCHESTRATOR_FAILPOINT="a.before:2") == (-signal.SIGKILL, "0\n")


def test_reach_kills_at_the_nth_point_of_any_name(tmp_path: Path) -> None:
    # a.before, then eight points of a replaced file.
    assert run(tmp_path, ORCHESTRATOR_FAILPOINT="*:2") == (-signal.SIGKILL, "0\n")


def test_write_armed_can_die_in_the_middle(tmp_path: Path) -> None:
    run(tmp_path, ORCHESTRATOR_FAILPOINT="durable.write.half:1")
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"new c"


def test_log_names_the_points_in_order(tmp_path: Path) -> None:
    code, _ = run(tmp_path, ORCHESTRATOR_FAILPOINT_LOG=str(tmp_path / "points"))
    names = (tmp_path / "points").read_text().split()
    assert code == 0
    assert names == 3 * [
        "a.before",
        "durable.create.before",
        "durable.create.after",
        "durable.write.half",
        "durable.fsync.before",
        "durable.fsync.after",
        "durable.rename.before",
        "durable.rename.after",
    ]
    assert (tmp_path / "a").read_bytes() == b"new content"


@pytest.mark.parametrize("target", ["a.before:", "a:b"])
def test_target_that_is_none_is_refused(tmp_path: Path, target: str) -> None:
    assert run(tmp_path, ORCHESTRATOR_FAILPOINT=target)[0] == 1
