"""Trials whose folders are gone stay in what shows results."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.cli.main import run
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.leaderboard import read_leaderboard, read_trials
from orchestrator.usecases.collect import Collection, collect
from orchestrator.usecases.vanished import REASON, observe_results


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.sh").write_text(
        "for word; do case $word in *lr=*) lr=${word#*=};; esac; done\n"
        'echo "{\\"loss\\": $lr}" >> "$TRIAL_METRICS"\n'
    )
    (tmp_path / "s.yaml").write_text(
        "name: s\n"
        'command: [bash, program.sh, "${args}"]\n'
        "metric: {name: loss, goal: minimize}\n"
        "parameters:\n  lr: {values: [1, 2]}\n"
        "seeds: 3\n"
    )
    assert run(["submit", "s.yaml", "--cluster", "local"]) == 0
    return SweepPaths(str(tmp_path / "results" / "s"))


def collect_now(sweep: SweepPaths) -> Collection:
    seen = observe_results(sweep)
    return collect(
        sweep, seen.states, seen.reasons, datetime.now(UTC), scan=seen.scan, gone=seen.gone
    )


def test_configuration_that_lost_a_repeat_is_partial(sweep: SweepPaths) -> None:
    assert collect_now(sweep).rows["lr"].tolist() == [1, 1, 1, 2, 2, 2]
    gone = sorted(os.listdir(sweep.trials))[1]
    shutil.rmtree(sweep.trial(gone).root)
    found = collect_now(sweep)
    assert found.counts == {TrialState.DONE: 5, TrialState.LOST: 1}
    rows = found.rows
    assert rows["lr"].tolist() == [2, 2, 2, 1, 1, 1]
    assert rows["rank"].tolist()[:5] == [1, 1, 1, 2, 2]
    assert rows["partial"].tolist()[3:5] == ["2 of 3 repeats"] * 2
    assert rows.iloc[5][["trial", "state", "note"]].tolist() == [gone, "lost", REASON]
    assert len(found.problems) == 1
    assert len(read_leaderboard(sweep.root)) == len(read_trials(sweep.root)) == 6


def test_every_view_goes_on_without_the_spec_that_says_what_it_was(
    sweep: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(sweep.trial(sorted(os.listdir(sweep.trials))[0]).root)
    os.unlink(sweep.spec)
    assert collect_now(sweep).counts == {TrialState.DONE: 5, TrialState.LOST: 1}
    capsys.readouterr()
    for words in (["collect"], ["status"], ["watch", "--once"]):
        assert run([*words, "s"]) in (0, 1), words
        assert "its folder is gone" in "".join(capsys.readouterr()), words
    for command in ("costs", "report", "failures"):
        assert run([command, "s"]) == 0, command
    assert run(["export", "s", "--to", "csv", "json", "latex", "optuna"]) == 0


def test_names_in_the_journal_that_are_no_trials_are_not_missed(sweep: SweepPaths) -> None:
    with journal.lock(sweep) as writer:
        for name in (
            "",
            "..",
            "00001",
            "x-aaaa",
            "\x1b[2J",
            "00001-aaaa/../..",
            "9" * 5000 + "-aaaa",
        ):
            writer.write("intent", token="s-0", executor="local", trials=[name])
    assert observe_results(sweep).gone == ()
    assert collect_now(sweep).problems == []
