"""Folders that others can write, records that others wrote, and odd umasks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases import workspace
from tests.faults.prompt import clean_environ, make_project, type_
from tests.trial_writer import make_sweep

NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077, 0o777])
def test_e19_any_umask_gives_private_files_that_we_can_use(project: Path, mask: int) -> None:
    line = f"umask {mask:03o}; exec {sys.executable} -m orchestrator"
    for words in ("submit sweep.yaml", "collect", "submit sweep.yaml a=4"):
        done = subprocess.run(
            ["bash", "-c", f"{line} {words}"],
            cwd=project,
            env=clean_environ(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    results = project / "results"
    assert not results.stat().st_mode & 0o022
    assert stat.S_IMODE((results / "sweep").stat().st_mode) == 0o700
    for path in results.rglob("*"):
        mode = path.lstat().st_mode
        assert mode & stat.S_IRUSR, path
        # The program's, in a private folder; and a link has no mode of its own.
        if path.name not in ("log", "metrics.jsonl") and not path.is_symlink():
            assert not mode & 0o077, path


def test_e19_sweep_that_others_can_write_is_refused(project: Path) -> None:
    type_(project, "submit", "sweep.yaml", "a=1")
    for mode in (0o770, 0o707):
        (project / "results/sweep").chmod(mode)
        for words in (["submit", "sweep.yaml"], ["status"], ["collect"]):
            done = type_(project, *words)
            assert done.returncode == 2
            assert f"chmod go-w {project}/results/sweep" in done.stderr


@pytest.mark.parametrize("level", ["results", "."])
def test_e19_world_writable_folder_above_is_refused_unless_sticky(
    project: Path, level: str
) -> None:
    """A queued array runs what lies at the sweep's path when it starts."""
    folder = project / level
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    done = type_(project, "submit", "sweep.yaml")
    assert done.returncode == 2
    assert f"chmod o-w {os.path.realpath(folder)}" in done.stderr
    assert not list(project.rglob("trial.sbatch"))
    folder.chmod(0o1777)
    assert type_(project, "submit", "sweep.yaml").returncode == 0


def test_e19_folder_that_a_group_can_write_is_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = workspace.create_sweep(str(project / "results"), "demo")
    (project / "results").chmod(0o775)
    monkeypatch.setattr(workspace, "_is_shared", lambda gid: True)
    warning = workspace.group_warning(sweep)
    assert warning is not None
    assert f"chmod g-w {project}/results" in warning
    monkeypatch.setattr(workspace, "_is_shared", lambda gid: False)
    assert workspace.group_warning(sweep) is None, "a user's private group is nobody else"


@pytest.mark.parametrize(
    "record",
    ['{"name": "../../etc", "spec": "x"}', '{"name": "a"}', "[]", "", '{"name": 3, "spec": "x"}'],
)
def test_e19_planted_last_sweep_is_refused(project: Path, record: str) -> None:
    (project / "results").mkdir()
    (project / "results/.last-sweep.json").write_text(record)
    for command in ("submit", "status", "collect"):
        done = type_(project, command)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert ".last-sweep.json" in done.stderr


def test_e19_last_sweep_of_another_user_is_refused(project: Path) -> None:
    """Whoever wrote it would choose which program runs as us."""
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    type_(project, "submit", "sweep.yaml", "a=1")
    os.chown(project / "results/.last-sweep.json", NOBODY, NOBODY)
    for command in ("submit", "status", "collect"):
        done = type_(project, command)
        assert done.returncode == 2
        assert "belongs to another user; name the sweep with SWEEP=" in done.stderr


def test_e19_journal_and_lock_are_private_whatever_the_umask(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "demo"))
    old = os.umask(0)
    try:
        with journal.lock(SweepPaths(sweep.root)) as writer:
            writer.write("intent", token="t", executor="local", trials=[])
    finally:
        os.umask(old)
    for path in (sweep.journal, sweep.lock):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
