"""Where each trial of a round goes, among the sweep's partitions. Runs on the login node.

``domain.placement`` decides; here is what it is asked with, and what becomes of it. A trial's
partition is on disk: the ``partition`` of its newest intent, or of a ``moved`` entry after it,
which is written before anything is done. So a round that was killed in between is taken up by the
next: a trial that waits elsewhere than it was assigned to is cancelled there, and one that does not
wait is submitted where it belongs. Called by ``usecases.choose``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.adapters import slurm_arrays
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.history import ended_attempts
from orchestrator.domain.partition import memory_room
from orchestrator.domain.placement import (
    Place,
    Placement,
    Stay,
    count_preemptions,
    next_place,
    place_of,
)
from orchestrator.domain.retry_policy import Action, Decision
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.reconcile import Judgement

_WAITING = (TrialState.PENDING, TrialState.REQUEUED)


@dataclass(frozen=True)
class Placing:
    """The places of the trials that are on disk."""

    places: Mapping[str, tuple[Place, ...]]
    """Where each fits, by its name; those that are absent are not of the spec."""
    placement: Placement | None
    """When they move; None where the sweep does not name several partitions."""
    currency: str = ""
    """Of the prices of all partitions."""
    moved: dict[str, str] = field(default_factory=dict)
    """The partitions that trials were moved to in this round."""

    def place(self, name: str, observation: Observation) -> Place:
        """Return the place that a trial is submitted to, this round's moves included."""
        assigned = self.moved.get(name) or observation.journal.partitions.get(name)
        return place_of(self.places[name], assigned)

    def here(self, name: str, observation: Observation) -> Place:
        """Return the place that a trial belongs to as the journal has it."""
        return place_of(self.places[name], observation.journal.partitions.get(name))

    def queued(self, name: str, observation: Observation) -> Place:
        """Return the place where a trial waits, also while it belongs elsewhere by now."""
        submissions = observation.journal.submissions_of(name)
        return place_of(self.places[name], submissions[-1].partition if submissions else None)

    def memory_rooms(self, observation: Observation) -> dict[str, float]:
        """Return how much more memory each trial's partition has, for ``judge``."""
        rooms = {}
        for name in self.places:
            place = self.here(name, observation)
            rooms[name] = memory_room(place.shape, place.profile)
        return rooms

    def move(
        self, observation: Observation, judgement: Judgement
    ) -> list[tuple[str, dict[str, Any]]]:
        """Find the trials that move on, and put it into the round's decisions.

        Only trials that wait in the queue, or are about to be submitted again.

        Returns:
            The journal's entries, to be written before the decisions are acted upon.
        """
        entries: list[tuple[str, dict[str, Any]]] = []
        if self.placement is None or judgement.paused is not None:
            return entries
        newest = observation.journal.last_submission_of()
        try:
            waits = self._waits(observation, self.placement)
        except ClusterUnreachable as error:
            judgement.warnings.append(f"since when trials wait is not known: {error}")
            waits = {}
        for name, places in self.places.items():
            decision = judgement.decisions.get(name)
            is_waiting = observation.states[name] in _WAITING and decision is None
            goes_again = decision is not None and decision.action is Action.SUBMIT
            if len(places) < 2 or name not in newest or not (is_waiting or goes_again):
                continue
            submission, here = newest[name][0], self.here(name, observation)
            stay = Stay(here.name, _n_preempted(name, observation, here), waits.get(name))
            assigned = observation.journal.partitions.get(name, submission.partition)
            is_there = assigned == submission.partition or assigned != here.name
            move = next_place(places, stay, self.placement) if is_there else None
            if move is not None:
                self.moved[name] = move.place.name
                moved = {"trial": name, "token": submission.token, "from": here.name}
                entries.append(("moved", {**moved, "partition": move.place.name}))
                entries[-1][1]["reason"] = move.reason
            elif is_there:
                continue
            words = move.reason if move is not None else f"belongs to {here.name} by now"
            if decision is None:
                judgement.decisions[name] = Decision(Action.REPLACE, Cause.MOVED, words)
            elif move is not None:
                judgement.decisions[name] = replace(decision, reason=f"{decision.reason}; {words}")
        return entries

    def _waits(self, observation: Observation, placement: Placement) -> dict[str, float]:
        """Ask Slurm for how long tasks could have started; empty where that moves nobody."""
        if placement.after_waiting_min is None:
            return {}
        tasks = {
            observation.looks[name].task: name
            for name, places in self.places.items()
            if len(places) > 1 and observation.states[name] in _WAITING
        }
        newest = observation.journal.last_submission_of()
        tokens = sorted({newest[name][0].token for name in tasks.values() if name in newest})
        waits = slurm_arrays.waiting_s(tokens) if tokens else {}
        return {tasks[task]: seconds for task, seconds in waits.items() if task in tasks}


def _n_preempted(name: str, observation: Observation, here: Place) -> int:
    trial = observation.scan.find(name)
    state, look = observation.states[name], observation.looks[name]
    ends = ended_attempts(trial, state, None if state in _WAITING else look.state, {})
    return count_preemptions(trial.attempts, ends, here)
