"""What a round submits, of trials that may go to several partitions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.adapters import journal, slurm_cli
from orchestrator.adapters.slurm_cli import TaskState
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from orchestrator.contract.states import SlurmState
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.placement import find_places
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand
from orchestrator.runtime import gate
from orchestrator.usecases.choose import choose_trials

SPEC = "program: t.sh\npartition: [spot, ondemand]\nparameters: {a: [1, 2]}\n"
PROFILES = {
    name: PartitionProfile(name, name, "base.sbatch.j2", preemptible=name == "spot")
    for name in ("spot", "ondemand")
}
TOKEN = "s-0123456789"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    """A sweep of two trials that wait on spot; the first was moved, and is not cancelled yet."""
    sweep = SweepPaths(str(tmp_path))
    names = [
        f"{n:05d}-{trial.id}"
        for n, trial in enumerate(expand(load_spec(SPEC, file="s.yaml")).trials)
    ]
    for name in names:
        os.makedirs(sweep.trial(name).root)
        Path(sweep.trial(name).params).write_bytes(dump_record({"a": 1}))
    with journal.lock(sweep) as writer:
        intent = {"token": TOKEN, "executor": "slurm", "cluster": "c", "trials": names}
        writer.write("intent", **intent, partition="spot")
        writer.write("submitted", token=TOKEN, job_id="7")
        moved = {"trial": names[0], "token": TOKEN, "from": "spot", "partition": "ondemand"}
        writer.write("moved", **moved, reason="preempted 3 times on spot")
    waits = TaskState(SlurmState.PENDING, "JobHeldUser", task="7_0")
    queue = {(TOKEN, 0): waits, (TOKEN, 1): waits}
    monkeypatch.setattr(slurm_cli, "queued_tasks", lambda tokens: queue)
    return sweep


def test_trial_that_moved_keeps_its_shape_among_those_with_canaries(sweep: SweepPaths) -> None:
    spec, places = load_spec(SPEC, file="s.yaml"), find_places(TrialResources(), PROFILES)
    trials = [(trial, places) for trial in expand(spec).trials]
    first, second = choose_trials(sweep, spec, trials, None, here="c").lineup
    assert first.shape == second.shape, "else it would need a canary of its own, and be it"


def test_release_writes_scripts_for_where_a_trial_waits(sweep: SweepPaths) -> None:
    spec, places = load_spec(SPEC, file="s.yaml"), find_places(TrialResources(), PROFILES)
    trials = [(trial, places) for trial in expand(spec).trials]
    # What Slurm did not cancel stays in its queue, where the trial belongs no longer.
    found = choose_trials(sweep, spec, trials, None, here="c", is_release=True)
    assert [member.partition for member in found.waiting] == ["spot", "spot"]


@pytest.mark.parametrize(
    ("note", "tasks", "n_foreign"),
    [
        ("", [], 2),
        (f"canary-{TOKEN}", [TOKEN], 0),
        ("login", ["7_[0-1]"], 0),
        ("00000-a", ["7_0"], 1),
    ],
)
def test_what_we_hold_is_not_held_by_a_person(
    sweep: SweepPaths, note: str, tasks: list[str], n_foreign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, places = load_spec(SPEC, file="s.yaml"), find_places(TrialResources(), PROFILES)
    trials = [(trial, places) for trial in expand(spec).trials]
    queue = {
        (TOKEN, n): TaskState(SlurmState.PENDING, "JobHeldUser", task=f"7_{n}") for n in (0, 1)
    }
    monkeypatch.setattr(slurm_cli, "queued_tasks", lambda tokens: queue)
    if note:
        gate.note_held(sweep.root, note, tasks)
    found = choose_trials(sweep, spec, trials, None, here="c")
    assert (found.n_held, found.n_foreign_holds) == (2, n_foreign)
