"""Choosing what a round submits: new trials, and those on disk that the retry policy sends again.

Runs on the login node; called by ``usecases.submit``, which holds the sweep's lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters.journal import JournalWriter
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.budget import tell_spent
from orchestrator.domain.canary import Candidate
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.partition import adjust_shape
from orchestrator.domain.placement import Place
from orchestrator.domain.retry_policy import Action, Changes, Decision
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial
from orchestrator.runtime.gate_queue import HELD
from orchestrator.usecases import gatekeeper
from orchestrator.usecases.canary import Hold
from orchestrator.usecases.local_queue import LocalQueue
from orchestrator.usecases.loss_rate import publish_loss_rate
from orchestrator.usecases.observe import Observation, observe
from orchestrator.usecases.placing import Placing
from orchestrator.usecases.reconcile import Judgement, act, judge, newest_attempt, retried_entry
from orchestrator.usecases.scripts import PlannedTrial

NUMBER_DIGITS = 5
_WAITING = (TrialState.PENDING, TrialState.REQUEUED)
# Tells the program by how much to divide the micro-batch; see ``runtime.session``.
MICRO_BATCH_DIVISOR = "TRIAL_MICRO_BATCH_DIVISOR"


@dataclass
class Choice:
    """What a round submits, and what came before it."""

    trials: list[PlannedTrial] = field(default_factory=list)
    """What to submit."""
    states: dict[TrialState, int] = field(default_factory=dict)
    """How many of the spec's trials stood where."""
    judgement: Judgement = field(default_factory=Judgement)
    """What was decided about those on disk."""
    n_attempts: dict[str, int] = field(default_factory=dict)
    """Attempts so far of those on disk, by name."""
    lineup: list[Candidate] = field(default_factory=list)
    """The spec's trials in its order, as ``usecases.canary`` wants them."""
    n_ended: int = 0
    """The spec's failed and cancelled trials that do not go again unless a person asks."""
    canary: Hold = field(default_factory=Hold)
    """Who goes first, and what waits for them."""
    n_held: int = 0
    """Array tasks that wait until somebody releases them: a person's hold, or our own pause."""
    n_foreign_holds: int = 0
    """Those of them that a person holds."""
    waiting: list[PlannedTrial] = field(default_factory=list)
    """What waits in the queue, as it would be submitted now; of a release only."""
    used: Usage = field(default_factory=Usage)
    """What the sweep has used; of a sweep with a budget only."""
    spent: str | None = None
    """What was spent of its budget, if that is all of it."""
    observation: Observation | None = None
    """The sweep as it was seen last; None if nothing was on disk."""

    def retried(self, members: Iterable[PlannedTrial]) -> list[tuple[str, dict[str, Any]]]:
        """Journal entries of those members that go again."""
        decisions = self.judgement.decisions
        return [
            retried_entry(member.name, decisions[member.name], self.n_attempts[member.name])
            for member in members
            if member.name in decisions and decisions[member.name].cause is not None
        ]


def choose_trials(
    sweep: SweepPaths,
    spec: SweepSpec,
    trials: Sequence[tuple[Trial, tuple[Place, ...]]],
    writer: JournalWriter | None,
    *,
    is_asked: bool = False,
    here: str | None = None,
    is_release: bool = False,
) -> Choice:
    """Match the spec's trials with those on disk, act on what is queued, choose what to submit.

    Args:
        sweep: Where the sweep lies; it may not exist yet.
        spec: The sweep.
        trials: The spec's trials, each with the partitions it fits and what it asks for there.
        writer: The journal; without one, on a dry run, nothing is done.
        is_asked: A person asked for failed and cancelled trials to go again.
        here: This cluster's name, where it is known already.
        is_release: The gate is opened by the caller, whatever closed it.

    Raises:
        ClusterUnreachable: Slurm did not answer, so what is queued is unknown.
    """
    names = list_trials(sweep) if os.path.isdir(sweep.trials) else []
    on_disk = {name.partition("-")[2]: name for name in names}
    choice = Choice(states=dict.fromkeys(TrialState, 0))
    choice.judgement.is_release = is_release
    observation = queue = None
    placing = Placing(
        {on_disk[t.id]: places for t, places in trials if t.id in on_disk},
        spec.placement,
        currency=next((places[0].profile.currency for _, places in trials), ""),
    )
    if on_disk:
        observation = _look_after(sweep, spec, placing, writer, is_asked, here, choice)
        choice.observation = observation
        queue = LocalQueue(sweep, observation.journal)
    next_number = 1 + max((int(name.partition("-")[0]) for name in names), default=-1)
    for trial, places in trials:
        name = on_disk.get(trial.id)
        if name is None:
            name = f"{next_number:0{NUMBER_DIGITS}d}-{trial.id}"
            next_number += 1
            state, decision, place = TrialState.NEW, None, places[0]
        else:
            assert observation is not None
            place = placing.place(name, observation)
            state = observation.states.get(name, TrialState.NEW)
            decision = choice.judgement.decisions.get(name)
            choice.n_attempts[name] = newest_attempt(observation.scan.find(name))
        choice.states[state] += 1
        look = observation.looks.get(name) if observation is not None else None
        # As it was at first: a trial that moves on is no new shape, to be tried by a canary.
        shape = (places[0].name, places[0].shape)
        choice.lineup.append(Candidate(name, shape, state, look))
        if choice.judgement.paused is None and _is_wanted(
            name, state, decision, observation, queue
        ):
            choice.trials.append(_planned(name, trial, place, decision, choice.judgement))
        elif state in (TrialState.FAILED, TrialState.CANCELLED):
            choice.n_ended += 1
        elif is_release and observation is not None and state in _WAITING:
            changes = Changes.from_record(observation.journal.changes.get(name, {}))
            decision = Decision(Action.LEAVE, changes=changes)
            place = placing.queued(name, observation)
            choice.waiting.append(_planned(name, trial, place, decision, choice.judgement))
    choice.states = {state: n for state, n in choice.states.items() if n}
    return choice


