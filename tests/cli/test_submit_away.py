"""Submitting while Slurm's controller is away: said as it is, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.main import run
from tests.adapters.fake_slurm import FakeSlurm
from tests.domain import sites


def test_submit_while_the_controller_is_away_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = FakeSlurm(tmp_path / "bin", sites.CONFIG, sites.PARTITIONS)
    slurm.answer("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    (tmp_path / "run.sh").write_text("exit 0\n")
    (tmp_path / "s.yaml").write_text("program: run.sh\npartition: cpu\nparameters: {a: [1, 2]}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", slurm.path)
    assert run(["submit", "s.yaml", "--cluster", "slurm"]) == 3
    said = capsys.readouterr().err
    assert "Slurm does not answer: " in said
    assert "Unable to contact slurm controller; nothing was submitted; type it again" in said
    assert not (tmp_path / "results").exists()
