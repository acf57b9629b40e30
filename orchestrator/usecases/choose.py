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
from orchestrator.domain.partition import JobShape, PartitionProfile, adjust_shape, memory_room
from orchestrator.domain.retry_policy import Action, Changes, Decision
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial
from orchestrator.usecases.loss_rate import publish_loss_rate
from orchestrator.usecases.observe import Observation, observe
from orchestrator.usecases.reconcile import Judgement, act, judge, newest_attempt, retried_entry
from orchestrator.usecases.scripts import PlannedTrial

NUMBER_DIGITS = 5
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
    n_held: int = 0
    """Array tasks that wait until somebody releases them: a person's hold, or our own pause."""

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
    profile: PartitionProfile,
    trials: Sequence[tuple[Trial, JobShape]],
    writer: JournalWriter | None,
    *,
    is_asked: bool = False,
    here: str | None = None,
) -> Choice:
    """Match the spec's trials with those on disk, act on what is queued, choose what to submit.

    Args:
        sweep: Where the sweep lies; it may not exist yet.
        spec: The sweep.
        profile: Its partition.
        trials: The spec's trials, each with what it asks for by itself.
        writer: The journal; without one, on a dry run, nothing is done.
        is_asked: A person asked for failed and cancelled trials to go again.
        here: This cluster's name, where it is known already.

    Raises:
        ClusterUnreachable: Slurm did not answer, so what is queued is unknown.
    """
    names = list_trials(sweep) if os.path.isdir(sweep.trials) else []
    on_disk = {name.partition("-")[2]: name for name in names}
    choice = Choice(states=dict.fromkeys(TrialState, 0))
    observation = None
    if on_disk:
        rooms = {on_disk[t.id]: memory_room(s, profile) for t, s in trials if t.id in on_disk}
        observation = _look_after(sweep, spec, rooms, writer, is_asked, here, choice)
    next_number = 1 + max((int(name.partition("-")[0]) for name in names), default=-1)
    for trial, shape in trials:
        name = on_disk.get(trial.id)
        if name is None:
            name = f"{next_number:0{NUMBER_DIGITS}d}-{trial.id}"
            next_number += 1
            state, decision = TrialState.NEW, None
        else:
            assert observation is not None
            state = observation.states.get(name, TrialState.NEW)
            decision = choice.judgement.decisions.get(name)
            choice.n_attempts[name] = newest_attempt(observation.scan.find(name))
        choice.states[state] += 1
        if choice.judgement.paused is None and _is_wanted(name, state, decision, observation):
            choice.trials.append(_planned(name, trial, shape, decision, choice.judgement, profile))
    choice.states = {state: n for state, n in choice.states.items() if n}
    return choice


def _look_after(
    sweep: SweepPaths,
    spec: SweepSpec,
    rooms: dict[str, float],
    writer: JournalWriter | None,
    is_asked: bool,
    here: str | None,
    choice: Choice,
) -> Observation:
    """Observe the sweep, decide about its trials, and act on those in the queue."""
    for _ in range(2):
        observation = observe(sweep, here)
        if observation.unreachable is not None and writer is not None:
            raise ClusterUnreachable(
                f"{observation.unreachable}; what is queued is unknown, so nothing was submitted"
            )
        choice.n_held = sum(look.reason == "JobHeldUser" for look in observation.looks.values())
        if writer is not None:
            publish_loss_rate(sweep, observation.trials, observation.states, time.time())
        earlier = choice.judgement
        choice.judgement = judge(observation, spec.retry, rooms, is_asked)
        choice.judgement.follow(earlier)
        if writer is None or not act(choice.judgement, observation, writer):
            break
    return observation


def _is_wanted(
    name: str, state: TrialState, decision: Decision | None, observation: Observation | None
) -> bool:
    if decision is not None:
        return decision.action is Action.SUBMIT
    if state is TrialState.NEW:
        return True
    # We hold the sweep's lock: an attempt of a local run that looks alive was killed a moment
    # ago. If one started by hand does live, the new attempt finds it and leaves.
    if state is not TrialState.RUNNING or observation is None:
        return False
    submissions = observation.journal.submissions_of(name)
    return bool(submissions) and submissions[-1].executor == "local"


def _planned(
    name: str,
    trial: Trial,
    shape: JobShape,
    decision: Decision | None,
    judgement: Judgement,
    profile: PartitionProfile,
) -> PlannedTrial:
    changes = decision.changes if decision is not None else Changes()
    env: tuple[tuple[str, str], ...] = ()
    if changes.micro_batch_divisor != 1:
        env = ((MICRO_BATCH_DIVISOR, str(changes.micro_batch_divisor)),)
    adjusted = adjust_shape(shape, changes.memory_factor, judgement.bad_nodes, profile)
    return PlannedTrial(name, trial, adjusted, env)
