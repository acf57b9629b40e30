"""Collecting what killed processes left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.adapters import leftovers
from orchestrator.contract.paths import SweepPaths

AN_HOUR_S = 3600


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    for folder in ("trials/00000-abcd/attempts", "arrays/token-1", "code", ".cache"):
        (tmp_path / folder).mkdir(parents=True)
    return SweepPaths(str(tmp_path))


def leave(path: str | Path, age_s: float) -> Path:
    Path(path).write_bytes(b"half")
    then = time.time() - age_s
    os.utime(path, (then, then))
    return Path(path)


def test_d14_leftovers_of_killed_writers_are_collected_everywhere(sweep: SweepPaths) -> None:
    program = (
        "import sys\nfrom orchestrator.runtime import durable\ndurable.replace(sys.argv[1], b'x')"
    )
    targets = [
        sweep.spec,
        sweep.array("token-1").script,
        sweep.trial("00000-abcd").script,
        sweep.trial("00000-abcd").attempt(1),
        sweep.code + "/abc.patch",
        sweep.cache + "/trials.jsonl",
    ]
    for target in targets:
        subprocess.run(
            [sys.executable, "-c", program, target],
            env={**os.environ, "ORCHESTRATOR_FAILPOINT": "durable.rename.before:1"},
            check=False,
        )
    left = list(Path(sweep.root).rglob(".*.tmp"))
    assert len(left) == len(targets)
    assert leftovers.collect_leftovers(sweep, time.time()) == 0, "they may be writes under way"
    assert leftovers.collect_leftovers(sweep, time.time() + AN_HOUR_S + 5) == len(targets)
    assert not list(Path(sweep.root).rglob(".*.tmp"))


@pytest.mark.parametrize(
    "name",
    [
        "result.json",
        ".tmp",
        ".result.json.tmp",
        ".mine.0123456789abcdex.tmp",
        "a.0123456789abcdef.tmp",
    ],
)
def test_collect_leaves_what_is_not_ours(sweep: SweepPaths, name: str) -> None:
    path = leave(f"{sweep.root}/{name}", 10 * AN_HOUR_S)
    assert leftovers.collect_leftovers(sweep, time.time()) == 0
    assert path.exists()


def test_collect_leaves_links_and_folders(sweep: SweepPaths, tmp_path: Path) -> None:
    (tmp_path / ".a.0123456789abcdef.tmp").symlink_to(tmp_path / "code")
    (tmp_path / ".b.0123456789abcdef.tmp").mkdir()
    assert leftovers.collect_leftovers(sweep, time.time() + 10 * AN_HOUR_S) == 0


def test_collect_looks_at_a_bounded_number_of_trials_and_sees_all_in_time(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "MAX_FOLDERS", 3)
    for number in range(1, 20):
        os.mkdir(f"{sweep.trials}/{number:05d}-abcd")
        leave(f"{sweep.trials}/{number:05d}-abcd/.a.0123456789abcdef.tmp", 2 * AN_HOUR_S)
    removed = [leftovers.collect_leftovers(sweep, time.time()) for _ in range(300)]
    assert max(removed) <= 3
    assert sum(removed) == 19
