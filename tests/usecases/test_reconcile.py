"""What a round does in the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters import journal, slurm_cli
from orchestrator.adapters.journal import read_journal
from orchestrator.adapters.trial_dir import Scan
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.retry_policy import Action, RetryLimits
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.trial_state import TaskLook
from orchestrator.runtime import gate
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.reconcile import act, judge


def test_pause_leaves_alone_what_is_held_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person holds has no note, so that opening the gate does not release it."""
    calls: list[str] = []
    monkeypatch.setattr(slurm_cli, "hold", calls.append)
    sweep = SweepPaths(str(tmp_path))
    gate.close(sweep.root, gate.BUDGET, "budget: 1.00 of 1.00 are spent", "00000-a", {})
    reasons = {"a": "Resources", "b": "JobHeldUser", "c": "job requeued in held state", "d": ""}
    looks = {
        name: TaskLook(True, SlurmState.PENDING, reason, f"7_{index}")
        for index, (name, reason) in enumerate(reasons.items())
    }
    with journal.lock(sweep) as writer:
        states = dict.fromkeys(looks, TrialState.PENDING)
        closed = gate.read_closed(sweep.root)
        found = Observation(Scan([], []), states, {}, read_journal(sweep), looks, {}, closed=closed)
        act(judge(found, RetryLimits(), {}), found, writer)
    assert calls == ["7_[0,3]"]
    assert gate.read_held(sweep.root) == {"login": ["7_[0,3]"]}
    assert read_journal(sweep).paused is not None


@pytest.mark.parametrize("is_release", [True, False])
def test_release_has_a_canary_that_never_started_go_again(tmp_path: Path, is_release: bool) -> None:
    sweep, name = SweepPaths(str(tmp_path)), "00000-0123456789"
    with journal.lock(sweep) as writer:
        writer.write("intent", token="t", executor="slurm", cluster="c", trials=[name])
        about = {"trial": name, "attempt": 0, "token": "t", "cause": "never started"}
        writer.write("gave_up", **about, reason="4 submissions in a row did not start")
        writer.write("opened", closed="canary", reason="", pardoned={name: 0})
        writer.write("gave_up", **about, reason="4 submissions in a row did not start")
    found = Observation(
        Scan([TrialFiles(name, 0, name[6:])], []),
        {name: TrialState.FAILED},
        {},
        read_journal(sweep),
        {name: TaskLook(True)},
        {},
        canaries=(name,),
    )
    decisions = judge(found, RetryLimits(), {name: 1.0}, is_release=is_release).decisions
    actions = {name: decision.action for name, decision in decisions.items()}
    assert actions == ({name: Action.SUBMIT} if is_release else {})
