"""Commands that are offered next mean the sweep that they are offered for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.cli.arguments import results_hint
from orchestrator.cli.main import run
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.usecases.workspace import LAST, remember_sweep
from tests.trial_writer import add_trial, make_sweep, write


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("older", "newer"):
        sweep = make_sweep(f"results/{name}")
        add_trial(sweep, "00000-aaaa", {"lr": 1}, {"loss": 1.0})
        write(sweep.summary, dump_record({**read_record(sweep.summary), "spec": f"{name} 1.yaml"}))
    Path("older 1.yaml").write_text("")
    remember_sweep("results", "newer", "newer 1.yaml")
    return str(tmp_path)


def test_hint_names_the_sweep_unless_it_was_submitted_last(sweeps: str) -> None:
    older, newer = SweepPaths("results/older"), SweepPaths("results/newer")
    assert results_hint("results") == ""
    assert results_hint("results", newer) == ""
    assert results_hint("results", older) == " SWEEP='older 1.yaml'"  # submit takes it, too
    os.unlink("older 1.yaml")
    assert results_hint("results", older) == " SWEEP=older"
    folder = f"{sweeps}/results"
    assert results_hint(folder, newer) == f" RESULTS={folder}"
    assert results_hint(folder, older) == f" SWEEP=older RESULTS={folder}"
    Path(folder, LAST).write_text("{")
    assert results_hint("results", newer) == " SWEEP=newer"


def test_status_of_an_older_sweep_offers_its_own_commands(
    sweeps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "older"]) == 0
    assert "make collect SWEEP='older 1.yaml'" in capsys.readouterr().out
    assert run(["status"]) == 0
    assert "make collect\n" in capsys.readouterr().out
