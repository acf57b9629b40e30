"""What waits in the queue of a process on this machine, and what nobody will start any more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.contract import records
from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.usecases.observe import observe
from tests.trial_writer import add_trial, claim, ended, make_sweep

NAMES = [f"{n:05d}-aaaa" for n in range(7)]
NEW, AGAIN, RETRIED, SILENT, FAILED, DONE, UNWRITTEN = NAMES
BEFORE = {"token": None}  # what trial_writer's attempts are: of a time long ago
SINCE = {"token": None, "started_at": "2999-01-01T10:00:00.000Z"}
# Holds the lock as a local submission does while its trials run.
SUBMITTER = """
import os, sys
from orchestrator.adapters import journal
from orchestrator.contract.paths import SweepPaths
with journal.lock(SweepPaths(sys.argv[1])) as writer:
    writer.write("intent", token=f"s-{os.getpid()}", executor="local", trials=sys.argv[2:])
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    """Seven trials, of which one never started and the others stand as their names say."""
    sweep = make_sweep(str(tmp_path / "s"))
    add_trial(sweep, NEW, {})
    preempted = [
        ended(name, 1, records.PREEMPTED, **SINCE, exit_code=code)
        for name, code in ((AGAIN, EXIT_CHECKPOINTED), (UNWRITTEN, 0))
    ]
    add_trial(sweep, AGAIN, {}, attempts=preempted[:1])
    add_trial(sweep, UNWRITTEN, {}, attempts=preempted[1:])
    add_trial(sweep, RETRIED, {}, attempts=[ended(RETRIED, 1, records.FAILED, **BEFORE)])
    add_trial(sweep, SILENT, {}, attempts=[claim(SILENT, **SINCE, host="elsewhere")])
    add_trial(sweep, FAILED, {}, attempts=[ended(FAILED, 1, records.FAILED, **SINCE)])
    add_trial(sweep, DONE, {}, {"loss": 1.0}, [ended(DONE, **SINCE)])
    return sweep


@pytest.fixture
def submitter(sweep: SweepPaths) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", SUBMITTER, sweep.root, *NAMES]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        yield process
        process.kill()


def test_while_the_submitter_lives_its_trials_wait(
    sweep: SweepPaths, submitter: subprocess.Popen[str]
) -> None:
    assert observe(sweep).states == {
        NEW: TrialState.PENDING,
        AGAIN: TrialState.REQUEUED,
        RETRIED: TrialState.REQUEUED,
        SILENT: TrialState.RUNNING,
        FAILED: TrialState.FAILED,
        DONE: TrialState.DONE,
        UNWRITTEN: TrialState.INTERRUPTED,
    }


def test_once_the_submitter_is_dead_they_are_lost(
    sweep: SweepPaths, submitter: subprocess.Popen[str]
) -> None:
    submitter.kill()
    submitter.wait()
    states = observe(sweep).states
    assert (states[NEW], states[AGAIN]) == (TrialState.LOST, TrialState.INTERRUPTED)


def test_a_dead_submitters_trials_do_not_wait_for_another_one(
    sweep: SweepPaths, submitter: subprocess.Popen[str]
) -> None:
    submitter.kill()
    submitter.wait()
    with journal.lock(sweep):  # as a submission that is about to choose them
        assert observe(sweep).states[NEW] is TrialState.LOST
    words = [sys.executable, "-c", SUBMITTER, sweep.root]  # and one that chose none of them
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as another:
        assert another.stdout is not None
        assert another.stdout.readline() == "runs\n"
        assert observe(sweep).states[NEW] is TrialState.LOST
        another.kill()
