"""A thousand kills of `submit` at random points: no trial lost, none submitted twice."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from orchestrator.adapters import journal, slurm_cli, sweep_lock
from orchestrator.usecases import settle, submit
from tests.faults import kill_points, kill_round
from tests.faults.kill_points import run_processes, run_rounds
from tests.faults.kill_round import ROOT, RoundFailed, Tally

N_KILLS = 1000
# Of closing and opening the gate: tests/cli/test_gate.py.
_OF_THE_GATE = {
    "gate.close.after",
    "gate.close.before",
    "gate.forgive.after",
    "gate.open.after",
    "gate.open.before",
    "gate.release.after",
}
# Reached by attempts alone, on compute nodes.
_OF_ATTEMPTS = {
    "claim.mkdir.after",
    "claim.publish.after",
    "commit.after",
    "commit.before",
    # Of tests/cli/test_confirm.py.
    "confirmation.write.after",
    "confirmation.write.before",
    "program.start.after",
    "program.start.before",
    "requeue.after",
    "requeue.before",
}


@pytest.mark.timeout(1800)
def test_a01_a02_submit_killed_a_thousand_times_submits_each_trial_once(
    record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    # Chosen anew each time: a failure names its seed.
    seed = int.from_bytes(os.urandom(3), "big")
    tally = run_processes(N_KILLS, seed, n_processes=4)
    assert tally.n_kills >= N_KILLS
    assert set(tally.codes) <= {0, 3}
    record_property("kill_points", tally.n_kills)
    with capsys.disabled():
        print(
            f"\n{tally.n_kills} kills of {tally.n_submits} submits: {tally.n_trials} trials, each "
            f"in exactly one array (seed {seed})"
        )


def test_points_are_those_of_the_code() -> None:
    text = "".join(path.read_text() for path in (ROOT / "orchestrator").rglob("*.py"))
    names = set(re.findall(r'failpoint\.reach\(\s*"([a-z.]+)"', text))
    names |= set(re.findall(r'"((?:[a-z]+\.)+half)"', text))  # handed on by durable.write_all
    assert names - _OF_ATTEMPTS - _OF_THE_GATE == set(kill_round.POINTS)


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What ``run_rounds`` sets for its process is taken back after the test."""
    monkeypatch.setattr(settle, "POLL_S", settle.POLL_S)
    monkeypatch.setattr(sweep_lock, "POLL_S", sweep_lock.POLL_S)
    monkeypatch.setattr(slurm_cli, "SUBMIT_KILL_S", slurm_cli.SUBMIT_KILL_S)
    return monkeypatch


def find_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kill_points, "_fast_folder", lambda: str(tmp_path))
    with pytest.raises(RoundFailed) as caught:
        run_rounds(4000, 1, Tally())
    return str(caught.value)


def test_harness_finds_a_settle_that_gives_up_at_once(
    tmp_path: Path, unchanged: pytest.MonkeyPatch
) -> None:
    unchanged.setattr(settle._Wait, "may_appear", lambda self: False)
    found = find_fault(tmp_path, unchanged)
    assert "and Slurm has it as" in found
    assert "--round" in found


def test_harness_finds_a_settle_that_overlooks_a_living_sbatch(
    tmp_path: Path, unchanged: pytest.MonkeyPatch
) -> None:
    unchanged.setattr(settle, "_find_clients", lambda token, by: [])
    unchanged.setattr(kill_round, "SETTLE_S", 0.0)
    assert "and Slurm has it as" in find_fault(tmp_path, unchanged)


def test_harness_finds_an_intent_written_after_sbatch(
    tmp_path: Path, unchanged: pytest.MonkeyPatch
) -> None:
    write = journal.JournalWriter.write_all
    late: list[tuple[str, Mapping[str, object]]] = []

    def write_late(
        self: journal.JournalWriter, entries: Iterable[tuple[str, Mapping[str, object]]]
    ) -> None:
        found = list(entries)
        if any(kind == "intent" for kind, _ in found):
            late.extend(found)
            return
        write(self, [*late, *found])
        late.clear()

    unchanged.setattr(journal.JournalWriter, "write_all", write_late)
    assert "the journal does not know it" in find_fault(tmp_path, unchanged)


def test_harness_finds_a_lock_that_locks_nothing(
    tmp_path: Path, unchanged: pytest.MonkeyPatch
) -> None:
    unchanged.setattr(fcntl, "lockf", lambda fd, how: None)
    found = find_fault(tmp_path, unchanged)
    assert "submitted 2 times" in found or "exit code" in found


def test_harness_finds_an_unsettled_array_taken_for_lost(
    tmp_path: Path, unchanged: pytest.MonkeyPatch
) -> None:
    unchanged.setattr(submit, "_settle_open_submissions", lambda sweep, writer: None)
    unchanged.setattr(journal.Submission, "is_settled", property(lambda self: True))
    assert "in the journal and" in find_fault(tmp_path, unchanged)
