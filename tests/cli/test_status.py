"""What status says of a sweep in Slurm's queue, seen through a queue of the test's own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters import journal, slurm_cli
from orchestrator.adapters.slurm_cli import ClusterLimits, TaskState
from orchestrator.cli import status
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, dump_record
from orchestrator.contract.states import SlurmState
from orchestrator.runtime import gate
from tests.trial_writer import claim, ended, write

TOKEN = "s-0123456789"
NAMES = ["00000-aaaaaaaa", "00001-bbbbbbbb"]
Say = Callable[[], str]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    """A sweep of two trials that wait, held, in one array."""
    sweep = SweepPaths(str(tmp_path / "s"))
    for name in NAMES:
        os.makedirs(sweep.trial(name).root, mode=0o700)
        Path(sweep.trial(name).params).write_bytes(dump_record({"a": 1}))
    os.chmod(sweep.root, 0o700)
    with journal.lock(sweep) as writer:
        intent = {"token": TOKEN, "executor": "slurm", "cluster": "c", "trials": NAMES}
        writer.write("intent", **intent, partition="cpu")
        writer.write("submitted", token=TOKEN, job_id="7")
    queue = {
        (TOKEN, n): TaskState(SlurmState.PENDING, "JobHeldUser", task=f"7_{n}") for n in (0, 1)
    }
    monkeypatch.setattr(slurm_cli, "queued_tasks", lambda tokens: queue)
    monkeypatch.setattr(slurm_cli, "read_limits", lambda: ClusterLimits("22.05.8", 1001, None, "c"))
    return sweep


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], sweep: SweepPaths) -> Say:
    """Types status, and returns what it said."""

    def typed() -> str:
        status.run(["s", "--results", str(tmp_path)])
        return capsys.readouterr().out

    return typed


def test_what_is_held_is_not_known_while_slurm_is_silent(
    sweep: SweepPaths, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.close(sweep.root, gate.CANARY, "canary 00000 failed", NAMES[0], {})
    assert "held in the queue: 2" in say()

    def silent(tokens: object) -> None:
        raise ClusterUnreachable("squeue: Socket timed out")

    monkeypatch.setattr(slurm_cli, "queued_tasks", silent)
    out = say()
    assert ("held in the queue: not known" in out, "2 unknown" in out) == (True, True), out


def test_canary_that_runs_without_a_report_is_named_with_those_that_wait(
    sweep: SweepPaths, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.write_rules(sweep.root, {"canary": {"trials": [NAMES[0]], "checkpoint": False}})
    gate.note_held(sweep.root, f"canary-{TOKEN}", [TOKEN])
    write(sweep.trial(NAMES[0]).attempt(1), dump_record(claim(NAMES[0], token=TOKEN)))
    queue = {
        (TOKEN, 0): TaskState(SlurmState.RUNNING, "", task="7_0"),
        (TOKEN, 1): TaskState(SlurmState.PENDING, "JobHeldUser", task="7_1"),
    }
    monkeypatch.setattr(slurm_cli, "queued_tasks", lambda tokens: queue)
    out = say()
    assert re.search(rf"{NAMES[0]} has run for [0-9]+ min without a report; 1 wait until", out), out
    Path(sweep.trial(NAMES[0]).metrics).write_text('{"step": 1, "loss": 2}\n')
    assert "without a report" not in say()


def test_failed_trials_that_submit_takes_again_need_no_option(
    sweep: SweepPaths, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_cli, "queued_tasks", lambda tokens: {})
    monkeypatch.setattr(slurm_cli, "accounted_tasks", lambda tokens, since: {})
    error = {"kind": "error", "cause": "exit code 1", "exit_code": 1, "token": TOKEN}

    def fail(name: str, progress: list[int]) -> None:
        own = {**error, "progress_before": [0, 0], "progress": progress}
        write(sweep.trial(name).attempt(1), dump_record(ended(name, 1, FAILED, **own)))

    fail(NAMES[0], [3, 0])
    fail(NAMES[1], [4, 0])
    out = say()
    assert "2 failed: make submit" in out, out
    assert "--retry-failed" not in out
    fail(NAMES[1], [0, 0])
    out = say()
    assert "1 failed: make submit" in out, out
    assert "the other 1 goes again with: make submit" in out
    fail(NAMES[0], [0, 0])
    assert "failed trials go again with: make submit" in say()