def _look_after(
    sweep: SweepPaths,
    spec: SweepSpec,
    placing: Placing,
    writer: JournalWriter | None,
    is_asked: bool,
    here: str | None,
    choice: Choice,
) -> Observation:
    """Observe the sweep, decide about its trials, and act on those in the queue."""
    for _ in range(2):
        ours = gatekeeper.our_holds(sweep)  # before: a node may let go, and forget it, meanwhile
        observation = observe(sweep, here)
        if observation.unreachable is not None and writer is not None:
            raise ClusterUnreachable(
                f"{observation.unreachable}; what is queued is unknown, so nothing was submitted"
            )
        choice.n_held = sum(look.reason in HELD for look in observation.looks.values())
        ours |= gatekeeper.our_holds(sweep, observation.journal)
        choice.n_foreign_holds = gatekeeper.count_foreign_holds(observation, ours)
        if writer is not None:
            publish_loss_rate(sweep, observation.trials, observation.states, time.time())
        earlier = choice.judgement
        is_release = earlier.is_release
        if spec.budget is not None:
            choice.used = sum_usage(
                trial_usage(trial.attempts, observation.states[trial.name], time.time())
                for trial in observation.trials
            )
            choice.spent = tell_spent(spec.budget, placing.currency, choice.used)
        choice.judgement = judge(
            observation,
            spec.retry,
            placing.memory_rooms(observation),
            is_asked,
            is_release=is_release,
            spent=choice.spent,
        )
        moved = placing.move(observation, choice.judgement)
        choice.judgement.follow(earlier)
        if writer is None:
            break
        writer.write_all(moved)
        if not act(choice.judgement, observation, writer):
            break
    return observation


def _is_wanted(
    name: str,
    state: TrialState,
    decision: Decision | None,
    observation: Observation | None,
    queue: LocalQueue | None,
) -> bool:
    if decision is not None:
        return decision.action is Action.SUBMIT
    if state is TrialState.NEW:
        return True
    # Where nobody runs the submission (we hold the sweep's lock, or nobody does) an attempt that
    # looks alive was killed a moment ago. If one started by hand does live, the new attempt finds
    # it and leaves.
    if state is not TrialState.RUNNING or observation is None or queue is None:
        return False
    submissions = observation.journal.submissions_of(name)
    if not submissions or submissions[-1].executor != "local":
        return False
    return not queue.runs(submissions[-1])


def _planned(
    name: str,
    trial: Trial,
    place: Place,
    decision: Decision | None,
    judgement: Judgement,
) -> PlannedTrial:
    changes = decision.changes if decision is not None else Changes()
    env: tuple[tuple[str, str], ...] = ()
    if changes.micro_batch_divisor != 1:
        env = ((MICRO_BATCH_DIVISOR, str(changes.micro_batch_divisor)),)
    adjusted = adjust_shape(place.shape, changes.memory_factor, judgement.bad_nodes, place.profile)
    return PlannedTrial(name, trial, adjusted, env, place.name)
