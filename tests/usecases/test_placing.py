"""What a round makes of trials that may go to several partitions."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.adapters import slurm_arrays
from orchestrator.adapters.journal import JournalState, Submission
from orchestrator.adapters.trial_dir import Scan
from orchestrator.contract import records
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.placement import Placement, find_places
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.retry_policy import Action, Decision
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.domain.trial_state import TaskLook
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.placing import Placing
from orchestrator.usecases.reconcile import Judgement

NAME = "00000-0123456789"
PROFILES = {
    name: PartitionProfile(name, name, "base.sbatch.j2", preemptible=name == "spot")
    for name in ("spot", "ondemand")
}
PLACES = find_places(TrialResources(), PROFILES)
ONCE = Placement(("spot", "ondemand"), after_preemptions=1)
GOES_AGAIN = Decision(Action.SUBMIT, Cause.PREEMPTED, "preempted; goes on from its checkpoint")


def observe(state: TrialState, journal: JournalState, **keys: Any) -> Observation:
    values = {"outcome": records.PREEMPTED, "signal": "SIGTERM", "job_id": "8", **keys}
    attempt = Attempt(1, resources={"partition": "spot"}, **values)
    trial = TrialFiles(NAME, 0, NAME[6:], attempts=(attempt,))
    waits = state in (TrialState.PENDING, TrialState.REQUEUED)
    look = TaskLook(True, SlurmState.PENDING if waits else None, "", "7_0")
    return Observation(Scan([trial], []), {NAME: state}, {}, journal, {NAME: look}, {})


def submitted(partition: str, moved_to: str | None = None) -> JournalState:
    journal = JournalState(partitions={NAME: moved_to or partition})
    journal.add(Submission("token", "slurm", [NAME], "2026-11-21", job_id="7", partition=partition))
    return journal


def move(
    observation: Observation, decision: Decision | None = None, placement: Placement = ONCE
) -> tuple[Placing, list[Any], Decision | None]:
    judgement = Judgement({NAME: decision} if decision is not None else {})
    placing = Placing({NAME: PLACES}, placement)
    entries = placing.move(observation, judgement)
    return placing, entries, judgement.decisions.get(NAME)


def test_preempted_trial_is_submitted_elsewhere() -> None:
    observation = observe(TrialState.INTERRUPTED, submitted("spot"))
    placing, entries, decision = move(observation, GOES_AGAIN)
    reason = "preempted 1 time on spot: goes on on ondemand"
    entry = {"trial": NAME, "token": "token", "from": "spot", "partition": "ondemand"}
    assert entries == [("moved", {**entry, "reason": reason})]
    assert decision == Decision(
        Action.SUBMIT, Cause.PREEMPTED, f"{GOES_AGAIN.reason}; {reason}", GOES_AGAIN.changes
    )
    assert placing.place(NAME, observation).name == "ondemand"


def test_requeued_trial_is_replaced_while_it_waits() -> None:
    _, entries, decision = move(observe(TrialState.REQUEUED, submitted("spot")))
    assert [kind for kind, _ in entries] == ["moved"]
    assert decision is not None
    assert (decision.action, decision.cause) == (Action.REPLACE, Cause.MOVED)


@pytest.mark.parametrize(
    "state", [TrialState.RUNNING, TrialState.DONE, TrialState.FAILED, TrialState.UNKNOWN]
)
def test_trial_that_does_not_wait_stays(state: TrialState) -> None:
    assert move(observe(state, submitted("spot")))[1:] == ([], None)


def test_round_that_was_killed_after_its_entry_is_taken_up() -> None:
    """The journal has the move; the task still waits where it was."""
    journal = submitted("spot", moved_to="ondemand")
    placing, entries, decision = move(observe(TrialState.REQUEUED, journal))
    assert entries == [], "it was decided once"
    assert decision is not None
    assert (decision.action, decision.cause) == (Action.REPLACE, Cause.MOVED)
    # And once it is cancelled, it goes where the journal says.
    observation = observe(TrialState.LOST, journal)
    placing, entries, decision = move(observation, GOES_AGAIN)
    assert (entries, decision) == ([], GOES_AGAIN)
    assert placing.place(NAME, observation).name == "ondemand"


def test_trial_in_its_last_partition_stays() -> None:
    observation = observe(TrialState.INTERRUPTED, submitted("ondemand"))
    assert move(observation, GOES_AGAIN)[1:] == ([], GOES_AGAIN)


def test_paused_sweep_moves_nobody() -> None:
    placing = Placing({NAME: PLACES}, ONCE)
    judgement = Judgement(paused="all fail")
    assert placing.move(observe(TrialState.REQUEUED, submitted("spot")), judgement) == []
    assert judgement.decisions == {}


def test_journal_of_an_earlier_version_has_no_partition() -> None:
    journal = JournalState()
    journal.add(Submission("token", "slurm", [NAME], "2026-11-21", job_id="7"))
    observation = observe(TrialState.REQUEUED, journal, outcome=None, job_id=None)
    assert move(observation)[1:] == ([], None)


WAITS = Placement(("spot", "ondemand"), after_preemptions=0, after_waiting_min=2)


@pytest.mark.parametrize(("seconds", "n_moves"), [(119.0, 0), (120.0, 1)])
def test_task_that_waited_too_long_moves(
    monkeypatch: pytest.MonkeyPatch, seconds: float, n_moves: int
) -> None:
    asked: list[Any] = []

    def waiting_s(tokens: list[str]) -> dict[str, float]:
        asked.append(tokens)
        return {"7_0": seconds, "9_1": 1e6}

    monkeypatch.setattr(slurm_arrays, "waiting_s", waiting_s)
    observation = observe(TrialState.PENDING, submitted("spot"))
    assert len(move(observation, placement=WAITS)[1]) == n_moves
    assert asked == [["token"]]


def test_unknown_waiting_time_moves_nobody_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting_s(tokens: list[str]) -> dict[str, float]:
        raise ClusterUnreachable("squeue: no answer in 60 s")

    monkeypatch.setattr(slurm_arrays, "waiting_s", waiting_s)
    judgement = Judgement()
    placing = Placing({NAME: PLACES}, WAITS)
    assert placing.move(observe(TrialState.PENDING, submitted("spot")), judgement) == []
    assert judgement.warnings == ["since when trials wait is not known: squeue: no answer in 60 s"]
